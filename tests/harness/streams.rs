//! Streams over the three protocols, with JSON in their frames: one connection each, and no library that would smooth
//! anything over.

use crate::{Client, frame, frames};
use bytes::{Bytes, BytesMut};
use data_encoding::{BASE64, BASE64_NOPAD};
use http::{HeaderMap, Request, Response, header};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use serde_json::Value;
use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use sys_contract::rpc::{Detail, ErrorInfo, Status};
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};

/// Longer than anything takes that comes at all.
const PATIENCE: Duration = Duration::from_secs(30);
/// gRPC-Web's flag of the frame that holds the trailers.
const TRAILERS: u8 = 0x80;
/// Connect's flag of the last frame.
const END: u8 = 0x02;

/// A protocol, by how it frames streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// gRPC.
    Grpc,
    /// gRPC-Web, as browsers speak it.
    GrpcWeb,
    /// Connect.
    Connect,
}

impl Form {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Grpc, Self::GrpcWeb, Self::Connect];

    const fn content_type(self) -> &'static str {
        match self {
            Self::Grpc => "application/grpc+json",
            Self::GrpcWeb => "application/grpc-web+json",
            Self::Connect => "application/connect+json",
        }
    }
}

/// What comes on a stream.
#[derive(Debug, Clone, PartialEq)]
pub enum Came {
    /// An answer.
    Message(Value),
    /// The end; empty if all went well, else the reason of the refusal.
    End(String),
}

/// An open stream.
#[derive(Debug)]
pub struct Stream {
    form: Form,
    requests: Option<mpsc::Sender<Bytes>>,
    response: Option<JoinHandle<Response<Incoming>>>,
    head: HeaderMap,
    body: Option<Incoming>,
    unread: BytesMut,
}

/// A body of what is said.
struct Said(mpsc::Receiver<Bytes>);

impl Body for Said {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

impl Client {
    /// Opens a stream of the method at this path.
    pub async fn stream(&self, path: &str, form: Form) -> Stream {
        let (requests, said) = mpsc::channel(1);
        let mut request = Request::post(self.url(path))
            .header(header::CONTENT_TYPE, form.content_type())
            .header(header::TE, "trailers");
        if let Some(token) = self.token() {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(Said(said)).expect("a request of valid parts");
        let io = TokioIo::new(self.connect().await);
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.expect("the server speaks HTTP/2");
        tokio::spawn(connection);
        let response = async move { sender.send_request(request).await.expect("the server answers") };
        let response = Some(tokio::spawn(response));
        Stream { form, requests: Some(requests), response, head: HeaderMap::new(), body: None, unread: BytesMut::new() }
    }

    /// Opens a stream of one request.
    pub async fn listen(&self, path: &str, form: Form, request: &Value) -> Stream {
        let mut stream = self.stream(path, form).await;
        stream.say(request).await;
        stream.hush();
        stream
    }
}

impl Stream {
    /// Sends a message. Nobody takes it where the stream has ended.
    pub async fn say(&self, message: &Value) {
        if let Some(requests) = &self.requests {
            let _ = requests.send(frame(message.to_string().as_bytes())).await;
        }
    }

    /// All is said.
    pub fn hush(&mut self) {
        self.requests = None;
    }

    /// The next that comes.
    pub async fn came(&mut self) -> Came {
        timeout(PATIENCE, self.next()).await.expect("something comes on the stream")
    }

    /// The next message.
    pub async fn message(&mut self) -> Value {
        match self.came().await {
            Came::Message(message) => message,
            Came::End(reason) => panic!("the stream has ended: {reason:?}"),
        }
    }

    /// The reason why it ends, however much comes before.
    pub async fn end(&mut self) -> String {
        loop {
            if let Came::End(reason) = self.came().await {
                return reason;
            }
        }
    }

    async fn next(&mut self) -> Came {
        if let Some(response) = self.response.take() {
            let (head, body) = response.await.expect("a response").into_parts();
            assert_eq!(head.status, 200, "a stream tells its errors at its end");
            (self.head, self.body) = (head.headers, Some(body));
        }
        loop {
            if let Some((flag, message)) = self.frame() {
                return self.came_as(flag, &message);
            }
            let body = self.body.as_mut().expect("a response");
            match body.frame().await.map(|frame| frame.expect("the stream is whole")) {
                None => return self.ended(&self.head.clone()),
                Some(frame) if frame.is_trailers() => {
                    return self.ended(&frame.into_trailers().unwrap_or_default());
                }
                Some(frame) => self.unread.extend_from_slice(&frame.into_data().unwrap_or_default()),
            }
        }
    }

    /// The first whole frame of what is not read yet.
    fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        const HEAD: usize = 5;
        let length = u32::from_be_bytes(self.unread.get(1..HEAD)?.try_into().ok()?);
        let whole = HEAD + usize::try_from(length).ok()?;
        if self.unread.len() < whole {
            return None;
        }
        frames(&self.unread.split_to(whole)).pop()
    }

    fn came_as(&self, flag: u8, message: &[u8]) -> Came {
        match (self.form, flag) {
            (Form::GrpcWeb, TRAILERS) => {
                let text = String::from_utf8_lossy(message).into_owned();
                let lines = text.lines().filter_map(|line| line.split_once(": "));
                let trailers =
                    lines.map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value")));
                self.ended(&trailers.collect())
            }
            (Form::Connect, END) => {
                let end: Value = serde_json::from_slice(message).expect("the end is JSON");
                Came::End(connect_reason(&end["error"]))
            }
            _ => Came::Message(serde_json::from_slice(message).expect("a message in JSON")),
        }
    }

    /// The end as gRPC says it.
    fn ended(&self, trailers: &HeaderMap) -> Came {
        let status = trailers.get("grpc-status").expect("a stream ends with a status");
        if status == "0" {
            return Came::End(String::new());
        }
        let details = trailers.get("grpc-status-details-bin").expect("a refusal has details").as_bytes();
        let details = BASE64_NOPAD.decode(details).or_else(|_| BASE64.decode(details)).expect("base64");
        let status = Status::decode(details.as_slice()).expect("a status");
        Came::End(status.detail::<ErrorInfo>().expect("a refusal has a reason").reason)
    }
}

fn connect_reason(error: &Value) -> String {
    if error.is_null() {
        return String::new();
    }
    let details = error["details"].as_array().expect("a refusal has details");
    let info = details.iter().find(|detail| detail["type"] == ErrorInfo::NAME).expect("a refusal has a reason");
    let bytes = BASE64_NOPAD.decode(info["value"].as_str().unwrap_or_default().as_bytes()).expect("base64");
    ErrorInfo::decode(bytes.as_slice()).expect("an ErrorInfo").reason
}
