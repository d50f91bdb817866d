//! Questions in streams (RFC 1035 section 4.2.2, RFC 7766): each behind its length, as many as the peer likes, answered in their order.

use super::{BindError, Limits, ServeError};
use crate::{
    query::MOST_QUERY_BYTES,
    respond::{Responder, Transport, Via},
};
use nix::sys::socket::{setsockopt, sockopt};
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use sys_net::{Acceptor, Sources};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep_until, timeout, timeout_at},
};

/// Answers that are gathered before they are written. A peer who does not read them is not asked for more.
pub(super) const OUTBOX_BYTES: usize = 16 * 1_024;
/// A question and its length.
const INBOX_BYTES: usize = MOST_QUERY_BYTES + LENGTH_BYTES;
const LENGTH_BYTES: usize = 2;
/// Connections that wait in the kernel to be accepted.
const BACKLOG: u32 = 1_024;

/// A bound TCP port that nobody is answered on yet.
#[derive(Debug)]
pub struct StreamListener {
    socket: TcpListener,
    local: SocketAddr,
    limits: Limits,
}

/// How a drained listener left its streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Drained {
    /// Streams that were open at the shutdown and whose answers were read.
    pub finished: usize,
    /// Streams that were cut after the drain time.
    pub cut: usize,
}

/// What streams are told while they are open.
#[derive(Debug, Clone)]
struct Told {
    stop: watch::Receiver<bool>,
    is_crowded: watch::Receiver<bool>,
}

impl StreamListener {
    /// Takes the port. Port 0 takes any free one.
    pub async fn bind(addr: SocketAddr, limits: Limits) -> Result<Self, BindError> {
        let socket = listen(addr).map_err(|source| BindError::Socket { addr, source })?;
        let local = socket.local_addr().map_err(|source| BindError::Socket { addr, source })?;
        Ok(Self { socket, local, limits })
    }

    /// Takes over a port that somebody else has bound, such as systemd.
    pub fn over(socket: std::net::TcpListener, limits: Limits) -> Result<Self, BindError> {
        let unbound = SocketAddr::from(([0, 0, 0, 0], 0));
        let local = socket.local_addr().map_err(|source| BindError::Socket { addr: unbound, source })?;
        let socket = socket.set_nonblocking(true).and_then(|()| TcpListener::from_std(socket));
        let socket = socket.map_err(|source| BindError::Socket { addr: local, source })?;
        Ok(Self { socket, local, limits })
    }

    /// The bound address, with the port that was chosen where it was asked to.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Answers what comes in streams until `shutdown` comes back; then closes the port and lets peers read their answers within
    /// [`Limits::drain_timeout`]. `handshake` makes of an accepted connection the stream to read, under TLS for one; `None` where
    /// that fails. It has [`Limits::idle_timeout`] for it.
    pub async fn serve<H, F, S>(
        self,
        responder: Responder,
        transport: Transport,
        handshake: H,
        shutdown: impl Future<Output = ()>,
    ) -> Result<Drained, ServeError>
    where
        H: Fn(TcpStream) -> F,
        F: Future<Output = Option<S>> + Send + 'static,
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let Self { socket, limits, .. } = self;
        let sources = Arc::new(Sources::new(limits.connections_per_source));
        let acceptor = Acceptor::new(socket, limits.connections, Arc::clone(&sources));
        let (stop, stopping) = watch::channel(false);
        let told = Told { stop: stopping, is_crowded: acceptor.crowded() };
        let begin = |stream: TcpStream, peer: SocketAddr| {
            let counted = sources.count(peer.ip())?;
            let via = Via { transport, source: peer.ip() };
            let (shaken, responder, told) = (handshake(stream), responder.clone(), told.clone());
            let held = async move {
                if let Ok(Some(stream)) = timeout(limits.idle_timeout, shaken).await {
                    Conversation::new(stream, responder, via, limits, told).hold().await;
                }
            };
            Some(async move {
                tokio::select! {
                    () = held => {}
                    () = counted.is_to_leave() => {}
                }
            })
        };
        let (streams, ended) = acceptor.each(shutdown, begin).await;
        stop.send_replace(true);
        let drained = drain(streams, limits.drain_timeout).await;
        Ok(ended.map(|()| drained)?)
    }
}

fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if addr.is_ipv6() {
        // As for datagrams, so that `[::]` and `0.0.0.0` are two listeners and neither takes the other's place.
        setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
    }
    // A server that starts again takes the port of the one before, whose streams the kernel still remembers.
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    socket.listen(BACKLOG)
}

async fn drain(mut streams: JoinSet<()>, within: Duration) -> Drained {
    let deadline = Instant::now() + within;
    let mut drained = Drained::default();
    while let Ok(Some(_)) = timeout_at(deadline, streams.join_next()).await {
        drained.finished += 1;
    }
    drained.cut = streams.len();
    streams.shutdown().await;
    drained
}

/// One stream with what was read of it and what is to be written.
struct Conversation<S> {
    stream: S,
    responder: Responder,
    via: Via,
    limits: Limits,
    told: Told,
    inbox: Box<[u8]>,
    filled: usize,
    answer: Vec<u8>,
    outbox: Vec<u8>,
}

/// The peer is gone, or is to go: he was idle, did not read, or speaks something else.
struct Over;

impl<S: AsyncRead + AsyncWrite + Unpin> Conversation<S> {
    fn new(stream: S, responder: Responder, via: Via, limits: Limits, told: Told) -> Self {
        let inbox = vec![0; INBOX_BYTES].into_boxed_slice();
        Self { stream, responder, via, limits, told, inbox, filled: 0, answer: Vec::new(), outbox: Vec::new() }
    }

    /// Answers until the peer has no more questions, or has to go.
    async fn hold(mut self) {
        while self.receive().await.is_ok() {
            if self.answer_all().await.is_err() {
                return;
            }
        }
        // He may have gone before: then nobody misses the goodbye.
        let _ = timeout(self.limits.stall_timeout, self.stream.shutdown()).await;
    }

    /// Reads until a whole question is there, which has to come within the time for idle ones.
    async fn receive(&mut self) -> Result<(), Over> {
        let since = Instant::now();
        while self.question()?.is_none() {
            let is_crowded = *self.told.is_crowded.borrow_and_update();
            let patience = if is_crowded { self.limits.crowded_idle_timeout } else { self.limits.idle_timeout };
            let room = self.inbox.get_mut(self.filled..).unwrap_or_default();
            tokio::select! {
                biased;
                read = self.stream.read(room) => match read {
                    Ok(0) | Err(_) => return Err(Over),
                    Ok(count) => self.filled += count,
                },
                _ = self.told.stop.wait_for(|stop| *stop) => return Err(Over),
                () = sleep_until(since + patience) => return Err(Over),
                changed = self.told.is_crowded.changed() => changed.map_err(|_| Over)?,
            }
        }
        Ok(())
    }

    /// Answers each whole question that was read.
    async fn answer_all(&mut self) -> Result<(), Over> {
        let mut begin = 0;
        while let Some(length) = self.question_at(begin)? {
            let end = begin + LENGTH_BYTES + length;
            let question = self.inbox.get(begin + LENGTH_BYTES..end).unwrap_or_default();
            // Who sends what is no question is not somebody to wait for.
            self.responder.answer(question, self.via, &mut self.answer).ok_or(Over)?;
            let length = u16::try_from(self.answer.len()).map_err(|_| Over)?;
            self.outbox.extend_from_slice(&length.to_be_bytes());
            self.outbox.extend_from_slice(&self.answer);
            begin = end;
            if self.outbox.len() >= OUTBOX_BYTES {
                self.send().await?;
            }
        }
        self.inbox.copy_within(begin..self.filled, 0);
        self.filled -= begin;
        self.send().await
    }

    async fn send(&mut self) -> Result<(), Over> {
        let sent = async {
            self.stream.write_all(&self.outbox).await?;
            self.stream.flush().await
        };
        timeout(self.limits.stall_timeout, sent).await.map_err(|_| Over)?.map_err(|_| Over)?;
        self.outbox.clear();
        // What one long answer took is not kept for as long as the stream is idle.
        self.outbox.shrink_to(OUTBOX_BYTES);
        self.answer.shrink_to(OUTBOX_BYTES);
        Ok(())
    }

    fn question(&self) -> Result<Option<usize>, Over> {
        self.question_at(0)
    }

    /// The length of the question that begins there, if all of it is there.
    fn question_at(&self, begin: usize) -> Result<Option<usize>, Over> {
        let unread = self.inbox.get(begin..self.filled).unwrap_or_default();
        let Some((length, rest)) = unread.split_first_chunk() else { return Ok(None) };
        let length = usize::from(u16::from_be_bytes(*length));
        if length > MOST_QUERY_BYTES {
            return Err(Over);
        }
        Ok((rest.len() >= length).then_some(length))
    }
}
