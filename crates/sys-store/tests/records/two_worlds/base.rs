//! Where all stores begin: made once, since compiling and loading contracts takes longer than a whole program.

use crate::harness::*;
use std::{fs, sync::Arc};
use sys_keys::{Entropy, Keyring, Unsealer, deterministic::SeededEntropy};
use sys_store::{
    Store, Table, Tables,
    engine::{
        AnyEngine,
        memory::MemoryEngine,
        redb::{RedbEngine, RedbOptions},
    },
};
use tempfile::TempDir;
use tokio::sync::OnceCell;

const PAPERS: &str = include_str!("../contracts/papers.proto");

/// A world with the papers' table and nothing in it.
pub(super) struct Base {
    rows: Rows,
    keys: Vec<u8>,
    sealer: Vec<u8>,
    directory: Arc<Tables>,
    orgs: Vec<sys_contract::id::OrgId>,
    projects: Vec<(sys_contract::id::OrgId, sys_contract::id::ProjectId)>,
    papers: Arc<Table>,
}

enum Rows {
    Memory(MemoryEngine),
    File(Vec<u8>),
}

impl Base {
    pub(super) async fn of(kind: Kind) -> &'static Self {
        static MEMORY: OnceCell<Base> = OnceCell::const_new();
        static REDB: OnceCell<Base> = OnceCell::const_new();
        let base = if kind == Kind::Memory { &MEMORY } else { &REDB };
        base.get_or_init(|| Self::new(kind)).await
    }

    async fn new(kind: Kind) -> Self {
        let world = World::with_entropy(kind, Arc::new(SeededEntropy::danger_from_seed(0))).await;
        let contract = compile("mod-papers", "papers/v1/papers.proto", PAPERS);
        let papers = load(&world.store, contract).await.unwrap().table(0).unwrap().clone();
        let rows = match &world.engine {
            AnyEngine::Memory(engine) => Rows::Memory(engine.fork()),
            AnyEngine::Redb(engine) => {
                engine.close();
                Rows::File(fs::read(world.data_file()).unwrap())
            }
        };
        let file = |name| fs::read(world.files.path().join(name)).unwrap();
        let (keys, sealer) = (file("keys"), file("danger"));
        let World { directory, orgs, projects, .. } = world;
        Self { rows, keys, sealer, directory, orgs, projects, papers }
    }

    /// A world of its own that begins like all others.
    pub(super) async fn fork(&self, entropy: Arc<dyn Entropy>) -> (World, Arc<Table>) {
        let files = TempDir::new().unwrap();
        let path = |name| files.path().join(name);
        let engine = match &self.rows {
            Rows::Memory(engine) => AnyEngine::Memory(engine.fork()),
            Rows::File(bytes) => {
                fs::write(path("data"), bytes).unwrap();
                AnyEngine::Redb(RedbEngine::open(&path("data"), RedbOptions::default()).unwrap())
            }
        };
        copy_private(&path("keys"), &self.keys);
        copy_private(&path("danger"), &self.sealer);
        let unsealer = Unsealer::DangerKeyFile(path("danger"));
        let keyring = Keyring::open(&path("keys"), &unsealer, entropy.clone()).unwrap();
        let store = Store::open(engine.clone(), keyring, entropy).await.unwrap();
        let (directory, orgs, projects) = (self.directory.clone(), self.orgs.clone(), self.projects.clone());
        store.set_directory(directory.table(0).unwrap().clone(), directory.table(1).unwrap().clone()).unwrap();
        (World { store, engine, directory, orgs, projects, files }, self.papers.clone())
    }
}

/// Key files are refused if others may read them.
fn copy_private(path: &std::path::Path, bytes: &[u8]) {
    use std::os::unix::fs::PermissionsExt;
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}
