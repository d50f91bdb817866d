//! The dangerous sealer: a sealing key of 32 random bytes in a file that anybody with its owner's rights can read.
//!
//! ```text
//! body         wrapped master key 92
//! sealing key  the file's bytes
//! ```
//!
//! It keeps a stolen key file shut as long as this file was not stolen with it, and nothing more.

use super::{master_aad, unwrap_master, wrap_master};
use crate::{
    derivation::KEY_BYTES, entropy::Entropy, error::KeyError, hierarchy::MasterKey, key_file::FileId, private_file,
    secret::Secret,
};
use std::{io::Read, path::Path};

pub(super) const NAME: &str = "danger-key-file";

/// Seals with the key in the file, which is made if it is not there: a run that stopped in between can be repeated.
pub(super) fn seal(path: &Path, master: &MasterKey, file: FileId, entropy: &dyn Entropy) -> Result<Vec<u8>, KeyError> {
    let new = Secret::random(entropy);
    let sealing_key = match private_file::create(path, new.expose()) {
        Ok(_) => new,
        Err(KeyError::Exists { .. }) => read(path)?,
        Err(error) => return Err(error),
    };
    Ok(wrap_master(&sealing_key, &master_aad(NAME, file), master, entropy).to_vec())
}

pub(super) fn unseal(path: &Path, body: &[u8], file: FileId) -> Result<Secret<KEY_BYTES>, KeyError> {
    unwrap_master(&read(path)?, &master_aad(NAME, file), body)
}

fn read(path: &Path) -> Result<Secret<KEY_BYTES>, KeyError> {
    let failed = |source| KeyError::File { doing: "read", path: path.to_owned(), source };
    let mut file = private_file::open(path)?;
    if file.metadata().map_err(failed)?.len() != KEY_BYTES as u64 {
        return Err(KeyError::NotAKey { path: path.to_owned() });
    }
    Secret::try_filled(|key| file.read_exact(key)).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deterministic::SeededEntropy;
    use std::{fs, os::unix::fs::PermissionsExt};

    const FILE: FileId = FileId([1; 16]);

    #[test]
    fn the_file_is_made_once_and_then_used() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("danger");
        let entropy = SeededEntropy::danger_from_seed(1);
        let master = MasterKey::random(&entropy);
        let first = seal(&path, &master, FILE, &entropy).unwrap();
        let made = fs::read(&path).unwrap();
        let second = seal(&path, &master, FILE, &entropy).unwrap();
        assert_eq!(fs::read(&path).unwrap(), made);
        for body in [first, second] {
            assert_eq!(unseal(&path, &body, FILE).unwrap(), *master.secret());
        }
    }

    #[test]
    fn another_file_does_not_open() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("danger");
        let entropy = SeededEntropy::danger_from_seed(1);
        let body = seal(&path, &MasterKey::random(&entropy), FILE, &entropy).unwrap();
        fs::write(&path, [1; 32]).unwrap();
        assert!(matches!(unseal(&path, &body, FILE), Err(KeyError::Unseal)));
        for length in [0, 31, 33] {
            fs::write(&path, vec![1; length]).unwrap();
            assert!(matches!(unseal(&path, &body, FILE), Err(KeyError::NotAKey { .. })));
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(unseal(&path, &body, FILE), Err(KeyError::Permissions { .. })));
        fs::remove_file(&path).unwrap();
        assert!(matches!(unseal(&path, &body, FILE), Err(KeyError::File { doing: "open", .. })));
    }
}
