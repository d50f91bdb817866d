//! A store with two orgs and three projects in it, and short words for what tests do.

use prost_reflect::{DynamicMessage, Value};
use std::{path::PathBuf, sync::Arc};
use sys_contract::{
    Origin, SourceFile,
    id::{AccountId, OrgId, OrgTag, ProjectId, RecordId, SessionId},
    model::{Contract, Role},
};
use sys_keys::{Entropy, Keyring, Unsealer, deterministic::SeededEntropy};
use sys_policy::{Binding, BindingScope, Caller, Now, Rules, Standing};
use sys_store::{
    Change, Confined, ListRequest, LoadError, Open, Page, Refused, Store, Table, Tables, View, Written,
    engine::{
        AnyEngine,
        memory::MemoryEngine,
        redb::{RedbEngine, RedbOptions},
    },
};
use tempfile::TempDir;

pub(crate) const NOTES: &str = include_str!("../../../../modules/mod-notes/notes/v1/notes.proto");
pub(crate) const TASKS: &str = include_str!("contracts/tasks.proto");
pub(crate) const DIRECTORY: &str = include_str!("contracts/directory.proto");

/// The time of all calls.
pub(crate) const NOW: Now = Now { unix_s: 1_790_000_000, nanos: 0 };

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Memory,
    Redb,
}

pub(crate) const BOTH: [Kind; 2] = [Kind::Memory, Kind::Redb];

pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) engine: AnyEngine,
    pub(crate) directory: Arc<Tables>,
    /// A and B.
    pub(crate) orgs: Vec<OrgId>,
    /// A1, A2 and B1 with their orgs.
    pub(crate) projects: Vec<(OrgId, ProjectId)>,
    pub(crate) files: TempDir,
}

impl World {
    pub(crate) async fn new(kind: Kind) -> Self {
        Self::with_entropy(kind, Arc::new(SeededEntropy::danger_from_seed(1))).await
    }

    pub(crate) async fn with_entropy(kind: Kind, entropy: Arc<dyn Entropy>) -> Self {
        let files = TempDir::new().unwrap();
        let engine = match kind {
            Kind::Memory => AnyEngine::Memory(MemoryEngine::new()),
            Kind::Redb => {
                let path = files.path().join("data");
                AnyEngine::Redb(RedbEngine::open(&path, RedbOptions::default()).unwrap())
            }
        };
        let unsealer = Unsealer::DangerKeyFile(files.path().join("danger"));
        let keyring = Keyring::create(&files.path().join("keys"), &unsealer, entropy.clone()).unwrap();
        let store = Store::open(engine.clone(), keyring, entropy).await.unwrap();
        let contract = compile("sys-directory", "sys/directory/v1/directory.proto", DIRECTORY);
        let directory = load(&store, contract).await.unwrap();
        store.set_directory(directory.table(0).unwrap().clone(), directory.table(1).unwrap().clone()).unwrap();
        let mut world = Self { store, engine, directory, orgs: Vec::new(), projects: Vec::new(), files };
        for name in ["A", "B"] {
            let org = world.make(0, &[("name", text(name))]).await;
            world.orgs.push(OrgId::from_record(org));
        }
        for (org, name) in [(0, "1"), (0, "2"), (1, "1")] {
            let org = world.orgs[org];
            let project = world.make(1, &[("org_id", text(&org.to_string())), ("name", text(name))]).await;
            world.projects.push((org, ProjectId::from_record(project)));
        }
        world
    }

    async fn make(&self, table: usize, fields: &[(&str, Value)]) -> RecordId {
        let table = self.directory.table(table).unwrap();
        let mut open = self.begin().await;
        let stored = open.danger_unruled(table).create(message(table, fields)).await.unwrap();
        open.commit().await.unwrap();
        stored.id()
    }

    pub(crate) async fn begin(&self) -> Open {
        self.store.begin(NOW).await.unwrap()
    }

    pub(crate) async fn notes(&self) -> Arc<Table> {
        let contract = compile("mod-notes", "notes/v1/notes.proto", NOTES);
        load(&self.store, contract).await.unwrap().table(0).unwrap().clone()
    }

    pub(crate) async fn tasks(&self) -> Arc<Table> {
        self.load_tasks(TASKS).await.unwrap()
    }

    pub(crate) async fn load_tasks(&self, text: &str) -> Result<Arc<Table>, LoadError> {
        let tables = load(&self.store, compile("mod-tasks", "tasks/v1/tasks.proto", text)).await?;
        Ok(tables.by_name("tasks.v1.Task").unwrap().clone())
    }

    pub(crate) fn data_file(&self) -> PathBuf {
        self.files.path().join("data")
    }

    pub(crate) fn org_text(&self, org: usize) -> String {
        self.orgs[org].to_string()
    }

    pub(crate) fn project_text(&self, project: usize) -> String {
        self.projects[project].1.to_string()
    }

    /// A role at one of the projects.
    pub(crate) fn at_project(&self, role: Role, project: usize) -> Binding {
        let (org, project) = self.projects[project];
        Binding { role, scope: BindingScope::Project(org.tag(), project), expires_unix_s: None }
    }

    /// A role at one of the orgs.
    pub(crate) fn at_org(&self, role: Role, org: usize) -> Binding {
        Binding { role, scope: BindingScope::Org(self.orgs[org].tag()), expires_unix_s: None }
    }

    /// A task of a project, with the fields that place it.
    pub(crate) fn task(&self, table: &Table, project: usize, fields: &[(&str, Value)]) -> DynamicMessage {
        let (org, project) = self.projects[project];
        let mut task = message(table, fields);
        task.set_field_by_name("org_id", text(&org.to_string()));
        task.set_field_by_name("project_id", text(&project.to_string()));
        task
    }

    /// Creates in a transaction of its own.
    pub(crate) async fn create(
        &self,
        table: &Arc<Table>,
        caller: &Caller,
        new: DynamicMessage,
    ) -> Result<Written, Refused> {
        let mut open = self.begin().await;
        let written = open.confined(table, caller).create(new).await?;
        open.commit().await.unwrap();
        Ok(written)
    }

    /// Updates in a transaction of its own.
    pub(crate) async fn update(
        &self,
        table: &Arc<Table>,
        caller: &Caller,
        id: RecordId,
        mask: &[&str],
        new: DynamicMessage,
        etag: Option<&str>,
    ) -> Result<Written, Refused> {
        let mut open = self.begin().await;
        let written = update_in(&mut open.confined(table, caller), id, mask, new, etag).await?;
        open.commit().await.unwrap();
        Ok(written)
    }

    pub(crate) async fn get(&self, table: &Arc<Table>, caller: &Caller, id: RecordId) -> Option<View> {
        self.begin().await.confined(table, caller).find(id).await.unwrap()
    }

    pub(crate) async fn list(
        &self,
        table: &Arc<Table>,
        caller: &Caller,
        request: &ListRequest,
    ) -> Result<Page, Refused> {
        self.begin().await.confined(table, caller).list(request).await
    }
}

/// Asks, parses and does.
pub(crate) async fn update_in(
    confined: &mut Confined<'_>,
    id: RecordId,
    mask: &[&str],
    new: DynamicMessage,
    etag: Option<&str>,
) -> Result<Written, Refused> {
    let mask: Vec<String> = mask.iter().map(|path| (*path).to_owned()).collect();
    let change = Change::parse(confined.table(), &mask, new)?;
    let permit = confined.permit(sys_contract::model::Verb::Update, id).await?;
    confined.update(permit, &change, etag).await
}

pub(crate) fn compile(module: &str, path: &str, proto: &str) -> Contract {
    let origin = if module.starts_with("sys-") { Origin::BuiltIn } else { Origin::Uploaded };
    let source = SourceFile { path: path.to_owned(), text: proto.to_owned() };
    sys_contract::load(module, origin, &[source]).unwrap_or_else(|problems| panic!("{problems}"))
}

pub(crate) async fn load(store: &Store, contract: Contract) -> Result<Arc<Tables>, LoadError> {
    let rules = Rules::compile(&contract).unwrap_or_else(|problems| panic!("{problems}"));
    store.load(Arc::new(contract), Arc::new(rules)).await
}

pub(crate) fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

pub(crate) fn message(table: &Table, fields: &[(&str, Value)]) -> DynamicMessage {
    let mut message = table.empty_record();
    for (name, value) in fields {
        message.set_field_by_name(name, value.clone());
    }
    message
}

pub(crate) fn field(message: &DynamicMessage, name: &str) -> Value {
    message.get_field_by_name(name).unwrap().into_owned()
}

pub(crate) fn field_text(message: &DynamicMessage, name: &str) -> String {
    field(message, name).as_str().unwrap().to_owned()
}

pub(crate) fn account(number: u8) -> AccountId {
    AccountId::from_record(RecordId::new(OrgTag::GLOBAL, 1_700_000_000_000, [number; 10]))
}

/// A verified account with these bindings.
pub(crate) fn caller(number: u8, bindings: Vec<Binding>) -> Caller {
    caller_in(Standing::Verified, number, bindings)
}

pub(crate) fn caller_in(standing: Standing, number: u8, bindings: Vec<Binding>) -> Caller {
    let session = SessionId::from_record(RecordId::new(OrgTag::GLOBAL, 1_700_000_000_000, [number; 10]));
    Caller::new(account(number), session, standing, bindings)
}

/// What kind of refusal, for comparison.
pub(crate) fn kind(refused: &Refused) -> String {
    match refused {
        Refused::NotFound => "not found".to_owned(),
        Refused::Denied { field } => format!("denied {}", field.as_deref().unwrap_or_default()).trim().to_owned(),
        Refused::Invalid { field, .. } => format!("invalid {field}"),
        Refused::EtagMismatch => "etag".to_owned(),
        Refused::Taken { field } => format!("taken {field}"),
        Refused::PageToken => "page token".to_owned(),
        Refused::ResumeToken => "resume token".to_owned(),
        Refused::Store(error) => panic!("the store failed: {error} ({error:?})"),
    }
}

pub(crate) fn refusal<T: std::fmt::Debug>(result: Result<T, Refused>) -> String {
    kind(&result.expect_err("refused"))
}
