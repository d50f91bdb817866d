//! Traces: what a call came to and how long each of its steps took, kept until somebody takes it away.
//!
//! A call that is recorded has a [`Recorder`] with it, from its head to its answer; of one that is not, the recorder is empty and
//! each step costs a branch. What was recorded goes through a bounded queue to whoever sends it on ([`Recordings`]), and is dropped and counted
//! where that is full: nobody ever waits here. What a trace says is in [`recorded`], under which names it is sent is no concern of
//! this crate (sys-otlp).
//!
//! What must never happen here: a value of a record, an address, a token or a name of a person in what is recorded, or a text that a
//! stranger chose; and a stranger who decides what is kept (`docs/decisions/0031-traces.md`).

mod recorded;
mod recorder;

pub use recorded::{CallFacts, Step, Subject, Trace};
pub use recorder::Recorder;
pub(crate) use recorder::StepUnderWay;

use crate::clock::Clock;
use http::{HeaderMap, Version};
use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};
use sys_contract::trace_context::{TRACEPARENT, TRACESTATE, TraceContext};
use sys_keys::Entropy;
use tokio::sync::mpsc;

/// Traces that wait to be taken away: some seconds of a busy server, and with all that may stand in them a few megabytes.
const QUEUE: usize = 2_048;
/// How many of them may be of calls by strangers, so that those of others have room however many strangers call.
const QUEUE_OF_STRANGERS: usize = QUEUE / 2;

/// Which calls are recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sampling {
    /// Out of a million.
    pub per_million: u32,
    /// Callers who are signed in and say with `traceparent` which trace they are in say also whether it is kept.
    pub follows_callers: bool,
}

/// What became of spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Became {
    /// A collector has them.
    Sent,
    /// There was no room in the queue.
    Dropped,
    /// No collector took them in time.
    Undelivered,
    /// A collector did not want them.
    Rejected,
}

impl Became {
    const ALL: [(Self, &str); 4] = [
        (Self::Sent, "sent"),
        (Self::Dropped, "dropped"),
        (Self::Undelivered, "undelivered"),
        (Self::Rejected, "rejected"),
    ];
}

/// Where calls are recorded. Its clones are the same one.
#[derive(Clone)]
pub struct Tracer(Arc<State>);

struct State {
    is_on: AtomicBool,
    /// A call is chosen whose number is below this.
    chosen_below: AtomicU64,
    follows_callers: AtomicBool,
    dice: AtomicU64,
    queue: mpsc::Sender<Trace>,
    taken: Mutex<Option<mpsc::Receiver<Trace>>>,
    became: [AtomicU64; Became::ALL.len()],
    clock: Clock,
    entropy: Arc<dyn Entropy>,
}

/// What was recorded and is to be sent on, oldest first.
#[derive(Debug)]
pub struct Recordings(mpsc::Receiver<Trace>);

impl Recordings {
    /// Adds up to `most` that are there to `traces`, and waits for the first if there is none. Zero when there will be no more.
    pub async fn take(&mut self, traces: &mut Vec<Trace>, most: usize) -> usize {
        self.0.recv_many(traces, most).await
    }
}

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracer").field("is_on", &self.0.is_on).finish_non_exhaustive()
    }
}

impl Tracer {
    /// One that records nothing yet.
    pub fn new(clock: Clock, entropy: Arc<dyn Entropy>) -> Self {
        let (queue, taken) = mpsc::channel(QUEUE);
        let mut seed = [0; 8];
        entropy.fill(&mut seed);
        Self(Arc::new(State {
            is_on: AtomicBool::new(false),
            chosen_below: AtomicU64::new(0),
            follows_callers: AtomicBool::new(false),
            dice: AtomicU64::new(u64::from_le_bytes(seed)),
            queue,
            taken: Mutex::new(Some(taken)),
            became: Default::default(),
            clock,
            entropy,
        }))
    }

    /// Records these calls from now on, or none.
    pub fn sample(&self, sampling: Option<Sampling>) {
        let state = &self.0;
        let of = sampling.unwrap_or(Sampling { per_million: 0, follows_callers: false });
        let below = match of.per_million {
            1_000_000.. => u64::MAX,
            part => (u64::MAX / 1_000_000).saturating_mul(part.into()),
        };
        state.chosen_below.store(below, Ordering::Relaxed);
        state.follows_callers.store(of.follows_callers, Ordering::Relaxed);
        state.is_on.store(sampling.is_some(), Ordering::Relaxed);
    }

    /// What was recorded; nothing if somebody has taken it already.
    pub fn recordings(&self) -> Option<Recordings> {
        self.0.taken.lock().unwrap_or_else(PoisonError::into_inner).take().map(Recordings)
    }

    /// Whether anything is recorded.
    pub(crate) fn is_on(&self) -> bool {
        self.0.is_on.load(Ordering::Relaxed)
    }

    /// Counts what became of so many spans.
    pub fn count(&self, became: Became, spans: usize) {
        if let Some(count) = self.0.became.get(became as usize) {
            count.fetch_add(u64::try_from(spans).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }

    /// How many spans became what so far.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Became::ALL.iter().zip(&self.0.became).map(|((_, name), count)| (*name, count.load(Ordering::Relaxed)))
    }

    /// How many traces wait to be taken away.
    pub(crate) fn waiting(&self) -> usize {
        QUEUE.saturating_sub(self.0.queue.capacity())
    }

    /// A number below this one, the same for all: whom it chooses and how long somebody waits nobody has to be unable to predict.
    pub fn draw(&self, below: u64) -> u64 {
        self.roll().checked_rem(below).unwrap_or(0)
    }

    /// Records this call, if it is one of those.
    pub(crate) fn call(
        &self,
        method: Option<&str>,
        version: Version,
        headers: &HeaderMap,
        arrived: Instant,
    ) -> Recorder {
        let parent = parent(headers);
        let follows = self.0.follows_callers.load(Ordering::Relaxed);
        let is_chosen = self.chooses();
        // Whether the caller may say so is not known yet.
        let is_asked = follows && parent.as_ref().is_some_and(|parent| parent.is_sampled);
        if !is_chosen && !is_asked {
            return Recorder::default();
        }
        let facts = CallFacts::of(method, version, headers);
        Recorder::begin(self, Subject::Call(facts), arrived, recorder::Chosen { is_chosen, follows, parent })
    }

    /// Records some work of the server's own, whenever anything is recorded: there is little of it.
    pub fn work(&self, name: &'static str) -> Recorder {
        if !self.is_on() {
            return Recorder::default();
        }
        let chosen = recorder::Chosen { is_chosen: true, follows: false, parent: None };
        Recorder::begin(self, Subject::Work { name, problem: None }, Instant::now(), chosen)
    }

    /// By a number of our own: the trace's is the caller's word.
    fn chooses(&self) -> bool {
        match self.0.chosen_below.load(Ordering::Relaxed) {
            0 => false,
            u64::MAX => true,
            below => self.roll() < below,
        }
    }

    /// The next number of a sequence that is even (splitmix64).
    fn roll(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut number = self.0.dice.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        number ^ number >> 31
    }

    /// Leaves a trace in the queue, if there is room for one of its kind.
    fn put(&self, trace: Trace, is_strangers: bool) {
        let spans = trace.spans();
        let queue = &self.0.queue;
        let has_room = !is_strangers || queue.capacity() > QUEUE - QUEUE_OF_STRANGERS;
        if !has_room || queue.try_send(trace).is_err() {
            self.count(Became::Dropped, spans);
        }
    }

    fn ids(&self) -> ([u8; 16], [u8; 8]) {
        let (mut trace_id, mut span_id) = ([0; 16], [0; 8]);
        self.0.entropy.fill(&mut trace_id);
        self.0.entropy.fill(&mut span_id);
        (trace_id, span_id)
    }

    fn now_unix_ns(&self) -> u64 {
        let now = self.0.clock.now();
        let ns = i128::from(now.unix_s) * 1_000_000_000 + i128::from(now.nanos);
        u64::try_from(ns).unwrap_or(0)
    }
}

/// The span that this request says it was called in. One who says it twice has not said it.
fn parent(headers: &HeaderMap) -> Option<TraceContext> {
    let mut lines = headers.get_all(TRACEPARENT).iter();
    let context = TraceContext::parse(lines.next()?.to_str().ok()?)?;
    if lines.next().is_some() {
        return None;
    }
    let state = headers.get_all(TRACESTATE).iter().map(|line| line.to_str().unwrap_or("="));
    Some(context.with_state(state))
}

#[cfg(test)]
mod tests;
