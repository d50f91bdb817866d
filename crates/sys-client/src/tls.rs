//! TLS to a server: version 1.3 and nothing below, a post-quantum group first, the server's name hidden where it has told its keys, and its
//! certificate checked against the public authorities and those that its user trusts for it alone.
//!
//! What must never happen here: a check of chain, name, time or signature that can be turned off; or a byte of a request on a
//! connection of which the handshake is not over. The check itself is in `verifier`, the way to a connection in `connector`.

mod connector;
mod verifier;

pub(crate) use connector::{Connector, Shared};

use crate::{Fingerprint, SessionError};
use rustls::{
    AlertDescription, CertificateError, Error, PeerIncompatible,
    crypto::{
        CryptoProvider,
        aws_lc_rs::{self, kx_group},
    },
};
use std::{fmt, io, sync::Arc};

/// Names of a wrong certificate that are told: enough to see whose it is.
const MOST_NAMES: usize = 4;

/// How a connection is protected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protection {
    /// The group in which keys were agreed on, as IANA calls it.
    pub group: String,
    /// Whether that group also holds against a quantum computer.
    pub is_post_quantum: bool,
    /// Whether the server's name was hidden.
    pub ech: Ech,
    /// Who vouched for the server.
    pub vouched_by: Authority,
    /// The device key that was shown, if the server asked for one.
    pub device: Option<Fingerprint>,
}

/// Whether the name of the server was hidden from the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ech {
    /// It was.
    Accepted,
    /// No key of the server is known, so its name went in the clear.
    NoKey,
    /// The server is named by an address, which is no secret on the network.
    Address,
}

/// Who vouches for a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authority {
    /// One of the public authorities, by the list that Mozilla keeps.
    Public,
    /// One that its user trusts for this server.
    Private(Fingerprint),
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Public => f.write_str("a public authority"),
            Self::Private(fingerprint) => write!(f, "the authority {fingerprint}, which you trust for this server"),
        }
    }
}

/// Why there is no connection over TLS that could be trusted.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TlsError {
    /// No authority that counts here has signed the certificate.
    #[error("the server's certificate is signed by nobody that this computer trusts")]
    UnknownIssuer,
    /// The authority that was expected is not in the server's chain.
    #[error("the server does not show the authority {0}")]
    PinMismatch(Fingerprint),
    /// The certificate has run out.
    #[error("the server's certificate has expired")]
    Expired,
    /// The certificate is of the future.
    #[error("the server's certificate is not valid yet")]
    NotValidYet,
    /// The certificate is another server's.
    #[error("the server's certificate is for {}, not for {expected}", .presented.join(", "))]
    WrongName {
        /// The name that was asked for.
        expected: String,
        /// The first names in the certificate.
        presented: Vec<String>,
    },
    /// The server has no certificate for this name.
    #[error("the server does not serve this name")]
    UnknownName,
    /// The certificate is wrong otherwise.
    #[error("the server's certificate is refused: {0}")]
    Certificate(CertificateError),
    /// The server speaks TLS 1.2 at most.
    #[error("the server does not speak TLS 1.3")]
    OldVersion,
    /// What answers there does not speak TLS.
    #[error("what answers there does not speak TLS")]
    NotTls,
    /// What answers there does not speak HTTP/2.
    #[error("what answers there does not speak HTTP/2")]
    NotHttp2,
    /// The name may not be shown, and no key is known to hide it with.
    #[error("no ECH key of the server is known, and without one its name would be seen on the network")]
    EchUnknown,
    /// The name may not be shown, and the server does not take the keys that it told.
    #[error("the server does not hide its name any more, or does not take the ECH keys that it told")]
    EchRefused,
    /// The handshake failed otherwise.
    #[error("the handshake failed: {0}")]
    Handshake(Error),
    /// The connection was not made, or was lost before the handshake was over.
    #[error("no connection, or it was cut off")]
    Network(#[source] Arc<io::Error>),
    /// What is known of the server cannot be kept.
    #[error("cannot keep what is known of the server")]
    Kept(#[source] Arc<SessionError>),
}

impl TlsError {
    /// Whether somebody else may be there in the server's place.
    pub fn is_distrust(&self) -> bool {
        matches!(
            self,
            Self::UnknownIssuer
                | Self::PinMismatch(_)
                | Self::Expired
                | Self::NotValidYet
                | Self::WrongName { .. }
                | Self::Certificate(_)
                | Self::EchRefused
        )
    }

    /// The one that made another error, if one did.
    pub(crate) fn at_the_root_of<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(found) = error.downcast_ref() {
                return Some(found);
            }
            next = error.source();
        }
        None
    }
}

impl From<Error> for TlsError {
    fn from(error: Error) -> Self {
        match error {
            Error::InvalidCertificate(error) => error.into(),
            Error::PeerIncompatible(
                PeerIncompatible::ServerDoesNotSupportTls12Or13
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
            )
            | Error::AlertReceived(AlertDescription::ProtocolVersion) => Self::OldVersion,
            Error::AlertReceived(AlertDescription::UnrecognisedName) => Self::UnknownName,
            Error::AlertReceived(AlertDescription::NoApplicationProtocol) => Self::NotHttp2,
            Error::InvalidMessage(_) => Self::NotTls,
            error => Self::Handshake(error),
        }
    }
}

impl From<CertificateError> for TlsError {
    fn from(error: CertificateError) -> Self {
        match error {
            // Another key of an authority that is called like one that is trusted makes a bad signature.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::UnknownIssuer,
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Self::NotValidYet,
            CertificateError::NotValidForNameContext { expected, mut presented } => {
                presented.truncate(MOST_NAMES);
                Self::WrongName { expected: expected.to_str().into_owned(), presented }
            }
            error => Self::Certificate(error),
        }
    }
}

impl From<io::Error> for TlsError {
    fn from(error: io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            Some(error) => error.clone().into(),
            None => Self::Network(Arc::new(error)),
        }
    }
}

/// The algorithms: those of aws-lc-rs, a post-quantum hybrid first.
fn provider() -> CryptoProvider {
    let kx_groups = vec![kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1];
    CryptoProvider { kx_groups, ..aws_lc_rs::default_provider() }
}
