//! What can be wrong with a zone. Each fault says what to do.

use super::{Kind, MAX_CHAIN, MAX_DATA_BYTES, MAX_SET_BYTES, MAX_SET_RECORDS, MAX_SETS, MAX_TTL_S, MIN_TTL_S};
use crate::name::Name;
use thiserror::Error;

/// One fault of a zone.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[allow(missing_docs, reason = "`name` is the name at fault, `kind` the kind of its records; the texts say the rest")]
pub enum ZoneError {
    #[error("the zone has {sets} record sets, more than {MAX_SETS}: give a part of it a zone of its own")]
    TooManySets { sets: usize },
    #[error("the zone cannot be the root: name the domain that the organisation has")]
    ApexIsRoot,
    #[error("{name} is not within the zone {apex}: write it below {apex}, or as a record of its own zone")]
    OutsideApex { name: Name, apex: Name },
    #[error("{name} has a set without records: give it a record, or leave the set out")]
    EmptySet { name: Name },
    #[error("one set of {name} holds {kind} and {other} records: make a set for each kind")]
    MixedKinds { name: Name, kind: Kind, other: Kind },
    #[error("{name} {kind} stands there in two sets: put the records into one")]
    SetTwice { name: Name, kind: Kind },
    #[error("{name} {kind} has the record `{text}` twice: take one out")]
    RecordTwice { name: Name, kind: Kind, text: String },
    #[error("{name} {kind} has {records} records, more than {MAX_SET_RECORDS}: take some out")]
    TooManyRecords { name: Name, kind: Kind, records: usize },
    #[error("{name} {kind} is longer than {MAX_SET_BYTES} octets in all: take some records out")]
    SetTooLarge { name: Name, kind: Kind },
    #[error("{name} {kind} has a record longer than {MAX_DATA_BYTES} octets: shorten it")]
    RecordTooLarge { name: Name, kind: Kind },
    #[error("{name} {what} is to be kept for {ttl_s} s: choose from {MIN_TTL_S} to {MAX_TTL_S} s")]
    Ttl { name: Name, what: String, ttl_s: u32 },
    #[error("{name} has CNAME and {kind} records: a CNAME stands alone, so take it or the others out")]
    CnameBesides { name: Name, kind: Kind },
    #[error("{name} has two CNAME records: a name has one, so take the other out")]
    CnameTwice { name: Name },
    #[error(
        "{name} is the zone's own name and cannot be a CNAME: use A and AAAA records, or an HTTPS record of priority 0"
    )]
    CnameAtApex { name: Name },
    #[error("the aliases from {name} lead back to themselves: let one of them point to where the data is")]
    AliasLoop { name: Name },
    #[error("more than {MAX_CHAIN} aliases stand behind each other from {name}: let {name} point to the last one")]
    ChainTooLong { name: Name },
    #[error("{name} {kind} points to {target}, which is a CNAME: write the name that {target} points to")]
    TargetIsAlias { name: Name, kind: Kind, target: Name },
    #[error("{name} {kind} points to {target}, which does not exist: add it, or correct the name")]
    TargetMissing { name: Name, kind: Kind, target: Name },
    #[error("{name} {kind} points to {target}, which has no address: give it an A or AAAA record")]
    TargetWithoutAddress { name: Name, kind: Kind, target: Name },
    #[error("{name} has an MX record `0 .` beside others: it says that there is no mail, so take it or the others out")]
    NullMx { name: Name },
    #[error("{name} {kind} points to the root: write the name of a server")]
    TargetIsRoot { name: Name, kind: Kind },
    #[error("the zone has no NS record at {name}: add one for each of its name servers")]
    NoNameServer { name: Name },
    #[error(
        "{name} {kind} stands at or below the delegation of {cut}, whose servers alone answer there: enter it there, or take the NS records of {cut} out"
    )]
    BelowDelegation { name: Name, kind: Kind, cut: Name },
    #[error("{name} has DS records and is not delegated: add its NS records, or take the DS records out")]
    DsWithoutNs { name: Name },
    #[error("{name} is the zone's own name: its DS records belong to the zone above, so enter them at the registrar")]
    DsAtApex { name: Name },
    #[error("{name} {kind} cannot stand at a wildcard: write a name without the asterisk")]
    KindAtWildcard { name: Name, kind: Kind },
    #[error(
        "{name} has an asterisk that is not its first label alone, where it means nothing: write it in front, or leave it out"
    )]
    AsteriskInside { name: Name },
    #[error("{name} {kind} has a string longer than 255 octets: cut it into several")]
    StringTooLong { name: Name, kind: Kind },
    #[error("{name} {kind} holds no string: write at least \"\"")]
    NoString { name: Name, kind: Kind },
    #[error("{name} CAA has the flags {flags}: write 0, or 128 for what an issuer must understand")]
    CaaFlags { name: Name, flags: u8 },
    #[error("{name} CAA has the tag `{tag}`: a tag has 1 to 15 letters and digits, as issue, issuewild or iodef")]
    CaaTag { name: Name, tag: String },
    #[error("{name} CAA {tag} has the value `{value}`: write {help}")]
    CaaValue { name: Name, tag: String, value: String, help: &'static str },
    #[error(
        "{name} DS has an algorithm or digest that nothing validates: use digest type 2 (SHA-256, 64 digits) or 4 (SHA-384, 96 digits)"
    )]
    DsDigest { name: Name },
    #[error("{name} {kind}: {help}")]
    Service { name: Name, kind: Kind, help: &'static str },
    #[error(
        "{name} {kind} has an alias (priority 0) beside other records: clients would take either, so keep one kind"
    )]
    AliasBesides { name: Name, kind: Kind },
}
