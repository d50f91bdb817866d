//! The gate: the way of every request.
//!
//! `throttle source -> identify -> throttle account -> admit` happens in [`Front`], before a body is read; then
//! `decode and validate -> transaction { load, authorize, handle, redact, audit }` in [`Gate::unary`]. Cheap refusals come
//! before dear work. One call is one transaction: handlers run again on a conflict, up to a bound. A stream is let in like a
//! call, and each of its turns is one ([`streams`]).
//!
//! What must never happen here: a handler that runs without a [`Permit`], a response that leaves without redaction, a
//! write without an audit leaf, a refusal that is neither a leaf nor counted in one.

mod callers;
mod front;
mod handled;
mod identified;
mod kept;
pub(crate) mod load;
mod redact;
pub(crate) mod request;
mod served;
mod shares;
mod streams;
#[cfg(test)]
mod tests;
mod too_much;
mod way;

pub use crate::token::CertificateHash;
pub(crate) use front::bearer;
pub use front::{Ahead, Arrival, Front, FrontBody, HEALTH_PATH, Source, TurnedAway};
pub use handled::Permit;
pub(crate) use identified::Identified;
pub(crate) use request::deadline;
pub(crate) use streams::{Answers, Opened, Opening};
pub use way::Transport;
pub(crate) use way::{NotShown, Way};

use crate::{
    audit::{self, Leaf, Refusals},
    call::{Call, Finished},
    clock::Clock,
    epoch,
    host::{Host, LoadedMethod},
    identity::Identity,
    metrics::{CameTo, Totals},
    outbox,
    refusal::{Code, Reason, Refusal},
    throttle::{CallerKey, Throttle},
    token::AccessTokens,
    trace::{Recorder, Tracer},
    wire,
};
use bytes::Bytes;
use callers::Callers;
use connectrpc::CodecFormat;
use futures_util::FutureExt;
use handled::{authorize, handle, shown};
use identified::still_the_same;
use kept::Kept;
use load::Load;
use prost_reflect::DynamicMessage;
use std::{
    fmt,
    net::IpAddr,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};
use streams::{OpenStreams, Ticks};
use sys_contract::id::{AccountId, OrgTag};
use sys_keys::Entropy;
use sys_policy::{BindingScope, Caller, Now};
use sys_store::{
    Open, Store,
    engine::{CommitError, CommitVersion, EngineError},
};
use tokio::task::JoinError;

/// How often a call runs before it answers ABORTED: conflicts are rare, and the tenth in a row is no accident.
const MAX_ATTEMPTS: u32 = 10;

/// A request that was let in: who calls, and what.
#[derive(Debug, Clone)]
pub(crate) struct Admitted {
    identified: Identified,
    method: Arc<LoadedMethod>,
    came_to: CameTo,
    /// Until when the caller waits, if he says it.
    deadline: Option<Instant>,
}

/// The gate of a server.
pub struct Gate {
    pub(crate) store: Store,
    pub(crate) host: Arc<Host>,
    pub(crate) identity: Identity,
    pub(crate) access: Arc<AccessTokens>,
    pub(crate) throttle: Arc<Throttle>,
    pub(crate) refusals: Refusals,
    pub(crate) totals: Totals,
    pub(crate) tracer: Tracer,
    pub(crate) clock: Clock,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) outbox_bell: Arc<tokio::sync::Notify>,
    callers: Arc<Callers>,
    anonymous: Arc<Caller>,
    load: Load,
    streams: Arc<OpenStreams>,
    ticks: Arc<Ticks>,
    kept: Kept,
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").field("host", &self.host).finish_non_exhaustive()
    }
}

/// What is done in a call, once its caller is known and its request is valid.
trait Work: Sync {
    type Done: Send;

    /// In the transaction of this call, and again in that of another one after a conflict.
    fn run(&self, call: &Call) -> impl Future<Output = Result<Self::Done, Refusal>> + Send;

    /// Whether a success that wrote nothing leaves a leaf, where the contract wants that of reads.
    fn audits_reads(&self) -> bool {
        true
    }

    /// Told of the call before it ends, whatever it came to.
    fn ended(&self, _call: &Call) {}

    /// Where its steps are noted. Those of streams are not: they go on for as long as the stream does.
    fn trace(&self) -> Recorder {
        Recorder::default()
    }
}

/// A call of one request and one answer.
struct Unary<'a> {
    kept: &'a Kept,
    whose: CallerKey,
    request: &'a DynamicMessage,
    format: CodecFormat,
    trace: &'a Recorder,
}

impl Work for Unary<'_> {
    type Done = Bytes;

    fn trace(&self) -> Recorder {
        self.trace.clone()
    }

    async fn run(&self, call: &Call) -> Result<Bytes, Refusal> {
        let method = call.method();
        // The request is valid by its contract here. What only a handler reads of it, such as the form of ids, comes later, and
        // so does all that is looked up: nobody who is to show his password learns anything before he has.
        step_up(method, call.caller(), Some(self.request), call.now())?;
        let response = match &method.method().serve {
            Some(serve) => served::serve(call, serve, self.request).await?,
            None => handle(call, self.request).await?.into(),
        };
        let answer = response.encode(self.format)?;
        if kept::is_small(&answer) {
            return Ok(answer);
        }
        if call.has_written().await {
            return Ok(self.kept.keep_anyway(self.whose.clone(), answer));
        }
        self.kept.keep(self.whose.clone(), answer)
    }
}

/// What one attempt came to.
enum Attempt<T> {
    Answer(T),
    Refused(Refusal),
    /// Lost against another commit.
    Again,
    /// The account has changed since the caller was loaded.
    Stale,
}

/// Why a call was not committed.
enum Lost {
    Conflict,
    Refused(Refusal),
}

impl<T> From<Lost> for Attempt<T> {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::Conflict => Self::Again,
            Lost::Refused(refusal) => Self::Refused(refusal),
        }
    }
}

impl Gate {
    #[allow(clippy::too_many_arguments, reason = "the parts of a server, put together in one place")]
    pub(crate) fn new(
        store: Store,
        host: Arc<Host>,
        identity: Identity,
        access: Arc<AccessTokens>,
        throttle: Arc<Throttle>,
        refusals: Refusals,
        tracer: Tracer,
        clock: Clock,
        entropy: Arc<dyn Entropy>,
    ) -> Self {
        let outbox_bell = Arc::default();
        let (callers, totals) = (Arc::default(), Totals::default());
        let anonymous = Arc::new(Caller::anonymous());
        let streams = Arc::new(OpenStreams::new(throttle.counts_nothing_else()));
        Self {
            store,
            host,
            identity,
            access,
            throttle,
            refusals,
            totals,
            tracer,
            clock,
            entropy,
            outbox_bell,
            callers,
            anonymous,
            load: Load::default(),
            streams,
            ticks: Arc::default(),
            kept: Kept::default(),
        }
    }

    /// One request that was let in, from its body to the bytes of its answer.
    pub(crate) async fn unary(&self, admitted: Admitted, body: Bytes, format: CodecFormat) -> Result<Bytes, Refusal> {
        let Admitted { identified, method, came_to, deadline } = admitted;
        let longest = Instant::now() + Duration::from_millis(u64::from(method.method().deadline_ms));
        // What its caller does not wait for is given up, whatever it waits for itself: a turn, a hash, the disk.
        let deadline = deadline.map_or(longest, |deadline| deadline.min(longest));
        // A handler that panics loses its transaction with its call, and what it left elsewhere is a cache at most. In a
        // box, as is what few calls come to: a future of kilobytes would be copied by each of those around it.
        let attempts = Box::pin(self.attempts(&method, identified, body, format, &came_to.trace));
        let attempts = AssertUnwindSafe(attempts).catch_unwind();
        let answered = match tokio::time::timeout_at(deadline.into(), attempts).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(Refusal::internal(format!("{} panicked", method.path()))),
            Err(_) => Err(Refusal::new(Reason::Deadline, "the call took too long and was given up")
                .help("a change may have been stored all the same: look before you try again")),
        };
        came_to.note(&answered);
        answered.inspect_err(|refusal| self.totals.refused(refusal))
    }

    /// Leaves a leaf of this refusal, or counts it where its caller has left too many. What is wrong with the request by itself,
    /// what lost against others, and what is our fault, refuses nobody.
    fn note_refusal(
        &self,
        org: Option<OrgTag>,
        caller: &Caller,
        source: Option<IpAddr>,
        leaf: Leaf,
        refusal: &Refusal,
    ) {
        let counts = matches!(
            refusal.code,
            Code::PermissionDenied
                | Code::Unauthenticated
                | Code::NotFound
                | Code::ResourceExhausted
                | Code::FailedPrecondition
        );
        if !counts {
            return;
        }
        let leaf = leaf.refused(refusal.reason.name());
        let log = log_of(&leaf, org, caller);
        if self.throttle.leaf(log, caller.account(), source, refusal) {
            self.refusals.put(log, leaf);
        } else {
            self.refusals.count_of(log, leaf.account_id);
        }
    }

    async fn attempts(
        &self,
        method: &Arc<LoadedMethod>,
        mut identified: Identified,
        body: Bytes,
        format: CodecFormat,
        trace: &Recorder,
    ) -> Result<Bytes, Refusal> {
        let whose = identified.whose();
        self.kept.may_begin(&whose)?;
        let waiting = trace.step("wait");
        let _running = self.load.enter(identified.way.source).await?;
        drop(waiting);
        let validating = trace.step("validate");
        let request = wire::decode(method.method().descriptor.input(), body, format)?;
        crate::host::validate(method, &request)?;
        drop(validating);
        let work = Unary { kept: &self.kept, whose, request: &request, format, trace };
        self.tried(method, &mut identified, &work).await
    }

    /// Does some work in a call, and again where somebody else was faster. A caller who has changed meanwhile is loaded anew
    /// and left in `identified`.
    async fn tried<W: Work>(
        &self,
        method: &Arc<LoadedMethod>,
        identified: &mut Identified,
        work: &W,
    ) -> Result<W::Done, Refusal> {
        for _ in 0..MAX_ATTEMPTS {
            match self.attempt(method, identified, work).await {
                Attempt::Answer(answer) => return Ok(answer),
                Attempt::Refused(refusal) => return Err(refusal),
                Attempt::Again => {}
                Attempt::Stale => *identified = Box::pin(self.reload(method, identified)).await?,
            }
        }
        Err(Refusal::new(Reason::Conflict, "too many calls changed the same records at the same time")
            .help("try again"))
    }

    /// The method rule without the record: whether this caller could be let in at all, and has shown his password lately
    /// where every call of the method wants that.
    fn admit(&self, method: &LoadedMethod, caller: &Caller) -> Result<(), Refusal> {
        let now = self.clock.now();
        if method.could(caller, &now) {
            step_up(method, caller, None, &now)
        } else if caller.account().is_none() {
            Err(Refusal::unauthenticated())
        } else {
            Err(Refusal::method_refused())
        }
    }

    async fn attempt<W: Work>(
        &self,
        method: &Arc<LoadedMethod>,
        identified: &Identified,
        work: &W,
    ) -> Attempt<W::Done> {
        let trace = work.trace();
        let _transaction = trace.step("transaction");
        let call = Call::new(identified, method.clone(), self.clock.now(), self, trace.clone());
        let _ending = call.ending();
        match begin(&call, identified).await {
            Ok(true) => {}
            Ok(false) => return Attempt::Stale,
            Err(refusal) => return Attempt::Refused(refusal),
        }
        let handling = trace.step("handle");
        let handled = work.run(&call).await;
        drop(handling);
        work.ended(&call);
        let finished = call.finish().await;
        match handled {
            Ok(answer) => match self.commit(&call, finished, None, work.audits_reads()).await {
                Ok(()) => Attempt::Answer(answer),
                Err(lost) => lost.into(),
            },
            Err(refusal) if refusal.keeps_writes() => match self.commit(&call, finished, Some(&refusal), true).await {
                Ok(()) => Attempt::Refused(refusal),
                Err(lost) => lost.into(),
            },
            Err(refusal) => {
                let (leaf, org) = call.leaf();
                self.note_refusal(org, call.caller(), call.source(), leaf, &refusal);
                Attempt::Refused(refusal)
            }
        }
    }

    /// Commits a call, refused or not, with its audit leaf, its effects and its epochs.
    async fn commit(
        &self,
        call: &Call,
        finished: Finished,
        refused: Option<&Refusal>,
        audits_reads: bool,
    ) -> Result<(), Lost> {
        let method = call.method().method();
        if !(finished.wrote() || method.audit_full && audits_reads || method.sign_in || refused.is_some()) {
            // What was read is the truth of one moment: there is nothing to validate.
            return Ok(());
        }
        Box::pin(self.commit_writes(call, finished, refused)).await
    }

    async fn commit_writes(&self, call: &Call, finished: Finished, refused: Option<&Refusal>) -> Result<(), Lost> {
        let Finished { open, effects, changed_identities } = finished;
        let auditing = call.step("audit");
        let prepared = async {
            let mut open = match open {
                Some(open) => open,
                None => self.store.begin(*call.now()).await?,
            };
            for account in &changed_identities {
                epoch::advance(&mut open, *account).await?;
            }
            outbox::store(&mut open, &effects, self.entropy.as_ref()).await?;
            let (leaf, org) = call.leaf();
            let leaf = leaf.records(open.changed_records());
            let leaf = refused.iter().fold(leaf, |leaf, refusal| leaf.refused(refusal.reason.name()));
            audit::append(&mut open, log_of(&leaf, org, call.caller()), leaf, self.entropy.as_ref()).await?;
            Ok::<Open, Refusal>(open)
        };
        let open = prepared.await.map_err(Lost::Refused)?;
        drop(auditing);
        let _committing = call.step("commit");
        let committed = if effects.is_empty() && changed_identities.is_empty() {
            open.commit().await
        } else {
            self.commit_and_tell(open, changed_identities).await
        };
        match committed {
            Ok(_) => Ok(()),
            Err(CommitError::Conflict) => Err(Lost::Conflict),
            Err(error) => Err(Lost::Refused(Refusal::from(error))),
        }
    }

    /// Commits, and tells the cache of callers and the outbox. In a task of its own, which runs on when the caller is gone: a
    /// commit that was handed over happens, so that these must hear of it.
    async fn commit_and_tell(
        &self,
        open: Open,
        changed_identities: Vec<AccountId>,
    ) -> Result<CommitVersion, CommitError> {
        let (callers, streams, bell) = (self.callers.clone(), self.streams.clone(), self.outbox_bell.clone());
        let committing = tokio::spawn(async move {
            let committed = open.commit().await;
            // Also after an error: what is not known to have failed may have happened.
            for account in changed_identities {
                callers.forget(account);
                streams.stir(account);
            }
            bell.notify_one();
            committed
        });
        let died = |error: JoinError| CommitError::Unknown(EngineError::Failed { cause: error.to_string() });
        committing.await.unwrap_or_else(|error| Err(died(error)))
    }
}

/// The log that a leaf goes to: its org's, where the call had to do with records there or the caller belongs to it. What a
/// stranger tries stands in the system's log: he neither fills an org's nor opens one for an org that is not there.
fn log_of(leaf: &Leaf, org: Option<OrgTag>, caller: &Caller) -> OrgTag {
    let Some(org) = org else { return OrgTag::GLOBAL };
    let belongs = caller.bindings().iter().any(|binding| match binding.scope {
        BindingScope::Org(tag) | BindingScope::Project(tag, _) => tag == org,
        BindingScope::System => false,
    });
    if belongs || leaf.is_ok() && !leaf.records.is_empty() { org } else { OrgTag::GLOBAL }
}

/// Opens the transaction of a caller with an account; whether his bindings and his session are still what he was identified
/// with. Nothing is opened for an anonymous caller: perhaps nothing is read.
async fn begin(call: &Call, identified: &Identified) -> Result<bool, Refusal> {
    if identified.epoch.is_none() {
        return Ok(true);
    }
    still_the_same(&mut *call.open().await?, identified).await
}

/// Refuses who has not shown his password lately, where the method wants that of this request.
fn step_up(method: &LoadedMethod, caller: &Caller, request: Option<&DynamicMessage>, now: &Now) -> Result<(), Refusal> {
    if method.rules.lacks_step_up(caller, request, now) { Err(Refusal::step_up_required()) } else { Ok(()) }
}
