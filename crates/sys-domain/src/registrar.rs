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

/// When to look again.
pub(crate) fn due(entries: &[Entry], seen: Option<&Seen>) -> i64 {
    let Some(seen) = seen else { return i64::MIN };
    let is_complete = entries.iter().all(|entry| entry.seen == "yes");
    seen.at_unix_s.saturating_add(if is_complete { LOOK_AGAIN_S } else { LOOK_AGAIN_SOON_S })
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
