//! One call over the wire: its bytes out, and what came back, whatever protocol it went by.
//!
//! A stream is opened, given one message, and heard until an answer that tells enough, or its refusal; then it is dropped.

use bytes::{Buf, Bytes, BytesMut};
use data_encoding::{BASE64_NOPAD, BASE64URL_NOPAD};
use http::{HeaderMap, Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http2::SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use serde_json::Value;
use std::{net::SocketAddr, time::Duration};
use sys_contract::model::Flow;
use tokio::net::TcpStream;

/// How long an answer may take before the test fails: a bound, not a measure.
const PATIENCE: Duration = Duration::from_secs(60);
/// The codes of gRPC by their numbers, in the words of Connect.
const CODES: [&str; 17] = [
    "ok",
    "canceled",
    "unknown",
    "invalid_argument",
    "deadline_exceeded",
    "not_found",
    "already_exists",
    "permission_denied",
    "resource_exhausted",
    "failed_precondition",
    "aborted",
    "out_of_range",
    "unimplemented",
    "internal",
    "unavailable",
    "data_loss",
    "unauthenticated",
];

/// A protocol that the server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Grpc,
    GrpcWeb,
    Connect,
}

/// What a call came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// `ok`, or code and reason of the refusal.
    pub(crate) outcome: String,
    /// What is wrong with the request, where that is the refusal.
    pub(crate) told: String,
    /// The message of an answer: of a stream, the first that tells enough.
    pub(crate) message: Option<Bytes>,
}

/// A connection to a server, over which any number of calls run at once.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    addr: SocketAddr,
    sender: SendRequest<Full<Bytes>>,
}

#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<prost_types::Any>,
}

#[derive(Clone, PartialEq, Message)]
struct ErrorInfo {
    #[prost(string, tag = "1")]
    reason: String,
}

impl Protocol {
    /// The protocol of a call, chosen by what it is about: each method is called by all of them. Streams go by gRPC.
    pub(crate) fn of(flow: Flow, number: usize) -> Self {
        match (flow, number % 4) {
            (Flow::Unary, 1) => Self::GrpcWeb,
            (Flow::Unary, 2) => Self::Connect,
            _ => Self::Grpc,
        }
    }

    const fn content_type(self) -> &'static str {
        match self {
            Self::Grpc => "application/grpc+proto",
            Self::GrpcWeb => "application/grpc-web+proto",
            Self::Connect => "application/proto",
        }
    }
}

impl Line {
    pub(crate) async fn open(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).await.expect("the server listens");
        stream.set_nodelay(true).expect("a socket of one's own");
        let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .expect("the server speaks HTTP/2");
        tokio::spawn(connection);
        Self { addr, sender }
    }

    pub(crate) async fn call(
        &mut self,
        path: &str,
        protocol: Protocol,
        token: Option<&str>,
        message: &[u8],
        is_enough: &(impl Fn(&Bytes) -> bool + Sync),
    ) -> Answer {
        let calling = self.exchange(path, protocol, token, message, is_enough);
        tokio::time::timeout(PATIENCE, calling).await.unwrap_or_else(|_| panic!("{path} is not answered"))
    }

    async fn exchange(
        &mut self,
        path: &str,
        protocol: Protocol,
        token: Option<&str>,
        message: &[u8],
        is_enough: &(impl Fn(&Bytes) -> bool + Sync),
    ) -> Answer {
        let body = match protocol {
            Protocol::Connect => Bytes::copy_from_slice(message),
            Protocol::Grpc | Protocol::GrpcWeb => sys_tests::frame(message),
        };
        let mut request = Request::post(format!("http://{}/{path}", self.addr))
            .header(header::CONTENT_TYPE, protocol.content_type())
            .header(header::TE, "trailers");
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(Full::new(body)).expect("a request of valid parts");
        self.sender.ready().await.expect("the connection stands");
        let response = self.sender.send_request(request).await.expect("the server answers");
        match protocol {
            Protocol::Connect => connect_answer(response).await,
            Protocol::Grpc | Protocol::GrpcWeb => framed_answer(response, is_enough).await,
        }
    }
}

async fn connect_answer(response: Response<Incoming>) -> Answer {
    let is_ok = response.status().is_success();
    let body = response.into_body().collect().await.expect("the answer is whole").to_bytes();
    if is_ok {
        return Answer { outcome: "ok".to_owned(), told: String::new(), message: Some(body) };
    }
    let error: Value = serde_json::from_slice(&body).unwrap_or_default();
    let details = error["details"].as_array().cloned().unwrap_or_default();
    let info = details.iter().find(|detail| detail["type"] == "google.rpc.ErrorInfo");
    let reason = info
        .and_then(|info| BASE64_NOPAD.decode(info["value"].as_str()?.as_bytes()).ok())
        .and_then(|bytes| ErrorInfo::decode(bytes.as_slice()).ok())
        .map(|info| info.reason);
    refused(error["code"].as_str().unwrap_or("unknown"), reason, error["message"].as_str().unwrap_or_default())
}

/// The first frame of a gRPC answer, or its status: in the headers where there is no body, in the trailers, or, over the web,
/// in a frame of its own.
async fn framed_answer(response: Response<Incoming>, is_enough: &(impl Fn(&Bytes) -> bool + Sync)) -> Answer {
    let (parts, mut body) = response.into_parts();
    assert!(parts.status.is_success(), "gRPC is answered with 200, not {}", parts.status);
    if parts.headers.contains_key("grpc-status") {
        return of_status(&parts.headers);
    }
    let mut unread = BytesMut::new();
    loop {
        if let Some((flag, message)) = first_frame(&mut unread) {
            if flag & 0x80 != 0 {
                return of_status(&headers_in(&message));
            }
            if !is_enough(&message) {
                continue;
            }
            return Answer { outcome: "ok".to_owned(), told: String::new(), message: Some(message) };
        }
        let frame = body.frame().await.expect("an answer ends with its status").expect("the answer is whole");
        match frame.into_data() {
            Ok(data) => unread.extend_from_slice(&data),
            // A stream that ended well before it told enough.
            Err(frame) => return of_status(&frame.into_trailers().unwrap_or_default()),
        }
    }
}

fn first_frame(unread: &mut BytesMut) -> Option<(u8, Bytes)> {
    let (&[flag, a, b, c, d], rest) = unread.split_first_chunk::<5>()?;
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if rest.len() < length {
        return None;
    }
    unread.advance(5);
    Some((flag, unread.split_to(length).freeze()))
}

/// The trailers of gRPC-Web, which are text.
fn headers_in(text: &[u8]) -> HeaderMap {
    let text = String::from_utf8_lossy(text);
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    let header = |(name, value): (&str, &str)| {
        let name = name.trim().to_ascii_lowercase().parse::<header::HeaderName>().ok()?;
        Some((name, value.trim().parse().ok()?))
    };
    lines.filter_map(header).collect()
}

fn of_status(headers: &HeaderMap) -> Answer {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let code = CODES[text("grpc-status").parse::<usize>().expect("a status is a number")];
    if code == "ok" {
        return Answer { outcome: "ok".to_owned(), told: String::new(), message: None };
    }
    let details = text("grpc-status-details-bin");
    let details = details.trim_end_matches('=').as_bytes();
    let details = BASE64_NOPAD.decode(details).or_else(|_| BASE64URL_NOPAD.decode(details)).unwrap_or_default();
    let status = Status::decode(details.as_slice()).unwrap_or_default();
    let info = status.details.iter().find(|detail| detail.type_url.ends_with("/google.rpc.ErrorInfo"));
    let reason = info.and_then(|info| ErrorInfo::decode(info.value.as_slice()).ok()).map(|info| info.reason);
    refused(code, reason, &status.message)
}

fn refused(code: &str, reason: Option<String>, told: &str) -> Answer {
    let outcome = format!("{code} {}", reason.as_deref().unwrap_or("(no reason)"));
    Answer { outcome, told: told.to_owned(), message: None }
}
