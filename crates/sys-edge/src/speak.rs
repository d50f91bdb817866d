//! HTTP on an opened connection: which one, its turns, its pauses, and its goodbye.
//!
//! Between two requests of HTTP/1.1 a connection is a socket and nothing else. So after a while without one it pauses: all that the protocol
//! holds is given back, and its next byte takes it up again, since there may be many that wait. HTTP/2 has to keep its tables and
//! windows. What must never happen here: a pause while a part of a request is still to be read, which would be taken for the next one.

use crate::{
    Limits,
    connection::{Connection, End, Shared, Told},
    gathered::{Ended, Gathered, Outlet, gathered},
    metered::{Meter, Metered},
    noise::Quiet,
    patience::{self, Over, Watch},
    tasks::Tasks,
    tls::Protocol,
};
use bytes::Bytes;
use http::{Request, Response};
use hyper::{
    body::{Body, Incoming},
    server::conn::{http1, http2},
    service::HttpService,
};
use hyper_util::rt::TokioIo;
use std::{
    error::Error,
    future::poll_fn,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    time::timeout,
};
use tokio_boring::SslStream;
use tower::Service;

/// What requests come on, as the protocols see it.
type Socket<T> = Quiet<Gathered<T>>;

/// What there is under HTTP.
pub(crate) trait Bottom: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Ready when the peer has sent something, or has gone, since the last read that found nothing.
    fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>>;
}

impl Bottom for Metered {
    fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_arrival(context)
    }
}

impl Bottom for SslStream<Metered> {
    fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The library keeps nothing back: a read finds nothing only after it has given all that it had.
        self.get_ref().poll_arrival(context)
    }
}

/// A protocol at work on one connection.
trait Engine {
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Ended>;

    /// To finish what is under way, and to end then.
    fn finish(self: Pin<&mut Self>);
}

impl<T, S, B> Engine for http1::Connection<TokioIo<T>, S>
where
    T: AsyncRead + AsyncWrite + Unpin,
    S: HttpService<Incoming, ResBody = B, Error: Into<Box<dyn Error + Send + Sync>>>,
    B: Body<Error: Into<Box<dyn Error + Send + Sync>>> + 'static,
{
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Ended> {
        Future::poll(self, context).map_err(Into::into)
    }

    fn finish(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<T, S, B> Engine for http2::Connection<TokioIo<T>, S, Tasks>
where
    T: AsyncRead + AsyncWrite + Unpin,
    S: HttpService<Incoming, ResBody = B, Error: Into<Box<dyn Error + Send + Sync>>>,
    S::Future: Send + 'static,
    B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Ended> {
        Future::poll(self, context).map_err(Into::into)
    }

    fn finish(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// Speaks HTTP on an opened connection.
pub(crate) async fn speak<T, S, B>(
    shared: Arc<Shared<S>>,
    socket: T,
    meter: Arc<Meter>,
    accepted: Instant,
    facts: Connection,
    told: Told,
) -> End
where
    T: Bottom,
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>> + Send,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let protocol = facts.tls.as_ref().map(|tls| tls.protocol);
    let limits = &Arc::clone(&shared).limits;
    let mut course =
        Course { limits, meter: &Arc::clone(&meter), watch: Watch::new(accepted), told, number: facts.number };
    // Gathered before it is sealed, since many small records cost more than one; metered behind that, where one sees what the peer takes.
    let (socket, mut outlet) = gathered(socket, Arc::clone(&meter));
    let mut socket = Quiet::new(socket, Arc::clone(&meter));
    let tasks = Tasks::new(Arc::clone(&meter));
    let mut service = hyper::service::service_fn(move |request| shared.begin(&meter, facts.clone(), request));
    // What was agreed on is spoken. Without TLS the first bytes tell.
    let protocol = match protocol {
        Some(protocol) => protocol,
        None => match course.unless_over(socket.protocol()).await {
            Some(Ok(protocol)) => protocol,
            Some(Err(_)) => return End::Finished,
            None => return course.goodbye(socket).await,
        },
    };
    if protocol == Protocol::Http2 {
        let mut engine = Box::pin(limits.http2(tasks).serve_connection(TokioIo::new(socket), service));
        return course.turns(engine.as_mut(), &mut outlet, false).await.unwrap_or(End::Finished);
    }
    loop {
        // Not in this future, which would be so much larger in a pause, and with HTTP/2.
        let mut engine = Box::new(limits.http1().serve_connection(TokioIo::new(socket), service));
        if let Some(end) = course.turns(Pin::new(&mut *engine), &mut outlet, true).await {
            return end;
        }
        let parts = engine.into_parts();
        (socket, service) = (parts.io.into_inner(), parts.service);
        if socket.read_again(parts.read_buf) {
            // The next request has begun to come.
            continue;
        }
        let woken = poll_fn(|context| socket.poll_readable(context));
        if course.unless_over(woken).await.is_none() {
            return course.goodbye(socket).await;
        }
    }
}

/// One connection's way to its end.
struct Course<'a> {
    limits: &'a Limits,
    meter: &'a Meter,
    watch: Watch,
    told: Told,
    number: u64,
}

impl Course<'_> {
    /// Turns until the connection ends, or to a pause between two requests where it may, which is no end.
    async fn turns<T: AsyncWrite + Unpin>(
        &mut self,
        mut engine: Pin<&mut impl Engine>,
        outlet: &mut Outlet<T>,
        may_pause: bool,
    ) -> Option<End> {
        let time_to_close = tokio::select! {
            ended = poll_fn(|context| outlet.poll_turn(context, |context| engine.as_mut().poll(context))) => Err(ended),
            over = patience::ends(&mut self.watch, self.meter, self.limits, &mut self.told.crowded, may_pause) => match over {
                Over::Stalled => return Some(End::Cut),
                Over::Pause => return None,
                // Nothing is under way: time for one round trip, so that a request that crosses our goodbye is retried.
                Over::Idle => Ok(self.limits.header_timeout),
                Over::Old => Ok(self.limits.drain_timeout),
            },
            _ = self.told.stop.wait_for(|stop| *stop) => Ok(self.limits.drain_timeout),
        };
        let ended = match time_to_close {
            Err(ended) => Ok(ended),
            Ok(time) => {
                engine.as_mut().finish();
                let turns = poll_fn(|context| outlet.poll_turn(context, |context| engine.as_mut().poll(context)));
                timeout(time, turns).await
            }
        };
        Some(match ended {
            Ok(Ok(())) => End::Finished,
            Ok(Err(error)) => {
                // The peer's doing (garbage, a reset, a header too slow), so no warning: it would let anybody fill the log.
                tracing::debug!(connection = self.number, error = &*error, "connection ended early");
                End::Finished
            }
            Err(_) => End::Cut,
        })
    }

    /// What comes of this, unless the connection is over before. Nothing is under way meanwhile.
    async fn unless_over<F: Future>(&mut self, waits: F) -> Option<F::Output> {
        tokio::select! {
            came = waits => Some(came),
            _ = patience::ends(&mut self.watch, self.meter, self.limits, &mut self.told.crowded, false) => None,
            _ = self.told.stop.wait_for(|stop| *stop) => None,
        }
    }

    /// Closes a connection on which nothing is under way.
    async fn goodbye<T: Bottom>(&self, mut socket: Socket<T>) -> End {
        // Whoever does not take it has gone, or will see.
        let _ = timeout(self.limits.header_timeout, socket.shutdown()).await;
        End::Finished
    }
}
