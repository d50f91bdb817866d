//! Whether requests come faster than they are begun with, and who is turned away then.
//!
//! Requests are begun with in the order of their arrival, a few at a time. A request that is begun with has its turn until it
//! waits for something itself, such as the disk: until then it needs a processor and nothing else. So the requests that wait here
//! are all that the processors are short of, and the runtime's own queue stays short: sockets are read, and answers written,
//! when there is something to read or write, however much there is to do.
//!
//! How long a request would wait is known when it arrives: as many turns as wait before it, at the pace of the last ones. Where
//! that is too long, it is turned away at once, while its caller has the most time left to go elsewhere; everybody else is answered
//! in time. To take it and find out later that it is too late would cost more than to say so now, and would keep others waiting.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Turns for each thread that serves: while one is taken, the next are on their way to it.
const TURNS_PER_THREAD: usize = 4;
/// Requests that wait for their turn at most, however fast it goes on. Each holds some kilobytes.
const MOST_WAITING: usize = 8_192;
/// The time from one turn to the next while nothing is known of it. It is soon found out.
const FIRST_PACE: Duration = Duration::from_micros(50);
/// What one turn adds at most to what is known of the pace: a machine that slept is not slow.
const SLOWEST_PACE: Duration = Duration::from_millis(10);
/// Turns of which the pace is a mean, with fading weight.
const PACE_OVER: u64 = 32;

/// When a request arrived. In the extensions of every request that is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival(pub Instant);

/// In the extensions of a request that is not to be served: it came when there was more to do than can be done. The service
/// says so to its caller, as cheaply as it can, and without waiting for anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TurnedAway;

/// The state of a listener, shared by its connections.
#[derive(Debug)]
pub(crate) struct Congestion {
    began: Instant,
    longest_wait_nanos: u64,
    turns: Arc<Semaphore>,
    waiting: AtomicUsize,
    /// Nanoseconds after `began` of the last turn.
    last_turn: AtomicU64,
    /// Nanoseconds from one turn to the next, lately, while somebody waited.
    pace: AtomicU64,
}

/// What becomes of a request that arrives.
#[derive(Debug)]
pub(crate) enum Place {
    /// It is begun with.
    Turn(Turn),
    /// Others are before it.
    Waiting(Waiting),
    /// It does not have to wait for others.
    Ahead,
    /// There are too many before it.
    TurnedAway,
}

/// A turn, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn(#[allow(dead_code, reason = "held, not read")] OwnedSemaphorePermit);

/// A request that waits for its turn, until this is dropped.
#[derive(Debug)]
pub(crate) struct Waiting {
    congestion: Arc<Congestion>,
    since: Instant,
}

impl Place {
    /// Waits for the turn, if there is one to wait for.
    pub(crate) async fn turn(self) -> Option<Turn> {
        match self {
            Self::Turn(turn) => Some(turn),
            Self::Waiting(waiting) => waiting.turn().await,
            Self::Ahead | Self::TurnedAway => None,
        }
    }
}

impl Waiting {
    async fn turn(self) -> Option<Turn> {
        let turn = Arc::clone(&self.congestion.turns).acquire_owned().await;
        self.congestion.note(self.since, Instant::now());
        // Nobody closes it; if somebody did, nothing would have to wait any more.
        turn.ok().map(Turn)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.congestion.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Congestion {
    /// For the runtime that this is called in. No request is taken in that would wait longer than this for its turn.
    pub(crate) fn new(longest_wait: Duration) -> Self {
        let threads = tokio::runtime::Handle::current().metrics().num_workers();
        Self::with_turns(threads.saturating_mul(TURNS_PER_THREAD), longest_wait)
    }

    fn with_turns(turns: usize, longest_wait: Duration) -> Self {
        Self {
            began: Instant::now(),
            longest_wait_nanos: nanos(longest_wait),
            turns: Arc::new(Semaphore::new(turns.min(Semaphore::MAX_PERMITS))),
            waiting: AtomicUsize::new(0),
            last_turn: AtomicU64::new(0),
            pace: AtomicU64::new(nanos(FIRST_PACE)),
        }
    }

    /// A request arrives.
    pub(crate) fn arrive(self: &Arc<Self>, since: Instant) -> Place {
        // On every request's way: one compare-and-swap where nobody waits.
        if let Ok(turn) = Arc::clone(&self.turns).try_acquire_owned() {
            return Place::Turn(Turn(turn));
        }
        let before = self.waiting.load(Ordering::Relaxed);
        let turns = u64::try_from(before).unwrap_or(u64::MAX);
        let wait = self.pace.load(Ordering::Relaxed).saturating_mul(turns);
        if before >= MOST_WAITING || wait >= self.longest_wait_nanos {
            return Place::TurnedAway;
        }
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Place::Waiting(Waiting { congestion: Arc::clone(self), since })
    }

    /// Somebody who has waited since then has his turn now. If he waited during the whole turn before, the time since that is the
    /// pace; two at the same moment may both take the same time for it, which does no harm.
    fn note(&self, since: Instant, now: Instant) {
        let now_nanos = nanos(now.saturating_duration_since(self.began));
        let last = self.last_turn.swap(now_nanos, Ordering::Relaxed);
        if nanos(since.saturating_duration_since(self.began)) <= last {
            let this = now_nanos.saturating_sub(last).min(nanos(SLOWEST_PACE));
            let pace = self.pace.load(Ordering::Relaxed);
            self.pace.store((pace * (PACE_OVER - 1) + this) / PACE_OVER, Ordering::Relaxed);
        }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        pin::pin,
        task::{Context, Poll, Waker},
    };

    const LONGEST_WAIT: Duration = Duration::from_millis(100);

    fn now_or_never<T>(future: impl Future<Output = T>) -> Option<T> {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    #[test]
    fn who_comes_first_is_begun_with_first_and_who_goes_away_leaves_his_place() {
        let congestion = Arc::new(Congestion::with_turns(1, LONGEST_WAIT));
        let Place::Turn(turn) = congestion.arrive(Instant::now()) else { panic!("nobody waits") };
        let mut waiting: Vec<_> = (0..3).map(|_| Box::pin(congestion.arrive(Instant::now()).turn())).collect();
        assert!(waiting.iter_mut().all(|place| now_or_never(place).is_none()));
        drop(waiting.remove(0));
        assert_eq!(congestion.waiting.load(Ordering::Relaxed), 2);
        drop(turn);
        assert!(now_or_never(&mut waiting[1]).is_none());
        let turn = now_or_never(&mut waiting[0]).flatten().expect("his turn");
        assert!(now_or_never(&mut waiting[1]).is_none());
        drop(turn);
        drop(now_or_never(&mut waiting[1]).flatten().expect("his turn"));
        assert_eq!(congestion.waiting.load(Ordering::Relaxed), 0);
        assert!(matches!(congestion.arrive(Instant::now()), Place::Turn(_)));
    }

    /// How many requests are taken in until one is turned away, where turns take so long.
    fn taken_in(pace: Duration) -> usize {
        let congestion = Arc::new(Congestion::with_turns(1, LONGEST_WAIT));
        congestion.pace.store(nanos(pace), Ordering::Relaxed);
        let _turn = congestion.arrive(Instant::now());
        let mut places = Vec::new();
        loop {
            match congestion.arrive(Instant::now()) {
                Place::TurnedAway => return places.len(),
                place => places.push(place),
            }
        }
    }

    #[test]
    fn so_many_wait_as_have_their_turn_in_time_and_no_more_than_memory_takes() {
        assert_eq!(taken_in(Duration::from_millis(1)), 100);
        assert_eq!(taken_in(Duration::from_micros(100)), 1_000);
        assert_eq!(taken_in(Duration::from_nanos(1)), MOST_WAITING);
        assert_eq!(taken_in(2 * LONGEST_WAIT), 1, "one may always wait");
    }

    #[test]
    fn the_pace_is_learnt_from_those_who_waited_and_from_nobody_else() {
        let congestion = Congestion::with_turns(1, LONGEST_WAIT);
        let at = |micros| congestion.began + Duration::from_micros(micros);
        for turn in 1..1_000 {
            congestion.note(at(0), at(turn * 200));
        }
        let learnt = congestion.pace.load(Ordering::Relaxed);
        assert!((190_000..=200_000).contains(&learnt), "{learnt}");
        // An hour in which nobody waited.
        congestion.note(at(3_600_000_000), at(3_600_000_100));
        assert_eq!(congestion.pace.load(Ordering::Relaxed), learnt);
        // An hour in which the machine slept.
        congestion.note(at(0), at(7_200_000_000));
        assert!(congestion.pace.load(Ordering::Relaxed) <= learnt + nanos(SLOWEST_PACE) / PACE_OVER);
    }
}
