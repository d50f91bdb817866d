//! The records of one table in one tablespace, with the rows by which they are found.

use super::{Fault, changes::Changes, known::KnownTable, scan::Ground};
use crate::{
    canonical::same_field,
    engine::{KeyRange, Order, RangeRead, key_after},
    key::{KeyPart, TableSpace, parse, record_id, uuid_of},
    records::Stored,
    refused::{SealedError, StoreError},
};
use bytes::Bytes;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use sys_contract::{id::RecordId, model::Index};

/// Rows that are held against their records in one snapshot.
const BATCH: usize = 512;

/// Rows that are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Index(u16),
    Ordered(u16),
    Scope(u8),
}

impl Part {
    /// The index that the rows are of.
    fn index(self) -> Option<u16> {
        match self {
            Self::Index(number) | Self::Ordered(number) => Some(number),
            Self::Scope(_) => None,
        }
    }
}

/// The walk through one table: its records come first, then their rows and changes.
#[derive(Debug)]
pub(super) struct TableWalk {
    known: Arc<KnownTable>,
    at: TableSpace,
    has_keys: bool,
    /// How many rows the records ask for that are there.
    expected: BTreeMap<Part, u64>,
    /// How many are there.
    counted: BTreeMap<Part, u64>,
    changes: Changes,
}

impl TableWalk {
    pub(super) async fn begin(
        ground: &mut Ground,
        known: Arc<KnownTable>,
        at: TableSpace,
        has_keys: bool,
    ) -> Result<Self, StoreError> {
        let changes = Changes::begin(ground, at).await?;
        Ok(Self { known, at, has_keys, expected: BTreeMap::new(), counted: BTreeMap::new(), changes })
    }

    pub(super) async fn row(
        &mut self,
        ground: &mut Ground,
        key: &Bytes,
        part: KeyPart<'_>,
        value: Bytes,
    ) -> Result<(), StoreError> {
        match part {
            KeyPart::Record(uuid) => match uuid_of(uuid).filter(|_| uuid.len() == 16) {
                Some(uuid) => {
                    ground.report.seen.records += 1;
                    self.changes.record(&value);
                    self.record(ground, record_id(self.at.space, uuid), value).await?;
                }
                None => ground.unknown(key),
            },
            KeyPart::Token { index } => self.count(ground, Part::Index(index)),
            KeyPart::Ordered { index } => self.count(ground, Part::Ordered(index)),
            KeyPart::Scope { kind } => self.count(ground, Part::Scope(kind)),
            KeyPart::Change { version } => {
                ground.report.seen.changes += 1;
                self.changes.change(ground, &self.known, (version, self.has_keys), &value).await?;
            }
            KeyPart::Pruned => self.changes.pruned(ground, &self.known, &value),
            KeyPart::Log { .. } => ground.unknown(key),
        }
        Ok(())
    }

    /// Looks for rows that should not be there, where there are more than the records ask for.
    pub(super) async fn end(mut self, ground: &mut Ground) -> Result<(), StoreError> {
        for (part, counted) in std::mem::take(&mut self.counted) {
            let is_judged = part.index().is_none_or(|index| !self.known.unjudged.contains(&index));
            // Without keys nothing can be said of a row.
            if is_judged && self.has_keys && counted != self.expected.get(&part).copied().unwrap_or_default() {
                self.strays(ground, part).await?;
            }
        }
        self.changes.end(ground, &self.known).await
    }

    fn count(&mut self, ground: &mut Ground, part: Part) {
        ground.report.seen.index_rows += 1;
        *self.counted.entry(part).or_default() += 1;
    }

    async fn record(&mut self, ground: &mut Ground, id: RecordId, sealed: Bytes) -> Result<(), StoreError> {
        if !self.has_keys {
            return Ok(());
        }
        let table = &self.known.table;
        let name = || format!("{} {}", self.known.name(), table.id_text(id));
        let stored = match self.open(ground, id, sealed)? {
            Ok(stored) => stored,
            Err((fault, cause)) => {
                ground.add(fault, || format!("{}: {cause}", name()));
                return Ok(());
            }
        };
        if stored.placement().home != id.org || !table.may_hold(id) {
            ground.add(Fault::RecordHome, name);
            return Ok(());
        }
        let rows = match ground.open.old_rows(table, &stored) {
            Ok(rows) => rows,
            Err(error) => {
                ground.add(Fault::RecordForged, || format!("{}: {error}", name()));
                return Ok(());
            }
        };
        for row in rows {
            let Some(part) = part_of(&row) else { continue };
            if ground.open.value(&row).await?.is_some_and(|value| value.is_empty()) {
                *self.expected.entry(part).or_default() += 1;
            } else if part.index().is_none_or(|index| !self.known.building.contains(&index)) {
                ground.missing(row, || format!("{}: {}", self.part_name(part), table.id_text(id)));
            }
        }
        self.unique(ground, &stored).await
    }

    /// Reports another record that shares a UNIQUE value, of two records once. What an index names wrongly is no such
    /// record, and what it does not name is found once it is repaired.
    async fn unique(&self, ground: &mut Ground, stored: &Stored) -> Result<(), StoreError> {
        let table = &self.known.table;
        for index in table.indexes.iter().filter(|index| matches!(index.kind, Index::Unique { .. })) {
            let (open, id) = (&mut ground.open, stored.id());
            let Some(keys) = open.keys(self.at.space)? else { return Ok(()) };
            let holder = open.other_holder(table, index, &keys, id, stored.message(), stored.placement()).await?;
            let Some(holder) = holder.filter(|holder| *holder < id) else { continue };
            let Some(sealed) = open.value(&self.at.record(holder.uuid)).await? else { continue };
            let Ok(other) = self.open(ground, holder, sealed)? else { continue };
            if same_field(stored.message(), other.message(), &index.field) {
                let place = || {
                    format!(
                        "{}: {} and {}",
                        self.known.index_name(index.number),
                        table.id_text(holder),
                        table.id_text(id)
                    )
                };
                ground.add(Fault::NotUnique, place);
            }
        }
        Ok(())
    }

    /// Holds each row of a part against its record. Rows of records that do not open cannot be judged, and stay.
    async fn strays(&self, ground: &mut Ground, part: Part) -> Result<(), StoreError> {
        let prefix = match part {
            Part::Index(number) => self.at.index(number),
            Part::Ordered(number) => self.at.ordered(number),
            Part::Scope(kind) => self.at.scopes(kind),
        };
        let is_known = |number| self.known.table.indexes.iter().any(|index| index.number == number);
        let has_rows = part.index().is_none_or(is_known);
        let mut rest = KeyRange::prefix(&prefix);
        loop {
            let RangeRead { rows, is_end } = ground.open.page_in(rest.clone(), Order::Asc, BATCH).await?;
            let last = rows.last().map(|(key, _)| key_after(key)).filter(|_| !is_end);
            for (row, _) in rows {
                let Some(uuid) = uuid_of(&row) else { continue };
                let id = record_id(self.at.space, uuid);
                if !has_rows || self.is_stray(ground, id, &row).await? {
                    ground.stray(row, || format!("{}: {}", self.part_name(part), self.known.table.id_text(id)));
                }
            }
            ground.settle().await?;
            match last {
                Some(next) => rest.start = next,
                None => return Ok(()),
            }
        }
    }

    async fn is_stray(&self, ground: &mut Ground, id: RecordId, row: &Bytes) -> Result<bool, StoreError> {
        let Some(sealed) = ground.open.value(&self.at.record(id.uuid)).await? else { return Ok(true) };
        let Ok(stored) = self.open(ground, id, sealed)? else { return Ok(false) };
        let rows = ground.open.old_rows(&self.known.table, &stored);
        Ok(rows.is_ok_and(|rows: BTreeSet<Bytes>| !rows.contains(row)))
    }

    /// Opens a record, or says what is wrong with it. Fails only if the store does.
    fn open(
        &self,
        ground: &mut Ground,
        id: RecordId,
        sealed: Bytes,
    ) -> Result<Result<Stored, (Fault, String)>, StoreError> {
        match ground.open.open_record(&self.known.table, id, sealed) {
            Ok(stored) => Ok(Ok(stored)),
            Err(StoreError::Sealed { cause: cause @ SealedError::Generation(_), .. }) => {
                Ok(Err((Fault::RecordGeneration, cause.to_string())))
            }
            Err(StoreError::Sealed { cause, .. }) => Ok(Err((Fault::RecordForged, cause.to_string()))),
            Err(StoreError::Scope { what, .. }) => Ok(Err((Fault::RecordScope, what))),
            Err(error) => Err(error),
        }
    }

    fn part_name(&self, part: Part) -> String {
        match part {
            Part::Index(number) | Part::Ordered(number) => self.known.index_name(number),
            Part::Scope(1) => format!("{} by org", self.known.name()),
            Part::Scope(2) => format!("{} by project", self.known.name()),
            Part::Scope(3) => format!("{} by owner", self.known.name()),
            Part::Scope(kind) => format!("{} by scope {kind}", self.known.name()),
        }
    }
}

/// With which rows a row is counted.
fn part_of(row: &[u8]) -> Option<Part> {
    match parse(row)?.part {
        KeyPart::Token { index } => Some(Part::Index(index)),
        KeyPart::Ordered { index } => Some(Part::Ordered(index)),
        KeyPart::Scope { kind } => Some(Part::Scope(kind)),
        KeyPart::Record(_) | KeyPart::Change { .. } | KeyPart::Pruned | KeyPart::Log { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        bed::Bed,
        check::{CheckOptions, Fault},
        header::VERSION_OFFSET,
        sealed,
    };
    use prost::Message;
    use prost_reflect::Value;
    use sys_contract::id::{OrgId, OrgTag, RecordId};

    /// What no write of this crate makes, for it looks: a record sealed for one place that says it belongs into another.
    #[tokio::test]
    async fn records_that_belong_elsewhere_or_nowhere_are_found() {
        let bed = Bed::new().await;
        let other = OrgId::from_record(RecordId::new(OrgTag::GLOBAL, 1, [9; 10]));
        for (org, fault) in [(other.to_string(), Fault::RecordHome), ("nonsense".to_owned(), Fault::RecordScope)] {
            let id = bed.note(true).await;
            let mut open = bed.begin().await;
            let (table, at) = (&bed.notes, bed.notes.at(id.org));
            let mut note = bed.message(true);
            note.set_field_by_name("org_id", Value::String(org));
            let (key, keys) = (at.record(id.uuid), open.keys(at.space).unwrap().unwrap());
            let entropy = bed.store.entropy().clone();
            let sealed = sealed::seal(&keys, &table.place(id.org, &key), note.encode_to_vec(), entropy.as_ref());
            open.put(key, sealed, Some(VERSION_OFFSET));
            open.changed(table, id, crate::note::ChangeOp::Put, None);
            open.commit().await.unwrap();
            let report = bed.store.check(CheckOptions::default(), &mut |_| {}).await.unwrap();
            assert_eq!(report.count(fault), 1, "{report:?}");
            assert!(report.found[&fault].first[0].contains(&table.id_text(id)), "{report:?}");
        }
    }
}
