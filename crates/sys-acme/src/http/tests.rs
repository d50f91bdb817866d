//! Requests to a server in this process: what comes back, and what is broken off.

use super::*;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{ServerConfig, pki_types::PrivatePkcs8KeyDer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

/// A server that answers each connection with these bytes, and the way to it.
async fn server(answer: Vec<u8>, stays: bool) -> (Https, String) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(signing_key.serialize_der());
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key.into())
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}/directory?x=1", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut request = vec![0; 4_096];
            let read = stream.read(&mut request).await.unwrap_or(0);
            // The request comes back, so that a test can see it.
            let request = String::from_utf8_lossy(&request[..read]).into_owned();
            let answer = String::from_utf8_lossy(&answer).replace("REQUEST", &request).into_bytes();
            let _ = stream.write_all(&answer).await;
            let _ = stream.flush().await;
            if stays {
                tokio::spawn(async move { stream.read(&mut [0; 1]).await });
            } else {
                let _ = stream.shutdown().await;
            }
        }
    });
    let mut https = Https::new(Some(&cert.pem())).unwrap();
    https.bounds = Bounds { time: Duration::from_secs(20), body_bytes: 1_000 };
    (https, url)
}

async fn get(https: &Https, url: &str) -> Result<Response<Bytes>, HttpError> {
    https.exchange(Request::builder().uri(url).body(Bytes::new()).unwrap()).await
}

#[tokio::test]
async fn a_request_goes_out_and_its_answer_comes_back() {
    let (https, url) = server(b"HTTP/1.1 200 OK\r\nRetry-After: 7\r\n\r\nREQUEST".to_vec(), false).await;
    let answer = get(&https, &url).await.unwrap();
    assert_eq!(answer.headers()["retry-after"], "7");
    let request = String::from_utf8(answer.body().to_vec()).unwrap();
    let host = url.trim_start_matches("https://").split('/').next().unwrap();
    assert!(
        request.starts_with("GET /directory?x=1 HTTP/1.1\r\n") && request.contains(&format!("host: {host}\r\n")),
        "{request}"
    );
}

#[tokio::test]
async fn what_is_too_large_or_no_http_is_broken_off() {
    let endless = format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(2_000));
    let head = format!("HTTP/1.1 200 OK\r\nX-Filler: {}\r\n\r\n", "x".repeat(100_000));
    for answer in [
        endless,
        head,
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort".to_owned(),
        "\u{0}\u{1}garbage".to_owned(),
        String::new(),
    ] {
        let (https, url) = server(answer.into_bytes(), false).await;
        assert!(matches!(get(&https, &url).await, Err(HttpError::Broken { .. })));
    }
}

#[tokio::test]
async fn who_does_not_answer_is_not_waited_for() {
    for begun in ["", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nx"] {
        let (mut https, url) = server(begun.as_bytes().to_vec(), true).await;
        https.bounds.time = Duration::from_millis(300);
        assert!(matches!(get(&https, &url).await, Err(HttpError::TimedOut { .. })), "{begun}");
    }
}

#[tokio::test]
async fn who_does_not_prove_who_it_is_gets_no_request() {
    let (_, url) = server(b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), false).await;
    let browsers_roots = Https::new(None).unwrap();
    assert!(matches!(get(&browsers_roots, &url).await, Err(HttpError::NotTrusted { .. })));
    let (https, url) = server(b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), false).await;
    let other_name = url.replace("localhost", "127.0.0.1");
    assert!(matches!(get(&https, &other_name).await, Err(HttpError::NotTrusted { .. })));
}

#[tokio::test]
async fn nothing_goes_out_in_the_clear() {
    let https = Https::new(None).unwrap();
    for url in ["http://localhost/", "/directory"] {
        assert_eq!(get(&https, url).await.unwrap_err(), HttpError::NotHttps, "{url}");
    }
}

#[tokio::test]
async fn nobody_there_is_said_so() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    drop(listener);
    assert!(matches!(get(&Https::new(None).unwrap(), &url).await, Err(HttpError::Connect { .. })));
}

#[test]
fn a_root_that_is_none_is_refused() {
    for wrong in ["", "no pem", "-----BEGIN CERTIFICATE-----\nMAAA\n-----END CERTIFICATE-----\n"] {
        assert_eq!(Https::new(Some(wrong)).unwrap_err(), SettingsError::Root, "{wrong}");
    }
}
