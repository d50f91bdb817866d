//! A map of bounded size that strangers may write to: it never refuses a key, and forgets the least of what it holds.
//!
//! A key can stand in one of a few thousand sets, and a set holds eight keys. Which set it is depends on random numbers of
//! this process, so that nobody can aim at another's. A call costs the same whether the map is empty or under a flood: one
//! lock that few share, and eight comparisons.

use governor::{nanos::Nanos, state::StateStore};
use std::{
    fmt,
    hash::{BuildHasher, Hash, RandomState},
    sync::{Mutex, PoisonError},
};

/// Keys in a set.
pub(super) const WAYS: usize = 8;

type Set<K, V> = Mutex<Vec<(K, V)>>;

/// Keys and what is known of them. In a full set the least value makes room for a new key.
pub(super) struct Bounded<K, V> {
    sets: Box<[Set<K, V>]>,
    hasher: RandomState,
}

impl<K, V> fmt::Debug for Bounded<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bounded").field("capacity", &(self.sets.len() * WAYS)).finish_non_exhaustive()
    }
}

impl<K: Hash + Eq + Clone, V: Copy + Ord> Bounded<K, V> {
    /// An empty map of so many sets, a power of two. One takes 32 bytes while it is empty.
    pub(super) fn new(sets: usize) -> Self {
        debug_assert!(sets.is_power_of_two(), "the mask below needs it");
        Self { sets: (0..sets).map(|_| Mutex::default()).collect(), hasher: RandomState::new() }
    }

    /// What is known of this key.
    pub(super) fn get(&self, key: &K) -> Option<V> {
        self.change(key, Err::<((), V), _>).err().flatten()
    }

    /// Replaces what is known of this key by what `change` makes of it; not where that is an error. Nobody else sees or
    /// changes the key meanwhile.
    pub(super) fn change<T, E>(&self, key: &K, change: impl FnOnce(Option<V>) -> Result<(T, V), E>) -> Result<T, E> {
        let mask = u64::try_from(self.sets.len()).unwrap_or(1).wrapping_sub(1);
        let index = usize::try_from(self.hasher.hash_one(key) & mask).unwrap_or_default();
        // There always is one below the mask.
        let Some(set) = self.sets.get(index) else { return change(None).map(|(done, _)| done) };
        // A panic while the lock was held leaves values that are whole.
        let mut set = set.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, value)) = set.iter_mut().find(|(known, _)| known == key) {
            let (done, new) = change(Some(*value))?;
            *value = new;
            return Ok(done);
        }
        let (done, new) = change(None)?;
        if set.len() < WAYS {
            set.push((key.clone(), new));
        } else if let Some(least) = set.iter_mut().min_by_key(|(_, value)| *value) {
            *least = (key.clone(), new);
        }
        Ok(done)
    }

    /// How many keys it holds, counted.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.sets.iter().map(|set| set.lock().unwrap().len()).sum()
    }
}

/// As the buckets of a rate limiter: the value is the time at which a bucket is full again. What is forgotten is the bucket
/// that is full soonest, if it is not full already: that is to its owner's good, so that nobody pays for strangers, and whoever
/// is deepest in debt is the last to be forgotten.
impl<K: Hash + Eq + Clone> StateStore for Bounded<K, Nanos> {
    type Key = K;

    fn measure_and_replace<T, F, E>(&self, key: &K, measure: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        self.change(key, measure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETS: usize = 8_192;

    fn put(map: &Bounded<u64, u64>, key: u64, value: u64) {
        map.change(&key, |_| Ok::<_, ()>(((), value))).unwrap();
    }

    #[test]
    fn it_holds_what_was_put_and_no_more_than_its_size() {
        let map = Bounded::new(SETS);
        for key in 0..300_000 {
            put(&map, key, key + 1);
            assert_eq!(map.get(&key), Some(key + 1), "a new key is never refused");
        }
        assert!(map.len() <= SETS * WAYS, "{}", map.len());
        assert!(map.sets.iter().all(|set| set.lock().unwrap().capacity() <= WAYS), "memory is bounded, too");
    }

    #[test]
    fn what_is_greatest_is_forgotten_last() {
        let map = Bounded::new(SETS);
        // Fewer than one in eight sets gets one: none is crowded out by its like.
        for key in 0..100 {
            put(&map, key, u64::MAX);
        }
        (1_000..300_000).for_each(|key| put(&map, key, 1));
        assert!((0..100).all(|key| map.get(&key) == Some(u64::MAX)));
    }

    #[test]
    fn an_error_changes_nothing() {
        let map = Bounded::new(SETS);
        put(&map, 1, 7);
        assert_eq!(map.change(&1, Err::<((), u64), _>), Err(Some(7)));
        assert_eq!(map.change(&2, Err::<((), u64), _>), Err(None));
        assert_eq!((map.get(&1), map.len()), (Some(7), 1));
    }
}
