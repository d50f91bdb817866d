//! The reference monitor put together: store, host, identity and gate of one server.

use crate::{
    audit::{self, AuditError, AuditLogs, Keeper, Refusals, Writing},
    clock::Clock,
    countries::Countries,
    descriptors::CoreModule,
    gate::{Front, Gate},
    host::{Host, LoadedModule, ModuleError},
    identity::{Ended, Identity},
    metrics::Observer,
    outbox::{SendMail, Sending},
    password::Passwords,
    pruning::Pruning,
    refusal::Refusal,
    throttle::{Rates, Throttle},
    token::{AccessTokens, KeyRefused, RefreshTokens},
    trace::Tracer,
    vault::Vault,
};
use std::{fmt, sync::Arc, time::Duration};
use sys_contract::{id::OrgTag, model::Contract};
use sys_keys::KeyError;
use sys_policy::Caller;
use sys_store::Store;

/// What stands for a method in the audit leaves of the server itself.
const AS_SERVER: &str = "sys-server";
/// And in those of the end of all sessions.
const END_SESSIONS: &str = "sys-server/end-sessions";

/// What an operator decides about a server.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Who signs access tokens: the URL that clients reach the server by (RFC 9068 `iss` and `aud`).
    pub issuer: String,
    /// How often sources, accounts and sign-ins may knock.
    pub rates: Rates,
    /// The time.
    pub clock: Clock,
    /// Which country a source is in; the empty table knows none.
    pub countries: Arc<Countries>,
}

/// Why a server could not be put together.
#[derive(Debug, thiserror::Error)]
pub enum MonitorError {
    /// A built-in contract does not load.
    #[error(transparent)]
    Module(#[from] ModuleError),
    /// The contract of sys-core itself is wrong.
    #[error(transparent)]
    Contract(#[from] sys_contract::problem::Problems),
    /// It lacks the items of the vault.
    #[error("the contract of sys-core has no items of the vault")]
    NoVault,
    /// The keys could not be had.
    #[error("the keys could not be had")]
    Keys(#[from] KeyError),
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] sys_store::StoreError),
    /// The token-signing key is no key.
    #[error(transparent)]
    SigningKey(#[from] KeyRefused),
    /// The audit logs could not be opened.
    #[error("the audit logs could not be opened")]
    Audit(#[from] AuditError),
}

/// The reference monitor of a server.
pub struct Monitor {
    pub(crate) gate: Arc<Gate>,
    refusals: Writing,
    outbox: Option<Sending>,
    audit: AuditLogs,
    vault: Vault,
    keeper: Option<Keeper>,
    pruning: Pruning,
}

impl fmt::Debug for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monitor").field("gate", &self.gate).finish_non_exhaustive()
    }
}

impl Monitor {
    /// Puts the parts together over an open store and loads sys-core's own contract.
    pub async fn start(store: Store, settings: Settings) -> Result<Self, MonitorError> {
        let entropy = store.entropy().clone();
        let host = Arc::new(Host::new(store.clone()));
        let own = host.load(Arc::new(CoreModule::new(&host)?)).await?;
        let tracer = Tracer::new(settings.clock.clone(), entropy.clone());
        let vault = Vault::new(store.clone(), own.tables(), settings.clock.clone(), tracer.clone());
        let vault = vault.ok_or(MonitorError::NoVault)?;
        let keys = store.system_keys()?;
        let keys = keys.newest();
        let access = AccessTokens::new(&keys.derive("sys/access-token/ed25519/v1"), &settings.issuer)?;
        let access = Arc::new(access);
        let refresh = RefreshTokens::new(&keys.derive("sys/refresh-token/hmac/v1"));
        let identity =
            Identity::new(own.tables(), Passwords::new(entropy.clone()), access.clone(), refresh, settings.countries);
        let throttle = Arc::new(Throttle::new(settings.rates));
        let audit = AuditLogs::open(store.clone(), settings.clock.clone()).await?;
        let (refusals, writing) = Refusals::start(store.clone(), settings.clock.clone());
        let pruning = Pruning::start(store.clone(), settings.clock.clone());
        let gate = Gate::new(store, host, identity, access, throttle, refusals, tracer, settings.clock, entropy);
        gate.tend_streams();
        Ok(Self { gate: Arc::new(gate), refusals: writing, outbox: None, audit, vault, keeper: None, pruning })
    }

    /// The module host.
    pub fn host(&self) -> &Arc<Host> {
        &self.gate.host
    }

    /// The handle on who may do what. Given to one module at assembly, and to nobody else.
    pub fn identity(&self) -> &Identity {
        &self.gate.identity
    }

    /// The handle on the audit logs. Given to one module at assembly, whose methods say who may read which.
    pub fn audit(&self) -> &AuditLogs {
        &self.audit
    }

    /// The handle on what the server keeps of itself. Given to one module at assembly, and to nobody else.
    pub fn vault(&self) -> &Vault {
        &self.vault
    }

    /// Tends the audit logs from now on: keeps their trees up to date, and erases what entries older than `retention` said.
    pub fn keep_audit(&mut self, retention: Option<Duration>) {
        self.keeper = Some(Keeper::start(self.audit.clone(), retention));
    }

    /// The store, for assembly: the directory of orgs and projects, and the import at the first run.
    pub fn store(&self) -> &Store {
        &self.gate.store
    }

    /// The clock of the server.
    pub fn clock(&self) -> &Clock {
        &self.gate.clock
    }

    /// Loads a module that is a contract only.
    pub async fn load_served(&self, contract: Arc<Contract>) -> Result<Arc<LoadedModule>, ModuleError> {
        self.gate.host.load_served(contract).await
    }

    /// The service that answers HTTP requests.
    pub fn front(&self) -> Front {
        Front::new(self.gate.clone())
    }

    /// Ends all open streams, each after the message that it is at, and lets no others in. Calls of one answer go on. To be
    /// called when the server is told to stop: a stream ends by itself only after an hour.
    pub fn end_streams(&self) -> impl FnOnce() + Send + use<> {
        let gate = self.gate.clone();
        move || gate.end_streams()
    }

    /// What the server has counted so far, and how it stands, for metrics.
    pub fn observer(&self) -> Observer {
        Observer(self.gate.clone())
    }

    /// Where calls are recorded: none, until it is told to.
    pub fn tracer(&self) -> &Tracer {
        &self.gate.tracer
    }

    /// Sends what is in the outbox now and whatever comes.
    pub fn send_mail_with(&mut self, send: SendMail) {
        let gate = &self.gate;
        let (store, clock, bell) = (gate.store.clone(), gate.clock.clone(), gate.outbox_bell.clone());
        self.outbox = Some(Sending::start(store, clock, bell, send));
    }

    /// Runs `work` in a transaction of the server itself: the import at the first run, the making of a setup token. Nobody
    /// has been asked whether he may; no request leads here. It leaves an audit leaf like any other write.
    pub async fn danger_as_server<T, F>(&self, work: F) -> Result<T, Refusal>
    where
        F: AsyncFnOnce(&mut sys_store::Open) -> Result<T, Refusal>,
    {
        self.as_server(AS_SERVER, work).await
    }

    /// Ends all sessions, makes all one-time tokens void and withdraws all invitations, part by part: for a server that serves nobody yet. Cut off, it has
    /// done some of it, and does the rest when it is called again.
    pub async fn danger_end_sessions(&self) -> Result<Ended, Refusal> {
        let (identity, entropy) = (self.identity(), self.gate.entropy.as_ref());
        let mut all = Ended::default();
        loop {
            let ended =
                self.as_server(END_SESSIONS, async |open| identity.danger_end_oldest(open, entropy).await).await?;
            if ended == Ended::default() {
                return Ok(all);
            }
            all.sessions += ended.sessions;
            all.tokens += ended.tokens;
            all.invitations += ended.invitations;
        }
    }

    async fn as_server<T, F>(&self, method: &str, work: F) -> Result<T, Refusal>
    where
        F: AsyncFnOnce(&mut sys_store::Open) -> Result<T, Refusal>,
    {
        let gate = &self.gate;
        let mut open = gate.store.begin(gate.clock.now()).await?;
        let done = work(&mut open).await?;
        if open.has_writes() {
            let leaf = audit::leaf_of(method, &Caller::anonymous(), open.now()).records(open.changed_records());
            audit::append(&mut open, OrgTag::GLOBAL, leaf, gate.entropy.as_ref()).await?;
        }
        open.commit().await?;
        gate.outbox_bell.notify_one();
        Ok(done)
    }

    /// Ends the background work, with each refusal so far in the audit log. Calls that are still under way go on until they
    /// end or their runtime does; what they are refused from now on is not written.
    pub async fn stop(self) {
        self.pruning.stop().await;
        if let Some(keeper) = self.keeper {
            keeper.stop().await;
        }
        if let Some(outbox) = self.outbox {
            outbox.stop().await;
        }
        self.refusals.stop().await;
    }
}
