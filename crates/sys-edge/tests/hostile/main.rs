//! What a stranger sends who wants to harm: floods of frames, requests that two readers would read in two ways, and connections
//! that never say anything. Each costs its sender his connection at most, and everybody else is answered.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "test code: the setting for tests does not reach functions beside them"
)]

mod floods;
mod frames;
mod heads;
mod smuggling;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};
use sys_edge::{Bind, Limits, Listener};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tower::service_fn;

/// Longer than anything here takes that does not hang.
const NEVER: Duration = Duration::from_secs(30);

/// Frames of HTTP/2 (RFC 9113 section 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
/// Flags of frames.
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// `GET / http localhost`, in HPACK: three of the static table, one literal that is not indexed.
const GET: &[u8] = b"\x82\x86\x84\x01\x09localhost";

/// The paths that came to be served.
type Seen = Arc<Mutex<Vec<String>>>;

async fn start(limits: Limits) -> (SocketAddr, Seen) {
    let addr = SocketAddr::from(([127, 0, 0, 1], 0));
    let listener = Listener::bind(Bind { limits, ..Bind::at(addr) }).await.expect("bind");
    let (addr, seen) = (listener.local_addr(), Seen::default());
    let noted = Arc::clone(&seen);
    let service = service_fn(move |request: Request<Incoming>| {
        let noted = Arc::clone(&noted);
        async move {
            noted.lock().expect("no panic").push(request.uri().path().to_owned());
            let length = request.into_body().collect().await.map_or(0, |body| body.to_bytes().len());
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(format!("{length} bytes")))))
        }
    });
    tokio::spawn(listener.serve(service, std::future::pending()));
    (addr, seen)
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short payload").to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// A connection that has said that it speaks HTTP/2.
async fn h2(addr: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(addr).await.expect("the server listens");
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.expect("a preface");
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.expect("settings");
    stream
}

/// Somebody else's request, on a connection of its own.
async fn is_answered(addr: SocketAddr) {
    let stream = TcpStream::connect(addr).await.expect("the server listens");
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
    tokio::spawn(connection);
    let request = Request::get(format!("http://{addr}/other")).body(Full::<Bytes>::default()).expect("a request");
    let response = timeout(NEVER, sender.send_request(request)).await.expect("in time").expect("an answer");
    assert_eq!(response.status(), 200);
}

/// A frame of the server's.
#[derive(Debug)]
struct Heard {
    kind: u8,
    flags: u8,
    payload: Vec<u8>,
}

impl Heard {
    /// The reason that a GOAWAY or a RST_STREAM ends with (RFC 9113 section 7).
    fn reason(&self) -> Option<u32> {
        let code = match self.kind {
            GOAWAY => self.payload.get(4..8)?,
            RST_STREAM => self.payload.get(..4)?,
            _ => return None,
        };
        code.try_into().ok().map(u32::from_be_bytes)
    }
}

/// The next frame, until the connection ends.
async fn heard(stream: &mut (impl AsyncReadExt + Unpin)) -> Option<Heard> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.ok()?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; usize::try_from(length).expect("24 bits")];
    stream.read_exact(&mut payload).await.ok()?;
    Some(Heard { kind: head[3], flags: head[4], payload })
}

/// Sends this over HTTP/1.1, and nothing after it, and gives back all that comes.
async fn said(addr: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(addr).await.expect("the server listens");
    stream.write_all(request.as_bytes()).await.expect("a request");
    stream.shutdown().await.expect("no more to say");
    let mut answer = Vec::new();
    let _ = timeout(NEVER, stream.read_to_end(&mut answer)).await.expect("it closes");
    String::from_utf8_lossy(&answer).into_owned()
}
