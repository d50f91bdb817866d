//! Records read and written with all that belongs to them: seal, index rows, scope rows, change row, uniqueness.
//!
//! No rule is asked here; that is done in [`crate::confined`], or on purpose not in [`crate::unruled`]. Whatever writes a
//! record goes through [`Open::put_record`], so that no row is ever forgotten.

use crate::{
    body::Body,
    candidates::Ground,
    cursor::{beginning, behind},
    engine::{CommitVersion, Order},
    header::VERSION_OFFSET,
    key::record_id,
    note::ChangeOp,
    open::Open,
    refused::{Refused, SealedError, StoreError},
    rows::{NotIndexable, rows_in, rows_of},
    sealed,
    table::{Table, TableIndex},
};
use bytes::Bytes;
use prost::Message;
use prost_reflect::{DynamicMessage, ReflectMessage, Value};
use std::collections::BTreeSet;
use sys_contract::{
    id::RecordId,
    model::{Home, Index, Within},
};
use sys_keys::{Entropy, Generation, SpaceKeys};
use sys_policy::{Content, Placement, PlacementError, Span, TokenTest, TokenValue};

/// Longest record in bytes, before it is sealed. Well above the largest request, and far below what an engine takes, so that
/// a page of records stays small against memory. What is larger is a file.
pub const MAX_RECORD_BYTES: usize = 1 << 20;

/// A record as it is stored, and where it stands. Nobody's view of it: what a caller may see is cut out of this.
#[derive(Debug, Clone)]
pub struct Stored {
    id: RecordId,
    body: Body,
    placement: Placement,
    version: CommitVersion,
    generation: Generation,
    sealed: Bytes,
}

impl Stored {
    /// Its id.
    pub fn id(&self) -> RecordId {
        self.id
    }

    /// All its fields, unknown ones included; `id` is set, `etag` is not.
    pub fn message(&self) -> &DynamicMessage {
        self.body.message()
    }

    /// The message alone.
    pub fn into_message(self) -> DynamicMessage {
        self.body.into_message()
    }

    /// What rules are asked about.
    pub(crate) fn content(&self) -> Content<'_> {
        self.body.content()
    }

    pub(crate) fn into_body(self) -> Body {
        self.body
    }

    /// Its scope.
    pub fn placement(&self) -> &Placement {
        &self.placement
    }

    /// The commit that wrote it; 0 if that is the transaction in which it is read.
    pub fn version(&self) -> CommitVersion {
        self.version
    }

    /// Its bytes as they stand in the engine.
    pub(crate) fn sealed(&self) -> &Bytes {
        &self.sealed
    }
}

impl Open {
    /// The record with an id, if there is one.
    pub(crate) async fn record(&mut self, table: &Table, id: RecordId) -> Result<Option<Stored>, StoreError> {
        if !table.may_hold(id) {
            return Ok(None);
        }
        let key = table.at(id.org).record(id.uuid);
        match self.value(&key).await? {
            Some(sealed) => self.open_record_at(&key, table, id, sealed).map(Some),
            None => Ok(None),
        }
    }

    /// Opens the sealed bytes of a record.
    pub(crate) fn open_record(&mut self, table: &Table, id: RecordId, sealed: Bytes) -> Result<Stored, StoreError> {
        self.open_record_at(&table.at(id.org).record(id.uuid), table, id, sealed)
    }

    /// The same for who has the record's key at hand.
    fn open_record_at(&mut self, key: &[u8], table: &Table, id: RecordId, sealed: Bytes) -> Result<Stored, StoreError> {
        let failed = |cause| StoreError::Sealed { table: table.record.table.clone(), cause };
        let space = table.at(id.org).space;
        let keys = self.keys(space)?.ok_or_else(|| failed(SealedError::Generation(0)))?;
        let mut opened = sealed::open(&keys, &table.place(space.org, key), &sealed)?;
        let plaintext = std::mem::take(&mut *opened.plaintext);
        let mut body = Body::read(table, plaintext).map_err(|_| failed(SealedError::Message))?;
        body.set_text(&table.record.id, &table.id_text(id));
        let placement = placement_of(table, body.content())
            .map_err(|error| StoreError::Scope { table: table.record.table.clone(), what: error.to_string() })?;
        Ok(Stored { id, body, placement, version: opened.version, generation: opened.generation, sealed })
    }

    /// Writes a record with all its rows: a new one, or the next state of `old`.
    pub(crate) async fn put_record(
        &mut self,
        table: &Table,
        old: Option<&Stored>,
        id: RecordId,
        next: DynamicMessage,
    ) -> Result<Stored, Refused> {
        self.check_current(table).await?;
        let draft = Draft::of(table, id, next)?;
        let keys = self.keys_or_create(table.at(id.org).space).await?;
        let made = draft.made(table, &keys, self.store.entropy().as_ref())?;
        self.put_made(table, &keys, old, made).await
    }

    /// Writes what was made of a draft, unless another record holds a value that it alone may have.
    pub(crate) async fn put_made(
        &mut self,
        table: &Table,
        keys: &SpaceKeys,
        old: Option<&Stored>,
        Made { stored, rows }: Made,
    ) -> Result<Stored, Refused> {
        self.check_unique(table, keys, stored.id, stored.message(), &stored.placement).await?;
        let old_rows = match old {
            Some(old) => self.old_rows(table, old)?,
            None => BTreeSet::new(),
        };
        old_rows.difference(&rows).for_each(|row| self.remove(row.clone()));
        rows.difference(&old_rows).for_each(|row| self.put(row.clone(), Bytes::new(), None));
        self.put(table.at(stored.id.org).record(stored.id.uuid), stored.sealed.clone(), Some(VERSION_OFFSET));
        self.changed(table, stored.id, ChangeOp::Put, old.map(Stored::sealed));
        Ok(stored)
    }

    /// Removes a record with all its rows.
    pub(crate) async fn delete_record(&mut self, table: &Table, old: &Stored) -> Result<(), StoreError> {
        self.check_current(table).await?;
        for row in self.old_rows(table, old)? {
            self.remove(row);
        }
        self.remove(table.at(old.id.org).record(old.id.uuid));
        self.changed(table, old.id, ChangeOp::Delete, Some(&old.sealed));
        Ok(())
    }

    /// The rows that a stored record has: those that its content asks for, under the generation that it was sealed under.
    pub(crate) fn old_rows(&mut self, table: &Table, old: &Stored) -> Result<BTreeSet<Bytes>, StoreError> {
        let failed = |cause| StoreError::Sealed { table: table.record.table.clone(), cause };
        let keys = self.keys(table.at(old.id.org).space)?;
        let keys = keys.as_ref().and_then(|keys| keys.generation(old.generation));
        let keys = keys.ok_or_else(|| failed(SealedError::Generation(old.generation.0)))?;
        rows_of(table, keys, old.id, old.message(), &old.placement).map_err(|_| failed(SealedError::Message))
    }

    /// Refuses a record of which a UNIQUE field has a value that another one holds.
    async fn check_unique(
        &mut self,
        table: &Table,
        keys: &SpaceKeys,
        id: RecordId,
        next: &DynamicMessage,
        placement: &Placement,
    ) -> Result<(), Refused> {
        for index in &table.indexes {
            if self.is_taken(table, index, keys, id, next, placement).await? {
                return Err(Refused::Taken { field: index.field.name().to_owned() });
            }
        }
        Ok(())
    }

    /// Whether another record within the index's reach has the value, under any live generation. What is looked at becomes
    /// part of what the transaction has read, the absence of rows too: of two that take a value at once, one conflicts.
    pub(crate) async fn is_taken(
        &mut self,
        table: &Table,
        index: &TableIndex,
        keys: &SpaceKeys,
        id: RecordId,
        record: &DynamicMessage,
        placement: &Placement,
    ) -> Result<bool, StoreError> {
        Ok(self.other_holder(table, index, keys, id, record, placement).await?.is_some())
    }

    /// The first other record that a UNIQUE index names for a record's value.
    pub(crate) async fn other_holder(
        &mut self,
        table: &Table,
        index: &TableIndex,
        keys: &SpaceKeys,
        id: RecordId,
        record: &DynamicMessage,
        placement: &Placement,
    ) -> Result<Option<RecordId>, StoreError> {
        let Index::Unique { within } = index.kind else { return Ok(None) };
        let Some(span) = reach(table, within, placement) else { return Ok(None) };
        if !record.has_field(&index.field) {
            return Ok(None);
        }
        let at = table.at(id.org);
        let value = TokenValue::Exact(record.get_field(&index.field).into_owned());
        let test = TokenTest { field: index.field.number(), any_of: vec![value] };
        let order = Order::Asc;
        let mut holders = Ground { table, at, keys, order }.meeting(span, &[test]);
        let mut from = Some(beginning(order));
        while let Some(place) = from {
            match holders.seek(self, place).await? {
                Some(holder) if holder.uuid == id.uuid => from = behind(order, holder.uuid),
                holder => return Ok(holder.map(|holder| record_id(at.space, holder.uuid))),
            }
        }
        Ok(None)
    }

    /// Writes the rows of one index for a record that is stored already.
    pub(crate) fn put_index_rows(
        &mut self,
        table: &Table,
        index: &TableIndex,
        keys: &SpaceKeys,
        stored: &Stored,
    ) -> Result<(), NotIndexable> {
        let at = table.at(stored.id.org);
        let Some(keys) = keys.generation(stored.generation) else { return Ok(()) };
        for row in rows_in(at, index, keys, stored.id, stored.message())? {
            self.put(row, Bytes::new(), None);
        }
        Ok(())
    }
}

/// A record that may stand under its id: it is of the table's type, and placed where its id says. Nothing was read for it.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) id: RecordId,
    pub(crate) message: DynamicMessage,
    pub(crate) placement: Placement,
}

/// A draft sealed, with all rows that stand beside it.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) stored: Stored,
    rows: BTreeSet<Bytes>,
}

impl Draft {
    pub(crate) fn of(table: &Table, id: RecordId, mut message: DynamicMessage) -> Result<Self, Refused> {
        if message.descriptor() != table.record.message {
            let (table, got) = (table.record.table.clone(), message.descriptor().full_name().to_owned());
            return Err(StoreError::ForeignMessage { table, got }.into());
        }
        message.set_field(&table.record.id, Value::String(table.id_text(id)));
        if let Some(etag) = &table.record.etag {
            message.clear_field(etag);
        }
        let placement = placement_of(table, &message).map_err(invalid_placement)?;
        if placement.home != id.org || !table.may_hold(id) {
            let what = "the record would leave its tablespace".to_owned();
            return Err(StoreError::Scope { table: table.record.table.clone(), what }.into());
        }
        Ok(Self { id, message, placement })
    }

    /// The work of the processor, which needs the store no more.
    pub(crate) fn made(self, table: &Table, keys: &SpaceKeys, entropy: &dyn Entropy) -> Result<Made, Refused> {
        let Self { id, message, placement } = self;
        let rows = rows_of(table, keys.newest(), id, &message, &placement).map_err(not_indexable)?;
        let at = table.at(id.org);
        let key = at.record(id.uuid);
        let plaintext = without_id(table, &message).encode_to_vec();
        if plaintext.len() > MAX_RECORD_BYTES {
            // By how much would tell how long the fields are that the caller does not read.
            let what = format!("it would have more than {MAX_RECORD_BYTES} bytes: make it shorter");
            return Err(Refused::invalid(table.record.message.name(), what));
        }
        let sealed = sealed::seal(keys, &table.place(at.space.org, &key), plaintext, entropy);
        let (version, generation) = (CommitVersion::default(), keys.newest().generation());
        Ok(Made { stored: Stored { id, body: Body::Message(message), placement, version, generation, sealed }, rows })
    }
}

/// The record's own scope, read from its scope fields.
pub(crate) fn placement_of<'a>(table: &Table, message: impl Into<Content<'a>>) -> Result<Placement, PlacementError> {
    table.rules.placement(message)
}

/// A request's scope field that is no id.
pub(crate) fn invalid_placement(error: PlacementError) -> Refused {
    match error {
        PlacementError::Missing { field } => Refused::invalid(field, "it is empty: name the org"),
        PlacementError::NoOrg { field } => Refused::invalid(field, "there is no such org"),
        PlacementError::Malformed { field, source } => Refused::invalid(field, source.to_string()),
    }
}

/// The range within which a value is unique; none if the record is in no such scope, and so beside nobody.
fn reach(table: &Table, within: Within, placement: &Placement) -> Option<Span> {
    match (within, table.record.home) {
        (Within::System, _) | (Within::Org, Home::Org) => Some(Span::Whole),
        (Within::Org, Home::Global) => placement.org.map(Span::Org),
        (Within::Project, _) => placement.project.map(Span::Project),
        (Within::Owner, _) => placement.owner.map(Span::Owner),
    }
}

/// What is sealed: the id stands in the key already.
fn without_id(table: &Table, message: &DynamicMessage) -> DynamicMessage {
    let mut sealed = message.clone();
    sealed.clear_field(&table.record.id);
    sealed
}

fn not_indexable(error: NotIndexable) -> Refused {
    Refused::invalid(error.field, error.what)
}
