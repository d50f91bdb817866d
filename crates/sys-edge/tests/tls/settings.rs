//! What is spoken: TLS 1.3 alone, the best group that both know, what ALPN agrees on, nothing resumed, certificates of native clients.

use crate::{
    clients::{GROUPS, get_on, tls_error},
    server::{INNER, NEVER, Server, hex},
};
use boring::{
    hash::{MessageDigest, hash},
    ssl::{SslConnector, SslMethod, SslVersion},
    x509::X509,
};
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, KeyPair, PKCS_ED25519, SignatureAlgorithm};
use rustls::{
    AlertDescription, ClientConfig, Error, SignatureScheme,
    client::ResolvesClientCert,
    crypto::aws_lc_rs::sign::any_supported_type,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName},
    sign::CertifiedKey,
};
use std::sync::Arc;
use sys_edge::{Bind, BindError, Limits, Listener, ProxySources, tls::Tls};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

#[tokio::test]
async fn the_hybrid_group_is_agreed_on_by_all_who_know_it_and_others_get_the_best_they_know() {
    let server = Server::start(Limits::default()).await;
    let [hybrid, x25519, p256] = GROUPS;
    for (groups, expect) in [
        (vec![hybrid, x25519, p256], "X25519MLKEM768"),
        (vec![x25519, hybrid], "X25519MLKEM768"),
        (vec![p256, x25519], "x25519"),
        (vec![p256], "secp256r1"),
    ] {
        let answer = server.client().with_groups(&groups).get(server.addr, INNER, "/").await.unwrap();
        assert!(answer.contains(&format!("tls=TLSv1.3 group={expect} ")), "{groups:?}: {answer}");
    }
}

#[tokio::test]
async fn nothing_older_than_tls_1_3_is_spoken() {
    let server = Server::start(Limits::default()).await;
    for (most, expect) in [(SslVersion::TLS1_2, None), (SslVersion::TLS1_3, Some("TLSv1.3"))] {
        let mut connector = SslConnector::builder(SslMethod::tls()).unwrap();
        connector.cert_store_mut().add_cert(X509::from_der(server.authority.root_der()).unwrap()).unwrap();
        connector.set_max_proto_version(Some(most)).unwrap();
        let stream = TcpStream::connect(server.addr).await.unwrap();
        let connected = tokio_boring::connect(connector.build().configure().unwrap(), INNER, stream).await;
        match (connected, expect) {
            (Ok(stream), Some(version)) => assert_eq!(stream.ssl().version_str(), version),
            (Err(error), None) => assert!(error.to_string().contains("PROTOCOL_VERSION"), "{error}"),
            (connected, expect) => panic!("{:?} {expect:?}", connected.map(|_| ())),
        }
    }
    server.serves().await;
}

#[tokio::test]
async fn what_is_agreed_on_is_spoken_and_nothing_else() {
    let server = Server::start(Limits::default()).await;
    for (alpn, expect) in [
        (&["h2", "http/1.1"][..], "http=HTTP/2.0 "),
        (&["http/1.1", "h2"], "http=HTTP/2.0 "),
        (&["h2"], "http=HTTP/2.0 "),
        (&["http/1.1"], "http=HTTP/1.1 "),
        (&["spdy/3", "http/1.1"], "http=HTTP/1.1 "),
        (&[], "http=HTTP/1.1 "),
    ] {
        let answer = server.client().speaking(alpn).get(server.addr, INNER, "/").await.unwrap();
        assert!(answer.starts_with(expect), "{alpn:?}: {answer}");
    }
    for alpn in [&["spdy/3"][..], &["acme-tls/1"], &["h2c"]] {
        let refused = server.client().speaking(alpn).connect(server.addr, INNER).await.unwrap_err();
        let alert = AlertDescription::NoApplicationProtocol;
        let is_challenge = alpn == ["acme-tls/1"];
        let expect = if is_challenge { AlertDescription::UnrecognisedName } else { alert };
        assert_eq!(tls_error(&refused), Some(&Error::AlertReceived(expect)), "{alpn:?}");
    }
    // HTTP/1.1 where HTTP/2 was agreed on, and the reverse.
    let before = server.requests();
    for (alpn, text) in [
        ("h2", &b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..]),
        ("http/1.1", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"),
    ] {
        let mut stream = server.client().speaking(&[alpn]).connect(server.addr, INNER).await.unwrap();
        stream.write_all(text).await.unwrap();
        let mut answer = Vec::new();
        let _ = timeout(NEVER, stream.read_to_end(&mut answer)).await.unwrap();
        assert!(!answer.windows(3).any(|part| part == b"200"), "{alpn}");
    }
    assert_eq!(server.requests(), before);
}

#[tokio::test]
async fn nothing_is_resumed() {
    let server = Server::start(Limits::default()).await;
    let config = server.client().config();
    for _ in 0..2 {
        let stream = TcpStream::connect(server.addr).await.unwrap();
        let name = ServerName::try_from(INNER).unwrap();
        let mut stream = TlsConnector::from(Arc::<ClientConfig>::clone(&config)).connect(name, stream).await.unwrap();
        // An answer comes behind all tickets that there are.
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
        stream.read_u8().await.unwrap();
        let session = stream.get_ref().1;
        assert_eq!(session.tls13_tickets_received(), 0);
        assert!(
            matches!(session.handshake_kind(), Some(rustls::HandshakeKind::Full)),
            "{:?}",
            session.handshake_kind()
        );
    }
}

#[tokio::test]
async fn plaintext_stays_on_this_machine_and_is_not_spoken_where_tls_is() {
    let beyond = "0.0.0.0:0".parse().unwrap();
    let refused = Listener::bind(Bind::at(beyond)).await;
    assert!(matches!(refused, Err(BindError::PlaintextBeyondLoopback { .. })));
    let socket = std::net::TcpListener::bind(beyond).unwrap();
    let refused = Listener::over(socket, Bind::at("127.0.0.1:0".parse().unwrap()));
    assert!(matches!(refused, Err(BindError::PlaintextBeyondLoopback { .. })));
    let tls = Some(Tls::new().unwrap());
    Listener::bind(Bind { tls: tls.clone(), ..Bind::at(beyond) }).await.unwrap();
    let socket = std::net::TcpListener::bind(beyond).unwrap();
    let port = socket.local_addr().unwrap().port();
    assert_eq!(Listener::over(socket, Bind { tls, ..Bind::at(beyond) }).unwrap().local_addr().port(), port);

    let server = Server::start(Limits::default()).await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = timeout(NEVER, stream.read_to_end(&mut answer)).await.unwrap();
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    assert_eq!(server.requests(), 0);
}

#[tokio::test]
async fn the_header_of_a_proxy_stands_before_the_handshake_and_nowhere_else() {
    let proxy = ProxySources::parse(["127.0.0.1"]).unwrap();
    let server = Server::behind(proxy, Limits { handshake_timeout: NEVER, ..Limits::default() }).await;
    // From 192.0.2.7, port 12345, to 127.0.0.1, port 443.
    let header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\x7f\0\0\x01\x30\x39\x01\xbb";
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    stream.write_all(header).await.unwrap();
    let stream = server.client().connect_on(stream, INNER).await.unwrap();
    let answer = get_on(stream, INNER, "/").await.unwrap();
    assert!(answer.contains("tls=TLSv1.3 ") && answer.contains("peer=192.0.2.7:12345 "), "{answer}");
    assert!(server.client().connect(server.addr, INNER).await.is_err(), "without the header");
}

#[tokio::test]
async fn the_bound_of_a_handshake_is_none_of_what_comes_after() {
    let server = Server::start(Limits::default()).await;
    let stream = server.client().speaking(&["http/1.1"]).connect(server.addr, INNER).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    for _ in 0..20 {
        let request = Request::get("/").header(header::HOST, INNER).header("x-long", "x".repeat(8_000));
        let response = sender.send_request(request.body(Full::<Bytes>::default()).unwrap()).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        response.into_body().collect().await.unwrap();
        sender.ready().await.unwrap();
    }
    assert_eq!(server.requests(), 20);
}

/// A certificate that its owner has made himself, and its key.
fn own_certificate(algorithm: &'static SignatureAlgorithm) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    let key = KeyPair::generate_for(algorithm).expect("a key");
    let certificate = CertificateParams::new(vec!["device".to_owned()]).expect("params").self_signed(&key);
    let certificate = certificate.expect("a certificate");
    (certificate.der().clone(), PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())))
}

#[tokio::test]
async fn the_hash_of_a_native_clients_certificate_arrives_and_browsers_are_not_asked_for_one() {
    let server = Server::start(Limits::default()).await;
    for algorithm in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &PKCS_ED25519] {
        let (certificate, key) = own_certificate(algorithm);
        let expect = hex(&hash(MessageDigest::sha256(), &certificate).unwrap());
        let mut client = server.client();
        client.certificate = Some((certificate, Arc::new(key)));
        let answer = client.get(server.addr, INNER, "/").await.unwrap();
        assert!(answer.contains(&format!("certificate={expect} ")), "{answer}");
        for alpn in [&["h2", "http/1.1"][..], &["http/1.1"], &[]] {
            let answer = client.clone().speaking(alpn).get(server.addr, INNER, "/").await.unwrap();
            assert!(answer.contains("certificate=none "), "{alpn:?} {answer}");
        }
    }
    let answer = server.client().get(server.addr, INNER, "/").await.unwrap();
    assert!(answer.contains("certificate=none "), "{answer}");
}

/// Shows these bytes as a certificate, and signs with a key.
#[derive(Debug)]
struct Forged(Arc<CertifiedKey>);

impl ResolvesClientCert for Forged {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn a_certificate_that_is_none_or_anothers_or_endless_ends_its_own_connection_and_nothing_else() {
    let server = Server::start(Limits::default()).await;
    let (good, key) = own_certificate(&rcgen::PKCS_ECDSA_P256_SHA256);
    let (anothers, _) = own_certificate(&rcgen::PKCS_ECDSA_P256_SHA256);
    let signing = any_supported_type(&key).unwrap();
    let mut bent = Vec::new();
    for place in (0..good.len()).step_by(7) {
        let mut certificate = good.to_vec();
        certificate[place] ^= 0x41;
        bent.push(certificate);
    }
    let shown = [vec![], vec![0x30], vec![0x30; 3_000], anothers.to_vec(), good[..good.len() - 1].to_vec()];
    let chains = shown.into_iter().chain(bent).map(|certificate| vec![CertificateDer::from(certificate)]);
    let endless = vec![good.clone(); 200];
    for chain in chains.chain([endless]) {
        let is_endless = chain.len() > 1;
        let mut config = ClientConfig::clone(&server.client().config());
        config.client_auth_cert_resolver = Arc::new(Forged(Arc::new(CertifiedKey::new(chain, Arc::clone(&signing)))));
        let stream = TcpStream::connect(server.addr).await.unwrap();
        let name = ServerName::try_from(INNER).unwrap();
        let Ok(stream) = TlsConnector::from(Arc::new(config)).connect(name, stream).await else { continue };
        let answer = get_on(stream, INNER, "/").await;
        // Bytes of no meaning may be changed, and then it is another certificate of the same key.
        let good_hash = hex(&hash(MessageDigest::sha256(), &good).unwrap());
        assert!(answer.as_ref().is_err() || !is_endless, "{answer:?}");
        assert!(answer.is_err() || !answer.unwrap().contains(&good_hash));
    }
    server.serves().await;
}
