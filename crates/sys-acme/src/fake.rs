//! A directory in memory, for tests: it does what RFC 8555 says, or what a test wants it to do wrong. Its time is tokio's, so that years pass
//! in milliseconds. Signatures it does not check: Pebble does (`tests/pebble.rs`).

use crate::{
    account::Accounts,
    certificate::Certificate,
    challenge::{Challenge, Challenges, NotShown},
    clock::AcmeClock,
    http::{Exchange, HttpError},
    keeper::{Keeper, StartError},
    kept::{Boxed, Kept, KeptError},
    settings::Settings,
    source::{Acme, Source},
};
use ::http::{Request, Response, StatusCode, header};
use bytes::Bytes;
use data_encoding::BASE64URL_NOPAD;
use rcgen::{CertificateParams, CertificateSigningRequestParams, Issuer, KeyPair, date_time_ymd};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};
use tokio::time::Instant;
use zeroize::Zeroizing;

pub(crate) const START: i64 = 1_800_000_000;
pub(crate) const HOUR: i64 = 3_600;
pub(crate) const DAY: i64 = 24 * HOUR;
const BASE: &str = "https://acme.example.org";

/// tokio's time as the time of day.
pub(crate) struct FakeClock(Instant, AtomicI64);

impl FakeClock {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(Instant::now(), AtomicI64::new(0)))
    }

    /// Somebody sets it, for everybody.
    pub(crate) fn set_back(&self, seconds: i64) {
        self.1.fetch_add(seconds, Ordering::SeqCst);
    }
}

impl AcmeClock for FakeClock {
    fn now_unix_s(&self) -> i64 {
        START + i64::try_from(self.0.elapsed().as_secs()).unwrap() - self.1.load(Ordering::SeqCst)
    }

    fn sleep(&self, time: Duration) -> Boxed<'_, ()> {
        Box::pin(tokio::time::sleep(time))
    }
}

/// Keeps things in memory, unless it is broken.
#[derive(Default)]
pub(crate) struct FakeKept {
    pub(crate) values: Mutex<BTreeMap<String, Vec<u8>>>,
    pub(crate) is_broken: AtomicBool,
    /// Puts of this kind fail.
    pub(crate) refuses: Mutex<Option<&'static str>>,
    /// Whether the next put or removal happens.
    pub(crate) passes: Mutex<Option<Arc<dyn Fn() -> bool + Send + Sync>>>,
}

impl FakeKept {
    pub(crate) fn names(&self, prefix: &str) -> Vec<String> {
        self.values.lock().unwrap().keys().filter(|name| name.starts_with(prefix)).cloned().collect()
    }

    fn changes(&self) -> Result<(), KeptError> {
        let passes = self.passes.lock().unwrap().clone();
        if passes.is_some_and(|passes| !passes()) { Err(KeptError("cut off".to_owned())) } else { self.checked() }
    }

    fn checked(&self) -> Result<(), KeptError> {
        if self.is_broken.load(Ordering::SeqCst) { Err(KeptError("the disk is full".to_owned())) } else { Ok(()) }
    }
}

impl Kept for FakeKept {
    fn names(&self) -> Boxed<'_, Result<Vec<String>, KeptError>> {
        Box::pin(async move { self.checked().map(|()| Self::names(self, "")) })
    }

    fn get<'a>(&'a self, name: &'a str) -> Boxed<'a, Result<Option<Zeroizing<Vec<u8>>>, KeptError>> {
        Box::pin(async move {
            self.checked()?;
            Ok(self.values.lock().unwrap().get(name).cloned().map(Zeroizing::new))
        })
    }

    fn put<'a>(&'a self, name: &'a str, bytes: Zeroizing<Vec<u8>>) -> Boxed<'a, Result<(), KeptError>> {
        Box::pin(async move {
            self.changes()?;
            if self.refuses.lock().unwrap().is_some_and(|prefix| name.starts_with(prefix)) {
                return Err(KeptError("the disk is full".to_owned()));
            }
            self.values.lock().unwrap().insert(name.to_owned(), bytes.to_vec());
            Ok(())
        })
    }

    fn remove<'a>(&'a self, name: &'a str) -> Boxed<'a, Result<(), KeptError>> {
        Box::pin(async move {
            self.changes()?;
            self.values.lock().unwrap().remove(name);
            Ok(())
        })
    }
}

/// Notes what is shown.
#[derive(Default)]
pub(crate) struct FakeChallenges {
    pub(crate) shown: Mutex<Vec<Challenge>>,
    pub(crate) all: Mutex<Vec<Challenge>>,
    pub(crate) fails: AtomicBool,
}

impl Challenges for FakeChallenges {
    fn present<'a>(&'a self, challenge: &'a Challenge) -> Boxed<'a, Result<(), NotShown>> {
        Box::pin(async move {
            self.shown.lock().unwrap().push(challenge.clone());
            self.all.lock().unwrap().push(challenge.clone());
            if self.fails.load(Ordering::SeqCst) { Err(NotShown("the zone is not served".to_owned())) } else { Ok(()) }
        })
    }

    fn withdraw<'a>(&'a self, challenge: &'a Challenge) -> Boxed<'a, ()> {
        Box::pin(async move { self.shown.lock().unwrap().retain(|shown| shown != challenge) })
    }
}

/// What a request meets instead of what it should.
#[derive(Clone)]
pub(crate) enum Trouble {
    Down,
    Answer { status: u16, retry_after: Option<&'static str>, body: String },
}

impl Trouble {
    pub(crate) fn problem(status: u16, kind: &str, retry_after: Option<&'static str>) -> Self {
        let body = json!({"type": format!("urn:ietf:params:acme:error:{kind}"), "detail": "no"}).to_string();
        Self::Answer { status, retry_after, body }
    }
}

type Troubles = Box<dyn FnMut(&Hit) -> Option<Trouble> + Send>;

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Hit {
    pub(crate) endpoint: &'static str,
    pub(crate) at: i64,
    pub(crate) payload: Value,
}

#[derive(Default)]
struct Order {
    identifiers: Vec<Value>,
    proven: HashSet<usize>,
    chain: Option<String>,
}

/// What the directory does, and what was asked of it.
pub(crate) struct Behaviour {
    pub(crate) lifetime_s: i64,
    pub(crate) profiles: Vec<&'static str>,
    /// The renewal window from now, if it has such.
    pub(crate) window: Option<(i64, i64)>,
    /// Orders stay like this.
    pub(crate) stuck: Option<&'static str>,
    /// Proofs fail like this, those of names with this end.
    pub(crate) fails: Option<(&'static str, &'static str)>,
    pub(crate) other_key: bool,
    /// Authorizations of an order beside those of its names.
    pub(crate) more_authorizations: usize,
    pub(crate) other_names: bool,
    /// How long it takes for each answer.
    pub(crate) drips_s: u64,
    /// By how much its clock is ahead.
    pub(crate) ahead_s: i64,
    pub(crate) troubles: Option<Troubles>,
    pub(crate) hits: Vec<Hit>,
    /// Certificates that were revoked.
    pub(crate) revoked: Vec<Value>,
    orders: Vec<Order>,
    nonces: HashSet<String>,
    made: u64,
}

/// The directory.
pub(crate) struct FakeDirectory {
    clock: Arc<FakeClock>,
    issuer: Issuer<'static, KeyPair>,
    pub(crate) behaviour: Mutex<Behaviour>,
}

impl FakeDirectory {
    pub(crate) fn new(clock: &Arc<FakeClock>) -> Arc<Self> {
        let behaviour = Behaviour {
            lifetime_s: 90 * DAY,
            profiles: Vec::new(),
            window: None,
            stuck: None,
            fails: None,
            other_key: false,
            more_authorizations: 0,
            other_names: false,
            drips_s: 0,
            ahead_s: 0,
            troubles: None,
            hits: Vec::new(),
            revoked: Vec::new(),
            orders: Vec::new(),
            nonces: HashSet::new(),
            made: 0,
        };
        let issuer = Issuer::new(CertificateParams::default(), KeyPair::generate().unwrap());
        Arc::new(Self { clock: Arc::clone(clock), issuer, behaviour: Mutex::new(behaviour) })
    }

    pub(crate) fn now(&self) -> MutexGuard<'_, Behaviour> {
        self.behaviour.lock().unwrap()
    }

    pub(crate) fn troubled_by(&self, trouble: impl FnMut(&Hit) -> Option<Trouble> + Send + 'static) {
        self.now().troubles = Some(Box::new(trouble));
    }

    /// The requests to an endpoint.
    pub(crate) fn hits(&self, endpoint: &str) -> Vec<Hit> {
        self.now().hits.iter().filter(|hit| hit.endpoint == endpoint).cloned().collect()
    }

    fn answer(&self, request: &Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let uri = request.uri().to_string();
        let path: Vec<&str> = request.uri().path().trim_start_matches('/').split('/').collect();
        let number = |index: usize| path.get(index).and_then(|part| part.parse::<usize>().ok()).unwrap_or(usize::MAX);
        let body: Value = serde_json::from_slice(request.body()).unwrap_or(Value::Null);
        let decoded = |part: &str| {
            let bytes = BASE64URL_NOPAD.decode(body[part].as_str().unwrap_or_default().as_bytes()).unwrap();
            serde_json::from_slice::<Value>(&bytes).unwrap_or(Value::Null)
        };
        let (protected, payload) = (decoded("protected"), decoded("payload"));
        let known = [
            "directory",
            "nonce",
            "account",
            "orders",
            "order",
            "authz",
            "challenge",
            "finalize",
            "certificate",
            "revoke",
            "renewal",
        ];
        // As the real way out does.
        if request.uri().scheme_str() != Some("https") {
            return Err(HttpError::NotHttps);
        }
        let endpoint = known.into_iter().find(|name| *name == path[0]).unwrap_or_else(|| panic!("who named {uri}?"));
        let at = self.clock.now_unix_s();
        let mut now = self.now();
        let hit = Hit { endpoint, at, payload: payload.clone() };
        now.hits.push(hit.clone());
        let trouble = now.troubles.as_mut().and_then(|troubles| troubles(&hit));
        match trouble {
            Some(Trouble::Down) => {
                return Err(HttpError::Connect { host: "acme.example.org".to_owned(), reason: "refused".to_owned() });
            }
            Some(Trouble::Answer { status, retry_after, body }) => {
                return Ok(now.respond(at, status, retry_after, None, body));
            }
            None => {}
        }
        if request.method() == ::http::Method::POST {
            assert_eq!(protected["url"], uri, "a request is signed for where it goes");
            let nonce = protected["nonce"].as_str().unwrap().to_owned();
            assert!(now.nonces.remove(&nonce), "each nonce is used once");
        }
        let (status, location, body) = match endpoint {
            "directory" => (200, None, now.directory()),
            "nonce" => (200, None, Value::Null),
            "account" => (201, Some(format!("{BASE}/account/1")), json!({"status": "valid"})),
            "orders" => {
                let identifiers = payload["identifiers"].as_array().unwrap().clone();
                now.orders.push(Order { identifiers, ..Order::default() });
                let index = now.orders.len() - 1;
                let mut order = now.order(index);
                order["replaces"] = payload["replaces"].clone();
                (201, Some(format!("{BASE}/order/{index}")), order)
            }
            "order" => (200, None, now.order(number(1))),
            "authz" => (200, None, now.authorization(number(1), number(2))),
            "challenge" => {
                now.orders[number(1)].proven.insert(number(2));
                (200, None, json!({"type": "dns-01", "url": uri, "token": "t", "status": "processing"}))
            }
            "finalize" => {
                let csr = BASE64URL_NOPAD.decode(payload["csr"].as_str().unwrap().as_bytes()).unwrap();
                let chain = self.issue(&now, csr, at);
                now.orders[number(1)].chain = Some(chain);
                (200, None, now.order(number(1)))
            }
            "certificate" => {
                let chain = now.orders[number(1)].chain.clone().unwrap();
                return Ok(now.respond(at, 200, None, None, chain));
            }
            "renewal" => {
                let (start, end) = now.window.unwrap();
                // For the first certificate; those that come later have time.
                let later = if now.orders.len() > 1 { 60 * DAY } else { 0 };
                let (start, end) = (start + later, end + later);
                let date = |unix: i64| rfc3339(unix);
                let body = json!({"suggestedWindow": {"start": date(START + start), "end": date(START + end)}});
                return Ok(now.respond(at, 200, Some("21600"), None, body.to_string()));
            }
            "revoke" if now.revoked.contains(&payload["certificate"]) => {
                return Ok(now.respond(
                    at,
                    400,
                    None,
                    None,
                    json!({"type": "urn:ietf:params:acme:error:alreadyRevoked"}).to_string(),
                ));
            }
            "revoke" => {
                now.revoked.push(payload["certificate"].clone());
                (200, None, Value::Null)
            }
            _ => (200, None, Value::Null),
        };
        let body = if body.is_null() { String::new() } else { body.to_string() };
        Ok(now.respond(at, status, None, location, body))
    }

    fn issue(&self, now: &Behaviour, csr: Vec<u8>, at: i64) -> String {
        let mut csr = CertificateSigningRequestParams::from_der(&csr.into()).unwrap();
        let since = |unix: i64| Duration::from_secs(unix.unsigned_abs());
        csr.params.not_before = date_time_ymd(1970, 1, 1) + since(at + now.ahead_s);
        csr.params.not_after = date_time_ymd(1970, 1, 1) + since(at + now.ahead_s + now.lifetime_s);
        csr.params.use_authority_key_identifier_extension = true;
        if now.other_names {
            csr.params.subject_alt_names =
                CertificateParams::new(vec!["other.example".to_owned()]).unwrap().subject_alt_names;
        }
        if now.other_key {
            return csr.params.signed_by(&KeyPair::generate().unwrap(), &self.issuer).unwrap().pem();
        }
        csr.signed_by(&self.issuer).unwrap().pem()
    }
}

impl Behaviour {
    fn directory(&self) -> Value {
        let profiles: serde_json::Map<String, Value> =
            self.profiles.iter().map(|name| ((*name).to_owned(), json!("a profile"))).collect();
        let mut directory = json!({
            "newNonce": format!("{BASE}/nonce"), "newAccount": format!("{BASE}/account"), "newOrder": format!("{BASE}/orders"),
            "revokeCert": format!("{BASE}/revoke"), "meta": {"profiles": profiles},
        });
        if self.window.is_some() {
            directory["renewalInfo"] = json!(format!("{BASE}/renewal"));
        }
        directory
    }

    fn fails(&self, order: &Order) -> Option<usize> {
        let (ending, _) = self.fails?;
        order
            .proven
            .iter()
            .copied()
            .find(|index| order.identifiers[*index]["value"].as_str().unwrap().ends_with(ending))
    }

    fn order(&self, index: usize) -> Value {
        let order = &self.orders[index];
        let status = match (&order.chain, order.proven.len() == order.identifiers.len()) {
            _ if self.fails(order).is_some() => "invalid",
            (Some(_), _) => self.stuck.filter(|stuck| *stuck == "processing").unwrap_or("valid"),
            (None, true) => self.stuck.filter(|stuck| *stuck == "pending").unwrap_or("ready"),
            (None, false) => "pending",
        };
        let names = (0..order.identifiers.len()).chain((0..self.more_authorizations).map(|_| 0));
        let authorizations: Vec<String> = names.map(|one| format!("{BASE}/authz/{index}/{one}")).collect();
        json!({
            "status": status, "authorizations": authorizations, "finalize": format!("{BASE}/finalize/{index}"),
            "certificate": format!("{BASE}/certificate/{index}"),
        })
    }

    fn authorization(&self, index: usize, one: usize) -> Value {
        let order = &self.orders[index];
        let identifier = order.identifiers[one].clone();
        let value = identifier["value"].as_str().unwrap();
        let wildcard = value.strip_prefix("*.");
        let failed = self.fails(order) == Some(one);
        let challenge = |kind: &str| {
            let url = format!("{BASE}/challenge/{index}/{one}");
            let mut challenge =
                json!({"type": kind, "url": url, "token": format!("token-{index}-{one}"), "status": "pending"});
            if failed && kind == "dns-01" {
                challenge["status"] = json!("invalid");
                let kind = self.fails.unwrap().1;
                challenge["error"] =
                    json!({"type": format!("urn:ietf:params:acme:error:{kind}"), "detail": "wrong answer"});
            }
            challenge
        };
        let kinds: &[&str] = if wildcard.is_some() { &["dns-01"] } else { &["http-01", "dns-01", "tls-alpn-01"] };
        json!({
            "identifier": {"type": identifier["type"], "value": wildcard.unwrap_or(value)}, "wildcard": wildcard.is_some(),
            "status": if failed { "invalid" } else { "pending" },
            "challenges": kinds.iter().map(|kind| challenge(kind)).collect::<Vec<_>>(),
        })
    }

    fn respond(
        &mut self,
        at: i64,
        status: u16,
        retry_after: Option<&str>,
        location: Option<String>,
        body: String,
    ) -> Response<Bytes> {
        self.made += 1;
        let nonce = format!("nonce-{}", self.made);
        self.nonces.insert(nonce.clone());
        let now = std::time::UNIX_EPOCH + Duration::from_secs((at + self.ahead_s).unsigned_abs());
        let mut response = Response::builder()
            .status(StatusCode::from_u16(status).unwrap())
            .header("Replay-Nonce", nonce)
            .header(header::DATE, httpdate::fmt_http_date(now));
        if let Some(after) = retry_after {
            response = response.header(header::RETRY_AFTER, after);
        }
        if let Some(location) = location {
            response = response.header(header::LOCATION, location);
        }
        response.body(Bytes::from(body)).unwrap()
    }
}

impl Exchange for FakeDirectory {
    fn exchange(&self, request: Request<Bytes>) -> Boxed<'_, Result<Response<Bytes>, HttpError>> {
        Box::pin(async move {
            // The way there takes its time, so that others get their turn.
            let drips = Duration::from_secs(self.now().drips_s);
            tokio::time::sleep(Duration::from_millis(20) + drips).await;
            self.answer(&request)
        })
    }
}

fn rfc3339(unix: i64) -> String {
    let date = date_time_ymd(1970, 1, 1) + Duration::from_secs(unix.unsigned_abs());
    let (hour, minute, second) = date.to_hms();
    format!("{}-{:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z", date.year(), u8::from(date.month()), date.day())
}

/// All that a keeper stands on.
pub(crate) struct World {
    pub(crate) clock: Arc<FakeClock>,
    pub(crate) directory: Arc<FakeDirectory>,
    pub(crate) kept: Arc<FakeKept>,
    pub(crate) challenges: Arc<FakeChallenges>,
    /// What was told, and when.
    pub(crate) told: Arc<Mutex<Vec<(i64, Certificate)>>>,
}

impl World {
    pub(crate) fn new() -> Self {
        let clock = FakeClock::new();
        let directory = FakeDirectory::new(&clock);
        Self { directory, clock, kept: Arc::default(), challenges: Arc::default(), told: Arc::default() }
    }

    pub(crate) fn settings(certificates: &[&[&str]]) -> Settings {
        let wanted = certificates.iter().map(|names| crate::Wanted::parse(names).unwrap()).collect();
        Settings { directory: format!("{BASE}/directory"), ..Settings::lets_encrypt(wanted) }
    }

    pub(crate) async fn start(&self, settings: Settings) -> Result<Keeper, StartError> {
        let exchange: Arc<dyn Exchange> = self.directory.clone();
        let accounts = Accounts::over(exchange, &settings, self.kept.clone(), self.clock.clone())?;
        let acme = Acme::new(&settings, accounts, self.challenges.clone())?;
        self.run(Source::Acme(acme), settings).await
    }

    pub(crate) async fn run(&self, source: Source, settings: Settings) -> Result<Keeper, StartError> {
        let (told, clock, kept) = (Arc::clone(&self.told), Arc::clone(&self.clock), Arc::clone(&self.kept));
        let on_certificate = move |certificate: &Certificate| {
            let kept = kept.values.lock().unwrap();
            let is_kept =
                kept.values().any(|value| String::from_utf8_lossy(value).contains(certificate.key_pem.as_str()));
            assert!(is_kept, "a certificate is kept before it is told");
            told.lock().unwrap().push((clock.now_unix_s(), certificate.clone()));
        };
        Keeper::run(source, settings.wanted, self.kept.clone(), self.clock.clone(), Arc::new(on_certificate)).await
    }

    pub(crate) fn clock_hours(&self) -> i64 {
        (self.clock.now_unix_s() - START) / HOUR
    }

    pub(crate) fn told(&self) -> Vec<(i64, Certificate)> {
        self.told.lock().unwrap().clone()
    }
}

/// Lets time pass.
pub(crate) async fn pass(seconds: i64) {
    tokio::time::sleep(Duration::from_secs(seconds.unsigned_abs())).await;
}
