//! Whether requests come faster than they are begun with, and who is turned away then.
//!
//! Requests are begun with a few at a time: one of each source that waits, and again, and of one source in the order of their
//! arrival ([`crate::lanes`]). A request that is begun with has its turn until it
//! waits for something itself, such as the disk: until then it needs a processor and nothing else. So the requests that wait here
//! are all that the processors are short of, and the runtime's own queue stays short: sockets are read, and answers written,
//! when there is something to read or write, however much there is to do.
//!
//! How long a request would wait is known when it arrives: as many turns as come before it, at the pace of the last ones. Where
//! that is too long, it is turned away at once, while its caller has the most time left to go elsewhere; everybody else is answered
//! in time. To take it and find out later that it is too late would cost more than to say so now, and would keep others waiting.

use crate::lanes::Lanes;
use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use sys_net::Network;
use tokio::sync::oneshot;

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
    turns: Mutex<Turns>,
    /// Nanoseconds after `began` of the last turn.
    last_turn: AtomicU64,
    /// Nanoseconds from one turn to the next, lately, while somebody waited.
    pace: AtomicU64,
}

/// The turns that nobody has, and who waits for one. While somebody waits, there are none.
#[derive(Debug)]
struct Turns {
    free: usize,
    waiting: Lanes<oneshot::Sender<Turn>>,
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

/// A turn. Where it is dropped, the next one has it.
#[derive(Debug)]
pub(crate) struct Turn(Arc<Congestion>);

/// A request that waits for its turn, until this is dropped.
#[derive(Debug)]
pub(crate) struct Waiting {
    congestion: Arc<Congestion>,
    source: Network,
    ticket: u64,
    since: Instant,
    turn: oneshot::Receiver<Turn>,
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
    async fn turn(mut self) -> Option<Turn> {
        // It is dropped by nobody but who goes away; if somebody did, nothing would have to wait any more.
        let turn = (&mut self.turn).await.ok();
        self.congestion.note(self.since, Instant::now());
        turn
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // Who has had his turn has no place any more.
        drop(self.congestion.turns().waiting.remove(self.source, self.ticket));
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let next = {
            let mut turns = self.0.turns();
            let next = turns.waiting.next();
            if next.is_none() {
                turns.free += 1;
            }
            next
        };
        if let Some(next) = next {
            // Who has gone at this moment lets go of it again, and so the one after him has it.
            drop(next.send(Turn(Arc::clone(&self.0))));
        }
    }
}

impl Congestion {
    /// For the runtime that this is called in. No request is taken in that would wait longer than this for its turn.
    pub(crate) fn new(longest_wait: Duration) -> Self {
        let threads = tokio::runtime::Handle::current().metrics().num_workers();
        Self::with_turns(threads.saturating_mul(TURNS_PER_THREAD), longest_wait)
    }

    /// For handshakes, which are work from the beginning to the end of their turn: one for each thread, so that no request waits
    /// behind more than one of them.
    pub(crate) fn of_handshakes(longest_wait: Duration) -> Self {
        Self::with_turns(tokio::runtime::Handle::current().metrics().num_workers(), longest_wait)
    }

    fn with_turns(turns: usize, longest_wait: Duration) -> Self {
        Self {
            began: Instant::now(),
            longest_wait_nanos: nanos(longest_wait),
            turns: Mutex::new(Turns { free: turns, waiting: Lanes::default() }),
            last_turn: AtomicU64::new(0),
            pace: AtomicU64::new(nanos(FIRST_PACE)),
        }
    }

    /// A request arrives from this address.
    pub(crate) fn arrive(self: &Arc<Self>, address: IpAddr, since: Instant) -> Place {
        self.place(address, since, self.longest_wait_nanos)
    }

    /// What was begun with goes on, however long it waits for it: work was done for it that would be lost.
    pub(crate) fn go_on(self: &Arc<Self>, address: IpAddr, since: Instant) -> Place {
        self.place(address, since, u64::MAX)
    }

    fn place(self: &Arc<Self>, address: IpAddr, since: Instant, longest_wait_nanos: u64) -> Place {
        let source = Network::of(address);
        let mut turns = self.turns();
        if let Some(free) = turns.free.checked_sub(1) {
            turns.free = free;
            return Place::Turn(Turn(Arc::clone(self)));
        }
        let before = u64::try_from(turns.waiting.before(source)).unwrap_or(u64::MAX);
        let wait = self.pace.load(Ordering::Relaxed).saturating_mul(before);
        if wait >= longest_wait_nanos || !turns.waiting.has_room(source, MOST_WAITING) {
            return Place::TurnedAway;
        }
        let (sender, turn) = oneshot::channel();
        let ticket = turns.waiting.push(source, sender);
        drop(turns);
        Place::Waiting(Waiting { congestion: Arc::clone(self), source, ticket, since, turn })
    }

    fn turns(&self) -> MutexGuard<'_, Turns> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
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
    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const ELSEWHERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    fn now_or_never<T>(future: impl Future<Output = T>) -> Option<T> {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    #[test]
    fn who_comes_first_is_begun_with_first_and_who_goes_away_leaves_his_place() {
        let congestion = Arc::new(Congestion::with_turns(1, LONGEST_WAIT));
        let Place::Turn(turn) = congestion.arrive(HERE, Instant::now()) else { panic!("nobody waits") };
        let mut waiting: Vec<_> = (0..3).map(|_| Box::pin(congestion.arrive(HERE, Instant::now()).turn())).collect();
        assert!(waiting.iter_mut().all(|place| now_or_never(place).is_none()));
        drop(waiting.remove(0));
        assert_eq!(congestion.turns().waiting.waiting(), 2);
        drop(turn);
        assert!(now_or_never(&mut waiting[1]).is_none());
        let turn = now_or_never(&mut waiting[0]).flatten().expect("his turn");
        assert!(now_or_never(&mut waiting[1]).is_none());
        drop(turn);
        drop(now_or_never(&mut waiting[1]).flatten().expect("his turn"));
        assert_eq!(congestion.turns().waiting.waiting(), 0);
        assert!(matches!(congestion.arrive(HERE, Instant::now()), Place::Turn(_)));
    }

    /// How many requests are taken in until one is turned away, where turns take so long.
    fn taken_in(pace: Duration) -> usize {
        let congestion = Arc::new(Congestion::with_turns(1, LONGEST_WAIT));
        congestion.pace.store(nanos(pace), Ordering::Relaxed);
        let _turn = congestion.arrive(HERE, Instant::now());
        let mut places = Vec::new();
        loop {
            match congestion.arrive(HERE, Instant::now()) {
                Place::TurnedAway => return places.len(),
                place => places.push(place),
            }
        }
    }

    #[test]
    fn so_many_wait_as_have_their_turn_in_time_and_no_more_than_memory_takes() {
        assert_eq!(taken_in(Duration::from_millis(1)), 100);
        assert_eq!(taken_in(Duration::from_micros(100)), 1_000);
        assert_eq!(taken_in(Duration::from_nanos(1)), MOST_WAITING / 2, "the other half is for others");
        assert_eq!(taken_in(2 * LONGEST_WAIT), 1, "one may always wait");
    }

    #[test]
    fn whoever_fills_the_queue_keeps_nobody_else_from_a_place_and_from_his_turn() {
        let congestion = Arc::new(Congestion::with_turns(1, LONGEST_WAIT));
        congestion.pace.store(nanos(Duration::from_millis(1)), Ordering::Relaxed);
        let mut turn = match congestion.arrive(HERE, Instant::now()) {
            Place::Turn(turn) => turn,
            other => panic!("{other:?}"),
        };
        let mut greedy = Vec::new();
        loop {
            match congestion.arrive(HERE, Instant::now()) {
                Place::TurnedAway => break,
                place => greedy.push(Box::pin(place.turn())),
            }
        }
        for _ in 0..10 {
            let mut polite = Box::pin(congestion.arrive(ELSEWHERE, Instant::now()).turn());
            // One of the greedy is before him, and then it is he.
            drop(turn);
            turn = now_or_never(greedy.remove(0)).flatten().expect("its turn");
            drop(turn);
            turn = now_or_never(&mut polite).flatten().expect("his turn");
        }
    }

    #[test]
    fn who_goes_away_with_his_turn_in_hand_leaves_it_to_the_next() {
        let congestion = Arc::new(Congestion::with_turns(1, LONGEST_WAIT));
        let Place::Turn(turn) = congestion.arrive(HERE, Instant::now()) else { panic!("nobody waits") };
        let [gone, next] = [HERE, ELSEWHERE].map(|source| congestion.arrive(source, Instant::now()));
        drop(turn);
        drop(gone);
        drop(now_or_never(Box::pin(next.turn())).flatten().expect("his turn"));
        assert_eq!(congestion.turns().free, 1);
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
