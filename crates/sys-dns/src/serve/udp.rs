//! Questions in datagrams: read and answered in batches, by threads that wait for nothing else.
//!
//! Each thread has a socket of its own on the same port, among which the kernel spreads the sources. A batch is two system calls, whatever
//! its length. What must never happen here: an allocation for a question, or a wait for a peer.

use super::ServeError;
use crate::{
    query::MOST_QUERY_BYTES,
    respond::{Responder, Transport, Via},
};
use nix::{
    cmsg_space,
    errno::Errno,
    libc::{in_addr, in_pktinfo, in6_addr, in6_pktinfo},
    sys::{
        socket::{
            AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, SockFlag, SockType,
            SockaddrStorage, bind, getsockopt, recvmmsg, sendmmsg, setsockopt, socket, sockopt,
        },
        time::{TimeVal, TimeValLike},
    },
};
use std::{
    io::{self, IoSlice, IoSliceMut},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    num::NonZeroUsize,
    os::fd::{AsFd, AsRawFd, OwnedFd, RawFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::sleep,
    time::Duration,
};
use tokio::{sync::watch, task::JoinSet};

/// Datagrams that are read and answered at once.
const BATCH: usize = 32;
/// How often a thread looks whether it is to stop while nobody asks anything.
const LOOK_MS: i64 = 200;
/// Failures to receive, in a row, after which a thread gives up: 10 s with [`RECEIVE_PAUSE`] between them.
const RECEIVE_FAILURES: u32 = 100;
const RECEIVE_PAUSE: Duration = Duration::from_millis(100);

/// What the kernel keeps of questions for a socket while its thread does something else: as much as NSD 4.6 asks for; knot
/// and unbound leave it at what the system has. At some 0.8 KB that a datagram costs the kernel, and the double of this that it counts (socket(7)),
/// these are 2,700 questions, or 27 ms at 100,000 a second; the usual 208 KiB are full after 3 ms.
const RECEIVE_BUFFER_BYTES: usize = 1 << 20;

/// Bound sockets, one for each thread.
#[derive(Debug)]
pub(super) struct Sockets(Vec<Socket>);

#[derive(Debug)]
struct Socket {
    inner: UdpSocket,
    /// Whether it is bound to all addresses, so that an answer has to be told which one was asked.
    is_wildcard: bool,
    is_ipv4: bool,
}

impl Sockets {
    pub(super) fn bind(addr: SocketAddr, threads: NonZeroUsize) -> io::Result<Self> {
        let sockets = (0..threads.get()).map(|_| Socket::bind(addr, threads.get() > 1));
        sockets.collect::<io::Result<_>>().map(Self::buffered)
    }

    /// Takes over a socket that somebody else has bound; all threads read from it.
    pub(super) fn over(socket: &UdpSocket, threads: NonZeroUsize) -> io::Result<Self> {
        let sockets = (0..threads.get()).map(|_| Socket::over(socket.try_clone()?));
        sockets.collect::<io::Result<_>>().map(Self::buffered)
    }

    /// With room for questions that come all at once, as far as the kernel gives any.
    fn buffered(sockets: Vec<Socket>) -> Self {
        let granted = sockets.iter().map(|socket| enlarge(&socket.inner).unwrap_or_default()).min();
        if let Some(bytes) = granted.filter(|bytes| *bytes < RECEIVE_BUFFER_BYTES) {
            tracing::warn!(
                bytes,
                "the kernel keeps few DNS questions for this server, and loses more of those that come at once than it must: allow it \
                 {RECEIVE_BUFFER_BYTES} bytes (`sysctl net.core.rmem_max`), or have systemd bind the port"
            );
        }
        Self(sockets)
    }

    /// Answers until `stop` says so, or until one of the threads cannot go on.
    pub(super) async fn serve(self, responder: Responder, mut stop: watch::Receiver<bool>) -> Result<(), ServeError> {
        let stopping = Stopping::default();
        let mut threads = JoinSet::new();
        for socket in self.0 {
            let (responder, stopped) = (responder.clone(), Arc::clone(&stopping.0));
            threads.spawn_blocking(move || Worker::new(socket, responder).run(&stopped));
        }
        let mut ended = tokio::select! {
            // Whoever could say so is gone: that is as good as said.
            _ = stop.wait_for(|stop| *stop) => Ok(()),
            Some(ended) = threads.join_next() => ended.map_err(io::Error::other).map_err(ServeError::Receive).flatten(),
        };
        drop(stopping);
        while let Some(next) = threads.join_next().await {
            ended = ended.and(next.map_err(io::Error::other).map_err(ServeError::Receive).flatten());
        }
        ended
    }
}

/// Stops the threads when it is dropped, by whom and why ever: nothing else ends a thread, and a runtime waits for its threads at its end.
#[derive(Debug, Default)]
struct Stopping(Arc<AtomicBool>);

impl Drop for Stopping {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Socket {
    fn bind(addr: SocketAddr, is_shared: bool) -> io::Result<Self> {
        let family = if addr.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let inner: OwnedFd = socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
        setsockopt(&inner, sockopt::ReusePort, &is_shared)?;
        if addr.is_ipv6() {
            setsockopt(&inner, sockopt::Ipv6V6Only, &true)?;
        }
        prepare(&inner, addr)?;
        bind(inner.as_raw_fd(), &SockaddrStorage::from(addr))?;
        Ok(Self { inner: inner.into(), is_wildcard: addr.ip().is_unspecified(), is_ipv4: addr.is_ipv4() })
    }

    /// A socket that is bound. Datagrams that wait in it already say where they were sent to only if whoever bound it asked for that.
    fn over(inner: UdpSocket) -> io::Result<Self> {
        let addr = inner.local_addr()?;
        inner.set_nonblocking(false)?;
        prepare(&inner, addr)?;
        Ok(Self { inner, is_wildcard: addr.ip().is_unspecified(), is_ipv4: addr.is_ipv4() })
    }
}

/// Has a socket at this address say where each datagram was sent to, where it is bound to all addresses, and wait for one no longer than
/// a thread may.
fn prepare(socket: &impl AsFd, addr: SocketAddr) -> io::Result<()> {
    match addr {
        SocketAddr::V4(addr) if addr.ip().is_unspecified() => setsockopt(socket, sockopt::Ipv4PacketInfo, &true)?,
        SocketAddr::V6(addr) if addr.ip().is_unspecified() => setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true)?,
        _ => {}
    }
    Ok(setsockopt(socket, sockopt::ReceiveTimeout, &TimeVal::milliseconds(LOOK_MS))?)
}

/// Has the kernel keep [`RECEIVE_BUFFER_BYTES`], unless it keeps more already. What it keeps.
fn enlarge(socket: &impl AsFd) -> nix::Result<usize> {
    // It says the double of what it was asked for, and of what it has by itself no more than that is.
    let granted = || getsockopt(socket, sockopt::RcvBuf).map(|doubled| doubled / 2);
    if granted()? < RECEIVE_BUFFER_BYTES {
        setsockopt(socket, sockopt::RcvBuf, &RECEIVE_BUFFER_BYTES)?;
    }
    granted()
}

/// A socket with the memory that its datagrams go through.
struct Worker {
    socket: Socket,
    responder: Responder,
    questions: Box<[[u8; MOST_QUERY_BYTES]]>,
    answers: [Vec<u8>; BATCH],
    incoming: MultiHeaders<SockaddrStorage>,
    outgoing: MultiHeaders<SockaddrStorage>,
}

/// What is known of a datagram that was received.
#[derive(Debug, Clone, Copy)]
struct Received {
    length: usize,
    from: SockaddrStorage,
    /// Where the socket is bound to all addresses.
    to: Option<Local>,
}

/// One of our own addresses, and the interface where that belongs to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Local {
    V4(Ipv4Addr),
    V6(Ipv6Addr, u32),
}

impl Worker {
    fn new(socket: Socket, responder: Responder) -> Self {
        // Of the exact size of what is said about an address: all of it is handed to the kernel.
        let space = || match (socket.is_wildcard, socket.is_ipv4) {
            (false, _) => None,
            (true, true) => Some(cmsg_space!(in_pktinfo)),
            (true, false) => Some(cmsg_space!(in6_pktinfo)),
        };
        let (incoming, outgoing) =
            (MultiHeaders::preallocate(BATCH, space()), MultiHeaders::preallocate(BATCH, space()));
        let questions = vec![[0; MOST_QUERY_BYTES]; BATCH].into_boxed_slice();
        Self { socket, responder, questions, answers: [const { Vec::new() }; BATCH], incoming, outgoing }
    }

    /// Answers until it is stopped.
    fn run(mut self, stopped: &AtomicBool) -> Result<(), ServeError> {
        let mut failures = 0;
        while !stopped.load(Ordering::Relaxed) {
            match self.receive() {
                Ok(batch) => {
                    failures = 0;
                    self.answer(&batch);
                    self.send(&batch);
                }
                // Nobody asked for a while.
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(error) => {
                    failures += 1;
                    tracing::warn!(%error, failures, "cannot receive DNS questions");
                    if failures >= RECEIVE_FAILURES {
                        return Err(ServeError::Receive(error.into()));
                    }
                    sleep(RECEIVE_PAUSE);
                }
            }
        }
        Ok(())
    }

    /// Waits for one datagram and takes those that are there too.
    fn receive(&mut self) -> Result<[Option<Received>; BATCH], Errno> {
        let mut questions = self.questions.iter_mut();
        let mut slices: [[IoSliceMut<'_>; 1]; BATCH] =
            std::array::from_fn(|_| [IoSliceMut::new(questions.next().map_or(&mut [], |question| &mut question[..]))]);
        let socket = self.socket.inner.as_raw_fd();
        let received = recvmmsg(socket, &mut self.incoming, &mut slices, MsgFlags::MSG_WAITFORONE, None)?;
        let mut batch = [None; BATCH];
        for (place, datagram) in batch.iter_mut().zip(received) {
            let told = datagram.cmsgs().ok().and_then(|mut told| told.find_map(Local::read));
            *place = datagram.address.map(|from| Received { length: datagram.bytes, from, to: told });
        }
        Ok(batch)
    }

    /// Answers each question in its place; what is not answered leaves its place empty.
    fn answer(&mut self, batch: &[Option<Received>; BATCH]) {
        for ((received, question), answer) in batch.iter().zip(&self.questions).zip(&mut self.answers) {
            answer.clear();
            let Some(received) = received else { break };
            let (Some(source), Some(question)) = (ip_of(&received.from), question.get(..received.length)) else {
                continue;
            };
            self.responder.answer(question, Via { transport: Transport::Udp, source }, answer);
        }
    }

    /// Sends the answers, in runs that leave from the same address. What cannot be sent now is as lost as any datagram may be.
    fn send(&mut self, batch: &[Option<Received>; BATCH]) {
        let answered = || batch.iter().zip(&self.answers).filter(|(_, answer)| !answer.is_empty());
        let mut waiting = answered().filter_map(|(received, answer)| Some((received.as_ref()?, answer))).peekable();
        let socket = self.socket.inner.as_raw_fd();
        while let Some(&(&Received { to, .. }, _)) = waiting.peek() {
            let mut slices: [[IoSlice<'_>; 1]; BATCH] = [[IoSlice::new(&[])]; BATCH];
            let mut addresses = [None; BATCH];
            let mut count = 0;
            for (slice, address) in slices.iter_mut().zip(&mut addresses) {
                let Some((received, answer)) = waiting.next_if(|(received, _)| received.to == to) else { break };
                (*slice, *address) = ([IoSlice::new(answer)], Some(received.from));
                count += 1;
            }
            let run = (slices.get(..count).unwrap_or_default(), addresses.get(..count).unwrap_or_default());
            match to {
                None => send_run(socket, &mut self.outgoing, run, &[]),
                Some(Local::V4(ours)) => {
                    let told = in_pktinfo {
                        ipi_ifindex: 0,
                        ipi_spec_dst: in_addr { s_addr: u32::from(ours).to_be() },
                        ipi_addr: in_addr { s_addr: 0 },
                    };
                    send_run(socket, &mut self.outgoing, run, &[ControlMessage::Ipv4PacketInfo(&told)]);
                }
                Some(Local::V6(ours, interface)) => {
                    let told = in6_pktinfo { ipi6_addr: in6_addr { s6_addr: ours.octets() }, ipi6_ifindex: interface };
                    send_run(socket, &mut self.outgoing, run, &[ControlMessage::Ipv6PacketInfo(&told)]);
                }
            }
        }
    }
}

/// Answers that leave from one address, and where each goes.
type Run<'a> = (&'a [[IoSlice<'a>; 1]], &'a [Option<SockaddrStorage>]);

/// Sends one answer after the other; one that is refused does not stop those behind it.
fn send_run(socket: RawFd, headers: &mut MultiHeaders<SockaddrStorage>, run: Run<'_>, told: &[ControlMessage<'_>]) {
    let (mut slices, mut addresses) = run;
    while !slices.is_empty() {
        let sent = sendmmsg(socket, &mut *headers, slices, addresses, told, MsgFlags::MSG_DONTWAIT);
        // Where there is an error it is that of the first.
        let done = sent.map_or(1, Iterator::count).max(1);
        slices = slices.get(done..).unwrap_or_default();
        addresses = addresses.get(done..).unwrap_or_default();
    }
}

impl Local {
    fn read(told: ControlMessageOwned) -> Option<Self> {
        match told {
            ControlMessageOwned::Ipv4PacketInfo(info) => Some(Self::V4(u32::from_be(info.ipi_spec_dst.s_addr).into())),
            ControlMessageOwned::Ipv6PacketInfo(info) => {
                Some(Self::V6(info.ipi6_addr.s6_addr.into(), info.ipi6_ifindex))
            }
            _ => None,
        }
    }
}

fn ip_of(address: &SockaddrStorage) -> Option<IpAddr> {
    if let Some(address) = address.as_sockaddr_in() {
        return Some(address.ip().into());
    }
    address.as_sockaddr_in6().map(|address| address.ip().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket() -> UdpSocket {
        UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port")
    }

    #[test]
    fn the_kernel_keeps_as_many_questions_as_it_allows_and_never_fewer_than_before() {
        let most = std::fs::read_to_string("/proc/sys/net/core/rmem_max").expect("Linux");
        let most: usize = most.trim().parse().expect("a number");
        let new = Sockets::bind((Ipv4Addr::LOCALHOST, 0).into(), NonZeroUsize::MIN).expect("a port");
        assert_eq!(enlarge(&new.0[0].inner), Ok(RECEIVE_BUFFER_BYTES.min(most)));
        let ample = socket();
        setsockopt(&ample, sockopt::RcvBuf, &(3 * RECEIVE_BUFFER_BYTES)).expect("a size");
        let before = getsockopt(&ample, sockopt::RcvBuf);
        let taken = Sockets::over(&ample, NonZeroUsize::MIN).expect("a socket");
        assert_eq!(getsockopt(&taken.0[0].inner, sockopt::RcvBuf), before);
    }
}
