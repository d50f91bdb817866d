//! How many calls run at once. A call that waits for the disk or for a password's hash holds memory and a snapshot meanwhile:
//! of these there are so many, a few more wait for their turn, and the rest is told at once to come back.
//!
//! What only computes never gets here in numbers: it runs to its end when it is begun, and what has to wait before that is
//! the listener's concern, and [`too_late`]'s.

use crate::{
    refusal::{Reason, Refusal},
    throttle::Network,
};
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::{Semaphore, SemaphorePermit};

/// Calls that run at once: twice what one commit takes, so that the next one fills while a sync lasts.
pub(super) const RUNNING: usize = 512;
/// Calls that wait for their turn. A source may have as many of them as it leaves to others: one alone half, two a third each. So
/// nobody fills all places, and who comes first from elsewhere finds one.
pub(super) const WAITING: usize = 1_024;
/// The longest wait for a turn.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// Bytes of a body that count for nothing: most requests have fewer.
pub(super) const SMALL_BODY_BYTES: usize = 4 * 1_024;
/// The other bytes of all bodies that are held at the same time, from their arrival until their call ends. Who sends large
/// bodies slowly, and many of them, uses these up, and nobody's small calls suffer for it.
pub(super) const BODY_BYTES: usize = 128 << 20;
/// The longest wait of a request until somebody begins with it. Short beside the time that callers wait for an answer: what is
/// begun with must be answered while somebody waits for it.
const LONGEST_QUEUE: Duration = Duration::from_millis(250);
/// Rounds of watches at the same time. A commit may stir thousands of watches at once: they wait for each other, in order and as
/// long as it takes, and for none of the places that calls need.
const ROUNDS: usize = 8;
/// When it makes sense to come back.
const COME_BACK: Duration = Duration::from_secs(1);

/// The calls that run and wait.
#[derive(Debug)]
pub(crate) struct Load {
    running: Semaphore,
    waiting: Mutex<Waiting>,
    /// As many as stand in there, to be looked at without waiting.
    waiting_now: AtomicUsize,
    body_bytes: AtomicUsize,
    rounds: Semaphore,
}

/// Whose calls wait. As large as their number at most.
#[derive(Debug, Default)]
struct Waiting {
    all: usize,
    by_source: HashMap<Option<Network>, usize>,
}

/// A call's place among those that wait, until it is dropped.
#[derive(Debug)]
struct WaitingPlace<'a> {
    load: &'a Load,
    source: Option<Network>,
}

/// The bytes of a body that is held, until this is dropped.
#[derive(Debug)]
pub(crate) struct Held<'a> {
    load: &'a Load,
    body_bytes: usize,
    counted: usize,
}

/// A call's place among those that run, until it is dropped.
#[derive(Debug)]
pub(super) struct Running<'a>(#[allow(dead_code, reason = "held, not read")] SemaphorePermit<'a>);

impl Default for Load {
    fn default() -> Self {
        let body_bytes = AtomicUsize::new(0);
        let (waiting, waiting_now) = (Mutex::default(), AtomicUsize::new(0));
        Self { running: Semaphore::new(RUNNING), waiting, waiting_now, body_bytes, rounds: Semaphore::new(ROUNDS) }
    }
}

impl Load {
    /// Whether another call from there would have to be turned away.
    pub(super) fn is_full(&self, source: Option<IpAddr>) -> bool {
        // Where fewer wait than are left over, nobody has too many.
        self.waiting_now.load(Ordering::Relaxed) >= WAITING / 2 && self.waiting().is_full(source.map(Network::of))
    }

    /// Holds a body, of which nothing has come yet.
    pub(crate) fn hold(&self) -> Held<'_> {
        Held { load: self, body_bytes: 0, counted: 0 }
    }

    /// Counts so many bytes more. They count until they are let go of, whether there is room for them or not.
    pub(super) fn hold_bytes(&self, more: usize) -> Result<(), Refusal> {
        if more > 0 && self.body_bytes.fetch_add(more, Ordering::Relaxed) + more > BODY_BYTES {
            return Err(overloaded());
        }
        Ok(())
    }

    /// Counts so many bytes no more.
    pub(super) fn let_go_of(&self, bytes: usize) {
        if bytes > 0 {
            self.body_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    /// What counts now.
    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        self.body_bytes.load(Ordering::Relaxed)
    }

    /// Waits for a turn of a call from there. Who goes away meanwhile gives up his place.
    pub(super) async fn enter(&self, source: Option<IpAddr>) -> Result<Running<'_>, Refusal> {
        // On every call's way: one compare-and-swap where there is room.
        if let Ok(permit) = self.running.try_acquire() {
            return Ok(Running(permit));
        }
        let _waiting = self.wait(source.map(Network::of))?;
        match tokio::time::timeout(LONGEST_WAIT, self.running.acquire()).await {
            Ok(Ok(permit)) => Ok(Running(permit)),
            Ok(Err(closed)) => Err(Refusal::internal(closed)),
            Err(_) => Err(overloaded()),
        }
    }

    fn wait(&self, source: Option<Network>) -> Result<WaitingPlace<'_>, Refusal> {
        let mut waiting = self.waiting();
        if waiting.is_full(source) {
            return Err(overloaded());
        }
        waiting.all += 1;
        *waiting.by_source.entry(source).or_default() += 1;
        self.waiting_now.store(waiting.all, Ordering::Relaxed);
        Ok(WaitingPlace { load: self, source })
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a turn of a watch's round.
    pub(super) async fn enter_round(&self) -> Result<Running<'_>, Refusal> {
        self.rounds.acquire().await.map(Running).map_err(Refusal::internal)
    }
}

impl Waiting {
    fn is_full(&self, source: Option<Network>) -> bool {
        self.by_source.get(&source).copied().unwrap_or(0) >= WAITING.saturating_sub(self.all)
    }
}

impl Drop for WaitingPlace<'_> {
    fn drop(&mut self) {
        let mut waiting = self.load.waiting();
        waiting.all = waiting.all.saturating_sub(1);
        if let Some(count) = waiting.by_source.get_mut(&self.source) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                waiting.by_source.remove(&self.source);
            }
        }
        self.load.waiting_now.store(waiting.all, Ordering::Relaxed);
    }
}

impl Held<'_> {
    /// So many bytes more have come.
    pub(super) fn grow(&mut self, by: usize) -> Result<(), Refusal> {
        self.body_bytes = self.body_bytes.saturating_add(by);
        let more = self.body_bytes.saturating_sub(SMALL_BODY_BYTES) - self.counted;
        if more > 0 {
            self.counted += more;
            return self.load.hold_bytes(more);
        }
        Ok(())
    }

    /// The body is packed: it counts for what it may unpack to as well, from before it is unpacked.
    pub(super) fn unpacks_to(&mut self, most_bytes: usize) -> Result<(), Refusal> {
        self.counted = self.counted.saturating_add(most_bytes);
        self.load.hold_bytes(most_bytes)
    }

    /// The bytes that have come so far.
    pub(super) fn body_bytes(&self) -> usize {
        self.body_bytes
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.load.let_go_of(self.counted);
    }
}

/// Turns a request away that has waited for so long before anybody began with it that its sender has most likely given it
/// up: to begin with it now would let the next one wait as long.
pub(super) fn too_late(arrived: Instant) -> Result<(), Refusal> {
    if arrived.elapsed() >= LONGEST_QUEUE { Err(overloaded()) } else { Ok(()) }
}

pub(super) fn overloaded() -> Refusal {
    Refusal::new(Reason::Overloaded, "the server has more to do than it can")
        .help("nothing was done: wait a second, then try again, and wait longer after each try")
        .wait(COME_BACK)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    const HERE: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));

    #[tokio::test]
    async fn so_many_run_so_many_wait_and_the_rest_is_turned_away() {
        let load = Load::default();
        let mut running = Vec::new();
        for _ in 0..RUNNING {
            running.push(load.enter(HERE).now_or_never().expect("there is room").unwrap());
        }
        let mut waiting: Vec<_> = (0..WAITING / 2).map(|_| Box::pin(load.enter(HERE))).collect();
        assert!(waiting.iter_mut().all(|call| call.now_or_never().is_none()));
        assert!(load.is_full(HERE));
        let refused = load.enter(HERE).now_or_never().expect("nobody waits for this").unwrap_err();
        assert_eq!((refused.reason, refused.retry_after()), (Reason::Overloaded, Some(COME_BACK)));
        // What this source does not take is for others, and there is some for each of them.
        for other in 1..=20 {
            let other = Some(IpAddr::from([192, 0, 2, other]));
            assert!(!load.is_full(other));
            waiting.push(Box::pin(load.enter(other)));
            assert!(waiting.last_mut().unwrap().now_or_never().is_none());
        }
        assert_eq!(load.waiting().by_source.len(), 21);
        waiting.truncate(WAITING / 2);
        assert_eq!(load.waiting().by_source.len(), 1);
        // One who goes away makes room, and one who ends lets the first in.
        drop(waiting.pop());
        assert!(!load.is_full(HERE));
        running.pop();
        let first = waiting.remove(0).now_or_never().expect("its turn").unwrap();
        assert!(waiting.iter_mut().all(|call| call.now_or_never().is_none()));
        // Nobody waits for ever.
        for call in waiting {
            assert_eq!(call.await.unwrap_err().reason, Reason::Overloaded);
        }
        assert!(!load.is_full(HERE) && load.waiting().by_source.is_empty());
        drop(first);
    }

    #[test]
    fn large_bodies_share_their_room_and_small_ones_need_none() {
        let load = Load::default();
        let (mut first, mut second) = (load.hold(), load.hold());
        first.grow(BODY_BYTES).unwrap();
        second.grow(SMALL_BODY_BYTES).unwrap();
        second.grow(SMALL_BODY_BYTES).unwrap();
        assert_eq!(second.grow(1).unwrap_err().reason, Reason::Overloaded);
        for _ in 0..1_000 {
            load.hold().grow(SMALL_BODY_BYTES).unwrap();
        }
        let mut packed = load.hold();
        packed.grow(1).unwrap();
        assert_eq!(packed.unpacks_to(1).unwrap_err().reason, Reason::Overloaded, "before it is unpacked");
        drop((first, second, packed));
        assert_eq!(load.held_bytes(), 0);
        load.hold().grow(BODY_BYTES).unwrap();
    }

    #[test]
    fn what_has_waited_too_long_is_not_begun_with() {
        assert!(too_late(Instant::now()).is_ok());
        let long_ago = Instant::now().checked_sub(LONGEST_QUEUE).unwrap();
        assert_eq!(too_late(long_ago).unwrap_err().reason, Reason::Overloaded);
    }
}
