//! The domains of a server, started and stopped: what the assembly deals with.

use crate::{
    certificates::Certificates,
    challenges::{Places, Wall},
    facts::{Fetcher, Source},
    keeper::{Driven, Keeper, RoundError},
    kept::InVault,
    module::{DomainModule, Kept},
    settings::{Plan, Settings, SettingsError},
    vault,
};
use std::{fmt, sync::Arc, time::Duration};
use sys_acme::{
    AcmeClock, Boxed, Certificate, LocalCa, LocalCaError, OnCertificate, StartError, Wanted, forget_unwanted,
};
use sys_contract::problem::Problems;
use sys_core::{Entropy, clock::Clock, module::Module, vault::Vault};
use sys_dns::{answer::Answers, name::Name};
use sys_edge::{plain::HttpChallenges, tls::Tls};
use tokio::{
    sync::{Notify, oneshot},
    task::{JoinHandle, JoinSet},
};

/// Why the domains could not be started.
#[derive(Debug, thiserror::Error)]
pub enum DomainError {
    /// The settings.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The settings of certificates.
    #[error(transparent)]
    Acme(#[from] sys_acme::SettingsError),
    /// The module's own contract.
    #[error(transparent)]
    Contract(#[from] Problems),
    /// The first round.
    #[error("the domain cannot be kept up: {0}")]
    Round(String),
    /// Certificates cannot be fetched.
    #[error(transparent)]
    Fetch(#[from] StartError),
    /// The CA of the server's own.
    #[error(transparent)]
    LocalCa(#[from] LocalCaError),
}

impl From<RoundError> for DomainError {
    fn from(error: RoundError) -> Self {
        Self::Round(error.to_string())
    }
}

/// What the keeper drives; clones are handed in, and the assembly serves with the others.
#[derive(Debug, Clone)]
pub struct Drives {
    /// The listener's certificates and ECH keys.
    pub tls: Tls,
    /// The zones.
    pub answers: Answers,
    /// Answers for certificate authorities on port 80.
    pub http: HttpChallenges,
}

/// The domains of a server.
pub struct Domain {
    module: Arc<DomainModule>,
    /// Nothing where there is no domain.
    running: Option<Running>,
    /// Forgets the certificates of sources that are asked no more.
    _forgetting: JoinSet<()>,
}

struct Running {
    task: JoinHandle<()>,
    stop: oneshot::Sender<()>,
    bell: Arc<Notify>,
    fetchers: Vec<Fetcher>,
    ca: Option<([u8; 32], String)>,
}

impl fmt::Debug for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Domain").field("module", &self.module).finish_non_exhaustive()
    }
}

impl Domain {
    /// Has everything kept from now on. When it comes back, ECH keys are accepted, the zones are served, and the certificates that
    /// are kept are shown; others are being fetched. Without a domain or a certificate in the settings there is the module and nothing
    /// else.
    pub async fn start(
        settings: Settings,
        vault: Vault,
        drives: Drives,
        clock: Clock,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, DomainError> {
        let plan = Plan::of(&settings)?;
        let mut forgetting = JoinSet::new();
        let has_own = plan.as_ref().is_some_and(|plan| plan.local_ca);
        for (kind, is_asked) in [(vault::ACME, settings.acme.is_some()), (vault::LOCAL_CA, has_own)] {
            if !is_asked {
                let kept = Arc::new(InVault { vault: vault.clone(), kind });
                let clock = Arc::new(InjectedClock(clock.clone()));
                forgetting.spawn(async { forget_unwanted(kept, &[], clock).await });
            }
        }
        let Some(plan) = plan else {
            return Ok(Self { module: DomainModule::without_domain()?, running: None, _forgetting: forgetting });
        };
        let plan = Arc::new(plan);
        let bell = Arc::new(Notify::new());
        let first = plan.public_names.first().map(Name::host).unwrap_or_default();
        let driven = Driven {
            certificates: Certificates::new(drives.tls.clone(), first),
            wall: Wall::new(bell.clone()),
            tls: drives.tls,
            answers: drives.answers,
        };
        let (certificates, wall, tls) = (driven.certificates.clone(), driven.wall.clone(), driven.tls.clone());
        let mut keeper = Keeper::new(plan.clone(), vault.clone(), driven, clock.clone(), entropy, bell.clone());
        // Keys are accepted and zones served before anybody is asked to look at them.
        keeper.round().await?;
        let zones = plan.domains.iter().filter(|_| plan.serves_zones).map(|domain| domain.apex.clone()).collect();
        let places = Places { wall, zones, tls, http: drives.http };
        let fetching = Fetching { plan: &plan, vault: &vault, clock: &clock, certificates, bell: bell.clone() };
        let (fetchers, ca) = fetching.start(settings.acme, places).await?;
        keeper.fetchers.clone_from(&fetchers);
        keeper.round().await?;
        let facts = keeper.facts.subscribe();
        let looked_at = fetchers.iter().map(|fetcher| (fetcher.source, Arc::downgrade(&fetcher.keeper))).collect();
        let module = DomainModule::new(Kept { plan, vault, facts, fetchers: looked_at })?;
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(keeper.run(stopped));
        let running = Some(Running { task, stop, bell, fetchers, ca });
        Ok(Self { module, running, _forgetting: forgetting })
    }

    /// The module, to be loaded.
    pub fn module(&self) -> Arc<dyn Module> {
        self.module.clone()
    }

    /// The SHA-256 of the certificate of the server's own CA, by which clients trust it, if there is one.
    pub fn ca_fingerprint(&self) -> Option<[u8; 32]> {
        self.running.as_ref()?.ca.as_ref().map(|(fingerprint, _)| *fingerprint)
    }

    /// That certificate, PEM.
    pub fn ca_certificate_pem(&self) -> Option<&str> {
        self.running.as_ref()?.ca.as_ref().map(|(_, pem)| pem.as_str())
    }

    /// Looks at everything now: the files of certificates, too.
    pub fn reload(&self) {
        if let Some(running) = &self.running {
            running.bell.notify_one();
        }
    }

    /// Stops. Orders that are under way are broken off and go on at the next start; what is shown stays shown.
    pub async fn stop(self) {
        let Some(Running { task, stop, fetchers, .. }) = self.running else { return };
        // Who has gone already needs no telling.
        let _ = stop.send(());
        if task.await.is_err() {
            tracing::warn!("the domain was not kept up to the end");
        }
        for fetcher in fetchers {
            if let Some(fetcher) = Arc::into_inner(fetcher.keeper) {
                fetcher.stop().await;
            }
        }
    }
}

/// What fetching certificates takes.
struct Fetching<'a> {
    plan: &'a Plan,
    vault: &'a Vault,
    clock: &'a Clock,
    certificates: Certificates,
    bell: Arc<Notify>,
}

/// Those who fetch, and the CA of the server's own with its certificate.
type Fetchers = (Vec<Fetcher>, Option<([u8; 32], String)>);

impl Fetching<'_> {
    async fn start(&self, acme: Option<sys_acme::Settings>, places: Places) -> Result<Fetchers, DomainError> {
        let mut fetchers = Vec::new();
        let clock: Arc<dyn AcmeClock> = Arc::new(InjectedClock(self.clock.clone()));
        let kept = |kind| Arc::new(InVault { vault: self.vault.clone(), kind });
        if let Some(mut acme) = acme {
            // Beside what the domains need: addresses, say.
            let derived = wanted(&self.plan.public_certificates())?;
            acme.wanted.splice(0..0, derived);
            let told = self.told(Source::Acme);
            let fetcher =
                sys_acme::Keeper::start(acme, kept(vault::ACME), Arc::new(places), clock.clone(), told).await?;
            fetchers.push(Fetcher { source: Source::Acme, keeper: Arc::new(fetcher) });
        }
        let mut ca = None;
        if self.plan.local_ca {
            let wanted = wanted(&self.plan.local_certificates())?;
            let kept = kept(vault::LOCAL_CA);
            let now_unix_s = self.clock.now().unix_s;
            let own = match LocalCa::open(kept.as_ref(), &wanted, now_unix_s).await {
                // A domain or an address has come to the settings. Who gave it wants it served; what clients trust is told at the start.
                Err(LocalCaError::NotPermitted { name }) => {
                    tracing::warn!(
                        name,
                        "the local CA was not made for this name: another one is made, and clients have to trust it anew"
                    );
                    LocalCa::remake(kept.as_ref(), &wanted, now_unix_s).await?
                }
                opened => opened?,
            };
            ca = Some((own.sha256(), own.certificate_pem().to_owned()));
            let told = self.told(Source::LocalCa);
            let fetcher = sys_acme::Keeper::start_local(own, wanted, kept, clock, told).await?;
            fetchers.push(Fetcher { source: Source::LocalCa, keeper: Arc::new(fetcher) });
        }
        Ok((fetchers, ca))
    }

    /// What a certificate that was fetched is handed to.
    fn told(&self, source: Source) -> OnCertificate {
        let (certificates, bell) = (self.certificates.clone(), self.bell.clone());
        Arc::new(move |certificate: &Certificate| {
            certificates.fetched(source, certificate);
            bell.notify_one();
        })
    }
}

fn wanted(certificates: &[Vec<String>]) -> Result<Vec<Wanted>, sys_acme::SettingsError> {
    certificates.iter().map(|names| Wanted::parse(names)).collect()
}

/// The clock of the server, for sys-acme.
#[derive(Debug)]
struct InjectedClock(Clock);

impl AcmeClock for InjectedClock {
    fn now_unix_s(&self) -> i64 {
        self.0.now().unix_s
    }

    fn sleep(&self, time: Duration) -> Boxed<'_, ()> {
        Box::pin(tokio::time::sleep(time))
    }
}
