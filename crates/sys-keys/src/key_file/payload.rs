//! What the frames of a key file hold. Pure.

use super::frame::Frame;
use crate::{
    error::KeyFileError,
    hierarchy::WrappedKey,
    parts::take,
    space::{Generation, SpaceId},
};
use sys_contract::id::OrgTag;

const SEALER: u8 = 1;
const WRAPPED: u8 = 2;

/// The content of a frame. A kind that is not among these stops the reading: a later version may have meant "this key is
/// destroyed", and to go on as if it had not would bring the key back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Payload {
    Sealer(SealerFrame),
    Wrapped(WrappedFrame),
}

/// The master key, sealed. `name length 1 | name | body`; what the body means is the sealer's affair. A sealer that this
/// version does not know is kept and skipped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SealerFrame {
    pub(crate) name: String,
    pub(crate) body: Vec<u8>,
}

/// One generation of a tablespace's key, wrapped. `module 2 | org tag 6 | generation 4 | wrapped key 92`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WrappedFrame {
    pub(crate) space: SpaceId,
    pub(crate) generation: Generation,
    pub(crate) wrapped: WrappedKey,
}

impl Payload {
    pub(crate) fn kind(&self) -> u8 {
        match self {
            Self::Sealer(_) => SEALER,
            Self::Wrapped(_) => WRAPPED,
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Sealer(SealerFrame { name, body }) => {
                let length = u8::try_from(name.len()).unwrap_or(u8::MAX);
                [&[length][..], name.as_bytes(), body].concat()
            }
            Self::Wrapped(WrappedFrame { space, generation, wrapped }) => {
                [&space.module.to_be_bytes()[..], space.org.as_bytes(), &generation.0.to_be_bytes(), &wrapped.encode()]
                    .concat()
            }
        }
    }

    pub(crate) fn read(frame: &Frame<'_>) -> Result<Self, KeyFileError> {
        let offset = frame.offset;
        let payload = match frame.kind {
            SEALER => read_sealer(frame.payload).map(Self::Sealer),
            WRAPPED => read_wrapped(frame.payload).map(Self::Wrapped),
            kind => return Err(KeyFileError::UnknownKind { offset, kind }),
        };
        payload.ok_or(KeyFileError::Malformed { offset })
    }
}

fn read_sealer(mut input: &[u8]) -> Option<SealerFrame> {
    let [length] = take(&mut input)?;
    let (name, body) = input.split_at_checked(usize::from(length))?;
    Some(SealerFrame { name: str::from_utf8(name).ok()?.to_owned(), body: body.to_vec() })
}

fn read_wrapped(mut input: &[u8]) -> Option<WrappedFrame> {
    let module = u16::from_be_bytes(take(&mut input)?);
    let org = OrgTag::from_bytes(take(&mut input)?);
    let generation = Generation(u32::from_be_bytes(take(&mut input)?));
    let wrapped = WrappedKey::read(&mut input)?;
    input.is_empty().then_some(WrappedFrame { space: SpaceId { module, org }, generation, wrapped })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        deterministic::SeededEntropy,
        hierarchy::MasterKey,
        key_file::{FileId, Layout, frame},
        secret::Secret,
    };
    use proptest::prelude::*;

    /// What a reader sees of a frame of this kind with this payload.
    fn read(kind: u8, payload: &[u8]) -> Result<Payload, KeyFileError> {
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &[1; 32]);
        let mut bytes = frame::header(FileId([1; 16]));
        let mut chain = frame::Chain::start(&key, &bytes);
        bytes.extend(frame::encode(bytes.len() as u64, kind, payload, &mut chain));
        Payload::read(Layout::read(&bytes).unwrap().frames.first().unwrap())
    }

    fn wrapped() -> Payload {
        let entropy = SeededEntropy::danger_from_seed(1);
        let space = SpaceId { module: 0x1234, org: OrgTag::from_bytes([1, 2, 3, 4, 5, 6]) };
        let generation = Generation(0x89ab_cdef);
        let wrapped = MasterKey::random(&entropy).wrap(space, generation, [9; 12], &Secret::random(&entropy));
        Payload::Wrapped(WrappedFrame { space, generation, wrapped })
    }

    #[test]
    fn payloads_are_read_as_they_were_written() {
        let sealer = Payload::Sealer(SealerFrame { name: "tpm2".to_owned(), body: vec![1, 2, 3] });
        for payload in [sealer, wrapped()] {
            assert_eq!(read(payload.kind(), &payload.encode()), Ok(payload));
        }
    }

    #[test]
    fn what_is_unknown_or_makes_no_sense_is_refused() {
        let offset = frame::HEADER_BYTES as u64;
        assert_eq!(read(3, b""), Err(KeyFileError::UnknownKind { offset, kind: 3 }));
        let bytes = wrapped().encode();
        for other in [&bytes[1..], &[&bytes[..], &[0]].concat(), b""] {
            assert_eq!(read(WRAPPED, other), Err(KeyFileError::Malformed { offset }));
        }
        for other in [&b""[..], b"\x05tpm2", b"\x01\xff"] {
            assert_eq!(read(SEALER, other), Err(KeyFileError::Malformed { offset }));
        }
    }

    proptest! {
        #[test]
        fn no_payload_makes_it_panic(kind in 0_u8..4, payload in proptest::collection::vec(any::<u8>(), 0..130)) {
            if let Ok(read) = read(kind, &payload) {
                prop_assert_eq!(read.encode(), payload);
            }
        }
    }
}
