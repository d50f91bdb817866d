//! `cargo xtask package`: the Debian package, with what belongs beside the two programs.

use crate::{no_arguments, root, step, tools};
use anyhow::{Context, Result, bail};
use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, ExitCode},
};

pub(crate) const HELP: &str = "\
cargo xtask package

Builds the server and `sys` in release mode and puts them into target/package/sys-server.deb, with manual pages, completions,
the units of systemd and an example of the settings. packaging/Containerfile makes an image of it.";

/// What the programs are linked with, as Debian 12 names it.
const DEPENDS: &str = "libc6 (>= 2.36), libgcc-s1, libstdc++6, adduser";
/// A file of the work tree, where it goes, and its mode.
const FILES: [(&str, &str, u32); 10] = [
    ("target/release/sys-server", "usr/bin/sys-server", 0o755),
    ("target/release/sys", "usr/bin/sys", 0o755),
    ("packaging/systemd/sys-server.service", "lib/systemd/system/sys-server.service", 0o644),
    ("packaging/systemd/sys-server.socket", "lib/systemd/system/sys-server.socket", 0o644),
    ("packaging/systemd/sys-server-plain.socket", "lib/systemd/system/sys-server-plain.socket", 0o644),
    ("packaging/systemd/sys-server-dns.socket", "lib/systemd/system/sys-server-dns.socket", 0o644),
    ("packaging/systemd/sys-server-dns-tls.socket", "lib/systemd/system/sys-server-dns-tls.socket", 0o644),
    ("packaging/debian/sys-server.yaml", "etc/sys/sys-server.yaml", 0o644),
    ("docs/sys-server.yaml", "usr/share/doc/sys-server/sys-server.yaml", 0o644),
    ("LICENSE", "usr/share/doc/sys-server/copyright", 0o644),
];
const CONTROL: [(&str, u32); 3] = [("postinst", 0o755), ("prerm", 0o755), ("conffiles", 0o644)];

/// `cargo xtask package`.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    no_arguments(arguments)?;
    tools::for_build()?;
    if tools::find("dpkg-deb").is_none() {
        bail!("`dpkg-deb` is missing: a Debian package can be made on Debian or Ubuntu alone");
    }
    step::announce("build", "the two programs in release mode (takes minutes)");
    step::run(
        Command::new("cargo").args(["build", "--release", "-p", "sys-server", "-p", "sys-cli"]).current_dir(root()),
    )?;
    step::announce("package", "the programs and what belongs beside them");
    let tree = root().join("target/package/tree");
    if tree.exists() {
        fs::remove_dir_all(&tree).context("target/package/tree")?;
    }
    for (from, to, mode) in FILES {
        install(&root().join(from), &tree.join(to), mode)?;
    }
    for (name, mode) in CONTROL {
        install(&root().join("packaging/debian").join(name), &tree.join("DEBIAN").join(name), mode)?;
    }
    fs::write(tree.join("DEBIAN/control"), control()?).context("DEBIAN/control")?;
    written_by_themselves(&tree)?;
    let package = root().join("target/package/sys-server.deb");
    step::run(Command::new("dpkg-deb").args(["--root-owner-group", "--build"]).arg(&tree).arg(&package))?;
    Ok(ExitCode::SUCCESS)
}

/// What the programs say of themselves: manual pages and completions.
fn written_by_themselves(tree: &Path) -> Result<()> {
    let man = tree.join("usr/share/man/man1");
    fs::create_dir_all(&man).context("manual pages")?;
    let bash = tree.join("usr/share/bash-completion/completions");
    fs::create_dir_all(&bash).context("completions")?;
    for program in ["sys-server", "sys"] {
        let path = tree.join("usr/bin").join(program);
        step::run(Command::new(&path).args(["man", "--dir"]).arg(&man))?;
        let completions = step::output(Command::new(&path).args(["completion", "bash"]))?;
        fs::write(bash.join(program), completions).context("completions")?;
    }
    Ok(())
}

fn install(from: &Path, to: &Path, mode: u32) -> Result<()> {
    let folder = to.parent().context("a file without a folder")?;
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    fs::copy(from, to).with_context(|| format!("{} to {}", from.display(), to.display()))?;
    fs::set_permissions(to, Permissions::from_mode(mode)).with_context(|| to.display().to_string())
}

fn control() -> Result<String> {
    let architecture = step::output(Command::new("dpkg").arg("--print-architecture"))?;
    Ok(format!(
        "Package: sys-server\nVersion: {}\nArchitecture: {}\nMaintainer: the sys project <sys@example.org>\nDepends: {DEPENDS}\n\
         Section: net\nPriority: optional\nDescription: the secure base for an organisation's applications\n One server, one \
         contract: identity, rules, sealed records, audit, and an edge that\n speaks TLS 1.3 and keeps its certificates by \
         itself.\n",
        env!("CARGO_PKG_VERSION"),
        architecture.trim()
    ))
}
