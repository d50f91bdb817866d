//! Effects that happen after a commit, and only then: mail, for now.
//!
//! They are stored as sealed rows in the call's own transaction and carried out by a worker at least once, in the order in
//! which they were left. What cannot be carried out waits and is tried again.

use crate::{clock::Clock, refusal::Refusal};
use prost::Message;
use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};
use sys_keys::Entropy;
use sys_store::{Open, Store, SystemKind};
use tokio::sync::Notify;

/// Rows read at once.
const BATCH: usize = 64;
/// The first wait after a failure; it doubles up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// What is to happen after the commit.
#[derive(Clone, PartialEq, Eq)]
pub enum Effect {
    /// A mail to a person.
    Mail(Mail),
}

/// A mail in plain text.
#[derive(Clone, PartialEq, Eq, prost::Message)]
#[prost(skip_debug)]
pub struct Mail {
    /// The address.
    #[prost(string, tag = "1")]
    pub to: String,
    /// The subject line.
    #[prost(string, tag = "2")]
    pub subject: String,
    /// The body.
    #[prost(string, tag = "3")]
    pub text: String,
}

impl fmt::Debug for Mail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mail(..)")
    }
}

impl fmt::Debug for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mail(mail) => fmt::Debug::fmt(mail, f),
        }
    }
}

/// Why a mail could not be sent; the text goes to the log, so that it holds no address.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SendError(pub String);

/// Sends a mail, under a message id that is the same at each try.
pub type SendMail = Arc<dyn Fn(String, Mail) -> Pin<Box<dyn Future<Output = Result<(), SendError>> + Send>> + Send + Sync>;

/// Stores effects in a transaction.
pub(crate) async fn store(open: &mut Open, effects: &[Effect], entropy: &dyn Entropy) -> Result<(), Refusal> {
    let unix_ms = crate::clock::unix_ms(open.now());
    for (number, Effect::Mail(mail)) in (0_u16..).zip(effects) {
        let mut random = [0; 10];
        entropy.fill(&mut random);
        // Time, place in the call, randomness: in the order in which they were left, and no two alike.
        let mut name = unix_ms.to_be_bytes().to_vec();
        name.extend_from_slice(&number.to_be_bytes());
        name.extend_from_slice(&random);
        open.put_row(SystemKind::Outbox, &name, mail.encode_to_vec()).await?;
    }
    Ok(())
}

/// Carries out what is in the outbox until the task is aborted. `bell` rings when something was left.
pub(crate) async fn work(store: Store, clock: Clock, bell: Arc<Notify>, send: SendMail) {
    let mut wait = FIRST_WAIT;
    loop {
        match empty(&store, &clock, &send).await {
            Ok(()) => {
                wait = FIRST_WAIT;
                bell.notified().await;
            }
            Err(error) => {
                tracing::warn!(%error, retry_s = wait.as_secs(), "the outbox could not be emptied");
                // A new effect is no reason to try sooner: what stands before it did not go out.
                tokio::time::sleep(wait).await;
                wait = wait.saturating_mul(2).min(LONGEST_WAIT);
            }
        }
    }
}

/// Carries out all that stands in the outbox now.
async fn empty(store: &Store, clock: &Clock, send: &SendMail) -> Result<(), SendError> {
    let failed = |error: &dyn fmt::Display| SendError(error.to_string());
    loop {
        let mut open = store.begin(clock.now()).await.map_err(|error| failed(&error))?;
        let rows = open.rows(SystemKind::Outbox, &[], None, BATCH).await.map_err(|error| failed(&error))?;
        if rows.is_empty() {
            return Ok(());
        }
        for (name, row) in rows {
            let mail = Mail::decode(row.as_slice()).map_err(|error| failed(&error))?;
            send(data_encoding::HEXLOWER.encode(&name), mail).await?;
            let mut done = store.begin(clock.now()).await.map_err(|error| failed(&error))?;
            done.delete_row(SystemKind::Outbox, &name);
            done.commit().await.map_err(|error| failed(&error))?;
        }
    }
}
