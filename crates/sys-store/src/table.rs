//! A contract as the store knows it: each record type with its numbers, indexes and rules.
//!
//! Made by [`crate::Store::load`] alone, and only when all its indexes hold all records: whoever has a [`Table`] may rely
//! on its indexes.

use crate::{
    catalog::{ModuleRow, home_of},
    header::{Place, Purpose},
    key::TableSpace,
};
use bytes::Bytes;
use prost_reflect::{DynamicMessage, FieldDescriptor};
use std::{collections::BTreeSet, fmt, sync::Arc};
use sys_contract::{
    encoded::Shape,
    id::{IdError, OrgTag, RecordId},
    model::{Contract, Home, Index, Record},
};
use sys_keys::{SpaceId, TOKEN_BYTES};
use sys_policy::{RecordRules, Rules};

/// The tables of one module's contract.
#[derive(Debug)]
pub struct Tables {
    pub(crate) contract: Arc<Contract>,
    pub(crate) rules: Arc<Rules>,
    /// INVARIANT: parallel to `contract.records`.
    pub(crate) tables: Vec<Arc<Table>>,
}

impl Tables {
    /// The contract that they were loaded from.
    pub fn contract(&self) -> &Arc<Contract> {
        &self.contract
    }

    /// The contract's rules.
    pub fn rules(&self) -> &Arc<Rules> {
        &self.rules
    }

    /// The table of the record with this index in [`Contract::records`].
    pub fn table(&self, index: usize) -> Option<&Arc<Table>> {
        self.tables.get(index)
    }

    /// The table of a message, such as `notes.v1.Note`.
    pub fn by_name(&self, full_name: &str) -> Option<&Arc<Table>> {
        self.tables.iter().find(|table| table.record.message.full_name() == full_name)
    }

    /// All tables, in the order of the contract.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Table>> {
        self.tables.iter()
    }
}

/// A record type with all that the store needs to keep its records.
pub struct Table {
    pub(crate) module: String,
    pub(crate) module_number: u16,
    pub(crate) number: u16,
    pub(crate) record: Record,
    pub(crate) rules: Arc<RecordRules>,
    pub(crate) indexes: Vec<TableIndex>,
    /// The fields of the record type, by number.
    pub(crate) fields: Vec<FieldDescriptor>,
    /// What the bytes of a record look like.
    pub(crate) shape: Shape,
    /// Whether any of them holds messages.
    pub(crate) nests: bool,
    /// A hash of the contract's files: of two tables with the same one the rules are the same.
    pub(crate) contract: [u8; TOKEN_BYTES],
    /// The module's row of the catalog as it was when this was loaded: whoever writes checks that it still stands there.
    pub(crate) catalog_row: Bytes,
}

/// An index that holds all records.
#[derive(Debug, Clone)]
pub(crate) struct TableIndex {
    /// Its number in the table.
    pub(crate) number: u16,
    /// The field that it holds.
    pub(crate) field: FieldDescriptor,
    /// What it answers.
    pub(crate) kind: Index,
}

impl Table {
    pub(crate) fn new(
        (module, module_number): (&str, u16),
        number: u16,
        record: Record,
        rules: Arc<RecordRules>,
        indexes: Vec<TableIndex>,
        (catalog_row, contract): (Bytes, [u8; TOKEN_BYTES]),
    ) -> Self {
        let mut fields: Vec<_> = record.message.fields().collect();
        fields.sort_by_key(FieldDescriptor::number);
        let shape = Shape::of(&record.message);
        let nests = fields.iter().any(|field| field.kind().as_message().is_some());
        let module = module.to_owned();
        Self { module, module_number, number, record, rules, indexes, fields, shape, nests, contract, catalog_row }
    }

    /// The record type.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Its rules.
    pub fn rules(&self) -> &Arc<RecordRules> {
        &self.rules
    }

    /// The module's name.
    pub fn module(&self) -> &str {
        &self.module
    }

    /// A record of the type with nothing in it.
    pub fn empty_record(&self) -> DynamicMessage {
        DynamicMessage::new(self.record.message.clone())
    }

    /// The text form of an id.
    pub fn id_text(&self, id: RecordId) -> String {
        id.text(&self.record.prefix)
    }

    /// Reads the text form of an id of this record type. That it says where the record lives does not mean that there is one.
    pub fn parse_id(&self, text: &str) -> Result<RecordId, IdError> {
        RecordId::parse(text, &self.record.prefix)
    }

    /// Where the records of an org stand; for a type at home GLOBAL the org does not matter.
    pub(crate) fn at(&self, org: OrgTag) -> TableSpace {
        let space = SpaceId { module: self.module_number, org: home_of(self.record.home, org) };
        TableSpace { space, table: self.number }
    }

    /// Whether an id names a place in which records of this type can be.
    pub(crate) fn may_hold(&self, id: RecordId) -> bool {
        (self.record.home == Home::Global) == id.org.is_global()
    }

    /// What a record with this key is sealed for.
    pub(crate) fn place<'a>(&'a self, org: OrgTag, key: &'a [u8]) -> Place<'a> {
        Place { purpose: Purpose::Record, key, ..self.page_place(org) }
    }

    /// What a page token of a list is sealed for.
    pub(crate) fn page_place(&self, org: OrgTag) -> Place<'_> {
        Place {
            purpose: Purpose::PageToken,
            module: &self.module,
            org,
            table: &self.record.table,
            message: self.record.message.full_name(),
            key: &[],
        }
    }

    /// The index that answers a test on a field.
    pub(crate) fn index_of(&self, field: u32) -> Option<&TableIndex> {
        self.indexes.iter().find(|index| index.field.number() == field)
    }

    /// Whether the catalog still has just this table's indexes.
    pub(crate) fn is_in(&self, row: &ModuleRow) -> bool {
        let Some(table) = row.table(&self.record.table) else { return false };
        let living = table.indexes.iter().filter(|index| index.is_written()).map(|index| index.number);
        living.collect::<BTreeSet<_>>() == self.indexes.iter().map(|index| u32::from(index.number)).collect()
    }

    /// Whether a field is one of those that place a record. They never change, whatever else is said of them.
    pub(crate) fn is_scope(&self, field: &FieldDescriptor) -> bool {
        [&self.record.org, &self.record.project, &self.record.owner].into_iter().flatten().any(|scope| scope == field)
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Table({}/{} = {}/{})", self.module, self.record.table, self.module_number, self.number)
    }
}
