//! The nodes of the trees that are kept: the roots of whole subtrees of 256 leaves, of 256 times as many, and so on.
//!
//! They are computed from the entries once these are there, in transactions of their own, and what is computed stays right:
//! entries do not change. So the root of a log of any length, or a proof in it, takes the hashes of at most 255 entries and 255
//! nodes of each kind. Rows are sealed like all of the server's own; beside the nodes of a log stands its [`State`].

use super::logs::AuditError;
use prost::Message;
use std::ops::Range;
use sys_audit::{
    Hash,
    tree::{HASH_BYTES, Run, leaf_hash},
};
use sys_contract::id::OrgTag;
use sys_store::{ErasableEntry, LogKind, Open, SystemKind, engine::Order};

/// A node that is kept stands over 2 to the power of this many of the kind below it.
const STEP: u32 = 8;
/// How many that is.
const WIDTH: u64 = 1 << STEP;
/// Heights of the nodes that are kept, highest first: a log has fewer than 2 to the power of 64 entries.
const HEIGHTS: [u32; 7] = [56, 48, 40, 32, 24, 16, 8];
/// Blocks of [`WIDTH`] entries that one transaction computes: some 50 ms of work.
const BLOCKS: u64 = 32;
/// The place of a log's state among its nodes.
const STATE: u8 = u8::MAX;

/// How far a log has come.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct State {
    /// The entries below this number have their nodes.
    #[prost(uint64, tag = "1")]
    pub(super) with_nodes: u64,
    /// The size of the largest head that was signed.
    #[prost(uint64, tag = "2")]
    pub(super) signed_size: u64,
    /// Its root.
    #[prost(bytes = "vec", tag = "3")]
    pub(super) signed_root: Vec<u8>,
    /// What the entries below this number said is erased.
    #[prost(uint64, tag = "4")]
    pub(super) erased_below: u64,
    /// A leaf of the log says that what stands below this number is erased.
    #[prost(uint64, tag = "5")]
    pub(super) announced_below: u64,
}

impl State {
    pub(super) async fn of(open: &mut Open, org: OrgTag) -> Result<Self, AuditError> {
        let Some(row) = open.row(SystemKind::AuditNode, &name(org, STATE, &[])).await? else {
            return Ok(Self::default());
        };
        Self::decode(row.as_slice()).map_err(|_| AuditError::damaged(org, "its state cannot be read"))
    }

    pub(super) async fn put(&self, open: &mut Open, org: OrgTag) -> Result<(), AuditError> {
        Ok(open.put_row(SystemKind::AuditNode, &name(org, STATE, &[]), self.encode_to_vec()).await?)
    }
}

/// Whether a log of this size has entries that wait for a node.
pub(super) fn is_behind(org: OrgTag, state: &State, size: u64) -> Result<bool, AuditError> {
    let without = size.checked_sub(state.with_nodes);
    let without = without.ok_or_else(|| AuditError::damaged(org, "it has fewer entries than its tree"))?;
    Ok(without >= WIDTH)
}

/// Computes the next nodes of a log of this size. Two transactions, since one that has read the end of a log conflicts with
/// each entry that comes: this one is to commit.
pub(super) async fn extend(
    reading: &mut Open,
    writing: &mut Open,
    org: OrgTag,
    mut state: State,
    size: u64,
) -> Result<(), AuditError> {
    for _ in 0..BLOCKS {
        let next = state.with_nodes.saturating_add(WIDTH);
        if next > size {
            break;
        }
        let mut run = Run::default();
        for entry in entries(reading, org, state.with_nodes..next).await? {
            run.push_leaf(hash_of(org, &entry)?);
        }
        put_node(writing, org, STEP, state.with_nodes / WIDTH, run.root()).await?;
        state.with_nodes = next;
        add_parents(writing, org, next).await?;
    }
    state.put(writing, org).await
}

/// The nodes above the lowest ones that became whole with this many entries.
async fn add_parents(open: &mut Open, org: OrgTag, entries: u64) -> Result<(), AuditError> {
    for height in HEIGHTS.into_iter().rev().skip(1) {
        if !entries.is_multiple_of(1 << height) {
            break;
        }
        let index = (entries >> height).saturating_sub(1);
        let below = index.saturating_mul(WIDTH)..index.saturating_add(1).saturating_mul(WIDTH);
        let mut run = Run::default();
        for hash in nodes(open, org, height - STEP, below).await? {
            run.push(height - STEP, hash);
        }
        put_node(open, org, height, index, run.root()).await?;
    }
    Ok(())
}

/// The hash over a range of a log's entries that begins where [`Run`] may begin.
pub(super) async fn range_hash(
    open: &mut Open,
    org: OrgTag,
    with_nodes: u64,
    range: Range<u64>,
) -> Result<Hash, AuditError> {
    let (mut run, mut at) = (Run::default(), range.start);
    while at < range.end {
        // The highest kind of which a node begins here and ends inside the range, and how many of it follow each other.
        let whole = range.end.min(with_nodes);
        let kept = HEIGHTS.into_iter().find(|height| {
            at.is_multiple_of(1 << height) && at.checked_add(1 << height).is_some_and(|end| end <= whole)
        });
        if let Some(height) = kept {
            let first = at >> height;
            // Behind the last of its siblings a node of the next kind may begin.
            let siblings_end = (first / WIDTH).saturating_add(1).saturating_mul(WIDTH);
            let last = (whole >> height).min(siblings_end);
            for hash in nodes(open, org, height, first..last).await? {
                run.push(height, hash);
            }
            at = last << height;
        } else {
            let end = (at / WIDTH).saturating_add(1).saturating_mul(WIDTH).min(range.end);
            for entry in entries(open, org, at..end).await? {
                run.push_leaf(Hash(entry.stub));
            }
            at = end;
        }
    }
    Ok(run.root())
}

/// These entries of a log, all of them.
pub(super) async fn entries(
    open: &mut Open,
    org: OrgTag,
    numbers: Range<u64>,
) -> Result<Vec<ErasableEntry>, AuditError> {
    let count = usize::try_from(numbers.end.saturating_sub(numbers.start)).unwrap_or(usize::MAX);
    let found = open.erasable_entries(LogKind::Audit, org, numbers.clone(), Order::Asc, count).await?;
    if found.len() != count || !numbers.zip(&found).all(|(number, entry)| entry.number == number) {
        return Err(AuditError::damaged(org, "entries are missing in it"));
    }
    Ok(found)
}

/// The hash of an entry, if it is that of what the entry says.
pub(super) fn hash_of(org: OrgTag, entry: &ErasableEntry) -> Result<Hash, AuditError> {
    let hash = Hash(entry.stub);
    match &entry.content {
        Some(content) if leaf_hash(content) != hash => Err(AuditError::damaged(org, "an entry does not have its hash")),
        Some(_) | None => Ok(hash),
    }
}

/// These nodes of one height, all of them.
async fn nodes(open: &mut Open, org: OrgTag, height: u32, indexes: Range<u64>) -> Result<Vec<Hash>, AuditError> {
    let kind = name(org, kind_of(height), &[]);
    let before = indexes.start.checked_sub(1).map(|before| node_name(org, height, before));
    let count = usize::try_from(indexes.end.saturating_sub(indexes.start)).unwrap_or(usize::MAX);
    let rows = open.rows(SystemKind::AuditNode, &kind, before.as_deref(), count).await?;
    let mut hashes = Vec::with_capacity(rows.len());
    for (index, (row, hash)) in indexes.zip(&rows) {
        let hash = Hash::from_slice(hash).filter(|_| *row == node_name(org, height, index));
        hashes.push(hash.ok_or_else(|| AuditError::damaged(org, "a node of its tree is wrong"))?);
    }
    if hashes.len() == count { Ok(hashes) } else { Err(AuditError::damaged(org, "nodes of its tree are missing")) }
}

async fn put_node(open: &mut Open, org: OrgTag, height: u32, index: u64, hash: Hash) -> Result<(), AuditError> {
    let hash: [u8; HASH_BYTES] = hash.0;
    Ok(open.put_row(SystemKind::AuditNode, &node_name(org, height, index), hash.to_vec()).await?)
}

/// `org tag 6 | height 1 | index 8`.
fn node_name(org: OrgTag, height: u32, index: u64) -> Vec<u8> {
    name(org, kind_of(height), &index.to_be_bytes())
}

/// Heights are below 64.
fn kind_of(height: u32) -> u8 {
    u8::try_from(height).unwrap_or(STATE)
}

fn name(org: OrgTag, kind: u8, rest: &[u8]) -> Vec<u8> {
    [org.as_bytes().as_slice(), &[kind], rest].concat()
}
