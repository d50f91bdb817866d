//! How the server is reached: TLS, plain HTTP, the zones and DNS over HTTPS, put around the gate.

use anyhow::Context;
use http::{Request, Response};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use std::{
    convert::Infallible,
    future::Future,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};
use sys_core::{clock::Clock, gate, monitor::Monitor};
use sys_dns::{
    answer::Answers,
    respond::{self, Responder, Rules},
    serve::{DnsBind, DnsListener},
};
use sys_domain::{Domain, Drives};
use sys_edge::{
    AllowedHosts, Limits, ProxySources,
    hygiene::Hygiene,
    plain::{HttpChallenges, Plain, PlainBind},
    tls::Tls,
};
use sys_keys::Entropy;
use tokio::{sync::watch, task::JoinHandle};
use tower::ServiceExt;

/// Where questions to the zones are answered over HTTPS (RFC 8484).
const DNS_QUERY: &str = "/dns-query";

/// The port that a URL of `https` need not name.
const HTTPS_PORT: u16 = 443;

/// How a server is reached beyond loopback. The default is not at all.
#[derive(Debug, Clone, Default)]
pub struct EdgeConfig {
    /// Its domains, zones, certificates and ECH keys.
    pub domain: sys_domain::Settings,
    /// The port that clients reach it on, where that is not the one that it listens on.
    pub https_port: Option<u16>,
    /// Where plain HTTP is sent on to TLS.
    pub plain_listen: Option<SocketAddr>,
    /// Where questions about the zones are answered, over UDP and TCP.
    pub dns_listen: Vec<SocketAddr>,
    /// The networks of proxies in front.
    pub proxies: ProxySources,
    /// What answers over HTTP say beside what was asked.
    pub hygiene: Hygiene,
}

impl EdgeConfig {
    /// Whether the server speaks TLS: it does with any source of certificates.
    pub(crate) fn is_tls(&self) -> bool {
        self.domain.acme.is_some() || self.domain.local_ca || !self.domain.files.is_empty()
    }

    /// The URL that clients reach a server by that listens here.
    pub(crate) fn url(&self, listen: SocketAddr) -> String {
        if !self.is_tls() {
            return format!("http://{listen}");
        }
        let port = self.https_port.unwrap_or(listen.port());
        match self.domain.domains.first() {
            Some(domain) if port == HTTPS_PORT => format!("https://{domain}"),
            Some(domain) => format!("https://{domain}:{port}"),
            None => format!("https://{}", SocketAddr::new(listen.ip(), port)),
        }
    }

    /// The hosts that requests may be meant for.
    pub(crate) fn allowed_hosts(&self) -> AllowedHosts {
        let names = self.domain.domains.iter().chain(&self.domain.hosts).chain(&self.domain.ech.public_names);
        let addresses = self.domain.addresses.iter().map(|address| match address {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("[{address}]"),
        });
        names.cloned().chain(addresses).fold(AllowedHosts::loopback(), AllowedHosts::and)
    }
}

/// What is beside the main listener.
#[derive(Debug)]
pub(crate) struct Edge {
    pub(crate) domain: Domain,
    plain: Option<Plain>,
    dns: Vec<DnsListener>,
    responder: Responder,
    hygiene: Hygiene,
}

impl Edge {
    /// Takes the ports and begins to keep the domains. Certificates come when the main listener is served: whoever issues them
    /// asks there.
    pub(crate) async fn start(
        config: EdgeConfig,
        limits: &Limits,
        listen: SocketAddr,
        tls: Tls,
        monitor: &Monitor,
    ) -> anyhow::Result<Self> {
        let allowed_hosts = config.allowed_hosts();
        let EdgeConfig { domain: mut settings, https_port, plain_listen, dns_listen, proxies, hygiene } = config;
        settings.https_port = https_port.unwrap_or(listen.port());
        let challenges = HttpChallenges::default();
        let plain = match plain_listen {
            Some(addr) => {
                let https_port = settings.https_port;
                let bind = PlainBind { addr, limits: limits.clone(), allowed_hosts, proxy: proxies, https_port };
                Some(Plain::bind(bind, challenges.clone()).await.context("plain HTTP is not sent on")?)
            }
            None => None,
        };
        let mut dns = Vec::new();
        for addr in dns_listen {
            let bound = DnsListener::bind(DnsBind { addr, limits: sys_dns::serve::Limits::default() }).await;
            dns.push(bound.context("questions about the zones are not answered")?);
        }
        let clock = seconds(monitor.clock().clone());
        let answers = Answers::new(clock.clone());
        let mut secrets = [[0; 16]; 2];
        for secret in &mut secrets {
            monitor.store().entropy().fill(secret);
        }
        let responder = Responder::new(answers.clone(), Rules::default(), clock, secrets);
        let entropy = monitor.store().entropy().clone();
        let drives = Drives { tls, answers, http: challenges };
        let domain = Domain::start(settings, monitor.vault().clone(), drives, monitor.clock().clone(), entropy).await?;
        monitor.host().load(domain.module()).await?;
        Ok(Self { domain, plain, dns, responder, hygiene })
    }

    /// The address of the plain port.
    pub(crate) fn plain_addr(&self) -> Option<SocketAddr> {
        self.plain.as_ref().map(Plain::local_addr)
    }

    /// The addresses of the zones' servers.
    pub(crate) fn dns_addrs(&self) -> impl Iterator<Item = SocketAddr> {
        self.dns.iter().map(DnsListener::local_addr)
    }

    /// Serves what is beside the main listener, until the answer's sender is dropped or says so.
    pub(crate) fn serve(self, stop: &watch::Receiver<bool>) -> (Around, Beside) {
        let mut tasks = Vec::new();
        if let Some(plain) = self.plain {
            let stopped = stopped(stop.clone());
            tasks.push(tokio::spawn(async move { told("plain HTTP", plain.serve(stopped).await) }));
        }
        for listener in self.dns {
            let (responder, stopped) = (self.responder.clone(), stopped(stop.clone()));
            tasks.push(tokio::spawn(async move { told("the zones", listener.serve(responder, stopped).await) }));
        }
        let around = Around { responder: self.responder, hygiene: self.hygiene };
        (around, Beside { domain: self.domain, tasks })
    }
}

/// What is still to be ended.
pub(crate) struct Beside {
    domain: Domain,
    tasks: Vec<JoinHandle<()>>,
}

impl Beside {
    /// Comes back when all of it has drained.
    pub(crate) async fn ended(self) {
        for task in self.tasks {
            // A task that panicked has ended, too.
            let _ = task.await;
        }
        self.domain.stop().await;
    }
}

/// What stands around the gate on the main listener.
pub(crate) struct Around {
    responder: Responder,
    hygiene: Hygiene,
}

/// The body of an answer, by the gate or by the zones.
type Answer = Either<gate::FrontBody, Full<bytes::Bytes>>;

impl Around {
    /// The service of the main listener.
    pub(crate) fn gate(
        self,
        front: gate::Front,
    ) -> sys_edge::hygiene::Hygienic<
        impl tower::Service<
            Request<Incoming>,
            Response = Response<Answer>,
            Error = Infallible,
            Future = impl Future<Output = Result<Response<Answer>, Infallible>> + Send,
        > + Clone
        + Send
        + Sync,
    > {
        let Self { responder, hygiene } = self;
        let responder = Arc::new(responder);
        hygiene.around(tower::service_fn(move |request: Request<Incoming>| {
            let (front, responder) = (front.clone(), responder.clone());
            async move {
                if request.uri().path() != DNS_QUERY {
                    return Ok(answer(front, request).await?.map(Either::Left));
                }
                let source = request.extensions().get::<sys_edge::Source>().map(|source| source.0);
                // Whose address is not known counts with all others of whom it is not.
                let source = source.unwrap_or(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED));
                Ok(sys_dns::https::answer(&responder, request, source).await.map(Either::Right))
            }
        }))
    }
}

/// Hands a request to the gate, with what the listener knows of it.
async fn answer(front: gate::Front, mut request: Request<Incoming>) -> Result<Response<gate::FrontBody>, Infallible> {
    let extensions = request.extensions_mut();
    if let Some(source) = extensions.get::<sys_edge::Source>().copied() {
        extensions.insert(gate::Source(source.0));
    }
    if let Some(arrival) = extensions.get::<sys_edge::Arrival>().copied() {
        extensions.insert(gate::Arrival(arrival.0));
    }
    if extensions.get::<sys_edge::Ahead>().is_some() {
        extensions.insert(gate::Ahead);
    }
    if extensions.get::<sys_edge::TurnedAway>().is_some() {
        extensions.insert(gate::TurnedAway);
    }
    if let Some(facts) = extensions.get::<sys_edge::Connection>().and_then(|connection| connection.tls.as_deref()) {
        let transport = gate::Transport {
            version: facts.version.number(),
            group: facts.group.number(),
            ech_accepted: facts.ech == sys_edge::tls::Ech::Accepted,
            client_certificate: facts.client_certificate.map(|certificate| gate::CertificateHash(certificate.0)),
        };
        extensions.insert(transport);
    }
    front.oneshot(request).await
}

/// The seconds of a clock, as the zones want them.
fn seconds(clock: Clock) -> respond::Clock {
    Arc::new(move || clock.now().unix_s)
}

async fn stopped(mut stop: watch::Receiver<bool>) {
    // Nobody is there any more to say it.
    let _ = stop.wait_for(|stop| *stop).await;
}

fn told<T, E: std::error::Error + 'static>(what: &str, served: Result<T, E>) {
    if let Err(error) = served {
        tracing::error!(error = &error as &dyn std::error::Error, "{what}: not served any more");
    }
}
