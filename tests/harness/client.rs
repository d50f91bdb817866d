//! A client of one server, with one token or none.

use crate::{
    Answer,
    tls::{OverTls, Wire},
};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use std::net::{IpAddr, SocketAddr};
use tokio::net::TcpSocket;

/// Protocols, as ALPN has them.
const HTTP1: &[u8] = b"http/1.1";
const HTTP2: &[u8] = b"h2";

/// Calls a server with JSON over Connect, one connection a call.
#[derive(Debug, Clone)]
pub struct Client {
    addr: SocketAddr,
    source: Option<IpAddr>,
    token: Option<String>,
    tls: Option<OverTls>,
}

/// What came over the wire, headers and all.
#[derive(Debug)]
pub struct Raw {
    /// The HTTP status.
    pub status: u16,
    /// The header lines.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// What stood behind the body; none over HTTP/1.1.
    pub trailers: HeaderMap,
}

impl Client {
    /// A client that is nobody.
    pub fn anonymous(addr: SocketAddr) -> Self {
        Self { addr, source: None, token: None, tls: None }
    }

    /// The same with this access token.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    /// The same from another address of this machine: every address of 127.0.0.0/8 is one.
    #[must_use]
    pub fn from_source(&self, source: IpAddr) -> Self {
        Self { source: Some(source), ..self.clone() }
    }

    /// The same person on another server, which has a copy of the first one's data.
    #[must_use]
    pub fn at(&self, addr: SocketAddr) -> Self {
        Self { addr, ..self.clone() }
    }

    /// The same over TLS. The server's certificate is not looked at: a thief does not mind.
    #[must_use]
    pub(crate) fn over_tls(&self, tls: OverTls) -> Self {
        Self { tls: Some(tls), ..self.clone() }
    }

    /// The access token that it sends.
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Calls the method at this path, such as `notes.v1.NoteService/GetNote`.
    pub async fn call(&self, path: &str, body: Value) -> Answer {
        let (status, bytes) = self.post(path, "application/json", Bytes::from(body.to_string())).await;
        Answer { status, body: serde_json::from_slice(&bytes).unwrap_or(Value::Null) }
    }

    /// Sends these bytes with this content type; gives back the status and the body.
    pub async fn post(&self, path: &str, content_type: &str, body: Bytes) -> (u16, Bytes) {
        let raw = self.send(self.post_request(path, content_type, body)).await;
        (raw.status, raw.body)
    }

    /// Calls a method over gRPC on a connection of its own: HTTP/2 without TLS, as gRPC clients on loopback do.
    pub async fn grpc(&self, path: &str, message: &[u8]) -> Raw {
        self.grpc_raw(path, frame(message)).await
    }

    /// The same with a body that may be in no frame.
    pub async fn grpc_raw(&self, path: &str, body: Bytes) -> Raw {
        let mut request = self.post_request(path, "application/grpc+proto", body);
        request.headers_mut().insert(header::TE, header::HeaderValue::from_static("trailers"));
        self.http2(request).await
    }

    /// As clients do: over HTTP/2 where a certificate is to be shown, else over HTTP/1.1.
    async fn send(&self, request: Request<Full<Bytes>>) -> Raw {
        match &self.tls {
            Some(tls) if tls.shows_certificate() => self.http2(request).await,
            _ => self.http1(request).await,
        }
    }

    async fn http2(&self, mut request: Request<Full<Bytes>>) -> Raw {
        *request.uri_mut() = self.url(request.uri().path()).parse().expect("a path");
        request.headers_mut().remove(header::HOST);
        let io = TokioIo::new(self.connect().await);
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.expect("the server speaks HTTP/2");
        tokio::spawn(connection);
        whole(sender.send_request(request).await.expect("the server answers")).await.expect("the answer is whole")
    }

    /// Where a path is.
    pub(crate) fn url(&self, path: &str) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}/{}", self.addr, path.trim_start_matches('/'))
    }

    /// Reads a path by GET.
    pub async fn get(&self, path: &str) -> (u16, Bytes) {
        let mut request = Request::get(path).header(header::HOST, self.addr.to_string());
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let raw = self.http1(request.body(Full::default()).expect("a request of valid parts")).await;
        (raw.status, raw.body)
    }

    fn post_request(&self, path: &str, content_type: &str, body: Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::post(format!("/{path}"))
            .header(header::HOST, self.addr.to_string())
            .header(header::CONTENT_TYPE, content_type);
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        request.body(Full::new(body)).expect("a request of valid parts")
    }

    /// Calls a method of a server that may die meanwhile: an error unless its whole answer came.
    pub async fn try_call(&self, path: &str, body: Value) -> anyhow::Result<Answer> {
        let raw = self.try_http1(self.post_request(path, "application/json", Bytes::from(body.to_string()))).await?;
        Ok(Answer { status: raw.status, body: serde_json::from_slice(&raw.body).unwrap_or(Value::Null) })
    }

    /// Sends a request as it stands over HTTP/1.1.
    pub async fn http1(&self, request: Request<Full<Bytes>>) -> Raw {
        self.try_http1(request).await.expect("the server answers")
    }

    async fn try_http1(&self, request: Request<Full<Bytes>>) -> anyhow::Result<Raw> {
        let io = TokioIo::new(self.try_connect(HTTP1).await?);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
        tokio::spawn(connection);
        whole(sender.send_request(request).await?).await
    }

    /// A connection for HTTP/2.
    pub(crate) async fn connect(&self) -> Box<dyn Wire> {
        self.try_connect(HTTP2).await.expect("the server listens")
    }

    async fn try_connect(&self, protocol: &[u8]) -> anyhow::Result<Box<dyn Wire>> {
        let socket = TcpSocket::new_v4()?;
        if let Some(source) = self.source {
            socket.bind(SocketAddr::new(source, 0)).expect("an address of this machine");
        }
        let stream = socket.connect(self.addr).await?;
        match &self.tls {
            Some(tls) => tls.connect(stream, protocol).await,
            None => Ok(Box::new(stream)),
        }
    }
}

async fn whole(response: Response<Incoming>) -> anyhow::Result<Raw> {
    let (parts, body) = response.into_parts();
    let collected = body.collect().await?;
    let trailers = collected.trailers().cloned().unwrap_or_default();
    Ok(Raw { status: parts.status.as_u16(), headers: parts.headers, body: collected.to_bytes(), trailers })
}

/// A message as gRPC and gRPC-Web frame it: a flag, the length in four bytes, the message.
pub fn frame(message: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(message.len() + 5);
    framed.extend_from_slice(&[0]);
    framed.extend_from_slice(&u32::try_from(message.len()).expect("a small message").to_be_bytes());
    framed.extend_from_slice(message);
    framed.freeze()
}

/// The frames of a body: the flag of each, and what stands in it.
pub fn frames(mut body: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while let Some((&[flag, a, b, c, d], rest)) = body.split_first_chunk::<5>() {
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        assert!(rest.len() >= length, "a frame that ends early");
        frames.push((flag, rest[..length].to_vec()));
        body = &rest[length..];
    }
    assert!(body.is_empty(), "bytes behind the last frame: {body:?}");
    frames
}
