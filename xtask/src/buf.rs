//! buf on the contract: its style, and whether it breaks those who speak the earlier one.

use crate::{root, step, tools};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The crate that ships `buf/validate/validate.proto`.
const VALIDATE_CRATE: &str = "prost-protovalidate-types";
/// Where buf.yaml expects what the contract imports and the project keeps no copy of.
const DEPENDENCIES: &str = "target/buf-deps";

/// `buf lint`.
pub(crate) fn lint() -> Result<()> {
    lay_dependencies(&root())?;
    step::run(buf()?.arg("lint"))
}

/// `buf breaking` against the last release, or against the last commit as long as there is no release.
pub(crate) fn breaking() -> Result<()> {
    let Some(base) = base() else {
        step::note("nothing to compare with: no commit yet");
        return Ok(());
    };
    if !git(&["cat-file", "-e", &format!("{base}:buf.yaml")]).is_ok_and(|status| status) {
        step::note(&format!("nothing to compare with: {base} has no buf.yaml"));
        return Ok(());
    }
    let before = root().join("target/buf-before");
    if before.exists() {
        fs::remove_dir_all(&before).context("removing target/buf-before")?;
    }
    fs::create_dir_all(&before).context("target/buf-before")?;
    let archive = before.join("base.tar");
    step::run(Command::new("git").args(["archive", "--output"]).arg(&archive).arg(&base).current_dir(root()))?;
    step::run(
        Command::new("tar").arg("-xf").arg(&archive).args(["buf.yaml", "proto", "modules"]).current_dir(&before),
    )?;
    lay_dependencies(&root())?;
    lay_dependencies(&before)?;
    // Images, because two folders are compared only if they hold the same modules.
    step::run(buf()?.args(["build", "-o", "target/buf-now.binpb"]))?;
    step::run(buf()?.args(["build", "target/buf-before", "-o", "target/buf-before.binpb"]))?;
    step::note(&format!("comparing with {base}"));
    let compared = step::run(buf()?.args(["breaking", "target/buf-now.binpb", "--against", "target/buf-before.binpb"]));
    compared.context("if it is meant to break and nothing released speaks it, say so: --allow-breaking")
}

/// The newest release that the present commit contains, or else that commit.
fn base() -> Option<String> {
    let mut describe = Command::new("git");
    describe.args(["describe", "--tags", "--abbrev=0", "--match", "v[0-9]*"]).current_dir(root()).stderr(Stdio::null());
    if let Ok(output) = describe.output()
        && output.status.success()
        && let Ok(tag) = String::from_utf8(output.stdout)
    {
        return Some(tag.trim().to_owned());
    }
    git(&["rev-parse", "--verify", "HEAD"]).is_ok_and(|status| status).then(|| "HEAD".to_owned())
}

fn git(arguments: &[&str]) -> Result<bool> {
    let mut git = Command::new("git");
    git.args(arguments).current_dir(root()).stdout(Stdio::null()).stderr(Stdio::null());
    Ok(git.status().context("git cannot be started")?.success())
}

fn buf() -> Result<Command> {
    let mut buf = Command::new(tools::node_programs()?.join("buf"));
    buf.current_dir(root());
    Ok(buf)
}

/// Copies `buf/validate/validate.proto` to where the buf.yaml in this folder expects it.
fn lay_dependencies(folder: &Path) -> Result<()> {
    let proto = Path::new("buf/validate/validate.proto");
    let source = validate_crate()?.join("proto").join(proto);
    let target = folder.join(DEPENDENCIES).join(proto);
    fs::create_dir_all(target.parent().unwrap_or(folder)).context("making room for validate.proto")?;
    fs::copy(&source, &target).with_context(|| format!("copying {}", source.display()))?;
    Ok(())
}

/// The folder of the crate that ships validate.proto, in the version that the build uses.
fn validate_crate() -> Result<PathBuf> {
    let mut metadata = Command::new("cargo");
    metadata.args(["metadata", "--format-version", "1"]).current_dir(root());
    let metadata: Value = serde_json::from_str(&step::output(&mut metadata)?)?;
    let packages = metadata.get("packages").and_then(Value::as_array).context("cargo metadata lists no packages")?;
    let is_it = |package: &&Value| package.get("name").and_then(Value::as_str) == Some(VALIDATE_CRATE);
    let Some(package) = packages.iter().find(is_it) else { bail!("no crate of the build is named {VALIDATE_CRATE}") };
    let manifest = package.get("manifest_path").and_then(Value::as_str).context("a package without a manifest")?;
    Ok(Path::new(manifest).parent().context("a manifest without a folder")?.to_owned())
}
