//! The way to a connection: to the address, through the handshake, once more with the server's newest keys where it rejects older ones.

use super::{
    Ech, Protection, TlsError, provider,
    verifier::{Trusted, Verifier, Vouched},
};
use crate::{DeviceKey, Fingerprint, KnownEch, KnownServer, KnownServers, SessionError, ech};
use http::Uri;
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use rustls::{
    ClientConfig, Error, PeerIncompatible, SignatureScheme,
    client::{EchMode, EchStatus, ResolvesClientCert, Resumption},
    crypto::CryptoProvider,
    internal::msgs::handshake::EchConfigPayload,
    pki_types::ServerName,
    sign::CertifiedKey,
};
use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tower::{Service, ServiceExt};

/// The one protocol that is spoken.
const ALPN: &[u8] = b"h2";

/// What all connections of a channel to one server have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    name: ServerName<'static>,
    port: u16,
    servers: KnownServers,
    provider: Arc<CryptoProvider>,
    device: Option<(Fingerprint, Arc<CertifiedKey>)>,
    /// An authority that is to be trusted from the first connection on.
    pin: Option<Fingerprint>,
    known: Mutex<KnownServer>,
    protection: Mutex<Option<Protection>>,
}

impl Shared {
    /// For a server over TLS; nothing for one in the clear.
    pub(crate) fn new(
        known: KnownServer,
        servers: KnownServers,
        pin: Option<Fingerprint>,
        device: Option<&DeviceKey>,
    ) -> Result<Option<Self>, TlsError> {
        let (Some(name), Some(port)) = (known.endpoint.server_name().cloned(), known.endpoint.tls_port()) else {
            return Ok(None);
        };
        let provider = Arc::new(provider());
        let device = device.map(|key| Ok::<_, Error>((key.fingerprint(), Arc::new(key.certified(&provider)?))));
        let device = device.transpose()?;
        let (known, protection) = (Mutex::new(known), Mutex::new(None));
        Ok(Some(Self { name, port, servers, provider, device, pin, known, protection }))
    }

    /// How the newest connection is protected.
    pub(crate) fn protection(&self) -> Option<Protection> {
        self.protection.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn known(&self) -> KnownServer {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn connect(&self) -> Result<TlsStream<TcpStream>, TlsError> {
        match self.attempt().await {
            Err(Attempt::KeysRejected(retry)) => {
                self.take_retry_keys(retry.as_ref()).await?;
                self.attempt().await.map_err(Attempt::for_good)
            }
            attempted => attempted.map_err(Attempt::for_good),
        }
    }

    /// Takes the keys that the server told in the handshake that rejected older ones. Who told them has shown a certificate for the
    /// public name of the older ones, so it may also say that it has none any more (RFC 9849 section 6.1.6).
    async fn take_retry_keys(&self, retry: Option<&Vec<EchConfigPayload>>) -> Result<(), TlsError> {
        let told = retry.and_then(ech::ConfigList::of_retry);
        if told.is_none() && self.known().ech.required {
            return Err(TlsError::EchRefused);
        }
        // Where they cannot be kept, the next program is told them, too.
        let _ = self.change(|known| known.ech.configs = told.clone()).await;
        Ok(())
    }

    /// One connection and one handshake.
    async fn attempt(&self) -> Result<TlsStream<TcpStream>, Attempt> {
        let known = self.known();
        let (mode, ech) = self.ech(&known.ech)?;
        let trusted = self.pin.map_or_else(|| Trusted::Known(known.authorities.clone()), Trusted::Pinned);
        let verifier = Arc::new(Verifier::new(trusted, Arc::clone(&self.provider))?);
        let shown = Arc::new(ShownKey {
            key: self.device.as_ref().map(|(_, key)| Arc::clone(key)),
            asked: AtomicBool::new(false),
        });
        let config = self.config(mode, &verifier, &shown)?;
        let tcp = self.reach(&known).await?;
        let stream = TlsConnector::from(Arc::new(config)).connect(self.name.clone(), tcp).await;
        let stream = stream.map_err(|error| Attempt::of(error, &verifier))?;
        let Some(Ok(vouched)) = verifier.vouched() else {
            return Err(TlsError::Handshake(Error::General("nobody vouched for the server".to_owned())).into());
        };
        self.made(&stream, ech, vouched, shown.asked.load(Ordering::Relaxed)).await?;
        Ok(stream)
    }

    /// How the name is hidden, if it can be.
    fn ech(&self, known: &KnownEch) -> Result<(EchMode, Ech), TlsError> {
        match (&known.configs, &self.name) {
            (Some(configs), ServerName::DnsName(_)) => Ok((configs.mode()?, Ech::Accepted)),
            (_, _) if known.required => Err(TlsError::EchUnknown),
            (_, ServerName::DnsName(_)) => Ok((ech::grease()?, Ech::NoKey)),
            (_, _) => Ok((ech::grease()?, Ech::Address)),
        }
    }

    fn config(&self, mode: EchMode, verifier: &Arc<Verifier>, shown: &Arc<ShownKey>) -> Result<ClientConfig, Error> {
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            // TLS 1.3 and nothing else.
            .with_ech(mode)?
            // Not less than webpki checks, but against other authorities.
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(verifier) as Arc<_>)
            .with_client_cert_resolver(Arc::clone(shown) as Arc<_>);
        config.alpn_protocols = vec![ALPN.to_vec()];
        // Each connection shows certificate and device key anew.
        config.resumption = Resumption::disabled();
        Ok(config)
    }

    async fn reach(&self, known: &KnownServer) -> Result<TcpStream, TlsError> {
        let port = self.port;
        let at = match (known.address, &self.name) {
            (Some(address), _) => std::net::SocketAddr::new(address, port).to_string(),
            (None, ServerName::IpAddress(address)) => std::net::SocketAddr::new((*address).into(), port).to_string(),
            (None, name) => format!("{}:{port}", name.to_str()),
        };
        let network =
            |error: Box<dyn std::error::Error + Send + Sync>| TlsError::Network(Arc::new(io::Error::other(error)));
        let uri = Uri::builder().scheme("http").authority(at).path_and_query("/").build();
        let uri = uri.map_err(|error| network(error.into()))?;
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.oneshot(uri).await.map(TokioIo::into_inner).map_err(|error| network(error.into()))
    }

    /// Notes how a connection is protected, and keeps the authority that was named by its fingerprint.
    async fn made(
        &self,
        stream: &TlsStream<TcpStream>,
        ech: Ech,
        vouched: Vouched,
        device_was_asked_for: bool,
    ) -> Result<(), TlsError> {
        let (_, connection) = stream.get_ref();
        if connection.alpn_protocol() != Some(ALPN) {
            return Err(TlsError::NotHttp2);
        }
        // With a key known, rustls ends every handshake in which the server did not accept it.
        if ech == Ech::Accepted && connection.ech_status() != EchStatus::Accepted {
            return Err(TlsError::EchRefused);
        }
        let group = connection.negotiated_key_exchange_group().map(|group| group.name());
        let protection = Protection {
            group: group.map(|group| format!("{group:?}")).unwrap_or_default(),
            is_post_quantum: group == Some(rustls::NamedGroup::X25519MLKEM768),
            ech,
            vouched_by: vouched.by,
            device: self.device.as_ref().filter(|_| device_was_asked_for).map(|(fingerprint, _)| *fingerprint),
        };
        *self.protection.lock().unwrap_or_else(PoisonError::into_inner) = Some(protection);
        match vouched.pinned {
            Some(authority) => self.change(|known| known.trust(authority.clone())).await,
            None => Ok(()),
        }
    }

    /// Changes what is known of the server, here and where it is kept.
    async fn change(&self, change: impl Fn(&mut KnownServer)) -> Result<(), TlsError> {
        let endpoint = {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            change(&mut known);
            known.endpoint.clone()
        };
        self.servers.change(&endpoint, change).await?;
        Ok(())
    }
}

impl From<SessionError> for TlsError {
    fn from(error: SessionError) -> Self {
        Self::Kept(Arc::new(error))
    }
}

/// Why a handshake did not come to its end.
enum Attempt {
    /// The server does not take these keys; it may have told newer ones.
    KeysRejected(Option<Vec<EchConfigPayload>>),
    Failed(TlsError),
}

impl Attempt {
    fn of(error: io::Error, verifier: &Verifier) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            Some(Error::PeerIncompatible(PeerIncompatible::ServerRejectedEncryptedClientHello(retry))) => {
                Self::KeysRejected(retry.clone())
            }
            Some(Error::InvalidCertificate(_)) => match verifier.vouched() {
                Some(Err(why)) => Self::Failed(why),
                _ => Self::Failed(error.into()),
            },
            _ => Self::Failed(error.into()),
        }
    }

    /// There is no third attempt.
    fn for_good(self) -> TlsError {
        match self {
            Self::KeysRejected(_) => TlsError::EchRefused,
            Self::Failed(error) => error,
        }
    }
}

impl<E: Into<TlsError>> From<E> for Attempt {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// The device key, shown where the server asks for it.
#[derive(Debug)]
struct ShownKey {
    key: Option<Arc<CertifiedKey>>,
    asked: AtomicBool,
}

impl ResolvesClientCert for ShownKey {
    fn resolve(&self, _issuers: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let key = self.key.as_ref().filter(|key| key.key.choose_scheme(schemes).is_some())?;
        self.asked.store(true, Ordering::Relaxed);
        Some(Arc::clone(key))
    }

    fn has_certs(&self) -> bool {
        self.key.is_some()
    }
}

/// Makes the connections of a channel.
#[derive(Debug, Clone)]
pub(crate) struct Connector(pub(crate) Arc<Shared>);

impl Service<Uri> for Connector {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = TlsError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, TlsError>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), TlsError>> {
        Poll::Ready(Ok(()))
    }

    /// Where to is known: the address in the request is not looked at.
    fn call(&mut self, _request: Uri) -> Self::Future {
        let shared = Arc::clone(&self.0);
        Box::pin(async move { shared.connect().await.map(TokioIo::new) })
    }
}
