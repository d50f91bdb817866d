//! Answers that were given, by name, kind and whether they are signed: bounded, and dropped whole with the zones that they are of.
//!
//! There are two parts. What stands in the zone is in one; what strangers make up (names that do not exist, what a
//! wildcard stands for, kinds that are not there) is in the other, so a flood of those evicts nothing that is asked for in earnest.
//! Each part is cut into shards, and each shard has two generations: when the younger one is full it becomes the older one, whose
//! entries are gone with the next turn unless they are asked for before.

use super::message::Entry;
use crate::query::MOST_NAME_BYTES;
use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    sync::{Arc, PoisonError, RwLock},
};

/// Octets of answers from the zone, and of made-up ones, in each of two generations, keys and overhead counted.
const ZONE_BYTES: usize = 8 * 1024 * 1024;
const MADE_UP_BYTES: usize = 2 * 1024 * 1024;
/// Threads meet at a lock with this chance at most.
const SHARDS: usize = 16;
/// What an entry takes besides its octets and its key, about.
const OVERHEAD_BYTES: usize = 192;

/// Name, kind and whether it is signed, in octets that no other question has.
pub(super) struct Key {
    bytes: [u8; MOST_NAME_BYTES + 3],
    length: usize,
}

impl Key {
    pub(super) fn new(name: &[u8], kind: u16, is_signed: bool) -> Option<Self> {
        let mut bytes = [0; MOST_NAME_BYTES + 3];
        let [high, low] = kind.to_be_bytes();
        let (head, rest) = bytes.split_first_chunk_mut()?;
        *head = [high, low, u8::from(is_signed)];
        rest.get_mut(..name.len())?.copy_from_slice(name);
        Some(Self { bytes, length: name.len().checked_add(3)? })
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

#[derive(Debug)]
pub(super) struct Cache {
    hasher: RandomState,
    zone: [RwLock<Shard>; SHARDS],
    made_up: [RwLock<Shard>; SHARDS],
}

#[derive(Debug, Default)]
struct Shard {
    young: HashMap<Box<[u8]>, Arc<Entry>>,
    young_bytes: usize,
    old: HashMap<Box<[u8]>, Arc<Entry>>,
}

impl Shard {
    fn put(&mut self, key: &[u8], entry: Arc<Entry>, most_bytes: usize) {
        let bytes = entry.bytes.len().saturating_add(key.len()).saturating_add(OVERHEAD_BYTES);
        if self.young_bytes.saturating_add(bytes) > most_bytes {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        // One that took the place of another is counted twice, which is a turn that comes a little early.
        self.young_bytes = self.young_bytes.saturating_add(bytes);
        self.young.insert(key.into(), entry);
    }
}

impl Cache {
    pub(super) fn new() -> Self {
        Self { hasher: RandomState::new(), zone: Default::default(), made_up: Default::default() }
    }

    /// The answer that is given out at this time.
    pub(super) fn get(&self, key: &Key, now_unix_s: i64) -> Option<Arc<Entry>> {
        let at = self.shard(key);
        self.look(&self.zone, at, ZONE_BYTES, key, now_unix_s)
            .or_else(|| self.look(&self.made_up, at, MADE_UP_BYTES, key, now_unix_s))
    }

    pub(super) fn put(&self, key: &Key, entry: &Arc<Entry>) {
        let (part, most_bytes) =
            if entry.is_of_the_zone { (&self.zone, ZONE_BYTES) } else { (&self.made_up, MADE_UP_BYTES) };
        let Some(shard) = part.get(self.shard(key)) else { return };
        let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
        shard.put(key.bytes(), entry.clone(), most_bytes / SHARDS);
    }

    fn shard(&self, key: &Key) -> usize {
        usize::try_from(self.hasher.hash_one(key.bytes())).unwrap_or(0) % SHARDS
    }

    fn look(
        &self,
        part: &[RwLock<Shard>],
        at: usize,
        most_bytes: usize,
        key: &Key,
        now_unix_s: i64,
    ) -> Option<Arc<Entry>> {
        let shard = part.get(at)?;
        let read = shard.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = read.young.get(key.bytes()) {
            return Some(entry.clone()).filter(|entry| entry.given_out.contains(&now_unix_s));
        }
        let entry = read.old.get(key.bytes()).filter(|entry| entry.given_out.contains(&now_unix_s))?.clone();
        drop(read);
        let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
        shard.put(key.bytes(), entry.clone(), most_bytes / SHARDS);
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::Name;

    fn entry(is_of_the_zone: bool) -> Arc<Entry> {
        Arc::new(Entry {
            bytes: vec![0; 400].into(),
            essential_bytes: 400,
            additional: 0,
            essential_additional: 0,
            smallest_ttl_s: 60,
            given_out: 10..20,
            is_of_the_zone,
        })
    }

    fn key(label: u32) -> Key {
        Key::new(Name::parse(&format!("n{label}.example.org")).unwrap().wire(), 1, true).unwrap()
    }

    #[test]
    fn a_flood_of_made_up_names_is_bounded_and_evicts_nothing_of_the_zone() {
        let cache = Cache::new();
        (0..500).for_each(|label| cache.put(&key(label), &entry(true)));
        (1_000..60_000).for_each(|label| cache.put(&key(label), &entry(false)));
        assert!((0..500).all(|label| cache.get(&key(label), 15).is_some()));
        let bytes: usize = cache
            .made_up
            .iter()
            .map(|shard| {
                let shard = shard.read().unwrap();
                (shard.young.len() + shard.old.len()) * 400
            })
            .sum();
        assert!(bytes <= 2 * MADE_UP_BYTES, "{bytes}");
        assert!((1_000..60_000).any(|label| cache.get(&key(label), 15).is_some()));
    }

    #[test]
    fn what_is_asked_for_stays_over_the_turns() {
        let cache = Cache::new();
        cache.put(&key(0), &entry(false));
        for label in 1..60_000 {
            cache.put(&key(label), &entry(false));
            assert!(cache.get(&key(0), 15).is_some(), "{label}");
        }
    }

    #[test]
    fn an_answer_is_given_out_in_its_time_alone() {
        let cache = Cache::new();
        cache.put(&key(0), &entry(true));
        assert_eq!([9, 10, 19, 20].map(|now| cache.get(&key(0), now).is_some()), [false, true, true, false]);
        assert!(cache.get(&Key::new(Name::parse("n0.example.org").unwrap().wire(), 1, false).unwrap(), 15).is_none());
    }
}
