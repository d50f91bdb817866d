//! What a stranger sends who wants to harm: floods of frames, requests that two readers would read in two ways, and connections
//! that never say anything. Each costs its sender his connection at most, and everybody else is answered.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "test code: the setting for tests does not reach functions beside them"
)]

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
use sys_edge::{AllowedHosts, Bind, Limits, Listener};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tower::service_fn;

/// Longer than anything here takes that does not hang.
const NEVER: Duration = Duration::from_secs(30);
/// How long a writer is held back before he takes it for an answer.
const HELD_BACK: Duration = Duration::from_millis(300);
/// The most that one flood sends.
const FLOOD_BYTES: usize = 16 << 20;

/// Frames of HTTP/2 (RFC 9113 section 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// `GET / http localhost`, in HPACK: three of the static table, one literal that is not indexed.
const GET: &[u8] = b"\x82\x86\x84\x01\x09localhost";

/// The paths that came to be served.
type Seen = Arc<Mutex<Vec<String>>>;

async fn start(limits: Limits) -> (SocketAddr, Seen) {
    let addr = SocketAddr::from(([127, 0, 0, 1], 0));
    let listener = Listener::bind(Bind { addr, limits, allowed_hosts: AllowedHosts::loopback() }).await.expect("bind");
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

/// What became of a flood.
#[derive(Debug, PartialEq, Eq)]
enum Flooded {
    /// The server closed the connection.
    Closed,
    /// The server reads no more.
    HeldBack,
    /// It took all of it.
    Taken,
}

/// Sends this again and again. Who does not read leaves all that he is answered where it is.
async fn flood(stream: TcpStream, reads: bool, mut next: impl FnMut() -> Vec<u8>) -> Flooded {
    let (mut reader, mut writer) = stream.into_split();
    let reading = tokio::spawn(async move {
        let mut sink = vec![0; 64 << 10];
        while reads && reader.read(&mut sink).await.is_ok_and(|read| read > 0) {}
        reader
    });
    let mut sent = 0;
    let flooded = loop {
        let piece = next();
        match timeout(HELD_BACK, writer.write_all(&piece)).await {
            Ok(Ok(())) => sent += piece.len(),
            Ok(Err(_)) => break Flooded::Closed,
            Err(_) if !reads => break Flooded::HeldBack,
            Err(_) => {}
        }
        if reads && reading.is_finished() {
            break Flooded::Closed;
        }
        if sent >= FLOOD_BYTES {
            break Flooded::Taken;
        }
    };
    reading.abort();
    flooded
}

/// Of this process, from Linux's accounting.
fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0");
    line.split_whitespace().next().and_then(|kib| kib.parse::<usize>().ok()).unwrap_or(0) * 1_024
}

#[tokio::test]
async fn streams_that_are_opened_and_reset_at_once_cost_the_connection() {
    let (addr, seen) = start(Limits::default()).await;
    let mut stream_id = 1;
    let flooded = flood(h2(addr).await, true, || {
        let mut frames = Vec::new();
        for _ in 0..500 {
            frames.extend(frame(HEADERS, END_STREAM | END_HEADERS, stream_id, GET));
            frames.extend(frame(RST_STREAM, 0, stream_id, &8_u32.to_be_bytes()));
            stream_id += 2;
        }
        frames
    });
    assert_eq!(flooded.await, Flooded::Closed);
    let begun = seen.lock().expect("no panic").len();
    assert!(begun < 2_000, "{begun} requests were begun with");
    is_answered(addr).await;
}

#[tokio::test]
async fn frames_that_make_the_server_reset_streams_cost_the_connection() {
    let (addr, _) = start(Limits::default()).await;
    let mut stream_id = 1;
    let flooded = flood(h2(addr).await, true, || {
        let mut frames = Vec::new();
        for _ in 0..500 {
            // Open, and then an increment of nothing, which is an error of the stream (RFC 9113 section 6.9).
            frames.extend(frame(HEADERS, END_HEADERS, stream_id, GET));
            frames.extend(frame(WINDOW_UPDATE, 0, stream_id, &[0; 4]));
            stream_id += 2;
        }
        frames
    });
    assert_eq!(flooded.await, Flooded::Closed);
    is_answered(addr).await;
}

#[tokio::test]
async fn a_head_without_an_end_costs_the_connection_and_no_memory() {
    let (addr, seen) = start(Limits::default()).await;
    // A literal that is not indexed, `a: ` and 4,096 bytes; 0xff is a prefix that goes on in the next bytes.
    let mut field = b"\x00\x01a\x7f\x81\x1f".to_vec();
    field.extend([b'v'; 4_096]);
    for field in [Vec::new(), b"\x00\x01a\x01b".to_vec(), field] {
        let mut stream = h2(addr).await;
        stream.write_all(&frame(HEADERS, END_STREAM, 1, GET)).await.expect("the first part");
        let before = resident_bytes();
        let continued = frame(CONTINUATION, 0, 1, &field).repeat(1 + 4_096 / (9 + field.len()));
        assert_eq!(flood(stream, true, || continued.clone()).await, Flooded::Closed, "{} bytes", field.len());
        let grown = resident_bytes().saturating_sub(before);
        assert!(grown < 32 << 20, "{grown} bytes");
    }
    assert!(!seen.lock().expect("no panic").contains(&"/".to_owned()), "it never had a head");
    is_answered(addr).await;
}

#[tokio::test]
async fn who_asks_for_answers_and_reads_none_is_read_no_more() {
    let (addr, _) = start(Limits::default()).await;
    let pings = frame(PING, 0, 0, &[7; 8]);
    let settings = frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0xff, 0xff]);
    for (what, frames) in [("pings", pings), ("settings", settings)] {
        let before = resident_bytes();
        let many = frames.repeat(2_000);
        let flooded = flood(h2(addr).await, false, || many.clone()).await;
        assert!(flooded != Flooded::Taken, "{what}");
        let grown = resident_bytes().saturating_sub(before);
        assert!(grown < 32 << 20, "{what}: {grown} bytes");
        is_answered(addr).await;
    }
}

#[tokio::test]
async fn frames_that_say_nothing_keep_nobody_else_from_being_answered() {
    let (addr, _) = start(Limits::default()).await;
    let priorities = frame(PRIORITY, 0, 3, &[0, 0, 0, 1, 7]);
    let windows = frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes());
    let unknown = frame(0xfa, 0xff, 0, b"nothing");
    for frames in [priorities, windows, unknown, frame(PING, 0, 0, &[7; 8])] {
        let before = resident_bytes();
        let many = frames.repeat(2_000);
        let flooding = flood(h2(addr).await, true, || many.clone());
        let (_, ()) = tokio::join!(flooding, is_answered(addr));
        let grown = resident_bytes().saturating_sub(before);
        assert!(grown < 32 << 20, "{grown} bytes");
    }
    // Empty pieces of a body.
    let mut stream = h2(addr).await;
    stream.write_all(&frame(HEADERS, END_HEADERS, 1, GET)).await.expect("a head");
    let empty = frame(DATA, 0, 1, &[]).repeat(2_000);
    let (_, ()) = tokio::join!(flood(stream, true, || empty.clone()), is_answered(addr));
}

#[tokio::test]
async fn a_small_head_that_unpacks_to_a_large_one_is_refused() {
    let (addr, seen) = start(Limits::default()).await;
    let mut stream = h2(addr).await;
    // A field of 3,000 bytes for the dynamic table, and then a hundred times the reference to it.
    let mut head = GET.to_vec();
    head.extend(b"\x40\x01a\x7f\xb9\x16");
    head.extend([b'v'; 3_000]);
    head.extend([0xbe; 100]);
    stream.write_all(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &head)).await.expect("a head");
    // Of the answer as much as tells that it is one: a reset, a refusal, or the end.
    let mut answer = vec![0; 4_096];
    let read = timeout(NEVER, stream.read(&mut answer)).await.expect("it answers").unwrap_or(0);
    drop(stream);
    is_answered(addr).await;
    assert!(!seen.lock().expect("no panic").contains(&"/".to_owned()), "{read} bytes came, and the request was served");
}

#[tokio::test]
async fn who_never_says_what_he_wants_is_let_go() {
    let limits = Limits { header_timeout: Duration::from_millis(150), ..Limits::default() };
    let (addr, seen) = start(limits).await;
    let mut silent = Vec::new();
    let half_head = b"POST /half HTTP/1.1\r\nhost: localhost\r\nx: ";
    for said in [&b""[..], b"P", b"PRI * HTTP/2.0\r\n\r\nSM", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", half_head] {
        for _ in 0..20 {
            let mut stream = TcpStream::connect(addr).await.expect("the server listens");
            stream.write_all(said).await.expect("a few bytes");
            silent.push(stream);
        }
    }
    is_answered(addr).await;
    for mut stream in silent {
        let mut rest = Vec::new();
        // An orderly end or a reset, but an end.
        let _ = timeout(NEVER, stream.read_to_end(&mut rest)).await.expect("it is closed");
    }
    assert_eq!(*seen.lock().expect("no panic"), ["/other"]);
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

#[tokio::test]
async fn what_two_readers_would_read_in_two_ways_is_read_by_nobody() {
    let (addr, seen) = start(Limits::default()).await;
    let smuggled = "GET /smuggled HTTP/1.1\r\nhost: localhost\r\n\r\n";
    for (what, head) in [
        ("two lengths", "content-length: 0\r\ncontent-length: 44\r\n"),
        ("a list of lengths", "content-length: 0, 44\r\n"),
        ("a signed length", "content-length: +0\r\n"),
        ("a length of no number", "content-length: 0x0\r\n"),
        ("a coding that is none", "transfer-encoding: xchunked\r\n"),
        ("chunks, and then another coding", "transfer-encoding: chunked, identity\r\n"),
        ("a name with a space behind it", "transfer-encoding : chunked\r\n"),
        ("a name with a space before it", " content-length: 0\r\n"),
        ("a folded line", "x: 1\r\n content-length: 0\r\n"),
        ("a carriage return in a value", "x: 1\rcontent-length: 0\r\n"),
        ("a zero byte", "x: 1\0\r\n"),
    ] {
        let answer = said(addr, &format!("POST /first HTTP/1.1\r\nhost: localhost\r\n{head}\r\n{smuggled}")).await;
        let served: Vec<_> = std::mem::take(&mut *seen.lock().expect("no panic"));
        assert!(!served.contains(&"/smuggled".to_owned()), "{what}: {served:?} {answer}");
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{what}: {answer}");
    }
    for (what, line) in [
        ("a space too many", "GET  /first HTTP/1.1"),
        ("another protocol", "GET /first HTTP/1.1 HTTP/1.1"),
        ("a version that is none", "GET /first HTTP/9.9"),
        ("no version", "GET /first"),
    ] {
        let answer = said(addr, &format!("{line}\r\nhost: localhost\r\n\r\n{smuggled}")).await;
        let served: Vec<_> = std::mem::take(&mut *seen.lock().expect("no panic"));
        assert!(!served.contains(&"/smuggled".to_owned()), "{what}: {served:?} {answer}");
    }
    is_answered(addr).await;
}

#[tokio::test]
async fn a_length_beside_chunks_smuggles_nothing() {
    let (addr, seen) = start(Limits::default()).await;
    // By its length the body is the whole rest, by its chunks it ends at once.
    let smuggled = "GET /smuggled HTTP/1.1\r\nhost: localhost\r\n\r\n";
    for (head, body) in [
        ("content-length: 49\r\ntransfer-encoding: chunked\r\n", "0\r\n\r\n"),
        ("transfer-encoding: chunked\r\ncontent-length: 49\r\n", "0\r\n\r\n"),
        ("transfer-encoding: chunked\r\n", "0;\n\r\n"),
        ("transfer-encoding: chunked\r\n", "fffffffffffffffff\r\n"),
        ("transfer-encoding: chunked\r\n", "-1\r\n\r\n"),
        ("transfer-encoding: chunked\r\n", "1\r\nab\r\n0\r\n\r\n"),
    ] {
        let text = format!("POST /first HTTP/1.1\r\nhost: localhost\r\n{head}\r\n{body}{smuggled}");
        let answer = said(addr, &text).await;
        let served: Vec<_> = std::mem::take(&mut *seen.lock().expect("no panic"));
        assert!(!served.contains(&"/smuggled".to_owned()), "{head} {body}: {served:?} {answer}");
    }
    is_answered(addr).await;
}

#[tokio::test]
async fn requests_in_a_row_are_answered_in_a_row_and_older_clients_too() {
    let (addr, seen) = start(Limits::default()).await;
    let one = |path: &str| format!("POST /{path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 3\r\n\r\nabc");
    let row: String = (0..50).map(|number| one(&number.to_string())).collect();
    let answers = said(addr, &row).await;
    assert_eq!(answers.matches("HTTP/1.1 200").count(), 50);
    let served: Vec<_> = std::mem::take(&mut *seen.lock().expect("no panic"));
    assert_eq!(served, (0..50).map(|number| format!("/{number}")).collect::<Vec<_>>());
    let old = said(addr, "GET /old HTTP/1.0\r\nhost: localhost\r\n\r\n").await;
    assert!(old.starts_with("HTTP/1.0 200") || old.starts_with("HTTP/1.1 200"), "{old}");
    let nameless = said(addr, "GET /nameless HTTP/1.0\r\n\r\n").await;
    assert!(nameless.contains(" 400 "), "{nameless}");
    assert_eq!(*seen.lock().expect("no panic"), ["/old"]);
}

#[tokio::test]
async fn nobody_is_made_to_speak_another_protocol() {
    let (addr, _) = start(Limits::default()).await;
    for head in [
        "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAARAAAAAAAIAAAAA\r\n",
        "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    ] {
        let answer = said(addr, &format!("GET /same HTTP/1.1\r\nhost: localhost\r\n{head}\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 200") && !answer.contains(" 101 "), "{answer}");
    }
    let tunnel = said(addr, "CONNECT localhost:443 HTTP/1.1\r\nhost: localhost:443\r\n\r\nanything").await;
    assert!(!tunnel.contains("anything"), "{tunnel}");
    is_answered(addr).await;
}
