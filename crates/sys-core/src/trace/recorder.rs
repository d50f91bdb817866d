//! What goes with a call and notes its steps.

use super::{CallFacts, Step, Subject, Trace, Tracer};
use crate::{gate::Transport, refusal::Refusal};
use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};
use sys_contract::trace_context::TraceContext;

/// Steps of one trace: a call has a dozen, and again some for each time that it lost against another.
const MAX_STEPS: usize = 64;

/// Notes the steps of one call or work, if it is recorded. Its clones are the same one. The trace ends with [`Recorder::end`], or when
/// the last of them is dropped; what is noted later is not kept.
#[derive(Clone, Default)]
pub struct Recorder(Option<Arc<Recording>>);

/// Why a call is recorded, and whose trace it would be.
pub(super) struct Chosen {
    pub(super) is_chosen: bool,
    pub(super) follows: bool,
    pub(super) parent: Option<TraceContext>,
}

struct Recording {
    tracer: Tracer,
    began: Instant,
    /// Nothing once the trace has ended.
    noted: Mutex<Option<Noted>>,
}

struct Noted {
    chosen: Chosen,
    subject: Subject,
    /// The caller has an account, or there is none.
    is_known: bool,
    is_forgotten: bool,
    steps: Vec<Step>,
    /// The steps that are not over, the innermost last.
    open: Vec<usize>,
    left_out: u32,
}

/// A step that lasts until this is dropped.
pub(crate) struct StepUnderWay(Option<(Arc<Recording>, usize)>);

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Recorder" } else { "Recorder(nothing)" })
    }
}

impl Recorder {
    pub(super) fn begin(tracer: &Tracer, subject: Subject, began: Instant, chosen: Chosen) -> Self {
        let is_known = matches!(subject, Subject::Work { .. });
        let (steps, open) = (Vec::with_capacity(16), Vec::with_capacity(4));
        let noted = Noted { chosen, subject, is_known, is_forgotten: false, steps, open, left_out: 0 };
        Self(Some(Arc::new(Recording { tracer: tracer.clone(), began, noted: Mutex::new(Some(noted)) })))
    }

    /// A step begins, within the one that began last and is not over.
    #[must_use = "the step lasts until it is dropped"]
    pub(crate) fn step(&self, name: &'static str) -> StepUnderWay {
        StepUnderWay(self.0.as_ref().and_then(|recording| Some((recording.clone(), recording.begin_step(name)?))))
    }

    /// The call came over this connection.
    pub(crate) fn came_over(&self, transport: Option<Transport>) {
        self.note_call(|call| call.transport = transport);
    }

    /// Its caller has an account.
    pub(crate) fn is_known(&self) {
        self.note(|noted| noted.is_known = true);
    }

    /// The call has an answer.
    pub(crate) fn came_to(&self, code: &'static str, refusal: Option<&Refusal>) {
        self.note_call(|call| (call.code, call.reason) = (code, refusal.map(|refusal| refusal.reason)));
    }

    /// The work did not go well, in a word of ours.
    pub fn failed(&self, why: &'static str) {
        self.note(|noted| {
            if let Subject::Work { problem, .. } = &mut noted.subject {
                *problem = Some(why);
            }
        });
    }

    /// Keeps nothing of it.
    pub fn forget(&self) {
        self.note(|noted| noted.is_forgotten = true);
    }

    /// It is over.
    pub(crate) fn end(&self) {
        if let Some(recording) = &self.0 {
            recording.end();
        }
    }

    fn note(&self, note: impl FnOnce(&mut Noted)) {
        if let Some(recording) = &self.0
            && let Some(noted) = recording.noted().as_mut()
        {
            note(noted);
        }
    }

    fn note_call(&self, note: impl FnOnce(&mut CallFacts)) {
        self.note(|noted| {
            if let Subject::Call(call) = &mut noted.subject {
                note(call);
            }
        });
    }
}

impl Recording {
    fn noted(&self) -> MutexGuard<'_, Option<Noted>> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn since_ns(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn begin_step(&self, name: &'static str) -> Option<usize> {
        let from_ns = self.since_ns();
        let mut noted = self.noted();
        let noted = noted.as_mut()?;
        let number = noted.steps.len();
        if number >= MAX_STEPS {
            noted.left_out = noted.left_out.saturating_add(1);
            return None;
        }
        let within = noted.open.last().copied();
        noted.steps.push(Step { name, within, from_ns, to_ns: from_ns });
        noted.open.push(number);
        Some(number)
    }

    fn end_step(&self, number: usize) {
        let to_ns = self.since_ns();
        let mut noted = self.noted();
        let Some(noted) = noted.as_mut() else { return };
        noted.open.retain(|open| *open != number);
        if let Some(step) = noted.steps.get_mut(number) {
            step.to_ns = to_ns;
        }
    }

    /// Now it is known who called: whether he is believed, and so whether the trace is kept and whose it is.
    fn end(&self) {
        let took_ns = self.since_ns();
        let Some(noted) = self.noted().take() else { return };
        let Chosen { is_chosen, follows, parent } = noted.chosen;
        let (believed, link) = match parent {
            Some(parent) if !noted.is_known => (None, Some(TraceContext { state: String::new(), ..parent })),
            parent => (parent, None),
        };
        let is_kept = match &believed {
            Some(parent) if follows => parent.is_sampled,
            _ => is_chosen,
        };
        if !is_kept || noted.is_forgotten {
            return;
        }
        let (trace_id, span_id) = self.tracer.ids();
        let mut steps = noted.steps;
        for open in noted.open {
            // A call that its caller left, or that took too long, ends in the middle of a step.
            if let Some(step) = steps.get_mut(open) {
                step.to_ns = took_ns;
            }
        }
        let trace = Trace {
            trace_id: believed.as_ref().map_or(trace_id, |parent| parent.trace_id),
            span_id,
            parent: believed,
            link,
            began_unix_ns: self.tracer.now_unix_ns().saturating_sub(took_ns),
            took_ns,
            subject: noted.subject,
            steps,
            left_out: noted.left_out,
        };
        self.tracer.put(trace, !noted.is_known);
    }
}

impl Drop for StepUnderWay {
    fn drop(&mut self) {
        if let Some((recording, number)) = &self.0 {
            recording.end_step(*number);
        }
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.end();
    }
}
