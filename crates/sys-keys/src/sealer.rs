//! Sealers: what holds the master key at rest. Several can hold the same one, so that a lost passphrase is no disaster.
//!
//! Each has a name, which stands in its frame of the key file, and a key of its own that seals the master key. A new kind
//! (TPM, keychain, shares, registry) is a variant here, a module beside the others, and its name. What must never happen
//! here: an error that tells a wrong secret from a nearly right one.

mod danger_key_file;
mod passphrase;

use crate::{
    aead::NONCE_BYTES,
    derivation::{KEY_BYTES, MASTER, Root},
    entropy::Entropy,
    error::KeyError,
    hierarchy::{MasterKey, WRAPPED_KEY_BYTES, WrappedKey},
    key_file::{FileId, SealerFrame},
    parts::length_prefixed,
    secret::{Secret, SecretBytes},
};
use std::path::PathBuf;

/// The most sealers of one key file. When none opens, each has cost a second.
pub(crate) const SEALERS_MAX: usize = 16;

/// How the master key is sealed and opened.
#[derive(Debug)]
#[non_exhaustive]
pub enum Unsealer {
    /// A passphrase, stretched by Argon2id. Its bytes are taken as they are.
    Passphrase(SecretBytes),
    /// Dangerous: a key in a file. Whoever can read both this file and the key file can read everything. For demos and
    /// tests; the file is made, with mode 0600, when the master key is first sealed with it.
    DangerKeyFile(PathBuf),
}

impl Unsealer {
    /// What stands in the key file.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Passphrase(_) => passphrase::NAME,
            Self::DangerKeyFile(_) => danger_key_file::NAME,
        }
    }

    /// Seals the master key. May take a second.
    pub(crate) fn seal(
        &self,
        master: &MasterKey,
        file: FileId,
        entropy: &dyn Entropy,
    ) -> Result<SealerFrame, KeyError> {
        let body = match self {
            Self::Passphrase(passphrase) => passphrase::seal(passphrase, master, file, entropy)?,
            Self::DangerKeyFile(path) => danger_key_file::seal(path, master, file, entropy)?,
        };
        Ok(SealerFrame { name: self.name().to_owned(), body })
    }

    /// Opens the master key with the first of the frames that are of this kind and open. May take a second for each.
    pub(crate) fn unseal<'a>(
        &self,
        frames: impl Iterator<Item = &'a SealerFrame>,
        file: FileId,
    ) -> Result<MasterKey, KeyError> {
        let (of_kind, others): (Vec<_>, Vec<_>) = frames.partition(|frame| frame.name == self.name());
        let there = others.into_iter().take(SEALERS_MAX).map(|frame| frame.name.clone()).collect();
        let mut refusal = KeyError::NoSealer { name: self.name(), there };
        for frame in of_kind.into_iter().take(SEALERS_MAX) {
            let opened = match self {
                Self::Passphrase(passphrase) => passphrase::unseal(passphrase, &frame.body, file),
                Self::DangerKeyFile(path) => danger_key_file::unseal(path, &frame.body, file),
            };
            match opened {
                Ok(secret) => return Ok(MasterKey::new(secret)),
                Err(error) => refusal = error,
            }
        }
        Err(refusal)
    }
}

/// What every sealer ends with: the master key, wrapped under `HKDF(sealing key, "sys/master/v1")`. The sealer's name and
/// the file's id are bound into it; whatever else stands in the body must go into the sealing key.
fn wrap_master(
    sealing_key: &Secret<KEY_BYTES>,
    aad: &[u8],
    master: &MasterKey,
    entropy: &dyn Entropy,
) -> [u8; WRAPPED_KEY_BYTES] {
    let mut nonce = [0; NONCE_BYTES];
    entropy.fill(&mut nonce);
    WrappedKey::seal(&Root::new(sealing_key).aead_key(MASTER), aad, nonce, master.secret()).encode()
}

/// Opens what [`wrap_master`] made; the body must end with it.
fn unwrap_master(sealing_key: &Secret<KEY_BYTES>, aad: &[u8], mut rest: &[u8]) -> Result<Secret<KEY_BYTES>, KeyError> {
    let wrapped = WrappedKey::read(&mut rest).filter(|_| rest.is_empty()).ok_or(KeyError::Unseal)?;
    wrapped.open(&Root::new(sealing_key).aead_key(MASTER), aad).map_err(|_| KeyError::Unseal)
}

fn master_aad(name: &str, file: FileId) -> Vec<u8> {
    length_prefixed(&[b"sys master key", name.as_bytes(), &file.0])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deterministic::SeededEntropy;

    const FILE: FileId = FileId([1; 16]);

    #[test]
    fn what_one_sealer_sealed_does_not_open_as_that_of_another() {
        let entropy = SeededEntropy::danger_from_seed(1);
        let (master, sealing_key) = (MasterKey::random(&entropy), Secret::random(&entropy));
        let sealed = wrap_master(&sealing_key, &master_aad("one", FILE), &master, &entropy);
        assert_eq!(unwrap_master(&sealing_key, &master_aad("one", FILE), &sealed).unwrap(), *master.secret());
        for aad in [master_aad("two", FILE), master_aad("one", FileId([2; 16]))] {
            assert!(matches!(unwrap_master(&sealing_key, &aad, &sealed), Err(KeyError::Unseal)));
        }
    }

    #[test]
    fn a_file_full_of_sealers_does_not_keep_us_trying() {
        let folder = tempfile::tempdir().unwrap();
        let unsealer = Unsealer::DangerKeyFile(folder.path().join("danger"));
        let entropy = SeededEntropy::danger_from_seed(1);
        let right = unsealer.seal(&MasterKey::random(&entropy), FILE, &entropy).unwrap();
        let wrong = SealerFrame { body: Vec::new(), ..right.clone() };
        let tried = |wrong_ones: usize| {
            let wrong_ones = std::iter::repeat_n(&wrong, wrong_ones);
            unsealer.unseal(wrong_ones.chain([&right]), FILE)
        };
        assert!(tried(SEALERS_MAX - 1).is_ok());
        assert!(matches!(tried(SEALERS_MAX), Err(KeyError::Unseal)));
    }
}
