//! What browsers are told with every answer, and what pages of other websites may ask.

#![allow(clippy::expect_used, reason = "clippy.toml exempts test functions, not what they share")]

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header, request::Builder};
use http_body_util::{BodyExt, Either, Full};
use std::{
    convert::Infallible,
    future::ready,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use sys_edge::{
    Connection,
    hygiene::{Hsts, Hygiene, Origins, SecurityTxt},
    tls::{Ech, Facts, Group, Protocol, Version},
};
use tower::{ServiceExt, service_fn};

const APP: &str = "https://app.example.net";
const EVIL: &str = "https://evil.example";
const TOKEN_HEADERS: [&str; 7] = [
    "authorization",
    "content-type",
    "connect-protocol-version",
    "connect-timeout-ms",
    "grpc-timeout",
    "x-grpc-web",
    "x-user-agent",
];

type Answer = Response<Either<Full<Bytes>, Full<Bytes>>>;

fn hygiene() -> Hygiene {
    let security_txt = SecurityTxt::new(["mailto:security@example.org"], "2027-06-30T00:00:00Z").ok();
    Hygiene { hsts: Hsts::Preload, cors_origins: Origins::parse([APP]).expect("an origin"), security_txt }
}

fn connection(is_tls: bool) -> Connection {
    let addr = SocketAddr::from(([127, 0, 0, 1], 1));
    let facts = Facts {
        version: Version::Tls13,
        group: Group::X25519MlKem768,
        ech: Ech::Accepted,
        protocol: Protocol::Http2,
        client_certificate: None,
    };
    Connection { number: 1, peer: addr, local: addr, tls: is_tls.then(|| Arc::new(facts)) }
}

fn request(method: Method, path: &str) -> Builder {
    Request::builder().method(method).uri(path).header(header::HOST, "org.example").extension(connection(true))
}

/// The answer, and whether the service behind was asked for it. That one says things of its own.
async fn ask(hygiene: Hygiene, request: Builder) -> (Answer, bool) {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let service = service_fn(move |_: Request<()>| {
        counted.fetch_add(1, Ordering::SeqCst);
        let response = Response::builder()
            .header(header::SERVER, "banner/1.0")
            .header(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*")
            .header(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, "true")
            .header(header::VARY, "accept-encoding")
            .body(Full::new(Bytes::from_static(b"served")));
        ready(Ok::<_, Infallible>(response.expect("a response")))
    });
    let answer = hygiene.around(service).oneshot(request.body(()).expect("a request")).await.expect("infallible");
    (answer, asked.load(Ordering::SeqCst) == 1)
}

fn said<'a>(answer: &'a Answer, name: &str) -> Vec<&'a str> {
    answer.headers().get_all(name).iter().map(|value| value.to_str().expect("text")).collect()
}

#[tokio::test]
async fn every_answer_carries_the_strictest_word() {
    for (method, path, origin) in [
        (Method::POST, "/notes.v1.NoteService/GetNote", None),
        (Method::GET, "/", None),
        (Method::GET, "/.well-known/security.txt", None),
        (Method::POST, "/notes.v1.NoteService/GetNote", Some(EVIL)),
        (Method::POST, "/notes.v1.NoteService/GetNote", Some(APP)),
        (Method::OPTIONS, "/notes.v1.NoteService/GetNote", Some(EVIL)),
    ] {
        let mut asks = request(method, path).header("access-control-request-method", "POST");
        if let Some(origin) = origin {
            asks = asks.header(header::ORIGIN, origin);
        }
        let (answer, _) = ask(hygiene(), asks).await;
        assert_eq!(said(&answer, "x-content-type-options"), ["nosniff"], "{path}");
        assert_eq!(said(&answer, "referrer-policy"), ["no-referrer"], "{path}");
        assert_eq!(said(&answer, "cache-control"), ["no-store"], "{path}");
        assert_eq!(said(&answer, "cross-origin-opener-policy"), ["same-origin"], "{path}");
        assert_eq!(said(&answer, "cross-origin-embedder-policy"), ["require-corp"], "{path}");
        assert_eq!(said(&answer, "cross-origin-resource-policy"), ["same-origin"], "{path}");
        let policy = said(&answer, "content-security-policy");
        assert!(policy.len() == 1 && policy[0].starts_with("default-src 'none'; "), "{path}: {policy:?}");
        assert!(policy[0].contains("frame-ancestors 'none'") && !policy[0].contains("unsafe"), "{path}: {policy:?}");
        assert_eq!(said(&answer, "strict-transport-security").len(), 1, "{path}");
        assert_eq!(said(&answer, "access-control-allow-credentials"), [""; 0], "{path}");
        assert_eq!(said(&answer, "server"), [""; 0], "{path}");
        assert!(said(&answer, "vary").iter().any(|vary| vary.contains("origin")), "{path}");
    }
}

#[tokio::test]
async fn to_stay_with_tls_is_said_over_tls_and_of_a_domain_alone() {
    for (host, is_tls, is_said) in [
        ("org.example", true, true),
        ("sys.org.example:8443", true, true),
        ("org.example", false, false),
        ("localhost", true, false),
        ("app.LocalHost:8443", true, false),
        ("127.0.0.1", true, false),
        ("192.0.2.7:8443", true, false),
        ("[2001:db8::1]", true, false),
    ] {
        let asks = Request::get("/x").header(header::HOST, host).extension(connection(is_tls));
        let (answer, _) = ask(hygiene(), asks).await;
        assert_eq!(!said(&answer, "strict-transport-security").is_empty(), is_said, "{host} {is_tls}");
    }
    let (answer, _) = ask(Hygiene { hsts: Hsts::Off, ..hygiene() }, request(Method::GET, "/x")).await;
    assert!(said(&answer, "strict-transport-security").is_empty());
}

#[tokio::test]
async fn a_page_of_a_configured_website_may_call_and_read_and_shows_no_cookie() {
    let asks = request(Method::POST, "/x").header(header::ORIGIN, APP).header("sec-fetch-site", "cross-site");
    let (answer, is_served) = ask(hygiene(), asks).await;
    assert!(is_served);
    assert_eq!(said(&answer, "access-control-allow-origin"), [APP]);
    assert_eq!(said(&answer, "access-control-expose-headers"), ["grpc-status, grpc-message, grpc-status-details-bin"]);
    assert_eq!(said(&answer, "vary"), ["accept-encoding", "origin"]);

    let asks =
        request(Method::OPTIONS, "/x").header(header::ORIGIN, APP).header("access-control-request-method", "POST");
    let (answer, is_served) = ask(hygiene(), asks).await;
    assert!(!is_served, "a preflight is answered before anybody else");
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    assert_eq!(said(&answer, "access-control-allow-origin"), [APP]);
    assert_eq!(said(&answer, "access-control-allow-methods"), ["GET, POST"]);
    let allowed = said(&answer, "access-control-allow-headers").concat();
    let allowed: Vec<_> = allowed.split(", ").collect();
    assert_eq!(allowed, TOKEN_HEADERS);
    assert!(said(&answer, "access-control-max-age") == ["7200"]);
}

#[tokio::test]
async fn a_page_of_any_other_website_may_neither_call_nor_read() {
    for origin in
        [EVIL, "null", "https://app.example.net.evil.example", "http://app.example.net", "https://app.example.net:444"]
    {
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH] {
            let (answer, is_served) = ask(hygiene(), request(method, "/x").header(header::ORIGIN, origin)).await;
            assert_eq!((answer.status(), is_served), (StatusCode::FORBIDDEN, false), "{origin}");
            assert!(said(&answer, "access-control-allow-origin").is_empty());
        }
        let (answer, is_served) = ask(hygiene(), request(Method::GET, "/x").header(header::ORIGIN, origin)).await;
        assert!(is_served && said(&answer, "access-control-allow-origin").is_empty(), "{origin}");
        let asks = request(Method::OPTIONS, "/x").header(header::ORIGIN, origin);
        let (answer, is_served) = ask(hygiene(), asks.header("access-control-request-method", "POST")).await;
        assert_eq!((answer.status(), is_served), (StatusCode::FORBIDDEN, false), "{origin}");
        assert!(
            !answer.headers().keys().any(|name| name.as_str().starts_with("access-control")),
            "{:?}",
            answer.headers()
        );
    }
    // A form, which sends no `Origin` in some browsers.
    let (answer, is_served) = ask(hygiene(), request(Method::POST, "/x").header("sec-fetch-site", "cross-site")).await;
    assert_eq!((answer.status(), is_served), (StatusCode::FORBIDDEN, false));
    // Where no website is configured, none may.
    let asks = request(Method::POST, "/x").header(header::ORIGIN, APP);
    assert!(!ask(Hygiene::default(), asks).await.1);
}

#[tokio::test]
async fn our_own_pages_and_programs_that_are_no_browsers_are_served() {
    let (answer, is_served) = ask(hygiene(), request(Method::POST, "/x")).await;
    assert!(is_served && said(&answer, "access-control-allow-origin").is_empty());
    assert!(ask(hygiene(), request(Method::POST, "/x").header(header::ORIGIN, "https://org.example")).await.1);
    let asks = request(Method::POST, "/x").header(header::ORIGIN, "null").header("sec-fetch-site", "same-origin");
    assert!(ask(hygiene(), asks).await.1);
    // `OPTIONS` that is no preflight is anybody's.
    assert!(ask(hygiene(), request(Method::OPTIONS, "/x").header(header::ORIGIN, EVIL)).await.1);
}

async fn body(answer: Answer) -> String {
    let bytes = answer.into_body().collect().await.expect("a body").to_bytes();
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

#[tokio::test]
async fn whom_to_tell_of_a_hole_stands_where_people_look() {
    let path = "/.well-known/security.txt";
    let (answer, is_served) = ask(hygiene(), request(Method::GET, path)).await;
    assert!(!is_served && said(&answer, "content-type") == ["text/plain; charset=utf-8"]);
    let whole = body(answer).await;
    assert_eq!(whole, "Contact: mailto:security@example.org\nExpires: 2027-06-30T00:00:00Z\n");
    let (answer, _) = ask(hygiene(), request(Method::HEAD, path)).await;
    assert_eq!(answer.headers()[header::CONTENT_LENGTH], HeaderValue::from(whole.len()));
    assert_eq!(body(answer).await, "");
    assert!(ask(hygiene(), request(Method::POST, path)).await.1, "what is no question for it is somebody else's");
    assert!(ask(Hygiene::default(), request(Method::GET, path)).await.1, "there is none unless it is configured");
}

#[tokio::test]
async fn the_page_says_what_is_protected_on_its_own_connection() {
    let (answer, is_served) = ask(hygiene(), request(Method::GET, "/")).await;
    assert!(!is_served && said(&answer, "content-type") == ["text/html; charset=utf-8"]);
    let policy = said(&answer, "content-security-policy").concat();
    assert!(policy.contains("style-src 'sha256-"), "{policy}");
    let page = body(answer).await;
    assert!(page.contains("Your network cannot see which name you asked for"), "{page}");
    let asks = Request::get("/").header(header::HOST, "localhost").extension(connection(false));
    assert!(body(ask(hygiene(), asks).await.0).await.contains("is not encrypted"));
    assert!(ask(hygiene(), request(Method::POST, "/")).await.1);
}
