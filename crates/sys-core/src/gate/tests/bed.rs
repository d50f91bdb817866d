//! A whole reference monitor over a store in memory, with a module that misbehaves.

use super::{PATIENCE, streams::words};
use crate::{
    audit::Leaf,
    call::Call,
    clock::Clock,
    gate::{Gate, Source},
    identity::wire::{Principal, Session},
    module::{Handlers, Module},
    monitor::{Monitor, Settings},
    outbox::{Effect, Mail},
    refusal::{Reason, Refusal},
    throttle::Rates,
    token::{CertificateHash, Claims},
};
use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Full};
use prost::Message;
use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
    time::Instant,
};
use sys_contract::{
    id::{AccountId, OrgTag, RecordId, SessionId},
    load::{Origin, SourceFile, load},
    model::Contract,
};
use sys_keys::{Entropy, Keyring, SystemEntropy, Unsealer};
use sys_policy::Now;
use sys_store::{
    LogKind, Open, Store,
    engine::{AnyEngine, Order, memory::MemoryEngine},
};
use tower::ServiceExt;

pub(super) const METHODS: &str = "sys.attack.v1.AttackService";

/// Where a handler left its call.
pub(super) type Leaked = Arc<Mutex<Option<Call>>>;

pub(super) struct Bed {
    monitor: Monitor,
    store: Store,
    pub(super) leaked: Leaked,
    shift_s: Arc<AtomicI64>,
    _files: tempfile::TempDir,
}

#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) code: String,
    pub(super) text: String,
}

#[derive(Clone, PartialEq, Message)]
struct Entry {
    #[prost(string, tag = "2")]
    owner_id: String,
    #[prost(string, tag = "3")]
    text: String,
    #[prost(message, optional, tag = "4")]
    opens: Option<prost_types::Timestamp>,
}

struct Attacks {
    contract: Arc<Contract>,
    leaked: Leaked,
}

impl Module for Attacks {
    fn contract(&self) -> Arc<Contract> {
        self.contract.clone()
    }

    fn register(self: Arc<Self>, handlers: &mut Handlers) {
        for method in ["Pass", "Enter", "Look", "Knock", "Say"] {
            handlers.unary(path_of(method), async |_, ()| Ok(()));
        }
        handlers.unary(path_of("Panic"), async |_, ()| -> Result<(), Refusal> { panic!("a secret") });
        handlers.unary(path_of("Mail"), async |call: Call, ()| call.after_commit(mail()).await);
        handlers.unary(path_of("Keep"), async |_, ()| -> Result<(), Refusal> {
            Err(Refusal::new(Reason::TokenRefused, "kept").keep_writes())
        });
        words::register(handlers);
        let leaked = self.leaked.clone();
        handlers.unary(path_of("Leak"), move |call, ()| {
            *leaked.lock().unwrap() = Some(call);
            std::future::ready(Ok(()))
        });
        for method in ["Hang", "Wait"] {
            let leaked = self.leaked.clone();
            handlers.unary(path_of(method), move |call: Call, ()| {
                *leaked.lock().unwrap() = Some(call.clone());
                async move {
                    drop(call.open().await?);
                    std::future::pending::<Result<(), Refusal>>().await
                }
            });
        }
    }
}

/// Handlers are registered under names that live as long as the program.
pub(super) fn path_of(method: &str) -> &'static str {
    format!("{METHODS}/{method}").leak()
}

pub(super) fn mail() -> Effect {
    Effect::Mail(Mail { to: "a@example.org".to_owned(), subject: "s".to_owned(), text: "t".to_owned() })
}

impl Bed {
    pub(super) async fn new() -> Self {
        Self::with_rates(Rates::default()).await
    }

    pub(super) async fn with_rates(rates: Rates) -> Self {
        let shift_s = Arc::<AtomicI64>::default();
        Self::with_clock(rates, Clock::Shifted(shift_s.clone()), shift_s).await
    }

    /// Where the server's clock is the runtime's, which the test holds.
    pub(super) async fn with_runtimes_clock() -> Self {
        let clock = Clock::Counted(Clock::System.now(), tokio::time::Instant::now());
        Self::with_clock(Rates::default(), clock, Arc::default()).await
    }

    async fn with_clock(rates: Rates, clock: Clock, shift_s: Arc<AtomicI64>) -> Self {
        let files = tempfile::tempdir().unwrap();
        let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy::default());
        let unsealer = Unsealer::DangerKeyFile(files.path().join("danger"));
        let keyring = Keyring::create(&files.path().join("keys"), &unsealer, entropy.clone()).unwrap();
        let store = Store::open(AnyEngine::Memory(MemoryEngine::new()), keyring, entropy).await.unwrap();
        let countries = Arc::default();
        let settings = Settings { issuer: "http://127.0.0.1".to_owned(), rates, clock, countries };
        let monitor = Monitor::start(store.clone(), settings).await.unwrap();
        let text = include_str!("attack.proto").to_owned();
        let source = SourceFile { path: "sys/attack/v1/attack.proto".to_owned(), text };
        let contract = Arc::new(load("attack", Origin::BuiltIn, &[source]).unwrap());
        let leaked = Leaked::default();
        monitor.host().load(Arc::new(Attacks { contract, leaked: leaked.clone() })).await.unwrap();
        Self { monitor, store, leaked, shift_s, _files: files }
    }

    /// Moves the server's clock.
    pub(super) fn advance_s(&self, by: i64) {
        self.shift_s.fetch_add(by, Ordering::Relaxed);
    }

    /// Stores an entry of this account, which opens at once or at that time.
    pub(super) async fn enter(&self, owner: AccountId, text: &str, opens: Option<Now>) {
        let table =
            self.monitor.host().loaded("attack").unwrap().tables().by_name("sys.attack.v1.Entry").unwrap().clone();
        let mut new = table.empty_record();
        let opens = opens.map(|at| prost_types::Timestamp { seconds: at.unix_s, nanos: at.nanos });
        new.transcode_from(&Entry { owner_id: owner.to_string(), text: text.to_owned(), opens }).unwrap();
        let id = RecordId::new(OrgTag::GLOBAL, crate::clock::unix_ms(&Clock::System.now()), self.random());
        let mut open = self.open().await;
        open.danger_unruled(&table).create_as(id, new).await.unwrap();
        open.commit().await.unwrap();
    }

    pub(super) fn monitor(&self) -> &Monitor {
        &self.monitor
    }

    pub(super) fn gate(&self) -> &Gate {
        &self.monitor.gate
    }

    pub(super) async fn open(&self) -> Open {
        self.store.begin(Clock::System.now()).await.unwrap()
    }

    /// An access token of somebody who is logged in.
    pub(super) async fn token(&self) -> String {
        self.token_of_session(3_600).await
    }

    /// The same, where the session ends in so many seconds.
    pub(super) async fn token_of_session(&self, ends_in_s: i64) -> String {
        self.token_bound_to(None, ends_in_s).await
    }

    /// The same, where the session is bound to this certificate.
    pub(super) async fn token_bound_to(&self, certificate: Option<CertificateHash>, ends_in_s: i64) -> String {
        let mut open = self.open().await;
        let (now, random) = (open.now().unix_s, self.random());
        let account = AccountId::from_record(RecordId::new(OrgTag::GLOBAL, 1, random));
        let session = SessionId::from_record(RecordId::new(OrgTag::GLOBAL, 2, random));
        let principal = Principal { email: account.to_string(), verified: true, ..Principal::default() };
        put(&mut open, self, account.record(), &principal).await;
        let row = Session {
            account_id: account.to_string(),
            expires_unix_s: now + ends_in_s,
            certificate_hash: certificate.map_or_else(Vec::new, |certificate| certificate.0.to_vec()),
            ..Session::default()
        };
        put(&mut open, self, session.record(), &row).await;
        open.commit().await.unwrap();
        self.gate().access.sign(account, session, certificate, i64::MAX, now, [0; 16]).text
    }

    /// Ends a session in the store, of which the cache of callers does not hear.
    pub(super) async fn end_session(&self, claims: &Claims) {
        let mut open = self.open().await;
        let table = self.table::<Session>();
        assert!(open.danger_unruled(&table).delete(claims.session.record()).await.unwrap());
        crate::epoch::advance(&mut open, claims.account).await.unwrap();
        open.commit().await.unwrap();
    }

    pub(super) fn request(&self, method: &str, token: Option<&str>) -> Request<Full<Bytes>> {
        self.request_from(method, token, IpAddr::from([127, 0, 0, 1]))
    }

    pub(super) fn request_from(&self, method: &str, token: Option<&str>, source: IpAddr) -> Request<Full<Bytes>> {
        let mut request =
            Request::post(format!("/{METHODS}/{method}")).header(header::CONTENT_TYPE, "application/json");
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        request.extension(Source(source)).body(Full::from("{}")).unwrap()
    }

    /// Calls a method as nobody.
    pub(super) async fn post(&self, method: &str) -> Answer {
        self.send(self.request(method, None)).await
    }

    pub(super) async fn send<B>(&self, request: Request<B>) -> Answer
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        let response = self.monitor.front().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        Answer::of(status, String::from_utf8(body.to_vec()).unwrap())
    }

    /// What stands in the audit log of an org.
    pub(super) async fn leaves(&self, org: OrgTag) -> Vec<Leaf> {
        leaves(&self.store, org).await
    }

    /// The outcomes in the server's log of the calls of a method, of which there is at least one if any was refused.
    pub(super) async fn outcomes(&self, method: &str) -> Vec<String> {
        // What is refused is stored soon; a refusal of which the end is known stands behind it.
        let path = path_of(method);
        let marker = format!("marker {}", data_encoding::HEXLOWER.encode(&self.random()));
        self.gate().refusals.put(OrgTag::GLOBAL, Leaf { method: marker.clone(), ..Leaf::default() });
        self.eventually(async || self.leaves(OrgTag::GLOBAL).await.iter().any(|leaf| leaf.method == marker)).await;
        let leaves = self.leaves(OrgTag::GLOBAL).await;
        leaves.into_iter().filter(|leaf| leaf.method == path).map(|leaf| leaf.outcome).collect()
    }

    /// Stops the monitor; what then stands in the server's log.
    pub(super) async fn stopped_leaves(self) -> Vec<Leaf> {
        self.stopped_leaves_of(OrgTag::GLOBAL).await
    }

    /// Stops the monitor; what then stands in the log of an org.
    pub(super) async fn stopped_leaves_of(self, org: OrgTag) -> Vec<Leaf> {
        self.monitor.stop().await;
        leaves(&self.store, org).await
    }

    pub(super) async fn eventually(&self, look: impl AsyncFn() -> bool) {
        let begun = Instant::now();
        while !look().await {
            assert!(begun.elapsed() < PATIENCE, "it did not come");
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    fn random(&self) -> [u8; 10] {
        let mut random = [0; 10];
        self.store.entropy().fill(&mut random);
        random
    }

    fn table<M: prost::Name>(&self) -> Arc<sys_store::Table> {
        self.monitor.host().loaded("sys-core").unwrap().tables().by_name(&M::full_name()).unwrap().clone()
    }
}

async fn put<M: prost::Message + prost::Name>(open: &mut Open, bed: &Bed, id: RecordId, row: &M) {
    let table = bed.table::<M>();
    let mut new = table.empty_record();
    new.transcode_from(row).unwrap();
    open.danger_unruled(&table).create_as(id, new).await.unwrap();
}

async fn leaves(store: &Store, org: OrgTag) -> Vec<Leaf> {
    let mut open = store.begin(Clock::System.now()).await.unwrap();
    let entries = open.erasable_entries(LogKind::Audit, org, 0..u64::MAX, Order::Asc, 1_000).await.unwrap();
    entries.iter().map(|entry| Leaf::decode(entry.content.as_ref().unwrap().as_slice()).unwrap()).collect()
}
