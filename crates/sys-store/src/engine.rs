//! The seam between the record layer and a transactional ordered key-value engine.
//!
//! An engine maps keys to values, both plain bytes. A transaction reads one snapshot, remembers what it read, and hands
//! all its writes over at once; it commits only if nothing that it read has been written since, so that committed
//! transactions are serializable in the order of their [`CommitVersion`]s. Engines know nothing of records, orgs or keys:
//! that is the record layer's, and what must never happen here is a rule, a parse or a decryption.
//!
//! [`redb`] is the embedded engine, [`memory`] the naive model that it is tested against, [`AnyEngine`] the enum in front
//! of both. Why it is built like this stands in `docs/decisions/0002-embedded-engine.md`.

mod any;
#[cfg(test)]
pub(crate) mod fault;
mod feed;
pub mod memory;
pub mod redb;
#[cfg(test)]
mod tests;

pub use any::{AnyEngine, AnyTxn};
pub use feed::Changes;

use bytes::Bytes;
use std::{collections::HashSet, future::Future, io, path::PathBuf, sync::Arc, time::Duration};

/// Longest key in bytes. Keys of the record layer have at most 49; short keys keep the tree's branches wide.
pub const MAX_KEY_BYTES: usize = 256;
/// Longest value in bytes. Above the largest request that the gate lets in, far below redb's own 3 GiB.
pub const MAX_VALUE_BYTES: usize = 8 << 20;
/// Most writes in one transaction. An import of an organisation fits; what is larger is work for a job that goes on from
/// where it was, since all other commits wait for this one.
pub const MAX_WRITES: usize = 16_384;
/// Most bytes of keys and values in one transaction, for the same reason.
pub const MAX_TRANSACTION_BYTES: usize = 32 << 20;
/// Most reads that a transaction remembers. One costs the commit thread about 0.2 us, so this is 3 ms of everybody's time.
/// Whoever reads more (a list with a filter that few rows pass) can go on reading, but commit no writes.
pub const MAX_READS: usize = 16_384;
/// Most rows that one range read may ask for. Reads run on the caller's thread, and this many take a few milliseconds.
pub const MAX_RANGE_ROWS: usize = 4_096;
/// A range read stops once its rows have so many bytes: they are copied, and many callers read at once. The last of them may have as
/// many as [`MAX_VALUE_BYTES`] more.
pub const MAX_RANGE_BYTES: usize = 1 << 20;
/// Oldest snapshot that may still be read. An open snapshot keeps the pages of its time from being used again.
pub const MAX_SNAPSHOT_AGE: Duration = Duration::from_secs(60);

/// A transactional ordered key-value engine.
pub trait Engine: Send + Sync + 'static {
    /// Its transactions.
    type Txn: Txn;

    /// Begins a transaction on the newest committed state: each commit that was acknowledged before this call is in it.
    fn begin(&self) -> impl Future<Output = Result<Self::Txn, EngineError>> + Send;

    /// Hears of each commit from now on that makes a [`Write::Change`] with this prefix.
    fn changes(&self, prefix: Bytes) -> Changes;

    /// The prefixes of all changes that were committed since this was last asked.
    fn written(&self) -> HashSet<Bytes>;
}

/// A transaction: reads of one snapshot, then one commit. Dropping it is its rollback.
///
/// Reads do not see the transaction's own writes, which the engine does not know before the commit.
pub trait Txn: Send + 'static {
    /// The version of the last commit that the snapshot contains.
    fn snapshot_version(&self) -> CommitVersion;

    /// The value of a key.
    fn get(&mut self, key: &[u8]) -> impl Future<Output = Result<Option<Bytes>, EngineError>> + Send;

    /// The first rows of a range, seen from its start (`Asc`) or its end (`Desc`): `limit` at most, and none behind the one that makes
    /// them [`MAX_RANGE_BYTES`] or more.
    ///
    /// A range that has been read to its end conflicts with a later write anywhere in it. Any other has been read as far as the last
    /// row returned, and conflicts with nothing beyond.
    fn range(
        &mut self,
        keys: KeyRange,
        order: Order,
        limit: usize,
    ) -> impl Future<Output = Result<RangeRead, EngineError>> + Send;

    /// Commits the writes, in their order, if nothing that was read has been written since the snapshot.
    ///
    /// Without writes nothing is validated: reads of one snapshot are serializable at its version, which is the answer.
    /// Once the engine has taken the writes over, the commit runs to its end even if this future is dropped; a future that is
    /// dropped earlier has committed nothing. On `Ok` the writes are durable and are in each snapshot that begins from now on.
    fn commit(self, writes: Vec<Write>) -> impl Future<Output = Result<CommitVersion, CommitError>> + Send;

    /// Commits the writes if nothing at all has been committed since the snapshot, whatever was read. So neither reads nor
    /// writes have the bounds of [`Txn::commit`], which are there for the sake of others: for whoever has the store to himself,
    /// such as an import. All else is as for [`Txn::commit`].
    fn commit_alone(self, writes: Vec<Write>) -> impl Future<Output = Result<CommitVersion, CommitError>> + Send;
}

/// The number of a commit. Each has its own, later ones have higher ones; an empty store is at version 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct CommitVersion(pub u64);

/// The keys from `start`, included, to `end`, excluded. Empty if `end` is not above `start`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRange {
    /// The first key that may be in it.
    pub start: Bytes,
    /// The first key that is beyond it.
    pub end: Bytes,
}

impl KeyRange {
    /// All keys that begin with `prefix`.
    pub fn prefix(prefix: &[u8]) -> Self {
        Self { start: Bytes::copy_from_slice(prefix), end: after_prefix(prefix) }
    }

    /// All keys.
    pub fn all() -> Self {
        Self::prefix(&[])
    }

    /// Whether no key can be in it.
    pub fn is_empty(&self) -> bool {
        self.end <= self.start
    }

    /// Whether a key is in it.
    pub fn contains(&self, key: &[u8]) -> bool {
        *self.start <= *key && *key < *self.end
    }
}

/// What a read of a range gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeRead {
    /// The rows, in the order that was asked for.
    pub rows: Vec<(Bytes, Bytes)>,
    /// Whether the range was read to its end. Their number does not say it: fewer rows than asked for may be all that fit.
    pub is_end: bool,
}

/// The lowest byte string above `key`: the start of the range that goes on behind it.
pub fn key_after(key: &[u8]) -> Bytes {
    let mut after = Vec::with_capacity(key.len() + 1);
    after.extend_from_slice(key);
    after.push(0);
    after.into()
}

/// The lowest byte string above all keys that begin with `prefix`.
pub fn after_prefix(prefix: &[u8]) -> Bytes {
    let mut after = prefix.to_vec();
    while let Some(last) = after.pop() {
        if let Some(next) = last.checked_add(1) {
            after.push(next);
            return after.into();
        }
    }
    // Nothing but 0xff: all longer keys follow too, and no key is as long as this.
    vec![0xff; MAX_KEY_BYTES + 1].into()
}

/// The direction of a range read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Order {
    /// From the lowest key up.
    Asc,
    /// From the highest key down.
    Desc,
}

/// One change that a commit makes. Of two on the same key in one transaction the later one holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Sets a key.
    Put {
        /// The key, of 1 to [`MAX_KEY_BYTES`] bytes.
        key: Bytes,
        /// The value.
        value: Bytes,
        /// Where in the value the commit version is written, as 8 bytes big endian.
        stamp: Option<usize>,
    },
    /// Removes a key, if it is there.
    Delete {
        /// The key.
        key: Bytes,
    },
    /// Adds a row to the end of a log: its key is `log | number`, 8 bytes big endian, one above the log's last row or 0 in an
    /// empty log. Appends do not conflict with each other, and numbers have no gaps as long as nobody deletes rows; whoever
    /// removes a log's *last* row sees its number given again. A transaction that appends to a log writes to it in no other way.
    Append {
        /// What all keys of the log begin with, and no other key.
        log: Bytes,
        /// The value.
        value: Bytes,
    },
    /// Sets the key `prefix | commit version | suffix`, so that rows lie in the order of commits.
    Change {
        /// What stands before the version.
        prefix: Bytes,
        /// What stands behind it, which tells the transaction's changes apart.
        suffix: Bytes,
        /// The value.
        value: Bytes,
    },
}

/// Bytes of a commit version or a log number in a key or value.
pub const NUMBER_BYTES: usize = 8;

/// Why nothing was read, or nothing committed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EngineError {
    /// The disk is full.
    #[error("the disk is full: free some space, then restart the server")]
    Full,
    /// The disk or file answers with an error.
    #[error("the data file cannot be read or written")]
    Io(#[source] Arc<io::Error>),
    /// The file is not what this engine wrote.
    #[error("the data file is damaged: {what}; restore a backup")]
    Corrupt {
        /// What was found, in the engine's words.
        what: String,
    },
    /// The file was written by a later version of this engine.
    #[error("the data has format {found}, and this server knows {known} at most: start the newer server that wrote it")]
    Format {
        /// The format that it has.
        found: u64,
        /// The newest format that is known here.
        known: u64,
    },
    /// What was committed last stands in a log that is not there, or not the one of this store.
    #[error(
        "the store was not closed, and the log beside it (`.wal`) with its last commits is missing, cut off, or another store's: put it \
         back, or restore a backup; `sys-server doctor --give-up-log` opens the store without what stood there"
    )]
    LogLost,
    /// The log has commits that the data file does not lead to.
    #[error(
        "the log beside the data file (`.wal`) has commits of a store that is not there: put back the data file that it belongs \
         to; only to go on without them, move the log away"
    )]
    LogOfAnother,
    /// A part of the log is not what was written, and more was written behind it.
    #[error(
        "the log beside the data file (`.wal`) is damaged at byte {at} of a half, before commits that were acknowledged: restore a \
         backup; `sys-server doctor --give-up-log` opens the store without those from there on"
    )]
    LogDamaged {
        /// Where.
        at: usize,
    },
    /// Another server has the data open.
    #[error("{} is in use by another server: stop that one, or give this one a data directory of its own", path.display())]
    Locked {
        /// The data file.
        path: PathBuf,
    },
    /// The engine was closed.
    #[error("the store is closed")]
    Closed,
    /// The disk failed before, and what the file holds is known again only after a restart. Nothing is committed until
    /// then; reads go on as far as the cache has the answer.
    #[error("the store is out of order since an earlier failure ({cause}): restart the server")]
    Failed {
        /// That failure.
        cause: String,
    },
    /// The snapshot is older than [`MAX_SNAPSHOT_AGE`].
    #[error("the transaction is older than {} s: begin it again", MAX_SNAPSHOT_AGE.as_secs())]
    SnapshotTooOld,
    /// The transaction asks for more than an engine takes.
    #[error("{what} is {size}, and may be {limit} at most")]
    TooLarge {
        /// What.
        what: Bounded,
        /// How large it is.
        size: usize,
        /// How large it may be.
        limit: usize,
    },
    /// A write has no key.
    #[error("a write has an empty key")]
    EmptyKey,
    /// The commit version does not fit where it should be written.
    #[error("a commit version cannot be written at byte {offset} of a value of {value_bytes} bytes")]
    StampOutside {
        /// Where it should be written.
        offset: usize,
        /// The length of the value.
        value_bytes: usize,
    },
    /// A transaction appends to a log and writes to it in another way, too.
    #[error("a transaction appends to a log and sets or deletes rows of the same log")]
    MixedLog,
    /// Something is appended to what is no log: among its keys is one that is not `log | number`.
    #[error("what is appended to is no log")]
    NotALog,
    /// The numbers of a log or the commit versions are used up, or somebody wrote the highest one.
    #[error("no number is left")]
    NumbersExhausted,
}

/// What has a bound in a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bounded {
    /// [`MAX_KEY_BYTES`].
    KeyBytes,
    /// [`MAX_VALUE_BYTES`].
    ValueBytes,
    /// [`MAX_WRITES`].
    Writes,
    /// [`MAX_TRANSACTION_BYTES`].
    TransactionBytes,
    /// [`MAX_READS`].
    Reads,
    /// [`MAX_RANGE_ROWS`].
    RangeRows,
    /// Twice what a half may be: a start after a crash reads a half as a whole.
    LogBytes,
}

impl std::fmt::Display for Bounded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::KeyBytes => "a key's length in bytes",
            Self::ValueBytes => "a value's length in bytes",
            Self::Writes => "a transaction's number of writes",
            Self::TransactionBytes => "a transaction's size in bytes",
            Self::Reads => "a transaction's number of reads",
            Self::RangeRows => "a range read's number of rows",
            Self::LogBytes => "the log's length in bytes",
        })
    }
}

/// Why a commit was not acknowledged.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CommitError {
    /// Something that the transaction read has been written since, or its snapshot is too old to tell. Nothing was
    /// written; the whole transaction may run again.
    #[error("the transaction conflicts with a later commit: run it again")]
    Conflict,
    /// The commit failed at a point from which it may or may not be found in the store after the next start.
    #[error("it is not known whether the transaction was committed")]
    Unknown(#[source] EngineError),
    /// Nothing was written.
    #[error("the transaction was not committed")]
    Engine(#[from] EngineError),
}

/// The prefixes of a transaction's changes, each once if those of one prefix follow each other.
fn change_prefixes(writes: &[Write]) -> Vec<Bytes> {
    let prefixes = writes.iter().filter_map(|write| match write {
        Write::Change { prefix, .. } => Some(prefix.clone()),
        Write::Put { .. } | Write::Delete { .. } | Write::Append { .. } => None,
    });
    let mut prefixes: Vec<_> = prefixes.collect();
    prefixes.dedup();
    prefixes
}

/// Refuses writes that are too many for one transaction among others. Gives their size in bytes.
fn check_writes(writes: &[Write]) -> Result<usize, EngineError> {
    at_most(Bounded::Writes, writes.len(), MAX_WRITES)?;
    let total_bytes = check_each(writes)?;
    at_most(Bounded::TransactionBytes, total_bytes, MAX_TRANSACTION_BYTES)?;
    Ok(total_bytes)
}

/// Refuses writes that no engine takes, before any of them is handed over. Gives their size in bytes.
fn check_each(writes: &[Write]) -> Result<usize, EngineError> {
    let mut total_bytes = 0;
    for write in writes {
        let (key_bytes, value_bytes) = match write {
            Write::Put { key, value, stamp } => {
                check_stamp(*stamp, value)?;
                (key.len(), value.len())
            }
            Write::Delete { key } => (key.len(), 0),
            Write::Append { log, value } => (log.len() + NUMBER_BYTES, value.len()),
            Write::Change { prefix, suffix, value } => (prefix.len() + NUMBER_BYTES + suffix.len(), value.len()),
        };
        if key_bytes == 0 {
            return Err(EngineError::EmptyKey);
        }
        at_most(Bounded::KeyBytes, key_bytes, MAX_KEY_BYTES)?;
        at_most(Bounded::ValueBytes, value_bytes, MAX_VALUE_BYTES)?;
        total_bytes += key_bytes + value_bytes;
    }
    check_logs(writes)?;
    Ok(total_bytes)
}

/// A log's numbers are given by the commit, so a row that the same transaction sets or deletes there could not be told
/// from one that it appends.
fn check_logs(writes: &[Write]) -> Result<(), EngineError> {
    let logs: HashSet<&[u8]> = writes
        .iter()
        .filter_map(|write| match write {
            Write::Append { log, .. } => Some(log.as_ref()),
            Write::Put { .. } | Write::Delete { .. } | Write::Change { .. } => None,
        })
        .collect();
    let mixed = !logs.is_empty()
        && writes.iter().any(|write| match write {
            Write::Put { key, .. } | Write::Delete { key } => log_of(key).is_some_and(|log| logs.contains(log)),
            Write::Append { .. } | Write::Change { .. } => false,
        });
    if mixed { Err(EngineError::MixedLog) } else { Ok(()) }
}

fn check_stamp(stamp: Option<usize>, value: &Bytes) -> Result<(), EngineError> {
    match stamp {
        Some(offset) if offset.checked_add(NUMBER_BYTES).is_none_or(|end| end > value.len()) => {
            Err(EngineError::StampOutside { offset, value_bytes: value.len() })
        }
        Some(_) | None => Ok(()),
    }
}

fn at_most(what: Bounded, size: usize, limit: usize) -> Result<(), EngineError> {
    if size > limit { Err(EngineError::TooLarge { what, size, limit }) } else { Ok(()) }
}

/// What stands before the number if this is the key of a log's row.
fn log_of(key: &[u8]) -> Option<&[u8]> {
    key.split_last_chunk::<NUMBER_BYTES>().map(|(log, _)| log)
}
