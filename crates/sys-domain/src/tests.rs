//! The keeper and the module on a real gate with a store in memory: what people enter is served, and whoever is cut off at any
//! step goes on as if he had not been.

mod cut_off;
mod pebble;
mod unbound;

use crate::{
    ask,
    certificates::Certificates,
    challenges::{Places, Wall},
    domain::{Domain, Drives},
    facts::{self, Fetcher},
    keeper::{Driven, Keeper},
    kept::InVault,
    settings::{Plan, Settings, ZoneSettings},
    vault,
};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::NonZeroU32,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};
use sys_account::AccountModule;
use sys_core::{
    clock::Clock,
    countries::Countries,
    gate::Source,
    monitor::{self, Monitor},
    throttle::Rates,
};
use sys_dns::{
    answer::Answers,
    respond::{Responder, Rules},
    serve::{DnsBind, DnsListener, Limits},
    zone::{Data, Kind, Name, Parameter},
};
use sys_edge::{plain::HttpChallenges, tls::Tls};
use sys_keys::{Entropy, Keyring, SystemEntropy, Unsealer};
use sys_store::{
    Store,
    engine::{
        AnyEngine,
        memory::MemoryEngine,
        redb::{RedbEngine, RedbOptions},
    },
};
use tokio::sync::Notify;
use tower::Service;

/// An answer of a status method.
type Status = Value;

const PASSWORD: &str = "correct horse battery";
const NOW: i64 = 1_800_000_000;

/// What a server keeps, and what is in front of it.
struct Bed {
    monitor: Monitor,
    entropy: Arc<dyn Entropy>,
    hand: Arc<AtomicI64>,
    clock: Clock,
    _files: tempfile::TempDir,
}

impl Bed {
    async fn new() -> Self {
        let hand = Arc::new(AtomicI64::new(NOW));
        Self::with(Clock::Manual(hand.clone()), hand, |_| AnyEngine::Memory(MemoryEngine::new())).await
    }

    /// With a store on disk, whose commits take their time.
    async fn on_disk() -> Self {
        let hand = Arc::new(AtomicI64::new(NOW));
        let engine = |files: &Path| RedbEngine::open(&files.join("data"), RedbOptions::default()).unwrap();
        Self::with(Clock::Manual(hand.clone()), hand, |files| AnyEngine::Redb(engine(files))).await
    }

    async fn with(clock: Clock, hand: Arc<AtomicI64>, engine: impl FnOnce(&Path) -> AnyEngine) -> Self {
        let files = tempfile::tempdir().unwrap();
        let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy::default());
        let unsealer = Unsealer::DangerKeyFile(files.path().join("danger"));
        let keyring = Keyring::create(&files.path().join("keys"), &unsealer, entropy.clone()).unwrap();
        let store = Store::open(engine(files.path()), keyring, entropy.clone()).await.unwrap();
        let settings = monitor::Settings {
            issuer: "http://127.0.0.1:8443".to_owned(),
            rates: Rates {
                sign_in_per_minute: NonZeroU32::new(10_000).unwrap(),
                danger_nothing_else: true,
                ..Rates::default()
            },
            clock: clock.clone(),
            countries: Arc::new(Countries::parse("").unwrap()),
        };
        let monitor = Monitor::start(store.clone(), settings).await.unwrap();
        let about = sys_account::Settings { server: "http://127.0.0.1:8443".to_owned(), accounts_found_orgs: true };
        let module = AccountModule::new(monitor.identity().clone(), monitor.audit().clone(), about).unwrap();
        let account = monitor.host().load(module).await.unwrap();
        let table = |name: &str| account.tables().by_name(name).unwrap().clone();
        store.set_directory(table("sys.account.v1.Org"), table("sys.account.v1.Project")).unwrap();
        Self { monitor, entropy, hand, clock, _files: files }
    }

    fn wait_s(&self, seconds: i64) {
        self.hand.fetch_add(seconds, Ordering::Relaxed);
    }

    fn drives(&self) -> Drives {
        let clock = self.clock.clone();
        let answers = Answers::new(Arc::new(move || clock.now().unix_s));
        Drives { tls: Tls::new().unwrap(), answers, http: HttpChallenges::default() }
    }

    /// A process that has begun nothing yet.
    fn keeper(&self, settings: &Settings) -> Keeper {
        let plan = Arc::new(Plan::of(settings).unwrap().unwrap());
        let Drives { tls, answers, .. } = self.drives();
        let bell = Arc::new(Notify::new());
        let certificates = Certificates::new(tls.clone(), "example.org".to_owned());
        let driven = Driven { certificates, wall: Wall::new(bell.clone()), tls, answers };
        Keeper::new(plan, self.monitor.vault().clone(), driven, self.clock.clone(), self.entropy.clone(), bell)
    }

    async fn domain(&self, settings: Settings) -> (Domain, Drives) {
        let drives = self.drives();
        (self.domain_with(settings, drives.clone()).await, drives)
    }

    async fn domain_with(&self, settings: Settings, drives: Drives) -> Domain {
        let domain = self.started(settings, drives).await;
        self.monitor.host().load(domain.module()).await.unwrap();
        domain
    }

    /// The same, whose methods nobody calls.
    async fn started(&self, settings: Settings, drives: Drives) -> Domain {
        let vault = self.monitor.vault().clone();
        Domain::start(settings, vault, drives, self.clock.clone(), self.entropy.clone()).await.unwrap()
    }

    /// The status once it is as it should be, within this time.
    async fn tls_status(&self, token: &str, patience: Duration, is_so: impl Fn(&Status) -> bool) -> Status {
        let begun = tokio::time::Instant::now();
        loop {
            let status = self.call(Some(token), "sys.domain.v1.TlsService/Status", json!({})).await.unwrap();
            if is_so(&status) {
                return status;
            }
            assert!(begun.elapsed() < patience, "{status}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn superadmin(&self) -> String {
        let identity = self.monitor.identity();
        let made =
            self.monitor.danger_as_server(async |open| identity.danger_new_setup_token(open, &*self.entropy).await);
        let token = made.await.unwrap().map(|token| token.text().to_string()).unwrap();
        let request = json!({"token": token, "email": "root@example.org", "password": PASSWORD});
        let pair = self.call(None, "sys.account.v1.AuthService/Setup", request).await.unwrap();
        pair["accessToken"].as_str().unwrap().to_owned()
    }

    /// A session of now.
    async fn log_in(&self) -> String {
        let request = json!({"email": "root@example.org", "password": PASSWORD});
        let pair = self.call(None, "sys.account.v1.AuthService/Login", request).await.unwrap();
        pair["accessToken"].as_str().unwrap().to_owned()
    }

    /// The answer, or the code and message of the refusal.
    async fn call(&self, token: Option<&str>, method: &str, request: Value) -> Result<Value, (String, String)> {
        let mut http = http::Request::post(format!("http://127.0.0.1/{method}"))
            .header("content-type", "application/json")
            .header("connect-protocol-version", "1");
        if let Some(token) = token {
            http = http.header("authorization", format!("Bearer {token}"));
        }
        let mut http = http.body(Full::new(bytes::Bytes::from(request.to_string()))).unwrap();
        http.extensions_mut().insert(Source(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        let response = self.monitor.front().call(http).await.unwrap();
        let good = response.status().is_success();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let value: Value = serde_json::from_slice(&body).unwrap_or_else(|_| panic!("{body:?}"));
        if good {
            return Ok(value);
        }
        let text = |field: &str| value[field].as_str().unwrap_or_default().to_owned();
        Err((text("code"), text("message")))
    }

    async fn dns(&self, token: &str, method: &str, request: Value) -> Result<Value, (String, String)> {
        self.call(Some(token), &format!("sys.domain.v1.DnsService/{method}"), request).await
    }
}

fn settings() -> Settings {
    Settings {
        domains: vec!["example.org".to_owned()],
        addresses: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
        zone: Some(ZoneSettings::default()),
        local_ca: true,
        ..Settings::default()
    }
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

/// What is driven, with the zones served already.
async fn drives_served(bed: &Bed) -> (Drives, SocketAddr) {
    let drives = bed.drives();
    let world = world(bed, &drives.answers).await;
    (drives, world)
}

/// A server for the zones, by which the world finds them.
async fn world(bed: &Bed, answers: &Answers) -> SocketAddr {
    let clock = bed.clock.clone();
    let responder =
        Responder::new(answers.clone(), Rules::default(), Arc::new(move || clock.now().unix_s), [[1; 16], [2; 16]]);
    let addr = SocketAddr::from(([127, 0, 0, 1], 0));
    let listener = DnsListener::bind(DnsBind { addr, limits: Limits::default() }).await.unwrap();
    let addr = listener.local_addr();
    tokio::spawn(listener.serve(responder, std::future::pending()));
    addr
}

/// Asks until the answer is as expected.
async fn eventually(world: SocketAddr, owner: &str, kind: Kind, expect: &[Data]) {
    let mut said = Vec::new();
    for _ in 0..500 {
        said = ask::ask(world, 7, &name(owner), kind).await.map(|said| said.records).unwrap_or_default();
        if said == expect {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{owner} {kind}: {said:?}");
}

#[tokio::test]
async fn what_is_entered_is_served_and_what_is_deleted_is_not() {
    let bed = Bed::new().await;
    let (domain, drives) = bed.domain(settings()).await;
    let root = bed.superadmin().await;
    let world = world(&bed, &drives.answers).await;
    let own = Data::A(Ipv4Addr::LOCALHOST);
    eventually(world, "example.org", Kind::A, std::slice::from_ref(&own)).await;
    let set = |name: &str, kind: &str, data: &[&str]| json!({"name": name, "type": kind, "data": data});
    let made = bed.dns(&root, "Set", set("shop", "a", &["192.0.2.7"])).await.unwrap();
    assert_eq!(made["name"], "shop.example.org.");
    eventually(world, "shop.example.org", Kind::A, &[Data::A([192, 0, 2, 7].into())]).await;
    bed.dns(&root, "Set", set("@", "MX", &["10 shop.example.org."])).await.unwrap();
    let list = bed.dns(&root, "List", json!({})).await.unwrap();
    let kept_by = |owner: &str, kind: &str| {
        let records = list["records"].as_array().unwrap();
        let record = records.iter().find(|record| record["name"] == owner && record["type"] == kind);
        record.map(|record| record["keptBy"].as_str().unwrap().to_owned())
    };
    assert_eq!(kept_by("shop.example.org.", "A").as_deref(), Some("you"));
    assert_eq!(kept_by("example.org.", "HTTPS").as_deref(), Some("server"));
    // Something points there.
    let (code, message) = bed.dns(&root, "Delete", json!({"name": "shop", "type": "A"})).await.unwrap_err();
    assert_eq!(code, "invalid_argument");
    assert!(message.contains("shop.example.org."), "{message}");
    bed.dns(&root, "Delete", json!({"name": "@", "type": "MX"})).await.unwrap();
    bed.dns(&root, "Delete", json!({"name": "shop", "type": "A"})).await.unwrap();
    eventually(world, "shop.example.org", Kind::A, &[]).await;
    let (code, _) = bed.dns(&root, "Delete", json!({"name": "shop", "type": "A"})).await.unwrap_err();
    assert_eq!(code, "not_found");
    domain.stop().await;
}

#[tokio::test]
async fn all_faults_of_an_edit_come_back_and_nothing_is_kept() {
    let bed = Bed::new().await;
    let (domain, _) = bed.domain(settings()).await;
    let root = bed.superadmin().await;
    let refused = async |name: &str, kind: &str, data: &[&str]| {
        let request = json!({"name": name, "type": kind, "data": data});
        bed.dns(&root, "Set", request).await.unwrap_err().1
    };
    assert!(refused("@", "NS", &["ns.example.com."]).await.contains("name servers"));
    assert!(refused("@", "HTTPS", &["1 ."]).await.contains("by itself"));
    assert!(refused("@", "DNSKEY", &["x"]).await.contains("by itself"));
    assert!(refused("_acme-challenge", "TXT", &["x"]).await.contains("certificate authorities"));
    assert!(refused("a.example.com.", "A", &["192.0.2.1"]).await.contains("is not in example.org."));
    let both = refused("a", "A", &["x", "192.0.2.1", "y"]).await;
    assert!(both.contains("data[0]") && both.contains("data[2]"), "{both}");
    let two = refused("a", "MX", &["1 gone.example.org.", "2 missing.example.org."]).await;
    assert!(two.contains("gone.example.org.") && two.contains("missing.example.org."), "{two}");
    assert!(bed.monitor.vault().load(vault::ZONE).await.unwrap().is_empty());
    // Nobody else comes so far.
    let denied = bed.call(None, "sys.domain.v1.DnsService/List", json!({})).await.unwrap_err();
    assert_eq!(denied.0, "unauthenticated");
    domain.stop().await;
}

#[tokio::test]
async fn two_edits_at_once_do_not_make_a_zone_that_neither_saw() {
    let bed = Bed::new().await;
    let (domain, _) = bed.domain(settings()).await;
    let root = bed.superadmin().await;
    // Each is good by itself; together they are a CNAME beside other data.
    for round in 0..8 {
        let owner = format!("name{round}");
        let alias = json!({"name": owner, "type": "CNAME", "data": ["example.org."]});
        let text = json!({"name": owner, "type": "TXT", "data": ["x"]});
        let (one, other) = tokio::join!(bed.dns(&root, "Set", alias), bed.dns(&root, "Set", text));
        assert!(one.is_ok() != other.is_ok(), "{one:?} {other:?}");
    }
    domain.stop().await;
}

#[tokio::test]
async fn what_is_asked_for_is_done_and_the_status_tells() {
    let bed = Bed::new().await;
    let (domain, drives) = bed.domain(settings()).await;
    let root = bed.superadmin().await;
    let tls = async |method: &str, request: Value| {
        bed.call(Some(root.as_str()), &format!("sys.domain.v1.TlsService/{method}"), request).await
    };
    // The certificate of the server's own CA comes by itself.
    let green = |status: &Status| status["certificates"][0]["state"] == "GREEN";
    let status = bed.tls_status(&root, Duration::from_secs(30), green).await;
    assert_eq!(status["certificates"][0]["source"], "local CA", "{status}");
    assert_eq!(status["state"], "GREEN", "{status}");
    assert!(domain.ca_fingerprint().is_some());
    let first = status["echKeys"].clone();
    assert_eq!(first.as_array().unwrap().len(), 1);
    bed.wait_s(5);
    tls("RotateEchKey", json!({})).await.unwrap();
    let two = |status: &Status| status["echKeys"].as_array().is_some_and(|keys| keys.len() == 2);
    bed.tls_status(&root, Duration::from_secs(30), two).await;
    let world = world(&bed, &drives.answers).await;
    let ds = bed.dns(&root, "Status", json!({})).await.unwrap();
    let tag = ds["keys"][0]["keyTag"].clone();
    bed.dns(&root, "RollKey", json!({})).await.unwrap();
    let mut zones = Value::Null;
    for _ in 0..500 {
        zones = bed.dns(&root, "Status", json!({})).await.unwrap();
        if zones["keys"].as_array().unwrap().len() == 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(zones["keys"][0]["keyTag"], tag);
    assert_eq!(zones["keys"].as_array().unwrap().len(), 2, "{zones}");
    eventually(world, "example.org", Kind::A, &[Data::A(Ipv4Addr::LOCALHOST)]).await;
    domain.stop().await;
}

#[tokio::test]
async fn a_renewal_that_would_order_nothing_says_so_and_until_when() {
    let bed = Bed::new().await;
    let (domain, _) = bed.domain(settings()).await;
    let root = bed.superadmin().await;
    let tls = async |method: &str| {
        let (root, request) = (bed.log_in().await, json!({"name": "example.org"}));
        bed.call(Some(root.as_str()), &format!("sys.domain.v1.TlsService/{method}"), request).await
    };
    let green = |status: &Status| status["certificates"][0]["state"] == "GREEN";
    let before = bed.tls_status(&root, Duration::from_secs(30), green).await;
    bed.wait_s(600);
    let (code, message) = tls("Renew").await.unwrap_err();
    assert_eq!(
        (code.as_str(), message.as_str()),
        ("failed_precondition", "nothing was ordered: the certificate is less than an hour old")
    );
    assert!(bed.monitor.vault().load(vault::WISH).await.unwrap().is_empty(), "nothing is left behind");
    bed.wait_s(3_000);
    tls("Renew").await.unwrap();
    let renewed = |status: &Status| status["certificates"][0]["expiresAt"] != before["certificates"][0]["expiresAt"];
    let status = bed.tls_status(&bed.log_in().await, Duration::from_secs(30), renewed).await;
    assert_eq!(status["state"], "GREEN", "{status}");
    let (code, message) = tls("Revoke").await.unwrap_err();
    assert!(code == "invalid_argument" && message.contains("server's own CA"), "{code} {message}");
    domain.stop().await;
}

#[tokio::test]
async fn the_certificates_of_a_source_that_is_given_up_are_forgotten() {
    let bed = Bed::new().await;
    let (domain, _) = bed.domain(settings()).await;
    let root = bed.superadmin().await;
    bed.tls_status(&root, Duration::from_secs(30), |status| status["state"] == "GREEN").await;
    domain.stop().await;
    let kept = async || {
        let items = bed.monitor.vault().load(vault::LOCAL_CA).await.unwrap();
        items.iter().filter(|item| item.name.starts_with("certificate")).count()
    };
    let before = kept().await;
    // The same names, from elsewhere; and then none at all.
    let mut other = settings();
    other.local_ca = false;
    for settings in [other, Settings::default()] {
        let domain = bed.started(settings, bed.drives()).await;
        assert!(before > 0 && kept().await == before, "they may be wanted again");
        domain.stop().await;
    }
    bed.wait_s(400 * 86_400);
    let _domain = bed.started(Settings::default(), bed.drives()).await;
    for _ in 0..500 {
        if kept().await == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{} are there", kept().await);
}

/// Panics when it is asked by whom it is meant to.
#[derive(Debug)]
struct Fragile(Arc<AtomicBool>);

impl Entropy for Fragile {
    fn fill(&self, bytes: &mut [u8]) {
        assert!(!self.0.load(Ordering::Relaxed), "as the test wants it");
        SystemEntropy::default().fill(bytes);
    }
}

#[tokio::test]
async fn who_fails_beside_the_rounds_is_told_and_his_place_is_free_again() {
    let mut bed = Bed::new().await;
    let breaks = Arc::new(AtomicBool::new(false));
    bed.entropy = Arc::new(Fragile(breaks.clone()));
    let answers = bed.drives().answers;
    let mut settings = settings();
    settings.zone = Some(ZoneSettings { resolver: Some(world(&bed, &answers).await), ..ZoneSettings::default() });
    let mut keeper = bed.keeper(&settings);
    keeper.round().await.unwrap();
    keeper.workers_are_done().await;
    let seen =
        |keeper: &Keeper| keeper.facts.borrow().zones[&name("example.org")].seen.clone().map(|seen| seen.at_unix_s);
    breaks.store(true, Ordering::Relaxed);
    bed.wait_s(7_200);
    keeper.round().await.unwrap();
    keeper.workers_are_done().await;
    keeper.round().await.unwrap();
    let told = keeper.facts.borrow().troubles.clone();
    assert!(told.len() == 1 && told[0].about == "look example.org." && !told[0].is_broken, "{told:?}");
    assert!(seen(&keeper) < Some(NOW + 7_200));
    keeper.workers_are_done().await;
    breaks.store(false, Ordering::Relaxed);
    for _ in 0..2 {
        keeper.round().await.unwrap();
        keeper.workers_are_done().await;
    }
    assert_eq!(seen(&keeper), Some(NOW + 7_200), "it was looked again");
    bed.wait_s(3_600);
    keeper.round().await.unwrap();
    assert!(keeper.facts.borrow().troubles.is_empty());
}

#[tokio::test]
async fn a_keeper_that_is_gone_is_told() {
    let mut bed = Bed::new().await;
    let breaks = Arc::new(AtomicBool::new(false));
    bed.entropy = Arc::new(Fragile(breaks.clone()));
    let (domain, _) = bed.domain(settings()).await;
    let root = bed.superadmin().await;
    bed.tls_status(&root, Duration::from_secs(30), |status| status["state"] == "GREEN").await;
    breaks.store(true, Ordering::Relaxed);
    // A new ECH key needs a number.
    bed.wait_s(86_400);
    domain.reload();
    let root = bed.log_in().await;
    let status = bed.tls_status(&root, Duration::from_secs(30), |status| status["state"] == "BROKEN").await;
    assert!(status["findings"][0]["remedy"].as_str().unwrap().contains("restart"), "{status}");
    domain.stop().await;
}

#[tokio::test]
async fn whoever_is_busy_with_an_order_is_not_asked_over_and_over() {
    let bed = Bed::new().await;
    let mut keeper = bed.keeper(&settings());
    // A directory that takes connections and says nothing.
    let silent = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let wanted = sys_acme::Wanted::parse(&["example.org"]).unwrap();
    let directory = format!("https://{}/dir", silent.local_addr().unwrap());
    let acme = sys_acme::Settings { directory, ..sys_acme::Settings::lets_encrypt(vec![wanted]) };
    let kept = Arc::new(InVault { vault: bed.monitor.vault().clone(), kind: vault::ACME });
    let Drives { tls, http, .. } = bed.drives();
    let places = Arc::new(Places { wall: keeper.driven.wall.clone(), zones: Vec::new(), tls, http });
    let clock = Arc::new(sys_acme::SystemClock);
    let fetcher = sys_acme::Keeper::start(acme, kept, places, clock, Arc::new(|_| {})).await.unwrap();
    keeper.fetchers.push(Fetcher { source: facts::Source::Acme, keeper: Arc::new(fetcher) });
    let wish = vault::put(vault::WISH, "renew example.org", vec![8, 1].into());
    bed.monitor.vault().change("test", vec![wish]).await.unwrap();
    for _ in 0..2 {
        keeper.round().await.unwrap();
        keeper.workers_are_done().await;
        let rings = tokio::time::timeout(Duration::ZERO, keeper.bell.notified()).await;
        assert!(rings.is_err(), "the next round would begin at once, and the one after it");
    }
    assert_eq!(bed.monitor.vault().load(vault::WISH).await.unwrap().len(), 1, "it is asked again later");
    let troubles = keeper.facts.borrow().troubles.clone();
    assert!(troubles.is_empty(), "nothing was refused: {troubles:?}");
}

#[tokio::test]
async fn a_server_without_a_domain_says_what_to_do() {
    let bed = Bed::new().await;
    let (domain, _) = bed.domain(Settings::default()).await;
    let root = bed.superadmin().await;
    let status = bed.dns(&root, "Status", json!({})).await.unwrap();
    assert!(status["summary"].as_str().unwrap().contains("--domain"), "{status}");
    let set = json!({"name": "www.example.org", "type": "A", "data": ["192.0.2.1"]});
    assert_eq!(bed.dns(&root, "Set", set).await.unwrap_err().0, "failed_precondition");
    domain.stop().await;
}

#[tokio::test]
async fn the_record_says_the_key_that_is_accepted() {
    let bed = Bed::new().await;
    let mut keeper = bed.keeper(&settings());
    keeper.round().await.unwrap();
    for _ in 0..3 {
        let facts = keeper.facts.borrow().clone();
        let published = facts.ech.iter().find(|key| key.is_shown).expect("one is published");
        let plan = Plan::of(&settings()).unwrap().unwrap();
        let sets = crate::own::sets(&plan, &plan.domains[0], &facts.moment);
        let https = sets.iter().find(|set| set.kind() == Some(Kind::Https)).expect("it has one");
        let Data::Https(service) = &https.data[0] else { panic!("an HTTPS record") };
        let ech = service.parameters.iter().find_map(|parameter| match parameter {
            Parameter::Ech(list) => Some(sys_edge::ech::parse_list(list).unwrap()),
            _ => None,
        });
        let configs = ech.expect("with a key");
        assert_eq!(configs.len(), 1);
        assert_eq!(configs[0].config_id, published.config_id);
        bed.wait_s(86_400);
        keeper.round().await.unwrap();
    }
}
