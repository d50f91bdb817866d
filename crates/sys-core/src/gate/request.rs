//! A request as it comes over HTTP, before the RPC library sees it: how long its sender waits, whether it is in a form that
//! is spoken here, and its body. What is wrong is refused with a reason, as everything else.

use super::load::Held;
use crate::{
    refusal::{Reason, Refusal},
    wire::{ENVELOPE_BYTES, IS_PACKED},
};
use bytes::{Bytes, BytesMut};
use connectrpc::{ConnectError, ConnectRpcBody, Protocol, protocol::RequestProtocol};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header, request::Parts};
use http_body::Body;
use std::{
    future::poll_fn,
    pin::Pin,
    time::{Duration, Instant},
};
use tokio::time::{Instant as TokioInstant, timeout_at};

/// The time that a body may take, whatever its size.
const GRACE: Duration = Duration::from_secs(10);
/// What arrives in each second beyond that time, at least.
const LEAST_BYTES_PER_S: u64 = 4 * 1_024;
/// The longest time that a body may take.
const LONGEST: Duration = Duration::from_secs(60);
/// The content types that calls of one request and one answer take.
pub(super) const SPOKEN: &str = "application/json, application/proto, application/grpc, application/grpc+proto, \
                      application/grpc+json, application/grpc-web, application/grpc-web+proto, application/grpc-web+json";
/// The same for streams, where each message is framed.
const SPOKEN_ON_STREAMS: &str = "application/connect+json, application/connect+proto, application/grpc, \
                                 application/grpc+proto, application/grpc+json, application/grpc-web, \
                                 application/grpc-web+proto, application/grpc-web+json";
/// The headers by which callers say how long they wait.
pub(super) const TIMEOUTS: [&str; 2] = ["grpc-timeout", "connect-timeout-ms"];
const UNPACKED: [&str; 2] = ["gzip", "identity"];

/// Until when the sender of a request that arrived at this moment waits for its answer, if he says it.
pub(crate) fn deadline(headers: &HeaderMap, arrived: Instant) -> Option<Instant> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let timeout = match text("grpc-timeout") {
        Some(timeout) => grpc_timeout(timeout),
        None => connect_timeout(text("connect-timeout-ms")?),
    };
    arrived.checked_add(timeout?)
}

/// At most eight digits and a unit ("Timeout" in the gRPC protocol).
fn grpc_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number = number(digits, 8)?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3_600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

/// At most ten digits, milliseconds ("Connect-Timeout-Ms" in the Connect protocol).
fn connect_timeout(text: &str) -> Option<Duration> {
    number(text, 10).map(Duration::from_millis)
}

fn number(digits: &str, most: usize) -> Option<u64> {
    let is_number = digits.len() <= most && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| is_number)
}

/// Nobody waits for the answer any more.
pub(super) fn in_time(deadline: Option<Instant>) -> Result<(), Refusal> {
    if deadline.is_some_and(|deadline| deadline <= Instant::now()) { Err(gone()) } else { Ok(()) }
}

pub(super) fn gone() -> Refusal {
    Refusal::new(Reason::Deadline, "the time that you gave the call was up before it was begun")
        .help("nothing was done: give it more time")
}

/// Refuses a call of one request and one answer that is in no form that is spoken here, or says itself that it is too long.
pub(crate) fn check_form(head: &Parts, most_bytes: usize) -> Result<(), Refusal> {
    // Of Connect's forms, the streaming one is for streams; the others frame all calls alike.
    let form = spoken(head, SPOKEN, |form| !form.is_streaming || form.protocol != Protocol::Connect)?;
    let encoding = if form.protocol == Protocol::Connect { "content-encoding" } else { "grpc-encoding" };
    check_encoding(head, encoding)?;
    check_length(head, most_bytes)
}

/// The same for a stream; only that of one request may not be longer than that.
pub(crate) fn check_form_of_stream(head: &Parts, most_bytes: Option<usize>) -> Result<(), Refusal> {
    let form = spoken(head, SPOKEN_ON_STREAMS, |form| form.is_streaming)?;
    let encoding = if form.protocol == Protocol::Connect { "connect-content-encoding" } else { "grpc-encoding" };
    check_encoding(head, encoding)?;
    most_bytes.map_or(Ok(()), |most_bytes| check_length(head, most_bytes.saturating_add(ENVELOPE_BYTES)))
}

fn spoken(
    head: &Parts,
    spoken: &'static str,
    is_spoken: impl Fn(&RequestProtocol) -> bool,
) -> Result<RequestProtocol, Refusal> {
    if head.method != Method::POST {
        return Err(Refusal::new(Reason::HttpMethod, "methods are called by POST").help("send the message as the body"));
    }
    let form = Protocol::detect(&head.headers).filter(|form| !form.is_text_mode && is_spoken(form));
    form.ok_or_else(|| {
        Refusal::new(Reason::MediaType, "the content type is none that this method is called with")
            .help(format!("send one of: {spoken}"))
    })
}

fn check_encoding(head: &Parts, name: &str) -> Result<(), Refusal> {
    let encoding = head.headers.get(name);
    if encoding.is_some_and(|encoding| !UNPACKED.iter().any(|unpacked| encoding == unpacked)) {
        return Err(Refusal::new(
            Reason::RequestEncoding,
            "the body is compressed in a way that is not understood here",
        )
        .help("send it uncompressed, or with gzip"));
    }
    Ok(())
}

fn check_length(head: &Parts, most_bytes: usize) -> Result<(), Refusal> {
    let declared = head.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if declared.is_some_and(|bytes: u64| bytes > u64::try_from(most_bytes).unwrap_or(u64::MAX)) {
        return Err(too_large(most_bytes));
    }
    Ok(())
}

/// A refusal in the form that the request's sender understands.
pub(crate) fn answer(refusal: Refusal, head: &Parts) -> Response<ConnectRpcBody> {
    let reason = refusal.reason;
    let error = ConnectError::from(refusal);
    let (error, with) = match reason {
        Reason::HttpMethod => (error.with_http_status(StatusCode::METHOD_NOT_ALLOWED), Some((header::ALLOW, "POST"))),
        Reason::MediaType => {
            let accept = (header::HeaderName::from_static("accept-post"), SPOKEN);
            (error.with_http_status(StatusCode::UNSUPPORTED_MEDIA_TYPE), Some(accept))
        }
        _ => (error, None),
    };
    let mut response = match reason {
        Reason::MediaType => error.into_http_response(&framed_alike(&head.headers)),
        _ => error.into_http_response(&head.headers),
    };
    if let Some((name, value)) = with {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// The content type by which whoever sends one that is not spoken reads his error: in gRPC's own frames, if it is gRPC with a
/// codec that is not known here, or as text; else in plain JSON, which is what no content type stands for.
fn framed_alike(headers: &HeaderMap) -> HeaderMap {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let framed = match () {
        () if content_type.starts_with("application/grpc-web") => Some("application/grpc-web"),
        () if content_type.starts_with("application/grpc") => Some("application/grpc"),
        () => None,
    };
    framed.map(|framed| (header::CONTENT_TYPE, HeaderValue::from_static(framed))).into_iter().collect()
}

/// What the RPC library refuses by itself: its answer has a code at most.
pub(super) fn refused_by_library(response: &Response<ConnectRpcBody>, most_bytes: usize) -> Refusal {
    const RESOURCE_EXHAUSTED: &str = "8";
    let is_too_large = response.status() == StatusCode::TOO_MANY_REQUESTS
        || response.headers().get("grpc-status").is_some_and(|status| status == RESOURCE_EXHAUSTED);
    if is_too_large {
        return too_large(most_bytes);
    }
    Refusal::new(Reason::Malformed, "the body is not one whole message, framed and compressed as its headers say")
        .help(format!("send one message of at most {most_bytes} bytes, unpacked"))
}

/// Reads the whole body of this request. What it may unpack to is `held` before anybody unpacks it.
pub(super) async fn read_from<B: Body<Data = Bytes>>(
    body: Pin<&mut B>,
    head: &Parts,
    most_bytes: usize,
    deadline: Option<Instant>,
    held: &mut Held<'_>,
) -> Result<Bytes, Refusal> {
    let body = read(body, most_bytes, deadline, held).await?;
    if is_packed(head, &body) {
        held.unpacks_to(most_bytes)?;
    }
    Ok(body)
}

/// Whether a body is to be unpacked: whole, or the message in its envelope.
fn is_packed(head: &Parts, body: &Bytes) -> bool {
    let is_whole =
        Protocol::detect(&head.headers).is_some_and(|form| form.protocol == Protocol::Connect && !form.is_streaming);
    if is_whole {
        head.headers.get_all(header::CONTENT_ENCODING).iter().any(|encoding| encoding != "identity")
    } else {
        body.first().is_some_and(|flags| flags & IS_PACKED != 0)
    }
}

/// Reads a whole body, of so many bytes at most, in the time that a body of its length may take. `held` counts its bytes.
pub(crate) async fn read<B: Body<Data = Bytes>>(
    mut body: Pin<&mut B>,
    most_bytes: usize,
    deadline: Option<Instant>,
    held: &mut Held<'_>,
) -> Result<Bytes, Refusal> {
    let begun = TokioInstant::now();
    let (mut first, mut rest) = (Bytes::new(), BytesMut::new());
    loop {
        let until = until(begun, held.body_bytes(), deadline.map(Into::into));
        let frame = timeout_at(until, poll_fn(|context| body.as_mut().poll_frame(context))).await;
        let data = match frame {
            Ok(None) => break,
            Ok(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
            // Most likely nobody is there any more who would read this.
            Ok(Some(Err(_))) => return Err(Refusal::new(Reason::Malformed, "the body broke off")),
            Err(_) => {
                return Err(Refusal::new(Reason::Deadline, "the request took too long to arrive")
                    .help("nothing was done: try again over a better connection, or send less"));
            }
        };
        held.grow(data.len())?;
        if held.body_bytes() > most_bytes.saturating_add(ENVELOPE_BYTES) {
            return Err(too_large(most_bytes));
        }
        // Almost always there is one frame, which is not copied.
        if first.is_empty() { first = data } else { rest.extend_from_slice(&data) }
    }
    if rest.is_empty() {
        return Ok(first);
    }
    let mut whole = BytesMut::with_capacity(first.len() + rest.len());
    whole.extend_from_slice(&first);
    whole.extend_from_slice(&rest);
    Ok(whole.freeze())
}

fn until(begun: TokioInstant, received_bytes: usize, deadline: Option<TokioInstant>) -> TokioInstant {
    let received_bytes = u64::try_from(received_bytes).unwrap_or(u64::MAX);
    let earned = Duration::from_millis(received_bytes.saturating_mul(1_000) / LEAST_BYTES_PER_S);
    let until = begun + GRACE.saturating_add(earned).min(LONGEST);
    deadline.map_or(until, |deadline| deadline.min(until))
}

pub(super) fn too_large(most_bytes: usize) -> Refusal {
    Refusal::new(Reason::RequestTooLarge, "the request is longer than this method takes")
        .help(format!("send at most {most_bytes} bytes"))
}

#[cfg(test)]
mod tests {
    use super::{super::load::Load, *};
    use http_body::Frame;
    use http_body_util::StreamBody;
    use std::{convert::Infallible, pin::pin};

    fn timeout_of(name: &'static str, value: &str) -> Option<Duration> {
        let arrived = Instant::now();
        let headers = HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())]);
        deadline(&headers, arrived).map(|deadline| deadline - arrived)
    }

    #[test]
    fn timeouts_are_read_as_grpc_and_connect_write_them() {
        for (text, expect) in [
            ("1H", Duration::from_secs(3_600)),
            ("2M", Duration::from_secs(120)),
            ("3S", Duration::from_secs(3)),
            ("4m", Duration::from_millis(4)),
            ("5u", Duration::from_micros(5)),
            ("99999999n", Duration::from_nanos(99_999_999)),
        ] {
            assert_eq!(timeout_of("grpc-timeout", text), Some(expect), "{text}");
        }
        for text in ["", "S", "1", "1s", "-1S", "+1S", "1.5S", "123456789S", "1é"] {
            let headers = HeaderMap::from_iter([(
                header::HeaderName::from_static("grpc-timeout"),
                HeaderValue::from_bytes(text.as_bytes()).unwrap(),
            )]);
            assert_eq!(deadline(&headers, Instant::now()), None, "{text}");
        }
        assert_eq!(timeout_of("connect-timeout-ms", "250"), Some(Duration::from_millis(250)));
        assert_eq!(timeout_of("connect-timeout-ms", "12345678901"), None);
        assert_eq!(timeout_of("connect-timeout-ms", "1s"), None);
        assert!(in_time(None).is_ok());
        assert_eq!(in_time(Some(Instant::now())).unwrap_err().reason, Reason::Deadline);
    }

    fn form(method: Method, headers: &[(&'static str, &str)]) -> Result<(), Reason> {
        let mut request = http::Request::builder().method(method);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        check_form(&request.body(()).unwrap().into_parts().0, 100).map_err(|refusal| refusal.reason)
    }

    #[test]
    fn forms_that_are_not_spoken_are_refused_by_name() {
        let kind = "content-type";
        assert_eq!(form(Method::GET, &[]), Err(Reason::HttpMethod));
        for spoken in ["application/json", "application/proto", "application/grpc", "application/grpc-web+proto"] {
            assert_eq!(form(Method::POST, &[(kind, spoken), ("content-length", "100")]), Ok(()), "{spoken}");
            let large = [(kind, spoken), ("content-length", "101")];
            assert_eq!(form(Method::POST, &large), Err(Reason::RequestTooLarge));
        }
        for foreign in
            ["text/plain", "", "application/grpc+thrift", "application/grpc-web-text", "application/connect+json"]
        {
            assert_eq!(form(Method::POST, &[(kind, foreign)]), Err(Reason::MediaType), "{foreign}");
        }
        let json = (kind, "application/json");
        assert_eq!(form(Method::POST, &[json, ("content-encoding", "gzip")]), Ok(()));
        assert_eq!(form(Method::POST, &[json, ("content-encoding", "br")]), Err(Reason::RequestEncoding));
        let grpc = (kind, "application/grpc");
        assert_eq!(form(Method::POST, &[grpc, ("grpc-encoding", "br")]), Err(Reason::RequestEncoding));
        assert_eq!(form(Method::POST, &[grpc, ("grpc-encoding", "identity")]), Ok(()));
    }

    /// A body of pieces of these sizes.
    fn body(pieces: Vec<usize>) -> impl Body<Data = Bytes, Error = Infallible> {
        let frames = pieces.into_iter().map(|bytes| Ok(Frame::data(Bytes::from(vec![7; bytes]))));
        StreamBody::new(futures_util::stream::iter(frames))
    }

    #[tokio::test]
    async fn a_body_is_read_whole_and_no_longer_than_it_may_be() {
        let load = Load::default();
        for pieces in [vec![], vec![100], vec![0, 1, 98, 1], vec![50 + ENVELOPE_BYTES, 50]] {
            let bytes: usize = pieces.iter().sum();
            assert_eq!(read(pin!(body(pieces)), 100, None, &mut load.hold(None)).await.unwrap(), vec![7; bytes]);
        }
        let refusal = read(pin!(body(vec![60, 60])), 100, None, &mut load.hold(None)).await.unwrap_err();
        assert_eq!(refusal.reason, Reason::RequestTooLarge);
        assert!(refusal.help.is_some_and(|help| help.contains("100")));
    }

    #[tokio::test]
    async fn a_body_is_not_waited_for_longer_than_its_sender_waits_for_its_answer() {
        let never = StreamBody::new(futures_util::stream::pending::<Result<Frame<Bytes>, Infallible>>());
        let until = Instant::now() + Duration::from_millis(20);
        let refusal = read(pin!(never), 100, Some(until), &mut Load::default().hold(None)).await.unwrap_err();
        assert_eq!(refusal.reason, Reason::Deadline);
    }

    #[test]
    fn a_body_earns_its_time_by_arriving() {
        let begun = TokioInstant::now();
        let time = |received, deadline| until(begun, received, deadline) - begun;
        assert_eq!(time(0, None), GRACE);
        assert_eq!(time(LEAST_BYTES_PER_S.try_into().unwrap(), None), GRACE + Duration::from_secs(1));
        assert_eq!(time(1 << 30, None), LONGEST);
        assert_eq!(time(1 << 30, Some(begun)), Duration::ZERO);
    }
}
