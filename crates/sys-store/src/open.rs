//! One open transaction: what it reads is one snapshot with its own writes on top, what it writes waits for the commit.
//!
//! This is the only way to the engine. Plain keys and values are reached from inside this crate alone; from outside, records
//! are reached through [`Confined`] (the rules decide) or [`Unruled`] (the caller of it decides), and rows of the server
//! itself through [`crate::system`]. Dropping an [`Open`] is its rollback.

use crate::{
    confined::Confined,
    engine::{
        AnyTxn, CommitError, CommitVersion, EngineError, KeyRange, MAX_RANGE_ROWS, Order, RangeRead, Txn, Write,
        key_after,
    },
    note::{ChangeOp, Note},
    refused::StoreError,
    store::Store,
    table::Table,
    unruled::Unruled,
};
use bytes::Bytes;
use std::{
    collections::BTreeMap,
    fmt,
    ops::Bound,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use sys_contract::id::RecordId;
use sys_keys::{SpaceId, SpaceKeys};
use sys_policy::{Caller, Now};

/// Tells the transactions of this process apart, so that a permit of one is not used in another.
static NEXT_OPEN: AtomicU64 = AtomicU64::new(1);

/// Records that a list opens before others get their turn on the thread: less than a millisecond.
const CANDIDATES_AT_ONCE: usize = 64;

/// One open transaction.
pub struct Open {
    pub(crate) store: Store,
    pub(crate) now: Now,
    number: u64,
    txn: AnyTxn,
    writes: BTreeMap<Bytes, Pending>,
    appends: Vec<(Bytes, Bytes)>,
    /// For each record written, what was done last and what stood there before all of it, by its table's change prefix and
    /// its id.
    changes: BTreeMap<(Bytes, RecordId), (ChangeOp, Option<Bytes>)>,
    /// Asked of the key ring once, so that a transaction sees one set of generations.
    spaces: BTreeMap<SpaceId, Option<Arc<SpaceKeys>>>,
    /// Modules whose row of the catalog has been found to be the one they were loaded under.
    current: Vec<u16>,
    /// Candidates of lists that were opened.
    candidates: usize,
}

/// A write that waits for the commit. `None` is a removal.
#[derive(Debug, Clone)]
struct Pending {
    value: Option<Bytes>,
    stamp: Option<usize>,
}

impl Open {
    pub(crate) fn new(store: Store, txn: AnyTxn, now: Now) -> Self {
        Self {
            store,
            now,
            number: NEXT_OPEN.fetch_add(1, Ordering::Relaxed),
            txn,
            writes: BTreeMap::new(),
            appends: Vec::new(),
            changes: BTreeMap::new(),
            spaces: BTreeMap::new(),
            current: Vec::new(),
            candidates: 0,
        }
    }

    /// The records of a table as a caller may see and change them.
    pub fn confined<'a>(&'a mut self, table: &'a Arc<Table>, caller: &'a Caller) -> Confined<'a> {
        Confined::new(self, table, caller)
    }

    /// The records of a table without rules, for those who decide themselves: the server's own records, a method's
    /// `elevate`. What comes out of it must not reach a caller unjudged.
    pub fn danger_unruled<'a>(&'a mut self, table: &'a Arc<Table>) -> Unruled<'a> {
        Unruled::new(self, table)
    }

    /// The time of the call.
    pub fn now(&self) -> &Now {
        &self.now
    }

    /// The version of the last commit that this transaction sees.
    pub fn snapshot_version(&self) -> CommitVersion {
        self.txn.snapshot_version()
    }

    /// Whether anything waits for the commit.
    pub fn has_writes(&self) -> bool {
        !self.writes.is_empty() || !self.appends.is_empty()
    }

    /// The records that wait to be written or deleted, each once.
    pub fn changed_records(&self) -> impl Iterator<Item = RecordId> {
        self.changes.keys().map(|(_, id)| *id)
    }

    /// Commits. On [`CommitError::Conflict`] nothing was written, and the whole call may run again.
    pub async fn commit(self) -> Result<CommitVersion, CommitError> {
        let (txn, writes) = self.into_writes();
        txn.commit(writes).await
    }

    /// Commits as whoever has the store to himself: see [`Txn::commit_alone`].
    pub(crate) async fn commit_alone(self) -> Result<CommitVersion, CommitError> {
        let (txn, writes) = self.into_writes();
        txn.commit_alone(writes).await
    }

    /// The writes in the order of their keys.
    fn into_writes(self) -> (AnyTxn, Vec<Write>) {
        let mut writes: Vec<Write> = Vec::with_capacity(self.writes.len() + self.appends.len() + self.changes.len());
        for (key, Pending { value, stamp }) in self.writes {
            writes.push(match value {
                Some(value) => Write::Put { key, value, stamp },
                None => Write::Delete { key },
            });
        }
        writes.extend(self.appends.into_iter().map(|(log, value)| Write::Append { log, value }));
        for (number, ((prefix, id), (op, before))) in (0_u32..).zip(self.changes) {
            let note = Note { uuid: id.uuid, op, unix_s: self.now.unix_s, before };
            let suffix = Bytes::copy_from_slice(&number.to_be_bytes());
            writes.push(Write::Change { prefix, suffix, value: note.to_bytes() });
        }
        (self.txn, writes)
    }

    /// How many rows it writes at the commit.
    pub(crate) fn write_count(&self) -> usize {
        self.writes.len() + self.appends.len() + self.changes.len()
    }

    /// Tells this transaction apart from others of the process.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// The value of a key, as this transaction left it.
    pub(crate) async fn value(&mut self, key: &Bytes) -> Result<Option<Bytes>, EngineError> {
        match self.writes.get(key) {
            Some(pending) => Ok(pending.value.clone()),
            None => self.txn.get(key).await,
        }
    }

    /// Whether this transaction has not written a key since it read this value there. Nobody else's writes are seen in it.
    pub(crate) fn is_unwritten_since(&self, key: &Bytes, value: &Bytes) -> bool {
        self.writes.get(key).is_none_or(|pending| pending.value.as_ref() == Some(value))
    }

    /// The first `limit` rows of a range (at most [`MAX_RANGE_ROWS`]), as this transaction left them, however many bytes they have. Where
    /// rows may be large and many, and the caller reads on, [`Open::page_in`] is the one.
    pub(crate) async fn rows_in(
        &mut self,
        keys: KeyRange,
        order: Order,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, EngineError> {
        let limit = limit.min(MAX_RANGE_ROWS);
        let mut rest = keys;
        let mut rows = Vec::new();
        // Rows which this transaction removed do not shorten the answer.
        while rows.len() < limit && !rest.is_empty() {
            self.read_on(&mut rest, order, limit - rows.len(), &mut rows).await?;
        }
        rows.truncate(limit);
        Ok(rows)
    }

    /// The first rows of a range, as this transaction left them: one read of the engine, so `limit` at most (and
    /// [`MAX_RANGE_ROWS`]), and fewer if they are large. None at all only at the range's end.
    pub(crate) async fn page_in(
        &mut self,
        keys: KeyRange,
        order: Order,
        limit: usize,
    ) -> Result<RangeRead, EngineError> {
        let limit = limit.clamp(1, MAX_RANGE_ROWS);
        let mut rest = keys;
        let mut rows = Vec::new();
        while rows.is_empty() && !rest.is_empty() {
            self.read_on(&mut rest, order, limit, &mut rows).await?;
        }
        // With rows of this transaction there may be more than were asked for.
        let is_end = rest.is_empty() && rows.len() <= limit;
        rows.truncate(limit);
        Ok(RangeRead { rows, is_end })
    }

    /// Reads `limit` stored rows at most from the beginning of a range, and leaves of it what is unread.
    async fn read_on(
        &mut self,
        rest: &mut KeyRange,
        order: Order,
        limit: usize,
        rows: &mut Vec<(Bytes, Bytes)>,
    ) -> Result<(), EngineError> {
        let stored = self.txn.range(rest.clone(), order, limit).await?;
        let seen = match stored.rows.last().filter(|_| !stored.is_end) {
            Some((last, _)) => rest.split_off_behind(last, order),
            None => std::mem::replace(rest, KeyRange { start: Bytes::new(), end: Bytes::new() }),
        };
        self.overlay(stored.rows, &seen, order, rows);
        Ok(())
    }

    /// Appends stored rows of a range, with this transaction's own writes put over them.
    fn overlay(&self, stored: Vec<(Bytes, Bytes)>, range: &KeyRange, order: Order, rows: &mut Vec<(Bytes, Bytes)>) {
        let own = (Bound::Included(&range.start), Bound::Excluded(&range.end));
        if range.is_empty() || self.writes.range::<Bytes, _>(own).next().is_none() {
            rows.extend(stored);
            return;
        }
        let mut merged: BTreeMap<Bytes, Bytes> = stored.into_iter().collect();
        for (key, pending) in self.writes.range::<Bytes, _>(own) {
            match &pending.value {
                Some(value) => merged.insert(key.clone(), value.clone()),
                None => merged.remove(key),
            };
        }
        match order {
            Order::Asc => rows.extend(merged),
            Order::Desc => rows.extend(merged.into_iter().rev()),
        }
    }

    /// Sets a key at the commit; the commit version is written at `stamp`.
    pub(crate) fn put(&mut self, key: Bytes, value: Bytes, stamp: Option<usize>) {
        self.writes.insert(key, Pending { value: Some(value), stamp });
    }

    /// Removes a key at the commit.
    pub(crate) fn remove(&mut self, key: Bytes) {
        self.writes.insert(key, Pending { value: None, stamp: None });
    }

    /// Adds to a log at the commit.
    pub(crate) fn append_sealed(&mut self, log: Bytes, value: Bytes) {
        self.appends.push((log, value));
    }

    /// Leaves a note of a change of a record, of which these were the sealed bytes before it.
    pub(crate) fn changed(&mut self, table: &Table, id: RecordId, op: ChangeOp, before: Option<&Bytes>) {
        // Of several changes in one transaction the first has seen what was committed.
        let first = || (op, before.cloned());
        self.changes.entry((table.at(id.org).changes(), id)).or_insert_with(first).0 = op;
    }

    /// To be called for each record that a list opens. Reading never waits by itself, and a long walk that never waits would
    /// keep its thread from everybody, and its own deadline from being heard.
    pub(crate) async fn opened_candidate(&mut self) {
        self.candidates = self.candidates.wrapping_add(1);
        if self.candidates.is_multiple_of(CANDIDATES_AT_ONCE) {
            tokio::task::yield_now().await;
        }
    }

    /// The keys of a tablespace; none if nothing was ever written there.
    pub(crate) fn keys(&mut self, space: SpaceId) -> Result<Option<Arc<SpaceKeys>>, StoreError> {
        if let Some(keys) = self.spaces.get(&space) {
            return Ok(keys.clone());
        }
        let keys = self.store.keyring().space(space)?;
        self.spaces.insert(space, keys.clone());
        Ok(keys)
    }

    /// The keys of a tablespace that is written to. New ones are durable in the key file before this returns, so that nothing
    /// is ever sealed under a key that a crash takes away.
    pub(crate) async fn keys_or_create(&mut self, space: SpaceId) -> Result<Arc<SpaceKeys>, StoreError> {
        if let Some(keys) = self.keys(space)? {
            return Ok(keys);
        }
        self.check_unwritten(space).await?;
        let keyring = self.store.keyring().clone();
        let keys = match tokio::task::spawn_blocking(move || keyring.space_or_create(space)).await {
            Ok(keys) => keys?,
            // The task cannot be cancelled; a panic in it goes on here.
            Err(failed) => std::panic::resume_unwind(failed.into_panic()),
        };
        self.spaces.insert(space, Some(keys.clone()));
        Ok(keys)
    }

    /// Fails if a tablespace that has no keys has rows all the same, as with an older copy of the key file.
    pub(crate) async fn check_unwritten(&mut self, space: SpaceId) -> Result<(), StoreError> {
        match self.rows_in(KeyRange::prefix(&crate::key::of_space(space)), Order::Asc, 1).await?.is_empty() {
            true => Ok(()),
            false => Err(StoreError::KeysMissing { space }),
        }
    }

    /// Fails if the table's module was loaded anew since, and makes the answer part of what this transaction has read: a
    /// write under an old contract would leave out rows of new indexes, and a list would look into old ones.
    pub(crate) async fn check_current(&mut self, table: &Table) -> Result<(), StoreError> {
        if self.current.contains(&table.module_number) {
            return Ok(());
        }
        let row = self.value(&crate::load::module_key(&table.module)).await?;
        // Another load may have changed the row and left this table's part of it as it was.
        let stands = row.as_ref() == Some(&table.catalog_row)
            || self.module_row(&table.module).await?.is_some_and(|(_, row)| table.is_in(&row));
        if !stands {
            return Err(StoreError::Superseded { module: table.module.clone() });
        }
        self.current.push(table.module_number);
        Ok(())
    }
}

impl KeyRange {
    /// Cuts off, and returns, the part up to and with `key`, seen in `order`.
    fn split_off_behind(&mut self, key: &Bytes, order: Order) -> Self {
        match order {
            Order::Asc => {
                let behind = key_after(key);
                Self { start: std::mem::replace(&mut self.start, behind.clone()), end: behind }
            }
            Order::Desc => Self { start: key.clone(), end: std::mem::replace(&mut self.end, key.clone()) },
        }
    }
}

impl fmt::Debug for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Open").field("number", &self.number).field("writes", &self.writes.len()).finish_non_exhaustive()
    }
}
