//! TlsService: how certificates and ECH keys stand, and what people may ask of the keeper.

use crate::{
    facts::{Ordered, Source},
    module::{DomainModule, Kept, NO_DOMAIN, NO_DOMAIN_HELP},
    status,
    wire::{
        TlsServiceRenewRequest, TlsServiceRevokeRequest, TlsServiceRotateEchKeyRequest, TlsServiceStatusRequest,
        TlsStatus,
    },
    wishes::Wish,
};
use std::{sync::Arc, time::Duration};
use sys_acme::{CertificateStatus, TooEarly};
use sys_core::{
    call::Call,
    module::Registry,
    refusal::{Reason, Refusal},
};

pub(crate) fn register(registry: &mut Registry<'_, DomainModule>) {
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
    let Ordered { status, .. } = certificate(kept, &request.name)?;
    let now = call.now().unix_s;
    if let Some(early) = status.too_early.filter(|early| early.until_unix_s > now) {
        return Err(too_early(early, now));
    }
    Wish::Renew(name(&status)).leave(&kept.vault, &call).await
}

async fn revoke(module: Arc<DomainModule>, call: Call, request: TlsServiceRevokeRequest) -> Result<(), Refusal> {
    let kept = module.needed()?;
    let Ordered { source, status } = certificate(kept, &request.name)?;
    if source == Source::LocalCa {
        return Err(Refusal::invalid(
            "name",
            "nobody asks the server's own CA what it has declared void: `sys tls renew` gives it another key",
        ));
    }
    if status.valid_until_unix_s.is_none() {
        return Err(Refusal::not_found().help("there is no certificate of this name yet: `sys tls status` tells why"));
    }
    Wish::Revoke(name(&status)).leave(&kept.vault, &call).await
}

/// Nothing is ordered before then.
fn too_early(early: TooEarly, now: i64) -> Refusal {
    let wait_s = early.until_unix_s.saturating_sub(now).unsigned_abs();
    let minutes = wait_s.div_ceil(60);
    Refusal::new(Reason::TooEarly, format!("nothing was ordered: {}", early.why))
        .help(format!("ask again in {minutes} min, or leave it to the server: `sys tls status` shows when it renews"))
        .wait(Duration::from_secs(wait_s))
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

/// What a certificate is called: the first of its names.
fn name(status: &CertificateStatus) -> String {
    status.names.first().cloned().unwrap_or_default()
}

/// The certificate that a request names, among those that are fetched.
fn certificate(kept: &Kept, called: &str) -> Result<Ordered, Refusal> {
    let ordered = kept.ordered();
    let all = || ordered.iter().map(|ordered| name(&ordered.status)).collect::<Vec<_>>().join(", ");
    match (called, ordered.as_slice()) {
        ("", [only]) => Ok(only.clone()),
        (_, []) => Err(Refusal::new(Reason::NotConfigured, "no certificate is fetched by this server")
            .help("start the server with --acme-email; certificates in files are renewed where they come from")),
        ("", _) => Err(Refusal::invalid("name", format!("say which: there are {}", all()))),
        (called, all_of_them) => {
            // Each of its names says which, as people type it.
            let called = called.trim().trim_end_matches('.').to_ascii_lowercase();
            let found = all_of_them.iter().find(|ordered| ordered.status.names.contains(&called));
            let unknown = || Refusal::invalid("name", format!("no such certificate: there are {}", all()));
            found.cloned().ok_or_else(unknown)
        }
    }
}
