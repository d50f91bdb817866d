//! A store in memory with one org and its notes, for tests of what cannot be reached from outside.

use crate::engine::{AnyEngine, memory::MemoryEngine};
use crate::{
    open::Open,
    store::Store,
    table::{Table, Tables},
};
use prost_reflect::{DynamicMessage, Value};
use std::sync::Arc;
use sys_contract::{
    Origin, SourceFile,
    id::{AccountId, OrgId, OrgTag, RecordId, SessionId},
    model::Role,
};
use sys_keys::{Keyring, Unsealer, deterministic::SeededEntropy};
use sys_policy::{Binding, BindingScope, Caller, Now, Rules, Standing};
use tempfile::TempDir;

const NOTES: &str = include_str!("../../../modules/mod-notes/notes/v1/notes.proto");
const NOW: Now = Now { unix_s: 1_790_000_000, nanos: 0 };

pub(crate) struct Bed {
    pub(crate) store: Store,
    pub(crate) notes: Arc<Table>,
    pub(crate) org: OrgId,
    pub(crate) admin: Caller,
    pub(crate) guest: Caller,
    _files: TempDir,
}

impl Bed {
    pub(crate) async fn new() -> Self {
        let files = TempDir::new().unwrap();
        let entropy = Arc::new(SeededEntropy::danger_from_seed(1));
        let unsealer = Unsealer::DangerKeyFile(files.path().join("danger"));
        let keyring = Keyring::create(&files.path().join("keys"), &unsealer, entropy.clone()).unwrap();
        let store = Store::open(AnyEngine::Memory(MemoryEngine::new()), keyring, entropy).await.unwrap();
        let source = SourceFile { path: "notes/v1/notes.proto".to_owned(), text: NOTES.to_owned() };
        let contract = Arc::new(sys_contract::load("mod-notes", Origin::Uploaded, &[source]).unwrap());
        let rules = Arc::new(Rules::compile(&contract).unwrap());
        let tables: Arc<Tables> = store.load(contract, rules).await.unwrap();
        let notes = tables.table(0).unwrap().clone();
        let org = OrgId::from_record(RecordId::new(OrgTag::GLOBAL, 1_700_000_000_000, [7; 10]));
        let caller = |number: u8, role| {
            let account = AccountId::from_record(RecordId::new(OrgTag::GLOBAL, 1, [number; 10]));
            let session = SessionId::from_record(RecordId::new(OrgTag::GLOBAL, 1, [number; 10]));
            let binding = Binding { role, scope: BindingScope::Org(org.tag()), expires_unix_s: None };
            Caller::new(account, session, Standing::Verified, vec![binding])
        };
        let (admin, guest) = (caller(1, Role::Admin), caller(2, Role::Guest));
        Self { store, notes, org, admin, guest, _files: files }
    }

    pub(crate) async fn begin(&self) -> Open {
        self.store.begin(NOW).await.unwrap()
    }

    /// A note of the org's, as a message.
    pub(crate) fn message(&self, published: bool) -> DynamicMessage {
        let mut note = self.notes.empty_record();
        note.set_field_by_name("org_id", Value::String(self.org.to_string()));
        note.set_field_by_name("title", Value::String("Plan".to_owned()));
        note.set_field_by_name("published", Value::Bool(published));
        note
    }

    /// A note of the org's, stored. There is no directory, so that no scope is looked up.
    pub(crate) async fn note(&self, published: bool) -> RecordId {
        let mut open = self.begin().await;
        let id = open.new_id(self.org.tag());
        open.create_record(&self.notes, id, self.message(published)).await.unwrap();
        open.commit().await.unwrap();
        id
    }
}
