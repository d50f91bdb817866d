//! Listeners: datagrams and streams in, answers out, within bounds.
//!
//! UDP is read and answered by threads that do nothing else (`udp.rs`), TCP by a task for each connection (`streams.rs`). Whoever accepts streams
//! under TLS brings their handshake along ([`StreamListener::serve`]); nothing here knows TLS. What must never happen here: a look at what is
//! asked, which begins in [`Responder`].

mod streams;
mod udp;

pub use streams::{Drained, StreamListener};

use crate::respond::{Responder, Transport};
use std::{
    future::{Ready, ready},
    io,
    net::SocketAddr,
    num::NonZeroUsize,
    thread::available_parallelism,
    time::Duration,
};
use tokio::{net::TcpStream, sync::watch};

/// What to listen on, and within which bounds.
#[derive(Debug, Clone, Copy)]
pub struct DnsBind {
    /// For UDP and TCP alike. Port 0 takes one that is free for both. On `0.0.0.0`, and on `[::]` which is IPv6 alone,
    /// answers leave from the address that was asked.
    pub addr: SocketAddr,
    /// Bounds of what is kept open, and of time.
    pub limits: Limits,
}

/// Bounds. Every value is legal; the defaults suit one small server.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Sockets for UDP, each with a thread of its own.
    pub udp_threads: NonZeroUsize,
    /// Streams open at once. Who comes then takes the place of one whose source has many more than his; where none has, he waits in the
    /// kernel's backlog until one closes, and those that are idle close early.
    pub connections: usize,
    /// Streams from one source (see [`sys_net::Network`]). Further ones close at once.
    pub connections_per_source: usize,
    /// From the last answer, or the beginning, to the next whole question; also for a handshake.
    pub idle_timeout: Duration,
    /// The same while others wait for a place.
    pub crowded_idle_timeout: Duration,
    /// How long a peer may take to read what he asked for, [`OUTBOX_BYTES`](streams) at a time.
    pub stall_timeout: Duration,
    /// From the shutdown to the hard close of streams whose answers are not read yet.
    pub drain_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            udp_threads: available_parallelism().unwrap_or(NonZeroUsize::MIN).min(MOST_THREADS),
            connections: 1_024,
            connections_per_source: 128,
            idle_timeout: Duration::from_secs(10),
            crowded_idle_timeout: Duration::from_secs(1),
            stall_timeout: Duration::from_secs(10),
            drain_timeout: Duration::from_secs(5),
        }
    }
}

/// More threads than this bring no more answers out of one network card's queue.
const MOST_THREADS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(7);
/// How often a port is sought that is free for UDP and for TCP.
const PORT_ATTEMPTS: u32 = 16;

/// Why a listener does not start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The system refused the port.
    #[error(
        "cannot listen for DNS on {addr}; if another DNS server is there (systemd-resolved is, on many machines), stop it or name another address"
    )]
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
    Accept(#[from] sys_net::AcceptError),
    /// The system gave no datagram for many attempts in a row.
    #[error("the system gives no datagrams any more")]
    Receive(#[source] io::Error),
}

/// A port for UDP and TCP that nobody is answered on yet.
#[derive(Debug)]
pub struct DnsListener {
    udp: udp::Sockets,
    tcp: StreamListener,
}

impl DnsListener {
    /// Takes the port.
    pub async fn bind(bind: DnsBind) -> Result<Self, BindError> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let tcp = StreamListener::bind(bind.addr, bind.limits).await?;
            match udp::Sockets::bind(tcp.local_addr(), bind.limits.udp_threads) {
                Ok(udp) => return Ok(Self { udp, tcp }),
                Err(_) if bind.addr.port() == 0 && attempts < PORT_ATTEMPTS => {}
                Err(source) => return Err(BindError::Socket { addr: tcp.local_addr(), source }),
            }
        }
    }

    /// Takes over a port that somebody else has bound, such as systemd: for streams and for datagrams.
    pub fn over(tcp: std::net::TcpListener, udp: std::net::UdpSocket, limits: Limits) -> Result<Self, BindError> {
        let tcp = StreamListener::over(tcp, limits)?;
        let addr = tcp.local_addr();
        let udp = udp::Sockets::over(&udp, limits.udp_threads).map_err(|source| BindError::Socket { addr, source })?;
        Ok(Self { udp, tcp })
    }

    /// The bound address, with the port that was chosen where it was asked to.
    pub fn local_addr(&self) -> SocketAddr {
        self.tcp.local_addr()
    }

    /// Answers until `shutdown` comes back, or until one of both cannot go on, which ends the other.
    pub async fn serve(self, responder: Responder, shutdown: impl Future<Output = ()>) -> Result<Drained, ServeError> {
        let Self { udp, tcp } = self;
        let (stop, mut stopping) = watch::channel(false);
        let datagrams = udp.serve(responder.clone(), stop.subscribe());
        let stopped = async move {
            // Whoever could say so is gone: that is as good as said.
            let _ = stopping.wait_for(|stop| *stop).await;
        };
        let streams = tcp.serve(responder, Transport::Tcp, in_the_clear, stopped);
        let until_told = async {
            tokio::select! {
                () = shutdown => {}
                () = stop.closed() => {}
            }
            stop.send_replace(true);
        };
        let datagrams = async {
            let ended = datagrams.await;
            stop.send_replace(true);
            ended
        };
        let streams = async {
            let ended = streams.await;
            stop.send_replace(true);
            ended
        };
        let ((), datagrams, streams) = tokio::join!(until_told, datagrams, streams);
        datagrams.and(streams)
    }
}

/// The handshake of a stream that has none.
fn in_the_clear(stream: TcpStream) -> Ready<Option<TcpStream>> {
    ready(Some(stream))
}

#[cfg(test)]
mod tests;
