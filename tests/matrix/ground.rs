//! The server that is attacked, and the way beneath it by which its world is laid out.
//!
//! Rows are written straight into its store, without the rules: thousands of small worlds in every state that could not be had
//! through calls, such as a live session of a disabled account. All that is asked of the rules goes over the wire.

use prost_reflect::{DynamicMessage, SerializeOptions};
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
};
use sys_contract::{
    id::{AccountId, OrgTag, RecordId, SessionId},
    model::{Contract, Record},
};
use sys_core::{
    clock::Clock,
    host::LoadedModule,
    token::{ACCESS_TOKEN_S, AccessTokens, RefreshToken, RefreshTokens, TokenSecret},
};
use sys_keys::Secret;
use sys_policy::Now;
use sys_server::Server;
use sys_store::{Find, Store, Table, engine::CommitError};
use sys_tests::{Options, PASSWORD, config, workspace};
use tempfile::TempDir;
use tokio::{sync::oneshot, task::JoinHandle};

/// The modules that are attacked: all that an ordinary server loads, and one in which each kind of rule stands.
const MODULES: [&str; 5] = ["sys-core", "sys-account", "sys-domain", "mod-notes", "probe"];
/// The time at the server. It stands still, so that conditions on it come out alike.
const NOW_UNIX_S: i64 = 1_800_000_000;

pub(crate) struct Ground {
    pub(crate) addr: SocketAddr,
    store: Store,
    modules: Vec<Arc<LoadedModule>>,
    access: AccessTokens,
    foreign: AccessTokens,
    refresh: RefreshTokens,
    /// What is stored of [`PASSWORD`]: hashed once.
    password_phc: String,
    serial: AtomicUsize,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<anyhow::Result<sys_edge::Drained>>,
    _dir: TempDir,
}

/// A row that is to be written.
pub(crate) struct Row {
    pub(crate) table: Arc<Table>,
    pub(crate) id: RecordId,
    pub(crate) message: DynamicMessage,
}

impl Ground {
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let modules = vec![workspace().join("modules/mod-notes"), probe()];
        let options = Options { modules: Some(modules), ..Options::default() };
        let mut config = config(&options, &dir.path().join("data"), &Arc::default()).expect("a configuration");
        config.clock = Clock::Manual(Arc::new(AtomicI64::new(NOW_UNIX_S)));
        let issuer = config.issuer.clone().expect("the harness names one");
        let server = Server::start(config, Vec::new()).await.expect("the server starts");
        let store = server.monitor().store().clone();
        let loaded = |name: &&str| server.monitor().host().loaded(name).unwrap_or_else(|| panic!("{name} is loaded"));
        let modules = MODULES.iter().map(loaded).collect();
        let keys = store.system_keys().expect("the keys of the server");
        let keys = keys.newest();
        let foreign = Secret::filled(|bytes| bytes.fill(7));
        let setup_token = server.new_setup_token().await.expect("the store answers").expect("no superadmin yet");
        let addr = server.addr();
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(server.serve(async {
            let _ = stopped.await;
        }));
        let body = json!({"token": setup_token.as_str(), "email": "root@example.org", "password": PASSWORD});
        sys_tests::Client::anonymous(addr).call("sys.account.v1.AuthService/Setup", body).await.ok();
        let mut ground = Self {
            addr,
            access: AccessTokens::new(&keys.derive("sys/access-token/ed25519/v1"), &issuer).expect("a key"),
            foreign: AccessTokens::new(&foreign, &issuer).expect("a key"),
            refresh: RefreshTokens::new(&keys.derive("sys/refresh-token/hmac/v1")),
            store,
            modules,
            password_phc: String::new(),
            serial: AtomicUsize::new(0),
            stop,
            serving,
            _dir: dir,
        };
        ground.password_phc = ground.phc_of_root().await;
        ground
    }

    pub(crate) async fn stop(self) {
        let _ = self.stop.send(());
        self.serving.await.expect("the server does not panic").expect("the server stops cleanly");
    }

    pub(crate) fn contracts(&self) -> impl Iterator<Item = &Arc<Contract>> {
        self.modules.iter().map(|module| module.contract())
    }

    /// The table of a record type, by its full name.
    pub(crate) fn table(&self, name: &str) -> &Arc<Table> {
        let found = self.modules.iter().find_map(|module| module.tables().by_name(name));
        found.unwrap_or_else(|| panic!("{name} is no record of a loaded module"))
    }

    pub(crate) fn table_of(&self, record: &Record) -> &Arc<Table> {
        self.table(record.message.full_name())
    }

    pub(crate) fn now(&self) -> Now {
        Now { unix_s: NOW_UNIX_S, nanos: 0 }
    }

    /// A number that nothing else has.
    pub(crate) fn serial(&self) -> usize {
        self.serial.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn password_phc(&self) -> &str {
        &self.password_phc
    }

    pub(crate) fn new_id(&self, home: OrgTag) -> RecordId {
        let unix_ms = u64::try_from(NOW_UNIX_S).expect("after 1970") * 1000;
        RecordId::new(home, unix_ms, self.random())
    }

    pub(crate) fn secret(&self) -> TokenSecret {
        TokenSecret::new(self.random())
    }

    fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.store.entropy().fill(&mut bytes);
        bytes
    }

    /// An access token of this server, issued so many seconds ago.
    pub(crate) fn access_token(&self, account: AccountId, session: SessionId, age_s: i64) -> String {
        self.access.sign(account, session, None, i64::MAX, NOW_UNIX_S - age_s, self.random()).text
    }

    /// One that has expired this second.
    pub(crate) fn expired_token(&self, account: AccountId, session: SessionId) -> String {
        self.access_token(account, session, ACCESS_TOKEN_S)
    }

    /// One that says the same under another server's key.
    pub(crate) fn foreign_token(&self, account: AccountId, session: SessionId) -> String {
        self.foreign.sign(account, session, None, i64::MAX, NOW_UNIX_S, self.random()).text
    }

    /// The newest refresh token of a session, whose secret this is.
    pub(crate) fn refresh_token(&self, session: SessionId, secret: TokenSecret) -> String {
        self.refresh.text(&RefreshToken { session, counter: 1, secret }).to_string()
    }

    /// A row of this table, from JSON.
    pub(crate) fn row(&self, table: &str, id: RecordId, fields: Value) -> Row {
        let table = self.table(table).clone();
        let message = DynamicMessage::deserialize(table.record().message.clone(), fields).expect("a row in JSON");
        Row { table, id, message }
    }

    /// Writes rows in one transaction: new ones, and the next state of those that are there.
    pub(crate) async fn write(&self, rows: &[Row]) {
        loop {
            let mut open = self.store.begin(self.now()).await.expect("the store opens");
            for Row { table, id, message } in rows {
                let mut records = open.danger_unruled(table);
                let there = records.get(*id).await.expect("the store answers").is_some();
                let written = if there {
                    records.update(*id, message.clone()).await
                } else {
                    records.create_as(*id, message.clone()).await
                };
                written.unwrap_or_else(|error| panic!("{}: {error}", json_of(message)));
            }
            match open.commit().await {
                Ok(_) => return,
                Err(CommitError::Conflict) => {}
                Err(error) => panic!("the commit failed: {error}"),
            }
        }
    }

    /// A record as it is stored.
    pub(crate) async fn stored(&self, table: &Arc<Table>, id: RecordId) -> Option<DynamicMessage> {
        let mut open = self.store.begin(self.now()).await.expect("the store opens");
        let stored = open.danger_unruled(table).get(id).await.expect("the store answers");
        stored.map(sys_store::Stored::into_message)
    }

    async fn phc_of_root(&self) -> String {
        let mut open = self.store.begin(self.now()).await.expect("the store opens");
        let find = Find::all(OrgTag::GLOBAL).first(1);
        let found = open.danger_unruled(self.table("sys.core.v1.Principal")).find(&find).await;
        let root = found.expect("the store answers").pop().expect("there is a superadmin").into_message();
        root.get_field_by_name("password_phc").and_then(|phc| phc.as_str().map(str::to_owned)).expect("a hash")
    }
}

/// The folder of the module in which each kind of rule stands.
fn probe() -> PathBuf {
    workspace().join("tests/matrix/probe")
}

/// A message as people read it.
pub(crate) fn json_of(message: &DynamicMessage) -> String {
    let options = SerializeOptions::new().skip_default_fields(true);
    let mut text = Vec::new();
    let mut serializer = serde_json::Serializer::new(&mut text);
    message.serialize_with_options(&mut serializer, &options).expect("a message has a JSON form");
    String::from_utf8(text).expect("JSON is UTF-8")
}
