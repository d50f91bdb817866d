//! The listener on real sockets: protocols, hosts, patience, bounds and drain, as a client sees them.

#![allow(clippy::expect_used, reason = "clippy.toml exempts test functions, not what they share")]

use bytes::Bytes;
use http::{Request, Response, StatusCode, Version, header};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http2::SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use sys_edge::{Bind, BindError, Connection, Drained, Limits, Listener, Source};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{Notify, Semaphore, oneshot},
    task::JoinHandle,
    time::timeout,
};
use tower::service_fn;

/// Longer than anything here takes; a test that waits this long has found that something never happens.
const NEVER: Duration = Duration::from_secs(20);
/// Short enough to wait for, where a limit is to be reached.
const SHORT: Duration = Duration::from_millis(150);

#[derive(Debug, Default)]
struct Seen {
    /// Requests that reached the service.
    requests: AtomicUsize,
    /// One for each request to `/block` that has begun.
    blocked: Notify,
}

struct Server {
    addr: SocketAddr,
    seen: Arc<Seen>,
    /// Each permit lets one request to `/block` go on.
    release: Arc<Semaphore>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Drained>,
}

impl Server {
    async fn start(limits: Limits) -> Self {
        let listener = bind("127.0.0.1:0", limits).await.expect("bind");
        let addr = listener.local_addr();
        let (stop, stopped) = oneshot::channel();
        let seen = Arc::new(Seen::default());
        let release = Arc::new(Semaphore::new(0));
        let service = {
            let (seen, release) = (Arc::clone(&seen), Arc::clone(&release));
            service_fn(move |request| echo(Arc::clone(&seen), Arc::clone(&release), request))
        };
        let task = tokio::spawn(async move {
            let stopped = async { stopped.await.unwrap_or(()) };
            listener.serve(service, stopped).await.expect("serve")
        });
        Self { addr, seen, release, stop, task }
    }

    async fn stop(self) -> Drained {
        self.stop.send(()).expect("the server runs");
        timeout(NEVER, self.task).await.expect("the drain ends").expect("no panic")
    }

    async fn raw(&self, bytes: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.addr).await.expect("connect");
        stream.write_all(bytes).await.expect("write");
        stream
    }

    async fn h2(&self) -> SendRequest<Full<Bytes>> {
        let stream = TcpStream::connect(self.addr).await.expect("connect");
        let (client, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("handshake");
        tokio::spawn(connection);
        client
    }

    /// Others are served: what each test with a bad client checks beside it.
    async fn serves(&self) {
        let text = whole(self.raw(&get("/", "localhost", "close")).await).await;
        assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    }
}

async fn bind(addr: &str, limits: Limits) -> Result<Listener, BindError> {
    let addr = addr.parse().expect("an address");
    Listener::bind(Bind { limits, ..Bind::at(addr) }).await
}

/// Answers with the version, source and connection that it saw; at `/block` only once it is released.
async fn echo(
    seen: Arc<Seen>,
    release: Arc<Semaphore>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    seen.requests.fetch_add(1, Ordering::SeqCst);
    if request.uri().path() == "/block" {
        seen.blocked.notify_one();
        release.acquire().await.expect("open").forget();
    }
    let source = request.extensions().get::<Source>().expect("a source").0;
    let facts = request.extensions().get::<Connection>().expect("connection facts");
    let text = format!("{:?} {source} {} {}", request.version(), facts.number, facts.peer.ip() == source);
    Ok(Response::new(Full::new(Bytes::from(text))))
}

fn get(path: &str, host: &str, connection: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: {connection}\r\n\r\n").into_bytes()
}

/// Everything that the server sends until it closes. A reset is an end, too.
async fn whole(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    let _ = timeout(NEVER, stream.read_to_end(&mut bytes)).await.expect("the server closes the connection");
    String::from_utf8_lossy(&bytes).into_owned()
}

fn h2_get(uri: &str) -> Request<Full<Bytes>> {
    Request::get(uri).body(Full::default()).expect("a request")
}

async fn text(response: Response<Incoming>) -> String {
    let bytes = response.into_body().collect().await.expect("a whole body").to_bytes();
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

#[tokio::test]
async fn without_tls_only_loopback_is_listened_on() {
    for addr in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0", "[2001:db8::1]:0", "[::ffff:192.0.2.1]:0"] {
        let error = bind(addr, Limits::default()).await.expect_err(addr);
        assert!(matches!(error, BindError::PlaintextBeyondLoopback { .. }), "{addr}: {error}");
        assert!(error.to_string().contains("without TLS"), "{error}");
    }
    assert!(bind("127.0.0.2:0", Limits::default()).await.is_ok());
}

#[tokio::test]
async fn a_taken_port_is_a_clear_error() {
    let first = bind("127.0.0.1:0", Limits::default()).await.expect("bind");
    let error = bind(&first.local_addr().to_string(), Limits::default()).await.expect_err("the port is taken");
    assert!(matches!(error, BindError::Socket { .. }), "{error}");
}

#[tokio::test]
async fn both_protocols_are_served_on_one_port_with_their_source() {
    let server = Server::start(Limits::default()).await;
    let first = whole(server.raw(&get("/", "localhost", "close")).await).await;
    assert!(first.ends_with("HTTP/1.1 127.0.0.1 1 true"), "{first}");
    let response = server.h2().await.send_request(h2_get("http://127.0.0.1/")).await.expect("a response");
    assert_eq!((response.version(), response.status()), (Version::HTTP_2, StatusCode::OK));
    assert_eq!(text(response).await, "HTTP/2.0 127.0.0.1 2 true");
}

#[tokio::test]
async fn a_request_for_another_host_never_reaches_the_service() {
    let server = Server::start(Limits::default()).await;
    let answer = whole(server.raw(&get("/", "rebound.example:8443", "close")).await).await;
    assert!(answer.starts_with("HTTP/1.1 421"), "{answer}");
    assert!(answer.contains("this server answers to localhost"), "{answer}");
    let answer = whole(
        server.raw(b"GET http://rebound.example/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await,
    );
    assert!(answer.await.starts_with("HTTP/1.1 421"));
    let answer = whole(server.raw(b"GET / HTTP/1.0\r\n\r\n").await).await;
    assert!(answer.starts_with("HTTP/1.0 400"), "{answer}");
    let mut client = server.h2().await;
    let response = client.send_request(h2_get("http://rebound.example/")).await.expect("a response");
    assert_eq!(response.status(), StatusCode::MISDIRECTED_REQUEST);
    let mut two_names = h2_get("http://localhost/");
    two_names.headers_mut().insert(header::HOST, header::HeaderValue::from_static("rebound.example"));
    let response = client.send_request(two_names).await.expect("a response");
    assert_eq!(response.status(), StatusCode::MISDIRECTED_REQUEST);
    assert_eq!(server.seen.requests.load(Ordering::SeqCst), 0);
    server.serves().await;
}

#[tokio::test]
async fn garbage_closes_its_own_connection_alone() {
    let server = Server::start(Limits { header_timeout: SHORT, ..Limits::default() }).await;
    let mut kept = server.h2().await;
    let noise: Vec<u8> = (0..4_096_u32).map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
    let tls_hello = [0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03];
    let bad_frame = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &[0xff; 64]].concat();
    let inputs: [&[u8]; 6] =
        [&noise, &tls_hello, &bad_frame, b"\0\0\0\0", b"GET / HTTP/9.9\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"];
    for input in inputs {
        let answer = whole(server.raw(input).await).await;
        assert!(!answer.contains(" 200 "), "{answer}");
    }
    let response = kept.send_request(h2_get("http://localhost/")).await.expect("the other connection lives");
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(server.seen.requests.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_client_that_never_finishes_its_head_is_closed_in_time() {
    let server = Server::start(Limits { header_timeout: SHORT, ..Limits::default() }).await;
    let heads: [&[u8]; 5] =
        [b"", b"P", b"PRI * HTTP/2.0\r\n", b"GET / HTTP/1.1\r\nHost: local", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"];
    for head in heads {
        let stream = server.raw(head).await;
        server.serves().await;
        assert!(!whole(stream).await.contains(" 200 "), "{head:?}");
    }
    // A drop at a time does not buy more time, either.
    let mut stream = server.raw(b"GET / HTTP/1.1\r\nHost: localhost\r\n").await;
    let closed = async {
        let mut tick = tokio::time::interval(SHORT / 10);
        while stream.write_all(b"X: y\r\n").await.is_ok() {
            tick.tick().await;
        }
    };
    timeout(NEVER, closed).await.expect("a slow head is cut");
    assert_eq!(server.stop().await.cut, 0);
}

#[tokio::test]
async fn idle_connections_close_and_busy_ones_stay() {
    let server = Server::start(Limits { idle_timeout: SHORT, header_timeout: SHORT, ..Limits::default() }).await;
    let mut busy = server.h2().await;
    let answer = tokio::spawn(busy.send_request(h2_get("http://localhost/block")));
    timeout(NEVER, server.seen.blocked.notified()).await.expect("the request began");
    // Opened later and closed for idleness, so that the busy one has outlived the same patience.
    let idle = whole(server.raw(&get("/", "localhost", "keep-alive")).await).await;
    assert!(idle.starts_with("HTTP/1.1 200"), "{idle}");
    let mut idle = server.h2().await;
    assert_eq!(idle.send_request(h2_get("http://localhost/")).await.expect("a response").status(), StatusCode::OK);
    let gone = async {
        while idle.ready().await.is_ok() {
            tokio::task::yield_now().await
        }
    };
    timeout(NEVER, gone).await.expect("the idle connection closes");
    server.release.add_permits(1);
    let response = answer.await.expect("no panic").expect("the busy connection is served");
    assert_eq!(response.status(), StatusCode::OK);
}

#[tokio::test]
async fn no_more_connections_than_allowed_are_served_at_once() {
    let server = Server::start(Limits { connections: 1, ..Limits::default() }).await;
    let first = server.raw(&get("/block", "localhost", "close")).await;
    timeout(NEVER, server.seen.blocked.notified()).await.expect("the first request began");
    let second = server.raw(&get("/block", "localhost", "close")).await;
    assert!(
        timeout(SHORT, server.seen.blocked.notified()).await.is_err(),
        "a second connection was served beside the first"
    );
    server.release.add_permits(2);
    assert!(whole(first).await.starts_with("HTTP/1.1 200"));
    assert!(whole(second).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn heads_beyond_the_limits_are_refused() {
    let limits = Limits { http1_headers: 8, header_list_bytes: 1_024, http1_buffer_bytes: 8_192, ..Limits::default() };
    let server = Server::start(limits).await;
    let long = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(64 * 1_024));
    let mut stream = TcpStream::connect(server.addr).await.expect("connect");
    // The server may close while this is still being written.
    let _ = stream.write_all(long.as_bytes()).await;
    assert!(!whole(stream).await.contains(" 200 "));
    let many = format!("GET / HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "X: y\r\n".repeat(20));
    assert!(whole(server.raw(many.as_bytes()).await).await.starts_with("HTTP/1.1 431"));
    let mut request = h2_get("http://localhost/");
    request.headers_mut().insert("x", "x".repeat(4_096).parse().expect("a value"));
    let refused = server.h2().await.send_request(request).await;
    assert!(refused.is_err() || refused.is_ok_and(|response| response.status() != StatusCode::OK));
    assert_eq!(server.seen.requests.load(Ordering::SeqCst), 0);
    server.serves().await;
}

#[tokio::test]
async fn http2_peers_are_told_the_limits() {
    let server = Server::start(Limits { concurrent_streams: 7, header_list_bytes: 4_321, ..Limits::default() }).await;
    let mut stream = server.raw(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.expect("a frame");
    assert_eq!(head[3], 4, "the first frame is SETTINGS");
    let mut settings = vec![0; usize::from(u16::from_be_bytes([head[1], head[2]]))];
    stream.read_exact(&mut settings).await.expect("its payload");
    // RFC 9113 section 6.5.2: 3 = MAX_CONCURRENT_STREAMS, 6 = MAX_HEADER_LIST_SIZE.
    for expect in [[0, 3, 0, 0, 0, 7], [0, 6, 0, 0, 0x10, 0xe1]] {
        assert!(settings.chunks(6).any(|setting| setting == expect), "{settings:?}");
    }
}

#[tokio::test]
async fn a_drain_closes_the_port_and_finishes_what_is_under_way() {
    let server = Server::start(Limits::default()).await;
    let (addr, seen, release) = (server.addr, Arc::clone(&server.seen), Arc::clone(&server.release));
    let first = server.raw(&get("/block", "localhost", "keep-alive")).await;
    let mut client = server.h2().await;
    let second = tokio::spawn(client.send_request(h2_get("http://localhost/block")));
    let idle = server.raw(b"").await;
    while seen.requests.load(Ordering::SeqCst) < 2 {
        timeout(NEVER, seen.blocked.notified()).await.expect("a request begins");
    }
    let drained = tokio::spawn(server.stop());
    let closed = async {
        while TcpStream::connect(addr).await.is_ok() {
            tokio::task::yield_now().await
        }
    };
    timeout(NEVER, closed).await.expect("the port closes at once");
    release.add_permits(2);
    assert!(whole(first).await.ends_with("127.0.0.1 1 true"), "the first answer is whole");
    let response = second.await.expect("no panic").expect("the second request is answered");
    assert!(text(response).await.starts_with("HTTP/2.0"));
    assert_eq!(whole(idle).await, "");
    let drained = drained.await.expect("no panic");
    assert_eq!(drained.cut, 0);
    assert!(drained.finished >= 2, "{drained:?}");
}

#[tokio::test]
async fn a_drain_cuts_what_does_not_finish_and_says_so() {
    let server = Server::start(Limits { drain_timeout: SHORT, ..Limits::default() }).await;
    let stuck = server.raw(&get("/block", "localhost", "close")).await;
    timeout(NEVER, server.seen.blocked.notified()).await.expect("the request began");
    assert_eq!(server.stop().await, Drained { finished: 0, cut: 1 });
    assert_eq!(whole(stuck).await, "");
}
