//! Whom the client believes.

use crate::server::{Authority, NAME, Server, endpoint, here, pinned};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use std::{fs, net::SocketAddr, os::unix::fs::PermissionsExt, sync::Arc};
use sys_client::{
    CallError, Client, ClientError, Endpoint, KnownServers, Session, SessionStore, TlsError, Token, Told,
    tls::Authority as VouchedBy,
};
use tokio::{io::AsyncReadExt, net::TcpListener, sync::mpsc};
use tokio_rustls::TlsAcceptor;

fn why(result: Result<Client, ClientError>) -> TlsError {
    match result {
        Err(ClientError::Call(CallError::Tls { source, .. })) => *source,
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("connected"),
    }
}

#[tokio::test]
async fn an_authority_that_was_named_is_kept_for_its_server() {
    let authority = Authority::new("ours");
    let server = Server::of(&authority).await;
    let client = server.trust(pinned(&authority)).await.expect("the authority is in the chain");
    let protection = client.protection().expect("TLS");
    assert_eq!(protection.vouched_by, VouchedBy::Private(authority.fingerprint()));
    assert_eq!((protection.group.as_str(), protection.is_post_quantum), ("X25519MLKEM768", true));
    let known = server.servers().of(&server.endpoint).expect("kept");
    assert_eq!(known.fingerprints().collect::<Vec<_>>(), [authority.fingerprint()]);
    let mode = fs::metadata(server.directory.path().join("servers.json")).expect("kept").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // Another program needs no word any more, also where the server does not show its authority.
    let client = server.connect().await.expect("known");
    assert_eq!(client.who_am_i().await.expect("served").account_id, "account_1");
}

#[tokio::test]
async fn another_authority_is_refused_before_anything_is_sent() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let server = Server::of(&other).await;
    let told = pinned(&ours);
    assert!(matches!(why(server.trust(told.clone()).await), TlsError::PinMismatch(pin) if pin == ours.fingerprint()));
    assert!(matches!(why(server.trust(Told::default()).await), TlsError::UnknownIssuer));
    let logging_in = Client::connect_to_log_in(&server.endpoint, server.store(), &here(told)).await;
    assert!(matches!(why(logging_in), TlsError::PinMismatch(_)));
    assert_eq!(server.seen(), [], "something was sent to a server that nobody vouched for");
    assert_eq!(server.servers().list().expect("readable"), [], "what led to no server is kept");
}

#[tokio::test]
async fn an_impostor_with_the_authoritys_certificate_alone_is_refused() {
    // It shows the certificate with the right fingerprint, but has no key that the authority has signed.
    let (ours, other) = (Authority::new("ours"), Authority::new("ours"));
    let (leaf, key) = other.certificate(&[NAME], (2020, 2100));
    let (chain, _) = ours.certificate(&[NAME], (2020, 2100));
    let first = |pem: &str| pem.split_inclusive("-----END CERTIFICATE-----").map(str::to_owned).collect::<Vec<_>>();
    let mixed = first(&leaf).remove(0) + &first(&chain).remove(1);
    let identity = sys_edge::tls::Identity::from_pem(mixed.as_bytes(), key.serialize_pem().as_bytes());
    let server = Server::start(vec![identity.expect("an identity")]).await;
    assert!(matches!(why(server.trust(pinned(&ours)).await), TlsError::UnknownIssuer));
    assert_eq!(server.seen(), []);
}

#[tokio::test]
async fn an_authority_counts_for_its_own_server_alone() {
    let authority = Authority::new("ours");
    let (one, other) = (Server::of(&authority).await, Server::of(&authority).await);
    one.trust(pinned(&authority)).await.expect("trusted");
    let told = here(Told::default());
    assert!(matches!(
        why(Client::connect_to_trust(&other.endpoint, one.store(), &told).await),
        TlsError::UnknownIssuer
    ));
    assert_eq!(other.seen(), []);
    assert!(one.servers().remove(&one.endpoint).await.expect("forgotten"));
    assert!(matches!(why(one.trust(Told::default()).await), TlsError::UnknownIssuer));
}

#[tokio::test]
async fn a_new_authority_takes_its_place_beside_the_old_one() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let server = Server::of(&old).await;
    server.trust(pinned(&old)).await.expect("trusted");
    server.tls.show(vec![new.identity(&[NAME], (2020, 2100))]);
    assert!(matches!(why(server.connect().await), TlsError::UnknownIssuer));
    server.trust(pinned(&new)).await.expect("trusted");
    server.connect().await.expect("the new one counts");
    server.tls.show(vec![old.identity(&[NAME], (2020, 2100))]);
    server.connect().await.expect("the old one still counts");
}

#[tokio::test]
async fn time_and_name_are_always_checked() {
    let authority = Authority::new("ours");
    let server = Server::start(vec![authority.identity(&[NAME], (2000, 2001))]).await;
    assert!(matches!(why(server.trust(pinned(&authority)).await), TlsError::Expired));
    server.tls.show(vec![authority.identity(&[NAME], (2090, 2100))]);
    assert!(matches!(why(server.trust(pinned(&authority)).await), TlsError::NotValidYet));
    assert_eq!(server.seen(), []);
    // Who is named by its address is shown the first certificate, which is for another name.
    server.tls.show(vec![authority.identity(&["other.example.org"], (2020, 2100))]);
    let by_address = endpoint("127.0.0.1", server.addr);
    let error = why(Client::connect_to_trust(&by_address, server.store(), &pinned(&authority)).await);
    assert!(matches!(&error, TlsError::WrongName { presented, .. } if presented.len() == 1), "{error}");
    assert!(matches!(why(server.trust(pinned(&authority)).await), TlsError::UnknownName));
    server.tls.show(vec![authority.identity(&["127.0.0.1"], (2020, 2100))]);
    let client = Client::connect_to_trust(&by_address, server.store(), &pinned(&authority)).await.expect("its address");
    assert_eq!(client.protection().expect("TLS").ech, sys_client::Ech::Address);
}

/// A server of another make, which says of each connection when it is over how many bytes came after its handshake.
async fn stranger(
    authority: &Authority,
    versions: &[&'static rustls::SupportedProtocolVersion],
    alpn: &[u8],
) -> (SocketAddr, mpsc::UnboundedReceiver<usize>) {
    let (chain, key) = authority.certificate(&[NAME], (2020, 2100));
    let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<Vec<_>, _>>().expect("certificates");
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_protocol_versions(versions).expect("versions");
    let mut config = config.with_no_client_auth().with_single_cert(chain, key).expect("an identity");
    config.alpn_protocols = vec![alpn.to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let addr = listener.local_addr().expect("its address");
    let (ended, told) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let mut came = Vec::new();
            if let Ok(mut tls) = acceptor.accept(tcp).await {
                let _ = tls.read_to_end(&mut came).await;
            }
            let _ = ended.send(came.len());
        }
    });
    (addr, told)
}

async fn trust_at(addr: SocketAddr, authority: &Authority) -> TlsError {
    let directory = tempfile::tempdir().expect("a directory");
    let sessions = SessionStore::new(directory.path());
    why(Client::connect_to_trust(&endpoint(NAME, addr), sessions, &here(pinned(authority))).await)
}

#[tokio::test]
async fn nothing_below_tls_1_3_and_nothing_but_http_2_is_spoken() {
    let authority = Authority::new("ours");
    let (addr, _) = stranger(&authority, &[&rustls::version::TLS12], b"h2").await;
    assert!(matches!(trust_at(addr, &authority).await, TlsError::OldVersion));
    let (addr, _) = stranger(&authority, &[&rustls::version::TLS13], b"http/1.1").await;
    assert!(matches!(trust_at(addr, &authority).await, TlsError::NotHttp2));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let addr = listener.local_addr().expect("its address");
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            let _ = tokio::io::AsyncWriteExt::write_all(&mut tcp, b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
            // Whoever closes at once may make the answer unreadable.
            let _ = tcp.read(&mut [0; 1_024]).await;
        }
    });
    assert!(matches!(trust_at(addr, &authority).await, TlsError::NotTls));
}

#[tokio::test]
async fn a_token_reaches_no_server_that_did_not_prove_itself() {
    let authority = Authority::new("nobody's");
    let (addr, mut ended) = stranger(&authority, &[&rustls::version::TLS13], b"h2").await;
    let directory = tempfile::tempdir().expect("a directory");
    let sessions = SessionStore::new(directory.path());
    let server = endpoint(NAME, addr);
    let session = Session {
        server: server.clone(),
        account_id: "account_1".into(),
        session_id: "session_1".into(),
        access_token: Token::new("access"),
        access_expires_unix_s: 9_000_000_000,
        refresh_token: Token::new("refresh"),
        device: None,
    };
    sessions.lock().await.expect("the lock").save(&session).await.expect("saved");
    let known = KnownServers::new(sessions.clone());
    known.change(&server, |known| known.address = Some(addr.ip())).await.expect("kept");
    assert!(matches!(why(Client::connect(&server, sessions.clone()).await), TlsError::UnknownIssuer));
    assert_eq!(ended.recv().await, Some(0), "something was sent after a handshake that was refused");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unreachable() {
    let addr = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address");
    let endpoint: Endpoint = format!("https://127.0.0.1:{}", addr.port()).parse().expect("an endpoint");
    let directory = tempfile::tempdir().expect("a directory");
    let error = Client::connect(&endpoint, SessionStore::new(directory.path())).await.expect_err("nobody listens");
    assert!(matches!(error, ClientError::Call(CallError::Unreachable { .. })), "{error:?}");
}

#[tokio::test]
async fn a_file_of_servers_that_others_can_change_is_not_believed() {
    let authority = Authority::new("ours");
    let server = Server::of(&authority).await;
    server.trust(pinned(&authority)).await.expect("trusted");
    let path = server.directory.path().join("servers.json");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o660)).expect("permissions");
    assert!(matches!(server.connect().await, Err(ClientError::Session(sys_client::SessionError::Exposed { .. }))));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("permissions");
    fs::write(&path, "{}").expect("written");
    assert!(matches!(
        server.connect().await,
        Err(ClientError::Session(sys_client::SessionError::MalformedServers { .. }))
    ));
}
