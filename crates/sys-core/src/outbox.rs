//! Effects that happen after a commit, and only then: mail, for now.
//!
//! They are stored as sealed rows in the call's own transaction and carried out by a worker at least once, in about the order
//! in which they were left. What cannot be carried out is tried again for some days, and holds up nothing behind it.

use crate::{
    clock::{Clock, unix_ms},
    refusal::Refusal,
};
use bytes::Bytes;
use prost::Message;
use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};
use sys_keys::Entropy;
use sys_policy::Now;
use sys_store::{NamedRow, Open, Store, StoreError, SystemKind};
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
};

/// Rows read at once.
const BATCH: usize = 64;
/// Rows that are counted at most, when somebody asks how many wait.
const MAX_COUNTED: usize = 1_024;
/// Failures in a row after which a round is broken off: then it is not the mails, but what sends them.
const MAX_FAILURES: u32 = 8;
/// The wait after a round with failures; it doubles with each up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// The time for what is still to be carried out when the server stops.
const LAST_ROUND: Duration = Duration::from_secs(5);
/// How long an effect is tried (RFC 5321 section 4.5.4.1: "at least 4-5 days").
const GIVE_UP_MS: u64 = 5 * 24 * 3600 * 1000;

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
pub type SendMail =
    Arc<dyn Fn(String, Mail) -> Pin<Box<dyn Future<Output = Result<(), SendError>> + Send>> + Send + Sync>;

/// Stores effects in a transaction.
pub(crate) async fn store(open: &mut Open, effects: &[Effect], entropy: &dyn Entropy) -> Result<(), Refusal> {
    let unix_ms = unix_ms(open.now());
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

/// How many effects wait: those that were not carried out yet, as far as they are counted.
pub(crate) async fn waiting(store: &Store, now: Now) -> Result<u64, StoreError> {
    let rows = store.begin(now).await?.rows(SystemKind::Outbox, &[], None, MAX_COUNTED).await?;
    Ok(u64::try_from(rows.len()).unwrap_or(u64::MAX))
}

/// The task that carries out what is in the outbox.
#[derive(Debug)]
pub(crate) struct Sending {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Sending {
    /// Starts it. `bell` rings when something was left.
    pub(crate) fn start(store: Store, clock: Clock, bell: Arc<Notify>, send: SendMail) -> Self {
        let (stop, stopping) = watch::channel(false);
        let worker = Worker { store, clock, send, behind: None };
        Self { stop, task: tokio::spawn(work(worker, bell, stopping)) }
    }

    /// Ends it, after one more round for what the last calls left. What is not carried out in time stays for the next start.
    pub(crate) async fn stop(mut self) {
        // Nobody listens where the task has failed; that shows below.
        let _ = self.stop.send(true);
        if tokio::time::timeout(LAST_ROUND, &mut self.task).await.is_err() {
            self.task.abort();
            // Cancelled, that is; it holds the store until then.
            let _ = self.task.await;
        }
    }
}

async fn work(mut worker: Worker, bell: Arc<Notify>, mut stopping: watch::Receiver<bool>) {
    let (mut wait, mut is_last) = (FIRST_WAIT, false);
    loop {
        let round = worker.round().await;
        if is_last {
            return;
        }
        let next = async {
            match &round {
                Ok(()) => bell.notified().await,
                Err(_) => tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    // What is new does not wait as long as what fails.
                    () = bell.notified() => tokio::time::sleep(FIRST_WAIT).await,
                },
            }
        };
        if let Err(error) = &round {
            tracing::warn!(%error, retry_s = wait.as_secs(), "not all that is in the outbox could be carried out");
        }
        tokio::select! {
            () = next => {}
            // An error means that nobody is left who could say it.
            _ = stopping.wait_for(|stop| *stop) => is_last = true,
        }
        wait = if round.is_ok() { FIRST_WAIT } else { wait.saturating_mul(2).min(LONGEST_WAIT) };
    }
}

struct Worker {
    store: Store,
    clock: Clock,
    send: SendMail,
    /// Where the last round was broken off: the next one goes on behind, so that what fails does not hide what comes after.
    behind: Option<Bytes>,
}

impl Worker {
    /// Tries what stands in the outbox, each row once. An error if any failed.
    async fn round(&mut self) -> Result<(), SendError> {
        let (mut outcome, mut failures) = (Ok(()), 0);
        let mut from_start = self.behind.is_none();
        loop {
            let rows = self.rows().await.map_err(failed)?;
            if rows.is_empty() {
                self.behind = None;
                if from_start || outcome.is_err() {
                    return outcome;
                }
                from_start = true;
            }
            for (name, row) in rows {
                match self.carry_out(&name, &row).await {
                    Ok(()) => failures = 0,
                    Err(error) => {
                        outcome = Err(error);
                        failures += 1;
                    }
                }
                self.behind = Some(name);
                if failures >= MAX_FAILURES {
                    return outcome;
                }
            }
        }
    }

    async fn rows(&self) -> Result<Vec<NamedRow>, StoreError> {
        let mut open = self.store.begin(self.clock.now()).await?;
        open.rows(SystemKind::Outbox, &[], self.behind.as_deref(), BATCH).await
    }

    /// Carries out one row and removes it; also where it has failed for too long.
    async fn carry_out(&self, name: &[u8], row: &[u8]) -> Result<(), SendError> {
        let id = data_encoding::HEXLOWER.encode(name);
        let mail = Mail::decode(row).map_err(failed)?;
        let sent = (self.send)(id.clone(), mail).await;
        let now = self.clock.now();
        if let Err(error) = sent {
            if unix_ms(&now).saturating_sub(left_at_unix_ms(name)) < GIVE_UP_MS {
                return Err(error);
            }
            tracing::error!(id, %error, "a mail was given up: it could not be sent for days");
        }
        let mut open = self.store.begin(now).await.map_err(failed)?;
        open.delete_row(SystemKind::Outbox, name);
        open.commit().await.map_err(failed).map(drop)
    }
}

fn left_at_unix_ms(name: &[u8]) -> u64 {
    name.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

fn failed(error: impl fmt::Display) -> SendError {
    SendError(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{
        Mutex,
        atomic::{AtomicI64, Ordering},
    };
    use sys_keys::{Keyring, SystemEntropy, Unsealer};
    use sys_store::engine::{AnyEngine, memory::MemoryEngine};

    /// A worker whose mail to `later@` fails, and the addresses that it reached.
    struct Bed {
        worker: Worker,
        reached: Arc<Mutex<Vec<String>>>,
        shift_s: Arc<AtomicI64>,
        _files: tempfile::TempDir,
    }

    impl Bed {
        async fn with(addresses: &[&str]) -> Self {
            let files = tempfile::tempdir().unwrap();
            let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy::default());
            let unsealer = Unsealer::DangerKeyFile(files.path().join("danger"));
            let keyring = Keyring::create(&files.path().join("keys"), &unsealer, entropy.clone()).unwrap();
            let store = Store::open(AnyEngine::Memory(MemoryEngine::new()), keyring, entropy).await.unwrap();
            let reached = Arc::new(Mutex::new(Vec::new()));
            let to = reached.clone();
            let send: SendMail = Arc::new(move |_, mail| {
                let failed = mail.to.starts_with("later@");
                if !failed {
                    to.lock().unwrap().push(mail.to);
                }
                Box::pin(std::future::ready(if failed { Err(SendError("not now".to_owned())) } else { Ok(()) }))
            });
            let shift_s = Arc::new(AtomicI64::new(0));
            let worker = Worker { store, clock: Clock::Shifted(shift_s.clone()), send, behind: None };
            let bed = Self { worker, reached, shift_s, _files: files };
            for address in addresses {
                bed.leave(address).await;
            }
            bed
        }

        async fn leave(&self, to: &str) {
            let mut open = self.worker.store.begin(self.worker.clock.now()).await.unwrap();
            let mail = Mail { to: to.to_owned(), ..Mail::default() };
            let entropy = self.worker.store.entropy().clone();
            super::store(&mut open, &[Effect::Mail(mail)], entropy.as_ref()).await.unwrap();
            open.commit().await.unwrap();
            // The next one stands behind it.
            self.shift_s.fetch_add(1, Ordering::Relaxed);
        }

        fn reached(&self) -> Vec<String> {
            std::mem::take(&mut self.reached.lock().unwrap())
        }
    }

    #[tokio::test]
    async fn a_mail_that_cannot_be_sent_holds_up_none_behind_it() {
        let mut bed = Bed::with(&["a@example.org", "later@example.org", "b@example.org"]).await;
        assert!(bed.worker.round().await.is_err());
        assert_eq!(bed.reached(), ["a@example.org", "b@example.org"]);
        bed.leave("c@example.org").await;
        assert!(bed.worker.round().await.is_err());
        assert_eq!(bed.reached(), ["c@example.org"], "nothing is sent twice");
    }

    #[tokio::test]
    async fn a_round_is_broken_off_where_all_fails_and_the_next_goes_on_there() {
        let mut addresses = vec!["later@example.org"; MAX_FAILURES as usize + 1];
        addresses.push("a@example.org");
        let mut bed = Bed::with(&addresses).await;
        assert!(bed.worker.round().await.is_err());
        assert!(bed.reached().is_empty(), "it was broken off");
        assert!(bed.worker.round().await.is_err());
        assert_eq!(bed.reached(), ["a@example.org"]);
        assert!(bed.worker.behind.is_none(), "it begins again with those that failed");
    }

    #[tokio::test]
    async fn what_the_last_calls_left_is_sent_before_the_server_stops() {
        let bed = Bed::with(&[]).await;
        let Worker { store, clock, send, .. } = &bed.worker;
        let sending = Sending::start(store.clone(), clock.clone(), Arc::default(), send.clone());
        // It has seen an empty outbox, and nobody rings.
        tokio::task::yield_now().await;
        bed.leave("last@example.org").await;
        sending.stop().await;
        assert_eq!(bed.reached(), ["last@example.org"]);
    }

    #[tokio::test]
    async fn a_mail_is_given_up_after_days_and_not_before() {
        let mut bed = Bed::with(&["later@example.org"]).await;
        bed.shift_s.store(4 * 24 * 3600, Ordering::Relaxed);
        assert!(bed.worker.round().await.is_err());
        bed.shift_s.store(6 * 24 * 3600, Ordering::Relaxed);
        assert!(bed.worker.round().await.is_ok());
        assert!(bed.worker.rows().await.unwrap().is_empty());
    }
}
