//! Answers of DNS a second: ours beside knot, NSD and PowerDNS with the same zone, over UDP, TCP and TLS.
//!
//! The server has one core and dnsperf the other. What is compared is how many answers a second of the server's processor time brings,
//! since others may want the same core. Needs knotd, nsd, pdns_server, dnsperf and openssl. Run without arguments.

use anyhow::{Context, Result, ensure};
use boring::ssl::{SslAcceptor, SslFiletype, SslMethod, SslVersion};
use std::{
    env, fs,
    future::pending,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    num::NonZeroUsize,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    thread::sleep,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use sys_bench::{
    Spread, cpu_of_family, machine,
    process::{LOAD_CORE, SERVER_CORE, Stopped, pinned},
};
use sys_dns::{
    answer::{Answers, SignedZone},
    dnssec::{SigningKey, SigningKeys},
    name::Name,
    respond::{Clock, Responder, Rules, Transport},
    serve::{DnsBind, DnsListener, Limits, StreamListener},
    zone::{Data, Kind, RecordSet, Soa, Zone},
};

/// Rounds, in each of which every server is asked in turn; the first one warms up.
const ROUNDS: usize = 5;
/// Seconds that one server is asked in a round.
const LASTS_S: u32 = 2;
/// Questions a second, where what counts is how long each waits.
const CALM_PER_S: u32 = 10_000;
/// The zone: what each server is given, and what is asked for.
const RECORDS: &[(&str, &str, &str)] = &[
    ("example.org.", "NS", "ns1.example.org."),
    ("ns1.example.org.", "A", "192.0.2.53"),
    ("example.org.", "A", "192.0.2.1"),
    ("example.org.", "AAAA", "2001:db8::1"),
    ("example.org.", "MX", "10 mail.example.org."),
    ("example.org.", "TXT", "\"v=spf1 mx -all\""),
    ("www.example.org.", "A", "192.0.2.1"),
    ("www.example.org.", "AAAA", "2001:db8::1"),
    ("mail.example.org.", "A", "192.0.2.2"),
];
const SOA: &str = "ns1.example.org. hostmaster.example.org. 1 86400 7200 1209600 300";
const TTL_S: u32 = 600;

/// Who is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Server {
    Ours,
    Knot,
    Nsd,
    PowerDns,
}

/// How it is asked.
struct Way {
    name: &'static str,
    flags: &'static [&'static str],
    is_tls: bool,
    servers: &'static [Server],
    goal: f64,
}

const WAYS: &[Way] = &[
    Way { name: "UDP", flags: &["-m", "udp"], is_tls: false, servers: &ALL, goal: 0.75 },
    Way {
        name: "UDP, signed",
        flags: &["-m", "udp", "-D"],
        is_tls: false,
        servers: &[Server::Ours, Server::Knot],
        goal: 0.75,
    },
    Way { name: "TCP", flags: &["-m", "tcp"], is_tls: false, servers: &ALL, goal: 1.0 },
    Way { name: "DoT", flags: &["-m", "dot"], is_tls: true, servers: &[Server::Ours, Server::Nsd], goal: 1.0 },
];
const ALL: [Server; 4] = [Server::Ours, Server::Knot, Server::Nsd, Server::PowerDns];

impl Server {
    fn name(self) -> &'static str {
        match self {
            Self::Ours => "sys-dns",
            Self::Knot => "knot",
            Self::Nsd => "NSD",
            Self::PowerDns => "PowerDNS",
        }
    }

    /// Where it listens for UDP and TCP, and on the port behind it for TLS.
    fn port(self) -> u16 {
        match self {
            Self::Ours => 15_300,
            Self::Knot => 15_310,
            Self::Nsd => 15_320,
            Self::PowerDns => 15_330,
        }
    }

    fn start(self, dir: &Path) -> Result<Stopped> {
        let mut command = pinned(SERVER_CORE);
        let file = |name: &str| dir.join(name).display().to_string();
        match self {
            Self::Ours => command.arg(env::current_exe()?).arg("serve").arg(dir),
            Self::Knot => command.args(["knotd", "-c", &file("knot.conf")]),
            Self::Nsd => command.args(["nsd", "-d", "-c", &file("nsd.conf")]),
            Self::PowerDns => command.args(["pdns_server", &format!("--config-dir={}", dir.display())]),
        };
        let log = fs::File::create(dir.join(format!("{}.log", self.name())))?;
        let child = command.stdout(log.try_clone()?).stderr(log).spawn().with_context(|| self.name())?;
        let started = Stopped(child);
        until_it_answers(self.port()).with_context(|| format!("{} does not start", self.name()))?;
        Ok(started)
    }
}

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [serve, dir] = arguments.as_slice() {
        ensure!(serve == "serve", "run it without arguments");
        return tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?
            .block_on(ours(dir.into()));
    }
    let dir = tempfile::tempdir()?;
    write_configurations(dir.path())?;
    let servers = ALL.iter().map(|server| server.start(dir.path())).collect::<Result<Vec<_>>>()?;
    let pids: Vec<u32> = servers.iter().map(|server| server.0.id()).collect();
    println!(
        "Answers a second of the server's processor time, median (min–max) of {} rounds of {LASTS_S} s, servers on one core and dnsperf 2.10 \
         on the other, {}. Knot 3.2, NSD 4.6, PowerDNS 4.7 with its packet cache; no limits of answers anywhere. The ratio is that of the \
         medians, to the best peer; waits are by the clock, in as many rounds.\n",
        ROUNDS - 1,
        machine()
    );
    println!(
        "| way | sys-dns | knot | NSD | PowerDNS | ratio | goal | p99 at {CALM_PER_S}/s, ms: the same four |\n|---|---|---|---|---|---|---|---|"
    );
    for way in WAYS {
        println!("{}", row(way, dir.path(), &pids)?);
    }
    Ok(())
}

/// One line of the table.
fn row(way: &Way, dir: &Path, pids: &[u32]) -> Result<String> {
    let mut measured: Vec<_> = way.servers.iter().map(|server| (*server, Vec::new(), Vec::new())).collect();
    for round in 0..ROUNDS {
        for (server, rates, waits) in &mut measured {
            let begun = cpu_of_family(pids[place(*server)?]);
            let answers = answers(way, *server, dir)?;
            let rate = answers / (cpu_of_family(pids[place(*server)?]) - begun).as_secs_f64();
            let wait = p99_ms(way, *server, dir)?;
            eprintln!(
                "{} {} {rate:.0} answers a CPU second, {:.0} by the clock; p99 {wait:.2} ms",
                way.name,
                server.name(),
                answers / f64::from(LASTS_S)
            );
            if round > 0 {
                rates.push(rate);
                waits.push(wait);
            }
        }
    }
    let mut best = 0.0_f64;
    let mut ours = 0.0;
    let mut cells = vec!["–".to_owned(); ALL.len()];
    let mut shown_waits = cells.clone();
    for (server, rates, waits) in measured {
        let spread = Spread::of(rates);
        if server == Server::Ours {
            ours = spread.median;
        } else {
            best = best.max(spread.median);
        }
        cells[place(server)?] = spread.show(0);
        shown_waits[place(server)?] = format!("{:.2}", Spread::of(waits).median);
    }
    let verdict = if ours / best >= way.goal { "reached" } else { "missed" };
    let (cells, waits) = (cells.join(" | "), shown_waits.join(", "));
    Ok(format!("| {} | {cells} | {:.2} | {:.2}, {verdict} | {waits} |", way.name, ours / best, way.goal))
}

fn place(server: Server) -> Result<usize> {
    ALL.iter().position(|known| *known == server).context("a server")
}

fn dnsperf(way: &Way, server: Server, dir: &Path) -> Command {
    let port = if way.is_tls { server.port() + 1 } else { server.port() };
    let mut command = pinned(LOAD_CORE);
    command.args(["dnsperf", "-s", "127.0.0.1", "-p", &port.to_string(), "-l", &LASTS_S.to_string()]).args(way.flags);
    command.args(["-c", "8", "-q", "200", "-d"]).arg(dir.join("questions")).stderr(Stdio::null());
    command
}

fn answers(way: &Way, server: Server, dir: &Path) -> Result<f64> {
    let output = dnsperf(way, server, dir).output().context("dnsperf")?;
    let said = String::from_utf8_lossy(&output.stdout);
    let figure = |what: &str| said.lines().find_map(|line| line.trim().strip_prefix(what)).map(str::trim);
    // What is not answered as it should be does not count as fast.
    let codes = figure("Response codes:").with_context(|| format!("{}: {said}", server.name()))?;
    ensure!(codes.starts_with("NOERROR") && codes.ends_with("(100.00%)"), "{} answers {codes}", server.name());
    let completed = figure("Queries completed:").and_then(|figure| figure.split(' ').next());
    completed.context("a number of answers")?.parse().context("a number of answers")
}

/// How long 99 of 100 questions wait at most, where there are few.
fn p99_ms(way: &Way, server: Server, dir: &Path) -> Result<f64> {
    let output = dnsperf(way, server, dir).args(["-v", "-Q", &CALM_PER_S.to_string()]).output().context("dnsperf")?;
    let said = String::from_utf8_lossy(&output.stdout);
    let waits = said.lines().filter_map(|line| line.strip_prefix("> ")?.rsplit(' ').next()?.parse::<f64>().ok());
    let mut waits: Vec<f64> = waits.collect();
    ensure!(waits.len() > 100, "{} answered {} questions", server.name(), waits.len());
    waits.sort_by(f64::total_cmp);
    Ok(waits[waits.len() * 99 / 100] * 1e3)
}

fn until_it_answers(port: u16) -> Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.set_read_timeout(Some(Duration::from_millis(200)))?;
    let question = b"\0\x01\0\0\0\x01\0\0\0\0\0\0\x03www\x07example\x03org\0\0\x01\0\x01";
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(20) {
        socket.send_to(question, (Ipv4Addr::LOCALHOST, port))?;
        let mut answer = [0; 512];
        // Answered, and with a record: a zone may be loaded after the server.
        if socket.recv(&mut answer).is_ok_and(|_| answer[7] > 0) {
            return Ok(());
        }
        sleep(Duration::from_millis(50));
    }
    anyhow::bail!("no answer on port {port}")
}

fn write_configurations(dir: &Path) -> Result<()> {
    let shown = dir.display();
    let write = |name: &str, text: String| fs::write(dir.join(name), text);
    let records: String = RECORDS.iter().map(|(name, kind, data)| format!("{name} {TTL_S} {kind} {data}\n")).collect();
    write("zone", format!("example.org. {TTL_S} SOA {SOA}\n{records}"))?;
    write("questions", RECORDS.iter().map(|(name, kind, _)| format!("{name} {kind}\n")).collect())?;
    write(
        "knot.conf",
        format!(
            "server:\n  rundir: {shown}\n  listen: 127.0.0.1@{}\n  udp-workers: 1\n  tcp-workers: 1\ndatabase:\n  storage: {shown}/knot\n\
             zone:\n  - domain: example.org\n    file: {shown}/zone\n    zonefile-sync: -1\n    zonefile-load: difference\n    \
             journal-content: all\n    dnssec-signing: on\n",
            Server::Knot.port()
        ),
    )?;
    fs::create_dir(dir.join("knot"))?;
    let nsd = Server::Nsd.port();
    write(
        "nsd.conf",
        format!(
            "server:\n  ip-address: 127.0.0.1@{nsd}\n  ip-address: 127.0.0.1@{tls}\n  server-count: 1\n  username: \"\"\n  chroot: \"\"\n  \
             database: \"\"\n  zonesdir: \"{shown}\"\n  pidfile: \"{shown}/nsd.pid\"\n  xfrdfile: \"{shown}/xfrd.state\"\n  \
             zonelistfile: \"{shown}/zone.list\"\n  rrl-ratelimit: 0\n  rrl-whitelist-ratelimit: 0\n  tls-port: {tls}\n  \
             tls-service-key: \"{shown}/key.pem\"\n  tls-service-pem: \"{shown}/chain.pem\"\n  tcp-count: 200\n\
             remote-control:\n  control-enable: no\nzone:\n  name: example.org\n  zonefile: zone\n",
            tls = nsd + 1
        ),
    )?;
    write("named.conf", format!("zone \"example.org\" {{ type master; file \"{shown}/zone\"; }};\n"))?;
    write(
        "pdns.conf",
        format!(
            "launch=bind\nbind-config={shown}/named.conf\nlocal-address=127.0.0.1:{}\nsocket-dir={shown}\nguardian=no\ndaemon=no\n\
             receiver-threads=1\ndistributor-threads=1\nreuseport=yes\nmax-tcp-connections=200\nversion-string=anonymous\n",
            Server::PowerDns.port()
        ),
    )?;
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj"])
        .args(["/CN=localhost", "-keyout", &format!("{shown}/key.pem"), "-out", &format!("{shown}/chain.pem")])
        .stderr(Stdio::null())
        .status()?;
    ensure!(made.success(), "openssl makes no certificate");
    Ok(())
}

/// Our server, in a process of its own.
async fn ours(dir: PathBuf) -> Result<()> {
    let clock: Clock = Arc::new(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        now.as_secs().cast_signed()
    });
    let answers = Answers::new(clock.clone());
    let keys = SigningKeys::single(Arc::new(SigningKey::generate()?));
    answers.serve(vec![SignedZone { zone: zone()?, keys }]);
    let rules = Rules { answers_per_s: None, ..Rules::default() };
    let responder = Responder::new(answers, rules, clock, [[1; 16], [2; 16]]);
    let limits = Limits { udp_threads: NonZeroUsize::MIN, ..Limits::default() };
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, Server::Ours.port()));
    let dot = StreamListener::bind((Ipv4Addr::LOCALHOST, addr.port() + 1).into(), limits).await?;
    let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls())?;
    acceptor.set_max_proto_version(Some(SslVersion::TLS1_3))?;
    acceptor.set_private_key_file(dir.join("key.pem"), SslFiletype::PEM)?;
    acceptor.set_certificate_chain_file(dir.join("chain.pem"))?;
    let acceptor = acceptor.build();
    let handshake = move |stream| {
        let acceptor = acceptor.clone();
        async move { tokio_boring::accept(&acceptor, stream).await.ok() }
    };
    let under_tls = dot.serve(responder.clone(), Transport::Tls, handshake, pending());
    let listener = DnsListener::bind(DnsBind { addr, limits }).await?;
    tokio::try_join!(under_tls, listener.serve(responder, pending()))?;
    Ok(())
}

fn zone() -> Result<Zone> {
    let mut sets: Vec<RecordSet> = Vec::new();
    for (name, kind, data) in RECORDS {
        let (name, kind) = (Name::parse(name)?, Kind::parse(kind).context("a kind")?);
        let data = Data::parse(kind, data)?;
        match sets.iter_mut().find(|set| set.name == name && set.kind() == Some(kind)) {
            Some(set) => set.data.push(data),
            None => sets.push(RecordSet { name, ttl_s: TTL_S, data: vec![data] }),
        }
    }
    let soa = Soa {
        primary: Name::parse("ns1.example.org.")?,
        mailbox: Name::parse("hostmaster.example.org.")?,
        serial: 1,
        refresh_s: 86_400,
        retry_s: 7_200,
        expire_s: 1_209_600,
        negative_ttl_s: 300,
        ttl_s: TTL_S,
    };
    Zone::build(Name::parse("example.org.")?, sets, soa).map_err(|faults| anyhow::anyhow!("{faults:?}"))
}
