//! The files of a data directory: who may open them, what was left over, what lies about.

use crate::data_dir::DataDir;
use anyhow::Context;
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};
use sys_keys::Keyring;

/// The permission bits of everybody but the owner.
const OTHERS: u32 = 0o077;
/// How files end that are written before they get their name.
const UNFINISHED: [&str; 2] = ["new", "unfinished"];

/// Something to say of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileFinding {
    /// A stable name.
    pub fault: &'static str,
    /// Not as it should be; else worth knowing.
    pub is_problem: bool,
    /// The file.
    pub path: PathBuf,
    /// What about it, and what to do.
    pub what: String,
}

impl FileFinding {
    fn problem(fault: &'static str, path: &Path, what: String) -> Self {
        Self { fault, is_problem: true, path: path.to_owned(), what }
    }

    fn note(fault: &'static str, path: &Path, what: &str) -> Self {
        Self { fault, is_problem: false, path: path.to_owned(), what: what.to_owned() }
    }
}

/// Looks at a data directory before anything in it is opened. Fails if it is none.
pub(super) fn look(dir: &DataDir) -> anyhow::Result<Vec<FileFinding>> {
    dir.require_files()?;
    let mut findings = Vec::new();
    findings.extend(mode(dir.path())?);
    let entries = fs::read_dir(dir.path()).with_context(|| format!("{} cannot be read", dir.path().display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    paths.sort();
    for path in &paths {
        findings.extend(mode(path)?);
        if path.extension().is_some_and(|extension| UNFINISHED.iter().any(|end| extension == *end)) {
            let what = "left over from a start that was cut off: the next one removes it";
            findings.push(FileFinding::note("file_left_over", path, what));
        }
    }
    if paths.contains(&dir.drawn_passwords()) {
        let what = "passwords that were drawn lie readable here: hand them out, then remove it";
        findings.push(FileFinding::note("passwords_lie_here", &dir.drawn_passwords(), what));
    }
    Ok(findings)
}

/// What an open key file says of itself.
pub(super) fn of_keys(dir: &DataDir, keyring: &Keyring) -> Option<FileFinding> {
    let what = "a crash cut off the key that was being written at its end; it was never used, and the next one takes its place";
    (keyring.unfinished_bytes() > 0).then(|| FileFinding::note("key_unfinished", &dir.keys(), what))
}

fn mode(path: &Path) -> anyhow::Result<Option<FileFinding>> {
    // Not followed: where a link leads to is not part of the directory.
    let metadata = fs::symlink_metadata(path).with_context(|| format!("{} cannot be looked at", path.display()))?;
    let mode = metadata.permissions().mode() & 0o777;
    if metadata.is_symlink() || mode & OTHERS == 0 {
        return Ok(None);
    }
    let owner = mode & !OTHERS;
    let what = format!("open to others (mode {mode:o}): run `chmod {owner:o} {}`", path.display());
    Ok(Some(FileFinding::problem("file_mode", path, what)))
}
