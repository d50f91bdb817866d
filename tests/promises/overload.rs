//! Too much, too often, too slow, or in no form that is spoken: refused with a reason, and nobody else notices.

use bytes::Bytes;
use data_encoding::BASE64_NOPAD;
use http::{Method, Request, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use serde_json::{Value, json};
use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};
use sys_core::throttle::{Rate, Rates};
use sys_tests::{Answer, Client, Options, PASSWORD, Raw, TestServer, World, frame};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

const CREATE: &str = "notes.v1.NoteService/CreateNote";
const FORGOT: &str = "sys.account.v1.AuthService/ForgotPassword";
const INVITE: &str = "sys.account.v1.MembershipService/Invite";
const HEALTH: &str = "grpc.health.v1.Health/Check";
const LOGIN: &str = "sys.account.v1.AuthService/Login";
const RESET: &str = "sys.account.v1.AuthService/ResetPassword";
const DNS_MESSAGE: &str = "application/dns-message";
/// Longer than anything here takes that does not hang.
const NEVER: Duration = Duration::from_secs(30);

/// google.rpc.Status and what stands in it, as far as it matters here.
#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(message, repeated, tag = "3")]
    details: Vec<prost_types::Any>,
}

#[derive(Clone, PartialEq, Message)]
struct ErrorInfo {
    #[prost(string, tag = "1")]
    reason: String,
}

/// Rates as they are by default, but for those of sources and accounts: all of a test comes from one.
fn careful() -> Rates {
    let many = 1_000_000.try_into().expect("not zero");
    let open = Rate { per_second: many, burst: many };
    Rates { source: open, account: open, sign_in_per_minute: many, ..Rates::default() }
}

fn login(email: &str, password: &str) -> Value {
    json!({"email": email, "password": password})
}

fn from(third: u8, last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 1, third, last))
}

fn answer(raw: &Raw) -> Answer {
    Answer { status: raw.status, body: serde_json::from_slice(&raw.body).unwrap_or(Value::Null) }
}

async fn send(client: &Client, method: Method, path: &str, headers: &[(&str, &str)], body: Bytes) -> Raw {
    let mut request = Request::builder().method(method).uri(format!("/{path}")).header(header::HOST, "localhost");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    if let Some(token) = client.token() {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    client.http1(request.body(Full::new(body)).expect("a request")).await
}

#[tokio::test]
async fn what_is_in_no_form_that_is_spoken_is_refused_with_a_reason_and_help() {
    let (server, world) = World::start().await;
    let client = &world.north.project_user.client;
    let (json, gzip) = (("content-type", "application/json"), ("content-encoding", "gzip"));
    let large = Bytes::from(vec![b' '; 200_000]);
    type Headers<'a> = &'a [(&'a str, &'a str)];
    let cases: [(Method, Headers<'_>, Bytes, u16, &str); 8] = [
        (Method::GET, &[], Bytes::new(), 405, "HTTP_METHOD"),
        (Method::PUT, &[json], Bytes::from_static(b"{}"), 405, "HTTP_METHOD"),
        (Method::POST, &[("content-type", "text/plain")], Bytes::from_static(b"x"), 415, "MEDIA_TYPE"),
        (Method::POST, &[("content-type", "application/connect+json")], Bytes::new(), 415, "MEDIA_TYPE"),
        (Method::POST, &[json, ("content-encoding", "br")], Bytes::from_static(b"{}"), 501, "REQUEST_ENCODING"),
        (Method::POST, &[json, gzip], Bytes::from_static(b"no gzip"), 400, "MALFORMED"),
        (Method::POST, &[json], large.clone(), 429, "REQUEST_TOO_LARGE"),
        (Method::POST, &[json, ("connect-protocol-version", "7")], Bytes::from_static(b"{}"), 400, "MALFORMED"),
    ];
    for (method, headers, body, status, reason) in cases {
        let raw = send(client, method.clone(), CREATE, headers, body).await;
        let refused = answer(&raw);
        assert_eq!((raw.status, refused.reason().as_str()), (status, reason), "{method} {headers:?} {refused:?}");
        assert!(!refused.help().is_empty(), "{method} {headers:?}");
    }
    assert_eq!(send(client, Method::GET, CREATE, &[], Bytes::new()).await.headers[header::ALLOW], "POST");
    // In gRPC's own frames: whole, too large, cut off, and none.
    let cut = frame(b"12345678").slice(..9);
    for (body, reason) in [(frame(&large), "REQUEST_TOO_LARGE"), (cut, "MALFORMED"), (Bytes::new(), "MALFORMED")] {
        let raw = client.grpc_raw(CREATE, body).await;
        let status = raw.trailers.get("grpc-status-details-bin").expect("details");
        let status = Status::decode(BASE64_NOPAD.decode(status.as_bytes()).unwrap().as_slice()).unwrap();
        let info = status.details.iter().find(|detail| detail.type_url.ends_with("ErrorInfo")).expect("an ErrorInfo");
        assert_eq!(ErrorInfo::decode(info.value.as_slice()).unwrap().reason, reason);
    }
    server.stop().await;
}

#[tokio::test]
async fn wrong_passwords_slow_their_source_down_more_and_more_and_the_owner_not_at_all() {
    let (server, world) = World::start_with(Options { rates: Some(careful()), ..Options::default() }).await;
    let victim = world.north.user.email.as_str();
    let guesser = server.client().from_source(from(0, 1));
    let mut waits = Vec::new();
    for _ in 0..12 {
        let refused = guesser.call(LOGIN, login(victim, "a guess")).await;
        if refused.reason() == "SIGN_IN_THROTTLED" {
            let wait = refused.retry_after_s().expect("it says how long to wait");
            waits.push(wait);
            server.advance_s(i64::try_from(wait).unwrap());
        } else {
            assert_eq!(refused.refused("unauthenticated").reason(), "LOGIN_REFUSED");
        }
    }
    assert!(waits.len() >= 3 && waits.windows(2).all(|pair| pair[1] > pair[0]), "{waits:?}");
    // In the middle of a wait: the right password is not tried, the owner's place is not concerned, nor is another account.
    while guesser.call(LOGIN, login(victim, "a guess")).await.reason() != "SIGN_IN_THROTTLED" {}
    guesser.call(LOGIN, login(victim, PASSWORD)).await.refused("resource_exhausted");
    server.client().call(LOGIN, login(victim, PASSWORD)).await.ok();
    guesser.call(LOGIN, login(&world.north.admin.email, PASSWORD)).await.ok();
    server.stop().await;
}

#[tokio::test]
async fn many_sources_guess_no_faster_than_a_few_and_the_owner_gets_in_from_home_and_by_mail() {
    let (server, world) = World::start_with(Options { rates: Some(careful()), ..Options::default() }).await;
    let victim = world.north.user.email.as_str();
    let home = server.client();
    home.call(LOGIN, login(victim, PASSWORD)).await.ok();
    let mut let_in = 0;
    let mut refused = None;
    for last in 1..=80 {
        let guess = server.client().from_source(from(1, last)).call(LOGIN, login(victim, "a guess")).await;
        if guess.reason() == "LOGIN_REFUSED" { let_in += 1 } else { refused = Some(guess) }
    }
    assert!((40..=62).contains(&let_in), "{let_in}: an hour's worth, and what came back meanwhile");
    let refused = refused.expect("the last ones are refused");
    assert_eq!(refused.refused("resource_exhausted").reason(), "SIGN_IN_THROTTLED");
    assert!(refused.help().contains("by mail"), "{}", refused.help());
    home.call(LOGIN, login(victim, PASSWORD)).await.ok();
    // Abroad he is one of many, until he shows that the mailbox is his.
    let abroad = server.client().from_source(from(2, 1));
    abroad.call(LOGIN, login(victim, PASSWORD)).await.refused("resource_exhausted");
    abroad.call(FORGOT, json!({"email": victim})).await.ok();
    let token = server.mailbox().token(victim, "password").await;
    let next = "another long passphrase";
    abroad.call(RESET, json!({"token": token, "newPassword": next})).await.ok();
    abroad.call(LOGIN, login(victim, next)).await.ok();
    server.stop().await;
}

#[tokio::test]
async fn a_source_that_asks_for_many_mails_is_held_to_the_methods_rate() {
    let server = TestServer::start_with(Options { rates: Some(careful()), ..Options::default() }).await;
    let ask = |n: u32| {
        let client = server.client();
        async move { client.call(FORGOT, json!({"email": format!("{n}@example.org")})).await }
    };
    let mut asked = 0;
    let refused = loop {
        let answer = ask(asked).await;
        if !answer.is_ok() {
            break answer;
        }
        asked += 1;
        assert!(asked <= 60, "the contract says 40 at once and 20 a minute");
    };
    assert_eq!(refused.refused("resource_exhausted").reason(), "METHOD_THROTTLED");
    assert!(refused.retry_after_s().is_some_and(|wait| wait <= 3), "{refused:?}");
    let elsewhere = server.client().from_source(from(3, 1));
    elsewhere.call(FORGOT, json!({"email": "a@example.org"})).await.ok();
    server.client().call(HEALTH, json!({})).await.ok();
    server.stop().await;
}

#[tokio::test]
async fn a_methods_rate_counts_an_account_wherever_it_calls_from_and_nobody_beside_it() {
    let (server, world) = World::start_with(Options { rates: Some(careful()), ..Options::default() }).await;
    let [one, beside] = [&world.north.admin, &world.north.project_user].map(|person| &person.client);
    // What stands in the request is not read before it counts. The contract says 120 at once, and 60 a minute.
    let asked_until_throttled = async |client: &Client| {
        for asked in 0..300 {
            let answer = client.call(INVITE, json!({})).await;
            if answer.reason() == "METHOD_THROTTLED" {
                assert!(answer.retry_after_s().is_some_and(|wait| wait <= 1), "{answer:?}");
                return asked;
            }
            assert!(!answer.is_ok(), "it invites nobody");
        }
        panic!("300 calls in a row were let in");
    };
    assert!(asked_until_throttled(one).await > 60);
    let elsewhere = asked_until_throttled(&one.from_source(from(4, 1))).await;
    assert!(elsewhere < 60, "{elsewhere}: what has come back meanwhile");
    assert_ne!(beside.call(INVITE, json!({})).await.reason(), "METHOD_THROTTLED");
    server.stop().await;
}

#[tokio::test]
async fn a_caller_who_sends_slowly_is_not_waited_for_longer_than_he_waits_himself() {
    let server = TestServer::start().await;
    let mut slow = TcpStream::connect(server.addr).await.expect("connect");
    let head = format!(
        "POST /{FORGOT} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nconnect-timeout-ms: 100\r\n\
         content-length: 100\r\n\r\n{{"
    );
    slow.write_all(head.as_bytes()).await.expect("write");
    server.client().call(HEALTH, json!({})).await.ok();
    let mut text = Vec::new();
    let _ = timeout(NEVER, slow.read_to_end(&mut text)).await.expect("the connection closes after the answer");
    let text = String::from_utf8_lossy(&text);
    assert!(text.starts_with("HTTP/1.1 504") && text.contains("deadline_exceeded"), "{text}");
    server.stop().await;
}

#[tokio::test]
async fn an_upload_that_is_refused_sees_its_answer_however_it_says_its_length() {
    let (server, world) = World::start().await;
    let token = world.north.project_user.client.token().expect("logged in").to_owned();
    for length in ["content-length: 100000", "transfer-encoding: chunked"] {
        let mut upload = TcpStream::connect(server.addr).await.expect("connect");
        let head = format!(
            "POST /{CREATE} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{length}\r\n\
             authorization: Bearer {token}\r\n\r\n"
        );
        upload.write_all(head.as_bytes()).await.expect("write");
        let mut body = vec![b' '; 100_000];
        if length.starts_with("transfer") {
            body.splice(0..0, b"186a0\r\n".iter().copied());
            body.extend_from_slice(b"\r\n0\r\n\r\n");
        }
        upload.write_all(&body).await.expect("all of it is taken, though it is refused");
        let mut text = Vec::new();
        let mut piece = [0; 4_096];
        // The last chunk of an answer.
        while !text.ends_with(b"\r\n0\r\n\r\n") {
            let read = timeout(NEVER, upload.read(&mut piece)).await.expect("an answer").expect("no reset before it");
            assert!(read > 0, "{length}: {}", String::from_utf8_lossy(&text));
            text.extend_from_slice(&piece[..read]);
        }
        assert!(String::from_utf8_lossy(&text).starts_with("HTTP/1.1 429"), "{length}");
    }
    server.stop().await;
}

/// A question for the addresses of example.org (RFC 8484 section 4.1.1 shows the like).
const QUESTION: &str = "/dns-query?dns=AAABAAABAAAAAAAAB2V4YW1wbGUDb3JnAAABAAE";

#[tokio::test]
async fn dns_over_https_is_turned_away_like_every_call_when_there_is_too_much_to_do() {
    let options = Options { longest_wait: Some(Duration::from_micros(1)), ..Options::default() };
    let server = TestServer::start_with(options).await;
    let connected = async || {
        let stream = TcpStream::connect(server.addr).await.expect("connect");
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
        tokio::spawn(connection);
        sender
    };
    let ask = async |mut sender: http2::SendRequest<Full<Bytes>>| {
        let request = Request::get(format!("http://localhost{QUESTION}")).body(Full::default()).expect("a request");
        let answer = timeout(NEVER, sender.send_request(request)).await.expect("in time").expect("an answer");
        let (head, body) = answer.into_parts();
        (head, body.collect().await.expect("a body").to_bytes())
    };
    let (head, _) = ask(connected().await).await;
    assert_eq!((head.status.as_u16(), head.headers[header::CONTENT_TYPE].as_bytes()), (200, DNS_MESSAGE.as_bytes()));
    // All of these are on their way before this thread reads the first: they find few turns free, and would have to wait. On a connection
    // of their own, of which it is not known yet that it asks for nothing but what is answered at once.
    let sender = connected().await;
    let asked: Vec<_> = (0..100).map(|_| tokio::spawn(ask(sender.clone()))).collect();
    let mut turned_away = 0;
    for answer in asked {
        let (head, body) = answer.await.expect("no panic");
        if head.status == 200 {
            assert_eq!(head.headers[header::CONTENT_TYPE], DNS_MESSAGE);
            continue;
        }
        turned_away += 1;
        assert_eq!((head.status.as_u16(), &head.headers[header::RETRY_AFTER]), (503, &"1".parse().unwrap()));
        assert!(String::from_utf8_lossy(&body).contains("unavailable"), "{body:?}");
    }
    assert!((1..100).contains(&turned_away), "{turned_away}");
    // It passes.
    assert_eq!(ask(sender).await.0.status, 200);
    server.stop().await;
}

#[tokio::test]
async fn a_server_that_is_dropped_before_it_serves_lets_go_of_its_data() {
    let server = TestServer::start().await;
    let data = server.stop().await.expect("a directory of its own");
    let again = || Options { data_dir: Some(data.path().join("data")), ..Options::default() };
    // Started and never served, as where something behind it fails.
    TestServer::start_and_drop(&data.path().join("data")).await;
    let server = sys_tests::eventually("the data is free", async || TestServer::try_start(again()).await.ok()).await;
    server.client().call(HEALTH, json!({})).await.ok();
    server.stop().await;
}
