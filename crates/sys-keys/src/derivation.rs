//! Keys from keys: `HKDF-SHA256(salt = none, ikm = root, info = purpose)` (RFC 5869).
//!
//! The misuse rule: a root is used for nothing but derivation, and each purpose is derived in one place only. All purposes
//! stand in this file; those that come from outside are set apart by [`PURPOSE_FROM_OUTSIDE`], which begins none of the
//! others.

use crate::{aead::AeadKey, secret::Secret};
use aws_lc_rs::{hkdf, hmac};
use std::fmt;

/// Bytes of every key in the hierarchy.
pub(crate) const KEY_BYTES: usize = 32;
/// Bytes of a [`Root::commitment`].
pub(crate) const COMMITMENT_BYTES: usize = 32;

/// Below the master key: wraps tablespace keys.
pub(crate) const WRAP: &str = "sys/wrap/v1";
/// Below the master key: authenticates the frames of the key file.
pub(crate) const KEY_FILE_FRAMES: &str = "sys/key-file/v1";
/// Below a sealer's key: seals the master key.
pub(crate) const MASTER: &str = "sys/master/v1";
/// Below a tablespace key: seals records.
pub(crate) const DATA: &str = "sys/data/v1";
/// Below a tablespace key: makes index tokens.
pub(crate) const INDEX: &str = "sys/index/v1";
/// Below a tablespace key: seals page tokens.
pub(crate) const PAGE_TOKEN: &str = "sys/page-token/v1";
/// Below a tablespace key: makes etags.
pub(crate) const ETAG: &str = "sys/etag/v1";
/// Below a tablespace key: stands before the purposes that callers name.
pub(crate) const PURPOSE_FROM_OUTSIDE: &str = "sys/purpose/v1/";
/// Below any root: what [`Root::commitment`] gives.
const COMMITMENT: &str = "sys/commitment/v1";

/// Key material that others are derived from.
pub(crate) struct Root(hkdf::Prk);

impl Root {
    pub(crate) fn new(material: &Secret<KEY_BYTES>) -> Self {
        Self(hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(material.expose()))
    }

    /// The AEAD key for a purpose.
    pub(crate) fn aead_key(&self, purpose: &'static str) -> AeadKey {
        AeadKey::new(&self.expand(&[purpose.as_bytes()]))
    }

    /// The HMAC-SHA256 key for a purpose.
    pub(crate) fn mac_key(&self, purpose: &'static str) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, self.expand(&[purpose.as_bytes()]).expose())
    }

    /// A secret for a purpose that a caller of this crate names.
    pub(crate) fn secret(&self, purpose: &str) -> Secret<KEY_BYTES> {
        self.expand(&[PURPOSE_FROM_OUTSIDE.as_bytes(), purpose.as_bytes()])
    }

    /// A public value that no second root gives and that tells nothing about this one.
    pub(crate) fn commitment(&self) -> [u8; COMMITMENT_BYTES] {
        *self.expand(&[COMMITMENT.as_bytes()]).expose()
    }

    fn expand(&self, info: &[&[u8]]) -> Secret<KEY_BYTES> {
        #[allow(clippy::expect_used, reason = "INVARIANT: HKDF-SHA256 gives up to 8160 bytes, and 32 are asked for")]
        Secret::filled(|key| self.0.expand(info, Length).and_then(|material| material.fill(key)).expect("32 bytes"))
    }
}

/// The length of what is derived.
struct Length;

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        KEY_BYTES
    }
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn root(byte: u8) -> Root {
        Root::new(&Secret::filled(|key| key.fill(byte)))
    }

    /// Computed with a second implementation (Python's `hmac`: extract with a key of 32 zeros, expand with one block).
    #[test]
    fn derivation_is_hkdf_sha256() {
        let expected = [
            0x20, 0x3b, 0x47, 0x67, 0x77, 0xb7, 0xd0, 0xba, 0x69, 0x11, 0xb4, 0x01, 0x02, 0xb7, 0x52, 0x9b, 0x43, 0xeb,
            0x9f, 0x38, 0xf2, 0xa9, 0x69, 0x7e, 0xff, 0xf4, 0xaf, 0xb1, 0x74, 0xe9, 0x4a, 0xe4,
        ];
        assert_eq!(root(7).secret("test").expose(), &expected);
    }

    #[test]
    fn no_two_purposes_share_a_key() {
        let fixed = [WRAP, KEY_FILE_FRAMES, MASTER, DATA, INDEX, PAGE_TOKEN, ETAG, COMMITMENT];
        assert!(fixed.iter().all(|purpose| !purpose.starts_with(PURPOSE_FROM_OUTSIDE)));
        let root = root(7);
        let derived = fixed.iter().map(|purpose| *root.expand(&[purpose.as_bytes()]).expose());
        let named = fixed.iter().chain(&["", "a", "b"]).map(|purpose| *root.secret(purpose).expose());
        assert_eq!(derived.chain(named).collect::<HashSet<_>>().len(), 2 * fixed.len() + 3);
    }

    #[test]
    fn two_roots_have_two_commitments() {
        assert_ne!(root(1).commitment(), root(2).commitment());
        assert_eq!(root(1).commitment(), root(1).commitment());
    }
}
