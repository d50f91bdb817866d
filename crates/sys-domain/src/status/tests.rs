//! What a status says of how things stand, and what to do.

use super::*;
use crate::{
    facts::{EchFacts, Facts, Ordered, ShownCertificate, Source, ZoneFacts},
    registrar::Seen,
    settings::{Plan, Settings, ZoneSettings},
    wire::{DnsStatus, TlsStatus},
};
use std::collections::BTreeMap;
use sys_acme::{CertificateState, CertificateStatus, FailureReport, Revoking};
use sys_dns::{
    dnssec::{ParentDs, Rollover, SigningKey},
    zone::{Data, Name},
};

const NOW: i64 = 1_800_000_000;
const DAY_S: i64 = 86_400;

fn plan() -> Plan {
    let settings = Settings {
        domains: vec!["example.org".to_owned()],
        addresses: vec!["192.0.2.1".parse().unwrap()],
        zone: Some(ZoneSettings { resolver: Some("127.0.0.1:53".parse().unwrap()), ..ZoneSettings::default() }),
        ..Settings::default()
    };
    Plan::of(&settings).unwrap().unwrap()
}

fn names() -> Vec<String> {
    ["*.example.org", "example.org"].map(str::to_owned).to_vec()
}

fn ordered(state: CertificateState) -> Ordered {
    Ordered { source: Source::Acme, status: CertificateStatus::new(names(), state) }
}

fn good() -> Facts {
    let (until_unix_s, renews_at_unix_s) = (NOW + 60 * DAY_S, NOW + 30 * DAY_S);
    let about = crate::ech::Key {
        id: "1".to_owned(),
        public_name: "example.org".to_owned(),
        made_unix_s: NOW,
        published: true,
        retired_unix_s: None,
    };
    Facts {
        ordered: vec![ordered(CertificateState::Good { until_unix_s, renews_at_unix_s })],
        shown: vec![ShownCertificate { names: names(), source: Source::Acme, until_unix_s }],
        ech: vec![EchFacts { about, config_id: 1, is_shown: true, changes_unix_s: NOW + DAY_S }],
        now_unix_s: NOW,
        ..Facts::default()
    }
}

fn tls_of(change: impl FnOnce(&mut Facts)) -> TlsStatus {
    let mut facts = good();
    change(&mut facts);
    tls(&plan(), &facts)
}

/// What is found always says what to do.
fn check(findings: &[Finding], state: &str, expect: &str) {
    assert!(findings.iter().all(|finding| !finding.remedy.is_empty() && !finding.about.is_empty()), "{findings:?}");
    match findings.first() {
        None => assert_eq!(state, GREEN),
        Some(worst) => assert_eq!((worst.state.as_str(), state), (expect, expect), "{findings:?}"),
    }
}

#[test]
fn all_well_is_green() {
    let status = tls_of(|_| {});
    check(&status.findings, &status.state, GREEN);
    assert_eq!(status.certificates[0].name, "*.example.org");
    assert_eq!(status.certificates[0].renews_at, Some(timestamp(NOW + 30 * DAY_S)));
    assert_eq!(status.ech_keys[0].state, "published");
    assert!(status.protection.contains("example.org"));
}

#[test]
fn what_failed_is_told_with_what_to_do() {
    let why = || ("the answer was wrong".to_owned(), "open port 53".to_owned());
    let status = tls_of(|facts| {
        let (why, remedy) = why();
        facts.ordered = vec![ordered(CertificateState::Waiting { next_try_unix_s: NOW, why, remedy })];
    });
    check(&status.findings, &status.state, ATTENTION);
    assert_eq!(status.certificates[0].state, ATTENTION);
    let status = tls_of(|facts| {
        let (why, remedy) = why();
        facts.ordered = vec![ordered(CertificateState::Failed { next_try_unix_s: NOW, why, remedy })];
        facts.shown.clear();
    });
    check(&status.findings, &status.state, BROKEN);
    assert_eq!(status.findings[0].remedy, "open port 53");
    assert_eq!(status.certificates.len(), 1, "also one that is not there yet is listed");
}

#[test]
fn a_void_certificate_is_told_until_another_has_come_and_the_authority_has_heard() {
    let revoking = |failure| Some(Revoking { next_try_unix_s: NOW, failure });
    let status_of = |is_void: bool, revoking: Option<Revoking>| {
        tls_of(|facts| {
            let status = &mut facts.ordered[0].status;
            (status.is_void, status.revoking) = (is_void, revoking);
        })
    };
    let status = status_of(true, revoking(None));
    check(&status.findings, &status.state, BROKEN);
    assert!(status.summary.contains("declared void, and is shown"), "{}", status.summary);
    assert_eq!(status.certificates[0].state, BROKEN);
    let status = status_of(true, None);
    check(&status.findings, &status.state, BROKEN);
    let (why, remedy) = ("it cannot be reached".to_owned(), "open port 443".to_owned());
    let status = status_of(false, revoking(Some(FailureReport { at_unix_s: NOW, why, remedy })));
    check(&status.findings, &status.state, ATTENTION);
    assert!(status.summary.contains("not declared the old certificate void"), "{}", status.summary);
    assert_eq!(status.findings[0].remedy, "open port 443");
}

#[test]
fn two_certificates_with_the_same_names_are_told_apart() {
    let (until_unix_s, renews_at_unix_s) = (NOW + 90 * DAY_S, NOW + 45 * DAY_S);
    let status = tls_of(|facts| {
        facts.shown.push(ShownCertificate { names: names(), source: Source::LocalCa, until_unix_s });
        let mut local = ordered(CertificateState::Good { until_unix_s, renews_at_unix_s });
        local.source = Source::LocalCa;
        facts.ordered.push(local);
    });
    let renews: Vec<_> = status.certificates.iter().map(|certificate| certificate.renews_at).collect();
    assert_eq!(renews, [NOW + 30 * DAY_S, NOW + 45 * DAY_S].map(|at| Some(timestamp(at))));
}

#[test]
fn a_name_without_any_certificate_is_broken() {
    let status = tls_of(|facts| {
        facts.ordered.clear();
        facts.shown.clear();
    });
    check(&status.findings, &status.state, BROKEN);
    assert!(status.findings[0].remedy.contains("--acme-email"));
}

#[test]
fn a_file_that_nobody_renews_is_told_in_time() {
    for (left, expect) in [(15 * DAY_S, GREEN), (13 * DAY_S, ATTENTION), (0, BROKEN)] {
        let status = tls_of(|facts| {
            facts.ordered.clear();
            facts.shown[0] = ShownCertificate { names: names(), source: Source::Files, until_unix_s: NOW + left };
        });
        check(&status.findings, &status.state, expect);
        assert_eq!(status.certificates[0].state, expect);
    }
}

#[test]
fn without_ech_it_says_that_names_are_seen() {
    let status = tls_of(|facts| facts.ech.clear());
    check(&status.findings, &status.state, ATTENTION);
    assert!(status.protection.contains("are seen by whoever watches"));
}

#[test]
fn what_is_shown_to_who_comes_by_address_alone_is_told() {
    let unnamed = "whoever connects by address alone is shown the certificate for example.org";
    assert!(tls_of(|_| {}).protection.ends_with(unnamed));
    let status = tls_of(|facts| {
        let of_address = ShownCertificate { names: vec!["192.0.2.1".to_owned()], ..facts.shown[0].clone() };
        facts.shown.push(of_address);
    });
    assert!(!status.protection.contains("address"), "{}", status.protection);
}

#[test]
fn a_record_that_cannot_be_read_is_told_with_the_zones() {
    let about = "zone www.example.org. A".to_owned();
    let trouble = Trouble { about, problem: "p".to_owned(), remedy: "r".to_owned(), is_broken: true };
    let status = dns(&plan(), &Facts { troubles: vec![trouble], ..good() });
    assert!(status.findings.iter().any(|found| found.about.starts_with("zone www")), "{:?}", status.findings);
    assert_eq!(status.state, BROKEN);
}

fn dns_of(change: impl FnOnce(&mut ZoneFacts, &Rollover)) -> DnsStatus {
    let apex = Name::parse("example.org").unwrap();
    let rollover = Rollover::begin(SigningKey::generate().unwrap());
    let (a, servers) = (Data::A([192, 0, 2, 1].into()), ["ns1.example.org", "ns2.example.org"]);
    let servers = servers.map(|name| Name::parse(name).unwrap());
    let seen = Seen {
        at_unix_s: NOW,
        servers: Ok(servers.iter().cloned().map(Data::Ns).collect()),
        ds: Ok(ParentDs { records: vec![rollover.keys().wanted().ds(&apex)], ttl_s: 300 }),
        glue: servers.into_iter().map(|name| (name, vec![a.clone()])).collect(),
    };
    let mut zone =
        ZoneFacts { serial: 7, sets: 9, rollover: Some(rollover.clone()), seen: Some(seen), ..ZoneFacts::default() };
    change(&mut zone, &rollover);
    dns(&plan(), &Facts { zones: BTreeMap::from([(apex, zone)]), ..good() })
}

#[test]
fn a_zone_that_is_delegated_and_validates_is_green() {
    let status = dns_of(|_, _| {});
    check(&status.findings, &status.state, GREEN);
    let kinds: Vec<&str> = status.registrar.iter().map(|entry| entry.kind.as_str()).collect();
    assert_eq!(kinds, ["NS", "NS", "GLUE", "GLUE", "DS"]);
    assert!(status.registrar.iter().all(|entry| entry.seen == "yes"), "{:?}", status.registrar);
    assert!(status.registrar[4].entry.starts_with("example.org. "));
    assert_eq!(status.keys[0].state, "signs");
}

#[test]
fn what_is_missing_at_the_registrar_is_told() {
    let seen = |change: fn(&mut Seen)| {
        dns_of(|zone, _| {
            if let Some(seen) = &mut zone.seen {
                change(seen);
            }
        })
    };
    let status = seen(|seen| seen.servers = Ok(Vec::new()));
    check(&status.findings, &status.state, BROKEN);
    assert!(status.summary.contains("not delegated"), "{}", status.summary);
    let status = seen(|seen| seen.ds = Ok(ParentDs::default()));
    check(&status.findings, &status.state, ATTENTION);
    assert_eq!(status.registrar[4].seen, "no");
    let other = || {
        let key = SigningKey::generate().unwrap();
        ParentDs { records: vec![key.ds(&Name::parse("example.org").unwrap())], ttl_s: 300 }
    };
    let status = dns_of(|zone, _| zone.seen.as_mut().unwrap().ds = Ok(other()));
    check(&status.findings, &status.state, BROKEN);
    let status = seen(|seen| seen.servers = Err("the resolver does not answer".to_owned()));
    check(&status.findings, &status.state, BROKEN);
    assert!(status.registrar[0].seen.contains("does not answer"));
    // What a resolver that validates says where the DS records are wrong.
    let status = dns_of(|zone, _| {
        let seen = zone.seen.as_mut().unwrap();
        (seen.servers, seen.ds) = (Err("the resolver could not find out".to_owned()), Ok(other()));
    });
    check(&status.findings, &status.state, BROKEN);
    assert!(status.findings[0].remedy.contains("take out every DS record"), "{:?}", status.findings);
    let status = seen(|seen| seen.glue.clear());
    check(&status.findings, &status.state, ATTENTION);
}

#[test]
fn a_rollover_says_what_it_waits_for() {
    let status = dns_of(|zone, rollover| {
        let apex = Name::parse("example.org").unwrap();
        let next = rollover.start(SigningKey::generate().unwrap(), NOW).unwrap();
        zone.rollover = next.step(&apex, NOW + DAY_S, None);
    });
    assert!(status.zones[0].rollover.contains("until the registrar shows"), "{}", status.zones[0].rollover);
    assert_eq!(status.keys.len(), 2);
    assert_eq!(status.registrar[4].seen, "no", "the new key is to be entered");
    check(&status.findings, &status.state, ATTENTION);
}
