//! A server with two names behind a wire that is written down: one to hide, and one that stands in the clear.

use crate::{
    page,
    wire::{Capture, Wire},
};
use boring::{
    hash::MessageDigest,
    ssl::{SslConnector, SslMethod, SslVerifyMode},
    x509::X509,
};
use data_encoding::HEXLOWER;
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};
use sys_client::Told;
use sys_server::{EdgeConfig, Server};
use sys_tests::{DOMAIN, Options, eventually};
use tempfile::TempDir;
use tokio::{
    net::{TcpStream, UdpSocket},
    sync::oneshot,
    time::timeout,
};

/// The name that stands in the clear for all.
pub(crate) const COVER: &str = "cover.example";
/// The type of HTTPS records (RFC 9460).
const HTTPS: u16 = 65;

/// A server, and what crosses the wire in front of it.
pub(crate) struct Stage {
    pub(crate) server: Running,
    pub(crate) capture: Capture,
    /// The port that clients know.
    pub(crate) port: u16,
}

impl Stage {
    pub(crate) async fn set() -> Self {
        let wire = Wire::new().await;
        let port = wire.port();
        let server = start(port).await;
        let capture = wire.lead_to(server.addr);
        Self { server, capture, port }
    }

    /// The page of the name to hide.
    pub(crate) fn url(&self) -> String {
        format!("https://{DOMAIN}:{}/", self.port)
    }

    /// Where this server is asked for names, by the name that everybody may see.
    pub(crate) fn resolver(&self) -> String {
        resolver(self.port)
    }

    /// That a browser's page says that the name was hidden, and that so it was on the wire.
    #[track_caller]
    pub(crate) fn assert_hidden(&self, page: &str) {
        assert_eq!(page::says_hidden(page), Some(true), "{page}");
        assert!(self.capture.shows(COVER), "the capture is not of this connection");
        assert!(!self.capture.shows(DOMAIN));
    }

    /// That it says that the name was seen, and that so it was.
    #[track_caller]
    pub(crate) fn assert_seen(&self, page: &str) {
        assert_eq!(page::says_hidden(page), Some(false), "{page}");
        assert!(self.capture.shows(DOMAIN));
    }
}

/// A server that runs until this is dropped.
pub(crate) struct Running {
    pub(crate) addr: SocketAddr,
    /// The fingerprint of its own certificate authority.
    pub(crate) authority: [u8; 32],
    pub(crate) setup_token: String,
    /// The HTTPS record with its ECH keys, as it answers for it.
    pub(crate) keys: Vec<u8>,
    shift_s: Arc<AtomicI64>,
    _stop: oneshot::Sender<()>,
    _data: TempDir,
}

impl Running {
    /// Moves its clock.
    pub(crate) fn advance_s(&self, by: i64) {
        self.shift_s.fetch_add(by, Ordering::Relaxed);
    }

    /// What `sys` is told of it.
    pub(crate) fn told(&self) -> Told {
        let authority = format!("sha256:{}", HEXLOWER.encode(&self.authority)).parse().unwrap();
        Told { authority: Some(authority), address: Some(self.addr.ip()), ..Told::default() }
    }
}

/// A server over TLS that says it is on this port.
pub(crate) async fn start(port: u16) -> Running {
    start_with(0, |edge| edge.https_port = Some(port)).await
}

/// A server over TLS whose clock is ahead by this, and that differs in this, once its zone has records with ECH keys.
pub(crate) async fn start_with(shift_s: i64, differs: impl FnOnce(&mut EdgeConfig)) -> Running {
    let data = tempfile::tempdir().unwrap();
    let options = Options { over_tls: true, ..Options::default() };
    let shift_s = Arc::new(AtomicI64::new(shift_s));
    let mut config = sys_tests::config(&options, &data.path().join("data"), &shift_s).unwrap();
    config.edge.domain.domains.push(COVER.to_owned());
    config.edge.domain.ech.public_names = vec![COVER.to_owned()];
    differs(&mut config.edge);
    let https_port = config.edge.https_port;
    let server = Server::start(config, Vec::new()).await.unwrap();
    let setup_token = server.new_setup_token().await.unwrap().unwrap().to_string();
    let port = https_port.unwrap_or(server.addr().port());
    let (addr, authority) = (server.addr(), server.ca_fingerprint().unwrap());
    let names = server.dns_addrs().next().unwrap();
    let (stop, stopped) = oneshot::channel();
    tokio::spawn(server.serve(async {
        // It is dropped, never told.
        let _ = stopped.await;
    }));
    let question = query(&format!("_{port}._https.{DOMAIN}"), HTTPS);
    let keys = eventually("an HTTPS record with ECH keys", async || {
        let answer = ask(names, &question).await?;
        // The keys name the one that stands in the clear.
        answer.windows(COVER.len()).any(|window| window == COVER.as_bytes()).then_some(answer)
    })
    .await;
    Running { addr, authority, setup_token, keys, shift_s, _stop: stop, _data: data }
}

/// One question over UDP. No answer is none yet.
async fn ask(names: SocketAddr, question: &[u8]) -> Option<Vec<u8>> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.ok()?;
    socket.send_to(question, names).await.ok()?;
    let mut answer = vec![0; 4096];
    let length = timeout(Duration::from_secs(1), socket.recv(&mut answer)).await.ok()?.ok()?;
    answer.truncate(length);
    Some(answer)
}

pub(crate) fn resolver(port: u16) -> String {
    format!("https://{COVER}:{port}/dns-query")
}

/// A question in the form of RFC 1035.
fn query(name: &str, kind: u16) -> Vec<u8> {
    let mut message = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).unwrap());
        message.extend_from_slice(label.as_bytes());
    }
    message.push(0);
    message.extend_from_slice(&kind.to_be_bytes());
    message.extend_from_slice(&[0, 1]);
    message
}

/// Puts the server's own authority into a store of certificates as browsers have it, beside those that are there. It is the one
/// that the server shows, and that it told the fingerprint of.
pub(crate) async fn trust(store: &Path, server: &Running, nickname: &str) {
    let authority = authority(server.addr).await;
    let fingerprint = authority.digest(MessageDigest::sha256()).unwrap();
    assert_eq!(&*fingerprint, server.authority);
    let file = store.join(format!("{nickname}.pem"));
    std::fs::create_dir_all(store).unwrap();
    std::fs::write(&file, authority.to_pem().unwrap()).unwrap();
    let database = format!("sql:{}", store.display());
    if !store.join("cert9.db").exists() {
        certutil(Command::new("certutil").args(["-N", "--empty-password", "-d", &database]));
    }
    certutil(Command::new("certutil").args(["-A", "-t", "C,,", "-n", nickname, "-d", &database, "-i"]).arg(&file));
}

fn certutil(command: &mut Command) {
    assert!(command.status().expect("certutil is there").success());
}

async fn authority(addr: SocketAddr) -> X509 {
    let mut connector = SslConnector::builder(SslMethod::tls()).unwrap();
    // Whose it is follows from the fingerprint.
    connector.set_verify(SslVerifyMode::NONE);
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, addr.port())).await.unwrap();
    let stream = tokio_boring::connect(connector.build().configure().unwrap(), COVER, stream).await.unwrap();
    stream.ssl().peer_cert_chain().unwrap().iter().next_back().unwrap().to_owned()
}
