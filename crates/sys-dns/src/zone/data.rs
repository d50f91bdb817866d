//! The data of one record, in types, and its canonical form on the wire.
//!
//! Names inside of data are never compressed and always in lower case, so that the wire form is the one that is signed
//! (RFC 4034 section 6.2) and answers are put together without another look at it.

use crate::{name::Name, zone::service::Service};
use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
};

/// Octets of one record's data. A DKIM key has some 400, a list of ECH keys some 300.
pub const MAX_DATA_BYTES: usize = 4_096;
/// Octets of one string of a TXT record (RFC 1035 section 3.3).
pub const MAX_STRING_BYTES: usize = 255;

/// What a record says of its name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "fields have the names of the RFC that stands at the variant")]
pub enum Data {
    /// RFC 1035 section 3.4.1.
    A(Ipv4Addr),
    /// RFC 3596.
    Aaaa(Ipv6Addr),
    /// RFC 1035 section 3.3.1.
    Cname(Name),
    /// RFC 1035 section 3.3.9; the exchange `.` says that the name takes no mail (RFC 7505).
    Mx { preference: u16, exchange: Name },
    /// RFC 1035 section 3.3.14: strings of up to 255 octets, which most readers join.
    Txt(Vec<Vec<u8>>),
    /// RFC 2782; the target `.` says that there is no such service.
    Srv { priority: u16, weight: u16, port: u16, target: Name },
    /// RFC 8659.
    Caa { flags: u8, tag: String, value: String },
    /// RFC 9460.
    Https(Service),
    /// RFC 9460.
    Svcb(Service),
    /// RFC 1035 section 3.3.11: a name server, of the zone at its apex, of another zone below it.
    Ns(Name),
    /// RFC 4034 section 5: the hash of a key of a zone below this one.
    Ds { key_tag: u16, algorithm: u8, digest_type: u8, digest: Vec<u8> },
}

/// A kind of [`Data`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "each is the variant of `Data` with its name")]
pub enum Kind {
    A,
    Aaaa,
    Cname,
    Mx,
    Txt,
    Srv,
    Caa,
    Https,
    Svcb,
    Ns,
    Ds,
}

impl Kind {
    /// All kinds, with the text and the number that each is known by.
    pub const ALL: [(Self, &'static str, u16); 11] = [
        (Self::A, "A", 1),
        (Self::Aaaa, "AAAA", 28),
        (Self::Cname, "CNAME", 5),
        (Self::Mx, "MX", 15),
        (Self::Txt, "TXT", 16),
        (Self::Srv, "SRV", 33),
        (Self::Caa, "CAA", 257),
        (Self::Https, "HTTPS", 65),
        (Self::Svcb, "SVCB", 64),
        (Self::Ns, "NS", 2),
        (Self::Ds, "DS", 43),
    ];

    /// The kind that a text names, in any case.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, name, _)| name.eq_ignore_ascii_case(text.trim())).map(|(kind, ..)| *kind)
    }

    /// The number on the wire.
    pub fn number(self) -> u16 {
        match self {
            Self::A => 1,
            Self::Aaaa => 28,
            Self::Cname => 5,
            Self::Mx => 15,
            Self::Txt => 16,
            Self::Srv => 33,
            Self::Caa => 257,
            Self::Https => 65,
            Self::Svcb => 64,
            Self::Ns => 2,
            Self::Ds => 43,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = Self::ALL.iter().find(|(kind, ..)| kind == self).map_or("", |(_, text, _)| *text);
        f.write_str(text)
    }
}

impl Data {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::A(_) => Kind::A,
            Self::Aaaa(_) => Kind::Aaaa,
            Self::Cname(_) => Kind::Cname,
            Self::Mx { .. } => Kind::Mx,
            Self::Txt(_) => Kind::Txt,
            Self::Srv { .. } => Kind::Srv,
            Self::Caa { .. } => Kind::Caa,
            Self::Https(_) => Kind::Https,
            Self::Svcb(_) => Kind::Svcb,
            Self::Ns(_) => Kind::Ns,
            Self::Ds { .. } => Kind::Ds,
        }
    }

    /// The canonical form on the wire. What no field can say (a string of more than 255 octets) is a fault of the zone and
    /// never gets into one.
    pub fn wire(&self) -> Vec<u8> {
        let numbers = |numbers: &[u16]| numbers.iter().flat_map(|number| number.to_be_bytes()).collect::<Vec<u8>>();
        match self {
            Self::A(address) => address.octets().to_vec(),
            Self::Aaaa(address) => address.octets().to_vec(),
            Self::Cname(name) | Self::Ns(name) => name.wire().to_vec(),
            Self::Mx { preference, exchange } => [&numbers(&[*preference]), exchange.wire()].concat(),
            Self::Txt(strings) => strings.iter().flat_map(|string| string_wire(string)).collect(),
            Self::Srv { priority, weight, port, target } => {
                [&numbers(&[*priority, *weight, *port]), target.wire()].concat()
            }
            Self::Caa { flags, tag, value } => [&[*flags], &*string_wire(tag.as_bytes()), value.as_bytes()].concat(),
            Self::Https(service) | Self::Svcb(service) => service.wire(),
            Self::Ds { key_tag, algorithm, digest_type, digest } => {
                [&numbers(&[*key_tag]), &[*algorithm, *digest_type][..], digest].concat()
            }
        }
    }

    /// The name that whoever asks for this data will ask for next.
    pub fn target(&self) -> Option<&Name> {
        match self {
            Self::Cname(name) | Self::Ns(name) => Some(name),
            Self::Mx { exchange, .. } => Some(exchange),
            Self::Srv { target, .. } => Some(target),
            Self::Https(service) | Self::Svcb(service) => Some(&service.target),
            Self::A(_) | Self::Aaaa(_) | Self::Txt(_) | Self::Caa { .. } | Self::Ds { .. } => None,
        }
    }
}

/// A character string (RFC 1035 section 3.3). What is longer than its length can say is cut; a checked zone has no such string.
fn string_wire(string: &[u8]) -> Vec<u8> {
    let length = u8::try_from(string.len()).unwrap_or(u8::MAX);
    [&[length], string.get(..usize::from(length)).unwrap_or_default()].concat()
}
