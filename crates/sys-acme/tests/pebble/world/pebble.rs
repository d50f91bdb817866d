//! Pebble and its DNS server as processes of their own, configured at run time, on free ports.

use super::servers::{AlpnServer, FileServer};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{
    ClientConfig, RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};
use std::{io, net::SocketAddr, process::Stdio, sync::Arc, time::Duration};
use sys_acme::{Certificate, Settings, Wanted};
use tempfile::TempDir;
use tokio::{
    net::{TcpListener, TcpStream, UdpSocket},
    process::{Child, Command},
    time::{sleep, timeout},
};
use tokio_rustls::TlsConnector;

pub(crate) const EAB_KEY_ID: &str = "kid-1";
pub(crate) const EAB_KEY: &str = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
const START_PATIENCE: Duration = Duration::from_secs(20);

/// Pebble while a test runs; killed when it is dropped.
pub(crate) struct Pebble {
    directory: TempDir,
    root_pem: String,
    ports: Ports,
    variables: Vec<(String, String)>,
    files: FileServer,
    alpn: AlpnServer,
    dns: Child,
    pebble: Child,
}

#[derive(Clone, Copy)]
struct Ports {
    acme: u16,
    management: u16,
    dns: u16,
    dns_management: u16,
    files: u16,
    alpn: u16,
}

impl Pebble {
    /// With these variables in its environment; `EAB` makes it ask for external accounts.
    pub(crate) async fn start(variables: &[(&str, &str)]) -> io::Result<Self> {
        let files = TcpListener::bind("127.0.0.1:0").await?;
        let alpn = TcpListener::bind("127.0.0.1:0").await?;
        let ports = Ports {
            acme: free_port().await?,
            management: free_port().await?,
            dns: free_port().await?,
            dns_management: free_port().await?,
            files: files.local_addr()?.port(),
            alpn: alpn.local_addr()?.port(),
        };
        let directory = TempDir::new()?;
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names).map_err(io::Error::other)?;
        let (cert_path, key_path) = (directory.path().join("cert.pem"), directory.path().join("key.pem"));
        std::fs::write(&cert_path, cert.pem())?;
        std::fs::write(&key_path, signing_key.serialize_pem())?;
        let is_bound = variables.iter().any(|(name, _)| *name == "EAB");
        let config = serde_json::json!({"pebble": {
            "listenAddress": format!("127.0.0.1:{}", ports.acme), "managementListenAddress": format!("127.0.0.1:{}", ports.management),
            "certificate": cert_path, "privateKey": key_path, "httpPort": ports.files, "tlsPort": ports.alpn,
            "ocspResponderURL": "", "externalAccountBindingRequired": is_bound, "externalAccountMACKeys": {EAB_KEY_ID: EAB_KEY},
        }});
        std::fs::write(directory.path().join("config.json"), config.to_string())?;
        let dns = Command::new("pebble-challtestsrv")
            .args(["-http01", "", "-https01", "", "-tlsalpn01", "", "-defaultIPv6", ""])
            .args(["-dns01", &format!("127.0.0.1:{}", ports.dns)])
            .args(["-management", &format!("127.0.0.1:{}", ports.dns_management)])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        wait_for(ports.dns_management).await?;
        let variables: Vec<_> =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let pebble = spawn(&directory, ports, &variables)?;
        wait_for(ports.acme).await?;
        let (files, alpn) = (FileServer::start(files), AlpnServer::start(alpn));
        Ok(Self { directory, root_pem: cert.pem(), ports, variables, files, alpn, dns, pebble })
    }

    /// Ends the directory; its DNS server stays.
    pub(crate) async fn stop(&mut self) {
        self.pebble.kill().await.expect("Pebble can be ended");
        assert!(self.dns.try_wait().expect("its DNS server is ours").is_none());
    }

    /// Starts it again at the same place: it has forgotten all.
    pub(crate) async fn start_again(&mut self) -> io::Result<()> {
        self.pebble = spawn(&self.directory, self.ports, &self.variables)?;
        wait_for(self.ports.acme).await
    }

    pub(crate) fn settings(&self, certificates: &[&[&str]]) -> Settings {
        let wanted = certificates.iter().map(|names| Wanted::parse(names).unwrap()).collect();
        Settings {
            directory: format!("https://localhost:{}/dir", self.ports.acme),
            email: Some("admin@example.org".to_owned()),
            root_pem: Some(self.root_pem.clone()),
            ..Settings::lets_encrypt(wanted)
        }
    }

    pub(crate) fn dns_management(&self) -> String {
        format!("127.0.0.1:{}", self.ports.dns_management)
    }

    pub(crate) fn files(&self) -> FileServer {
        self.files.clone()
    }

    pub(crate) fn alpn(&self) -> AlpnServer {
        self.alpn.clone()
    }

    /// A client who trusts Pebble's root takes this certificate for this name.
    pub(crate) async fn check_chain(&self, certificate: &Certificate, name: &str) {
        let root = self.managed("/roots/0").await;
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(root.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        let chain: Vec<_> =
            CertificateDer::pem_slice_iter(certificate.chain_pem.as_bytes()).collect::<Result<_, _>>().unwrap();
        let server = ServerName::try_from(name.to_owned()).unwrap();
        verifier
            .verify_server_cert(&chain[0], &chain[1..], &server, &[], UnixTime::now())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
    }

    /// What the CA says of a certificate: `Valid` or `Revoked`.
    pub(crate) async fn status_of(&self, certificate: &Certificate) -> String {
        let leaf = CertificateDer::from_pem_slice(certificate.chain_pem.as_bytes()).unwrap();
        let (_, leaf) = x509_parser::parse_x509_certificate(&leaf).unwrap();
        let serial = data_encoding::HEXLOWER.encode(leaf.tbs_certificate.raw_serial());
        let text = self.managed(&format!("/cert-status-by-serial/{}", serial.trim_start_matches('0'))).await;
        let status: serde_json::Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}"));
        status["Status"].as_str().unwrap_or_else(|| panic!("{text}")).to_owned()
    }

    async fn managed(&self, path: &str) -> String {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.root_pem.as_bytes()).unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let address = format!("127.0.0.1:{}", self.ports.management);
        let stream = TcpStream::connect(&address).await.unwrap();
        let stream =
            TlsConnector::from(Arc::new(config)).connect("localhost".try_into().unwrap(), stream).await.unwrap();
        let request = hyper::Request::get(path).header("host", address).body(Full::default()).unwrap();
        let answer = send(stream, request).await.unwrap();
        String::from_utf8(answer.to_vec()).unwrap()
    }
}

fn spawn(directory: &TempDir, ports: Ports, variables: &[(String, String)]) -> io::Result<Child> {
    Command::new("pebble")
        .args(["-strict", "-config"])
        .arg(directory.path().join("config.json"))
        .args(["-dnsserver", &format!("127.0.0.1:{}", ports.dns)])
        // Each proof is verified, each time.
        .env("PEBBLE_AUTHZREUSE", "0")
        .env("PEBBLE_VA_NOSLEEP", "1")
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
}

/// Tells the DNS server something.
pub(crate) async fn tell(management: &str, path: &str, body: &serde_json::Value) -> io::Result<()> {
    let stream = TcpStream::connect(management).await?;
    let request = hyper::Request::post(path).header("host", management).body(Full::new(Bytes::from(body.to_string())));
    send(stream, request.map_err(io::Error::other)?).await.map(drop)
}

async fn send<S>(stream: S, request: hyper::Request<Full<Bytes>>) -> io::Result<Bytes>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    let connection = tokio::spawn(connection);
    let answer = sender.send_request(request).await.map_err(io::Error::other)?;
    assert!(answer.status().is_success(), "{}", answer.status());
    let body = answer.into_body().collect().await.map_err(io::Error::other)?.to_bytes();
    connection.abort();
    Ok(body)
}

/// A port that is free for TCP and for UDP.
async fn free_port() -> io::Result<u16> {
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address: SocketAddr = listener.local_addr()?;
        if UdpSocket::bind(address).await.is_ok() {
            return Ok(address.port());
        }
    }
}

async fn wait_for(port: u16) -> io::Result<()> {
    let there = async {
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(START_PATIENCE, there).await.map_err(|_| io::Error::other("Pebble does not answer"))
}
