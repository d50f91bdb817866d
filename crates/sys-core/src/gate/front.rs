//! Everything up to `admit`, in front of the RPC library: no body is read for a caller whom the method refuses.

use super::{Gate, Identified};
use crate::{audit::Leaf, describe, refusal::Refusal, wire::GateDispatcher};
use bytes::Bytes;
use connectrpc::{ConnectError, ConnectRpcBody, ConnectRpcService, DeadlinePolicy};
use http::{HeaderMap, Method, Request, Response, StatusCode, Version, header};
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
/// The longest time that a request's body may take, and a call that sets no bound of its own.
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
        let deadlines = DeadlinePolicy::new().with_max(MAX_CALL).with_default_timeout(MAX_CALL);
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

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let (gate, mut rpc) = (self.gate.clone(), self.rpc.clone());
        Box::pin(async move {
            if request.method() == Method::GET && request.uri().path() == JWKS_PATH {
                return Ok(jwks(gate.access.jwks()));
            }
            let head = Head::of(&request);
            match gate.let_in(&head).await {
                Ok(identified) => {
                    request.extensions_mut().insert(identified);
                    let mut response = rpc.call(request).await?;
                    leave_status_to_trailers(&mut response);
                    Ok(response.map(Either::Left))
                }
                Err(refusal) => {
                    let response = ConnectError::from(refusal).into_http_response(request.headers());
                    if request.version() < Version::HTTP_2 {
                        drain(request.into_body()).await;
                    }
                    Ok(response.map(Either::Left))
                }
            }
        })
    }
}

/// The RPC library sends a failed gRPC call's status in the headers and again, with its details, in the trailers. Clients that
/// look at the headers first take them for a trailers-only answer and lose the reason.
fn leave_status_to_trailers(response: &mut Response<ConnectRpcBody>) {
    if !response.body().is_end_stream() {
        response.headers_mut().remove("grpc-status");
        response.headers_mut().remove("grpc-message");
    }
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
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/jwk-set+json"));
    response
}

/// What is looked at of a request before its body.
struct Head {
    path: String,
    source: Option<IpAddr>,
    token: Option<String>,
}

impl Head {
    fn of<B>(request: &Request<B>) -> Self {
        Self {
            path: request.uri().path().trim_start_matches('/').to_owned(),
            source: request.extensions().get::<Source>().map(|source| source.0),
            token: bearer(request.headers()).map(str::to_owned),
        }
    }
}

impl Gate {
    /// `throttle source -> identify -> throttle account -> admit`.
    async fn let_in(&self, head: &Head) -> Result<Identified, Refusal> {
        let (path, source) = (head.path.as_str(), head.source);
        if let Some(source) = source {
            self.throttle.source(source)?;
        }
        let anonymous = Arc::new(Caller::anonymous());
        let leaf = |caller: &Caller| Leaf::new(path, caller, &self.clock.now());
        let identified = match head.token.as_deref() {
            None => Identified { caller: anonymous, epoch: None, source },
            Some(token) => {
                let known = self.identify(token).await.inspect_err(|refusal| {
                    self.note_refusal(leaf(&anonymous), refusal);
                })?;
                if let Some(account) = known.caller.account() {
                    self.throttle.account(account)?;
                }
                Identified { caller: known.caller, epoch: Some(known.epoch), source }
            }
        };
        if path == describe::HEALTH_CHECK || describe::Reflection::serves(path) {
            return Ok(identified);
        }
        if let Some(method) = self.host.method(path) {
            self.admit(&method, &identified.caller)
                .inspect_err(|refusal| self.note_refusal(leaf(&identified.caller), refusal))?;
        }
        Ok(identified)
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    // A header that is there but is no bearer token is refused further on, as the empty token.
    let value = headers.get(header::AUTHORIZATION)?.to_str().unwrap_or_default();
    match value.split_at_checked(BEARER.len()) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(BEARER) => Some(token.trim()),
        _ => Some(""),
    }
}
