//! What is taken for a collector, for its roots, and for what it wants to hear.

use super::*;

#[test]
fn a_collector_is_named_by_the_url_that_its_documentation_shows() {
    for (text, is_https, host, port, path) in [
        ("http://127.0.0.1:4318", false, "127.0.0.1", 4318, "/v1/traces"),
        ("http://localhost:4318/", false, "localhost", 4318, "/v1/traces"),
        ("http://[::1]:4318", false, "::1", 4318, "/v1/traces"),
        ("https://collector.example", true, "collector.example", 443, "/v1/traces"),
        ("https://192.0.2.1:4318/otlp/", true, "192.0.2.1", 4318, "/otlp/v1/traces"),
        ("https://collector.example/x/v1/traces", true, "collector.example", 443, "/x/v1/traces"),
    ] {
        let endpoint: Endpoint = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!((endpoint.is_https, endpoint.host.as_str()), (is_https, host), "{text}");
        assert_eq!((endpoint.port, endpoint.path.as_str()), (port, path), "{text}");
    }
}

#[test]
fn what_is_no_collector_is_refused_with_what_to_write() {
    use EndpointError::{More, NotOne, Plain};
    for (text, expect) in [
        ("", NotOne),
        ("127.0.0.1:4318", NotOne),
        ("/v1/traces", NotOne),
        ("grpc://127.0.0.1:4317", NotOne),
        ("https://", NotOne),
        ("https:///v1", NotOne),
        ("http://collector.example:4318", Plain),
        ("http://192.0.2.1:4318", Plain),
        ("http://0.0.0.0:4318", Plain),
        ("http://localhost.example:4318", Plain),
        ("https://user:secret@collector.example", More),
        ("https://collector.example/?key=secret", More),
        ("https://collector.example/#x", More),
    ] {
        assert_eq!(text.parse::<Endpoint>(), Err(expect), "{text}");
    }
}

#[test]
fn headers_are_lines_and_their_values_are_shown_to_nobody() {
    let headers: Headers = "Authorization: Bearer canary\n\nx-org:  canary \n".parse().expect("two headers");
    let pairs: Vec<_> = headers.0.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    assert_eq!(pairs, [("authorization", &b"Bearer canary"[..]), ("x-org", b"canary")]);
    assert!(!format!("{headers:?} {:?}", headers.0).contains("canary"));
    let error = |text: &str| text.parse::<Headers>().expect_err(text);
    assert_eq!(error("a: b\ncanary"), HeadersError::NotOne(2));
    assert_eq!(error("a b: canary"), HeadersError::NotOne(1));
    assert_eq!(error("a: can\u{7f}ary"), HeadersError::NotOne(1));
    assert_eq!(error("Host: canary"), HeadersError::Ours { line: 1, name: header::HOST });
    assert_eq!(error(&"a: b\n".repeat(17)), HeadersError::TooMany);
}

#[test]
fn roots_are_certificates_or_nothing_is_believed() {
    assert!(Roots::of(None).is_ok());
    for none in ["", "x", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        assert_eq!(Roots::of(Some(none)).map(drop), Err(RootsError), "{none}");
    }
}
