//! How many connections each source has open, and who has to go where others find no place.
//!
//! Where all places are taken, who has most gives one to who has few. So a source that holds as many connections as it can, each of
//! them busy enough not to be idle, takes places from itself alone once others come.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;

/// So many connections more than another one a source may have, however crowded it is: what a browser opens at once.
const FEW: usize = 8;

/// The connections of a listener by source. As large as the number of connections at most.
#[derive(Debug, Default)]
pub(crate) struct Sources(Mutex<Open>);

#[derive(Debug, Default)]
struct Open {
    /// Each with the number that it was counted under, and what tells it to leave.
    by_source: HashMap<IpAddr, BTreeMap<u64, Arc<Notify>>>,
    counted: u64,
}

/// A connection's place among those of its source, until it is dropped.
#[derive(Debug)]
pub(crate) struct Counted {
    sources: Arc<Sources>,
    source: IpAddr,
    number: u64,
    leave: Arc<Notify>,
}

/// What there is for one more connection where all places are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// Another one was told to leave, at once.
    Made,
    /// Nobody has many more than he: he has to wait until somebody goes.
    None,
    /// He has many himself.
    TooMany,
}

impl Sources {
    /// Counts one more connection from this address, unless its source has so many.
    pub(crate) fn count(self: &Arc<Self>, address: IpAddr, most: usize) -> Option<Counted> {
        let source = source_of(address);
        let mut open = self.locked();
        if open.of(source) >= most {
            return None;
        }
        open.counted += 1;
        let (number, leave) = (open.counted, Arc::<Notify>::default());
        open.by_source.entry(source).or_default().insert(number, Arc::clone(&leave));
        Some(Counted { sources: Arc::clone(self), source, number, leave })
    }

    /// Makes room for one more connection from this address where all places are taken: the source with most loses its youngest one, unless this
    /// one has as many.
    pub(crate) fn make_room(&self, address: IpAddr) -> Room {
        let mut open = self.locked();
        let own = open.of(source_of(address));
        let youngest = open.by_source.values_mut().max_by_key(|connections| connections.len());
        if let Some(connections) = youngest
            && connections.len() > own.saturating_add(FEW)
            && let Some((_, leave)) = connections.pop_last()
        {
            leave.notify_one();
            return Room::Made;
        }
        if own > FEW { Room::TooMany } else { Room::None }
    }

    fn locked(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn of(&self, source: IpAddr) -> usize {
        self.by_source.get(&source).map_or(0, BTreeMap::len)
    }
}

impl Counted {
    /// What tells it to leave.
    pub(crate) fn leave(&self) -> Arc<Notify> {
        Arc::clone(&self.leave)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut open = self.sources.locked();
        if let Some(connections) = open.by_source.get_mut(&self.source) {
            connections.remove(&self.number);
            if connections.is_empty() {
                open.by_source.remove(&self.source);
            }
        }
    }
}

/// What counts as one source: an IPv4 address, or the /64 that one customer is given.
pub(crate) fn source_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_has_so_many_connections_and_no_more_and_leaves_nothing_behind() {
        let sources = Arc::new(Sources::default());
        let count = |address: &str| sources.count(address.parse().expect("an address"), 2);
        let (first, second) = (count("2001:db8::1"), count("2001:db8::2"));
        assert!(first.is_some() && second.is_some());
        assert!(count("2001:db8::3").is_none());
        assert!(count("2001:db8:0:1::1").is_some() && count("192.0.2.1").is_some());
        drop(first);
        assert!(count("2001:db8::3").is_some());
        drop(second);
        assert!(sources.locked().by_source.is_empty());
    }

    #[tokio::test]
    async fn who_has_most_makes_room_for_who_has_few() {
        let sources = Arc::new(Sources::default());
        let address = |last: u8| IpAddr::from([192, 0, 2, last]);
        let count = |last| sources.count(address(last), 100).unwrap();
        let greedy: Vec<_> = (0..20).map(|_| count(1)).collect();
        let modest: Vec<_> = (0..11).map(|_| count(2)).collect();
        assert_eq!(sources.make_room(address(1)), Room::TooMany);
        assert_eq!(sources.make_room(address(3)), Room::Made);
        greedy[19].leave().notified().await;
        // Who was told does not count any more, and is not told twice.
        assert_eq!([2, 3].map(|last| sources.make_room(address(last))), [Room::TooMany, Room::Made]);
        greedy[18].leave().notified().await;
        let told = (0..20).filter(|_| sources.make_room(address(3)) == Room::Made).count();
        assert_eq!(told, 10 + 3, "until nobody has many more than he");
        assert_eq!(sources.make_room(address(3)), Room::None);
        drop((greedy, modest));
        assert!(sources.locked().by_source.is_empty());
    }
}
