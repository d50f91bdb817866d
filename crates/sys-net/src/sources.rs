//! How many connections each source has open, and who has to go where others find no place.
//!
//! Where all places are taken, who has most gives one to who has few. So a source that holds as many connections as it can, each of
//! them busy enough not to be idle, takes places from itself alone once others come. The same goes for whole neighbourhoods, which one hand may
//! hold: none that has many takes the last places by having few in each of its networks. What must never happen here: a search through
//! all connections, which whoever floods could ask for.

use crate::network::{Neighbourhood, Network};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::Hash,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;

/// So many connections more than another one a source may have, however crowded it is: what a browser opens at once.
const FEW: usize = 8;
/// The same of a neighbourhood: four such sources, whose neighbours may be strangers to each other.
const FEW_AROUND: usize = 32;

/// The connections of a listener by source. As large as the number of connections at most.
#[derive(Debug)]
pub struct Sources {
    most: usize,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    networks: Holders<Network>,
    neighbourhoods: Holders<Neighbourhood>,
    counted: u64,
}

/// Who holds which connections.
#[derive(Debug)]
struct Holders<K> {
    /// The connections of each, by the number that they were counted under.
    of: HashMap<K, BTreeMap<u64, Held>>,
    /// How many each has, who has most last.
    by_count: BTreeSet<(usize, K)>,
}

/// A connection: whose it is, and what tells it to leave.
#[derive(Debug, Clone)]
struct Held(Network, Arc<Notify>);

/// A connection's place among those of its source, until it is dropped.
#[derive(Debug)]
pub struct Counted {
    sources: Arc<Sources>,
    source: Network,
    number: u64,
    leave: Arc<Notify>,
}

/// What there is for one more connection where all places are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// Another one was told to leave, at once.
    Made,
    /// Nobody has many more than he: he has to wait until somebody goes.
    None,
    /// He has many himself, or those around him have.
    TooMany,
}

impl Sources {
    /// With so many connections from one source at most.
    pub fn new(most: usize) -> Self {
        Self { most, open: Mutex::default() }
    }

    /// Counts one more connection from this address, unless its source has so many.
    pub fn count(self: &Arc<Self>, address: IpAddr) -> Option<Counted> {
        let source = Network::of(address);
        let mut open = self.locked();
        if open.networks.count(source) >= self.most {
            return None;
        }
        let leave = Arc::<Notify>::default();
        let number = open.add(Held(source, Arc::clone(&leave)));
        Some(Counted { sources: Arc::clone(self), source, number, leave })
    }

    /// Makes room for one more connection from this address where all places are taken: the source with most loses its youngest one, or else the
    /// neighbourhood with most, unless this one has as many.
    pub fn make_room(&self, address: IpAddr) -> Room {
        let source = Network::of(address);
        let around = source.neighbourhood();
        let mut open = self.locked();
        let (own, own_around) = (open.networks.count(source), open.neighbourhoods.count(around));
        let crowd = open.networks.youngest_of_more_than(own.saturating_add(FEW));
        let crowd = crowd.or_else(|| open.neighbourhoods.youngest_of_more_than(own_around.saturating_add(FEW_AROUND)));
        if let Some((number, Held(source, leave))) = crowd {
            // Who was told does not count any more.
            open.remove(source, number);
            leave.notify_one();
            return Room::Made;
        }
        if own > FEW || own_around > FEW_AROUND { Room::TooMany } else { Room::None }
    }

    fn locked(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn add(&mut self, held: Held) -> u64 {
        self.counted += 1;
        self.neighbourhoods.add(held.0.neighbourhood(), self.counted, held.clone());
        self.networks.add(held.0, self.counted, held);
        self.counted
    }

    fn remove(&mut self, source: Network, number: u64) {
        self.networks.remove(source, number);
        self.neighbourhoods.remove(source.neighbourhood(), number);
    }
}

impl<K: Copy + Hash + Ord> Holders<K> {
    fn count(&self, of: K) -> usize {
        self.of.get(&of).map_or(0, BTreeMap::len)
    }

    fn add(&mut self, to: K, number: u64, held: Held) {
        let before = self.count(to);
        self.of.entry(to).or_default().insert(number, held);
        self.moved(to, before);
    }

    /// Takes one away, unless it is away.
    fn remove(&mut self, of: K, number: u64) {
        let before = self.count(of);
        if let Some(held) = self.of.get_mut(&of) {
            held.remove(&number);
            if held.is_empty() {
                self.of.remove(&of);
            }
        }
        self.moved(of, before);
    }

    fn moved(&mut self, holder: K, before: usize) {
        self.by_count.remove(&(before, holder));
        let now = self.count(holder);
        if now > 0 {
            self.by_count.insert((now, holder));
        }
    }

    /// The youngest connection of who has most, if that is more than this.
    fn youngest_of_more_than(&self, few: usize) -> Option<(u64, Held)> {
        let (count, most) = self.by_count.last()?;
        let (number, held) = self.of.get(most)?.last_key_value()?;
        (*count > few).then(|| (*number, held.clone()))
    }
}

impl<K> Default for Holders<K> {
    fn default() -> Self {
        Self { of: HashMap::new(), by_count: BTreeSet::new() }
    }
}

impl Counted {
    /// What tells it to leave.
    pub fn leave(&self) -> Arc<Notify> {
        Arc::clone(&self.leave)
    }

    /// Comes back when it has to leave, if ever.
    pub async fn is_to_leave(&self) {
        self.leave.notified().await;
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.sources.locked().remove(self.source, self.number);
    }
}

#[cfg(test)]
mod tests;
