//! How certificates and ECH keys stand.

use super::{ATTENTION, BROKEN, Findings, GREEN, timestamp};
use crate::{
    facts::{EchFacts, Facts, Ordered, ShownCertificate, Source},
    settings::Plan,
    wire::{Certificate, EchKey, TlsStatus},
};
use std::{collections::BTreeSet, net::IpAddr};
use sys_acme::{CertificateState, CertificateStatus};
use sys_dns::name::Name;

/// A certificate that nobody renews for us is worth a word so long before its end: two weeks.
const SOON_S: i64 = 14 * 86_400;

/// The source of a certificate that is not there yet.
const ON_ITS_WAY: &str = "on its way";

/// The status.
pub(crate) fn tls(plan: &Plan, facts: &Facts) -> TlsStatus {
    let mut findings = Findings::default();
    findings.troubles(&facts.troubles);
    ordered(facts, &mut findings);
    brought(facts, &mut findings);
    uncovered(plan, facts, &mut findings);
    if plan.serves_zones {
        for name in plan.public_names.iter().map(Name::host) {
            if !facts.ech.iter().any(|key| key.is_shown && key.about.public_name == name) {
                let remedy = "wait a minute; if it stays, the log of the server says why";
                findings.attention(name, "no ECH key with this public name is published", remedy);
            }
        }
    }
    let (state, summary, findings) = findings.end("certificates are good, and renewed by themselves");
    let certificates = certificates(facts);
    let ech_keys = facts.ech.iter().map(ech_key).collect();
    TlsStatus { state, summary, protection: protection(plan, facts), findings, certificates, ech_keys }
}

fn ordered(facts: &Facts, findings: &mut Findings) {
    for Ordered { status, .. } in &facts.ordered {
        let about = status.names.first().cloned().unwrap_or_default();
        voided(status, &about, findings);
        match &status.state {
            CertificateState::Good { .. } => {}
            CertificateState::Ordering if status.valid_until_unix_s.is_some() => {}
            CertificateState::Ordering => {
                findings.attention(about, "the certificate is being fetched", "wait a minute, and look again");
            }
            CertificateState::Waiting { why, remedy, .. } => {
                findings.attention(about, format!("the certificate could not be renewed yet: {why}"), remedy);
            }
            CertificateState::Failed { why, remedy, .. } => {
                findings.broken(about, format!("there is no valid certificate: {why}"), remedy);
            }
        }
    }
}

/// Certificates that somebody had declared void.
fn voided(status: &CertificateStatus, about: &str, findings: &mut Findings) {
    if status.is_void {
        let remedy = "nothing, once: another is being fetched; if it stays, the other findings say why";
        findings.broken(about, "the certificate was declared void, and is shown until another has come", remedy);
    }
    match status.revoking.as_ref().map(|revoking| &revoking.failure) {
        Some(Some(failure)) => {
            let problem = format!("the authority has not declared the old certificate void yet: {}", failure.why);
            findings.attention(about, problem, failure.remedy.as_str());
        }
        Some(None) => {
            findings.attention(
                about,
                "the authority is being asked to declare a certificate void",
                "wait a minute, and look again",
            );
        }
        None => {}
    }
}

/// Certificates in files are renewed elsewhere, or are not.
fn brought(facts: &Facts, findings: &mut Findings) {
    for shown in facts.shown.iter().filter(|shown| shown.source == Source::Files) {
        let about = shown.names.first().cloned().unwrap_or_default();
        let remedy = "put a new certificate and its key into the files: they are read again within a minute";
        match shown.until_unix_s.saturating_sub(facts.now_unix_s) {
            left if left <= 0 => findings.broken(about, "the certificate in the files is over", remedy),
            left if left < SOON_S => {
                findings.attention(
                    about,
                    format!("the certificate in the files ends in {} days", left / 86_400),
                    remedy,
                );
            }
            _ => {}
        }
    }
}

/// Names that the server answers at, and that no certificate is good for.
fn uncovered(plan: &Plan, facts: &Facts, findings: &mut Findings) {
    let is_ordered = |name: &str| facts.ordered.iter().any(|ordered| covers(&ordered.status.names, name));
    let names = plan.domains.iter().flat_map(|domain| &domain.hosts).chain(&plan.public_names).map(Name::host);
    for name in names.collect::<BTreeSet<_>>() {
        let is_shown = facts.shown.iter().any(|shown| covers(&shown.names, &name));
        if !is_shown && !is_ordered(&name) {
            let remedy = "start the server with --acme-email to have one fetched, or give one by --tls-chain-file";
            findings.broken(name, "no certificate is good for this name", remedy);
        }
    }
}

/// Whether one of the names of a certificate says this one.
pub(crate) fn covers(names: &[String], name: &str) -> bool {
    let wildcard = name.split_once('.').map(|(_, parent)| format!("*.{parent}"));
    names.iter().any(|own| own == name || Some(own) == wildcard.as_ref())
}

fn certificates(facts: &Facts) -> Vec<Certificate> {
    let shown = facts.shown.iter().map(|shown| {
        let ordered = facts.ordered.iter().find(|ordered| is_of(ordered, shown));
        certificate(shown, ordered.map(|ordered| &ordered.status), facts.now_unix_s)
    });
    let is_shown = |ordered: &Ordered| facts.shown.iter().any(|shown| is_of(ordered, shown));
    let missing = facts.ordered.iter().filter(|ordered| !is_shown(ordered)).map(|Ordered { status, .. }| Certificate {
        name: status.names.first().cloned().unwrap_or_default(),
        names: status.names.clone(),
        source: ON_ITS_WAY.to_owned(),
        state: if matches!(status.state, CertificateState::Failed { .. }) { BROKEN } else { ATTENTION }.to_owned(),
        expires_at: None,
        renews_at: next_try(&status.state).map(timestamp),
    });
    shown.chain(missing).collect()
}

/// Whether it is this one that is fetched. Two sources may have the same names.
fn is_of(ordered: &Ordered, shown: &ShownCertificate) -> bool {
    ordered.source == shown.source && ordered.status.names == shown.names
}

fn certificate(shown: &ShownCertificate, ordered: Option<&CertificateStatus>, now: i64) -> Certificate {
    let state = match ordered.map(|status| &status.state) {
        _ if shown.until_unix_s <= now || ordered.is_some_and(|status| status.is_void) => BROKEN,
        Some(CertificateState::Waiting { .. } | CertificateState::Failed { .. }) => ATTENTION,
        None if shown.source == Source::Files && shown.until_unix_s.saturating_sub(now) < SOON_S => ATTENTION,
        _ => GREEN,
    };
    Certificate {
        name: shown.names.first().cloned().unwrap_or_default(),
        names: shown.names.clone(),
        source: source(shown.source).to_owned(),
        state: state.to_owned(),
        expires_at: Some(timestamp(shown.until_unix_s)),
        renews_at: ordered.and_then(|status| next_try(&status.state)).map(timestamp),
    }
}

fn next_try(state: &CertificateState) -> Option<i64> {
    match state {
        CertificateState::Good { renews_at_unix_s, .. } => Some(*renews_at_unix_s),
        CertificateState::Ordering => None,
        CertificateState::Waiting { next_try_unix_s, .. } | CertificateState::Failed { next_try_unix_s, .. } => {
            Some(*next_try_unix_s)
        }
    }
}

fn source(source: Source) -> &'static str {
    match source {
        Source::Files => "files",
        Source::Acme => "acme",
        Source::LocalCa => "local CA",
    }
}

fn ech_key(key: &EchFacts) -> EchKey {
    let state = match (key.is_shown, key.about.retired_unix_s) {
        (true, _) => "published",
        (false, Some(_)) => "accepted until caches have forgotten it",
        (false, None) => "accepted, about to be published",
    };
    EchKey {
        public_name: key.about.public_name.clone(),
        config_id: u32::from(key.config_id),
        state: state.to_owned(),
        created_at: Some(timestamp(key.about.made_unix_s)),
        changes_at: Some(timestamp(key.changes_unix_s)),
    }
}

/// What an observer of the wire sees.
fn protection(plan: &Plan, facts: &Facts) -> String {
    let public: BTreeSet<&str> =
        facts.ech.iter().filter(|key| key.is_shown).map(|key| key.about.public_name.as_str()).collect();
    if public.is_empty() {
        return "connections are TLS 1.3; the names that clients ask for are seen by whoever watches the wire, since no ECH key \
                is published"
            .to_owned();
    }
    let hosts = plan.domains.iter().flat_map(|domain| &domain.hosts).map(Name::host);
    let open: Vec<String> = hosts.filter(|host| public.contains(host.as_str())).collect();
    // Who names nobody gets the certificate for an address, where there is one.
    let is_address = |name: &String| name.parse::<IpAddr>().is_ok();
    let unnamed = match (plan.public_names.first(), facts.shown.iter().any(|shown| shown.names.iter().any(is_address)))
    {
        (Some(first), false) => {
            format!("; whoever connects by address alone is shown the certificate for {}", first.host())
        }
        _ => String::new(),
    };
    let public = public.into_iter().collect::<Vec<_>>().join(" or ");
    let own = match open.as_slice() {
        [] => String::new(),
        open => format!("; {} can be told by that name, the others cannot be told apart", open.join(", ")),
    };
    format!(
        "connections are TLS 1.3; clients that use ECH show whoever watches the wire {public} whatever they ask for{own}{unnamed}"
    )
}
