//! AES-256-GCM-SIV (RFC 8452) with a key object that is made once.
//!
//! The misuse rule: a nonce is random and never chosen; one that repeats by accident shows whether two messages under it
//! are equal, and nothing else. What must never happen here: plaintext that comes out before its tag was checked, or an
//! error that says why a message did not open.

use crate::secret::Secret;
use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, Nonce, UnboundKey};
use std::fmt;

/// Bytes of a nonce.
pub const NONCE_BYTES: usize = 12;
/// Bytes by which a sealed message is longer than its plaintext.
pub const TAG_BYTES: usize = 16;

/// Room behind a plaintext, so that a record gets its id and its etag into the buffer that it was opened into.
const ROOM_BYTES: usize = 96;

/// The sealed bytes do not open under this key, nonce and associated data. It says nothing about why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("sealed data does not open")]
pub struct OpenError;

/// A key that seals and opens.
pub(crate) struct AeadKey(LessSafeKey);

impl AeadKey {
    pub(crate) fn new(key: &Secret<32>) -> Self {
        #[allow(clippy::expect_used, reason = "INVARIANT: AES-256-GCM-SIV takes a key of 32 bytes")]
        Self(LessSafeKey::new(UnboundKey::new(&AES_256_GCM_SIV, key.expose()).expect("32 bytes")))
    }

    /// Ciphertext and tag. The plaintext's memory is overwritten with the ciphertext.
    pub(crate) fn seal(&self, aad: &[u8], nonce: [u8; NONCE_BYTES], plaintext: Vec<u8>) -> Vec<u8> {
        let mut sealed = plaintext;
        let nonce = Nonce::assume_unique_for_key(nonce);
        #[allow(
            clippy::expect_used,
            reason = "INVARIANT: sealing fails only above 2^36 bytes, more than fits a record"
        )]
        let tag = self.0.seal_in_place_separate_tag(nonce, Aad::from(aad), &mut sealed).expect("at most 64 GiB");
        // Only now, so that a growing buffer leaves ciphertext behind and not plaintext.
        sealed.extend_from_slice(tag.as_ref());
        sealed
    }

    /// The plaintext, if key, nonce, associated data and every sealed bit are those of [`AeadKey::seal`].
    pub(crate) fn open(&self, aad: &[u8], nonce: [u8; NONCE_BYTES], sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
        let (ciphertext, tag) = sealed.split_last_chunk::<TAG_BYTES>().ok_or(OpenError)?;
        let mut plaintext = Vec::with_capacity(ciphertext.len() + ROOM_BYTES);
        plaintext.resize(ciphertext.len(), 0);
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.0.open_separate_gather(nonce, Aad::from(aad), ciphertext, tag, &mut plaintext).map_err(|_| OpenError)?;
        Ok(plaintext)
    }
}

impl fmt::Debug for AeadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}
