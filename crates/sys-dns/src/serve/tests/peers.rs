//! Clients that nobody here wrote, over each transport.

use super::*;
use crate::https;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use rustls::{ServerConfig, pki_types::PrivatePkcs8KeyDer};
use std::{convert::Infallible, sync::Arc};
use tokio::{net::TcpListener, process::Command};
use tokio_rustls::TlsAcceptor;

/// A TLS server's end under a certificate of its own.
fn acceptor(protocol: &str) -> TlsAcceptor {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()).into();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("a version")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.into()], key)
        .expect("a key");
    config.alpn_protocols = vec![protocol.into()];
    Arc::new(config).into()
}

/// A DNS over TLS listener.
async fn dot() -> SocketAddr {
    let listener = StreamListener::bind((Ipv4Addr::LOCALHOST, 0).into(), Limits::default()).await.expect("a free port");
    let (addr, (responder, _)) = (listener.local_addr(), responder(None));
    let acceptor = acceptor("dot");
    let handshake = move |stream| {
        let accepted = acceptor.accept(stream);
        async { accepted.await.ok() }
    };
    // Ends with the runtime of the test.
    tokio::spawn(listener.serve(responder, Transport::Tls, handshake, std::future::pending()));
    addr
}

/// A DNS over HTTPS server.
async fn doh() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let addr = listener.local_addr().expect("an address");
    let (acceptor, (responder, _)) = (acceptor("h2"), responder(None));
    tokio::spawn(async move {
        while let Ok((stream, peer)) = listener.accept().await {
            let Ok(stream) = acceptor.accept(stream).await else { continue };
            let responder = responder.clone();
            let service = service_fn(move |request: http::Request<Incoming>| {
                let responder = responder.clone();
                async move { Ok::<_, Infallible>(https::answer(&responder, request, peer.ip()).await) }
            });
            tokio::spawn(async move {
                let builder = auto::Builder::new(TokioExecutor::new());
                drop(builder.serve_connection(TokioIo::new(stream), service).await);
            });
        }
    });
    addr
}

/// What a program prints when it is asked to ask there.
async fn run(program: &str, addr: SocketAddr, arguments: &[&str]) -> String {
    let mut command = Command::new(program);
    let server = format!("@{}", addr.ip());
    command.args([server.as_str(), "-p", &addr.port().to_string()]).args(arguments).kill_on_drop(true);
    let output = within(command.output()).await.expect("the program is there");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {printed}{}", String::from_utf8_lossy(&output.stderr));
    printed
}

#[tokio::test]
#[ignore = "needs kdig (knot-dnsutils), dig (bind9-dnsutils), drill (ldnsutils): cargo xtask test runs it"]
async fn clients_ask_by_udp_and_by_tcp() {
    let served = Served::new(Ipv4Addr::LOCALHOST, Limits::default()).await;
    for options in [&["+norec"][..], &["+norec", "+tcp"], &["+norec", "+dnssec"]] {
        for program in ["kdig", "dig"] {
            let printed = run(program, served.addr, &[options, &["www.example.org", "A"]].concat()).await;
            assert!(printed.contains("NOERROR") && printed.contains("192.0.2.1"), "{program}: {printed}");
            assert!(!printed.to_lowercase().contains("warning: "), "{program}: {printed}");
        }
    }
    // Truncated by UDP, and asked again by TCP by the client itself.
    for program in ["kdig", "dig"] {
        let printed = run(program, served.addr, &["long.example.org", "TXT", "+noedns"]).await;
        assert!(printed.to_lowercase().contains("tcp") && printed.contains("6long"), "{program}: {printed}");
    }
    for flags in [&[][..], &["-t"], &["-D"]] {
        let printed = run("drill", served.addr, &[flags, &["www.example.org", "A"]].concat()).await;
        assert!(printed.contains("NOERROR") && printed.contains("192.0.2.1"), "drill: {printed}");
    }
    served.stop().await;
}

#[tokio::test]
#[ignore = "needs kdig (knot-dnsutils), dig (bind9-dnsutils): cargo xtask test runs it"]
async fn clients_show_the_cookies_that_they_were_given() {
    let served = Served::new(Ipv4Addr::LOCALHOST, Limits::default()).await;
    let printed = run("dig", served.addr, &["long.example.org", "TXT", "+cookie=0102030405060708", "+ignore"]).await;
    assert!(printed.contains(" tc ") || printed.contains("tc;"), "{printed}");
    let cookie = printed.lines().find_map(|line| line.strip_prefix("; COOKIE: ")).expect("a cookie");
    let cookie = cookie.split(' ').next().unwrap_or_default();
    assert!(cookie.starts_with("010203040506070801000000") && printed.contains("(good)"), "{printed}");
    let shown = format!("+cookie={cookie}");
    for program in ["dig", "kdig"] {
        let printed = run(program, served.addr, &["long.example.org", "TXT", &shown, "+ignore", "+bufsize=1232"]).await;
        assert!(printed.contains("6long"), "{program}: {printed}");
    }
    served.stop().await;
}

#[tokio::test]
#[ignore = "needs kdig (knot-dnsutils): cargo xtask test runs it"]
async fn clients_ask_under_tls_and_are_answered_with_padding() {
    let addr = dot().await;
    for options in [&["+tls"][..], &["+tls", "+padding"], &["+tls", "+keepopen", "long.example.org", "TXT"]] {
        let printed = run("kdig", addr, &[options, &["mail.example.org", "A"]].concat()).await;
        assert!(printed.contains("TLS") && printed.contains("192.0.2.2"), "{printed}");
        assert!(printed.contains("PADDING"), "{printed}");
    }
}

#[tokio::test]
#[ignore = "needs kdig (knot-dnsutils) and curl: cargo xtask test runs it"]
async fn clients_ask_over_https_by_get_and_post() {
    let addr = doh().await;
    for options in [&["+https"][..], &["+https", "+https-get"]] {
        let printed = run("kdig", addr, &[&["mail.example.org", "A", "+padding"][..], options].concat()).await;
        assert!(
            printed.contains("HTTP/2") && printed.contains("192.0.2.2") && printed.contains("PADDING"),
            "{printed}"
        );
    }
    let url = format!("--doh-url=https://localhost:{}/dns-query", addr.port());
    let arguments = ["-sS", "--doh-insecure", &url, "--connect-timeout", "5", "http://mail.example.org:1/"];
    let output = within(Command::new("curl").args(arguments).output()).await.expect("curl is there");
    // It has the address, where nobody listens.
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains("resolve"), "{said}");
}
