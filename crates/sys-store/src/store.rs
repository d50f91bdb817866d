//! The store: one engine, one key ring, and the tables that contracts were loaded into.

use crate::{
    engine::{AnyEngine, Changes, Engine, EngineError, KeyRange, Order, redb::EngineStats},
    key::system_space,
    open::Open,
    prune::Unpruned,
    refused::StoreError,
    system::SystemKind,
    table::Table,
};
use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, OnceLock, PoisonError, RwLock},
};
use sys_contract::id::OrgTag;
use sys_keys::{Entropy, Keyring, SpaceKeys, TOKEN_BYTES};
use sys_policy::Now;
use tokio::sync::Mutex;

/// Name of the row by which a store knows that it has been opened with the right keys.
const IDENTITY_ROW: &[u8] = b"identity";
/// What stands in it.
const IDENTITY: &[u8] = b"sys-store 1";

/// A store of sealed records. Cheap to clone; all clones are one store.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    engine: AnyEngine,
    keyring: Keyring,
    entropy: Arc<dyn Entropy>,
    directory: OnceLock<Directory>,
    unpruned: Mutex<Unpruned>,
    /// By module, the hash of the contract that was loaded last.
    contracts: RwLock<HashMap<String, [u8; TOKEN_BYTES]>>,
}

/// Where orgs and projects stand, so that a record is not created in one that does not exist.
pub(crate) struct Directory {
    pub(crate) orgs: Arc<Table>,
    pub(crate) projects: Arc<Table>,
}

impl Store {
    /// Opens the store in an engine. Fails if what is in it was not sealed under this key ring.
    pub async fn open(engine: AnyEngine, keyring: Keyring, entropy: Arc<dyn Entropy>) -> Result<Self, StoreError> {
        let store = Self::open_to_check(engine, keyring, entropy);
        let mut open = store.begin(Now { unix_s: 0, nanos: 0 }).await?;
        if !store.is_known(&mut open).await? {
            open.put_row(SystemKind::Catalog, IDENTITY_ROW, IDENTITY.to_vec()).await?;
            open.commit().await?;
        }
        Ok(store)
    }

    /// The store in an engine as it is: nothing is looked at and nothing written, so that [`Store::check`] can say what is
    /// wrong with it.
    pub fn open_to_check(engine: AnyEngine, keyring: Keyring, entropy: Arc<dyn Entropy>) -> Self {
        Self(Arc::new(Inner {
            engine,
            keyring,
            entropy,
            directory: OnceLock::new(),
            unpruned: Mutex::default(),
            contracts: RwLock::default(),
        }))
    }

    /// Whether the store has been opened before. Fails if that was not under these keys, or by a server of another version, and
    /// where there are rows without the one that says so: to begin a catalog anew would give their numbers to other tables.
    pub(crate) async fn is_known(&self, open: &mut Open) -> Result<bool, StoreError> {
        let row = open.row(SystemKind::Catalog, IDENTITY_ROW).await.map_err(|error| match error {
            StoreError::Sealed { .. } => StoreError::OtherKeys,
            other => other,
        });
        match row? {
            Some(row) if row.as_slice() == IDENTITY => Ok(true),
            Some(_) => Err(StoreError::Catalog { what: "it is of another version of the server".to_owned() }),
            None if open.rows_in(KeyRange::all(), Order::Asc, 1).await?.is_empty() => Ok(false),
            None => {
                let what = "there are rows, but none that says what store it is: restore a backup";
                Err(StoreError::Catalog { what: what.to_owned() })
            }
        }
    }

    /// Begins a transaction on the newest committed state. `now` is the time for all that happens in it.
    pub async fn begin(&self, now: Now) -> Result<Open, StoreError> {
        Ok(Open::new(self.clone(), self.0.engine.begin().await?, now))
    }

    /// Hears of each commit from now on that writes records of a table in an org's tablespace; for a type at home GLOBAL the
    /// org does not matter. To subscribe before the transaction that looks first: then nothing is missed in between.
    pub fn changes(&self, table: &Table, org: OrgTag) -> Changes {
        self.0.engine.changes(table.at(org).changes())
    }

    /// Says in which tables orgs and projects stand. Until then no record with a scope can be created.
    pub fn set_directory(&self, orgs: Arc<Table>, projects: Arc<Table>) -> Result<(), StoreError> {
        self.0.directory.set(Directory { orgs, projects }).map_err(|_| StoreError::DirectoryTwice)
    }

    /// The key ring.
    pub fn keyring(&self) -> &Keyring {
        &self.0.keyring
    }

    /// The keys of the server itself, below which its token-signing keys hang. A store has them once it is open.
    pub fn system_keys(&self) -> Result<Arc<SpaceKeys>, StoreError> {
        Ok(self.0.keyring.space_or_create(system_space())?)
    }

    /// What its engine has done since it was opened.
    pub fn engine_stats(&self) -> Result<Option<EngineStats>, EngineError> {
        self.0.engine.stats()
    }

    /// The source of nonces and ids.
    pub fn entropy(&self) -> &Arc<dyn Entropy> {
        &self.0.entropy
    }

    pub(crate) fn engine(&self) -> &AnyEngine {
        &self.0.engine
    }

    pub(crate) fn unpruned(&self) -> &Mutex<Unpruned> {
        &self.0.unpruned
    }

    /// A module was loaded: tables of an older contract are not the last any more.
    pub(crate) fn note_contract(&self, module: &str, hash: [u8; TOKEN_BYTES]) {
        self.0.contracts.write().unwrap_or_else(PoisonError::into_inner).insert(module.to_owned(), hash);
    }

    /// Whether no other contract of the table's module was loaded since the table's.
    pub(crate) fn is_last_loaded(&self, table: &Table) -> bool {
        let contracts = self.0.contracts.read().unwrap_or_else(PoisonError::into_inner);
        contracts.get(&table.module).is_none_or(|loaded| *loaded == table.contract)
    }

    pub(crate) fn directory(&self) -> Result<&Directory, StoreError> {
        self.0.directory.get().ok_or(StoreError::NoDirectory)
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("engine", &self.0.engine).finish_non_exhaustive()
    }
}
