//! Requests that wait behind nobody, and how many of them there may be.
//!
//! Whoever watches over a server must hear from it above all when there is much to do. But what waits behind nobody costs what
//! others wait for, so that there is a rate for it: of each source, and of all. Who asks more often takes turns as everybody does,
//! which is fair by source. What must never happen here: a source that uses up what another one has.

use std::{
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};
use sys_net::Network;

/// How often a source may be ahead, on the whole: ten watchers that ask twice a second.
const EVERY_OF_SOURCE: Duration = Duration::from_millis(50);
/// How often at once.
const BURST_OF_SOURCE: u32 = 40;
/// The same for all of them: at some 10 us each, a hundredth of a processor.
const EVERY_OF_ALL: Duration = Duration::from_millis(1);
const BURST_OF_ALL: u32 = 200;
/// Sources that are told apart. Two that share a place, by a key that nobody knows, share its rate.
const PLACES: usize = 4_096;

/// In the extensions of a request that waits behind nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ahead;

/// Who may be ahead.
#[derive(Debug)]
pub(crate) struct AheadOfOthers {
    path: &'static str,
    began: Instant,
    key: RandomState,
    /// For each place, when it will have paid for what it took: nanoseconds after `began` (GCRA).
    paid: Box<[AtomicU64]>,
    all_paid: AtomicU64,
}

impl AheadOfOthers {
    /// Requests for this path may be.
    pub(crate) fn new(path: &'static str) -> Self {
        Self {
            path,
            began: Instant::now(),
            key: RandomState::new(),
            paid: (0..PLACES).map(|_| AtomicU64::new(0)).collect(),
            all_paid: AtomicU64::new(0),
        }
    }

    /// Whether a request for this path that comes now is ahead of others.
    pub(crate) fn admits(&self, path: &str, address: IpAddr, now: Instant) -> bool {
        path == self.path && self.takes(address, now)
    }

    fn takes(&self, address: IpAddr, now: Instant) -> bool {
        let now = nanos(now.saturating_duration_since(self.began));
        let places = u64::try_from(self.paid.len()).unwrap_or(u64::MAX).max(1);
        let place = usize::try_from(self.key.hash_one(Network::of(address)) % places).unwrap_or(0);
        // First its own, so that who has used up his takes nothing from all.
        self.paid.get(place).is_some_and(|paid| take(paid, now, EVERY_OF_SOURCE, BURST_OF_SOURCE))
            && take(&self.all_paid, now, EVERY_OF_ALL, BURST_OF_ALL)
    }
}

/// Takes one, if no more than the burst is owed then.
fn take(paid: &AtomicU64, now: u64, every: Duration, burst: u32) -> bool {
    let (every, most) = (nanos(every), nanos(every.saturating_mul(burst)));
    let taken = paid.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |paid| {
        let paid = paid.max(now).saturating_add(every);
        (paid - now <= most).then_some(paid)
    });
    taken.is_ok()
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "/ahead";

    fn source(third: u8, last: u8) -> IpAddr {
        IpAddr::from([10, 0, third, last])
    }

    #[test]
    fn a_source_is_ahead_so_often_and_takes_nothing_from_another() {
        let ahead = AheadOfOthers::new(PATH);
        let now = ahead.began;
        assert!(!ahead.admits("/other", source(0, 1), now));
        let taken = (0..1_000).filter(|_| ahead.admits(PATH, source(0, 1), now)).count();
        assert_eq!(taken, 40);
        // Some hundred others: one of them may share a place with the first.
        let others = (0..100).filter(|last| ahead.admits(PATH, source(1, *last), now)).count();
        assert!(others >= 97, "{others}");
        let later = now + Duration::from_secs(1);
        let taken = (0..1_000).filter(|_| ahead.admits(PATH, source(0, 1), later)).count();
        assert_eq!(taken, 20, "one second's worth");
    }

    #[test]
    fn all_together_are_ahead_so_often_and_no_more() {
        let ahead = AheadOfOthers::new(PATH);
        let (mut now, mut taken) = (ahead.began, 0);
        for _ in 0..10 {
            for third in 0..40 {
                taken += (0..=255).filter(|last| ahead.admits(PATH, source(third, *last), now)).count();
            }
            now += Duration::from_millis(100);
        }
        assert_eq!(taken, 200 + 900);
    }

    #[test]
    fn a_network_counts_as_one_source() {
        let ahead = AheadOfOthers::new(PATH);
        let host = |host: u16| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, host]);
        assert_eq!((0..1_000).filter(|number| ahead.admits(PATH, host(*number), ahead.began)).count(), 40);
    }
}
