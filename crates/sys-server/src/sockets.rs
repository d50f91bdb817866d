//! Ports that somebody else has bound for us, such as systemd: each by the name of the setting that it stands for.
//!
//! What must never happen here: a socket that is there and that nobody listens on, since whoever connects to it would wait for ever.

use anyhow::bail;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use sys_edge::inherited::Inherited;

/// What the main listener takes over.
const LISTEN: &str = "listen";
/// What plain HTTP is sent on from.
const PLAIN: &str = "plain-listen";
/// What the zones are answered for on: one for streams and one for datagrams at each address.
const DNS: &str = "dns-listen";
/// The same over TLS.
const DNS_TLS: &str = "dns-tls-listen";

/// Ports that are bound already. The default has none.
#[derive(Debug, Default)]
pub struct Sockets {
    pub(crate) listen: Option<TcpListener>,
    pub(crate) plain: Option<TcpListener>,
    pub(crate) dns: Vec<(TcpListener, UdpSocket)>,
    pub(crate) dns_tls: Option<TcpListener>,
}

impl Sockets {
    /// Takes all of them, by their names.
    pub fn claim(mut inherited: Inherited) -> anyhow::Result<Self> {
        let sockets = Self {
            listen: one(LISTEN, inherited.tcp(LISTEN))?,
            plain: one(PLAIN, inherited.tcp(PLAIN))?,
            dns: pairs(inherited.tcp(DNS), inherited.udp(DNS))?,
            dns_tls: one(DNS_TLS, inherited.tcp(DNS_TLS))?,
        };
        let unclaimed = inherited.unclaimed();
        if !unclaimed.is_empty() {
            bail!(
                "nobody would listen on the sockets {unclaimed:?}: FileDescriptorName= is one of {LISTEN}, {PLAIN}, {DNS} (which may \
                 have ListenDatagram=, too) and {DNS_TLS}"
            );
        }
        Ok(sockets)
    }

    /// Where the main listener will be.
    pub fn listen_addr(&self) -> Option<SocketAddr> {
        self.listen.as_ref().and_then(|socket| socket.local_addr().ok())
    }

    /// Whether the zones are answered for on any of them.
    pub fn has_dns(&self) -> bool {
        !self.dns.is_empty() || self.dns_tls.is_some()
    }
}

fn one(name: &str, mut sockets: Vec<TcpListener>) -> anyhow::Result<Option<TcpListener>> {
    if sockets.len() > 1 {
        bail!(
            "{} sockets are named {name}: give one; a unit with ListenStream=PORT alone takes IPv4 and IPv6",
            sockets.len()
        );
    }
    Ok(sockets.pop())
}

/// The sockets of each address, which a resolver takes for one server.
fn pairs(streams: Vec<TcpListener>, mut datagrams: Vec<UdpSocket>) -> anyhow::Result<Vec<(TcpListener, UdpSocket)>> {
    let mut pairs = Vec::new();
    for stream in streams {
        let addr = stream.local_addr()?;
        let at = datagrams.iter().position(|socket| socket.local_addr().is_ok_and(|other| other == addr));
        let Some(at) = at else {
            bail!("{DNS}: {addr} has no ListenDatagram=, and most questions come in datagrams: add it");
        };
        pairs.push((stream, datagrams.remove(at)));
    }
    if !datagrams.is_empty() {
        bail!(
            "{DNS}: a ListenDatagram= has no ListenStream= of the same address, where long answers are asked for: add it"
        );
    }
    Ok(pairs)
}
