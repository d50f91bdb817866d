//! How the server is reached: TLS, plain HTTP, the zones and DNS over HTTPS, put around the gate.

use crate::{ports::Ports, sockets::Sockets};
use anyhow::bail;
use http::{Request, Response};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use std::{
    convert::Infallible,
    future::Future,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll},
};
use sys_core::{clock::Clock, gate, monitor::Monitor};
use sys_dns::{
    answer::Answers,
    respond::{self, Responder, Rules},
};
use sys_domain::{Domain, Drives};
use sys_edge::{
    AllowedHosts, Limits, ProxySources,
    hygiene::{self, Hygiene},
    plain::HttpChallenges,
    tls::Tls,
};
use sys_otlp::Switch;
use tokio::{sync::watch, task::JoinHandle};
use tower::Service;

/// Where questions to the zones are answered over HTTPS (RFC 8484).
const DNS_QUERY: &str = "/dns-query";

/// The port that a URL of `https` need not name.
const HTTPS_PORT: u16 = 443;

/// How a server is reached beyond loopback. The default is not at all.
#[derive(Debug, Default)]
pub struct EdgeConfig {
    /// Its domains, zones, certificates and ECH keys.
    pub domain: sys_domain::Settings,
    /// The port that clients reach it on, where that is not the one that it listens on.
    pub https_port: Option<u16>,
    /// Where plain HTTP is sent on to TLS.
    pub plain_listen: Option<SocketAddr>,
    /// Where questions about the zones are answered, over UDP and TCP.
    pub dns_listen: Vec<SocketAddr>,
    /// Where they are answered over TLS.
    pub dns_tls_listen: Option<SocketAddr>,
    /// The networks of proxies in front.
    pub proxies: ProxySources,
    /// What answers over HTTP say beside what was asked.
    pub hygiene: Hygiene,
    /// Ports that are bound already, in place of those above.
    pub sockets: Sockets,
}

impl EdgeConfig {
    /// Whether a server would start with these that listens here; no certificate is read.
    pub fn check(&self, listen: SocketAddr) -> anyhow::Result<()> {
        self.domain.check()?;
        if !self.is_tls() {
            if !listen.ip().to_canonical().is_loopback() {
                bail!(
                    "{listen} can be reached from other machines, and there is no TLS: say where certificates come from (`tls`), or \
                     listen on 127.0.0.1"
                );
            }
            if self.dns_tls_listen.is_some() || self.sockets.dns_tls.is_some() {
                bail!("DNS over TLS is asked for, and there is no TLS: say where certificates come from (`tls`)");
            }
        }
        Ok(())
    }

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
        match self.domain.domains.first().map(|domain| as_host(domain)) {
            Some(domain) if port == HTTPS_PORT => format!("https://{domain}"),
            Some(domain) => format!("https://{domain}:{port}"),
            None => format!("https://{}", SocketAddr::new(self.address(listen), port)),
        }
    }

    /// The address by which a server without a domain is known.
    fn address(&self, listen: SocketAddr) -> IpAddr {
        if !listen.ip().is_unspecified() {
            return listen.ip();
        }
        self.domain.addresses.first().copied().unwrap_or(Ipv4Addr::LOCALHOST.into())
    }

    /// The hosts that requests may be meant for.
    pub(crate) fn allowed_hosts(&self) -> AllowedHosts {
        let names = self.domain.domains.iter().chain(&self.domain.hosts).chain(&self.domain.ech.public_names);
        let addresses = self.domain.addresses.iter().map(|address| match address {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("[{address}]"),
        });
        names.map(|name| as_host(name)).chain(addresses).fold(AllowedHosts::loopback(), AllowedHosts::and)
    }
}

/// A name as clients say it, however the settings spell it: in small letters of ASCII, without a dot at its end. What is no name is
/// refused when the domains are started.
fn as_host(text: &str) -> String {
    sys_dns::name::Name::parse(text).map_or_else(|_| text.to_owned(), |name| name.host())
}

/// What is beside the main listener.
#[derive(Debug)]
pub(crate) struct Edge {
    pub(crate) domain: Arc<Domain>,
    pub(crate) ports: Ports,
    responder: Responder,
    hygiene: hygiene::Current,
}

/// What can be changed of a server that runs. It keeps nothing running.
#[derive(Debug, Clone)]
pub struct Live {
    hygiene: hygiene::Current,
    domain: Weak<Domain>,
    traces: Switch,
}

impl Live {
    /// Has answers say this beside what was asked, from the next request on.
    pub fn say(&self, hygiene: Hygiene) {
        self.hygiene.change(hygiene);
    }

    /// Sends traces so from now on, or records none.
    pub fn trace(&self, settings: Option<sys_otlp::Settings>) {
        self.traces.set(settings);
    }

    /// Looks at once whether the files of certificates are others. They are shown from the next connection on.
    pub fn look_at_files(&self) {
        if let Some(domain) = self.domain.upgrade() {
            domain.reload();
        }
    }
}

impl Edge {
    /// Takes the ports and begins to keep the domains. Certificates come when the main listener is served: whoever issues them
    /// asks there.
    pub(crate) async fn start(
        mut config: EdgeConfig,
        limits: &Limits,
        listen: SocketAddr,
        tls: Tls,
        monitor: &Monitor,
    ) -> anyhow::Result<Self> {
        let challenges = HttpChallenges::default();
        let https_port = config.https_port.unwrap_or(listen.port());
        let ports = Ports::take(&mut config, limits, https_port, &tls, challenges.clone()).await?;
        let EdgeConfig { domain: settings, hygiene, .. } = config;
        let settings = sys_domain::Settings { https_port, ..settings };
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
        Ok(Self { domain: Arc::new(domain), ports, responder, hygiene: hygiene::Current::new(hygiene) })
    }

    /// What can be changed while it runs.
    pub(crate) fn live(&self, traces: Switch) -> Live {
        Live { hygiene: self.hygiene.clone(), domain: Arc::downgrade(&self.domain), traces }
    }

    /// Serves what is beside the main listener, until `stop` says so or nobody is left to say it.
    pub(crate) fn serve(self, stop: &watch::Receiver<bool>) -> (Around, Beside) {
        let tasks = self.ports.serve(&self.responder, stop);
        (Around { responder: self.responder, hygiene: self.hygiene }, Beside { domain: self.domain, tasks })
    }
}

/// What is still to be ended.
pub(crate) struct Beside {
    domain: Arc<Domain>,
    tasks: Vec<JoinHandle<()>>,
}

impl Beside {
    /// Comes back when all of it has drained.
    pub(crate) async fn ended(self) {
        for task in self.tasks {
            // A task that panicked has ended, too.
            let _ = task.await;
        }
        // Nobody else holds it for longer than a look at its files.
        if let Some(domain) = Arc::into_inner(self.domain) {
            domain.stop().await;
        }
    }
}

/// What stands around the gate on the main listener.
pub(crate) struct Around {
    responder: Responder,
    hygiene: hygiene::Current,
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
        hygiene.around(tower::service_fn(move |request: Request<Incoming>| {
            // Who is turned away hears it from the gate, whatever he asks for.
            let is_turned_away = request.extensions().get::<sys_edge::TurnedAway>().is_some();
            if request.uri().path() != DNS_QUERY || is_turned_away {
                return Answering::Gate(front.clone().call(told(request)));
            }
            let source = request.extensions().get::<sys_edge::Source>().map(|source| source.0);
            // Whose address is not known counts with all others of whom it is not.
            let source = source.unwrap_or(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED));
            Answering::Zones(sys_dns::https::answer(&responder, request, source))
        }))
    }
}

/// An answer that is under way. Each request of a connection is moved about with it until it is begun with, so it is small: what the
/// gate waits for has memory of its own.
enum Answering {
    Gate(<gate::Front as Service<Request<Incoming>>>::Future),
    Zones(sys_dns::https::Answering),
}

impl Future for Answering {
    type Output = Result<Response<Answer>, Infallible>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Self::Gate(answer) => answer.as_mut().poll(context).map_ok(|answer| answer.map(Either::Left)),
            Self::Zones(answer) => Pin::new(answer).poll(context).map(|answer| Ok(answer.map(Either::Right))),
        }
    }
}

/// A request for the gate, with what the listener knows of it.
fn told(mut request: Request<Incoming>) -> Request<Incoming> {
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
    request
}

/// The seconds of a clock, as the zones want them.
fn seconds(clock: Clock) -> respond::Clock {
    Arc::new(move || clock.now().unix_s)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_is_one_however_it_is_spelled() {
        for (spelled, expect) in [
            ("Example.ORG.", "example.org"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ] {
            assert_eq!(as_host(spelled), expect);
            let domain =
                sys_domain::Settings { domains: vec![spelled.to_owned()], local_ca: true, ..Default::default() };
            let config = EdgeConfig { domain, ..EdgeConfig::default() };
            assert_eq!(config.url(SocketAddr::from(([192, 0, 2, 1], 443))), format!("https://{expect}"));
            assert!(format!("{:?}", config.allowed_hosts()).contains(&format!("\"{expect}\"")));
        }
    }
}
