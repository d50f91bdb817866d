//! A server of a test's own.

use crate::{Client, Mailbox, snapshot::unix_s, tls};
use std::{
    future::Future,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};
use sys_account::bootstrap::Imported;
use sys_core::{
    clock::Clock,
    countries::Countries,
    module::Module,
    throttle::Rates,
    vault::{Change, Item, Vault},
};
use sys_edge::Limits;
use sys_keys::Unsealer;
use sys_server::{Config, EdgeConfig, Mailing, Server};
use tempfile::TempDir;
use tokio::{sync::oneshot, task::JoinHandle};

/// How long a test waits for a state before it fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// How a test's server differs from the ordinary one.
#[derive(Default)]
pub struct Options {
    /// Every verified account may create an org.
    pub allow_org_create: bool,
    /// How long entries of the audit logs say what they said.
    pub audit_retention: Option<Duration>,
    /// Modules with handlers.
    pub in_process: Vec<Arc<dyn Module>>,
    /// Instead of `modules/mod-notes`.
    pub modules: Option<Vec<PathBuf>>,
    /// Other buckets than wide open ones.
    pub rates: Option<Rates>,
    /// How long a request may have to wait until it is begun with.
    pub longest_wait: Option<Duration>,
    /// A data directory that is there already.
    pub data_dir: Option<PathBuf>,
    /// Seconds by which its clock is ahead of this machine's.
    pub shift_s: i64,
    /// Its table of countries.
    pub countries: &'static str,
    /// An organisation to import before the first request.
    pub bootstrap: Option<PathBuf>,
    /// The kind, name and value of what it puts into its vault at the start.
    pub vault_item: Option<[&'static str; 3]>,
    /// It is reached over TLS, at [`DOMAIN`](crate::DOMAIN), with an authority of its own, and serves its zone.
    pub over_tls: bool,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options").field("modules", &self.modules).finish_non_exhaustive()
    }
}

/// A running server.
#[derive(Debug)]
pub struct TestServer {
    /// Where it listens.
    pub addr: SocketAddr,
    /// The one-time setup token, while there is no superadmin.
    pub setup_token: Option<String>,
    /// The fingerprint of its own certificate authority, if it has one.
    pub authority: Option<[u8; 32]>,
    /// Where it sends plain HTTP on, if it does.
    pub plain_addr: Option<SocketAddr>,
    /// What [`Options::bootstrap`] came to.
    pub imported: Option<Imported>,
    data_dir: PathBuf,
    shift_s: Arc<AtomicI64>,
    vault: Vault,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<anyhow::Result<sys_edge::Drained>>,
    /// Removed when the test is over.
    _temporary: Option<TempDir>,
}

impl TestServer {
    /// An ordinary server with the notes module.
    pub async fn start() -> Self {
        Self::start_with(Options::default()).await
    }

    /// A server that differs.
    pub async fn start_with(options: Options) -> Self {
        Self::try_start(options).await.unwrap_or_else(|error| panic!("the server starts: {error:#}"))
    }

    /// A server that may refuse to start.
    pub async fn try_start(options: Options) -> anyhow::Result<Self> {
        let temporary = options.data_dir.is_none().then(|| tempfile::tempdir().expect("a temporary directory"));
        let data_dir = options
            .data_dir
            .clone()
            .unwrap_or_else(|| temporary.as_ref().map(|dir| dir.path().join("data")).expect("one of the two is there"));
        let shift_s = Arc::new(AtomicI64::new(options.shift_s));
        let config = config(&options, &data_dir, &shift_s)?;
        let server = Server::start(config, options.in_process).await?;
        let mut imported = None;
        if let Some(file) = &options.bootstrap {
            match sys_server::bootstrap::import(&server, file).await {
                Ok(done) => imported = Some(done),
                Err(error) => {
                    // Its data is free again once it has stopped.
                    server.serve(std::future::ready(())).await?;
                    return Err(error);
                }
            }
        }
        if let Some([kind, name, value]) = options.vault_item {
            let item = Item { kind: kind.to_owned(), name: name.to_owned(), value: value.as_bytes().to_vec().into() };
            server.monitor().vault().change("test", vec![Change::Put(item)]).await?;
        }
        let setup_token = server.new_setup_token().await?.map(|token| token.to_string());
        let vault = server.monitor().vault().clone();
        let (addr, authority, plain_addr) = (server.addr(), server.ca_fingerprint(), server.plain_addr());
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(server.serve(async {
            // A test that forgets its server stops it, too.
            let _ = stopped.await;
        }));
        Ok(Self {
            addr,
            setup_token,
            authority,
            plain_addr,
            imported,
            data_dir,
            shift_s,
            vault,
            stop,
            serving,
            _temporary: temporary,
        })
    }

    /// Starts a server over a data directory that is there already, and gives it up before it serves.
    pub async fn start_and_drop(data_dir: &Path) {
        let config = config(&Options::default(), data_dir, &Arc::default()).expect("a configuration");
        drop(Server::start(config, Vec::new()).await.expect("the server starts"));
    }

    /// A client that is nobody.
    pub fn client(&self) -> Client {
        Client::anonymous(self.addr)
    }

    /// The mail that it left.
    pub fn mailbox(&self) -> Mailbox {
        Mailbox::new(self.data_dir.join("outbox"))
    }

    /// Where its data is.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Moves its clock.
    pub fn advance_s(&self, by: i64) {
        self.shift_s.fetch_add(by, Ordering::Relaxed);
    }

    /// Its time in Unix seconds.
    pub fn now_unix_s(&self) -> i64 {
        unix_s() + self.shift_s.load(Ordering::Relaxed)
    }

    /// What it keeps of itself of this kind, opened.
    pub async fn kept(&self, kind: &str) -> Vec<Vec<u8>> {
        let items = self.vault.load(kind).await.expect("the vault is open");
        items.into_iter().map(|item| item.value.to_vec()).collect()
    }

    /// Hands it the directory that its data is in, to be removed with it.
    #[must_use]
    pub(crate) fn keep(self, temporary: TempDir) -> Self {
        Self { _temporary: Some(temporary), ..self }
    }

    /// Stops it, with all calls finished. The data directory stays as long as `self` was not the one who made it.
    pub async fn stop(self) -> Option<TempDir> {
        let _ = self.stop.send(());
        self.serving.await.expect("the server does not panic").expect("the server stops cleanly");
        self._temporary
    }
}

/// What a test's server is made of, for those who put one together by themselves.
pub fn config(options: &Options, data_dir: &Path, shift_s: &Arc<AtomicI64>) -> anyhow::Result<Config> {
    Ok(Config {
        data_dir: data_dir.to_owned(),
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        edge: if options.over_tls { tls::edge() } else { EdgeConfig::default() },
        metrics_listen: None,
        traces: None,
        // The same whatever the port, so that tokens outlive a restart.
        issuer: Some("http://sys.test".to_owned()),
        unsealer: Unsealer::DangerKeyFile(data_dir.join("danger-master.key")),
        modules: options.modules.clone().unwrap_or_else(|| vec![workspace().join("modules/mod-notes")]),
        mailing: Mailing::DataDir,
        mail_from: "sys@localhost".to_owned(),
        allow_org_create: options.allow_org_create,
        audit_retention: options.audit_retention,
        cache_bytes: 64 << 20,
        limits: Limits {
            longest_wait: options.longest_wait.unwrap_or(Limits::default().longest_wait),
            ..Limits::default()
        },
        rates: options.rates.unwrap_or_else(wide_open),
        clock: Clock::Shifted(shift_s.clone()),
        countries: Arc::new(Countries::parse(options.countries)?),
    })
}

/// Buckets that no test empties by accident.
fn wide_open() -> Rates {
    let many = 1_000_000.try_into().expect("not zero");
    let rate = sys_core::throttle::Rate { per_second: many, burst: many };
    Rates { source: rate, account: rate, sign_in_per_minute: many, danger_nothing_else: true }
}

/// The root of the workspace.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests stand in the workspace").to_owned()
}

/// Waits until `look` finds something, for a bounded time.
pub async fn eventually<T, F, Fut>(what: &str, look: F) -> T
where
    F: Fn() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let begun = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "{what} did not come within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
