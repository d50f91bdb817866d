//! What a connection goes through before its first request: the header of a proxy, and the handshake of TLS.
//!
//! Each part runs in the connection's own task, and all of them within one time. A handshake is the dearest thing that a stranger can ask for
//! without a word: so it costs nothing but a socket until he has sent something, it is dealt with in turns, one for each of its steps
//! and one source after the other, and it may be so many bytes long. What must never happen here: a name or an address in a log line.

use crate::{
    Limits, ProxySources,
    congestion::{Congestion, Place},
    connection::Connection,
    metered::{Meter, Metered},
    proxy::{self, Ends, ProxyError},
    tls::{Accepted, Tls, TlsError},
};
use std::{
    future::poll_fn,
    io,
    net::IpAddr,
    pin::pin,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};
use sys_net::{Counted, Sources};
use tokio::{io::AsyncWriteExt, net::TcpStream};
use tokio_boring::SslStream;

/// Bytes that a peer may send until the end of his handshake: two client hellos of 16 KiB, as much early data, which is
/// skipped, and a certificate that is as long again. The longest that an honest client has sent is a tenth of it.
const MOST_HANDSHAKE_BYTES: usize = 64 << 10;

/// What a listener opens its connections with.
#[derive(Debug)]
pub(crate) struct Door {
    tls: Option<Tls>,
    proxy: ProxySources,
    /// The turns of handshakes.
    handshakes: Arc<Congestion>,
    sources: Arc<Sources>,
    time: Duration,
}

/// A connection that requests can come on.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) wire: Wire,
    pub(crate) facts: Connection,
    /// Its place among those of its source, to be held until it closes.
    pub(crate) counted: Counted,
}

/// What requests come on.
#[derive(Debug)]
pub(crate) enum Wire {
    Plain(Metered),
    Tls(SslStream<Metered>),
}

/// Why a connection closes before its first request. Each is the peer's doing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotOpened {
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    #[error("the source that a proxy names has too many connections")]
    ManyOfSource,
    #[error("it closed before it sent anything")]
    Closed(#[source] io::Error),
    #[error("there are more handshakes than can be dealt with in time")]
    TurnedAway,
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("it took too long")]
    Late,
}

impl Door {
    /// For the runtime that this is called in.
    pub(crate) fn new(tls: Option<Tls>, proxy: ProxySources, limits: &Limits) -> Self {
        // The head of the first request is to come in what is left of its own time.
        let time = limits.handshake_timeout.min(limits.header_timeout);
        let handshakes = Arc::new(Congestion::of_handshakes(time / 2));
        let sources = Arc::new(Sources::new(limits.connections_per_source));
        Self { tls, proxy, handshakes, sources, time }
    }

    /// The most that [`Door::open`] may take.
    pub(crate) fn time(&self) -> Duration {
        self.time
    }

    /// The place of a connection that was accepted, where that is known by now. Who comes through a proxy has none yet; there
    /// is none at all where his source has too many.
    pub(crate) fn count(&self, peer: IpAddr) -> Result<Option<Counted>, NotOpened> {
        if self.proxy.contain(peer) {
            return Ok(None);
        }
        let counted = self.sources.count(peer);
        counted.map(Some).ok_or(NotOpened::ManyOfSource)
    }

    /// Who has the places. Who comes through a proxy has none until he is known, and may be anybody until then.
    pub(crate) fn sources(&self) -> Arc<Sources> {
        Arc::clone(&self.sources)
    }

    /// Opens a connection. There is nothing to serve on it if it was for the validation of a name.
    pub(crate) async fn open(
        &self,
        mut stream: TcpStream,
        mut facts: Connection,
        counted: Option<Counted>,
        meter: &Arc<Meter>,
    ) -> Result<Option<Opened>, NotOpened> {
        let counted = match counted {
            Some(counted) => counted,
            None => {
                let ends = Ends { peer: facts.peer, local: facts.local };
                Ends { peer: facts.peer, local: facts.local } = proxy::read(&mut stream, ends, self.time).await?;
                let counted = self.sources.count(facts.peer.ip());
                counted.ok_or(NotOpened::ManyOfSource)?
            }
        };
        let Some(tls) = &self.tls else {
            let wire = Wire::Plain(Metered::new(stream, Arc::clone(meter)));
            return Ok(Some(Opened { wire, facts, counted }));
        };
        let stream = spoken(stream, meter).await?;
        let handshake = tls.accept(stream, facts.local.ip());
        match self.in_turns(facts.peer.ip(), handshake).await?? {
            Accepted::Requests(mut stream, read) => {
                stream.get_mut().read_all();
                facts.tls = Some(Arc::new(read));
                Ok(Some(Opened { wire: Wire::Tls(stream), facts, counted }))
            }
            Accepted::Challenge(mut stream) => {
                // Whoever validates has gone, or hears that this was all.
                let _ = stream.shutdown().await;
                Ok(None)
            }
        }
    }

    /// Shakes hands on a connection that is for DNS, and that was counted elsewhere.
    pub(crate) async fn open_for_questions(
        &self,
        stream: TcpStream,
        meter: &Arc<Meter>,
    ) -> Result<SslStream<Metered>, NotOpened> {
        let tls = self.tls.as_ref().ok_or(TlsError::Unexpected("stream without TLS"))?;
        let (peer, local) =
            stream.peer_addr().and_then(|peer| Ok((peer, stream.local_addr()?))).map_err(NotOpened::Closed)?;
        let stream = spoken(stream, meter).await?;
        let mut stream = self.in_turns(peer.ip(), tls.accept_questions(stream, local.ip())).await??;
        stream.get_mut().read_all();
        Ok(stream)
    }

    /// Does the next step of a handshake whenever there is something to do it with, and when it is the turn of its source. Who would have
    /// to wait too long for the first one is sent away before he has cost anything.
    async fn in_turns<F: Future>(&self, source: IpAddr, handshake: F) -> Result<F::Output, NotOpened> {
        let mut handshake = pin!(handshake);
        let mut place = self.handshakes.arrive(source, Instant::now());
        loop {
            if matches!(place, Place::TurnedAway) {
                return Err(NotOpened::TurnedAway);
            }
            let turn = place.turn().await;
            let step = poll_fn(|context| Poll::Ready(handshake.as_mut().poll(context))).await;
            drop(turn);
            if let Poll::Ready(ended) = step {
                return Ok(ended);
            }
            woken().await;
            place = self.handshakes.go_on(source, Instant::now());
        }
    }
}

/// A stream whose peer has begun to speak, and may say so much until the end of his handshake.
async fn spoken(stream: TcpStream, meter: &Arc<Meter>) -> Result<Metered, NotOpened> {
    stream.readable().await.map_err(NotOpened::Closed)?;
    Ok(Metered::new(stream, Arc::clone(meter)).reading_at_most(MOST_HANDSHAKE_BYTES))
}

/// Comes back when this task is woken, by what has left it a waker before.
async fn woken() {
    let mut is_woken = false;
    poll_fn(|_| if std::mem::replace(&mut is_woken, true) { Poll::Ready(()) } else { Poll::Pending }).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        net::Ipv4Addr,
        sync::atomic::{AtomicUsize, Ordering},
    };
    use tokio::{sync::Notify, time::sleep};

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));

    fn door() -> Door {
        Door::new(None, ProxySources::default(), &Limits::default())
    }

    /// A handshake of two steps, which takes the second when it is told to.
    async fn two_steps(taken: &AtomicUsize, told: &Notify) {
        taken.fetch_add(1, Ordering::SeqCst);
        told.notified().await;
        taken.fetch_add(1, Ordering::SeqCst);
    }

    #[tokio::test]
    async fn a_handshake_takes_a_turn_for_each_step_and_holds_none_while_it_waits_for_its_peer() {
        let (door, taken, told) = (door(), AtomicUsize::new(0), Notify::new());
        let mut handshake = pin!(door.in_turns(HERE, two_steps(&taken, &told)));
        // The runtime of a test has one thread, so there is one turn.
        let Place::Turn(turn) = door.handshakes.arrive(ELSEWHERE, Instant::now()) else { panic!("nobody waits") };
        let nothing = Duration::from_millis(1);
        assert!(tokio::time::timeout(nothing, handshake.as_mut()).await.is_err());
        assert_eq!(taken.load(Ordering::SeqCst), 0, "it is not its turn");
        drop(turn);
        assert!(tokio::time::timeout(nothing, handshake.as_mut()).await.is_err());
        assert_eq!(taken.load(Ordering::SeqCst), 1);
        let Place::Turn(turn) = door.handshakes.arrive(ELSEWHERE, Instant::now()) else { panic!("the turn is free") };
        told.notify_one();
        assert!(tokio::time::timeout(nothing, handshake.as_mut()).await.is_err());
        assert_eq!(taken.load(Ordering::SeqCst), 1, "nor is it now");
        drop(turn);
        handshake.await.unwrap();
        assert_eq!(taken.load(Ordering::SeqCst), 2);
        assert!(matches!(door.handshakes.arrive(HERE, Instant::now()), Place::Turn(_)), "all turns are back");
    }

    #[tokio::test]
    async fn who_would_wait_too_long_is_turned_away_and_what_was_begun_goes_on() {
        let limits = Limits { handshake_timeout: Duration::ZERO, ..Limits::default() };
        let door = Door::new(None, ProxySources::default(), &limits);
        let (taken, told) = (AtomicUsize::new(0), Notify::new());
        let mut begun = pin!(door.in_turns(HERE, two_steps(&taken, &told)));
        tokio::select! {
            _ = &mut begun => panic!("it waits to be told"),
            () = sleep(Duration::from_millis(1)) => {}
        }
        let Place::Turn(turn) = door.handshakes.arrive(ELSEWHERE, Instant::now()) else { panic!("nobody waits") };
        let refused = door.in_turns(ELSEWHERE, async { panic!("it costs nothing") }).await;
        assert!(matches!(refused, Err::<(), _>(NotOpened::TurnedAway)));
        told.notify_one();
        drop(turn);
        begun.await.unwrap();
    }
}
