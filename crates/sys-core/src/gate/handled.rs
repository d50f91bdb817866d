//! Calls of methods with logic: judged on their target, handled, and cut down to what the caller may see.
//!
//! What must never happen here: a [`Permit`] that is made in another way than by [`authorize`].

use super::{redact, served};
use crate::{call::Call, host::LoadedMethod, module::Handler, refusal::Refusal};
use bytes::Bytes;
use prost_reflect::{DynamicMessage, prost::Message};
use std::sync::Arc;
use sys_contract::{
    id::{AccountId, RecordId},
    model::Verb,
};
use sys_policy::GrantNo;

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

/// A method with logic: authorized on its target, handled, redacted.
pub(super) async fn handle(call: &Call, request: &DynamicMessage) -> Result<DynamicMessage, Refusal> {
    let method = call.method();
    let permit = authorize(call, request).await?;
    call.note(|subject| subject.grant = Some(permit.grant));
    let Some(Handler::Unary(handle)) = &method.handler else {
        return Err(Refusal::internal("a method without serve and handler"));
    };
    let answer = handle(permit, call.clone(), request.encode_to_vec().into()).await?;
    shown(call, answer).await
}

/// What a handler answered, cut down to what the caller may see.
pub(super) async fn shown(call: &Call, answer: Bytes) -> Result<DynamicMessage, Refusal> {
    let method = call.method();
    let mut response =
        DynamicMessage::decode(method.method().descriptor.output(), answer).map_err(Refusal::internal)?;
    sys_contract::unknown::drop_unknown(&mut response);
    if method.answers_records {
        redact::redact(call, &mut response).await?;
    }
    Ok(response)
}

/// Judges a call of a method with logic on its target, which is read in the call's transaction.
pub(super) async fn authorize(call: &Call, request: &DynamicMessage) -> Result<Permit, Refusal> {
    let _authorizing = call.step("authorize");
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
    call.note(|subject| subject.judged_on(id));
    let mut open = call.open().await?;
    let stored = open.danger_unruled(table).get(id).await?.ok_or_else(Refusal::not_found)?;
    let (record, placement) = (stored.message(), stored.placement());
    call.note(|subject| subject.org = placement.org);
    match rules.allows(caller, Some((record, placement)), request, now) {
        Some(grant) => Ok(permit(Some(id), grant)),
        None => {
            let seen = table.rules().allows(Verb::Get, caller, record, placement, now);
            Err(if seen.is_some() { Refusal::permission_denied() } else { Refusal::not_found() })
        }
    }
}
