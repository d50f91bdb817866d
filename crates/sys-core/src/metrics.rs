//! What the gate counts, for whoever runs the server: calls by method and outcome, their time, refusals by reason.
//!
//! On the way of a request stand a few additions to atomics that belong to its method: no lock, no hash, no text. Names and
//! labels come in when somebody asks ([`observed`]). What must never happen here: a label that a caller chooses, or one that
//! says who called or for which org; all labels come from contracts and tables of ours.

mod observed;

pub use observed::{Observed, Observer};

use crate::{
    host::LoadedMethod,
    refusal::{Code, Reason, Refusal},
    trace::Recorder,
};
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    time::Instant,
};
use sys_contract::model::Flow;
use sys_store::histogram::Histogram;

/// Microseconds of a call: from what a cached get takes to the longest deadline.
const CALL_MICROS: &[u64] = &[
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000, 60_000_000,
];

/// What calls come to, with the label of each.
const OUTCOMES: [(Outcome, &str); 14] = [
    (Outcome::Ok, "OK"),
    (Outcome::Refused(Code::InvalidArgument), "INVALID_ARGUMENT"),
    (Outcome::Refused(Code::NotFound), "NOT_FOUND"),
    (Outcome::Refused(Code::AlreadyExists), "ALREADY_EXISTS"),
    (Outcome::Refused(Code::PermissionDenied), "PERMISSION_DENIED"),
    (Outcome::Refused(Code::Unauthenticated), "UNAUTHENTICATED"),
    (Outcome::Refused(Code::ResourceExhausted), "RESOURCE_EXHAUSTED"),
    (Outcome::Refused(Code::FailedPrecondition), "FAILED_PRECONDITION"),
    (Outcome::Refused(Code::Aborted), "ABORTED"),
    (Outcome::Refused(Code::Unimplemented), "UNIMPLEMENTED"),
    (Outcome::Refused(Code::Internal), "INTERNAL"),
    (Outcome::Refused(Code::Unavailable), "UNAVAILABLE"),
    (Outcome::Refused(Code::DeadlineExceeded), "DEADLINE_EXCEEDED"),
    (Outcome::Left, "CANCELLED"),
];

/// What a call came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Ok,
    Refused(Code),
    /// The caller went away before there was an answer.
    Left,
}

/// What has been counted of one method since it was loaded.
#[derive(Debug)]
pub(crate) struct MethodCalls {
    /// One for each of [`OUTCOMES`].
    ended: [AtomicU64; OUTCOMES.len()],
    micros: Histogram,
    begun: AtomicU64,
}

impl Default for MethodCalls {
    fn default() -> Self {
        Self { ended: Default::default(), micros: Histogram::new(CALL_MICROS), begun: AtomicU64::new(0) }
    }
}

/// A call that was let in. It is counted where this is dropped.
pub(crate) struct UnderWay {
    method: Arc<LoadedMethod>,
    began: Instant,
    came_to: CameTo,
}

/// Where the gate notes what a call came to. Its clones are one note.
#[derive(Debug, Clone, Default)]
pub(crate) struct CameTo {
    noted: Arc<AtomicU8>,
    /// Of the call, if it is recorded.
    pub(crate) trace: Recorder,
}

/// What has been counted of all calls together since the server started.
#[derive(Debug)]
pub(crate) struct Totals {
    /// One for each of [`Reason::ALL`].
    refused: Box<[AtomicU64]>,
    /// Tokens that were found in the cache of callers, and those that were not.
    pub(crate) known_callers: AtomicU64,
    pub(crate) loaded_callers: AtomicU64,
}

impl fmt::Debug for UnderWay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnderWay").field("method", &self.method.path()).finish_non_exhaustive()
    }
}

impl UnderWay {
    /// A call of this method is under way. The gate notes what it came to.
    pub(crate) fn begin(method: &Arc<LoadedMethod>, began: Instant, came_to: &CameTo) -> Self {
        method.calls.begun.fetch_add(1, Ordering::Relaxed);
        Self { method: method.clone(), began, came_to: came_to.clone() }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let calls = &self.method.calls;
        let took_us = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        let (number, label) = self.came_to.number_and_label();
        if let Some(ended) = calls.ended.get(number) {
            ended.fetch_add(1, Ordering::Relaxed);
        }
        // How long a stream was open says nothing about how fast anybody was.
        if self.method.method().flow == Flow::Unary {
            calls.micros.observe(took_us);
        }
        self.came_to.trace.end();
        tracing::debug!(method = self.method.path(), outcome = label, took_us, "call");
    }
}

impl CameTo {
    /// Of a call that is recorded there, or not at all.
    pub(crate) fn of(trace: Recorder) -> Self {
        Self { trace, ..Self::default() }
    }

    /// Notes what a call came to.
    pub(crate) fn note<T>(&self, result: &Result<T, Refusal>) {
        self.set(result.as_ref().map_or_else(|refusal| Outcome::Refused(refusal.code), |_| Outcome::Ok));
        self.trace.came_to(self.number_and_label().1, result.as_ref().err());
    }

    /// Whether anything was noted.
    pub(crate) fn is_noted(&self) -> bool {
        self.noted.load(Ordering::Relaxed) != 0
    }

    /// The number of an outcome, and one more: zero says that there is none yet.
    fn set(&self, outcome: Outcome) {
        let number = (1..).zip(OUTCOMES).find(|(_, (known, _))| *known == outcome).map_or(0, |(number, _)| number);
        self.noted.store(number, Ordering::Relaxed);
    }

    /// The place in [`OUTCOMES`] and the label there. Nothing noted means that the caller left before there was an answer.
    fn number_and_label(&self) -> (usize, &'static str) {
        let noted = usize::from(self.noted.load(Ordering::Relaxed));
        let number = noted.checked_sub(1).unwrap_or(OUTCOMES.len() - 1);
        (number, OUTCOMES.get(number).map_or("", |(_, label)| label))
    }
}

impl Default for Totals {
    fn default() -> Self {
        let refused = Reason::ALL.iter().map(|_| AtomicU64::new(0)).collect();
        Self { refused, known_callers: AtomicU64::new(0), loaded_callers: AtomicU64::new(0) }
    }
}

impl Totals {
    /// Counts a refusal, whoever refused.
    pub(crate) fn refused(&self, refusal: &Refusal) {
        if let Some(count) = self.refused.get(refusal.reason as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_of_a_refusal_has_an_outcome_and_each_reason_a_counter() {
        let totals = Totals::default();
        for reason in Reason::ALL {
            let refusal = Refusal::new(*reason, "x");
            let came_to = CameTo::default();
            came_to.note::<()>(&Err(refusal.clone()));
            let (number, _) = came_to.number_and_label();
            assert_eq!(OUTCOMES[number].0, Outcome::Refused(reason.code()), "{reason}");
            totals.refused(&refusal);
        }
        assert!(totals.refused.iter().all(|count| count.load(Ordering::Relaxed) == 1));
    }

    #[test]
    fn a_call_that_came_to_nothing_was_left_by_its_caller() {
        let came_to = CameTo::default();
        assert_eq!(came_to.number_and_label().1, "CANCELLED");
        came_to.note(&Ok(()));
        assert_eq!(came_to.number_and_label().1, "OK");
    }
}
