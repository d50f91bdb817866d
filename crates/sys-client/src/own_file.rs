//! Files that only their user may read, replaced as a whole, and locks between the programs of one user.
//!
//! What must never happen here: a secret in a file that others can read, even for a moment; or a file of another user believed.

use crate::SessionError;
use rustix::process::geteuid;
use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::Path,
    time::Duration,
};
use tokio::time::{Instant, sleep};
use zeroize::Zeroizing;

/// Wait for another program's refresh. Above [`crate::channel::CONNECT_TIMEOUT`], which it may spend.
const LOCK_TIMEOUT: Duration = Duration::from_secs(15);
/// Between two looks at the lock.
pub(crate) const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// The text of a file, up to so many bytes of it; none where there is no file.
pub(crate) fn read(path: &Path, max_bytes: u64) -> Result<Option<Zeroizing<String>>, SessionError> {
    let failed = |source| SessionError::File { path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(failed(source)),
    };
    let metadata = file.metadata().map_err(failed)?;
    // Another user's file would send tokens and passwords where he wants them.
    if metadata.permissions().mode() & 0o077 != 0 || metadata.uid() != geteuid().as_raw() {
        return Err(SessionError::Exposed { path: path.to_owned() });
    }
    let mut text = Zeroizing::new(String::new());
    file.take(max_bytes).read_to_string(&mut text).map_err(failed)?;
    Ok(Some(text))
}

/// Writes `bytes` to `new`, which only its user may read from the moment it exists, and renames it to `path`.
pub(crate) fn replace(path: &Path, new: &Path, bytes: &[u8]) -> io::Result<()> {
    // Left over by a program that died; it may have any permissions.
    match fs::remove_file(new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(new, path)
}

/// Waits until no other program holds this lock. It is given up when the file closes, also when the process dies.
pub(crate) async fn lock(path: &Path) -> Result<File, SessionError> {
    let failed = |source| SessionError::File { path: path.to_owned(), source };
    if let Some(directory) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
    }
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path).map_err(failed)?;
    let end = Instant::now() + LOCK_TIMEOUT;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < end => sleep(LOCK_PAUSE).await,
            Err(TryLockError::WouldBlock) => return Err(SessionError::Busy { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
    }
}
