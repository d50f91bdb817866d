//! The first moments of a store's file, and of each start.

use super::{
    FORMAT, META, META_FORMAT, META_VERSION, ROWS,
    error::{engine_error, io_error},
};
use crate::engine::EngineError;
use redb::{Builder, Database, ReadableTable, backends::FileBackend};
use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// Makes an empty store in a file that is not there yet, as a whole or not at all.
///
/// redb does not open a file that it began and did not finish, so the store is made beside its place and then renamed, and
/// the directory is synced: otherwise a power cut takes the file's name and with it all commits. The directory is locked
/// meanwhile, so that of two servers one waits for the other and then finds the file.
pub(super) fn create_if_absent(path: &Path) -> Result<(), EngineError> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let directory = File::open(directory).map_err(io_error)?;
    directory.lock().map_err(io_error)?;
    if path.try_exists().map_err(io_error)? {
        return Ok(());
    }
    let unfinished = path.with_added_extension("new");
    if unfinished.try_exists().map_err(io_error)? {
        // Left over from a start that was cut off.
        fs::remove_file(&unfinished).map_err(io_error)?;
    }
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true).mode(0o600);
    let file = options.open(&unfinished).map_err(io_error)?;
    let backend = FileBackend::new(file).map_err(engine_error)?;
    let database = Builder::new().create_with_backend(backend).map_err(engine_error)?;
    prepare(&database)?;
    database.close().map_err(engine_error)?;
    fs::rename(&unfinished, path).map_err(io_error)?;
    directory.sync_all().map_err(io_error)
}

/// Makes sure that the tables are there and are ours, and gives the version of the last commit.
///
/// Commits even if there is nothing to do: a disk that takes no writes is found at the start, and from here on each commit is one
/// in two phases, which is what [`CountSyncs`](super::syncs::CountSyncs) rests on.
pub(super) fn prepare(database: &Database) -> Result<u64, EngineError> {
    let mut txn = database.begin_write().map_err(engine_error)?;
    txn.set_quick_repair(true);
    txn.open_table(ROWS).map_err(engine_error)?;
    let mut meta = txn.open_table(META).map_err(engine_error)?;
    let noted = |name| Ok(meta.get(name).map_err(engine_error)?.map(|value| value.value()));
    let found = noted(META_FORMAT)?.unwrap_or(FORMAT);
    if found != FORMAT {
        return Err(EngineError::Format { found, known: FORMAT });
    }
    let version = noted(META_VERSION)?.unwrap_or(0);
    meta.insert(META_FORMAT, FORMAT).map_err(engine_error)?;
    meta.insert(META_VERSION, version).map_err(engine_error)?;
    drop(meta);
    txn.commit().map_err(engine_error)?;
    Ok(version)
}
