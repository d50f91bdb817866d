//! What is entered where the domain was bought, and whether the world sees it.

use crate::{
    ask::{self, AskError, Said},
    settings::{DomainPlan, Plan},
};
use std::{collections::BTreeMap, fmt::Display, net::SocketAddr};
use sys_core::Entropy;
use sys_dns::{
    dnssec::{Delegation, ParentDs, Rollover},
    zone::{Data, Kind, Name},
};

/// Between two looks where all is as it should be, and where something is still missing.
pub(crate) const LOOK_AGAIN_S: i64 = 3_600;
pub(crate) const LOOK_AGAIN_SOON_S: i64 = 120;
/// How old a look may be that a signing key is let go of by: some have failed meanwhile, but nobody has slept.
const FRESH_S: i64 = 5 * LOOK_AGAIN_SOON_S;
/// Name servers whose addresses are looked at.
const MAX_SERVERS: usize = 6;

/// What a resolver said of a domain; errors as what to tell.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) at_unix_s: i64,
    pub(crate) servers: Result<Vec<Data>, String>,
    pub(crate) ds: Result<ParentDs, String>,
    /// The addresses of those name servers that are within the domain.
    pub(crate) glue: BTreeMap<Name, Vec<Data>>,
}

impl Seen {
    /// The DS records, unless the look is an old one: since then somebody may have taken back what it shows.
    pub(crate) fn fresh_ds(&self, now: i64) -> Option<&ParentDs> {
        let is_fresh = (0..=FRESH_S).contains(&now.saturating_sub(self.at_unix_s));
        self.ds.as_ref().ok().filter(|_| is_fresh)
    }
}

/// Something to enter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) kind: &'static str,
    pub(crate) entry: String,
    /// `yes`, `no`, or why it is not known.
    pub(crate) seen: String,
}

/// What is to be entered for a domain.
pub(crate) fn entries(
    plan: &Plan,
    domain: &DomainPlan,
    rollover: Option<&Rollover>,
    seen: Option<&Seen>,
) -> Vec<Entry> {
    let unknown = || match plan.resolver {
        None => "not checked".to_owned(),
        Some(_) => "not checked yet".to_owned(),
    };
    let yes_or_no = |is_seen: bool| if is_seen { "yes" } else { "no" }.to_owned();
    let mut entries = Vec::new();
    for server in &domain.name_servers {
        let shown = seen.map_or_else(unknown, |seen| match &seen.servers {
            Ok(servers) => yes_or_no(servers.contains(&Data::Ns(server.clone()))),
            Err(why) => why.clone(),
        });
        entries.push(Entry { kind: "NS", entry: server.to_string(), seen: shown });
    }
    for server in domain.name_servers.iter().filter(|server| server.is_within(&domain.apex)) {
        for address in addresses(plan) {
            let shown = seen.map_or_else(unknown, |seen| {
                yes_or_no(seen.glue.get(server).is_some_and(|glue| glue.contains(&address)))
            });
            entries.push(Entry { kind: "GLUE", entry: format!("{server} {address}"), seen: shown });
        }
    }
    if let Some(rollover) = rollover {
        let wanted = rollover.keys().wanted().ds(&domain.apex);
        let shown = seen.map_or_else(unknown, |seen| match &seen.ds {
            Ok(parent) => yes_or_no(parent.records.contains(&wanted)),
            Err(why) => why.clone(),
        });
        entries.push(Entry { kind: "DS", entry: format!("{} {wanted}", domain.apex), seen: shown });
    }
    entries
}

/// What the DS records at the registrar mean, if they are known.
pub(crate) fn delegation(domain: &DomainPlan, rollover: &Rollover, seen: Option<&Seen>) -> Option<Delegation> {
    let parent = seen?.ds.as_ref().ok()?;
    Some(rollover.delegation(&domain.apex, parent))
}

/// Whether it is time to look again. A rollover ends by what is seen then, so that nothing old will do.
pub(crate) fn is_due(entries: &[Entry], rollover: Option<&Rollover>, seen: Option<&Seen>, now: i64) -> bool {
    let Some(seen) = seen else { return true };
    let is_settled =
        entries.iter().all(|entry| entry.seen == "yes") && matches!(rollover, None | Some(Rollover::Steady { .. }));
    let pause_s = if is_settled { LOOK_AGAIN_S } else { LOOK_AGAIN_SOON_S };
    // A look of the future is one of before the clock was set back.
    !(0..pause_s).contains(&now.saturating_sub(seen.at_unix_s))
}

/// Looks.
pub(crate) async fn look(
    resolver: SocketAddr,
    plan: &Plan,
    domain: &DomainPlan,
    entropy: &dyn Entropy,
    now: i64,
) -> Seen {
    let id = || {
        let mut random = [0; 2];
        entropy.fill(&mut random);
        u16::from_be_bytes(random)
    };
    let servers = ask::ask(resolver, id(), &domain.apex, Kind::Ns).await;
    let ds = ask::ask(resolver, id(), &domain.apex, Kind::Ds).await;
    let mut glue = BTreeMap::new();
    for server in domain.name_servers.iter().filter(|server| server.is_within(&domain.apex)).take(MAX_SERVERS) {
        let mut records = Vec::new();
        for (kind, is_wanted) in [(Kind::A, !plan.ipv4.is_empty()), (Kind::Aaaa, !plan.ipv6.is_empty())] {
            if is_wanted {
                records.extend(ask::ask(resolver, id(), server, kind).await.unwrap_or_default().records);
            }
        }
        glue.insert(server.clone(), records);
    }
    Seen {
        at_unix_s: now,
        servers: servers.map(|said| said.records).map_err(in_words),
        ds: ds.map(|Said { records, ttl_s }| ParentDs { records, ttl_s }).map_err(in_words),
        glue,
    }
}

fn in_words(error: AskError) -> String {
    let text: &dyn Display = &error;
    text.to_string()
}

fn addresses(plan: &Plan) -> Vec<Data> {
    let v4 = plan.ipv4.iter().copied().map(Data::A);
    v4.chain(plan.ipv6.iter().copied().map(Data::Aaaa)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sys_dns::dnssec::SigningKey;

    #[test]
    fn a_key_is_let_go_of_by_a_fresh_look_alone() {
        const NOW: i64 = 1_800_000_000;
        let seen = Seen { at_unix_s: NOW, servers: Ok(Vec::new()), ds: Ok(ParentDs::default()), glue: BTreeMap::new() };
        assert!(seen.fresh_ds(NOW).is_some() && seen.fresh_ds(NOW + FRESH_S).is_some());
        assert!(seen.fresh_ds(NOW + FRESH_S + 1).is_none(), "a machine that slept over the end of a rollover");
        assert!(seen.fresh_ds(NOW - 1).is_none(), "a clock that was set back");

        let settled = Rollover::begin(SigningKey::generate().unwrap());
        let under_way = settled.start(SigningKey::generate().unwrap(), NOW).unwrap();
        let is_due = |rollover, now| is_due(&[], Some(rollover), Some(&seen), now);
        assert!(!is_due(&settled, NOW + LOOK_AGAIN_S - 1) && is_due(&settled, NOW + LOOK_AGAIN_S));
        assert!(!is_due(&under_way, NOW + LOOK_AGAIN_SOON_S - 1) && is_due(&under_way, NOW + LOOK_AGAIN_SOON_S));
        assert!(is_due(&settled, NOW - 1), "a clock that was set back");
        assert!(super::is_due(&[], Some(&settled), None, NOW));
    }
}
