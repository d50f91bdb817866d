//! A signing key, and which keys a zone uses at one moment.

use crate::{name::Name, zone::Data};
use aws_lc_rs::{
    digest,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use std::{fmt, sync::Arc};
use thiserror::Error;
use zeroize::Zeroizing;

/// ECDSA P-256 with SHA-256 (RFC 6605): validated everywhere, short, and quick to make.
pub(super) const ALGORITHM: u8 = 13;
/// A zone key (256) that is a secure entry point (1).
const FLAGS: u16 = 257;
/// The only one there is (RFC 4034 section 2.1.2).
const PROTOCOL: u8 = 3;
/// SHA-256 (RFC 4509).
const DIGEST_TYPE: u8 = 2;

/// Why there is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum KeyError {
    /// The library could make none.
    #[error("no key could be made: the system's random source may be out of order")]
    Generate,
    /// The bytes are no PKCS #8 of a P-256 key.
    #[error(
        "the kept signing key cannot be read: restore the key from a backup, or begin anew and enter the new DS record at the registrar"
    )]
    Read,
    /// The library could not sign.
    #[error("no signature could be made: the system's random source may be out of order")]
    Sign,
}

/// A private key that signs a zone. Its bytes are wiped by the library.
pub struct SigningKey {
    pair: EcdsaKeyPair,
    dnskey: Vec<u8>,
    key_tag: u16,
}

impl SigningKey {
    /// A new key.
    pub fn generate() -> Result<Self, KeyError> {
        Self::new(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(|_| KeyError::Generate)?)
    }

    /// The key with these bytes.
    pub fn from_pkcs8(bytes: &[u8]) -> Result<Self, KeyError> {
        Self::new(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, bytes).map_err(|_| KeyError::Read)?)
    }

    fn new(pair: EcdsaKeyPair) -> Result<Self, KeyError> {
        // An uncompressed point is 4, x, y; DNS leaves the 4 out (RFC 6605 section 4).
        let point = pair.public_key().as_ref().strip_prefix(&[4]).ok_or(KeyError::Read)?;
        let dnskey = [&FLAGS.to_be_bytes(), &[PROTOCOL, ALGORITHM][..], point].concat();
        let key_tag = key_tag(&dnskey);
        Ok(Self { pair, dnskey, key_tag })
    }

    /// The private key, to be kept sealed.
    pub fn pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let document = self.pair.to_pkcs8v1().map_err(|_| KeyError::Read)?;
        Ok(Zeroizing::new(document.as_ref().to_vec()))
    }

    /// The data of its DNSKEY record, and of its CDNSKEY.
    pub fn dnskey(&self) -> &[u8] {
        &self.dnskey
    }

    /// The number by which signatures and DS records name it (RFC 4034 appendix B). Two keys may share one.
    pub fn key_tag(&self) -> u16 {
        self.key_tag
    }

    /// Its DS record at the zone above `apex`: `SHA-256(apex | DNSKEY data)`.
    pub fn ds(&self, apex: &Name) -> Data {
        let digest = digest::digest(&digest::SHA256, &[apex.wire(), &self.dnskey].concat());
        Data::Ds {
            key_tag: self.key_tag,
            algorithm: ALGORITHM,
            digest_type: DIGEST_TYPE,
            digest: digest.as_ref().to_vec(),
        }
    }

    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let signature = self.pair.sign(&SystemRandom::new(), message).map_err(|_| KeyError::Sign)?;
        Ok(signature.as_ref().to_vec())
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("key_tag", &self.key_tag).finish_non_exhaustive()
    }
}

/// The sum of RFC 4034 appendix B.
fn key_tag(dnskey: &[u8]) -> u16 {
    let pairs = dnskey.chunks(2).map(|pair| match pair {
        [high, low] => u32::from(u16::from_be_bytes([*high, *low])),
        [high] => u32::from(*high) << 8,
        _ => 0,
    });
    // A DNSKEY of this algorithm has 68 octets, so the sum cannot overflow.
    let sum: u32 = pairs.sum();
    let [_, _, high, low] = sum.wrapping_add(sum >> 16).to_be_bytes();
    u16::from_be_bytes([high, low])
}

/// The keys of a zone at one moment. [`Rollover::keys`](super::Rollover::keys) makes it.
#[derive(Debug, Clone)]
pub struct SigningKeys {
    /// Signs the data.
    pub(super) signer: Arc<SigningKey>,
    /// All that stand in the DNSKEY set. Each signs that set, and CDS and CDNSKEY.
    pub(super) published: Vec<Arc<SigningKey>>,
    /// The one that the zone above is asked to point to, by CDS and CDNSKEY (RFC 7344).
    pub(super) wanted: Arc<SigningKey>,
}

impl SigningKeys {
    /// One key for everything.
    pub fn single(key: Arc<SigningKey>) -> Self {
        Self { signer: key.clone(), published: vec![key.clone()], wanted: key }
    }

    /// Signs the data.
    pub fn signer(&self) -> &SigningKey {
        &self.signer
    }

    /// All that stand in the DNSKEY set.
    pub fn published(&self) -> &[Arc<SigningKey>] {
        &self.published
    }

    /// The one whose DS record the zone above should show.
    pub fn wanted(&self) -> &SigningKey {
        &self.wanted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_encoding::{BASE64, HEXLOWER};

    #[test]
    fn the_key_of_rfc_6605_has_its_tag_and_ds() {
        let public = "GojIhhXUN/u4v54ZQqGSnyhWJwaubCvTmeexv7bR6edbkrSqQpF64cYbcB7wNcP+e+MAnLr+Wi9xMWyQLc8NAA==";
        let mut dnskey = vec![1, 1, 3, 13];
        dnskey.extend(BASE64.decode(public.as_bytes()).unwrap());
        assert_eq!(key_tag(&dnskey), 55648);
        let digest = digest::digest(&digest::SHA256, &[Name::parse("example.net").unwrap().wire(), &dnskey].concat());
        let expect = "b4c8c1fe2e7477127b27115656ad6256f424625bf5c1e2770ce6d6e37df61d17";
        assert_eq!(HEXLOWER.encode(digest.as_ref()), expect);
    }

    #[test]
    fn a_kept_key_is_the_same_key() {
        let key = SigningKey::generate().unwrap();
        let again = SigningKey::from_pkcs8(&key.pkcs8().unwrap()).unwrap();
        assert_eq!(key.dnskey(), again.dnskey());
        assert_eq!(SigningKey::from_pkcs8(b"no key").unwrap_err(), KeyError::Read);
        let bytes = HEXLOWER.encode(&key.pkcs8().unwrap());
        assert!(!bytes.contains(&format!("{key:?}")) && format!("{key:?}").len() < 40, "{key:?}");
    }
}
