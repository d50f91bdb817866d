//! A leaf: what an entry of the log says, in the bytes that are hashed.
//!
//! A leaf names ids, grants and reasons, never values. It is salted, so that its hash says nothing to those who may not read
//! the leaf, nor to anybody once the leaf is gone.

use crate::connection::{Connection, DeviceKey};
use sys_contract::id::{RECORD_ID_BYTES, RecordId};

/// Random bytes in a leaf.
pub const SALT_BYTES: usize = 16;
/// The outcome of a call that was let through.
pub const OK: &str = "OK";
/// The outcome of a stream that was let through, when it had come to its end.
pub const ENDED: &str = "ENDED";

/// What a leaf says. Its protobuf form, as it was first written, is what is hashed.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Leaf {
    /// Unix seconds of the call.
    #[prost(int64, tag = "1")]
    pub unix_s: i64,
    /// Nanoseconds beside them.
    #[prost(int32, tag = "2")]
    pub nanos: i32,
    /// The method's path.
    #[prost(string, tag = "3")]
    pub method: String,
    /// The caller's account, in text; empty for an anonymous caller.
    #[prost(string, tag = "4")]
    pub account_id: String,
    /// The caller's session.
    #[prost(string, tag = "5")]
    pub session_id: String,
    /// `OK`, `ENDED`, or the reason of the refusal.
    #[prost(string, tag = "6")]
    pub outcome: String,
    /// The records that were written or that the call was judged on: org tag and UUID, 22 bytes each.
    #[prost(bytes = "vec", repeated, tag = "7")]
    pub records: Vec<Vec<u8>>,
    /// The number of the grant that allowed it, counted from 0 in the contract's order; absent where it took none.
    #[prost(uint32, optional, tag = "8")]
    pub grant: Option<u32>,
    /// Refusals without a leaf of their own, since there were too many; then only the time and the account stand beside it, which
    /// is empty for all who are not known.
    #[prost(uint64, tag = "9")]
    pub lost: u64,
    /// Random, so that nobody finds the leaf by guessing what has this hash.
    #[prost(bytes = "vec", tag = "10")]
    pub salt: Vec<u8>,
    /// The retention was applied: what the entries below this number said was about to be erased.
    #[prost(uint64, tag = "11")]
    pub erased_below: u64,
    /// The operator imported so many records; the first and the last of them are named.
    #[prost(uint64, tag = "12")]
    pub imported: u64,
    /// The connection that the call came on; absent where that was no TLS, and for the server itself.
    #[prost(message, optional, tag = "13")]
    pub connection: Option<Connection>,
    /// What the key of a device had to do with it.
    #[prost(enumeration = "DeviceKey", tag = "14")]
    pub device_key: i32,
}

impl Leaf {
    /// Says how many records an import brought.
    #[must_use]
    pub fn imported(mut self, records: u64) -> Self {
        self.imported = records;
        self
    }

    /// Names these records beside those that it names already.
    #[must_use]
    pub fn records(mut self, ids: impl IntoIterator<Item = RecordId>) -> Self {
        for id in ids {
            let bytes = id.to_bytes().to_vec();
            if !self.records.contains(&bytes) {
                self.records.push(bytes);
            }
        }
        self
    }

    /// The records that it names. What is no id is left out; no leaf of a server has such a thing.
    pub fn record_ids(&self) -> impl Iterator<Item = RecordId> {
        self.records.iter().filter_map(|bytes| {
            let bytes: [u8; RECORD_ID_BYTES] = bytes.as_slice().try_into().ok()?;
            Some(RecordId::from_bytes(bytes))
        })
    }

    /// Whether the call was let through.
    pub fn is_ok(&self) -> bool {
        self.outcome == OK || self.outcome == ENDED
    }

    /// The leaf of a call that was refused for this reason.
    #[must_use]
    pub fn refused(mut self, reason: &str) -> Self {
        reason.clone_into(&mut self.outcome);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;

    /// As they were written before there were connections: the hash of what is stored must stay.
    #[test]
    fn a_leaf_that_says_nothing_of_its_connection_has_the_bytes_that_it_always_had() {
        let leaf = Leaf { unix_s: 1, method: "a.v1.A/One".to_owned(), outcome: OK.to_owned(), ..Leaf::default() };
        let mut bytes = vec![0x08, 1, 0x1a, 10];
        bytes.extend_from_slice(b"a.v1.A/One");
        bytes.extend_from_slice(&[0x32, 2, b'O', b'K']);
        assert_eq!(leaf.encode_to_vec(), bytes);
        assert_eq!(Leaf::decode(bytes.as_slice()), Ok(leaf));
    }

    #[test]
    fn a_leaf_says_how_its_call_came() {
        let connection = Connection { version: 0x0304, group: 0x11ec, ech_accepted: true, certificate: vec![7; 8] };
        let device_key = DeviceKey::NotShown.into();
        let leaf = Leaf { connection: Some(connection), device_key, ..Leaf::default() };
        let read = Leaf::decode(leaf.encode_to_vec().as_slice()).unwrap();
        assert_eq!((read.device_key(), read), (DeviceKey::NotShown, leaf));
    }
}
