//! The listener: bind, accept within bounds, drain.
//!
//! What must never happen here: requests in plaintext from another machine.

use crate::{
    AllowedHosts, Limits,
    ahead::AheadOfOthers,
    congestion::Congestion,
    connection::{self, Connection, End, Shared, Told},
    opened::Door,
    proxy::ProxySources,
    tls::Tls,
};
use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body, Incoming};
use std::{error::Error, io, net::SocketAddr, sync::Arc};
use sys_net::{AcceptError, Acceptor};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};
use tower::Service;

/// What to listen on, and within which bounds.
#[derive(Debug, Clone)]
pub struct Bind {
    /// Any address with TLS, and one of loopback without; port 0 takes any free port.
    pub addr: SocketAddr,
    /// Bounds of the listener and its connections.
    pub limits: Limits,
    /// The hosts that it answers to.
    pub allowed_hosts: AllowedHosts,
    /// What it shows; without, it speaks plaintext.
    pub tls: Option<Tls>,
    /// The networks whose connections begin with a PROXY header.
    pub proxy: ProxySources,
}

/// A bound port that nobody is served on yet.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    local: SocketAddr,
    limits: Limits,
    hosts: AllowedHosts,
    tls: Option<Tls>,
    proxy: ProxySources,
    ahead: Option<AheadOfOthers>,
}

/// How a drained listener left its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Drained {
    /// Connections that were open at the shutdown signal and finished what was under way.
    pub finished: usize,
    /// Connections that did not finish within the drain time.
    pub cut: usize,
}

/// Why a listener does not start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Without TLS, passwords and tokens would cross a network in the clear.
    #[error(
        "{addr} can be reached from other machines, and without TLS passwords and tokens would cross the network readable; \
         listen on 127.0.0.1 or [::1] until TLS is configured"
    )]
    PlaintextBeyondLoopback {
        /// The address that was asked for.
        addr: SocketAddr,
    },
    /// The system refused the port.
    #[error("cannot listen on {addr}; if another server is there, stop it or name another port")]
    Socket {
        /// The address that was asked for.
        addr: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// Why a listener stopped by itself.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The system gives no connections any more.
    #[error(transparent)]
    Accept(#[from] AcceptError),
}

impl Bind {
    /// This address, with the usual bounds, the hosts of loopback, no TLS and no proxy.
    pub fn at(addr: SocketAddr) -> Self {
        let (limits, allowed_hosts) = (Limits::default(), AllowedHosts::loopback());
        Self { addr, limits, allowed_hosts, tls: None, proxy: ProxySources::default() }
    }

    /// Refuses plaintext that could come from another machine.
    fn check(&self, addr: SocketAddr) -> Result<(), BindError> {
        if self.tls.is_some() || addr.ip().to_canonical().is_loopback() {
            return Ok(());
        }
        Err(BindError::PlaintextBeyondLoopback { addr })
    }
}

impl Listener {
    /// Takes the port. Without TLS, refuses what is not loopback.
    pub async fn bind(bind: Bind) -> Result<Self, BindError> {
        bind.check(bind.addr)?;
        Self::danger_bind_in_the_clear(bind).await
    }

    /// Takes over a port that somebody else has bound, such as systemd; the address of `bind` is not looked at.
    pub fn over(socket: std::net::TcpListener, bind: Bind) -> Result<Self, BindError> {
        let addr = bind.addr;
        bind.check(socket.local_addr().map_err(|source| BindError::Socket { addr, source })?)?;
        Self::danger_over_in_the_clear(socket, bind)
    }

    /// Takes the port, whatever the address: for what serves nobody's requests but its own.
    pub(crate) async fn danger_bind_in_the_clear(bind: Bind) -> Result<Self, BindError> {
        let addr = bind.addr;
        let socket = TcpListener::bind(addr).await.map_err(|source| BindError::Socket { addr, source })?;
        Self::listening(socket, bind)
    }

    /// Takes over a port, whatever its address: see [`Listener::danger_bind_in_the_clear`].
    pub(crate) fn danger_over_in_the_clear(socket: std::net::TcpListener, bind: Bind) -> Result<Self, BindError> {
        let addr = bind.addr;
        let socket = socket.set_nonblocking(true).and_then(|()| TcpListener::from_std(socket));
        Self::listening(socket.map_err(|source| BindError::Socket { addr, source })?, bind)
    }

    fn listening(socket: TcpListener, bind: Bind) -> Result<Self, BindError> {
        let Bind { addr, limits, allowed_hosts, tls, proxy } = bind;
        let local = socket.local_addr().map_err(|source| BindError::Socket { addr, source })?;
        Ok(Self { socket, local, limits, hosts: allowed_hosts, tls, proxy, ahead: None })
    }

    /// Requests for this path do not wait behind others and are never turned away, as long as nobody asks too often: a question for
    /// health must be answered above all when there is much to do. They carry [`crate::Ahead`]. To answer them is to cost no
    /// more than to turn them away.
    #[must_use]
    pub fn ahead(mut self, path: &'static str) -> Self {
        self.ahead = Some(AheadOfOthers::new(path));
        self
    }

    /// The bound address, with the port that the system chose where it was asked to.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Serves connections until `shutdown` comes back; then closes the port, lets what is under way finish within
    /// [`Limits::drain_timeout`], and cuts the rest.
    pub async fn serve<S, B>(self, service: S, shutdown: impl Future<Output = ()>) -> Result<Drained, ServeError>
    where
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Error: Into<Box<dyn Error + Send + Sync>> + Send,
        S::Future: Send + 'static,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let Self { socket, local, limits, hosts, tls, proxy, ahead } = self;
        let congestion = Arc::new(Congestion::new(limits.longest_wait));
        let door = Door::new(tls, proxy, &limits);
        let acceptor = Acceptor::new(socket, limits.connections, door.sources());
        let shared = Arc::new(Shared { limits, door, hosts, congestion, ahead, service });
        let (stop, stopping) = watch::channel(false);
        let told = Told { stop: stopping, crowded: acceptor.crowded() };
        let mut number = 0;
        let begin = |stream: TcpStream, peer: SocketAddr| {
            let counted = shared.door.count(peer.ip()).ok()?;
            number += 1;
            let local = stream.local_addr().unwrap_or(local);
            let facts = Connection { number, peer, local, tls: None };
            Some(connection::serve(Arc::clone(&shared), stream, facts, counted, told.clone()))
        };
        let (tasks, ended) = acceptor.each(shutdown, begin).await;
        // Nobody listens where no connection is open; that is as good as told.
        let _ = stop.send(true);
        let drained = drain(tasks).await;
        Ok(ended.map(|()| drained)?)
    }
}

async fn drain(mut tasks: JoinSet<End>) -> Drained {
    let mut drained = Drained::default();
    while let Some(ended) = tasks.join_next().await {
        match ended {
            Ok(End::Finished) => drained.finished += 1,
            // A panic in the service ends its connection as a cut.
            Ok(End::Cut) | Err(_) => drained.cut += 1,
        }
    }
    drained
}
