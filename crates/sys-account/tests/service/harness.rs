//! A server without a listener, and people who call it.

use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use std::{
    net::{IpAddr, Ipv4Addr},
    num::NonZeroU32,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};
use sys_account::{AccountModule, Settings, bootstrap};
use sys_core::{
    clock::Clock,
    countries::Countries,
    gate::{Source, Transport},
    host::LoadedModule,
    monitor::{self, Monitor},
    outbox::Mail,
    throttle::Rates,
    token::CertificateHash,
};
use sys_keys::{Entropy, Keyring, SystemEntropy, Unsealer};
use sys_store::{
    Store,
    engine::{AnyEngine, memory::MemoryEngine},
};
use tower::Service;

pub(crate) const PASSWORD: &str = "correct horse battery";

pub(crate) struct Server {
    pub(crate) monitor: Monitor,
    pub(crate) entropy: Arc<dyn Entropy>,
    account: Arc<LoadedModule>,
    /// Seconds by which its clock is ahead, or where it stands.
    hand: Arc<AtomicI64>,
    mails: Arc<Mutex<Vec<Mail>>>,
    source: IpAddr,
    transport: Mutex<Option<Transport>>,
    remains: Remains,
}

/// What is left of a server that has stopped.
struct Remains {
    files: tempfile::TempDir,
    engine: MemoryEngine,
    settings: Settings,
    clock: Clock,
    sign_in_per_minute: u32,
}

/// What a call came to: the answer, or the code and reason of its refusal.
pub(crate) type Answer = Result<Value, (String, String)>;

/// Over what a call comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Connection {
    /// Of this machine, without TLS.
    Plain,
    /// Without a client certificate.
    Tls,
    /// With the one that has this number.
    Certificate(u8),
}

/// Somebody who is logged in.
#[derive(Debug, Clone)]
pub(crate) struct Person {
    pub(crate) account: String,
    pub(crate) email: String,
    pub(crate) access: String,
    pub(crate) refresh: String,
}

impl Remains {
    fn none(settings: Settings, clock: Clock) -> Self {
        let (files, engine) = (tempfile::tempdir().unwrap(), MemoryEngine::new());
        Self { files, engine, settings, clock, sign_in_per_minute: 10_000 }
    }
}

impl Server {
    pub(crate) async fn new() -> Self {
        Self::with(Settings { server: "http://127.0.0.1:8443".to_owned(), accounts_found_orgs: true }).await
    }

    /// A server where sources may sign in so often.
    pub(crate) async fn throttled(sign_in_per_minute: u32) -> Self {
        let settings = Settings { server: "http://127.0.0.1:8443".to_owned(), accounts_found_orgs: true };
        let hand = Arc::new(AtomicI64::new(0));
        let remains = Remains::none(settings, Clock::Shifted(hand.clone()));
        Self::start(Remains { sign_in_per_minute, ..remains }, hand).await
    }

    pub(crate) async fn with(settings: Settings) -> Self {
        let hand = Arc::new(AtomicI64::new(0));
        let clock = Clock::Shifted(hand.clone());
        Self::start(Remains::none(settings, clock), hand).await
    }

    /// A server whose clock stands at this time, in Unix seconds, until it is moved.
    pub(crate) async fn at(unix_s: i64) -> Self {
        let settings = Settings { server: "http://127.0.0.1:8443".to_owned(), accounts_found_orgs: true };
        let hand = Arc::new(AtomicI64::new(unix_s));
        let clock = Clock::Manual(hand.clone());
        Self::start(Remains::none(settings, clock), hand).await
    }

    /// Stops, and starts again on what it left.
    pub(crate) async fn restart(self) -> Self {
        self.monitor.stop().await;
        Self::start(self.remains, self.hand).await
    }

    async fn start(remains: Remains, hand: Arc<AtomicI64>) -> Self {
        let Remains { files, engine, settings, clock, sign_in_per_minute } = &remains;
        let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy::default());
        let unsealer = Unsealer::DangerKeyFile(files.path().join("danger"));
        let keys = files.path().join("keys");
        let keyring = match keys.exists() {
            true => Keyring::open(&keys, &unsealer, entropy.clone()).unwrap(),
            false => Keyring::create(&keys, &unsealer, entropy.clone()).unwrap(),
        };
        let store = Store::open(AnyEngine::Memory(engine.clone()), keyring, entropy.clone()).await.unwrap();
        let settings_of_core = monitor::Settings {
            issuer: settings.server.clone(),
            rates: Rates {
                sign_in_per_minute: NonZeroU32::new(*sign_in_per_minute).unwrap(),
                danger_nothing_else: true,
                ..Rates::default()
            },
            clock: clock.clone(),
            countries: Arc::new(Countries::parse("198.51.100.0,198.51.100.255,CH").unwrap()),
        };
        let mut monitor = Monitor::start(store.clone(), settings_of_core).await.unwrap();
        let module = AccountModule::new(monitor.identity().clone(), monitor.audit().clone(), settings.clone()).unwrap();
        let account = monitor.host().load(module).await.unwrap();
        let table = |name: &str| account.tables().by_name(name).unwrap().clone();
        store.set_directory(table("sys.account.v1.Org"), table("sys.account.v1.Project")).unwrap();
        let mails: Arc<Mutex<Vec<Mail>>> = Arc::default();
        let delivered = mails.clone();
        monitor.send_mail_with(Arc::new(move |_, mail| {
            delivered.lock().unwrap().push(mail);
            Box::pin(async { Ok(()) })
        }));
        let source = IpAddr::V4(Ipv4Addr::LOCALHOST);
        Self { monitor, entropy, account, hand, mails, source, transport: Mutex::default(), remains }
    }

    /// Calls from now on come from there.
    pub(crate) fn come_from(&mut self, source: [u8; 4]) {
        self.source = IpAddr::V4(source.into());
    }

    /// Calls from now on come over this.
    pub(crate) fn come_over(&self, connection: Connection) {
        let certificate = match connection {
            Connection::Plain => return *self.transport.lock().unwrap() = None,
            Connection::Tls => None,
            Connection::Certificate(number) => Some(CertificateHash([number; 32])),
        };
        let transport =
            Transport { version: 0x0304, group: 0x11ec, ech_accepted: true, client_certificate: certificate };
        *self.transport.lock().unwrap() = Some(transport);
    }

    /// Time passes.
    pub(crate) fn wait_s(&self, seconds: i64) {
        self.hand.fetch_add(seconds, Ordering::Relaxed);
    }

    pub(crate) async fn call(&self, who: Option<&Person>, method: &str, request: Value) -> Answer {
        self.call_with(who.map(|who| who.access.as_str()), method, request).await
    }

    pub(crate) async fn call_with(&self, token: Option<&str>, method: &str, request: Value) -> Answer {
        let mut http = http::Request::post(format!("http://127.0.0.1/sys.account.v1.{method}"))
            .header("content-type", "application/json")
            .header("connect-protocol-version", "1");
        if let Some(token) = token {
            http = http.header("authorization", format!("Bearer {token}"));
        }
        let mut http = http.body(Full::new(bytes::Bytes::from(request.to_string()))).unwrap();
        http.extensions_mut().insert(Source(self.source));
        if let Some(transport) = *self.transport.lock().unwrap() {
            http.extensions_mut().insert(transport);
        }
        let response = self.monitor.front().call(http).await.unwrap();
        let good = response.status().is_success();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let value: Value = serde_json::from_slice(&body).unwrap_or_else(|_| panic!("{body:?}"));
        if good {
            return Ok(value);
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let reason =
            value["details"].as_array().into_iter().flatten().find_map(|detail| detail["debug"]["reason"].as_str());
        Err((text(&value["code"]), reason.map_or_else(|| text(&value["message"]), str::to_owned)))
    }

    /// The newest mail to an address, once it is delivered.
    pub(crate) async fn mail_to(&self, email: &str) -> Mail {
        for _ in 0..2_000 {
            if let Some(mail) = self.mails.lock().unwrap().iter().rev().find(|mail| mail.to == email) {
                return mail.clone();
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("no mail came");
    }

    /// How many mails an address got, once there are as many as expected, or too long has passed.
    pub(crate) async fn mails_to(&self, email: &str, expected: usize) -> usize {
        let count = || self.mails.lock().unwrap().iter().filter(|mail| mail.to == email).count();
        for _ in 0..2_000 {
            if count() >= expected {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        count()
    }

    /// The token in the newest mail to an address; the mail is taken away.
    pub(crate) async fn token_for(&self, email: &str) -> String {
        let mail = self.mail_to(email).await;
        self.mails.lock().unwrap().retain(|other| *other != mail);
        token_in(&mail.text).expect("a token").to_owned()
    }

    pub(crate) async fn register(&self, name: &str) -> String {
        let email = format!("{name}@example.org");
        let request = json!({"email": email, "password": PASSWORD, "displayName": name});
        self.call(None, "AuthService/Register", request).await.unwrap();
        email
    }

    /// Somebody registers, proves the address, and logs in.
    pub(crate) async fn person(&self, name: &str) -> Person {
        let email = self.register(name).await;
        let token = self.token_for(&email).await;
        self.call(None, "AuthService/VerifyEmail", json!({"token": token, "password": PASSWORD})).await.unwrap();
        self.log_in(&email, PASSWORD).await.unwrap()
    }

    pub(crate) async fn log_in(&self, email: &str, password: &str) -> Result<Person, (String, String)> {
        let pair = self.call(None, "AuthService/Login", json!({"email": email, "password": password})).await?;
        Ok(person(email, &pair))
    }

    pub(crate) async fn setup_token(&self) -> Option<String> {
        let identity = self.monitor.identity();
        let made =
            self.monitor.danger_as_server(async |open| identity.danger_new_setup_token(open, &*self.entropy).await);
        made.await.unwrap().map(|token| token.text().to_string())
    }

    pub(crate) async fn superadmin(&self) -> Person {
        let token = self.setup_token().await.unwrap();
        let request = json!({"token": token, "email": "root@example.org", "password": PASSWORD});
        let pair = self.call(None, "AuthService/Setup", request).await.unwrap();
        person("root@example.org", &pair)
    }

    /// An org that this person has founded.
    pub(crate) async fn org(&self, founder: &Person, name: &str) -> String {
        id_of(&self.call(Some(founder), "OrgService/CreateOrg", json!({"name": name})).await.unwrap())
    }

    pub(crate) async fn project(&self, admin: &Person, org: &str, name: &str, open: bool) -> String {
        let request = json!({"orgId": org, "name": name, "open": open});
        id_of(&self.call(Some(admin), "ProjectService/CreateProject", request).await.unwrap())
    }

    /// Somebody joins by an invitation.
    pub(crate) async fn join(&self, admin: &Person, who: &Person, org: &str, project: &str, role: &str) {
        let request = json!({"orgId": org, "projectId": project, "email": who.email, "role": role});
        let invited = self.call(Some(admin), "MembershipService/Invite", request).await.unwrap();
        let request = json!({"id": invited["id"]});
        self.call(Some(who), "MembershipService/AcceptInvitation", request).await.unwrap();
    }

    /// Imports a file, as the server does at its first run.
    pub(crate) async fn import(&self, text: &str) -> bootstrap::Imported {
        let file = bootstrap::file::read(text).unwrap_or_else(|problems| panic!("{problems:?}"));
        let identity = self.monitor.identity();
        let prepared = bootstrap::prepare(file, identity, &*self.entropy, || ()).await.unwrap();
        let imported = self.monitor.danger_as_server(async |open| {
            let importer = identity.danger_import(open, self.account.tables(), &*self.entropy);
            bootstrap::import(importer, &prepared, "http://127.0.0.1:8443").await
        });
        imported.await.unwrap()
    }
}

pub(crate) fn person(email: &str, pair: &Value) -> Person {
    let text = |field: &str| pair[field].as_str().unwrap_or_else(|| panic!("no {field} in {pair}")).to_owned();
    Person {
        account: text("accountId"),
        email: email.to_owned(),
        access: text("accessToken"),
        refresh: text("refreshToken"),
    }
}

pub(crate) fn id_of(record: &Value) -> String {
    record["id"].as_str().unwrap_or_else(|| panic!("no id in {record}")).to_owned()
}

/// The token in a mail: alone on its line, 32 bytes in base64url.
pub(crate) fn token_in(text: &str) -> Option<&str> {
    let is_token =
        |line: &&str| line.len() == 43 && !line.contains(|c: char| !c.is_ascii_alphanumeric() && !"-_".contains(c));
    text.lines().map(str::trim).find(is_token)
}

/// That a call was refused with this code.
#[track_caller]
pub(crate) fn refused(answer: Answer, code: &str) -> String {
    match answer {
        Ok(answer) => panic!("not refused: {answer}"),
        Err((got, reason)) => {
            assert_eq!(got, code, "{reason}");
            reason
        }
    }
}
