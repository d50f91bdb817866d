//! The seam to the RPC library: bytes in, bytes out. `connectrpc` is known here, in [`crate::gate::Front`], which stands
//! before it, and in the answers to reflection; no handler and no rule sees a type of it.
//!
//! What lives here: how a refusal looks on the wire, how a request becomes a message and a message a response, and the
//! [`Dispatcher`] through which gRPC, gRPC-Web and Connect reach the gate.

use crate::{
    describe,
    gate::{Admitted, Answers, Gate, Identified, Opened, Opening},
    refusal::{Code, Reason, Refusal, whole_seconds},
};
use bytes::Bytes;
use connectrpc::{
    CodecFormat, ConnectError, ErrorCode, Limits, Payload, RequestContext,
    dispatcher::{Dispatcher, MethodDescriptor, RequestStream, StreamingResult, UnaryResult},
    error::ErrorDetail,
    response::{EncodedBody, EncodedResponse, EncodedStream, Response},
};
use data_encoding::BASE64_NOPAD;
use futures_util::StreamExt;
use http::{StatusCode, header};
use prost::Message;
use prost_reflect::{DeserializeOptions, DynamicMessage, MessageDescriptor, SerializeOptions, Value};
use std::{fmt, sync::Arc};
use sys_contract::model::Flow;
use sys_contract::rpc::{BadRequest, Detail, ERROR_DOMAIN, ErrorInfo, HELP_KEY, RetryInfo};
use sys_contract::unknown::drop_unknown;

/// What gRPC and gRPC-Web put in front of a message: a flag and its length.
pub(crate) const ENVELOPE_BYTES: usize = 5;
/// The flag of a message that is packed, in what stands in front of it.
pub(crate) const IS_PACKED: u8 = 1;
/// What most answers take, so that their buffer rarely grows.
const USUAL_ANSWER_BYTES: usize = 512;

impl From<Code> for ErrorCode {
    fn from(code: Code) -> Self {
        match code {
            Code::InvalidArgument => Self::InvalidArgument,
            Code::NotFound => Self::NotFound,
            Code::AlreadyExists => Self::AlreadyExists,
            Code::PermissionDenied => Self::PermissionDenied,
            Code::Unauthenticated => Self::Unauthenticated,
            Code::ResourceExhausted => Self::ResourceExhausted,
            Code::FailedPrecondition => Self::FailedPrecondition,
            Code::Aborted => Self::Aborted,
            Code::Unimplemented => Self::Unimplemented,
            Code::Internal => Self::Internal,
            Code::Unavailable => Self::Unavailable,
            Code::DeadlineExceeded => Self::DeadlineExceeded,
        }
    }
}

impl From<Refusal> for ConnectError {
    fn from(refusal: Refusal) -> Self {
        let retry_after = refusal.retry_after();
        let mut metadata = std::collections::BTreeMap::new();
        if let Some(help) = refusal.help {
            metadata.insert(HELP_KEY.to_owned(), help);
        }
        let info = ErrorInfo { reason: refusal.reason.name().to_owned(), domain: ERROR_DOMAIN.to_owned(), metadata };
        let mut error = Self::new(refusal.code.into(), refusal.message).with_detail(packed(&info));
        if let Some(wait) = retry_after {
            let delay = prost_types::Duration {
                seconds: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
                nanos: i32::try_from(wait.subsec_nanos()).unwrap_or(0),
            };
            error = error.with_detail(packed(&RetryInfo { retry_delay: Some(delay) }));
            error.response_headers_mut().insert(header::RETRY_AFTER, whole_seconds(wait).into());
        }
        if refusal.reason == Reason::NoSuchMethod {
            // Connect's word for it; else an unimplemented method is a 501.
            error = error.with_http_status(StatusCode::NOT_FOUND);
        }
        if !refusal.fields.is_empty() {
            error = error.with_detail(packed(&BadRequest { field_violations: refusal.fields }));
        }
        error
    }
}

fn packed<D: Detail>(message: &D) -> ErrorDetail {
    ErrorDetail {
        type_url: D::NAME.to_owned(),
        value: Some(BASE64_NOPAD.encode(&message.encode_to_vec())),
        debug: None,
    }
}

/// Reads a request. Unknown JSON fields are an error, since a person mistyped them; unknown numbers are dropped, since an
/// older or newer client sent them.
pub(crate) fn decode(
    descriptor: MessageDescriptor,
    body: Bytes,
    format: CodecFormat,
) -> Result<DynamicMessage, Refusal> {
    match format {
        CodecFormat::Json => {
            let mut json = serde_json::Deserializer::from_slice(if body.is_empty() { b"{}" } else { &body });
            let options = DeserializeOptions::new().deny_unknown_fields(true);
            let message = DynamicMessage::deserialize_with_options(descriptor, &mut json, &options)
                .and_then(|message| json.end().map(|()| message));
            message.map_err(|error| {
                Refusal::new(
                    Reason::Malformed,
                    format!("the body is not this message in JSON (line {}, column {})", error.line(), error.column()),
                )
                .help("compare the field names and types with `sys help` or the contract")
            })
        }
        _ => {
            let mut message = DynamicMessage::decode(descriptor, body).map_err(|_| {
                Refusal::new(Reason::Malformed, "the body is not this message in protobuf")
                    .help("regenerate the client from the server's descriptors")
            })?;
            drop_unknown(&mut message);
            Ok(message)
        }
    }
}

/// What a call answers: a message, or its bytes where nobody decoded them.
#[derive(Debug)]
pub(crate) enum Answer {
    /// As a handler made it.
    Message(DynamicMessage),
    /// As the store gave it, and of which type it is.
    Encoded(Vec<u8>, MessageDescriptor),
}

impl Answer {
    /// The answer as it is sent.
    pub(crate) fn encode(self, format: CodecFormat) -> Result<Bytes, Refusal> {
        match (self, format) {
            (Self::Message(message), format) => encode(&message, format),
            (Self::Encoded(bytes, of), CodecFormat::Json) => {
                let message = DynamicMessage::decode(of, bytes.as_slice()).map_err(Refusal::internal)?;
                encode(&message, format)
            }
            (Self::Encoded(bytes, _), _) => Ok(bytes.into()),
        }
    }
}

impl From<DynamicMessage> for Answer {
    fn from(message: DynamicMessage) -> Self {
        Self::Message(message)
    }
}

/// Writes a response.
pub(crate) fn encode(message: &DynamicMessage, format: CodecFormat) -> Result<Bytes, Refusal> {
    match format {
        CodecFormat::Json => {
            let mut json = serde_json::Serializer::new(Vec::new());
            // The rest is the Protobuf JSON mapping's default: lowerCamelCase names, defaults left out, 64 bits as strings.
            message.serialize_with_options(&mut json, &SerializeOptions::new()).map_err(Refusal::internal)?;
            Ok(json.into_inner().into())
        }
        _ => {
            // `encode_to_vec` would go over all fields once more to count the bytes.
            let mut bytes = Vec::with_capacity(USUAL_ANSWER_BYTES);
            message.encode_raw(&mut bytes);
            Ok(bytes.into())
        }
    }
}

/// Refuses enum numbers that the contract does not name: a rule could say nothing about them.
pub(crate) fn unknown_enum_value(message: &DynamicMessage) -> Option<String> {
    message.fields().find_map(|(field, value)| unknown_enum_in(&field, value))
}

fn unknown_enum_in(field: &prost_reflect::FieldDescriptor, value: &Value) -> Option<String> {
    match value {
        Value::EnumNumber(number) => {
            let kind = field.kind();
            let known = kind.as_enum().is_none_or(|descriptor| descriptor.get_value(*number).is_some());
            (!known).then(|| field.name().to_owned())
        }
        Value::Message(inner) => unknown_enum_value(inner).map(|path| format!("{}.{path}", field.name())),
        Value::List(items) => items.iter().find_map(|item| unknown_enum_in(field, item)),
        Value::Map(entries) => {
            let value_field = field.kind().as_message().map(MessageDescriptor::map_entry_value_field)?;
            entries.values().find_map(|item| unknown_enum_in(&value_field, item)).map(|_| field.name().to_owned())
        }
        _ => None,
    }
}

/// Routes what the RPC library has unpacked to the gate.
pub(crate) struct GateDispatcher(pub(crate) Arc<Gate>);

impl fmt::Debug for GateDispatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GateDispatcher")
    }
}

impl Dispatcher for GateDispatcher {
    fn lookup(&self, path: &str) -> Option<MethodDescriptor> {
        let (descriptor, bytes) = match self.0.host.method(path) {
            Some(method) => {
                let descriptor = match method.method().flow {
                    Flow::Unary => MethodDescriptor::unary(false),
                    Flow::ServerStream => MethodDescriptor::server_streaming(),
                    Flow::ClientStream => MethodDescriptor::client_streaming(),
                    Flow::Bidi => MethodDescriptor::bidi_streaming(),
                };
                (descriptor, usize::try_from(method.method().max_request_bytes).ok()?)
            }
            None if describe::is_reflection(path) => (MethodDescriptor::bidi_streaming(), describe::QUESTION_BYTES),
            None if path == describe::HEALTH_CHECK => (MethodDescriptor::unary(false), describe::HEALTH_REQUEST_BYTES),
            None => return None,
        };
        Some(bounded(descriptor, bytes))
    }

    fn call_unary(&self, path: &str, ctx: RequestContext, request: Payload, format: CodecFormat) -> UnaryResult {
        if path == describe::HEALTH_CHECK {
            let answer = describe::healthy(format == CodecFormat::Json);
            return Box::pin(async move { Ok(EncodedResponse::new(EncodedBody::Contiguous(answer))) });
        }
        let gate = self.0.clone();
        Box::pin(async move {
            // Whoever was not let in by the front is nobody: there is no way round it.
            let admitted = ctx.extensions().get::<Admitted>().cloned().ok_or_else(Refusal::unauthenticated)?;
            let answer = gate.unary(admitted, request.encoded()?, format).await?;
            Ok(EncodedResponse::new(EncodedBody::Contiguous(answer)))
        })
    }

    fn call_server_streaming(
        &self,
        _: &str,
        ctx: RequestContext,
        request: Bytes,
        format: CodecFormat,
    ) -> StreamingResult {
        let gate = self.0.clone();
        Box::pin(async move {
            let answers = gate.server_stream(opened(&ctx)?, request, format);
            Ok(Response::new(framed(answers)))
        })
    }

    fn call_client_streaming(
        &self,
        _: &str,
        ctx: RequestContext,
        requests: RequestStream,
        format: CodecFormat,
    ) -> UnaryResult {
        let gate = self.0.clone();
        Box::pin(async move {
            let mut answers = gate.conversation(opened(&ctx)?, requests, format);
            let answer =
                answers.next().await.unwrap_or_else(|| Err(Refusal::internal("a stream without an answer")))?;
            Ok(EncodedResponse::new(EncodedBody::Contiguous(answer)))
        })
    }

    fn call_bidi_streaming(
        &self,
        path: &str,
        ctx: RequestContext,
        requests: RequestStream,
        format: CodecFormat,
    ) -> StreamingResult {
        let gate = self.0.clone();
        if !describe::is_reflection(path) {
            return Box::pin(async move {
                let answers = gate.conversation(opened(&ctx)?, requests, format);
                Ok(Response::new(framed(answers)))
            });
        }
        if format == CodecFormat::Json {
            return Box::pin(async { Err(no_such_method().into()) });
        }
        Box::pin(async move {
            let identified = ctx.extensions().get::<Identified>().cloned().ok_or_else(Refusal::unauthenticated)?;
            let shown = move || {
                let (gate, identified) = (gate.clone(), identified.clone());
                async move { gate.shown_to(&identified).await }
            };
            Ok(Response::new(describe::answer(requests, shown)))
        })
    }
}

/// A method whose messages have so many bytes at most.
pub(crate) fn bounded(method: MethodDescriptor, most_bytes: usize) -> MethodDescriptor {
    let whole = most_bytes.saturating_add(ENVELOPE_BYTES);
    method.with_limits(Limits::default().with_max_request_body_size(whole).with_max_message_size(most_bytes))
}

/// The stream that the front let in. Whoever was not is nobody.
fn opened(context: &RequestContext) -> Result<Opened, Refusal> {
    context.extensions().get::<Opening>().and_then(Opening::take).ok_or_else(Refusal::unauthenticated)
}

fn framed(answers: Answers) -> EncodedStream {
    Box::pin(answers.map(|answer| answer.map(EncodedBody::Contiguous).map_err(ConnectError::from)))
}

/// There is no such method, or not in this form. The path is not repeated: it is anybody's text.
pub(crate) fn no_such_method() -> Refusal {
    Refusal::new(Reason::NoSuchMethod, "there is no such method").help("`sys help` lists what you may call")
}
