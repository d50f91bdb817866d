//! BoringSSL, built once.
//!
//! The crate `boring-sys` builds it anew for each profile, workspace and set of features, which takes minutes each time. Here it
//! is built once for the version in Cargo.lock and left in `.boringssl`, where `.cargo/config.toml` lets all builds find it; it
//! survives `cargo clean`. Whoever sets BORING_BSSL_PATH uses his own.

use crate::{root, step};
use anyhow::{Context, Result, bail};
use std::{
    env,
    fs::{self, File},
    path::Path,
    process::Command,
};

const CRATE: &str = "boring-sys";
const LIBRARIES: [&str; 2] = ["lib/libssl.a", "lib/libcrypto.a"];

/// Makes BoringSSL stand in `.boringssl`, in the version that Cargo.lock names.
pub(crate) fn ensure() -> Result<()> {
    if env::var_os("BORING_BSSL_PATH").is_some_and(|path| Path::new(&path) != root().join(".boringssl")) {
        return Ok(());
    }
    let folder = root().join(".boringssl");
    let stamp = folder.join("version");
    let version = locked_version(&fs::read_to_string(root().join("Cargo.lock")).context("Cargo.lock")?)?;
    if fs::read_to_string(&stamp).is_ok_and(|built| built == version) {
        return Ok(());
    }
    step::announce("boringssl", "our TLS, built once (takes minutes)");
    let work = root().join("target/boringssl-build");
    fs::create_dir_all(&work).with_context(|| work.display().to_string())?;
    // Two commands at once build it once.
    let lock = File::create(work.join("lock")).context("target/boringssl-build/lock")?;
    lock.lock().context("target/boringssl-build/lock")?;
    if fs::read_to_string(&stamp).is_ok_and(|built| built == version) {
        return Ok(());
    }
    for stale in [&folder, &work.join("release")] {
        if stale.exists() {
            fs::remove_dir_all(stale).with_context(|| stale.display().to_string())?;
        }
    }
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let mut cargo = Command::new("cargo");
    cargo
        .args(["build", "--release", "--locked", "--package", CRATE])
        .arg("--manifest-path")
        .arg(root().join("Cargo.toml"));
    // From a folder above the work tree, so that its `.cargo/config.toml` does not say that BoringSSL is there already.
    let outside = root().parent().map_or_else(|| Path::new("/").to_owned(), Path::to_owned);
    cargo.arg("--target-dir").arg(&work).env("BORING_BSSL_INSTALL_DIR", &folder).current_dir(outside);
    // What calls this is a cargo itself, whose settings from that file are in the environment already.
    step::run(cargo.env_remove("BORING_BSSL_PATH"))?;
    for library in LIBRARIES {
        // Ten times smaller, and linked into every test.
        step::run(Command::new("strip").arg("--strip-debug").arg(folder.join(library)))?;
    }
    fs::remove_dir_all(work.join("release")).context("target/boringssl-build/release")?;
    fs::write(&stamp, version).context(".boringssl/version")
}

/// The version of the crate in a Cargo.lock.
fn locked_version(lock: &str) -> Result<String> {
    let mut lines = lock.lines().skip_while(|line| *line != format!("name = \"{CRATE}\""));
    let version = lines.nth(1).and_then(|line| line.strip_prefix("version = \"")?.strip_suffix('"'));
    match version {
        Some(version) => Ok(version.to_owned()),
        None => bail!("Cargo.lock names no {CRATE}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_the_lock_file() {
        let lock = "[[package]]\nname = \"boring\"\nversion = \"1.0.0\"\n\n[[package]]\nname = \"boring-sys\"\nversion = \"5.4.0\"\n";
        assert_eq!(locked_version(lock).unwrap(), "5.4.0");
        assert!(locked_version("[[package]]\nname = \"boring\"\nversion = \"1.0.0\"\n").is_err());
        assert!(locked_version(&fs::read_to_string(root().join("Cargo.lock")).unwrap()).is_ok());
    }
}
