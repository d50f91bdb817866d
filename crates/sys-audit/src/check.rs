//! A whole log, entry by entry, held against its head and against heads that were kept.

use crate::{
    head::{Distrust, Head},
    tree::{Hash, Run, leaf_hash},
};

/// What is wrong with an entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryFault {
    /// Entries are missing, or not in their order.
    #[error("entry {expected} is missing: entry {found} stands in its place")]
    Gap {
        /// The number that comes next.
        expected: u64,
        /// The number that came.
        found: u64,
    },
    /// The entry does not say what was hashed.
    #[error("entry {number} was changed: it does not have its hash any more")]
    Changed {
        /// The entry.
        number: u64,
    },
    /// The log, as far as this entry, is not what it was.
    #[error(transparent)]
    Distrust(#[from] Distrust),
}

/// Checks a log from its first entry on.
#[derive(Debug, Clone, Default)]
pub struct Checker {
    run: Run,
    next: u64,
    erased: u64,
    /// Heads to compare with on the way, the next one last.
    kept: Vec<Head>,
}

impl Checker {
    /// Checks against these heads on the way, where the log comes to their sizes.
    pub fn against(kept: impl IntoIterator<Item = Head>) -> Self {
        let mut kept: Vec<Head> = kept.into_iter().filter(|head| head.size > 0).collect();
        kept.sort_by_key(|head| std::cmp::Reverse(head.size));
        Self { kept, ..Self::default() }
    }

    /// The next entry: its number, its hash, and what it says unless that was erased.
    pub fn push(&mut self, number: u64, hash: Hash, leaf: Option<&[u8]>) -> Result<(), EntryFault> {
        if number != self.next {
            return Err(EntryFault::Gap { expected: self.next, found: number });
        }
        if leaf.is_some_and(|leaf| leaf_hash(leaf) != hash) {
            return Err(EntryFault::Changed { number });
        }
        self.run.push_leaf(hash);
        self.erased = self.erased.saturating_add(u64::from(leaf.is_none()));
        self.next = self.next.saturating_add(1);
        while let Some(head) = self.kept.pop_if(|head| head.size == self.next) {
            if head.root != self.run.root() {
                return Err(Distrust::Fork { log_id: head.log_id, kept: head.size }.into());
            }
        }
        Ok(())
    }

    /// How many entries there were so far.
    pub fn entries(&self) -> u64 {
        self.next
    }

    /// How many of them do not say any more what they said.
    pub fn erased(&self) -> u64 {
        self.erased
    }

    /// Whether this is the whole log of the head.
    pub fn finish(self, head: &Head) -> Result<(), Distrust> {
        let log_id = head.log_id.clone();
        let promised = self.kept.first().map_or(head.size, |largest| largest.size.max(head.size));
        if self.next < promised {
            return Err(Distrust::Cut { log_id, kept: promised, found: self.next });
        }
        if self.next > head.size || self.run.root() != head.root {
            return Err(Distrust::Fork { log_id, kept: head.size });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(count: u8) -> Vec<Vec<u8>> {
        (0..count).map(|number| vec![number; 3]).collect()
    }

    fn head(leaves: &[Vec<u8>]) -> Head {
        let mut run = Run::default();
        leaves.iter().for_each(|leaf| run.push_leaf(leaf_hash(leaf)));
        Head { log_id: "system".to_owned(), size: leaves.len() as u64, root: run.root(), unix_s: 0 }
    }

    /// Checks entries as they are now against a head and against kept ones.
    fn check(entries: &[(u64, Hash, Option<&[u8]>)], head: &Head, kept: &[Head]) -> Result<u64, EntryFault> {
        let mut checker = Checker::against(kept.to_vec());
        for (number, hash, leaf) in entries {
            checker.push(*number, *hash, *leaf)?;
        }
        let erased = checker.erased();
        checker.finish(head)?;
        Ok(erased)
    }

    fn entries(leaves: &[Vec<u8>]) -> Vec<(u64, Hash, Option<&[u8]>)> {
        (0..).zip(leaves).map(|(number, leaf)| (number, leaf_hash(leaf), Some(leaf.as_slice()))).collect()
    }

    #[test]
    fn a_log_agrees_with_its_head_and_with_all_that_were_kept_before() {
        let log = leaves(9);
        let kept: Vec<Head> = [0, 1, 4, 5, 5, 9].iter().map(|size| head(&log[..*size])).collect();
        assert_eq!(check(&entries(&log), &head(&log), &kept), Ok(0));
        assert_eq!(check(&[], &head(&[]), &[head(&[])]), Ok(0));
    }

    #[test]
    fn erased_leaves_leave_the_rest_verifiable() {
        let log = leaves(9);
        let mut entries = entries(&log);
        entries.iter_mut().take(6).for_each(|entry| entry.2 = None);
        assert_eq!(check(&entries, &head(&log), &[head(&log[..3])]), Ok(6));
        entries[8].2 = Some(b"other");
        assert_eq!(check(&entries, &head(&log), &[]), Err(EntryFault::Changed { number: 8 }));
    }

    #[test]
    fn whatever_is_done_to_a_log_is_found() {
        let log = leaves(9);
        let (good, whole, kept) = (entries(&log), head(&log), [head(&log[..4])]);
        let mut cut = good.clone();
        cut.pop();
        let found = Err(Distrust::Cut { log_id: "system".to_owned(), kept: 9, found: 8 }.into());
        assert_eq!(check(&cut, &whole, &kept), found);
        assert_eq!(
            check(&cut, &head(&log[..8]), std::slice::from_ref(&whole)),
            found,
            "also where the head was cut with it"
        );
        let mut gap = good.clone();
        gap.remove(3);
        assert_eq!(check(&gap, &whole, &kept), Err(EntryFault::Gap { expected: 3, found: 4 }));
        let mut twice = good.clone();
        twice.insert(3, good[2]);
        assert_eq!(check(&twice, &whole, &kept), Err(EntryFault::Gap { expected: 3, found: 2 }));
        let fork = |size| Err(EntryFault::from(Distrust::Fork { log_id: "system".to_owned(), kept: size }));
        let mut reordered = good.clone();
        (reordered[1], reordered[2]) = ((1, good[2].1, good[2].2), (2, good[1].1, good[1].2));
        assert_eq!(check(&reordered, &whole, &kept), fork(4));
        assert_eq!(check(&reordered, &whole, &[]), fork(9));
        let mut replaced = good.clone();
        replaced[7] = (7, leaf_hash(b"other"), Some(b"other"));
        assert_eq!(check(&replaced, &whole, &kept), fork(9));
        let mut longer = good.clone();
        longer.push((9, leaf_hash(b"more"), Some(b"more")));
        assert_eq!(check(&longer, &whole, &kept), fork(9));
    }
}
