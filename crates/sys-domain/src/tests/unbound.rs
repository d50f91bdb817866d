//! What a real resolver that validates says of us, with a real parent above our zone: each thing that may be wrong at the registrar is
//! told for what it is.

use super::{Bed, name, settings, world};
use crate::{
    Settings, ZoneSettings, ask,
    domain::Drives,
    facts::{Facts, ZoneFacts},
    registrar,
    settings::Plan,
    status, vault,
    wire::DnsStatus,
};
use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};
use sys_core::clock::Clock;
use sys_dns::{
    dnssec::{Rollover, SigningKey},
    zone::{Data, Kind},
};
use sys_store::engine::{AnyEngine, memory::MemoryEngine};
use tempfile::TempDir;

/// A program that ends with the test.
struct Running(Child, TempDir);

impl Running {
    fn words(&self) -> String {
        fs::read_to_string(self.1.path().join("words")).unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

fn start(program: &str, arguments: &[&str], dir: TempDir) -> Running {
    let found = ["/usr/sbin", "/usr/bin"].map(|place| Path::new(place).join(program));
    let program = found.into_iter().find(|path| path.exists()).unwrap_or_else(|| program.into());
    let words = || fs::File::options().create(true).append(true).open(dir.path().join("words")).unwrap();
    let child = Command::new(program).args(arguments).stdout(words()).stderr(words()).spawn();
    Running(child.expect("it is installed"), dir)
}

/// What stands under the name in the zone above.
struct Parent {
    servers: Vec<&'static str>,
    ds: Vec<Data>,
}

/// How long one start is waited for; and how many there are, since somebody may take the port before the program does.
const START: Duration = Duration::from_secs(15);
const STARTS: usize = 4;

/// Knot as the zone above, which signs; and the key that is trusted in it.
async fn parent(above: &Parent) -> (Running, SocketAddr, String) {
    let mut said = String::new();
    for _ in 0..STARTS {
        match try_parent(above).await {
            Ok(started) => return started,
            Err(words) => said += &words,
        }
    }
    panic!("knotd does not serve: {said}");
}

async fn try_parent(parent: &Parent) -> Result<(Running, SocketAddr, String), String> {
    let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
    let here = dir.path().display();
    let mut zone = "$ORIGIN org.\n$TTL 5\n@ SOA ns hostmaster 1 3600 600 86400 5\n@ NS ns\nns A 127.0.0.1\n".to_owned();
    zone.extend(parent.servers.iter().map(|server| format!("example NS {server}\n")));
    zone.extend(parent.ds.iter().map(|ds| format!("example DS {ds}\n")));
    zone += "ns1.example A 127.0.0.1\nns2.example A 127.0.0.1\n";
    fs::write(dir.path().join("org.zone"), zone).unwrap();
    let config = format!(
        "server:\n  rundir: {here}\n  listen: 127.0.0.1@{port}\ndatabase:\n  storage: {here}\nlog:\n  - target: stdout\n    any: info\n\
         zone:\n  - domain: org\n    storage: {here}\n    file: org.zone\n    dnssec-signing: on\n    zonefile-sync: -1\n"
    );
    let path = dir.path().join("knot.conf");
    fs::write(&path, config).unwrap();
    let running = start("knotd", &["-c", &path.display().to_string()], dir);
    let begun = Instant::now();
    while begun.elapsed() < START {
        let asked = ["@127.0.0.1", "-p", &port.to_string(), "+short", "+time=1", "+retry=0", "DNSKEY", "org"];
        let said = Command::new("kdig").args(asked).stderr(Stdio::null()).output().expect("kdig is installed");
        let said = String::from_utf8(said.stdout).unwrap();
        if let Some(key) = said.lines().find(|line| line.starts_with("257 3 ")) {
            return Ok((running, SocketAddr::from(([127, 0, 0, 1], port)), format!("org. IN DNSKEY {key}\n")));
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    Err(running.words())
}

/// Unbound, which finds our zone there: the port of a delegation is always 53.
async fn resolver(parent: SocketAddr, anchor: &str, child: Option<SocketAddr>) -> (Running, SocketAddr) {
    let mut said = String::new();
    for _ in 0..STARTS {
        match try_resolver(parent, anchor, child).await {
            Ok(started) => return started,
            Err(words) => said += &words,
        }
    }
    panic!("unbound does not answer: {said}");
}

async fn try_resolver(
    parent: SocketAddr,
    anchor: &str,
    child: Option<SocketAddr>,
) -> Result<(Running, SocketAddr), String> {
    let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
    let here = dir.path().display();
    fs::write(dir.path().join("anchor"), anchor).unwrap();
    let stub =
        |name: &str, at: SocketAddr| format!("stub-zone:\n  name: {name}\n  stub-addr: 127.0.0.1@{}\n", at.port());
    let stubs = child.map(|child| stub("example.org.", child)).unwrap_or_default() + &stub("org.", parent);
    let config = format!(
        "server:\n  interface: 127.0.0.1@{port}\n  do-daemonize: no\n  username: \"\"\n  chroot: \"\"\n  directory: \"{here}\"\n  \
         pidfile: \"\"\n  use-syslog: no\n  do-not-query-localhost: no\n  do-ip6: no\n  module-config: \"validator iterator\"\n  \
         trust-anchor-file: \"{here}/anchor\"\nremote-control:\n  control-enable: no\n{stubs}"
    );
    let path = dir.path().join("unbound.conf");
    fs::write(&path, config).unwrap();
    let running = start("unbound", &["-d", "-c", &path.display().to_string()], dir);
    let (addr, begun) = (SocketAddr::from(([127, 0, 0, 1], port)), Instant::now());
    while begun.elapsed() < START {
        if ask::ask(addr, 7, &name("localhost"), Kind::A).await.is_ok() {
            return Ok((running, addr));
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    Err(running.words())
}

/// A server with its zone, and where the world finds it.
struct Ours {
    bed: Bed,
    settings: Settings,
    addr: SocketAddr,
    rollover: Rollover,
    _drives: Drives,
}

async fn ours() -> Ours {
    let memory = |_: &Path| AnyEngine::Memory(MemoryEngine::new());
    // Signatures are of now.
    let bed = Bed::with(Clock::System, Arc::default(), memory).await;
    let zone = ZoneSettings { resolver: Some(([127, 0, 0, 1], 9).into()), ..ZoneSettings::default() };
    let settings = Settings { local_ca: false, zone: Some(zone), ..settings() };
    let mut keeper = bed.keeper(&settings);
    keeper.round().await.unwrap();
    let drives = Drives { tls: keeper.driven.tls.clone(), answers: keeper.driven.answers.clone(), ..bed.drives() };
    let addr = world(&bed, &drives.answers).await;
    let kept = bed.monitor.vault().load(vault::DNSSEC).await.unwrap();
    let rollover = Rollover::from_bytes(&kept[0].value).unwrap();
    Ours { bed, settings, addr, rollover, _drives: drives }
}

impl Ours {
    fn ds(&self) -> Data {
        self.rollover.keys().wanted().ds(&name("example.org"))
    }

    /// The status after a look through this resolver.
    async fn looked(&self, resolver: SocketAddr) -> DnsStatus {
        let plan = Plan::of(&self.settings).unwrap().unwrap();
        let (entropy, now) = (self.bed.entropy.as_ref(), self.bed.clock.now().unix_s);
        let seen = registrar::look(resolver, &plan, &plan.domains[0], entropy, now).await;
        let zone = ZoneFacts { rollover: Some(self.rollover.clone()), seen: Some(seen), ..ZoneFacts::default() };
        let zones = [(name("example.org"), zone)].into_iter().collect();
        status::dns(&plan, &Facts { zones, now_unix_s: now, ..Facts::default() })
    }

    /// The same, with this parent.
    async fn below(&self, above: &Parent, child: Option<SocketAddr>) -> DnsStatus {
        let (_knot, parent, anchor) = parent(above).await;
        let (_unbound, resolver) = resolver(parent, &anchor, child).await;
        self.looked(resolver).await
    }
}

const SERVERS: [&str; 2] = ["ns1.example", "ns2.example"];

fn seen<'a>(status: &'a DnsStatus, kind: &str) -> Vec<&'a str> {
    status.registrar.iter().filter(|entry| entry.kind == kind).map(|entry| entry.seen.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs unbound, knotd and kdig: cargo xtask test runs it"]
async fn a_resolver_tells_what_the_registrar_has_and_what_is_wrong_with_it() {
    let ours = ours().await;
    let wrong = || SigningKey::generate().unwrap().ds(&name("example.org"));
    let with = |ds: Vec<Data>| Parent { servers: SERVERS.to_vec(), ds };

    let status = ours.below(&with(vec![ours.ds()]), Some(ours.addr)).await;
    assert_eq!(status.state, "GREEN", "{status:?}");
    assert!(status.registrar.len() == 5 && status.registrar.iter().all(|entry| entry.seen == "yes"), "{status:?}");

    let status = ours.below(&with(vec![]), Some(ours.addr)).await;
    assert_eq!((status.state.as_str(), seen(&status, "DS")), ("ATTENTION", vec!["no"]), "{status:?}");
    assert!(status.summary.contains("no DS record"), "{status:?}");

    let status = ours.below(&with(vec![ours.ds(), wrong()]), Some(ours.addr)).await;
    assert_eq!((status.state.as_str(), seen(&status, "DS")), ("ATTENTION", vec!["yes"]), "{status:?}");
    assert!(status.findings[0].remedy.contains("take out every other"), "{status:?}");

    // The resolver refuses what does not validate: it says SERVFAIL of everything but the DS records themselves.
    let status = ours.below(&with(vec![wrong()]), Some(ours.addr)).await;
    assert_eq!((status.state.as_str(), seen(&status, "DS")), ("BROKEN", vec!["no"]), "{status:?}");
    assert!(status.findings.iter().any(|found| found.remedy.contains("take out every DS record")), "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs unbound, knotd and kdig: cargo xtask test runs it"]
async fn a_resolver_that_finds_others_or_nobody_is_told() {
    let ours = ours().await;
    // The one who had the domain before has it still.
    let settings = Settings {
        zone: Some(ZoneSettings { name_servers: vec!["ns.before.example".to_owned()], ..ZoneSettings::default() }),
        ..ours.settings.clone()
    };
    let mut before = ours.bed.keeper(&settings);
    before.round().await.unwrap();
    let elsewhere = world(&ours.bed, &before.driven.answers).await;
    let above = Parent { servers: vec!["ns.before.example."], ds: vec![] };
    let status = ours.below(&above, Some(elsewhere)).await;
    assert_eq!((status.state.as_str(), seen(&status, "NS")), ("BROKEN", vec!["no", "no"]), "{status:?}");
    assert!(status.summary.contains("not delegated to this server"), "{status:?}");

    // One of the two, at whom nobody is: the other is asked.
    let one = Parent { servers: vec!["ns1.example"], ds: vec![ours.ds()] };
    let status = ours.below(&one, Some(ours.addr)).await;
    assert_eq!(status.state, "GREEN", "the zone itself says who serves it: {status:?}");

    // Delegated to where nobody answers, and not at all.
    let gone = Parent { servers: SERVERS.to_vec(), ds: vec![] };
    let silent = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let status = ours.below(&gone, Some(silent)).await;
    assert_eq!(status.state, "BROKEN", "{status:?}");
    assert!(status.summary.contains("is not found"), "{status:?}");
    let status = ours.below(&Parent { servers: vec![], ds: vec![] }, None).await;
    assert_eq!((status.state.as_str(), seen(&status, "NS")), ("BROKEN", vec!["no", "no"]), "{status:?}");
    assert!(status.summary.contains("not delegated"), "{status:?}");

    // A resolver that takes questions and never answers, and one that is not there.
    let mute = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    for resolver in [mute.local_addr().unwrap(), silent] {
        let status = ours.looked(resolver).await;
        assert_eq!(status.state, "BROKEN", "{status:?}");
        assert!(status.summary.contains("the resolver"), "{status:?}");
        assert!(seen(&status, "DS")[0].contains("the resolver"), "{status:?}");
    }
}
