//! The key that binds a session to this machine (RFC 8705 section 3): its tokens are worth nothing on a connection that does not
//! show the certificate of this key.
//!
//! Each login over TLS makes a new one, kept where the session is kept and gone when the session goes: what a thief copied
//! before a login is worth nothing after it, and a server cannot tell by the key that two accounts are of one machine. What must never happen here: the private key in a `Debug` form, in an error, or
//! anywhere but in that place. There is no way to export it.

use crate::Fingerprint;
use data_encoding::BASE64;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::{
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    sign::CertifiedKey,
};
use serde::{Deserialize, Serialize};
use std::{fmt, sync::Arc};
use zeroize::Zeroizing;

/// The format that is written.
const FORMAT: u32 = 1;
/// What the certificate is called. Everybody's is called so: a server learns a key and nothing of its owner.
const COMMON_NAME: &str = "sys device";

/// A P-256 key with a certificate that it signed itself.
#[derive(Clone)]
pub struct DeviceKey {
    certificate: CertificateDer<'static>,
    /// PKCS #8.
    key: Arc<Zeroizing<Vec<u8>>>,
}

impl fmt::Debug for DeviceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceKey").field("certificate", &self.fingerprint()).finish_non_exhaustive()
    }
}

impl DeviceKey {
    /// A new one.
    pub(crate) fn generate() -> Result<Self, DeviceKeyError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, COMMON_NAME);
        let certificate = params.self_signed(&key)?.der().clone();
        Ok(Self { certificate, key: Arc::new(Zeroizing::new(key.serialize_der())) })
    }

    /// What the server binds tokens to.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.certificate)
    }

    /// As a connection shows it.
    pub(crate) fn certified(&self, provider: &CryptoProvider) -> Result<CertifiedKey, rustls::Error> {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.as_slice())).clone_key();
        CertifiedKey::from_der(vec![self.certificate.clone()], key, provider)
    }

    /// From the text of one that was kept.
    pub(crate) fn from_text(text: &str) -> Option<Self> {
        let stored: Stored = serde_json::from_str(text).ok().filter(|stored: &Stored| stored.format == FORMAT)?;
        let certificate = BASE64.decode(stored.certificate.as_bytes()).ok()?.into();
        let key = Arc::new(Zeroizing::new(BASE64.decode(stored.key.as_bytes()).ok()?));
        Some(Self { certificate, key })
    }

    /// The text of it that is kept.
    pub(crate) fn to_text(&self) -> Option<Zeroizing<String>> {
        let stored = Stored {
            format: FORMAT,
            certificate: BASE64.encode(&self.certificate),
            key: Zeroizing::new(BASE64.encode(&self.key)),
        };
        serde_json::to_string_pretty(&stored).ok().map(Zeroizing::new)
    }
}

/// The key as it is kept, in a file or in the keychain.
#[derive(Serialize, Deserialize)]
struct Stored {
    format: u32,
    certificate: String,
    key: Zeroizing<String>,
}

/// Why there is no device key.
#[derive(Debug, thiserror::Error)]
pub enum DeviceKeyError {
    /// It cannot be made.
    #[error("no device key can be made")]
    Made(#[from] rcgen::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_it_was_kept_and_shows_in_no_debug_form() {
        let key = DeviceKey::generate().expect("a key");
        let text = key.to_text().expect("text");
        let read = DeviceKey::from_text(&text).expect("its own text");
        assert_eq!(read.fingerprint(), key.fingerprint());
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        read.certified(&provider).expect("key and certificate belong together");
        let stored: Stored = serde_json::from_str(&text).expect("JSON");
        assert!(!format!("{key:?}").contains(stored.key.get(..16).expect("a key")));
        assert_ne!(DeviceKey::generate().expect("another").fingerprint(), key.fingerprint());
    }

    #[test]
    fn a_key_of_another_certificate_is_none() {
        let (one, other) = (DeviceKey::generate().expect("a key"), DeviceKey::generate().expect("a key"));
        let mixed = DeviceKey { certificate: one.certificate, key: other.key };
        assert!(mixed.certified(&rustls::crypto::aws_lc_rs::default_provider()).is_err());
        for text in
            ["", "{}", r#"{"format":2,"certificate":"","key":""}"#, r#"{"format":1,"certificate":"!","key":""}"#]
        {
            assert!(DeviceKey::from_text(text).is_none(), "{text}");
        }
    }
}
