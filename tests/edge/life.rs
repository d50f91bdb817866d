//! The whole life of a domain: typed in, certified by an authority that asks our own zone, validated, renewed under an open connection,
//! and its certificate declared void.

use crate::{
    pebble::{Pebble, free_ports},
    stage::{self, Running},
};
use boring::{
    ssl::{SslConnector, SslMethod, SslVerifyMode},
    x509::X509,
};
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use prost::Message;
use std::{net::SocketAddr, process::Command};
use sys_acme::ChallengeKind;
use sys_client::{Client, SessionStore, Wish, auth::SetupRequest};
use sys_tests::{DOMAIN, PASSWORD, eventually};
use tempfile::TempDir;
use tokio::net::TcpStream;

/// A certificate is renewed by hand when it is an hour old, since authorities count; and a clock may differ from the authority's by
/// less than that. So the server begins behind, and goes on ahead.
const HALF_S: i64 = 1_900;

/// `sys.domain.v1.TlsServiceRenewRequest`, and that of `Revoke`.
#[derive(Message)]
struct Named {
    #[prost(string, tag = "1")]
    name: String,
}

/// What is read of `sys.domain.v1.DnsStatus`.
#[derive(Message)]
struct DnsStatus {
    #[prost(message, repeated, tag = "5")]
    registrar: Vec<Entry>,
}

#[derive(Message)]
struct Entry {
    #[prost(string, tag = "1")]
    domain: String,
    #[prost(string, tag = "2")]
    kind: String,
    #[prost(string, tag = "3")]
    entry: String,
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs pebble, curl and delv: cargo xtask test runs it"]
async fn a_domain_lives_from_its_first_certificate_to_a_void_one() {
    let [dns] = free_ports();
    let dns = SocketAddr::from(([127, 0, 0, 1], dns));
    let pebble = Pebble::start(dns).await;
    let server = stage::start_with(-HALF_S, |edge| {
        edge.dns_listen = vec![dns];
        edge.domain.acme = Some(sys_acme::Settings {
            directory: pebble.directory.clone(),
            root_pem: Some(pebble.own_pem.clone()),
            kinds: vec![ChallengeKind::Dns01],
            ..sys_acme::Settings::lets_encrypt(Vec::new())
        });
    })
    .await;
    let first = certificate(&server, "from Pebble", |_| true).await;
    let names: Vec<_> =
        first.subject_alt_names().unwrap().iter().map(|name| name.dnsname().unwrap().to_owned()).collect();
    assert!(names.contains(&format!("*.{DOMAIN}")), "{names:?}");
    assert_eq!(pebble.status(&serial(&first)), "Valid");

    let home = tempfile::tempdir().unwrap();
    let sys = superadmin(&server, &home).await;
    validates(&sys, dns).await;

    let mut open = connect(&server).await;
    assert_eq!(load(&mut open).await, StatusCode::OK);
    server.advance_s(2 * HALF_S);
    let name = Bytes::from(Named { name: DOMAIN.to_owned() }.encode_to_vec());
    sys.call_bytes("sys.domain.v1.TlsService/Renew", name.clone()).await.unwrap();
    let second = certificate(&server, "a renewed one", |leaf| serial(leaf) != serial(&first)).await;
    assert_eq!(load(&mut open).await, StatusCode::OK, "the connection that was open");
    assert_eq!(pebble.status(&serial(&second)), "Valid");

    sys.step_up(PASSWORD).await.unwrap();
    sys.call_bytes("sys.domain.v1.TlsService/Revoke", name).await.unwrap();
    let third = certificate(&server, "one in place of the void one", |leaf| serial(leaf) != serial(&second)).await;
    eventually("a void certificate", async || (pebble.status(&serial(&second)) == "Revoked").then_some(())).await;
    assert_eq!(pebble.status(&serial(&third)), "Valid");
    assert_eq!(load(&mut open).await, StatusCode::OK, "the connection that was open");
}

/// `sys`, as the first who came.
async fn superadmin(server: &Running, home: &TempDir) -> Client {
    let sessions = SessionStore::new(home.path());
    let place = sessions.choose(Wish::File).await.unwrap().0;
    // By its address: the certificate for that is of the server's own authority.
    let endpoint = format!("https://{}", server.addr).parse().unwrap();
    let client = Client::connect_to_log_in(&endpoint, sessions.clone(), &server.told()).await.unwrap();
    let setup = SetupRequest {
        token: server.setup_token.clone(),
        email: "root@example.org".to_owned(),
        password: PASSWORD.to_owned(),
        display_name: String::new(),
        device_name: "laptop".to_owned(),
    };
    client.set_up(&setup, &place).await.unwrap();
    Client::connect(&endpoint, sessions).await.unwrap()
}

/// Whoever has what the status says is to be entered at the registrar validates the zone, and whoever has another key does not.
async fn validates(sys: &Client, dns: SocketAddr) {
    let status = sys.call_bytes("sys.domain.v1.DnsService/Status", Bytes::new()).await.unwrap();
    let status = DnsStatus::decode(status).unwrap();
    let ds = status.registrar.iter().find(|entry| entry.kind == "DS" && entry.domain == DOMAIN).expect("a DS");
    let words: Vec<_> = ds.entry.split_whitespace().collect();
    let [owner, tag, algorithm, digest_kind, digest] = words[..] else { panic!("{}", ds.entry) };
    let anchor = |digest: &str| format!("{owner} static-ds {tag} {algorithm} {digest_kind} \"{digest}\";");
    let validated = delv(dns, &anchor(digest));
    assert!(validated.contains("; fully validated"), "{validated}");
    let wrong: String = digest.chars().rev().collect();
    assert!(!delv(dns, &anchor(&wrong)).contains("; fully validated"));
}

fn delv(dns: SocketAddr, anchor: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let anchors = dir.path().join("anchors");
    std::fs::write(&anchors, format!("trust-anchors {{ {anchor} }};\n")).unwrap();
    let mut delv = Command::new("delv");
    delv.arg(format!("@{}", dns.ip())).args(["-p", &dns.port().to_string(), "-a"]).arg(&anchors);
    delv.args([&format!("+root={DOMAIN}"), DOMAIN, "A"]);
    let said = delv.output().expect("delv is there");
    format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr))
}

/// The certificate that the server shows for the domain, once it is one of Pebble's that is meant.
async fn certificate(server: &Running, what: &str, is_meant: impl Fn(&X509) -> bool) -> X509 {
    eventually(what, async || {
        let leaf = handshake(server).await.ssl().peer_certificate()?;
        let issuer = format!("{:?}", leaf.issuer_name());
        (issuer.contains("Pebble") && is_meant(&leaf)).then_some(leaf)
    })
    .await
}

fn serial(certificate: &X509) -> String {
    certificate.serial_number().to_bn().unwrap().to_hex_str().unwrap().to_lowercase()
}

async fn handshake(server: &Running) -> tokio_boring::SslStream<TcpStream> {
    let mut connector = SslConnector::builder(SslMethod::tls()).unwrap();
    // Who vouches for it is what the test looks at.
    connector.set_verify(SslVerifyMode::NONE);
    connector.set_alpn_protos(b"\x08http/1.1").unwrap();
    let stream = TcpStream::connect(server.addr).await.unwrap();
    tokio_boring::connect(connector.build().configure().unwrap(), DOMAIN, stream).await.unwrap()
}

/// A connection that stays open.
async fn connect(server: &Running) -> SendRequest<Empty<Bytes>> {
    let (sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(handshake(server).await)).await.unwrap();
    tokio::spawn(connection);
    sender
}

async fn load(open: &mut SendRequest<Empty<Bytes>>) -> StatusCode {
    open.ready().await.unwrap();
    let request = Request::get("/").header("host", DOMAIN).body(Empty::new()).unwrap();
    let (parts, body) = open.send_request(request).await.unwrap().into_parts();
    body.collect().await.unwrap();
    parts.status
}
