//! What TLS costs: our listener beside nginx and haproxy, with the same certificate and the same group of the key exchange.
//!
//! Handshakes with and without ECH, requests over HTTP/1.1 and HTTP/2, and the memory of connections that wait. Each server has one
//! thread on one core, and the load the other core; what is compared is the server's time of the processor, since the
//! client's part of a handshake is dearer than the server's and would be what a clock on the wall measures. Needs nginx, haproxy,
//! h2load and openssl. Run without arguments.

use anyhow::{Context, Result, ensure};
use boring::ssl::{SslConnector, SslMethod, SslStream, SslVerifyMode, SslVersion};
use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use std::{
    env, fs,
    future::pending,
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};
use sys_bench::{
    Spread, cpu_of, machine,
    process::{LOAD_CORE, SERVER_CORE, Stopped, move_to_load_core, pinned},
    resident_bytes,
};
use sys_edge::{
    Bind, Limits, Listener,
    ech::{EchKey, config_list},
    tls::{Identity, Tls},
};

/// Rounds, in each of which every server is asked in turn; the first one warms up.
const ROUNDS: usize = 6;
/// Handshakes of one server in a round, and how many shake hands at once.
const HANDSHAKES: usize = 2_000;
const AT_ONCE: usize = 4;
/// Requests of one server in a round.
const REQUESTS: usize = 20_000;
/// Connections that wait, of how many the memory is shown, and how many there were before, so that what is made once is made.
const IDLE: usize = 4_000;
const SHOWN_IDLE: usize = 10_000;
/// How long they wait until the memory is read: what handshakes took is given back by then, and after 5 s without a request ours gives
/// back what HTTP/1.1 needs for one.
const SETTLING: Duration = Duration::from_secs(12);
const BEFORE_IDLE: usize = 200;
/// Room for them.
const MOST_CONNECTIONS: usize = IDLE + 1_000;
const NAME: &str = "localhost";
const ANSWER: &[u8] = b"hello\n";
/// The group that all of them know: OpenSSL 3.0, which nginx and haproxy of Debian 12 are built with, has no other in common with
/// what a browser prefers today.
const COMMON_GROUP: &str = "X25519";
const HYBRID_GROUP: &str = "X25519MLKEM768";
/// Where ours says what clients seal their hellos for.
const ECH_LIST: &str = "ech";

/// Who is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Server {
    Ours,
    Nginx,
    Haproxy,
}

const ALL: [Server; 3] = [Server::Ours, Server::Nginx, Server::Haproxy];

impl Server {
    fn name(self) -> &'static str {
        match self {
            Self::Ours => "sys-edge",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
        }
    }

    fn addr(self) -> SocketAddr {
        let port = match self {
            Self::Ours => 15_400,
            Self::Nginx => 15_410,
            Self::Haproxy => 15_420,
        };
        (Ipv4Addr::LOCALHOST, port).into()
    }

    fn start(self, dir: &Path) -> Result<Stopped> {
        let mut command = pinned(SERVER_CORE);
        let file = |name: &str| dir.join(name).display().to_string();
        match self {
            Self::Ours => command.arg(env::current_exe()?).arg("serve").arg(dir),
            Self::Nginx => command.args(["nginx", "-p", &file(""), "-e", "nginx-errors", "-c", &file("nginx.conf")]),
            Self::Haproxy => command.args(["haproxy", "-db", "-f", &file("haproxy.conf")]),
        };
        let log = fs::File::create(dir.join(format!("{}.log", self.name())))?;
        let child = command.stdout(log.try_clone()?).stderr(log).spawn().with_context(|| self.name())?;
        let mut started = Stopped(child);
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(20) {
            if let Some(status) = started.0.try_wait()? {
                anyhow::bail!(
                    "{} ends: {status}; {}",
                    self.name(),
                    fs::read_to_string(file(&format!("{}.log", self.name())))?
                );
            }
            if TcpStream::connect(self.addr()).is_ok() {
                return Ok(started);
            }
            thread::sleep(Duration::from_millis(20));
        }
        anyhow::bail!("{} does not listen", self.name())
    }
}

/// One kind of handshake with one server.
struct Handshake {
    server: Server,
    group: &'static str,
    is_hidden: bool,
}

const HANDSHAKE_KINDS: [Handshake; 6] = [
    Handshake { server: Server::Ours, group: COMMON_GROUP, is_hidden: false },
    Handshake { server: Server::Nginx, group: COMMON_GROUP, is_hidden: false },
    Handshake { server: Server::Haproxy, group: COMMON_GROUP, is_hidden: false },
    Handshake { server: Server::Ours, group: COMMON_GROUP, is_hidden: true },
    Handshake { server: Server::Ours, group: HYBRID_GROUP, is_hidden: false },
    Handshake { server: Server::Ours, group: HYBRID_GROUP, is_hidden: true },
];

/// What h2load is told, by protocol.
const REQUEST_KINDS: [(&str, &[&str]); 2] =
    [("HTTP/1.1 keep-alive", &["--h1", "-c", "32", "-m", "1"]), ("HTTP/2", &["-c", "8", "-m", "16"])];

/// What goes over a connection before it waits, by protocol.
const IDLE_KINDS: [(&str, &[u8], &[u8]); 2] = [
    ("HTTP/1.1", b"\x08http/1.1", b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"),
    // Preface, empty SETTINGS, an acknowledgement of the server's, and HEADERS that end the stream (RFC 9113, RFC 7541 appendix A).
    (
        "HTTP/2",
        b"\x02h2",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\0\x04\x01\0\0\0\0\0\0\x0e\x01\x05\0\0\0\x01\x82\x87\x84\x41\x09localhost",
    ),
];

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [serve, dir] = arguments.as_slice() {
        ensure!(serve == "serve", "run it without arguments");
        sys_server::use_small_pages();
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        return runtime.worker_threads(1).enable_all().build()?.block_on(ours(Path::new(dir)));
    }
    let dir = tempfile::tempdir()?;
    let dir = dir.path();
    write_configurations(dir)?;
    move_to_load_core()?;
    println!(
        "Processor time of the server and its resident memory, median (min–max) of {} rounds; the servers one thread on one core, the load \
         on the other, {}. TLS 1.3, a P-256 certificate, AES-256-GCM for requests, nothing resumed. {}. The ratio is ours to that of the \
         better peer; less is better.\n",
        ROUNDS - 1,
        machine(),
        versions()?
    );
    println!("| what | sys-edge | nginx | haproxy | ratio | goal |\n|---|---|---|---|---|---|");
    {
        let servers = ALL.iter().map(|server| Ok((*server, server.start(dir)?))).collect::<Result<Vec<_>>>()?;
        let pids: Vec<u32> = servers.iter().map(|(_, process)| process.0.id()).collect();
        handshakes(dir, &pids)?;
        requests(&pids)?;
    }
    for (protocol, alpn, request) in IDLE_KINDS {
        let kib = ALL.iter().map(|server| idle_kib(*server, dir, alpn, request)).collect::<Result<Vec<_>>>()?;
        let cells: Vec<_> =
            kib.iter().map(|kib| format!("{:.0} MB", kib * SHOWN_IDLE as f64 * 1_024.0 / 1e6)).collect();
        let ratio = kib[0] / kib[1].min(kib[2]);
        println!(
            "| memory of {SHOWN_IDLE} idle connections, by {IDLE}, {protocol} | {} | {} |",
            cells.join(" | "),
            judged(ratio, 1.0)
        );
    }
    Ok(())
}

fn judged(ratio: f64, goal: f64) -> String {
    let verdict = if ratio <= goal { "reached" } else { "missed" };
    format!("{ratio:.2} × | ≤ {goal:.2} ×, {verdict}")
}

fn cost(values: Vec<f64>) -> (f64, String) {
    let spread = Spread::of(values);
    (spread.median, format!("{} us", spread.show(0)))
}

fn handshakes(dir: &Path, pids: &[u32]) -> Result<()> {
    let list = fs::read(dir.join(ECH_LIST)).context("what clients seal for")?;
    let mut measured = HANDSHAKE_KINDS.map(|_| Vec::new());
    for round in 0..ROUNDS {
        for (kind, measured) in HANDSHAKE_KINDS.iter().zip(&mut measured) {
            let pid = pids[ALL.iter().position(|server| *server == kind.server).context("a server")?];
            let begun = cpu_of(pid);
            shake_hands(kind, &list)?;
            let us = (cpu_of(pid) - begun).as_secs_f64() * 1e6 / HANDSHAKES as f64;
            eprintln!("{} {} ECH {}: {us:.0} us", kind.server.name(), kind.group, kind.is_hidden);
            if round > 0 {
                measured.push(us);
            }
        }
    }
    let [(ours, shown), (nginx, of_nginx), (haproxy, of_haproxy), hidden, hybrid, hybrid_hidden] = measured.map(cost);
    let peers = judged(ours / nginx.min(haproxy), 1.0);
    println!("| a handshake, {COMMON_GROUP} | {shown} | {of_nginx} | {of_haproxy} | {peers} |");
    let rates = [ours, nginx, haproxy].map(|us| format!("{:.0}", 1e6 / us)).join(" | ");
    println!("| handshakes that a core does in a second, {COMMON_GROUP} | {rates} | – | – |");
    let with_ech = |group: &str, with: &(f64, String), without: f64| {
        println!(
            "| a handshake, {group}, ECH; ratio to the same without it | {} | – | – | {} |",
            with.1,
            judged(with.0 / without, 1.15)
        );
    };
    with_ech(COMMON_GROUP, &hidden, ours);
    let ratio = hybrid.0 / ours;
    println!("| a handshake, {HYBRID_GROUP}; ratio to {COMMON_GROUP} | {} | – | – | {ratio:.2} × | – |", hybrid.1);
    with_ech(HYBRID_GROUP, &hybrid_hidden, hybrid.0);
    Ok(())
}

/// Shakes hands so often, and sees every connection closed by both sides, so that all is paid for.
fn shake_hands(kind: &Handshake, list: &[u8]) -> Result<()> {
    let connector = connector(kind.group, b"\x08http/1.1")?;
    let list = kind.is_hidden.then_some(list);
    let some = || -> Result<()> {
        for _ in 0..HANDSHAKES / AT_ONCE {
            let mut stream = connect(&connector, kind.server, list)?;
            ensure!(stream.ssl().ech_accepted() == kind.is_hidden, "ECH is not as asked for");
            stream.shutdown()?;
            stream.get_ref().shutdown(Shutdown::Write)?;
            io::copy(&mut stream.get_ref(), &mut io::sink())?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(some)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("no panic"))
    })
}

/// A client that offers one group. It checks no certificate: what is measured is the server.
fn connector(group: &str, alpn: &[u8]) -> Result<SslConnector> {
    let mut builder = SslConnector::builder(SslMethod::tls())?;
    builder.set_verify(SslVerifyMode::NONE);
    builder.set_min_proto_version(Some(SslVersion::TLS1_3))?;
    builder.set_curves_list(group)?;
    builder.set_alpn_protos(alpn)?;
    Ok(builder.build())
}

fn connect(connector: &SslConnector, server: Server, list: Option<&[u8]>) -> Result<SslStream<TcpStream>> {
    let stream = TcpStream::connect(server.addr())?;
    stream.set_nodelay(true)?;
    let mut connection = connector.configure()?;
    if let Some(list) = list {
        connection.set_ech_config_list(list)?;
    }
    connection.connect(NAME, stream).map_err(|error| anyhow::anyhow!("{}: {error}", server.name()))
}

fn requests(pids: &[u32]) -> Result<()> {
    for (protocol, flags) in REQUEST_KINDS {
        let mut measured = ALL.map(|_| Vec::new());
        for round in 0..ROUNDS {
            for ((server, pid), measured) in ALL.iter().zip(pids).zip(&mut measured) {
                let begun = cpu_of(*pid);
                load(*server, flags)?;
                let us = (cpu_of(*pid) - begun).as_secs_f64() * 1e6 / REQUESTS as f64;
                eprintln!("{} {protocol}: {us:.1} us", server.name());
                if round > 0 {
                    measured.push(us);
                }
            }
        }
        let spreads = measured.map(Spread::of);
        let cells = spreads.map(|spread| format!("{} us", spread.show(1))).join(" | ");
        let [ours, nginx, haproxy] = spreads.map(|spread| spread.median);
        println!("| a request, {protocol} | {cells} | {} |", judged(ours / nginx.min(haproxy), 1.0));
        let rates = [ours, nginx, haproxy].map(|us| format!("{:.0}", 1e6 / us)).join(" | ");
        println!("| requests that a core does in a second, {protocol} | {rates} | – | – |");
    }
    Ok(())
}

fn load(server: Server, flags: &[&str]) -> Result<()> {
    let mut h2load = pinned(LOAD_CORE);
    h2load
        .args(["h2load", "-t", "1", "-n", &REQUESTS.to_string()])
        .args(flags)
        .arg(format!("https://{}/", server.addr()));
    let said = String::from_utf8(h2load.stderr(Stdio::null()).output().context("h2load")?.stdout)?;
    // What is not answered as it should be does not count as fast.
    ensure!(said.contains(&format!("status codes: {REQUESTS} 2xx")), "{}: {said}", server.name());
    Ok(())
}

/// KiB that a connection holds which had an answer and waits for its next question. The server is a fresh one.
fn idle_kib(server: Server, dir: &Path, alpn: &[u8], request: &[u8]) -> Result<f64> {
    let process = server.start(dir)?;
    let connector = connector(COMMON_GROUP, alpn)?;
    let asked = || -> Result<SslStream<TcpStream>> {
        let mut stream = connect(&connector, server, None)?;
        stream.write_all(request)?;
        let mut answer = Vec::new();
        while !answer.windows(ANSWER.len()).any(|piece| piece == ANSWER) {
            let mut piece = [0; 1_024];
            let read = stream.read(&mut piece)?;
            ensure!(read > 0, "{} closes", server.name());
            answer.extend_from_slice(&piece[..read]);
        }
        Ok(stream)
    };
    drop((0..BEFORE_IDLE).map(|_| asked()).collect::<Result<Vec<_>>>()?);
    let before = resident_bytes(process.0.id());
    let waiting = (0..IDLE).map(|_| asked()).collect::<Result<Vec<_>>>()?;
    thread::sleep(SETTLING);
    let kib = (resident_bytes(process.0.id()) - before) as f64 / 1_024.0 / IDLE as f64;
    eprintln!("{}: {kib:.1} KiB a connection, {} of them", server.name(), waiting.len());
    Ok(kib)
}

/// Our server, in a process of its own.
async fn ours(dir: &Path) -> Result<()> {
    let tls = Tls::new()?;
    tls.show(vec![Identity::from_pem(&fs::read(dir.join("chain.pem"))?, &fs::read(dir.join("key.pem"))?)?]);
    let key = EchKey::generate(1, "cover.example.org")?;
    tls.set_ech(std::slice::from_ref(&key))?;
    fs::write(dir.join(ECH_LIST), config_list(&[&key]))?;
    let limits =
        Limits { connections: MOST_CONNECTIONS, connections_per_source: MOST_CONNECTIONS, ..Limits::default() };
    let listener = Listener::bind(Bind { limits, tls: Some(tls), ..Bind::at(Server::Ours.addr()) }).await?;
    let service = tower::service_fn(async |_| {
        let answer = Response::builder().header("content-type", "text/plain");
        answer.body(Full::new(Bytes::from_static(ANSWER)))
    });
    listener.serve(service, pending()).await?;
    Ok(())
}

/// The peers as they are set up for such a load: one thread, no log, no tickets and no cache of sessions, connections that live long.
fn write_configurations(dir: &Path) -> Result<()> {
    let shown = dir.display();
    let write = |name: &str, text: String| fs::write(dir.join(name), text);
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary: String = temporary.iter().map(|of| format!("  {of}_temp_path {shown}/{of};\n")).collect();
    write(
        "nginx.conf",
        format!(
            "daemon off;\nmaster_process off;\npid {shown}/nginx.pid;\nevents {{ worker_connections {MOST_CONNECTIONS}; }}\nhttp {{\n{temporary}  \
             access_log off;\n  keepalive_requests 1000000000;\n  keepalive_timeout 600s;\n  ssl_protocols TLSv1.3;\n  \
             ssl_session_cache off;\n  ssl_session_tickets off;\n  ssl_conf_command NumTickets 0;\n  ssl_ecdh_curve {COMMON_GROUP};\n  \
             ssl_certificate {shown}/chain.pem;\n  ssl_certificate_key {shown}/key.pem;\n  server {{\n    listen {} ssl http2;\n    \
             location / {{ default_type text/plain; return 200 \"hello\\n\"; }}\n  }}\n}}\n",
            Server::Nginx.addr()
        ),
    )?;
    write(
        "haproxy.conf",
        format!(
            "global\n  nbthread 1\n  maxconn {MOST_CONNECTIONS}\n  no strict-limits\n  tune.ssl.cachesize 0\n  ssl-default-bind-options \
             no-tls-tickets ssl-min-ver TLSv1.3\ndefaults\n  mode http\n  timeout client 600s\n  timeout server 600s\n  timeout connect 5s\n  \
             timeout http-keep-alive 600s\nfrontend edge\n  bind {} ssl crt {shown}/both.pem alpn h2,http/1.1 curves {COMMON_GROUP}\n  \
             http-request return status 200 content-type text/plain string \"hello\\n\"\n",
            Server::Haproxy.addr()
        ),
    )?;
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj"])
        .args(["/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
        .args(["-keyout", &format!("{shown}/key.pem"), "-out", &format!("{shown}/chain.pem")])
        .stderr(Stdio::null())
        .status()?;
    ensure!(made.success(), "openssl makes no certificate");
    let both = ["chain.pem", "key.pem"].map(|name| fs::read_to_string(dir.join(name)));
    let [chain, key] = both;
    write("both.pem", chain? + &key?)?;
    Ok(())
}

/// What the peers call themselves.
fn versions() -> Result<String> {
    let first = |program: &str| -> Result<String> {
        let output = pinned(LOAD_CORE).args([program, "-v"]).output().with_context(|| program.to_owned())?;
        let said = [output.stdout, output.stderr].concat();
        Ok(String::from_utf8(said)?.lines().next().unwrap_or_default().trim_start_matches("nginx version: ").to_owned())
    };
    Ok([first("nginx")?, first("haproxy")?]
        .map(|said| said.split(" - ").next().unwrap_or_default().to_owned())
        .join(", "))
}
