//! Frames as they are written, read again, torn and changed.

use super::*;
use proptest::prelude::*;

const GENERATION: u64 = 0x0123_4567_89ab_cdef;

type OwnRow = (Vec<u8>, Option<Vec<u8>>);

/// A half of a log with one frame for each batch, each one version further, and where each frame ends.
fn half(batches: &[Vec<OwnRow>]) -> (Vec<u8>, Vec<usize>) {
    half_of(GENERATION, batches)
}

fn half_of(generation: u64, batches: &[Vec<OwnRow>]) -> (Vec<u8>, Vec<usize>) {
    let mut bytes = Vec::new();
    let mut ends = Vec::new();
    let mut draft = Draft::new(1 << 20);
    draft.begin(generation, 7);
    bytes.extend(draft.finish(7));
    for (batch, version) in batches.iter().zip(7..) {
        draft.begin(generation, version);
        batch.iter().for_each(|(key, value)| draft.push(key, value.as_deref()));
        bytes.extend(draft.finish(version + 1));
        ends.push(bytes.len());
    }
    bytes.extend(vec![0; 2 * PAGE_BYTES]);
    (bytes, ends)
}

fn rows_of(chain: &Chain<'_>) -> Vec<Vec<OwnRow>> {
    let own = |row: LoggedRow<'_>| (row.0.to_vec(), row.1.map(<[u8]>::to_vec));
    let rows = |frame: &Frame<'_>| frame.rows().map(|row| own(row.unwrap())).collect();
    chain.frames.iter().skip(1).map(rows).collect()
}

fn batches() -> impl Strategy<Value = Vec<Vec<OwnRow>>> {
    let key = proptest::collection::vec(any::<u8>(), 1..=MAX_KEY_BYTES);
    let value = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..3_000));
    proptest::collection::vec(proptest::collection::vec((key, value), 0..6), 1..5)
}

proptest! {
    #[test]
    fn batches_are_read_as_they_were_written(batches in batches()) {
        let (bytes, _) = half(&batches);
        let chain = read(&bytes, GENERATION);
        prop_assert_eq!(chain.damaged_at, None);
        prop_assert_eq!(rows_of(&chain), batches);
        prop_assert!(read(&bytes, GENERATION + 1).frames.is_empty());
    }

    #[test]
    fn a_flipped_bit_is_damage_in_all_but_the_last_frame_and_never_another_row(
        batches in batches(), at: prop::sample::Index, bit in 0..8,
    ) {
        let (mut bytes, ends) = half(&batches);
        let at = at.index(*ends.last().unwrap());
        bytes[at] ^= 1_u8 << bit;
        let chain = read(&bytes, GENERATION);
        match ends.iter().position(|end| at < *end) {
            // Where a generation begins nothing says that there was one; who names it knows.
            _ if at < PAGE_BYTES => prop_assert!(chain.frames.is_empty() && chain.damaged_at.is_none()),
            Some(frame) => {
                let last = frame + 1 == batches.len();
                prop_assert_eq!(chain.damaged_at.is_some(), !last);
                prop_assert_eq!(&rows_of(&chain)[..], &batches[..frame]);
            }
            None => unreachable!("a byte of a frame"),
        }
    }

    #[test]
    fn no_bytes_make_it_panic(tail in proptest::collection::vec(any::<u8>(), 0..300)) {
        let (mut bytes, _) = half(&[]);
        bytes.splice(PAGE_BYTES.., [&MAGIC[..], &GENERATION.to_be_bytes(), &tail].concat());
        prop_assert_eq!(read(&bytes, GENERATION).frames.len(), 1);
        let _ = split_row(&tail);
    }
}

/// What a power cut leaves of the frame that was under way, over an older frame or over nothing.
#[test]
fn a_last_frame_torn_at_any_byte_is_dropped_and_nothing_before_it() {
    let row = |n: u8| vec![(vec![n; 9], Some(vec![n; 2_500])), (vec![n, n], None)];
    let (written, ends) = half(&[row(1), row(2), row(3)]);
    let (start, end) = (ends[1], ends[2]);
    let (older, _) = half_of(GENERATION - 1, &[row(9), row(8), row(7)]);
    for behind in [vec![0; written.len()], older] {
        for cut in start..end {
            let torn = [&written[..cut], &behind[cut..]].concat();
            let chain = read(&torn, GENERATION);
            assert_eq!((chain.frames.len(), chain.damaged_at), (3, None), "cut at {cut}");
        }
        assert_eq!(read(&written, GENERATION).frames.len(), 4);
    }
}

#[test]
fn frames_that_somebody_moved_or_repeated_are_damage() {
    let row = |n: u8| vec![(vec![n], Some(vec![n]))];
    let (bytes, _) = half(&[row(1), row(2), row(3)]);
    let page = |n: usize| &bytes[n * PAGE_BYTES..][..PAGE_BYTES];
    let arranged = |order: &[usize]| order.iter().flat_map(|n| page(*n)).copied().collect::<Vec<_>>();
    assert_eq!(read(&arranged(&[0, 1, 2, 3]), GENERATION).damaged_at, None);
    for order in [&[0, 2, 1, 3][..], &[0, 1, 3], &[0, 1, 1, 2], &[0, 0, 1], &[0, 3]] {
        assert!(read(&arranged(order), GENERATION).damaged_at.is_some(), "{order:?}");
    }
    assert!(read(&arranged(&[1, 2]), GENERATION).frames.is_empty());
}

#[test]
fn what_does_not_fit_is_known_before_it_is_written() {
    let mut draft = Draft::new(2 * PAGE_BYTES);
    draft.begin(GENERATION, 0);
    draft.push(b"key", Some(&vec![0; 2 * PAGE_BYTES - HEAD_BYTES - SUM_BYTES - ROW_HEAD_BYTES - 3]));
    assert_eq!(draft.size_bytes(), Some(2 * PAGE_BYTES));
    assert_eq!(draft.finish(1).len(), 2 * PAGE_BYTES);
    draft.begin(GENERATION, 1);
    draft.push(b"key", Some(&vec![0; 2 * PAGE_BYTES]));
    draft.push(b"key", None);
    assert_eq!((draft.size_bytes(), draft.rows()), (None, 2));
    draft.begin(GENERATION, 1);
    assert_eq!((draft.size_bytes(), draft.rows()), (Some(PAGE_BYTES), 0));
}
