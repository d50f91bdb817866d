//! Files that only their owner may open: made whole or not at all, refused when others may open them.

use crate::error::KeyError;
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

/// Makes a file of mode 0600 with this content: on disk under its name when this returns, and no trace of it if the machine
/// stops before. It never replaces a file.
pub(crate) fn create(path: &Path, content: &[u8]) -> Result<File, KeyError> {
    let file = write_unfinished(path, content)?;
    let temporary = unfinished(path);
    // A link, because a rename would replace a file that has come to this place meanwhile.
    let linked = fs::hard_link(&temporary, path);
    let removed = fs::remove_file(&temporary);
    match linked {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(KeyError::Exists { path: path.to_owned() });
        }
        other => other.and(removed).and_then(|()| sync_folder(path)).map_err(|source| failed("name", path, source))?,
    }
    Ok(file)
}

/// Puts a file of mode 0600 with this content in the place of one that is there, or that a link there leads to. One of the two is
/// there at any moment, whole, and the new one when this returns. It belongs to whom the old one belonged.
pub(crate) fn replace(path: &Path, content: &[u8]) -> Result<(), KeyError> {
    replace_with(path, content, sync_folder)
}

fn replace_with(
    path: &Path,
    content: &[u8],
    sync_folder: impl FnOnce(&Path) -> io::Result<()>,
) -> Result<(), KeyError> {
    // A rename would put the file in the place of the link.
    let path = &fs::canonicalize(path).map_err(|source| failed("find", path, source))?;
    let file = write_unfinished(path, content)?;
    keep_owner(path, &file).map_err(|source| failed("keep the owner of", path, source))?;
    fs::rename(unfinished(path), path).map_err(|source| failed("replace", path, source))?;
    sync_folder(path).map_err(|source| KeyError::Unsettled { path: path.to_owned(), source })
}

/// Gives a file to whom the one at this place belongs: root may act for the user whose server must open it.
#[cfg(unix)]
fn keep_owner(path: &Path, file: &File) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt, fchown};
    let (old, new) = (fs::metadata(path)?, file.metadata()?);
    if old.uid() != new.uid() { fchown(file, Some(old.uid()), Some(old.gid())) } else { Ok(()) }
}

#[cfg(not(unix))]
fn keep_owner(_: &Path, _: &File) -> io::Result<()> {
    Ok(())
}

/// Writes the content beside the file's place. It is on disk when this returns.
fn write_unfinished(path: &Path, content: &[u8]) -> Result<File, KeyError> {
    remove_unfinished(path)?;
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(unfinished(path)).map_err(|source| failed("create", path, source))?;
    let written = file.write_all(content).and_then(|()| file.sync_all());
    written.map_err(|source| failed("write", path, source))?;
    Ok(file)
}

fn failed(doing: &'static str, path: &Path, source: io::Error) -> KeyError {
    KeyError::File { doing, path: path.to_owned(), source }
}

/// Opens a file for reading, if nobody but its owner may open it. Its name is durable when this returns: whoever made it may
/// have been killed before it was, and what is sealed with its content from now on must not outlive it.
pub(crate) fn open(path: &Path) -> Result<File, KeyError> {
    open_with(path, OpenOptions::new().read(true))
}

/// As [`open`], for writing, too.
pub(crate) fn open_for_writing(path: &Path) -> Result<File, KeyError> {
    let file = open_with(path, OpenOptions::new().read(true).write(true))?;
    // It may be a second name of this very file, which would keep it alive when it is one day destroyed.
    remove_unfinished(path)?;
    Ok(file)
}

fn open_with(path: &Path, options: &OpenOptions) -> Result<File, KeyError> {
    let failed = |source| failed("open", path, source);
    let file = options.open(path).map_err(failed)?;
    #[cfg(unix)]
    {
        let mode = std::os::unix::fs::PermissionsExt::mode(&file.metadata().map_err(failed)?.permissions()) & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyError::Permissions { path: path.to_owned(), mode });
        }
    }
    sync_folder(path).map_err(failed)?;
    Ok(file)
}

/// Removes what a crash left of an attempt to make this file.
fn remove_unfinished(path: &Path) -> Result<(), KeyError> {
    let unfinished = unfinished(path);
    match fs::remove_file(&unfinished) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(failed("remove", &unfinished, source)),
        _ => Ok(()),
    }
}

/// Where a file is written before it gets its name.
fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".unfinished");
    name.into()
}

/// Makes the name of a file durable.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_new_file_is_for_its_owner_alone_and_replaces_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(unfinished(&path), "what a crash left").unwrap();
        create(&path, b"first").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(create(&path, b"second"), Err(KeyError::Exists { .. })));
        assert_eq!(fs::read(&path).unwrap(), b"first");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_is_replaced_whole_whatever_a_crash_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        create(&path, b"first").unwrap();
        fs::write(unfinished(&path), "what a crash left of the attempt before").unwrap();
        replace(&path, b"second").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_is_replaced_where_a_link_leads_and_stays_its_owners() {
        use std::os::unix::fs::{MetadataExt, chown, symlink};
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("file"), folder.path().join("link"));
        create(&path, b"first").unwrap();
        symlink(&path, &link).unwrap();
        let owner = fs::metadata(&path).unwrap().uid() + 1;
        // Only root may give a file away.
        let given = chown(&path, Some(owner), None).is_ok();
        replace(&link, b"second").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&path).unwrap(), b"second");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
        assert!(!given || fs::metadata(&path).unwrap().uid() == owner);
    }

    #[test]
    fn a_replaced_file_that_may_not_outlive_a_crash_is_told_apart_from_one_that_is_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        create(&path, b"first").unwrap();
        let done = replace_with(&path, b"second", |_| Err(io::Error::other("a disk that fails")));
        assert!(matches!(done, Err(KeyError::Unsettled { .. })));
        assert_eq!(fs::read(&path).unwrap(), b"second");
    }

    #[test]
    fn a_second_name_that_a_crash_left_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        create(&path, b"first").unwrap();
        fs::hard_link(&path, unfinished(&path)).unwrap();
        open_for_writing(&path).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert_eq!(fs::read(&path).unwrap(), b"first");
    }

    #[test]
    fn a_file_that_others_may_open_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        create(&path, b"secret").unwrap();
        for (mode, opens) in
            [(0o600, true), (0o400, true), (0o640, false), (0o604, false), (0o620, false), (0o601, false)]
        {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            match open(&path) {
                Err(KeyError::Permissions { mode: shown, .. }) => assert!(!opens && shown == mode, "{mode:o}"),
                other => assert!(other.is_ok() && opens, "{mode:o}"),
            }
        }
    }
}
