//! What a commit leaves behind of each record that it wrote: a note of the change, with the state before it.
//!
//! The key is `commit version 8 | number 4` behind the table's prefix, so that notes lie in the order of commits. The value is
//! `uuid 16 | op 1 | unix seconds 8 | the state before, sealed as it stood`, without the last part if there was no record.
//! Stores of before may hold `uuid 16 | op 1` alone. The state before is what the record's own keys open, at the record's
//! own place; it goes with the note (`crate::prune`), or with the keys.

use bytes::Bytes;
use uuid::Uuid;

/// Bytes of a note of before.
pub(crate) const NOTE_WITHOUT_TIME_BYTES: usize = 16 + 1;

/// What a note says was done. The numbers are on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum ChangeOp {
    /// Created or updated.
    Put = 1,
    /// Deleted.
    Delete = 2,
}

/// A note, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Note {
    /// Which record.
    pub(crate) uuid: Uuid,
    /// What was done.
    pub(crate) op: ChangeOp,
    /// The time of the call that did it; 0 if that was not noted.
    pub(crate) unix_s: i64,
    /// Its sealed bytes before; none if there was no record.
    pub(crate) before: Option<Bytes>,
}

impl Note {
    pub(crate) fn to_bytes(&self) -> Bytes {
        let before = self.before.as_deref().unwrap_or_default();
        let mut bytes = Vec::with_capacity(NOTE_WITHOUT_TIME_BYTES + 8 + before.len());
        bytes.extend_from_slice(self.uuid.as_bytes());
        bytes.push(self.op as u8);
        bytes.extend_from_slice(&self.unix_s.to_be_bytes());
        bytes.extend_from_slice(before);
        bytes.into()
    }

    pub(crate) fn from_bytes(bytes: &Bytes) -> Option<Self> {
        let (uuid, rest) = bytes.split_first_chunk()?;
        let (op, rest) = rest.split_first()?;
        let op = match *op {
            op if op == ChangeOp::Put as u8 => ChangeOp::Put,
            op if op == ChangeOp::Delete as u8 => ChangeOp::Delete,
            _ => return None,
        };
        let uuid = Uuid::from_bytes(*uuid);
        if rest.is_empty() {
            return Some(Self { uuid, op, unix_s: 0, before: None });
        }
        let (unix_s, before) = rest.split_first_chunk()?;
        let before = (!before.is_empty()).then(|| bytes.slice_ref(before));
        Some(Self { uuid, op, unix_s: i64::from_be_bytes(*unix_s), before })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn notes_of_before_had_no_time_and_no_state() {
        let bytes = Bytes::from([[7; 16].as_slice(), &[2]].concat());
        let note = Note { uuid: Uuid::from_bytes([7; 16]), op: ChangeOp::Delete, unix_s: 0, before: None };
        assert_eq!(Note::from_bytes(&bytes), Some(note));
        for odd in [&bytes[..16], &[&bytes[..16], &[3]].concat(), &[&bytes[..], &[0; 7]].concat()] {
            assert_eq!(Note::from_bytes(&Bytes::copy_from_slice(odd)), None, "{odd:?}");
        }
    }

    proptest! {
        #[test]
        fn notes_read_back(uuid: [u8; 16], put: bool, unix_s: i64, before: Vec<u8>) {
            let op = if put { ChangeOp::Put } else { ChangeOp::Delete };
            let before = Some(Bytes::from(before)).filter(|before| !before.is_empty());
            let note = Note { uuid: Uuid::from_bytes(uuid), op, unix_s, before };
            prop_assert_eq!(Note::from_bytes(&note.to_bytes()), Some(note));
        }
    }
}
