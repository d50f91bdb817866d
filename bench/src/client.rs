//! The load: a client of one HTTP/2 connection, which speaks Connect, and the same work on many streams at once.

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::{net::SocketAddr, time::Instant};
use tokio::{net::TcpStream, task::JoinSet};

/// Connections of a load.
pub const CONNECTIONS: usize = 4;
/// Calls that are under way at the same time on each of them.
pub const STREAMS: usize = 8;

/// A client of one HTTP/2 connection.
#[derive(Debug, Clone)]
pub struct Client {
    addr: SocketAddr,
    sender: hyper::client::conn::http2::SendRequest<Full<Bytes>>,
}

/// A unary call: where to, who calls, and the body.
#[derive(Debug, Clone)]
pub struct Call {
    /// `package.Service/Method`.
    pub path: &'static str,
    /// The access token; empty for nobody.
    pub token: String,
    /// The request as protobuf.
    pub body: Bytes,
}

impl Client {
    /// Connects, without TLS.
    pub async fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).await.expect("the server listens");
        stream.set_nodelay(true).expect("a socket");
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
        tokio::spawn(connection);
        Self { addr, sender }
    }

    /// Sends a body and returns the HTTP status with the answer.
    pub async fn post(&mut self, path: &str, content_type: &str, token: &str, body: Bytes) -> (u16, Bytes) {
        let mut request = Request::post(format!("http://{}/{path}", self.addr)).header("content-type", content_type);
        if !token.is_empty() {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(Full::new(body)).expect("a request");
        let response = self.sender.send_request(request).await.expect("an answer");
        let status = response.status().as_u16();
        (status, response.into_body().collect().await.expect("whole").to_bytes())
    }

    /// A call in protobuf.
    pub async fn call(&mut self, call: &Call) -> (u16, Bytes) {
        self.post(call.path, "application/proto", &call.token, call.body.clone()).await
    }

    /// A call in JSON that must succeed.
    pub async fn json(&mut self, path: &str, token: &str, body: serde_json::Value) -> serde_json::Value {
        let (status, answer) = self.post(path, "application/json", token, body.to_string().into()).await;
        assert_eq!(status, 200, "{path}: {}", String::from_utf8_lossy(&answer));
        serde_json::from_slice(&answer).expect("JSON")
    }
}

/// Makes calls that must succeed on `connections` times `streams` at once, `each` on each of them, and returns the answers'
/// milliseconds. `call` is told the number of the stream and that of the call on it.
pub async fn load(
    addr: SocketAddr,
    connections: usize,
    streams: usize,
    each: usize,
    call: impl Fn(usize, usize) -> Call + Clone + Send + 'static,
) -> Vec<f64> {
    let mut tasks = JoinSet::new();
    for connection in 0..connections {
        let client = Client::connect(addr).await;
        for stream in 0..streams {
            let (mut client, call) = (client.clone(), call.clone());
            tasks.spawn(async move {
                let mut took = Vec::with_capacity(each);
                for n in 0..each {
                    let call = call(connection * streams + stream, n);
                    let begun = Instant::now();
                    let (status, answer) = client.call(&call).await;
                    took.push(begun.elapsed().as_secs_f64() * 1e3);
                    assert!(status == 200 && !answer.is_empty(), "{}: {status} {answer:?}", call.path);
                }
                took
            });
        }
    }
    let mut took = Vec::new();
    while let Some(more) = tasks.join_next().await {
        took.extend(more.expect("a stream of the load"));
    }
    took
}
