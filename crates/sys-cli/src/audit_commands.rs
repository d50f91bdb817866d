//! `sys audit tail`, `verify` and `export`, and what login does with the heads of audit logs.
//!
//! The other verbs of `sys audit` come from the server like all commands. These are here since they check what the server says:
//! against its signature, against the heads that are kept beside the session, and entry by entry.

mod export;

use crate::{
    failure::Failure,
    output::{self, Format},
    plain, progress, trace,
};
use clap::ArgMatches;
use prost_types::Timestamp;
use std::time::Duration;
use sys_audit::{Distrust, SignedHead};
use sys_client::{
    CallError, Client, ClientError, Code, Endpoint, SessionStore,
    audit::{AuditError, LEAVES_AT_ONCE, Log, RawLeaf},
    audit_text,
    auth::WhoAmI,
    heads::{HeadsError, KeptHeads, Seen},
};

pub(crate) use export::{export, verify_file};

/// The reason of a server that finds its own log damaged.
const DAMAGED: &str = "AUDIT_LOG_DAMAGED";
/// What somebody is told who is shown another log than before.
const DISTRUST_HELP: &str = "whoever can write the server's data has changed its audit log, or the server was put back to an \
    older state: ask its operator. Keep audit-heads.json in your configuration directory, its heads are signed and prove what \
    the log was. Once you know why, `sys login --trust-audit-anew` begins with the log as it is now";

/// Why an audit log could not be read, checked or written down.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuditFailure {
    #[error(transparent)]
    Heads(#[from] HeadsError),
    #[error(transparent)]
    Log(#[from] AuditError),
    /// A line of an export is not what was hashed, or no line of an export.
    #[error("{path}, line {line}: {what}")]
    Line { path: String, line: usize, what: String },
    #[error("cannot use {path}")]
    File { path: String, source: std::io::Error },
}

impl AuditFailure {
    /// The call that failed, where it was one.
    pub(crate) fn client(&self) -> Option<&ClientError> {
        match self {
            Self::Log(AuditError::Client(error)) | Self::Heads(HeadsError::Audit(AuditError::Client(error))) => {
                Some(error)
            }
            _ => None,
        }
    }

    /// Whether a log is not what it says or was, and not merely out of reach.
    pub(crate) fn is_distrust(&self) -> bool {
        let of_log = |error: &AuditError| matches!(error, AuditError::Distrust(_) | AuditError::Entry { .. });
        match self {
            Self::Log(error) | Self::Heads(HeadsError::Audit(error)) => of_log(error) || self.is_damaged(),
            Self::Line { .. } => true,
            Self::Heads(_) | Self::File { .. } => false,
        }
    }

    pub(crate) fn help(&self) -> Option<&'static str> {
        match self {
            Self::Line { .. } => {
                Some("the file was changed since it was written, or is no export: compare it with another copy")
            }
            _ if self.is_distrust() => Some(DISTRUST_HELP),
            _ => None,
        }
    }

    /// Whether the server itself says so.
    fn is_damaged(&self) -> bool {
        let reason = |refused: &sys_client::Refused| refused.reason.as_deref() == Some(DAMAGED);
        matches!(self.client(), Some(ClientError::Call(CallError::Refused(refused))) if reason(refused))
    }
}

/// Holds the logs that this caller may read against the heads that are kept, and keeps their heads. Fails for a log that was cut
/// or rewritten. One that cannot be read now is told of.
pub(crate) async fn check_heads(client: &Client, sessions: &SessionStore, anew: bool) -> Result<(), Failure> {
    let kept = KeptHeads::new(sessions.clone());
    for log in logs_of(&client.who_am_i().await?) {
        match kept.check(client, &log, anew).await.map_err(AuditFailure::from) {
            Ok(Seen::Anew { distrust, .. }) => {
                output::note(&format!(
                    "warning: {distrust}; it is believed from now on, and the old head is set aside"
                ));
            }
            Ok(Seen::First(_) | Seen::GoesOn { .. }) => {}
            Err(failure) if failure.is_distrust() || failure.client().is_none() => return Err(failure.into()),
            Err(failure) => {
                let was_kept = kept.of(client.endpoint(), log.id()).map_err(AuditFailure::from)?.is_some();
                let code = failure.client().and_then(ClientError::code);
                // A server without audit logs to read, or a role that counts for nothing at the moment.
                let of_no_use = matches!(code, Some(Code::Unimplemented | Code::PermissionDenied | Code::NotFound));
                if was_kept || !of_no_use {
                    output::note(&format!("warning: the audit log of {log} could not be checked: {failure}"));
                }
            }
        }
    }
    Ok(())
}

/// The logs that somebody may read: those of the orgs that he administers, or as superadmin that of the server.
fn logs_of(who: &WhoAmI) -> Vec<Log> {
    let of_binding = |binding: &sys_client::auth::Binding| match (binding.role.as_str(), binding.project_id.is_empty())
    {
        ("SUPERADMIN", _) => Some(Log::System),
        ("ADMIN", true) => Some(Log::Org(binding.org_id.clone())),
        _ => None,
    };
    let mut logs: Vec<Log> = who.bindings.iter().filter_map(of_binding).collect();
    logs.sort();
    logs.dedup();
    logs
}

/// Reads a whole log, and says whether it is what its head and the kept one say.
pub(crate) async fn verify(
    matches: &ArgMatches,
    server: &Endpoint,
    sessions: SessionStore,
    format: Format,
) -> Result<(), Failure> {
    let log = log_of(matches);
    let client = Client::connect(server, sessions.clone()).await?.within(trace::of_environment());
    let seen = KeptHeads::new(sessions).check(&client, &log, false).await.map_err(AuditFailure::from)?;
    let kept = seen.kept();
    let progress = progress::Records::begin();
    let each = |_: &RawLeaf| {
        progress.came(1);
        Ok::<(), AuditFailure>(())
    };
    let erased = client.audit_walk(&log, seen.head(), kept, each).await?;
    drop(progress);
    Ok(output::value(&for_people(seen.head(), erased, kept), &for_programs(seen.head(), erased, kept), format)?)
}

/// Shows the last entries of a log and then each that comes, until it is interrupted.
pub(crate) async fn tail(
    matches: &ArgMatches,
    server: &Endpoint,
    sessions: SessionStore,
    format: Format,
) -> Result<(), Failure> {
    let log = log_of(matches);
    let lines = matches.get_one::<u64>("lines").copied().unwrap_or_default();
    let interval = Duration::from_secs(matches.get_one::<u64>("interval").copied().unwrap_or_default());
    let client = Client::connect(server, sessions.clone()).await?.within(trace::of_environment());
    let seen = KeptHeads::new(sessions).check(&client, &log, false).await.map_err(AuditFailure::from)?;
    let own_session = client.session().await?.map(|session| session.session_id).unwrap_or_default();
    let mut next = seen.head().head.size.saturating_sub(lines);
    loop {
        let leaves = client.audit_leaves(&log, next, u64::MAX).await.map_err(AuditFailure::from)?;
        // Fewer are the end of the log, and among them the entry of the look before this one.
        let is_end = u64::try_from(leaves.len()).unwrap_or(u64::MAX) < LEAVES_AT_ONCE;
        for raw in leaves {
            if raw.number != next
                || raw.leaf.as_deref().is_some_and(|leaf| sys_audit::tree::leaf_hash(leaf) != raw.hash)
            {
                let fork = Distrust::Fork { log_id: log.id().to_owned(), kept: next };
                return Err(AuditFailure::from(AuditError::from(fork)).into());
            }
            next = raw.number.saturating_add(1);
            show(&raw, &own_session, format)?;
        }
        if is_end {
            tokio::time::sleep(interval).await;
        }
    }
}

/// Shows an entry, unless it is a look of this very command at the log: each look is an entry, too.
fn show(raw: &RawLeaf, own_session: &str, format: Format) -> Result<(), Failure> {
    let entry = audit_text::of_entry(raw);
    let text = |field: &str| entry.get(field).and_then(serde_json::Value::as_str).unwrap_or_default();
    if text("session_id") == own_session && text("method").ends_with("AuditLeaves") && !own_session.is_empty() {
        return Ok(());
    }
    if format != Format::Table {
        return Ok(output::print(&entry.to_string())?);
    }
    let who = Some(text("account_id")).filter(|account| !account.is_empty()).unwrap_or("-");
    let said = match &raw.leaf {
        Some(_) => format!("{} {who} {} {}", text("time"), text("method"), text("outcome")),
        None => "(erased)".to_owned(),
    };
    Ok(output::print(&plain::line(&format!("{} {said}", raw.number)))?)
}

/// The log that a command is about.
fn log_of(matches: &ArgMatches) -> Log {
    matches.get_one::<String>("org-id").map_or(Log::System, |org| Log::Org(org.clone()))
}

fn for_people(head: &SignedHead, erased: u64, kept: Option<&SignedHead>) -> String {
    let when = |unix_s| Timestamp { seconds: unix_s, nanos: 0 };
    let kept = kept.map_or_else(
        || "no head of it that it could be compared with".to_owned(),
        |kept| format!("goes on from the head of {} with {} entries", when(kept.head.unix_s), kept.head.size),
    );
    let id = plain::line(&head.head.log_id);
    [
        format!("log      {id}: whole, and what its head says"),
        format!("entries  {} ({erased} erased)", head.head.size),
        format!("root     {}", head.head.root),
        format!("signed   {} by key {}", when(head.head.unix_s), head.key_id()),
        format!("kept     {kept}"),
    ]
    .join("\n")
}

fn for_programs(head: &SignedHead, erased: u64, kept: Option<&SignedHead>) -> serde_json::Value {
    serde_json::json!({
        "verified": true,
        "head": audit_text::of_head(head),
        "erased": erased,
        "kept_head": kept.map(audit_text::of_head),
    })
}
