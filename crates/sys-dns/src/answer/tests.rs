//! Answers are read by another library, held against a naive oracle, and their signatures verified by that library.

use super::*;
use crate::{
    dnssec::{NSEC, NXNAME, RRSIG, SigningKey},
    name::Name,
    query::parse,
    zone::tests::{apex, zone},
};
use hickory_proto::{
    dnssec::{
        Verifier as _,
        rdata::{DNSKEY, DNSSECRData},
    },
    op::{Message, Metadata, ResponseCode},
    rr::{DNSClass, Name as OtherName, RData, Record, RecordType},
    serialize::binary::BinEncodable as _,
};
use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicI64, Ordering},
};

mod oracle;

/// Answers of one zone, under a clock that the test moves.
struct Served {
    answers: Answers,
    key: Arc<SigningKey>,
    clock: Arc<AtomicI64>,
}

const NOW: i64 = 1_795_000_000;

impl Served {
    fn new(lines: &str) -> Self {
        Self::of(zone(lines).unwrap_or_else(|faults| panic!("{faults:#?}")))
    }

    fn of(zone: Zone) -> Self {
        let key = Arc::new(SigningKey::generate().unwrap());
        let clock = Arc::new(AtomicI64::new(NOW));
        let read = clock.clone();
        let answers = Answers::new(Arc::new(move || read.load(Ordering::Relaxed)));
        answers.serve(vec![SignedZone { zone, keys: SigningKeys::single(key.clone()) }]);
        Self { answers, key, clock }
    }

    fn bytes(&self, name: &str, kind: u16, edns: Option<(u16, bool)>, most_bytes: usize) -> Vec<u8> {
        let message = question(name, kind, edns);
        let mut out = Vec::new();
        self.answers.answer(&parse(&message).unwrap(), most_bytes, &|| true, &mut out);
        assert!(out.len() <= most_bytes);
        out
    }

    /// By a stream.
    fn ask(&self, name: &str, kind: u16, dnssec_ok: bool) -> Message {
        Message::from_vec(&self.bytes(name, kind, Some((1_232, dnssec_ok)), 65_535)).unwrap()
    }

    /// What is said with signatures, which are all right, in words.
    fn signed(&self, name: &str, kind: u16) -> Vec<String> {
        let message = self.ask(name, kind, true);
        verify(&message, &self.key, NOW);
        said(&message)
    }
}

fn question(name: &str, kind: u16, edns: Option<(u16, bool)>) -> Vec<u8> {
    let mut message = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(edns.is_some())];
    for label in name.split('.').filter(|label| !label.is_empty()) {
        message.push(u8::try_from(label.len()).unwrap());
        message.extend_from_slice(label.as_bytes());
    }
    message.extend_from_slice(&[0, kind.to_be_bytes()[0], kind.to_be_bytes()[1], 0, 1]);
    if let Some((payload, dnssec_ok)) = edns {
        message.extend_from_slice(&[0, 0, 41]);
        message.extend_from_slice(&payload.to_be_bytes());
        message.extend_from_slice(&[0, 0, u8::from(dnssec_ok) << 7, 0, 0, 0]);
    }
    message
}

/// Flags and records, without signatures: `an www.example.org. A`.
fn said(message: &Message) -> Vec<String> {
    let Metadata { response_code, authoritative, truncation, .. } = message.metadata;
    let mut said = vec![format!(
        "{response_code:?}{}{}",
        if authoritative { " aa" } else { "" },
        if truncation { " tc" } else { "" }
    )];
    for (section, records) in [("an", &message.answers), ("ns", &message.authorities), ("ar", &message.additionals)] {
        let records = records.iter().filter(|record| record.record_type() != RecordType::RRSIG);
        said.extend(records.map(|record| format!("{section} {} {}", record.name.to_lowercase(), record.record_type())));
    }
    said
}

/// Verifies each set of the message that has signatures, and that all have them but those of a delegation.
fn verify(message: &Message, key: &SigningKey, now: i64) {
    let dnskey = RData::read(
        &mut hickory_proto::serialize::binary::BinDecoder::new(key.dnskey()),
        RecordType::DNSKEY,
        hickory_proto::serialize::binary::Restrict::new(68),
    );
    let Ok(RData::DNSSEC(DNSSECRData::DNSKEY(dnskey))) = dnskey else { panic!("{dnskey:?}") };
    // At the end of a chain of aliases, too: the servers and their addresses are of the zone below.
    let is_referral = message.authorities.iter().any(|record| record.record_type() == RecordType::NS);
    let sections =
        [(&message.answers, false), (&message.authorities, is_referral), (&message.additionals, is_referral)];
    for (records, may_be_unsigned) in sections {
        verify_section(records, &dnskey, may_be_unsigned, now);
    }
}

fn verify_section(records: &[Record], dnskey: &DNSKEY, may_be_unsigned: bool, now: i64) {
    let mut sets: BTreeMap<(OtherName, u16), Vec<&Record>> = BTreeMap::new();
    let mut signatures = Vec::new();
    for record in records {
        match &record.data {
            RData::DNSSEC(DNSSECRData::RRSIG(signature)) => signatures.push((record, signature)),
            _ => sets.entry((record.name.clone(), record.record_type().into())).or_default().push(record),
        }
    }
    for ((name, kind), set) in &sets {
        let over: Vec<_> = signatures
            .iter()
            .filter(|(record, signature)| record.name == *name && u16::from(signature.input().type_covered) == *kind)
            .collect();
        let is_of_delegation = matches!(*kind, 1 | 2 | 28) && may_be_unsigned;
        assert!(!over.is_empty() || is_of_delegation, "{name} {kind} has no signature");
        for (record, signature) in over {
            dnskey.verify_rrsig(name, DNSClass::IN, signature, set.iter().copied()).unwrap();
            let input = signature.input();
            let now = u32::try_from(now).unwrap();
            assert!(input.sig_inception.get() < now && now < input.sig_expiration.get());
            assert_eq!(record.ttl, set[0].ttl);
        }
    }
}

const ZONE: &str = "@ A 192.0.2.1
    @ MX 10 mail.example.org.
    mail A 192.0.2.2
    www CNAME example.org.
    far CNAME www.example.net.
    *.w TXT wild
    *.w A 192.0.2.3
    deep.er.name TXT x
    alias CNAME some.w.example.org.
    lost CNAME host.sub.example.org.
    sub NS ns.sub.example.org.
    sub NS ns1.example.org.
    ns.sub A 192.0.2.4
    safe NS ns1.example.org.
    safe DS 1 13 2 0000000000000000000000000000000000000000000000000000000000000000
    svc HTTPS 1 . alpn=h2
    svc A 192.0.2.5
    *.h HTTPS 1 . alpn=h2
    *.h A 192.0.2.6";

#[test]
fn data_aliases_and_wildcards_are_signed() {
    let served = Served::new(ZONE);
    let check = |name: &str, kind, expect: &[&str]| assert_eq!(served.signed(name, kind), expect, "{name} {kind}");
    check("example.org", 1, &["NoError aa", "an example.org. A"]);
    check("WWW.example.org", 1, &["NoError aa", "an www.example.org. CNAME", "an example.org. A"]);
    check("far.example.org", 1, &["NoError aa", "an far.example.org. CNAME"]);
    check("any.w.example.org", 16, &["NoError aa", "an any.w.example.org. TXT"]);
    check("a.b.w.example.org", 16, &["NoError aa", "an a.b.w.example.org. TXT"]);
    check("*.w.example.org", 16, &["NoError aa", "an *.w.example.org. TXT"]);
    check("alias.example.org", 1, &["NoError aa", "an alias.example.org. CNAME", "an some.w.example.org. A"]);
    check("example.org", 15, &["NoError aa", "an example.org. MX", "ar mail.example.org. A"]);
    check("svc.example.org", 65, &["NoError aa", "an svc.example.org. HTTPS", "ar svc.example.org. A"]);
    check("x.h.example.org", 65, &["NoError aa", "an x.h.example.org. HTTPS"]);
    check("example.org", 48, &["NoError aa", "an example.org. DNSKEY"]);
    check("example.org", 59, &["NoError aa", "an example.org. CDS"]);
    check("example.org", 60, &["NoError aa", "an example.org. CDNSKEY"]);
}

#[test]
fn what_is_not_there_is_denied_by_one_record() {
    let served = Served::new(ZONE);
    let check = |name: &str, kind, kinds: &[u16]| {
        let message = served.ask(name, kind, true);
        verify(&message, &served.key, NOW);
        let absolute = format!("{}.", name.to_lowercase());
        let expect = ["NoError aa".to_owned(), "ns example.org. SOA".to_owned(), format!("ns {absolute} NSEC")];
        assert_eq!(said(&message), expect, "{name}");
        let nsec = message.authorities.iter().find_map(|record| match &record.data {
            RData::DNSSEC(DNSSECRData::NSEC(nsec)) => Some(nsec),
            _ => None,
        });
        let nsec = nsec.unwrap();
        assert_eq!(nsec.next_domain_name().to_string(), format!("\\000.{absolute}"));
        let mut listed: Vec<u16> = nsec.type_bit_maps().map(u16::from).collect();
        listed.sort_unstable();
        assert_eq!(listed, kinds, "{name}");
        assert!(message.authorities.iter().all(|record| record.ttl == 300));
    };
    check("gone.example.org", 1, &[46, 47, 128]);
    check("Gone.sub2.EXAMPLE.org", 1, &[46, 47, 128]);
    check("example.org", 33, &[1, 2, 6, 15, 46, 47, 48, 59, 60]);
    check("mail.example.org", 28, &[1, 46, 47]);
    // Between two names that are there, nothing stands, but the name does (RFC 4592 section 2.2.2).
    check("er.name.example.org", 1, &[46, 47]);
    check("w.example.org", 1, &[46, 47]);
    check("other.w.example.org", 28, &[1, 16, 46, 47]);
    check("sub.example.org", 43, &[2, 46, 47]);
    // The DS set of the zone itself is above.
    check("example.org", 43, &[1, 2, 6, 15, 46, 47, 48, 59, 60]);
    let plain = |name: &str, kind| said(&served.ask(name, kind, false));
    assert_eq!(plain("gone.example.org", 1), ["NXDomain aa", "ns example.org. SOA"]);
    assert_eq!(plain("er.name.example.org", 1), ["NoError aa", "ns example.org. SOA"]);
    assert_eq!(plain("x.er.name.example.org", 1), ["NXDomain aa", "ns example.org. SOA"]);
}

#[test]
fn a_delegation_is_told_with_glue_and_proof() {
    let served = Served::new(ZONE);
    let check = |name: &str, kind, expect: &[&str]| assert_eq!(served.signed(name, kind), expect, "{name} {kind}");
    let sub = [
        "NoError",
        "ns sub.example.org. NS",
        "ns sub.example.org. NS",
        "ns sub.example.org. NSEC",
        "ar ns.sub.example.org. A",
        "ar ns1.example.org. A",
    ];
    check("a.b.sub.example.org", 1, &sub);
    check("sub.example.org", 2, &sub);
    check("ns.sub.example.org", 1, &sub);
    check(
        "x.safe.example.org",
        1,
        &["NoError", "ns safe.example.org. NS", "ns safe.example.org. DS", "ar ns1.example.org. A"],
    );
    check("safe.example.org", 43, &["NoError aa", "an safe.example.org. DS"]);
    let lost = served.ask("lost.example.org", 1, true);
    assert_eq!(said(&lost)[..3], ["NoError aa", "an lost.example.org. CNAME", "ns sub.example.org. NS"]);
}

#[test]
fn any_gets_one_record_and_signatures_come_with_nothing() {
    let served = Served::new(ZONE);
    assert_eq!(served.signed("example.org", 255), ["NoError aa", "an example.org. HINFO"]);
    assert_eq!(served.signed("www.example.org", 255), ["NoError aa", "an www.example.org. CNAME"]);
    assert_eq!(said(&served.ask("gone.example.org", 255, false))[0], "NXDomain aa");
    assert_eq!(served.signed("mail.example.org", NSEC), ["NoError aa", "an mail.example.org. NSEC"]);
    let signatures = served.ask("mail.example.org", RRSIG, true);
    assert_eq!(signatures.answers.len(), 1);
    assert_eq!(u16::from(signatures.answers[0].record_type()), RRSIG);
}

#[test]
fn another_zone_is_refused() {
    let served = Served::new(ZONE);
    for name in ["example.net", "", "org", "badexample.org", "version.bind"] {
        assert_eq!(said(&served.ask(name, 1, true)), ["Refused"], "{name}");
    }
}

#[test]
fn a_zone_below_is_answered_from_itself_and_its_ds_from_above() {
    let served = Served::new(ZONE);
    let below = Name::parse("safe.example.org").unwrap();
    let ns = crate::zone::tests::sets("safe NS ns1.example.org.\nsafe TXT below");
    let below = Zone::build(below, ns, crate::zone::tests::soa()).unwrap();
    let key = SigningKeys::single(served.key.clone());
    let zones = [zone(ZONE).unwrap(), below].map(|zone| SignedZone { zone, keys: key.clone() });
    served.answers.serve(zones.into());
    assert_eq!(served.signed("safe.example.org", 16), ["NoError aa", "an safe.example.org. TXT"]);
    assert_eq!(served.signed("safe.example.org", 43), ["NoError aa", "an safe.example.org. DS"]);
}

#[test]
fn an_answer_fits_or_is_cut() {
    let text = "x".repeat(250);
    let long: String = (0..8).map(|at| format!("long TXT {at}{text}\n")).collect();
    let targets: String =
        (0..20).map(|at| format!("many MX {at} mail{at}.example.org.\nmail{at} AAAA 2001:db8::{at}\n")).collect();
    let served = Served::new(&format!("{long}{targets}"));
    let asked = |name: &str, kind, payload, most| {
        let bytes = served.bytes(name, kind, Some((payload, true)), most);
        Message::from_vec(&bytes).unwrap()
    };
    assert_eq!(said(&asked("long.example.org", 16, 1_232, 1_232)), ["NoError aa tc"]);
    assert_eq!(asked("long.example.org", 16, 1_232, 65_535).answers.len(), 9);
    let cut = asked("many.example.org", 15, 1_232, 1_232);
    assert_eq!((cut.answers.len(), cut.additionals.len(), cut.metadata.truncation), (21, 0, false));
    let whole = asked("many.example.org", 15, 1_232, 65_535);
    assert_eq!((whole.answers.len(), whole.additionals.len()), (21, 40));
    verify(&whole, &served.key, NOW);
    // Without EDNS nothing of it comes back.
    let plain = Message::from_vec(&served.bytes("ns1.example.org", 1, None, 512)).unwrap();
    assert!(plain.edns.is_none() && plain.answers.len() == 1);
}

#[test]
fn id_flags_and_spelling_come_back_from_the_cache_too() {
    let served = Served::new(ZONE);
    for (id, name) in [(1_u16, "wWw.ExAmPlE.org"), (2, "WWW.example.ORG")] {
        for kind in [1, 28] {
            let mut message = question(name, kind, Some((1_232, true)));
            message[..2].copy_from_slice(&id.to_be_bytes());
            message[2] = 0;
            message[3] = 0x10;
            let mut out = Vec::new();
            served.answers.answer(&parse(&message).unwrap(), 1_232, &|| true, &mut out);
            let end = 12 + name.len() + 2 + 4;
            assert_eq!(out[..2], id.to_be_bytes());
            assert_eq!((out[2] & 1, out[3] & 0x10), (0, 0x10));
            assert_eq!(out[12..end], message[12..end]);
            assert!(Message::from_vec(&out).is_ok());
        }
    }
}

#[test]
fn signatures_are_renewed_before_they_end() {
    let served = Served::new(ZONE);
    for hours in 0..240 {
        let now = NOW + hours * 3_600;
        served.clock.store(now, Ordering::Relaxed);
        for (name, kind) in
            [("www.example.org", 1), ("any.w.example.org", 16), ("gone.example.org", 1), ("mail.example.org", 28)]
        {
            verify(&served.ask(name, kind, true), &served.key, now);
        }
    }
}

#[test]
fn keys_and_zones_are_swapped_whole() {
    let served = Served::new(ZONE);
    assert_eq!(served.signed("mail.example.org", 1), ["NoError aa", "an mail.example.org. A"]);
    let next = Arc::new(SigningKey::generate().unwrap());
    let keys = SigningKeys::single(next.clone());
    served.answers.serve(vec![SignedZone { zone: zone("mail TXT moved").unwrap(), keys }]);
    let message = served.ask("mail.example.org", 1, true);
    verify(&message, &next, NOW);
    assert_eq!(said(&message)[1..], ["ns example.org. SOA", "ns mail.example.org. NSEC"]);
}

#[test]
fn a_rollover_s_keys_stand_in_the_set_and_sign_it() {
    let served = Served::new(ZONE);
    let old = crate::dnssec::Rollover::begin(SigningKey::generate().unwrap());
    let state = old.start(SigningKey::generate().unwrap(), NOW).unwrap();
    served.answers.serve(vec![SignedZone { zone: zone(ZONE).unwrap(), keys: state.keys() }]);
    let keys = served.ask("example.org", 48, true);
    assert_eq!(keys.answers.len(), 4);
    for key in state.keys().published() {
        let only = |record: &&Record| match &record.data {
            RData::DNSSEC(DNSSECRData::RRSIG(signature)) => signature.input().key_tag == key.key_tag(),
            _ => true,
        };
        let mut message = keys.clone();
        message.answers = keys.answers.iter().filter(only).cloned().collect();
        verify(&message, key, NOW);
    }
    verify(&served.ask("mail.example.org", 1, true), state.keys().signer(), NOW);
}

#[test]
fn a_flood_of_names_is_cut_and_what_stands_in_the_zone_is_not() {
    let served = Served::new(ZONE);
    let most = budget::SIGNATURES_PER_S;
    let asked = |name: &str, most_bytes| {
        Message::from_vec(&served.bytes(name, 1, Some((1_232, true)), most_bytes)).unwrap().metadata
    };
    let cut = (0..most + 50).filter(|at| asked(&format!("x{at}.example.org"), 1_232).truncation).count();
    assert_eq!(cut, 50);
    // Streams have their own, and what stands in the zone needs none.
    assert_eq!(asked("y.example.org", 65_535).response_code, ResponseCode::NoError);
    assert!(!asked("mail.example.org", 1_232).truncation);
    assert!(!asked("x1.example.org", 1_232).truncation, "it is kept");
    for at in 0..most {
        asked(&format!("z{at}.example.org"), 65_535);
    }
    assert_eq!(asked("zz.example.org", 65_535).response_code, ResponseCode::ServFail);
    served.clock.fetch_add(1, Ordering::Relaxed);
    assert!(!asked("zzz.example.org", 1_232).truncation);
}

#[test]
fn what_the_zone_bounds_is_told_from_what_strangers_make_up() {
    let served = Served::new(ZONE);
    let tree = Tree::new(&zone(ZONE).unwrap(), SigningKeys::single(served.key.clone()));
    let check = |name: &str, kind, expect| {
        let name = Name::parse(name).unwrap();
        assert_eq!(resolve(&tree, name.wire(), kind, None).unwrap().is_of_the_zone, expect, "{name} {kind}");
    };
    check("mail.example.org", 1, true);
    check("www.example.org", 1, true);
    check("mail.example.org", 65, true);
    check("www.example.org", 28, true);
    check("mail.example.org", 40_000, false);
    check("www.example.org", 40_000, false);
    check("far.example.org", 1, true);
    check("far.example.org", 40_000, false);
    check("any.w.example.org", 16, false);
    check("alias.example.org", 1, false);
    check("gone.example.org", 1, false);
    check("gone.sub.example.org", 1, false);
}

#[test]
fn a_name_without_room_below_it_is_denied() {
    let served = Served::new(ZONE);
    let label = "a".repeat(63);
    let name = format!("{}.{label}.{label}.{label}.example.org", "b".repeat(47));
    assert_eq!(name.len() + 2, 253);
    let name = format!("bb{name}");
    let message = served.ask(&name, 1, true);
    verify(&message, &served.key, NOW);
    assert_eq!(said(&message)[2], format!("ns {name}. NSEC"));
}
