//! The head of a request, as the listener and the gate read it: the host, and the token.

use crate::input::text;
use ::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};
use sys_contract::model::Flow;
use sys_core::{
    fuzzing::{form as form_of, refused},
    refusal::Reason,
};
use sys_edge::{AllowedHosts, fuzzing::admit};

/// The hosts of a listener on loopback.
const OURS: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// A request's target on the first line, then its headers. Only requests whose every host is one of ours are let in, and a
/// token is what stands behind the one `Bearer`.
pub(crate) fn head(bytes: &[u8]) {
    let Some((request, lines)) = request(bytes) else { return };
    let hosts = AllowedHosts::loopback();
    let named: Vec<&[u8]> = lines.iter().filter(|(name, _)| name == header::HOST).map(|(_, value)| &**value).collect();
    match admit(&hosts, &request) {
        Ok(()) => {
            let target = request.uri().authority().map(|authority| authority.as_str().as_bytes());
            assert!(named.len() < 2 && (target.is_some() || named.len() == 1), "a request names one host: {named:?}");
            assert!(target.into_iter().chain(named).all(is_ours), "a foreign host was let in: {request:?}");
        }
        Err(status) => assert!(matches!(status.as_u16(), 400 | 421), "{status}"),
    }
    let waits = sys_core::fuzzing::patience(request.headers()).map(|waits| waits.as_nanos());
    assert_eq!(waits, patience(&lines), "{lines:?}");
    let tokens: Vec<&[u8]> =
        lines.iter().filter(|(name, _)| name == header::AUTHORIZATION).map(|(_, value)| &**value).collect();
    let expected = match tokens.as_slice() {
        [] => None,
        [line] => Some(token(line)),
        [..] => Some(String::new()),
    };
    assert_eq!(sys_core::fuzzing::bearer(request.headers()).map(str::to_owned), expected, "{tokens:?}");
}

/// How many messages go which way, and the bound of one, in two bytes; then a request as above. What is let in is a POST in one of the forms of
/// its kind, packed with gzip at most, and does not say itself that it is too long. A refusal comes in the form that was asked in.
pub(crate) fn form(bytes: &[u8]) {
    let Some(([flow, bound], rest)) = bytes.split_first_chunk() else { return };
    let Some((request, lines)) = request(rest) else { return };
    let (mut head, ()) = request.into_parts();
    head.method = if flow & 4 == 4 { Method::GET } else { Method::POST };
    let flow = [Flow::Unary, Flow::ServerStream, Flow::ClientStream, Flow::Bidi][usize::from(flow & 3)];
    let most_bytes = usize::from(*bound);
    let read = form_of(&head, flow, most_bytes);
    assert_eq!(read, as_spoken(&head.method, &lines, flow, most_bytes), "{flow:?} {lines:?}");
    if let Err(reason) = read {
        let (status, headers) = refused(reason, &head);
        is_in_form(status, &headers, &lines, reason);
    }
}

/// Whether a form is spoken here, read from the lines.
fn as_spoken(method: &Method, lines: &Lines, flow: Flow, most_bytes: usize) -> Result<(), Reason> {
    let first = |wanted: &str| lines.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_slice());
    if method != Method::POST {
        return Err(Reason::HttpMethod);
    }
    let content_type = first("content-type").filter(|kind| is_visible(kind)).and_then(text).unwrap_or_default();
    let content_type = content_type.split(';').next().unwrap_or_default().trim();
    let is_connect = match content_type {
        "application/grpc" | "application/grpc+proto" | "application/grpc+json" => false,
        "application/grpc-web" | "application/grpc-web+proto" | "application/grpc-web+json" => false,
        "application/json" | "application/proto" if flow == Flow::Unary => true,
        "application/connect+json" | "application/connect+proto" if flow != Flow::Unary => true,
        _ => return Err(Reason::MediaType),
    };
    let encoding = match (is_connect, flow) {
        (false, _) => "grpc-encoding",
        (true, Flow::Unary) => "content-encoding",
        (true, _) => "connect-content-encoding",
    };
    if first(encoding).is_some_and(|encoding| !matches!(encoding, b"gzip" | b"identity")) {
        return Err(Reason::RequestEncoding);
    }
    let bound = match flow {
        Flow::Unary => most_bytes,
        Flow::ServerStream => most_bytes + 5,
        Flow::ClientStream | Flow::Bidi => return Ok(()),
    };
    let length = first("content-length").and_then(text).and_then(|length| length.parse::<u64>().ok());
    if length.is_some_and(|length| length > bound as u64) { Err(Reason::RequestTooLarge) } else { Ok(()) }
}

/// Whether an answer can be read by whoever sent these lines: gRPC's with its status in the headers or behind the body, others with one of HTTP.
fn is_in_form(status: StatusCode, headers: &HeaderMap, lines: &Lines, reason: Reason) {
    let answered = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let sent = lines.iter().find(|(name, _)| name == header::CONTENT_TYPE).map(|(_, value)| value.as_slice());
    let is_grpc = sent.is_some_and(|sent| is_visible(sent) && sent.starts_with(b"application/grpc"));
    let answers_grpc = answered.starts_with("application/grpc");
    assert!(answered.starts_with("application/") && (is_grpc || !answers_grpc), "{sent:?}: {answered}");
    match reason {
        // Where answers are framed, 200 stands above all of them.
        Reason::HttpMethod => {
            let is_framed = answers_grpc || answered.starts_with("application/connect");
            assert!(is_framed || status == StatusCode::METHOD_NOT_ALLOWED, "{status}");
        }
        // Also of a codec that is not known here.
        Reason::MediaType => assert!(headers.contains_key("accept-post") && is_grpc == answers_grpc, "{headers:?}"),
        _ => assert_eq!(is_grpc, answers_grpc, "{sent:?}: {answered}"),
    }
}

/// How long a sender waits, in nanoseconds: eight digits and a unit for gRPC, ten digits for Connect.
fn patience(lines: &[(HeaderName, Vec<u8>)]) -> Option<u128> {
    let first = |wanted: &str| lines.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_slice());
    let number = |digits: &[u8], most: usize| {
        let is_number = (1..=most).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
        is_number.then(|| digits.iter().fold(0, |number, digit| number * 10 + u128::from(digit - b'0')))
    };
    if let Some(timeout) = first("grpc-timeout").filter(|timeout| is_visible(timeout)) {
        let (unit, digits) = timeout.split_last()?;
        let nanoseconds = [
            (b'H', 3_600_000_000_000),
            (b'M', 60_000_000_000),
            (b'S', 1_000_000_000),
            (b'm', 1_000_000),
            (b'u', 1_000),
            (b'n', 1),
        ];
        let (_, each) = nanoseconds.iter().find(|(name, _)| name == unit)?;
        return number(digits, 8).map(|number| number * each);
    }
    number(first("connect-timeout-ms")?, 10).map(|number| number * 1_000_000)
}

/// Visible ASCII, blanks and tabs: what a header's value has as a text.
fn is_visible(line: &[u8]) -> bool {
    line.iter().all(|byte| *byte == b'\t' || (32..127).contains(byte))
}

/// The headers of a request as they were written, in their order.
type Lines = Vec<(HeaderName, Vec<u8>)>;

/// The request, and its headers as they were written.
fn request(bytes: &[u8]) -> Option<(Request<()>, Lines)> {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let mut request = Request::new(());
    *request.uri_mut() = text(lines.next()?)?.parse().ok()?;
    let mut read = Vec::new();
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        let value = line[colon + 1..].trim_ascii();
        request.headers_mut().append(&name, HeaderValue::from_bytes(value).ok()?);
        read.push((name, value.to_vec()));
    }
    Some((request, read))
}

/// A host without regard to case, and any port behind it.
fn is_ours(authority: &[u8]) -> bool {
    let Some(authority) = text(authority).map(str::to_ascii_lowercase) else { return false };
    OURS.iter().any(|ours| {
        authority.strip_prefix(ours).is_some_and(|rest| {
            let port = rest.strip_prefix(':').unwrap_or(rest);
            port.bytes().all(|byte| byte.is_ascii_digit()) && (rest.is_empty() || rest.starts_with(':'))
        })
    })
}

/// The token of a line that holds visible ASCII alone; else none that anybody could have.
fn token(line: &[u8]) -> String {
    let Some(line) = text(line).filter(|line| is_visible(line.as_bytes())) else { return String::new() };
    let scheme = line.get(..7).unwrap_or_default();
    if scheme.eq_ignore_ascii_case("bearer ") { line[7..].trim().to_owned() } else { String::new() }
}
