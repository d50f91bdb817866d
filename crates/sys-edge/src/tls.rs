//! TLS 1.3: what a listener shows, and what it learns about who connects.
//!
//! What lives here: the certificates that are shown and by which name ([`Tls`], [`Identity`]), the settings that all connections
//! have (`context`), the handshake (`handshake`), and its [`Facts`]. Where certificates and keys come from, and what a client
//! certificate is good for, is decided elsewhere. What must never happen here: an older version of TLS, or a name that somebody
//! asked for in a log line or an error. Start with [`Tls`].

mod context;
mod facts;
mod handshake;
mod identity;
mod select;

pub use facts::{CertificateHash, Ech, Facts, Group, Protocol, Version};
pub(crate) use handshake::Accepted;
pub use identity::Identity;

use crate::ech::{self, EchError, EchKey, MOST_CONFIGS};
use arc_swap::ArcSwap;
use boring::{error::ErrorStack, ssl::SslContext};
use select::Shown;
use std::{collections::HashMap, fmt, net::IpAddr, sync::Arc};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_boring::SslStream;

/// What is wrong with a certificate, a key or a connection.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// No certificate stands in the text.
    #[error("there is no certificate in it; give the chain in PEM, the server's own certificate first")]
    NoCertificate,
    /// A certificate of the chain cannot be read.
    #[error("the certificate chain cannot be read; give it in PEM, the server's own certificate first")]
    Chain(#[source] ErrorStack),
    /// More certificates than go to every client.
    #[error("the chain has more than {most} certificates; give the server's own and those between it and the root")]
    LongChain {
        /// The bound.
        most: usize,
    },
    /// Nobody could ask for it.
    #[error("the certificate names no host and no address (subjectAltName); have one made that does")]
    NoName,
    /// The private key cannot be read.
    #[error("the private key cannot be read; give it in PEM, not encrypted")]
    Key(#[source] ErrorStack),
    /// The private key is another one's.
    #[error("the private key is not that of the first certificate; give the two that were made together")]
    KeyDoesNotFit(#[source] ErrorStack),
    /// A listener that forgets its keys would tell clients to do without.
    #[error("no ECH key is given; give at least the one that is published")]
    NoEchKey,
    /// More keys than are tried for each connection.
    #[error("there are more than {most} ECH keys; forget the oldest")]
    TooManyEchKeys {
        /// The bound.
        most: usize,
    },
    /// Two keys that clients could not tell apart.
    #[error("two ECH keys have the id {config_id}; give each its own")]
    SameEchId {
        /// The id.
        config_id: u8,
    },
    /// A key is none.
    #[error(transparent)]
    Ech(#[from] EchError),
    /// A handshake came to no good end. The text is the library's, and has nothing in it that the client sent.
    #[error("the handshake failed: {0}")]
    Handshake(String),
    /// The library tells something that its settings rule out.
    #[error("the TLS library reports a {0} that is not allowed here")]
    Unexpected(&'static str),
    /// The library has no memory or no randomness.
    #[error("the TLS library fails")]
    Library(#[source] ErrorStack),
}

/// What a TLS listener shows. Clones share it; what is swapped acts on the next connection, and drops none.
#[derive(Clone)]
pub struct Tls {
    context: SslContext,
    state: Arc<State>,
}

/// What is swapped.
#[derive(Debug, Default)]
struct State {
    shown: ArcSwap<Shown>,
    /// By the name that is asked for.
    challenges: ArcSwap<HashMap<String, Identity>>,
}

impl Tls {
    /// Without an identity so far: every handshake is refused with `unrecognized_name`.
    pub fn new() -> Result<Self, TlsError> {
        let state = Arc::new(State::default());
        let mut builder = context::builder()?;
        let selecting = Arc::clone(&state);
        builder.set_select_certificate_callback(move |hello| handshake::select_identity(&selecting, hello));
        builder.set_servername_callback(handshake::has_identity);
        Ok(Self { context: builder.build().into_context(), state })
    }

    /// From now on these are shown, and none that was shown before: by the name that a client asks for, exactly, then by a wildcard for
    /// one label. Who asks for another name is refused. Who asks for none gets the identity of the address that he has reached, else the
    /// first one for an address, else the first; so let one that may be seen by everybody stand first. Where ECH keys are
    /// set, their public names need an identity too: a client whose key is stale believes no one else.
    pub fn show(&self, identities: Vec<Identity>) {
        self.state.shown.store(Arc::new(Shown::new(&identities)));
    }

    /// From now on client hellos that were sealed for one of these keys are opened, and no others. The first is the one that a client
    /// is told to use who sealed for another; keep those before it for as long as the DNS may remember them.
    pub fn set_ech(&self, keys: &[EchKey]) -> Result<(), TlsError> {
        if keys.is_empty() {
            return Err(TlsError::NoEchKey);
        }
        if keys.len() > MOST_CONFIGS {
            return Err(TlsError::TooManyEchKeys { most: MOST_CONFIGS });
        }
        let mut ids = [false; 256];
        for key in keys {
            let seen = ids.get_mut(usize::from(key.config_id()));
            if seen.is_some_and(|seen| std::mem::replace(seen, true)) {
                return Err(TlsError::SameEchId { config_id: key.config_id() });
            }
        }
        self.context.set_ech_keys(&ech::for_library(keys)?).map_err(TlsError::Library)
    }

    /// Shows this identity to who validates the name or address (`tls-alpn-01`, RFC 8737), and to nobody else, until it is
    /// called with `None`. Nothing is served on such a connection.
    pub fn answer_alpn_challenge(&self, name: &str, identity: Option<Identity>) {
        let name = select::validated_name(name);
        self.state.challenges.rcu(|challenges| {
            let mut challenges = HashMap::clone(challenges);
            match &identity {
                Some(identity) => challenges.insert(name.clone(), identity.clone()),
                None => challenges.remove(&name),
            };
            challenges
        });
    }

    /// Shakes hands.
    pub(crate) async fn accept<T>(&self, stream: T, local: IpAddr) -> Result<Accepted<T>, TlsError>
    where
        T: AsyncRead + AsyncWrite + Unpin + fmt::Debug,
    {
        handshake::accept(&self.context, stream, local).await
    }

    /// Shakes hands on a stream that is for DNS and nothing else.
    pub(crate) async fn accept_questions<T>(&self, stream: T, local: IpAddr) -> Result<SslStream<T>, TlsError>
    where
        T: AsyncRead + AsyncWrite + Unpin + fmt::Debug,
    {
        handshake::accept_questions(&self.context, stream, local).await
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Tls").field("shown", &self.state.shown.load()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use boring::ssl::{SslConnector, SslMethod, SslVersion};
    use std::net::Ipv4Addr;
    use tokio::io::{AsyncWriteExt, duplex};

    const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    /// What is said of the handshake of somebody who asks for this name, with this version at most.
    async fn refused(name: &str, most: SslVersion) -> String {
        let (here, there) = duplex(1 << 16);
        let mut connector = SslConnector::builder(SslMethod::tls()).unwrap();
        connector.set_max_proto_version(Some(most)).unwrap();
        let client = tokio_boring::connect(connector.build().configure().unwrap(), name, there);
        let tls = Tls::new().unwrap();
        let (accepted, _) = tokio::join!(tls.accept(here, LOCAL), client);
        accepted.unwrap_err().to_string()
    }

    #[tokio::test]
    async fn what_is_said_of_a_failed_handshake_is_why_and_not_who_was_asked_for() {
        let name = "secret.example.org";
        let text = refused(name, SslVersion::TLS1_3).await;
        assert_eq!(text, "the handshake failed: CLIENTHELLO_TLSEXT, PARSE_TLSEXT");
        let text = refused(name, SslVersion::TLS1_2).await;
        assert_eq!(text, "the handshake failed: UNSUPPORTED_PROTOCOL");
        let (here, mut there) = duplex(64);
        there.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let text = Tls::new().unwrap().accept(here, LOCAL).await.unwrap_err().to_string();
        assert_eq!(text, "the handshake failed: HTTP_REQUEST");
        let (here, there) = duplex(64);
        drop(there);
        let text = Tls::new().unwrap().accept(here, LOCAL).await.unwrap_err().to_string();
        assert_eq!(text, "the handshake failed: the peer has gone");
    }
}
