//! The flags that say what opens the master key, and the passphrase in its file.

use anyhow::{Context, bail};
use clap::Args;
use std::{
    fs::File,
    io::Read,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};
use sys_keys::{SecretBytes, Unsealer};
use zeroize::Zeroizing;

/// The longest passphrase. Whatever is longer was named by mistake.
const MAX_PASSPHRASE_BYTES: usize = 4_096;

/// Of a command that works on a data directory without a configuration file.
#[derive(Debug, Args)]
pub(crate) struct KeyFlags {
    /// Reads the passphrase of the master key from this file, without its last line break.
    #[arg(long, value_name = "FILE", required_unless_present = "danger_key_file")]
    passphrase_file: Option<PathBuf>,

    /// DANGEROUS: the key of the master key lies readable in this file. For demos and tests.
    #[arg(long, value_name = "FILE", conflicts_with = "passphrase_file")]
    danger_key_file: Option<PathBuf>,
}

impl KeyFlags {
    /// What opens the master key.
    pub(crate) fn unsealer(self) -> anyhow::Result<Unsealer> {
        unsealer(self.passphrase_file, self.danger_key_file)
    }
}

/// What opens the master key, by the files that are named.
pub(crate) fn unsealer(passphrase: Option<PathBuf>, danger: Option<PathBuf>) -> anyhow::Result<Unsealer> {
    if let Some(file) = danger {
        return Ok(Unsealer::DangerKeyFile(file));
    }
    let file = passphrase.context("nothing opens the master key: write `passphrase_file: FILE`")?;
    Ok(Unsealer::Passphrase(passphrase_in(&file)?))
}

/// The passphrase in a file.
pub(crate) fn passphrase_in(file: &Path) -> anyhow::Result<SecretBytes> {
    let about = || format!("{} cannot be read", file.display());
    let opened = File::open(file).with_context(about)?;
    let metadata = opened.metadata().with_context(about)?;
    // A group may read it: that is how service managers hand out credentials.
    if metadata.is_file() && metadata.permissions().mode() & 0o007 != 0 {
        bail!("{0} is open to everybody on this machine: run `chmod 600 {0}`", file.display());
    }
    // Whole from the start, so that no copy is left behind where it grew.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_PASSPHRASE_BYTES + 1));
    opened.take(MAX_PASSPHRASE_BYTES as u64 + 1).read_to_end(&mut bytes).with_context(about)?;
    if bytes.len() > MAX_PASSPHRASE_BYTES {
        bail!("{} has more than {MAX_PASSPHRASE_BYTES} bytes: it is no file with a passphrase", file.display());
    }
    if bytes.ends_with(b"\n") {
        bytes.pop();
    }
    Ok(SecretBytes::from(bytes.to_vec()))
}
