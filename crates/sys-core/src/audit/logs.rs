//! The logs as readers have them: heads, proofs, entries.
//!
//! What is read here is read in snapshots of its own and not in the transaction of the call. A log grows with every call, also
//! with the one that reads it: a call that had read its end would conflict with all others. Entries do not change, so that
//! nothing is lost by it. Who may read which log is decided by the gate; the handle is given to one module at assembly.

use super::{
    append,
    nodes::{self, State},
};
use crate::{
    clock::Clock,
    refusal::{Reason, Refusal},
};
use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};
use sys_audit::{
    Hash, HeadKey, KeyRefused, Leaf, SignedHead,
    head::{Head, SYSTEM_LOG},
    leaf::OK,
    tree,
};
use sys_contract::id::{OrgId, OrgTag};
use sys_keys::Secret;
use sys_store::{ErasableEntry, LogKind, Open, Store, StoreError, SystemKind, engine::CommitError};
use tokio::sync::{Mutex, MutexGuard};

/// The row with the seed of the key that signs heads. It is no key of a generation: heads that clients keep outlast those.
const KEY_ROW: &[u8] = b"audit head key";
/// How long a reader waits for nodes to be computed before he is asked to come again. A call has 10 s.
const MAX_WAIT: Duration = Duration::from_secs(5);
/// Entries that one answer holds as they are hashed: some 200 KiB.
pub const MAX_LEAVES: u64 = 1_000;
/// Entries that one transaction erases.
const ERASED_AT_ONCE: u64 = 512;
/// Locks that logs share, so that a long one does not keep many others waiting.
const LOCKS: usize = 64;
/// What stands for a method in leaves about the log itself.
const RETENTION: &str = "sys-server/audit-retention";

/// A log: an org's, or that of the server itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Log {
    /// What concerns no org, or one that its caller does not belong to.
    System,
    /// What concerns an org.
    Org(OrgId),
}

impl Log {
    /// What it is called in its heads.
    pub fn id(&self) -> String {
        match self {
            Self::System => SYSTEM_LOG.to_owned(),
            Self::Org(org) => org.to_string(),
        }
    }

    pub(super) fn tag(&self) -> OrgTag {
        match self {
            Self::System => OrgTag::GLOBAL,
            Self::Org(org) => org.tag(),
        }
    }
}

/// Why a log could not be read.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// Something was taken away from it or changed in it behind the server's back.
    #[error("the audit log of {org:?} is damaged: {what}")]
    Damaged {
        /// The log.
        org: OrgTag,
        /// What was found.
        what: &'static str,
    },
    /// Its nodes are still being computed.
    #[error("the tree of the audit log is still being computed")]
    NotYet,
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
    /// The store failed.
    #[error("the store failed")]
    Commit(#[from] CommitError),
    /// The key that signs heads is none.
    #[error(transparent)]
    Key(#[from] KeyRefused),
}

impl AuditError {
    pub(super) fn damaged(org: OrgTag, what: &'static str) -> Self {
        Self::Damaged { org, what }
    }
}

impl From<AuditError> for Refusal {
    fn from(error: AuditError) -> Self {
        match error {
            AuditError::Damaged { .. } => {
                tracing::error!(%error, "an audit log is damaged");
                Self::new(Reason::AuditLogDamaged, "the audit log is not what it was: it was cut or changed")
                    .help("keep the heads that you have; the operator finds what is wrong with `sys-server doctor`")
            }
            AuditError::NotYet => Self::new(Reason::Overloaded, "the tree of the audit log is still being computed")
                .help("try again in a few seconds"),
            AuditError::Store(error) => error.into(),
            AuditError::Commit(error) => error.into(),
            AuditError::Key(error) => Self::internal(error),
        }
    }
}

/// An entry as it is hashed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawLeaf {
    /// Its number in the log.
    pub number: u64,
    /// Its hash.
    pub hash: Hash,
    /// What it says, in the bytes that were hashed; none once it was erased.
    pub leaf: Option<Vec<u8>>,
}

/// The handle on all audit logs of a server. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct AuditLogs(pub(super) Arc<Parts>);

pub(super) struct Parts {
    pub(super) store: Store,
    pub(super) clock: Clock,
    key: HeadKey,
    /// Held by whoever changes what is computed from a log: two at once would only conflict. A log has one of them.
    changing: [Mutex<()>; LOCKS],
}

impl fmt::Debug for AuditLogs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditLogs").field("key", &self.0.key).finish_non_exhaustive()
    }
}

impl AuditLogs {
    /// Over the logs of a store. The key that signs heads is made where there is none yet.
    pub(crate) async fn open(store: Store, clock: Clock) -> Result<Self, AuditError> {
        let mut open = store.begin(clock.now()).await?;
        let seed = match open.row(SystemKind::Setting, KEY_ROW).await? {
            Some(row) => Secret::<32>::try_filled(|seed| {
                *seed = row.as_slice().try_into().map_err(|_| KeyRefused)?;
                Ok::<(), KeyRefused>(())
            })?,
            None => {
                let seed = Secret::<32>::filled(|seed| store.entropy().fill(seed));
                open.put_row(SystemKind::Setting, KEY_ROW, seed.expose().to_vec()).await?;
                open.commit().await?;
                seed
            }
        };
        let key = HeadKey::new(seed.expose())?;
        Ok(Self(Arc::new(Parts { store, clock, key, changing: std::array::from_fn(|_| Mutex::default()) })))
    }

    /// The log as it is now, signed. A log that does not go on from what was signed before is not signed.
    pub async fn head(&self, log: Log) -> Result<SignedHead, Refusal> {
        Ok(self.signed(log).await?)
    }

    async fn signed(&self, log: Log) -> Result<SignedHead, AuditError> {
        let org = log.tag();
        let _changing = self.changing(org).await;
        self.extend_within(org, MAX_WAIT).await?;
        let mut open = self.begin().await?;
        let mut state = State::of(&mut open, org).await?;
        // Committed, so that it is on disk: what is signed is not lost by a crash.
        let size = open.next_number(LogKind::Audit, org).await?;
        if size < state.signed_size {
            return Err(AuditError::damaged(org, "it has fewer entries than were signed"));
        }
        let root = nodes::range_hash(&mut open, org, state.with_nodes, 0..size).await?;
        if state.signed_size > 0 {
            let before = nodes::range_hash(&mut open, org, state.with_nodes, 0..state.signed_size).await?;
            if before.0.as_slice() != state.signed_root {
                return Err(AuditError::damaged(org, "its entries are not those that were signed"));
            }
        }
        let unix_s = open.now().unix_s;
        if size > state.signed_size {
            (state.signed_size, state.signed_root) = (size, root.0.to_vec());
            // In a transaction that has read no end of a log, or it would conflict with whatever is appended.
            let mut writing = self.begin().await?;
            state.put(&mut writing, org).await?;
            writing.commit().await?;
        }
        Ok(self.0.key.sign(Head { log_id: log.id(), size, root, unix_s }))
    }

    /// The hash of an entry, and the proof that it is in the log of that size (RFC 6962 section 2.1.1).
    pub async fn inclusion(&self, log: Log, number: u64, size: u64) -> Result<(Hash, Vec<Hash>), Refusal> {
        let (mut open, with_nodes) = self.at_size(log, size, "tree_size").await?;
        let Some(ranges) = tree::inclusion(number, size) else {
            return Err(Refusal::invalid("number", "no entry of a log of that size has this number"));
        };
        let entry = nodes::range_hash(&mut open, log.tag(), with_nodes, number..number.saturating_add(1)).await?;
        Ok((entry, hashes(&mut open, log.tag(), with_nodes, ranges).await?))
    }

    /// The proof that the log of one size is the beginning of the log of another (RFC 6962 section 2.1.2).
    pub async fn consistency(&self, log: Log, first: u64, second: u64) -> Result<Vec<Hash>, Refusal> {
        let (mut open, with_nodes) = self.at_size(log, second, "second_size").await?;
        let Some(ranges) = tree::consistency(first, second) else {
            return Err(Refusal::invalid("first_size", "a log is not the beginning of a smaller one"));
        };
        Ok(hashes(&mut open, log.tag(), with_nodes, ranges).await?)
    }

    /// Entries from a number on, at most so many and at most [`MAX_LEAVES`], as they are hashed.
    pub async fn leaves(&self, log: Log, first: u64, limit: u64) -> Result<Vec<RawLeaf>, Refusal> {
        let mut open = self.begin().await?;
        let size = open.next_number(LogKind::Audit, log.tag()).await?;
        let end = first.saturating_add(limit.min(MAX_LEAVES)).min(size);
        let entries = nodes::entries(&mut open, log.tag(), first.min(end)..end).await?;
        // As they stand: whether they agree with the head is what their reader wants to find out himself.
        let raw = |entry: ErasableEntry| RawLeaf {
            number: entry.number,
            hash: Hash(entry.stub),
            leaf: entry.content.map(|content| content.to_vec()),
        };
        Ok(entries.into_iter().map(raw).collect())
    }

    /// A snapshot in which the log has at least that size, and how far its nodes go there.
    async fn at_size(&self, log: Log, size: u64, field: &str) -> Result<(Open, u64), Refusal> {
        {
            let _changing = self.changing(log.tag()).await;
            self.extend_within(log.tag(), MAX_WAIT).await?;
        }
        let mut open = self.begin().await?;
        if size > open.next_number(LogKind::Audit, log.tag()).await? {
            return Err(Refusal::invalid(field, "the log has fewer entries: ask for its head first"));
        }
        let with_nodes = State::of(&mut open, log.tag()).await?.with_nodes;
        Ok((open, with_nodes))
    }

    /// Computes what nodes are missing, for a reader or in the background.
    pub(super) async fn extend(&self, org: OrgTag) -> Result<(), AuditError> {
        loop {
            let _changing = self.changing(org).await;
            match self.extend_within(org, Duration::ZERO).await {
                Err(AuditError::NotYet) => {}
                done => return done,
            }
        }
    }

    /// Computes nodes for at least that long, or until none is missing. For who holds `changing`.
    async fn extend_within(&self, org: OrgTag, wait: Duration) -> Result<(), AuditError> {
        let begun = Instant::now();
        loop {
            let mut reading = self.begin().await?;
            let state = State::of(&mut reading, org).await?;
            let size = reading.next_number(LogKind::Audit, org).await?;
            if !nodes::is_behind(org, &state, size)? {
                return Ok(());
            }
            let mut writing = self.begin().await?;
            nodes::extend(&mut reading, &mut writing, org, state, size).await?;
            writing.commit().await?;
            if begun.elapsed() >= wait {
                return Err(AuditError::NotYet);
            }
        }
    }

    /// Erases what the entries from before that time said, in a log of which the retention is over for them; how many those
    /// are. A leaf in the log tells it.
    pub(super) async fn erase(&self, org: OrgTag, before_unix_s: i64) -> Result<u64, AuditError> {
        let mut erased = 0;
        loop {
            let _changing = self.changing(org).await;
            let mut open = self.begin().await?;
            let mut state = State::of(&mut open, org).await?;
            let mut old = from_before(&mut open, org, state.erased_below, before_unix_s).await?;
            let mut writing = self.begin().await?;
            let Some(last) = old.last() else {
                if state.erased_below > state.announced_below {
                    state.announced_below = state.erased_below;
                    state.put(&mut writing, org).await?;
                    let leaf = announcement(writing.now(), state.erased_below);
                    append(&mut writing, org, leaf, self.0.store.entropy().as_ref()).await?;
                    writing.commit().await?;
                }
                return Ok(erased);
            };
            state.erased_below = last.number.saturating_add(1);
            state.put(&mut writing, org).await?;
            old.retain(|entry| entry.content.is_some());
            writing.erase_contents(LogKind::Audit, org, &old).await?;
            writing.commit().await?;
            erased += old.len() as u64;
        }
    }

    async fn changing(&self, org: OrgTag) -> MutexGuard<'_, ()> {
        // Tags are random, and there is no empty one.
        let place = org.as_bytes().last().map_or(0, |byte| usize::from(*byte) % LOCKS);
        #[allow(clippy::indexing_slicing, reason = "INVARIANT: the remainder is below the length")]
        self.0.changing[place].lock().await
    }

    pub(super) async fn begin(&self) -> Result<Open, StoreError> {
        self.0.store.begin(self.0.clock.now()).await
    }
}

async fn hashes(
    open: &mut Open,
    org: OrgTag,
    with_nodes: u64,
    ranges: Vec<std::ops::Range<u64>>,
) -> Result<Vec<Hash>, AuditError> {
    let mut hashes = Vec::with_capacity(ranges.len());
    for range in ranges {
        hashes.push(nodes::range_hash(open, org, with_nodes, range).await?);
    }
    Ok(hashes)
}

/// The entries from a number on that are old enough to be erased, as many as one transaction erases.
async fn from_before(open: &mut Open, org: OrgTag, first: u64, unix_s: i64) -> Result<Vec<ErasableEntry>, AuditError> {
    let size = open.next_number(LogKind::Audit, org).await?;
    let mut old = Vec::new();
    // Most logs have nothing to be erased at most times, which one entry tells.
    for count in [1, ERASED_AT_ONCE] {
        let end = first.saturating_add(count).min(size);
        old = nodes::entries(open, org, first.min(end)..end).await?;
        old.truncate(old.iter().take_while(|entry| is_from_before(entry, unix_s)).count());
        if old.is_empty() {
            break;
        }
    }
    for entry in &old {
        nodes::hash_of(org, entry)?;
    }
    Ok(old)
}

/// Whether an entry is old enough to be erased, or says nothing any more.
fn is_from_before(entry: &ErasableEntry, unix_s: i64) -> bool {
    let Some(content) = &entry.content else { return true };
    // What is no leaf is no leaf of ours; it stays, and is found by whoever verifies.
    prost::Message::decode(content.as_slice()).is_ok_and(|leaf: Leaf| leaf.unix_s < unix_s)
}

fn announcement(now: &sys_policy::Now, erased_below: u64) -> Leaf {
    Leaf {
        unix_s: now.unix_s,
        nanos: now.nanos,
        method: RETENTION.to_owned(),
        outcome: OK.to_owned(),
        erased_below,
        ..Leaf::default()
    }
}
