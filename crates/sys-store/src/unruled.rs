//! Records without rules, for those who make the decision themselves: sys-core's own records, and what a method's
//! `elevate` lists. Everything else still holds: seals, indexes, uniqueness, scopes that exist.

use crate::{
    candidates::Ground,
    canonical::value_bytes,
    cursor::{beginning, behind},
    engine::Order,
    key::record_id,
    open::Open,
    records::{Stored, invalid_placement, placement_of},
    refused::{Refused, StoreError},
    table::Table,
};
use prost_reflect::{DynamicMessage, Value};
use std::sync::Arc;
use sys_contract::{
    id::{OrgTag, RecordId},
    model::Home,
};
use sys_policy::{Span, TokenTest, TokenValue, words};

/// The records of one table, without rules.
#[derive(Debug)]
pub struct Unruled<'a> {
    open: &'a mut Open,
    table: &'a Arc<Table>,
}

/// Which records are looked for.
#[derive(Debug, Clone)]
pub struct Find {
    /// The org whose tablespace is searched; does not matter for records at home GLOBAL.
    pub org: OrgTag,
    /// Within which scope.
    pub span: Span,
    /// What they hold.
    pub tests: Vec<TokenTest>,
    /// Only what comes behind this one.
    pub after: Option<RecordId>,
    /// By id, up or down.
    pub order: Order,
    /// At most so many.
    pub limit: usize,
}

impl Find {
    /// All records of a table in an org's tablespace, or in the global one.
    pub fn all(org: OrgTag) -> Self {
        Self { org, span: Span::Whole, tests: Vec::new(), after: None, order: Order::Asc, limit: usize::MAX }
    }

    /// Those of a scope.
    #[must_use]
    pub fn within(mut self, span: Span) -> Self {
        self.span = span;
        self
    }

    /// Those of which a field has this value.
    #[must_use]
    pub fn with(mut self, field: u32, value: Value) -> Self {
        self.tests.push(TokenTest { field, any_of: vec![TokenValue::Exact(value)] });
        self
    }

    /// At most so many.
    #[must_use]
    pub fn first(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }
}

impl<'a> Unruled<'a> {
    pub(crate) fn new(open: &'a mut Open, table: &'a Arc<Table>) -> Self {
        Self { open, table }
    }

    /// The record with an id.
    pub async fn get(&mut self, id: RecordId) -> Result<Option<Stored>, StoreError> {
        self.open.record(self.table, id).await
    }

    /// A new id in a tablespace, for [`Unruled::create_as`].
    pub fn new_id(&self, home: OrgTag) -> RecordId {
        self.open.new_id(home)
    }

    /// Makes a record under a new id.
    pub async fn create(&mut self, new: DynamicMessage) -> Result<Stored, Refused> {
        let home = match self.table.record.home {
            Home::Global => OrgTag::GLOBAL,
            Home::Org => placement_of(self.table, &new).map_err(invalid_placement)?.home,
        };
        let id = self.open.new_id(home);
        self.create_as(id, new).await
    }

    /// Makes a record under an id of the caller's choice, which no record has.
    pub async fn create_as(&mut self, id: RecordId, mut new: DynamicMessage) -> Result<Stored, Refused> {
        new.set_field(&self.table.record.id, Value::String(self.table.id_text(id)));
        let placement = placement_of(self.table, &new).map_err(invalid_placement)?;
        self.open.check_scope(self.table, &new, &placement).await?;
        self.open.create_record(self.table, id, new).await
    }

    /// Writes the next state of a record. Absent: [`Refused::NotFound`].
    pub async fn update(&mut self, id: RecordId, next: DynamicMessage) -> Result<Stored, Refused> {
        let stored = self.open.record(self.table, id).await?.ok_or(Refused::NotFound)?;
        self.open.put_record(self.table, Some(&stored), id, next).await
    }

    /// Deletes a record; whether there was one.
    pub async fn delete(&mut self, id: RecordId) -> Result<bool, StoreError> {
        match self.open.record(self.table, id).await? {
            Some(stored) => self.open.delete_record(self.table, &stored).await.map(|()| true),
            None => Ok(false),
        }
    }

    /// The records that are looked for, by id.
    pub async fn find(&mut self, find: &Find) -> Result<Vec<Stored>, StoreError> {
        self.open.check_current(self.table).await?;
        let at = self.table.at(find.org);
        let Some(keys) = self.open.keys(at.space)? else {
            self.open.check_unwritten(at.space).await?;
            return Ok(Vec::new());
        };
        let ground = Ground { table: self.table, at, keys: &keys, order: find.order };
        let mut candidates = ground.meeting(find.span, &find.tests);
        let mut from = match find.after {
            Some(after) => behind(find.order, after.uuid),
            None => Some(beginning(find.order)),
        };
        let mut found = Vec::new();
        while let Some(place) = from.filter(|_| found.len() < find.limit) {
            let Some(candidate) = candidates.seek(self.open, place).await? else { break };
            from = behind(find.order, candidate.uuid);
            let id = record_id(at.space, candidate.uuid);
            let stored = match candidate.stored {
                Some(sealed) => Some(self.open.open_record(self.table, id, sealed)?),
                None => self.open.record(self.table, id).await?,
            };
            let dangling = || StoreError::Dangling { table: self.table.record.table.clone(), id };
            let stored = stored.ok_or_else(dangling)?;
            if find.tests.iter().all(|test| holds(stored.message(), test)) {
                found.push(stored);
            }
        }
        Ok(found)
    }
}

/// Whether an opened record passes a test; for values of which no index has rows this alone decides.
fn holds(record: &DynamicMessage, test: &TokenTest) -> bool {
    let Some(value) = record.get_field_by_number(test.field) else { return false };
    test.any_of.iter().any(|wanted| match wanted {
        TokenValue::Exact(wanted) => value_bytes(&value) == value_bytes(wanted),
        TokenValue::WordPrefix(prefix) => {
            let has = |text| words::normalised_words(text).any(|word| word.starts_with(prefix.as_str()));
            value.as_str().is_some_and(has)
        }
    })
}
