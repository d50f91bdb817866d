//! Callers in memory: what a token says and what its account may do, so that a request costs no signature check and no
//! walk over bindings.
//!
//! An entry is a guess that is checked: the transaction of each call reads the account's epoch and compares it with the
//! entry's, so that a revocation that committed before the call acts on it; and each request's connection is held against what
//! the entry's session is bound to ([`super::way`]). Entries also go at once when the server that
//! holds them commits a change to the account.

use crate::{
    epoch::Epoch,
    token::{CertificateHash, Claims},
};
use aws_lc_rs::digest::{SHA256, digest};
use std::{
    collections::HashMap,
    fmt,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
};
use sys_contract::id::AccountId;
use sys_policy::Caller;

/// Tokens kept in one generation of the cache; there are two. An entry takes about 500 bytes.
const ENTRIES: usize = 16_384;

/// A caller and the state of his account that he was loaded in.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) claims: Claims,
    pub(crate) caller: Arc<Caller>,
    pub(crate) epoch: Epoch,
    /// When the session ends by itself, which may be long after the token does.
    pub(crate) session_ends_unix_s: i64,
    /// The certificate over whose connections alone the token is good.
    pub(crate) bound_to: Option<CertificateHash>,
}

/// SHA-256 of an access token: the token itself is not kept.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct TokenHash([u8; 32]);

impl TokenHash {
    pub(crate) fn of(token: &str) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        Self(hash)
    }
}

/// The cache. Bounded: of two generations the older one goes when the younger one is full.
#[derive(Default)]
pub(crate) struct Callers(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    known: Generations<TokenHash, Known>,
    /// How often somebody was forgotten.
    forgotten: u64,
}

/// A moment in the life of the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AsOf(u64);

impl fmt::Debug for Callers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Callers")
    }
}

impl Callers {
    pub(crate) fn get(&self, token: &TokenHash) -> Option<Known> {
        self.locked().known.get(token)
    }

    /// This moment, for [`Callers::put`]. To be taken before the caller is loaded.
    pub(crate) fn as_of(&self) -> AsOf {
        AsOf(self.locked().forgotten)
    }

    /// Keeps a caller who was loaded since then, unless anybody was forgotten meanwhile: it may have been he, and what was
    /// loaded would be refused at each call as long as the token lasts.
    pub(crate) fn put(&self, token: TokenHash, known: Known, as_of: AsOf) {
        let mut kept = self.locked();
        if as_of == AsOf(kept.forgotten) {
            kept.known.put(token, known);
        }
    }

    /// Forgets whoever logged in as this account.
    pub(crate) fn forget(&self, account: AccountId) {
        let mut kept = self.locked();
        kept.forgotten = kept.forgotten.wrapping_add(1);
        kept.known.retain(|known| known.claims.account != account);
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Kept> {
        // A panic while the lock was held leaves a cache that is still a cache.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Generations<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K, V> Default for Generations<K, V> {
    fn default() -> Self {
        Self { young: HashMap::new(), old: HashMap::new() }
    }
}

impl<K: Eq + Hash + Copy, V: Clone> Generations<K, V> {
    fn get(&mut self, key: &K) -> Option<V> {
        if let Some(value) = self.young.get(key) {
            return Some(value.clone());
        }
        let value = self.old.remove(key)?;
        self.put(*key, value.clone());
        Some(value)
    }

    fn put(&mut self, key: K, value: V) {
        if self.young.len() >= ENTRIES {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }

    fn retain(&mut self, keep: impl Fn(&V) -> bool) {
        self.young.retain(|_, value| keep(value));
        self.old.retain(|_, value| keep(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_bounded_and_keeps_what_is_used() {
        let mut cache = Generations::default();
        for n in 0..ENTRIES * 5 {
            cache.put(n, n);
            assert_eq!(cache.get(&0), Some(0), "used all the time");
            assert!(cache.young.len() + cache.old.len() <= 2 * ENTRIES + 1);
        }
        assert_eq!(cache.get(&1), None, "not used for long");
        cache.retain(|n| *n != 0);
        assert_eq!(cache.get(&0), None);
    }
}
