//! Servers over TLS, and clients of them that show a certificate or none: of another library than `sys` uses, since who has stolen a token
//! brings his own.

use crate::{Client, TestServer};
use boring::{
    pkey::PKey,
    ssl::{SslConnector, SslMethod, SslVerifyMode},
    x509::X509,
};
use data_encoding::{BASE64, HEXLOWER};
use serde_json::Value;
use std::{
    fmt, fs,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
};
use sys_client::Told;
use sys_server::EdgeConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

/// The domain of servers over TLS.
pub const DOMAIN: &str = "org.example";

/// What requests go over.
pub(crate) trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Wire for S {}

/// How a client speaks TLS.
#[derive(Debug, Clone)]
pub(crate) struct OverTls(Option<Certificate>);

/// A certificate of a client with its key, both in DER.
#[derive(Clone)]
pub struct Certificate {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Certificate")
    }
}

impl Certificate {
    /// A new one, which signed itself.
    pub fn new() -> Self {
        let key = rcgen::KeyPair::generate().expect("a key");
        let certificate = rcgen::CertificateParams::default().self_signed(&key).expect("a certificate");
        Self { certificate: certificate.der().to_vec(), key: key.serialize_der() }
    }

    /// The key of the session that `sys` keeps in this directory, as somebody reads it who may read all of its user's files.
    pub fn of_device(directory: &Path) -> Self {
        let text = fs::read_to_string(directory.join("device-key.json")).expect("a device key");
        let kept: Value = serde_json::from_str(&text).expect("JSON");
        let bytes = |field: &str| BASE64.decode(kept[field].as_str().expect(field).as_bytes()).expect("base64");
        Self { certificate: bytes("certificate"), key: bytes("key") }
    }
}

impl Default for Certificate {
    fn default() -> Self {
        Self::new()
    }
}

impl OverTls {
    pub(crate) fn shows_certificate(&self) -> bool {
        self.0.is_some()
    }

    pub(crate) async fn connect(&self, stream: TcpStream, protocol: &[u8]) -> anyhow::Result<Box<dyn Wire>> {
        let mut connector = SslConnector::builder(SslMethod::tls())?;
        connector.set_verify(SslVerifyMode::NONE);
        let length = u8::try_from(protocol.len())?;
        connector.set_alpn_protos(&[&[length], protocol].concat())?;
        if let Some(Certificate { certificate, key }) = &self.0 {
            connector.set_certificate(&*X509::from_der(certificate)?)?;
            connector.set_private_key(&*PKey::private_key_from_der(key)?)?;
        }
        let config = connector.build().configure()?;
        let stream = tokio_boring::connect(config, DOMAIN, stream).await;
        let stream = stream.map_err(|error| anyhow::anyhow!("the handshake failed: {error}"))?;
        Ok(Box::new(stream))
    }
}

/// How a server is reached over TLS.
pub(crate) fn edge() -> EdgeConfig {
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let domain = sys_domain::Settings {
        domains: vec![DOMAIN.to_owned()],
        addresses: vec![any_port.ip()],
        zone: Some(sys_domain::ZoneSettings::default()),
        local_ca: true,
        ..sys_domain::Settings::default()
    };
    EdgeConfig { domain, plain_listen: Some(any_port), dns_listen: vec![any_port], ..EdgeConfig::default() }
}

impl TestServer {
    /// A client over TLS that is nobody, with this certificate to show, or with none.
    pub fn client_over_tls(&self, certificate: Option<&Certificate>) -> Client {
        self.client().over_tls(OverTls(certificate.cloned()))
    }

    /// What `sys` is told of the server, and its URL.
    pub fn told(&self) -> (Told, sys_client::Endpoint) {
        let authority = self.authority.map(|hash| format!("sha256:{}", HEXLOWER.encode(&hash)));
        let authority = authority.map(|text| text.parse().expect("a fingerprint"));
        let told = Told { authority, address: Some(self.addr.ip()), ..Told::default() };
        let url = format!("https://{DOMAIN}:{}", self.addr.port());
        (told, url.parse().expect("an endpoint"))
    }
}
