//! An answer as octets: header, question and records, with names compressed (RFC 1035 section 4.1).
//!
//! It is written once for all who ask the same, in the order that lets it be cut: what may be left out stands last.

use super::{
    resolve::{Response, Shown},
    tree::{CNAME, NS, SOA},
};
use crate::{dnssec::RRSIG, name::Labels, query::HEADER_BYTES};
use std::ops::Range;

const MX: u16 = 15;
const CLASS_IN: u16 = 1;
/// Pointers have 14 bits.
const MOST_POINTER: usize = 0x3fff;
/// Of a long name these last labels are remembered, and the whole. More would make long questions dear and answers no shorter.
const MOST_LABELS_REMEMBERED: usize = 8;
/// Octets of an answer beyond which nothing is added that may be left out.
const MOST_BYTES_WITH_ADDITIONAL: usize = 4_096;

/// An answer to a question, for anybody who asks it.
#[derive(Debug)]
pub(super) struct Entry {
    /// With id 0, without RD, CD and OPT, the name in lower case.
    pub(super) bytes: Box<[u8]>,
    /// Where that begins which may be left out.
    pub(super) essential_bytes: usize,
    /// Records of the additional section, all of them and those that may not be left out.
    pub(super) additional: u16,
    pub(super) essential_additional: u16,
    pub(super) smallest_ttl_s: u32,
    /// Seconds of UNIX time in which it is given out.
    pub(super) given_out: Range<i64>,
    /// Whether the zone bounds how many of its kind there are.
    pub(super) is_of_the_zone: bool,
}

/// Writes an answer to the question for `kind` of `name`, which is in wire form and lower case.
pub(super) fn encode(response: &Response<'_>, name: &[u8], kind: u16) -> Entry {
    let mut writer = Writer { bytes: vec![0; HEADER_BYTES], names: Vec::new(), smallest_ttl_s: None };
    writer.name(name);
    writer.bytes.extend_from_slice([kind, CLASS_IN].map(u16::to_be_bytes).as_flattened());
    let answers = writer.records(&response.answer);
    let authorities = writer.records(&response.authority);
    let essential_additional = writer.records(&response.glue);
    let essential_bytes = writer.bytes.len();
    let mut additional = essential_additional;
    for shown in &response.additional {
        let before = writer.bytes.len();
        let records = writer.records(std::slice::from_ref(shown));
        if writer.bytes.len() > MOST_BYTES_WITH_ADDITIONAL {
            writer.bytes.truncate(before);
            break;
        }
        additional = additional.saturating_add(records);
    }
    let flags = 0x80 | (u8::from(response.is_authoritative) << 2);
    let [answers, authorities] = [answers, authorities].map(u16::to_be_bytes);
    let header = [[0, 0], [flags, response.code as u8 & 0x0f], [0, 1], answers, authorities, [0, 0]];
    if let Some(place) = writer.bytes.get_mut(..HEADER_BYTES) {
        place.copy_from_slice(header.as_flattened());
    }
    Entry {
        bytes: writer.bytes.into(),
        essential_bytes,
        additional,
        essential_additional,
        smallest_ttl_s: writer.smallest_ttl_s.unwrap_or(0),
        given_out: response.given_out.clone(),
        is_of_the_zone: response.is_of_the_zone,
    }
}

struct Writer {
    bytes: Vec<u8>,
    /// Names that stand in the message, with their places.
    names: Vec<(Vec<u8>, u16)>,
    smallest_ttl_s: Option<u32>,
}

impl Writer {
    /// Writes sets with their signatures; the number of records.
    fn records(&mut self, sets: &[Shown<'_>]) -> u16 {
        let mut records = 0_u16;
        for shown in sets {
            let set = shown.set.set();
            let data = if shown.signatures_alone { &[] } else { &*set.data };
            let signatures = shown.signatures.as_ref().map_or(&[][..], |signatures| &*signatures.data);
            for (kind, data) in
                data.iter().map(|data| (set.kind, data)).chain(signatures.iter().map(|data| (RRSIG, data)))
            {
                self.record(shown, kind, data);
                records = records.saturating_add(1);
            }
        }
        records
    }

    fn record(&mut self, shown: &Shown<'_>, kind: u16, data: &[u8]) {
        self.smallest_ttl_s = Some(self.smallest_ttl_s.map_or(shown.ttl_s, |ttl_s| ttl_s.min(shown.ttl_s)));
        self.name(&shown.owner);
        self.bytes.extend_from_slice(&kind.to_be_bytes());
        self.bytes.extend_from_slice(&CLASS_IN.to_be_bytes());
        self.bytes.extend_from_slice(&shown.ttl_s.to_be_bytes());
        let length_at = self.bytes.len();
        self.bytes.extend_from_slice(&[0, 0]);
        self.data(kind, data);
        let length = self.bytes.len().saturating_sub(length_at).saturating_sub(2);
        // Data of a zone is far shorter.
        let length = u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
        if let Some(place) = self.bytes.get_mut(length_at..length_at.saturating_add(2)) {
            place.copy_from_slice(&length);
        }
    }

    /// Data, with its names compressed in the kinds whose names every reader expects so (RFC 3597 section 4).
    fn data(&mut self, kind: u16, data: &[u8]) {
        let (before, names) = match kind {
            NS | CNAME => (0, 1),
            MX => (2, 1),
            SOA => (0, 2),
            _ => (data.len(), 0),
        };
        let (before, mut rest) = data.split_at_checked(before).unwrap_or((data, &[]));
        self.bytes.extend_from_slice(before);
        for _ in 0..names {
            let (name, behind) = rest.split_at_checked(name_length(rest)).unwrap_or((rest, &[]));
            self.name(name);
            rest = behind;
        }
        self.bytes.extend_from_slice(rest);
    }

    /// A name, as far as it does not stand in the message already.
    fn name(&mut self, name: &[u8]) {
        let mut rest = name;
        let mut labels = Labels::of(name).count();
        while let Some((&length @ 1.., behind)) = rest.split_first() {
            let may_be_known = rest.len() == name.len() || labels <= MOST_LABELS_REMEMBERED;
            labels = labels.saturating_sub(1);
            if may_be_known && let Some((_, place)) = self.names.iter().find(|(known, _)| known == rest) {
                self.bytes.extend_from_slice(&(0xc000 | place).to_be_bytes());
                return;
            }
            if may_be_known
                && let Some(place) =
                    u16::try_from(self.bytes.len()).ok().filter(|place| usize::from(*place) <= MOST_POINTER)
            {
                self.names.push((rest.to_vec(), place));
            }
            let Some((label, after)) = behind.split_at_checked(usize::from(length)) else { break };
            self.bytes.push(length);
            self.bytes.extend_from_slice(label);
            rest = after;
        }
        self.bytes.push(0);
    }
}

/// Octets of the uncompressed name that `bytes` begin with.
fn name_length(bytes: &[u8]) -> usize {
    let mut at = 0_usize;
    while let Some(length @ 1..) = bytes.get(at) {
        at = at.saturating_add(usize::from(*length)).saturating_add(1);
    }
    at.saturating_add(1)
}
