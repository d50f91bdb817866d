//! The notes of changes held against the records: each record's last write is noted, and what was noted last is there.

use super::{Fault, known::KnownTable, scan::Ground};
use crate::{
    engine::{KeyRange, NUMBER_BYTES, Order, RangeRead, key_after},
    header::Header,
    key::{KeyPart, TableSpace, join, parse, record_id, uuid_of},
    note::{ChangeOp, Note},
    refused::StoreError,
};
use bytes::Bytes;
use std::collections::BTreeSet;
use uuid::Uuid;

/// Rows of one read.
const BATCH: usize = 512;
/// Records that are remembered as written and then deleted, between the two notes: some 200 MB.
const MAX_GONE: usize = 4 << 20;

/// The account of one table's changes.
#[derive(Debug)]
pub(super) struct Changes {
    at: TableSpace,
    /// The version of the oldest note that can be there: what was written before is not noted any more.
    horizon: u64,
    /// Records written at or after the horizon.
    records: u64,
    /// Of these, whose last write is noted.
    noted: u64,
    /// Noted as written, not there, and not yet noted as deleted.
    gone: BTreeSet<Uuid>,
    outdated: BTreeSet<Uuid>,
}

impl Changes {
    pub(super) async fn begin(ground: &mut Ground, at: TableSpace) -> Result<Self, StoreError> {
        let first = ground.open.rows_in(KeyRange::prefix(&at.changes()), Order::Asc, 1).await?.pop();
        let horizon = first.and_then(|(key, _)| match parse(&key)?.part {
            KeyPart::Change { version } => Some(version),
            _ => None,
        });
        let pruned = ground.open.pruned_up_to(at).await?.0;
        let after_pruned = if pruned > 0 { pruned.saturating_add(1) } else { 0 };
        let horizon = horizon.unwrap_or_default().max(after_pruned);
        let gone = BTreeSet::new();
        Ok(Self { at, horizon, records: 0, noted: 0, gone, outdated: BTreeSet::new() })
    }

    /// Counts a record.
    pub(super) fn record(&mut self, sealed: &[u8]) {
        if version_of(sealed).is_some_and(|version| version >= self.horizon) {
            self.records += 1;
        }
    }

    /// Judges a note.
    pub(super) async fn change(
        &mut self,
        ground: &mut Ground,
        known: &KnownTable,
        (version, has_keys): (u64, bool),
        value: &Bytes,
    ) -> Result<(), StoreError> {
        let Some(Note { uuid, op, before, .. }) = Note::from_bytes(value) else {
            ground.add(Fault::ChangeMalformed, || format!("{} at version {version}", known.name()));
            return Ok(());
        };
        if let Some(before) = before.filter(|_| has_keys) {
            let id = record_id(self.at.space, uuid);
            match ground.open.open_record(&known.table, id, before) {
                Ok(_) => {}
                Err(StoreError::Sealed { .. } | StoreError::Scope { .. }) => {
                    ground.add(Fault::ChangeMalformed, || format!("{} at version {version}", known.name()));
                }
                Err(error) => return Err(error),
            }
        }
        let stored = ground.open.value(&self.at.record(uuid)).await?;
        match (op, stored.map(|sealed| version_of(&sealed))) {
            (ChangeOp::Put, Some(Some(stored))) if stored == version => self.noted += 1,
            (ChangeOp::Put, Some(Some(stored))) if stored < version => {
                self.outdated.insert(uuid);
            }
            (ChangeOp::Delete, Some(Some(stored))) if stored <= version => {
                self.outdated.insert(uuid);
            }
            (ChangeOp::Put, None) if self.gone.len() < MAX_GONE => {
                self.gone.insert(uuid);
            }
            (ChangeOp::Put, None) => {
                ground.add(Fault::ChangesUnjudged, || format!("{} at version {version}", known.name()));
            }
            (ChangeOp::Delete, None) => {
                self.gone.remove(&uuid);
            }
            // Written again later; what cannot be read is reported with the records.
            (ChangeOp::Put | ChangeOp::Delete, Some(_)) => {}
        }
        Ok(())
    }

    /// Judges the row that says which notes are gone.
    pub(super) fn pruned(&self, ground: &mut Ground, known: &KnownTable, value: &[u8]) {
        if value.len() != NUMBER_BYTES {
            ground.add(Fault::ChangeMalformed, || format!("{}: what is gone", known.name()));
        }
    }

    pub(super) async fn end(self, ground: &mut Ground, known: &KnownTable) -> Result<(), StoreError> {
        let name = |uuid| format!("{} {}", known.name(), known.table.id_text(record_id(self.at.space, uuid)));
        for (fault, uuids) in [(Fault::RecordLost, &self.gone), (Fault::RecordOutdated, &self.outdated)] {
            uuids.iter().for_each(|uuid| ground.add(fault, || name(*uuid)));
        }
        if self.noted == self.records {
            return Ok(());
        }
        let mut rest = KeyRange::prefix(&self.at.records());
        loop {
            let RangeRead { rows, is_end } = ground.open.page_in(rest.clone(), Order::Asc, BATCH).await?;
            let last = rows.last().map(|(key, _)| key_after(key)).filter(|_| !is_end);
            for (key, sealed) in rows {
                let (Some(uuid), Some(version)) = (uuid_of(&key), version_of(&sealed)) else { continue };
                if version >= self.horizon && !self.is_noted(ground, version, uuid).await? {
                    ground.add(Fault::ChangeMissing, || name(uuid));
                }
            }
            ground.settle().await?;
            match last {
                Some(next) => rest.start = next,
                None => return Ok(()),
            }
        }
    }

    async fn is_noted(&self, ground: &mut Ground, version: u64, uuid: Uuid) -> Result<bool, StoreError> {
        let mut rest = KeyRange::prefix(&join(self.at.changes(), &version.to_be_bytes()));
        loop {
            let RangeRead { rows, is_end } = ground.open.page_in(rest.clone(), Order::Asc, BATCH).await?;
            let notes = rows.iter().filter_map(|(_, value)| Note::from_bytes(value));
            if notes.into_iter().any(|note| note.uuid == uuid && note.op == ChangeOp::Put) {
                return Ok(true);
            }
            match rows.last().filter(|_| !is_end) {
                Some((last, _)) => rest.start = key_after(last),
                None => return Ok(false),
            }
        }
    }
}

/// The version in a sealed value's header.
fn version_of(sealed: &[u8]) -> Option<u64> {
    Header::split(sealed).ok().map(|(header, _)| header.version.0)
}
