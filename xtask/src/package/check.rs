//! What of the package can be seen to be well without building it.

use super::{FILES, install};
use crate::{root, step, tools};
use anyhow::{Context, Result, bail};
use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const PROGRAM: &str = "/usr/bin/sys-server";
/// Stands in the program's place while the units are looked at, since the package need not be installed here.
const STAND_IN: &str = "/bin/true";
/// Tenths of a point of what `systemd-analyze security` calls exposure, from 0 to 100. Without the network it would be less.
const MOST_EXPOSURE: &str = "15";
const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];

/// Fails if systemd would not take a unit, if the sandbox of the service has a hole that it had not, or if a shell does not
/// understand a script.
pub(crate) fn check() -> Result<()> {
    tools::systemd_analyze()?;
    let folder = root().join("target/package/units");
    let mut units = Vec::new();
    for (from, to) in FILES.into_iter().filter(|(from, _)| from.starts_with("packaging/systemd/")) {
        let unit = folder.join(Path::new(to).file_name().context("a unit without a name")?);
        install(&root().join(from), &unit, 0o644)?;
        let text = fs::read_to_string(&unit).with_context(|| from.to_owned())?;
        fs::write(&unit, text.replace(PROGRAM, STAND_IN)).with_context(|| unit.display().to_string())?;
        units.push(unit);
    }
    verify(&units)?;
    for service in units.iter().filter(|unit| unit.extension() == Some(OsStr::new("service"))) {
        sandboxed(service)?;
    }
    for script in SCRIPTS {
        step::run(Command::new("sh").arg("-n").arg(root().join("packaging/debian").join(script)))?;
    }
    Ok(())
}

/// What systemd would ignore it only warns of, whereas a line of the sandbox that is ignored is a hole. It also looks at units of this
/// machine, which are none of ours.
fn verify(units: &[PathBuf]) -> Result<()> {
    let mut verify = Command::new("systemd-analyze");
    let said = verify.args(["verify", "--man=no"]).args(units).output().context("systemd-analyze cannot be started")?;
    let said_of_ours = String::from_utf8_lossy(&said.stderr);
    let said_of_ours: Vec<_> = said_of_ours.lines().filter(|line| line.contains("sys-server")).collect();
    if !said.status.success() || !said_of_ours.is_empty() {
        bail!("systemd does not take the units as they stand ({}):\n{}", said.status, said_of_ours.join("\n"));
    }
    step::note(&format!("systemd takes {} units", units.len()));
    Ok(())
}

/// Fails with the whole table, in which each hole has its points.
fn sandboxed(service: &Path) -> Result<()> {
    let threshold = format!("--threshold={MOST_EXPOSURE}");
    let mut security = Command::new("systemd-analyze");
    security.args(["security", "--offline=yes", "--no-pager", &threshold]).arg(service);
    let said = security.output().context("systemd-analyze cannot be started")?;
    let table = String::from_utf8_lossy(&said.stdout);
    if !said.status.success() {
        bail!("the sandbox has a hole that it had not:\n{table}");
    }
    step::note(table.lines().last().unwrap_or_default());
    Ok(())
}
