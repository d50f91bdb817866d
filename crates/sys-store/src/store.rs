//! The store: one engine, one key ring, and the tables that contracts were loaded into.

use crate::{
    engine::{AnyEngine, Engine, EngineError, redb::EngineStats},
    key::system_space,
    open::Open,
    refused::StoreError,
    system::SystemKind,
    table::Table,
};
use std::{
    fmt,
    sync::{Arc, OnceLock},
};
use sys_keys::{Entropy, Keyring, SpaceKeys};
use sys_policy::Now;

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
        Self(Arc::new(Inner { engine, keyring, entropy, directory: OnceLock::new() }))
    }

    /// Whether the store has been opened before. Fails if that was not under these keys, or by a server of another version.
    pub(crate) async fn is_known(&self, open: &mut Open) -> Result<bool, StoreError> {
        match open.row(SystemKind::Catalog, IDENTITY_ROW).await? {
            Some(row) if row.as_slice() == IDENTITY => Ok(true),
            Some(_) => Err(StoreError::Catalog { what: "it is of another version of the server".to_owned() }),
            None => Ok(false),
        }
    }

    /// Begins a transaction on the newest committed state. `now` is the time for all that happens in it.
    pub async fn begin(&self, now: Now) -> Result<Open, StoreError> {
        Ok(Open::new(self.clone(), self.0.engine.begin().await?, now))
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

    pub(crate) fn directory(&self) -> Result<&Directory, StoreError> {
        self.0.directory.get().ok_or(StoreError::NoDirectory)
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("engine", &self.0.engine).finish_non_exhaustive()
    }
}
