//! What is known of a TLS connection once its handshake is over.

use super::TlsError;
use boring::{
    hash::MessageDigest,
    ssl::{SslRef, SslVersion},
};
use std::fmt;

/// Facts of a connection; they hold until it closes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The version of TLS.
    pub version: Version,
    /// How the keys were agreed on.
    pub group: Group,
    /// What became of its encrypted client hello.
    pub ech: Ech,
    /// What is spoken inside.
    pub protocol: Protocol,
    /// The certificate that the client showed and proved to have the key of. Who made it is not asked here: whoever has the
    /// key can make one that says anything, and the hash is all that counts.
    pub client_certificate: Option<CertificateHash>,
}

/// A version of TLS. There is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    /// RFC 8446.
    Tls13,
}

/// A group for the agreement on keys, by its name in the registry of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Group {
    /// X25519 and ML-KEM-768 together: what is recorded today stays closed to the quantum computers of tomorrow.
    X25519MlKem768,
    /// RFC 7748.
    X25519,
    /// P-256.
    Secp256r1,
}

/// What became of an encrypted client hello (RFC 9849).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ech {
    /// The name that was asked for has not crossed the wire.
    Accepted,
    /// It was sealed for a key that we do not have: a stale one, or none at all (GREASE). The two look the same on purpose.
    Refused,
    /// There was none.
    NotOffered,
}

/// What a TLS connection carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// `h2`.
    Http2,
    /// `http/1.1`, and clients that say nothing.
    Http11,
}

/// SHA-256 of a certificate in DER: `x5t#S256` of RFC 8705.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CertificateHash(pub [u8; 32]);

impl Version {
    /// As people write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tls13 => "TLSv1.3",
        }
    }

    /// Its number in the registry of TLS.
    pub fn number(self) -> u16 {
        match self {
            Self::Tls13 => 0x0304,
        }
    }
}

impl Group {
    /// As the registry of TLS has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::X25519MlKem768 => "X25519MLKEM768",
            Self::X25519 => "x25519",
            Self::Secp256r1 => "secp256r1",
        }
    }

    /// Its number in the registry of TLS.
    pub fn number(self) -> u16 {
        match self {
            Self::X25519MlKem768 => 0x11ec,
            Self::X25519 => 0x001d,
            Self::Secp256r1 => 0x0017,
        }
    }

    fn from_id(id: u16) -> Option<Self> {
        match id {
            0x11ec => Some(Self::X25519MlKem768),
            0x001d => Some(Self::X25519),
            0x0017 => Some(Self::Secp256r1),
            _ => None,
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl fmt::Display for Group {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl Facts {
    /// Of a connection whose handshake is over.
    pub(super) fn read(ssl: &SslRef, offered_ech: bool, protocol: Protocol) -> Result<Self, TlsError> {
        // The context allows nothing else; a fact that nobody checked would be none.
        let version = match ssl.version2() {
            Some(SslVersion::TLS1_3) => Version::Tls13,
            _ => return Err(TlsError::Unexpected("version")),
        };
        let group = ssl.curve().and_then(Group::from_id).ok_or(TlsError::Unexpected("group"))?;
        let ech = match (ssl.ech_accepted(), offered_ech) {
            (true, _) => Ech::Accepted,
            (false, true) => Ech::Refused,
            (false, false) => Ech::NotOffered,
        };
        let client_certificate = match ssl.peer_certificate() {
            None => None,
            Some(certificate) => {
                let digest = certificate.digest(MessageDigest::sha256()).map_err(TlsError::Library)?;
                let hash = <[u8; 32]>::try_from(&*digest).map_err(|_| TlsError::Unexpected("hash"))?;
                Some(CertificateHash(hash))
            }
        };
        Ok(Self { version, group, ech, protocol, client_certificate })
    }
}
