//! A contract loaded: its numbers found or given, its indexes made to hold all records.
//!
//! A load first writes the module's row of the catalog, which makes every transaction under an older load conflict; then it
//! builds what is new and removes what is gone, in small transactions beside the traffic; only then are there tables. A
//! load that fails leaves the older contract as it was.

use crate::{
    build,
    catalog::{IndexState, ModuleRow, TableRow, next_number},
    engine::CommitError,
    open::Open,
    refused::{LoadError, StoreError},
    store::Store,
    system::SystemKind,
    table::{Table, TableIndex, Tables},
};
use bytes::Bytes;
use prost::Message;
use std::sync::Arc;
use sys_contract::model::{Contract, Record};
use sys_policy::{Now, Rules};

/// What the names of module rows begin with.
const MODULE_PREFIX: &[u8] = b"module/";
/// Most modules of one server.
const MAX_MODULES: usize = 1_000;
/// How often a transaction of a load begins again before the load fails. Only other loads and, while an index is built,
/// writes to the same records stand against it.
pub(crate) const MAX_ATTEMPTS: usize = 32;

/// The key of a module's row.
pub(crate) fn module_key(module: &str) -> Bytes {
    SystemKind::Catalog.key(&row_name(module))
}

impl Store {
    /// Loads a contract: afterwards its tables can be used, and those of an older load of the same module no longer where
    /// they lack an index that this one has.
    pub async fn load(&self, contract: Arc<Contract>, rules: Arc<Rules>) -> Result<Arc<Tables>, LoadError> {
        let before = self.change_module(&contract, |row| row.loaded(&contract).map_err(LoadError::from)).await?;
        if let Err(error) = self.build_indexes(&contract, &rules, &before).await {
            // What was begun is on its way out again, so that the older load's tables are as good as before.
            self.change_module(&contract, |row| Ok(row.given_up())).await?;
            return Err(error);
        }
        let settled = self.change_module(&contract, |row| Ok(row.settled())).await?;
        tables(&contract, &rules, &settled).map(Arc::new)
    }

    /// Builds what is new and removes what is gone.
    async fn build_indexes(
        &self,
        contract: &Arc<Contract>,
        rules: &Arc<Rules>,
        loaded: &(Bytes, ModuleRow),
    ) -> Result<(), LoadError> {
        for table in tables(contract, rules, loaded)?.tables {
            let Some(row) = loaded.1.table(&table.record.table) else { continue };
            for index in row.indexes_in(IndexState::Building) {
                build::build(self, &table, index.number).await?;
            }
            for index in row.indexes_in(IndexState::Dropping) {
                build::purge(self, &table, index.number).await?;
            }
        }
        Ok(())
    }

    /// Changes a module's row until that changes nothing more; gives it as it then stands, sealed and open.
    async fn change_module(
        &self,
        contract: &Contract,
        change: impl Fn(&ModuleRow) -> Result<ModuleRow, LoadError>,
    ) -> Result<(Bytes, ModuleRow), LoadError> {
        for _ in 0..MAX_ATTEMPTS {
            let mut open = self.begin(Now { unix_s: 0, nanos: 0 }).await?;
            let stored = open.module_row(&contract.module).await?;
            let row = match &stored {
                Some((_, row)) => row.clone(),
                None => ModuleRow::new(open.next_module_number(contract).await?),
            };
            let next = change(&row)?;
            match stored {
                Some(stored) if stored.1 == next => return Ok(stored),
                _ => open.put_row(SystemKind::Catalog, &row_name(&contract.module), next.encode_to_vec()).await?,
            }
            match open.commit().await {
                Ok(_) | Err(CommitError::Conflict) => {}
                Err(error) => return Err(StoreError::from(error).into()),
            }
        }
        Err(StoreError::from(CommitError::Conflict).into())
    }
}

impl Open {
    /// A module's row, sealed and open.
    pub(crate) async fn module_row(&mut self, module: &str) -> Result<Option<(Bytes, ModuleRow)>, StoreError> {
        let Some(sealed) = self.value(&module_key(module)).await? else { return Ok(None) };
        let Some(row) = self.row(SystemKind::Catalog, &row_name(module)).await? else { return Ok(None) };
        let row = ModuleRow::decode(row.as_slice()).map_err(|error| StoreError::Catalog { what: error.to_string() })?;
        Ok(Some((sealed, row)))
    }

    async fn next_module_number(&mut self, contract: &Contract) -> Result<u16, LoadError> {
        let mut given = Vec::new();
        for (_, row) in self.rows(SystemKind::Catalog, MODULE_PREFIX, None, MAX_MODULES).await? {
            let row = ModuleRow::decode(row.as_slice());
            given.push(row.map_err(|error| StoreError::Catalog { what: error.to_string() })?.number);
        }
        let exhausted = || crate::catalog::CatalogError::NumbersExhausted { module: contract.module.clone() };
        let next = next_number(given.into_iter()).ok_or_else(exhausted)?;
        Ok(number(next)?)
    }
}

fn row_name(module: &str) -> Vec<u8> {
    [MODULE_PREFIX, module.as_bytes()].concat()
}

/// The tables of a contract under the numbers of a row. Indexes that are being built are among theirs: they are written.
fn tables(contract: &Arc<Contract>, rules: &Arc<Rules>, loaded: &(Bytes, ModuleRow)) -> Result<Tables, LoadError> {
    let (sealed, row) = loaded;
    let mut tables = Vec::with_capacity(contract.records.len());
    for (at, record) in contract.records.iter().enumerate() {
        let missing = || StoreError::Catalog { what: format!("table `{}` has no number", record.table) };
        let of_table = row.table(&record.table).ok_or_else(missing)?;
        tables.push(Arc::new(Table {
            module: contract.module.clone(),
            module_number: number(row.number)?,
            number: number(of_table.number)?,
            indexes: indexes(record, of_table)?,
            record: record.clone(),
            rules: rules.record(at).clone(),
            catalog_row: sealed.clone(),
        }));
    }
    Ok(Tables { contract: contract.clone(), rules: rules.clone(), tables })
}

fn indexes(record: &Record, row: &TableRow) -> Result<Vec<TableIndex>, StoreError> {
    let mut indexes = Vec::new();
    for field in &record.fields {
        let Some((kind, row)) = field.index.and_then(|kind| Some((kind, row.index_of(&field.descriptor, kind)?)))
        else {
            continue;
        };
        indexes.push(TableIndex { number: number(row.number)?, field: field.descriptor.clone(), kind });
    }
    Ok(indexes)
}

fn number(number: u32) -> Result<u16, StoreError> {
    u16::try_from(number).map_err(|_| StoreError::Catalog { what: format!("the number {number} is too high") })
}
