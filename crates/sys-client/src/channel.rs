//! Calls and streams over gRPC to methods that are known only by their descriptors.
//!
//! Bytes in and bytes out: messages are encoded from their descriptors, so no generated code stands here.

use crate::{
    CallError, Endpoint, Protection, TlsError, Token,
    tls::{Connector, Shared},
};
use bytes::{Buf, BufMut, Bytes};
use futures_util::Stream;
use http::{Response, uri::PathAndQuery};
use http_body::Body as _;
use prost_reflect::{DynamicMessage, MethodDescriptor, prost::Message};
use std::{sync::Arc, time::Duration};
use sys_contract::trace_context::{TRACEPARENT, TRACESTATE, TraceContext};
use tokio::time::timeout;
use tonic::{
    Request, Status, Streaming,
    body::Body,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    metadata::AsciiMetadataValue,
    transport,
};
use tower::ServiceExt;

/// Time to reach a server.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for one call. Above the server's own bound on a call, so that the server's words arrive.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(60);
/// How often a server that says nothing while a call or a stream is open is asked for a sign of life.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// Bytes of an answer: a page of 1,000 records of 16 KiB.
pub const MAX_ANSWER_BYTES: usize = 16 * 1_024 * 1_024;

/// A connection to a server.
#[derive(Debug, Clone)]
pub struct Channel {
    endpoint: Endpoint,
    transport: transport::Channel,
    /// What connections over TLS have in common; nothing on loopback in the clear.
    tls: Option<Arc<Shared>>,
    /// The span that calls belong to, where somebody traces them.
    trace: Option<TraceContext>,
}

impl Channel {
    /// Connects. Over TLS the handshake is over, and the server verified, when this comes back.
    pub(crate) async fn connect(endpoint: &Endpoint, tls: Option<Shared>) -> Result<Self, CallError> {
        let tls = tls.map(Arc::new);
        // No way leads here; but if one did, it would go on in the clear.
        if tls.is_none() && endpoint.server_name().is_some() {
            return Err(CallError::of_tls(endpoint, TlsError::NotTls));
        }
        let transport = Self::transport(endpoint, tls.as_ref()).await;
        let transport = transport.map_err(|error| match TlsError::at_the_root_of(&error) {
            Some(tls) => CallError::of_tls(endpoint, tls.clone()),
            None => CallError::Unreachable { endpoint: endpoint.clone(), source: error.into() },
        })?;
        Ok(Self { endpoint: endpoint.clone(), transport, tls, trace: None })
    }

    async fn transport(endpoint: &Endpoint, tls: Option<&Arc<Shared>>) -> Result<transport::Channel, transport::Error> {
        let to = transport::Endpoint::from_shared(endpoint.as_str().to_owned())?
            .user_agent(concat!("sys/", env!("CARGO_PKG_VERSION")))?
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(CONNECT_TIMEOUT);
        match tls {
            Some(tls) => to.connect_with_connector(Connector(Arc::clone(tls))).await,
            None => to.connect().await,
        }
    }

    /// How the newest connection is protected; nothing on loopback in the clear.
    pub fn protection(&self) -> Option<Protection> {
        self.tls.as_ref()?.protection()
    }

    /// The same, where calls say that they belong to this span.
    pub(crate) fn within(self, trace: Option<TraceContext>) -> Self {
        Self { trace, ..self }
    }

    /// Sends a request that is no call.
    pub(crate) async fn http(&self, request: http::Request<Body>) -> Result<Response<Body>, transport::Error> {
        self.transport.clone().oneshot(request).await
    }

    /// The server at the other end.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Calls a method by its descriptor.
    pub async fn call(
        &self,
        method: &MethodDescriptor,
        request: &DynamicMessage,
        token: Option<&Token>,
    ) -> Result<DynamicMessage, CallError> {
        let path = format!("{}/{}", method.parent_service().full_name(), method.name());
        let answer = self.call_bytes(&path, request.encode_to_vec().into(), token).await?;
        DynamicMessage::decode(method.output(), answer)
            .map_err(|error| CallError::Malformed { path, source: error.into() })
    }

    /// Calls a method whose messages are known in types.
    pub async fn call_typed<Answer: Message + Default>(
        &self,
        path: &str,
        request: &impl Message,
        token: Option<&Token>,
    ) -> Result<Answer, CallError> {
        let answer = self.call_bytes(path, request.encode_to_vec().into(), token).await?;
        Answer::decode(answer).map_err(|error| CallError::Malformed { path: path.to_owned(), source: error.into() })
    }

    /// Calls `package.Service/Method` with an encoded request.
    pub async fn call_bytes(&self, path: &str, request: Bytes, token: Option<&Token>) -> Result<Bytes, CallError> {
        let (request, path_on_wire) = self.addressed(path, request, token)?;
        let transport = self.transport.clone().map_response(status_where_it_ends);
        let mut grpc = Grpc::new(transport).max_decoding_message_size(MAX_ANSWER_BYTES);
        let call = async {
            grpc.ready().await.map_err(|error| Status::from_error(error.into()))?;
            grpc.unary(request, path_on_wire, RawCodec).await
        };
        match timeout(CALL_TIMEOUT, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(CallError::from_status(status, &self.endpoint)),
            Err(_) => Err(CallError::TimedOut { endpoint: self.endpoint.clone() }),
        }
    }

    /// Opens a stream to `package.Service/Method`, of one request or of many.
    pub(crate) async fn open(
        &self,
        path: &str,
        requests: impl Stream<Item = Bytes> + Send + 'static,
        token: Option<&Token>,
    ) -> Result<Streaming<Bytes>, CallError> {
        let (request, path_on_wire) = self.addressed(path, requests, token)?;
        let transport = self.transport.clone().map_response(status_where_it_ends);
        let mut grpc = Grpc::new(transport).max_decoding_message_size(MAX_ANSWER_BYTES);
        let opened = async {
            grpc.ready().await.map_err(|error| Status::from_error(error.into()))?;
            grpc.streaming(request, path_on_wire, RawCodec).await
        };
        let opened = opened.await.map_err(|status| CallError::from_status(status, &self.endpoint))?;
        Ok(opened.into_inner())
    }

    /// A request to `package.Service/Method` in somebody's name.
    fn addressed<T>(
        &self,
        path: &str,
        message: T,
        token: Option<&Token>,
    ) -> Result<(Request<T>, PathAndQuery), CallError> {
        let malformed = |source| CallError::Malformed { path: path.to_owned(), source };
        let path_on_wire: PathAndQuery = format!("/{path}").parse().map_err(|error| malformed(Box::from(error)))?;
        let mut request = Request::new(message);
        if let Some(token) = token {
            request.metadata_mut().insert("authorization", bearer(token).map_err(malformed)?);
        }
        let state = self.trace.as_ref().map(|trace| trace.state.clone()).filter(|state| !state.is_empty());
        for (name, value) in [(TRACEPARENT, self.trace.as_ref().map(ToString::to_string)), (TRACESTATE, state)] {
            if let Some(value) = value.and_then(|value| AsciiMetadataValue::try_from(value).ok()) {
                request.metadata_mut().insert(name, value);
            }
        }
        Ok((request, path_on_wire))
    }
}

/// Leaves the status to the trailers where there are any. A status in the head is the whole answer only if nothing follows
/// ("Trailers-Only" in the gRPC specification); some servers put it in both places, and the details behind it in the
/// trailers alone, where tonic would not look any more.
fn status_where_it_ends(mut response: Response<Body>) -> Response<Body> {
    if !response.body().is_end_stream() {
        response.headers_mut().remove(Status::GRPC_STATUS);
        response.headers_mut().remove(Status::GRPC_MESSAGE);
    }
    response
}

/// Marked as sensitive, so that HTTP/2 does not index it and logs do not show it.
fn bearer(token: &Token) -> Result<AsciiMetadataValue, Box<dyn std::error::Error + Send + Sync>> {
    let mut value = AsciiMetadataValue::try_from(format!("Bearer {}", token.expose()))
        .map_err(|_| "the access token holds characters that no token has")?;
    value.set_sensitive(true);
    Ok(value)
}

/// Leaves messages as bytes.
#[derive(Debug, Clone, Copy)]
struct RawCodec;

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(item);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}
