//! Which transactions conflict: what one has read, and what the last commits have written.
//!
//! Pure: no I/O, the time is an argument. The commit thread alone owns a [`Window`].

use crate::engine::{Bounded, EngineError, KeyRange, MAX_READS, Order, RangeRead, at_most, key_after};
use bytes::Bytes;
use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
    time::{Duration, Instant},
};

/// Rows of the window that are looked at for one range before it is cheaper to go through what was written since the
/// snapshot: a range over a whole table may hold each row that the window remembers.
const RANGE_WALK: usize = 256;

/// What a transaction has read.
#[derive(Debug, Default)]
pub(super) struct ReadSet {
    keys: Keys,
    ranges: Vec<KeyRange>,
    /// More was read than is remembered, and nothing is any more: reads of one snapshot stay true, writes cannot follow.
    is_lost: bool,
}

/// Keys one behind the other: a call reads many, and most calls write nothing, so that nobody looks at them again.
#[derive(Debug, Default)]
struct Keys {
    bytes: Vec<u8>,
    /// Where each of them ends.
    ends: Vec<usize>,
}

impl Keys {
    fn push(&mut self, key: &[u8]) {
        self.bytes.extend_from_slice(key);
        self.ends.push(self.bytes.len());
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let begins = std::iter::once(0).chain(self.ends.iter().copied());
        begins.zip(&self.ends).map(|(begin, end)| self.bytes.get(begin..*end).unwrap_or_default())
    }
}

impl ReadSet {
    /// Remembers the read of a key, whether it is there or not.
    pub(super) fn add_key(&mut self, key: &[u8]) {
        if self.has_room() {
            self.keys.push(key);
        }
    }

    /// Whether all that was read is remembered, so that writes may follow from it.
    pub(super) fn check_whole(&self) -> Result<(), EngineError> {
        at_most(Bounded::Reads, if self.is_lost { MAX_READS + 1 } else { 0 }, MAX_READS)
    }

    fn has_room(&mut self) -> bool {
        if self.keys.ends.len() + self.ranges.len() >= MAX_READS {
            *self = Self { is_lost: true, ..Self::default() };
        }
        !self.is_lost
    }

    /// Remembers the part of a range that was read to find these rows: all of it if they end it, else as far as the last of them.
    pub(super) fn add_range(&mut self, keys: KeyRange, order: Order, read: &RangeRead) {
        let read = match (read.rows.last(), order) {
            _ if read.is_end => keys,
            (Some((last, _)), Order::Asc) => KeyRange { start: keys.start, end: key_after(last) },
            (Some((last, _)), Order::Desc) => KeyRange { start: last.clone(), end: keys.end },
            // No row was asked for.
            (None, Order::Asc | Order::Desc) => return,
        };
        if !read.is_empty() && self.has_room() {
            self.ranges.push(read);
        }
    }

    fn is_empty(&self) -> bool {
        self.keys.ends.is_empty() && self.ranges.is_empty()
    }
}

/// What a transaction depends on.
#[derive(Debug)]
pub(super) enum Reads {
    /// What it has read.
    These(ReadSet),
    /// All there is: it conflicts with every commit since its snapshot.
    Everything,
}

/// How much of the past the commit thread remembers. A transaction whose snapshot is older conflicts.
#[derive(Debug, Clone, Copy)]
pub(super) struct WindowBounds {
    /// Most writes remembered.
    pub(super) writes: usize,
    /// How long a commit is remembered.
    pub(super) age: Duration,
}

/// The keys that the last commits wrote.
#[derive(Debug)]
pub(super) struct Window {
    bounds: WindowBounds,
    last_write: BTreeMap<Bytes, u64>,
    /// Oldest first.
    commits: VecDeque<Committed>,
    writes: usize,
    /// The newest version that is not remembered: of an older snapshot it cannot be said what was written since.
    forgotten: u64,
}

#[derive(Debug)]
struct Committed {
    version: u64,
    at: Instant,
    keys: Vec<Bytes>,
}

impl Window {
    /// A window onto a store that is at `version`.
    pub(super) fn new(bounds: WindowBounds, version: u64) -> Self {
        Self { bounds, last_write: BTreeMap::new(), commits: VecDeque::new(), writes: 0, forgotten: version }
    }

    /// Whether something that was read from the snapshot at `snapshot` has been written since, or may have been.
    pub(super) fn conflicts(&self, reads: &Reads, snapshot: u64) -> bool {
        let newest = self.commits.back().map_or(self.forgotten, |commit| commit.version);
        let reads = match reads {
            Reads::These(reads) if !reads.is_empty() => reads,
            Reads::These(_) => return false,
            Reads::Everything => return snapshot != newest,
        };
        if snapshot >= newest {
            return false;
        }
        snapshot < self.forgotten
            || reads.keys.iter().any(|key| self.last_write.get(key).is_some_and(|version| *version > snapshot))
            || reads.ranges.iter().any(|range| self.range_written_since(range, snapshot))
    }

    fn range_written_since(&self, range: &KeyRange, snapshot: u64) -> bool {
        let bounds = (Bound::Included(range.start.as_ref()), Bound::Excluded(range.end.as_ref()));
        let mut versions = self.last_write.range::<[u8], _>(bounds).map(|(_, version)| *version);
        if versions.by_ref().take(RANGE_WALK).any(|version| version > snapshot) {
            return true;
        }
        let since = self.commits.iter().rev().take_while(|commit| commit.version > snapshot);
        versions.next().is_some() && since.flat_map(|commit| &commit.keys).any(|key| range.contains(key))
    }

    /// Remembers a commit, and forgets what goes beyond the bounds.
    pub(super) fn add(&mut self, version: u64, keys: Vec<Bytes>, now: Instant) {
        if keys.len() > self.bounds.writes {
            // It would forget all others and then itself.
            *self = Self::new(self.bounds, version);
            return;
        }
        for key in &keys {
            self.last_write.insert(key.clone(), version);
        }
        self.writes += keys.len();
        self.commits.push_back(Committed { version, at: now, keys });
        while let Some(oldest) = self.commits.pop_front_if(|oldest| {
            self.writes > self.bounds.writes || now.saturating_duration_since(oldest.at) > self.bounds.age
        }) {
            self.forget(oldest);
        }
    }

    fn forget(&mut self, commit: Committed) {
        self.writes -= commit.keys.len();
        self.forgotten = commit.version;
        for key in commit.keys {
            if self.last_write.get(&key) == Some(&commit.version) {
                self.last_write.remove(&key);
            }
        }
    }
}
