//! The format of the key file: header and frames. Pure; what a frame holds is no matter here.
//!
//! ```text
//! header  magic 8 | format 2 | file id 16 | check 8
//! frame   length of payload 4 | kind 1 | check of these and the frame's offset 4 | payload | MAC 32 | check 8
//! ```
//!
//! Numbers are big endian. A check is the beginning of a SHA-256: it finds damage before there is a key. The MAC is
//! `HMAC-SHA256(HKDF(master key, "sys/key-file/v1"), MAC before | length | kind | check | payload)`, and the MAC before the
//! first frame is that of the header: it finds whatever somebody without the master key changed, moved, repeated or took
//! out. What it cannot find is a file cut behind a whole frame: that is an earlier state of the same file, whose later keys
//! are lost, and the records under them do not open.

use crate::{error::KeyFileError, parts::take};
use aws_lc_rs::{constant_time, digest, hmac};
use std::fmt;

/// Bytes of the header.
pub(crate) const HEADER_BYTES: usize = MAGIC.len() + 2 + FILE_ID_BYTES + CHECK_BYTES;

const MAGIC: [u8; 8] = *b"sys-keys";
const FILE_ID_BYTES: usize = 16;
const CHECK_BYTES: usize = 8;
/// Length and kind.
const HEAD_BYTES: usize = 5;
const HEAD_CHECK_BYTES: usize = 4;
const MAC_BYTES: usize = 32;
/// The longest payload. A TPM's sealed blob has less than 2 KiB; nothing else comes near.
const PAYLOAD_BYTES_MAX: usize = 4096;

/// The formats that there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    V1 = 1,
}

/// Tells key files apart: a sealer's frame opens in its own file only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileId(pub(crate) [u8; FILE_ID_BYTES]);

/// The header of a new file.
pub(crate) fn header(id: FileId) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend((Format::V1 as u16).to_be_bytes());
    bytes.extend(id.0);
    bytes.extend(check::<CHECK_BYTES>(&[&bytes]));
    bytes
}

/// The next frame, at `offset`. The chain goes on to it.
pub(crate) fn encode(offset: u64, kind: u8, payload: &[u8], chain: &mut Chain) -> Vec<u8> {
    debug_assert!(payload.len() <= PAYLOAD_BYTES_MAX);
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.push(kind);
    bytes.extend(check::<HEAD_CHECK_BYTES>(&[&offset.to_be_bytes(), &bytes]));
    bytes.extend(payload);
    bytes.extend(chain.next(&bytes));
    bytes.extend(check::<CHECK_BYTES>(&[&bytes]));
    bytes
}

/// A key file's bytes, taken apart. No frame has been authenticated.
#[derive(Debug)]
pub(crate) struct Layout<'a> {
    pub(crate) id: FileId,
    pub(crate) header: &'a [u8],
    pub(crate) frames: Vec<Frame<'a>>,
    /// Where the last whole frame ends. What follows is torn.
    pub(crate) end: u64,
}

/// One whole frame.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame<'a> {
    pub(crate) offset: u64,
    pub(crate) kind: u8,
    pub(crate) payload: &'a [u8],
    /// All that the MAC covers.
    covered: &'a [u8],
    mac: &'a [u8; MAC_BYTES],
}

impl<'a> Layout<'a> {
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self, KeyFileError> {
        let (header, mut rest) = bytes.split_at_checked(HEADER_BYTES).ok_or(KeyFileError::NotAKeyFile)?;
        let id = read_header(header)?;
        let mut frames = Vec::new();
        let mut offset = HEADER_BYTES as u64;
        while let Some((frame, after)) = Frame::read(offset, rest)? {
            offset += (rest.len() - after.len()) as u64;
            rest = after;
            frames.push(frame);
        }
        Ok(Self { id, header, frames, end: offset })
    }
}

fn read_header(header: &[u8]) -> Result<FileId, KeyFileError> {
    let mut input = header.strip_prefix(&MAGIC).ok_or(KeyFileError::NotAKeyFile)?;
    let (Some(format), Some(id), Some(expected)) = (take(&mut input), take(&mut input), take(&mut input)) else {
        return Err(KeyFileError::NotAKeyFile);
    };
    let checked = header.get(..HEADER_BYTES - CHECK_BYTES).unwrap_or_default();
    if check::<CHECK_BYTES>(&[checked]) != expected {
        return Err(KeyFileError::Damaged { offset: 0 });
    }
    match u16::from_be_bytes(format) {
        known if known == Format::V1 as u16 => Ok(FileId(id)),
        found => Err(KeyFileError::UnknownFormat { found }),
    }
}

impl<'a> Frame<'a> {
    /// The frame at the beginning of `bytes` and what follows it; `None` if they end inside it.
    fn read(offset: u64, bytes: &'a [u8]) -> Result<Option<(Self, &'a [u8])>, KeyFileError> {
        let mut input = bytes;
        let (Some(head), Some(head_check)) = (take::<HEAD_BYTES>(&mut input), take(&mut input)) else {
            return Ok(None);
        };
        // First of all: a length that cannot be trusted would make damage look like a torn end.
        if check::<HEAD_CHECK_BYTES>(&[&offset.to_be_bytes(), &head]) != head_check {
            return Err(KeyFileError::Damaged { offset });
        }
        let [length @ .., kind] = head;
        let length = match usize::try_from(u32::from_be_bytes(length)) {
            Ok(length) if length <= PAYLOAD_BYTES_MAX => length,
            _ => return Err(KeyFileError::Malformed { offset }),
        };
        let Some((covered, after)) = bytes.split_at_checked(HEAD_BYTES + HEAD_CHECK_BYTES + length) else {
            return Ok(None);
        };
        let payload = input.get(..length).unwrap_or_default();
        let Some((mac, after)) = after.split_first_chunk() else { return Ok(None) };
        let Some((expected, after)) = after.split_first_chunk() else { return Ok(None) };
        if check::<CHECK_BYTES>(&[covered, mac]) != *expected {
            return Err(KeyFileError::Damaged { offset });
        }
        Ok(Some((Self { offset, kind, payload, covered, mac }, after)))
    }
}

/// Authenticates frames in their order.
#[derive(Clone)]
pub(crate) struct Chain {
    key: hmac::Key,
    last: [u8; MAC_BYTES],
}

impl Chain {
    pub(crate) fn start(key: &hmac::Key, header: &[u8]) -> Self {
        let mut chain = Self { key: key.clone(), last: [0; MAC_BYTES] };
        chain.next(header);
        chain
    }

    /// Goes on to a frame that was read, if it was written behind the last one with the master key.
    pub(crate) fn verify(&mut self, frame: &Frame<'_>) -> Result<(), KeyFileError> {
        constant_time::verify_slices_are_equal(&self.next(frame.covered), frame.mac)
            .map_err(|_| KeyFileError::Forged { offset: frame.offset })
    }

    fn next(&mut self, covered: &[u8]) -> [u8; MAC_BYTES] {
        let mut mac = hmac::Context::with_key(&self.key);
        mac.update(&self.last);
        mac.update(covered);
        self.last.iter_mut().zip(mac.sign().as_ref()).for_each(|(to, from)| *to = *from);
        self.last
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Chain")
    }
}

/// The beginning of the SHA-256 of the parts.
fn check<const N: usize>(parts: &[&[u8]]) -> [u8; N] {
    let mut hash = digest::Context::new(&digest::SHA256);
    parts.iter().for_each(|part| hash.update(part));
    let mut check = [0; N];
    check.iter_mut().zip(hash.finish().as_ref()).for_each(|(to, from)| *to = *from);
    check
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: FileId = FileId([9; FILE_ID_BYTES]);

    fn key(byte: u8) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &[byte; 32])
    }

    fn file(payloads: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = header(ID);
        let mut chain = Chain::start(&key(1), &bytes);
        for payload in payloads {
            bytes.extend(encode(bytes.len() as u64, 7, payload, &mut chain));
        }
        bytes
    }

    /// The payloads of a file whose frames are all authentic, and where the last one ends.
    fn read(bytes: &[u8], key: &hmac::Key) -> Result<(Vec<Vec<u8>>, u64), KeyFileError> {
        let layout = Layout::read(bytes)?;
        let mut chain = Chain::start(key, layout.header);
        layout.frames.iter().try_for_each(|frame| chain.verify(frame))?;
        Ok((layout.frames.iter().map(|frame| frame.payload.to_vec()).collect(), layout.end))
    }

    fn payloads() -> impl Strategy<Value = Vec<Vec<u8>>> {
        proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 1..5)
    }

    proptest! {
        #[test]
        fn frames_are_read_as_they_were_written(payloads in payloads()) {
            let bytes = file(&payloads);
            prop_assert_eq!(read(&bytes, &key(1)), Ok((payloads, bytes.len() as u64)));
        }

        #[test]
        fn a_file_cut_anywhere_gives_the_whole_frames_before_the_cut(payloads in payloads(), at: prop::sample::Index) {
            let bytes = file(&payloads);
            let cut = HEADER_BYTES + at.index(bytes.len() - HEADER_BYTES + 1);
            let whole = (0..=payloads.len()).rev().find(|count| file(&payloads[..*count]).len() <= cut).unwrap();
            let end = file(&payloads[..whole]).len() as u64;
            prop_assert_eq!(read(&bytes[..cut], &key(1)), Ok((payloads[..whole].to_vec(), end)));
        }

        #[test]
        fn a_flipped_bit_anywhere_is_refused(payloads in payloads(), at: prop::sample::Index) {
            let mut bytes = file(&payloads);
            let bit = at.index(8 * bytes.len());
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(read(&bytes, &key(1)).is_err());
        }

        #[test]
        fn no_bytes_make_it_panic(tail in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Layout::read(&tail);
            let mut bytes = header(ID);
            bytes.extend(&tail);
            // 9 bytes that are a frame's head by chance come once in 2^32.
            prop_assert_eq!(Layout::read(&bytes).is_ok(), tail.len() < HEAD_BYTES + HEAD_CHECK_BYTES);
        }
    }

    #[test]
    fn frames_that_somebody_moved_repeated_took_out_or_made_are_refused() {
        let (a, b, c) = (vec![1; 20], vec![2; 20], vec![3; 20]);
        let bytes = file(&[a.clone(), b.clone(), c.clone()]);
        let frame = (bytes.len() - HEADER_BYTES) / 3;
        let part = |index: usize| &bytes[HEADER_BYTES + index * frame..][..frame];
        // The head's check names the offset. Whoever changes a file can compute it, so it is put right here.
        let arranged = |order: &[usize]| {
            let mut arranged = bytes[..HEADER_BYTES].to_vec();
            for index in order {
                let offset = arranged.len() as u64;
                let mut moved = part(*index).to_vec();
                let head_check: [u8; HEAD_CHECK_BYTES] = check(&[&offset.to_be_bytes(), &moved[..HEAD_BYTES]]);
                moved[HEAD_BYTES..][..HEAD_CHECK_BYTES].copy_from_slice(&head_check);
                let body = moved.len() - CHECK_BYTES;
                let whole: [u8; CHECK_BYTES] = check(&[&moved[..body]]);
                moved[body..].copy_from_slice(&whole);
                arranged.extend(moved);
            }
            arranged
        };
        assert_eq!(read(&arranged(&[0, 1, 2]), &key(1)), Ok((vec![a, b, c], bytes.len() as u64)));
        for order in [&[1, 0, 2][..], &[0, 2], &[0, 0, 1, 2], &[0, 1, 1], &[1]] {
            assert!(matches!(read(&arranged(order), &key(1)), Err(KeyFileError::Forged { .. })), "{order:?}");
        }
        assert_eq!(read(&bytes, &key(2)), Err(KeyFileError::Forged { offset: HEADER_BYTES as u64 }));
    }

    /// Two files can grow from one, as when an old copy comes back: each is authentic, a mixture is not.
    #[test]
    fn a_frame_of_another_history_of_the_same_file_is_refused() {
        let (here, there) =
            (file(&[vec![1; 20], vec![2; 20], vec![3; 20]]), file(&[vec![1; 20], vec![7; 20], vec![8; 20]]));
        let last = here.len() - (here.len() - HEADER_BYTES) / 3;
        let mixed = [&here[..last], &there[last..]].concat();
        assert_eq!(read(&mixed, &key(1)), Err(KeyFileError::Forged { offset: last as u64 }));
        let mixed = [&header(FileId([8; FILE_ID_BYTES])), &here[HEADER_BYTES..]].concat();
        assert_eq!(read(&mixed, &key(1)), Err(KeyFileError::Forged { offset: HEADER_BYTES as u64 }));
    }

    #[test]
    fn other_files_and_later_formats_are_refused() {
        assert_eq!(read(b"", &key(1)), Err(KeyFileError::NotAKeyFile));
        assert_eq!(read(&[0; 100], &key(1)), Err(KeyFileError::NotAKeyFile));
        assert_eq!(read(&header(ID)[..HEADER_BYTES - 1], &key(1)), Err(KeyFileError::NotAKeyFile));
        let mut later = header(ID);
        later[9] = 2;
        let whole: [u8; CHECK_BYTES] = check(&[&later[..HEADER_BYTES - CHECK_BYTES]]);
        later[HEADER_BYTES - CHECK_BYTES..].copy_from_slice(&whole);
        assert_eq!(read(&later, &key(1)), Err(KeyFileError::UnknownFormat { found: 2 }));
    }

    #[test]
    fn damage_names_its_place() {
        let bytes = file(&[vec![1; 20], vec![2; 20]]);
        let second = HEADER_BYTES + (bytes.len() - HEADER_BYTES) / 2;
        let mut damaged = bytes.clone();
        damaged[second + 15] ^= 4;
        assert_eq!(read(&damaged, &key(1)), Err(KeyFileError::Damaged { offset: second as u64 }));
        // A length that points behind the end is damage, too, and no torn end.
        let mut longer = bytes;
        longer[second + 2] ^= 1;
        assert_eq!(read(&longer, &key(1)), Err(KeyFileError::Damaged { offset: second as u64 }));
    }
}
