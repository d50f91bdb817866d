//! AuditService: the audit logs of the orgs and of the server. What is told is decided by the contract, what is read and signed
//! by sys-core; here requests become its words, and its answers messages.

use crate::{
    module::AccountModule,
    request,
    wire::{
        AuditConnection, AuditConsistency, AuditDeviceKey, AuditEntry, AuditHead, AuditInclusion, AuditLeaf,
        AuditLeaves, AuditOutcome, GetAuditConsistencyRequest, GetAuditHeadRequest, GetAuditInclusionRequest,
        GetSystemAuditConsistencyRequest, GetSystemAuditHeadRequest, GetSystemAuditInclusionRequest, ListAuditRequest,
        ListAuditResponse, ListSystemAuditRequest, ReadAuditLeavesRequest, ReadSystemAuditLeavesRequest,
    },
};
use prost_types::Timestamp;
use std::sync::Arc;
use sys_contract::id::RecordId;
use sys_core::{
    audit::{Connection, DeviceKey, Entry, Hash, Leaf, Log, MAX_LEAVES, Outcome, Query, SignedHead},
    call::Call,
    module::Registry,
    refusal::Refusal,
};

/// What ids of records begin with of which the kind is not known.
const RECORD_PREFIX: &str = "record";

pub(crate) fn register(registry: &mut Registry<'_, AccountModule>) {
    registry.unary("sys.account.v1.AuditService/ListAudit", list);
    registry.unary("sys.account.v1.AuditService/GetAuditHead", head);
    registry.unary("sys.account.v1.AuditService/GetAuditInclusion", inclusion);
    registry.unary("sys.account.v1.AuditService/GetAuditConsistency", consistency);
    registry.unary("sys.account.v1.AuditService/ReadAuditLeaves", leaves);
    registry.unary("sys.account.v1.AuditService/ListSystemAudit", list_system);
    registry.unary("sys.account.v1.AuditService/GetSystemAuditHead", system_head);
    registry.unary("sys.account.v1.AuditService/GetSystemAuditInclusion", system_inclusion);
    registry.unary("sys.account.v1.AuditService/GetSystemAuditConsistency", system_consistency);
    registry.unary("sys.account.v1.AuditService/ReadSystemAuditLeaves", system_leaves);
}

async fn list(module: Arc<AccountModule>, _: Call, request: ListAuditRequest) -> Result<ListAuditResponse, Refusal> {
    let log = log_of(&request.org_id)?;
    page(&module, log, request).await
}

async fn list_system(
    module: Arc<AccountModule>,
    _: Call,
    request: ListSystemAuditRequest,
) -> Result<ListAuditResponse, Refusal> {
    let request = ListAuditRequest {
        org_id: String::new(),
        account_id: request.account_id,
        method: request.method,
        outcome: request.outcome,
        reason: request.reason,
        start_time: request.start_time,
        end_time: request.end_time,
        oldest_first: request.oldest_first,
        page_size: request.page_size,
        page_token: request.page_token,
    };
    page(&module, Log::System, request).await
}

async fn head(module: Arc<AccountModule>, _: Call, request: GetAuditHeadRequest) -> Result<AuditHead, Refusal> {
    Ok(signed(module.audit.head(log_of(&request.org_id)?).await?))
}

async fn system_head(module: Arc<AccountModule>, _: Call, _: GetSystemAuditHeadRequest) -> Result<AuditHead, Refusal> {
    Ok(signed(module.audit.head(Log::System).await?))
}

async fn inclusion(
    module: Arc<AccountModule>,
    _: Call,
    request: GetAuditInclusionRequest,
) -> Result<AuditInclusion, Refusal> {
    let (leaf, path) = module.audit.inclusion(log_of(&request.org_id)?, request.number, request.tree_size).await?;
    Ok(AuditInclusion { leaf_hash: bytes(leaf), path: path.into_iter().map(bytes).collect() })
}

async fn system_inclusion(
    module: Arc<AccountModule>,
    _: Call,
    request: GetSystemAuditInclusionRequest,
) -> Result<AuditInclusion, Refusal> {
    let (leaf, path) = module.audit.inclusion(Log::System, request.number, request.tree_size).await?;
    Ok(AuditInclusion { leaf_hash: bytes(leaf), path: path.into_iter().map(bytes).collect() })
}

async fn consistency(
    module: Arc<AccountModule>,
    _: Call,
    request: GetAuditConsistencyRequest,
) -> Result<AuditConsistency, Refusal> {
    let log = log_of(&request.org_id)?;
    let path = module.audit.consistency(log, request.first_size, request.second_size).await?;
    Ok(AuditConsistency { path: path.into_iter().map(bytes).collect() })
}

async fn system_consistency(
    module: Arc<AccountModule>,
    _: Call,
    request: GetSystemAuditConsistencyRequest,
) -> Result<AuditConsistency, Refusal> {
    let path = module.audit.consistency(Log::System, request.first_size, request.second_size).await?;
    Ok(AuditConsistency { path: path.into_iter().map(bytes).collect() })
}

async fn leaves(module: Arc<AccountModule>, _: Call, request: ReadAuditLeavesRequest) -> Result<AuditLeaves, Refusal> {
    raw(&module, log_of(&request.org_id)?, request.first_number, request.count).await
}

async fn system_leaves(
    module: Arc<AccountModule>,
    _: Call,
    request: ReadSystemAuditLeavesRequest,
) -> Result<AuditLeaves, Refusal> {
    raw(&module, Log::System, request.first_number, request.count).await
}

async fn page(module: &AccountModule, log: Log, request: ListAuditRequest) -> Result<ListAuditResponse, Refusal> {
    let query = Query {
        account: request::optional_id(&request.account_id, "account_id")?,
        outcome: outcome(request.outcome()),
        method: request.method,
        reason: request.reason,
        from_unix_s: request.start_time.map(|time| time.seconds),
        until_unix_s: request.end_time.map(|time| time.seconds),
        oldest_first: request.oldest_first,
        page_size: request::page_size(request.page_size),
        page_token: request.page_token,
    };
    let page = module.audit.entries(log, &query).await?;
    let entries = page.entries.into_iter().map(entry).collect();
    Ok(ListAuditResponse { entries, next_page_token: page.next_page_token })
}

async fn raw(module: &AccountModule, log: Log, first: u64, count: i32) -> Result<AuditLeaves, Refusal> {
    let count = u64::try_from(count).ok().filter(|count| *count > 0).unwrap_or(MAX_LEAVES);
    let leaves = module.audit.leaves(log, first, count).await?.into_iter().map(|raw| AuditLeaf {
        number: raw.number,
        leaf_hash: bytes(raw.hash),
        leaf: raw.leaf.unwrap_or_default(),
    });
    Ok(AuditLeaves { leaves: leaves.collect() })
}

fn log_of(org_id: &str) -> Result<Log, Refusal> {
    request::id(org_id, "org_id").map(Log::Org)
}

fn outcome(asked: AuditOutcome) -> Option<Outcome> {
    match asked {
        AuditOutcome::Unspecified => None,
        AuditOutcome::Allowed => Some(Outcome::Allowed),
        AuditOutcome::Refused => Some(Outcome::Refused),
    }
}

fn entry(entry: Entry) -> AuditEntry {
    let erased = entry.leaf.is_none();
    let leaf = entry.leaf.unwrap_or_default();
    AuditEntry {
        number: entry.number,
        time: (!erased).then_some(Timestamp { seconds: leaf.unix_s, nanos: leaf.nanos }),
        record_ids: leaf.record_ids().map(|id: RecordId| id.text(RECORD_PREFIX)).collect(),
        leaf_hash: bytes(entry.hash),
        erased,
        ..of_leaf(leaf)
    }
}

fn device_key(key: DeviceKey) -> AuditDeviceKey {
    match key {
        DeviceKey::None => AuditDeviceKey::Unspecified,
        DeviceKey::Shown => AuditDeviceKey::Shown,
        DeviceKey::NotShown => AuditDeviceKey::NotShown,
    }
}

fn connection(connection: Connection) -> AuditConnection {
    AuditConnection {
        tls_version: connection.version_name(),
        tls_group: connection.group_name(),
        ech_accepted: connection.ech_accepted,
        certificate: connection.certificate_name(),
    }
}

fn of_leaf(leaf: Leaf) -> AuditEntry {
    let device_key = device_key(leaf.device_key()).into();
    AuditEntry {
        account_id: leaf.account_id,
        method: leaf.method,
        outcome: leaf.outcome,
        session_id: leaf.session_id,
        grant: leaf.grant,
        lost: leaf.lost,
        erased_below: leaf.erased_below,
        imported: leaf.imported,
        device_key,
        connection: leaf.connection.map(connection),
        ..AuditEntry::default()
    }
}

fn signed(signed: SignedHead) -> AuditHead {
    AuditHead {
        key_id: signed.key_id(),
        tree_size: signed.head.size,
        root_hash: bytes(signed.head.root),
        time: Some(request::timestamp(signed.head.unix_s)),
        log_id: signed.head.log_id,
        public_key: signed.public_key.to_vec(),
        signature: signed.signature,
    }
}

fn bytes(hash: Hash) -> Vec<u8> {
    hash.0.to_vec()
}
