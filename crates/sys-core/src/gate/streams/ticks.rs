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
    ops::RangeInclusive,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use sys_policy::Now;
use sys_store::{Moment, StoreError};
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
    stirs: Stirs,
}

/// What a stream has heard of and not looked at: the numbers of the ticks that had been begun with when it was stirred first and
/// last. Something may be new in a tick that is begun with after either.
#[derive(Debug, Default)]
struct Stirs(Option<(u64, u64)>);

impl Stirs {
    fn add(&mut self, begun: u64) {
        self.0 = Some((self.0.map_or(begun, |(first, _)| first), begun));
    }

    /// Whether this tick is to be looked at. It stays stirred by what may be behind it: where there is always something new,
    /// a stream that is late looks at each tick all the same.
    fn take(&mut self, tick: u64) -> bool {
        let Some((_, last)) = self.0.filter(|(first, _)| tick > *first) else { return false };
        self.0 = (last >= tick).then_some((last, last));
        true
    }
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
        let mut beat = Beat { ticks: self.clone(), slot, stirs: Stirs::default() };
        beat.stir();
        beat
    }

    /// Ticks as long as somebody listens.
    async fn run(self: Arc<Self>, gate: Weak<Gate>) {
        let (mut last, mut fails) = (self.steps(), false);
        loop {
            for number in next_ticks(last, self.steps()) {
                sleep_until(self.at(number)).await;
                let Some(gate) = gate.upgrade() else { return };
                let ticked = self.tick(&gate, number).await;
                // Fifty times a second, so that it is said when it begins and when it is over.
                match &ticked {
                    Err(error) if !fails => {
                        tracing::error!(%error, "watches cannot be told what is new; it is tried again");
                    }
                    Ok(()) if fails => tracing::info!("watches are told what is new again"),
                    _ => {}
                }
                (last, fails) = (number, ticked.is_err());
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

    /// Notes the state for the streams of the slot whose tick it is.
    async fn tick(&self, gate: &Gate, number: u64) -> Result<(), StoreError> {
        self.begun.store(number, Ordering::SeqCst);
        let open = gate.store.begin(gate.clock.now()).await?;
        let index = usize::try_from(number % u64::from(SLOTS)).unwrap_or(0);
        if let Some(slot) = self.slots.get(index) {
            slot.send_replace(Some(Tick { number, at: self.at(number), moment: Moment::of(&open) }));
        }
        Ok(())
    }

    /// Steps since the beginning.
    fn steps(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos() / STEP.as_nanos()).unwrap_or(u64::MAX)
    }

    fn at(&self, number: u64) -> Instant {
        self.origin + Duration::from_nanos(number.saturating_mul(u64::try_from(STEP.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// The ticks to go through behind the last one, when so many steps have passed: those that were missed, if there are any, but
/// no more than one of each slot. Not the newest alone: where each takes five steps, it would always be the same slot's.
fn next_ticks(last: u64, steps: u64) -> RangeInclusive<u64> {
    let newest = steps.max(last.saturating_add(1));
    last.saturating_add(1).max((newest + 1).saturating_sub(u64::from(SLOTS)))..=newest
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
        self.stirs.add(self.ticks.begun.load(Ordering::SeqCst));
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
            // In the second case it stays stirred: what it heard of may be behind this tick.
            if self.stirs.take(tick.number) || self.is_stirred() && tick.at.elapsed() < HEARD {
                return tick;
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
        self.stirs.0.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_is_late_and_always_stirred_looks_at_each_tick() {
        let mut stirs = Stirs::default();
        assert!(!stirs.take(9), "nothing is new");
        stirs.add(1);
        for tick in (5..100).step_by(5) {
            // It hears of the tick only when others have been begun with, and of more that was committed first.
            stirs.add(tick + 2);
            assert!(stirs.take(tick), "{tick}");
            assert!(!stirs.take(tick + 1), "{tick}: what it heard of last is behind this one");
        }
        assert!(stirs.take(98));
        assert!(!stirs.take(99), "all was looked at");
    }

    #[test]
    fn every_slot_has_its_ticks_however_long_they_take() {
        assert_eq!(next_ticks(7, 7), 8..=8);
        assert_eq!(next_ticks(7, 9), 8..=9);
        assert_eq!(next_ticks(7, 1_000), 996..=1_000);
        for takes in 0..20_u64 {
            let (mut last, mut steps, mut by_slot) = (0, 0, [0; SLOTS as usize]);
            for _ in 0..100 {
                for number in next_ticks(last, steps) {
                    steps = steps.max(number) + takes;
                    by_slot[usize::try_from(number).unwrap() % by_slot.len()] += 1;
                    last = number;
                }
            }
            assert!(by_slot.iter().all(|ticks| *ticks >= 18), "{takes}: {by_slot:?}");
        }
    }
}
