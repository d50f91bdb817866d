//! A certificate as it is handed out, and whether one that came is what was ordered.

use crate::{
    failure::{self, Failure},
    name::Name,
    name::Wanted,
    plan::Held,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PublicKeyData};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use std::{collections::BTreeSet, fmt, net::IpAddr};
use x509_parser::{extensions::GeneralName, prelude::X509Certificate};
use zeroize::Zeroizing;

/// A chain, at most: it is kept together with its key in 64 KiB.
const MAX_CHAIN_BYTES: usize = 40 * 1024;
/// Certificates in a chain. Those of public CAs have two or three.
const MAX_CHAIN: usize = 8;
/// What is valid for less is of no use: it would be ordered anew at once.
const MIN_VALIDITY_S: i64 = 3_600;

/// A certificate with its key.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    /// What it is for.
    pub names: Vec<String>,
    /// The leaf, then those that lead to its CA. PEM.
    pub chain_pem: String,
    /// Its key, PKCS#8 in PEM.
    pub key_pem: Zeroizing<String>,
    /// Its end, in seconds since 1970.
    pub not_after_unix_s: i64,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("names", &self.names)
            .field("not_after_unix_s", &self.not_after_unix_s)
            .finish_non_exhaustive()
    }
}

/// A new key (P-256) and the request for a certificate of it.
pub(crate) struct KeyRequest {
    key: Zeroizing<KeyPair>,
    pub(crate) csr_der: Vec<u8>,
}

impl KeyRequest {
    pub(crate) fn new(wanted: &Wanted) -> Result<Self, Failure> {
        let make = || -> Result<Self, rcgen::Error> {
            let key = Zeroizing::new(KeyPair::generate()?);
            let mut params = CertificateParams::new(wanted.names())?;
            // The names stand in the extension; a common name has room for 64 letters only.
            params.distinguished_name = DistinguishedName::new();
            let csr_der = params.serialize_request(&*key)?.der().to_vec();
            Ok(Self { key, csr_der })
        };
        make().map_err(|_| Failure::KeyNotMade)
    }

    /// The certificate, if the chain is one for this key and these names, and of some use.
    pub(crate) fn fulfilled_by(self, chain_pem: String, wanted: &Wanted, now: i64) -> Result<Issued, Failure> {
        let key_pem = Zeroizing::new(self.key.serialize_pem());
        let issued = Issued::checked(chain_pem, key_pem, wanted, now)?;
        if issued.held.not_after.saturating_sub(now) < MIN_VALIDITY_S {
            return Err(Failure::Unfit { what: "it is valid for less than an hour from now" });
        }
        Ok(issued)
    }
}

/// A certificate that was checked.
pub(crate) struct Issued {
    pub(crate) certificate: Certificate,
    pub(crate) held: Held,
}

impl Issued {
    /// Checks that a chain belongs to the key and has all names. It may have ended.
    pub(crate) fn checked(
        chain_pem: String,
        key_pem: Zeroizing<String>,
        wanted: &Wanted,
        taken_at: i64,
    ) -> Result<Self, Failure> {
        let unfit = |what| Failure::Unfit { what };
        let leaf = leaf(&chain_pem)?;
        let (_, parsed) =
            x509_parser::parse_x509_certificate(&leaf).map_err(|_| unfit("its first part is no certificate"))?;
        let key = Zeroizing::new(KeyPair::from_pem(&key_pem).map_err(|_| unfit("its key cannot be read"))?);
        if parsed.public_key().raw != key.subject_public_key_info() {
            return Err(unfit("it is for another key"));
        }
        let (names, addresses) = names(&parsed)?;
        let has = |name: &Name| match name {
            Name::Ip(address) => addresses.contains(address),
            Name::Dns(_) | Name::Wildcard(_) => names.contains(&name.to_string()),
        };
        if !wanted.iter().all(has) {
            return Err(unfit("names that were ordered are missing"));
        }
        let (not_before, not_after) =
            (parsed.validity().not_before.timestamp(), parsed.validity().not_after.timestamp());
        if not_after <= not_before {
            return Err(unfit("it ends before it begins"));
        }
        let certificate = Certificate { names: wanted.names(), chain_pem, key_pem, not_after_unix_s: not_after };
        Ok(Self { certificate, held: Held { not_before, not_after, taken_at } })
    }
}

/// The first certificate of a chain, all of which can be read.
pub(crate) fn leaf(chain_pem: &str) -> Result<CertificateDer<'static>, Failure> {
    let unfit = |what| Failure::Unfit { what };
    if chain_pem.len() > MAX_CHAIN_BYTES {
        return Err(unfit("its chain is too long"));
    }
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain_pem.as_bytes()).take(MAX_CHAIN + 1).collect();
    let chain = chain.map_err(|_| unfit("its chain cannot be read"))?;
    if chain.len() > MAX_CHAIN {
        return Err(unfit("its chain is too long"));
    }
    if !chain.iter().all(|part| x509_parser::parse_x509_certificate(part).is_ok_and(|(rest, _)| rest.is_empty())) {
        return Err(unfit("its chain cannot be read"));
    }
    chain.into_iter().next().ok_or_else(|| unfit("it is empty"))
}

/// The names that a chain says it is for, and its end.
pub(crate) fn told(chain_pem: &str) -> Result<(Vec<String>, i64), Failure> {
    let leaf = leaf(chain_pem)?;
    let unfit = |_| Failure::Unfit { what: "its first part is no certificate" };
    let (_, parsed) = x509_parser::parse_x509_certificate(&leaf).map_err(unfit)?;
    let (names, addresses) = names(&parsed)?;
    let names = names.into_iter().chain(addresses.iter().map(ToString::to_string));
    Ok((names.map(|name| failure::bounded(&name)).collect(), parsed.validity().not_after.timestamp()))
}

fn names(parsed: &X509Certificate<'_>) -> Result<(BTreeSet<String>, BTreeSet<IpAddr>), Failure> {
    let extension =
        parsed.subject_alternative_name().map_err(|_| Failure::Unfit { what: "its names cannot be read" })?;
    let (mut names, mut addresses) = (BTreeSet::new(), BTreeSet::new());
    for name in extension.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default() {
        match name {
            GeneralName::DNSName(name) => {
                names.insert(name.to_ascii_lowercase());
            }
            GeneralName::IPAddress(octets) => addresses.extend(address(octets)),
            _ => {}
        }
    }
    Ok((names, addresses))
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(octets).map(IpAddr::from);
    four.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rcgen::date_time_ymd;

    const NOW: i64 = 1_800_000_000; // 2027-01-15

    fn chain(names: &[&str], key: &KeyPair, until_year: i32) -> String {
        let mut params =
            CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
        params.not_after = date_time_ymd(until_year, 1, 1);
        params.self_signed(key).unwrap().pem()
    }

    fn check(chain: String, key: &KeyPair, wanted: &[&str]) -> Result<Issued, Failure> {
        Issued::checked(chain, Zeroizing::new(key.serialize_pem()), &Wanted::parse(wanted).unwrap(), NOW)
    }

    #[test]
    fn what_fits_is_taken() {
        let key = KeyPair::generate().unwrap();
        let names = ["example.org", "*.example.org", "192.0.2.1", "2001:db8::1"];
        let issued = check(chain(&names, &key, 2028), &key, &names).unwrap_or_else(|failure| panic!("{failure}"));
        assert_eq!(issued.held.not_after, issued.certificate.not_after_unix_s);
        assert!(!format!("{:?}", issued.certificate).contains("PRIVATE"));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let refused = |chain: String, wanted: &[&str]| match check(chain, &key, wanted) {
            Err(Failure::Unfit { what }) => what,
            Err(other) => panic!("{other}"),
            Ok(_) => "taken",
        };
        assert_eq!(refused(chain(&["example.org"], &other, 2028), &["example.org"]), "it is for another key");
        let missing = "names that were ordered are missing";
        assert_eq!(refused(chain(&["example.org"], &key, 2028), &["example.org", "*.example.org"]), missing);
        assert_eq!(refused(chain(&["*.example.org"], &key, 2028), &["a.example.org"]), missing);
        assert_eq!(refused(chain(&["example.org"], &key, 2028), &["192.0.2.1"]), missing);
        assert_eq!(refused(chain(&["example.org"], &key, 1970), &["example.org"]), "it ends before it begins");
        assert_eq!(refused(String::new(), &["example.org"]), "it is empty");
        let good = chain(&["example.org"], &key, 2028);
        assert_eq!(refused(good.repeat(9), &["example.org"]), "its chain is too long");
        assert_eq!(
            refused(format!("{good}-----BEGIN CERTIFICATE-----\nMAAA\n-----END CERTIFICATE-----\n"), &["example.org"]),
            "its chain cannot be read"
        );
    }

    #[test]
    fn what_ends_at_once_is_of_no_use() {
        let wanted = Wanted::parse(&["example.org"]).unwrap();
        let request = KeyRequest::new(&wanted).unwrap();
        let ended = chain(&["example.org"], &request.key, 2026);
        let what = "it is valid for less than an hour from now";
        assert!(matches!(request.fulfilled_by(ended, &wanted, NOW), Err(Failure::Unfit { what: it }) if it == what));
    }

    #[test]
    fn a_request_is_for_its_names_and_a_new_key() {
        let wanted = Wanted::parse(&["example.org", "*.example.org", "192.0.2.1"]).unwrap();
        let (one, other) = (KeyRequest::new(&wanted).unwrap(), KeyRequest::new(&wanted).unwrap());
        assert_ne!(one.key.public_key_raw(), other.key.public_key_raw());
        let csr = rcgen::CertificateSigningRequestParams::from_der(&one.csr_der.clone().into()).unwrap();
        assert_eq!(csr.params.subject_alt_names.len(), 3);
    }

    proptest! {
        #[test]
        fn no_chain_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), text in "\\PC{0,200}") {
            let pem = format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", data_encoding::BASE64.encode(&bytes));
            let _ = leaf(&pem);
            let _ = leaf(&text);
        }
    }
}
