//! Tables out of the catalog alone: what is needed to open records and to compute their rows, without their contracts.

use super::{CheckOptions, Fault, Report};
use crate::{
    catalog::{INDEX_FORMAT, IndexState, ModuleRow, TableRow, kind_of},
    engine::{KeyRange, Order},
    header::Purpose,
    load::{MAX_MODULES, MODULE_PREFIX},
    open::Open,
    refused::StoreError,
    system::SystemKind,
    table::{Table, TableIndex},
};
use bytes::Bytes;
use prost::Message;
use std::{collections::BTreeMap, sync::Arc};
use sys_contract::model::{Contract, Record};
use sys_policy::Rules;

/// All tables of a store, by the numbers in its keys.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) modules: BTreeMap<u16, String>,
    pub(super) tables: BTreeMap<(u16, u16), Arc<KnownTable>>,
}

/// A table, and what is not judged in it.
#[derive(Debug)]
pub(super) struct KnownTable {
    pub(super) table: Table,
    /// Indexes that need not hold all records yet.
    pub(super) building: Vec<u16>,
    /// Indexes whose rows are not judged: on their way out, or of another format.
    pub(super) unjudged: Vec<u16>,
}

impl Known {
    /// Reads the catalog. What contradicts itself is reported, and its tables are unknown.
    pub(super) async fn read(open: &mut Open, options: CheckOptions, report: &mut Report) -> Result<Self, StoreError> {
        let mut known = Self::default();
        let prefix = SystemKind::Catalog.key(MODULE_PREFIX);
        for (key, sealed) in open.rows_in(KeyRange::prefix(&prefix), Order::Asc, MAX_MODULES).await? {
            let module = String::from_utf8_lossy(key.get(prefix.len()..).unwrap_or_default()).into_owned();
            let mut fault = |what: String| report.add(Fault::Catalog, options.named, || format!("{module}: {what}"));
            let opened = open.open_row(Purpose::SystemRow, SystemKind::Catalog.name(), &key, &sealed).await;
            let row = match opened.map(|row| ModuleRow::decode(row.as_slice())) {
                Ok(Ok(row)) => row,
                Ok(Err(error)) => {
                    fault(format!("its row cannot be read: {error}"));
                    continue;
                }
                Err(StoreError::Sealed { cause, .. }) => {
                    fault(format!("its row does not open: {cause}"));
                    continue;
                }
                Err(error) => return Err(error),
            };
            let Ok(number) = u16::try_from(row.number) else {
                fault(format!("the number {} is too high", row.number));
                continue;
            };
            let contract = match open.kept_contract(&module).await {
                Ok(contract) => contract,
                Err(error @ (StoreError::Catalog { .. } | StoreError::Sealed { .. })) => {
                    fault(error.to_string());
                    None
                }
                Err(error) => return Err(error),
            };
            known.add(&module, number, &row, contract.as_ref(), &mut fault);
            known.modules.insert(number, module.clone());
        }
        for table in known.tables.values() {
            for index in table.building.iter().chain(&table.unjudged) {
                let place = || format!("{} index {index}", table.name());
                report.add(Fault::IndexUnsettled, options.named, place);
            }
        }
        Ok(known)
    }

    /// Adds what a module's rows agree on. A module that was never loaded to its end has no contract and holds no records.
    fn add(
        &mut self,
        module: &str,
        number: u16,
        row: &ModuleRow,
        contract: Option<&Contract>,
        fault: &mut dyn FnMut(String),
    ) {
        let Some(contract) = contract else { return };
        let rules = match Rules::compile(contract) {
            Ok(rules) => rules,
            Err(problems) => return fault(format!("its contract cannot be read: {problems}")),
        };
        for of_table in &row.tables {
            let mut records = contract.records.iter().enumerate();
            let found = records.find(|(_, record)| record.table == of_table.name);
            let (Some((at, record)), Ok(table_number)) = (found, u16::try_from(of_table.number)) else {
                fault(format!("the catalog names the table `{}`, which its contract does not have", of_table.name));
                continue;
            };
            let parts = (module.to_owned(), number, table_number);
            match KnownTable::of(parts, of_table, record, &rules, at) {
                Ok(table) => self.tables.insert((number, table_number), Arc::new(table)),
                Err(field) => {
                    fault(format!(
                        "`{}` has an index on field {field}, which its contract does not have",
                        record.table
                    ));
                    continue;
                }
            };
        }
        for record in &contract.records {
            if row.table(&record.table).is_none() {
                fault(format!("its contract names the table `{}`, which the catalog does not have", record.table));
            }
        }
    }
}

impl KnownTable {
    /// What the table is called in findings.
    pub(super) fn name(&self) -> String {
        format!("{}/{}", self.table.module, self.table.record.table)
    }

    /// What a part of the rows is called in findings.
    pub(super) fn index_name(&self, number: u16) -> String {
        let field = self.table.indexes.iter().find(|index| index.number == number);
        let field = field.map_or_else(|| format!("index {number}"), |index| index.field.name().to_owned());
        format!("{}.{field}", self.name())
    }

    /// The table of a row of the catalog. Fails with the number of an indexed field that the record does not have.
    fn of(
        (module, module_number, number): (String, u16, u16),
        row: &TableRow,
        record: &Record,
        rules: &Rules,
        at: usize,
    ) -> Result<Self, u32> {
        let (mut indexes, mut building, mut unjudged) = (Vec::new(), Vec::new(), Vec::new());
        for index in &row.indexes {
            let Ok(number) = u16::try_from(index.number) else { return Err(index.field) };
            let field = record.message.get_field(index.field);
            match (index.state(), kind_of(index.kind), field) {
                (IndexState::Gone, ..) => {}
                (IndexState::Dropping, ..) => unjudged.push(number),
                // A load was cut off: the field is one of the contract that was to come.
                (IndexState::Building, _, None) => unjudged.push(number),
                (IndexState::Ready, _, None) => return Err(index.field),
                (_, None, Some(_)) => unjudged.push(number),
                (..) if index.format != INDEX_FORMAT => unjudged.push(number),
                (state, Some(kind), Some(field)) => {
                    indexes.push(TableIndex { number, field, kind });
                    if state == IndexState::Building {
                        building.push(number);
                    }
                }
            }
        }
        let (record, rules) = (record.clone(), rules.record(at).clone());
        let table =
            Table::new((&module, module_number), number, record, rules, indexes, (Bytes::new(), Default::default()));
        Ok(Self { table, building, unjudged })
    }
}
