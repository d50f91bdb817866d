//! The notes of changes go after an hour, and with them the states of records that they hold.
//!
//! A note counts by the time of the call that made it. What goes is said by a row of its own, the last commit whose notes
//! are gone: whoever follows notes looks there first, so that nobody takes silence for "nothing happened". Which tables
//! have notes is heard from the engine; what was there before this start is found by one walk over the store, in
//! steps that skip from table to table. Notes are never changed and removed by nobody else, so that no step reads what it writes.

use crate::{
    engine::{CommitError, CommitVersion, Engine, KeyRange, NUMBER_BYTES, Order, after_prefix, key_after},
    key::{KeyPart, SYSTEM_MODULE, TableSpace, of_space, parse},
    note::Note,
    open::Open,
    refused::StoreError,
    store::Store,
    table::Table,
};
use bytes::Bytes;
use std::collections::BTreeMap;
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
/// Notes of one read. Each may hold a record.
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
    /// By a table's change prefix: the Unix second at which its first note goes.
    due: BTreeMap<Bytes, i64>,
    /// Where the walk goes on; none once it is done.
    walk: Option<Bytes>,
}

impl Default for Unpruned {
    fn default() -> Self {
        Self { due: BTreeMap::new(), walk: Some(Bytes::new()) }
    }
}

impl Store {
    /// Removes notes that are old enough, a bounded number of them. To be called again at once as long as there is more, and
    /// every few seconds otherwise; calls that overlap wait for each other.
    pub async fn prune_changes(&self, now: Now) -> Result<Pruned, StoreError> {
        let mut unpruned = self.unpruned().lock().await;
        for prefix in self.engine().written() {
            unpruned.due.entry(prefix).or_insert(i64::MIN);
        }
        self.walk(&mut unpruned).await?;
        let mut pruned = Pruned { notes: 0, more: unpruned.walk.is_some() };
        let due = unpruned.due.iter().filter(|(_, due)| **due <= now.unix_s).map(|(prefix, _)| prefix.clone());
        let due: Vec<Bytes> = due.take(TABLES).collect();
        pruned.more |= due.len() == TABLES;
        for prefix in due {
            let (notes, next) = self.prune_table(&prefix, now).await?;
            pruned.notes += notes;
            pruned.more |= next.is_some_and(|next| next <= now.unix_s);
            match next {
                Some(next) => unpruned.due.insert(prefix, next),
                None => unpruned.due.remove(&prefix),
            };
        }
        Ok(pruned)
    }

    /// Removes the old notes of one table. Gives how many, and when the next goes; none if there is none.
    async fn prune_table(&self, prefix: &Bytes, now: Now) -> Result<(u64, Option<i64>), StoreError> {
        let mut open = self.begin(now).await?;
        let mut rest = KeyRange::prefix(prefix);
        let (mut old, mut bytes, mut next) = (Vec::new(), 0, None);
        while next.is_none() && old.len() < NOTES && bytes < NOTES_BYTES {
            // The first read is short: mostly nothing is due yet.
            let limit = if old.is_empty() { 1 } else { BATCH };
            let rows = open.rows_in(rest.clone(), Order::Asc, limit).await?;
            let is_end = rows.len() < limit;
            for (key, note) in rows {
                let due = due(&note);
                if due > now.unix_s {
                    next = Some(due);
                    break;
                }
                bytes += key.len() + note.len();
                rest.start = key_after(&key);
                old.push(key);
            }
            if is_end {
                break;
            }
        }
        let is_rest = next.is_none() && (old.len() >= NOTES || bytes >= NOTES_BYTES);
        drop(open);
        let version = old.last().and_then(|key| match parse(key)?.part {
            KeyPart::Change { version } => Some((parse(key)?.at, version)),
            _ => None,
        });
        let Some((at, version)) = version else { return Ok((0, next)) };
        let count = u64::try_from(old.len()).unwrap_or(u64::MAX);
        let mut open = self.begin(now).await?;
        old.into_iter().for_each(|key| open.remove(key));
        open.put(at.pruned(), Bytes::copy_from_slice(&version.to_be_bytes()), None);
        match open.commit().await {
            // Whether it was or not: what is there still will go another time.
            Ok(_) | Err(CommitError::Conflict) => {}
            Err(error) => return Err(error.into()),
        }
        Ok((count, if is_rest { Some(i64::MIN) } else { next }))
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
                            unpruned.due.insert(changes.clone(), i64::MIN);
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

/// The Unix second at which a note goes; one that cannot be read goes at once.
fn due(note: &Bytes) -> i64 {
    let unix_s = Note::from_bytes(note).map_or(0, |note| note.unix_s);
    unix_s.saturating_add(KEPT_S + SLACK_S)
}
