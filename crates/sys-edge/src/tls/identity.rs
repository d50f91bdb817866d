//! A certificate with its chain and key.

use super::{TlsError, context};
use boring::{
    asn1::Asn1Time,
    pkey::PKey,
    ssl::{SslContext, SslContextRef},
    x509::{GeneralNameRef, X509, X509Ref},
};
use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

/// Certificates in a chain at most: four are usual at most, and each goes to every client.
const MOST_CERTIFICATES: usize = 10;

/// What a server shows to prove a name: a chain and the private key of its first certificate. Clones share both.
#[derive(Clone)]
pub struct Identity(Arc<Parts>);

struct Parts {
    /// Carries chain and key; a handshake takes both over from here by reference.
    context: SslContext,
    names: Vec<String>,
    addresses: Vec<IpAddr>,
    not_after_unix_s: i64,
}

impl Identity {
    /// Reads the chain, the server's own certificate first, and its private key, which must not be encrypted.
    pub fn from_pem(chain_pem: &[u8], key_pem: &[u8]) -> Result<Self, TlsError> {
        let chain = X509::stack_from_pem(chain_pem).map_err(TlsError::Chain)?;
        let Some((leaf, above)) = chain.split_first() else { return Err(TlsError::NoCertificate) };
        if chain.len() > MOST_CERTIFICATES {
            return Err(TlsError::LongChain { most: MOST_CERTIFICATES });
        }
        let key = PKey::private_key_from_pem(key_pem).map_err(TlsError::Key)?;
        let (names, addresses) = names(leaf);
        if names.is_empty() {
            return Err(TlsError::NoName);
        }
        let mut builder = context::builder()?;
        builder.set_certificate(leaf).map_err(TlsError::Chain)?;
        for certificate in above {
            builder.add_extra_chain_cert(certificate.clone()).map_err(TlsError::Chain)?;
        }
        builder.set_private_key(&key).map_err(TlsError::KeyDoesNotFit)?;
        builder.check_private_key().map_err(TlsError::KeyDoesNotFit)?;
        let not_after_unix_s = not_after(leaf)?;
        Ok(Self(Arc::new(Parts { context: builder.build().into_context(), names, addresses, not_after_unix_s })))
    }

    /// What it proves: names in small letters, some with `*` as their first label, and addresses as text.
    pub fn names(&self) -> &[String] {
        &self.0.names
    }

    /// When it ends, in seconds since 1970.
    pub fn not_after_unix_s(&self) -> i64 {
        self.0.not_after_unix_s
    }

    /// The addresses among the names.
    pub(super) fn addresses(&self) -> &[IpAddr] {
        &self.0.addresses
    }

    pub(super) fn context(&self) -> &SslContextRef {
        &self.0.context
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Identity").field("names", &self.0.names).finish_non_exhaustive()
    }
}

/// The names of its SAN; what stands elsewhere in a certificate is not asked for a name any more (RFC 9525).
fn names(leaf: &X509Ref) -> (Vec<String>, Vec<IpAddr>) {
    let (mut names, mut addresses) = (Vec::new(), Vec::new());
    for name in leaf.subject_alt_names().iter().flatten() {
        if let Some(name) = name.dnsname() {
            names.push(name.to_ascii_lowercase());
        } else if let Some(address) = address(name) {
            names.push(address.to_string());
            addresses.push(address);
        }
    }
    (names, addresses)
}

fn address(name: &GeneralNameRef) -> Option<IpAddr> {
    let bytes = name.ipaddress()?;
    let v4 = <[u8; 4]>::try_from(bytes).map(|bytes| IpAddr::V4(Ipv4Addr::from(bytes)));
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(|bytes| IpAddr::V6(Ipv6Addr::from(bytes)))).ok()
}

fn not_after(leaf: &X509Ref) -> Result<i64, TlsError> {
    const DAY_S: i64 = 86_400;
    let epoch = Asn1Time::from_unix(0).map_err(TlsError::Library)?;
    let since = epoch.diff(leaf.not_after()).map_err(TlsError::Chain)?;
    Ok(i64::from(since.days) * DAY_S + i64::from(since.secs))
}
