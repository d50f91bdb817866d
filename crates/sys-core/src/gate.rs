//! The gate: the way of every request.
//!
//! `throttle source -> identify -> throttle account -> admit` happens in [`Front`], before a body is read; then
//! `decode and validate -> transaction { load, authorize, handle, redact, audit }` in [`Gate::unary`]. Cheap refusals come
//! before dear work. One call is one transaction: handlers run again on a conflict, up to a bound.
//!
//! What must never happen here: a handler that runs without a [`Permit`], a response that leaves without redaction, a
//! write or refusal without an audit leaf.

mod callers;
mod front;
mod redact;
mod served;

pub use front::{Front, FrontBody, Source};

use crate::{
    audit::{self, Leaf, Refusals},
    call::{Call, Finished},
    clock::Clock,
    describe, epoch,
    host::{Host, LoadedMethod},
    identity::Identity,
    outbox,
    refusal::{Code, Refusal},
    throttle::Throttle,
    token::AccessTokens,
    wire,
};
use bytes::Bytes;
use callers::{Callers, Known, TokenHash};
use connectrpc::CodecFormat;
use prost_reflect::DynamicMessage;
use std::{fmt, net::IpAddr, sync::Arc, time::Duration};
use sys_contract::id::{AccountId, OrgTag, RecordId};
use sys_keys::Entropy;
use sys_policy::{Caller, GrantNo};
use sys_store::Store;

/// How often a call runs before it answers ABORTED: conflicts are rare, and the tenth in a row is no accident.
const MAX_ATTEMPTS: u32 = 10;

/// Proof that the gate has judged this call: who, through which method, on which record as it stood, by which grant. Made
/// by the gate alone, used up by the handler that it is given to.
#[derive(Debug)]
pub struct Permit {
    caller: Option<AccountId>,
    method: Arc<LoadedMethod>,
    target: Option<RecordId>,
    grant: GrantNo,
}

impl Permit {
    /// The account that may.
    pub fn caller(&self) -> Option<AccountId> {
        self.caller
    }

    /// Through this method.
    pub fn method(&self) -> &str {
        self.method.path()
    }

    /// On this record: it was read in the call's transaction, so that it cannot change before the commit.
    pub fn target(&self) -> Option<RecordId> {
        self.target
    }

    /// By this grant of the method.
    pub fn grant(&self) -> GrantNo {
        self.grant
    }
}

/// What the front found out about a request before its body was read.
#[derive(Debug, Clone)]
pub(crate) struct Identified {
    pub(crate) caller: Arc<Caller>,
    pub(crate) epoch: Option<u64>,
    pub(crate) source: Option<IpAddr>,
}

/// The gate of a server.
pub struct Gate {
    pub(crate) store: Store,
    pub(crate) host: Arc<Host>,
    pub(crate) identity: Identity,
    pub(crate) access: Arc<AccessTokens>,
    pub(crate) throttle: Arc<Throttle>,
    pub(crate) refusals: Refusals,
    pub(crate) clock: Clock,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) outbox_bell: Arc<tokio::sync::Notify>,
    callers: Arc<Callers>,
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").field("host", &self.host).finish_non_exhaustive()
    }
}

/// What one attempt came to.
enum Attempt {
    Answer(Bytes),
    Refused(Refusal),
    /// Lost against another commit.
    Again,
    /// The account has changed since the caller was loaded.
    Stale,
}

/// What a handler or served method gave, before the commit.
pub(crate) struct Handled {
    pub(crate) response: DynamicMessage,
    pub(crate) leaf: Leaf,
    /// The log that the leaf goes to.
    pub(crate) log: OrgTag,
    pub(crate) writes: bool,
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
        clock: Clock,
        entropy: Arc<dyn Entropy>,
    ) -> Self {
        let outbox_bell = Arc::default();
        let callers = Arc::default();
        Self { store, host, identity, access, throttle, refusals, clock, entropy, outbox_bell, callers }
    }

    /// The largest request that a method takes, or `None` if there is no such method.
    pub(crate) fn request_bytes(&self, path: &str) -> Option<usize> {
        if path == describe::HEALTH_CHECK {
            return Some(describe::HEALTH_REQUEST_BYTES);
        }
        let method = self.host.method(path)?;
        usize::try_from(method.method().max_request_bytes).ok()
    }

    /// One request, from its body to the bytes of its answer.
    pub(crate) async fn unary(
        self: Arc<Self>,
        path: &str,
        identified: Option<Identified>,
        body: Bytes,
        format: CodecFormat,
    ) -> Result<Bytes, Refusal> {
        if path == describe::HEALTH_CHECK {
            return Ok(describe::healthy(format == CodecFormat::Json));
        }
        let method = self.host.method(path).ok_or_else(|| no_such_method(path))?;
        // Whoever is not identified by the front is nobody: there is no way round it.
        let identified = identified.ok_or_else(Refusal::unauthenticated)?;
        let deadline = Duration::from_millis(u64::from(method.method().deadline_ms));
        let late = || Refusal::new(Code::DeadlineExceeded, "DEADLINE", "the call took too long and was given up");
        let leaf = Leaf::new(path, &identified.caller, &self.clock.now());
        let answer = tokio::time::timeout(deadline, self.attempts(&method, identified, body, format))
            .await
            .unwrap_or_else(|_| Err(late()));
        if let Err(refusal) = &answer {
            self.note_refusal(leaf, refusal);
        }
        answer
    }

    /// Leaves a leaf of this refusal. What is wrong with the request by itself, and what is our fault, refuses nobody.
    pub(crate) fn note_refusal(&self, leaf: Leaf, refusal: &Refusal) {
        let counts = matches!(
            refusal.code,
            Code::PermissionDenied | Code::Unauthenticated | Code::NotFound | Code::ResourceExhausted
        );
        if counts && !refusal.keeps_writes() {
            self.refusals.put(OrgTag::GLOBAL, leaf.refused(refusal.reason));
        }
    }

    async fn attempts(
        &self,
        method: &Arc<LoadedMethod>,
        mut identified: Identified,
        body: Bytes,
        format: CodecFormat,
    ) -> Result<Bytes, Refusal> {
        let request = wire::decode(method.method().descriptor.input(), body, format)?;
        crate::host::validate(method, &request)?;
        for _ in 0..MAX_ATTEMPTS {
            match self.attempt(method, &identified, &request, format).await {
                Attempt::Answer(answer) => return Ok(answer),
                Attempt::Refused(refusal) => return Err(refusal),
                Attempt::Again => {}
                Attempt::Stale => identified = self.reload(method, identified).await?,
            }
        }
        Err(Refusal::new(Code::Aborted, "CONFLICT", "too many calls changed the same records at the same time")
            .help("try again"))
    }

    /// Loads the caller anew after his account changed, and asks again whether he may call at all.
    async fn reload(&self, method: &LoadedMethod, stale: Identified) -> Result<Identified, Refusal> {
        let (Some(account), Some(session)) = (stale.caller.account(), stale.caller.session()) else {
            return Err(Refusal::token_refused());
        };
        self.callers.forget(account);
        let claims = crate::token::Claims { account, session, expires_unix_s: i64::MAX };
        let known = self.load_known(claims).await?;
        let fresh = Identified { caller: known.caller, epoch: Some(known.epoch), source: stale.source };
        self.admit(method, &fresh.caller)?;
        Ok(fresh)
    }

    /// Who holds this token: from memory, else from the store.
    pub(crate) async fn identify(&self, token: &str) -> Result<Known, Refusal> {
        let now = self.clock.now();
        let hash = TokenHash::of(token);
        if let Some(known) = self.callers.get(&hash) {
            if now.unix_s < known.claims.expires_unix_s {
                return Ok(known);
            }
            return Err(Refusal::token_refused());
        }
        let claims = self.access.verify(token, now.unix_s).map_err(|_| Refusal::token_refused())?;
        let known = self.load_known(claims).await?;
        self.callers.put(hash, known.clone());
        Ok(known)
    }

    async fn load_known(&self, claims: crate::token::Claims) -> Result<Known, Refusal> {
        let mut open = self.store.begin(self.clock.now()).await?;
        let epoch = epoch::read(&mut open, claims.account).await?;
        let caller = self.identity.load_caller(&mut open, &claims).await?.ok_or_else(Refusal::token_refused)?;
        Ok(Known { claims, caller: Arc::new(caller), epoch })
    }

    /// The method rule without the record: whether this caller could be let in at all.
    pub(crate) fn admit(&self, method: &LoadedMethod, caller: &Caller) -> Result<(), Refusal> {
        if method.could(caller, &self.clock.now()) {
            Ok(())
        } else if caller.account().is_none() {
            Err(Refusal::unauthenticated())
        } else {
            Err(Refusal::method_refused())
        }
    }

    async fn attempt(
        &self,
        method: &Arc<LoadedMethod>,
        identified: &Identified,
        request: &DynamicMessage,
        format: CodecFormat,
    ) -> Attempt {
        let call = Call::new(identified, method.clone(), self.clock.now(), self);
        match self.still_the_same(&call, identified).await {
            Ok(true) => {}
            Ok(false) => return Attempt::Stale,
            Err(refusal) => return Attempt::Refused(refusal),
        }
        let handled = match &method.method().serve {
            Some(serve) => served::serve(&call, serve, request).await,
            None => self.handle(&call, request).await,
        };
        let finished = call.finish().await;
        match handled {
            Ok(handled) => match wire::encode(&handled.response, format) {
                Ok(answer) => self.commit(finished, Some(handled)).await.map_or_else(|attempt| attempt, |()| Attempt::Answer(answer)),
                Err(refusal) => Attempt::Refused(refusal),
            },
            Err(refusal) if refusal.keeps_writes() => {
                let leaf = Leaf::new(method.path(), &identified.caller, call.now()).refused(refusal.reason);
                let kept = Handled { response: request.clone(), leaf, log: OrgTag::GLOBAL, writes: true };
                self.commit(finished, Some(kept)).await.map_or_else(|attempt| attempt, |()| Attempt::Refused(refusal))
            }
            Err(refusal) => Attempt::Refused(refusal),
        }
    }

    /// Reads the account's epoch into the transaction: if it is the one that the caller was loaded in, his bindings and
    /// session are what they were, and stay so until the commit.
    async fn still_the_same(&self, call: &Call, identified: &Identified) -> Result<bool, Refusal> {
        let (Some(account), Some(expected)) = (identified.caller.account(), identified.epoch) else { return Ok(true) };
        let mut open = call.open().await?;
        Ok(epoch::read(&mut open, account).await? == expected)
    }

    /// A method with logic: authorized on its target, handled, redacted.
    async fn handle(&self, call: &Call, request: &DynamicMessage) -> Result<Handled, Refusal> {
        use prost::Message;
        let method = call.method();
        let permit = authorize(call, request).await?;
        let mut leaf = Leaf::new(method.path(), call.caller(), call.now());
        leaf.grant = Some(permit.grant.0);
        let log = permit.target.map_or(OrgTag::GLOBAL, |id| id.org);
        if let Some(id) = permit.target {
            leaf = leaf.record(id);
        }
        let handle = method.handle.clone().ok_or_else(|| Refusal::internal("a method without serve and handler"))?;
        let answer = handle(permit, call.clone(), request.encode_to_vec().into()).await?;
        let mut response =
            DynamicMessage::decode(method.method().descriptor.output(), answer).map_err(Refusal::internal)?;
        wire::drop_unknown_fields(&mut response);
        if method.answers_records {
            redact::redact(call, &mut response).await?;
        }
        Ok(Handled { response, leaf, log, writes: false })
    }

    /// Commits a call with its audit leaf, its effects and its epochs. It runs on when its caller is gone, so that caches
    /// never miss a commit.
    async fn commit(&self, finished: Finished, handled: Option<Handled>) -> Result<(), Attempt> {
        let Finished { open, effects, changed_identities, .. } = finished;
        let Some(mut open) = open else { return Ok(()) };
        let audited = handled.filter(|handled| {
            handled.writes || open.has_writes() || !effects.is_empty() || !changed_identities.is_empty()
        });
        let Some(handled) = audited else {
            // Nothing was written, so that what was read is the truth of one moment: there is nothing to validate.
            return Ok(());
        };
        let prepared = async {
            for account in &changed_identities {
                epoch::advance(&mut open, *account).await?;
            }
            outbox::store(&mut open, &effects, self.entropy.as_ref()).await?;
            let mut salt = [0; audit::SALT_BYTES];
            self.entropy.fill(&mut salt);
            audit::append(&mut open, handled.log, &handled.leaf, salt).await?;
            Ok::<(), Refusal>(())
        };
        prepared.await.map_err(Attempt::Refused)?;
        let (callers, bell) = (self.callers.clone(), self.outbox_bell.clone());
        let committed = tokio::spawn(async move {
            let committed = open.commit().await;
            // Also after an error: what is not known to have failed may have happened.
            changed_identities.iter().for_each(|account| callers.forget(*account));
            if committed.is_ok() && !effects.is_empty() {
                bell.notify_one();
            }
            committed
        });
        match committed.await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(sys_store::engine::CommitError::Conflict)) => Err(Attempt::Again),
            Ok(Err(error)) => Err(Attempt::Refused(Refusal::from(error))),
            Err(error) => Err(Attempt::Refused(Refusal::internal(error))),
        }
    }
}

/// Judges a call of a method with logic on its target, which is read in the call's transaction.
async fn authorize(call: &Call, request: &DynamicMessage) -> Result<Permit, Refusal> {
    let method = call.method();
    let rules = &method.rules;
    let (caller, now) = (call.caller(), call.now());
    let permit = |target, grant| Permit { caller: caller.account(), method: method.clone(), target, grant };
    let Some(target) = &method.method().target else {
        let grant = rules.allows(caller, None, request, now).ok_or_else(Refusal::method_refused)?;
        return Ok(permit(None, grant));
    };
    let table = method.module.tables.table(target.record).ok_or_else(|| Refusal::internal("no such table"))?;
    let id = served::id_at(request, &target.id, table)?;
    let mut open = call.open().await?;
    let stored = open.danger_unruled(table).get(id).await?;
    let Some(stored) = stored else { return Err(Refusal::not_found()) };
    let (record, placement) = (stored.message(), stored.placement());
    match rules.allows(caller, Some((record, placement)), request, now) {
        Some(grant) => Ok(permit(Some(id), grant)),
        None => {
            let seen = table.rules().allows(sys_contract::model::Verb::Get, caller, record, placement, now);
            Err(if seen.is_some() { Refusal::permission_denied() } else { Refusal::not_found() })
        }
    }
}

fn no_such_method(path: &str) -> Refusal {
    Refusal::new(Code::Unimplemented, "NO_SUCH_METHOD", format!("there is no method {path}"))
        .help("`sys help` lists what you may call")
}
