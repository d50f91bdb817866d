//! The notes of changes go after an hour, and with them the states of records that they hold.
//!
//! A note counts by the time of the call that made it. What goes is said by a row of its own, the last commit whose notes
//! are gone: whoever follows notes looks there first, so that nobody takes silence for "nothing happened". Which tables
//! have notes is heard from the engine; what was there before this start is found by one walk over the store, in
//! steps that skip from table to table. Notes are never changed and removed by nobody else, so that no step reads what it writes.
//!
//! Tables take turns, so that a busy one keeps none of the others waiting. A note of a clock that was ahead says nothing of its
//! age: it goes with the first note behind it that does, or an hour after it was found.

use crate::{
    engine::{CommitError, CommitVersion, Engine, KeyRange, NUMBER_BYTES, Order, RangeRead, after_prefix, key_after},
    key::{KeyPart, SYSTEM_MODULE, TableSpace, of_space, parse},
    note::Note,
    open::Open,
    refused::StoreError,
    store::Store,
    table::Table,
};
use bytes::Bytes;
use std::{collections::BTreeMap, ops::Bound};
use sys_contract::id::OrgTag;
use sys_policy::Now;

/// For how long it can be told what somebody was shown, in seconds.
pub(crate) const KEPT_S: i64 = 3_600;
/// How much longer notes stay: a call's time is that of its beginning, and it may commit this much later.
const SLACK_S: i64 = 120;
/// Steps of the walk that finds tables with notes in one call.
const WALK: usize = 64;
/// Tables that are looked at in one call.
const TABLES: usize = 32;
/// Notes that go in one commit, and bytes of them that are read for it.
const NOTES: usize = 2_048;
const NOTES_BYTES: usize = 4 << 20;
/// Notes of one read. Each may hold a record; if those are long it ends before.
const BATCH: usize = 64;

/// What a call did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Notes that went.
    pub notes: u64,
    /// There is more to do at once.
    pub more: bool,
}

/// Where notes are, and from when on they are to go. One entry for each table of a tablespace that was written to in the last
/// hour.
#[derive(Debug)]
pub(crate) struct Unpruned {
    /// By a table's change prefix.
    tables: BTreeMap<Bytes, Waiting>,
    /// The table that was looked at last: those behind it are next.
    last: Bytes,
    /// Where the walk goes on; none once it is done.
    walk: Option<Bytes>,
}

/// The notes of a table that may not go yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Waiting {
    /// The Unix second at which the first of them goes; none if it is to be looked at once.
    due: Option<i64>,
    /// Those of a clock that was ahead.
    ahead: Option<Ahead>,
}

/// Notes of a time that has not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ahead {
    /// They are among those up to this commit, the last when they were found.
    up_to: CommitVersion,
    /// The Unix second at which they go.
    due: i64,
}

impl Waiting {
    /// Also where the clock has been set back so far that it would be waited for longer than notes are kept.
    fn is_due(&self, now: Now) -> bool {
        self.due.is_none_or(|due| due <= now.unix_s || due.saturating_sub(now.unix_s) > KEPT_S + SLACK_S)
    }
}

/// The notes of a table that go now, and what waits then; none if nothing does.
#[derive(Debug)]
struct Old {
    keys: Vec<Bytes>,
    waiting: Option<Waiting>,
}

impl Default for Unpruned {
    fn default() -> Self {
        Self { tables: BTreeMap::new(), last: Bytes::new(), walk: Some(Bytes::new()) }
    }
}

impl Unpruned {
    /// Tables of which notes are due, from the one behind that which was looked at last.
    fn next(&self, now: Now) -> Vec<Bytes> {
        let behind = self.tables.range::<Bytes, _>((Bound::Excluded(&self.last), Bound::Unbounded));
        let before = self.tables.range::<Bytes, _>(..=&self.last);
        let due = behind.chain(before).filter(|(_, waiting)| waiting.is_due(now));
        due.map(|(prefix, _)| prefix.clone()).take(TABLES).collect()
    }
}

impl Store {
    /// Removes notes that are old enough, a bounded number of them. To be called again at once as long as there is more, and
    /// every few seconds otherwise; calls that overlap wait for each other.
    pub async fn prune_changes(&self, now: Now) -> Result<Pruned, StoreError> {
        let mut unpruned = self.unpruned().lock().await;
        for prefix in self.engine().written() {
            unpruned.tables.entry(prefix).or_default();
        }
        self.walk(&mut unpruned).await?;
        let mut pruned = Pruned { notes: 0, more: unpruned.walk.is_some() };
        let due = unpruned.next(now);
        pruned.more |= due.len() == TABLES;
        for prefix in due {
            let ahead = unpruned.tables.get(&prefix).and_then(|waiting| waiting.ahead);
            let old = self.old_notes(&prefix, ahead, now).await?;
            pruned.notes += self.remove(old.keys, now).await?;
            pruned.more |= old.waiting.is_some_and(|waiting| waiting.is_due(now));
            match old.waiting {
                Some(waiting) => unpruned.tables.insert(prefix.clone(), waiting),
                None => unpruned.tables.remove(&prefix),
            };
            unpruned.last = prefix;
        }
        Ok(pruned)
    }

    /// The old notes of one table: from the first up to the last whose time says that it is old. Those before it are older,
    /// whatever they say.
    async fn old_notes(&self, prefix: &Bytes, ahead: Option<Ahead>, now: Now) -> Result<Old, StoreError> {
        let mut open = self.begin(now).await?;
        let mut rest = KeyRange::prefix(prefix);
        let (mut keys, mut old, mut bytes) = (Vec::new(), 0, 0);
        // Whether the last of them are of a time that has not come.
        let mut is_ahead = false;
        let wait = wait_for(open.snapshot_version(), ahead, now);
        while keys.len() < NOTES && bytes < NOTES_BYTES {
            // The first read is short: mostly nothing is due yet.
            let limit = if keys.is_empty() { 1 } else { BATCH };
            let RangeRead { rows, is_end } = open.page_in(rest.clone(), Order::Asc, limit).await?;
            for (key, note) in rows {
                let (made, version) = (made_unix_s(&note), version_of(&key));
                let was_ahead = ahead.is_some_and(|ahead| version <= ahead.up_to && ahead.due <= now.unix_s);
                let due = made.saturating_add(KEPT_S + SLACK_S);
                bytes += key.len() + note.len();
                rest.start = key_after(&key);
                keys.push(key);
                if due <= now.unix_s || was_ahead {
                    (old, is_ahead) = (keys.len(), false);
                } else if made > now.unix_s {
                    is_ahead = true;
                } else {
                    keys.truncate(old);
                    return Ok(Old { keys, waiting: Some(Waiting { due: Some(due), ahead }) });
                }
            }
            if is_end {
                keys.truncate(old);
                return Ok(Old { keys, waiting: is_ahead.then_some(wait) });
            }
        }
        keys.truncate(old);
        // None is old: so many are of a time that has not come that nothing behind them was reached.
        let waiting = if keys.is_empty() { wait } else { Waiting { due: None, ahead } };
        Ok(Old { keys, waiting: Some(waiting) })
    }

    /// Removes these notes of one table, and says so in its row. Gives how many.
    async fn remove(&self, keys: Vec<Bytes>, now: Now) -> Result<u64, StoreError> {
        let last = keys.last().and_then(|key| parse(key));
        let Some((at, version)) = last.map(|last| (last.at, last.part)).and_then(|(at, part)| match part {
            KeyPart::Change { version } => Some((at, version)),
            _ => None,
        }) else {
            return Ok(0);
        };
        let pruned = at.pruned();
        let count = u64::try_from(keys.len()).unwrap_or(u64::MAX);
        let mut open = self.begin(now).await?;
        keys.into_iter().for_each(|key| open.remove(key));
        open.put(pruned, Bytes::copy_from_slice(&version.to_be_bytes()), None);
        match open.commit().await {
            // Whether it was or not: what is there still will go another time.
            Ok(_) | Err(CommitError::Conflict) => Ok(count),
            Err(error) => Err(error.into()),
        }
    }

    /// Looks for tables with notes that were left before this start.
    async fn walk(&self, unpruned: &mut Unpruned) -> Result<(), StoreError> {
        let Some(mut from) = unpruned.walk.take() else { return Ok(()) };
        let mut open = self.begin(Now { unix_s: 0, nanos: 0 }).await?;
        for _ in 0..WALK {
            let keys = KeyRange { start: from, end: KeyRange::all().end };
            let Some((key, _)) = open.rows_in(keys, Order::Asc, 1).await?.pop() else { return Ok(()) };
            from = match parse(&key) {
                Some(parsed) if parsed.at.space.module == SYSTEM_MODULE => after_prefix(&of_space(parsed.at.space)),
                Some(parsed) => {
                    let changes = parsed.at.changes();
                    match parsed.part {
                        KeyPart::Change { .. } => {
                            unpruned.tables.insert(changes.clone(), Waiting::default());
                            after_prefix(&changes)
                        }
                        _ if key < changes => changes,
                        _ => after_prefix(&parsed.at.table()),
                    }
                }
                None => key_after(&key),
            };
        }
        unpruned.walk = Some(from);
        Ok(())
    }
}

impl Open {
    /// The commit of which, and of all before, the notes of a table may be gone: 0 if none ever went.
    pub(crate) async fn noted_from(&mut self, table: &Table, org: OrgTag) -> Result<CommitVersion, StoreError> {
        self.pruned_up_to(table.at(org)).await
    }

    pub(crate) async fn pruned_up_to(&mut self, at: TableSpace) -> Result<CommitVersion, StoreError> {
        let row = self.value(&at.pruned()).await?;
        let version = row.and_then(|row| row.first_chunk::<NUMBER_BYTES>().map(|bytes| u64::from_be_bytes(*bytes)));
        Ok(CommitVersion(version.unwrap_or_default()))
    }
}

/// When a note was made, in Unix seconds by its own word; one that cannot be read was made long ago.
fn made_unix_s(note: &Bytes) -> i64 {
    Note::from_bytes(note).map_or(0, |note| note.unix_s)
}

/// The commit that left a note.
fn version_of(key: &[u8]) -> CommitVersion {
    match parse(key).map(|parsed| parsed.part) {
        Some(KeyPart::Change { version }) => CommitVersion(version),
        _ => CommitVersion::default(),
    }
}

/// There are notes of a time that has not come, up to this commit: they go an hour after the first of them was found.
fn wait_for(up_to: CommitVersion, before: Option<Ahead>, now: Now) -> Waiting {
    let due = now.unix_s.saturating_add(KEPT_S + SLACK_S);
    let ahead = match before.filter(|before| before.due > now.unix_s) {
        Some(before) => Ahead { due: before.due.min(due), ..before },
        None => Ahead { up_to, due },
    };
    Waiting { due: Some(ahead.due), ahead: Some(ahead) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_that_are_always_due_keep_none_of_the_others_waiting() {
        let table = |number: u8| Bytes::copy_from_slice(&[number]);
        let tables = u8::try_from(3 * TABLES).unwrap();
        let of_each = (0..tables).map(|number| (table(number), Waiting::default())).collect();
        let mut unpruned = Unpruned { tables: of_each, ..Unpruned::default() };
        let now = Now { unix_s: 10_000, nanos: 0 };
        let later = Waiting { due: Some(now.unix_s + 1), ahead: None };
        unpruned.tables.insert(table(7), later);
        let mut seen = Vec::new();
        for _ in 0..3 {
            let next = unpruned.next(now);
            assert_eq!(next.len(), TABLES);
            unpruned.last = next.last().unwrap().clone();
            seen.extend(next);
        }
        // Each of them once, but for the one of which nothing is due, and then from the beginning.
        let mut expected: Vec<_> = (0..tables).filter(|number| *number != 7).map(table).collect();
        expected.push(table(0));
        assert_eq!(seen, expected);
    }
}
