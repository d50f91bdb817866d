//! Bodies and their frames, on their way through the front and the RPC library to the gate.

use crate::input::{Bytes as Choices, parts};
use ::http::{HeaderMap, HeaderValue, header};
use bytes::Bytes;
use sys_contract::model::Flow;
use sys_core::fuzzing::heard;

const FLOWS: [Flow; 4] = [Flow::Unary, Flow::ServerStream, Flow::ClientStream, Flow::Bidi];
const FRAMED: [&str; 4] =
    ["application/grpc", "application/grpc+json", "application/grpc-web+proto", "application/grpc-web"];
/// Messages are bounded to so many bytes and a few more.
const LEAST_BOUND: usize = 16;

/// How a call comes, in three bytes, where its body is cut into pieces, and the body. What is handed over are the messages that another
/// reader of frames finds, each within its bound, up to the first that is wrong; with gzip, at least the bound holds.
pub(crate) fn body(bytes: &[u8]) {
    let [choices, body] = parts(bytes);
    let mut choices = Choices::new(choices);
    let flow = FLOWS[usize::from(choices.below(4))];
    let has_one = matches!(flow, Flow::Unary | Flow::ServerStream);
    let form = choices.next();
    let is_plain = form & 1 == 1 && flow == Flow::Unary;
    let is_packed = form & 2 == 2;
    let most_bytes = LEAST_BOUND + usize::from(choices.next());
    let (content_type, encoding) = match form >> 2 & 1 {
        _ if is_plain => ("application/proto", "content-encoding"),
        0 if flow != Flow::Unary => ("application/connect+proto", "connect-content-encoding"),
        _ => (FRAMED[usize::from(form >> 3) % FRAMED.len()], "grpc-encoding"),
    };
    let mut headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(content_type))]);
    if is_packed {
        headers.insert(encoding, HeaderValue::from_static("gzip"));
    }
    let mut pieces = Vec::new();
    let mut rest = Bytes::copy_from_slice(body);
    while !choices.is_empty() && !rest.is_empty() {
        pieces.push(rest.split_to(usize::from(choices.next()).min(rest.len())));
    }
    pieces.push(rest);
    let Some(heard) = heard(flow, most_bytes, headers, pieces) else {
        return assert!(has_one && body.len() > most_bytes, "a body of {} bytes is not read", body.len());
    };
    let messages = &heard.messages;
    assert!(messages.iter().all(|message| message.len() <= most_bytes), "a message is longer than it may be");
    assert!(!has_one || messages.len() <= 1, "one request is {messages:?}");
    if is_packed {
        return;
    }
    if is_plain {
        let whole: Vec<&[u8]> = Some(body).filter(|body| body.len() <= most_bytes).into_iter().collect();
        return assert_eq!(messages, &whole);
    }
    let (expected, end) = frames(body, most_bytes);
    if end == End::Flagged {
        // Flags that stand for nothing are passed over.
        return assert!(messages.iter().zip(&expected).all(|(heard, sent)| heard == sent), "{messages:?} {expected:?}");
    }
    let is_whole = end == End::Whole;
    if has_one {
        let is_one = is_whole && expected.len() == 1;
        assert!(messages.is_empty() || expected.first() == messages.first().map(|message| &**message).as_ref());
        assert!(!is_one || heard.is_whole, "one whole frame is not heard: {heard:?}");
    } else {
        assert!(messages.iter().zip(&expected).all(|(heard, sent)| heard == sent), "{messages:?} {expected:?}");
        assert!(messages.len() <= expected.len(), "more is heard than was sent: {messages:?} {expected:?}");
        assert!(!is_whole || (heard.is_whole && messages.len() == expected.len()), "{heard:?} {expected:?}");
    }
}

/// Where a reader of frames stops.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Whole,
    /// At a frame with a flag.
    Flagged,
    /// At what is no frame.
    Broken,
}

/// The messages up to the first frame that is none. A frame is a flag, which is 0 where nothing is packed, a length and a message.
fn frames(mut body: &[u8], most_bytes: usize) -> (Vec<&[u8]>, End) {
    let mut messages = Vec::new();
    while let [0, a, b, c, d, rest @ ..] = body {
        let length = u32::from_be_bytes([*a, *b, *c, *d]);
        let Some(length) = usize::try_from(length).ok().filter(|length| *length <= most_bytes.min(rest.len())) else {
            return (messages, End::Broken);
        };
        messages.push(&rest[..length]);
        body = &rest[length..];
    }
    let end = match body.first() {
        None => End::Whole,
        Some(0) => End::Broken,
        Some(_) => End::Flagged,
    };
    (messages, end)
}
