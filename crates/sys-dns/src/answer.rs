//! Answers from all zones that are served: found in a cache, or resolved, signed and written.
//!
//! A question is answered from one state of all zones, which is swapped whole, with its cache. What must never happen here: an answer that is kept
//! beyond its signatures, or memory and signatures that strangers can have more and more of by thinking of names
//! (`answer/cache.rs`, `answer/budget.rs`). Messages are read in `query.rs`; who may be answered how often is decided in `respond.rs`.

mod budget;
mod cache;
mod message;
mod resolve;
mod tree;

use crate::{
    dnssec::{RRSIG, SigningKeys},
    query::{Code, MOST_UDP_BYTES, OPT_BYTES, Query, write_opt},
    respond::{Answered, Authority, Clock},
    seldom::Seldom,
    zone::Zone,
};
use arc_swap::ArcSwap;
use budget::Budget;
use cache::{Cache, Key};
use message::{Entry, encode};
use resolve::{Failure, Signing, resolve};
use std::{collections::HashMap, fmt, sync::Arc};
use tree::{DS, Tree};

/// A zone and the keys that sign it.
#[derive(Debug, Clone)]
pub struct SignedZone {
    /// What is in it.
    pub zone: Zone,
    /// What signs it.
    pub keys: SigningKeys,
}

/// All zones that are served. Clones share them.
#[derive(Clone)]
pub struct Answers(Arc<Shared>);

struct Shared {
    state: ArcSwap<State>,
    clock: Clock,
    /// Of signatures over names that strangers made up: for datagrams, and for streams, so that a flood of the former leaves the
    /// latter alone, to which it sends everybody.
    datagrams: Budget,
    streams: Budget,
    unsigned: Seldom,
}

/// The zones at one moment.
struct State {
    /// By apex in wire form.
    trees: HashMap<Box<[u8]>, Tree>,
    /// Octets of the longest apex: a longer name is none, so that names of many labels cost no look at each.
    longest_apex: usize,
    cache: Cache,
}

impl Answers {
    /// No zones; every question is refused.
    pub fn new(clock: Clock) -> Self {
        let state = ArcSwap::from_pointee(State::new(HashMap::new()));
        let (datagrams, streams) = (Budget::default(), Budget::default());
        Self(Arc::new(Shared { state, clock, datagrams, streams, unsigned: Seldom::default() }))
    }

    /// Serves these zones from now on, and no other. Of two with one apex the latter is served.
    pub fn serve(&self, zones: Vec<SignedZone>) {
        let trees =
            zones.into_iter().map(|SignedZone { zone, keys }| (zone.apex().wire().into(), Tree::new(&zone, keys)));
        self.0.state.store(Arc::new(State::new(trees.collect())));
    }
}

impl Authority for Answers {
    fn answer(&self, query: &Query<'_>, most_bytes: usize, may_sign: &dyn Fn() -> bool, out: &mut Vec<u8>) -> Answered {
        let now_unix_s = (self.0.clock)();
        let state = self.0.state.load();
        let Some(key) = Key::new(query.name(), query.kind, query.wants_dnssec()) else {
            query.write_empty(Code::FormErr, false, false, out);
            return Answered::default();
        };
        if let Some(entry) = state.cache.get(&key, now_unix_s) {
            return put(&entry, query, most_bytes, out);
        }
        let Some(tree) = state.tree(query.name(), query.kind) else {
            query.write_empty(Code::Refused, false, false, out);
            return Answered::default();
        };
        let is_datagram = most_bytes <= usize::from(MOST_UDP_BYTES);
        let budget = if is_datagram { &self.0.datagrams } else { &self.0.streams };
        // Who asks for signatures by their kind wants them, whatever else he says.
        let is_signed = query.wants_dnssec() || query.kind == RRSIG;
        let signing = is_signed.then_some(Signing { now_unix_s, budget, may_sign });
        match resolve(tree, query.name(), query.kind, signing) {
            Ok(response) => {
                let entry = Arc::new(encode(&response, query.name(), query.kind));
                state.cache.put(&key, &entry);
                put(&entry, query, most_bytes, out)
            }
            Err(failure) => {
                self.0.fail(failure, is_datagram, query, now_unix_s, out);
                Answered::default()
            }
        }
    }
}

impl State {
    fn new(trees: HashMap<Box<[u8]>, Tree>) -> Self {
        let longest_apex = trees.keys().map(|apex| apex.len()).max().unwrap_or(0);
        Self { trees, longest_apex, cache: Cache::new() }
    }

    /// The zone that answers: the lowest one that the name is within. A zone's DS set is of the zone above, if that is here, too.
    fn tree(&self, name: &[u8], kind: u16) -> Option<&Tree> {
        let mut rest = name;
        let mut own = None;
        loop {
            match self.trees.get(rest).filter(|_| rest.len() <= self.longest_apex) {
                Some(tree) if kind == DS && rest.len() == name.len() => own = Some(tree),
                Some(tree) => return Some(tree),
                None => {}
            }
            match rest.split_first() {
                Some((&length @ 1.., behind)) => rest = behind.get(usize::from(length)..)?,
                _ => return own,
            }
        }
    }
}

impl Shared {
    /// Sends datagrams to TCP, where a source is proven and the budget is another one; says else that it failed, for a moment.
    fn fail(&self, failure: Failure, is_datagram: bool, query: &Query<'_>, now_unix_s: i64, out: &mut Vec<u8>) {
        match failure {
            Failure::Budget if is_datagram => query.write_empty(Code::NoError, true, true, out),
            Failure::Budget => query.write_empty(Code::ServFail, false, false, out),
            Failure::Key(error) => {
                if let Some(answers) = self.unsigned.happened(now_unix_s) {
                    tracing::error!(%error, answers, "DNS answers could not be signed; this is said once a minute");
                }
                query.write_empty(Code::ServFail, false, false, out);
            }
        }
    }
}

/// Writes an answer that is for everybody to the one who asked: with his id, flags and spelling, as far as it fits.
fn put(entry: &Entry, query: &Query<'_>, most_bytes: usize, out: &mut Vec<u8>) -> Answered {
    let room = most_bytes.saturating_sub(if query.edns.is_some() { OPT_BYTES } else { 0 });
    let (bytes, additional) = if entry.bytes.len() <= room {
        (entry.bytes.len(), entry.additional)
    } else if entry.essential_bytes <= room {
        (entry.essential_bytes, entry.essential_additional)
    } else {
        query.write_empty(Code::NoError, true, true, out);
        return Answered::default();
    };
    let start = out.len();
    out.extend_from_slice(entry.bytes.get(..bytes).unwrap_or_default());
    if let Some(([id_high, id_low, flags, more_flags, _, _, _, _, _, _, count_high, count_low], rest)) =
        out.get_mut(start..).and_then(<[u8]>::split_first_chunk_mut)
    {
        [*id_high, *id_low] = query.id.to_be_bytes();
        *flags |= u8::from(query.recursion_desired);
        *more_flags |= u8::from(query.checking_disabled) << 4;
        [*count_high, *count_low] = additional.saturating_add(query.edns.is_some().into()).to_be_bytes();
        if let Some(place) = rest.get_mut(..query.question.len()) {
            place.copy_from_slice(query.question);
        }
    }
    if let Some(edns) = query.edns {
        write_opt(0, edns.dnssec_ok, out);
    }
    Answered { smallest_ttl_s: entry.smallest_ttl_s }
}

impl fmt::Debug for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut zones: Vec<String> = self.0.state.load().trees.values().map(|tree| tree.apex.to_string()).collect();
        zones.sort();
        f.debug_struct("Answers").field("zones", &zones).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
