//! A zone in the form that it is answered from: names with their sets in wire form, each with room for its signature.
//!
//! Signatures are made when they are first asked for. Those of sets that stand in the zone, and of the denials at names that do, are kept at
//! their place, so their memory is bounded by the zone. INVARIANT: with a name all names between it and the apex are there (empty
//! non-terminals, RFC 4592 section 2.2.2), so a walk from the apex down finds the closest encloser where it ends.

use crate::{
    dnssec::{KEY_TTL_S, KeyError, NSEC, Signed, SigningKey, SigningKeys, Window, denial, sign},
    name::Name,
    zone::{Data, Kind, Soa, Zone},
};
use arc_swap::ArcSwapOption;
use std::{collections::HashMap, sync::Arc};

pub(super) const SOA: u16 = 6;
pub(super) const NS: u16 = 2;
pub(super) const CNAME: u16 = 5;
pub(super) const DS: u16 = 43;
const DNSKEY: u16 = 48;
const CDS: u16 = 59;
const CDNSKEY: u16 = 60;

/// All records of one name and kind in wire form.
#[derive(Debug)]
pub(super) struct Set {
    pub(super) kind: u16,
    pub(super) ttl_s: u32,
    /// Canonical, in canonical order.
    pub(super) data: Vec<Vec<u8>>,
    /// Where the data points to, for the additional section: its targets in wire form.
    pub(super) targets: Vec<Name>,
    signatures: ArcSwapOption<Signatures>,
}

/// The data of the RRSIG records over a set, with the time in which they are given out.
#[derive(Debug)]
pub(super) struct Signatures {
    pub(super) data: Vec<Vec<u8>>,
    pub(super) window: Window,
}

impl Set {
    pub(super) fn new(kind: u16, ttl_s: u32, mut data: Vec<Vec<u8>>) -> Self {
        data.sort_unstable();
        Self { kind, ttl_s, data, targets: Vec::new(), signatures: ArcSwapOption::empty() }
    }
}

/// A name of the zone.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) name: Name,
    pub(super) sets: Vec<Set>,
    /// What stands there and nothing else.
    pub(super) denial: Set,
    /// Whether the zone ends here, at another one that it delegates to.
    pub(super) is_cut: bool,
}

impl Node {
    pub(super) fn set(&self, kind: u16) -> Option<&Set> {
        self.sets.iter().find(|set| set.kind == kind)
    }

    /// The kinds that a denial at this name lists.
    pub(super) fn kinds(&self) -> impl Iterator<Item = u16> {
        // Glue belongs to the zone below.
        self.sets.iter().map(|set| set.kind).filter(|kind| !self.is_cut || matches!(*kind, NS | DS))
    }
}

/// Where a name is in a tree.
pub(super) enum Place<'a> {
    /// The name, or the cut above it.
    Node(&'a Node),
    /// Nowhere; the name above it that is there.
    Below(&'a Node),
}

/// A zone with its keys, ready to be answered from.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) apex: Name,
    nodes: HashMap<Box<[u8]>, Node>,
    keys: SigningKeys,
    /// How long what does not exist may be remembered (RFC 2308 section 5).
    pub(super) negative_ttl_s: u32,
    /// Of who asks for ANY (RFC 8482).
    pub(super) hinfo: Vec<u8>,
}

impl Tree {
    pub(super) fn new(zone: &Zone, keys: SigningKeys) -> Self {
        let apex = zone.apex().clone();
        let soa = zone.soa();
        let negative_ttl_s = soa.ttl_s.min(soa.negative_ttl_s);
        let mut sets: HashMap<Name, Vec<Set>> = HashMap::new();
        sets.insert(apex.clone(), own_sets(&apex, soa, &keys));
        for set in zone.sets() {
            let Some(kind) = set.kind() else { continue };
            let mut made = Set::new(kind.number(), set.ttl_s, set.data.iter().map(Data::wire).collect());
            made.targets = set.data.iter().filter_map(|data| additional_target(&set.name, data)).collect();
            made.targets.dedup();
            sets.entry(set.name.clone()).or_default().push(made);
        }
        let names: Vec<Name> = sets.keys().cloned().collect();
        for name in names {
            for above in name.ancestors().skip(1).take_while(|above| above.is_within(&apex)) {
                sets.entry(above).or_default();
            }
        }
        let node = |(name, sets): (Name, Vec<Set>)| {
            let is_cut = name != apex && sets.iter().any(|set| set.kind == NS);
            let mut node = Node { denial: Set::new(NSEC, negative_ttl_s, Vec::new()), name, sets, is_cut };
            node.denial.data = vec![denial(&node.name, node.kinds())];
            (node.name.wire().into(), node)
        };
        let nodes = sets.into_iter().map(node).collect();
        Self { apex, nodes, keys, negative_ttl_s, hinfo: b"\x07RFC8482\0".to_vec() }
    }

    pub(super) fn node(&self, name: &[u8]) -> Option<&Node> {
        self.nodes.get(name)
    }

    /// Walks down from the apex to `name`, which is within it, and ends at the first cut.
    pub(super) fn place(&self, name: &[u8]) -> Option<Place<'_>> {
        let mut at = self.nodes.get(self.apex.wire())?;
        for start in starts_below(name, self.apex.wire().len()).iter().rev() {
            match name.get(usize::from(*start)..).and_then(|below| self.nodes.get(below)) {
                Some(node) if node.is_cut => return Some(Place::Node(node)),
                Some(node) => at = node,
                None => return Some(Place::Below(at)),
            }
        }
        Some(Place::Node(at))
    }

    /// The signatures over a set that stands at `owner`, made now or before.
    pub(super) fn signatures(&self, owner: &[u8], set: &Set, now_unix_s: i64) -> Result<Arc<Signatures>, KeyError> {
        if let Some(kept) = set.signatures.load_full()
            && kept.window.given_out.contains(&now_unix_s)
        {
            return Ok(kept);
        }
        let made = Arc::new(self.sign(owner, set, now_unix_s)?);
        set.signatures.store(Some(made.clone()));
        Ok(made)
    }

    /// Signs a set, whether or not it stands in the zone. It is kept by nobody.
    pub(super) fn sign(&self, owner: &[u8], set: &Set, now_unix_s: i64) -> Result<Signatures, KeyError> {
        let window = Window::around(now_unix_s, owner, set.kind);
        let signed = Signed { apex: self.apex.wire(), owner, kind: set.kind, ttl_s: set.ttl_s, data: &set.data };
        let by = |key: &SigningKey| sign(key, signed, &window);
        let data = match set.kind {
            // What the zone above goes by is signed by each key that it may know (RFC 7344 section 4.1).
            DNSKEY | CDS | CDNSKEY => self.keys.published().iter().map(|key| by(key)).collect::<Result<_, _>>()?,
            _ => vec![by(self.keys.signer())?],
        };
        Ok(Signatures { data, window })
    }
}

/// Where the labels of `name` begin that stand in front of its last `apex_bytes`.
fn starts_below(name: &[u8], apex_bytes: usize) -> Vec<u8> {
    let end = name.len().saturating_sub(apex_bytes);
    let mut starts = Vec::new();
    let mut at = 0;
    while at < end
        && let Some(length) = name.get(at)
    {
        // A name has 255 octets at most.
        starts.push(u8::try_from(at).unwrap_or(u8::MAX));
        at = at.saturating_add(usize::from(*length)).saturating_add(1);
    }
    starts
}

/// The sets that no person enters: SOA, DNSKEY, CDS, CDNSKEY.
fn own_sets(apex: &Name, soa: &Soa, keys: &SigningKeys) -> Vec<Set> {
    let numbers = [soa.serial, soa.refresh_s, soa.retry_s, soa.expire_s, soa.negative_ttl_s];
    let numbers = numbers.iter().flat_map(|number| number.to_be_bytes()).collect::<Vec<u8>>();
    let data = [soa.primary.wire(), soa.mailbox.wire(), &numbers].concat();
    let published = keys.published().iter().map(|key| key.dnskey().to_vec()).collect();
    vec![
        Set::new(SOA, soa.ttl_s, vec![data]),
        Set::new(DNSKEY, KEY_TTL_S, published),
        Set::new(CDS, KEY_TTL_S, vec![keys.wanted().ds(apex).wire()]),
        Set::new(CDNSKEY, KEY_TTL_S, vec![keys.wanted().dnskey().to_vec()]),
    ]
}

/// The name whose addresses are worth telling at once to who asked for `data` of `owner`.
fn additional_target(owner: &Name, data: &Data) -> Option<Name> {
    let target = data.target().filter(|_| data.kind() != Kind::Cname)?;
    let means_itself =
        target.label_count() == 0 && matches!(data, Data::Https(service) | Data::Svcb(service) if !service.is_alias());
    match target.label_count() {
        0 if means_itself => Some(owner.clone()),
        0 => None,
        _ => Some(target.clone()),
    }
}
