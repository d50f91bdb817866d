//! When a certificate is renewed, and how long is waited after a failure: [`next_step`], a pure function of what is known, the time, and a
//! number that was drawn once for this certificate.
//!
//! Two promises: while tries can succeed, the first is made before the last tenth of the lifetime; and no directory is ever hammered, whatever
//! it answers and whoever asks for a renewal by hand.

use crate::status::{FailureReport, TooEarly, TooEarlyWhy};
use serde::{Deserialize, Serialize};

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// Lifetimes below this are renewed at their half, longer ones when a third is left: what Let's Encrypt recommends.
const SHORT_LIFETIME: i64 = 10 * DAY;
/// A certificate is replaced this long after it came, at the earliest, whatever a renewal window says: a directory whose windows always lie in
/// the past would be asked without end.
const MIN_AGE: i64 = 15 * MINUTE;
const MAX_MIN_AGE: i64 = DAY;
/// Let's Encrypt's bound: failed proofs of one name in an hour.
const PROOFS_PER_HOUR: usize = 5;
/// Failures in a row that still count after one of another kind.
const OTHER_CAUSES: u32 = 4;
/// Between two tries, also if somebody asks by hand.
const TRIES_APART: i64 = MINUTE;
/// When a certificate ends, the waits shrink to this.
const LAST_WAITS: i64 = HOUR;
/// Between two questions for a renewal window (RFC 9773 section 4.3.2 asks for such bounds).
const MIN_WINDOW_ASK: i64 = HOUR;
const MAX_WINDOW_ASK: i64 = DAY;
/// After one that failed.
const WINDOW_ASK_AFTER_FAILURE: i64 = 6 * HOUR;

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Have a certificate declared void.
    Revoke,
    /// Order a certificate.
    Order,
    /// Ask the directory for a renewal window.
    AskWindow,
    /// Nothing until then. The next order is at `order_at`.
    Wait { until: i64, order_at: i64 },
}

/// How a failure is paced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) enum Pace {
    /// It may be over in a minute: the network, a restart.
    #[default]
    Soon,
    /// The directory misbehaves, or said so.
    Directory,
    /// A proof failed, of which few are allowed.
    Validation,
    /// Somebody has to change something first.
    ByHand,
}

impl Pace {
    /// The wait after the first failure, and the longest.
    const fn waits(self) -> (i64, i64) {
        match self {
            Self::Soon => (MINUTE, 6 * HOUR),
            Self::Directory => (10 * MINUTE, 12 * HOUR),
            // The next kind of proof may hold; how many may fail in an hour is bounded besides.
            Self::Validation => (2 * MINUTE, DAY),
            Self::ByHand => (30 * MINUTE, DAY),
        }
    }
}

/// The certificate that there is. Times are in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) not_before: i64,
    pub(crate) not_after: i64,
    /// When it came.
    pub(crate) taken_at: i64,
}

/// When the directory would have a certificate renewed (RFC 9773).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Window {
    pub(crate) start: i64,
    pub(crate) end: i64,
}

/// A certificate that somebody wants declared void: until the directory has said that it is, or it is over by itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Revocation {
    /// The certificate: DER, in base64.
    pub(crate) leaf: String,
    pub(crate) not_after: i64,
    /// Why the directory has not done it yet.
    pub(crate) failure: Option<FailureReport>,
    failures: u32,
    next_try: i64,
}

/// All that a decision is made from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct State {
    /// The certificate that there is; kept elsewhere.
    #[serde(skip)]
    pub(crate) held: Option<Held>,
    /// Whether who issues it can be asked for renewal windows.
    #[serde(skip)]
    pub(crate) has_windows: bool,
    /// How many proofs of one name a try can fail.
    #[serde(skip)]
    pub(crate) proofs: usize,
    /// Its certificate is no good: revoked, or not what is wanted any more.
    pub(crate) replace: bool,
    /// The certificate in use is declared void, or somebody wants it to be.
    pub(crate) is_void: bool,
    pub(crate) revocation: Option<Revocation>,
    /// Somebody asked for a renewal by hand: until there is one.
    wished: bool,
    /// The same, and no try was made since: one comes without waiting.
    asked: bool,
    /// A try that has begun and not ended.
    pub(crate) begun: Option<i64>,
    /// The certificate that was there then, by what tells it from others.
    pub(crate) begun_over: Option<String>,
    window: Option<Window>,
    window_due: i64,
    failures: u32,
    last_failure: Option<i64>,
    pace: Pace,
    /// Until when the directory asked to wait.
    not_before: Option<i64>,
    /// When proofs failed, those of the last hour.
    failed_proofs: Vec<i64>,
}

/// What is to be done. `random` is the same for all decisions about one certificate: a moment that was drawn stays.
pub(crate) fn next_step(state: &State, now: i64, random: u64) -> Step {
    let revoke_at = state.revocation.as_ref().map_or(i64::MAX, |revocation| revocation.due(now));
    if now >= revoke_at {
        return Step::Revoke;
    }
    let order_at = due(state, now, random).max(state.allowed(now, random));
    if now >= order_at {
        return Step::Order;
    }
    let asks_windows = state.has_windows && state.held.is_some() && !state.replace;
    // A moment further away than any pause was written by a clock that was wrong.
    let window_due = if state.window_due > now.saturating_add(MAX_WINDOW_ASK) { now } else { state.window_due };
    match asks_windows {
        true if now >= window_due => Step::AskWindow,
        true => Step::Wait { until: order_at.min(window_due).min(revoke_at), order_at },
        false => Step::Wait { until: order_at.min(revoke_at), order_at },
    }
}

/// When the certificate should be replaced, if nothing speaks against it.
fn due(state: &State, now: i64, random: u64) -> i64 {
    let Some(held) = state.held else { return i64::MIN };
    if state.replace || state.wished {
        return i64::MIN;
    }
    let lifetime = held.not_after.saturating_sub(held.not_before).max(0);
    let latest = held.not_after.saturating_sub(lifetime / 10);
    let chosen = match state.window {
        Some(window) => window.start.saturating_add(part(window.end.saturating_sub(window.start), random)),
        None => {
            let full = if lifetime < SHORT_LIFETIME { lifetime / 2 } else { lifetime / 3 * 2 };
            // Spread to the early side, so that not all who began on one day come back on one day.
            held.not_before.saturating_add(full).saturating_sub(part(lifetime / 20, random))
        }
    };
    let due = chosen.min(latest);
    // A certificate from the future was written down by a clock that was wrong.
    if held.taken_at > now {
        return due;
    }
    due.max(held.taken_at.saturating_add((lifetime / 4).clamp(MIN_AGE, MAX_MIN_AGE)))
}

impl State {
    /// Of a certificate of which nothing is known yet.
    pub(crate) fn new(has_windows: bool, proofs: usize) -> Self {
        Self { has_windows, proofs, ..Self::default() }
    }

    /// The earliest moment at which a try does no harm.
    fn allowed(&self, now: i64, random: u64) -> i64 {
        let proofs = self.proofs_allowed(now);
        // A failure in the future was written down by a clock that was wrong: it says nothing.
        let Some(failed) = self.last_failure.filter(|at| *at <= now) else { return proofs };
        let wait = if self.asked { TRIES_APART } else { self.wait(failed, random) };
        failed.saturating_add(wait).max(proofs).max(self.not_before.unwrap_or(i64::MIN))
    }

    fn wait(&self, failed: i64, random: u64) -> i64 {
        let (first, longest) = self.pace.waits();
        let doublings = self.failures.saturating_sub(1).min(16);
        let grown = first.saturating_mul(1 << doublings).min(longest);
        let jittered = grown.saturating_add(part(grown / 4, random.rotate_left(self.failures % 64)));
        let Some(held) = self.held else { return jittered };
        // The nearer the end, the more often, but never without a bound.
        let remaining = held.not_after.saturating_sub(failed);
        jittered.min((remaining / 8).max(LAST_WAITS).max(first))
    }

    /// When the last hour has room for the proofs of one more try.
    fn proofs_allowed(&self, now: i64) -> i64 {
        let mut recent: Vec<i64> = self.recent_proofs(now).collect();
        recent.sort_unstable();
        let too_many = (recent.len() + self.proofs.clamp(1, PROOFS_PER_HOUR)).saturating_sub(PROOFS_PER_HOUR);
        match too_many.checked_sub(1).and_then(|last| recent.get(last)) {
            Some(at) => at.saturating_add(HOUR),
            None => i64::MIN,
        }
    }

    fn recent_proofs(&self, now: i64) -> impl Iterator<Item = i64> {
        self.failed_proofs.iter().copied().filter(move |at| *at > now.saturating_sub(HOUR) && *at <= now)
    }

    /// Somebody asks for a renewal by hand.
    pub(crate) fn ask(&mut self) {
        (self.wished, self.asked) = (true, true);
    }

    /// A try failed.
    pub(crate) fn failed(&mut self, pace: Pace, retry_after_s: Option<u64>, now: i64) {
        self.failed_proofs = self.recent_proofs(now).collect();
        if pace == Pace::Validation {
            self.failed_proofs.extend(std::iter::repeat_n(now, self.proofs.clamp(1, PROOFS_PER_HOUR)));
        }
        // After another cause some of what was learnt holds: who fails now in this way, now in that, waits longer, too.
        let before = if pace == self.pace { self.failures } else { self.failures.min(OTHER_CAUSES) };
        self.failures = before.saturating_add(1);
        self.pace = pace;
        self.last_failure = Some(now);
        self.not_before = retry_after_s.map(|seconds| now.saturating_add_unsigned(seconds));
        self.begun = None;
        self.asked = false;
    }

    /// The server ended in the middle of a try that began then. Whether proofs failed nobody knows: they count.
    pub(crate) fn interrupted(&mut self, begun: i64) {
        self.failed(Pace::Soon, None, begun);
        self.failed_proofs.extend(std::iter::repeat_n(begun, self.proofs.clamp(1, PROOFS_PER_HOUR)));
    }

    /// How many tries failed one after the other.
    pub(crate) fn failures(&self) -> usize {
        usize::try_from(self.failures).unwrap_or(usize::MAX)
    }

    /// A certificate came.
    pub(crate) fn succeeded(&mut self, held: Held) {
        // What it takes the place of may still have to be declared void.
        let revocation = self.revocation.take();
        *self = Self { held: Some(held), revocation, ..Self::new(self.has_windows, self.proofs) };
    }

    /// The directory said when it would have the certificate renewed, and when to ask again.
    pub(crate) fn told_window(&mut self, window: Option<Window>, ask_again_s: Option<u64>, now: i64) {
        // RFC 9773 section 4.2: one that ends before it begins is none.
        self.window = window.filter(|window| window.end > window.start);
        let pause = ask_again_s.map_or(MAX_WINDOW_ASK, |seconds| i64::try_from(seconds).unwrap_or(MAX_WINDOW_ASK));
        self.window_due = now.saturating_add(pause.clamp(MIN_WINDOW_ASK, MAX_WINDOW_ASK));
    }

    /// It could not be asked: what it said last still holds.
    pub(crate) fn window_failed(&mut self, now: i64) {
        self.window_due = now.saturating_add(WINDOW_ASK_AFTER_FAILURE);
    }

    /// Somebody wants the certificate in use declared void, and another in its place.
    pub(crate) fn revoke(&mut self, leaf: String, not_after: i64) {
        (self.replace, self.is_void) = (true, true);
        self.revocation = Some(Revocation { leaf, not_after, ..Revocation::default() });
    }

    /// Why nothing would be ordered now if somebody asked, and until when: directories count the same names in a week, and what they
    /// allow is not exceeded.
    pub(crate) fn too_early(&self, now: i64) -> Option<TooEarly> {
        let came = self.held.filter(|held| held.taken_at <= now && !self.replace).map(|held| held.taken_at);
        let told = self.last_failure.filter(|at| *at <= now).and(self.not_before);
        let reasons = [
            (TooEarlyWhy::New, came.map(|at| at.saturating_add(HOUR))),
            (TooEarlyWhy::Told, told),
            (TooEarlyWhy::Proofs, Some(self.proofs_allowed(now))),
        ];
        let reasons = reasons.into_iter().filter_map(|(why, until)| Some(TooEarly { why, until_unix_s: until? }));
        reasons.filter(|early| early.until_unix_s > now).max_by_key(|early| early.until_unix_s)
    }
}

impl Revocation {
    /// The directory did not do it this time.
    pub(crate) fn failed(&mut self, pace: Pace, retry_after_s: Option<u64>, failure: FailureReport) {
        let (first, longest) = pace.waits();
        let wait = first.saturating_mul(1 << self.failures.min(16)).min(longest);
        let asked = retry_after_s.map_or(0, |seconds| i64::try_from(seconds).unwrap_or(i64::MAX));
        self.next_try = failure.at_unix_s.saturating_add(wait.max(asked));
        self.failures = self.failures.saturating_add(1);
        self.failure = Some(failure);
    }

    /// When it is tried next.
    pub(crate) fn due(&self, now: i64) -> i64 {
        // What failed in the future failed on a clock that was wrong.
        if self.failure.as_ref().is_some_and(|failure| failure.at_unix_s > now) { now } else { self.next_try }
    }
}

/// The part of a span that a random number stands for.
fn part(span: i64, random: u64) -> i64 {
    let part = (u128::from(span.max(0).unsigned_abs()) * u128::from(random)) >> 64;
    i64::try_from(part).unwrap_or(0)
}

#[cfg(test)]
mod tests;
