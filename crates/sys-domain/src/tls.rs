//! TlsService: how certificates and ECH keys stand, and what people may ask of the keeper.

use crate::{
    module::{DomainModule, Kept, NO_DOMAIN, NO_DOMAIN_HELP, Registry},
    status,
    wire::{
        TlsServiceRenewRequest, TlsServiceRevokeRequest, TlsServiceRotateEchKeyRequest, TlsServiceStatusRequest,
        TlsStatus,
    },
    wishes::Wish,
};
use std::sync::Arc;
use sys_core::{
    call::Call,
    refusal::{Reason, Refusal},
};

pub(crate) fn register(registry: &mut Registry<'_>) {
    registry.unary("sys.domain.v1.TlsService/Status", status);
    registry.unary("sys.domain.v1.TlsService/Renew", renew);
    registry.unary("sys.domain.v1.TlsService/Revoke", revoke);
    registry.unary("sys.domain.v1.TlsService/RotateEchKey", rotate_ech_key);
}

async fn status(module: Arc<DomainModule>, call: Call, _: TlsServiceStatusRequest) -> Result<TlsStatus, Refusal> {
    let Some(kept) = module.kept() else {
        let summary = format!("{NO_DOMAIN}: {NO_DOMAIN_HELP}");
        return Ok(TlsStatus { state: status::ATTENTION.to_owned(), summary, ..TlsStatus::default() });
    };
    Ok(status::tls(&kept.plan, &kept.facts(call.now().unix_s)))
}

async fn renew(module: Arc<DomainModule>, call: Call, request: TlsServiceRenewRequest) -> Result<(), Refusal> {
    let kept = module.needed()?;
    Wish::Renew(certificate(kept, &request.name)?).leave(&kept.vault, &call).await
}

async fn revoke(module: Arc<DomainModule>, call: Call, request: TlsServiceRevokeRequest) -> Result<(), Refusal> {
    let kept = module.needed()?;
    Wish::Revoke(certificate(kept, &request.name)?).leave(&kept.vault, &call).await
}

async fn rotate_ech_key(
    module: Arc<DomainModule>,
    call: Call,
    _: TlsServiceRotateEchKeyRequest,
) -> Result<(), Refusal> {
    let kept = module.needed()?;
    if !kept.plan.serves_zones {
        return Err(Refusal::new(Reason::NotConfigured, "there are no ECH keys, since the zones are not served here")
            .help("start the server with --dns-listen: it publishes the keys in the zone"));
    }
    Wish::RotateEch.leave(&kept.vault, &call).await
}

/// The certificate that a request names, among those that are fetched.
fn certificate(kept: &Kept, name: &str) -> Result<String, Refusal> {
    let ordered = kept.ordered();
    let fetched: Vec<String> = ordered.iter().filter_map(|ordered| ordered.status.names.first().cloned()).collect();
    match (name, fetched.as_slice()) {
        ("", [only]) => Ok(only.clone()),
        ("", []) | (_, []) => Err(Refusal::new(Reason::NotConfigured, "no certificate is fetched by this server")
            .help("start the server with --acme-email; certificates in files are renewed where they come from")),
        ("", _) => Err(Refusal::invalid("name", format!("say which: there are {}", fetched.join(", ")))),
        (name, _) => {
            // Each of its names says which, as people type it.
            let name = name.trim().trim_end_matches('.').to_ascii_lowercase();
            let found = ordered.iter().find(|ordered| ordered.status.names.contains(&name));
            let found = found.and_then(|ordered| ordered.status.names.first().cloned());
            let unknown = || Refusal::invalid("name", format!("no such certificate: there are {}", fetched.join(", ")));
            found.ok_or_else(unknown)
        }
    }
}
