//! Keeps certificates: one task for each, so that one which fails holds up no other.
//!
//! What a task does is decided in [`plan`](crate::plan); here it is carried out, written down, and told. What must never happen here: a
//! certificate announced before it was kept, or a try that was not written down before it began.

pub(crate) mod records;
mod task;

use crate::{
    account::Accounts,
    certificate::Certificate,
    challenge::Challenges,
    clock::AcmeClock,
    kept::{Kept, KeptError},
    local_ca::LocalCa,
    name::{Name, Wanted},
    settings::{self, Settings, SettingsError},
    source::{Acme, Source},
    status::{CertificateState, CertificateStatus, TooEarly},
    unwanted::{forget_unwanted, stand_ins},
};
use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use task::{Ask, Task};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::timeout,
};

/// Wishes that wait for one certificate's task.
const MAX_ASKS: usize = 4;
/// For tasks to take away what they show, when the server stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Told each certificate: those that are kept at start, then each new one once it is kept.
pub type OnCertificate = Arc<dyn Fn(&Certificate) + Send + Sync>;

/// Keeps certificates. Dropped, it stops at once; [`Keeper::stop`] takes away first what is shown.
pub struct Keeper {
    entries: Vec<Entry>,
    tasks: JoinSet<()>,
    stop: watch::Sender<bool>,
}

struct Entry {
    wanted: Wanted,
    status: Arc<Mutex<CertificateStatus>>,
    asks: mpsc::Sender<Ask>,
}

/// What all tasks of a keeper have.
#[derive(Clone)]
struct Surroundings {
    source: Arc<Source>,
    kept: Arc<dyn Kept>,
    clock: Arc<dyn AcmeClock>,
    on_certificate: OnCertificate,
}

impl Keeper {
    /// Keeps what the settings want, by ACME. Certificates that are kept already are told before this comes back.
    pub async fn start(
        settings: Settings,
        kept: Arc<dyn Kept>,
        challenges: Arc<dyn Challenges>,
        clock: Arc<dyn AcmeClock>,
        on_certificate: OnCertificate,
    ) -> Result<Self, StartError> {
        let accounts = Accounts::new(&settings, Arc::clone(&kept), Arc::clone(&clock))?;
        let acme = Acme::new(&settings, accounts, challenges)?;
        Self::run(Source::Acme(acme), settings.wanted, kept, clock, on_certificate).await
    }

    /// Keeps certificates of a local CA, which are renewed in the same way.
    pub async fn start_local(
        ca: LocalCa,
        wanted: Vec<Wanted>,
        kept: Arc<dyn Kept>,
        clock: Arc<dyn AcmeClock>,
        on_certificate: OnCertificate,
    ) -> Result<Self, StartError> {
        Self::run(Source::Local(ca), wanted, kept, clock, on_certificate).await
    }

    pub(crate) async fn run(
        source: Source,
        wanted: Vec<Wanted>,
        kept: Arc<dyn Kept>,
        clock: Arc<dyn AcmeClock>,
        on_certificate: OnCertificate,
    ) -> Result<Self, StartError> {
        settings::apart(&wanted)?;
        let around = Surroundings { source: Arc::new(source), kept, clock, on_certificate };
        let (stop, stopped) = watch::channel(false);
        let (mut entries, mut tasks) = (Vec::new(), Vec::new());
        for wanted in wanted {
            let (asks, asked) = mpsc::channel(MAX_ASKS);
            let task = Task::load(wanted.clone(), around.clone(), asked, stopped.clone()).await?;
            entries.push(Entry { wanted, status: task.status(), asks });
            tasks.push(task);
        }
        let wanted: Vec<Wanted> = entries.iter().map(|entry| entry.wanted.clone()).collect();
        for certificate in stand_ins(&*around.kept, &wanted, around.clock.now_unix_s()).await? {
            (around.on_certificate)(&certificate);
        }
        // Nothing is ordered before all that is there was told.
        let mut tasks: JoinSet<()> = tasks.into_iter().map(Task::run).collect();
        let (kept, clock, mut stopped) = (around.kept, around.clock, stopped);
        tasks.spawn(async move {
            tokio::select! {
                () = forget_unwanted(kept, &wanted, clock) => {}
                _ = stopped.wait_for(|stop| *stop) => {}
            }
        });
        Ok(Self { entries, tasks, stop })
    }

    /// How it stands with each certificate.
    pub fn status(&self) -> Vec<CertificateStatus> {
        self.entries.iter().map(Entry::status).collect()
    }

    /// Orders the certificate with this name anew, now: also if a failure is waited out. Against what the directory allows nothing is
    /// ordered ([`AskError::TooEarly`]). Comes back when it is written down; [`Keeper::status`] tells how it went.
    pub async fn renew_now(&self, name: &str) -> Result<(), AskError> {
        self.ask(name, Ask::Renew).await
    }

    /// Has the certificate with this name declared void, since somebody may have its key, and another ordered in its place, with another
    /// key. The old one is shown until then. Comes back when that is written down: both are gone on with whatever happens.
    pub async fn revoke(&self, name: &str) -> Result<(), AskError> {
        self.ask(name, Ask::Revoke).await
    }

    /// Stops. A try that is under way is broken off, and what it shows is taken away.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if timeout(STOP_TIMEOUT, all).await.is_err() {
            self.tasks.shutdown().await;
        }
    }

    async fn ask(
        &self,
        name: &str,
        ask: impl FnOnce(oneshot::Sender<Result<(), AskError>>) -> Ask,
    ) -> Result<(), AskError> {
        let unknown = || AskError::Unknown { name: name.chars().take(253).collect() };
        let parsed = Name::parse(name).map_err(|_| unknown())?;
        let entry =
            self.entries.iter().find(|entry| entry.wanted.iter().any(|name| *name == parsed)).ok_or_else(unknown)?;
        // It would wait for the end of the order, which may take minutes.
        if entry.status().state == CertificateState::Ordering {
            return Err(AskError::Busy);
        }
        let (reply, replied) = oneshot::channel();
        entry.asks.try_send(ask(reply)).map_err(|_| AskError::Busy)?;
        replied.await.unwrap_or(Err(AskError::Busy))
    }
}

impl Entry {
    fn status(&self) -> CertificateStatus {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wanted: Vec<&Wanted> = self.entries.iter().map(|entry| &entry.wanted).collect();
        f.debug_struct("Keeper").field("wanted", &wanted).finish_non_exhaustive()
    }
}

/// Why no certificates are kept.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StartError {
    /// The settings are wrong.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// What is kept cannot be read: without it each start would order anew.
    #[error("the certificates that are kept cannot be read: {0}")]
    Kept(#[from] KeptError),
}

/// Why a wish is not granted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// There is no certificate with this name.
    #[error("no certificate for {name} is kept here: its names are in the status")]
    Unknown {
        /// As it was given.
        name: String,
    },
    /// There is none yet.
    #[error("there is no certificate yet: the status tells why")]
    None,
    /// Nothing would be ordered now.
    #[error("nothing was ordered: {}", .0.why)]
    TooEarly(TooEarly),
    /// An order is under way.
    #[error("an order is under way: try again when the status shows how it ended")]
    Busy,
    /// It did not work.
    #[error("{why}. {remedy}")]
    Failed {
        /// What failed.
        why: String,
        /// What to do.
        remedy: String,
    },
}

#[cfg(test)]
mod tests;
