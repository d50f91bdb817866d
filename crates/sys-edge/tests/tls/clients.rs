//! Clients: rustls with all that can be set on it, and HTTP over whatever it has agreed on.

use crate::server::NEVER;
use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{
    ClientConfig, RootCertStore,
    client::{EchConfig, EchMode},
    crypto::{
        CryptoProvider, SupportedKxGroup,
        aws_lc_rs::{self, hpke::ALL_SUPPORTED_SUITES, kx_group},
    },
    pki_types::{CertificateDer, EchConfigListBytes, PrivateKeyDer, ServerName},
};
use std::{io, net::SocketAddr, sync::Arc};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// All groups that the server has, the best one first.
pub(crate) const GROUPS: [&dyn SupportedKxGroup; 3] = [kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1];

#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) roots: RootCertStore,
    pub(crate) groups: Vec<&'static dyn SupportedKxGroup>,
    pub(crate) alpn: Vec<&'static str>,
    pub(crate) ech: Option<EchMode>,
    pub(crate) certificate: Option<(CertificateDer<'static>, Arc<PrivateKeyDer<'static>>)>,
}

impl Client {
    pub(crate) fn trusting(roots: RootCertStore) -> Self {
        Self { roots, groups: GROUPS.to_vec(), alpn: vec!["h2"], ech: None, certificate: None }
    }

    pub(crate) fn speaking(self, alpn: &[&'static str]) -> Self {
        Self { alpn: alpn.to_vec(), ..self }
    }

    pub(crate) fn with_groups(self, groups: &[&'static dyn SupportedKxGroup]) -> Self {
        Self { groups: groups.to_vec(), ..self }
    }

    /// Hides the name it asks for under the first key of the list.
    pub(crate) fn hiding(self, list: &[u8]) -> Self {
        let config = EchConfig::new(EchConfigListBytes::from(list.to_vec()), ALL_SUPPORTED_SUITES).expect("a config");
        Self { ech: Some(EchMode::Enable(config)), ..self }
    }

    pub(crate) fn config(&self) -> Arc<ClientConfig> {
        let provider = CryptoProvider { kx_groups: self.groups.clone(), ..aws_lc_rs::default_provider() };
        let builder = ClientConfig::builder_with_provider(Arc::new(provider));
        let builder = match &self.ech {
            Some(mode) => builder.with_ech(mode.clone()),
            None => builder.with_protocol_versions(&[&rustls::version::TLS13]),
        };
        let builder = builder.expect("TLS 1.3").with_root_certificates(self.roots.clone());
        let mut config = match &self.certificate {
            Some((certificate, key)) => {
                builder.with_client_auth_cert(vec![certificate.clone()], key.clone_key()).expect("a certificate")
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = self.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }

    pub(crate) async fn connect(&self, addr: SocketAddr, name: &str) -> io::Result<TlsStream<TcpStream>> {
        self.connect_on(TcpStream::connect(addr).await?, name).await
    }

    pub(crate) async fn connect_on<T>(&self, stream: T, name: &str) -> io::Result<TlsStream<T>>
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let connecting = TlsConnector::from(self.config()).connect(name, stream);
        timeout(NEVER, connecting).await.expect("the handshake ends")
    }

    /// One request on a connection of its own.
    pub(crate) async fn get(&self, addr: SocketAddr, name: &str, path: &str) -> io::Result<String> {
        let stream = self.connect(addr, name).await?;
        get_on(stream, name, path).await
    }
}

/// One request, by what was agreed on.
pub(crate) async fn get_on(stream: TlsStream<TcpStream>, host: &str, path: &str) -> io::Result<String> {
    let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let socket = TokioIo::new(stream);
    let answer = async {
        let response = if is_h2 {
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), socket).await.map_err(io::Error::other)?;
            tokio::spawn(connection);
            let request =
                Request::get(format!("https://{host}{path}")).body(Full::<Bytes>::default()).expect("request");
            sender.send_request(request).await.map_err(io::Error::other)?
        } else {
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(socket).await.map_err(io::Error::other)?;
            tokio::spawn(connection);
            let request =
                Request::get(path).header(header::HOST, host).body(Full::<Bytes>::default()).expect("request");
            sender.send_request(request).await.map_err(io::Error::other)?
        };
        let body = response.into_body().collect().await.map_err(io::Error::other)?.to_bytes();
        Ok(String::from_utf8_lossy(&body).into_owned())
    };
    timeout(NEVER, answer).await.expect("an answer")
}

/// What rustls says about a handshake that failed.
pub(crate) fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}
