//! `Call`: the only way to a record. Caller, module and transaction in one value, made by the gate for one attempt of one
//! request, dead once the gate has taken the transaction back.
//!
//! What must never happen here: a record operation that is neither within the caller's rights ([`Call::records`]) nor
//! among what the method's `elevate` lists ([`Call::elevated`]).

use crate::{
    audit::{self, Leaf},
    clock::unix_ms,
    gate::{Gate, Identified, NotShown, Transport, Way},
    host::LoadedMethod,
    outbox::Effect,
    records::Records,
    refusal::{Reason, Refusal},
    throttle::{Attempt, Throttle},
    token::CertificateHash,
    trace::{Recorder, StepUnderWay},
};
use std::{
    fmt,
    net::IpAddr,
    ops::DerefMut,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};
use sys_contract::id::{AccountId, OrgTag, RecordId};
use sys_keys::Entropy;
use sys_policy::{Caller, GrantNo, Now};
use sys_store::{Open, Store};
use tokio::sync::{MappedMutexGuard, Mutex, MutexGuard};

/// Effects that one call may leave in the outbox: a handler that wants more has lost its way.
const MAX_EFFECTS: usize = 16;

/// One attempt of one request. Cheap to clone; every clone is the same call.
#[derive(Clone)]
pub struct Call(Arc<State>);

struct State {
    caller: Arc<Caller>,
    way: Way,
    method: Arc<LoadedMethod>,
    now: Now,
    store: Store,
    entropy: Arc<dyn Entropy>,
    throttle: Arc<Throttle>,
    transaction: Mutex<Transaction>,
    /// Set when the attempt ends, however it does: no clone does anything from then on.
    over: AtomicBool,
    subject: std::sync::Mutex<Subject>,
    trace: Recorder,
}

/// What a call turned out to be about, as far as it is known: the part of its audit leaf that the request alone does not say.
#[derive(Debug, Clone, Default)]
pub(crate) struct Subject {
    /// The records that it was judged on, and the account that signed in.
    pub(crate) records: Vec<RecordId>,
    /// The org that it concerns.
    pub(crate) org: Option<OrgTag>,
    /// The grant that allowed it.
    pub(crate) grant: Option<GrantNo>,
    /// How it came, where the session turned out to be bound to a key: that of a refresh, which is nobody's call.
    way: Option<Way>,
}

impl Subject {
    /// The call is judged on this record; of a record at home in an org its id says which.
    pub(crate) fn judged_on(&mut self, id: RecordId) {
        self.records.push(id);
        self.org = Some(id.org).filter(|org| !org.is_global());
    }
}

/// Ends a call when it is dropped.
pub(crate) struct Ending(Call);

/// The transaction of a call, opened at the first read.
struct Transaction {
    stage: Stage,
    effects: Vec<Effect>,
    changed_identities: Vec<AccountId>,
}

#[allow(clippy::large_enum_variant, reason = "one of these lives in each call, and almost always it is the large one")]
enum Stage {
    Unopened,
    Open(Open),
    /// The gate has it, or it failed.
    Gone,
}

/// What the gate gets back when the handler is done.
pub(crate) struct Finished {
    /// Absent where the call read and wrote nothing.
    pub(crate) open: Option<Open>,
    pub(crate) effects: Vec<Effect>,
    /// The accounts whose sessions or bindings the call changed: their cached callers are forgotten after the commit.
    pub(crate) changed_identities: Vec<AccountId>,
}

impl Finished {
    /// Whether the call leaves anything behind.
    pub(crate) fn wrote(&self) -> bool {
        self.open.as_ref().is_some_and(Open::has_writes)
            || !self.effects.is_empty()
            || !self.changed_identities.is_empty()
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("method", &self.0.method.path())
            .field("caller", &self.0.caller.account())
            .finish_non_exhaustive()
    }
}

impl Call {
    pub(crate) fn new(
        identified: &Identified,
        method: Arc<LoadedMethod>,
        now: Now,
        gate: &Gate,
        trace: Recorder,
    ) -> Self {
        let (caller, way) = (identified.caller.clone(), identified.way);
        let (store, entropy, throttle) = (gate.store.clone(), gate.entropy.clone(), gate.throttle.clone());
        let transaction =
            Mutex::new(Transaction { stage: Stage::Unopened, effects: Vec::new(), changed_identities: Vec::new() });
        let (over, subject) = (AtomicBool::new(false), std::sync::Mutex::default());
        Self(Arc::new(State { caller, way, method, now, store, entropy, throttle, transaction, over, subject, trace }))
    }

    /// Who calls.
    pub fn caller(&self) -> &Arc<Caller> {
        &self.0.caller
    }

    /// The time of the call, the same for all that happens in it.
    pub fn now(&self) -> &Now {
        &self.0.now
    }

    /// The module's records, with the caller's rights, as far as the method's target and `reach` go.
    pub fn records(&self) -> Records {
        Records::with_callers_rights(self.clone())
    }

    /// The module's records with the module's own rights, as far as the method's `elevate` goes.
    pub fn elevated(&self) -> Result<Records, Refusal> {
        if self.0.method.method().elevate.is_empty() {
            return Err(Refusal::internal(format!("{} elevates nothing", self.0.method.path())));
        }
        Ok(Records::with_modules_rights(self.clone()))
    }

    /// Whether it leaves anything behind so far.
    pub(crate) async fn has_written(&self) -> bool {
        let Transaction { stage, effects, changed_identities } = &*self.0.transaction.lock().await;
        let wrote = matches!(stage, Stage::Open(open) if open.has_writes());
        wrote || !effects.is_empty() || !changed_identities.is_empty()
    }

    /// Leaves an effect for after the commit: it is stored with the call's writes or not at all.
    pub async fn after_commit(&self, effect: Effect) -> Result<(), Refusal> {
        let mut transaction = self.0.transaction.lock().await;
        if self.is_over() || matches!(transaction.stage, Stage::Gone) {
            return Err(call_over());
        }
        if transaction.effects.len() >= MAX_EFFECTS {
            return Err(Refusal::internal("too many effects in one call"));
        }
        transaction.effects.push(effect);
        Ok(())
    }

    /// Where the caller is, for what must be told from it at once: nothing keeps it.
    pub(crate) fn source(&self) -> Option<IpAddr> {
        self.0.way.source
    }

    /// What is known of the TLS connection that the request came on; nothing of one that came in plain, from this machine.
    pub fn transport(&self) -> Option<&Transport> {
        self.0.way.transport.as_ref()
    }

    /// Refuses who has not shown the certificate that a session is bound to.
    pub(crate) fn shows(&self, bound_to: Option<CertificateHash>) -> Result<(), NotShown> {
        let shown = self.0.way.shows(bound_to);
        self.note(|subject| subject.way = Some(shown.unwrap_or_else(|NotShown(way)| way)));
        shown.map(drop)
    }

    /// The certificate that the client has shown, and proven to have the key of.
    pub(crate) fn certificate(&self) -> Option<CertificateHash> {
        self.0.way.certificate()
    }

    /// Whether the caller is on this machine. An unknown source is not.
    pub fn source_is_loopback(&self) -> bool {
        self.0.way.source.is_some_and(|source| source.to_canonical().is_loopback())
    }

    /// Takes one from the bucket of calls of this method with what `subject` names, from the caller's source: an address
    /// that somebody wants to log in with or have a mail sent to, whether it exists or not.
    pub fn throttle_sign_in(&self, subject: &str) -> Result<(), Refusal> {
        self.0.throttle.sign_in(self.0.method.path(), subject, self.0.way.source)
    }

    /// Lets in a guess at the password of what `subject` names, or says how long to wait.
    pub(crate) fn guess(&self, subject: &str) -> Result<Attempt, Refusal> {
        self.0.throttle.guess(subject, self.0.way.source, unix_ms(&self.0.now))
    }

    /// The guess was right.
    pub(crate) fn guessed_right(&self, attempt: &Attempt) {
        self.0.throttle.guessed_right(attempt, unix_ms(&self.0.now));
    }

    /// There was no guess after all: the server had no time to look at the password.
    pub(crate) fn not_guessed(&self, attempt: &Attempt) {
        self.0.throttle.not_guessed(attempt);
    }

    /// Whom `subject` names has proven himself by his mailbox: neither his own wrong guesses nor those of strangers slow him
    /// down here.
    pub(crate) fn proven_by_mail(&self, subject: &str) {
        self.0.throttle.proven(subject, self.0.way.source, unix_ms(&self.0.now));
    }

    /// A session of whom `subject` names lives on: strangers who guess at his password do not slow him down here.
    pub(crate) fn visited(&self, subject: &str) {
        self.0.throttle.visited(subject, self.0.way.source, unix_ms(&self.0.now));
    }

    /// A new id in this org's tablespace.
    pub fn new_id(&self, org: OrgTag) -> RecordId {
        let mut random = [0; 10];
        self.0.entropy.fill(&mut random);
        RecordId::new(org, unix_ms(&self.0.now), random)
    }

    /// Fresh random bytes.
    pub fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.entropy.fill(&mut bytes);
        bytes
    }

    pub(crate) fn entropy(&self) -> &dyn Entropy {
        &*self.0.entropy
    }

    pub(crate) fn method(&self) -> &Arc<LoadedMethod> {
        &self.0.method
    }

    /// The open transaction, opened now if it is not yet. For sys-core alone: a module's code has no way here.
    pub(crate) async fn open(&self) -> Result<impl DerefMut<Target = Open> + use<'_>, Refusal> {
        let mut transaction = self.0.transaction.lock().await;
        if self.is_over() {
            return Err(call_over());
        }
        if matches!(transaction.stage, Stage::Unopened) {
            transaction.stage = Stage::Open(self.0.store.begin(self.0.now).await.map_err(Refusal::from)?);
        }
        MutexGuard::try_map(transaction, |transaction| match &mut transaction.stage {
            Stage::Open(open) => Some(open),
            Stage::Unopened | Stage::Gone => None,
        })
        .map_err(|_| call_over())
        .map(|open: MappedMutexGuard<'_, Open>| open)
    }

    /// Notes that this account's sessions, bindings or standing change with this call: its epoch moves with the commit,
    /// and its cached callers are forgotten.
    pub(crate) async fn identity_changes(&self, account: AccountId) {
        let mut transaction = self.0.transaction.lock().await;
        if !transaction.changed_identities.contains(&account) {
            transaction.changed_identities.push(account);
        }
    }

    /// A step of the call begins, which lasts until it is dropped.
    pub(crate) fn step(&self, name: &'static str) -> StepUnderWay {
        self.0.trace.step(name)
    }

    /// Notes what the call is about.
    pub(crate) fn note(&self, note: impl FnOnce(&mut Subject)) {
        note(&mut self.0.subject.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The call's audit leaf as things stand, and the org that it concerns.
    pub(crate) fn leaf(&self) -> (Leaf, Option<OrgTag>) {
        let subject = self.0.subject.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let way = subject.way.unwrap_or(self.0.way);
        let mut leaf = way.tell(audit::leaf_of(self.0.method.path(), &self.0.caller, &self.0.now));
        leaf.grant = subject.grant.map(|grant| grant.0);
        (leaf.records(subject.records), subject.org)
    }

    /// Ends the call when the attempt does, also where that is dropped at its deadline.
    pub(crate) fn ending(&self) -> Ending {
        Ending(self.clone())
    }

    fn is_over(&self) -> bool {
        self.0.over.load(Ordering::Acquire)
    }

    /// Takes the transaction back: whatever clone a handler kept is dead from here on.
    pub(crate) async fn finish(&self) -> Finished {
        let mut transaction = self.0.transaction.lock().await;
        let open = match std::mem::replace(&mut transaction.stage, Stage::Gone) {
            Stage::Open(open) => Some(open),
            Stage::Unopened | Stage::Gone => None,
        };
        Finished {
            open,
            effects: std::mem::take(&mut transaction.effects),
            changed_identities: std::mem::take(&mut transaction.changed_identities),
        }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.0.over.store(true, Ordering::Release);
        // A clone that is busy with the transaction at this moment lets go of it by itself.
        if let Ok(mut transaction) = self.0.0.transaction.try_lock() {
            transaction.stage = Stage::Gone;
        }
    }
}

fn call_over() -> Refusal {
    Refusal::new(Reason::CallOver, "the call is over")
}
