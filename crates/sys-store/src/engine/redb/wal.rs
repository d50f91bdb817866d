//! The write-ahead log: what was committed since redb's last durable commit.
//!
//! A commit is one frame here (`frame`) and one sync; redb is told without a sync, so that it can be read. Now and then a
//! checkpoint, a durable commit of redb, contains all of that, and the log begins anew. The log has two halves, and each
//! *generation* of it, from one checkpoint to the next, is in the other half than the one before. A generation is a random
//! number that redb's durable state names, and begins with a frame without rows, synced before redb names it. So
//! whatever lies in the halves beside it is nothing, and a store whose log is missing or is another's is known as one. What must never happen
//! here: a frame written behind one that was not synced, or over one that redb does not contain.

pub(crate) mod frame;

use super::{error::io_error, logs::Row, syncs::Syncs};
use crate::engine::{Bounded, CommitError, EngineError, at_most};
use frame::{Chain, Draft, PAGE_BYTES};
use redb::StorageBackend;
use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    time::{Duration, Instant},
};

/// What tests make smaller to reach it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WalBounds {
    /// Bytes of each half of a new log. A batch that is larger goes past it.
    pub(crate) half_bytes: usize,
    /// Most rows in a generation. Each may lie on a page of its own, which stays in memory and cannot be used again until the
    /// checkpoint: 512 MiB, of which the cache keeps as much as half of it. With readers it is more: what an open snapshot sees
    /// cannot be used again before the reader is gone, so that a page that is written twice takes two.
    pub(crate) rows: usize,
    /// When a checkpoint is made although there is room, so that little is left to be done at the next start.
    pub(crate) age: Duration,
    /// Where the numbers of generations come from instead of the system's random source, so that a test can do the same again.
    pub(crate) seed: Option<u64>,
}

impl Default for WalBounds {
    fn default() -> Self {
        Self { half_bytes: LOG_BYTES / 2, rows: 131_072, age: Duration::from_secs(30), seed: None }
    }
}

/// Bytes of a new log, if nothing else is said. Each half holds eight thousand small batches; a checkpoint writes each page that they
/// have touched once, so that fewer of them write less.
pub(super) const LOG_BYTES: usize = 64 << 20;

/// Most bytes of a half: it is read into memory as a whole at a start after a crash, and the length of a frame has 4 bytes.
pub(super) const MAX_HALF_BYTES: usize = 1 << 30;

/// So much of a half is written with zeros at once, before frames are: a sync of what lies inside of a file need not write down where
/// it lies.
const PREPARED_BYTES: u64 = 1 << 20;

/// What no log belongs to: the store was closed, and all that was committed is in redb.
pub(super) const NO_GENERATION: u64 = 0;

/// A number that no generation had. Whoever knew it beforehand could put what looks like a frame of it into a key.
fn next_generation(last: u64, seed: Option<u64>) -> Result<u64, EngineError> {
    if let Some(seed) = seed {
        return Ok(last.wrapping_add(seed | 1).max(1));
    }
    let mut bytes = [0; 8];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| io_error(io::Error::other("no random numbers")))?;
    // Zero is no generation.
    Ok(u64::from_be_bytes(bytes).max(1))
}

/// What redb's durable state says of the log that goes on from it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Named {
    generation: u64,
    half_bytes: usize,
}

impl Named {
    /// Of what was noted; none if no log belongs to the store.
    pub(super) fn of(generation: u64, half_bytes: u64) -> Result<Option<Self>, EngineError> {
        if generation == NO_GENERATION {
            return Ok(None);
        }
        let half_bytes = usize::try_from(half_bytes).ok().filter(|half_bytes| is_half(*half_bytes));
        let none = || EngineError::Corrupt { what: "the length of the log is not noted".to_owned() };
        Ok(Some(Self { generation, half_bytes: half_bytes.ok_or_else(none)? }))
    }
}

/// The log, and the batch that is next to stand in it.
#[derive(Debug)]
pub(super) struct Wal {
    file: Box<dyn StorageBackend>,
    syncs: Syncs,
    bounds: WalBounds,
    generation: u64,
    half: Half,
    /// Of the half, as far as it is used.
    end: u64,
    /// Of each half, as far as it is known to lie on the disk already.
    prepared: [u64; 2],
    rows: usize,
    /// Of the oldest batch that redb does not contain for good.
    since: Option<Instant>,
    draft: Draft,
}

#[derive(Debug, Clone, Copy)]
enum Half {
    First,
    Second,
}

/// Opens the file of a log, or makes an empty one that its owner alone reads.
pub(super) fn open_file(path: &Path) -> Result<File, EngineError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(path).map_err(io_error)?;
    // Otherwise a power cut takes its name, and with it what it holds. Also if it is there already: whoever made it may have been
    // killed before he came to this.
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(io_error)?;
    Ok(file)
}

impl Wal {
    /// The log in this file, before anything is read or written. Its halves are as long as redb notes with the generation. If it
    /// names none, an existing file keeps its length.
    pub(super) fn new(
        file: impl StorageBackend,
        syncs: Syncs,
        bounds: WalBounds,
        named: Option<Named>,
    ) -> Result<Self, EngineError> {
        let (generation, half_bytes) = match named {
            Some(named) => (named.generation, named.half_bytes),
            None => (NO_GENERATION, half_of(file.len().map_err(io_error)?)?.unwrap_or(bounds.half_bytes)),
        };
        Ok(Self {
            file: Box::new(file),
            syncs,
            bounds: WalBounds { half_bytes, ..bounds },
            generation,
            half: Half::First,
            end: 0,
            prepared: [0; 2],
            rows: 0,
            since: None,
            draft: Draft::new(half_bytes),
        })
    }

    /// The number of the current generation.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Bytes of each half.
    pub(super) fn half_bytes(&self) -> u64 {
        offset(self.bounds.half_bytes)
    }

    /// Whether the file has the length that redb noted. A shorter one has lost what stood at its end, even where what is left ends
    /// like a log.
    pub(super) fn is_whole(&self) -> Result<bool, EngineError> {
        Ok(self.file.len().map_err(io_error)? == 2 * self.half_bytes())
    }

    /// What the current generation holds, for [`frame::read`].
    pub(super) fn read(&mut self) -> Result<Vec<u8>, EngineError> {
        for half in [Half::First, Half::Second] {
            if frame::begins(&self.read_from(half, PAGE_BYTES)?, self.generation) {
                self.half = half;
                return self.read_from(half, self.bounds.half_bytes);
            }
        }
        Err(EngineError::LogLost)
    }

    /// What it holds behind its first frame, which cannot be read, for [`frame::read_without_beginning`].
    pub(super) fn read_without_beginning(&mut self, version: u64) -> Result<Vec<u8>, EngineError> {
        for half in [Half::First, Half::Second] {
            let bytes = self.read_from(half, self.bounds.half_bytes)?;
            if !frame::read_without_beginning(&bytes, self.generation, version).frames.is_empty() {
                self.half = half;
                return Ok(bytes);
            }
        }
        Err(EngineError::LogLost)
    }

    /// The version of the last commit that stands in either half, of whatever generation.
    pub(super) fn newest(&self) -> Result<u64, EngineError> {
        let mut newest = 0;
        for half in [Half::First, Half::Second] {
            let Some(generation) = frame::generation_of(&self.read_from(half, PAGE_BYTES)?) else { continue };
            let bytes = self.read_from(half, self.bounds.half_bytes)?;
            let chain = frame::read(&bytes, generation);
            newest = newest.max(chain.frames.last().map_or(0, |last| last.version));
        }
        Ok(newest)
    }

    /// Leaves nothing in the log that could be taken for one, once redb says that none belongs to it.
    pub(super) fn wipe(&self) -> Result<(), EngineError> {
        let nothing = [0; PAGE_BYTES];
        [Half::First, Half::Second]
            .into_iter()
            .try_for_each(|half| self.file.write(self.place(half, 0), &nothing).map_err(io_error))
    }

    /// Begins a generation at this version in the other half, and gives its number. It counts once a durable commit of redb names it;
    /// until then the older one does.
    ///
    /// INVARIANT: redb's durable state names the half that is left alone here. After a kill between redb's write of its header and
    /// its sync, a start reads a header that may not be on the disk yet, and writes over the half that the one on the disk names. That is
    /// right because redb, when it opens such a file, writes the header anew and syncs it before a transaction begins.
    pub(super) fn begin(&mut self, version: u64) -> Result<u64, EngineError> {
        self.make_room()?;
        self.generation = next_generation(self.generation, self.bounds.seed)?;
        self.half = match self.half {
            Half::First => Half::Second,
            Half::Second => Half::First,
        };
        (self.end, self.rows, self.since) = (0, 0, None);
        self.draft.begin(self.generation, version);
        self.prepare(offset(PAGE_BYTES))?;
        self.write(version)?;
        self.sync()?;
        Ok(self.generation)
    }

    /// Begins the next batch, on top of this version.
    pub(super) fn begin_batch(&mut self, base: u64) {
        self.draft.begin(self.generation, base);
    }

    /// Adds a row to the batch.
    pub(super) fn push(&mut self, row: &Row) {
        self.draft.push(&row.key, row.value.as_deref());
    }

    /// Whether the batch can stand in the log, and no checkpoint is due.
    pub(super) fn takes_batch(&self, now: Instant) -> bool {
        let end = self.draft.size_bytes().map(|size_bytes| self.end + offset(size_bytes));
        end.is_some_and(|end| end <= self.half_bytes())
            && self.rows + self.draft.rows() <= self.bounds.rows
            && self.due().is_none_or(|due| now < due)
    }

    /// When a checkpoint is due at the latest. `None`: redb contains everything for good.
    pub(super) fn due(&self) -> Option<Instant> {
        self.since.map(|since| since + self.bounds.age)
    }

    /// Writes the batch, which leads to this version, and syncs. After an error nothing may be written any more.
    pub(super) fn append(&mut self, version: u64, now: Instant) -> Result<(), CommitError> {
        let rows = self.draft.rows();
        // Zeros commit nothing. Of the frame itself all may lie on the disk, whatever its write answers.
        self.prepare(self.draft.size_bytes().map_or(0, offset))?;
        self.write(version).map_err(CommitError::Unknown)?;
        self.sync().map_err(CommitError::Unknown)?;
        self.rows += rows;
        self.since.get_or_insert(now);
        Ok(())
    }

    /// The first bytes of a half. What the file does not have is zeros.
    fn read_from(&self, half: Half, size_bytes: usize) -> Result<Vec<u8>, EngineError> {
        let place = self.place(half, 0);
        let there = self.file.len().map_err(io_error)?.saturating_sub(place);
        let there = usize::try_from(there).unwrap_or(usize::MAX).min(size_bytes);
        let mut bytes = vec![0; there];
        if there > 0 {
            self.file.read(place, &mut bytes).map_err(io_error)?;
        }
        bytes.resize(size_bytes, 0);
        Ok(bytes)
    }

    fn write(&mut self, version: u64) -> Result<(), EngineError> {
        let place = self.place(self.half, self.end);
        let frame = self.draft.finish(version);
        self.end += offset(frame.len());
        self.file.write(place, frame).map_err(io_error)
    }

    /// Sees to it that what follows can be written over.
    fn prepare(&mut self, size_bytes: u64) -> Result<(), EngineError> {
        let (start, half_bytes) = (self.place(self.half, 0), self.half_bytes());
        let [first, second] = &mut self.prepared;
        let prepared = match self.half {
            Half::First => first,
            Half::Second => second,
        };
        let needed = self.end + size_bytes;
        if needed <= *prepared {
            return Ok(());
        }
        let from = self.end.max(*prepared);
        let to = needed.next_multiple_of(PREPARED_BYTES).min(half_bytes);
        let zeros = vec![0; usize::try_from(to - from).unwrap_or(0)];
        self.file.write(start + from, &zeros).map_err(io_error)?;
        *prepared = to;
        Ok(())
    }

    fn sync(&self) -> Result<(), EngineError> {
        let began = Instant::now();
        self.file.sync_data().map_err(io_error)?;
        self.syncs.observe(began.elapsed());
        Ok(())
    }

    /// Gives a new log its length, and one that was given up.
    fn make_room(&self) -> Result<(), EngineError> {
        if self.is_whole()? {
            return Ok(());
        }
        self.file.set_len(2 * self.half_bytes()).map_err(io_error)
    }

    fn place(&self, half: Half, offset: u64) -> u64 {
        match half {
            Half::First => offset,
            Half::Second => self.half_bytes() + offset,
        }
    }
}

/// Bytes of a half of a log file. `None`: the file is none, or was not finished.
fn half_of(file_bytes: u64) -> Result<Option<usize>, EngineError> {
    let file_bytes = usize::try_from(file_bytes).unwrap_or(usize::MAX);
    at_most(Bounded::LogBytes, file_bytes, 2 * MAX_HALF_BYTES)?;
    Ok(Some(file_bytes / 2).filter(|half_bytes| is_half(*half_bytes) && file_bytes.is_multiple_of(2)))
}

/// Whether a half may be so long.
fn is_half(half_bytes: usize) -> bool {
    (PAGE_BYTES..=MAX_HALF_BYTES).contains(&half_bytes) && half_bytes.is_multiple_of(PAGE_BYTES)
}

fn offset(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// Checks that the frames of a generation lead on from what redb holds for good, and gives those that it does not contain.
pub(super) fn frames_after<'a>(
    chain: &'a Chain<'a>,
    version: u64,
    give_up_damaged: bool,
) -> Result<impl Iterator<Item = &'a frame::Frame<'a>>, EngineError> {
    if let Some(at) = chain.damaged_at
        && !give_up_damaged
    {
        return Err(EngineError::LogDamaged { at });
    }
    let (first, last) = (chain.frames.first(), chain.frames.last());
    let holds = first.is_some_and(|first| first.base <= version) && last.is_some_and(|last| version <= last.version);
    if !holds {
        return Err(EngineError::LogLost);
    }
    Ok(chain.frames.iter().filter(move |frame| frame.version > version))
}
