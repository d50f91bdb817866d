//! How the zones stand towards the world.

use super::{Findings, timestamp};
use crate::{
    facts::{Facts, ZoneFacts},
    registrar,
    settings::{DomainPlan, Plan},
    wire::{DnsStatus, RegistrarEntry, SigningKey, ZoneStatus},
};
use sys_dns::dnssec::{Delegation, Rollover};

/// The status.
pub(crate) fn dns(plan: &Plan, facts: &Facts) -> DnsStatus {
    let mut findings = Findings::default();
    // Records and keys that cannot be read are among them, and that nothing can be written.
    findings.troubles(&facts.troubles);
    let mut status = DnsStatus::default();
    if !plan.serves_zones {
        findings.attention(
            "the zones",
            "they are not served here, so that certificates with wildcards and ECH have to do without",
            "start the server with --dns-listen, and enter its name servers at the registrar",
        );
    }
    for domain in plan.domains.iter().filter(|_| plan.serves_zones) {
        let Some(zone) = facts.zones.get(&domain.apex) else {
            let remedy = "wait a moment; if it stays, the log of the server says why";
            findings.broken(domain.apex.host(), "the zone is not served yet", remedy);
            continue;
        };
        about_entered(domain, zone, &mut findings);
        status.zones.push(zone_status(domain, zone));
        status.keys.extend(zone.rollover.iter().flat_map(|rollover| keys(domain, rollover)));
        let entries = registrar::entries(plan, domain, zone.rollover.as_ref(), zone.seen.as_ref());
        about_registrar(plan, domain, zone, &entries, &mut findings);
        status.registrar.extend(entries.into_iter().map(|entry| RegistrarEntry {
            domain: domain.apex.host(),
            kind: entry.kind.to_owned(),
            entry: entry.entry,
            seen: entry.seen,
        }));
    }
    (status.state, status.summary, status.findings) =
        findings.end("the zones are served, signed, and found by the world");
    status
}

fn about_entered(domain: &DomainPlan, zone: &ZoneFacts, findings: &mut Findings) {
    for (name, kind) in &zone.hidden {
        let problem = format!("{name} {kind} was entered and is not served: the server keeps it by itself");
        findings.attention(
            domain.apex.host(),
            problem,
            format!("delete it: sys dns delete --name {name} --type {kind}"),
        );
    }
    for fault in &zone.faults {
        let problem = format!("some of what was entered is not served: {fault}");
        findings.broken(domain.apex.host(), problem, "put it right with `sys dns set` and `sys dns delete`");
    }
}

fn about_registrar(
    plan: &Plan,
    domain: &DomainPlan,
    zone: &ZoneFacts,
    entries: &[registrar::Entry],
    findings: &mut Findings,
) {
    let about = domain.apex.host();
    let Some(seen) = &zone.seen else {
        if plan.resolver.is_none() {
            let remedy = "start the server with --dns-resolver and the address of one, such as your provider's";
            findings.attention(about, "whether the world finds the zone is not checked", remedy);
        }
        return;
    };
    let delegation = zone.rollover.as_ref().and_then(|keys| registrar::delegation(domain, keys, Some(seen)));
    if let Err(why) = &seen.servers {
        // A resolver that validates finds nothing below wrong DS records, wherever the domain is delegated to.
        let remedy = match delegation {
            Some(Delegation::Broken) => {
                "take out every DS record at the registrar but that of the DS line: those that are seen lead to no key of the zone; \
                 and see that the NS and GLUE lines are entered"
            }
            _ => "enter the NS and GLUE lines at the registrar",
        };
        findings.broken(&about, format!("the domain is not found: {why}"), remedy);
        return;
    }
    let missing = |kind: &str| entries.iter().any(|entry| entry.kind == kind && entry.seen == "no");
    let server_seen = entries.iter().any(|entry| entry.kind == "NS" && entry.seen == "yes");
    if !server_seen {
        let remedy = "enter the NS and GLUE lines at the registrar; the world takes up to two days to see it";
        findings.broken(about, "the domain is not delegated to this server", remedy);
        return;
    }
    if missing("NS") || missing("GLUE") {
        let remedy = "enter the NS and GLUE lines that are not seen at the registrar";
        findings.attention(&about, "not all name servers are entered at the registrar", remedy);
    }
    let Some(delegation) = delegation else { return };
    match delegation {
        Delegation::Secure => {}
        Delegation::Unsigned => {
            let remedy = "enter the DS line at the registrar: until then nobody notices forged answers";
            findings.attention(about, "the registrar shows no DS record", remedy);
        }
        Delegation::SecureWithOthers => {
            let remedy = "enter the DS line at the registrar, and take out every other";
            findings.attention(about, "the registrar shows DS records besides the one that is wanted", remedy);
        }
        Delegation::Broken => {
            let remedy = "enter the DS line at the registrar at once, and take out every other";
            findings.broken(
                about,
                "the registrar's DS records lead to no key of the zone: resolvers that validate refuse it",
                remedy,
            );
        }
    }
}

fn zone_status(domain: &DomainPlan, zone: &ZoneFacts) -> ZoneStatus {
    ZoneStatus {
        domain: domain.apex.host(),
        serial: zone.serial,
        record_sets: u32::try_from(zone.sets).unwrap_or(u32::MAX),
        signed: zone.rollover.is_some(),
        rollover: zone.rollover.as_ref().map(rollover).unwrap_or_default(),
        checked_at: zone.seen.as_ref().map(|seen| timestamp(seen.at_unix_s)),
    }
}

/// How far the replacement of a key is.
fn rollover(rollover: &Rollover) -> String {
    match rollover {
        Rollover::Steady { .. } => "none under way".to_owned(),
        Rollover::Publishing { .. } => "the new key is published; caches take it up for two hours".to_owned(),
        Rollover::Asking { next, .. } => {
            format!("waits until the registrar shows the DS record of key {} and no other", next.key_tag())
        }
        Rollover::Retiring { .. } => "the new key signs; the old one stays until caches have forgotten it".to_owned(),
    }
}

fn keys(domain: &DomainPlan, rollover: &Rollover) -> Vec<SigningKey> {
    let keys = rollover.keys();
    let (signer, wanted) = (keys.signer().key_tag(), keys.wanted().key_tag());
    let state = |tag: u16| match (tag == signer, tag == wanted) {
        (true, true) => "signs",
        (true, false) => "signs until the registrar shows the next one",
        (false, true) => "published, about to sign",
        (false, false) => "published",
    };
    let key =
        |tag: u16| SigningKey { domain: domain.apex.host(), key_tag: u32::from(tag), state: state(tag).to_owned() };
    keys.published().iter().map(|published| key(published.key_tag())).collect()
}
