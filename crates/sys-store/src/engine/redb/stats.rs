//! What was done since the store was opened, for metrics.

use crate::histogram::{Histogram, Observations};
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Microseconds from the first write of a batch to its published snapshot, syncs included.
const COMMIT_MICROS: &[u64] =
    &[250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 5_000_000];
/// Transactions in a batch, up to `BATCH`.
const BATCH_TRANSACTIONS: &[u64] = &[1, 2, 4, 8, 16, 32, 64, 128, 256];

/// The counters. The commit thread writes those of commits, each transaction those of reads when it ends.
#[derive(Debug)]
pub(super) struct Counters {
    commit_micros: Histogram,
    batch_transactions: Histogram,
    conflicts: AtomicU64,
    keys_read: AtomicU64,
    ranges_read: AtomicU64,
}

/// What an engine has done since it was opened, and what is in it.
#[derive(Debug, Clone)]
pub struct EngineStats {
    /// Microseconds that each commit of a batch took, syncs included.
    pub commit_micros: Observations,
    /// Microseconds that each sync took; a commit takes one, a checkpoint three.
    pub sync_micros: Observations,
    /// Transactions in each batch, those that conflicted included.
    pub batch_transactions: Observations,
    /// Transactions that lost against others.
    pub conflicts: u64,
    /// Keys that transactions which have ended have looked up.
    pub keys_read: u64,
    /// Ranges that they have read, or parts of them.
    pub ranges_read: u64,
    /// Rows in the store, of all kinds.
    pub rows: u64,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            commit_micros: Histogram::new(COMMIT_MICROS),
            batch_transactions: Histogram::new(BATCH_TRANSACTIONS),
            conflicts: AtomicU64::new(0),
            keys_read: AtomicU64::new(0),
            ranges_read: AtomicU64::new(0),
        }
    }
}

impl Counters {
    /// Counts a batch that was committed or found to conflict.
    pub(super) fn batch(&self, transactions: usize, conflicts: usize, took: Duration) {
        let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        self.commit_micros.observe(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        self.batch_transactions.observe(number(transactions));
        self.conflicts.fetch_add(number(conflicts), Ordering::Relaxed);
    }

    /// Counts what a transaction has read.
    pub(super) fn read(&self, keys: u64, ranges: u64) {
        self.keys_read.fetch_add(keys, Ordering::Relaxed);
        self.ranges_read.fetch_add(ranges, Ordering::Relaxed);
    }

    pub(super) fn stats(&self, rows: u64, sync_micros: Observations) -> EngineStats {
        EngineStats {
            commit_micros: self.commit_micros.observations(),
            sync_micros,
            batch_transactions: self.batch_transactions.observations(),
            conflicts: self.conflicts.load(Ordering::Relaxed),
            keys_read: self.keys_read.load(Ordering::Relaxed),
            ranges_read: self.ranges_read.load(Ordering::Relaxed),
            rows,
        }
    }
}
