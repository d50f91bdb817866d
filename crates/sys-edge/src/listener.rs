//! The loopback listener: bind, accept within bounds, drain.

use crate::{
    AllowedHosts, Limits,
    ahead::AheadOfOthers,
    congestion::Congestion,
    connection::{self, Connection, End, Shared, Told},
    sources::Sources,
};
use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body, Incoming};
use std::{error::Error, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
    time::sleep,
};
use tower::Service;

/// What to listen on, and within which bounds.
#[derive(Debug, Clone)]
pub struct Bind {
    /// A loopback address; port 0 takes any free port.
    pub addr: SocketAddr,
    /// Bounds of the listener and its connections.
    pub limits: Limits,
    /// The hosts that it answers to.
    pub allowed_hosts: AllowedHosts,
}

/// A bound port that nobody is served on yet.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    local: SocketAddr,
    limits: Limits,
    hosts: AllowedHosts,
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
    /// The system gave no connection for [`ACCEPT_FAILURES`] attempts in a row.
    #[error("the system accepts no connections any more")]
    Accept(#[source] io::Error),
}

/// Failures to accept, in a row, after which a listener gives up: 10 s with [`ACCEPT_PAUSE`] between them. Running out
/// of file descriptors passes when connections close; a broken socket never does.
pub const ACCEPT_FAILURES: u32 = 100;
/// Pause after a failure to accept, so that the loop does not spin while descriptors are short.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl Listener {
    /// Takes the port. Refuses what is not loopback, since there is no TLS yet.
    pub async fn bind(bind: Bind) -> Result<Self, BindError> {
        let Bind { addr, limits, allowed_hosts } = bind;
        if !addr.ip().to_canonical().is_loopback() {
            return Err(BindError::PlaintextBeyondLoopback { addr });
        }
        let socket = TcpListener::bind(addr).await.map_err(|source| BindError::Socket { addr, source })?;
        let local = socket.local_addr().map_err(|source| BindError::Socket { addr, source })?;
        Ok(Self { socket, local, limits, hosts: allowed_hosts, ahead: None })
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
        let Self { socket, local, limits, hosts, ahead } = self;
        let slots = Arc::new(Semaphore::new(limits.connections.min(Semaphore::MAX_PERMITS)));
        let (sources, most_per_source) = (Arc::new(Sources::default()), limits.connections_per_source);
        let congestion = Arc::new(Congestion::new(limits.longest_wait));
        let shared = Arc::new(Shared { limits, hosts, congestion, ahead, service });
        let (stop, stopping) = watch::channel(false);
        let (crowd, crowded) = watch::channel(false);
        let told = Told { stop: stopping, crowded };
        let mut tasks = JoinSet::new();
        let mut shutdown = pin!(shutdown);
        let mut number = 0;
        let ended = loop {
            tokio::select! {
                biased;
                () = &mut shutdown => break Ok(()),
                Some(_) = tasks.join_next(), if !tasks.is_empty() => {}
                accepted = accept(&socket, &slots, &crowd) => {
                    let (stream, peer, slot) = match accepted { Ok(accepted) => accepted, Err(error) => break Err(error) };
                    let Some(counted) = sources.count(peer.ip(), most_per_source) else { continue };
                    number += 1;
                    let facts = Connection { number, peer, local };
                    let served = connection::serve(Arc::clone(&shared), stream, facts, told.clone());
                    tasks.spawn(async move {
                        let _places = (slot, counted);
                        served.await
                    });
                }
            }
        };
        drop(socket);
        // Nobody listens where no connection is open; that is as good as told.
        let _ = stop.send(true);
        let drained = drain(tasks).await;
        ended.map(|()| drained)
    }
}

/// Waits for a free slot, then for a connection. While there is no slot, the connections hear that it is crowded.
async fn accept(
    socket: &TcpListener,
    slots: &Arc<Semaphore>,
    crowd: &watch::Sender<bool>,
) -> Result<(TcpStream, SocketAddr, OwnedSemaphorePermit), ServeError> {
    let is_crowded = slots.available_permits() == 0;
    crowd.send_if_modified(|crowded| std::mem::replace(crowded, is_crowded) != is_crowded);
    let slot =
        Arc::clone(slots).acquire_owned().await.map_err(|closed| ServeError::Accept(io::Error::other(closed)))?;
    crowd.send_if_modified(std::mem::take);
    let mut failures = 0;
    loop {
        match socket.accept().await {
            Ok((stream, peer)) => {
                // Small answers must not wait for a full packet. A socket that refuses this is about to fail anyway.
                let _ = stream.set_nodelay(true);
                return Ok((stream, peer, slot));
            }
            Err(error) => {
                failures += 1;
                tracing::warn!(%error, failures, "cannot accept a connection");
                if failures >= ACCEPT_FAILURES {
                    return Err(ServeError::Accept(error));
                }
                sleep(ACCEPT_PAUSE).await;
            }
        }
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
