//! What each engine promises, tried on all of them: `promises` one by one, `serial` with random transactions against an oracle,
//! `embedded` what only the engine on a file can break, `faults` on a failing disk, `log` what its log promises. Real kills stand in `tests/crash.rs`.

mod embedded;
mod faults;
mod log;
mod promises;
mod serial;

use super::{
    AnyEngine, CommitError, CommitVersion, Engine, KeyRange, Order, Txn, Write,
    fault::{Disk, Plan},
    memory::MemoryEngine,
    redb::{RedbEngine, RedbOptions},
};
use bytes::Bytes;
use std::collections::BTreeMap;

type Rows = BTreeMap<Bytes, Bytes>;

/// Small, so that pages are read back from the disk, too.
const OPTIONS: RedbOptions = RedbOptions { cache_bytes: 1 << 20, verify: false, log_bytes: 0, give_up_log: false };

fn bytes(text: impl AsRef<[u8]>) -> Bytes {
    Bytes::copy_from_slice(text.as_ref())
}

fn put(key: &str, value: &str) -> Write {
    Write::Put { key: bytes(key), value: bytes(value), stamp: None }
}

fn delete(key: &str) -> Write {
    Write::Delete { key: bytes(key) }
}

fn append(log: &str, value: &str) -> Write {
    Write::Append { log: bytes(log), value: bytes(value) }
}

fn numbered(prefix: &str, number: u64, suffix: &str) -> Bytes {
    [prefix.as_bytes(), &number.to_be_bytes(), suffix.as_bytes()].concat().into()
}

fn keys(from: &str, to: &str) -> KeyRange {
    KeyRange { start: bytes(from), end: bytes(to) }
}

/// A redb engine on a disk without faults.
fn redb_on(disk: &Disk) -> RedbEngine {
    disk.restart(Plan::default()).open(OPTIONS).unwrap()
}

/// One of each engine, empty.
fn each_engine() -> [AnyEngine; 2] {
    [AnyEngine::Memory(MemoryEngine::new()), AnyEngine::Redb(redb_on(&Disk::new(0)))]
}

/// Commits these writes alone, which conflicts with nothing.
async fn commit(engine: &impl Engine, writes: Vec<Write>) -> CommitVersion {
    engine.begin().await.unwrap().commit(writes).await.unwrap()
}

async fn get(engine: &impl Engine, key: &str) -> Option<Bytes> {
    engine.begin().await.unwrap().get(key.as_bytes()).await.unwrap()
}

async fn all_rows(engine: &impl Engine) -> Rows {
    let mut txn = engine.begin().await.unwrap();
    let mut rows = Rows::new();
    let mut rest = KeyRange::all();
    loop {
        let page = txn.range(rest.clone(), Order::Asc, 100).await.unwrap().rows;
        let Some((last, _)) = page.last() else { return rows };
        rest.start = super::key_after(last);
        rows.extend(page);
    }
}

/// A read that a test makes, and its answer: a key is a range of at most one row.
#[derive(Debug, Clone)]
enum Read {
    Get(Bytes),
    Range(KeyRange, Order, usize),
}

type Answer = Vec<(Bytes, Bytes)>;

impl Read {
    async fn on(&self, txn: &mut impl Txn) -> Answer {
        match self {
            Self::Get(key) => txn.get(key).await.unwrap().map(|value| (key.clone(), value)).into_iter().collect(),
            Self::Range(keys, order, limit) => txn.range(keys.clone(), *order, *limit).await.unwrap().rows,
        }
    }

    fn on_rows(&self, rows: &Rows) -> Answer {
        let own = |(key, value): (&Bytes, &Bytes)| (key.clone(), value.clone());
        match self {
            Self::Get(key) => rows.get_key_value(key).map(own).into_iter().collect(),
            Self::Range(keys, ..) if keys.start >= keys.end => Vec::new(),
            Self::Range(keys, order, limit) => {
                let inside = rows.range(keys.start.clone()..keys.end.clone()).map(own);
                if *order == Order::Asc { inside.take(*limit).collect() } else { inside.rev().take(*limit).collect() }
            }
        }
    }

    /// Whether the read, given its answer, has looked at the place of this key.
    fn saw(&self, answer: &Answer, key: &Bytes) -> bool {
        match self {
            Self::Get(read) => read == key,
            Self::Range(.., 0) => false,
            Self::Range(keys, order, limit) => {
                let stopped_at = if answer.len() == *limit { answer.last().map(|(last, _)| last) } else { None };
                keys.contains(key)
                    && stopped_at.is_none_or(|last| if *order == Order::Asc { key <= last } else { key >= last })
            }
        }
    }
}

/// What a store should hold: a map, written to in the order of the commits.
#[derive(Debug, Default)]
struct Oracle {
    rows: Rows,
    version: u64,
    /// Each key that was written, with the version of the commit.
    written: Vec<(u64, Bytes)>,
}

impl Oracle {
    fn apply(&mut self, writes: &[Write], version: CommitVersion) {
        assert_eq!(version.0, self.version + 1, "each commit has the next number");
        self.version = version.0;
        for write in writes {
            let (key, value) = self.effect(write);
            self.written.push((self.version, key.clone()));
            match value {
                Some(value) => self.rows.insert(key, value),
                None => self.rows.remove(&key),
            };
        }
    }

    fn effect(&self, write: &Write) -> (Bytes, Option<Bytes>) {
        match write.clone() {
            Write::Put { key, value, stamp: None } => (key, Some(value)),
            Write::Put { key, value, stamp: Some(at) } => {
                let stamped = [&value[..at], &self.version.to_be_bytes(), &value[at + 8..]].concat();
                (key, Some(stamped.into()))
            }
            Write::Delete { key } => (key, None),
            Write::Append { log, value } => {
                let length = self.rows.keys().filter(|key| key.starts_with(&log)).count() as u64;
                ([&log, length.to_be_bytes().as_slice()].concat().into(), Some(value))
            }
            Write::Change { prefix, suffix, value } => {
                ([&prefix, self.version.to_be_bytes().as_slice(), &suffix].concat().into(), Some(value))
            }
        }
    }

    fn written_since(&self, snapshot: u64, reads: &[(Read, Answer)]) -> bool {
        let later = self.written.iter().filter(|(version, _)| *version > snapshot);
        later.into_iter().any(|(_, key)| reads.iter().any(|(read, answer)| read.saw(answer, key)))
    }
}

fn is_conflict<T>(outcome: &Result<T, CommitError>) -> bool {
    matches!(outcome, Err(CommitError::Conflict))
}
