//! The ports beside the main one: plain HTTP, and the zones in the clear and over TLS.

use crate::{edge::EdgeConfig, sockets::Sockets};
use anyhow::Context;
use std::net::SocketAddr;
use sys_dns::{
    respond::{Responder, Transport},
    serve::{DnsBind, DnsListener, Limits as DnsLimits, StreamListener},
};
use sys_edge::{
    Limits,
    dot::Dot,
    plain::{HttpChallenges, Plain, PlainBind},
    tls::Tls,
};
use tokio::{sync::watch, task::JoinHandle};

/// Ports that are taken, and that nobody is answered on yet.
#[derive(Debug)]
pub(crate) struct Ports {
    plain: Option<Plain>,
    dns: Vec<DnsListener>,
    dns_tls: Option<(StreamListener, Dot)>,
}

impl Ports {
    /// Takes all that the settings name. A port that is bound already comes in place of an address.
    pub(crate) async fn take(
        config: &mut EdgeConfig,
        limits: &Limits,
        https_port: u16,
        tls: &Tls,
        challenges: HttpChallenges,
    ) -> anyhow::Result<Self> {
        let Sockets { plain, dns, dns_tls, .. } = std::mem::take(&mut config.sockets);
        let plain = match (plain, config.plain_listen) {
            (Some(socket), _) => {
                let bind = plain_bind(config, socket.local_addr()?, limits, https_port);
                Some(Plain::over(socket, bind, challenges))
            }
            (None, Some(addr)) => Some(Plain::bind(plain_bind(config, addr, limits, https_port), challenges).await),
            (None, None) => None,
        };
        let dns_limits = DnsLimits::default();
        let dns_tls = match (dns_tls, config.dns_tls_listen) {
            (Some(socket), _) => Some(StreamListener::over(socket, dns_limits)),
            (None, Some(addr)) => Some(StreamListener::bind(addr, dns_limits).await),
            (None, None) => None,
        };
        let dns_tls = dns_tls.transpose().context("questions over TLS are not answered")?;
        Ok(Self {
            plain: plain.transpose().context("plain HTTP is not sent on")?,
            dns: zones(dns, &config.dns_listen).await.context("questions about the zones are not answered")?,
            dns_tls: dns_tls.map(|listener| (listener, Dot::new(tls.clone(), limits))),
        })
    }

    /// The address of the plain port.
    pub(crate) fn plain_addr(&self) -> Option<SocketAddr> {
        self.plain.as_ref().map(Plain::local_addr)
    }

    /// The addresses of the zones' servers.
    pub(crate) fn dns_addrs(&self) -> impl Iterator<Item = SocketAddr> {
        self.dns.iter().map(DnsListener::local_addr)
    }

    /// The address of the zones' server over TLS.
    pub(crate) fn dns_tls_addr(&self) -> Option<SocketAddr> {
        self.dns_tls.as_ref().map(|(listener, _)| listener.local_addr())
    }

    /// Serves on all of them until `stop` says so or nobody is left to say it.
    pub(crate) fn serve(self, responder: &Responder, stop: &watch::Receiver<bool>) -> Vec<JoinHandle<()>> {
        let mut tasks = Vec::new();
        if let Some(plain) = self.plain {
            let stopped = stopped(stop.clone());
            tasks.push(tokio::spawn(async move { told("plain HTTP", plain.serve(stopped).await) }));
        }
        for listener in self.dns {
            let (responder, stopped) = (responder.clone(), stopped(stop.clone()));
            tasks.push(tokio::spawn(async move { told("the zones", listener.serve(responder, stopped).await) }));
        }
        if let Some((listener, dot)) = self.dns_tls {
            let (responder, stopped) = (responder.clone(), stopped(stop.clone()));
            tasks.push(tokio::spawn(async move {
                let handshake = move |stream| dot.clone().open(stream);
                let served = listener.serve(responder, Transport::Tls, handshake, stopped).await;
                told("the zones over TLS", served);
            }));
        }
        tasks
    }
}

fn plain_bind(config: &EdgeConfig, addr: SocketAddr, limits: &Limits, https_port: u16) -> PlainBind {
    let (allowed_hosts, proxy) = (config.allowed_hosts(), config.proxies.clone());
    PlainBind { addr, limits: limits.clone(), allowed_hosts, proxy, https_port }
}

async fn zones(
    bound: Vec<(std::net::TcpListener, std::net::UdpSocket)>,
    addrs: &[SocketAddr],
) -> anyhow::Result<Vec<DnsListener>> {
    let limits = DnsLimits::default();
    let mut listeners = Vec::new();
    if bound.is_empty() {
        for addr in addrs {
            listeners.push(DnsListener::bind(DnsBind { addr: *addr, limits }).await?);
        }
    }
    for (tcp, udp) in bound {
        listeners.push(DnsListener::over(tcp, udp, limits)?);
    }
    Ok(listeners)
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
