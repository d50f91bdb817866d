//! Everything up to `admit`, in front of the RPC library: no body is read for a caller whom the method refuses.

use super::{Admitted, Gate, Identified, Opening, Way, load, request, too_much::TooMuch};
use crate::{
    describe,
    host::LoadedMethod,
    metrics::{CameTo, UnderWay},
    refusal::{Reason, Refusal},
    trace::Recorder,
    wire::{GateDispatcher, no_such_method},
};
use bytes::Bytes;
use connectrpc::{CompressionPolicy, ConnectError, ConnectRpcBody, ConnectRpcService, DeadlinePolicy};
use http::{HeaderMap, Method, Request, Response, StatusCode, Version, header, request::Parts};
use http_body::Body;
use http_body_util::{Either, Full};
use std::{
    convert::Infallible,
    fmt,
    future::ready,
    net::IpAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};
use sys_contract::model::Flow;
use tower::Service;

/// Where a request came from. The listener puts it into the request's extensions; nothing in the request itself is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source(pub IpAddr);

/// When a request arrived, which may be some time before anybody begins with it. The listener puts it into the request's
/// extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival(pub Instant);

/// In the extensions of a request that the listener does not want to be served, since it came when there was more to do than can be
/// done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TurnedAway;

/// In the extensions of a request that the listener put before all others, which is for health alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ahead;

/// The path of questions for health. Those that are ahead of others are answered whatever else there is to do.
pub const HEALTH_PATH: &str = "/grpc.health.v1.Health/Check";

/// The keys that verify access tokens, for whoever wants to (RFC 7517).
const JWKS_PATH: &str = "/.well-known/jwks.json";
/// The longest time that a request's body may take, a call that sets no bound of its own, and a stream.
const MAX_CALL: Duration = Duration::from_secs(60);
/// Bytes read, and time spent, on the body of a request that is refused anyway: the most that an ordinary method takes.
const MAX_DRAINED_BYTES: usize = 64 << 10;
const MAX_DRAIN: Duration = Duration::from_secs(2);
/// RFC 6750 section 2.1; the scheme's case does not matter (RFC 9110 section 11.1).
const BEARER: &str = "bearer ";

/// The gate as a tower service on HTTP requests.
#[derive(Clone)]
pub struct Front {
    gate: Arc<Gate>,
    rpc: ConnectRpcService<GateDispatcher>,
    /// For the streams of modules, of which the gate itself keeps the time.
    streams: ConnectRpcService<GateDispatcher>,
    too_much: Arc<TooMuch>,
}

impl fmt::Debug for Front {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Front").field("gate", &self.gate).finish_non_exhaustive()
    }
}

impl Front {
    /// In front of this gate.
    pub fn new(gate: Arc<Gate>) -> Self {
        let deadlines =
            DeadlinePolicy::new().with_max(MAX_CALL).with_default_timeout(MAX_CALL).with_enforce_on_streams(true);
        // Answers are never packed. The packed copy would be counted by nobody ([`super::kept`]), and megabytes would be packed in one
        // go, while everybody else on that thread waits. Requests may be.
        let service =
            ConnectRpcService::new(GateDispatcher(gate.clone())).with_compression_policy(CompressionPolicy::disabled());
        let (rpc, streams) = (service.clone().with_deadline_policy(deadlines), service);
        Self { gate, rpc, streams, too_much: Arc::new(TooMuch::new()) }
    }
}

/// A body of an answer.
pub type FrontBody = Either<ConnectRpcBody, Full<Bytes>>;

impl<B> Service<Request<B>> for Front
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    type Response = Response<FrontBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if request.extensions().get::<TurnedAway>().is_some()
            && let Some(answer) = turn_away(&self.gate, &self.too_much, request.version(), request.headers())
        {
            return Box::pin(ready(Ok(answer)));
        }
        let Self { gate, mut rpc, mut streams, too_much } = self.clone();
        Box::pin(async move {
            let (mut head, body) = request.into_parts();
            let arrived = head.extensions.get::<Arrival>().map_or_else(Instant::now, |arrival| arrival.0);
            let trace = gate.trace(&head, arrived);
            let response = match gate.let_in(&head, arrived, &trace).await {
                Ok(LetIn::Call(admitted)) => call(&gate, &mut rpc, head, body, admitted, arrived).await?,
                // In a box of its own: what few requests come to makes none of the others larger.
                Ok(LetIn::Stream(opening)) => Box::pin(stream(&gate, &mut streams, head, body, opening)).await?,
                Ok(LetIn::Description(identified)) if is_health(head.uri.path()) => {
                    match request::check_form(&head, describe::HEALTH_REQUEST_BYTES) {
                        Ok(()) => {
                            head.extensions.insert(identified);
                            rpc.call(Request::from_parts(head, body)).await?
                        }
                        Err(refusal) => refuse(refusal, &head, Some(body)).await,
                    }
                }
                Ok(LetIn::Description(identified)) => {
                    head.extensions.insert(identified);
                    rpc.call(Request::from_parts(head, body)).await?
                }
                Ok(LetIn::Keys) => return Ok(jwks(gate.access.jwks())),
                Err(refusal) => {
                    note(&trace, &refusal);
                    if refusal.reason == Reason::Overloaded
                        && let Some(answer) = turn_away(&gate, &too_much, head.version, &head.headers)
                    {
                        return Ok(answer);
                    }
                    gate.totals.refused(&refusal);
                    refuse(refusal, &head, Some(body)).await
                }
            };
            Ok(with_status_at_its_end(response))
        })
    }
}

/// The answer to whoever is refused for the load alone. Before HTTP/2 the rest of his request would have to be read first.
fn turn_away(gate: &Gate, too_much: &TooMuch, version: Version, headers: &HeaderMap) -> Option<Response<FrontBody>> {
    if version < Version::HTTP_2 {
        return None;
    }
    let answer = too_much.answer(headers)?;
    gate.totals.refused(too_much.refusal());
    Some(answer)
}

/// A call that was let in: its body, and its answer by the gate behind the RPC library.
async fn call<B>(
    gate: &Gate,
    rpc: &mut ConnectRpcService<GateDispatcher>,
    mut head: Parts,
    body: B,
    admitted: Admitted,
    arrived: Instant,
) -> Result<Response<ConnectRpcBody>, Infallible>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    let came_to = admitted.came_to.clone();
    let _under_way = UnderWay::begin(&admitted.method, arrived, &came_to);
    let most_bytes = usize::try_from(admitted.method.method().max_request_bytes).unwrap_or(usize::MAX);
    let refused = |refusal: Refusal| {
        gate.totals.refused(&refusal);
        came_to.note::<()>(&Err(refusal.clone()));
        refusal
    };
    if let Err(refusal) = request::check_form(&head, most_bytes) {
        return Ok(refuse(refused(refusal), &head, Some(body)).await);
    }
    let (mut unread, mut held) = (pin!(body), gate.load.hold(admitted.identified.way.source));
    let reading = came_to.trace.step("read");
    let body = match request::read_from(unread.as_mut(), &head, most_bytes, admitted.deadline, &mut held).await {
        Ok(body) => body,
        Err(refusal) => {
            // Who is slow is not waited for once more.
            let left = Some(unread).filter(|_| refusal.reason != Reason::Deadline);
            return Ok(refuse(refused(refusal), &head, left).await);
        }
    };
    drop(reading);
    // Kept for the form of an answer; the rest goes on to the gate.
    let form = head.headers.get(header::CONTENT_TYPE).cloned();
    head.extensions.insert(admitted);
    let mut response = rpc.call(Request::from_parts(head, Full::new(body))).await?;
    if !came_to.is_noted() {
        let refusal = refused(request::refused_by_library(&response, most_bytes));
        let headers = form.map(|form| (header::CONTENT_TYPE, form)).into_iter().collect();
        response = ConnectError::from(refusal).into_http_response(&headers);
    }
    Ok(response)
}

/// A stream that was let in. The one request of a server stream is read here; the messages of others come through the RPC
/// library as they are sent.
async fn stream<B>(
    gate: &Gate,
    rpc: &mut ConnectRpcService<GateDispatcher>,
    mut head: Parts,
    body: B,
    (opening, method, deadline): (Opening, Arc<LoadedMethod>, Option<Instant>),
) -> Result<Response<ConnectRpcBody>, Infallible>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    let most_bytes = usize::try_from(method.method().max_request_bytes).unwrap_or(usize::MAX);
    let has_one_request = method.method().flow == Flow::ServerStream;
    let refused = |refusal: Refusal| {
        opening.take().into_iter().for_each(|opened| opened.refused(gate, &refusal));
        refusal
    };
    if let Err(refusal) = request::check_form_of_stream(&head, has_one_request.then_some(most_bytes)) {
        return Ok(refuse(refused(refusal), &head, Some(body)).await);
    }
    let form = head.headers.get(header::CONTENT_TYPE).cloned();
    for kept_by_the_gate in request::TIMEOUTS {
        head.headers.remove(kept_by_the_gate);
    }
    head.extensions.insert(opening.clone());
    if !has_one_request {
        // Whatever is wrong with what comes on it is found when it is read.
        return rpc.call(Request::from_parts(head, opening.counted(body))).await;
    }
    let source = head.extensions.get::<Source>().map(|source| source.0);
    let (mut unread, mut held) = (pin!(body), gate.load.hold(source));
    let body = match request::read_from(unread.as_mut(), &head, most_bytes, deadline, &mut held).await {
        Ok(body) => body,
        Err(refusal) => {
            let left = Some(unread).filter(|_| refusal.reason != Reason::Deadline);
            return Ok(refuse(refused(refusal), &head, left).await);
        }
    };
    let response = rpc.call(Request::from_parts(head, Full::new(body))).await?;
    let Some(opened) = opening.take() else { return Ok(response) };
    // Nobody began it: the library refused the request.
    let refusal = request::refused_by_library(&response, most_bytes);
    opened.refused(gate, &refusal);
    let headers = form.map(|form| (header::CONTENT_TYPE, form)).into_iter().collect();
    Ok(ConnectError::from(refusal).into_http_response(&headers))
}

/// Answers a request that is refused, with what is left of its body.
async fn refuse<B: Body<Data = Bytes>>(refusal: Refusal, head: &Parts, body: Option<B>) -> Response<ConnectRpcBody> {
    let response = request::answer(refusal, head);
    if let Some(body) = body.filter(|body| head.version < Version::HTTP_2 || is_small(body)) {
        drain(body).await;
    }
    response
}

/// Whether a body says that it will be short. By HTTP/2 an answer may come before the rest of its request, which is reset then without an error
/// (RFC 9113 section 8.1); but curl up to 7.88 takes that for a failure while it still sends, and shows no answer. So what is said to be
/// short is waited for. Whoever streams says no length, and is answered at once.
fn is_small<B: Body>(body: &B) -> bool {
    body.size_hint().exact().is_some_and(|bytes| bytes <= MAX_DRAINED_BYTES as u64)
}

/// The RPC library sends the status of a failed gRPC call in the headers and again, with its details, in the trailers. Clients
/// that look at the headers first take that for an answer of headers alone, and lose the reason.
fn with_status_at_its_end(mut response: Response<ConnectRpcBody>) -> Response<FrontBody> {
    if !response.body().is_end_stream() {
        response.headers_mut().remove("grpc-status");
        response.headers_mut().remove("grpc-message");
    }
    response.map(Either::Left)
}

/// A request that is let in, by what it leads to.
enum LetIn {
    /// A method of a module.
    Call(Admitted),
    /// A method of a module that streams, and until when its caller waits.
    Stream((Opening, Arc<LoadedMethod>, Option<Instant>)),
    /// Reflection or health.
    Description(Identified),
    /// The keys that verify access tokens.
    Keys,
}

/// Reads what a refused client is still sending, unseen and within bounds. An HTTP/1.1 connection with an unread body is
/// closed after the answer, and a client in the middle of writing sees the reset instead of the answer.
async fn drain<B: Body<Data = Bytes>>(body: B) {
    let mut body = pin!(body);
    let reading = async {
        let mut left = MAX_DRAINED_BYTES;
        while let Some(Ok(frame)) = std::future::poll_fn(|context| body.as_mut().poll_frame(context)).await {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                break;
            }
        }
    };
    // Late or not, the answer goes out now.
    let _ = tokio::time::timeout(MAX_DRAIN, reading).await;
}

fn jwks(keys: String) -> Response<FrontBody> {
    let mut response = Response::new(Either::Right(Full::new(Bytes::from(keys))));
    *response.status_mut() = StatusCode::OK;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/jwk-set+json"));
    response
}

impl Gate {
    /// Where the steps of this call are noted, if they are. Reflection, health and keys belong to no module and are not recorded.
    fn trace(&self, head: &Parts, arrived: Instant) -> Recorder {
        if !self.tracer.is_on() {
            return Recorder::default();
        }
        let path = head.uri.path().strip_prefix('/').unwrap_or_default();
        if describe::serves(path) || head.uri.path() == JWKS_PATH {
            return Recorder::default();
        }
        // What there is no method of is a stranger's text.
        let method = self.host.method(path);
        let known = method.as_ref().map(|method| method.path());
        let trace = self.tracer.call(known, head.version, &head.headers, arrived);
        trace.came_over(Way::of(&head.extensions).transport);
        trace
    }

    /// `throttle source -> identify -> throttle account -> admit -> throttle method`.
    async fn let_in(self: &Arc<Self>, head: &Parts, arrived: Instant, trace: &Recorder) -> Result<LetIn, Refusal> {
        let throttling = trace.step("throttle");
        let way = Way::of(&head.extensions);
        let source = way.source;
        let is_health = is_health(head.uri.path());
        if is_health && head.extensions.get::<Ahead>().is_some() {
            // Whoever watches over the server must hear from it above all when there is much to do. It costs what a refusal does.
            return Ok(LetIn::Description(self.nobody(way)));
        }
        if let Some(source) = source {
            // Of these there may be as many as a network carries: they are counted.
            self.throttle.source(source).inspect_err(|_| self.refusals.count())?;
        }
        let deadline = request::deadline(&head.headers, arrived);
        request::in_time(deadline)?;
        load::too_late(arrived)?;
        if head.extensions.get::<TurnedAway>().is_some() || self.load.is_full(source) {
            return Err(load::overloaded());
        }
        if is_health {
            return Ok(LetIn::Description(self.nobody(way)));
        }
        let path = head.uri.path();
        if path == JWKS_PATH && head.method == Method::GET {
            return Ok(LetIn::Keys);
        }
        let path = path.strip_prefix('/').unwrap_or(path);
        let method = self.host.method(path);
        if method.is_none() && !describe::serves(path) {
            return Err(no_such_method());
        }
        drop(throttling);
        let identifying = trace.step("identify");
        let identified = match bearer(&head.headers) {
            None => self.nobody(way),
            Some(token) => self.identify(token, way, path).await?,
        };
        drop(identifying);
        if identified.caller.account().is_some() {
            trace.is_known();
        }
        let _admitting = trace.step("admit");
        let note = |refusal: &Refusal| self.note(&identified, path, refusal);
        if let Some(account) = identified.caller.account() {
            self.throttle.account(account).inspect_err(note)?;
        }
        let Some(method) = method else { return Ok(LetIn::Description(identified)) };
        self.admit(&method, &identified.caller).inspect_err(note)?;
        if let Some(rate) = &method.rate {
            let throttled = self.throttle.method(rate, identified.caller.account(), source);
            throttled.inspect_err(note)?;
        }
        let place = match method.method().flow {
            Flow::Unary => None,
            _ => {
                let opened = self.streams.open(identified.caller.account(), source, self.clock.now().unix_s);
                Some(opened.inspect_err(note)?)
            }
        };
        let admitted = Admitted { identified, method: method.clone(), came_to: CameTo::of(trace.clone()), deadline };
        Ok(match place {
            None => LetIn::Call(admitted),
            Some(place) => LetIn::Stream((Opening::new(self, admitted, place, arrived), method, deadline)),
        })
    }
}

/// Notes what a call came to that was not let in. Of those that there is no time for there may be any number: none is kept.
fn note(trace: &Recorder, refusal: &Refusal) {
    match refusal.reason {
        Reason::Overloaded => trace.forget(),
        _ => CameTo::of(trace.clone()).note::<()>(&Err(refusal.clone())),
    }
}

fn is_health(path: &str) -> bool {
    path == HEALTH_PATH
}

/// The token of a request, if it has one. A header that is there but is no bearer token, or one of several of which others
/// might read another, is refused further on, as the empty token.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut lines = headers.get_all(header::AUTHORIZATION).iter();
    let line = lines.next()?;
    if lines.next().is_some() {
        return Some("");
    }
    match line.to_str().unwrap_or_default().split_at_checked(BEARER.len()) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(BEARER) => Some(token.trim()),
        _ => Some(""),
    }
}
