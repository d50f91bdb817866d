//! Collectors that answer well, ill, slowly and not at all; and one that is somebody else.

use super::*;
use crate::settings::{Headers, Roots};
use std::net::SocketAddr;
use sys_core::trace::Sampling;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

fn settings(url: &str) -> Settings {
    Settings {
        endpoint: url.parse().expect("a collector"),
        roots: Roots::of(None).expect("roots"),
        headers: "authorization: Bearer canary".parse::<Headers>().expect("headers"),
        service: "x".to_owned(),
        sampling: Sampling { per_million: 0, follows_callers: false },
    }
}

/// A collector that takes one message and answers so; what it heard.
async fn collector(answer: &'static [u8]) -> (SocketAddr, tokio::task::JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("an address");
    let serving = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut heard = Vec::new();
        while !heard.ends_with(b"MESSAGE") {
            let read = stream.read_buf(&mut heard).await.expect("bytes");
            assert!(read > 0, "{}", heard.escape_ascii());
        }
        stream.write_all(answer).await.expect("written");
        heard
    });
    (addr, serving)
}

async fn posted_to(answer: &'static [u8]) -> (Result<Taken, NotTaken>, String) {
    let (addr, serving) = collector(answer).await;
    let taken = post(&settings(&format!("http://{addr}")), Bytes::from_static(b"MESSAGE")).await;
    (taken, String::from_utf8(serving.await.expect("it heard something")).expect("text"))
}

#[tokio::test]
async fn a_message_is_posted_as_the_standard_wants_with_what_the_collector_wants_to_hear() {
    let (taken, heard) = posted_to(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!(taken.expect("taken"), Taken { rejected: 0, said: String::new() });
    let head = heard.to_ascii_lowercase();
    assert!(head.starts_with("post /v1/traces http/1.1\r\n"), "{heard}");
    for line in ["content-type: application/x-protobuf", "authorization: bearer canary", "content-length: 7"] {
        assert!(head.contains(&format!("\r\n{line}\r\n")), "{line}: {heard}");
    }
}

#[tokio::test]
async fn what_the_collector_says_of_spans_that_it_does_not_want_is_heard_without_what_could_forge_a_log() {
    // partial_success {rejected_spans: 2, error_message: "a\nb"}
    let (taken, _) = posted_to(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n\x0a\x07\x08\x02\x12\x03a\nb").await;
    assert_eq!(taken.expect("taken"), Taken { rejected: 2, said: "ab".to_owned() });
}

#[tokio::test]
async fn garbage_behind_a_success_is_a_success() {
    let (taken, _) = posted_to(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n\xff\xff\xff\xff").await;
    assert_eq!(taken.expect("taken"), Taken { rejected: 0, said: String::new() });
}

#[tokio::test]
async fn what_may_pass_is_told_from_what_will_not() {
    let check = async |answer, passes, after| {
        let (taken, _) = posted_to(answer).await;
        let error = taken.expect_err("refused");
        assert_eq!((error.may_pass(), error.retry_after()), (passes, after), "{error}");
    };
    check(b"HTTP/1.1 503 x\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n", true, Some(Duration::from_secs(7))).await;
    check(b"HTTP/1.1 429 x\r\nretry-after: soon\r\ncontent-length: 0\r\n\r\n", true, None).await;
    check(b"HTTP/1.1 400 x\r\ncontent-length: 0\r\n\r\n", false, None).await;
    check(b"HTTP/1.1 301 x\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n", false, None).await;
    check(b"SSH-2.0-x\r\n", true, None).await;
    check(b"", true, None).await;
    check(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx", true, None).await;
}

#[tokio::test]
async fn an_answer_without_an_end_is_not_read_to_it() {
    let answer = [&b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n"[..], &[b'x'; 100_000]].concat();
    let (taken, _) = posted_to(answer.leak()).await;
    assert!(matches!(taken, Err(NotTaken::Broken)), "{taken:?}");
}

#[tokio::test(start_paused = true)]
async fn a_collector_that_hangs_is_not_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("an address");
    let taken = post(&settings(&format!("http://{addr}")), Bytes::from_static(b"MESSAGE")).await;
    assert!(matches!(taken, Err(NotTaken::TimedOut)), "{taken:?}");
}

#[tokio::test]
async fn who_is_not_there_is_told() {
    let addr = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address");
    let taken = post(&settings(&format!("http://{addr}")), Bytes::from_static(b"MESSAGE")).await;
    assert!(matches!(&taken, Err(error @ NotTaken::Connect(_)) if error.may_pass()), "{taken:?}");
}

/// A certificate for a name, and the settings that believe in it.
fn certified(name: &str) -> (rustls::ServerConfig, String) {
    let key = rcgen::KeyPair::generate().expect("a key");
    let certificate =
        rcgen::CertificateParams::new(vec![name.to_owned()]).expect("a name").self_signed(&key).expect("signed");
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let private = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let server = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private)
        .expect("a certificate");
    (server, certificate.pem())
}

/// Posts over TLS to a collector with a certificate for this name, by roots that hold it or not.
async fn posted_over_tls(name: &str, is_believed: bool) -> Result<Taken, NotTaken> {
    let (server, pem) = certified(name);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("an address");
    let serving = tokio::spawn(async move {
        let (stream, _) = listener.accept().await?;
        let mut stream = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(server)).accept(stream).await?;
        let mut heard = Vec::new();
        while !heard.ends_with(b"MESSAGE") && stream.read_buf(&mut heard).await? > 0 {}
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await?;
        stream.shutdown().await
    });
    let mut settings = settings(&format!("https://localhost:{}", addr.port()));
    if is_believed {
        settings.roots = Roots::of(Some(&pem)).expect("a root");
    }
    let taken = post(&settings, Bytes::from_static(b"MESSAGE")).await;
    // Who is not believed is left in the middle of the handshake.
    let _ = serving.await.expect("no panic");
    taken
}

#[tokio::test]
async fn a_collector_has_to_prove_by_the_given_roots_that_it_is_the_one() {
    assert_eq!(posted_over_tls("localhost", true).await.expect("taken").rejected, 0);
    for (name, is_believed) in [("localhost", false), ("other.example", true)] {
        let taken = posted_over_tls(name, is_believed).await;
        assert!(matches!(taken, Err(NotTaken::NotTrusted(_))), "{name} {taken:?}");
    }
}
