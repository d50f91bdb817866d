//! SessionService: where the caller is logged in.

use crate::{
    module::AccountModule,
    request,
    wire::{ListSessionsRequest, ListSessionsResponse, RevokeAllSessionsRequest, RevokeSessionRequest, Session},
};
use std::sync::Arc;
use sys_core::{call::Call, module::Registry, refusal::Refusal};

pub(crate) fn register(registry: &mut Registry<'_, AccountModule>) {
    registry.unary("sys.account.v1.SessionService/ListSessions", list);
    registry.unary("sys.account.v1.SessionService/RevokeSession", revoke);
    registry.unary("sys.account.v1.SessionService/RevokeAllSessions", revoke_all);
}

async fn list(module: Arc<AccountModule>, call: Call, _: ListSessionsRequest) -> Result<ListSessionsResponse, Refusal> {
    let current = call.caller().session();
    let sessions = module.identity.sessions(&call).await?.into_iter().map(|seen| Session {
        id: seen.id.to_string(),
        current: Some(seen.id) == current,
        device_name: seen.device_name,
        country: seen.country,
        created_at: Some(request::timestamp(seen.created_unix_s)),
        last_used_at: Some(request::timestamp(seen.last_used_unix_s)),
        expires_at: Some(request::timestamp(seen.expires_unix_s)),
        bound_to_device: seen.is_bound,
    });
    Ok(ListSessionsResponse { sessions: sessions.collect() })
}

async fn revoke(module: Arc<AccountModule>, call: Call, request: RevokeSessionRequest) -> Result<(), Refusal> {
    module.identity.revoke_session(&call, request::id(&request.id, "id")?).await
}

async fn revoke_all(module: Arc<AccountModule>, call: Call, request: RevokeAllSessionsRequest) -> Result<(), Refusal> {
    module.identity.revoke_sessions(&call, request.keep_current).await
}
