//! The first moments of a store's file, and of each start.

use super::{
    FORMAT, FORMATS, META, META_FORMAT, META_GENERATION, META_HALF_BYTES, META_VERSION, ROWS, RedbOptions,
    error::{engine_error, io_error},
    syncs::Syncs,
    wal::{
        NO_GENERATION, Named, Wal, WalBounds,
        frame::{self, Chain},
        frames_after,
    },
};
use crate::engine::EngineError;
use redb::{Builder, Database, ReadableTable, StorageBackend, WriteTransaction, backends::FileBackend};
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
        // Whoever made it may have been killed before he came to the sync.
        return directory.sync_all().map_err(io_error);
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
    let txn = durable(&database)?;
    prepare(&txn)?;
    txn.commit().map_err(engine_error)?;
    database.close().map_err(engine_error)?;
    fs::rename(&unfinished, path).map_err(io_error)?;
    directory.sync_all().map_err(io_error)
}

/// What redb's durable state says of the store.
struct Noted {
    /// The version of the last commit that it contains.
    version: u64,
    /// The log that goes on from there, if one does.
    named: Option<Named>,
}

/// Brings the store to its last commit: what redb holds for good, and behind it what stands in the log. Then the log begins anew. Gives
/// the version.
///
/// Commits even if there is nothing to do: a disk that takes no writes is found at the start, and from here on each durable commit is one
/// in two phases, which is what [`CountSyncs`](super::syncs::CountSyncs) rests on. If it is cut off, the next start does the same again.
pub(super) fn recover(
    database: &Database,
    log: impl StorageBackend,
    syncs: Syncs,
    options: RedbOptions,
    bounds: WalBounds,
) -> Result<(u64, Wal), EngineError> {
    let txn = durable(database)?;
    let Noted { mut version, named } = prepare(&txn)?;
    let mut wal = Wal::new(log, syncs, bounds, named)?;
    if named.is_none() {
        // To begin here would write over what may be all that is left of another.
        if wal.newest()? > version {
            return Err(EngineError::LogOfAnother);
        }
    } else {
        let is_whole = wal.is_whole()?;
        if !is_whole && !options.give_up_log {
            return Err(EngineError::LogLost);
        }
        version = match replay(&txn, &mut wal, version, options.give_up_log) {
            Err(EngineError::LogLost) if options.give_up_log => given_up(version),
            Ok(version) if !is_whole => given_up(version),
            replayed => replayed?,
        };
    }
    note(&txn, version, wal.begin(version)?, wal.half_bytes())?;
    txn.commit().map_err(engine_error)?;
    Ok((version, wal))
}

/// Says that the store goes on from this version, without what the log had behind it.
fn given_up(version: u64) -> u64 {
    tracing::warn!(
        version,
        "the store's log was given up where it cannot be read: commits behind this version are gone"
    );
    version
}

/// Applies what stands in the log and not in redb.
fn replay(txn: &WriteTransaction, wal: &mut Wal, version: u64, give_up_damaged: bool) -> Result<u64, EngineError> {
    match wal.read() {
        Err(EngineError::LogLost) if give_up_damaged => {
            let bytes = wal.read_without_beginning(version)?;
            let chain = frame::read_without_beginning(&bytes, wal.generation(), version);
            apply(txn, &chain, version, true).map(given_up)
        }
        bytes => {
            let bytes = bytes?;
            let chain = frame::read(&bytes, wal.generation());
            let version = apply(txn, &chain, version, give_up_damaged)?;
            Ok(if chain.damaged_at.is_some() { given_up(version) } else { version })
        }
    }
}

/// Applies those of the frames that redb does not contain.
fn apply(txn: &WriteTransaction, chain: &Chain<'_>, version: u64, give_up_damaged: bool) -> Result<u64, EngineError> {
    let mut rows = txn.open_table(ROWS).map_err(engine_error)?;
    let (mut version, mut batches) = (version, 0_u64);
    for frame in frames_after(chain, version, give_up_damaged)? {
        for row in frame.rows() {
            let unreadable = || EngineError::Corrupt { what: "a row of the log cannot be read".to_owned() };
            match row.ok_or_else(unreadable)? {
                (key, Some(value)) => drop(rows.insert(key, value).map_err(engine_error)?),
                (key, None) => drop(rows.remove(key).map_err(engine_error)?),
            }
        }
        (version, batches) = (frame.version, batches + 1);
    }
    if batches > 0 {
        tracing::info!(batches, version, "the store was not closed: what stood in its log was brought in");
    }
    Ok(version)
}

/// A transaction whose commit outlasts a power cut.
pub(super) fn durable(database: &Database) -> Result<WriteTransaction, EngineError> {
    let mut txn = database.begin_write().map_err(engine_error)?;
    // Also makes the commit one in two phases. A start after a crash takes milliseconds instead of reading the file.
    txn.set_quick_repair(true);
    Ok(txn)
}

/// Makes sure that the tables are there and are ours.
fn prepare(txn: &WriteTransaction) -> Result<Noted, EngineError> {
    txn.open_table(ROWS).map_err(engine_error)?;
    let mut meta = txn.open_table(META).map_err(engine_error)?;
    let noted = |name| Ok(meta.get(name).map_err(engine_error)?.map(|value| value.value()));
    let found = noted(META_FORMAT)?.unwrap_or(FORMAT);
    if !FORMATS.contains(&found) {
        return Err(EngineError::Format { found, known: FORMAT });
    }
    let version = noted(META_VERSION)?.unwrap_or(0);
    let generation = noted(META_GENERATION)?.unwrap_or(NO_GENERATION);
    let named = Named::of(generation, noted(META_HALF_BYTES)?.unwrap_or(0))?;
    meta.insert(META_FORMAT, FORMAT).map_err(engine_error)?;
    meta.insert(META_VERSION, version).map_err(engine_error)?;
    Ok(Noted { version, named })
}

/// Notes what the state contains that this transaction makes, which generation of the log goes on from it, and how long each half of
/// that log is: the file's own length would not show that its end is missing.
pub(super) fn note(txn: &WriteTransaction, version: u64, generation: u64, half_bytes: u64) -> Result<(), EngineError> {
    let mut meta = txn.open_table(META).map_err(engine_error)?;
    meta.insert(META_VERSION, version).map_err(engine_error)?;
    meta.insert(META_GENERATION, generation).map_err(engine_error)?;
    meta.insert(META_HALF_BYTES, half_bytes).map_err(engine_error)?;
    Ok(())
}
