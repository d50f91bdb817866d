//! RFC 1034 section 4.3.2 read word by word over a list of sets, against the real thing, in random zones.

use super::*;
use crate::zone::{
    Data, Kind, RecordSet,
    tests::{LEAST, sets, soa},
};
use proptest::prelude::*;
use std::collections::BTreeSet;

/// Response code, whether it is authoritative, the records of the answer, and the owner and kind of the authority.
type Said = (ResponseCode, bool, BTreeSet<(String, u16, Vec<u8>)>, Option<(String, u16)>);

/// What is to be said of `name`, by searching all sets for each step.
fn expected(sets: &[RecordSet], name: &Name, kind: u16) -> Said {
    let apex = apex();
    let at = |name: &Name, kind: u16| sets.iter().find(|set| set.name == *name && set.kind().unwrap().number() == kind);
    let exists = |name: &Name| sets.iter().any(|set| set.name.is_within(name));
    let soa = Some((apex.to_string(), 6));
    let mut answer = BTreeSet::new();
    let mut name = name.clone();
    loop {
        // Step 3: match down, label by label. A cut on the way sends on to other servers.
        let mut path: Vec<Name> = name.ancestors().filter(|above| above.is_within(&apex)).collect();
        path.reverse();
        if let Some(cut) =
            path.iter().find(|above| **above != apex && at(above, 2).is_some() && !(**above == name && kind == 43))
        {
            return (ResponseCode::NoError, !answer.is_empty(), answer, Some((cut.to_string(), 2)));
        }
        let source = if exists(&name) {
            name.clone()
        } else {
            let encloser = path.iter().rev().find(|above| exists(above)).unwrap();
            let wildcard = encloser.child(b"*").unwrap();
            if !exists(&wildcard) {
                return (ResponseCode::NXDomain, true, answer, soa);
            }
            wildcard
        };
        let copy = |set: &RecordSet, answer: &mut BTreeSet<_>| {
            answer.extend(set.data.iter().map(|data| (name.to_string(), data.kind().number(), data.wire())));
        };
        if let Some(alias) = at(&source, 5).filter(|_| kind != 5) {
            copy(alias, &mut answer);
            let Data::Cname(target) = &alias.data[0] else { panic!() };
            if !target.is_within(&apex) {
                return (ResponseCode::NoError, true, answer, None);
            }
            name = target.clone();
            continue;
        }
        return match at(&source, kind) {
            Some(set) => {
                copy(set, &mut answer);
                (ResponseCode::NoError, true, answer, None)
            }
            None => (ResponseCode::NoError, true, answer, soa),
        };
    }
}

fn said(message: &Message) -> Said {
    let record =
        |record: &Record| (record.name.to_string(), record.record_type().into(), record.data.to_bytes().unwrap());
    let authority = message.authorities.first().map(|record| (record.name.to_string(), record.record_type().into()));
    let Metadata { response_code, authoritative, .. } = message.metadata;
    (response_code, authoritative, message.answers.iter().map(record).collect(), authority)
}

/// As many of the sets as make a zone.
fn without_faults(candidates: Vec<RecordSet>) -> (Vec<RecordSet>, Zone) {
    let mut kept = sets(LEAST);
    let mut built = Zone::build(apex(), kept.clone(), soa()).unwrap();
    for candidate in candidates {
        kept.push(candidate);
        match Zone::build(apex(), kept.clone(), soa()) {
            Ok(zone) => built = zone,
            Err(_) => drop(kept.pop()),
        }
    }
    (kept, built)
}

fn names() -> impl Strategy<Value = Name> {
    let label = prop::sample::select(vec!["a", "b", "c", "*", "ns1"]);
    prop::collection::vec(label, 0..4)
        .prop_map(|labels| labels.iter().fold(apex(), |name, label| name.child(label.as_bytes()).unwrap()))
}

fn candidates() -> impl Strategy<Value = RecordSet> {
    let ds = Data::Ds { key_tag: 1, algorithm: 13, digest_type: 2, digest: vec![0; 32] };
    let data = prop_oneof![
        4 => Just(Data::A([192, 0, 2, 1].into())),
        3 => Just(Data::Txt(vec![b"x".to_vec()])),
        3 => names().prop_map(Data::Cname),
        1 => Just(Data::Cname(Name::parse("www.example.net").unwrap())),
        1 => names().prop_map(|exchange| Data::Mx { preference: 1, exchange }),
        2 => Just(Data::Ns(Name::parse("ns1.example.org").unwrap())),
        1 => Just(ds),
    ];
    (names(), data).prop_map(|(name, data)| RecordSet { name, ttl_s: 600, data: vec![data] })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]
    #[test]
    fn the_zone_says_what_the_oracle_says(
        candidates in prop::collection::vec(candidates(), 0..24),
        asked in prop::collection::vec((names(), 0..Kind::ALL.len()), 24),
    ) {
        let (kept, zone) = without_faults(candidates);
        let served = Served::of(zone);
        for (name, kind) in asked {
            let kind = Kind::ALL[kind].2;
            let text = name.to_string();
            let expect = expected(&kept, &name, kind);
            prop_assert_eq!(said(&served.ask(&text, kind, false)), expect.clone(), "{} {}", name, kind);
            // With signatures the same is said, save that one record tells what does not exist.
            let signed = served.ask(&text, kind, true);
            verify(&signed, &served.key, NOW);
            let mut again = said(&signed);
            again.2.retain(|(_, kind, _)| *kind != RRSIG);
            let proof = denied(&signed);
            let is_nothing = expect.3.as_ref().is_some_and(|(_, authority)| *authority == 6);
            prop_assert_eq!(proof.is_some(), is_nothing || (expect.3.is_some() && !has_ds(&signed)), "{} {}", name, kind);
            if let Some(kinds) = proof.filter(|_| is_nothing) {
                prop_assert!(!kinds.contains(&kind) && !kinds.contains(&5));
                prop_assert_eq!(kinds.contains(&NXNAME), expect.0 == ResponseCode::NXDomain);
            }
            again.0 = expect.0;
            prop_assert_eq!(again, expect);
        }
    }
}

fn has_ds(message: &Message) -> bool {
    message.authorities.iter().any(|record| record.record_type() == RecordType::DS)
}

/// The kinds that the denial lists.
fn denied(message: &Message) -> Option<Vec<u16>> {
    message.authorities.iter().find_map(|record| match &record.data {
        RData::DNSSEC(DNSSECRData::NSEC(nsec)) => Some(nsec.type_bit_maps().map(u16::from).collect()),
        _ => None,
    })
}
