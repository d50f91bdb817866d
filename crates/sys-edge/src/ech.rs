//! Encrypted Client Hello (RFC 9849): its keys, and the list of configurations that stands in the DNS.
//!
//! A client seals the name that it asks for under the public key of a configuration, and shows the public name instead. What lives
//! here: keys with their configurations ([`EchKey`]), the list that is published ([`config_list`]), and our own reader of such a list
//! ([`parse_list`], in [`parse`]). When keys are made and forgotten is decided elsewhere; [`crate::tls::Tls::set_ech`] takes
//! them. What must never happen here: a private key in a `Debug`, or a configuration kept with a key that does not open it.

mod parse;

pub use parse::{EchConfig, Suite, parse_list};

use boring::{
    error::ErrorStack,
    hpke::HpkeKey,
    pkey::{Id, PKey},
    ssl::SslEchKeys,
};
use std::{fmt, net::Ipv4Addr};
use zeroize::Zeroizing;

/// Configurations in one list at most, in what is read and in what is written: a client takes the first that it can use, and each
/// costs space in every DNS answer.
pub const MOST_CONFIGS: usize = 16;

/// The version of a configuration that RFC 9849 defines.
const VERSION: u16 = 0xfe0d;
/// DHKEM(X25519, HKDF-SHA256), RFC 9180 section 7.1: the one that every client speaks.
const KEM_X25519: u16 = 0x0020;
/// Bytes of its keys.
const KEY_BYTES: usize = 32;
/// HKDF-SHA256 with AES-128-GCM, and with ChaCha20-Poly1305 for clients without AES in hardware (RFC 9180 sections 7.2 and 7.3).
const SUITES: [Suite; 2] = [Suite { kdf: 1, aead: 1 }, Suite { kdf: 1, aead: 3 }];
/// Up to here, clients pad the names that they hide to one length. Longer than most names, and short enough that a client hello
/// does not grow by a packet for it.
const MAXIMUM_NAME_LENGTH: u8 = 64;
/// Letters of a DNS name at most (RFC 1035 section 2.3.4), and of one of its labels.
const NAME_LETTERS: usize = 253;
const LABEL_LETTERS: usize = 63;

/// What is wrong with a key or a list of configurations.
#[derive(Debug, thiserror::Error)]
pub enum EchError {
    /// The name that is to be shown in the clear is none.
    #[error("{name:?} cannot be a public name; give a host name such as ech.example.org, without a dot at its end")]
    PublicName {
        /// As it was given.
        name: String,
    },
    /// The bytes are no list of configurations, or not one configuration.
    #[error("these are no ECH configurations: {0}")]
    Malformed(&'static str),
    /// The private key is not that of the configuration, or of another kind.
    #[error("the private key does not open what is sealed for this ECH configuration; keep both as they were made")]
    KeyDoesNotFit,
    /// The library has no randomness or memory.
    #[error("cannot make an ECH key")]
    Library(#[source] ErrorStack),
}

/// One configuration with its private key.
pub struct EchKey {
    config: Vec<u8>,
    config_id: u8,
    public_name: String,
    private: Zeroizing<Vec<u8>>,
}

impl EchKey {
    /// A new key. The id tells the keys of one server apart, so no two that are accepted at once may share one. The public name is
    /// what stands in the clear on the wire; the server needs a certificate for it too, which clients with a stale key check.
    pub fn generate(config_id: u8, public_name: &str) -> Result<Self, EchError> {
        let public_name = public_name.to_ascii_lowercase();
        if !is_public_name(&public_name) {
            return Err(EchError::PublicName { name: public_name });
        }
        let pair = PKey::generate(Id::X25519).map_err(EchError::Library)?;
        let mut private = Zeroizing::new(vec![0; KEY_BYTES]);
        pair.raw_private_key(&mut private).map_err(EchError::Library)?;
        let mut public_key = vec![0; KEY_BYTES];
        pair.raw_public_key(&mut public_key).map_err(EchError::Library)?;
        let config = EchConfig {
            config_id,
            kem: KEM_X25519,
            public_key,
            suites: SUITES.to_vec(),
            maximum_name_length: MAXIMUM_NAME_LENGTH,
            public_name,
            extensions: Vec::new(),
        };
        Self::from_parts(config.to_bytes(), private)
    }

    /// A key that was kept: the configuration (one, without the length of a list) and its X25519 private key, 32 bytes.
    pub fn from_parts(config: Vec<u8>, private: Zeroizing<Vec<u8>>) -> Result<Self, EchError> {
        let EchConfig { config_id, public_name, .. } = parse::one(&config)?;
        let key = Self { config, config_id, public_name, private };
        for_library(std::slice::from_ref(&key))?;
        Ok(key)
    }

    /// The configuration by itself.
    pub fn config(&self) -> &[u8] {
        &self.config
    }

    /// The private key, to be kept sealed.
    pub fn private(&self) -> &[u8] {
        &self.private
    }

    /// What tells it apart from the other keys.
    pub fn config_id(&self) -> u8 {
        self.config_id
    }

    /// The name that stands in the clear.
    pub fn public_name(&self) -> &str {
        &self.public_name
    }
}

impl fmt::Debug for EchKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { config_id, public_name, .. } = self;
        formatter.debug_struct("EchKey").field("config_id", config_id).field("public_name", public_name).finish()
    }
}

/// The list of their configurations, as it stands in the DNS (`ech` of an HTTPS record): the one that clients are to prefer first,
/// and no more than [`MOST_CONFIGS`].
pub fn config_list(keys: &[&EchKey]) -> Vec<u8> {
    let configs: Vec<u8> = keys.iter().take(MOST_CONFIGS).flat_map(|key| key.config()).copied().collect();
    let mut list = Vec::new();
    parse::put_prefixed(&mut list, &configs);
    list
}

/// The keys as the library takes them, the first one as the one that others are told to use. It takes a key only with its own
/// configuration.
pub(crate) fn for_library(keys: &[EchKey]) -> Result<SslEchKeys, EchError> {
    let mut builder = SslEchKeys::builder().map_err(EchError::Library)?;
    for (place, key) in keys.iter().enumerate() {
        // Whatever its name says, this is X25519 (`EVP_hpke_x25519_hkdf_sha256`).
        let private = HpkeKey::dhkem_p256_sha256(&key.private).map_err(|_| EchError::KeyDoesNotFit)?;
        builder.add_key(place == 0, &key.config, private).map_err(|_| EchError::KeyDoesNotFit)?;
    }
    Ok(builder.build())
}

/// Whether a name can stand in the clear: labels of letters, digits and hyphens, and nothing that reads as an address (RFC 9849
/// section 4; the last label as the URL standard of browsers has it).
fn is_public_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=LABEL_LETTERS).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last = name.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
    let is_number = last.bytes().all(|byte| byte.is_ascii_digit())
        || last.strip_prefix("0x").is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    name.len() <= NAME_LETTERS && name.split('.').all(is_label) && !is_number && name.parse::<Ipv4Addr>().is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_kept_and_taken_again_with_its_own_configuration_alone() {
        let key = EchKey::generate(7, "ECH.example.org").unwrap();
        assert_eq!((key.config_id(), key.public_name()), (7, "ech.example.org"));
        let private = |key: &EchKey| Zeroizing::new(key.private().to_vec());
        let kept = EchKey::from_parts(key.config().to_vec(), private(&key)).unwrap();
        assert_eq!((kept.config(), kept.config_id()), (key.config(), 7));
        let other = EchKey::generate(7, "ech.example.org").unwrap();
        for private in [private(&other), Zeroizing::new(vec![1; 31]), Zeroizing::default()] {
            let refused = EchKey::from_parts(key.config().to_vec(), private);
            assert!(matches!(refused, Err(EchError::KeyDoesNotFit)), "{refused:?}");
        }
        let list = config_list(&[&key]);
        assert!(matches!(EchKey::from_parts(list, private(&key)), Err(EchError::Malformed(_))));
    }

    #[test]
    fn a_private_key_is_not_in_what_is_printed() {
        let key = EchKey::generate(1, "ech.example.org").unwrap();
        assert_eq!(format!("{key:?}"), r#"EchKey { config_id: 1, public_name: "ech.example.org" }"#);
    }

    #[test]
    fn the_list_is_read_as_it_was_written_and_has_a_bound() {
        let keys: Vec<_> = (0..20).map(|id| EchKey::generate(id, &format!("ech{id}.example.org")).unwrap()).collect();
        let list = config_list(&keys.iter().collect::<Vec<_>>());
        let read = parse_list(&list).unwrap();
        assert_eq!(read.len(), MOST_CONFIGS);
        for (config, key) in read.iter().zip(&keys) {
            assert_eq!((config.config_id, config.public_name.as_str()), (key.config_id(), key.public_name()));
            assert_eq!(config.to_bytes(), key.config());
        }
    }

    #[test]
    fn a_public_name_is_a_host_name_and_no_address() {
        for name in ["ech.example.org", "localhost", "a.b", "x1.0x", "xn--bcher-kva.example"] {
            assert_eq!(is_public_name(name), name != "x1.0x", "{name}");
        }
        let long = format!("{}.org", "a.".repeat(130));
        for name in
            ["", ".", "example.org.", ".org", "a..b", "-a.org", "a-.org", "a_b.org", "b\u{fc}cher.example", "192.0.2.1"]
        {
            assert!(!is_public_name(name), "{name}");
        }
        for name in [long.as_str(), "a.0x1f", "1.2.3", "[::1]", "*.example.org", "a b.org"] {
            assert!(!is_public_name(name), "{name}");
            assert!(matches!(EchKey::generate(0, name), Err(EchError::PublicName { .. })));
        }
    }
}
