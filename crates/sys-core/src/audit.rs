//! The audit log: one leaf for each write, sign-in event and refusal, in the log of the org that it concerns or in the
//! system's.
//!
//! A leaf names ids, grants and reasons, never values. Leaves of a write are stored in its transaction; leaves of refusals
//! are collected and stored within a second. An entry holds the leaf behind its hash, SHA-256(0x00 | leaf) as in RFC 6962
//! section 2.1; the leaf is salted, so that its hash can be shown to those who may not read it.

use crate::{clock::Clock, refusal::Refusal};
use aws_lc_rs::digest::{Context, SHA256};
use prost::Message;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use sys_contract::id::{AccountId, OrgTag, RecordId};
use sys_keys::Entropy;
use sys_policy::{Caller, Now};
use sys_store::{LogKind, Open, Store, StoreError};
use tokio::sync::mpsc;

/// Random bytes in a leaf.
const SALT_BYTES: usize = 16;

/// Refusals that wait to be stored, of about 400 bytes each. Beyond it they are counted.
const MAX_WAITING: usize = 4_096;
/// Leaves stored in one transaction: enough that all that wait are stored within a second.
const MAX_BATCH: usize = 1_024;
/// How long a refusal waits for others to share its transaction; so a flood makes five transactions a second and no more.
const GATHER: Duration = Duration::from_millis(200);

/// The outcome of a call that was let through.
const OK: &str = "OK";

/// What a leaf says. The message that is sealed.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Leaf {
    /// Unix seconds of the call.
    #[prost(int64, tag = "1")]
    pub unix_s: i64,
    /// Nanoseconds beside them.
    #[prost(int32, tag = "2")]
    pub nanos: i32,
    /// The method's path.
    #[prost(string, tag = "3")]
    pub method: String,
    /// The caller's account, in text; empty for an anonymous caller.
    #[prost(string, tag = "4")]
    pub account_id: String,
    /// The caller's session.
    #[prost(string, tag = "5")]
    pub session_id: String,
    /// `OK`, or the reason of the refusal.
    #[prost(string, tag = "6")]
    pub outcome: String,
    /// The records that were written or that the call was judged on: org tag and UUID, 22 bytes each.
    #[prost(bytes = "vec", repeated, tag = "7")]
    pub records: Vec<Vec<u8>>,
    /// The number of the grant that allowed it, counted from 0 in the contract's order; absent where it took none.
    #[prost(uint32, optional, tag = "8")]
    pub grant: Option<u32>,
    /// Random, so that nobody finds the leaf by guessing what has this hash.
    #[prost(bytes = "vec", tag = "10")]
    pub salt: Vec<u8>,
    /// Refusals without a leaf of their own, since there were too many; then only the time stands beside it.
    #[prost(uint64, tag = "9")]
    pub lost: u64,
}

impl Leaf {
    /// A leaf of this call that went well so far.
    pub(crate) fn new(method: &str, caller: &Caller, now: &Now) -> Self {
        Self {
            unix_s: now.unix_s,
            nanos: now.nanos,
            method: method.to_owned(),
            account_id: caller.account().as_ref().map(AccountId::to_string).unwrap_or_default(),
            session_id: caller.session().map(|session| session.to_string()).unwrap_or_default(),
            outcome: OK.to_owned(),
            ..Self::default()
        }
    }

    /// Names these records beside those that it names already.
    pub(crate) fn records(mut self, ids: impl IntoIterator<Item = RecordId>) -> Self {
        for id in ids {
            let bytes = id.to_bytes().to_vec();
            if !self.records.contains(&bytes) {
                self.records.push(bytes);
            }
        }
        self
    }

    /// Whether the call was let through.
    pub(crate) fn is_ok(&self) -> bool {
        self.outcome == OK
    }

    pub(crate) fn refused(mut self, reason: &str) -> Self {
        reason.clone_into(&mut self.outcome);
        self
    }
}

/// SHA-256(0x00 | leaf), RFC 6962 section 2.1.
pub fn leaf_hash(leaf: &[u8]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    context.update(&[0]);
    context.update(leaf);
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

/// Takes refusals and stores them soon.
#[derive(Debug, Clone)]
pub(crate) struct Refusals {
    waiting: mpsc::Sender<Waiting>,
    lost: Arc<AtomicU64>,
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
        (Self { waiting: waiting.clone(), lost }, Writing { waiting, task })
    }

    /// Leaves a leaf for the log of this org, or the system's.
    pub(crate) fn put(&self, org: OrgTag, leaf: Leaf) {
        if self.waiting.try_send(Waiting::Refusal(org, leaf)).is_err() {
            self.count();
        }
    }

    /// Counts a refusal of which there are too many for leaves of their own.
    pub(crate) fn count(&self) {
        if self.lost.fetch_add(1, Ordering::Relaxed) == 0 {
            // Where the queue is full, the task is awake, and finds the count with what it stores next.
            let _ = self.waiting.try_send(Waiting::Lost);
        }
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

/// Adds a leaf to the log of an org, or to the system's for [`OrgTag::GLOBAL`]. It is numbered by the commit.
pub(crate) async fn append(
    open: &mut Open,
    org: OrgTag,
    mut leaf: Leaf,
    entropy: &dyn Entropy,
) -> Result<(), StoreError> {
    leaf.salt = vec![0; SALT_BYTES];
    entropy.fill(&mut leaf.salt);
    let leaf = leaf.encode_to_vec();
    let mut entry = leaf_hash(&leaf).to_vec();
    entry.extend_from_slice(&leaf);
    open.append(LogKind::Audit, org, entry).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_leaf_hash_is_that_of_rfc_6962() {
        // The hash of the empty leaf, from the test vectors of the certificate-transparency project.
        let hex: String = leaf_hash(b"").iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d");
    }
}
