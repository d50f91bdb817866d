//! What a zone says to one question: RFC 1034 section 4.3.2 with aliases, wildcards (RFC 4592), referrals, and the proofs of
//! DNSSEC where they are asked for.
//!
//! What a wildcard stands for is signed under the name that was asked for, as if it stood there (RFC 9824 needs no other proof), so it cannot be
//! told from a name of its own. What must never happen here: a signature for a name that does not stand in the zone without a part of the
//! budget for it, since strangers choose such names.

use super::{
    budget::Budget,
    tree::{CNAME, DS, NS, Node, Place, SOA, Set, Signatures, Tree},
};
use crate::{
    dnssec::{KeyError, NSEC, NXNAME, RRSIG, denial},
    name::Name,
    query::Code,
    zone::{Kind, MAX_CHAIN},
};
use std::{ops::Range, sync::Arc};

const A: u16 = 1;
const AAAA: u16 = 28;
const HINFO: u16 = 13;
const ANY: u16 = 255;
/// How long the answer to ANY may be kept (RFC 8482 section 4.2 leaves it open).
const HINFO_TTL_S: u32 = 3_600;

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// The signatures of this second are used up.
    Budget,
    /// No signature can be made.
    Key(KeyError),
}

impl From<KeyError> for Failure {
    fn from(error: KeyError) -> Self {
        Self::Key(error)
    }
}

/// With what to sign, where signatures are asked for.
#[derive(Clone, Copy)]
pub(super) struct Signing<'a> {
    pub(super) now_unix_s: i64,
    /// What all askers together may have signed.
    pub(super) budget: &'a Budget,
    /// Whether this one may have one more signed; asked first, so that who has used up his share takes nothing from others.
    pub(super) may_sign: &'a dyn Fn() -> bool,
}

/// A set as it stands in an answer.
#[derive(Debug)]
pub(super) struct Shown<'a> {
    /// In wire form.
    pub(super) owner: Vec<u8>,
    pub(super) set: Kept<'a>,
    pub(super) ttl_s: u32,
    pub(super) signatures: Option<Arc<Signatures>>,
    /// Whether the signatures alone are shown, to who asked for just these.
    pub(super) signatures_alone: bool,
}

/// A set of the zone, or one that was made for this answer.
#[derive(Debug)]
pub(super) enum Kept<'a> {
    InZone(&'a Set),
    Made(Box<Set>),
}

impl Kept<'_> {
    pub(super) fn set(&self) -> &Set {
        match self {
            Self::InZone(set) => set,
            Self::Made(set) => set,
        }
    }
}

/// All that is said.
#[derive(Debug)]
pub(super) struct Response<'a> {
    pub(super) code: Code,
    pub(super) is_authoritative: bool,
    /// Whether the zone bounds how many of its kind there are: it is about names that stand there, and kinds that people ask for.
    pub(super) is_of_the_zone: bool,
    pub(super) answer: Vec<Shown<'a>>,
    pub(super) authority: Vec<Shown<'a>>,
    /// Addresses without which a referral leads nowhere (RFC 9471).
    pub(super) glue: Vec<Shown<'a>>,
    /// What would be asked for next. May be left out.
    pub(super) additional: Vec<Shown<'a>>,
    /// When its signatures are given out.
    pub(super) given_out: Range<i64>,
}

/// Answers `name`, which is within the zone, in wire form and lower case.
pub(super) fn resolve<'a>(
    tree: &'a Tree,
    name: &[u8],
    kind: u16,
    signing: Option<Signing<'_>>,
) -> Result<Response<'a>, Failure> {
    let response = Response {
        code: Code::NoError,
        is_authoritative: true,
        is_of_the_zone: false,
        answer: Vec::new(),
        authority: Vec::new(),
        glue: Vec::new(),
        additional: Vec::new(),
        given_out: i64::MIN..i64::MAX,
    };
    let mut resolving = Resolving { tree, kind, signing, is_made_up: false, response };
    let mut next = Some(name.to_vec());
    // A checked zone has no longer chain of aliases.
    for _ in 0..=MAX_CHAIN {
        let Some(name) = next else { break };
        next = resolving.look_at(&name)?;
    }
    Ok(resolving.response)
}

struct Resolving<'a, 's> {
    tree: &'a Tree,
    kind: u16,
    signing: Option<Signing<'s>>,
    /// Whether a wildcard stood for a name on the way.
    is_made_up: bool,
    response: Response<'a>,
}

impl<'a> Resolving<'a, '_> {
    /// Says what the zone has for `name`; the name to go on with if it is an alias.
    fn look_at(&mut self, name: &[u8]) -> Result<Option<Vec<u8>>, Failure> {
        match self.tree.place(name) {
            Some(Place::Node(node)) => {
                let is_at_cut = node.name.wire() == name;
                // The DS set alone is of this side of a cut (RFC 4035 section 3.1.4.1).
                if node.is_cut && !(is_at_cut && self.kind == DS) {
                    self.refer(node)?;
                    return Ok(None);
                }
                self.take(node, name, false)
            }
            Some(Place::Below(encloser)) => {
                let wildcard = encloser.name.child(b"*").and_then(|wildcard| self.tree.node(wildcard.wire()));
                match wildcard {
                    Some(node) => self.take(node, name, true),
                    None => self.deny(name).map(|()| None),
                }
            }
            // A tree has its apex.
            None => Ok(None),
        }
    }

    /// Answers `name` with what stands at `node`: its own, or a wildcard's.
    fn take(&mut self, node: &'a Node, name: &[u8], is_wildcard: bool) -> Result<Option<Vec<u8>>, Failure> {
        self.is_made_up |= is_wildcard;
        if matches!(self.kind, NSEC | RRSIG) {
            let mut denial = self.denial_at(node, name, is_wildcard)?;
            denial.signatures_alone = self.kind == RRSIG;
            self.response.answer.push(denial);
            return Ok(None);
        }
        if self.kind != CNAME
            && let Some(alias) = node.set(CNAME)
        {
            let shown = self.shown(alias, name, is_wildcard)?;
            self.response.answer.push(shown);
            let target = alias.data.first().and_then(|target| Name::from_wire(target));
            let target = target.filter(|target| self.kind != ANY && target.is_within(&self.tree.apex));
            self.response.is_of_the_zone = target.is_none() && self.is_bounded();
            return Ok(target.map(|target| target.wire().to_vec()));
        }
        if self.kind == ANY && !node.sets.is_empty() {
            let hinfo = Set::new(HINFO, HINFO_TTL_S, vec![self.tree.hinfo.clone()]);
            let shown = self.made(hinfo, name)?;
            self.response.answer.push(shown);
            return Ok(None);
        }
        let Some(set) = node.set(self.kind) else {
            let denial = if self.signing.is_some() { Some(self.denial_at(node, name, is_wildcard)?) } else { None };
            self.say_nothing(denial)?;
            self.response.is_of_the_zone = self.is_bounded();
            return Ok(None);
        };
        let shown = self.shown(set, name, is_wildcard)?;
        self.response.is_of_the_zone = !self.is_made_up;
        self.response.answer.push(shown);
        self.add_addresses(set)?;
        Ok(None)
    }

    /// Whether names that stand in the zone and kinds that people ask for are all that led here, data or not: half of what browsers ask
    /// for is not there. Of all kinds there are 65,536.
    fn is_bounded(&self) -> bool {
        !self.is_made_up && Kind::ALL.iter().any(|(.., number)| *number == self.kind)
    }

    /// The name does not exist.
    fn deny(&mut self, name: &[u8]) -> Result<(), Failure> {
        let Some(whole) = Name::from_wire(name).filter(|_| self.signing.is_some()) else {
            self.response.code = Code::NxDomain;
            return self.say_nothing(None);
        };
        let set = Set::new(NSEC, self.tree.negative_ttl_s, vec![denial(&whole, [NXNAME])]);
        let denial = self.made(set, name)?;
        self.say_nothing(Some(denial))
    }

    fn say_nothing(&mut self, denial: Option<Shown<'a>>) -> Result<(), Failure> {
        if let Some((apex, soa)) = self.tree.node(self.tree.apex.wire()).and_then(|apex| Some((apex, apex.set(SOA)?))) {
            let mut shown = self.shown(soa, apex.name.wire(), false)?;
            shown.ttl_s = self.tree.negative_ttl_s;
            self.response.authority.push(shown);
        }
        self.response.authority.extend(denial);
        Ok(())
    }

    /// Sends on to the servers of a zone below.
    fn refer(&mut self, cut: &'a Node) -> Result<(), Failure> {
        let Some(servers) = cut.set(NS) else { return Ok(()) };
        self.response.is_authoritative = !self.response.answer.is_empty();
        self.response.authority.push(unsigned(servers, cut.name.wire()));
        if self.signing.is_some() {
            let proof = cut.set(DS).unwrap_or(&cut.denial);
            let shown = self.shown(proof, cut.name.wire(), false)?;
            self.response.authority.push(shown);
        }
        for server in servers.targets.iter().filter(|server| server.is_within(&self.tree.apex)) {
            let Some(node) = self.tree.node(server.wire()) else { continue };
            let addresses = [A, AAAA].into_iter().filter_map(|kind| node.set(kind));
            let shown = addresses.map(|set| unsigned(set, server.wire()));
            if server.is_within(&cut.name) {
                self.response.glue.extend(shown);
            } else {
                self.response.additional.extend(shown);
            }
        }
        Ok(())
    }

    /// Adds the addresses of what a set points to, as far as this zone has them.
    fn add_addresses(&mut self, set: &'a Set) -> Result<(), Failure> {
        for target in set.targets.iter().filter(|target| target.is_within(&self.tree.apex)) {
            let Some(Place::Node(node)) = self.tree.place(target.wire()) else { continue };
            let is_told = self.response.additional.iter().any(|shown| shown.owner == target.wire());
            // Whose own name a wildcard's data means is not the wildcard.
            if node.is_cut || is_told || target.is_wildcard() {
                continue;
            }
            for addresses in [A, AAAA].into_iter().filter_map(|kind| node.set(kind)) {
                let shown = self.shown(addresses, target.wire(), false)?;
                self.response.additional.push(shown);
            }
        }
        Ok(())
    }

    /// What denies all else at a name: what is kept there, or made where a wildcard stands for it.
    fn denial_at(&mut self, node: &'a Node, name: &[u8], is_wildcard: bool) -> Result<Shown<'a>, Failure> {
        match Name::from_wire(name).filter(|_| is_wildcard) {
            Some(whole) => {
                let set = Set::new(NSEC, self.tree.negative_ttl_s, vec![denial(&whole, node.kinds())]);
                self.made(set, name)
            }
            None => self.shown(&node.denial, name, false),
        }
    }

    /// A set of the zone under its own name, or under one that a wildcard stands for.
    fn shown(&mut self, set: &'a Set, owner: &[u8], is_wildcard: bool) -> Result<Shown<'a>, Failure> {
        let mut shown = unsigned(set, owner);
        shown.signatures = match self.signing {
            None => None,
            Some(_) if is_wildcard => Some(self.sign_anew(set, owner)?),
            Some(signing) => Some(self.tree.signatures(owner, set, signing.now_unix_s)?),
        };
        self.narrow(shown.signatures.as_deref());
        Ok(shown)
    }

    /// A set that was made for this answer.
    fn made(&mut self, set: Set, owner: &[u8]) -> Result<Shown<'a>, Failure> {
        let signatures = if self.signing.is_some() { Some(self.sign_anew(&set, owner)?) } else { None };
        self.narrow(signatures.as_deref());
        let (ttl_s, set) = (set.ttl_s, Kept::Made(Box::new(set)));
        Ok(Shown { owner: owner.to_vec(), set, ttl_s, signatures, signatures_alone: false })
    }

    fn sign_anew(&self, set: &Set, owner: &[u8]) -> Result<Arc<Signatures>, Failure> {
        let has_share = |signing: &Signing<'_>| (signing.may_sign)() && signing.budget.take(signing.now_unix_s);
        let signing = self.signing.filter(has_share).ok_or(Failure::Budget)?;
        Ok(Arc::new(self.tree.sign(owner, set, signing.now_unix_s)?))
    }

    /// The answer is kept no longer than the signature with the shortest time left.
    fn narrow(&mut self, signatures: Option<&Signatures>) {
        if let Some(Signatures { window, .. }) = signatures {
            let kept = &mut self.response.given_out;
            *kept = kept.start.max(window.given_out.start)..kept.end.min(window.given_out.end);
        }
    }
}

fn unsigned<'a>(set: &'a Set, owner: &[u8]) -> Shown<'a> {
    let (owner, ttl_s) = (owner.to_vec(), set.ttl_s);
    Shown { owner, set: Kept::InZone(set), ttl_s, signatures: None, signatures_alone: false }
}
