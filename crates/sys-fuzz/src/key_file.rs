//! The key file: its frames, and what they hold.

use crate::input::edited;
use sys_keys::fuzzing::{is_authentic, key_file, layout, payload};

/// Bytes before the first frame.
const HEADER_BYTES: u64 = 34;
/// The longest payload that is written.
const MAX_PAYLOAD_BYTES: usize = 4096;

/// Any bytes are read as frames that lie behind each other, or refused. A file made of the input reads as it was written,
/// cut anywhere it gives the frames before the cut, and changed anywhere it is no longer authentic.
pub(crate) fn file(bytes: &[u8]) {
    if let Some((frames, end)) = layout(bytes) {
        assert!(end <= bytes.len() as u64, "a frame ends behind the file");
        assert!(frames.iter().is_sorted_by(|a, b| a.0 + (a.2.len() as u64) < b.0), "frames overlap");
        assert!(frames.iter().all(|(offset, ..)| (HEADER_BYTES..end).contains(offset)));
    }
    let Some((&[edits, cut, kind], rest)) = bytes.split_first_chunk() else { return };
    let (edits, rest) = rest.split_at(usize::from(edits).min(rest.len()));
    if let Some(written) = payload(kind, &rest[..rest.len().min(MAX_PAYLOAD_BYTES)]) {
        assert_eq!(written, (kind, rest.to_vec()), "a payload is written as it was read");
    }
    let frames: Vec<(u8, Vec<u8>)> = rest.chunks(100).map(|payload| (kind, payload.to_vec())).take(8).collect();
    let whole = key_file(&frames);
    let read = layout(&whole).expect("what we wrote can be read");
    assert_eq!(read.1, whole.len() as u64);
    assert_eq!(read.0.iter().map(|(_, kind, payload)| (*kind, payload.clone())).collect::<Vec<_>>(), frames);
    assert!(is_authentic(&whole), "what we wrote is authentic");

    let cut = whole.len() * usize::from(cut) / 255;
    if let Some((before, end)) = layout(&whole[..cut]) {
        assert_eq!(before, read.0[..before.len()], "a cut file has the frames before the cut");
        assert!(end <= cut as u64 && read.0.get(before.len()).is_none_or(|next| next.0 == end));
    } else {
        assert!((cut as u64) < HEADER_BYTES, "a cut is no damage");
    }
    let changed = edited(&whole, edits);
    if is_authentic(&changed) {
        // What stands behind the last whole frame is torn, and nobody reads it.
        let end = layout(&changed).map_or(0, |(_, end)| usize::try_from(end).expect("a short file"));
        assert_eq!(changed[..end], whole[..end], "a changed file is authentic");
    }
}
