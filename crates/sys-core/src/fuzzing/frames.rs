//! A body on its way to the gate: read as the front reads it, and unpacked by the RPC library within the bounds that the gate sets.
//! Behind the library stands somebody who only listens.

use crate::{
    gate::{load::Load, request},
    wire::bounded,
};
use bytes::Bytes;
use connectrpc::{
    CodecFormat, ConnectError, ConnectRpcService, Payload, RequestContext,
    dispatcher::{Dispatcher, MethodDescriptor, RequestStream, StreamingResult, UnaryResult},
    response::{EncodedBody, EncodedResponse, Response},
};
use futures_util::{StreamExt, stream};
use http::{HeaderMap, Method, Request};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use std::{
    convert::Infallible,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
};
use sys_contract::model::Flow;
use tower::Service;

/// What was heard of a request.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// The messages, in their order.
    pub messages: Vec<Bytes>,
    /// Whether all of it was understood.
    pub is_whole: bool,
}

/// What is heard of a body that comes in these pieces, of messages of so many bytes at most.
pub fn heard(flow: Flow, most_bytes: usize, headers: HeaderMap, pieces: Vec<Bytes>) -> Option<Heard> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().ok()?;
    runtime.block_on(async {
        let listener = Listener { flow, most_bytes, heard: Arc::default() };
        let heard = Arc::clone(&listener.heard);
        let mut library = ConnectRpcService::new(listener);
        let mut head = Request::new(());
        (*head.method_mut(), *head.uri_mut(), *head.headers_mut()) = (Method::POST, "/a.B/C".parse().ok()?, headers);
        let body = StreamBody::new(stream::iter(pieces.into_iter().map(Frame::data).map(Ok::<_, Infallible>)));
        let response = if matches!(flow, Flow::Unary | Flow::ServerStream) {
            let load = Load::default();
            let whole = request::read(pin!(body), most_bytes, None, &mut load.hold(None)).await.ok()?;
            library.call(head.map(|()| Full::new(whole))).await
        } else {
            library.call(head.map(|()| body)).await
        };
        // Nobody hears a stream before its answers are read.
        response.ok()?.into_body().collect().await.ok()?;
        Some(std::mem::take(&mut *heard.lock().unwrap_or_else(PoisonError::into_inner)))
    })
}

struct Listener {
    flow: Flow,
    most_bytes: usize,
    heard: Arc<Mutex<Heard>>,
}

impl Listener {
    fn hears_one(&self, message: Bytes) {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.messages.push(message);
        heard.is_whole = true;
    }

    /// Listens until the stream ends or breaks off.
    fn hears(&self, mut requests: RequestStream) -> impl Future<Output = ()> + use<> {
        let heard = Arc::clone(&self.heard);
        async move {
            while let Some(request) = requests.next().await {
                let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
                let Ok(message) = request else { return };
                heard.messages.push(message);
            }
            heard.lock().unwrap_or_else(PoisonError::into_inner).is_whole = true;
        }
    }
}

fn nothing() -> EncodedResponse {
    EncodedResponse::new(EncodedBody::Contiguous(Bytes::new()))
}

impl Dispatcher for Listener {
    fn lookup(&self, _: &str) -> Option<MethodDescriptor> {
        let descriptor = match self.flow {
            Flow::Unary => MethodDescriptor::unary(false),
            Flow::ServerStream => MethodDescriptor::server_streaming(),
            Flow::ClientStream => MethodDescriptor::client_streaming(),
            Flow::Bidi => MethodDescriptor::bidi_streaming(),
        };
        Some(bounded(descriptor, self.most_bytes))
    }

    fn call_unary(&self, _: &str, _: RequestContext, request: Payload, _: CodecFormat) -> UnaryResult {
        let heard = request.encoded().map(|message| self.hears_one(message));
        Box::pin(async move { heard.map(|()| nothing()) })
    }

    fn call_server_streaming(&self, _: &str, _: RequestContext, request: Bytes, _: CodecFormat) -> StreamingResult {
        self.hears_one(request);
        Box::pin(async { Ok(Response::new(Box::pin(stream::empty()) as _)) })
    }

    fn call_client_streaming(
        &self,
        _: &str,
        _: RequestContext,
        requests: RequestStream,
        _: CodecFormat,
    ) -> UnaryResult {
        let heard = self.hears(requests);
        Box::pin(async move {
            heard.await;
            Ok(nothing())
        })
    }

    fn call_bidi_streaming(
        &self,
        _: &str,
        _: RequestContext,
        requests: RequestStream,
        _: CodecFormat,
    ) -> StreamingResult {
        let heard = self.hears(requests);
        Box::pin(async move {
            heard.await;
            Ok(Response::new(Box::pin(stream::empty::<Result<EncodedBody, ConnectError>>()) as _))
        })
    }
}
