//! A server, from its data directory to its port.

use crate::{
    data_dir::DataDir,
    edge::{Edge, EdgeConfig, Live},
    metrics, modules,
};
use anyhow::{Context, anyhow, bail};
use std::{
    fmt,
    future::Future,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};
use sys_account::{AccountModule, Mailer};
use sys_core::{
    clock::Clock,
    countries::Countries,
    gate::HEALTH_PATH,
    module::Module,
    monitor::{Monitor, Settings},
    throttle::Rates,
};
use sys_edge::{Bind, Drained, Limits, Listener, tls::Tls};
use sys_keys::{Entropy, Keyring, SystemEntropy, Unsealer};
use sys_otlp::Exporter;
use sys_store::{
    Store,
    engine::{
        AnyEngine, CommitVersion, Engine, EngineError, Txn,
        redb::{RedbEngine, RedbOptions},
    },
};
use tokio::sync::{oneshot, watch};
use zeroize::Zeroizing;

/// The record type of orgs.
pub(crate) const ORG: &str = "sys.account.v1.Org";

/// What a server is made of.
#[derive(Debug)]
pub struct Config {
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// What to listen on.
    pub listen: SocketAddr,
    /// How it is reached beyond loopback.
    pub edge: EdgeConfig,
    /// What to answer metrics on, if anything.
    pub metrics_listen: Option<SocketAddr>,
    /// Where to send traces of calls, if anywhere.
    pub traces: Option<sys_otlp::Settings>,
    /// Who signs access tokens; by default the address that it listens on.
    pub issuer: Option<String>,
    /// What opens the master key.
    pub unsealer: Unsealer,
    /// Folders of modules that are contracts only.
    pub modules: Vec<PathBuf>,
    /// Where mail goes.
    pub mailing: Mailing,
    /// The address that it comes from.
    pub mail_from: String,
    /// Every verified account may create an org.
    pub allow_org_create: bool,
    /// How long entries of the audit logs say what they said; for ever if absent.
    pub audit_retention: Option<Duration>,
    /// Memory of the store's cache.
    pub cache_bytes: usize,
    /// Bounds of the listener.
    pub limits: Limits,
    /// Buckets.
    pub rates: Rates,
    /// The time.
    pub clock: Clock,
    /// Which country a source is in.
    pub countries: Arc<Countries>,
}

/// Where mail goes.
#[derive(Clone)]
pub enum Mailing {
    /// Into `outbox` in the data directory.
    DataDir,
    /// Into this directory.
    Directory(PathBuf),
    /// To this server, by a URL that may hold a password.
    Smtp(String),
}

impl fmt::Debug for Mailing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DataDir => f.write_str("DataDir"),
            Self::Directory(dir) => f.debug_tuple("Directory").field(dir).finish(),
            Self::Smtp(_) => f.write_str("Smtp(..)"),
        }
    }
}

/// A server that is ready to serve.
#[derive(Debug)]
pub struct Server {
    pub(crate) monitor: Monitor,
    pub(crate) data_dir: DataDir,
    issuer: String,
    listener: Listener,
    edge: Edge,
    metrics: Option<Listener>,
    traces: Exporter,
}

impl Server {
    /// Opens the data, loads the modules and takes the port. `in_process` are modules with handlers beside sys-account.
    pub async fn start(mut config: Config, in_process: Vec<Arc<dyn Module>>) -> anyhow::Result<Self> {
        let data_dir = DataDir::open(&config.data_dir)?;
        let tls = Tls::new()?;
        let bind = Bind {
            limits: config.limits.clone(),
            allowed_hosts: config.edge.allowed_hosts(),
            tls: config.edge.is_tls().then(|| tls.clone()),
            proxy: config.edge.proxies.clone(),
            ..Bind::at(config.listen)
        };
        let listener = match config.edge.sockets.listen.take() {
            Some(socket) => Listener::over(socket, bind)?,
            None => Listener::bind(bind).await?,
        };
        let listener = listener.ahead(HEALTH_PATH);
        let metrics = match config.metrics_listen {
            Some(addr) => Some(Listener::bind(metrics::bind(addr)).await.context("metrics are not answered")?),
            None => None,
        };
        let store = open_store(&data_dir, config.unsealer, config.cache_bytes).await?;
        let issuer = config.issuer.unwrap_or_else(|| config.edge.url(listener.local_addr()));
        let settings =
            Settings { issuer: issuer.clone(), rates: config.rates, clock: config.clock, countries: config.countries };
        let about = sys_account::Settings { server: issuer.clone(), accounts_found_orgs: config.allow_org_create };
        let mut monitor = monitor_over(store.clone(), settings, about, in_process, &config.modules).await?;
        let mut instance = [0; 16];
        monitor.store().entropy().fill(&mut instance);
        let traces = Exporter::start(monitor.tracer(), config.traces, instance);
        let traces = traces.context("traces of this server are sent already")?;
        let edge = Edge::start(config.edge, &config.limits, listener.local_addr(), tls, &monitor).await?;
        tell_unserved(&store, &monitor).await?;
        if let Some(so_far) = monitor.unfinished_import().await? {
            tracing::warn!(
                "an import was cut off ({so_far}): stop the server before anybody uses it, and run `sys-server import` again; \
                 once people have worked here, that would bring back what they have deleted"
            );
        }
        let mailer = match config.mailing {
            Mailing::DataDir => Mailer::outbox_directory(data_dir.outbox(), &config.mail_from)?,
            Mailing::Directory(dir) => Mailer::outbox_directory(dir, &config.mail_from)?,
            Mailing::Smtp(url) => Mailer::smtp(&url, &config.mail_from)?,
        };
        monitor.send_mail_with(mailer.into_send());
        monitor.keep_audit(config.audit_retention);
        Ok(Self { monitor, data_dir, issuer, listener, edge, metrics, traces })
    }

    /// The address that it listens on.
    pub fn addr(&self) -> SocketAddr {
        self.listener.local_addr()
    }

    /// The address that it answers metrics on.
    pub fn metrics_addr(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().map(Listener::local_addr)
    }

    /// The addresses that it answers for its zones on.
    pub fn dns_addrs(&self) -> impl Iterator<Item = SocketAddr> {
        self.edge.ports.dns_addrs()
    }

    /// The address that it sends plain HTTP on from.
    pub fn plain_addr(&self) -> Option<SocketAddr> {
        self.edge.ports.plain_addr()
    }

    /// The address that it answers for its zones on over TLS.
    pub fn dns_tls_addr(&self) -> Option<SocketAddr> {
        self.edge.ports.dns_tls_addr()
    }

    /// What can be changed while it serves.
    pub fn live(&self) -> Live {
        self.edge.live(self.traces.switch())
    }

    /// The SHA-256 of the certificate by which clients trust it, where it signs its own.
    pub fn ca_fingerprint(&self) -> Option<[u8; 32]> {
        self.edge.domain.ca_fingerprint()
    }

    /// The URL that programs on this machine reach it by.
    pub fn url(&self) -> String {
        let mut addr = self.addr();
        if addr.ip().is_unspecified() {
            addr.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
        }
        match self.ca_fingerprint() {
            Some(_) => format!("https://{addr}"),
            // Its certificates are for names.
            None => self.issuer.clone(),
        }
    }

    /// The reference monitor, for what is done at assembly.
    pub fn monitor(&self) -> &Monitor {
        &self.monitor
    }

    /// The URL that clients reach it by.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Where passwords that were drawn for imported accounts are left.
    pub fn drawn_passwords(&self) -> PathBuf {
        self.data_dir.drawn_passwords()
    }

    /// A new one-time setup token in place of older ones, unless there is a superadmin.
    pub async fn new_setup_token(&self) -> anyhow::Result<Option<Zeroizing<String>>> {
        let (identity, entropy) = (self.monitor.identity(), self.monitor.store().entropy().clone());
        let token =
            self.monitor.danger_as_server(async |open| identity.danger_new_setup_token(open, entropy.as_ref()).await);
        Ok(token.await?.map(|token| token.text()))
    }

    /// Serves until `stopped` comes back, then drains.
    pub async fn serve(self, stopped: impl Future<Output = ()>) -> anyhow::Result<Drained> {
        let front = self.monitor.front();
        let (served_out, serving) = oneshot::channel::<()>();
        let metrics = self.metrics.map(|listener| {
            let files = Arc::new([("store", self.data_dir.store()), ("keys", self.data_dir.keys())]);
            let source = metrics::Source { observer: self.monitor.observer(), files };
            let service = tower::service_fn(move |request| metrics::answer(source.clone(), request));
            tokio::spawn(listener.serve(service, async { drop(serving.await) }))
        });
        let end_streams = self.monitor.end_streams();
        let stopped = async move {
            stopped.await;
            // Streams would keep their connections until the drain's time is up.
            end_streams();
        };
        let (stop, stopping) = watch::channel(false);
        let (around, beside) = self.edge.serve(&stopping);
        let stopped = async move {
            stopped.await;
            // Who listens has ended already, if nobody does.
            let _ = stop.send(true);
        };
        let served = self.listener.serve(around.gate(front), stopped).await;
        beside.ended().await;
        // Until here metrics show how the drain goes.
        drop(served_out);
        if let Some(metrics) = metrics
            && !metrics.await.is_ok_and(|served| served.is_ok())
        {
            tracing::warn!("metrics were not answered to the end");
        }
        self.monitor.stop().await;
        self.traces.stop().await;
        Ok(served?)
    }
}

/// The reference monitor over a store, with all modules loaded.
pub(crate) async fn monitor_over(
    store: Store,
    settings: Settings,
    about: sys_account::Settings,
    in_process: Vec<Arc<dyn Module>>,
    served: &[PathBuf],
) -> anyhow::Result<Monitor> {
    let monitor = Monitor::start(store.clone(), settings).await?;
    let account = AccountModule::new(monitor.identity().clone(), monitor.audit().clone(), about)?;
    let loaded = monitor.host().load(account.clone()).await?;
    let directory = |name| loaded.tables().by_name(name).cloned().with_context(|| format!("no table of {name}"));
    store.set_directory(directory(ORG)?, directory("sys.account.v1.Project")?)?;
    for module in in_process {
        monitor.host().load(module).await?;
    }
    for dir in served {
        let contract = modules::read(dir)?;
        monitor.load_served(contract).await.with_context(|| format!("module {}", dir.display()))?;
    }
    Ok(monitor)
}

/// Tells of modules that were served once and are not now: somebody may have forgotten to name them.
async fn tell_unserved(store: &Store, monitor: &Monitor) -> anyhow::Result<()> {
    for module in store.known_modules().await? {
        if monitor.host().loaded(&module).is_none() {
            tracing::warn!(
                "{module} was served before, and no --module names its folder: what it stored stays, unserved"
            );
        }
    }
    Ok(())
}

/// Runs what takes its time on a thread for that.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> anyhow::Result<T> + Send + 'static) -> anyhow::Result<T> {
    tokio::task::spawn_blocking(work).await?
}

pub(crate) async fn open_store(data_dir: &DataDir, unsealer: Unsealer, cache_bytes: usize) -> anyhow::Result<Store> {
    // First the data: its lock tells that no other server is here. Opening a file and stretching a passphrase take their time:
    // not on a thread that serves.
    let path = data_dir.store();
    let engine = blocking(move || {
        let options = RedbOptions { cache_bytes, ..RedbOptions::default() };
        RedbEngine::open(&path, options).map_err(|error| match error {
            EngineError::Io(_) => anyhow!(error).context(format!("{} does not open", path.display())),
            // It writes before it reads: what the log holds goes into the file.
            EngineError::Full => anyhow!(
                "{} does not open, because the disk that it is on is full: free some MiB there, then try again; nothing that was \
                 stored is lost",
                path.display()
            ),
            other => other.into(),
        })
    })
    .await?;
    store_over(engine, data_dir, unsealer).await
}

/// The store of a data directory that is locked, with its keys, which a first start makes.
pub(crate) async fn store_over(engine: RedbEngine, data_dir: &DataDir, unsealer: Unsealer) -> anyhow::Result<Store> {
    let (keys, data) = (data_dir.keys(), data_dir.store());
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy::new());
    // New keys would open nothing of what is there, and stand where the right ones belong.
    let has_rows = has_rows(&engine).await?;
    if has_rows && !keys.exists() {
        bail!("{} is missing, and {} is sealed under it: put back the newest copy", keys.display(), data.display());
    }
    let for_keys = entropy.clone();
    let keyring = blocking(move || match keys.exists() {
        true => Keyring::open(&keys, &unsealer, for_keys).with_context(|| format!("{} does not open", keys.display())),
        false => Ok(Keyring::create(&keys, &unsealer, for_keys)?),
    });
    let keyring = keyring.await?;
    if !has_rows {
        refuse_lost(data_dir, &keyring)?;
    }
    Ok(Store::open(AnyEngine::Redb(engine), keyring, entropy).await?)
}

/// The store of a data directory, for who works on it while no server does: its lock keeps servers away.
pub(crate) async fn lock_store(data_dir: &DataDir, options: RedbOptions) -> anyhow::Result<RedbEngine> {
    let (store, path) = (data_dir.store(), data_dir.path().display().to_string());
    blocking(move || {
        RedbEngine::open(&store, options).map_err(|error| match error {
            EngineError::Locked { .. } => {
                anyhow!("{path} is in use: stop the server that runs on it, then try again")
            }
            error => anyhow!(error).context(format!("the store of {path} cannot be read")),
        })
    })
    .await
}

/// Whether anything was ever stored.
pub(crate) async fn has_rows(engine: &RedbEngine) -> anyhow::Result<bool> {
    Ok(engine.begin().await?.snapshot_version() != CommitVersion::default())
}

/// Refuses an empty store beside keys of data: whatever they sealed was lost or lies elsewhere, and a server that began anew
/// here would look like one whose data is gone.
pub(crate) fn refuse_lost(data_dir: &DataDir, keyring: &Keyring) -> anyhow::Result<()> {
    // A first start that was cut off before its first commit has made the server's own keys and no other.
    if keyring.spaces().len() > 1 {
        let (keys, data) = (data_dir.keys(), data_dir.store());
        bail!(
            "{0} was missing or is empty, and {1} holds the keys of what was in it: put {0} back. Only to begin anew with \
             nothing, move {1} away",
            data.display(),
            keys.display()
        );
    }
    Ok(())
}
