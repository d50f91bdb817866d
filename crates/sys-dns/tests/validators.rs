//! Validators that nobody here wrote take what we sign, and refuse what is broken on purpose.
//!
//! A real listener on loopback; `delv` and `drill` with our key as the trust anchor, `unbound` as a resolver that validates and is asked by
//! `kdig`. The controls change one thing each: the anchor, the clock, the proof, a record. `cargo test -p sys-dns --test validators --
//! --ignored` runs them, where the programs are installed.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a broken expectation fails the test"
)]

use data_encoding::{BASE64, HEXUPPER};
use hickory_proto::{op::Message, rr::RecordType};
use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use sys_dns::{
    answer::{Answers, SignedZone},
    dnssec::{SigningKey, SigningKeys},
    query::Query,
    respond::{Answered, Authority, Clock, Responder, Rules},
    serve::{DnsBind, DnsListener, Drained, Limits, ServeError},
    zone::{Data, Kind, Name, RecordSet, Soa, Zone},
};
use tempfile::TempDir;
use tokio::{sync::oneshot, task::JoinHandle};

const ZONE: &[(&str, &str, &str)] = &[
    ("@", "NS", "ns1.example.org."),
    ("@", "A", "192.0.2.1"),
    ("@", "MX", "10 mail.example.org."),
    ("@", "CAA", "0 issue \"letsencrypt.org\""),
    ("@", "HTTPS", "1 . alpn=h2,http/1.1 ipv4hint=192.0.2.1"),
    ("ns1", "A", "192.0.2.53"),
    ("mail", "AAAA", "2001:db8::2"),
    ("www", "CNAME", "example.org."),
    ("text", "TXT", "one two"),
    ("*.w", "TXT", "wild"),
    ("_443._tcp", "SRV", "0 0 443 mail.example.org."),
    ("deep.er.name", "A", "192.0.2.6"),
    ("sub", "NS", "ns.sub.example.org."),
    ("ns.sub", "A", "192.0.2.7"),
];

/// Questions with the code that a resolver answers them with. What does not exist is NOERROR to it: compact denial tells its
/// validators so, where they do not know its extra type yet.
const ASKED: &[(&str, &str, &str)] = &[
    ("example.org", "SOA", "NOERROR"),
    ("example.org", "DNSKEY", "NOERROR"),
    ("example.org", "A", "NOERROR"),
    ("example.org", "MX", "NOERROR"),
    ("example.org", "CAA", "NOERROR"),
    ("example.org", "HTTPS", "NOERROR"),
    ("example.org", "CDS", "NOERROR"),
    ("example.org", "CDNSKEY", "NOERROR"),
    ("example.org", "SRV", "NOERROR"),
    ("WWW.Example.Org", "A", "NOERROR"),
    ("www.example.org", "AAAA", "NOERROR"),
    ("mail.example.org", "A", "NOERROR"),
    ("text.example.org", "TXT", "NOERROR"),
    ("_443._tcp.example.org", "SRV", "NOERROR"),
    ("any.w.example.org", "TXT", "NOERROR"),
    ("a.b.w.example.org", "TXT", "NOERROR"),
    ("any.w.example.org", "A", "NOERROR"),
    ("er.name.example.org", "A", "NOERROR"),
    ("gone.example.org", "A", "NOERROR"),
    ("gone.mail.example.org", "TXT", "NOERROR"),
    ("sub.example.org", "DS", "NOERROR"),
];

fn apex() -> Name {
    Name::parse("example.org").unwrap()
}

fn zone() -> Zone {
    let name = |text: &str| Name::parse_below(text, &apex()).unwrap();
    let set = |(owner, kind, data): &(&str, &str, &str)| RecordSet {
        name: name(owner),
        ttl_s: 600,
        data: vec![Data::parse(Kind::parse(kind).unwrap(), data).unwrap()],
    };
    let soa = Soa {
        primary: name("ns1"),
        mailbox: name("hostmaster"),
        serial: 1,
        refresh_s: 86_400,
        retry_s: 7_200,
        expire_s: 1_209_600,
        negative_ttl_s: 300,
        ttl_s: 3_600,
    };
    Zone::build(apex(), ZONE.iter().map(set).collect(), soa).unwrap()
}

fn now_unix_s() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().try_into().unwrap()
}

/// Changes what is said, as somebody on the way would, or a fault of ours.
type Change = fn(&mut Message);

struct Changed(Answers, Change);

impl Authority for Changed {
    fn answer(&self, query: &Query<'_>, most_bytes: usize, may_sign: &dyn Fn() -> bool, out: &mut Vec<u8>) -> Answered {
        let answered = self.0.answer(query, most_bytes, may_sign, out);
        let mut message = Message::from_vec(out).unwrap();
        (self.1)(&mut message);
        *out = message.to_vec().unwrap();
        answered
    }
}

type Served = JoinHandle<Result<Drained, ServeError>>;

/// A server on loopback, until it is dropped.
struct Server {
    addr: SocketAddr,
    key: Arc<SigningKey>,
    runtime: tokio::runtime::Runtime,
    /// What ends it, and what it then says.
    running: Option<(oneshot::Sender<()>, Served)>,
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some((stop, served)) = self.running.take() {
            let _ = stop.send(());
            let _ = self.runtime.block_on(served);
        }
    }
}

impl Server {
    /// Serves the zone; its clock is `behind_s` seconds behind.
    fn start(behind_s: i64, change: Change) -> Self {
        let clock: Clock = Arc::new(move || now_unix_s() - behind_s);
        let answers = Answers::new(clock.clone());
        let key = Arc::new(SigningKey::generate().unwrap());
        answers.serve(vec![SignedZone { zone: zone(), keys: SigningKeys::single(key.clone()) }]);
        let responder = Responder::new(Changed(answers, change), Rules::default(), clock, [[1; 16], [2; 16]]);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let bind = DnsBind { addr: (Ipv4Addr::LOCALHOST, 0).into(), limits: Limits::default() };
        let listener = runtime.block_on(DnsListener::bind(bind)).unwrap();
        let addr = listener.local_addr();
        let (stop, stopped) = oneshot::channel::<()>();
        let served = runtime.spawn(listener.serve(responder, async {
            let _ = stopped.await;
        }));
        Self { addr, key, runtime, running: Some((stop, served)) }
    }

    fn ds(&self) -> Data {
        self.key.ds(&apex())
    }
}

fn unchanged(_: &mut Message) {}

/// Runs a program to its end: what it wrote.
fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program} does not start: {error}"));
    [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat()
}

/// What delv says with this DS as its only anchor.
fn delv(server: &Server, ds: &Data, name: &str, kind: &str) -> String {
    let folder = TempDir::new().unwrap();
    let anchor = folder.path().join("anchor");
    let Data::Ds { key_tag, algorithm, digest_type, digest } = ds else { panic!() };
    let ds = format!("static-ds {key_tag} {algorithm} {digest_type} \"{}\"", HEXUPPER.encode(digest));
    fs::write(&anchor, format!("trust-anchors {{ \"example.org.\" {ds}; }};")).unwrap();
    let port = server.addr.port().to_string();
    let anchor = anchor.display().to_string();
    run("delv", &["@127.0.0.1", "-p", &port, "-a", &anchor, "+root=example.org", name, kind])
}

/// An unbound that validates with this DS as its only anchor, until it is dropped.
struct Unbound {
    child: Child,
    port: u16,
    folder: TempDir,
}

impl Unbound {
    fn start(server: &Server, ds: &Data) -> Self {
        // Somebody may take the port before it does.
        let mut said = String::new();
        for _ in 0..3 {
            match Self::try_start(server, ds) {
                Ok(unbound) => return unbound,
                Err(ended) => said.push_str(&ended),
            }
        }
        panic!("unbound does not answer: {said}");
    }

    fn try_start(server: &Server, ds: &Data) -> Result<Self, String> {
        let folder = TempDir::new().unwrap();
        let port = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let path = |name: &str| -> PathBuf { folder.path().join(name) };
        let config = format!(
            "server:
                interface: 127.0.0.1@{port}
                do-daemonize: no
                username: \"\"
                chroot: \"\"
                directory: \"{folder}\"
                pidfile: \"\"
                use-syslog: no
                logfile: \"{log}\"
                val-log-level: 2
                do-not-query-localhost: no
                qname-minimisation: yes
                module-config: \"validator iterator\"
                trust-anchor: \"example.org. DS {ds}\"
            remote-control:
                control-enable: no
            stub-zone:
                name: example.org
                stub-addr: 127.0.0.1@{upstream}",
            folder = folder.path().display(),
            log = path("log").display(),
            upstream = server.addr.port(),
        );
        fs::write(path("config"), config).unwrap();
        let config = path("config").display().to_string();
        let program = if PathBuf::from("/usr/sbin/unbound").exists() { "/usr/sbin/unbound" } else { "unbound" };
        let words = fs::File::create(path("words")).unwrap();
        let child = Command::new(program).args(["-d", "-c", &config]).stdout(Stdio::null()).stderr(words).spawn();
        let mut unbound = Self { child: child.expect("unbound starts"), port, folder };
        let has_ended = (0..200).find_map(|_| {
            thread::sleep(Duration::from_millis(50));
            if unbound.child.try_wait().unwrap().is_some() {
                return Some(true);
            }
            unbound.ask_within("localhost", "A", 1).contains("status: NOERROR").then_some(false)
        });
        if has_ended == Some(false) {
            return Ok(unbound);
        }
        let of = |name: &str| fs::read_to_string(unbound.folder.path().join(name)).unwrap_or_default();
        Err(of("words") + &of("log"))
    }

    fn ask(&self, name: &str, kind: &str) -> String {
        self.ask_within(name, kind, 10)
    }

    fn ask_within(&self, name: &str, kind: &str, seconds: u32) -> String {
        let (port, time) = (self.port.to_string(), format!("+time={seconds}"));
        run("kdig", &["@127.0.0.1", "-p", &port, "+dnssec", &time, "+retry=0", "-t", kind, "-q", name])
    }
}

impl Drop for Unbound {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn other_ds() -> Data {
    SigningKey::generate().unwrap().ds(&apex())
}

#[test]
#[ignore = "needs delv (bind9-dnsutils): cargo xtask test runs it"]
fn delv_validates_every_answer() {
    let server = Server::start(0, unchanged);
    for (name, kind, _) in ASKED {
        let said = delv(&server, &server.ds(), name, kind);
        assert!(said.contains("fully validated"), "{name} {kind}: {said}");
    }
    let refused = delv(&server, &other_ds(), "example.org", "A");
    assert!(!refused.contains("fully validated") && refused.contains("no valid"), "{refused}");
}

#[test]
#[ignore = "needs delv (bind9-dnsutils): cargo xtask test runs it"]
fn delv_refuses_what_is_broken() {
    let check = |behind_s, change: Change, name: &str, kind: &str| {
        let server = Server::start(behind_s, change);
        let said = delv(&server, &server.ds(), name, kind);
        assert!(!said.contains("fully validated"), "{name} {kind}: {said}");
    };
    check(10 * 86_400, unchanged, "example.org", "A");
    check(-10 * 86_400, unchanged, "example.org", "A");
    check(0, without_denial, "gone.example.org", "A");
    check(0, with_another_address, "example.org", "A");
    check(0, without_signatures, "example.org", "A");
}

/// The proof of what is not there is left out.
fn without_denial(message: &mut Message) {
    let is_proof = |kind: RecordType| matches!(kind, RecordType::NSEC | RecordType::RRSIG);
    message.authorities.retain(|record| !is_proof(record.record_type()));
}

fn with_another_address(message: &mut Message) {
    use hickory_proto::rr::{RData, rdata::A};
    for record in message.answers.iter_mut().filter(|record| record.record_type() == RecordType::A) {
        record.data = RData::A(A(Ipv4Addr::new(198, 51, 100, 1)));
    }
}

fn without_signatures(message: &mut Message) {
    let is_key = message.answers.iter().any(|record| record.record_type() == RecordType::DNSKEY);
    if !is_key {
        message.answers.retain(|record| record.record_type() != RecordType::RRSIG);
    }
}

#[test]
#[ignore = "needs unbound and kdig (knot-dnsutils): cargo xtask test runs it"]
fn unbound_validates_every_answer() {
    let server = Server::start(0, unchanged);
    let unbound = Unbound::start(&server, &server.ds());
    for (name, kind, code) in ASKED {
        let said = unbound.ask(name, kind);
        let flags = said.lines().find(|line| line.contains("Flags:")).unwrap_or_default();
        assert!(said.contains(&format!("status: {code}")) && flags.contains(" ad"), "{name} {kind}: {said}");
    }
}

#[test]
#[ignore = "needs unbound and kdig (knot-dnsutils): cargo xtask test runs it"]
fn unbound_refuses_what_is_broken() {
    let check = |behind_s, change: Change, ds: Option<Data>, name: &str, kind: &str| {
        let server = Server::start(behind_s, change);
        let unbound = Unbound::start(&server, &ds.unwrap_or_else(|| server.ds()));
        let said = unbound.ask(name, kind);
        assert!(said.contains("status: SERVFAIL"), "{name} {kind}: {said}");
    };
    check(0, unchanged, Some(other_ds()), "example.org", "A");
    check(10 * 86_400, unchanged, None, "example.org", "A");
    check(0, without_denial, None, "gone.example.org", "A");
    check(0, with_another_address, None, "example.org", "A");
    check(0, without_signatures, None, "example.org", "A");
}

#[test]
#[ignore = "needs drill (ldnsutils): cargo xtask test runs it"]
fn drill_verifies_with_our_key() {
    let server = Server::start(0, unchanged);
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("key");
    let key =
        |key: &SigningKey| format!("example.org. 3600 IN DNSKEY 257 3 13 {}\n", BASE64.encode(&key.dnskey()[4..]));
    let ask = |key: String, name: &str, kind: &str| {
        fs::write(&path, key).unwrap();
        let port = server.addr.port().to_string();
        run("drill", &["-D", "-p", &port, "-k", &path.display().to_string(), "@127.0.0.1", name, kind])
    };
    for (name, kind) in [("example.org", "A"), ("text.example.org", "TXT"), ("any.w.example.org", "TXT")] {
        let said = ask(key(&server.key), name, kind);
        assert!(said.contains("[T]") || said.contains("VALIDATED"), "{said}");
        let said = ask(key(&SigningKey::generate().unwrap()), name, kind);
        assert!(!said.contains("[T]") && !said.contains("VALIDATED"), "{said}");
    }
}

#[test]
#[ignore = "needs kdig (knot-dnsutils): cargo xtask test runs it"]
fn kdig_reads_every_answer() {
    let server = Server::start(0, unchanged);
    let port = server.addr.port().to_string();
    let ask = |name: &str, kind: &str, flag: &str| {
        run("kdig", &["@127.0.0.1", "-p", &port, "+dnssec", flag, "+time=10", "+retry=0", "-t", kind, "-q", name])
    };
    for (name, kind, code) in ASKED {
        for flag in ["+notcp", "+tcp"] {
            let said = ask(name, kind, flag);
            assert!(said.contains(&format!("status: {code}")) && !said.contains("WARNING"), "{name} {kind}: {said}");
        }
    }
    let checks =
        [("host.sub.example.org", "A", "NOERROR"), ("example.net", "A", "REFUSED"), ("example.org", "ANY", "NOERROR")];
    for (name, kind, code) in checks {
        let said = ask(name, kind, "+notcp");
        assert!(said.contains(&format!("status: {code}")) && !said.contains("WARNING"), "{name} {kind}: {said}");
    }
    assert!(ask("example.org", "ANY", "+notcp").contains("RFC8482"));
}
