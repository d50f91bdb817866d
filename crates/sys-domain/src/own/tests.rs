//! The server's own records, beside those that people enter.

use super::*;
use crate::{
    entered,
    settings::{Settings, ZoneSettings},
};
use std::net::IpAddr;

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn plan(change: impl FnOnce(&mut Settings)) -> Plan {
    let mut settings = Settings {
        domains: vec!["example.org".to_owned()],
        addresses: ["192.0.2.1", "2001:db8::1"].map(|text| text.parse::<IpAddr>().unwrap()).to_vec(),
        zone: Some(ZoneSettings::default()),
        acme: Some(sys_acme::Settings::lets_encrypt(Vec::new())),
        ..Settings::default()
    };
    change(&mut settings);
    Plan::of(&settings).unwrap().unwrap()
}

fn set(owner: &str, kind: &str, data: &[&str]) -> RecordSet {
    let data: Vec<String> = data.iter().map(|text| (*text).to_owned()).collect();
    entered::set(name(owner), Kind::parse(kind).unwrap(), 0, &data).unwrap()
}

/// The zone as lines, with the ECH list and hints of services left as they are.
fn lines(plan: &Plan, moment: &Moment, entered: &[RecordSet]) -> Vec<String> {
    let domain = &plan.domains[0];
    let built = build(plan, domain, &sets(plan, domain, moment), entered, 7).expect("it is a zone");
    let line = |set: &RecordSet, data: &Data| format!("{} {} {data}", set.name, data.kind());
    built.zone.sets().flat_map(|set| set.data.iter().map(|data| line(set, data)).collect::<Vec<_>>()).collect()
}

#[test]
fn a_domain_and_an_address_make_a_whole_zone() {
    let lines = lines(&plan(|_| {}), &Moment::default(), &[]);
    for line in [
        "example.org. A 192.0.2.1",
        "example.org. AAAA 2001:db8::1",
        "example.org. NS ns1.example.org.",
        "ns2.example.org. A 192.0.2.1",
        "example.org. CAA 0 issue \"letsencrypt.org\"",
        "example.org. HTTPS 1 . alpn=\"h2,http/1.1\" ipv4hint=192.0.2.1 ipv6hint=2001:db8::1",
    ] {
        assert!(lines.iter().any(|own| own == line), "{line} is not in {lines:#?}");
    }
}

#[test]
fn on_another_port_the_record_stands_below_it_with_its_target() {
    let lines = lines(&plan(|settings| settings.https_port = 8443), &Moment::default(), &[]);
    let line = "_8443._https.example.org. HTTPS 1 example.org. alpn=\"h2,http/1.1\"";
    assert!(lines.iter().any(|own| own.starts_with(line)), "{lines:#?}");
    assert!(!lines.iter().any(|own| own.starts_with("example.org. HTTPS")));
}

#[test]
fn the_hosts_take_public_names_in_turn() {
    let plan = plan(|settings| settings.hosts = vec!["www.example.org".to_owned()]);
    let list = |byte: u8| vec![0, 2, byte, byte];
    let moment = Moment { ech: vec![list(1), list(2)], ..Moment::default() };
    let lines = lines(&plan, &moment, &[]);
    let ech = |host: &str| {
        let line = lines.iter().find(|line| line.starts_with(&format!("{host} HTTPS"))).expect("it has one");
        line.split_whitespace().find(|word| word.starts_with("ech=")).expect("with keys").to_owned()
    };
    assert_ne!(ech("example.org."), ech("www.example.org."));
}

#[test]
fn proofs_stand_there_while_they_are_wanted() {
    let proof = name("_acme-challenge.example.org");
    let proofs = BTreeSet::from([(proof.clone(), "one".to_owned()), (proof, "two".to_owned())]);
    let lines = lines(&plan(|_| {}), &Moment { proofs, ..Moment::default() }, &[]);
    assert_eq!(lines.iter().filter(|line| line.starts_with("_acme-challenge.example.org. TXT")).count(), 2);
}

#[test]
fn the_servers_own_authority_is_never_shut_out() {
    let plan = plan(|settings| settings.hosts = vec!["www.example.org".to_owned()]);
    let check = |set: RecordSet, expect: &[&str]| {
        let owner = set.name.to_string();
        let lines = lines(&plan, &Moment::default(), &[set]);
        let caa = lines.iter().filter_map(|line| line.strip_prefix(&format!("{owner} CAA 0 ")));
        assert_eq!(caa.collect::<BTreeSet<_>>(), expect.iter().copied().collect());
    };
    check(set("example.org", "CAA", &["0 issue \";\""]), &["issue \";\"", "issue \"letsencrypt.org\""]);
    check(
        set("example.org", "CAA", &["0 issuewild \"ca.example\"", "0 iodef \"mailto:a@example.org\""]),
        &[
            "issue \"letsencrypt.org\"",
            "issuewild \"ca.example\"",
            "issuewild \"letsencrypt.org\"",
            "iodef \"mailto:a@example.org\"",
        ],
    );
    check(
        set("www.example.org", "CAA", &["0 issue \"ca.example\""]),
        &["issue \"ca.example\"", "issue \"letsencrypt.org\""],
    );
    // What restricted nothing below the apex goes on to restrict nothing.
    check(set("www.example.org", "CAA", &["0 iodef \"mailto:a@example.org\""]), &["iodef \"mailto:a@example.org\""]);
}

#[test]
fn what_the_server_needs_is_served_whatever_was_entered_before() {
    let plan = plan(|settings| settings.hosts = vec!["www.example.org".to_owned()]);
    let domain = &plan.domains[0];
    let own = sets(&plan, domain, &Moment::default());
    // Entered when `www` was no host of the server.
    let entered = [set("www.example.org", "A", &["198.51.100.7"]), set("shop.example.org", "A", &["198.51.100.8"])];
    let built = build(&plan, domain, &own, &entered, 1).unwrap();
    assert_eq!(built.hidden, [(name("www.example.org"), Kind::A)]);
    assert!(built.faults.is_empty());
    let addresses = &built.zone.set(&name("www.example.org"), Kind::A).unwrap().data;
    assert_eq!(addresses, &[Data::A([192, 0, 2, 1].into())]);
    let entered = [set("www.example.org", "CNAME", &["shop.example.org."]), entered[1].clone()];
    let built = build(&plan, domain, &own, &entered, 1).unwrap();
    assert!(!built.faults.is_empty());
    assert!(built.zone.set(&name("www.example.org"), Kind::Cname).is_none());
    assert!(built.zone.set(&name("shop.example.org"), Kind::A).is_some(), "what is no part of the trouble is served");
    // A fault that has nothing to do with the server's names.
    let entered = [set("a.example.org", "MX", &["1 gone.example.org."])];
    let built = build(&plan, domain, &own, &entered, 1).unwrap();
    assert!(!built.faults.is_empty());
    assert!(built.zone.set(&name("example.org"), Kind::A).is_some());
}

#[test]
fn a_change_answers_for_its_own_faults_alone() {
    let plan = plan(|_| {});
    let domain = &plan.domains[0];
    let own = sets(&plan, domain, &Moment::default());
    let broken = set("a.example.org", "MX", &["1 gone.example.org."]);
    let other = set("b.example.org", "MX", &["1 missing.example.org."]);
    let good = set("c.example.org", "A", &["192.0.2.9"]);
    assert_eq!(new_faults(&plan, domain, &own, &[], std::slice::from_ref(&broken)).len(), 1);
    assert!(new_faults(&plan, domain, &own, std::slice::from_ref(&broken), &[broken.clone(), good]).is_empty());
    assert_eq!(new_faults(&plan, domain, &own, std::slice::from_ref(&broken), &[broken.clone(), other]).len(), 1);
}

#[test]
fn nobody_enters_what_the_server_keeps() {
    let plan = plan(|settings| settings.hosts = vec!["www.example.org".to_owned()]);
    let domain = &plan.domains[0];
    let kept = |owner: &str, kind: Kind| kept_by_server(&plan, domain, &name(owner), kind).is_some();
    for (owner, kind) in [
        ("example.org", Kind::Ns),
        ("example.org", Kind::A),
        ("www.example.org", Kind::Aaaa),
        ("www.example.org", Kind::Https),
        ("ns1.example.org", Kind::A),
        ("_acme-challenge.example.org", Kind::Txt),
        ("_acme-challenge.www.example.org", Kind::Cname),
    ] {
        assert!(kept(owner, kind), "{owner} {kind}");
    }
    for (owner, kind) in [
        ("example.org", Kind::Mx),
        ("example.org", Kind::Txt),
        ("example.org", Kind::Caa),
        ("sub.example.org", Kind::Ns),
        ("shop.example.org", Kind::Https),
        // Somebody else's certificates are his own affair.
        ("_acme-challenge.mail.example.org", Kind::Txt),
    ] {
        assert!(!kept(owner, kind), "{owner} {kind}");
    }
}
