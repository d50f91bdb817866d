//! Records as one caller may see and change them: the rules of the contract, inside each operation.
//!
//! The only way from a call to a record. What a caller learns follows from what he may read: a record that he may not get is
//! absent, whatever he asks to do with it; what a field rule hides is unset, in what he gets as in what his filter,
//! order and etag work on. A [`Permit`] is the proof that a verb was allowed on a record; the writes cannot be called
//! without one. Lists are in [`crate::list`].

use crate::{
    canonical::same_field,
    change::{Change, is_of_server},
    open::Open,
    records::{Stored, invalid_placement, placement_of},
    refused::{Refused, StoreError},
    table::Table,
    view::View,
};
use prost_reflect::{DynamicMessage, ReflectMessage, Value};
use std::sync::Arc;
use sys_contract::unknown::drop_unknown;
use sys_contract::{
    id::{AccountId, OrgTag, RecordId, SessionId},
    model::Verb,
};
use sys_keys::SpaceKeys;
use sys_policy::{Caller, FieldSet, GrantNo, Standing};

/// The records of one table as one caller may see and change them.
#[derive(Debug)]
pub struct Confined<'a> {
    pub(crate) open: &'a mut Open,
    pub(crate) table: &'a Arc<Table>,
    pub(crate) caller: &'a Caller,
}

/// The proof that a caller may do one thing with one record in one transaction. Used up by doing it.
#[derive(Debug)]
pub struct Permit {
    open: u64,
    holder: (Option<AccountId>, Option<SessionId>),
    table: (u16, u16),
    verb: Verb,
    grant: GrantNo,
    stored: Stored,
}

/// What a write did.
#[derive(Debug)]
pub struct Written {
    /// What a get would show the caller afterwards; the id alone if it would show nothing.
    pub view: View,
    /// The grant by which it was allowed.
    pub grant: GrantNo,
    /// The names of the fields that are no longer what they were.
    pub fields: Vec<String>,
}

impl Permit {
    /// What is allowed.
    pub fn verb(&self) -> Verb {
        self.verb
    }

    /// On which record.
    pub fn id(&self) -> RecordId {
        self.stored.id()
    }

    /// By which grant. For an update this is the grant by which the record may be read; which one allows the change depends on
    /// the change, and stands in [`Written::grant`].
    pub fn grant(&self) -> GrantNo {
        self.grant
    }

    /// The record that was judged, as it is stored. Not what the caller may see.
    pub fn danger_stored(&self) -> &Stored {
        &self.stored
    }
}

impl<'a> Confined<'a> {
    pub(crate) fn new(open: &'a mut Open, table: &'a Arc<Table>, caller: &'a Caller) -> Self {
        Self { open, table, caller }
    }

    /// The table.
    pub fn table(&self) -> &'a Arc<Table> {
        self.table
    }

    /// Decides whether the caller may GET, UPDATE or DELETE a record.
    pub async fn permit(&mut self, verb: Verb, id: RecordId) -> Result<Permit, Refused> {
        let stored = self.open.record(self.table, id).await?.ok_or(Refused::NotFound)?;
        let seen = self.allows(Verb::Get, &stored).ok_or(Refused::NotFound)?;
        let grant = match verb {
            Verb::Get => seen,
            Verb::Update if self.could_update(&stored) => seen,
            Verb::Delete => self.allows(Verb::Delete, &stored).ok_or(Refused::Denied { field: None })?,
            Verb::Update | Verb::Create | Verb::List | Verb::Count | Verb::Watch => {
                return Err(Refused::Denied { field: None });
            }
        };
        Ok(Permit {
            open: self.open.number(),
            holder: (self.caller.account(), self.caller.session()),
            table: (self.table.module_number, self.table.number),
            verb,
            grant,
            stored,
        })
    }

    /// The record of a permit to GET.
    pub async fn get(&mut self, permit: Permit) -> Result<View, Refused> {
        let permit = self.fresh(permit, Verb::Get).await?;
        self.view(permit.stored)
    }

    /// The record with an id, if the caller may see it.
    pub async fn find(&mut self, id: RecordId) -> Result<Option<View>, Refused> {
        match self.permit(Verb::Get, id).await {
            Ok(permit) => self.get(permit).await.map(Some),
            Err(Refused::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes a record. Its id is new, its owner the caller, its scope what the message names.
    pub async fn create(&mut self, new: DynamicMessage) -> Result<Written, Refused> {
        let mut next = self.as_requested(new)?;
        let placement = placement_of(self.table, &next).map_err(invalid_placement)?;
        let id = self.open.new_id(placement.home);
        self.set_id_and_owner(&mut next, id);
        let placement = placement_of(self.table, &next).map_err(invalid_placement)?;
        let rules = self.table.rules.clone();
        let grant = rules
            .allows(Verb::Create, self.caller, &next, &placement, self.open.now())
            .ok_or(Refused::Denied { field: None })?;
        let hidden = rules.hidden_fields(self.caller, &next, &placement, self.open.now());
        let unwritable = rules.unwritable_fields(self.caller, &next, &placement, self.open.now());
        for field in &self.table.record.fields {
            let number = field.descriptor.number();
            let refused = hidden.contains(number) || unwritable.contains(number);
            let given = next.has_field(&field.descriptor) && !is_of_server(self.table, &field.descriptor);
            // The owner is the caller, not something that he writes.
            if given && refused && self.table.record.owner.as_ref() != Some(&field.descriptor) {
                return Err(Refused::denied(field.descriptor.name()));
            }
        }
        self.open.check_scope(self.table, &next, &placement).await?;
        let empty = self.table.empty_record();
        let fields = self.changed_fields(&empty, &next);
        let stored = self.open.create_record(self.table, id, next).await?;
        Ok(Written { view: self.view_if_seen(stored)?, grant, fields })
    }

    /// Changes a record. With an etag, only if it is still that of the caller's view.
    pub async fn update(&mut self, permit: Permit, change: &Change, etag: Option<&str>) -> Result<Written, Refused> {
        let permit = self.fresh(permit, Verb::Update).await?;
        let (rules, stored) = (self.table.rules.clone(), permit.stored);
        let (message, placement) = (stored.message(), stored.placement());
        let hidden = self.hidden(&stored);
        let unwritable = rules.unwritable_fields(self.caller, message, placement, self.open.now());
        let next = change.merge(self.table, message, &hidden, &unwritable)?;
        let grant = rules
            .allows_update(self.caller, message, &next, placement, self.open.now())
            .ok_or(Refused::Denied { field: None })?;
        self.check_etag(&stored, etag)?;
        let fields = self.changed_fields(message, &next);
        if fields.is_empty() {
            return Ok(Written { view: self.view_if_seen(stored)?, grant, fields });
        }
        let stored = self.open.put_record(self.table, Some(&stored), stored.id(), next).await?;
        Ok(Written { view: self.view_if_seen(stored)?, grant, fields })
    }

    /// Deletes a record for good. With an etag, only if it is still that of the caller's view.
    pub async fn delete(&mut self, permit: Permit, etag: Option<&str>) -> Result<(), Refused> {
        let permit = self.fresh(permit, Verb::Delete).await?;
        self.check_etag(&permit.stored, etag)?;
        Ok(self.open.delete_record(self.table, &permit.stored).await?)
    }

    pub(crate) fn allows(&self, verb: Verb, stored: &Stored) -> Option<GrantNo> {
        self.table.rules.allows(verb, self.caller, stored.content(), stored.placement(), self.open.now())
    }

    /// What the caller sees of a record that he may see.
    fn view(&mut self, stored: Stored) -> Result<View, Refused> {
        let keys = self.keys(stored.id())?;
        Ok(self.redacted(stored).with_etag(self.table, &keys))
    }

    fn view_if_seen(&mut self, stored: Stored) -> Result<View, Refused> {
        match self.allows(Verb::Get, &stored) {
            Some(_) => self.view(stored),
            None => Ok(View::of_id(self.table, stored.id())),
        }
    }

    fn redacted(&self, stored: Stored) -> View {
        let hidden = self.hidden(&stored);
        View::redacted(self.table, stored, &hidden)
    }

    pub(crate) fn hidden(&self, stored: &Stored) -> FieldSet {
        self.table.rules.hidden_fields(self.caller, stored.content(), stored.placement(), self.open.now())
    }

    fn keys(&mut self, id: RecordId) -> Result<Arc<SpaceKeys>, StoreError> {
        let space = self.table.at(id.org).space;
        self.open.keys(space)?.ok_or_else(|| StoreError::Sealed {
            table: self.table.record.table.clone(),
            cause: crate::refused::SealedError::Generation(0),
        })
    }

    fn check_etag(&mut self, stored: &Stored, etag: Option<&str>) -> Result<(), Refused> {
        let Some(etag) = etag.filter(|etag| !etag.is_empty()) else { return Ok(()) };
        let keys = self.keys(stored.id())?;
        if self.redacted(stored.clone()).has_etag(self.table, &keys, etag) {
            Ok(())
        } else {
            Err(Refused::EtagMismatch)
        }
    }

    /// The permit, if it is one for this; decided again if the record was written since, by this very transaction.
    async fn fresh(&mut self, permit: Permit, verb: Verb) -> Result<Permit, Refused> {
        let holder = (self.caller.account(), self.caller.session());
        let table = (self.table.module_number, self.table.number);
        let here = (self.open.number(), holder, table, verb);
        if here != (permit.open, permit.holder, permit.table, permit.verb) {
            return Err(StoreError::ForeignPermit.into());
        }
        let key = self.table.at(permit.id().org).record(permit.id().uuid);
        if self.open.is_unwritten_since(&key, permit.stored.sealed()) {
            return Ok(permit);
        }
        self.permit(verb, permit.id()).await
    }

    /// Whether a change of the record could be allowed at all: whether some grant holds as long as nothing changes. A grant
    /// that asks for something of the result is judged with the result alone.
    fn could_update(&self, stored: &Stored) -> bool {
        self.table.rules.could_update(self.caller, stored.content(), stored.placement(), self.open.now())
    }

    /// A message from a request without what only the server sets.
    fn as_requested(&self, mut next: DynamicMessage) -> Result<DynamicMessage, Refused> {
        if next.descriptor() != self.table.record.message {
            let (table, got) = (self.table.record.table.clone(), next.descriptor().full_name().to_owned());
            return Err(StoreError::ForeignMessage { table, got }.into());
        }
        drop_unknown(&mut next);
        for field in &self.table.record.fields {
            if is_of_server(self.table, &field.descriptor) {
                next.clear_field(&field.descriptor);
            }
        }
        Ok(next)
    }

    fn set_id_and_owner(&self, next: &mut DynamicMessage, id: RecordId) {
        let owner = self.caller.account().filter(|_| self.caller.standing() == Standing::Verified);
        if let Some(field) = &self.table.record.owner {
            match owner {
                Some(owner) => next.set_field(field, Value::String(owner.to_string())),
                None => next.clear_field(field),
            }
        }
        // Last, since a record may own itself: an account does.
        next.set_field(&self.table.record.id, Value::String(self.table.id_text(id)));
    }

    fn changed_fields(&self, before: &DynamicMessage, after: &DynamicMessage) -> Vec<String> {
        let fields = self.table.record.fields.iter().map(|field| &field.descriptor);
        let changed = fields.filter(|field| !same_field(before, after, field));
        changed.map(|field| field.name().to_owned()).collect()
    }
}

impl Open {
    /// An id that no record has.
    pub(crate) fn new_id(&self, home: OrgTag) -> RecordId {
        let mut random = [0; 10];
        self.store.entropy().fill(&mut random);
        let ms = self.now.unix_s.saturating_mul(1_000).saturating_add(i64::from(self.now.nanos) / 1_000_000);
        RecordId::new(home, u64::try_from(ms).unwrap_or(0), random)
    }

    /// Writes a record where none is.
    pub(crate) async fn create_record(
        &mut self,
        table: &Table,
        id: RecordId,
        next: DynamicMessage,
    ) -> Result<Stored, Refused> {
        if self.value(&table.at(id.org).record(id.uuid)).await?.is_some() {
            return Err(StoreError::IdInUse.into());
        }
        self.put_record(table, None, id, next).await
    }
}
