//! One connection from its first byte to its last: opened, spoken on, and each of its requests answered in its turn.

use crate::{
    AllowedHosts, Limits,
    ahead::{Ahead, AheadOfOthers},
    congestion::{Arrival, Congestion, Place, TurnedAway},
    metered::{Meter, UnderWay},
    opened::{Door, NotOpened, Opened, Wire},
    speak::speak,
    tls::Facts,
};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Either;
use hyper::body::{Body, Frame, Incoming, SizeHint};
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
use sys_net::Counted;
use tokio::{net::TcpStream, sync::watch, time::timeout};
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
    let opened = {
        // Gone when it is done, so that what a handshake needs is held no longer.
        let opening = Box::pin(timeout(shared.door.time(), shared.door.open(stream, facts, counted, &meter)));
        tokio::select! {
            opened = opening => opened,
            () = leave.notified() => return End::Cut,
            // Nothing is under way.
            _ = told.stop.wait_for(|stop| *stop) => return End::Finished,
        }
    };
    let Opened { wire, facts, counted } = match opened.unwrap_or(Err(NotOpened::Late)) {
        Ok(Some(opened)) => opened,
        Ok(None) => return End::Finished,
        Err(error) => {
            // The peer's doing, so no warning.
            tracing::debug!(connection = number, %error, "a connection closes before its first request");
            return End::Finished;
        }
    };
    let leave = counted.leave();
    match wire {
        Wire::Plain(socket) => tokio::select! {
            end = speak(shared, socket, meter, accepted, facts, told) => end,
            () = leave.notified() => End::Cut,
        },
        Wire::Tls(socket) => tokio::select! {
            end = speak(shared, socket, meter, accepted, facts, told) => end,
            () = leave.notified() => End::Cut,
        },
    }
}

impl<S> Shared<S> {
    /// Takes in a request that has come now, which may have to wait until it is begun with. What comes of it is the future: it is moved from
    /// hand to hand for each request, so it is to be small.
    pub(crate) fn begin<B>(
        self: &Arc<Self>,
        meter: &Arc<Meter>,
        facts: Connection,
        mut request: Request<Incoming>,
    ) -> impl Future<
        Output = Result<Response<impl Body<Data = Bytes, Error = Box<dyn Error + Send + Sync>> + use<S, B>>, S::Error>,
    > + use<S, B>
    where
        S: Service<Request<Incoming>, Response = Response<B>> + Clone,
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let mut under_way = meter.begin(!request.body().is_end_stream());
        let place = self.place(&mut request, facts);
        if matches!(place, Place::TurnedAway) {
            meter.turn_away();
        }
        let shared = Arc::clone(self);
        // No `async fn`, which would hold the request twice.
        async move {
            let response = match shared.hosts.admit(&request) {
                Ok(()) => {
                    let turn = place.turn().await;
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
    }

    /// Where a request stands that arrives now; it carries with it what the service is to know.
    fn place(&self, request: &mut Request<Incoming>, facts: Connection) -> Place {
        let (address, arrival) = (facts.peer.ip(), Arrival(Instant::now()));
        let is_ahead = self.ahead.as_ref().is_some_and(|ahead| ahead.admits(request.uri().path(), address, arrival.0));
        let place = if is_ahead { Place::Ahead } else { self.congestion.arrive(address, arrival.0) };
        let known = request.extensions_mut();
        known.insert(facts);
        if matches!(place, Place::TurnedAway) {
            known.insert(TurnedAway);
            return place;
        }
        known.insert(Source(address.to_canonical()));
        known.insert(arrival);
        if is_ahead {
            known.insert(Ahead);
        }
        place
    }
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
