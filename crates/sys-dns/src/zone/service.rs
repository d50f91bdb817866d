//! What HTTPS and SVCB records say (RFC 9460): where a service is, and how it is reached.

use crate::name::Name;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The data of an HTTPS or SVCB record.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Service {
    /// 0 says that the name is an alias of the target (AliasMode); else lower ones are tried first.
    pub priority: u16,
    /// Where the service is. The root stands for the record's own name, or in AliasMode for no service at all.
    pub target: Name,
    /// In the order of their keys, each once. None in AliasMode.
    pub parameters: Vec<Parameter>,
}

/// A parameter of a service.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Parameter {
    /// Keys that who uses this record has to understand, ascending (section 8).
    Mandatory(Vec<u16>),
    /// Protocols besides the scheme's default (section 7.1).
    Alpn(Vec<Vec<u8>>),
    /// The scheme's default protocol is not spoken. Stands beside `alpn` only.
    NoDefaultAlpn,
    /// The port, where it is not the scheme's.
    Port(u16),
    /// Addresses to try while those of the target are looked up.
    Ipv4Hint(Vec<Ipv4Addr>),
    /// An ECHConfigList (RFC 9848).
    Ech(Vec<u8>),
    /// As `ipv4hint`.
    Ipv6Hint(Vec<Ipv6Addr>),
    /// The URI template of DNS over HTTPS (RFC 9461).
    DohPath(String),
    /// Any other, by number.
    Other {
        /// Its number, none of those above.
        key: u16,
        /// What stands there on the wire.
        value: Vec<u8>,
    },
}

/// The keys that have names, with their numbers.
pub(super) const KEYS: [(&str, u16); 8] = [
    ("mandatory", 0),
    ("alpn", 1),
    ("no-default-alpn", 2),
    ("port", 3),
    ("ipv4hint", 4),
    ("ech", 5),
    ("ipv6hint", 6),
    ("dohpath", 7),
];

impl Parameter {
    /// Its number.
    pub fn key(&self) -> u16 {
        match self {
            Self::Mandatory(_) => 0,
            Self::Alpn(_) => 1,
            Self::NoDefaultAlpn => 2,
            Self::Port(_) => 3,
            Self::Ipv4Hint(_) => 4,
            Self::Ech(_) => 5,
            Self::Ipv6Hint(_) => 6,
            Self::DohPath(_) => 7,
            Self::Other { key, .. } => *key,
        }
    }

    fn value_wire(&self) -> Vec<u8> {
        match self {
            Self::Mandatory(keys) => keys.iter().flat_map(|key| key.to_be_bytes()).collect(),
            Self::Alpn(protocols) => {
                protocols.iter().flat_map(|protocol| [&[short_length(protocol)], &**protocol].concat()).collect()
            }
            Self::NoDefaultAlpn => Vec::new(),
            Self::Port(port) => port.to_be_bytes().to_vec(),
            Self::Ipv4Hint(addresses) => addresses.iter().flat_map(Ipv4Addr::octets).collect(),
            Self::Ech(list) => list.clone(),
            Self::Ipv6Hint(addresses) => addresses.iter().flat_map(Ipv6Addr::octets).collect(),
            Self::DohPath(template) => template.as_bytes().to_vec(),
            Self::Other { value, .. } => value.clone(),
        }
    }

    /// What is wrong with it by itself.
    fn fault(&self) -> Option<&'static str> {
        match self {
            Self::Mandatory(keys) if keys.is_empty() => Some("mandatory names no key: name one or leave it out"),
            Self::Mandatory(keys) if keys.contains(&0) => Some("mandatory names itself: leave it out of its list"),
            Self::Mandatory(keys) if !keys.is_sorted_by(|a, b| a < b) => {
                Some("mandatory names its keys twice or out of order: sort them by number")
            }
            Self::Alpn(protocols) if protocols.is_empty() => Some("alpn names no protocol: name one, as in alpn=h2"),
            Self::Alpn(protocols) if protocols.iter().any(|protocol| protocol.is_empty() || protocol.len() > 255) => {
                Some(
                    "a protocol of alpn is empty or longer than 255 octets: name protocols as TLS does, as in alpn=h2,http/1.1",
                )
            }
            Self::Port(0) => Some("port 0 is none: write the port that the service listens at"),
            Self::Ipv4Hint(addresses) if addresses.is_empty() => {
                Some("ipv4hint holds no address: give one or leave it out")
            }
            Self::Ipv6Hint(addresses) if addresses.is_empty() => {
                Some("ipv6hint holds no address: give one or leave it out")
            }
            Self::Ech(list) if list.len() < 3 || !is_as_long_as_it_says(list) => {
                Some("ech holds no ECHConfigList: paste the list in base64, with its length in front")
            }
            Self::DohPath(template) if !template.starts_with('/') || !template.contains("{?dns}") => {
                Some("dohpath is no template of a path: write it as in dohpath=/dns-query{?dns}")
            }
            Self::Other { key: 0..=7, .. } => Some("the parameter has a name: write it by its name"),
            Self::Other { key: u16::MAX, .. } => Some("key65535 is reserved: leave it out"),
            _ => None,
        }
    }
}

impl Service {
    /// The canonical form on the wire.
    pub fn wire(&self) -> Vec<u8> {
        let mut wire = [&self.priority.to_be_bytes()[..], self.target.wire()].concat();
        for parameter in &self.parameters {
            let value = parameter.value_wire();
            wire.extend_from_slice(&parameter.key().to_be_bytes());
            // The length of data is bounded far below by the zone's checks.
            wire.extend_from_slice(&u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes());
            wire.extend_from_slice(&value);
        }
        wire
    }

    /// Whether the record says no more than that its name is an alias.
    pub fn is_alias(&self) -> bool {
        self.priority == 0
    }

    /// What is wrong with it, each with what to do.
    pub(super) fn faults(&self) -> Vec<&'static str> {
        let mut faults: Vec<_> = self.parameters.iter().filter_map(Parameter::fault).collect();
        if self.is_alias() && !self.parameters.is_empty() {
            faults
                .push("a record of priority 0 is an alias and has no parameters: leave them out, or write priority 1");
        }
        let keys: Vec<u16> = self.parameters.iter().map(Parameter::key).collect();
        if !keys.is_sorted_by(|a, b| a < b) {
            faults
                .push("parameters stand twice or out of the order of their keys: write each once, by ascending number");
        }
        let mandatory = self.parameters.iter().find_map(|parameter| match parameter {
            Parameter::Mandatory(keys) => Some(keys),
            _ => None,
        });
        if mandatory.is_some_and(|mandatory| mandatory.iter().any(|key| !keys.contains(key))) {
            faults.push("mandatory names a key that the record does not have: add the parameter, or take the key out");
        }
        if keys.contains(&2) && !keys.contains(&1) {
            faults.push("no-default-alpn without alpn leaves no protocol: add alpn, or take no-default-alpn out");
        }
        faults
    }
}

fn short_length(bytes: &[u8]) -> u8 {
    u8::try_from(bytes.len()).unwrap_or(u8::MAX)
}

/// An ECHConfigList begins with the length of all that follows.
fn is_as_long_as_it_says(list: &[u8]) -> bool {
    list.split_first_chunk::<2>().is_some_and(|(length, rest)| usize::from(u16::from_be_bytes(*length)) == rest.len())
}
