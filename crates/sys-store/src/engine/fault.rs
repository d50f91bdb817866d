//! A disk that fails as disks do, under the embedded engine. It holds the two files of a store: its pages and its log.
//!
//! It remembers which sectors were written since the last sync. When the power goes, each of them holds what it held at the
//! last sync or any of what was written to it since, chosen by a seeded generator: a disk and a page cache write in
//! whatever order they like, and tear pages. It can also be full, answer one operation with an error, refuse writes, flip bits, and
//! — the control of every test that relies on it — pretend to sync.

mod rounds;

pub(crate) use rounds::{Random, replay, seeds};

use super::{
    EngineError,
    redb::{Bounds, RedbEngine, RedbOptions, wal::WalBounds},
};
use redb::StorageBackend;
use std::{
    collections::BTreeMap,
    future::poll_fn,
    io,
    pin::Pin,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    task::Poll,
    thread,
};
use tokio::task::unconstrained;

/// What a disk writes as a whole or not at all.
const SECTOR_BYTES: usize = 512;

/// What goes wrong. Operations count from 0 since the plan holds: writes, syncs and changes of length.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Plan {
    /// The power goes at this operation, which may or may not have reached the disk.
    pub(crate) power_cut_at: Option<u64>,
    /// From this operation on nothing more fits on the disk.
    pub(crate) full_from: Option<u64>,
    /// This operation, and this one alone, fails.
    pub(crate) error_at: Option<u64>,
    /// At this operation the code panics, as if it had a fault of its own.
    pub(crate) panic_at: Option<u64>,
    /// From this operation on nothing can be written at all.
    pub(crate) read_only_from: Option<u64>,
    /// Syncs do nothing, and say that they did it.
    pub(crate) lying_sync: bool,
    /// Syncs of the log alone do nothing, and say that they did it.
    pub(crate) lying_log_sync: bool,
    /// After a power cut nothing unsynced is left, instead of some of it.
    pub(crate) drop_all: bool,
}

/// A disk. Its clones are the same one.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    seed: u64,
    platter: Arc<Mutex<Platter>>,
    released: Arc<Condvar>,
}

/// One of its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum File {
    Pages,
    Log,
}

#[derive(Debug, Default)]
struct Contents {
    /// What the running system sees.
    seen: Vec<u8>,
    /// What was there at the last sync.
    synced: Vec<u8>,
    /// For each sector written since then, all that it held in between.
    unsynced: BTreeMap<usize, Vec<Vec<u8>>>,
}

#[derive(Debug)]
struct Platter {
    pages: Contents,
    log: Contents,
    plan: Plan,
    random: Random,
    operations: u64,
    syncs: u64,
    /// Counts the times that the power came on: what was open before does not work any more.
    boot: u64,
    powered: bool,
    /// Syncs wait.
    held: bool,
    /// One of them does.
    waits: bool,
}

/// A disk as a process sees it, until the power goes.
#[derive(Debug, Clone)]
pub(crate) struct Plugged {
    disk: Disk,
    boot: u64,
}

/// A file as the engine sees it.
#[derive(Debug)]
struct OpenFile {
    plugged: Plugged,
    file: File,
}

impl Disk {
    pub(crate) fn new(seed: u64) -> Self {
        Self::holding(Vec::new(), seed)
    }

    /// A disk that holds these pages, of a store that was closed.
    pub(crate) fn holding(bytes: Vec<u8>, seed: u64) -> Self {
        let platter = Platter {
            pages: Contents { seen: bytes.clone(), synced: bytes, unsynced: BTreeMap::new() },
            log: Contents::default(),
            plan: Plan::default(),
            random: Random(seed),
            operations: 0,
            syncs: 0,
            boot: 0,
            powered: true,
            held: false,
            waits: false,
        };
        Self { seed, platter: Arc::new(Mutex::new(platter)), released: Arc::default() }
    }

    /// Turns the machine off and on: what was not synced is lost, wholly or in part. From here on `plan` holds.
    pub(crate) fn restart(&self, plan: Plan) -> Plugged {
        let mut platter = self.lock();
        platter.lose_unsynced();
        platter.plan = plan;
        platter.operations = 0;
        platter.boot += 1;
        platter.powered = true;
        Plugged { disk: self.clone(), boot: platter.boot }
    }

    /// Starts the process anew on a machine that runs on: nothing is lost. From here on `plan` holds.
    pub(crate) fn reopen(&self, plan: Plan) -> Plugged {
        let mut platter = self.lock();
        platter.plan = plan;
        platter.operations = 0;
        platter.boot += 1;
        Plugged { disk: self.clone(), boot: platter.boot }
    }

    /// What goes wrong from here on, while the machine runs.
    pub(crate) fn set_plan(&self, plan: Plan) {
        let mut platter = self.lock();
        platter.plan = plan;
        platter.operations = 0;
    }

    /// Lets each sync wait, or go on.
    pub(crate) fn hold_syncs(&self, held: bool) {
        self.lock().held = held;
        self.released.notify_all();
    }

    /// Lets these commits run at the same time, and in the same way each time: the first is in its sync when the others are
    /// handed over, so that they are one batch behind it. Nothing else may commit meanwhile.
    pub(crate) async fn commit_together<F: Future>(&self, commits: Vec<F>) -> Vec<F::Output> {
        let mut commits: Vec<_> = commits.into_iter().map(|commit| (Box::pin(unconstrained(commit)), None)).collect();
        self.hold_syncs(true);
        for (number, (commit, outcome)) in commits.iter_mut().enumerate() {
            loop {
                *outcome = poll_once(commit.as_mut()).await;
                // If it fails, it does not get as far as its sync.
                if number > 0 || outcome.is_some() || self.lock().waits {
                    break;
                }
                thread::yield_now();
            }
        }
        self.hold_syncs(false);
        let mut outcomes = Vec::new();
        for (commit, outcome) in commits {
            outcomes.push(match outcome {
                Some(outcome) => outcome,
                None => commit.await,
            });
        }
        outcomes
    }

    /// The pages that it holds for good.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.bytes_of(File::Pages)
    }

    /// What a file holds for good.
    pub(crate) fn bytes_of(&self, file: File) -> Vec<u8> {
        self.lock().contents(file).synced.clone()
    }

    /// Puts these bytes in the place of a file, for good.
    pub(crate) fn replace(&self, file: File, bytes: Vec<u8>) {
        let contents = Contents { seen: bytes.clone(), synced: bytes, unsynced: BTreeMap::new() };
        *self.lock().contents(file) = contents;
    }

    /// The same disk as it would be after a power cut now, beside this one.
    pub(crate) fn copy(&self) -> Self {
        let copy = Self::holding(self.bytes_of(File::Pages), self.seed);
        copy.replace(File::Log, self.bytes_of(File::Log));
        // What follows from the count of boots follows from it there, too, and is not the same again.
        copy.lock().boot = self.lock().boot;
        copy
    }

    /// Operations since the plan holds.
    pub(crate) fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// Whether the power went.
    pub(crate) fn is_dead(&self) -> bool {
        !self.lock().powered
    }

    /// Syncs that succeeded, ever.
    pub(crate) fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    /// Flips one bit of each place where these bytes stand among the pages, on the disk itself; gives the number of places.
    pub(crate) fn flip_bit_of(&self, bytes: &[u8]) -> usize {
        let places = self.places_of(bytes);
        places.iter().for_each(|at| self.flip(*at, 0));
        places.len()
    }

    /// Where these bytes stand.
    pub(crate) fn places_of(&self, bytes: &[u8]) -> Vec<usize> {
        let platter = self.lock();
        platter.pages.synced.windows(bytes.len()).enumerate().filter(|(_, w)| *w == bytes).map(|(at, _)| at).collect()
    }

    /// Flips one bit of a byte of the pages, on the disk itself.
    pub(crate) fn flip(&self, at: usize, bit: usize) {
        let mut platter = self.lock();
        platter.pages.synced[at] ^= 1 << bit;
        platter.pages.seen[at] ^= 1 << bit;
    }

    fn lock(&self) -> MutexGuard<'_, Platter> {
        self.platter.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Platter {
    /// Lets an operation through, or says why not. `Ok(false)`: it happens, and the power goes with it.
    fn operate(&mut self) -> io::Result<bool> {
        let number = self.operations;
        self.operations += 1;
        if self.plan.read_only_from.is_some_and(|from| number >= from) {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        assert!(self.plan.panic_at != Some(number), "injected panic");
        if self.plan.error_at == Some(number) {
            return Err(io::Error::other("injected fault"));
        }
        Ok(self.plan.power_cut_at != Some(number))
    }

    fn contents(&mut self, file: File) -> &mut Contents {
        match file {
            File::Pages => &mut self.pages,
            File::Log => &mut self.log,
        }
    }

    fn sync(&mut self, file: File) {
        self.syncs += 1;
        let lies = self.plan.lying_sync || self.plan.lying_log_sync && file == File::Log;
        if !lies {
            let contents = self.contents(file);
            contents.synced = contents.seen.clone();
            contents.unsynced.clear();
        }
    }

    fn lose_unsynced(&mut self) {
        let drop_all = self.plan.drop_all;
        self.pages.lose_unsynced(drop_all, &mut self.random);
        self.log.lose_unsynced(drop_all, &mut self.random);
    }

    fn check_room(&self) -> io::Result<()> {
        let full = self.plan.full_from.is_some_and(|from| self.operations > from);
        if full { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

impl Contents {
    fn write(&mut self, offset: usize, data: &[u8]) {
        let end = offset + data.len();
        if end > self.seen.len() {
            self.seen.resize(end, 0);
        }
        self.seen[offset..end].copy_from_slice(data);
        for sector in offset / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES) {
            let start = sector * SECTOR_BYTES;
            let now = self.seen[start..self.seen.len().min(start + SECTOR_BYTES)].to_vec();
            self.unsynced.entry(sector).or_default().push(now);
        }
    }

    fn set_len(&mut self, len: usize) {
        let (before, on_disk) = (self.seen.len(), self.synced.len());
        self.seen.resize(len, 0);
        // What is cut off and grows again reads as zeros, but the old bytes may come back.
        if before < len.min(on_disk) {
            self.write(before, &vec![0; len.min(on_disk) - before]);
        }
    }

    fn lose_unsynced(&mut self, drop_all: bool, random: &mut Random) {
        let unsynced = std::mem::take(&mut self.unsynced);
        if !drop_all {
            // The file's length is one of the two; what lies beyond it is gone whatever was written there.
            if random.below(2) == 0 {
                self.synced.resize(self.seen.len(), 0);
            }
            for (sector, versions) in unsynced {
                let start = sector * SECTOR_BYTES;
                // 0 is what was synced; a later version is as likely as an earlier one.
                let Some(version) = random.below(versions.len() + 1).checked_sub(1) else { continue };
                for (to, from) in self.synced.iter_mut().skip(start).zip(&versions[version]) {
                    *to = *from;
                }
            }
        }
        self.seen = self.synced.clone();
    }
}

impl Plugged {
    /// Opens the store on it, with a log so small that checkpoints come often: its size follows from the disk's seed.
    pub(crate) fn open(self, options: RedbOptions) -> Result<RedbEngine, EngineError> {
        self.open_with(options, Bounds::default())
    }

    /// Opens the store on it, with such a log.
    pub(crate) fn open_with(self, options: RedbOptions, bounds: Bounds) -> Result<RedbEngine, EngineError> {
        let size = self.disk.seed % 4;
        // Numbers that do not come again, with the next boot neither.
        let seed = Random(self.disk.seed ^ self.boot.rotate_right(8)).next();
        let wal = WalBounds { half_bytes: 4_096 << (2 + size), rows: 20 << size, seed: Some(seed), ..bounds.wal };
        let [pages, log] = [File::Pages, File::Log].map(|file| OpenFile { plugged: self.clone(), file });
        RedbEngine::start(pages, log, options, Bounds { wal, ..bounds })
    }

    fn platter(&self) -> io::Result<MutexGuard<'_, Platter>> {
        let platter = self.disk.lock();
        if platter.powered && platter.boot == self.boot { Ok(platter) } else { Err(no_power()) }
    }

    fn operate(&self, change: impl FnOnce(&mut Platter) -> io::Result<()>) -> io::Result<()> {
        let mut platter = self.platter()?;
        let goes_on = platter.operate()?;
        change(&mut platter)?;
        if goes_on {
            return Ok(());
        }
        platter.powered = false;
        Err(no_power())
    }
}

impl StorageBackend for OpenFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.plugged.platter()?.contents(self.file).seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut platter = self.plugged.platter()?;
        let start = place(offset)?;
        let from =
            platter.contents(self.file).seen.get(start..start + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(from);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let len = place(len)?;
        self.plugged.operate(|platter| {
            if len > platter.contents(self.file).seen.len() {
                platter.check_room()?;
            }
            platter.contents(self.file).set_len(len);
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut platter = self.plugged.platter()?;
        platter.waits = platter.held;
        let held = self.plugged.disk.released.wait_while(platter, |platter| platter.held);
        let mut platter = held.unwrap_or_else(PoisonError::into_inner);
        platter.waits = false;
        // A sync that the power cuts short has promised nothing.
        if platter.operate()? {
            platter.sync(self.file);
            return Ok(());
        }
        platter.powered = false;
        Err(no_power())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let offset = place(offset)?;
        self.plugged.operate(|platter| {
            platter.check_room()?;
            platter.contents(self.file).write(offset, data);
            Ok(())
        })
    }
}

/// Polls once: what a future that hands something over and waits for the answer needs for its first half.
pub(crate) async fn poll_once<F: Future>(mut future: Pin<&mut F>) -> Option<F::Output> {
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

fn no_power() -> io::Error {
    io::Error::other("no power")
}

fn place(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(io::Error::other)
}
