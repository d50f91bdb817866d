//! Who is asked: ours and its peers, how each is configured and started.

use crate::{RECORDS, SOA, TTL_S};
use anyhow::{Context, Result, bail, ensure};
use std::{
    env, fs,
    net::{Ipv4Addr, UdpSocket},
    path::Path,
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};
use sys_bench::process::{SERVER_CORE, Stopped, pinned};

/// Who is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Server {
    Ours,
    Knot,
    Nsd,
    PowerDns,
    /// A resolver that has the zone as local data, as whoever has no better front for DNS over HTTPS runs it.
    Unbound,
    /// A front with a cache of answers, before knot.
    Dnsdist,
    /// No server: sends back what it gets.
    Echo,
}

/// Each after those that it asks itself; the echo is none of them.
pub(crate) const ALL: [Server; 6] =
    [Server::Ours, Server::Knot, Server::Nsd, Server::PowerDns, Server::Unbound, Server::Dnsdist];

impl Server {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ours => "sys-dns",
            Self::Knot => "knot",
            Self::Nsd => "NSD",
            Self::PowerDns => "PowerDNS",
            Self::Unbound => "unbound",
            Self::Dnsdist => "dnsdist",
            Self::Echo => "echo",
        }
    }

    pub(crate) fn place(self) -> usize {
        self as usize
    }

    /// Where it listens for UDP and TCP.
    pub(crate) fn port(self) -> u16 {
        match self {
            Self::Ours => 15_300,
            Self::Knot => 15_310,
            Self::Nsd => 15_320,
            Self::PowerDns => 15_330,
            Self::Unbound => 15_340,
            Self::Dnsdist => 15_350,
            Self::Echo => 15_360,
        }
    }

    pub(crate) fn tls_port(self) -> u16 {
        self.port() + 1
    }

    pub(crate) fn https_port(self) -> u16 {
        self.port() + 2
    }

    pub(crate) fn start(self, dir: &Path) -> Result<Stopped> {
        let mut command = pinned(SERVER_CORE);
        let file = |name: &str| dir.join(name).display().to_string();
        match self {
            Self::Ours => command.arg(env::current_exe()?).arg("serve").arg(dir),
            Self::Knot => command.args(["knotd", "-c", &file("knot.conf")]),
            Self::Nsd => command.args(["nsd", "-d", "-c", &file("nsd.conf")]),
            Self::PowerDns => command.args(["pdns_server", &format!("--config-dir={}", dir.display())]),
            Self::Unbound => command.args(["unbound", "-d", "-c", &file("unbound.conf")]),
            Self::Dnsdist => command.args(["dnsdist", "--supervised", "--disable-syslog", "-C", &file("dnsdist.conf")]),
            Self::Echo => command.arg(env::current_exe()?).arg("echo"),
        };
        let log = fs::File::create(dir.join(format!("{}.log", self.name())))?;
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn();
        let started = Stopped(child.with_context(|| self.name())?);
        if let Err(error) = until_it_answers(self.port()) {
            let said = fs::read_to_string(dir.join(format!("{}.log", self.name()))).unwrap_or_default();
            bail!("{} does not start: {error:#}: {said}", self.name());
        }
        Ok(started)
    }
}

fn until_it_answers(port: u16) -> Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.set_read_timeout(Some(Duration::from_millis(200)))?;
    let question = b"\0\x01\0\0\0\x01\0\0\0\0\0\0\x03www\x07example\x03org\0\0\x01\0\x01";
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(20) {
        socket.send_to(question, (Ipv4Addr::LOCALHOST, port))?;
        let mut answer = [0; 512];
        // Answered, and with a record: a zone may be loaded after the server. The echo says of itself that it has one.
        if socket.recv(&mut answer).is_ok_and(|_| answer[7] > 0) {
            return Ok(());
        }
        sleep(Duration::from_millis(50));
    }
    bail!("no answer on port {port}")
}

/// Sends back what it gets, as an answer with as many records as there are questions, which nobody looks for.
pub(crate) fn echo() -> Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, Server::Echo.port()))?;
    let mut message = [0; 512];
    loop {
        let (length, from) = socket.recv_from(&mut message)?;
        message[2] |= 0x80;
        message[7] = message[5];
        socket.send_to(&message[..length], from)?;
    }
}

/// Writes the zone and the certificate, and what each peer is told. Each has one thread for questions, and no limit of answers.
pub(crate) fn configure(dir: &Path) -> Result<()> {
    let shown = dir.display();
    let write = |name: &str, text: String| fs::write(dir.join(name), text);
    let records: String = RECORDS.iter().map(|(name, kind, data)| format!("{name} {TTL_S} {kind} {data}\n")).collect();
    write("zone", format!("example.org. {TTL_S} SOA {SOA}\n{records}"))?;
    fs::create_dir(dir.join("knot"))?;
    write(
        "knot.conf",
        format!(
            "server:\n  rundir: {shown}\n  listen: 127.0.0.1@{}\n  udp-workers: 1\n  tcp-workers: 1\ndatabase:\n  storage: {shown}/knot\n\
             zone:\n  - domain: example.org\n    file: {shown}/zone\n    zonefile-sync: -1\n    zonefile-load: difference\n    \
             journal-content: all\n    dnssec-signing: on\n",
            Server::Knot.port()
        ),
    )?;
    write(
        "nsd.conf",
        format!(
            "server:\n  ip-address: 127.0.0.1@{}\n  ip-address: 127.0.0.1@{tls}\n  server-count: 1\n  username: \"\"\n  chroot: \"\"\n  \
             database: \"\"\n  zonesdir: \"{shown}\"\n  pidfile: \"{shown}/nsd.pid\"\n  xfrdfile: \"{shown}/xfrd.state\"\n  \
             zonelistfile: \"{shown}/zone.list\"\n  rrl-ratelimit: 0\n  rrl-whitelist-ratelimit: 0\n  tls-port: {tls}\n  \
             tls-service-key: \"{shown}/key.pem\"\n  tls-service-pem: \"{shown}/chain.pem\"\n  tcp-count: 200\n\
             remote-control:\n  control-enable: no\nzone:\n  name: example.org\n  zonefile: zone\n",
            Server::Nsd.port(),
            tls = Server::Nsd.tls_port()
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
    let local: String =
        RECORDS.iter().map(|(name, kind, data)| format!("  local-data: '{name} {TTL_S} IN {kind} {data}'\n")).collect();
    write(
        "unbound.conf",
        format!(
            "server:\n  interface: 127.0.0.1@{}\n  interface: 127.0.0.1@{https}\n  https-port: {https}\n  num-threads: 1\n  \
             incoming-num-tcp: 200\n  http-max-streams: 200\n  tls-service-key: \"{shown}/key.pem\"\n  \
             tls-service-pem: \"{shown}/chain.pem\"\n  username: \"\"\n  chroot: \"\"\n  directory: \"{shown}\"\n  pidfile: \"\"\n  \
             use-syslog: no\n  local-zone: example.org. static\n  local-data: 'example.org. {TTL_S} IN SOA {SOA}'\n{local}\
             remote-control:\n  control-enable: no\n",
            Server::Unbound.port(),
            https = Server::Unbound.https_port()
        ),
    )?;
    write(
        "dnsdist.conf",
        format!(
            "setLocal('127.0.0.1:{}')\nnewServer({{address='127.0.0.1:{}', healthCheckMode='up'}})\n\
             getPool(''):setCache(newPacketCache(10000))\n\
             addDOHLocal('127.0.0.1:{}', '{shown}/chain.pem', '{shown}/key.pem', '/dns-query', {{minTLSVersion='tls1.3'}})\n",
            Server::Dnsdist.port(),
            Server::Knot.port(),
            Server::Dnsdist.https_port()
        ),
    )?;
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj"])
        .args([
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost,IP:127.0.0.1",
            "-keyout",
            &format!("{shown}/key.pem"),
            "-out",
            &format!("{shown}/chain.pem"),
        ])
        .stderr(Stdio::null())
        .status()?;
    ensure!(made.success(), "openssl makes no certificate");
    Ok(())
}
