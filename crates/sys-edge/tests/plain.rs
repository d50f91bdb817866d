//! The plain port, on a real socket: redirects, tokens for a certificate authority, and nothing else.

#![allow(clippy::expect_used, reason = "clippy.toml exempts test functions, not what they share")]

use std::{net::SocketAddr, time::Duration};
use sys_edge::{
    AllowedHosts, Limits, ProxySources,
    plain::{HttpChallenges, Plain, PlainBind},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// Longer than anything here takes.
const NEVER: Duration = Duration::from_secs(20);

async fn start() -> (SocketAddr, HttpChallenges) {
    let bind = PlainBind {
        // Beyond loopback: the one listener that may.
        addr: SocketAddr::from(([0, 0, 0, 0], 0)),
        limits: Limits::default(),
        allowed_hosts: AllowedHosts::of(["org.example"]),
        proxy: ProxySources::default(),
        https_port: 8443,
    };
    let challenges = HttpChallenges::default();
    let plain = Plain::bind(bind, challenges.clone()).await.expect("bind");
    let port = plain.local_addr().port();
    tokio::spawn(plain.serve(std::future::pending()));
    (SocketAddr::from(([127, 0, 0, 1], port)), challenges)
}

/// Sends this, and gives back all that comes until the server closes.
async fn said(addr: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(addr).await.expect("the server listens");
    stream.write_all(request.as_bytes()).await.expect("a request");
    let mut answer = Vec::new();
    let _ = timeout(NEVER, stream.read_to_end(&mut answer)).await.expect("it closes");
    String::from_utf8_lossy(&answer).into_owned()
}

async fn get(addr: SocketAddr, path: &str, host: &str) -> String {
    said(addr, &format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")).await
}

#[tokio::test]
async fn who_asks_without_tls_is_sent_to_where_it_is() {
    let (addr, _) = start().await;
    let answer = get(addr, "/a/b?c=d", "org.example").await;
    assert!(answer.starts_with("HTTP/1.1 308 "), "{answer}");
    assert!(answer.contains("\r\nlocation: https://org.example:8443/a/b?c=d\r\n"), "{answer}");
    assert!(answer.contains("\r\ncache-control: no-store\r\n"), "{answer}");
    let lower = answer.to_ascii_lowercase();
    assert!(!lower.contains("strict-transport-security") && !lower.contains("\r\nserver:"), "{answer}");
    for host in ["evil.example", "org.example.evil.example", "org.example@evil.example", "127.0.0.1", ""] {
        let answer = get(addr, "/", host).await;
        assert!(answer.starts_with("HTTP/1.1 421 ") || answer.starts_with("HTTP/1.1 400 "), "{host}: {answer}");
        assert!(!answer.contains("location:") && !answer.contains("org.example"), "{host}: {answer}");
    }
    for target in ["http://evil.example/", "*", "evil.example:80", "@evil.example/", "\\evil.example"] {
        let answer = get(addr, target, "org.example").await;
        assert!(answer.starts_with("HTTP/1.1 4") && !answer.contains("location:"), "{target}: {answer}");
    }
}

#[tokio::test]
async fn a_certificate_authority_gets_its_token_and_nobody_else_waits_for_one() {
    let (addr, challenges) = start().await;
    challenges.set("token", "token.thumbprint");
    let answer = get(addr, "/.well-known/acme-challenge/token", "org.example").await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\ntoken.thumbprint"), "{answer}");
    challenges.remove("token");
    let answer = get(addr, "/.well-known/acme-challenge/token", "org.example").await;
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
}

#[tokio::test]
async fn nothing_that_is_sent_here_is_read() {
    let (addr, _) = start().await;
    // A body without an end: the answer does not wait for it, and the connection closes.
    let head =
        "POST /sys.account.v1.SessionService/Login HTTP/1.1\r\nhost: org.example\r\ncontent-length: 999999999\r\n\r\n";
    let answer = said(addr, &format!("{head}{{\"email\":")).await;
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    assert!(answer.contains("crossed the network readable"), "{answer}");
}
