//! Zones from lines, and every fault of one with its remedy; other tests take their zones from here.

use super::*;

/// The name of all zones of these tests.
pub(crate) fn apex() -> Name {
    Name::parse("example.org").unwrap()
}

pub(crate) fn soa() -> Soa {
    let name = |text| Name::parse(text).unwrap();
    Soa {
        primary: name("ns1.example.org"),
        mailbox: name("hostmaster.example.org"),
        serial: 1,
        refresh_s: 86_400,
        retry_s: 7_200,
        expire_s: 1_209_600,
        negative_ttl_s: 300,
        ttl_s: 3_600,
    }
}

/// Sets from lines of `name kind data`, in the order of their first records.
pub(crate) fn sets(lines: &str) -> Vec<RecordSet> {
    let mut sets: Vec<RecordSet> = Vec::new();
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (name, rest) = line.split_once(' ').unwrap();
        let (kind, data) = rest.split_once(' ').unwrap();
        let (name, kind) = (Name::parse_below(name, &apex()).unwrap(), Kind::parse(kind).unwrap());
        let data = Data::parse(kind, data).unwrap_or_else(|error| panic!("{line}: {error}"));
        match sets.iter_mut().find(|set| set.name == name && set.kind() == Some(kind)) {
            Some(set) => set.data.push(data),
            None => sets.push(RecordSet { name, ttl_s: 600, data: vec![data] }),
        }
    }
    sets
}

/// The least that a zone has.
pub(crate) const LEAST: &str = "@ NS ns1.example.org.\nns1 A 192.0.2.53";

pub(crate) fn zone(lines: &str) -> Result<Zone, Vec<ZoneError>> {
    Zone::build(apex(), sets(&format!("{LEAST}\n{lines}")), soa())
}

fn faults(lines: &str) -> Vec<String> {
    zone(lines).err().unwrap_or_default().iter().map(ToString::to_string).collect()
}

/// Exactly one fault, which says this.
fn check(lines: &str, expect: &str) {
    let faults = faults(lines);
    assert!(faults.len() == 1 && faults[0].contains(expect), "{lines}: {faults:#?} is not {expect}");
    assert!(faults[0].contains(": "), "{faults:?} says what to do");
}

#[test]
fn a_zone_without_faults_is_built() {
    let lines = "@ A 192.0.2.1
        @ AAAA 2001:db8::1
        @ MX 10 mail.example.org.
        @ MX 20 mx.example.net.
        @ TXT v=spf1 mx -all
        @ CAA 0 issue \"letsencrypt.org; validationmethods=dns-01\"
        @ CAA 0 iodef mailto:security@example.org
        @ HTTPS 1 . alpn=h2,http/1.1 ech=AAEA
        mail A 192.0.2.2
        www CNAME example.org.
        blog CNAME www.example.org.
        shop CNAME shop.example.net.
        _xmpp-server._tcp SRV 0 5 5269 mail.example.org.
        _none._tcp SRV 0 0 0 .
        *.dyn A 192.0.2.3
        under CNAME anything.dyn.example.org.
        nomail MX 0 .
        alias HTTPS 0 www.example.org.
        _8443._https HTTPS 1 www.example.org. port=8443
        sub NS ns.sub.example.org.
        sub NS ns1.example.org.
        sub DS 1 13 2 0000000000000000000000000000000000000000000000000000000000000000
        ns.sub A 192.0.2.4
        into CNAME host.sub.example.org.";
    assert_eq!(faults(lines), Vec::<String>::new());
    let zone = zone(lines).unwrap();
    assert_eq!(zone.set(&Name::parse("mail.example.org").unwrap(), Kind::A).unwrap().data.len(), 1);
    assert!(zone.sets().map(|set| &set.name).is_sorted());
}

#[test]
fn aliases_stand_alone_and_end_somewhere() {
    check("a CNAME b.example.net.\na TXT x", "CNAME and TXT");
    check("a CNAME b.example.net.\na CNAME c.example.net.", "two CNAME");
    check("a CNAME gone.example.org.", "which does not exist");
    check("a CNAME a.example.org.", "lead back");
    check("*.w CNAME x.w.example.org.", "lead back");
    check("h HTTPS 0 h.example.org.", "lead back");
    assert_eq!(faults("a CNAME b.example.org.\nb CNAME a.example.org.").len(), 2);
    // An alias of one kind leads over those of the other.
    assert_eq!(faults("h HTTPS 0 c.example.org.\nc CNAME h.example.org.").len(), 1);
    let chain = |length: usize| {
        let links: String = (0..length).map(|at| format!("c{at} CNAME c{}.example.org.\n", at + 1)).collect();
        format!("{links}c{length} A 192.0.2.1")
    };
    assert_eq!(faults(&chain(MAX_CHAIN)), Vec::<String>::new());
    check(&chain(MAX_CHAIN + 1), "more than 8 aliases");
    let apex = faults("@ CNAME a.example.net.");
    assert!(
        apex.iter().any(|fault| fault.contains("cannot be a CNAME"))
            && apex.iter().any(|fault| fault.contains("CNAME and NS"))
    );
}

#[test]
fn servers_are_names_with_addresses() {
    check("a MX 10 www.example.org.\nwww CNAME ns1.example.org.", "is a CNAME");
    check("a MX 10 gone.example.org.", "does not exist");
    check("a SRV 0 0 1 t.example.org.\nt TXT x", "has no address");
    check("@ NS other.example.org.\nother CNAME ns1.example.org.", "is a CNAME");
    check("a MX 0 .\na MX 10 ns1.example.org.", "no mail");
    check("a NS .", "points to the root");
    check("h HTTPS 1 gone.example.org.", "does not exist");
    let without = Zone::build(apex(), sets("a A 192.0.2.1"), soa()).unwrap_err();
    assert_eq!(without, [ZoneError::NoNameServer { name: apex() }]);
}

#[test]
fn below_a_delegation_stands_nothing_but_glue() {
    check("sub NS ns1.example.org.\na.sub TXT x", "delegation of sub.example.org.");
    check("sub NS ns1.example.org.\nsub MX 10 ns1.example.org.", "delegation");
    check("sub NS ns1.example.org.\nother.sub A 192.0.2.1", "delegation");
    check("sub NS ns.sub.example.org.", "has no address");
    check("sub NS ns1.example.org.\na.sub NS ns1.example.org.", "delegation of sub.example.org.");
    let ds = "1 13 2 0000000000000000000000000000000000000000000000000000000000000000";
    check(&format!("a DS {ds}"), "not delegated");
    check(&format!("@ DS {ds}"), "registrar");
    check(&format!("a NS ns1.example.org.\na DS {}", &ds[..41]), "digest");
    check("*.w NS ns1.example.org.", "wildcard");
}

#[test]
fn sets_are_whole_and_bounded() {
    check("a A 192.0.2.1\na A 192.0.2.1", "twice");
    check("a.*.b A 192.0.2.1", "asterisk");
    check("x* A 192.0.2.1", "asterisk");
    check("a.example.net. A 192.0.2.1", "not within");
    let with = |set: RecordSet| Zone::build(apex(), [sets(LEAST), vec![set]].concat(), soa()).unwrap_err();
    let name = Name::parse("a.example.org").unwrap();
    let text = |bytes: usize| Data::Txt(vec![vec![b'x'; bytes]]);
    let set = |ttl_s, data| RecordSet { name: name.clone(), ttl_s, data };
    assert!(matches!(*with(set(600, vec![])), [ZoneError::EmptySet { .. }]));
    assert!(matches!(*with(set(9, vec![text(1)])), [ZoneError::Ttl { ttl_s: 9, .. }]));
    assert!(matches!(*with(set(MAX_TTL_S + 1, vec![text(1)])), [ZoneError::Ttl { .. }]));
    assert!(matches!(*with(set(600, vec![text(256)])), [ZoneError::StringTooLong { .. }]));
    assert!(matches!(*with(set(600, vec![Data::Txt(vec![])])), [ZoneError::NoString { .. }]));
    assert!(matches!(*with(set(600, vec![Data::Txt(vec![vec![0; 255]; 17])])), [ZoneError::RecordTooLarge { .. }]));
    let many = |records: u32, strings| {
        (0..records)
            .map(|at| Data::Txt([vec![at.to_be_bytes().to_vec()], vec![vec![0; 255]; strings]].concat()))
            .collect()
    };
    assert!(matches!(*with(set(600, many(101, 0))), [ZoneError::TooManyRecords { records: 101, .. }]));
    assert!(matches!(*with(set(600, many(5, 13))), [ZoneError::SetTooLarge { .. }]));
    let mixed = with(set(600, vec![text(1), Data::A([192, 0, 2, 1].into())]));
    assert!(matches!(*mixed, [ZoneError::MixedKinds { .. }]));
    let twice = Zone::build(apex(), [sets(LEAST), sets("ns1 A 192.0.2.9")].concat(), soa()).unwrap_err();
    assert!(matches!(*twice, [ZoneError::SetTwice { .. }]));
    let many = vec![set(600, vec![text(1)]); MAX_SETS + 1];
    assert!(matches!(*Zone::build(apex(), many, soa()).unwrap_err(), [ZoneError::TooManySets { .. }]));
    assert!(Zone::build(Name::root(), vec![], soa()).unwrap_err().contains(&ZoneError::ApexIsRoot));
}

#[test]
fn caa_and_services_are_what_their_readers_take() {
    check("a CAA 1 issue ca.example", "flags 1");
    check("a CAA 0 is-sue ca.example", "1 to 15 letters");
    check("a CAA 0 issue \"ca..example\"", "letsencrypt.org");
    check("a CAA 0 issue \"ca.example; account\"", "letsencrypt.org");
    check("a CAA 0 iodef security@example.org", "mailto:");
    for good in [";", "", "ca.example", "ca.example;a=b; c=d", "; a=b"] {
        assert_eq!(faults(&format!("a CAA 0 issue \"{good}\"")), Vec::<String>::new());
    }
    check("a HTTPS 0 ns1.example.org. alpn=h2", "has no parameters");
    check("a HTTPS 1 . no-default-alpn", "without alpn");
    check("a HTTPS 1 . mandatory=port alpn=h2", "does not have");
    check("a HTTPS 1 . mandatory=mandatory,alpn alpn=h2", "names itself");
    check("a HTTPS 1 . alpn=h2 alpn=h3", "twice");
    check("a HTTPS 1 . alpn=h2,,h3", "empty");
    check("a HTTPS 1 . ech=AAECAw==", "ECHConfigList");
    check("a HTTPS 1 . port=0", "port 0");
    check("a SVCB 1 ns1.example.org. alpn=h2 dohpath=dns", "dohpath");
    check("a HTTPS 0 ns1.example.org.\na HTTPS 1 .", "beside other records");
}

#[test]
fn all_faults_are_told_at_once() {
    let faults = faults(
        "@ CNAME a.example.net.\nb MX 10 gone.example.org.\nc CAA 7 issue ca.example\nd.example.net. A 192.0.2.1",
    );
    assert_eq!(faults.len(), 5, "{faults:#?}");
}
