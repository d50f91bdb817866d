//! Everything up to `admit`, in front of the RPC library: no body is read for a caller whom the method refuses.

use super::{Admitted, Gate, Identified};
use crate::{
    audit::Leaf,
    describe,
    refusal::Refusal,
    wire::{GateDispatcher, no_such_method},
};
use bytes::Bytes;
use connectrpc::{ConnectError, ConnectRpcBody, ConnectRpcService, DeadlinePolicy};
use http::{HeaderMap, Method, Request, Response, StatusCode, Version, header, request::Parts};
use http_body::Body;
use http_body_util::{Either, Full};
use std::{convert::Infallible, fmt, net::IpAddr, pin::Pin, sync::Arc, task::Poll, time::Duration};
use sys_policy::Caller;
use tower::Service;

/// Where a request came from. The listener puts it into the request's extensions; nothing in the request itself is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source(pub IpAddr);

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
        let rpc = ConnectRpcService::new(GateDispatcher(gate.clone())).with_deadline_policy(deadlines);
        Self { gate, rpc }
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
        let (gate, mut rpc) = (self.gate.clone(), self.rpc.clone());
        Box::pin(async move {
            let (mut head, body) = request.into_parts();
            match gate.let_in(&head).await {
                Ok(LetIn::Call(admitted)) => head.extensions.insert(admitted).map_or((), drop),
                Ok(LetIn::Description(identified)) => head.extensions.insert(identified).map_or((), drop),
                Ok(LetIn::Keys) => return Ok(jwks(gate.access.jwks())),
                Err(refusal) => {
                    let response = ConnectError::from(refusal).into_http_response(&head.headers);
                    if head.version < Version::HTTP_2 {
                        drain(body).await;
                    }
                    return Ok(with_status_at_its_end(response));
                }
            }
            Ok(with_status_at_its_end(rpc.call(Request::from_parts(head, body)).await?))
        })
    }
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
    /// Reflection or health.
    Description(Identified),
    /// The keys that verify access tokens.
    Keys,
}

/// Reads what a refused client is still sending, unseen and within bounds. An HTTP/1.1 connection with an unread body is
/// closed after the answer, and a client in the middle of writing sees the reset instead of the answer.
async fn drain<B: Body<Data = Bytes>>(body: B) {
    let mut body = std::pin::pin!(body);
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
    /// `throttle source -> identify -> throttle account -> admit`.
    async fn let_in(&self, head: &Parts) -> Result<LetIn, Refusal> {
        let source = head.extensions.get::<Source>().map(|source| source.0);
        if let Some(source) = source {
            // Of these there may be as many as a network carries: they are counted.
            self.throttle.source(source).inspect_err(|_| self.refusals.count())?;
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
        let note = |caller: &Caller, refusal: &Refusal| {
            self.note_refusal(None, caller, Leaf::new(path, caller, &self.clock.now()), refusal);
        };
        let identified = match bearer(&head.headers) {
            None => Identified { caller: self.anonymous.clone(), epoch: None, source },
            Some(token) => {
                let known = self.identify(token).await.inspect_err(|refusal| note(&self.anonymous, refusal))?;
                if let Some(account) = known.caller.account() {
                    self.throttle.account(account).inspect_err(|refusal| note(&known.caller, refusal))?;
                }
                Identified { caller: known.caller, epoch: Some(known.epoch), source }
            }
        };
        let Some(method) = method else { return Ok(LetIn::Description(identified)) };
        self.admit(&method, &identified.caller).inspect_err(|refusal| note(&identified.caller, refusal))?;
        Ok(LetIn::Call(Admitted { identified, method }))
    }
}

/// The token of a request, if it has one. A header that is there but is no bearer token, or one of several of which others
/// might read another, is refused further on, as the empty token.
fn bearer(headers: &HeaderMap) -> Option<&str> {
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
