//! Counts the syncs of a storage backend, to tell what a commit that failed has left behind.
//!
//! A redb commit in two phases writes all pages and syncs, then turns the header to them and syncs again
//! (`redb::WriteTransaction::set_two_phase_commit`). So a commit during which no sync succeeded has certainly not been applied,
//! whatever reached the disk: that is the case of a full disk. Later than that nobody knows.

use redb::{BackendError, StorageBackend};
use std::{
    io,
    ops::Bound,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// A backend whose successful syncs are counted.
#[derive(Debug)]
pub(super) struct CountSyncs<B> {
    backend: B,
    syncs: Syncs,
}

/// The count.
#[derive(Debug, Clone, Default)]
pub(super) struct Syncs(Arc<AtomicU64>);

impl Syncs {
    /// How many syncs have succeeded so far.
    pub(super) fn count(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

impl<B> CountSyncs<B> {
    pub(super) fn new(backend: B) -> (Self, Syncs) {
        let syncs = Syncs::default();
        (Self { backend, syncs: syncs.clone() }, syncs)
    }
}

impl<B: StorageBackend> StorageBackend for CountSyncs<B> {
    fn sync_data(&self) -> Result<(), io::Error> {
        self.backend.sync_data()?;
        self.syncs.0.fetch_add(1, Ordering::Release);
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
