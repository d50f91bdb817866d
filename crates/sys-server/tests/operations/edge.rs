//! The edge of the program as it is run: ports that somebody else has bound, DNS over TLS, a reload under load, a CA of its own.

use crate::server::{PATIENCE, eventually, get, program, said_at_start, terminate, workspace};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use std::{
    fs::{self, File, Permissions},
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{fs::PermissionsExt, net::UnixDatagram},
    },
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};
use tempfile::TempDir;

const DOMAIN: &str = "example.org";

/// A server that speaks TLS.
struct Edge {
    said: Vec<String>,
    dir: TempDir,
    child: Child,
}

impl Edge {
    fn start(mut command: Command, dir: TempDir, arguments: &[&str]) -> Self {
        let data = dir.path().join("data");
        command.arg("run").arg("--data-dir").arg(&data).arg("--danger-key-file").arg(data.join("danger-master.key"));
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
        command.stderr(File::create(dir.path().join("log")).unwrap());
        let mut child = command.spawn().unwrap();
        let said = said_at_start(&mut child, &dir.path().join("log"));
        Self { said, dir, child }
    }

    /// What stands behind this at the start of a line.
    fn said(&self, begin: &str) -> &str {
        let found = self.said.iter().find_map(|line| line.strip_prefix(begin));
        found.unwrap_or_else(|| panic!("{begin} in {:?}", self.said))
    }

    fn addr(&self, begin: &str) -> SocketAddr {
        self.said(begin).parse().unwrap()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    /// Has it read its configuration again, and waits until it has.
    fn reload(&self) {
        let ended = |log: &str| log.matches("was read again").count() + log.matches("stays as it was").count();
        let before = ended(&self.log());
        let hung_up = Command::new("kill").args(["-HUP", &self.child.id().to_string()]).status().unwrap();
        assert!(hung_up.success());
        eventually("the end of a reload", || (ended(&self.log()) > before).then_some(()));
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        // One that has ended already cannot be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A new certificate for the domain, in the folder.
fn certificate(dir: &Path) -> CertificateDer<'static> {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed([DOMAIN.to_owned()]).unwrap();
    for (name, text) in [("chain.pem", cert.pem()), ("key.pem", signing_key.serialize_pem())] {
        // Whole or not at all, as certbot does it.
        let written = dir.join(name).with_extension("new");
        fs::write(&written, text).unwrap();
        fs::set_permissions(&written, Permissions::from_mode(0o600)).unwrap();
        fs::rename(&written, dir.join(name)).unwrap();
    }
    cert.der().clone()
}

type Tls = StreamOwned<ClientConnection, TcpStream>;

/// Shakes hands with whoever trusts this certificate.
fn shaken(addr: SocketAddr, root: &CertificateDer<'static>, name: &str, alpn: &[&[u8]]) -> io::Result<Tls> {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
    let config = builder.with_protocol_versions(&[&rustls::version::TLS13]).unwrap();
    shaken_as(addr, config.with_root_certificates(roots).with_no_client_auth(), name, alpn)
}

fn shaken_as(addr: SocketAddr, mut config: ClientConfig, name: &str, alpn: &[&[u8]]) -> io::Result<Tls> {
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let mut stream = TcpStream::connect(addr)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut connection = ClientConnection::new(Arc::new(config), name.to_owned().try_into().unwrap()).unwrap();
    while connection.is_handshaking() {
        connection.complete_io(&mut stream)?;
    }
    Ok(StreamOwned::new(connection, stream))
}

/// A page over a connection that stays open: the head of the answer, with its body where that has a length.
fn page(stream: &mut Tls, path: &str) -> io::Result<String> {
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {DOMAIN}\r\n\r\n")?;
    let (mut answer, mut byte) = (Vec::new(), [0]);
    while !answer.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        answer.push(byte[0]);
    }
    let head = String::from_utf8(answer).unwrap();
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body)?;
    Ok(head + &String::from_utf8(body).unwrap())
}

/// A question for the SOA record of the domain.
const QUESTION: &[u8] = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x03org\x00\x00\x06\x00\x01";

/// Whether an answer is one, with authority, without an error, and with a record.
fn is_answered(answer: &[u8]) -> bool {
    answer.get(..2) == QUESTION.get(..2) && answer[2] & 0x84 == 0x84 && answer[3] & 0x0f == 0 && answer[7] == 1
}

/// Asks in a stream (RFC 1035 section 4.2.2).
fn asked(mut stream: impl Read + Write) -> io::Result<Vec<u8>> {
    let length = u16::try_from(QUESTION.len()).unwrap().to_be_bytes();
    stream.write_all(&[&length[..], QUESTION].concat())?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut answer = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

fn files(dir: &Path) -> [String; 4] {
    let path = |name| dir.join(name).display().to_string();
    ["--tls-chain-file".to_owned(), path("chain.pem"), "--tls-key-file".to_owned(), path("key.pem")]
}

#[test]
fn questions_over_tls_are_answered_and_nothing_else_is_spoken_there() {
    let dir = tempfile::tempdir().unwrap();
    let root = certificate(dir.path());
    let files = files(dir.path());
    let [chain_flag, chain, key_flag, key] = files.each_ref().map(String::as_str);
    let arguments = ["--listen", "127.0.0.1:0", "--domain", DOMAIN, chain_flag, chain, key_flag, key];
    let edge = Edge::start(program(), dir, &[&arguments[..], &["--dns-tls-listen", "127.0.0.1:0"]].concat());
    let addr = edge.addr("zones-over-tls ");
    for alpn in [&[&b"dot"[..]][..], &[], &[b"h2", b"dot"]] {
        let mut stream = shaken(addr, &root, DOMAIN, alpn).unwrap();
        assert!(is_answered(&asked(&mut stream).unwrap()), "{alpn:?}");
        assert!(is_answered(&asked(&mut stream).unwrap()), "a second question on the same connection");
    }
    for alpn in [&[&b"h2"[..], b"http/1.1"][..], &[b"acme-tls/1"]] {
        assert!(shaken(addr, &root, DOMAIN, alpn).is_err(), "{alpn:?}");
    }
    assert!(shaken(addr, &root, "example.com", &[b"dot"]).is_err(), "a foreign name");
    let mut stream = shaken(addr, &root, DOMAIN, &[]).unwrap();
    let mut answer = Vec::new();
    // The first two bytes are the length of a question, and a long one: it closes.
    stream.write_all(b"GET / HTTP/1.1\r\nhost: example.org\r\n\r\n").unwrap();
    let _ = stream.read_to_end(&mut answer);
    assert!(answer.is_empty(), "{answer:?}");
    let main = edge.said("ready https://example.org:").parse().unwrap();
    assert!(shaken(SocketAddr::from(([127, 0, 0, 1], main)), &root, DOMAIN, &[b"dot"]).is_err(), "nor there DNS");
}

#[test]
#[ignore = "needs kdig: cargo xtask test runs it"]
fn kdig_is_answered_over_tls_and_believes_the_name() {
    let dir = tempfile::tempdir().unwrap();
    certificate(dir.path());
    let files = files(dir.path());
    let [chain_flag, chain, key_flag, key] = files.each_ref().map(String::as_str);
    let arguments = ["--listen", "127.0.0.1:0", "--domain", DOMAIN, chain_flag, chain, key_flag, key];
    let edge = Edge::start(program(), dir, &[&arguments[..], &["--dns-tls-listen", "127.0.0.1:0"]].concat());
    let port = edge.addr("zones-over-tls ").port().to_string();
    let asked = |name: &str| {
        let hostname = format!("+tls-hostname={name}");
        let output = Command::new("kdig")
            .args(["@127.0.0.1", "-p", &port, "+tls", &format!("+tls-ca={chain}"), &hostname, "+dnssec", DOMAIN, "SOA"])
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
    };
    let said = asked(DOMAIN);
    assert!(said.contains("TLS session (TLS1.3)") && said.contains("status: NOERROR"), "{said}");
    assert!(said.contains("RRSIG"), "{said}");
    let said = asked("example.com");
    assert!(!said.contains("status: NOERROR"), "{said}");
}

/// Has a command begin with these as its first descriptors behind the standard ones, as services are given them.
fn with_sockets(sockets: Vec<OwnedFd>, names: &str) -> Command {
    // Beyond all that the redirections below overwrite, and open in the program that is started.
    let raised: Vec<OwnedFd> = sockets.iter().map(|socket| fcntl_dupfd_cloexec(socket, 100).unwrap()).collect();
    let mut script = "exec".to_owned();
    for (place, socket) in raised.iter().enumerate() {
        fcntl_setfd(socket, FdFlags::empty()).unwrap();
        script += &format!(" {}<&{}", place + 3, socket.as_raw_fd());
    }
    script += "; export LISTEN_PID=$$; exec \"$0\" \"$@\"";
    let mut command = Command::new("bash");
    command.args(["-c", &script]).arg(program().get_program());
    command.env("LISTEN_FDS", raised.len().to_string()).env("LISTEN_FDNAMES", names);
    // They live as long as this test, which is longer than the start takes.
    std::mem::forget(raised);
    command
}

/// What the units of the package call their sockets, each once for each socket, in order.
fn names_in_units() -> Vec<String> {
    let mut names = Vec::new();
    for unit in fs::read_dir(workspace().join("packaging/systemd")).unwrap() {
        let text = fs::read_to_string(unit.unwrap().path()).unwrap();
        let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        let sockets = ["ListenStream", "ListenDatagram"].into_iter().filter_map(value).count();
        let name = value("FileDescriptorName").unwrap_or_default();
        names.extend(std::iter::repeat_n(name.to_owned(), sockets));
    }
    names.sort();
    names
}

fn listening() -> (SocketAddr, OwnedFd) {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    (socket.local_addr().unwrap(), socket.into())
}

#[test]
fn a_server_listens_on_ports_that_systemd_has_bound_and_tells_it_how_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let root = certificate(dir.path());
    let manager = UnixDatagram::bind(dir.path().join("notify")).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let heard = || {
        let mut text = [0; 256];
        let length = manager.recv(&mut text).unwrap();
        String::from_utf8(text[..length].to_vec()).unwrap()
    };
    let (main, main_socket) = listening();
    let (plain, plain_socket) = listening();
    let (dns_tls, dns_tls_socket) = listening();
    let (dns, dns_socket, datagrams) = eventually("a port for streams and datagrams", || {
        // For IPv4 and IPv6 alike, as `ListenStream=53` is.
        let socket = TcpListener::bind("[::]:0").unwrap();
        let dns = socket.local_addr().unwrap();
        UdpSocket::bind(dns).ok().map(|datagrams| (dns.port(), OwnedFd::from(socket), OwnedFd::from(datagrams)))
    });
    let sockets = vec![dns_socket, datagrams, dns_tls_socket, main_socket, plain_socket];
    let names = "dns-listen:dns-listen:dns-tls-listen:listen:plain-listen";
    assert_eq!(names_in_units(), names.split(':').collect::<Vec<_>>());
    let mut command = with_sockets(sockets, names);
    command.env("NOTIFY_SOCKET", dir.path().join("notify"));
    // Whoever comes before the server is there waits in the socket.
    let early = UdpSocket::bind("127.0.0.1:0").unwrap();
    early.set_read_timeout(Some(PATIENCE)).unwrap();
    early.send_to(QUESTION, ("127.0.0.1", dns)).unwrap();
    let files = files(dir.path());
    let arguments = [&["--domain", DOMAIN][..], &files.each_ref().map(String::as_str)].concat();
    let mut edge = Edge::start(command, dir, &arguments);

    assert_eq!(heard(), "READY=1\n");
    assert_eq!(edge.said("ready "), format!("https://example.org:{}", main.port()));
    let mut answer = [0; 512];
    let length = early.recv(&mut answer).unwrap();
    assert!(is_answered(&answer[..length]));
    for (ours, theirs) in [("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "::1")] {
        let socket = UdpSocket::bind(ours).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        // Connected: an answer from another address than the one that was asked would not be heard.
        socket.connect((theirs, dns)).unwrap();
        socket.send(QUESTION).unwrap();
        let length = socket.recv(&mut answer).unwrap();
        assert!(is_answered(&answer[..length]), "{theirs}");
        assert!(is_answered(&asked(TcpStream::connect((theirs, dns)).unwrap()).unwrap()), "{theirs}");
    }
    assert!(is_answered(&asked(shaken(dns_tls, &root, DOMAIN, &[b"dot"]).unwrap()).unwrap()));
    let landing = page(&mut shaken(main, &root, DOMAIN, &[b"http/1.1"]).unwrap(), "/").unwrap();
    assert!(landing.starts_with("HTTP/1.1 200"), "{landing}");
    let (status, _) = get(plain, "/", DOMAIN);
    assert_eq!(status, 308);

    let hung_up = Command::new("kill").args(["-HUP", &edge.child.id().to_string()]).status().unwrap();
    assert!(hung_up.success());
    assert!(heard().starts_with("RELOADING=1\nMONOTONIC_USEC="));
    assert_eq!(heard(), "READY=1\n");
    terminate(&edge.child);
    assert_eq!(heard(), "STOPPING=1\n");
    let status = eventually("the end of the server", || edge.child.try_wait().unwrap());
    assert!(status.success(), "{}", edge.log());
}

#[test]
fn sockets_that_nobody_would_listen_on_are_refused() {
    let refused = |sockets: Vec<OwnedFd>, names: &str, expect: &str| {
        let dir = tempfile::tempdir().unwrap();
        let mut command = with_sockets(sockets, names);
        command.args(["run", "--danger-key-file", "key", "--data-dir"]).arg(dir.path().join("data"));
        let output = command.stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && said.contains(expect), "{names}: {said}");
        assert!(!dir.path().join("data").exists(), "nothing is made");
    };
    let tcp = || listening().1;
    refused(vec![tcp()], "https", "FileDescriptorName= is one of listen");
    refused(vec![tcp(), tcp()], "listen:listen", "2 sockets are named listen");
    refused(vec![tcp()], "dns-listen", "has no ListenDatagram=");
    let udp: OwnedFd = UdpSocket::bind("127.0.0.1:0").unwrap().into();
    refused(vec![udp], "dns-listen", "has no ListenStream=");
    let beyond: OwnedFd = TcpListener::bind("0.0.0.0:0").unwrap().into();
    refused(vec![beyond], "listen", "say where certificates come from");
}

#[test]
fn a_reload_under_load_drops_nobody_changes_what_can_change_and_names_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let first = certificate(dir.path());
    let file = dir.path().join("sys-server.yaml");
    let base = "domains: [example.org]\nlisten: 127.0.0.1:0\ntls: {files: [{chain: chain.pem, key: key.pem}]}\n";
    fs::write(&file, base).unwrap();
    let edge = Edge::start(program(), dir, &["--config", file.to_str().unwrap()]);
    let port: u16 = edge.said("ready https://example.org:").parse().unwrap();
    let addr = SocketAddr::from(([127, 0, 0, 1], port));
    let mut old = shaken(addr, &first, DOMAIN, &[b"http/1.1"]).unwrap();
    let before = page(&mut old, "/").unwrap();
    assert!(before.contains("max-age=31536000\r\n"), "{before}");
    let mut another = shaken(addr, &first, DOMAIN, &[b"http/1.1"]).unwrap();
    let missing = page(&mut another, "/.well-known/security.txt").unwrap();
    assert!(missing.starts_with("HTTP/1.1 404"), "{missing}");

    let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut others = Vec::new();
    for _ in 0..4 {
        let mut stream = shaken(addr, &first, DOMAIN, &[b"http/1.1"]).unwrap();
        let (stop, served) = (stop.clone(), served.clone());
        others.push(std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let answer = page(&mut stream, "/").unwrap();
                assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
                served.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }
    let more = |what: &str| {
        let before = served.load(Ordering::Relaxed);
        eventually(what, || (served.load(Ordering::Relaxed) > before + 20).then_some(()));
    };
    more("load");

    let second = certificate(edge.dir.path());
    let http = "http: {hsts_seconds: 60, security_txt: {contacts: ['mailto:security@example.org'], expires: '2027-06-30T00:00:00Z'}}\n";
    fs::write(&file, format!("{base}{http}cache_mb: 7\nlimits: {{drain_seconds: 3}}\nlog: {{filter: debug}}\n"))
        .unwrap();
    edge.reload();
    eventually("the new certificate", || shaken(addr, &second, DOMAIN, &[]).ok());
    assert!(shaken(addr, &first, DOMAIN, &[]).is_err(), "the old one is not shown any more");
    let there = page(&mut old, "/.well-known/security.txt").unwrap();
    assert!(there.starts_with("HTTP/1.1 200") && there.contains("mailto:security@example.org"), "{there}");
    assert!(there.contains("max-age=60\r\n"), "{there}");
    let log = edge.log();
    for setting in ["cache_mb", "limits"] {
        assert!(log.contains(&format!("needs a restart setting=\"{setting}\"")), "{log}");
    }
    assert!(!log.contains("setting=\"http\"") && !log.contains("setting=\"log"), "{log}");
    assert!(log.contains("DEBUG"), "the levels hold: {log}");

    fs::write(&file, format!("{base}http: {{hsts_second: 1}}\n")).unwrap();
    edge.reload();
    let log = edge.log();
    let mistake = "sys-server.yaml:4:8: `hsts_second` is no setting here; did you mean `hsts_seconds`?";
    assert!(log.contains("everything stays as it was: ") && log.contains(mistake), "{log}");
    // Of a file with a mistake that only all settings together show, nothing is taken either.
    fs::write(&file, format!("{base}hosts: [www.example.com]\nhttp: {{hsts_seconds: 1}}\n")).unwrap();
    edge.reload();
    assert!(edge.log().contains("in none of the domains"), "{}", edge.log());
    assert!(page(&mut old, "/.well-known/security.txt").unwrap().contains("max-age=60\r\n"));
    more("load until the end");
    stop.store(true, Ordering::Relaxed);
    for other in others {
        other.join().expect("nobody was dropped");
    }
}

/// Takes any certificate: for who wants to see what is shown before he trusts it.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("not spoken here".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// The certificate of the server's own CA, as the server shows it.
fn authority(addr: SocketAddr) -> CertificateDer<'static> {
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
    let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]).unwrap().dangerous();
    let config = builder.with_custom_certificate_verifier(Arc::new(Anybody)).with_no_client_auth();
    let stream = shaken_as(addr, config, "localhost", &[]).unwrap();
    stream.conn.peer_certificates().unwrap().last().unwrap().clone().into_owned()
}

#[test]
fn a_machine_without_a_domain_has_certificates_for_itself_by_the_ca_that_the_setup_names() {
    let dir = tempfile::tempdir().unwrap();
    let edge = Edge::start(program(), dir, &["--listen", "127.0.0.1:0", "--local-ca"]);
    let addr = edge.addr("ready https://");
    let ca = authority(addr);
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &ca);
    let line = edge.said.iter().find(|line| line.contains(" setup --server ")).unwrap();
    let fingerprint = data_encoding::HEXLOWER.encode(digest.as_ref());
    assert!(line.contains(&format!("--server https://{addr} --ca sha256:{fingerprint} ")), "{line}");
    for name in ["localhost", "127.0.0.1", "::1"] {
        shaken(addr, &ca, name, &[b"h2"]).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    assert!(shaken(addr, &ca, "example.org", &[b"h2"]).is_err());

    // Later it gets a domain, which the CA was not made for: another one is made, and the log says so.
    let mut edge = edge;
    terminate(&edge.child);
    eventually("the end of the server", || edge.child.try_wait().unwrap());
    let dir = std::mem::replace(&mut edge.dir, tempfile::tempdir().unwrap());
    let edge = Edge::start(program(), dir, &["--listen", "127.0.0.1:0", "--local-ca", "--domain", DOMAIN]);
    let addr = edge.addr("ready https://");
    let other = authority(addr);
    assert_ne!(other, ca);
    shaken(addr, &other, DOMAIN, &[b"h2"]).unwrap();
    assert!(edge.log().contains("trust it anew"), "{}", edge.log());
}
