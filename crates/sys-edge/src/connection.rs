//! One connection from its first byte to its last: protocol, patience, graceful end.

use crate::{AllowedHosts, Limits};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Either;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper_util::{rt::TokioIo, server::conn::auto};
use pin_project_lite::pin_project;
use std::{
    error::Error,
    net::{IpAddr, SocketAddr},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    net::TcpStream,
    sync::watch,
    time::{sleep, timeout},
};
use tower::{Service, ServiceExt};

/// Where a request comes from, as a throttle counts it. In the extensions of every request that is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Source(pub IpAddr);

/// What is known of a request's connection. In the extensions of every request that is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connection {
    /// Counts up from 1 for each accepted connection of a listener.
    pub number: u64,
    /// The other end.
    pub peer: SocketAddr,
    /// Our end.
    pub local: SocketAddr,
}

/// What all connections of a listener share.
pub(crate) struct Shared<S> {
    pub(crate) protocol: auto::Builder<hyper_util::rt::TokioExecutor>,
    pub(crate) limits: Limits,
    pub(crate) hosts: AllowedHosts,
    pub(crate) service: S,
}

/// How a connection came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Nothing was under way any more.
    Finished,
    /// It did not finish in time after it was asked to.
    Cut,
}

/// Serves one connection until it closes, lies idle for too long, or `stop` turns true and its requests are answered.
pub(crate) async fn serve<S, B>(
    shared: Arc<Shared<S>>,
    stream: TcpStream,
    facts: Connection,
    mut stop: watch::Receiver<bool>,
) -> End
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>> + Send,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let work = Arc::new(Work::default());
    let service = {
        let (shared, work) = (Arc::clone(&shared), Arc::clone(&work));
        hyper::service::service_fn(move |request| answer(Arc::clone(&shared), Arc::clone(&work), facts, request))
    };
    let mut connection = pin!(shared.protocol.serve_connection(TokioIo::new(stream), service));
    let time_to_close = tokio::select! {
        ended = connection.as_mut() => Err(ended),
        // Nothing is under way: time for one round trip, so that a request that crosses our goodbye is retried.
        () = patience_ends(&work, &shared.limits) => Ok(shared.limits.header_timeout),
        _ = stop.wait_for(|stop| *stop) => Ok(shared.limits.drain_timeout),
    };
    let ended = match time_to_close {
        Err(ended) => Ok(ended),
        Ok(time) => {
            connection.as_mut().graceful_shutdown();
            timeout(time, connection).await
        }
    };
    match ended {
        Ok(Ok(())) => End::Finished,
        Ok(Err(error)) => {
            // The peer's doing (garbage, a reset, a header too slow), so no warning: it would let anybody fill the log.
            tracing::debug!(connection = facts.number, error = &*error, "connection ended early");
            End::Finished
        }
        Err(_) => End::Cut,
    }
}

async fn answer<S, B>(
    shared: Arc<Shared<S>>,
    work: Arc<Work>,
    facts: Connection,
    mut request: Request<Incoming>,
) -> Result<Response<impl Body<Data = Bytes, Error = Box<dyn Error + Send + Sync>> + use<S, B>>, S::Error>
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone,
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let under_way = work.begin();
    let response = match shared.hosts.admit(&request) {
        Ok(()) => {
            request.extensions_mut().insert(Source(facts.peer.ip().to_canonical()));
            request.extensions_mut().insert(facts);
            shared.service.clone().oneshot(request).await?.map(Either::Left)
        }
        Err(refusal) => shared.hosts.refuse(refusal).map(Either::Right),
    };
    Ok(response.map(|body| Answer { body, under_way }))
}

/// Comes back when a connection has tried our patience: no request in the time for its head, or none for the idle time.
async fn patience_ends(work: &Work, limits: &Limits) {
    let mut begun = 0;
    let mut patience: Duration = limits.header_timeout;
    loop {
        sleep(patience).await;
        let seen = begun;
        begun = work.begun.load(Ordering::Acquire);
        if begun == seen && begun == work.ended.load(Ordering::Acquire) {
            return;
        }
        patience = limits.idle_timeout;
    }
}

/// Counts the requests of a connection. Two plain counters instead of a timer for each request: this is on every
/// request's way.
#[derive(Debug, Default)]
struct Work {
    begun: AtomicU64,
    ended: AtomicU64,
}

impl Work {
    fn begin(self: &Arc<Self>) -> UnderWay {
        self.begun.fetch_add(1, Ordering::AcqRel);
        UnderWay(Arc::clone(self))
    }
}

/// One request under way; ends where it is dropped.
#[derive(Debug)]
struct UnderWay(Arc<Work>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::AcqRel);
    }
}

pin_project! {
    /// A response's body. Its request is under way until the last byte is handed over, so it holds the guard.
    struct Answer<B> {
        #[pin]
        body: B,
        under_way: UnderWay,
    }
}

impl<B: Body> Body for Answer<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        self.project().body.poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
