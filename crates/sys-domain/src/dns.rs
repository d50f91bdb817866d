//! DnsService: what people enter into the zones. An edit is checked on the whole zone that it would make, in the transaction in which
//! it is kept: of two edits at once, the second sees the first.

use crate::{
    entered,
    module::{DomainModule, Kept, NO_DOMAIN, NO_DOMAIN_HELP},
    own,
    settings::DomainPlan,
    status, vault,
    wire::{
        DnsServiceDeleteRequest, DnsServiceListRequest, DnsServiceRollKeyRequest, DnsServiceSetRequest,
        DnsServiceStatusRequest, DnsStatus, Record, RecordList, RecordSet,
    },
    wishes::Wish,
};
use std::sync::Arc;
use sys_core::{
    call::Call,
    module::Registry,
    refusal::{FieldViolation, Reason, Refusal},
};
use sys_dns::zone::{self, Kind, Name};

/// Octets of a set as it is kept, below what the vault takes.
const MAX_KEPT_BYTES: usize = 48 << 10;

pub(crate) fn register(registry: &mut Registry<'_, DomainModule>) {
    registry.unary("sys.domain.v1.DnsService/List", list);
    registry.unary("sys.domain.v1.DnsService/Set", set);
    registry.unary("sys.domain.v1.DnsService/Delete", delete);
    registry.unary("sys.domain.v1.DnsService/Status", status);
    registry.unary("sys.domain.v1.DnsService/RollKey", roll_key);
}

async fn list(module: Arc<DomainModule>, call: Call, request: DnsServiceListRequest) -> Result<RecordList, Refusal> {
    let kept = zones_of(&module)?;
    let only = match request.domain.as_str() {
        "" => None,
        text => Some(&domain_named(kept, text)?.apex),
    };
    let entered = entered(kept, &call).await?;
    let moment = kept.facts.borrow().moment.clone();
    let mut records = Vec::new();
    for domain in kept.plan.domains.iter().filter(|domain| only.is_none_or(|only| domain.apex == *only)) {
        let own = own::sets(&kept.plan, domain, &moment);
        let within = of_domain(&entered, domain);
        let merged = own::merged(&kept.plan, own, &within);
        records.extend(merged.sets.iter().flat_map(|set| shown(set, &within)));
    }
    Ok(RecordList { records })
}

async fn set(module: Arc<DomainModule>, call: Call, request: DnsServiceSetRequest) -> Result<RecordSet, Refusal> {
    let kept = zones_of(&module)?;
    let (domain, name, kind) = subject(kept, &request.name, &request.r#type)?;
    refuse_servers_own(kept, domain, &name, kind)?;
    let set = entered::set(name, kind, request.ttl_s, &request.data).map_err(invalid)?;
    let before = of_domain(&entered(kept, &call).await?, domain);
    let mut after = before.clone();
    after.retain(|other| other.name != set.name || other.kind() != set.kind());
    after.push(set.clone());
    refuse_faults(kept, domain, &before, &after, "data")?;
    let bytes = entered::encode(&set);
    if bytes.len() > MAX_KEPT_BYTES {
        let description = format!("all of it together has more than {MAX_KEPT_BYTES} octets: take some out");
        return Err(Refusal::invalid("data", description));
    }
    kept.vault.put(&call, vault::ZONE, &entered::place(&set.name, kind), &bytes).await?;
    let data = set.data.iter().map(zone::Data::to_string).collect();
    Ok(RecordSet { name: set.name.to_string(), r#type: kind.to_string(), ttl_s: set.ttl_s, data })
}

async fn delete(module: Arc<DomainModule>, call: Call, request: DnsServiceDeleteRequest) -> Result<(), Refusal> {
    let kept = zones_of(&module)?;
    let (domain, name, kind) = subject(kept, &request.name, &request.r#type)?;
    let before = of_domain(&entered(kept, &call).await?, domain);
    if !kept.vault.remove(&call, vault::ZONE, &entered::place(&name, kind)).await? {
        // What was entered before the server kept it by itself may go; what was not entered is the server's.
        refuse_servers_own(kept, domain, &name, kind)?;
        return Err(Refusal::not_found().help("`sys dns list` shows what was entered"));
    }
    let mut after = before.clone();
    after.retain(|set| set.name != name || set.kind() != Some(kind));
    refuse_faults(kept, domain, &before, &after, "name")
}

async fn status(module: Arc<DomainModule>, call: Call, _: DnsServiceStatusRequest) -> Result<DnsStatus, Refusal> {
    let Some(kept) = module.kept().filter(|kept| !kept.plan.domains.is_empty()) else {
        let summary = format!("{NO_DOMAIN}: {NO_DOMAIN_HELP}");
        return Ok(DnsStatus { state: status::ATTENTION.to_owned(), summary, ..DnsStatus::default() });
    };
    Ok(status::dns(&kept.plan, &kept.facts(call.now().unix_s)))
}

async fn roll_key(module: Arc<DomainModule>, call: Call, request: DnsServiceRollKeyRequest) -> Result<(), Refusal> {
    let kept = zones_of(&module)?;
    let domain = match (request.domain.as_str(), kept.plan.domains.as_slice()) {
        ("", [only]) => only,
        ("", _) => return Err(Refusal::invalid("domain", "say which: the server has more than one")),
        (text, _) => domain_named(kept, text)?,
    };
    Wish::RollKey(domain.apex.clone()).leave(&kept.vault, &call).await
}

/// What there is to work on, if the zones are served here.
fn zones_of(module: &DomainModule) -> Result<&Kept, Refusal> {
    let kept = module.needed()?;
    if kept.plan.serves_zones {
        return Ok(kept);
    }
    Err(Refusal::new(Reason::NotConfigured, "the zones of the domains are not served here")
        .help("edit them where they are served, or start the server with --dns-listen"))
}

fn domain_named<'a>(kept: &'a Kept, text: &str) -> Result<&'a DomainPlan, Refusal> {
    let name = Name::parse(text).map_err(|error| Refusal::invalid("domain", error.to_string()))?;
    let found = kept.plan.domains.iter().find(|domain| domain.apex == name);
    found.ok_or_else(|| Refusal::invalid("domain", format!("{name} is no domain of this server")))
}

fn subject<'a>(kept: &'a Kept, name: &str, kind: &str) -> Result<(&'a DomainPlan, Name, Kind), Refusal> {
    match (entered::name(&kept.plan, name), entered::kind(kind)) {
        (Ok((domain, name)), Ok(kind)) => Ok((domain, name, kind)),
        (name, kind) => Err(invalid(name.err().into_iter().chain(kind.err()).collect())),
    }
}

fn refuse_servers_own(kept: &Kept, domain: &DomainPlan, name: &Name, kind: Kind) -> Result<(), Refusal> {
    match own::kept_by_server(&kept.plan, domain, name, kind) {
        None => Ok(()),
        Some(why) => Err(Refusal::invalid("name", format!("the server keeps {name} {kind} by itself: {why}"))),
    }
}

fn refuse_faults(
    kept: &Kept,
    domain: &DomainPlan,
    before: &[zone::RecordSet],
    after: &[zone::RecordSet],
    field: &str,
) -> Result<(), Refusal> {
    let own = own::sets(&kept.plan, domain, &kept.facts.borrow().moment);
    let faults = own::new_faults(&kept.plan, domain, &own, before, after);
    if faults.is_empty() {
        return Ok(());
    }
    let violation = |fault: zone::ZoneError| FieldViolation { field: field.to_owned(), description: fault.to_string() };
    Err(invalid(faults.into_iter().map(violation).collect()))
}

/// Everything that was entered, as the call finds it.
async fn entered(kept: &Kept, call: &Call) -> Result<Vec<zone::RecordSet>, Refusal> {
    let items = kept.vault.items(call, vault::ZONE).await?;
    // What cannot be read is in the status; nothing else may be kept from being edited by it.
    Ok(items.iter().filter_map(|item| entered::decode(&item.value)).collect())
}

fn of_domain(sets: &[zone::RecordSet], domain: &DomainPlan) -> Vec<zone::RecordSet> {
    sets.iter().filter(|set| set.name.is_within(&domain.apex)).cloned().collect()
}

/// A set as records, each with who keeps it.
fn shown(set: &zone::RecordSet, entered: &[zone::RecordSet]) -> Vec<Record> {
    let of_people = entered.iter().find(|other| other.name == set.name && other.kind() == set.kind());
    let record = |data: &zone::Data| {
        let is_of_people = of_people.is_some_and(|set| set.data.contains(data));
        Record {
            name: set.name.to_string(),
            r#type: data.kind().to_string(),
            ttl_s: set.ttl_s,
            data: data.to_string(),
            kept_by: if is_of_people { "you" } else { "server" }.to_owned(),
        }
    };
    set.data.iter().map(record).collect()
}

/// Fields of a request that are wrong.
fn invalid(fields: Vec<FieldViolation>) -> Refusal {
    let texts: Vec<String> = fields.iter().map(|wrong| format!("{}: {}", wrong.field, wrong.description)).collect();
    let mut refusal = Refusal::new(Reason::InvalidArgument, texts.join("; "));
    refusal.fields = fields;
    refusal
}
