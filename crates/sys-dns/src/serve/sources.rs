//! How many streams each source has open, and who has to go where others find no place: where all are taken, who has most gives one to
//! who has few.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;

/// So many streams more than another one a source may have, however crowded it is.
const FEW: usize = 4;

/// The streams of a listener by source. As large as the number of streams at most.
#[derive(Debug, Default)]
pub(super) struct Sources(Mutex<Open>);

#[derive(Debug, Default)]
struct Open {
    /// Each with the number that it was counted under, and what tells it to leave.
    by_source: HashMap<IpAddr, BTreeMap<u64, Arc<Notify>>>,
    counted: u64,
}

/// A stream's place among those of its source, until it is dropped.
#[derive(Debug)]
pub(super) struct Counted {
    sources: Arc<Sources>,
    source: IpAddr,
    number: u64,
    leave: Arc<Notify>,
}

/// What there is for one more stream where all places are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    /// Another one was told to leave, at once.
    Made,
    /// Nobody has many more than he: he has to wait until somebody goes.
    None,
    /// He has many himself.
    TooMany,
}

impl Sources {
    /// Counts one more stream from this address, unless its source has so many.
    pub(super) fn count(self: &Arc<Self>, address: IpAddr, most: usize) -> Option<Counted> {
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

    /// Makes room for one more stream from this address where all places are taken: the source with most loses its youngest one, unless this
    /// one has as many.
    pub(super) fn make_room(&self, address: IpAddr) -> Room {
        let mut open = self.locked();
        let own = open.of(source_of(address));
        let most = open.by_source.values_mut().max_by_key(|streams| streams.len());
        if let Some(streams) = most
            && streams.len() > own.saturating_add(FEW)
            && let Some((_, leave)) = streams.pop_last()
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
    /// Comes back when it has to leave, if ever.
    pub(super) async fn is_to_leave(&self) {
        self.leave.notified().await;
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut open = self.sources.locked();
        if let Some(streams) = open.by_source.get_mut(&self.source) {
            streams.remove(&self.number);
            if streams.is_empty() {
                open.by_source.remove(&self.source);
            }
        }
    }
}

/// An IPv4 address, or the /64 that one customer has at least.
fn source_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_has_so_many_streams_and_leaves_nothing_behind() {
        let sources = Arc::new(Sources::default());
        let count = |address: &str| sources.count(address.parse().expect("an address"), 2);
        let (first, second) = (count("2001:db8::1"), count("2001:db8::2"));
        assert!(first.is_some() && second.is_some() && count("2001:db8::3").is_none());
        assert!(count("2001:db8:0:1::1").is_some() && count("::ffff:192.0.2.1").is_some());
        drop(first);
        assert!(count("2001:db8::3").is_some());
        drop(second);
        assert!(sources.locked().by_source.is_empty());
    }
}
