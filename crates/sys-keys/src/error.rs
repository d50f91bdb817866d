//! What can go wrong with keys, in words for the operator. Nothing here reaches a caller over the wire.

use crate::space::SpaceId;
use std::{io, path::PathBuf};

/// Why the key file did not open, or a key was not made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// A file could not be read or written.
    #[error("cannot {doing} {}", path.display())]
    File {
        /// What was being done.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A file is replaced, and may be the old one again after a crash of the machine.
    #[error(
        "{} is replaced, but a crash of the machine may bring the one from before back, since its folder could not be written \
         to disk: keep what opens either until the disk is well, then do it again",
        path.display()
    )]
    Unsettled {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A new key file would replace one that is there, and with it all that its keys sealed.
    #[error("{} exists: it is never replaced; open it, or choose another path", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// Others than its owner may touch a file that holds keys.
    #[error("{} may be opened by others (mode {mode:04o}): allow its owner alone, as `chmod 600` does", path.display())]
    Permissions {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The content of the key file is not as it was written.
    #[error("the key file {} is refused", path.display())]
    Content {
        /// The key file.
        path: PathBuf,
        /// What is wrong with it.
        source: KeyFileError,
    },
    /// The master key is not sealed by any sealer of this kind.
    #[error("the key file does not open by a {name}; it opens by: {}", if there.is_empty() { "nothing".to_owned() } else { there.join(", ") })]
    NoSealer {
        /// The kind of sealer that was asked for.
        name: &'static str,
        /// The kinds that it has.
        there: Vec<String>,
    },
    /// No sealer of this kind opened. It does not say more, so that nobody learns how near he was.
    #[error("the master key does not open: this is not the secret that it was sealed with, and nothing else opens it")]
    Unseal,
    /// A passphrase that is too short to protect anything.
    #[error("the passphrase has fewer than {minimum_bytes} bytes: choose a longer one")]
    WeakPassphrase {
        /// The least number of bytes.
        minimum_bytes: usize,
    },
    /// The key file asks for more work than any version of this program asks for: it did not come from one.
    #[error(
        "the passphrase sealer asks for {memory_kib} KiB, {passes} passes and {lanes} lanes, which is out of bounds"
    )]
    PassphraseCost {
        /// Memory in KiB.
        memory_kib: u32,
        /// Passes over the memory.
        passes: u32,
        /// Lanes.
        lanes: u32,
    },
    /// There is not enough memory to stretch a passphrase.
    #[error("not enough memory for the passphrase sealer, which takes {memory_kib} KiB")]
    Memory {
        /// Memory in KiB.
        memory_kib: u32,
    },
    /// A file that is not a key file's outer key.
    #[error("{} is not a key made for a key file: it must have 32 bytes", path.display())]
    NotAKey {
        /// The file.
        path: PathBuf,
    },
    /// More sealers than anybody needs: each costs time when one does not open.
    #[error("the key file has {limit} sealers, which is the most it can have")]
    TooManySealers {
        /// The most that there can be.
        limit: usize,
    },
    /// Only a tablespace that has a key can get a new one.
    #[error("there is no key of tablespace {space:?} to rotate")]
    NoSuchSpace {
        /// The tablespace.
        space: SpaceId,
    },
    /// Too many generations are live: old ones must be resealed and destroyed first.
    #[error("tablespace {space:?} has {limit} live generations: reseal its records before the next rotation")]
    TooManyGenerations {
        /// The tablespace.
        space: SpaceId,
        /// The most that there can be.
        limit: usize,
    },
    /// Somebody else has written to the key file, such as a second server.
    #[error("{} was changed by another process: stop it, then start again", path.display())]
    ChangedUnderneath {
        /// The key file.
        path: PathBuf,
    },
    /// An earlier write failed in a way that leaves open what is on disk.
    #[error("{} could not be written before, so it is not written again: start again once the disk is well", path.display())]
    WriteFailedBefore {
        /// The key file.
        path: PathBuf,
    },
}

/// What is wrong with the content of a key file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// It does not begin like one.
    #[error("it is no key file, since it does not begin like one: put back its newest copy")]
    NotAKeyFile,
    /// A later version wrote it.
    #[error("it has format {found}, which this version does not read: start the version that wrote it")]
    UnknownFormat {
        /// The format's number.
        found: u16,
    },
    /// It is longer than this version reads.
    #[error("it has more than {limit_bytes} bytes, the most that a key file can have")]
    TooLong {
        /// The most that it can have.
        limit_bytes: u64,
    },
    /// Bytes are not as they were written.
    #[error(
        "the bytes at offset {offset} are damaged: restore the file from its copy. Only if the machine crashed while it \
         wrote the last key there may the file be cut to {offset} bytes instead; keep a copy of it"
    )]
    Damaged {
        /// Where the damaged part begins.
        offset: u64,
    },
    /// Somebody without the master key wrote, moved or removed a part.
    #[error("the part at offset {offset} was not written by this server: somebody changed the file; restore its copy")]
    Forged {
        /// Where the part begins.
        offset: u64,
    },
    /// A part that this version does not know, and so cannot obey.
    #[error("the part at offset {offset} has kind {kind}, which this version does not know: start a later version")]
    UnknownKind {
        /// Where the part begins.
        offset: u64,
        /// Its kind.
        kind: u8,
    },
    /// A part that is whole but makes no sense.
    #[error("the part at offset {offset} makes no sense to this version: start a later version")]
    Malformed {
        /// Where the part begins.
        offset: u64,
    },
    /// A wrapped key that is whole does not open.
    #[error("the wrapped key of generation {generation} of tablespace {space:?} does not open")]
    WrappedKey {
        /// The tablespace.
        space: SpaceId,
        /// The generation's number.
        generation: u32,
    },
}
