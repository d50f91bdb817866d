//! Whether requests come faster than they are begun.
//!
//! How long a request waits between its arrival and the moment at which somebody begins with it tells all that the machine is
//! short of; whoever begins with it is told, and turns away what waited too long. That needs requests to be read when they
//! come: of one that waits in a socket nobody knows how old it is, nor whether its caller has given it up. Only when there are
//! so many that memory is at stake, connections that have requests under way are not read, and the rest waits at the clients,
//! by TCP's own flow control; a new client's first request is heard even then.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

/// The wait of a request at which reading pauses.
const LONG_WAIT: Duration = Duration::from_millis(20);
/// For how long one such wait is believed, at most: then somebody must have waited anew.
const MAX_PAUSE: Duration = Duration::from_millis(50);
/// With fewer requests to begin with, reading goes on in any case. Each holds some kilobytes.
const LEFT_TO_DO: usize = 8_192;

/// When a request arrived. In the extensions of every request that is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival(pub Instant);

/// The state of a listener, shared by its connections.
#[derive(Debug)]
pub(crate) struct Congestion {
    begun: Instant,
    /// Nanoseconds after `begun` until which reading pauses; 0 when the last wait was short.
    until: AtomicU64,
    /// Requests that have arrived and are not begun with.
    waiting: AtomicUsize,
}

/// A request that has arrived and is not begun with, until this is dropped.
#[derive(Debug)]
pub(crate) struct Waiting {
    congestion: Arc<Congestion>,
    arrival: Arrival,
}

impl Waiting {
    /// Somebody begins with it.
    pub(crate) fn begin(self) -> Arrival {
        self.congestion.note(self.arrival);
        self.arrival
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.congestion.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Congestion {
    pub(crate) fn new() -> Self {
        Self { begun: Instant::now(), until: AtomicU64::new(0), waiting: AtomicUsize::new(0) }
    }

    /// A request arrives now.
    pub(crate) fn arrive(self: &Arc<Self>) -> Waiting {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting { congestion: Arc::clone(self), arrival: Arrival(Instant::now()) }
    }

    /// Notes how long a request waited that is begun now.
    fn note(&self, arrival: Arrival) {
        let now = Instant::now();
        let waited = now.saturating_duration_since(arrival.0);
        if waited >= LONG_WAIT {
            self.until.store(self.nanos(now + waited.min(MAX_PAUSE)), Ordering::Relaxed);
        } else if self.is_near() {
            self.until.store(0, Ordering::Relaxed);
        }
    }

    /// Whether reading pauses.
    pub(crate) fn is_here(&self) -> bool {
        self.is_near()
            && self.waiting.load(Ordering::Relaxed) >= LEFT_TO_DO
            && self.nanos(Instant::now()) < self.until.load(Ordering::Relaxed)
    }

    /// Whether the last wait was long, however long ago: what is read is read in small pieces then.
    pub(crate) fn is_near(&self) -> bool {
        self.until.load(Ordering::Relaxed) != 0
    }

    fn nanos(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.begun).as_nanos()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_wait_pauses_reading_until_a_short_one_or_for_a_while_or_until_little_is_left() {
        let congestion = Arc::new(Congestion::new());
        let ago = |wait: Duration| Arrival(Instant::now().checked_sub(wait).expect("the machine runs for a while"));
        let mut waiting: Vec<Waiting> = (0..LEFT_TO_DO).map(|_| congestion.arrive()).collect();
        congestion.note(ago(Duration::ZERO));
        assert!(!congestion.is_here() && !congestion.is_near());
        congestion.note(ago(10 * MAX_PAUSE));
        assert!(congestion.is_near());
        congestion.note(ago(Duration::ZERO));
        assert!(!congestion.is_here() && !congestion.is_near());
        // Nobody is begun with any more: it passes by itself.
        congestion.note(ago(LONG_WAIT));
        let begun = Instant::now();
        while congestion.is_here() {
            std::thread::yield_now();
        }
        assert!(begun.elapsed() >= LONG_WAIT / 2);
        // Little is left to do: nothing to wait for.
        congestion.until.store(u64::MAX, Ordering::Relaxed);
        assert!(congestion.is_here());
        waiting.pop();
        assert!(!congestion.is_here());
        drop(waiting);
        assert_eq!(congestion.waiting.load(Ordering::Relaxed), 0);
    }
}
