//! The embedded engine: redb under optimistic transactions and a group commit.
//!
//! redb gives snapshots, one writer at a time, and no transaction that reads and then writes. That is added here: a
//! transaction reads the snapshot of the last commit and remembers what it read (`conflict`); the one commit thread
//! (`commit`) takes up to 256 of them, lets through those that saw nothing outdated, writes them in one redb
//! transaction, and acknowledges them once that is on disk: in a log (`wal`), which redb contains from checkpoint to checkpoint.
//!
//! Reads run on the caller's thread and block it. From the cache they take microseconds, less than handing them to another
//! thread would, and nearly all come from there; how long one can take is bounded by [`MAX_RANGE_ROWS`] and
//! [`MAX_RANGE_BYTES`]. What must never happen here: a write that does not go through the commit thread.

mod commit;
mod conflict;
mod create;
mod error;
mod logs;
mod queue;
mod stats;
mod syncs;
pub(crate) mod wal;

pub use stats::EngineStats;

use super::{
    Bounded, Changes, CommitError, CommitVersion, Engine, EngineError, KeyRange, MAX_RANGE_BYTES, MAX_RANGE_ROWS,
    MAX_SNAPSHOT_AGE, Order, RangeRead, Txn, Write, at_most, check_each, check_writes, feed::Feed,
};
use bytes::Bytes;
use commit::{Committer, Request};
use conflict::{ReadSet, Reads, WindowBounds};
use error::{engine_error, io_error, sound};
use queue::Queue;
use redb::{
    Builder, ReadOnlyTable, ReadableTable, ReadableTableMetadata, StorageBackend, TableDefinition,
    backends::FileBackend,
};
use stats::Counters;
use std::{
    collections::HashSet,
    fmt,
    fs::OpenOptions,
    ops::RangeInclusive,
    path::Path,
    sync::{Arc, Mutex, OnceLock, PoisonError, RwLock},
    thread::JoinHandle,
    time::{Duration, Instant},
};
use syncs::{CountSyncs, Syncs};
use tokio::sync::oneshot;
use wal::{MAX_HALF_BYTES, WalBounds, frame::PAGE_BYTES};

/// Writes that the commit thread remembers to find conflicts: ten seconds at full load, and about 40 MB of memory then.
const REMEMBERED_WRITES: usize = 262_144;
/// What a store reads from disk and keeps in memory if nothing else is said.
const DEFAULT_CACHE_BYTES: usize = 256 << 20;

type Rows = ReadOnlyTable<&'static [u8], &'static [u8]>;
/// All rows of the store.
const ROWS: TableDefinition<'static, &'static [u8], &'static [u8]> = TableDefinition::new("rows");
/// What the engine notes about itself, under the names below.
const META: TableDefinition<'static, &'static str, u64> = TableDefinition::new("meta");
/// The format of the other table and of the log: [`FORMAT`].
const META_FORMAT: &str = "format";
/// The version of the last commit.
const META_VERSION: &str = "version";
/// The generation of the log that goes on from this state, or [`wal::NO_GENERATION`].
const META_GENERATION: &str = "generation";
/// Bytes of each half of that log.
const META_HALF_BYTES: &str = "log_half_bytes";
/// The format that is written. The first had no log: whoever knows that one alone must not open a store that has.
const FORMAT: u64 = 2;
/// The formats that are read.
const FORMATS: RangeInclusive<u64> = 1..=FORMAT;

/// How a store is opened.
#[derive(Debug, Clone, Copy)]
pub struct RedbOptions {
    /// Bytes of pages kept in memory.
    pub cache_bytes: usize,
    /// Reads the whole file and checks the sum of each page before anything else, however it was closed. What is found damaged
    /// is [`EngineError::Corrupt`]; without this, damage shows when it is read, if at all.
    pub verify: bool,
    /// Bytes of a log that is made: it is written anew when it is half full, so that less makes more checkpoints. One that is there
    /// keeps its length.
    pub log_bytes: usize,
    /// Opens a store whose log is lost or damaged without the commits that cannot be read from it. They are gone then, though they
    /// were acknowledged.
    pub give_up_log: bool,
}

impl Default for RedbOptions {
    fn default() -> Self {
        Self { cache_bytes: DEFAULT_CACHE_BYTES, verify: false, log_bytes: wal::LOG_BYTES, give_up_log: false }
    }
}

/// What tests make smaller to reach it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) snapshot_age: Duration,
    pub(crate) remembered_writes: usize,
    pub(crate) wal: WalBounds,
}

impl Bounds {
    fn of(options: RedbOptions) -> Result<Self, EngineError> {
        at_most(Bounded::LogBytes, options.log_bytes, 2 * MAX_HALF_BYTES)?;
        let half_bytes = (options.log_bytes / 2).next_multiple_of(PAGE_BYTES).max(PAGE_BYTES);
        Ok(Self { wal: WalBounds { half_bytes, ..WalBounds::default() }, ..Self::default() })
    }
}

impl Default for Bounds {
    fn default() -> Self {
        Self { snapshot_age: MAX_SNAPSHOT_AGE, remembered_writes: REMEMBERED_WRITES, wal: WalBounds::default() }
    }
}

/// The embedded engine. Its clones are the same store, which closes with [`RedbEngine::close`] or when the last of them and
/// of their transactions is gone; whoever drops that last one waits for the commits that were handed over.
#[derive(Debug, Clone)]
pub struct RedbEngine {
    inner: Arc<Inner>,
}

/// A transaction of a [`RedbEngine`].
#[derive(Debug)]
pub struct RedbTxn {
    tally: Tally,
    snapshot: Arc<Snapshot>,
    reads: ReadSet,
    began: Instant,
}

/// What one transaction has read. The engine is told when it ends, and not at each read, where all threads would write to one
/// place.
#[derive(Debug)]
struct Tally {
    inner: Arc<Inner>,
    keys: u64,
    ranges: u64,
}

impl Drop for Tally {
    fn drop(&mut self) {
        self.inner.state.counters.read(self.keys, self.ranges);
    }
}

#[derive(Debug)]
struct Inner {
    state: Arc<State>,
    snapshot_age: Duration,
    /// `None` once closed.
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What the commit thread and everybody else know of each other.
#[derive(Debug)]
struct State {
    queue: Queue,
    /// `None` once closed.
    published: RwLock<Option<Arc<Snapshot>>>,
    /// Set once, by the first commit that fails.
    failed: OnceLock<EngineError>,
    counters: Counters,
    syncs: Syncs,
    feed: Feed,
}

/// The state after a commit. Opening one costs as much as a read, so all transactions share it until the next commit.
struct Snapshot {
    rows: Rows,
    version: CommitVersion,
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("version", &self.version).finish_non_exhaustive()
    }
}

impl RedbEngine {
    /// Opens the store in this file, or makes an empty one. Its log stands beside it, in a file that ends with `.wal`. Blocks.
    pub fn open(path: &Path, options: RedbOptions) -> Result<Self, EngineError> {
        let bounds = Bounds::of(options)?;
        create::create_if_absent(path)?;
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(io_error)?;
        let backend = FileBackend::new(file).map_err(engine_error)?;
        let log = FileBackend::new(wal::open_file(&path.with_extension("wal"))?).map_err(engine_error)?;
        sound(|| Self::start(backend, log, options, bounds)).map_err(|error| match error {
            EngineError::Locked { .. } => EngineError::Locked { path: path.to_owned() },
            other => other,
        })
    }

    /// Opens the store in this backend, with its log in that one, or makes an empty one if they have no bytes. Blocks.
    pub(crate) fn start(
        backend: impl StorageBackend,
        log: impl StorageBackend,
        options: RedbOptions,
        bounds: Bounds,
    ) -> Result<Self, EngineError> {
        let (backend, syncs) = CountSyncs::new(backend);
        let mut builder = Builder::new();
        builder.set_cache_size(options.cache_bytes).set_check_integrity_on_open(options.verify);
        let database = builder.create_with_backend(backend).map_err(engine_error)?;
        let (version, wal) = create::recover(&database, log, syncs.clone(), options, bounds.wal)?;
        let snapshot = Snapshot::of(&database, version)?;
        let state = Arc::new(State {
            queue: Queue::new(),
            published: RwLock::new(Some(Arc::new(snapshot))),
            failed: OnceLock::new(),
            counters: Counters::default(),
            syncs: syncs.clone(),
            feed: Feed::default(),
        });
        let window = WindowBounds { writes: bounds.remembered_writes, age: bounds.snapshot_age };
        let committer = Committer::new(database, syncs, wal, Arc::clone(&state), version, window);
        let thread = std::thread::Builder::new()
            .name("sys-store-commit".to_owned())
            .spawn(move || committer.run())
            .map_err(io_error)?;
        let inner = Inner { state, snapshot_age: bounds.snapshot_age, thread: Mutex::new(Some(thread)) };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// What it has done since it was opened, and how many rows are in it.
    pub fn stats(&self) -> Result<EngineStats, EngineError> {
        let state = &self.inner.state;
        let published = state.published.read().unwrap_or_else(PoisonError::into_inner).clone();
        let rows = published.ok_or(EngineError::Closed)?.rows.len().map_err(engine_error)?;
        Ok(state.counters.stats(rows, state.syncs.micros()))
    }

    /// Commits what has been handed over, then closes the file. Afterwards everything answers [`EngineError::Closed`]. Blocks.
    pub fn close(&self) {
        self.inner.close();
    }
}

impl Engine for RedbEngine {
    type Txn = RedbTxn;

    async fn begin(&self) -> Result<RedbTxn, EngineError> {
        let published = self.inner.state.published.read().unwrap_or_else(PoisonError::into_inner);
        let snapshot = Arc::clone(published.as_ref().ok_or(EngineError::Closed)?);
        let tally = Tally { inner: Arc::clone(&self.inner), keys: 0, ranges: 0 };
        Ok(RedbTxn { tally, snapshot, reads: ReadSet::default(), began: Instant::now() })
    }

    fn changes(&self, prefix: Bytes) -> Changes {
        self.inner.state.feed.subscribe(prefix)
    }

    fn written(&self) -> HashSet<Bytes> {
        self.inner.state.feed.written()
    }
}

impl RedbTxn {
    fn check_age(&self) -> Result<(), EngineError> {
        if self.began.elapsed() > self.tally.inner.snapshot_age { Err(EngineError::SnapshotTooOld) } else { Ok(()) }
    }
}

impl Txn for RedbTxn {
    fn snapshot_version(&self) -> CommitVersion {
        self.snapshot.version
    }

    async fn get(&mut self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.check_age()?;
        self.tally.keys += 1;
        self.reads.add_key(key);
        sound(|| {
            let value = ReadableTable::get(&self.snapshot.rows, key).map_err(engine_error)?;
            Ok(value.map(|value| Bytes::copy_from_slice(value.value())))
        })
    }

    async fn range(&mut self, keys: KeyRange, order: Order, limit: usize) -> Result<RangeRead, EngineError> {
        self.check_age()?;
        at_most(Bounded::RangeRows, limit, MAX_RANGE_ROWS)?;
        self.tally.ranges += 1;
        let read = sound(|| self.snapshot.range(&keys, order, limit))?;
        self.reads.add_range(keys, order, &read);
        Ok(read)
    }

    async fn commit(self, writes: Vec<Write>) -> Result<CommitVersion, CommitError> {
        if writes.is_empty() {
            return Ok(self.snapshot.version);
        }
        let size_bytes = check_writes(&writes)?;
        self.reads.check_whole()?;
        let reads = Reads::These(self.reads);
        hand_over(Arc::clone(&self.tally.inner), self.snapshot, reads, writes, size_bytes).await
    }

    async fn commit_alone(self, writes: Vec<Write>) -> Result<CommitVersion, CommitError> {
        if writes.is_empty() {
            return Ok(self.snapshot.version);
        }
        let size_bytes = check_each(&writes)?;
        hand_over(Arc::clone(&self.tally.inner), self.snapshot, Reads::Everything, writes, size_bytes).await
    }
}

/// Gives a transaction to the commit thread and waits for its answer.
async fn hand_over(
    inner: Arc<Inner>,
    snapshot: Arc<Snapshot>,
    reads: Reads,
    writes: Vec<Write>,
    size_bytes: usize,
) -> Result<CommitVersion, CommitError> {
    let (answer, answered) = oneshot::channel();
    let request = Request { snapshot: snapshot.version.0, reads, writes, size_bytes, answer };
    // The pages of the snapshot are free to go while the commit waits.
    drop(snapshot);
    inner.state.queue.push(request).await?;
    // The commit thread answers each, whatever happens to it.
    let died = || EngineError::Failed { cause: "the commit thread stopped".to_owned() };
    answered.await.unwrap_or_else(|_| Err(CommitError::Unknown(died())))
}

impl Inner {
    fn close(&self) {
        self.state.queue.close();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the commit thread panicked");
        }
        *self.state.published.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

impl Snapshot {
    fn of(database: &redb::Database, version: u64) -> Result<Self, EngineError> {
        let txn = redb::ReadableDatabase::begin_read(database).map_err(engine_error)?;
        let rows = txn.open_table(ROWS).map_err(engine_error)?;
        Ok(Self { rows, version: CommitVersion(version) })
    }

    fn range(&self, keys: &KeyRange, order: Order, limit: usize) -> Result<RangeRead, EngineError> {
        let mut read = RangeRead { rows: Vec::new(), is_end: keys.is_empty() };
        if read.is_end {
            return Ok(read);
        }
        let mut inside =
            ReadableTable::range::<&[u8]>(&self.rows, keys.start.as_ref()..keys.end.as_ref()).map_err(engine_error)?;
        let mut bytes = 0;
        while read.rows.len() < limit && bytes < MAX_RANGE_BYTES {
            let row = match order {
                Order::Asc => inside.next(),
                Order::Desc => inside.next_back(),
            };
            let Some(row) = row else {
                read.is_end = true;
                break;
            };
            let (key, value) = row.map_err(engine_error)?;
            let (key, value) = (Bytes::copy_from_slice(key.value()), Bytes::copy_from_slice(value.value()));
            bytes += key.len() + value.len();
            read.rows.push((key, value));
        }
        Ok(read)
    }
}
