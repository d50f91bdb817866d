//! How a batch stands in the log: one frame, of whole pages.
//!
//! Pure. A frame is `magic | generation | base | version | rows' length | rows | zeros | sum`, numbers of 8 bytes big endian and
//! the length of 4; the sum is SHA-256 of all before it, and the last thing that is written. `base` is the version of the
//! store before the batch and `version` the one after it, so that frames which follow each other chain. What must never happen
//! here: a frame that is believed though a byte of it is not what was written.

use crate::engine::MAX_KEY_BYTES;
use aws_lc_rs::digest::{SHA256, digest};

/// Frames begin at multiples of this, so that none shares a page with an older one: what was acknowledged is never written
/// again. And what kernels write as one.
pub(crate) const PAGE_BYTES: usize = 4_096;

/// Marks a frame of the first format.
const MAGIC: [u8; 8] = *b"sys.wal\x01";
const NUMBER_BYTES: usize = 8;
const LENGTH_BYTES: usize = 4;
const HEAD_BYTES: usize = MAGIC.len() + 3 * NUMBER_BYTES + LENGTH_BYTES;
const SUM_BYTES: usize = 32;
/// Before each row: the length of its key in 2 bytes, of its value in 4.
const ROW_HEAD_BYTES: usize = 2 + LENGTH_BYTES;
/// So much memory is kept from one frame to the next.
const KEPT_BYTES: usize = 1 << 20;
/// The length of the value of a row that is deleted. No value is so long.
const DELETED: u32 = u32::MAX;

/// The log of one generation, as far as it can be read.
#[derive(Debug, Default)]
pub(crate) struct Chain<'a> {
    /// Its frames. The first has no rows, and says where the generation begins.
    pub(crate) frames: Vec<Frame<'a>>,
    /// Where a frame cannot be read though later ones can: what was acknowledged is damaged, unlike a torn end, behind which
    /// nothing was ever written.
    pub(crate) damaged_at: Option<usize>,
}

/// One batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    /// The version of the store before it.
    pub(crate) base: u64,
    /// The version of the store after it.
    pub(crate) version: u64,
    rows: &'a [u8],
    size_bytes: usize,
}

/// What a batch leaves of a key: `None` is no row.
pub(crate) type LoggedRow<'a> = (&'a [u8], Option<&'a [u8]>);

/// Reads the frames of a generation from the start of `bytes`. None at all, if it does not begin there.
pub(crate) fn read(bytes: &[u8], generation: u64) -> Chain<'_> {
    chain(bytes, generation, 0, |first| first.base == first.version && first.rows.is_empty())
}

/// The same where the frame that the generation begins with, one page, cannot be read: those behind it, if they lead on from
/// this version of the store.
pub(crate) fn read_without_beginning(bytes: &[u8], generation: u64, version: u64) -> Chain<'_> {
    chain(bytes, generation, PAGE_BYTES, |first| first.base == version && first.version > version)
}

fn chain<'a>(bytes: &'a [u8], generation: u64, start: usize, is_first: impl Fn(&Frame<'a>) -> bool) -> Chain<'a> {
    let mut chain = Chain::default();
    let mut end = start;
    while let Some(frame) = Frame::parse(bytes.get(end..).unwrap_or_default(), generation) {
        let follows = match chain.frames.last() {
            Some(last) => frame.base == last.version && frame.version > frame.base,
            None => is_first(&frame),
        };
        if !follows {
            break;
        }
        end += frame.size_bytes;
        chain.frames.push(frame);
    }
    // Only one frame is ever under way. If one that comes later was written, the one here was synced and acknowledged.
    let behind = bytes.chunks(PAGE_BYTES).enumerate().skip(end / PAGE_BYTES).map(|(page, _)| page * PAGE_BYTES);
    let mut written = behind.filter(|at| Frame::parse(bytes.get(*at..).unwrap_or_default(), generation).is_some());
    if !chain.frames.is_empty() && written.next().is_some() {
        chain.damaged_at = Some(end);
    }
    chain
}

/// The generation that a frame at the start of `bytes` says it is of.
pub(crate) fn generation_of(bytes: &[u8]) -> Option<u64> {
    number(bytes.strip_prefix(&MAGIC)?).map(|(generation, _)| generation)
}

/// Whether a generation begins at the start of `bytes`.
pub(crate) fn begins(bytes: &[u8], generation: u64) -> bool {
    Frame::parse(bytes, generation).is_some_and(|frame| frame.base == frame.version && frame.rows.is_empty())
}

impl<'a> Frame<'a> {
    /// The frame at the start of `bytes`, if one of this generation is there and whole.
    fn parse(bytes: &'a [u8], generation: u64) -> Option<Self> {
        let rest = bytes.strip_prefix(&MAGIC)?;
        let (found, rest) = number(rest)?;
        if found != generation {
            return None;
        }
        let (base, rest) = number(rest)?;
        let (version, rest) = number(rest)?;
        let (length, rest) = rest.split_first_chunk::<LENGTH_BYTES>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let rows = rest.get(..length)?;
        let size_bytes = size_of_frame(length);
        let (covered, sum) = bytes.get(..size_bytes)?.split_last_chunk::<SUM_BYTES>()?;
        if digest(&SHA256, covered).as_ref() != sum {
            return None;
        }
        Some(Self { base, version, rows, size_bytes })
    }

    /// Its rows, in the order in which they were written. `None` in the place of one that no frame of ours holds.
    pub(crate) fn rows(&self) -> impl Iterator<Item = Option<LoggedRow<'a>>> {
        let mut rest = self.rows;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let Some((row, behind)) = split_row(rest) else {
                rest = &[];
                return Some(None);
            };
            rest = behind;
            Some(Some(row))
        })
    }
}

/// A frame that is being made. Its memory is used again for the next.
#[derive(Debug)]
pub(crate) struct Draft {
    bytes: Vec<u8>,
    rows: usize,
    capacity_bytes: usize,
    is_too_large: bool,
}

impl Draft {
    /// Takes frames of at most `capacity_bytes`.
    pub(crate) fn new(capacity_bytes: usize) -> Self {
        Self { bytes: Vec::new(), rows: 0, capacity_bytes, is_too_large: false }
    }

    /// Begins a frame anew.
    pub(crate) fn begin(&mut self, generation: u64, base: u64) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES);
        self.rows = 0;
        self.is_too_large = false;
        self.bytes.extend(MAGIC);
        self.bytes.extend(generation.to_be_bytes());
        self.bytes.extend(base.to_be_bytes());
        // The version and the length, which are known at the end.
        self.bytes.extend([0; NUMBER_BYTES + LENGTH_BYTES]);
    }

    /// Adds a row.
    pub(crate) fn push(&mut self, key: &[u8], value: Option<&[u8]>) {
        let length = value.map_or(Some(DELETED), |value| u32::try_from(value.len()).ok());
        let value = value.unwrap_or_default();
        self.rows += 1;
        if self.is_too_large {
            return;
        }
        let (Some(length), Ok(key_length)) = (length, u16::try_from(key.len())) else {
            self.is_too_large = true;
            return;
        };
        if self.bytes.len() + ROW_HEAD_BYTES + key.len() + value.len() + SUM_BYTES > self.capacity_bytes {
            // It goes past the log. What is kept of it would only take memory.
            self.is_too_large = true;
            self.bytes.truncate(HEAD_BYTES);
            return;
        }
        self.bytes.extend(key_length.to_be_bytes());
        self.bytes.extend(length.to_be_bytes());
        self.bytes.extend(key);
        self.bytes.extend(value);
    }

    /// How many rows were added.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// How long it will be. `None`: it does not fit into any log.
    pub(crate) fn size_bytes(&self) -> Option<usize> {
        let size_bytes = size_of_frame(self.bytes.len().saturating_sub(HEAD_BYTES));
        if self.is_too_large || size_bytes > self.capacity_bytes { None } else { Some(size_bytes) }
    }

    /// The whole frame, which leads to this version.
    pub(crate) fn finish(&mut self, version: u64) -> &[u8] {
        let length = self.bytes.len().saturating_sub(HEAD_BYTES);
        let known = version.to_be_bytes().into_iter().chain(u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
        let place = self.bytes.iter_mut().skip(HEAD_BYTES - NUMBER_BYTES - LENGTH_BYTES);
        place.zip(known).for_each(|(to, from)| *to = from);
        self.bytes.resize(size_of_frame(length) - SUM_BYTES, 0);
        let sum = digest(&SHA256, &self.bytes);
        self.bytes.extend(sum.as_ref());
        &self.bytes
    }
}

/// The whole pages that hold rows of this length.
fn size_of_frame(rows_bytes: usize) -> usize {
    (HEAD_BYTES + rows_bytes + SUM_BYTES).next_multiple_of(PAGE_BYTES)
}

fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u64::from_be_bytes(*number), rest))
}

fn split_row(bytes: &[u8]) -> Option<(LoggedRow<'_>, &[u8])> {
    let (key_length, rest) = bytes.split_first_chunk()?;
    let (length, rest) = rest.split_first_chunk()?;
    let (key_length, length) = (usize::from(u16::from_be_bytes(*key_length)), u32::from_be_bytes(*length));
    if key_length == 0 || key_length > MAX_KEY_BYTES {
        return None;
    }
    let (key, rest) = rest.split_at_checked(key_length)?;
    if length == DELETED {
        return Some(((key, None), rest));
    }
    let (value, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    Some(((key, Some(value)), rest))
}

#[cfg(test)]
mod tests;
