//! The server that is tested, and the certificates that it shows. All keys are made when a test runs.

use crate::clients::Client;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::{RootCertStore, pki_types::CertificateDer};
use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use sys_edge::{
    AllowedHosts, Bind, Connection, Drained, Limits, Listener, ProxySources,
    tls::{Identity, Tls},
};
use tokio::{
    sync::{Notify, Semaphore, oneshot},
    task::JoinHandle,
    time::timeout,
};
use tower::service_fn;

/// Longer than anything here takes; a test that waits this long has found that something never happens.
pub(crate) const NEVER: Duration = Duration::from_secs(60);
/// What is hidden by an encrypted client hello.
pub(crate) const INNER: &str = "inner.example.org";
/// What is shown instead.
pub(crate) const PUBLIC: &str = "ech.example.org";

/// A certificate authority.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("params");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Else it has the name of what it signs, which then looks as if it had signed itself.
        params.distinguished_name.push(DnType::CommonName, "a test authority");
        let key = KeyPair::generate().expect("a key");
        let root = params.self_signed(&key).expect("a root").der().clone();
        Self { issuer: Issuer::new(params, key), root }
    }

    /// The chain and the key, in PEM.
    pub(crate) fn pem(&self, names: &[&str]) -> (String, String) {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().expect("a key");
        let leaf = CertificateParams::new(names).expect("names").signed_by(&key, &self.issuer).expect("a certificate");
        (leaf.pem(), key.serialize_pem())
    }

    pub(crate) fn identity(&self, names: &[&str]) -> Identity {
        let (chain, key) = self.pem(names);
        Identity::from_pem(chain.as_bytes(), key.as_bytes()).expect("an identity")
    }

    pub(crate) fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).expect("a root");
        roots
    }

    pub(crate) fn root_der(&self) -> &[u8] {
        &self.root
    }
}

/// What the service has seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) requests: AtomicUsize,
    /// One for each request to `/block` that has begun.
    pub(crate) blocked: Notify,
}

pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    pub(crate) tls: Tls,
    pub(crate) authority: Authority,
    pub(crate) seen: Arc<Seen>,
    /// Each permit lets one request to `/block` go on.
    pub(crate) release: Arc<Semaphore>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Drained>,
}

impl Server {
    /// Shows certificates for the inner name, the public name and `127.0.0.1`.
    pub(crate) async fn start(limits: Limits) -> Self {
        Self::behind(ProxySources::default(), limits).await
    }

    /// The same behind such proxies.
    pub(crate) async fn behind(proxy: ProxySources, limits: Limits) -> Self {
        let authority = Authority::new();
        let tls = Tls::new().expect("TLS");
        tls.show(vec![authority.identity(&[PUBLIC]), authority.identity(&[INNER]), authority.identity(&["127.0.0.1"])]);
        let addr = "127.0.0.1:0".parse().expect("an address");
        let allowed_hosts = AllowedHosts::loopback().and(INNER).and(PUBLIC).and("www.example.org");
        let bind = Bind { limits, allowed_hosts, tls: Some(tls.clone()), proxy, ..Bind::at(addr) };
        let listener = Listener::bind(bind).await.expect("bind");
        let addr = listener.local_addr();
        let (seen, release) = (Arc::new(Seen::default()), Arc::new(Semaphore::new(0)));
        let service = {
            let (seen, release) = (Arc::clone(&seen), Arc::clone(&release));
            service_fn(move |request| facts(Arc::clone(&seen), Arc::clone(&release), request))
        };
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            let stopped = async { stopped.await.unwrap_or(()) };
            listener.serve(service, stopped).await.expect("serve")
        });
        Self { addr, tls, authority, seen, release, stop, task }
    }

    /// Tells it to stop; what is returned comes back when it has.
    pub(crate) fn stop(self) -> impl Future<Output = Drained> {
        let _ = self.stop.send(());
        async { timeout(NEVER, self.task).await.expect("the drain ends").expect("no panic") }
    }

    /// A client that trusts it.
    pub(crate) fn client(&self) -> Client {
        Client::trusting(self.authority.roots())
    }

    /// Others are served: what each test with a bad client checks beside it.
    pub(crate) async fn serves(&self) {
        let answer = self.client().get(self.addr, INNER, "/").await.expect("served");
        assert!(answer.contains("tls=TLSv1.3"), "{answer}");
    }

    pub(crate) fn requests(&self) -> usize {
        self.seen.requests.load(Ordering::SeqCst)
    }
}

/// Answers with what is known of the connection; at `/block` only once it is released, at `/long` with much.
async fn facts(
    seen: Arc<Seen>,
    release: Arc<Semaphore>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    seen.requests.fetch_add(1, Ordering::SeqCst);
    match request.uri().path() {
        "/block" => {
            seen.blocked.notify_one();
            release.acquire().await.expect("open").forget();
        }
        "/long" => return Ok(Response::new(Full::new(Bytes::from(vec![7; 3 << 20])))),
        _ => {}
    }
    let connection = request.extensions().get::<Connection>().expect("connection facts");
    let tls = connection.tls.as_deref().expect("TLS facts");
    let certificate = tls.client_certificate.map_or_else(|| "none".to_owned(), |hash| hex(&hash.0));
    let text = format!(
        "http={:?} tls={} group={} ech={:?} protocol={:?} certificate={certificate} peer={} number={}",
        request.version(),
        tls.version,
        tls.group,
        tls.ech,
        tls.protocol,
        connection.peer,
        connection.number
    );
    Ok(Response::new(Full::new(Bytes::from(text))))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
