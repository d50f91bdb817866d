//! The records that the server keeps right by itself, and how those that people entered join them.
//!
//! Pure: what is served follows from the plan, from what was entered, and from the [`Moment`]. What must never happen here: a zone
//! that lacks what the server needs because of something that somebody entered, or the server's own certificate authority shut
//! out by a CAA record.

use crate::{
    ech::RECORD_TTL_S,
    settings::{DomainPlan, Plan},
};
use std::collections::{BTreeMap, BTreeSet};
use sys_dns::zone::{Data, Kind, Name, Parameter, RecordSet, Service, Soa, Zone, ZoneError};

/// How long others may keep where the server is: short, since who moves it wants to be found.
const ADDRESS_TTL_S: u32 = 300;
/// How long they may keep what hardly ever changes: name servers, start of authority, CAA.
const STEADY_TTL_S: u32 = 3_600;
/// How long they may keep a proof for a certificate authority, which is gone in a minute.
const PROOF_TTL_S: u32 = 30;
/// How long they may keep that something does not exist: what is entered next is seen after it.
const NEGATIVE_TTL_S: u32 = 300;
/// What the listener speaks, in the words of ALPN.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];
/// The label below which certificate authorities look for proofs (RFC 8555 section 8.4).
const PROOF_LABEL: &[u8] = b"_acme-challenge";

/// What changes by itself in the server's own records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Moment {
    /// ECHConfigLists: one for each public name, which comes first in it. The hosts take them in turn.
    pub(crate) ech: Vec<Vec<u8>>,
    /// Proofs for certificate authorities: where, and what.
    pub(crate) proofs: BTreeSet<(Name, String)>,
}

/// The server's own sets in the zone of a domain.
pub(crate) fn sets(plan: &Plan, domain: &DomainPlan, moment: &Moment) -> Vec<RecordSet> {
    let mut sets = BTreeMap::new();
    let mut keep = |name: &Name, ttl_s: u32, data: Vec<Data>| {
        if let Some(kind) = data.first().map(Data::kind) {
            sets.insert((name.clone(), kind), RecordSet { name: name.clone(), ttl_s, data });
        }
    };
    let servers = domain.name_servers.iter();
    keep(&domain.apex, STEADY_TTL_S, servers.clone().cloned().map(Data::Ns).collect());
    let within = servers.filter(|name| name.is_within(&domain.apex));
    for name in domain.hosts.iter().chain(&domain.public_names).chain(within) {
        keep(name, ADDRESS_TTL_S, plan.ipv4.iter().copied().map(Data::A).collect());
        keep(name, ADDRESS_TTL_S, plan.ipv6.iter().copied().map(Data::Aaaa).collect());
    }
    for (at, host) in domain.hosts.iter().enumerate() {
        let list = moment.ech.get(at.checked_rem(moment.ech.len()).unwrap_or_default());
        if let Some((owner, service)) = service(plan, host, list) {
            keep(&owner, RECORD_TTL_S, vec![Data::Https(service)]);
        }
    }
    keep(&domain.apex, STEADY_TTL_S, plan.authorities.iter().map(|authority| issue("issue", authority)).collect());
    let mut proofs: BTreeMap<&Name, Vec<Data>> = BTreeMap::new();
    for (name, value) in moment.proofs.iter().filter(|(name, _)| name.is_within(&domain.apex)) {
        proofs.entry(name).or_default().push(Data::Txt(vec![value.clone().into_bytes()]));
    }
    for (name, data) in proofs {
        keep(name, PROOF_TTL_S, data);
    }
    sets.into_values().collect()
}

/// The record that says how a host is reached (RFC 9460), and its name. On another port than 443 it stands below the port, and names
/// the host as its target: some clients do not find it otherwise.
fn service(plan: &Plan, host: &Name, ech: Option<&Vec<u8>>) -> Option<(Name, Service)> {
    let (owner, target) = match plan.https_port {
        443 => (host.clone(), Name::root()),
        port => (host.child(b"_https")?.child(format!("_{port}").as_bytes())?, host.clone()),
    };
    let mut parameters = vec![Parameter::Alpn(ALPN.iter().map(|protocol| protocol.to_vec()).collect())];
    if !plan.ipv4.is_empty() {
        parameters.push(Parameter::Ipv4Hint(plan.ipv4.clone()));
    }
    parameters.extend(ech.filter(|list| !list.is_empty()).cloned().map(Parameter::Ech));
    if !plan.ipv6.is_empty() {
        parameters.push(Parameter::Ipv6Hint(plan.ipv6.clone()));
    }
    Some((owner, Service { priority: 1, target, parameters }))
}

/// Why nobody enters records of this name and kind; `None` if anybody may.
pub(crate) fn kept_by_server(plan: &Plan, domain: &DomainPlan, name: &Name, kind: Kind) -> Option<&'static str> {
    if kind == Kind::Caa {
        // What people enter joins what the server needs.
        return None;
    }
    let is_proof = name.labels().next() == Some(PROOF_LABEL);
    if is_proof && name.parent().is_some_and(|proven| domain.proves(&proven)) {
        return Some("the server proves the domain to certificate authorities there");
    }
    let example = Moment { ech: vec![Vec::new()], proofs: BTreeSet::new() };
    let is_own = sets(plan, domain, &example).iter().any(|set| set.name == *name && set.kind() == Some(kind));
    is_own.then_some(match kind {
        Kind::Ns => "the name servers of the domain are this server's, by its settings",
        Kind::A | Kind::Aaaa => "the server is reached there; its addresses are in its settings (--public-address)",
        _ => "it says how the server is reached and changes with the ECH keys",
    })
}

impl DomainPlan {
    /// Whether certificates are asked for with this name.
    fn proves(&self, name: &Name) -> bool {
        self.hosts.iter().chain(&self.public_names).any(|own| own == name)
    }
}

/// What people entered for a zone together with what the server keeps.
#[derive(Debug)]
pub(crate) struct Merged {
    pub(crate) sets: Vec<RecordSet>,
    /// Entered, and not served, since the server keeps that by itself: entered before the settings said so.
    pub(crate) hidden: Vec<(Name, Kind)>,
}

/// Joins the two.
pub(crate) fn merged(plan: &Plan, own: Vec<RecordSet>, entered: &[RecordSet]) -> Merged {
    let key = |set: &RecordSet| Some((set.name.clone(), set.kind()?));
    let mut sets: BTreeMap<(Name, Kind), RecordSet> =
        own.into_iter().filter_map(|set| Some((key(&set)?, set))).collect();
    let mut hidden = Vec::new();
    for set in entered {
        let Some(key) = key(set) else { continue };
        match (key.1, sets.get_mut(&key)) {
            (Kind::Caa, own) => {
                let is_apex = own.is_some();
                sets.insert(key, with_authorities(set.clone(), &plan.authorities, is_apex));
            }
            (_, Some(_)) => hidden.push(key),
            (_, None) => drop(sets.insert(key, set.clone())),
        }
    }
    Merged { sets: sets.into_values().collect(), hidden }
}

/// A set of CAA records that lets the server's own authorities issue what they would without it.
fn with_authorities(mut set: RecordSet, authorities: &[String], restricts: bool) -> RecordSet {
    let has = |set: &RecordSet, tag: &str| {
        set.data.iter().any(|data| matches!(data, Data::Caa { tag: own, .. } if own == tag))
    };
    for (tag, needed) in [("issue", restricts || has(&set, "issue")), ("issuewild", has(&set, "issuewild"))] {
        let missing = authorities.iter().map(|authority| issue(tag, authority));
        let missing: Vec<Data> = missing.filter(|data| needed && !set.data.contains(data)).collect();
        set.data.extend(missing);
    }
    set
}

fn issue(tag: &str, authority: &str) -> Data {
    Data::Caa { flags: 0, tag: tag.to_owned(), value: authority.to_owned() }
}

/// The start of authority of a domain's zone.
pub(crate) fn soa(domain: &DomainPlan, serial: u32) -> Soa {
    let apex = &domain.apex;
    Soa {
        primary: domain.name_servers.first().unwrap_or(apex).clone(),
        mailbox: apex.child(b"hostmaster").unwrap_or_else(|| apex.clone()),
        serial,
        refresh_s: 3_600,
        retry_s: 600,
        expire_s: 14 * 86_400,
        negative_ttl_s: NEGATIVE_TTL_S,
        ttl_s: STEADY_TTL_S,
    }
}

/// What is served of a zone that has faults.
#[derive(Debug)]
pub(crate) struct Built {
    pub(crate) zone: Zone,
    /// Entered and left out, since the server keeps that by itself.
    pub(crate) hidden: Vec<(Name, Kind)>,
    /// Why some of what was entered is not served.
    pub(crate) faults: Vec<ZoneError>,
}

/// The zone of all that is there. What was entered when the settings were others may not fit any more: then what stands at the
/// server's own names is left out, and if that is not enough all of it, so that the server is found whatever was entered. `Err` if
/// even its own records make no zone.
pub(crate) fn build(
    plan: &Plan,
    domain: &DomainPlan,
    own: &[RecordSet],
    entered: &[RecordSet],
    serial: u32,
) -> Result<Built, Vec<ZoneError>> {
    let whole = merged(plan, own.to_vec(), entered);
    let zone = |sets| Zone::build(domain.apex.clone(), sets, soa(domain, serial));
    let faults = match zone(whole.sets) {
        Ok(zone) => return Ok(Built { zone, hidden: whole.hidden, faults: Vec::new() }),
        Err(faults) => faults,
    };
    let beside: Vec<RecordSet> =
        entered.iter().filter(|set| own.iter().all(|own| own.name != set.name)).cloned().collect();
    let built = zone(merged(plan, own.to_vec(), &beside).sets).or_else(|_| zone(own.to_vec()))?;
    Ok(Built { zone: built, hidden: whole.hidden, faults })
}

/// The faults that a change brings: those that were there before it are no reason to refuse it, since it may be one step of
/// many that put them right.
pub(crate) fn new_faults(
    plan: &Plan,
    domain: &DomainPlan,
    own: &[RecordSet],
    before: &[RecordSet],
    after: &[RecordSet],
) -> Vec<ZoneError> {
    let faults = |entered: &[RecordSet]| {
        let sets = merged(plan, own.to_vec(), entered).sets;
        Zone::build(domain.apex.clone(), sets, soa(domain, 1)).err().unwrap_or_default()
    };
    let old = faults(before);
    faults(after).into_iter().filter(|fault| !old.contains(fault)).collect()
}

#[cfg(test)]
mod tests;
