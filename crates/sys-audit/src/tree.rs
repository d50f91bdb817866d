//! The Merkle tree of RFC 6962 section 2: hashes, proofs, and what verifies them.
//!
//! `leaf = SHA-256(0x00 | bytes)`, `node = SHA-256(0x01 | left | right)`; a tree of n leaves splits at the highest power of two
//! below n. A proof is made in two steps, so that whoever keeps a log need not hold it in memory: [`inclusion`] and
//! [`consistency`] name the ranges of leaves whose hashes are the proof, and a [`Run`] hashes one such range from its leaves or
//! from whole subtrees of it. Verification follows RFC 9162 sections 2.1.3.2 and 2.1.4.2.

use aws_lc_rs::digest::{Context, SHA256};
use data_encoding::HEXLOWER;
use std::{fmt, ops::Range};

/// Bytes of a [`Hash`].
pub const HASH_BYTES: usize = 32;

/// A hash of a leaf, a node or a tree.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hash(pub [u8; HASH_BYTES]);

impl Hash {
    /// Reads a hash from exactly its bytes.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The hash of a leaf.
pub fn leaf_hash(leaf: &[u8]) -> Hash {
    sha256(&[&[0], leaf])
}

/// The hash of a node over two others.
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    sha256(&[&[1], &left.0, &right.0])
}

/// The root of the tree without leaves.
pub fn empty_root() -> Hash {
    sha256(&[])
}

/// Hashes leaves that follow each other, in memory for the logarithm of their number.
///
/// What is pushed are whole subtrees, from left to right. The first begins at a multiple of the least power of two that is no
/// smaller than the whole run: so begins a tree, and each range that [`inclusion`] and [`consistency`] name.
#[derive(Debug, Clone, Default)]
pub struct Run {
    /// Whole subtrees, highest first, with their heights.
    whole: Vec<(u32, Hash)>,
}

impl Run {
    /// Goes on with a leaf.
    pub fn push_leaf(&mut self, hash: Hash) {
        self.push(0, hash);
    }

    /// Goes on with a whole subtree of 2 to the power of `height` leaves, which begins at a multiple of that number.
    pub fn push(&mut self, height: u32, hash: Hash) {
        let (mut height, mut hash) = (height, hash);
        while let Some((_, left)) = self.whole.pop_if(|(below, _)| *below == height) {
            hash = node_hash(&left, &hash);
            height = height.saturating_add(1);
        }
        self.whole.push((height, hash));
    }

    /// The hash of the tree over all that was pushed.
    pub fn root(&self) -> Hash {
        let mut rising = self.whole.iter().rev().map(|(_, hash)| *hash);
        let Some(lowest) = rising.next() else { return empty_root() };
        rising.fold(lowest, |right, left| node_hash(&left, &right))
    }
}

/// The ranges of leaves whose hashes are the audit path of a leaf in the tree of `size` leaves, lowest first. `None` if the
/// leaf is not in that tree.
pub fn inclusion(leaf: u64, size: u64) -> Option<Vec<Range<u64>>> {
    if leaf >= size {
        return None;
    }
    let (mut path, mut tree) = (Vec::new(), 0..size);
    while let Some(middle) = middle(&tree) {
        let (left, right) = (tree.start..middle, middle..tree.end);
        let (next, beside) = if leaf < middle { (left, right) } else { (right, left) };
        path.push(beside);
        tree = next;
    }
    path.reverse();
    Some(path)
}

/// The ranges of leaves whose hashes prove that the tree of `first` leaves is the beginning of the tree of `second`. Empty if
/// the two are of one size, or if the first has no leaves: that is the beginning of everything. `None` if it is the larger one.
pub fn consistency(first: u64, second: u64) -> Option<Vec<Range<u64>>> {
    if first > second {
        return None;
    }
    if first == 0 {
        return Some(Vec::new());
    }
    let (mut path, mut tree, mut known) = (Vec::new(), 0..second, true);
    while tree.end != first {
        // The tree has more than one leaf, since `first` lies inside it.
        let middle = middle(&tree)?;
        let (left, right) = (tree.start..middle, middle..tree.end);
        if first <= middle {
            path.push(right);
            tree = left;
        } else {
            path.push(left);
            tree = right;
            known = false;
        }
    }
    if !known {
        path.push(tree);
    }
    path.reverse();
    Some(path)
}

/// The root of the tree of `size` leaves that has this leaf at this place, if the path leads there. It is for the caller to
/// compare it with a root that he trusts.
pub fn root_of_inclusion(leaf: u64, size: u64, hash: &Hash, path: &[Hash]) -> Option<Hash> {
    if leaf >= size {
        return None;
    }
    let (mut at, mut last, mut root) = (leaf, size.saturating_sub(1), *hash);
    for beside in path {
        if last == 0 {
            return None;
        }
        if at & 1 == 1 || at == last {
            root = node_hash(beside, &root);
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            root = node_hash(&root, beside);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    (last == 0).then_some(root)
}

/// Whether the tree of `first` leaves with one root is the beginning of the tree of `second` leaves with the other.
pub fn is_consistent(first: (u64, &Hash), second: (u64, &Hash), path: &[Hash]) -> bool {
    let ((first, first_root), (second, second_root)) = (first, second);
    if first == second {
        return first_root == second_root && path.is_empty();
    }
    if first == 0 {
        return *first_root == empty_root() && path.is_empty();
    }
    if first > second {
        return false;
    }
    // A whole subtree is in no proof: its root is known.
    let mut nodes = first.is_power_of_two().then_some(first_root).into_iter().chain(path);
    let Some(start) = nodes.next() else { return false };
    let (mut at, mut last) = (first.saturating_sub(1), second.saturating_sub(1));
    while at & 1 == 1 {
        (at, last) = (at >> 1, last >> 1);
    }
    let (mut of_first, mut of_second) = (*start, *start);
    for node in nodes {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            of_first = node_hash(node, &of_first);
            of_second = node_hash(node, &of_second);
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            of_second = node_hash(&of_second, node);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    last == 0 && of_first == *first_root && of_second == *second_root
}

/// Where a tree splits: behind the highest power of two below its number of leaves. A leaf does not.
fn middle(tree: &Range<u64>) -> Option<u64> {
    let leaves = tree.end.saturating_sub(tree.start);
    let below = leaves.checked_sub(1)?.checked_ilog2()?;
    tree.start.checked_add(1 << below)
}

fn sha256(parts: &[&[u8]]) -> Hash {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(part);
    }
    let mut hash = [0; HASH_BYTES];
    hash.copy_from_slice(context.finish().as_ref());
    Hash(hash)
}

#[cfg(test)]
mod tests;
