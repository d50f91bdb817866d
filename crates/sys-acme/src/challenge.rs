//! How names are proven: what the CA will look for, and where.

use crate::{failure::Failure, kept::Boxed, name::Name};
use instant_acme::ChallengeType;
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use std::{
    fmt::{self, Write},
    net::IpAddr,
};
use zeroize::Zeroizing;

/// A kind of proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChallengeKind {
    /// A TXT record (RFC 8555 section 8.4): the only one for wildcards, and none for addresses.
    Dns01,
    /// A handshake on port 443 (RFC 8737).
    TlsAlpn01,
    /// A file on port 80 (RFC 8555 section 8.3).
    Http01,
}

impl ChallengeKind {
    pub(crate) fn fits(self, name: &Name) -> bool {
        match name {
            Name::Dns(_) => true,
            Name::Wildcard(_) => self == Self::Dns01,
            Name::Ip(_) => self != Self::Dns01,
        }
    }

    pub(crate) fn of_directory(self) -> ChallengeType {
        match self {
            Self::Dns01 => ChallengeType::Dns01,
            Self::TlsAlpn01 => ChallengeType::TlsAlpn01,
            Self::Http01 => ChallengeType::Http01,
        }
    }

    pub(crate) fn remedy(self) -> &'static str {
        match self {
            Self::Dns01 => {
                "Check that the domain's NS records lead to this server, that port 53 is open for UDP and TCP, and that the \
                 DS record at the registrar, if there is one, is this server's"
            }
            Self::TlsAlpn01 => {
                "Check that the name's A and AAAA records lead here, and that port 443 is open to the internet and ends in this \
                 server, not in a proxy before it"
            }
            Self::Http01 => {
                "Check that the name's A and AAAA records lead here, and that port 80 is open to the internet"
            }
        }
    }
}

impl fmt::Display for ChallengeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dns01 => "dns-01",
            Self::TlsAlpn01 => "tls-alpn-01",
            Self::Http01 => "http-01",
        })
    }
}

/// What is to be shown until it is withdrawn.
#[derive(Clone, PartialEq, Eq)]
pub enum Challenge {
    /// A TXT record.
    Dns01 {
        /// Where: `_acme-challenge.example.org`, without a dot at the end.
        name: String,
        /// Its one string. Several stand at one name at the same time.
        value: String,
    },
    /// A certificate for handshakes that ask for ALPN `acme-tls/1`.
    TlsAlpn01 {
        /// The server name that is asked for; for an address its reverse name (RFC 8738 section 6).
        name: String,
        /// The certificate.
        chain_pem: String,
        /// Its key, for these handshakes alone.
        key_pem: Zeroizing<String>,
    },
    /// A text at `/.well-known/acme-challenge/TOKEN`.
    Http01 {
        /// The last part of the path: letters of base64url.
        token: String,
        /// The text.
        key_authorization: String,
    },
}

impl fmt::Debug for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns01 { name, .. } => write!(f, "Dns01({name})"),
            Self::TlsAlpn01 { name, .. } => write!(f, "TlsAlpn01({name})"),
            Self::Http01 { .. } => f.write_str("Http01(..)"),
        }
    }
}

/// Who shows challenges to the world.
pub trait Challenges: Send + Sync + 'static {
    /// Shows it, and comes back when it can be seen from outside.
    fn present<'a>(&'a self, challenge: &'a Challenge) -> Boxed<'a, Result<(), NotShown>>;

    /// Takes it away; also one that could not be shown.
    fn withdraw<'a>(&'a self, challenge: &'a Challenge) -> Boxed<'a, ()>;
}

/// Why a challenge cannot be shown, in words for the operator.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct NotShown(pub String);

/// What proves a name. `dns_value` and `digest` are those of the key authorization.
pub(crate) fn challenge(
    kind: ChallengeKind,
    name: &Name,
    token: &str,
    key_authorization: &str,
    dns_value: String,
    digest: &[u8],
) -> Result<Challenge, Failure> {
    Ok(match kind {
        ChallengeKind::Dns01 => Challenge::Dns01 { name: format!("_acme-challenge.{}", name.base()), value: dns_value },
        ChallengeKind::Http01 => {
            // It becomes part of a path: RFC 8555 section 8.3 has it in base64url.
            let is_token = (1..=200).contains(&token.len())
                && token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
            if !is_token {
                return Err(Failure::Garbage { what: "a challenge whose token is not base64url".to_owned() });
            }
            Challenge::Http01 { token: token.to_owned(), key_authorization: key_authorization.to_owned() }
        }
        ChallengeKind::TlsAlpn01 => {
            let (chain_pem, key_pem) = alpn_certificate(name, digest).map_err(|_| Failure::KeyNotMade)?;
            let name = match name {
                Name::Ip(address) => reverse_name(*address),
                Name::Dns(_) | Name::Wildcard(_) => name.base(),
            };
            Challenge::TlsAlpn01 { name, chain_pem, key_pem }
        }
    })
}

/// RFC 8737 section 3: self-signed, one name, the digest in a critical extension.
fn alpn_certificate(name: &Name, digest: &[u8]) -> Result<(String, Zeroizing<String>), rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec![name.base()])?;
    params.distinguished_name = DistinguishedName::new();
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let certificate = params.self_signed(&key)?;
    Ok((certificate.pem(), Zeroizing::new(key.serialize_pem())))
}

/// `1.2.0.192.in-addr.arpa`, since no server name can be an address (RFC 6066 section 3).
fn reverse_name(address: IpAddr) -> String {
    let mut name = String::new();
    match address {
        IpAddr::V4(address) => {
            for octet in address.octets().iter().rev() {
                let _ = write!(name, "{octet}.");
            }
            name.push_str("in-addr.arpa");
        }
        IpAddr::V6(address) => {
            for octet in address.octets().iter().rev() {
                let _ = write!(name, "{:x}.{:x}.", octet & 0xf, octet >> 4);
            }
            name.push_str("ip6.arpa");
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_asked_for_by_their_reverse_names() {
        assert_eq!(reverse_name("192.0.2.1".parse().unwrap()), "1.2.0.192.in-addr.arpa");
        assert_eq!(
            reverse_name("2001:db8::1".parse().unwrap()),
            "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"
        );
    }

    #[test]
    fn a_token_that_leaves_its_path_is_refused() {
        let name = Name::parse("example.org").unwrap();
        for token in ["", "../etc", "a/b", "a?b", "a b", "ü"] {
            assert!(challenge(ChallengeKind::Http01, &name, token, "x", String::new(), &[]).is_err(), "{token}");
        }
    }

    #[test]
    fn a_wildcard_is_proven_at_the_name_it_stands_below() {
        let name = Name::parse("*.example.org").unwrap();
        let made = challenge(ChallengeKind::Dns01, &name, "t", "t.k", "value".to_owned(), &[]).unwrap();
        assert_eq!(
            made,
            Challenge::Dns01 { name: "_acme-challenge.example.org".to_owned(), value: "value".to_owned() }
        );
        assert!(!ChallengeKind::Http01.fits(&name) && !ChallengeKind::TlsAlpn01.fits(&name));
        assert!(!ChallengeKind::Dns01.fits(&Name::parse("192.0.2.1").unwrap()));
    }

    #[test]
    fn no_proof_is_shown() {
        let shown =
            format!("{:?}", Challenge::Http01 { token: "token".to_owned(), key_authorization: "proof".to_owned() });
        assert_eq!(shown, "Http01(..)");
    }
}
