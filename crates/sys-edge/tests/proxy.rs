//! The PROXY protocol on a real listener: whose connection it is, and who may say so.

#![allow(clippy::expect_used, reason = "clippy.toml exempts test functions, not what they share")]

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use std::{convert::Infallible, net::SocketAddr, time::Duration};
use sys_edge::{Bind, Connection, Limits, Listener, ProxySources, Source};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tower::service_fn;

/// Longer than anything here takes.
const NEVER: Duration = Duration::from_secs(20);
/// `192.0.2.7:12345` to `198.51.100.1:443`.
const FIRST: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\xc6\x33\x64\x01\x30\x39\x01\xbb";
/// The same from `192.0.2.8`.
const SECOND: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x08\xc6\x33\x64\x01\x30\x39\x01\xbb";
/// The proxy itself.
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
const KEEP: &[u8] = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";

/// Answers with the ends of the connection, as they count.
async fn start(proxies: &[&str], limits: Limits) -> SocketAddr {
    let proxy = ProxySources::parse(proxies).expect("networks");
    let addr = SocketAddr::from(([127, 0, 0, 1], 0));
    let listener = Listener::bind(Bind { limits, proxy, ..Bind::at(addr) }).await.expect("bind");
    let addr = listener.local_addr();
    let service = service_fn(|request: Request<Incoming>| async move {
        let source = request.extensions().get::<Source>().expect("a source").0;
        let facts = request.extensions().get::<Connection>().expect("a connection");
        let text = format!("source {source} peer {} local {}", facts.peer, facts.local);
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(text))))
    });
    tokio::spawn(listener.serve(service, std::future::pending()));
    addr
}

async fn opened(addr: SocketAddr, pieces: &[&[u8]]) -> TcpStream {
    let mut stream = TcpStream::connect(addr).await.expect("the server listens");
    for piece in pieces {
        stream.write_all(piece).await.expect("bytes");
    }
    stream
}

async fn rest(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    let _ = timeout(NEVER, stream.read_to_end(&mut answer)).await.expect("it closes");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn from_a_proxy_the_named_source_counts() {
    let addr = start(&["127.0.0.0/8"], Limits::default()).await;
    let answer = rest(opened(addr, &[FIRST, GET]).await).await;
    assert!(answer.ends_with("source 192.0.2.7 peer 192.0.2.7:12345 local 198.51.100.1:443"), "{answer}");
    // A byte at a time.
    let pieces: Vec<_> = FIRST.chunks(1).chain([GET]).collect();
    assert!(rest(opened(addr, &pieces).await).await.contains("source 192.0.2.7 "));
    let answer = rest(opened(addr, &[LOCAL, GET]).await).await;
    assert!(
        answer.contains("source 127.0.0.1 peer 127.0.0.1:") && answer.contains(&format!("local {addr}")),
        "{answer}"
    );
}

#[tokio::test]
async fn from_a_proxy_nothing_is_served_without_a_header() {
    let addr = start(&["127.0.0.1"], Limits::default()).await;
    let mut family = FIRST.to_vec();
    family[13] = 0x31;
    for bytes in [GET, b"PROXY TCP4 192.0.2.7 198.51.100.1 12345 443\r\n", &family, &FIRST[1..]] {
        assert_eq!(rest(opened(addr, &[bytes, GET]).await).await, "", "{bytes:?}");
    }
    // A second header is a part of the request, which it makes garbage.
    assert!(!rest(opened(addr, &[FIRST, FIRST, GET]).await).await.contains("source"));
    let hasty = Limits { header_timeout: Duration::from_millis(150), ..Limits::default() };
    let addr = start(&["127.0.0.1"], hasty).await;
    assert_eq!(rest(opened(addr, &[&FIRST[..20]]).await).await, "", "it is not waited for");
}

#[tokio::test]
async fn from_anybody_else_a_header_is_garbage() {
    for proxies in [&[][..], &["192.0.2.0/24", "127.0.0.2", "::1"]] {
        let addr = start(proxies, Limits::default()).await;
        let answer = rest(opened(addr, &[FIRST, GET]).await).await;
        assert!(!answer.contains("source"), "{answer}");
        assert!(rest(opened(addr, &[GET]).await).await.contains("source 127.0.0.1 "));
    }
}

#[tokio::test]
async fn a_source_behind_a_proxy_takes_no_place_of_another_one() {
    let limits = Limits { connections_per_source: 2, ..Limits::default() };
    let addr = start(&["127.0.0.1"], limits).await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = opened(addr, &[FIRST, KEEP]).await;
        let mut byte = [0];
        timeout(NEVER, stream.read_exact(&mut byte)).await.expect("in time").expect("an answer");
        held.push(stream);
    }
    assert_eq!(rest(opened(addr, &[FIRST, GET]).await).await, "", "it has two already");
    assert!(rest(opened(addr, &[SECOND, GET]).await).await.contains("source 192.0.2.8 "));
    drop(held);
}

/// HAProxy before the server, which it looks after by connections of its own. It ends with this.
struct Haproxy(std::process::Child, SocketAddr);

impl Haproxy {
    fn start(server: SocketAddr, options: &str) -> Self {
        let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port");
        let configuration = format!(
            "defaults\n mode tcp\n timeout connect 10s\n timeout client 10s\n timeout server 10s\n\
             listen front\n bind {free}\n server ours {server} check inter 100ms send-proxy-v2 {options}\n"
        );
        let mut program = std::process::Command::new("haproxy")
            .args(["-db", "-f", "/dev/stdin"])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .expect("haproxy");
        let mut input = program.stdin.take().expect("a pipe");
        std::io::Write::write_all(&mut input, configuration.as_bytes()).expect("it reads");
        Self(program, free)
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.0.kill().and_then(|()| self.0.wait());
    }
}

#[tokio::test]
#[ignore = "needs haproxy: cargo xtask test runs it"]
async fn haproxy_is_understood_with_all_that_it_may_add() {
    let addr = start(&["127.0.0.1"], Limits::default()).await;
    for options in ["", "proxy-v2-options crc32c", "proxy-v2-options crc32c,unique-id,authority"] {
        let haproxy = Haproxy::start(addr, options);
        let answered = async {
            loop {
                let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
                // Another address of loopback than its own, to tell them apart.
                socket.bind(SocketAddr::from(([127, 0, 0, 9], 0))).expect("an address of loopback");
                if let Ok(mut stream) = socket.connect(haproxy.1).await {
                    stream.write_all(GET).await.expect("a request");
                    return rest(stream).await;
                }
                tokio::task::yield_now().await;
            }
        };
        let answer = timeout(NEVER, answered).await.expect("in time");
        assert!(answer.contains("source 127.0.0.9 peer 127.0.0.9:"), "{options}: {answer}");
        assert!(answer.ends_with(&format!("local {}", haproxy.1)), "{options}: {answer}");
    }
}
