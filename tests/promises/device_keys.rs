//! Promise 8: a stolen token is worth nothing without the key of the device that it was given to, over real TLS, from the program of
//! its owner to the programs of thieves.

use bytes::Bytes;
use serde_json::{Value, json};
use sys_client::{
    Client, Ech, Session, SessionStore, Wish,
    auth::{self, SetupRequest},
};
use sys_tests::{Certificate, Form, Options, PASSWORD, TestServer};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const LIST_SESSIONS: &str = "sys.account.v1.SessionService/ListSessions";
const LIST_SYSTEM: &str = "sys.account.v1.AuditService/ListSystemAudit";
const WATCH: &str = "notes.v1.NoteService/WatchNotes";
const ROOT: &str = "root@example.org";

/// A server over TLS, and its superadmin with `sys`.
struct Stage {
    server: TestServer,
    /// What `sys` keeps.
    home: TempDir,
    client: Client,
}

impl Stage {
    async fn set() -> Self {
        let server = TestServer::start_with(Options { over_tls: true, ..Options::default() }).await;
        let home = tempfile::tempdir().unwrap();
        let sessions = SessionStore::new(home.path());
        let (told, endpoint) = server.told();
        let place = sessions.choose(Wish::File).await.unwrap().0;
        let first = Client::connect_to_log_in(&endpoint, sessions.clone(), &told).await.unwrap();
        let setup = SetupRequest {
            token: server.setup_token.clone().unwrap(),
            email: ROOT.to_owned(),
            password: PASSWORD.to_owned(),
            display_name: String::new(),
            device_name: "laptop".to_owned(),
        };
        first.set_up(&setup, &place).await.unwrap();
        // From the second connection on the name is hidden, too, if the server has told its keys in time.
        let client = sys_tests::eventually("a connection with ECH", async || {
            let client = Client::connect(&endpoint, sessions.clone()).await.unwrap();
            Some(client).filter(|client| client.protection().is_some_and(|protection| protection.ech == Ech::Accepted))
        })
        .await;
        Self { server, home, client }
    }

    async fn session(&self) -> Session {
        self.client.session().await.unwrap().expect("logged in")
    }

    async fn owner_is_in(&self) {
        self.client.who_am_i().await.expect("the owner is served");
    }

    /// Somebody with the owner's key, beside `sys`.
    fn on_the_device(&self) -> sys_tests::Client {
        self.server.client_over_tls(Some(&Certificate::of_device(self.home.path())))
    }

    /// What connections thieves make.
    fn thieves(&self) -> [sys_tests::Client; 2] {
        [None, Some(&Certificate::new())].map(|certificate| self.server.client_over_tls(certificate))
    }
}

/// Why a call with this access token is refused, by each protocol, of one answer and of many; empty where it is let in.
async fn refusals(client: &sys_tests::Client, token: &str) -> Vec<String> {
    let client = client.with_token(token);
    let connect = client.call(auth::WHO_AM_I, json!({})).await;
    let mut reasons = vec![if connect.is_ok() { String::new() } else { connect.reason() }];
    for form in [Form::Grpc, Form::GrpcWeb] {
        reasons.push(client.listen(auth::WHO_AM_I, form, &json!({})).await.end().await);
    }
    for form in Form::ALL {
        reasons.push(client.listen(WATCH, form, &json!({})).await.end().await);
    }
    reasons
}

#[tokio::test]
async fn a_copied_access_token_is_refused_wherever_the_key_of_its_device_is_not() {
    let stage = Stage::set().await;
    let token = stage.session().await.access_token;
    for thief in stage.thieves() {
        assert_eq!(refusals(&thief, token.expose()).await, ["TOKEN_REFUSED"; 6]);
        stage.owner_is_in().await;
    }
    // It is the key that lets in, and nothing else of the program; notes are not for superadmins.
    let on_the_device = refusals(&stage.on_the_device(), token.expose()).await;
    assert_eq!(on_the_device[..3], [""; 3]);
    assert_eq!(on_the_device[3..], ["METHOD_REFUSED"; 3]);
    stage.server.stop().await;
}

#[tokio::test]
async fn a_copied_refresh_token_gives_nothing_and_does_not_log_the_owner_out() {
    let stage = Stage::set().await;
    let session = stage.session().await;
    let refresh = json!({"refreshToken": session.refresh_token.expose()});
    for thief in stage.thieves() {
        for _ in 0..3 {
            let refused = thief.call(auth::REFRESH, refresh.clone()).await;
            assert_eq!(refused.refused("unauthenticated").reason(), "TOKEN_REFUSED");
            // With the other token beside it, either.
            let both = thief.with_token(session.access_token.expose());
            assert!(!both.call(auth::REFRESH, refresh.clone()).await.is_ok());
        }
        stage.owner_is_in().await;
    }
    let pair = stage.on_the_device().call(auth::REFRESH, refresh).await.ok();
    // Nor does what the owner is given next work elsewhere.
    let next = pair["accessToken"].as_str().unwrap();
    for thief in stage.thieves() {
        assert_eq!(refusals(&thief, next).await, ["TOKEN_REFUSED"; 6]);
    }
    stage.on_the_device().with_token(next).call(auth::WHO_AM_I, json!({})).await.ok();
    stage.server.stop().await;
}

#[tokio::test]
async fn in_the_clear_a_token_is_not_even_listened_to() {
    let stage = Stage::set().await;
    let token = stage.session().await.access_token;
    let plain = stage.server.plain_addr.unwrap();
    for (addr, host) in [(stage.server.addr, "127.0.0.1"), (plain, sys_tests::DOMAIN)] {
        let request = format!(
            "POST /{} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nAuthorization: Bearer {}\r\n\
             Content-Length: 2\r\nConnection: close\r\n\r\n{{}}",
            auth::WHO_AM_I,
            token.expose()
        );
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // Whoever hears no TLS cuts the connection off.
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer);
        assert!(!answer.starts_with("HTTP/1.1 2") && !answer.contains(ROOT), "{addr}: {answer}");
        assert!(!answer.contains(token.expose()), "{addr}: {answer}");
    }
    stage.owner_is_in().await;
    stage.server.stop().await;
}

#[tokio::test]
async fn the_session_says_that_it_is_bound_and_the_audit_log_how_each_came() {
    let stage = Stage::set().await;
    let session = stage.session().await;
    assert!(stage.client.protection().unwrap().is_post_quantum);
    let owner = stage.on_the_device().with_token(session.access_token.expose());
    let sessions = owner.call(LIST_SESSIONS, json!({})).await.ok();
    assert_eq!(
        (&sessions["sessions"][0]["boundToDevice"], sessions["sessions"].as_array().map(Vec::len)),
        (&json!(true), Some(1))
    );

    stage.client.call_bytes(LIST_SYSTEM, Bytes::new()).await.unwrap();
    let of_owner = entry(&owner, json!({"method": LIST_SYSTEM})).await;
    let fingerprint = session.device.unwrap().to_string();
    let shown = fingerprint.split_once(':').unwrap().1[..16].to_owned();
    assert_eq!(of_owner["deviceKey"], "AUDIT_DEVICE_KEY_SHOWN");
    let expect =
        json!({"tlsVersion": "TLS 1.3", "tlsGroup": "X25519MLKEM768", "echAccepted": true, "certificate": shown});
    assert_eq!(of_owner["connection"], expect);

    let [bare, other] = stage.thieves();
    for (thief, shows) in [(bare, false), (other, true)] {
        refusals(&thief, session.access_token.expose()).await;
        let told = sys_tests::eventually("the thief in the log", async || {
            let told = entry(&owner, json!({"outcome": "AUDIT_OUTCOME_REFUSED", "method": auth::WHO_AM_I})).await;
            let certificate = told["connection"]["certificate"].as_str().unwrap_or_default().to_owned();
            Some(told).filter(|told| !told.is_null() && certificate.is_empty() != shows)
        })
        .await;
        assert_eq!(
            (&told["deviceKey"], &told["outcome"]),
            (&json!("AUDIT_DEVICE_KEY_NOT_SHOWN"), &json!("TOKEN_REFUSED"))
        );
        assert_eq!((&told["accountId"], &told["sessionId"]), (&json!(session.account_id), &json!(session.session_id)));
        assert_ne!(told["connection"]["certificate"], shown.as_str());
    }
    stage.server.stop().await;
}

/// The newest entry that is asked for; null where there is none yet.
async fn entry(reader: &sys_tests::Client, mut filter: Value) -> Value {
    filter["pageSize"] = json!(1);
    let told = reader.call(LIST_SYSTEM, filter).await.ok();
    told["entries"][0].clone()
}
