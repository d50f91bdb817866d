//! The ticks of watches: a grid in time that nothing moves which anybody writes.
//!
//! A watch that looked as soon as something was written, and then rested, would tell by the time of each event whether
//! something else had been written shortly before, hidden from its caller. So it looks at the ticks of its grid alone, up to
//! the state of the store that was noted at the tick ([`Moment`]), and speaks half a tick later, when it is done in any case.
//! Whether it looked at the ticks before, and what it found there, moves neither.
//!
//! The state is noted at each tick for all streams of a slot, whether one of them looks or not; but nothing ticks where nobody
//! watches. Slots, so that the watches of a table do not all look at once.

use crate::gate::Gate;
use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use sys_policy::Now;
use sys_store::Moment;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

/// Between two looks of a watch.
pub(super) const TICK: Duration = Duration::from_millis(100);
/// Grids that stand beside each other, each later than the one before by the same time.
const SLOTS: u32 = 5;
const STEP: Duration = Duration::from_millis(20);
/// How late a stream may hear of a commit. A tick that is no older when it hears of it may already have the commit in its state.
const HEARD: Duration = Duration::from_millis(25);

/// A tick of one slot.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tick {
    number: u64,
    pub(super) at: Instant,
    /// The state that is told of.
    pub(super) moment: Moment,
}

/// The grids of a server.
#[derive(Debug)]
pub(in crate::gate) struct Ticks {
    origin: Instant,
    /// The number of the last tick that was begun with.
    begun: AtomicU64,
    slots: [watch::Sender<Option<Tick>>; SLOTS as usize],
    is_ticking: AtomicBool,
}

/// The ticks of one stream, and why it looks at the next.
pub(super) struct Beat {
    ticks: Arc<Ticks>,
    slot: watch::Receiver<Option<Tick>>,
    /// Something may be new in a tick that is begun with after this one.
    stirred: Option<u64>,
}

impl Default for Ticks {
    fn default() -> Self {
        let slots = std::array::from_fn(|_| watch::Sender::new(None));
        Self { origin: Instant::now(), begun: AtomicU64::new(0), slots, is_ticking: AtomicBool::new(false) }
    }
}

impl Ticks {
    /// The ticks of a new stream, which wants to look at the next.
    pub(super) fn join(self: &Arc<Self>, gate: &Arc<Gate>) -> Beat {
        let mut random = [0];
        gate.entropy.fill(&mut random);
        let [random] = random;
        let slot = self.slots.iter().cycle().nth(usize::from(random)).map(watch::Sender::subscribe);
        // There is always one more in a cycle.
        let slot = slot.unwrap_or_else(|| watch::Sender::new(None).subscribe());
        if !self.is_ticking.swap(true, Ordering::SeqCst) {
            tokio::spawn(self.clone().run(Arc::downgrade(gate)));
        }
        let mut beat = Beat { ticks: self.clone(), slot, stirred: None };
        beat.stir();
        beat
    }

    /// Ticks as long as somebody listens.
    async fn run(self: Arc<Self>, gate: Weak<Gate>) {
        loop {
            let number = self.steps() + 1;
            let at = self.at(number);
            sleep_until(at).await;
            let Some(gate) = gate.upgrade() else { return };
            self.begun.store(number, Ordering::SeqCst);
            match gate.store.begin(gate.clock.now()).await {
                Ok(open) => {
                    let index = usize::try_from(number % u64::from(SLOTS)).unwrap_or(0);
                    if let Some(slot) = self.slots.get(index) {
                        slot.send_replace(Some(Tick { number, at, moment: Moment::of(&open) }));
                    }
                }
                Err(error) => tracing::error!(%error, "watches could not be told what is new; it is tried again"),
            }
            let is_heard = || self.slots.iter().any(|slot| slot.receiver_count() > 0);
            if !is_heard() {
                self.is_ticking.store(false, Ordering::SeqCst);
                // Whoever came in between has started another, or finds that this one goes on.
                if !is_heard() || self.is_ticking.swap(true, Ordering::SeqCst) {
                    return;
                }
            }
        }
    }

    /// Steps since the beginning.
    fn steps(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos() / STEP.as_nanos()).unwrap_or(u64::MAX)
    }

    fn at(&self, number: u64) -> Instant {
        self.origin + Duration::from_nanos(number.saturating_mul(u64::try_from(STEP.as_nanos()).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
impl Ticks {
    pub(in crate::gate) fn is_ticking(&self) -> bool {
        self.is_ticking.load(Ordering::SeqCst)
    }
}

impl Tick {
    /// When what was found at this tick is told, if it is known now: half a tick later, or as many ticks more as it took.
    pub(super) fn told_at(&self, now: Instant) -> Instant {
        let mut at = self.at + TICK / 2;
        while at < now {
            at += TICK;
        }
        at
    }
}

impl Beat {
    /// Something may be new.
    pub(super) fn stir(&mut self) {
        self.stirred = Some(self.ticks.begun.load(Ordering::SeqCst));
    }

    /// The tick that the stream is to look at, as soon as there is one: the first whose state may hold what it was stirred by,
    /// or the first at this time of the server's clock.
    pub(super) async fn next(&mut self, due: Option<Now>) -> Tick {
        loop {
            if self.slot.changed().await.is_err() {
                // The slots are as old as the ticks.
                std::future::pending::<()>().await;
            }
            let Some(tick) = self.last() else { continue };
            match self.stirred {
                Some(stirred) if tick.number > stirred => {
                    self.stirred = None;
                    return tick;
                }
                // It stays stirred: what it heard of may be behind this tick.
                Some(_) if tick.at.elapsed() < HEARD => return tick,
                _ => {}
            }
            if due.is_some_and(|due| tick.moment.now() >= due) {
                return tick;
            }
        }
    }

    /// The last tick.
    pub(super) fn last(&mut self) -> Option<Tick> {
        *self.slot.borrow_and_update()
    }

    /// Whether it waits for a tick because it was stirred.
    pub(super) fn is_stirred(&self) -> bool {
        self.stirred.is_some()
    }
}
