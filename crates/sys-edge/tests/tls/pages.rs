//! What a browser is told over TLS, and whose connection it is behind a proxy.

use crate::{
    clients::Client,
    server::{Authority, INNER, NEVER, PUBLIC},
};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use rustls::crypto::aws_lc_rs::kx_group;
use std::{convert::Infallible, net::SocketAddr};
use sys_edge::{
    AllowedHosts, Bind, Connection, Listener, ProxySources,
    ech::{EchKey, config_list},
    hygiene::Hygiene,
    tls::Tls,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tower::service_fn;

/// `192.0.2.7:12345` to `198.51.100.1:443`, as a proxy says it.
const PROXIED: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\xc6\x33\x64\x01\x30\x39\x01\xbb";

/// A server with a service behind the words for browsers, which answers with the peer; a client that trusts it, and the key for
/// hidden names.
async fn start(proxies: &[&str]) -> (SocketAddr, Client, EchKey) {
    let (authority, tls) = (Authority::new(), Tls::new().expect("TLS"));
    tls.show(vec![authority.identity(&[PUBLIC]), authority.identity(&[INNER])]);
    let key = EchKey::generate(7, PUBLIC).expect("a key");
    tls.set_ech(std::slice::from_ref(&key)).expect("a key that is good");
    let bind = Bind {
        allowed_hosts: AllowedHosts::of([INNER]),
        tls: Some(tls),
        proxy: ProxySources::parse(proxies).expect("networks"),
        ..Bind::at(SocketAddr::from(([127, 0, 0, 1], 0)))
    };
    let listener = Listener::bind(bind).await.expect("bind");
    let addr = listener.local_addr();
    let service = service_fn(|request: Request<Incoming>| async move {
        let peer = request.extensions().get::<Connection>().expect("a connection").peer;
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(format!("peer {peer}")))))
    });
    tokio::spawn(listener.serve(Hygiene::default().around(service), std::future::pending()));
    (addr, Client::trusting(authority.roots()).speaking(&["http/1.1"]), key)
}

/// The whole answer, as it is written.
async fn ask(client: &Client, stream: TcpStream, path: &str) -> std::io::Result<String> {
    let mut stream = client.connect_on(stream, INNER).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {INNER}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    timeout(NEVER, stream.read_to_string(&mut answer)).await.expect("it closes")?;
    Ok(answer)
}

async fn connect(addr: SocketAddr) -> TcpStream {
    TcpStream::connect(addr).await.expect("the server listens")
}

#[tokio::test]
async fn the_page_tells_of_the_very_connection_that_it_comes_over() {
    let (addr, client, key) = start(&[]).await;
    let seen = ask(&client, connect(addr).await, "/").await.expect("a page");
    assert!(seen.contains("Your network could see the name") && !seen.contains("cannot see"), "{seen}");
    assert!(seen.contains("not even with a quantum computer") && seen.contains("X25519MLKEM768"), "{seen}");
    let hidden = ask(&client.clone().hiding(&config_list(&[&key])), connect(addr).await, "/").await.expect("a page");
    assert!(hidden.contains("Your network cannot see which name you asked for"), "{hidden}");
    let old = ask(&client.with_groups(&[kx_group::X25519]), connect(addr).await, "/").await.expect("a page");
    assert!(old.contains("might open it once there are large quantum computers"), "{old}");
}

#[tokio::test]
async fn over_tls_browsers_are_told_to_stay_with_it() {
    let (addr, client, _) = start(&[]).await;
    for path in ["/", "/served", "/.well-known/security.txt"] {
        let answer = ask(&client, connect(addr).await, path).await.expect("an answer");
        assert!(answer.contains("\r\nstrict-transport-security: max-age=31536000\r\n"), "{path}: {answer}");
        assert!(answer.contains("\r\nx-content-type-options: nosniff\r\n"), "{path}: {answer}");
    }
}

#[tokio::test]
async fn behind_a_proxy_the_named_peer_is_who_shook_hands() {
    let (addr, client, _) = start(&["127.0.0.1"]).await;
    let mut stream = connect(addr).await;
    stream.write_all(PROXIED).await.expect("a header");
    let answer = ask(&client, stream, "/served").await.expect("an answer");
    assert!(answer.ends_with("peer 192.0.2.7:12345"), "{answer}");
    ask(&client, connect(addr).await, "/served").await.expect_err("there is no header");
    // From elsewhere the header stands where a handshake should.
    let (addr, client, _) = start(&["192.0.2.0/24"]).await;
    let mut stream = connect(addr).await;
    stream.write_all(PROXIED).await.expect("a header");
    ask(&client, stream, "/served").await.expect_err("it is no handshake");
    ask(&client, connect(addr).await, "/served").await.expect("an answer");
}
