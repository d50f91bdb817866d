//! What stands before each sealed value, and what it is bound to. Pure.
//!
//! `format 1 | generation 4 | commit version 8 | nonce 12`, numbers big endian, then the ciphertext. The additional data
//! names everything that says where the value belongs, so that a sealed value put elsewhere does not open. The commit
//! version is not bound: the commit thread writes it when the value is sealed already. It follows that whoever can write
//! the file can lie about versions, and can put an older value of the same key back; the audit log and signed backups
//! are what shows that.

use crate::engine::CommitVersion;
use sys_contract::id::OrgTag;
use sys_keys::{Generation, NONCE_BYTES, length_prefixed};

/// Bytes of a [`Header`].
pub(crate) const HEADER_BYTES: usize = VERSION_OFFSET + 8 + NONCE_BYTES;
/// Where the commit version stands in a header.
pub(crate) const VERSION_OFFSET: usize = 1 + 4;

/// How a value is laid out and sealed. A change of either is a new variant, and the old ones stay readable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Format {
    /// This header, AES-256-GCM-SIV, a protobuf message.
    V1 = 1,
}

/// The plain part of a sealed value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// The layout.
    pub(crate) format: Format,
    /// The key generation that opens the value.
    pub(crate) generation: Generation,
    /// The commit that wrote it; 0 until the commit thread has stamped it.
    pub(crate) version: CommitVersion,
    /// Random: counters would repeat in clones and restored copies.
    pub(crate) nonce: [u8; NONCE_BYTES],
}

impl Header {
    /// The header's bytes with the ciphertext behind them.
    pub(crate) fn before(&self, ciphertext: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + ciphertext.len());
        bytes.push(self.format as u8);
        bytes.extend_from_slice(&self.generation.0.to_be_bytes());
        bytes.extend_from_slice(&self.version.0.to_be_bytes());
        bytes.extend_from_slice(&self.nonce);
        bytes.extend_from_slice(ciphertext);
        bytes
    }

    /// A stored value's header and ciphertext.
    pub(crate) fn split(bytes: &[u8]) -> Result<(Self, &[u8]), HeaderError> {
        let (format, rest) = bytes.split_first().ok_or(HeaderError::Short)?;
        let format = match format {
            1 => Format::V1,
            other => return Err(HeaderError::Format(*other)),
        };
        let (generation, rest) = rest.split_first_chunk().ok_or(HeaderError::Short)?;
        let (version, rest) = rest.split_first_chunk().ok_or(HeaderError::Short)?;
        let (nonce, ciphertext) = rest.split_first_chunk().ok_or(HeaderError::Short)?;
        let header = Self {
            format,
            generation: Generation(u32::from_be_bytes(*generation)),
            version: CommitVersion(u64::from_be_bytes(*version)),
            nonce: *nonce,
        };
        Ok((header, ciphertext))
    }
}

/// Why bytes are no sealed value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Cut off.
    #[error("it is shorter than its header")]
    Short,
    /// Of a newer server, or no sealed value at all.
    #[error("its format {0} is not known to this server")]
    Format(u8),
}

/// What a value is sealed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A record of a contract.
    Record,
    /// A row of the server itself.
    SystemRow,
    /// An entry of a log. Its number is given at the commit, so that it is bound to its log, not to its place in it.
    LogEntry,
    /// What an entry of a log says, inside the entry: under keys that can go while the entry stays.
    LogContent,
    /// Where a list goes on.
    PageToken,
    /// Up to where a watch has told what is new.
    ResumeToken,
}

impl Purpose {
    const fn name(self) -> &'static str {
        match self {
            Self::Record => "record",
            Self::SystemRow => "system row",
            Self::LogEntry => "log entry",
            Self::LogContent => "log content",
            Self::PageToken => "page token",
            Self::ResumeToken => "resume token",
        }
    }
}

/// Where a sealed value belongs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) purpose: Purpose,
    pub(crate) module: &'a str,
    pub(crate) org: OrgTag,
    pub(crate) table: &'a str,
    /// The message's full name; empty where the value is no message.
    pub(crate) message: &'a str,
    /// The whole key; for a page token what it is bound to beside.
    pub(crate) key: &'a [u8],
}

impl Place<'_> {
    /// The additional data: each part with its length before it, so that no two places read alike.
    pub(crate) fn additional_data(&self, format: Format, generation: Generation) -> Vec<u8> {
        length_prefixed(&[
            self.purpose.name().as_bytes(),
            &[format as u8],
            &generation.0.to_be_bytes(),
            self.module.as_bytes(),
            self.org.as_bytes(),
            self.table.as_bytes(),
            self.message.as_bytes(),
            self.key,
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header() -> Header {
        Header { format: Format::V1, generation: Generation(3), version: CommitVersion(7), nonce: [5; 12] }
    }

    #[test]
    fn a_header_reads_back_and_has_its_version_where_the_engine_stamps_it() {
        let mut bytes = header().before(b"ciphertext");
        assert_eq!(Header::split(&bytes), Ok((header(), &b"ciphertext"[..])));
        bytes[VERSION_OFFSET..VERSION_OFFSET + 8].copy_from_slice(&9_u64.to_be_bytes());
        assert_eq!(Header::split(&bytes).unwrap().0.version, CommitVersion(9));
    }

    #[test]
    fn cut_and_unknown_values_are_told_apart() {
        let bytes = header().before(b"");
        assert_eq!(bytes.len(), HEADER_BYTES);
        for length in 0..HEADER_BYTES {
            assert_eq!(Header::split(&bytes[..length]), Err(HeaderError::Short));
        }
        assert_eq!(Header::split(&[2; 40]), Err(HeaderError::Format(2)));
    }

    proptest! {
        #[test]
        fn two_places_never_have_the_same_additional_data(
            a in ("[ab]{0,2}", "[ab]{0,2}", "[ab]{0,2}"), b in ("[ab]{0,2}", "[ab]{0,2}", "[ab]{0,2}"),
        ) {
            let data = |(module, table, message): &(String, String, String)| {
                Place { purpose: Purpose::Record, module, org: OrgTag::GLOBAL, table, message, key: b"k" }
                    .additional_data(Format::V1, Generation(1))
            };
            prop_assert_eq!(a == b, data(&a) == data(&b));
        }
    }
}
