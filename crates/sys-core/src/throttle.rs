//! Buckets: how often a source, an account or a sign-in may knock.
//!
//! Each key has a token bucket (GCRA). Memory is bounded: when a table is full, buckets that have refilled are dropped, and
//! if none has, all share one bucket until some do. A stranger who knocks at a victim's account slows that account's
//! sign-in from his own source only.

use crate::refusal::{Code, Refusal};
use aws_lc_rs::digest::{SHA256, digest};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use std::{
    fmt,
    hash::Hash,
    net::IpAddr,
    num::NonZeroU32,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};
use sys_contract::id::AccountId;

/// Buckets in one table. One takes about 100 bytes.
const MAX_BUCKETS: usize = 100_000;
/// How often a full table is looked through for buckets that have refilled.
const SWEEP_INTERVAL: Duration = Duration::from_millis(100);

/// Calls in a second, and how many may come at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Refilled in a second.
    pub per_second: NonZeroU32,
    /// Taken at once.
    pub burst: NonZeroU32,
}

/// The rates of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    /// For a source: an IPv4 address, or the /64 of an IPv6 address.
    pub source: Rate,
    /// For an account.
    pub account: Rate,
    /// Sign-ins from one source in a minute, at one account.
    pub sign_in_per_minute: NonZeroU32,
}

const fn rate(per_second: u32, burst: u32) -> Rate {
    let (Some(per_second), Some(burst)) = (NonZeroU32::new(per_second), NonZeroU32::new(burst)) else {
        // Evaluated at compile time: a zero does not build.
        #[allow(clippy::panic, reason = "INVARIANT: a constant, checked by the compiler")]
        {
            panic!("a rate is above zero")
        }
    };
    Rate { per_second, burst }
}

impl Default for Rates {
    fn default() -> Self {
        Self { source: rate(500, 2_000), account: rate(200, 1_000), sign_in_per_minute: rate(10, 1).per_second }
    }
}

/// The buckets of a server.
pub struct Throttle {
    sources: Buckets<SourceKey>,
    accounts: Buckets<AccountId>,
    sign_ins: Buckets<[u8; 16]>,
}

impl fmt::Debug for Throttle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Throttle").field("sources", &self.sources.buckets.len()).finish_non_exhaustive()
    }
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum SourceKey {
    V4([u8; 4]),
    /// The network that one customer is given.
    V6([u8; 8]),
}

impl Throttle {
    /// Full buckets for these rates.
    pub fn new(rates: Rates) -> Self {
        let quota = |rate: Rate| Quota::per_second(rate.per_second).allow_burst(rate.burst);
        Self {
            sources: Buckets::new(quota(rates.source), MAX_BUCKETS),
            accounts: Buckets::new(quota(rates.account), MAX_BUCKETS),
            sign_ins: Buckets::new(Quota::per_minute(rates.sign_in_per_minute), MAX_BUCKETS),
        }
    }

    /// Takes one from the source's bucket.
    pub fn source(&self, source: IpAddr) -> Result<(), Refusal> {
        let key = match source.to_canonical() {
            IpAddr::V4(v4) => SourceKey::V4(v4.octets()),
            IpAddr::V6(v6) => {
                let [a, b, c, d, e, f, g, h, ..] = v6.octets();
                SourceKey::V6([a, b, c, d, e, f, g, h])
            }
        };
        self.sources.take(&key, &SourceKey::V4([0; 4])).ok_or_else(|| too_many("SOURCE_THROTTLED"))
    }

    /// Takes one from the account's bucket.
    pub fn account(&self, account: AccountId) -> Result<(), Refusal> {
        // An account is proven by a token, so that nobody makes many up: there is no bucket to share.
        self.accounts.take(&account, &account).ok_or_else(|| too_many("ACCOUNT_THROTTLED"))
    }

    /// Takes one from the bucket of this source's sign-ins at this account. `subject` is what names the account in the
    /// request, whether the account exists or not.
    pub fn sign_in(&self, subject: &str, source: Option<IpAddr>) -> Result<(), Refusal> {
        let mut input = subject.as_bytes().to_vec();
        input.push(0);
        if let Some(source) = source {
            input.extend_from_slice(source.to_canonical().to_string().as_bytes());
        }
        let mut key = [0; 16];
        key.iter_mut().zip(digest(&SHA256, &input).as_ref()).for_each(|(to, from)| *to = *from);
        self.sign_ins
            .take(&key, &[0; 16])
            .ok_or_else(|| too_many("SIGN_IN_THROTTLED").help("wait a minute, then try again"))
    }
}

fn too_many(reason: &'static str) -> Refusal {
    Refusal::new(Code::ResourceExhausted, reason, "too many calls").help("wait a second, then try again")
}

struct Buckets<K: Hash + Eq + Clone> {
    buckets: DefaultKeyedRateLimiter<K>,
    capacity: usize,
    swept: Mutex<Option<Instant>>,
}

impl<K: Hash + Eq + Clone> Buckets<K> {
    fn new(quota: Quota, capacity: usize) -> Self {
        Self { buckets: RateLimiter::keyed(quota), capacity, swept: Mutex::default() }
    }

    fn take(&self, key: &K, when_full: &K) -> Option<()> {
        let key = if self.is_full() && self.is_full_when_swept() { when_full } else { key };
        self.buckets.check_key(key).ok()
    }

    fn is_full(&self) -> bool {
        self.buckets.len() >= self.capacity
    }

    /// Drops what has refilled, though not with every call: the walk over a full table costs more than a call.
    fn is_full_when_swept(&self) -> bool {
        let mut swept = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
        if swept.is_none_or(|at| at.elapsed() >= SWEEP_INTERVAL) {
            self.buckets.retain_recent();
            *swept = Some(Instant::now());
        }
        self.is_full()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_14_a_stranger_does_not_lock_a_victim_out() {
        let throttle = Throttle::new(Rates::default());
        let [victim, stranger]: [IpAddr; 2] = ["192.0.2.1".parse().unwrap(), "198.51.100.7".parse().unwrap()];
        while throttle.sign_in("a@example.org", Some(stranger)).is_ok() {}
        assert!(throttle.sign_in("a@example.org", Some(victim)).is_ok());
        assert!(throttle.sign_in("b@example.org", Some(stranger)).is_ok());
        let refusal = throttle.sign_in("a@example.org", Some(stranger)).unwrap_err();
        assert_eq!((refusal.code, refusal.reason), (Code::ResourceExhausted, "SIGN_IN_THROTTLED"));
    }

    #[test]
    fn a_full_table_does_not_grow() {
        let buckets: Buckets<u32> = Buckets::new(Quota::per_minute(NonZeroU32::MIN), 1_000);
        for key in 1..=1_000 {
            assert!(buckets.take(&key, &0).is_some());
        }
        assert!(buckets.take(&1_001, &0).is_some(), "the first of the bucket that is shared from here on");
        assert!((1_002..2_000).all(|key| buckets.take(&key, &0).is_none()));
        assert_eq!(buckets.buckets.len(), 1_001);
    }

    #[test]
    fn addresses_of_one_network_share_a_bucket() {
        let rates = Rates { source: rate(1, 3), ..Rates::default() };
        let throttle = Throttle::new(rates);
        for n in 1..=3 {
            assert!(throttle.source(format!("2001:db8::{n}").parse().unwrap()).is_ok());
        }
        assert!(throttle.source("2001:db8::4".parse().unwrap()).is_err());
        assert!(throttle.source("2001:db8:0:1::1".parse().unwrap()).is_ok());
    }
}
