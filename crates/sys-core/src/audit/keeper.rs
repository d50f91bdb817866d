//! What is done for the logs in the background: nodes are computed before somebody waits for them, and what the retention is
//! over for is erased.

use super::AuditLogs;
use std::time::Duration;
use sys_contract::id::OrgTag;
use sys_store::LogKind;
use tokio::task::JoinHandle;

use super::AuditError;

/// Between two rounds. A log that takes 1,000 entries a second meanwhile has its nodes computed within 5 s.
const PAUSE: Duration = Duration::from_secs(600);

/// The task.
#[derive(Debug)]
pub(crate) struct Keeper(JoinHandle<()>);

impl Keeper {
    /// Starts it. Entries that are older than `retention` are erased; without one they are kept.
    pub(crate) fn start(logs: AuditLogs, retention: Option<Duration>) -> Self {
        Self(tokio::spawn(async move {
            loop {
                if let Err(error) = round(&logs, retention).await {
                    tracing::error!(%error, "the audit logs could not be tended; it is tried again");
                }
                tokio::time::sleep(PAUSE).await;
            }
        }))
    }

    /// Ends it. What it was doing to a log goes on at the next start.
    pub(crate) async fn stop(mut self) {
        self.0.abort();
        // Cancelled, that is; it holds the store until then.
        let _ = (&mut self.0).await;
    }
}

impl Drop for Keeper {
    /// A server that is given up without a word holds its store no longer.
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Once through all logs.
pub(super) async fn round(logs: &AuditLogs, retention: Option<Duration>) -> Result<(), AuditError> {
    let now = logs.0.clock.now().unix_s;
    let before = retention.map(|kept| now.saturating_sub(i64::try_from(kept.as_secs()).unwrap_or(i64::MAX)));
    let mut last: Option<OrgTag> = None;
    // Each log in transactions of its own: a round may take longer than a snapshot may live.
    while let Some(org) = logs.begin().await?.next_log(LogKind::Audit, last).await? {
        last = Some(org);
        match tend(logs, org, before).await {
            Ok(()) => {}
            // Of this log alone. Its readers hear of it, too.
            Err(error @ AuditError::Damaged { .. }) => tracing::error!(%error, "an audit log is damaged"),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn tend(logs: &AuditLogs, org: OrgTag, before_unix_s: Option<i64>) -> Result<(), AuditError> {
    logs.extend(org).await?;
    if let Some(before) = before_unix_s {
        let erased = logs.erase(org, before).await?;
        if erased > 0 {
            tracing::info!(?org, erased, "erased what old entries of an audit log said");
        }
    }
    Ok(())
}
