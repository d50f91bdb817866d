//! Bytes that must not be seen: wiped when dropped, compared in constant time, never shown.
//!
//! What must never happen here: `Display`, `Serialize`, `Clone`, or a `Debug` that shows a byte. The bytes live on the
//! heap, so that moving a secret leaves no copy behind on the stack.

use crate::entropy::Entropy;
use aws_lc_rs::constant_time;
use std::fmt;
use zeroize::{Zeroize, Zeroizing};

/// A secret of `N` bytes, such as a key.
pub struct Secret<const N: usize>(Box<[u8; N]>);

impl<const N: usize> Secret<N> {
    /// A secret that `fill` writes in place. It is all zeros until then, so `fill` must write every byte.
    pub fn filled(fill: impl FnOnce(&mut [u8; N])) -> Self {
        let mut secret = Self(Box::new([0; N]));
        fill(&mut secret.0);
        secret
    }

    /// As [`Secret::filled`], where filling can fail.
    pub fn try_filled<E>(fill: impl FnOnce(&mut [u8; N]) -> Result<(), E>) -> Result<Self, E> {
        let mut secret = Self(Box::new([0; N]));
        fill(&mut secret.0)?;
        Ok(secret)
    }

    /// A new random secret.
    pub fn random(entropy: &dyn Entropy) -> Self {
        Self::filled(|bytes| entropy.fill(bytes))
    }

    /// A copy of these bytes as a secret, if there are `N` of them. Wiping the original is the caller's affair.
    pub fn copied(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; N] = bytes.try_into().ok()?;
        Some(Self::filled(|to| to.copy_from_slice(bytes)))
    }

    /// The bytes. What the caller copies from here, the caller must wipe.
    pub fn expose(&self) -> &[u8; N] {
        &self.0
    }
}

impl<const N: usize> Drop for Secret<N> {
    fn drop(&mut self) {
        self.0.as_mut_slice().zeroize();
    }
}

impl<const N: usize> PartialEq for Secret<N> {
    /// In constant time.
    fn eq(&self, other: &Self) -> bool {
        constant_time::verify_slices_are_equal(self.0.as_slice(), other.0.as_slice()).is_ok()
    }
}

impl<const N: usize> Eq for Secret<N> {}

impl<const N: usize> fmt::Debug for Secret<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

/// A secret of any length, such as a passphrase.
pub struct SecretBytes(Zeroizing<Vec<u8>>);

impl SecretBytes {
    /// The bytes. What the caller copies from here, the caller must wipe.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Takes the bytes over without copying them; what was left behind when they grew is the caller's affair.
impl From<Vec<u8>> for SecretBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }
}

/// As for `Vec<u8>`.
impl From<String> for SecretBytes {
    fn from(text: String) -> Self {
        text.into_bytes().into()
    }
}

impl PartialEq for SecretBytes {
    /// In constant time as to the bytes; the lengths show.
    fn eq(&self, other: &Self) -> bool {
        constant_time::verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl Eq for SecretBytes {}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

/// What `Debug` shows of a secret.
const REDACTED: &str = "[redacted]";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deterministic::SeededEntropy;

    #[test]
    fn debug_shows_no_byte_and_no_length() {
        assert_eq!(format!("{:?}", Secret::<3>::filled(|bytes| *bytes = *b"abc")), REDACTED);
        assert_eq!(format!("{:?}", SecretBytes::from("abc".to_owned())), REDACTED);
        assert_eq!(format!("{:#?}", Some(SecretBytes::from("abc".to_owned()))), "Some(\n    [redacted],\n)");
    }

    #[test]
    fn equality_sees_every_byte_and_the_length() {
        let secret = Secret::<32>::random(&SeededEntropy::danger_from_seed(1));
        for index in 0..32 {
            let other = Secret::<32>::filled(|bytes| {
                *bytes = *secret.expose();
                bytes[index] ^= 1;
            });
            assert_ne!(secret, other);
        }
        assert_eq!(Some(&secret), Secret::copied(secret.expose()).as_ref());
        assert_eq!(Secret::<31>::copied(secret.expose()), None);
        assert_ne!(SecretBytes::from(vec![1, 2]), SecretBytes::from(vec![1, 2, 3]));
        assert_eq!(SecretBytes::from(vec![1, 2]), SecretBytes::from(vec![1, 2]));
    }
}
