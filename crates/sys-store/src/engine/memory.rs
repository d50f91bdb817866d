//! The engine as a model: the whole map under one lock, and each read run again at commit.
//!
//! It is what the embedded engine is tested against, so it shares nothing with it but the trait, and it is written to
//! be read, not to be fast: a commit copies the map if a transaction still looks at it, and compares answers where the other
//! engine compares versions. No number of rows or bytes is bounded but those of a single transaction.

use super::{
    Bounded, Changes, CommitError, CommitVersion, Engine, EngineError, KeyRange, MAX_RANGE_BYTES, MAX_RANGE_ROWS,
    MAX_READS, NUMBER_BYTES, Order, RangeRead, Txn, Write, at_most, change_prefixes, check_each, check_writes,
    feed::Feed,
};
use bytes::Bytes;
use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

type Rows = BTreeMap<Bytes, Bytes>;

/// An engine in memory. Its clones are the same store.
#[derive(Debug, Clone, Default)]
pub struct MemoryEngine {
    store: Arc<Mutex<Store>>,
    feed: Feed,
}

#[derive(Debug, Default)]
struct Store {
    rows: Arc<Rows>,
    version: u64,
}

/// A transaction of a [`MemoryEngine`].
#[derive(Debug)]
pub struct MemoryTxn {
    engine: MemoryEngine,
    snapshot: Arc<Rows>,
    version: u64,
    reads: Vec<Read>,
}

/// A read and its answer.
#[derive(Debug)]
enum Read {
    Get { key: Bytes, answer: Option<Bytes> },
    Range { keys: KeyRange, order: Order, limit: usize, answer: RangeRead },
}

impl MemoryEngine {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// A store of its own that holds the same rows at the same version.
    #[must_use]
    pub fn fork(&self) -> Self {
        let Store { rows, version } = &*self.lock();
        let store = Arc::new(Mutex::new(Store { rows: Arc::clone(rows), version: *version }));
        Self { store, feed: Feed::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Store> {
        // A panic while the lock is held leaves the rows as they were: they are replaced whole, at the end of a commit.
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine for MemoryEngine {
    type Txn = MemoryTxn;

    async fn begin(&self) -> Result<MemoryTxn, EngineError> {
        let store = self.lock();
        Ok(MemoryTxn {
            engine: self.clone(),
            snapshot: Arc::clone(&store.rows),
            version: store.version,
            reads: Vec::new(),
        })
    }

    fn changes(&self, prefix: Bytes) -> Changes {
        self.feed.subscribe(prefix)
    }

    fn written(&self) -> HashSet<Bytes> {
        self.feed.written()
    }
}

impl MemoryTxn {
    /// One read beyond the bound is enough to know that there were too many.
    fn remember(&mut self, read: Read) {
        if self.reads.len() <= MAX_READS {
            self.reads.push(read);
        }
    }
}

impl Txn for MemoryTxn {
    fn snapshot_version(&self) -> CommitVersion {
        CommitVersion(self.version)
    }

    async fn get(&mut self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let answer = self.snapshot.get(key).cloned();
        self.remember(Read::Get { key: Bytes::copy_from_slice(key), answer: answer.clone() });
        Ok(answer)
    }

    async fn range(&mut self, keys: KeyRange, order: Order, limit: usize) -> Result<RangeRead, EngineError> {
        at_most(Bounded::RangeRows, limit, MAX_RANGE_ROWS)?;
        let answer = range_of(&self.snapshot, &keys, order, limit);
        self.remember(Read::Range { keys, order, limit, answer: answer.clone() });
        Ok(answer)
    }

    async fn commit(self, writes: Vec<Write>) -> Result<CommitVersion, CommitError> {
        if writes.is_empty() {
            return Ok(CommitVersion(self.version));
        }
        check_writes(&writes)?;
        at_most(Bounded::Reads, self.reads.len(), MAX_READS)?;
        let mut store = self.engine.lock();
        let unchanged = self.reads.iter().all(|read| match read {
            Read::Get { key, answer } => store.rows.get(key) == answer.as_ref(),
            Read::Range { keys, order, limit, answer } => range_of(&store.rows, keys, *order, *limit) == *answer,
        });
        if !unchanged {
            return Err(CommitError::Conflict);
        }
        let changed = change_prefixes(&writes);
        let version = store.apply(writes)?;
        drop(store);
        self.engine.feed.call(&changed);
        Ok(version)
    }

    async fn commit_alone(self, writes: Vec<Write>) -> Result<CommitVersion, CommitError> {
        if writes.is_empty() {
            return Ok(CommitVersion(self.version));
        }
        check_each(&writes)?;
        let mut store = self.engine.lock();
        if store.version != self.version {
            return Err(CommitError::Conflict);
        }
        let changed = change_prefixes(&writes);
        let version = store.apply(writes)?;
        drop(store);
        self.engine.feed.call(&changed);
        Ok(version)
    }
}

impl Store {
    fn apply(&mut self, writes: Vec<Write>) -> Result<CommitVersion, CommitError> {
        let version = self.version.checked_add(1).ok_or(EngineError::NumbersExhausted)?;
        let mut rows = Rows::clone(&self.rows);
        for write in writes {
            apply(&mut rows, write, version)?;
        }
        self.rows = Arc::new(rows);
        self.version = version;
        Ok(CommitVersion(version))
    }
}

fn range_of(rows: &Rows, keys: &KeyRange, order: Order, limit: usize) -> RangeRead {
    let inside = rows.iter().filter(|(key, _)| keys.contains(key)).map(|(key, value)| (key.clone(), value.clone()));
    let mut inside: Box<dyn Iterator<Item = (Bytes, Bytes)>> = match order {
        Order::Asc => Box::new(inside),
        Order::Desc => Box::new(inside.rev()),
    };
    let (mut read, mut bytes) = (RangeRead { rows: Vec::new(), is_end: keys.is_empty() }, 0);
    while read.rows.len() < limit && bytes < MAX_RANGE_BYTES {
        let Some((key, value)) = inside.next() else {
            read.is_end = true;
            break;
        };
        bytes += key.len() + value.len();
        read.rows.push((key, value));
    }
    read
}

fn apply(rows: &mut Rows, write: Write, version: u64) -> Result<(), EngineError> {
    match write {
        Write::Put { key, value, stamp } => {
            let mut value = value.to_vec();
            let place = stamp.and_then(|offset| value.get_mut(offset..)?.first_chunk_mut::<NUMBER_BYTES>());
            if let Some(place) = place {
                *place = version.to_be_bytes();
            }
            rows.insert(key, value.into());
        }
        Write::Delete { key } => {
            rows.remove(&key);
        }
        Write::Append { log, value } => {
            let number = match rows.keys().rfind(|key| key.starts_with(&log)) {
                None => 0,
                Some(last) => {
                    let number = last.get(log.len()..).and_then(|number| number.try_into().ok());
                    let number = u64::from_be_bytes(number.ok_or(EngineError::NotALog)?);
                    number.checked_add(1).ok_or(EngineError::NumbersExhausted)?
                }
            };
            rows.insert([&log, number.to_be_bytes().as_slice()].concat().into(), value);
        }
        Write::Change { prefix, suffix, value } => {
            rows.insert([&prefix, version.to_be_bytes().as_slice(), &suffix].concat().into(), value);
        }
    }
    Ok(())
}
