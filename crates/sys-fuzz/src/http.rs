//! The head of a request, as the listener and the gate read it: the host, and the token.

use crate::input::text;
use ::http::{HeaderName, HeaderValue, Request, header};
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
