//! The two upper levels of the hierarchy: the master key, and how it wraps the tablespace keys.
//!
//! `wrapped = AES-256-GCM-SIV(key = HKDF(master, "sys/wrap/v1"), random nonce, tablespace key)` with the tablespace and the
//! generation in the associated data, so that a wrapped key put elsewhere does not open. Pure: nonces are arguments.

use crate::{
    aead::{AeadKey, NONCE_BYTES, OpenError, TAG_BYTES},
    derivation::{COMMITMENT_BYTES, KEY_BYTES, KEY_FILE_FRAMES, Root, WRAP},
    entropy::Entropy,
    parts::{length_prefixed, take},
    secret::{Secret, SecretBytes},
    space::{Generation, SpaceId},
};
use aws_lc_rs::{constant_time, hmac};

/// Bytes of an encoded [`WrappedKey`].
pub(crate) const WRAPPED_KEY_BYTES: usize = COMMITMENT_BYTES + NONCE_BYTES + SEALED_KEY_BYTES;

const SEALED_KEY_BYTES: usize = KEY_BYTES + TAG_BYTES;
/// The version of the construction, bound into the associated data of each wrapped tablespace key.
const WRAP_FORMAT: [u8; 1] = [1];

/// A key sealed under another one: the master key under a sealer's, a tablespace key under the master key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WrappedKey {
    /// [`Root::commitment`] of the key inside. AES-GCM-SIV alone does not commit: somebody who knows two wrapping keys can
    /// make a ciphertext that opens under both.
    commitment: [u8; COMMITMENT_BYTES],
    nonce: [u8; NONCE_BYTES],
    sealed: [u8; SEALED_KEY_BYTES],
}

impl WrappedKey {
    pub(crate) fn seal(under: &AeadKey, aad: &[u8], nonce: [u8; NONCE_BYTES], key: &Secret<KEY_BYTES>) -> Self {
        // The copy of the key is overwritten with its ciphertext.
        let ciphertext = under.seal(aad, nonce, key.expose().to_vec());
        let mut sealed = [0; SEALED_KEY_BYTES];
        sealed.iter_mut().zip(ciphertext).for_each(|(to, from)| *to = from);
        Self { commitment: Root::new(key).commitment(), nonce, sealed }
    }

    /// The key, if it is the one that the commitment names: nothing is derived from it before that is clear.
    pub(crate) fn open(&self, under: &AeadKey, aad: &[u8]) -> Result<Secret<KEY_BYTES>, OpenError> {
        let opened = SecretBytes::from(under.open(aad, self.nonce, &self.sealed)?);
        let key = Secret::copied(opened.expose()).ok_or(OpenError)?;
        let commitment = Root::new(&key).commitment();
        constant_time::verify_slices_are_equal(&commitment, &self.commitment).map_err(|_| OpenError)?;
        Ok(key)
    }

    /// `commitment | nonce | sealed key`.
    pub(crate) fn encode(&self) -> [u8; WRAPPED_KEY_BYTES] {
        let mut bytes = [0; WRAPPED_KEY_BYTES];
        let parts = self.commitment.iter().chain(&self.nonce).chain(&self.sealed);
        bytes.iter_mut().zip(parts).for_each(|(to, from)| *to = *from);
        bytes
    }

    /// Takes an encoded key off the input; `None` if the input is too short.
    pub(crate) fn read(input: &mut &[u8]) -> Option<Self> {
        Some(Self { commitment: take(input)?, nonce: take(input)?, sealed: take(input)? })
    }
}

/// The root of all keys of one server. A sealer holds it at rest.
#[derive(Debug)]
pub(crate) struct MasterKey {
    secret: Secret<KEY_BYTES>,
    wrap: AeadKey,
    frames: hmac::Key,
}

impl MasterKey {
    pub(crate) fn new(secret: Secret<KEY_BYTES>) -> Self {
        let root = Root::new(&secret);
        Self { wrap: root.aead_key(WRAP), frames: root.mac_key(KEY_FILE_FRAMES), secret }
    }

    pub(crate) fn random(entropy: &dyn Entropy) -> Self {
        Self::new(Secret::random(entropy))
    }

    /// For a sealer, which seals it.
    pub(crate) fn secret(&self) -> &Secret<KEY_BYTES> {
        &self.secret
    }

    /// What authenticates the frames of the key file.
    pub(crate) fn frames(&self) -> &hmac::Key {
        &self.frames
    }

    pub(crate) fn wrap(
        &self,
        space: SpaceId,
        generation: Generation,
        nonce: [u8; NONCE_BYTES],
        key: &Secret<KEY_BYTES>,
    ) -> WrappedKey {
        WrappedKey::seal(&self.wrap, &wrap_aad(space, generation), nonce, key)
    }

    /// What the tablespace's keys of this generation are derived from.
    pub(crate) fn unwrap(
        &self,
        space: SpaceId,
        generation: Generation,
        wrapped: &WrappedKey,
    ) -> Result<Root, OpenError> {
        Ok(Root::new(&wrapped.open(&self.wrap, &wrap_aad(space, generation))?))
    }
}

fn wrap_aad(space: SpaceId, generation: Generation) -> Vec<u8> {
    length_prefixed(&[
        b"sys tablespace key",
        &WRAP_FORMAT,
        &space.module.to_be_bytes(),
        space.org.as_bytes(),
        &generation.0.to_be_bytes(),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deterministic::SeededEntropy;
    use proptest::prelude::*;
    use sys_contract::id::OrgTag;

    const SPACE: SpaceId = SpaceId { module: 7, org: OrgTag::from_bytes([1, 2, 3, 4, 5, 6]) };
    const GENERATION: Generation = Generation(3);

    fn master(seed: u64) -> MasterKey {
        MasterKey::random(&SeededEntropy::danger_from_seed(seed))
    }

    fn wrapped() -> WrappedKey {
        let key = Secret::random(&SeededEntropy::danger_from_seed(9));
        master(1).wrap(SPACE, GENERATION, [5; NONCE_BYTES], &key)
    }

    #[test]
    fn a_wrapped_key_opens_to_the_same_root() {
        let key = Secret::random(&SeededEntropy::danger_from_seed(9));
        let root = master(1).unwrap(SPACE, GENERATION, &wrapped()).unwrap();
        assert_eq!(root.secret("x"), Root::new(&key).secret("x"));
    }

    #[test]
    fn a_wrapped_key_is_read_as_it_was_encoded() {
        let bytes = wrapped().encode();
        assert_eq!(WrappedKey::read(&mut &bytes[..]), Some(wrapped()));
        assert_eq!(WrappedKey::read(&mut &bytes[1..]), None);
    }

    #[test]
    fn a_wrapped_key_put_elsewhere_does_not_open() {
        let module = SpaceId { module: 8, ..SPACE };
        let org = SpaceId { org: OrgTag::GLOBAL, ..SPACE };
        for (space, generation) in [(module, GENERATION), (org, GENERATION), (SPACE, Generation(4))] {
            assert_eq!(master(1).unwrap(space, generation, &wrapped()).err(), Some(OpenError));
        }
        assert_eq!(master(2).unwrap(SPACE, GENERATION, &wrapped()).err(), Some(OpenError));
    }

    /// A key that opens but is not the one that was committed to, as somebody with the wrapping key alone could make it.
    #[test]
    fn a_key_without_its_commitment_is_refused() {
        let other = Secret::random(&SeededEntropy::danger_from_seed(10));
        let swapped = WrappedKey {
            commitment: wrapped().commitment,
            ..master(1).wrap(SPACE, GENERATION, [5; NONCE_BYTES], &other)
        };
        assert_eq!(master(1).unwrap(SPACE, GENERATION, &swapped).err(), Some(OpenError));
    }

    proptest! {
        #[test]
        fn any_flipped_bit_refuses(bit in 0..8 * WRAPPED_KEY_BYTES) {
            let mut bytes = wrapped().encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let flipped = WrappedKey::read(&mut &bytes[..]).unwrap();
            prop_assert_eq!(master(1).unwrap(SPACE, GENERATION, &flipped).err(), Some(OpenError));
        }
    }
}
