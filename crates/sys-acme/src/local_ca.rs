//! A CA of one's own, for the demo and for machines without a domain.
//!
//! It is made once and kept. Clients trust it by the SHA-256 of its certificate; a browser that trusts it risks little, since it can speak for
//! private networks, private names, and the names that it was made for, and for nothing else (RFC 5280 section 4.2.1.10).

use crate::{
    certificate::Issued,
    failure::Failure,
    kept::{self, Kept, KeptError},
    name::{Name, Wanted},
};
use data_encoding::HEXLOWER;
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints, PublicKeyData, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, fmt, net::IpAddr, time::Duration};
use zeroize::Zeroizing;

const DAY_S: i64 = 24 * 3_600;
/// How long the CA itself is valid: nobody wants to trust it anew before the machine is old.
const CA_LIFETIME_S: i64 = 20 * 365 * DAY_S;
/// How long its certificates are.
const LEAF_LIFETIME_S: i64 = 90 * DAY_S;
/// Dated back, for clients whose clocks are behind.
const BACKDATED_S: i64 = 3_600;
/// Where it is kept.
const PLACE: &str = "local-ca";
const FORMAT: u8 = 1;
/// Names that nobody owns in public: RFC 6761, 6762, 8375, 9476 and ICANN's `.internal`.
const PRIVATE_NAMES: [&str; 6] = ["localhost", "local", "internal", "home.arpa", "test", "example"];
/// Addresses that nobody owns in public: RFC 1122, 1918, 3927, 6598, 4193, 4291.
const PRIVATE_NETWORKS: [(&str, u8); 9] = [
    ("127.0.0.0", 8),
    ("10.0.0.0", 8),
    ("172.16.0.0", 12),
    ("192.168.0.0", 16),
    ("169.254.0.0", 16),
    ("100.64.0.0", 10),
    ("::1", 128),
    ("fc00::", 7),
    ("fe80::", 10),
];

/// A CA of one's own.
pub struct LocalCa {
    issuer: Issuer<'static, KeyPair>,
    permitted: Permitted,
    certificate_pem: String,
    sha256: [u8; 32],
    not_after: i64,
    origin: String,
}

#[derive(Serialize, Deserialize)]
struct KeptCa {
    format: u8,
    common_name: String,
    certificate_pem: String,
    #[serde(with = "secret")]
    key_pem: Zeroizing<String>,
    /// What it was made for, beside what is private.
    names: BTreeSet<String>,
    addresses: BTreeSet<IpAddr>,
}

impl LocalCa {
    /// The CA that is kept; made if there is none. It has to be able to speak for all that is wanted.
    pub async fn open(kept: &dyn Kept, wanted: &[Wanted], now_unix_s: i64) -> Result<Self, LocalCaError> {
        let Some(found) = kept::read::<KeptCa>(kept, PLACE).await? else {
            return Self::remake(kept, wanted, now_unix_s).await;
        };
        if found.format != FORMAT {
            return Err(LocalCaError::Damaged);
        }
        let ca = Self::from_kept(found)?;
        for name in wanted.iter().flat_map(Wanted::iter) {
            if !ca.permitted.has(name) {
                return Err(LocalCaError::NotPermitted { name: name.to_string() });
            }
        }
        Ok(ca)
    }

    /// Makes another CA in place of the one that is kept. All who trusted that one have to trust this one anew.
    pub async fn remake(kept: &dyn Kept, wanted: &[Wanted], now_unix_s: i64) -> Result<Self, LocalCaError> {
        let made = make(wanted, now_unix_s).map_err(|_| LocalCaError::NotMade)?;
        kept::write(kept, PLACE, &made).await?;
        tracing::info!("a local CA was made");
        Self::from_kept(made)
    }

    /// Its certificate, for those who are to trust it.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The SHA-256 of its certificate (DER), by which it is trusted.
    pub fn sha256(&self) -> [u8; 32] {
        self.sha256
    }

    pub(crate) fn origin(&self) -> &str {
        &self.origin
    }

    /// A certificate for these names, with a new key.
    pub(crate) fn issue(&self, wanted: &Wanted, now_unix_s: i64) -> Result<Issued, Failure> {
        let cannot = |reason: String| Failure::LocalCa { reason };
        if let Some(name) = wanted.iter().find(|name| !self.permitted.has(name)) {
            return Err(cannot(format!("{name} is neither private nor a name that it was made for")));
        }
        let not_after = now_unix_s.saturating_add(LEAF_LIFETIME_S).min(self.not_after);
        if not_after <= now_unix_s.saturating_add(DAY_S) {
            return Err(cannot("it ends within a day".to_owned()));
        }
        let make = || -> Result<(String, Zeroizing<String>), rcgen::Error> {
            let key = Zeroizing::new(KeyPair::generate()?);
            let mut params = CertificateParams::new(wanted.names())?;
            params.distinguished_name = DistinguishedName::new();
            set_validity(&mut params, now_unix_s, not_after);
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            params.use_authority_key_identifier_extension = true;
            let leaf = params.signed_by(&*key, &self.issuer)?;
            Ok((leaf.pem(), Zeroizing::new(key.serialize_pem())))
        };
        let (leaf_pem, key_pem) = make().map_err(|_| Failure::KeyNotMade)?;
        // With its CA: whoever trusts that by its hash has to see it.
        Issued::checked(format!("{leaf_pem}{}", self.certificate_pem), key_pem, wanted, now_unix_s)
    }

    fn from_kept(kept: KeptCa) -> Result<Self, LocalCaError> {
        let damaged = |_| LocalCaError::Damaged;
        let key = KeyPair::from_pem(&kept.key_pem).map_err(damaged)?;
        let der = CertificateDer::from_pem_slice(kept.certificate_pem.as_bytes()).map_err(|_| LocalCaError::Damaged)?;
        let (_, parsed) = x509_parser::parse_x509_certificate(&der).map_err(|_| LocalCaError::Damaged)?;
        if parsed.public_key().raw != key.subject_public_key_info() {
            return Err(LocalCaError::Damaged);
        }
        let not_after = parsed.validity().not_after.timestamp();
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &der).as_ref());
        Ok(Self {
            issuer: Issuer::new(ca_params(&kept.common_name), key),
            permitted: Permitted { names: kept.names, addresses: kept.addresses },
            certificate_pem: kept.certificate_pem,
            origin: format!("local {}", HEXLOWER.encode(&sha256)),
            sha256,
            not_after,
        })
    }
}

impl fmt::Debug for LocalCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalCa").field("sha256", &HEXLOWER.encode(&self.sha256)).finish_non_exhaustive()
    }
}

/// What a CA was made for, beside what is private.
struct Permitted {
    names: BTreeSet<String>,
    addresses: BTreeSet<IpAddr>,
}

impl Permitted {
    fn has(&self, name: &Name) -> bool {
        match name {
            Name::Ip(address) => self.addresses.contains(address) || is_private(*address),
            Name::Dns(base) | Name::Wildcard(base) => {
                let below =
                    |parent: &str| base.strip_suffix(parent).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
                self.names.iter().any(|parent| below(parent)) || PRIVATE_NAMES.into_iter().any(below)
            }
        }
    }

    fn constraints(&self) -> NameConstraints {
        let names = PRIVATE_NAMES.into_iter().chain(self.names.iter().map(String::as_str));
        let names = names.map(|name| GeneralSubtree::DnsName(name.to_owned()));
        let networks = PRIVATE_NETWORKS
            .into_iter()
            .filter_map(|(network, prefix)| Some((network.parse::<IpAddr>().ok()?, prefix)));
        let own = self.addresses.iter().map(|address| (*address, if address.is_ipv4() { 32 } else { 128 }));
        let networks = networks
            .chain(own)
            .map(|(network, prefix)| GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(network, prefix)));
        NameConstraints { permitted_subtrees: names.chain(networks).collect(), excluded_subtrees: Vec::new() }
    }
}

fn is_private(address: IpAddr) -> bool {
    PRIVATE_NETWORKS.into_iter().any(|(network, prefix)| match (network.parse(), address) {
        (Ok(IpAddr::V4(network)), IpAddr::V4(address)) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            (u32::from(network) ^ u32::from(address)) & mask == 0
        }
        (Ok(IpAddr::V6(network)), IpAddr::V6(address)) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            (u128::from(network) ^ u128::from(address)) & mask == 0
        }
        _ => false,
    })
}

fn make(wanted: &[Wanted], now_unix_s: i64) -> Result<KeptCa, rcgen::Error> {
    let (mut names, mut addresses) = (BTreeSet::new(), BTreeSet::new());
    for name in wanted.iter().flat_map(Wanted::iter) {
        match name {
            Name::Ip(address) => addresses.insert(*address),
            Name::Dns(base) | Name::Wildcard(base) => names.insert(base.clone()),
        };
    }
    let permitted = Permitted { names, addresses };
    let key = Zeroizing::new(KeyPair::generate()?);
    // Two CAs of one name are mixed up by those who look for issuers by name.
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, key.public_key_raw());
    let tag = HEXLOWER.encode(hash.as_ref().get(..4).unwrap_or_default());
    let common_name = format!("sys local CA {tag}");
    let mut params = ca_params(&common_name);
    set_validity(&mut params, now_unix_s, now_unix_s.saturating_add(CA_LIFETIME_S));
    params.name_constraints = Some(permitted.constraints());
    let certificate_pem = params.self_signed(&*key)?.pem();
    let key_pem = Zeroizing::new(key.serialize_pem());
    let Permitted { names, addresses } = permitted;
    Ok(KeptCa { format: FORMAT, common_name, certificate_pem, key_pem, names, addresses })
}

/// What certificates that it signs have to agree with.
fn ca_params(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// Certificates know no moment before 1950 and after 9999; nobody's clock is set there.
fn set_validity(params: &mut CertificateParams, from_unix_s: i64, until_unix_s: i64) {
    let since_1970 = |unix_s: i64| Duration::from_secs(unix_s.clamp(0, 253_402_300_799).unsigned_abs());
    params.not_before = date_time_ymd(1970, 1, 1) + since_1970(from_unix_s.saturating_sub(BACKDATED_S));
    params.not_after = date_time_ymd(1970, 1, 1) + since_1970(until_unix_s);
}

/// Why there is no local CA.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LocalCaError {
    /// It may not speak for a name.
    #[error(
        "the local CA cannot speak for {name}, which is neither private nor a name that it was made for: make a new one, and let clients trust it anew"
    )]
    NotPermitted {
        /// The name.
        name: String,
    },
    /// What is kept is no CA.
    #[error("the local CA that is kept cannot be read: make a new one, and let clients trust it anew")]
    Damaged,
    /// No key could be made.
    #[error("no local CA could be made: this machine has no random numbers to give")]
    NotMade,
    /// It cannot be kept or read.
    #[error("the local CA cannot be kept: {0}")]
    Kept(String),
}

impl From<KeptError> for LocalCaError {
    fn from(error: KeptError) -> Self {
        Self::Kept(error.0)
    }
}

/// A secret in what is kept, and nowhere else.
mod secret {
    use serde::{Deserialize, Deserializer, Serializer};
    use zeroize::Zeroizing;

    pub(super) fn serialize<S: Serializer>(secret: &Zeroizing<String>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(secret)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Zeroizing<String>, D::Error> {
        String::deserialize(deserializer).map(Zeroizing::new)
    }
}

#[cfg(test)]
mod tests;
