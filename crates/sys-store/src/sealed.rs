//! Values sealed for one place: the only way by which a plaintext becomes bytes of the engine, and back.

use crate::{
    engine::CommitVersion,
    header::{Format, Header, Place},
    refused::{SealedError, StoreError},
};
use bytes::Bytes;
use sys_keys::{Entropy, Generation, NONCE_BYTES, SpaceKeys};
use zeroize::Zeroizing;

/// A value that was opened.
#[derive(Debug)]
pub(crate) struct Opened {
    /// The generation that it was sealed under; its index entries are under the same.
    pub(crate) generation: Generation,
    /// The commit that wrote it; 0 if that is the transaction that reads it.
    pub(crate) version: CommitVersion,
    /// What was sealed. Wiped when dropped.
    pub(crate) plaintext: Zeroizing<Vec<u8>>,
}

/// Seals a value under the newest generation.
pub(crate) fn seal(keys: &SpaceKeys, place: &Place<'_>, plaintext: Vec<u8>, entropy: &dyn Entropy) -> Bytes {
    let newest = keys.newest();
    let mut nonce = [0; NONCE_BYTES];
    entropy.fill(&mut nonce);
    let header =
        Header { format: Format::V1, generation: newest.generation(), version: CommitVersion::default(), nonce };
    let data = place.additional_data(header.format, header.generation);
    header.before(&newest.seal(&data, nonce, plaintext)).into()
}

/// Opens a stored value, if it was sealed for this place.
pub(crate) fn open(keys: &SpaceKeys, place: &Place<'_>, stored: &[u8]) -> Result<Opened, StoreError> {
    let failed = |cause: SealedError| StoreError::Sealed { table: place.table.to_owned(), cause };
    let (header, ciphertext) = Header::split(stored).map_err(|cause| failed(cause.into()))?;
    let generation =
        keys.generation(header.generation).ok_or_else(|| failed(SealedError::Generation(header.generation.0)))?;
    let data = place.additional_data(header.format, header.generation);
    let plaintext = generation.open(&data, header.nonce, ciphertext).map_err(|_| failed(SealedError::Forged))?;
    Ok(Opened { generation: header.generation, version: header.version, plaintext: Zeroizing::new(plaintext) })
}
