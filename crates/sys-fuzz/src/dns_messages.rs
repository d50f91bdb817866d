//! Questions of DNS, as datagrams and streams bring them and as requests do.

use crate::input::{parts, text};
use ::http::{Method, Request, StatusCode, header};
use bytes::Bytes;
use hickory_proto::{
    op::{Message, MessageType},
    rr::DNSClass,
};
use http_body_util::{BodyExt, Full};
use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, LazyLock},
};
use sys_dns::{
    https,
    query::{Code, Query, Refused, parse},
    respond::{Answered, Authority, Responder, Rules},
};
use tokio::runtime::{Builder, Runtime};

/// A message. What is taken for a question, another reader takes for the same; what is answered without a zone is a message too,
/// no longer than what it answers.
pub(crate) fn query(message: &[u8]) {
    let is_silent = message.len() < 12 || message[2] & 0x80 != 0;
    let mut out = Vec::new();
    match parse(message) {
        Err(Refused::Silence) => assert!(is_silent, "{message:02x?}"),
        Err(Refused::Short(short)) => {
            assert!(!is_silent, "{message:02x?}");
            short.write(&mut out);
            assert!(out.len() <= message.len(), "{message:02x?}");
            let answer = Message::from_vec(&out).expect("a message");
            assert_eq!(answer.metadata.id, short.id);
            assert_eq!(u16::from(answer.metadata.response_code), short.code as u16, "{message:02x?}");
        }
        Ok(query) => {
            assert!(!is_silent, "{message:02x?}");
            query.write_empty(Code::NoError, true, false, &mut out);
            assert!(out.len() <= message.len(), "{message:02x?}");
            let answer = Message::from_vec(&out).expect("a message");
            assert_eq!((answer.metadata.message_type, answer.metadata.id), (MessageType::Response, query.id));
            assert_eq!(answer.queries.len(), 1);
            is_as_another_reads(message, &query, &answer);
        }
    }
}

fn is_as_another_reads(message: &[u8], query: &Query<'_>, answer: &Message) {
    let Ok(other) = Message::from_vec(message) else {
        // It looks into options that are passed over here.
        assert!(query.edns.is_some(), "{message:02x?}");
        return;
    };
    let [question] = other.queries.as_slice() else { panic!("one question: {message:02x?}") };
    assert_eq!(other.queries, answer.queries, "the question is said again");
    assert_eq!((other.metadata.id, u16::from(question.query_type())), (query.id, query.kind));
    assert_eq!(question.query_class(), DNSClass::IN);
    let mut name: Vec<u8> = Vec::new();
    for label in question.name().iter() {
        name.push(u8::try_from(label.len()).expect("a label"));
        name.extend(label.to_ascii_lowercase());
    }
    name.push(0);
    assert_eq!(name, query.name());
    assert_eq!(other.metadata.recursion_desired, query.recursion_desired);
    assert_eq!(other.metadata.checking_disabled, query.checking_disabled);
    let edns = other.edns.as_ref();
    assert_eq!(edns.map(|edns| edns.flags().dnssec_ok), query.edns.map(|edns| edns.dnssec_ok), "{message:02x?}");
    assert_eq!(edns.map(|edns| edns.max_payload().max(512)), query.edns.map(|edns| edns.payload_bytes));
}

/// Says that there is nothing.
struct Nothing;

impl Authority for Nothing {
    fn answer(&self, query: &Query<'_>, _: usize, _: &dyn Fn() -> bool, out: &mut Vec<u8>) -> Answered {
        query.write_empty(Code::NxDomain, true, false, out);
        Answered { smallest_ttl_s: 300 }
    }
}

static RESPONDER: LazyLock<Responder> = LazyLock::new(|| {
    Responder::new(Nothing, Rules { answers_per_s: None, ..Rules::default() }, Arc::new(|| 0), [[1; 16], [2; 16]])
});

/// Whose clock no target looks at: bodies are there at once.
static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().enable_time().build().expect("a runtime"));

/// A method, then the query of a target, a content type, and a body. Exactly requests of RFC 8484 with something that is a message are
/// answered by DNS, padded where their sender knows EDNS.
pub(crate) fn request(bytes: &[u8]) {
    let Some((method, rest)) = bytes.split_first() else { return };
    let method = [Method::GET, Method::POST, Method::PUT, Method::HEAD][usize::from(method % 4)].clone();
    let [query, kind, body] = parts(rest);
    let Some(query) = text(query) else { return };
    let request = Request::builder().method(&method).uri(format!("https://example.org/dns-query?{query}"));
    let Ok(request) = request.header(header::CONTENT_TYPE, kind).body(Full::<Bytes>::from(body.to_vec())) else {
        return;
    };
    let query = request.uri().query().unwrap_or_default().to_owned();
    let response = RUNTIME.block_on(https::answer(&RESPONDER, request, IpAddr::V4(Ipv4Addr::LOCALHOST)));
    let (head, read) = response.into_parts();
    let read: Bytes = RUNTIME.block_on(read.collect()).expect("a body").to_bytes();
    match message_of(&method, &query, kind, body) {
        Err(status) => assert_eq!(head.status, status, "{method} {query} {kind:02x?}"),
        Ok(message) if message.len() < 12 || message[2] & 0x80 != 0 => assert_eq!(head.status, StatusCode::BAD_REQUEST),
        Ok(message) => {
            assert_eq!(
                (head.status, &head.headers[header::CONTENT_TYPE]),
                (StatusCode::OK, &"application/dns-message".parse().expect("a value"))
            );
            let answer = Message::from_vec(&read).expect("a message");
            assert!(answer.edns.is_none() || read.len().is_multiple_of(468), "{} bytes", read.len());
            assert_eq!(read[..2], message[..2]);
        }
    }
}

/// The message of a request, read by somebody else.
fn message_of(method: &Method, query: &str, kind: &[u8], body: &[u8]) -> Result<Vec<u8>, StatusCode> {
    match *method {
        Method::GET => {
            let texts: Vec<&str> = query.split('&').filter(|pair| pair.starts_with("dns=")).collect();
            let [text] = texts.as_slice() else { return Err(StatusCode::BAD_REQUEST) };
            from_base64url(&text.as_bytes()[4..])
        }
        Method::POST => {
            let kind = text(kind).unwrap_or_default().to_ascii_lowercase();
            // The blanks of HTTP (RFC 9110 section 5.6.3), which are not all that Unicode has.
            let kind = kind.split(';').next().map(|kind| kind.trim_matches([' ', '\t']));
            let is_ours = kind == Some("application/dns-message");
            match body.len() {
                _ if !is_ours => Err(StatusCode::UNSUPPORTED_MEDIA_TYPE),
                4_097.. => Err(StatusCode::PAYLOAD_TOO_LARGE),
                _ => Ok(body.to_vec()),
            }
        }
        _ => Err(StatusCode::METHOD_NOT_ALLOWED),
    }
}

/// Base64url without padding, bit by bit: what is left over is less than a byte, and zero.
fn from_base64url(text: &[u8]) -> Result<Vec<u8>, StatusCode> {
    if text.len() > 5_464 {
        return Err(StatusCode::URI_TOO_LONG);
    }
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let (mut bits, mut count, mut read) = (0_u32, 0, Vec::new());
    for letter in text {
        let value = alphabet.iter().position(|known| known == letter).ok_or(StatusCode::BAD_REQUEST)?;
        bits = (bits << 6) | u32::try_from(value).expect("below 64");
        count += 6;
        if count >= 8 {
            count -= 8;
            read.push(u8::try_from(bits >> count).expect("8 bits"));
            bits &= (1 << count) - 1;
        }
    }
    if count < 6 && bits == 0 { Ok(read) } else { Err(StatusCode::BAD_REQUEST) }
}
