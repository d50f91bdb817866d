//! Counts the syncs of a storage backend, to tell what a commit that failed has left behind, and takes their time.
//!
//! A redb commit in two phases writes all pages and syncs, then turns the header to them and syncs again
//! (`redb::WriteTransaction::set_two_phase_commit`). So a commit during which no sync succeeded has certainly not been applied,
//! whatever reached the disk: that is the case of a full disk. Later than that nobody knows.

use crate::histogram::{Histogram, Observations};
use redb::{BackendError, StorageBackend};
use std::{
    io,
    ops::Bound,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// Microseconds of one sync: a disk with a cache of its own answers in less than the first, a tired one in the last.
const SYNC_MICROS: &[u64] =
    &[100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000];

/// A backend whose successful syncs are counted.
#[derive(Debug)]
pub(super) struct CountSyncs<B> {
    backend: B,
    syncs: Syncs,
}

/// The count.
#[derive(Debug, Clone)]
pub(super) struct Syncs(Arc<Done>);

#[derive(Debug)]
struct Done {
    count: AtomicU64,
    micros: Histogram,
}

impl Syncs {
    /// How many syncs have succeeded so far.
    pub(super) fn count(&self) -> u64 {
        self.0.count.load(Ordering::Acquire)
    }

    /// Notes how long a sync of the log took, which is none of those that are counted.
    pub(super) fn observe(&self, took: Duration) {
        self.0.micros.observe(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }

    /// Microseconds that syncs took, of the log too.
    pub(super) fn micros(&self) -> Observations {
        self.0.micros.observations()
    }
}

impl<B> CountSyncs<B> {
    pub(super) fn new(backend: B) -> (Self, Syncs) {
        let syncs = Syncs(Arc::new(Done { count: AtomicU64::new(0), micros: Histogram::new(SYNC_MICROS) }));
        (Self { backend, syncs: syncs.clone() }, syncs)
    }
}

impl<B: StorageBackend> StorageBackend for CountSyncs<B> {
    fn sync_data(&self) -> Result<(), io::Error> {
        let began = Instant::now();
        self.backend.sync_data()?;
        self.syncs.observe(began.elapsed());
        self.syncs.0.count.fetch_add(1, Ordering::Release);
        Ok(())
    }

    fn len(&self) -> Result<u64, io::Error> {
        self.backend.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        self.backend.read(offset, out)
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.backend.set_len(len)
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.backend.write(offset, data)
    }

    fn close(&self) -> Result<(), io::Error> {
        self.backend.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.backend.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.backend.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.backend.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.backend.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.backend.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.backend.query_lock_range(start, end)
    }
}
