//! The client against a small gRPC server of its own: sessions that last, refreshed unnoticed, and errors in types.

#![allow(clippy::expect_used, reason = "clippy.toml exempts test functions, not what they share")]

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Either, Full};
use hyper::body::{Body, Incoming};
use prost::Message;
use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};
use sys_client::{
    CallError, Client, ClientError, Code, Endpoint, Session, SessionStore, Token, Wish,
    auth::{self, LoginRequest, RefreshRequest, TokenPair, WhoAmI},
};
use sys_edge::{Bind, Listener};
use tempfile::TempDir;
use tower::service_fn;

const FAR_S: i64 = 9_000_000_000;
/// A method that fails with its status in two places.
const TWICE: &str = "a.Places/Both";
/// A google.rpc.Status with an ErrorInfo of the reason `A_REASON`, in base64 without padding.
const DETAILS: &str = "GjsKKHR5cGUuZ29vZ2xlYXBpcy5jb20vZ29vZ2xlLnJwYy5FcnJvckluZm8SDwoIQV9SRUFTT04SA3N5cw";

/// A session on the server: the newest pair of tokens is number `pair`. A refresh token of another number ends it.
#[derive(Debug, Default)]
struct State {
    pair: AtomicUsize,
    ended: Mutex<bool>,
    refreshes: AtomicUsize,
    /// What each call to WhoAmI carried as `authorization`.
    seen: Mutex<Vec<Option<String>>>,
}

impl State {
    fn tokens(&self) -> TokenPair {
        let number = self.pair.load(Ordering::SeqCst);
        TokenPair {
            access_token: format!("access-{number}"),
            refresh_token: format!("refresh-{number}"),
            access_expires_at: Some(prost_types::Timestamp { seconds: FAR_S, nanos: 0 }),
            account_id: "account_1".into(),
            session_id: "session_1".into(),
        }
    }

    fn answer(&self, path: &str, authorization: Option<String>, message: &[u8]) -> Result<Vec<u8>, Code> {
        let ended = *self.ended.lock().expect("no poison");
        match path {
            auth::LOGIN => {
                let login = LoginRequest::decode(message).expect("a login");
                if login.password == "right" { Ok(self.tokens().encode_to_vec()) } else { Err(Code::Unauthenticated) }
            }
            auth::REFRESH => {
                let refresh = RefreshRequest::decode(message).expect("a refresh");
                self.refreshes.fetch_add(1, Ordering::SeqCst);
                if ended || refresh.refresh_token != self.tokens().refresh_token {
                    *self.ended.lock().expect("no poison") = true;
                    return Err(Code::Unauthenticated);
                }
                self.pair.fetch_add(1, Ordering::SeqCst);
                Ok(self.tokens().encode_to_vec())
            }
            auth::LOGOUT => Ok(Vec::new()),
            auth::WHO_AM_I => {
                self.seen.lock().expect("no poison").push(authorization.clone());
                let expect = format!("Bearer {}", self.tokens().access_token);
                if ended || authorization.is_none_or(|given| given != expect) {
                    return Err(Code::Unauthenticated);
                }
                Ok(WhoAmI { account_id: "account_1".into(), ..WhoAmI::default() }.encode_to_vec())
            }
            _ => Err(Code::Unimplemented),
        }
    }
}

struct Server {
    endpoint: Endpoint,
    state: Arc<State>,
    directory: TempDir,
}

impl Server {
    async fn start() -> Self {
        let bind = Bind::at("127.0.0.1:0".parse().expect("an address"));
        let listener = Listener::bind(bind).await.expect("bind");
        let endpoint = format!("http://{}", listener.local_addr()).parse().expect("an endpoint");
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let service = service_fn(move |request| serve(Arc::clone(&shared), request));
        tokio::spawn(listener.serve(service, std::future::pending()));
        Self { endpoint, state, directory: tempfile::tempdir().expect("a directory") }
    }

    fn store(&self) -> SessionStore {
        SessionStore::new(self.directory.path())
    }

    async fn client(&self) -> Client {
        Client::connect(&self.endpoint, self.store()).await.expect("connected")
    }

    /// A session with tokens of this number, which end at this time.
    async fn keep(&self, number: usize, access_expires_unix_s: i64) {
        let session = Session {
            server: self.endpoint.clone(),
            account_id: "account_1".into(),
            session_id: "session_1".into(),
            access_token: Token::new(format!("access-{number}")),
            access_expires_unix_s,
            refresh_token: Token::new(format!("refresh-{number}")),
            device: None,
        };
        self.store().lock().await.expect("the lock").save(&session).await.expect("saved");
    }

    fn refreshes(&self) -> usize {
        self.state.refreshes.load(Ordering::SeqCst)
    }
}

/// One unary call in gRPC's framing.
async fn serve(
    state: Arc<State>,
    request: Request<Incoming>,
) -> Result<Response<impl Body<Data = Bytes, Error = Infallible>>, Infallible> {
    let path = request.uri().path().trim_start_matches('/').to_owned();
    let authorization = request.headers().get("authorization").map(|value| value.to_str().expect("ASCII").to_owned());
    let framed = request.into_body().collect().await.expect("a whole request").to_bytes();
    let message = framed.get(5..).expect("a frame");
    let mut trailers = HeaderMap::new();
    let body = match state.answer(&path, authorization, message) {
        Ok(answer) => {
            let length = u32::try_from(answer.len()).expect("short").to_be_bytes();
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            Bytes::from([&[0], length.as_slice(), &answer].concat())
        }
        Err(code) => {
            trailers.insert("grpc-status", HeaderValue::from(i32::from(code)));
            trailers.insert("grpc-message", HeaderValue::from_static("no"));
            Bytes::new()
        }
    };
    let mut head = HeaderMap::new();
    let body = if body.is_empty() && path != TWICE {
        // An error without a message comes in the head alone ("trailers-only").
        head = trailers;
        Either::Left(Full::new(body))
    } else {
        if path == TWICE {
            head = trailers.clone();
            trailers.insert("grpc-status-details-bin", HeaderValue::from_static(DETAILS));
        }
        Either::Right(Full::new(body).with_trailers(async { Some(Ok(trailers)) }))
    };
    let mut response = Response::new(body.map_err(|_| unreachable!("no body here fails")));
    *response.headers_mut() = head;
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    Ok(response)
}

fn login(password: &str) -> LoginRequest {
    LoginRequest { email: "a@example.org".into(), password: password.into(), device_name: "test".into() }
}

#[tokio::test]
async fn a_login_is_kept_used_and_forgotten_at_logout() {
    let server = Server::start().await;
    let client = server.client().await;
    let (place, _) = server.store().choose(Wish::Best).await.expect("a place");
    let refused = client.log_in(&login("wrong"), &place).await.expect_err("a wrong password");
    assert_eq!(refused.code(), Some(Code::Unauthenticated));
    assert_eq!(client.session().await.expect("no session"), None);
    client.log_in(&login("right"), &place).await.expect("logged in");
    // A second program finds the session in the file.
    assert_eq!(server.client().await.who_am_i().await.expect("known").account_id, "account_1");
    client.log_out().await.expect("logged out");
    assert_eq!(client.session().await.expect("no session"), None);
    assert_eq!(server.refreshes(), 0);
}

#[tokio::test]
async fn a_token_about_to_end_is_refreshed_before_it_is_used() {
    let server = Server::start().await;
    server.keep(0, 0).await;
    let client = server.client().await;
    client.who_am_i().await.expect("refreshed unnoticed");
    client.who_am_i().await.expect("the fresh token is kept");
    assert_eq!(server.refreshes(), 1);
    let seen = server.state.seen.lock().expect("no poison").clone();
    assert_eq!(seen, vec![Some("Bearer access-1".to_owned()); 2], "the old token is never sent");
}

#[tokio::test]
async fn a_refused_token_is_refreshed_once_and_only_once() {
    let server = Server::start().await;
    server.keep(0, FAR_S).await;
    server.state.pair.store(0, Ordering::SeqCst);
    let client = server.client().await;
    // The server forgets the access token but not the session.
    let mut session = client.session().await.expect("readable").expect("a session");
    session.access_token = Token::new("revoked");
    server.store().lock().await.expect("the lock").save(&session).await.expect("saved");
    client.who_am_i().await.expect("refreshed and called again");
    assert_eq!(server.refreshes(), 1);
    // Refused for another reason than its token: no second try after the refresh.
    *server.state.ended.lock().expect("no poison") = true;
    let error = client.who_am_i().await.expect_err("the session has ended");
    assert!(matches!(error, ClientError::SessionEnded(_)), "{error}");
    assert_eq!(server.refreshes(), 2);
}

#[tokio::test]
async fn programs_that_refresh_at_once_do_not_replay_a_refresh_token() {
    let server = Server::start().await;
    server.keep(0, 0).await;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let client = server.client().await;
        calls.spawn(async move { client.who_am_i().await.map(|_| ()) });
    }
    while let Some(called) = calls.join_next().await {
        called.expect("no panic").expect("each of them is served");
    }
    assert_eq!(server.refreshes(), 1);
    assert!(!*server.state.ended.lock().expect("no poison"), "the server saw a replay");
}

#[tokio::test]
async fn tokens_go_to_no_other_server() {
    let (ours, other) = (Server::start().await, Server::start().await);
    ours.keep(0, FAR_S).await;
    let client = Client::connect(&other.endpoint, ours.store()).await.expect("connected");
    let error = client.who_am_i().await.expect_err("nobody is logged in there");
    assert_eq!(error.code(), Some(Code::Unauthenticated));
    assert_eq!(*other.state.seen.lock().expect("no poison"), [None]);
    assert_eq!(other.refreshes(), 0);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unreachable() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address");
    let endpoint: Endpoint = format!("http://{port}").parse().expect("an endpoint");
    let directory = tempfile::tempdir().expect("a directory");
    let error = Client::connect(&endpoint, SessionStore::new(directory.path())).await.expect_err("nobody listens");
    assert!(matches!(error, ClientError::Call(CallError::Unreachable { .. })), "{error}");
    assert_eq!(error.code(), Some(Code::Unavailable));
}

#[tokio::test]
async fn the_details_behind_a_status_are_read_wherever_the_status_stands() {
    let server = Server::start().await;
    let error = server.client().await.call_bytes(TWICE, Bytes::new()).await.expect_err("refused");
    let ClientError::Call(CallError::Refused(refused)) = error else { panic!("{error}") };
    assert_eq!(refused.to_string(), "no (UNIMPLEMENTED / A_REASON)");
}

#[tokio::test]
async fn an_unknown_method_is_a_typed_refusal() {
    let server = Server::start().await;
    let error = server.client().await.call_bytes("no.Such/Method", Bytes::new()).await.expect_err("unknown");
    let ClientError::Call(CallError::Refused(refused)) = error else { panic!("{error}") };
    assert_eq!(refused.to_string(), "no (UNIMPLEMENTED)");
    let error = server.client().await.call_bytes("not a path", Bytes::new()).await.expect_err("no path");
    assert!(matches!(error, ClientError::Call(CallError::Malformed { .. })), "{error}");
}
