//! Peers who do not do their part, over real sockets: they are let go, and others are served meanwhile.

#![allow(clippy::expect_used, reason = "test code: the setting for tests does not reach functions beside them")]

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Body, Frame, Incoming},
    client::conn::http2::SendRequest,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};
use sys_edge::{Bind, Limits, Listener};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    sync::Notify,
    time::timeout,
};
use tower::service_fn;

/// Longer than anything here takes that does not hang.
const NEVER: Duration = Duration::from_secs(30);
/// Patience of a server whose patience is tried.
const SHORT: Duration = Duration::from_millis(200);
/// More than all buffers between two processes hold.
const LARGE_BYTES: usize = 64 << 20;

type Answer = UnsyncBoxBody<Bytes, Infallible>;

/// A body that tells when it is dropped, which is when nothing of it is held any more.
struct Told {
    body: Full<Bytes>,
    dropped: Arc<Notify>,
}

impl Body for Told {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        self.dropped.notify_one();
    }
}

struct Server {
    addr: SocketAddr,
    dropped: Arc<Notify>,
    stop: Arc<Notify>,
}

impl Server {
    /// Serves `/large`, `/page`, `/never` (an answer that does not go on after its first piece) and small answers; `/held` keeps the
    /// body that it was asked with, and does not read it.
    async fn start(limits: Limits) -> Self {
        let addr = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = Listener::bind(Bind { limits, ..Bind::at(addr) }).await.expect("bind");
        let (addr, dropped) = (listener.local_addr(), Arc::new(Notify::new()));
        let told = Arc::clone(&dropped);
        let held = Arc::new(Mutex::new(Vec::new()));
        let service = service_fn(move |request: Request<Incoming>| {
            let body: Answer = match request.uri().path() {
                "/large" => Told { body: Full::from(vec![0; LARGE_BYTES]), dropped: Arc::clone(&told) }.boxed_unsync(),
                "/never" => StreamBody::new(Halting(Some(Bytes::from_static(b"first")))).boxed_unsync(),
                "/page" => Full::from(vec![0; 4_096]).boxed_unsync(),
                "/held" => {
                    held.lock().expect("no panic").push(request.into_body());
                    Full::from("small").boxed_unsync()
                }
                _ => Full::from("small").boxed_unsync(),
            };
            std::future::ready(Ok::<_, Infallible>(Response::new(body)))
        });
        let stop = Arc::new(Notify::new());
        let stopped = Arc::clone(&stop);
        tokio::spawn(listener.serve(service, async move { stopped.notified().await }));
        Self { addr, dropped, stop }
    }

    async fn http1(&self, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.addr).await.expect("connect");
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).await.expect("write");
        stream
    }

    /// A client whose streams take so many bytes before somebody reads them.
    async fn http2(&self, window_bytes: u32) -> SendRequest<Full<Bytes>> {
        let stream = TcpStream::connect(self.addr).await.expect("connect");
        let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
        builder.initial_stream_window_size(window_bytes);
        let (client, connection) = builder.handshake(TokioIo::new(stream)).await.expect("handshake");
        tokio::spawn(connection);
        client
    }

    async fn serves(&self) {
        let mut client = self.http2(1 << 16).await;
        let answer = client.send_request(get("/")).await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::OK);
    }
}

/// A stream of one piece that then says nothing more, for ever.
struct Halting(Option<Bytes>);

impl futures_util::Stream for Halting {
    type Item = Result<Frame<Bytes>, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.take().map_or(Poll::Pending, |piece| Poll::Ready(Some(Ok(Frame::data(piece)))))
    }
}

fn get(path: &str) -> Request<Full<Bytes>> {
    Request::get(format!("http://localhost{path}")).body(Full::default()).expect("a request")
}

fn impatient() -> Limits {
    Limits { stall_timeout: SHORT, ..Limits::default() }
}

/// What the server sends until it closes.
async fn until_closed(mut stream: TcpStream) -> usize {
    let mut bytes = Vec::new();
    let _ = timeout(NEVER, stream.read_to_end(&mut bytes)).await.expect("the server closes the connection");
    bytes.len()
}

#[tokio::test]
async fn an_answer_that_nobody_reads_is_held_for_a_while_and_no_longer() {
    let server = Server::start(impatient()).await;
    let unread = server.http1("/large").await;
    timeout(NEVER, server.dropped.notified()).await.expect("the answer is given up");
    assert!(until_closed(unread).await < LARGE_BYTES, "it was cut before its end");
    server.serves().await;
}

#[tokio::test]
async fn an_answer_that_flow_control_holds_back_is_held_for_a_while_and_no_longer() {
    let server = Server::start(impatient()).await;
    for (window_bytes, path) in [(1, "/page"), (1_024, "/large")] {
        let mut client = server.http2(window_bytes).await;
        let answer = client.send_request(get(path)).await.expect("the head is no part of the window");
        let gone = async {
            while client.ready().await.is_ok() {
                tokio::task::yield_now().await;
            }
        };
        timeout(NEVER, gone).await.expect("the connection is cut");
        assert!(answer.into_body().collect().await.is_err(), "{path}: it was cut before its end");
        server.serves().await;
    }
    timeout(NEVER, server.dropped.notified()).await.expect("the answer is given up");
}

#[tokio::test]
async fn who_waits_for_what_is_not_there_yet_is_not_cut() {
    let server = Server::start(impatient()).await;
    let mut client = server.http2(1 << 16).await;
    let mut answer = client.send_request(get("/never")).await.expect("an answer").into_body();
    let first = answer.frame().await.expect("a piece").expect("no error");
    assert_eq!(first.into_data().expect("data"), "first");
    // Another one is cut meanwhile, which takes as long as the patience with this one would.
    drop(until_closed(server.http1("/large").await));
    timeout(NEVER, async {
        let unread = server.http1("/large").await;
        server.dropped.notified().await;
        drop(unread);
    })
    .await
    .expect("the other answer is given up");
    assert!(timeout(SHORT, answer.frame()).await.is_err(), "the stream goes on");
    assert_eq!(client.send_request(get("/")).await.expect("an answer").status(), StatusCode::OK);
}

#[tokio::test]
async fn a_client_with_a_small_window_gets_the_whole_answer() {
    let server = Server::start(impatient()).await;
    let mut client = server.http2(1 << 14).await;
    let mut answer = client.send_request(get("/large")).await.expect("an answer").into_body();
    let mut read = 0;
    while let Some(frame) = timeout(NEVER, answer.frame()).await.expect("it goes on") {
        read += frame.expect("no error").into_data().expect("data").len();
    }
    assert_eq!(read, LARGE_BYTES);
}

/// Reads one small answer, and what the server is seen to have sent behind it.
async fn small_answer(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    while !answer.ends_with(b"small") {
        let read = timeout(NEVER, stream.read_buf(&mut answer)).await.expect("an answer").expect("no error");
        assert!(read > 0, "the server closes");
    }
    String::from_utf8(answer).expect("text")
}

#[tokio::test]
async fn between_two_requests_a_connection_is_waited_for_longer_than_within_one() {
    let server = Server::start(Limits { header_timeout: SHORT, ..Limits::default() }).await;
    let mut paused = server.http1("/").await;
    small_answer(&mut paused).await;
    // Longer than the time for a head: as long as it takes until two others, one after the other, have been given it and have not used it.
    for _ in 0..2 {
        let mut slow = TcpStream::connect(server.addr).await.expect("connect");
        slow.write_all(b"GET / HTTP/1.1\r\n").await.expect("write");
        assert_eq!(until_closed(slow).await, 0);
    }
    for _ in 0..2 {
        paused.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("write");
        assert!(small_answer(&mut paused).await.starts_with("HTTP/1.1 200"));
    }
    // The next request has its time from its first byte on, however often he who sends it is looked at.
    paused.write_all(b"GET / HTTP/1.1\r\nHost:").await.expect("write");
    assert_eq!(until_closed(paused).await, 0, "a head that does not end is not waited for");
}

#[tokio::test]
async fn a_head_that_comes_in_pieces_around_a_pause_is_read_whole() {
    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    // A look every few milliseconds: pauses fall anywhere into what is sent.
    let limits = Limits { stall_timeout: Duration::from_millis(4), ..Limits::default() };
    let server = Server::start(limits).await;
    let mut stream = server.http1("/").await;
    for round in 0..20 {
        let answer = small_answer(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{round}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{round}: {answer}");
        for piece in REQUEST.chunks(1 + round) {
            stream.write_all(piece).await.expect("write");
            timeout(NEVER, tokio::task::yield_now()).await.expect("a turn");
        }
    }
}

#[tokio::test]
async fn the_rest_of_a_body_that_nobody_read_is_no_request() {
    let limits = Limits { stall_timeout: Duration::from_millis(4), idle_timeout: 5 * SHORT, ..Limits::default() };
    let server = Server::start(limits).await;
    let hidden = "GET /hidden HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for head in [
        format!("POST /held HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", hidden.len()),
        "POST /held HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(),
        "GET /held HTTP/1.1\r\nHost: localhost\r\nContent-Length: 41\r\n\r\n".to_owned(),
    ] {
        let mut stream = TcpStream::connect(server.addr).await.expect("connect");
        stream.write_all(head.as_bytes()).await.expect("write");
        small_answer(&mut stream).await;
        // Other connections pause meanwhile, so this one would have.
        let mut other = server.http1("/").await;
        small_answer(&mut other).await;
        assert!(timeout(SHORT, other.read_u8()).await.is_err(), "the other waits");
        // The server may have closed by now, which is as good.
        let _ = stream.write_all(hidden.as_bytes()).await;
        assert_eq!(until_closed(stream).await, 0, "{head}");
    }
}

#[tokio::test]
async fn a_connection_that_pauses_closes_when_it_has_been_idle_for_long_and_at_a_drain() {
    let limits = Limits { idle_timeout: SHORT, ..Limits::default() };
    let server = Server::start(limits).await;
    let mut paused = server.http1("/").await;
    small_answer(&mut paused).await;
    assert_eq!(until_closed(paused).await, 0);
    let server = Server::start(Limits { stall_timeout: SHORT / 10, ..Limits::default() }).await;
    let mut paused = server.http1("/").await;
    small_answer(&mut paused).await;
    assert!(timeout(SHORT, paused.read_u8()).await.is_err(), "it waits");
    server.stop.notify_one();
    assert_eq!(until_closed(paused).await, 0);
}

#[tokio::test]
async fn idle_connections_make_room_for_those_who_wait() {
    let limits = Limits { connections: 2, crowded_idle_timeout: SHORT, ..Limits::default() };
    let server = Server::start(limits).await;
    let mut idle = Vec::new();
    for _ in 0..2 {
        let mut stream = server.http1("/").await;
        let mut first = [0; 1];
        stream.read_exact(&mut first).await.expect("an answer");
        idle.push(stream);
    }
    timeout(NEVER, server.serves()).await.expect("a third is served");
    assert!(until_closed(idle.remove(0)).await > 0);
}

#[tokio::test]
async fn who_holds_all_places_without_being_idle_makes_room_for_another_source() {
    const PLACES: usize = 12;
    let server = Server::start(Limits { connections: PLACES, ..Limits::default() }).await;
    let mut greedy = Vec::new();
    for _ in 0..PLACES {
        let mut stream = server.http1("/never").await;
        stream.read_exact(&mut [0; 1]).await.expect("an answer that does not end");
        greedy.push(stream);
    }
    assert_eq!(until_closed(server.http1("/").await).await, 0, "there is no place for more of his");
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::from(([127, 0, 0, 2], 0))).expect("an address of this machine");
    let mut other = socket.connect(server.addr).await.expect("connect");
    other.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.expect("write");
    assert!(until_closed(other).await > 0, "another source is served");
    until_closed(greedy.pop().expect("the youngest")).await;
    let mut oldest = greedy.swap_remove(0);
    let mut rest = [0; 1_024];
    while let Ok(read) = timeout(SHORT, oldest.read(&mut rest)).await {
        assert!(read.expect("no error") > 0, "he keeps the others");
    }
}

#[tokio::test]
async fn one_source_does_not_take_all_places() {
    let server = Server::start(Limits { connections_per_source: 1, ..Limits::default() }).await;
    let first = server.http1("/").await;
    assert_eq!(until_closed(TcpStream::connect(server.addr).await.expect("connect")).await, 0, "a second one closes");
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::from(([127, 0, 0, 2], 0))).expect("an address of this machine");
    let mut other = socket.connect(server.addr).await.expect("connect");
    other.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.expect("write");
    assert!(until_closed(other).await > 0, "another source is served");
    drop(first);
}
