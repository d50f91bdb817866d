//! A zone as people type it: names and data, line by line, and what is answered from it.

use crate::input::text;
use std::sync::{Arc, LazyLock};
use sys_dns::{
    answer::{Answers, SignedZone},
    dnssec::{SigningKey, SigningKeys},
    query::{MOST_UDP_BYTES, parse},
    respond::Authority,
    zone::{Data, Kind, MAX_DATA_BYTES, Name, RecordSet, Soa, Zone},
};

/// What is asked here is asked without signatures, so that the key moves nothing but one record.
static KEYS: LazyLock<SigningKeys> =
    LazyLock::new(|| SigningKeys::single(Arc::new(SigningKey::generate().expect("a key can be made"))));
static APEX: LazyLock<Name> = LazyLock::new(|| Name::parse("example.org").expect("a name"));
/// Lines that are read: a zone of more is the same again.
const MAX_LINES: usize = 64;

/// Lines of `name ttl kind data`. What is read is written and read as the same; the zone tells each fault with a remedy, or answers
/// every name of it, within the bytes that were allowed.
pub(crate) fn input(bytes: &[u8]) {
    let Some(lines) = text(bytes) else { return };
    let mut sets = least();
    for set in lines.lines().take(MAX_LINES).filter_map(line) {
        match sets.iter_mut().find(|known| known.name == set.name && known.kind() == set.kind()) {
            Some(known) => known.data.extend(set.data),
            None => sets.push(set),
        }
    }
    match Zone::build(APEX.clone(), sets.clone(), soa()) {
        Ok(zone) => answers(&zone),
        Err(faults) => {
            assert!(!faults.is_empty());
            faults.iter().for_each(|fault| assert!(fault.to_string().contains(": "), "{fault}"));
        }
    }
}

fn line(line: &str) -> Option<RecordSet> {
    let mut words = line.splitn(4, ' ');
    let (owner, ttl, kind, data) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let name = match Name::parse_below(owner, &APEX) {
        Ok(name) => name,
        Err(refused) => {
            assert!(refused.to_string().contains(':'), "{refused}");
            return None;
        }
    };
    assert_eq!(Name::parse(&name.to_string()).as_ref(), Ok(&name), "a name is read as it was written");
    assert_eq!(Name::from_wire(name.wire()).as_ref(), Some(&name));
    let kind = Kind::parse(kind)?;
    match Data::parse(kind, data) {
        Ok(data) => {
            assert_eq!(data.kind(), kind);
            let written = data.to_string();
            // What takes more characters than any record has is a fault of the zone.
            if data.wire().len() <= MAX_DATA_BYTES {
                assert_eq!(Data::parse(kind, &written).as_ref(), Ok(&data), "{written} is read as it was written");
            }
            Some(RecordSet { name, ttl_s: ttl.parse().unwrap_or(600), data: vec![data] })
        }
        Err(refused) => {
            assert!(refused.to_string().contains(':'), "{refused}");
            None
        }
    }
}

fn answers(zone: &Zone) {
    let answers = Answers::new(Arc::new(|| 1_800_000_000));
    answers.serve(vec![SignedZone { zone: zone.clone(), keys: KEYS.clone() }]);
    for set in zone.sets() {
        let kind = set.kind().expect("a checked set has a kind");
        let message = question(&set.name, kind.number());
        let query = parse(&message).expect("a question");
        for most_bytes in [512, usize::from(MOST_UDP_BYTES), 65_535] {
            let mut out = Vec::new();
            answers.answer(&query, most_bytes, &|| true, &mut out);
            assert!(out.len() <= most_bytes, "{} {kind}", set.name);
            let (is_cut, code) = (out[2] & 2 != 0, out[3] & 15);
            let records = u16::from_be_bytes([out[6], out[7]]) + u16::from_be_bytes([out[8], out[9]]);
            assert!(code == 0 && (records > 0 || is_cut), "{} {kind} is answered with {code}", set.name);
            assert!(!is_cut || most_bytes < 65_535, "{} {kind} fits no message", set.name);
        }
    }
}

fn question(name: &Name, kind: u16) -> Vec<u8> {
    let header = [0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    [&header, name.wire(), &kind.to_be_bytes(), &[0, 1]].concat()
}

fn least() -> Vec<RecordSet> {
    let server = Name::parse("ns.example.net").expect("a name");
    vec![RecordSet { name: APEX.clone(), ttl_s: 600, data: vec![Data::Ns(server)] }]
}

fn soa() -> Soa {
    Soa {
        primary: APEX.clone(),
        mailbox: APEX.clone(),
        serial: 1,
        refresh_s: 1,
        retry_s: 1,
        expire_s: 1,
        negative_ttl_s: 300,
        ttl_s: 300,
    }
}
