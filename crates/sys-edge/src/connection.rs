//! One connection from its first byte to its last: protocol, patience, graceful end.

use crate::{
    AllowedHosts, Limits,
    ahead::{Ahead, AheadOfOthers},
    congestion::{Arrival, Congestion, Place, TurnedAway},
    gathered::gathered,
    metered::{Meter, UnderWay},
    noise::Quiet,
    opened::{Door, NotOpened, Opened, Wire},
    patience::{self, Over},
    sources::Counted,
    tasks::Tasks,
    tls::{Facts, Protocol},
};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Either;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper_util::rt::TokioIo;
use pin_project_lite::pin_project;
use std::{
    error::Error,
    future::poll_fn,
    net::{IpAddr, SocketAddr},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::watch,
    time::timeout,
};
use tower::{Service, ServiceExt};

/// Where a request comes from, as a throttle counts it. In the extensions of every request that is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Source(pub IpAddr);

/// What is known of a request's connection. In the extensions of every request that is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// Counts up from 1 for each accepted connection of a listener.
    pub number: u64,
    /// The other end; where a proxy is configured that connects from there, the other end of the connection that it passes on.
    pub peer: SocketAddr,
    /// Our end, or that of the proxy.
    pub local: SocketAddr,
    /// What its handshake said; nothing without TLS.
    pub tls: Option<Arc<Facts>>,
}

/// The most that is handed over of an answer at once.
const PIECE_BYTES: usize = 16 * 1_024;
/// An answer up to this size is handed over whole. Of a longer one the last byte comes by itself: HTTP/2 takes it only when the
/// peer has taken what came before, so that no more than this waits unseen in a stream whose window is closed.
const WHOLE_BYTES: usize = 1_024;

/// What all connections of a listener share.
pub(crate) struct Shared<S> {
    pub(crate) limits: Limits,
    pub(crate) door: Door,
    pub(crate) hosts: AllowedHosts,
    pub(crate) congestion: Arc<Congestion>,
    /// The requests that do not wait behind others.
    pub(crate) ahead: Option<AheadOfOthers>,
    pub(crate) service: S,
}

/// What a listener tells its connections.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    /// To finish what is under way and close.
    pub(crate) stop: watch::Receiver<bool>,
    /// That others wait for a place.
    pub(crate) crowded: watch::Receiver<bool>,
}

/// How a connection came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Nothing was under way any more.
    Finished,
    /// It did not finish in time after it was asked to, or left unread what it had asked for, or its source has far more
    /// than others, who find no place.
    Cut,
}

/// Opens one connection, and serves it until it closes, tries our patience, or is told to stop and its requests are answered.
pub(crate) async fn serve<S, B>(
    shared: Arc<Shared<S>>,
    stream: TcpStream,
    facts: Connection,
    counted: Option<Counted>,
    mut told: Told,
) -> End
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>> + Send,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let (accepted, number) = (Instant::now(), facts.number);
    let meter = Arc::new(Meter::default());
    let leave = counted.as_ref().map(Counted::leave).unwrap_or_default();
    let opened = tokio::select! {
        opened = timeout(shared.door.time(), shared.door.open(stream, facts, counted, &meter)) => opened,
        () = leave.notified() => return End::Cut,
        // Nothing is under way.
        _ = told.stop.wait_for(|stop| *stop) => return End::Finished,
    };
    match opened.unwrap_or(Err(NotOpened::Late)) {
        Ok(Some(Opened { wire, facts, counted })) => {
            let leave = counted.leave();
            let spoken = async {
                match wire {
                    Wire::Plain(socket) => speak(shared, socket, meter, accepted, facts, told).await,
                    Wire::Tls(socket) => speak(shared, socket, meter, accepted, facts, told).await,
                }
            };
            tokio::select! {
                end = spoken => end,
                () = leave.notified() => End::Cut,
            }
        }
        Ok(None) => End::Finished,
        Err(error) => {
            // The peer's doing, so no warning.
            tracing::debug!(connection = number, %error, "a connection closes before its first request");
            End::Finished
        }
    }
}

/// Speaks HTTP on an opened connection.
async fn speak<T, S, B>(
    shared: Arc<Shared<S>>,
    socket: T,
    meter: Arc<Meter>,
    accepted: Instant,
    facts: Connection,
    mut told: Told,
) -> End
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>> + Send,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let number = facts.number;
    let spoken = facts.tls.as_ref().map(|tls| tls.protocol);
    let service = {
        let (shared, meter) = (Arc::clone(&shared), Arc::clone(&meter));
        hyper::service::service_fn(move |request| {
            // Here and not in the future, which may have to wait until it is begun with.
            let (under_way, arrival) = (meter.begin(), Arrival(Instant::now()));
            let place = shared.place(&request, facts.peer.ip(), arrival);
            if matches!(place, Place::TurnedAway) {
                meter.turn_away();
            }
            answer(Arc::clone(&shared), under_way, place, arrival, facts.clone(), request)
        })
    };
    let protocol = shared.limits.protocol(Tasks::new(Arc::clone(&meter)));
    let protocol = match spoken {
        // What was agreed on is spoken. Without TLS the first bytes tell.
        Some(Protocol::Http2) => protocol.http2_only(),
        Some(Protocol::Http11) => protocol.http1_only(),
        None => protocol,
    };
    // Gathered before it is sealed, since many small records cost more than one; metered behind that, where one sees what the peer takes.
    let (socket, mut outlet) = gathered(socket, Arc::clone(&meter));
    let socket = Quiet::new(socket, Arc::clone(&meter));
    let mut connection = pin!(protocol.serve_connection(TokioIo::new(socket), service));
    let time_to_close = tokio::select! {
        ended = poll_fn(|context| outlet.poll_turn(connection.as_mut(), context)) => Err(ended),
        over = patience::ends(&meter, &shared.limits, accepted, told.crowded) => match over {
            Over::Stalled => return End::Cut,
            // Nothing is under way: time for one round trip, so that a request that crosses our goodbye is retried.
            Over::Idle => Ok(shared.limits.header_timeout),
            Over::Old => Ok(shared.limits.drain_timeout),
        },
        _ = told.stop.wait_for(|stop| *stop) => Ok(shared.limits.drain_timeout),
    };
    let ended = match time_to_close {
        Err(ended) => Ok(ended),
        Ok(time) => {
            connection.as_mut().graceful_shutdown();
            timeout(time, poll_fn(|context| outlet.poll_turn(connection.as_mut(), context))).await
        }
    };
    match ended {
        Ok(Ok(())) => End::Finished,
        Ok(Err(error)) => {
            // The peer's doing (garbage, a reset, a header too slow), so no warning: it would let anybody fill the log.
            tracing::debug!(connection = number, error = &*error, "connection ended early");
            End::Finished
        }
        Err(_) => End::Cut,
    }
}

impl<S> Shared<S> {
    fn place(&self, request: &Request<Incoming>, address: IpAddr, arrival: Arrival) -> Place {
        let path = request.uri().path();
        if self.ahead.as_ref().is_some_and(|ahead| ahead.admits(path, address, arrival.0)) {
            return Place::Ahead;
        }
        self.congestion.arrive(address, arrival.0)
    }
}

async fn answer<S, B>(
    shared: Arc<Shared<S>>,
    mut under_way: UnderWay,
    place: Place,
    arrival: Arrival,
    facts: Connection,
    mut request: Request<Incoming>,
) -> Result<Response<impl Body<Data = Bytes, Error = Box<dyn Error + Send + Sync>> + use<S, B>>, S::Error>
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone,
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let response = match shared.hosts.admit(&request) {
        Ok(()) if matches!(place, Place::TurnedAway) => {
            request.extensions_mut().insert(facts);
            request.extensions_mut().insert(TurnedAway);
            shared.service.clone().oneshot(request).await?.map(Either::Left)
        }
        Ok(()) => {
            if matches!(place, Place::Ahead) {
                request.extensions_mut().insert(Ahead);
            }
            let turn = place.turn().await;
            request.extensions_mut().insert(Source(facts.peer.ip().to_canonical()));
            request.extensions_mut().insert(facts);
            request.extensions_mut().insert(arrival);
            let mut served = pin!(shared.service.clone().oneshot(request));
            let begun = poll_fn(|context| Poll::Ready(served.as_mut().poll(context))).await;
            // What it waits for now is no processor, so that the next one can have it.
            drop(turn);
            let served = match begun {
                Poll::Ready(served) => served,
                Poll::Pending => served.await,
            };
            served?.map(Either::Left)
        }
        Err(refusal) => shared.hosts.refuse(refusal).map(Either::Right),
    };
    under_way.owes(true);
    Ok(response.map(|body| Answer { body, rest: Bytes::new(), under_way }))
}

pin_project! {
    /// A response's body, handed over in pieces. Its request is under way until the last byte is handed over, so it holds the
    /// guard.
    struct Answer<B> {
        #[pin]
        body: B,
        rest: Bytes,
        under_way: UnderWay,
    }
}

impl<B: Body<Data = Bytes>> Body for Answer<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        let polled = if this.rest.is_empty() {
            this.body.poll_frame(context)
        } else {
            Poll::Ready(Some(Ok(Frame::data(std::mem::take(this.rest)))))
        };
        // What we have not got ourselves, the peer cannot take.
        this.under_way.owes(matches!(polled, Poll::Ready(Some(Ok(_)))));
        polled.map_ok(|frame| {
            frame.map_data(|mut data| {
                if data.len() > WHOLE_BYTES {
                    *this.rest = data.split_off((data.len() - 1).min(PIECE_BYTES));
                }
                data
            })
        })
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = u64::try_from(self.rest.len()).unwrap_or(u64::MAX);
        let body = self.body.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(body.lower().saturating_add(rest));
        if let Some(upper) = body.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint
    }
}
