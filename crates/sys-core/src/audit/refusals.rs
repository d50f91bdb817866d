//! Leaves of refusals: collected, and stored within a second.
//!
//! A refusal has no transaction of its own, and a flood of them must not make one each. What there is no room for is counted,
//! and the count gets a leaf.

use super::append;
use crate::{clock::Clock, refusal::Refusal};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use sys_audit::Leaf;
use sys_contract::id::OrgTag;
use sys_policy::Now;
use sys_store::Store;
use tokio::sync::mpsc;

/// Refusals that wait to be stored, of about 400 bytes each. Beyond it they are counted.
const MAX_WAITING: usize = 4_096;
/// Leaves stored in one transaction: enough that all that wait are stored within a second.
const MAX_BATCH: usize = 1_024;
/// How long a refusal waits for others to share its transaction; so a flood makes five transactions a second and no more.
const GATHER: Duration = Duration::from_millis(200);

/// Takes refusals and stores them soon.
#[derive(Debug, Clone)]
pub(crate) struct Refusals {
    waiting: mpsc::Sender<Waiting>,
    lost: Arc<AtomicU64>,
    counted_only: Arc<AtomicU64>,
}

/// What the task that stores refusals is told.
#[derive(Debug)]
enum Waiting {
    Refusal(OrgTag, Leaf),
    /// Some were counted that have no leaf.
    Lost,
    Stop,
}

/// The task that stores refusals.
#[derive(Debug)]
pub(crate) struct Writing {
    waiting: mpsc::Sender<Waiting>,
    task: tokio::task::JoinHandle<()>,
}

impl Refusals {
    /// Starts the task that stores them.
    pub(crate) fn start(store: Store, clock: Clock) -> (Self, Writing) {
        let (waiting, receiver) = mpsc::channel(MAX_WAITING);
        let lost = Arc::new(AtomicU64::new(0));
        let task = tokio::spawn(write_refusals(store, clock, receiver, lost.clone()));
        (Self { waiting: waiting.clone(), lost, counted_only: Arc::default() }, Writing { waiting, task })
    }

    /// Leaves a leaf for the log of this org, or the system's.
    pub(crate) fn put(&self, org: OrgTag, leaf: Leaf) {
        if self.waiting.try_send(Waiting::Refusal(org, leaf)).is_err() {
            self.count();
        }
    }

    /// Counts a refusal of which there are too many for leaves of their own.
    pub(crate) fn count(&self) {
        self.counted_only.fetch_add(1, Ordering::Relaxed);
        if self.lost.fetch_add(1, Ordering::Relaxed) == 0 {
            // Where the queue is full, the task is awake, and finds the count with what it stores next.
            let _ = self.waiting.try_send(Waiting::Lost);
        }
    }

    /// How many wait to be stored.
    pub(crate) fn waiting(&self) -> u64 {
        u64::try_from(self.waiting.max_capacity().saturating_sub(self.waiting.capacity())).unwrap_or(u64::MAX)
    }

    /// How many have been counted without a leaf of their own, since the server started.
    pub(crate) fn counted_only(&self) -> u64 {
        self.counted_only.load(Ordering::Relaxed)
    }
}

impl Writing {
    /// Ends the task, with all that was refused until now in the log.
    pub(crate) async fn stop(self) {
        // An error means that it has ended.
        let _ = self.waiting.send(Waiting::Stop).await;
        if self.task.await.is_err() {
            tracing::error!("the task that writes refusals to the audit log failed");
        }
    }
}

async fn write_refusals(store: Store, clock: Clock, mut waiting: mpsc::Receiver<Waiting>, lost: Arc<AtomicU64>) {
    let mut stopping = false;
    while !stopping {
        let Some(mut next) = waiting.recv().await else { return };
        if !matches!(next, Waiting::Stop) {
            tokio::time::sleep(GATHER).await;
        }
        let mut batch = Vec::new();
        loop {
            match next {
                Waiting::Refusal(org, leaf) => batch.push((org, leaf)),
                Waiting::Lost => {}
                Waiting::Stop => stopping = true,
            }
            if stopping || batch.len() >= MAX_BATCH {
                break;
            }
            let Ok(another) = waiting.try_recv() else { break };
            next = another;
        }
        let (refused, missing) = (batch.len(), lost.swap(0, Ordering::Relaxed));
        if let Err(error) = write_batch(&store, clock.now(), batch, missing).await {
            tracing::error!(%error, refused, missing, "refusals could not be written to the audit log");
            lost.fetch_add(missing.saturating_add(u64::try_from(refused).unwrap_or(u64::MAX)), Ordering::Relaxed);
        }
    }
}

async fn write_batch(store: &Store, now: Now, batch: Vec<(OrgTag, Leaf)>, missing: u64) -> Result<(), Refusal> {
    let mut open = store.begin(now).await?;
    for (org, leaf) in batch {
        append(&mut open, org, leaf, store.entropy().as_ref()).await?;
    }
    if missing > 0 {
        let leaf = Leaf { unix_s: now.unix_s, nanos: now.nanos, lost: missing, ..Leaf::default() };
        append(&mut open, OrgTag::GLOBAL, leaf, store.entropy().as_ref()).await?;
    }
    open.commit().await?;
    Ok(())
}
