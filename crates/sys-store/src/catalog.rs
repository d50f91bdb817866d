//! The numbers under which a module's tables and indexes stand on disk. Pure.
//!
//! A module, a table, an index has its number for good: none is given twice, and what a contract no longer names keeps its
//! number. The rows live under the system tablespace, sealed like all others. [`crate::load`] reads and writes them.

use prost_reflect::FieldDescriptor;
use sys_contract::{
    id::OrgTag,
    model::{Contract, Field, Home, Index, Within},
};

/// How index entries are made: the canonical bytes, the normal form of words, the lengths of their prefixes. An index of
/// another format is built anew when its contract is loaded.
pub(crate) const INDEX_FORMAT: u32 = 1;

/// What the store knows of a module. One row for each, so that a load changes all or nothing.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ModuleRow {
    /// From 1; 0 is the server itself.
    #[prost(uint32, tag = "1")]
    pub(crate) number: u32,
    /// All tables that the module ever had.
    #[prost(message, repeated, tag = "2")]
    pub(crate) tables: Vec<TableRow>,
}

/// What the store knows of a table.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct TableRow {
    /// From 1.
    #[prost(uint32, tag = "1")]
    pub(crate) number: u32,
    /// Its name in the contract.
    #[prost(string, tag = "2")]
    pub(crate) name: String,
    /// The full name of its message.
    #[prost(string, tag = "3")]
    pub(crate) message: String,
    /// At home GLOBAL, not in orgs.
    #[prost(bool, tag = "4")]
    pub(crate) global: bool,
    /// All indexes that it ever had.
    #[prost(message, repeated, tag = "5")]
    pub(crate) indexes: Vec<IndexRow>,
}

/// What the store knows of an index.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct IndexRow {
    /// From 1.
    #[prost(uint32, tag = "1")]
    pub(crate) number: u32,
    /// The number of its field.
    #[prost(uint32, tag = "2")]
    pub(crate) field: u32,
    /// 1 EQUAL, 2 SEARCH, 3 to 6 UNIQUE within SYSTEM, ORG, PROJECT, OWNER, 7 ORDERED.
    #[prost(uint32, tag = "3")]
    pub(crate) kind: u32,
    /// [`INDEX_FORMAT`] of the server that made it.
    #[prost(uint32, tag = "4")]
    pub(crate) format: u32,
    /// How far it has come.
    #[prost(enumeration = "IndexState", tag = "5")]
    pub(crate) state: i32,
}

/// How far an index has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum IndexState {
    /// Written by each write, not yet made for older records.
    Building = 0,
    /// Holds each record.
    Ready = 1,
    /// No longer named by the contract; its entries are being removed.
    Dropping = 2,
    /// Gone. Its number stays taken.
    Gone = 3,
}

/// Why a contract does not fit what is stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CatalogError {
    /// A table's message or home is not what it was.
    #[error("table `{table}` of module `{module}` was stored as `{was}` and cannot become `{now}`: name a new table")]
    TableChanged {
        /// The module.
        module: String,
        /// The table.
        table: String,
        /// Message and home as stored.
        was: String,
        /// Message and home as in the contract.
        now: String,
    },
    /// Two records of one contract share a table.
    #[error("table `{table}` of module `{module}` is named by two records: name one of them otherwise")]
    TableTwice {
        /// The module.
        module: String,
        /// The table.
        table: String,
    },
    /// All 65,535 numbers are given.
    #[error("module `{module}` has used up its numbers")]
    NumbersExhausted {
        /// The module.
        module: String,
    },
}

impl ModuleRow {
    /// The row of a module that is loaded for the first time.
    pub(crate) fn new(number: u16) -> Self {
        Self { number: u32::from(number), tables: Vec::new() }
    }

    /// The row while `contract` is being loaded: new tables and indexes have their numbers. What it no longer names is as it
    /// was, since the load may fail yet.
    pub(crate) fn begun(&self, contract: &Contract) -> Result<Self, CatalogError> {
        let mut next = self.clone();
        let module = || contract.module.clone();
        let mut seen: Vec<&str> = Vec::new();
        for record in &contract.records {
            if seen.contains(&record.table.as_str()) {
                return Err(CatalogError::TableTwice { module: module(), table: record.table.clone() });
            }
            seen.push(&record.table);
            let (message, global) = (record.message.full_name(), record.home == Home::Global);
            if next.table(&record.table).is_none() {
                let number = next_number(next.tables.iter().map(|table| table.number))
                    .ok_or_else(|| CatalogError::NumbersExhausted { module: module() })?;
                let (name, message) = (record.table.clone(), message.to_owned());
                next.tables.push(TableRow { number, name, message, global, indexes: Vec::new() });
            }
            let Some(table) = next.tables.iter_mut().find(|table| table.name == record.table) else { continue };
            if table.message != message || table.global != global {
                let described = |message: &str, global| format!("{message}, home {}", home_name(global));
                return Err(CatalogError::TableChanged {
                    module: module(),
                    table: record.table.clone(),
                    was: described(&table.message, table.global),
                    now: described(message, global),
                });
            }
            table.begin_indexes(&record.fields).ok_or_else(|| CatalogError::NumbersExhausted { module: module() })?;
        }
        Ok(next)
    }

    /// The table with this name.
    pub(crate) fn table(&self, name: &str) -> Option<&TableRow> {
        self.tables.iter().find(|table| table.name == name)
    }

    /// The row once the load has failed: what was being built is on its way out.
    pub(crate) fn given_up(&self) -> Self {
        self.with_states(|_, index| match index.state() {
            IndexState::Building => IndexState::Dropping,
            state => state,
        })
    }

    /// The row once `contract` is loaded: what was being built holds all records, and what it no longer names is on its way
    /// out.
    pub(crate) fn settled(&self, contract: &Contract) -> Self {
        self.with_states(|table, index| match index.state() {
            IndexState::Building | IndexState::Ready if index.is_named_by(contract, table) => IndexState::Ready,
            IndexState::Building | IndexState::Ready => IndexState::Dropping,
            state => state,
        })
    }

    /// The row once no entry is left of what was on its way out.
    pub(crate) fn purged(&self) -> Self {
        self.with_states(|_, index| match index.state() {
            IndexState::Dropping => IndexState::Gone,
            state => state,
        })
    }

    fn with_states(&self, state: impl Fn(&str, &IndexRow) -> IndexState) -> Self {
        let mut next = self.clone();
        for table in &mut next.tables {
            for index in &mut table.indexes {
                let state = state(&table.name, index);
                index.set_state(state);
            }
        }
        next
    }
}

impl TableRow {
    /// The living index of a field.
    pub(crate) fn index_of(&self, field: &FieldDescriptor, index: Index) -> Option<&IndexRow> {
        self.indexes.iter().find(|row| row.is(field.number(), index))
    }

    /// The indexes in a state.
    pub(crate) fn indexes_in(&self, state: IndexState) -> impl Iterator<Item = &IndexRow> {
        self.indexes.iter().filter(move |index| index.state() == state)
    }

    /// Gives new indexes their numbers. `None`: no number is left.
    fn begin_indexes(&mut self, fields: &[Field]) -> Option<()> {
        for field in fields {
            let Some(kind) = field.index else { continue };
            if self.index_of(&field.descriptor, kind).is_none() {
                let number = next_number(self.indexes.iter().map(|index| index.number))?;
                let (field, state) = (field.descriptor.number(), IndexState::Building.into());
                self.indexes.push(IndexRow { number, field, kind: kind_number(kind), format: INDEX_FORMAT, state });
            }
        }
        Some(())
    }
}

impl IndexRow {
    /// Whether each write keeps it.
    pub(crate) fn is_written(&self) -> bool {
        matches!(self.state(), IndexState::Building | IndexState::Ready)
    }

    fn is_named_by(&self, contract: &Contract, table: &str) -> bool {
        let records = contract.records.iter().filter(|record| record.table == table);
        let mut fields = records.flat_map(|record| &record.fields);
        fields.any(|field| field.index.is_some_and(|kind| self.is(field.descriptor.number(), kind)))
    }

    fn is(&self, field: u32, kind: Index) -> bool {
        self.is_written() && self.field == field && self.kind == kind_number(kind) && self.format == INDEX_FORMAT
    }
}

/// The number after the highest. Rows are never removed, so that none is given twice.
pub(crate) fn next_number(given: impl Iterator<Item = u32>) -> Option<u32> {
    let next = given.max().unwrap_or(0).checked_add(1)?;
    u16::try_from(next).ok().map(u32::from)
}

/// The tablespace's org for a record type at home in an org, or GLOBAL.
pub(crate) fn home_of(home: Home, org: OrgTag) -> OrgTag {
    match home {
        Home::Org => org,
        Home::Global => OrgTag::GLOBAL,
    }
}

const fn kind_number(kind: Index) -> u32 {
    match kind {
        Index::Equal => 1,
        Index::Search { whole: false } => 2,
        Index::Unique { within: Within::System } => 3,
        Index::Unique { within: Within::Org } => 4,
        Index::Unique { within: Within::Project } => 5,
        Index::Unique { within: Within::Owner } => 6,
        Index::Ordered => 7,
        Index::Search { whole: true } => 8,
    }
}

/// The kind of an index as a row of the catalog has it; none if this server does not know it.
pub(crate) const fn kind_of(number: u32) -> Option<Index> {
    Some(match number {
        1 => Index::Equal,
        2 => Index::Search { whole: false },
        3 => Index::Unique { within: Within::System },
        4 => Index::Unique { within: Within::Org },
        5 => Index::Unique { within: Within::Project },
        6 => Index::Unique { within: Within::Owner },
        7 => Index::Ordered,
        8 => Index::Search { whole: true },
        _ => return None,
    })
}

const fn home_name(global: bool) -> &'static str {
    if global { "GLOBAL" } else { "ORG" }
}
