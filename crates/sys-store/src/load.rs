//! A contract loaded: its numbers found or given, its indexes made to hold all records.
//!
//! A load first writes the module's row of the catalog, which makes every transaction under an older load conflict; then it
//! builds what is new, in small transactions beside the traffic; only when that is done does it let go of what the contract no
//! longer names. A load that fails leaves the older contract as it was.

use crate::{
    build,
    catalog::{IndexState, ModuleRow, TableRow, next_number},
    engine::{CommitError, KeyRange, Order},
    key::{of_space, system_space},
    open::Open,
    refused::{LoadError, StoreError},
    shape::Kept,
    store::Store,
    system::SystemKind,
    table::{Table, TableIndex, Tables},
};
use bytes::Bytes;
use prost::Message;
use std::{collections::BTreeSet, sync::Arc};
use sys_contract::model::{Contract, Record};
use sys_keys::{TOKEN_BYTES, length_prefixed};
use sys_policy::{Now, Rules};

/// What the names of module rows begin with.
pub(crate) const MODULE_PREFIX: &[u8] = b"module/";
/// Most modules of one server.
pub(crate) const MAX_MODULES: usize = 1_000;
/// How often a transaction of a load begins again before the load fails. Only other loads and, while an index is built,
/// writes to the same records stand against it.
pub(crate) const MAX_ATTEMPTS: usize = 32;

/// What a load does to its module's row, each in a transaction of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Numbers for what is new.
    Begin,
    /// The load failed: what is new goes again, and the older load's tables are as good as before.
    GiveUp,
    /// What is new is ready, what is not named goes, and the contract is the one to hold the next against.
    Settle,
    /// What went is gone.
    Purge,
}

/// The key of a module's row.
pub(crate) fn module_key(module: &str) -> Bytes {
    SystemKind::Catalog.key(&row_name(module))
}

impl Store {
    /// Loads a contract: afterwards its tables can be used, and those of an older load of the same module no longer where
    /// their indexes differ from this one's.
    pub async fn load(&self, contract: Arc<Contract>, rules: Arc<Rules>) -> Result<Arc<Tables>, LoadError> {
        let hash = self.hash_of(&contract)?;
        let begun = self.change_module(&contract, Step::Begin).await?;
        if let Err(error) = self.build_indexes(&contract, &rules, hash, &begun).await {
            self.change_module(&contract, Step::GiveUp).await?;
            return Err(error);
        }
        let (_, settled) = self.change_module(&contract, Step::Settle).await?;
        for table in tables(&contract, &rules, hash, &begun)?.tables {
            let row = settled.table(&table.record.table);
            for index in row.into_iter().flat_map(|row| row.indexes_in(IndexState::Dropping)) {
                build::purge(self, &table, index.number).await?;
            }
        }
        let purged = self.change_module(&contract, Step::Purge).await?;
        let loaded = tables(&contract, &rules, hash, &purged)?;
        self.note_contract(&contract.module, hash);
        Ok(Arc::new(loaded))
    }

    /// What tells a contract from every other, and this server from one that may read it in another way.
    fn hash_of(&self, contract: &Contract) -> Result<[u8; TOKEN_BYTES], StoreError> {
        let files = contract.files.iter().filter_map(|file| contract.pool.get_file_by_name(file));
        let mut parts: Vec<Vec<u8>> = files.map(|file| file.encode_to_vec()).collect();
        parts.push(env!("CARGO_PKG_VERSION").into());
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        Ok(self.system_keys()?.newest().etag(&length_prefixed(&parts)))
    }

    async fn build_indexes(
        &self,
        contract: &Arc<Contract>,
        rules: &Arc<Rules>,
        hash: [u8; TOKEN_BYTES],
        begun: &(Bytes, ModuleRow),
    ) -> Result<(), LoadError> {
        for table in tables(contract, rules, hash, begun)?.tables {
            let row = begun.1.table(&table.record.table);
            for index in row.into_iter().flat_map(|row| row.indexes_in(IndexState::Building)) {
                build::build(self, &table, index.number).await?;
            }
        }
        Ok(())
    }

    /// Takes a step until it changes nothing more; gives the module's row as it then stands, sealed and open.
    async fn change_module(&self, contract: &Contract, step: Step) -> Result<(Bytes, ModuleRow), LoadError> {
        for _ in 0..MAX_ATTEMPTS {
            let mut open = self.begin(Now { unix_s: 0, nanos: 0 }).await?;
            let kept = open.check_shape(contract).await?;
            let stored = open.module_row(&contract.module).await?;
            let row = match &stored {
                Some((_, row)) => row.clone(),
                None => ModuleRow::new(open.next_module_number(contract).await?),
            };
            if step == Step::Begin && kept == Kept::Otherwise {
                open.refuse_owned(contract).await?;
            }
            let next = match step {
                Step::Begin => row.begun(contract)?,
                Step::GiveUp => row.given_up(),
                Step::Settle => row.settled(contract),
                Step::Purge => row.purged(),
            };
            let keeps = step == Step::Settle && kept == Kept::Otherwise;
            match stored {
                Some(stored) if stored.1 == next && !keeps => return Ok(stored),
                _ => open.put_row(SystemKind::Catalog, &row_name(&contract.module), next.encode_to_vec()).await?,
            }
            if keeps {
                open.keep_shape(contract).await?;
            }
            match open.commit().await {
                Ok(_) | Err(CommitError::Conflict) => {}
                Err(error) => return Err(StoreError::from(error).into()),
            }
        }
        Err(StoreError::from(CommitError::Conflict).into())
    }
}

impl Store {
    /// The modules that have been loaded at any time, loaded now or not.
    pub async fn known_modules(&self) -> Result<Vec<String>, StoreError> {
        self.begin(Now { unix_s: 0, nanos: 0 }).await?.module_names().await
    }
}

impl Open {
    /// The modules that have a row.
    pub(crate) async fn module_names(&mut self) -> Result<Vec<String>, StoreError> {
        let rows = self.rows(SystemKind::Catalog, MODULE_PREFIX, None, MAX_MODULES).await?;
        let names = rows.iter().filter_map(|(name, _)| name.strip_prefix(MODULE_PREFIX));
        Ok(names.map(|name| String::from_utf8_lossy(name).into_owned()).collect())
    }

    /// A module's row, sealed and open.
    pub(crate) async fn module_row(&mut self, module: &str) -> Result<Option<(Bytes, ModuleRow)>, StoreError> {
        let Some(sealed) = self.value(&module_key(module)).await? else { return Ok(None) };
        let Some(row) = self.row(SystemKind::Catalog, &row_name(module)).await? else { return Ok(None) };
        let row = ModuleRow::decode(row.as_slice()).map_err(|error| StoreError::Catalog { what: error.to_string() })?;
        Ok(Some((sealed, row)))
    }

    /// The numbers that have keys and no module: those of a data file that was put back from before the module came. They are not
    /// given again, since the keys are another's. Fails where there are rows under one: then a module's row was lost, and the
    /// module is not to begin anew beside its own records.
    async fn orphaned_numbers(&mut self, given: &[u32]) -> Result<BTreeSet<u32>, StoreError> {
        let mut orphaned = BTreeSet::new();
        for space in self.store.keyring().spaces() {
            let number = u32::from(space.module);
            if space == system_space() || given.contains(&number) {
                continue;
            }
            if !self.rows_in(KeyRange::prefix(&of_space(space)), Order::Asc, 1).await?.is_empty() {
                let what = format!("there are rows of a module {number}, and none that names it: restore a backup");
                return Err(StoreError::Catalog { what });
            }
            orphaned.insert(number);
        }
        Ok(orphaned)
    }

    async fn next_module_number(&mut self, contract: &Contract) -> Result<u16, LoadError> {
        let mut given = Vec::new();
        for (_, row) in self.rows(SystemKind::Catalog, MODULE_PREFIX, None, MAX_MODULES).await? {
            let row = ModuleRow::decode(row.as_slice());
            given.push(row.map_err(|error| StoreError::Catalog { what: error.to_string() })?.number);
        }
        given.extend(self.orphaned_numbers(&given).await?);
        let exhausted = || crate::catalog::CatalogError::NumbersExhausted { module: contract.module.clone() };
        let next = next_number(given.into_iter()).ok_or_else(exhausted)?;
        Ok(number(next)?)
    }
}

fn row_name(module: &str) -> Vec<u8> {
    [MODULE_PREFIX, module.as_bytes()].concat()
}

/// The tables of a contract under the numbers of a row. Indexes that are being built are among theirs: they are written.
fn tables(
    contract: &Arc<Contract>,
    rules: &Arc<Rules>,
    hash: [u8; TOKEN_BYTES],
    loaded: &(Bytes, ModuleRow),
) -> Result<Tables, LoadError> {
    let (sealed, row) = loaded;
    let mut tables = Vec::with_capacity(contract.records.len());
    for (at, record) in contract.records.iter().enumerate() {
        let missing = || StoreError::Catalog { what: format!("table `{}` has no number", record.table) };
        let of_table = row.table(&record.table).ok_or_else(missing)?;
        tables.push(Arc::new(Table::new(
            (&contract.module, number(row.number)?),
            number(of_table.number)?,
            record.clone(),
            rules.record(at).clone(),
            indexes(record, of_table)?,
            (sealed.clone(), hash),
        )));
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
