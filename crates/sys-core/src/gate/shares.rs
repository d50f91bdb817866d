//! The rule by which many share what there is little of: each has at most as much as is left over for others. One alone takes
//! half, two a third each, and there is always some for who comes first from elsewhere.
//!
//! What must never happen here: somebody without any share who is remembered.

use std::{collections::HashMap, hash::Hash};

/// What is shared, and what each has of it. As large as there are who have some.
#[derive(Debug)]
pub(super) struct Shares<K> {
    most: usize,
    taken: usize,
    of: HashMap<K, Share>,
}

/// What one has.
#[derive(Debug, Default)]
struct Share {
    taken: usize,
    /// What was given to him beyond that. It counts against him alone: else he would use up by it what is left for others.
    past: usize,
}

impl<K: Eq + Hash> Shares<K> {
    /// Nobody has any of so much.
    pub(super) fn new(most: usize) -> Self {
        Self { most, taken: 0, of: HashMap::new() }
    }

    /// What all have together.
    pub(super) fn taken(&self) -> usize {
        self.taken
    }

    /// What somebody was given past his share.
    pub(super) fn past(&self, who: &K) -> usize {
        self.of.get(who).map_or(0, |share| share.past)
    }

    /// Whether so much more leaves as much to others as he has then.
    pub(super) fn has_room(&self, who: &K, more: usize) -> bool {
        let own = self.of.get(who).map_or(0, |share| share.taken.saturating_add(share.past));
        own.saturating_add(more) <= self.most.saturating_sub(self.taken).saturating_sub(more)
    }

    /// Gives him so much more if there is room for it, which is what this says.
    pub(super) fn take(&mut self, who: K, more: usize) -> bool {
        let has_room = self.has_room(&who, more);
        if has_room && more > 0 {
            self.taken += more;
            self.of.entry(who).or_default().taken += more;
        }
        has_room
    }

    /// Gives him so much more in any case, past his share if need be.
    pub(super) fn take_anyway(&mut self, who: K, more: usize) {
        if more > 0 && !self.has_room(&who, more) {
            let past = &mut self.of.entry(who).or_default().past;
            *past = past.saturating_add(more);
        } else {
            self.take(who, more);
        }
    }

    /// Takes back so much of what he has, what is past his share first.
    pub(super) fn give_back(&mut self, who: &K, bytes: usize) {
        let Some(share) = self.of.get_mut(who) else { return };
        let past = share.past.min(bytes);
        share.past -= past;
        let of_share = share.taken.min(bytes - past);
        share.taken -= of_share;
        self.taken = self.taken.saturating_sub(of_share);
        if share.taken == 0 && share.past == 0 {
            self.of.remove(who);
        }
    }

    /// How many have some.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.of.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All that one can take, one by one.
    fn fill(shares: &mut Shares<u8>, who: u8) -> usize {
        (0..).take_while(|_| shares.take(who, 1)).count()
    }

    #[test]
    fn each_has_at_most_what_he_leaves_to_others() {
        let mut shares = Shares::new(1_200);
        assert_eq!(fill(&mut shares, 1), 600, "one alone has half");
        assert_eq!(fill(&mut shares, 2), 300);
        shares.give_back(&1, 200);
        assert_eq!((fill(&mut shares, 2), fill(&mut shares, 1)), (100, 0), "two have a third each");
        for other in 3..8 {
            assert!(shares.take(other, 1), "there is some for another");
        }
        assert!(!shares.take(9, 1_200) && !shares.take(9, usize::MAX), "nor in one piece");
        for (who, bytes) in [(1, 400), (2, 400), (9, 5)].into_iter().chain((3..8).map(|who| (who, 1))) {
            shares.give_back(&who, bytes);
        }
        assert_eq!((shares.taken(), shares.count()), (0, 0));
    }

    #[test]
    fn what_is_past_a_share_counts_against_him_who_has_it_alone() {
        let mut shares = Shares::new(1_200);
        assert_eq!(fill(&mut shares, 1), 600);
        shares.take_anyway(1, 5_000);
        assert_eq!((shares.taken(), shares.past(&1), shares.past(&2)), (600, 5_000, 0));
        assert_eq!(fill(&mut shares, 2), 300, "as if it were not there");
        shares.give_back(&1, 4_900);
        assert!(!shares.take(1, 1));
        shares.give_back(&1, 500);
        assert_eq!((shares.taken(), shares.past(&1)), (500, 0));
        shares.give_back(&1, 200);
        assert_eq!((shares.taken(), shares.count()), (300, 1));
        shares.take_anyway(1, 10);
        assert_eq!(shares.past(&1), 0, "there is room for it");
    }
}
