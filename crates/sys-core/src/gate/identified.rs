//! Who calls: by his token, from memory or else from the store, and loaded anew once his account has changed.
//!
//! What must never happen here: a caller who is taken for what he was before his account changed, once its epoch was read; and
//! one who is let in by a token without the certificate that its session is bound to.

use super::{
    Gate,
    callers::{Known, TokenHash},
    way::{NotShown, Way},
};
use crate::{
    audit::{self, Leaf},
    describe::Shown,
    epoch::{self, Epoch},
    host::LoadedMethod,
    identity::LoadedCaller,
    refusal::Refusal,
    throttle::CallerKey,
    token::Claims,
};
use std::sync::{Arc, atomic::Ordering};
use sys_policy::{Caller, Now};
use sys_store::Open;

/// What the front found out about a request before its body was read.
#[derive(Debug, Clone)]
pub(crate) struct Identified {
    pub(crate) caller: Arc<Caller>,
    pub(crate) epoch: Option<Epoch>,
    pub(crate) way: Way,
    /// When his session ends by itself.
    pub(crate) session_ends_unix_s: i64,
}

impl Identified {
    /// Somebody who holds a token, and came with what it is bound to.
    pub(super) fn known(known: Known, way: Way) -> Result<Self, NotShown> {
        let Known { caller, epoch, session_ends_unix_s, bound_to, .. } = known;
        let way = way.shows(bound_to)?;
        Ok(Self { caller, epoch: Some(epoch), way, session_ends_unix_s })
    }

    /// Whom what is kept for him is counted for.
    pub(super) fn whose(&self) -> CallerKey {
        CallerKey::of(self.caller.account(), self.way.source)
    }

    /// The leaf of a call of this method that went well so far.
    pub(super) fn leaf(&self, method: &str, now: &Now) -> Leaf {
        self.way.tell(audit::leaf_of(method, &self.caller, now))
    }
}

impl Gate {
    /// Who calls without a token.
    pub(super) fn nobody(&self, way: Way) -> Identified {
        let caller = self.anonymous.clone();
        Identified { caller, epoch: None, way, session_ends_unix_s: i64::MAX }
    }

    /// Who comes with this token to call this method.
    pub(super) async fn identify(&self, token: &str, way: Way, path: &str) -> Result<Identified, Refusal> {
        let known = self.holder(token).await;
        let known = known.inspect_err(|refusal| self.note(&self.nobody(way), path, refusal))?;
        let caller = known.caller.clone();
        Identified::known(known, way).map_err(|NotShown(way)| {
            let refusal = Refusal::token_refused();
            // The leaf names the account whose token somebody has, and is counted with its leaves: strangers who are refused have
            // so many that this one could be lost among them.
            let leaf = way.tell(audit::leaf_of(path, &caller, &self.clock.now()));
            self.note_refusal(None, &caller, way.source, leaf, &refusal);
            refusal
        })
    }

    /// Leaves a leaf of what this caller was refused before there was a call.
    pub(super) fn note(&self, identified: &Identified, path: &str, refusal: &Refusal) {
        let leaf = identified.leaf(path, &self.clock.now());
        self.note_refusal(None, &identified.caller, identified.way.source, leaf, refusal);
    }

    /// Whose token this is: from memory, else from the store. Whether it may be used here is not asked yet.
    pub(super) async fn holder(&self, token: &str) -> Result<Known, Refusal> {
        let now = self.clock.now();
        let hash = TokenHash::of(token);
        if let Some(known) = self.callers.get(&hash) {
            if known.claims.are_good_at(now.unix_s) {
                self.totals.known_callers.fetch_add(1, Ordering::Relaxed);
                return Ok(known);
            }
            return Err(Refusal::token_refused());
        }
        let claims = self.access.verify(token, now.unix_s).map_err(|_| Refusal::token_refused())?;
        self.totals.loaded_callers.fetch_add(1, Ordering::Relaxed);
        let as_of = self.callers.as_of();
        let known = Box::pin(self.load_known(claims)).await?;
        self.callers.put(hash, known.clone(), as_of);
        Ok(known)
    }

    async fn load_known(&self, claims: Claims) -> Result<Known, Refusal> {
        let mut open = self.store.begin(self.clock.now()).await?;
        let epoch = epoch::read(&mut open, claims.account).await?;
        let loaded = self.identity.load_caller(&mut open, &claims).await?.ok_or_else(Refusal::token_refused)?;
        // What is kept of a caller ends with his token or his session, whichever is first.
        let expires_unix_s = claims.expires_unix_s.min(loaded.session_ends_unix_s);
        let LoadedCaller { caller, session_ends_unix_s, bound_to } = loaded;
        let claims = Claims { expires_unix_s, ..claims };
        Ok(Known { claims, caller: Arc::new(caller), epoch, session_ends_unix_s, bound_to })
    }

    /// What this caller is shown of the server at this moment.
    pub(crate) async fn shown_to(&self, identified: &Identified) -> Result<Arc<Shown>, Refusal> {
        let now = self.clock.now();
        let mut open = self.store.begin(now).await?;
        if still_the_same(&mut open, identified).await? {
            return self.host.shown_to(&identified.caller, &now);
        }
        self.host.shown_to(&self.load_anew(identified).await?.caller, &now)
    }

    /// Loads the caller anew after his account changed, and asks again whether he may call at all.
    pub(super) async fn reload(&self, method: &LoadedMethod, stale: &Identified) -> Result<Identified, Refusal> {
        let anew = self.load_anew(stale).await.and_then(|anew| self.admit(method, &anew.caller).map(|()| anew));
        anew.inspect_err(|refusal| self.note(stale, method.path(), refusal))
    }

    async fn load_anew(&self, stale: &Identified) -> Result<Identified, Refusal> {
        let (Some(account), Some(session)) = (stale.caller.account(), stale.caller.session()) else {
            return Err(Refusal::token_refused());
        };
        self.callers.forget(account);
        let claims = Claims { account, session, issued_unix_s: i64::MIN, expires_unix_s: i64::MAX };
        Identified::known(self.load_known(claims).await?, stale.way).map_err(|_| Refusal::token_refused())
    }
}

/// Reads the account's epoch into the transaction: if it is the one that the caller was loaded in, his bindings and
/// session are what they were, and stay so until the commit.
pub(super) async fn still_the_same(open: &mut Open, identified: &Identified) -> Result<bool, Refusal> {
    let (Some(account), Some(expected)) = (identified.caller.account(), &identified.epoch) else { return Ok(true) };
    Ok(epoch::read(open, account).await? == *expected)
}
