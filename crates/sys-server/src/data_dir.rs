//! The data directory: made private, and used by one server at a time (the store locks its file).

use anyhow::{Context, bail};
use std::{
    fs,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// A directory that holds all of one server and nothing else.
#[derive(Debug, Clone)]
pub(crate) struct DataDir(PathBuf);

impl DataDir {
    /// Opens it, or makes it with mode 0700. One that others can read, or that is another user's, is refused.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        if !path.exists() {
            let mut builder = fs::DirBuilder::new();
            builder.recursive(true).mode(0o700);
            builder.create(path).with_context(|| format!("{} cannot be made", path.display()))?;
        }
        let metadata = fs::metadata(path).with_context(|| format!("{} cannot be read", path.display()))?;
        if !metadata.is_dir() {
            bail!("{} is no directory", path.display());
        }
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            bail!("{0} is open to others (mode {mode:o}); run `chmod 700 {0}`", path.display());
        }
        // Whoever runs with more rights than the owner would leave files here that the owner cannot open.
        let (user, owner) = (rustix::process::geteuid().as_raw(), metadata.uid());
        if user != owner {
            let path = path.display();
            bail!(
                "{path} belongs to user {owner}, and this is user {user}: run as that one, or `chown -R {user} {path}`"
            );
        }
        Ok(Self(path.to_owned()))
    }

    /// Opens one that a server has used. What is none is refused, so that none is made of it.
    pub(crate) fn of_a_server(path: &Path) -> anyhow::Result<Self> {
        Self::unchecked(path.to_owned()).require_files()?;
        Self::open(path)
    }

    /// Refuses what is no data directory.
    pub(crate) fn require_files(&self) -> anyhow::Result<()> {
        let path = self.path();
        if !path.is_dir() {
            bail!("{} is no directory: name the data directory of a server", path.display());
        }
        for (file, what) in [(self.store(), "store"), (self.keys(), "key file")] {
            if !file.try_exists().with_context(|| format!("{} cannot be looked at", file.display()))? {
                bail!("{} has no {what}: put {} back, or name the right directory", path.display(), file.display());
            }
        }
        Ok(())
    }

    /// A directory as it is, whatever it is: for who looks whether it is one.
    pub(crate) fn unchecked(path: PathBuf) -> Self {
        Self(path)
    }

    /// The directory.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The store.
    pub(crate) fn store(&self) -> PathBuf {
        self.0.join("store.redb")
    }

    /// The wrapped keys.
    pub(crate) fn keys(&self) -> PathBuf {
        self.0.join("keys.sys")
    }

    /// Where mail is left that no server sends.
    pub(crate) fn outbox(&self) -> PathBuf {
        self.0.join("outbox")
    }

    /// Passwords that were drawn for imported accounts.
    pub(crate) fn drawn_passwords(&self) -> PathBuf {
        self.0.join("passwords.txt")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_for_its_owner_alone() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/b");
        DataDir::open(&path).unwrap();
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, 0o700);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o750)).unwrap();
        assert!(DataDir::open(&path).unwrap_err().to_string().contains("run `chmod 700"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        // Only root may give a directory away.
        if std::os::unix::fs::chown(&path, Some(metadata.uid() + 1), None).is_ok() {
            assert!(DataDir::open(&path).unwrap_err().to_string().contains("belongs to user"));
        }
    }
}
