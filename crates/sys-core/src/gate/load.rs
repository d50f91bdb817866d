//! How many calls run at once. A call that waits for the disk or for a password's hash holds memory and a snapshot meanwhile:
//! of these there are so many, a few more wait for their turn, and the rest is told at once to come back.
//!
//! What only computes never gets here in numbers: it runs to its end when it is begun, and what has to wait before that is
//! the listener's concern, and [`too_late`]'s.

use super::shares::Shares;
use crate::refusal::{Reason, Refusal};
use std::{
    net::IpAddr,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use sys_net::Network;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Calls that run at once: twice what one commit takes, so that the next one fills while a sync lasts.
pub(super) const RUNNING: usize = 512;
/// Calls that wait for their turn, shared by sources: nobody fills all places.
pub(super) const WAITING: usize = 1_024;
/// The longest wait for a turn.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// Bytes of a body that count for nothing: most requests have fewer.
pub(super) const SMALL_BODY_BYTES: usize = 4 * 1_024;
/// The other bytes of all bodies that are held at the same time, from their arrival until their call ends, shared by
/// sources. Who sends large bodies slowly, and many of them, uses up his share, and nobody's small calls suffer for it.
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
    /// Whose calls wait.
    waiting: Mutex<Shares<Option<Network>>>,
    /// As many as stand in there, to be looked at without waiting.
    waiting_now: AtomicUsize,
    /// Whose bodies are held.
    bodies: Mutex<Shares<Option<Network>>>,
    rounds: Semaphore,
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
    source: Option<Network>,
    body_bytes: usize,
    counted: usize,
}

/// A call's place among those that run, until it is dropped.
#[derive(Debug)]
pub(super) struct Running<'a>(#[allow(dead_code, reason = "held, not read")] SemaphorePermit<'a>);

impl Default for Load {
    fn default() -> Self {
        Self {
            running: Semaphore::new(RUNNING),
            waiting: Mutex::new(Shares::new(WAITING)),
            waiting_now: AtomicUsize::new(0),
            bodies: Mutex::new(Shares::new(BODY_BYTES)),
            rounds: Semaphore::new(ROUNDS),
        }
    }
}

impl Load {
    /// Whether another call from there would have to be turned away.
    pub(super) fn is_full(&self, source: Option<IpAddr>) -> bool {
        // Where fewer wait than are left over, nobody has too many.
        self.waiting_now.load(Ordering::Relaxed) >= WAITING / 2
            && !locked(&self.waiting).has_room(&source.map(Network::of), 1)
    }

    /// Holds a body from there, of which nothing has come yet.
    pub(crate) fn hold(&self, source: Option<IpAddr>) -> Held<'_> {
        Held { load: self, source: source.map(Network::of), body_bytes: 0, counted: 0 }
    }

    /// Counts so many bytes of bodies from there, if there is room for them.
    pub(super) fn hold_bytes(&self, source: Option<Network>, more: usize) -> Result<(), Refusal> {
        if more > 0 && !locked(&self.bodies).take(source, more) {
            return Err(overloaded());
        }
        Ok(())
    }

    /// Counts so many bytes from there no more.
    pub(super) fn let_go_of(&self, source: Option<Network>, bytes: usize) {
        if bytes > 0 {
            locked(&self.bodies).give_back(&source, bytes);
        }
    }

    /// What counts now.
    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        locked(&self.bodies).taken()
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
        let mut waiting = locked(&self.waiting);
        if !waiting.take(source, 1) {
            return Err(overloaded());
        }
        self.waiting_now.store(waiting.taken(), Ordering::Relaxed);
        Ok(WaitingPlace { load: self, source })
    }

    /// Waits for a turn of a watch's round.
    pub(super) async fn enter_round(&self) -> Result<Running<'_>, Refusal> {
        self.rounds.acquire().await.map(Running).map_err(Refusal::internal)
    }
}

fn locked(shares: &Mutex<Shares<Option<Network>>>) -> MutexGuard<'_, Shares<Option<Network>>> {
    shares.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for WaitingPlace<'_> {
    fn drop(&mut self) {
        let mut waiting = locked(&self.load.waiting);
        waiting.give_back(&self.source, 1);
        self.load.waiting_now.store(waiting.taken(), Ordering::Relaxed);
    }
}

impl Held<'_> {
    /// So many bytes more have come.
    pub(super) fn grow(&mut self, by: usize) -> Result<(), Refusal> {
        self.body_bytes = self.body_bytes.saturating_add(by);
        let more = self.body_bytes.saturating_sub(SMALL_BODY_BYTES) - self.counted;
        self.load.hold_bytes(self.source, more)?;
        self.counted += more;
        Ok(())
    }

    /// The body is packed: it counts for what it may unpack to as well, from before it is unpacked.
    pub(super) fn unpacks_to(&mut self, most_bytes: usize) -> Result<(), Refusal> {
        self.load.hold_bytes(self.source, most_bytes)?;
        self.counted += most_bytes;
        Ok(())
    }

    /// The bytes that have come so far.
    pub(super) fn body_bytes(&self) -> usize {
        self.body_bytes
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.load.let_go_of(self.source, self.counted);
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
        assert_eq!(locked(&load.waiting).count(), 21);
        waiting.truncate(WAITING / 2);
        assert_eq!(locked(&load.waiting).count(), 1);
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
        assert!(!load.is_full(HERE) && locked(&load.waiting).count() == 0);
        drop(first);
    }

    #[test]
    fn large_bodies_share_their_room_by_source_and_small_ones_need_none() {
        let load = Load::default();
        let elsewhere = Some(IpAddr::from([192, 0, 2, 1]));
        let (mut first, mut second) = (load.hold(HERE), load.hold(HERE));
        first.grow(BODY_BYTES / 2).unwrap();
        second.grow(SMALL_BODY_BYTES).unwrap();
        second.grow(SMALL_BODY_BYTES).unwrap();
        assert_eq!(second.grow(1).unwrap_err().reason, Reason::Overloaded);
        for _ in 0..1_000 {
            load.hold(HERE).grow(SMALL_BODY_BYTES).unwrap();
        }
        let mut packed = load.hold(HERE);
        packed.grow(1).unwrap();
        assert_eq!(packed.unpacks_to(1).unwrap_err().reason, Reason::Overloaded, "before it is unpacked");
        // What was refused counts for nothing, and others have their share.
        assert_eq!(load.held_bytes(), BODY_BYTES / 2);
        let mut other = load.hold(elsewhere);
        other.grow(BODY_BYTES / 8).unwrap();
        other.unpacks_to(BODY_BYTES / 8).unwrap();
        assert_eq!(load.hold(elsewhere).unpacks_to(BODY_BYTES / 8).unwrap_err().reason, Reason::Overloaded);
        drop((first, second, packed, other));
        assert_eq!(load.held_bytes(), 0);
        load.hold(HERE).grow(BODY_BYTES / 2).unwrap();
    }

    #[test]
    fn what_has_waited_too_long_is_not_begun_with() {
        assert!(too_late(Instant::now()).is_ok());
        let long_ago = Instant::now().checked_sub(LONGEST_QUEUE).unwrap();
        assert_eq!(too_late(long_ago).unwrap_err().reason, Reason::Overloaded);
    }
}
