//! What must hold in a zone: of each set by itself ([`sets_alone`]), and of all of them together ([`Together`]).
//!
//! Every fault is found, not the first one alone, so that people mend a zone once. RFC 1034 section 3.6.2 and RFC 2181 section
//! 10 (aliases and targets), RFC 4592 (wildcards), RFC 4035 section 2 (DS and NS), RFC 7505, RFC 8659, RFC 9460.

mod caa;

use super::{
    Data, Kind, MAX_CHAIN, MAX_DATA_BYTES, MAX_SET_BYTES, MAX_SET_RECORDS, MAX_STRING_BYTES, MAX_TTL_S, MIN_TTL_S,
    RecordSet, Soa, ZoneError,
};
use crate::name::Name;
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// The faults of sets that each has by itself.
pub(super) fn sets_alone(apex: &Name, sets: &[RecordSet], soa: &Soa, faults: &mut Vec<ZoneError>) {
    if apex.label_count() == 0 {
        faults.push(ZoneError::ApexIsRoot);
    }
    check_ttl(apex, "SOA".to_owned(), soa.ttl_s, faults);
    check_ttl(apex, "SOA minimum".to_owned(), soa.negative_ttl_s, faults);
    for set in sets {
        check_name(apex, &set.name, faults);
        let Some(kind) = set.kind() else {
            faults.push(ZoneError::EmptySet { name: set.name.clone() });
            continue;
        };
        check_ttl(&set.name, kind.to_string(), set.ttl_s, faults);
        check_size(set, kind, faults);
        check_kinds(set, kind, faults);
        set.data.iter().for_each(|data| check_data(&set.name, data, faults));
    }
}

fn check_name(apex: &Name, name: &Name, faults: &mut Vec<ZoneError>) {
    if !name.is_within(apex) {
        faults.push(ZoneError::OutsideApex { name: name.clone(), apex: apex.clone() });
    }
    let mut labels = name.labels();
    let has_asterisk = |label: &[u8]| label.contains(&b'*');
    let first = labels.next().unwrap_or_default();
    if (has_asterisk(first) && first != b"*") || labels.any(has_asterisk) {
        faults.push(ZoneError::AsteriskInside { name: name.clone() });
    }
}

fn check_ttl(name: &Name, what: String, ttl_s: u32, faults: &mut Vec<ZoneError>) {
    if !(MIN_TTL_S..=MAX_TTL_S).contains(&ttl_s) {
        faults.push(ZoneError::Ttl { name: name.clone(), what, ttl_s });
    }
}

fn check_size(set: &RecordSet, kind: Kind, faults: &mut Vec<ZoneError>) {
    let name = || set.name.clone();
    if set.data.len() > MAX_SET_RECORDS {
        faults.push(ZoneError::TooManyRecords { name: name(), kind, records: set.data.len() });
        return;
    }
    let sizes: Vec<usize> = set.data.iter().map(|data| data.wire().len()).collect();
    if sizes.iter().any(|size| *size > MAX_DATA_BYTES) {
        faults.push(ZoneError::RecordTooLarge { name: name(), kind });
    }
    if sizes.iter().sum::<usize>() > MAX_SET_BYTES {
        faults.push(ZoneError::SetTooLarge { name: name(), kind });
    }
    let mut seen = HashSet::new();
    for data in set.data.iter().filter(|data| !seen.insert(data.wire())) {
        faults.push(ZoneError::RecordTwice { name: name(), kind, text: data.to_string() });
    }
}

fn check_kinds(set: &RecordSet, kind: Kind, faults: &mut Vec<ZoneError>) {
    let name = || set.name.clone();
    if let Some(other) = set.data.iter().map(Data::kind).find(|other| *other != kind) {
        faults.push(ZoneError::MixedKinds { name: name(), kind, other });
    }
    let has_several = set.data.len() > 1;
    if kind == Kind::Cname && has_several {
        faults.push(ZoneError::CnameTwice { name: name() });
    }
    let is_null_mx = |data: &Data| matches!(data, Data::Mx { exchange, .. } if exchange.label_count() == 0);
    if has_several && set.data.iter().any(is_null_mx) {
        faults.push(ZoneError::NullMx { name: name() });
    }
    let is_alias = |data: &Data| matches!(data, Data::Https(service) | Data::Svcb(service) if service.is_alias());
    if has_several && set.data.iter().any(is_alias) {
        faults.push(ZoneError::AliasBesides { name: name(), kind });
    }
    if set.name.is_wildcard() && matches!(kind, Kind::Ns | Kind::Ds) {
        faults.push(ZoneError::KindAtWildcard { name: name(), kind });
    }
}

fn check_data(name: &Name, data: &Data, faults: &mut Vec<ZoneError>) {
    let kind = data.kind();
    let owner = || name.clone();
    match data {
        Data::Txt(strings) if strings.is_empty() => faults.push(ZoneError::NoString { name: owner(), kind }),
        Data::Txt(strings) if strings.iter().any(|string| string.len() > MAX_STRING_BYTES) => {
            faults.push(ZoneError::StringTooLong { name: owner(), kind });
        }
        Data::Caa { flags, tag, value } => caa::check(name, *flags, tag, value, faults),
        Data::Ns(target) | Data::Cname(target) if target.label_count() == 0 => {
            faults.push(ZoneError::TargetIsRoot { name: owner(), kind });
        }
        // SHA-1 (1) and GOST (3) validate nothing any more (RFC 8624).
        Data::Ds { digest_type, digest, algorithm, .. }
            if !matches!((digest_type, digest.len()), (2, 32) | (4, 48)) || *algorithm == 0 =>
        {
            faults.push(ZoneError::DsDigest { name: owner() });
        }
        Data::Https(service) | Data::Svcb(service) => {
            faults.extend(service.faults().into_iter().map(|help| ZoneError::Service { name: owner(), kind, help }));
        }
        _ => {}
    }
}

/// How a name stands in the zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Not of this zone, or of one that is delegated: nothing is known of it.
    Elsewhere,
    /// Neither there nor covered by a wildcard.
    Missing,
    /// There, by itself or by a wildcard, with the sets of the name that is in the index.
    There,
}

/// All sets of a zone, by name and kind.
pub(super) struct Together<'a> {
    apex: &'a Name,
    sets: &'a BTreeMap<(Name, Kind), RecordSet>,
    /// Names with records and all between them and the apex (empty non-terminals).
    names: BTreeSet<Name>,
    /// Names below the apex that have NS records.
    cuts: BTreeSet<&'a Name>,
}

impl<'a> Together<'a> {
    pub(super) fn new(apex: &'a Name, sets: &'a BTreeMap<(Name, Kind), RecordSet>) -> Self {
        let within = sets.keys().filter(|(name, _)| name.is_within(apex));
        let mut names = BTreeSet::from([apex.clone()]);
        for (name, _) in within.clone() {
            // Once a name is there, all above it are.
            names.extend(
                name.ancestors().take_while(|above| above != apex && !names.contains(above)).collect::<Vec<_>>(),
            );
        }
        let cuts = within.filter(|(name, kind)| *kind == Kind::Ns && name != apex).map(|(name, _)| name).collect();
        Self { apex, sets, names, cuts }
    }

    pub(super) fn check(&self, faults: &mut Vec<ZoneError>) {
        if !self.has(self.apex, Kind::Ns) {
            faults.push(ZoneError::NoNameServer { name: self.apex.clone() });
        }
        for ((name, kind), set) in self.sets {
            self.check_place(name, *kind, faults);
            if *kind == Kind::Cname
                || matches!(set.data.first(), Some(Data::Https(alias) | Data::Svcb(alias)) if alias.is_alias())
            {
                self.check_chain(name, *kind, faults);
            }
            // Two records of one target are one fault.
            let targets: BTreeSet<&Name> = set.data.iter().filter_map(Data::target).collect();
            targets.into_iter().for_each(|target| self.check_target(name, *kind, target, faults));
        }
    }

    fn has(&self, name: &Name, kind: Kind) -> bool {
        self.sets.contains_key(&(name.clone(), kind))
    }

    /// The delegation that a name stands at or below.
    fn cut_over(&self, name: &Name) -> Option<Name> {
        name.ancestors().take_while(|above| above != self.apex).filter(|above| self.cuts.contains(above)).last()
    }

    /// Whether this kind may stand at this name beside the others that do.
    fn check_place(&self, name: &Name, kind: Kind, faults: &mut Vec<ZoneError>) {
        let owner = || name.clone();
        let is_apex = name == self.apex;
        if kind == Kind::Cname {
            if is_apex {
                faults.push(ZoneError::CnameAtApex { name: owner() });
            }
            let others = Kind::ALL
                .iter()
                .map(|(other, ..)| *other)
                .filter(|other| *other != Kind::Cname && self.has(name, *other));
            faults.extend(others.map(|kind| ZoneError::CnameBesides { name: owner(), kind }));
        }
        if kind == Kind::Ds && is_apex {
            faults.push(ZoneError::DsAtApex { name: owner() });
        } else if kind == Kind::Ds && !self.has(name, Kind::Ns) {
            faults.push(ZoneError::DsWithoutNs { name: owner() });
        }
        let Some(cut) = self.cut_over(name).filter(|_| name.is_within(self.apex)) else { return };
        let is_of_the_cut = *name == cut && matches!(kind, Kind::Ns | Kind::Ds);
        let is_glue = matches!(kind, Kind::A | Kind::Aaaa) && self.is_name_server_of(&cut, name);
        if !is_of_the_cut && !is_glue {
            faults.push(ZoneError::BelowDelegation { name: owner(), kind, cut });
        }
    }

    fn is_name_server_of(&self, cut: &Name, name: &Name) -> bool {
        let servers = self.sets.get(&(cut.clone(), Kind::Ns));
        servers.is_some_and(|set| set.data.iter().any(|data| data.target() == Some(name)))
    }

    /// How a name stands, and whose records it answers with: its own, or those of a wildcard.
    fn standing(&self, name: &Name) -> (Standing, Name) {
        if !name.is_within(self.apex) || self.cut_over(name).is_some() {
            return (Standing::Elsewhere, name.clone());
        }
        if self.names.contains(name) {
            return (Standing::There, name.clone());
        }
        let encloser = name.ancestors().find(|above| self.names.contains(above));
        match encloser.and_then(|encloser| encloser.child(b"*")).filter(|wildcard| self.names.contains(wildcard)) {
            Some(wildcard) => (Standing::There, wildcard),
            None => (Standing::Missing, name.clone()),
        }
    }

    /// Whether what a record points to can be reached there.
    fn check_target(&self, name: &Name, kind: Kind, target: &Name, faults: &mut Vec<ZoneError>) {
        // The root says that there is nothing, or means the record's own name.
        if target.label_count() == 0 {
            return;
        }
        let fault = |fault: fn(Name, Kind, Name) -> ZoneError| fault(name.clone(), kind, target.clone());
        let is_server = matches!(kind, Kind::Mx | Kind::Srv | Kind::Ns);
        let (standing, source) = self.standing(target);
        match standing {
            Standing::Elsewhere => {
                // A name server of the very zone that it serves is found by its address here alone.
                let is_glue_missing =
                    kind == Kind::Ns && name != self.apex && target.is_within(name) && !self.has_address(target);
                if is_glue_missing {
                    faults.push(fault(|name, kind, target| ZoneError::TargetWithoutAddress { name, kind, target }));
                }
            }
            Standing::Missing => {
                faults.push(fault(|name, kind, target| ZoneError::TargetMissing { name, kind, target }))
            }
            Standing::There if is_server && self.has(&source, Kind::Cname) => {
                faults.push(fault(|name, kind, target| ZoneError::TargetIsAlias { name, kind, target }));
            }
            Standing::There if is_server && !self.has_address(&source) => {
                faults.push(fault(|name, kind, target| ZoneError::TargetWithoutAddress { name, kind, target }));
            }
            Standing::There => {}
        }
    }

    fn has_address(&self, name: &Name) -> bool {
        self.has(name, Kind::A) || self.has(name, Kind::Aaaa)
    }

    /// Follows aliases from `start`: CNAMEs, and those of `kind` where that is HTTPS or SVCB. Who asks for it follows both.
    fn check_chain(&self, start: &Name, kind: Kind, faults: &mut Vec<ZoneError>) {
        let mut seen = HashSet::from([start.clone()]);
        let mut at = start.clone();
        for _ in 0..MAX_CHAIN {
            let (standing, source) = self.standing(&at);
            if standing != Standing::There {
                return;
            }
            match self.alias(&source, kind) {
                Some(next) => at = next.clone(),
                None => return,
            }
            if !seen.insert(at.clone()) {
                faults.push(ZoneError::AliasLoop { name: start.clone() });
                return;
            }
        }
        if let (Standing::There, source) = self.standing(&at)
            && self.alias(&source, kind).is_some()
        {
            faults.push(ZoneError::ChainTooLong { name: start.clone() });
        }
    }

    /// The name that `name` is an alias of, for who asks it for `kind`.
    fn alias(&self, name: &Name, kind: Kind) -> Option<&Name> {
        let first = |kind| self.sets.get(&(name.clone(), kind)).and_then(|set| set.data.first());
        if let Some(Data::Cname(target)) = first(Kind::Cname) {
            return Some(target);
        }
        match first(kind) {
            Some(Data::Https(service) | Data::Svcb(service))
                if service.is_alias() && service.target.label_count() > 0 =>
            {
                Some(&service.target)
            }
            _ => None,
        }
    }
}
