//! Those who wait, in a lane for each source.
//!
//! The lanes have their turns one after the other, and within a lane who came first. So a source that sends as much as it can
//! lengthens its own lane and nobody else's: who comes alone waits behind one of each other source. What must never happen
//! here: a lane without anybody in it, or a lane that stands twice in the order.

use std::collections::{BTreeMap, HashMap, VecDeque};
use sys_net::Network;

/// The lanes. As many as there are waiting at most.
#[derive(Debug)]
pub(crate) struct Lanes<T> {
    /// Hashed under a key of this process, so that nobody aims at the places of others.
    lanes: HashMap<Network, BTreeMap<u64, T>>,
    /// Each lane once, the next one first.
    order: VecDeque<Network>,
    next_ticket: u64,
    waiting: usize,
}

impl<T> Default for Lanes<T> {
    fn default() -> Self {
        Self { lanes: HashMap::new(), order: VecDeque::new(), next_ticket: 0, waiting: 0 }
    }
}

impl<T> Lanes<T> {
    /// How many have their turn before one more of this source, at most, if nobody else comes.
    pub(crate) fn before(&self, source: Network) -> usize {
        let own = self.length(source);
        let others = self.lanes.len() - usize::from(own > 0);
        // In each round until his own he is behind one of each other lane.
        own.saturating_add(others.saturating_mul(own + 1)).min(self.waiting)
    }

    /// Whether one more of this source has room where so many wait at most. A lane may be as long as what is left over: one
    /// alone takes half of it, two a third each, and there is always some for who comes first from elsewhere.
    pub(crate) fn has_room(&self, source: Network, most: usize) -> bool {
        self.length(source) < most.saturating_sub(self.waiting)
    }

    /// Puts one more at the end of his lane. The ticket is for [`Lanes::remove`].
    pub(crate) fn push(&mut self, source: Network, value: T) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.waiting += 1;
        let lane = self.lanes.entry(source).or_default();
        if lane.is_empty() {
            self.order.push_back(source);
        }
        lane.insert(ticket, value);
        ticket
    }

    /// Takes out who goes away, unless he has had his turn.
    pub(crate) fn remove(&mut self, source: Network, ticket: u64) -> Option<T> {
        let lane = self.lanes.get_mut(&source)?;
        let value = lane.remove(&ticket)?;
        self.waiting -= 1;
        if lane.is_empty() {
            self.lanes.remove(&source);
            self.order.retain(|other| *other != source);
        }
        Some(value)
    }

    /// Takes out whose turn it is.
    pub(crate) fn next(&mut self) -> Option<T> {
        let source = self.order.pop_front()?;
        let lane = self.lanes.get_mut(&source)?;
        let (_, value) = lane.pop_first()?;
        self.waiting -= 1;
        if lane.is_empty() {
            self.lanes.remove(&source);
        } else {
            self.order.push_back(source);
        }
        Some(value)
    }

    fn length(&self, source: Network) -> usize {
        self.lanes.get(&source).map_or(0, BTreeMap::len)
    }

    /// How many wait.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(last: u8) -> Network {
        Network::V4([192, 0, 2, last])
    }

    #[test]
    fn lanes_have_their_turns_one_after_the_other_and_leave_nothing_behind() {
        let mut lanes = Lanes::default();
        let [greedy, polite, other] = [1, 2, 3].map(source);
        for number in 0..4 {
            lanes.push(greedy, ("greedy", number));
        }
        lanes.push(polite, ("polite", 0));
        let gone = lanes.push(other, ("other", 0));
        let left = lanes.push(other, ("other", 1));
        assert_eq!(lanes.remove(other, gone), Some(("other", 0)));
        assert_eq!(lanes.remove(other, gone), None);
        assert_eq!(lanes.remove(greedy, left), None, "his ticket is of another lane");
        let turns: Vec<_> = std::iter::from_fn(|| lanes.next()).collect();
        let expect = [("greedy", 0), ("polite", 0), ("other", 1), ("greedy", 1), ("greedy", 2), ("greedy", 3)];
        assert_eq!(turns, expect);
        assert!(lanes.lanes.is_empty() && lanes.order.is_empty() && lanes.waiting() == 0);
    }

    #[test]
    fn who_goes_away_and_comes_back_has_one_lane() {
        let mut lanes = Lanes::default();
        for _ in 0..3 {
            let ticket = lanes.push(source(1), ());
            lanes.remove(source(1), ticket);
        }
        lanes.push(source(1), ());
        lanes.push(source(1), ());
        assert_eq!(lanes.order.len(), 1);
    }

    #[test]
    fn who_comes_alone_is_behind_one_of_each_other_source() {
        let mut lanes = Lanes::default();
        assert_eq!(lanes.before(source(1)), 0);
        for _ in 0..100 {
            lanes.push(source(1), ());
        }
        assert_eq!((lanes.before(source(1)), lanes.before(source(2))), (100, 1));
        lanes.push(source(2), ());
        assert_eq!((lanes.before(source(2)), lanes.before(source(3))), (3, 2));
        assert_eq!(lanes.before(source(1)), 101, "never more than there are");
    }

    #[test]
    fn a_lane_is_as_long_as_what_it_leaves_to_others() {
        let mut lanes = Lanes::default();
        let mut fill = |last| {
            while lanes.has_room(source(last), 100) {
                lanes.push(source(last), ());
            }
            lanes.length(source(last))
        };
        assert_eq!((fill(1), fill(2), fill(3), fill(1)), (50, 25, 13, 50));
        for last in 4..=10 {
            fill(last);
        }
        assert!(lanes.waiting() <= 100);
    }
}
