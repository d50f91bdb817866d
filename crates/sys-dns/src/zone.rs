//! A zone: which records it has, in types, from text as people type it and back, and every fault that it could have.
//!
//! [`Zone::build`] is the only way to a [`Zone`], so what is answered from one has been checked: the answer's logic meets no
//! CNAME beside other data, no target that is missing, no set that fits no message. What must never happen here: I/O, or a fault
//! that is told without what to do about it.

mod check;
mod data;
mod fault;
mod service;
mod text;

pub use crate::name::{Name, NameError};
pub use data::{Data, Kind, MAX_DATA_BYTES, MAX_STRING_BYTES};
pub use fault::ZoneError;
pub use service::{Parameter, Service};
pub use text::DataError;

use std::collections::BTreeMap;

/// Record sets of a zone: an organisation has some hundreds. It bounds the memory of a zone, and the time of its checks.
pub const MAX_SETS: usize = 10_000;
/// Records of one set. More would not be answered in one datagram by far.
pub const MAX_SET_RECORDS: usize = 100;
/// Octets of a set's data: with signatures, and behind a CNAME, it fits a message of 65,535 by TCP.
pub const MAX_SET_BYTES: usize = 16_384;
/// The shortest time that resolvers may be told to keep a record: below it they ask for nearly every use.
pub const MIN_TTL_S: u32 = 10;
/// The longest. A mistake lasts so long at every resolver, and so does each step of a key rollover.
pub const MAX_TTL_S: u32 = 2 * 86_400;
/// CNAMEs behind each other inside a zone. Resolvers give up at 8 to 16.
pub const MAX_CHAIN: usize = 8;

/// All records of one name and kind, which share their time to live (RFC 2181 section 5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordSet {
    /// Whose records they are.
    pub name: Name,
    /// How long resolvers may keep them, in seconds.
    pub ttl_s: u32,
    /// At least one, all of one kind, no two alike.
    pub data: Vec<Data>,
}

impl RecordSet {
    /// The kind of the first, and so of all in a checked set; `None` of a set without data.
    pub fn kind(&self) -> Option<Kind> {
        self.data.first().map(Data::kind)
    }
}

/// The start of authority (RFC 1035 section 3.3.13).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Soa {
    /// The server where the zone is made.
    pub primary: Name,
    /// Who answers for the zone: an address of mail, with a dot for the `@`.
    pub mailbox: Name,
    /// Moves with every change (RFC 1982).
    pub serial: u32,
    /// Of secondaries, in seconds. We have none; the values stand there for those who look.
    pub refresh_s: u32,
    /// As above.
    pub retry_s: u32,
    /// As above.
    pub expire_s: u32,
    /// How long resolvers may remember that something does not exist, in seconds (RFC 2308 section 4).
    pub negative_ttl_s: u32,
    /// How long they may keep this record, in seconds.
    pub ttl_s: u32,
}

/// A zone without faults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    apex: Name,
    soa: Soa,
    /// INVARIANT: has passed every check of `check.rs`.
    sets: BTreeMap<(Name, Kind), RecordSet>,
}

impl Zone {
    /// A zone of these sets, or every fault of them.
    pub fn build(apex: Name, sets: Vec<RecordSet>, soa: Soa) -> Result<Self, Vec<ZoneError>> {
        let mut faults = Vec::new();
        if sets.len() > MAX_SETS {
            return Err(vec![ZoneError::TooManySets { sets: sets.len() }]);
        }
        check::sets_alone(&apex, &sets, &soa, &mut faults);
        let mut by_name = BTreeMap::new();
        for set in sets {
            let Some(kind) = set.kind() else { continue };
            let name = set.name.clone();
            if by_name.insert((name.clone(), kind), set).is_some() {
                faults.push(ZoneError::SetTwice { name, kind });
            }
        }
        check::Together::new(&apex, &by_name).check(&mut faults);
        if faults.is_empty() { Ok(Self { apex, soa, sets: by_name }) } else { Err(faults) }
    }

    /// The name of the zone.
    pub fn apex(&self) -> &Name {
        &self.apex
    }

    /// Its start of authority.
    pub fn soa(&self) -> &Soa {
        &self.soa
    }

    /// All sets but the SOA, in the canonical order of their names.
    pub fn sets(&self) -> impl Iterator<Item = &RecordSet> {
        self.sets.values()
    }

    /// The set of this name and kind.
    pub fn set(&self, name: &Name, kind: Kind) -> Option<&RecordSet> {
        self.sets.get(&(name.clone(), kind))
    }
}

#[cfg(test)]
pub(crate) mod tests;
