//! Leaves of refusals: collected, and stored within a second.
//!
//! A refusal has no transaction of its own, and a flood of them must not make one each. What there is no room for is counted,
//! and the count gets a leaf: in the log that the refusals belong to, and with their caller's account. What must never happen
//! here: a refusal of which nothing remains where its readers look.

use super::append;
use crate::{clock::Clock, refusal::Refusal};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use sys_audit::Leaf;
use sys_contract::id::OrgTag;
use sys_policy::Now;
use sys_store::Store;
use tokio::{sync::mpsc, time::Instant};

/// Refusals that wait to be stored, of about 400 bytes each. Beyond it they are counted.
const MAX_WAITING: usize = 4_096;
/// Leaves stored in one transaction: enough that all that wait are stored within a second.
const MAX_BATCH: usize = 1_024;
/// How long a refusal waits for others to share its transaction; so a flood makes five transactions a second and no more.
const GATHER: Duration = Duration::from_millis(200);
/// How often counts are stored. Each account of which something was counted has a leaf then, and a flood is to make fewer leaves
/// of counts than of refusals.
const COUNT_FOR: Duration = Duration::from_secs(10);
/// Accounts that are counted apart, of some 100 bytes each, until counts are stored. The others share one count.
const MAX_COUNTED: usize = 1_024;

/// What is counted together: the log, and the account in text, empty where there is none.
type Counted = (OrgTag, String);

/// Takes refusals and stores them soon.
#[derive(Debug, Clone)]
pub(crate) struct Refusals {
    waiting: mpsc::Sender<Waiting>,
    lost: Lost,
    counted_only: Arc<AtomicU64>,
}

/// Refusals that have no leaf and are not stored as a number yet.
#[derive(Debug, Clone, Default)]
struct Lost(Arc<Mutex<BTreeMap<Counted, u64>>>);

/// What the task that stores refusals is told.
#[derive(Debug)]
enum Waiting {
    Refusal(OrgTag, Box<Leaf>),
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
        let lost = Lost::default();
        let task = tokio::spawn(write_refusals(store, clock, receiver, lost.clone()));
        (Self { waiting: waiting.clone(), lost, counted_only: Arc::default() }, Writing { waiting, task })
    }

    /// Leaves a leaf for the log of this org, or the system's.
    pub(crate) fn put(&self, org: OrgTag, leaf: Leaf) {
        if let Err(full) = self.waiting.try_send(Waiting::Refusal(org, Box::new(leaf)))
            && let Waiting::Refusal(org, leaf) = full.into_inner()
        {
            self.count_of(org, leaf.account_id);
        }
    }

    /// Counts a refusal of somebody who is not known, of which there are too many for leaves of their own.
    pub(crate) fn count(&self) {
        self.count_of(OrgTag::GLOBAL, String::new());
    }

    /// Counts a refusal of this account, or of nobody's, that would have its leaf in this log.
    pub(crate) fn count_of(&self, org: OrgTag, account_id: String) {
        self.counted_only.fetch_add(1, Ordering::Relaxed);
        if self.lost.add((org, account_id), 1) {
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

impl Lost {
    /// Adds to a count; whether it is the first one.
    fn add(&self, counted: Counted, refusals: u64) -> bool {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = counts.is_empty();
        let has_room = counts.len() < MAX_COUNTED || counts.contains_key(&counted);
        let counted = if has_room { counted } else { (OrgTag::GLOBAL, String::new()) };
        let count = counts.entry(counted).or_default();
        *count = count.saturating_add(refusals);
        is_first
    }

    fn take(&self) -> BTreeMap<Counted, u64> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn is_empty(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

async fn write_refusals(store: Store, clock: Clock, mut waiting: mpsc::Receiver<Waiting>, lost: Lost) {
    let (mut stopping, mut counts_stored) = (false, None::<Instant>);
    while !stopping {
        // Counts are stored in the end also where nothing else comes.
        let until_counts = counts_stored.map_or(Duration::ZERO, |at| COUNT_FOR.saturating_sub(at.elapsed()));
        let next = if lost.is_empty() {
            waiting.recv().await
        } else {
            tokio::time::timeout(until_counts, waiting.recv()).await.unwrap_or(Some(Waiting::Lost))
        };
        let Some(mut next) = next else { return };
        if !matches!(next, Waiting::Stop) {
            tokio::time::sleep(GATHER).await;
        }
        let mut batch = Vec::new();
        loop {
            match next {
                Waiting::Refusal(org, leaf) => batch.push((org, *leaf)),
                Waiting::Lost => {}
                Waiting::Stop => stopping = true,
            }
            if stopping || batch.len() >= MAX_BATCH {
                break;
            }
            let Ok(another) = waiting.try_recv() else { break };
            next = another;
        }
        let is_time = stopping || counts_stored.is_none_or(|at| at.elapsed() >= COUNT_FOR);
        let counts = if is_time { lost.take() } else { BTreeMap::new() };
        if !counts.is_empty() {
            counts_stored = Some(Instant::now());
        }
        if let Err(error) = write_batch(&store, clock.now(), &batch, &counts).await {
            let (refused, counted) = (batch.len(), counts.values().sum::<u64>());
            tracing::error!(%error, refused, counted, "refusals could not be written to the audit log");
            // In the system's log from here on: one log that takes no leaves must not keep all others from theirs.
            let refused = batch.into_iter().map(|(_, leaf)| (leaf.account_id, 1));
            for (account_id, refusals) in counts.into_iter().map(|((_, account), lost)| (account, lost)).chain(refused)
            {
                lost.add((OrgTag::GLOBAL, account_id), refusals);
            }
        }
    }
}

async fn write_batch(
    store: &Store,
    now: Now,
    batch: &[(OrgTag, Leaf)],
    counts: &BTreeMap<Counted, u64>,
) -> Result<(), Refusal> {
    if batch.is_empty() && counts.is_empty() {
        return Ok(());
    }
    let mut open = store.begin(now).await?;
    for (org, leaf) in batch {
        append(&mut open, *org, leaf.clone(), store.entropy().as_ref()).await?;
    }
    for ((org, account_id), lost) in counts {
        let (account_id, lost) = (account_id.clone(), *lost);
        let leaf = Leaf { unix_s: now.unix_s, nanos: now.nanos, account_id, lost, ..Leaf::default() };
        append(&mut open, *org, leaf, store.entropy().as_ref()).await?;
    }
    open.commit().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_stand_apart_as_long_as_there_is_room_and_none_is_left_out() {
        let lost = Lost::default();
        let org = OrgTag::GLOBAL;
        assert!(lost.add((org, "a".to_owned()), 2), "the first one");
        assert!(!lost.add((org, "a".to_owned()), 1));
        for number in 0..10_000 {
            lost.add((org, number.to_string()), 1);
        }
        lost.add((org, "a".to_owned()), 1);
        let counts = lost.take();
        assert!(counts.len() <= MAX_COUNTED + 1, "{}", counts.len());
        assert_eq!(counts.get(&(org, "a".to_owned())), Some(&4));
        assert_eq!(counts.values().sum::<u64>(), 10_004);
        assert!(lost.is_empty());
    }
}
