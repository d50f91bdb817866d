//! Questions in requests (DNS over HTTPS, RFC 8484), by GET and by POST.
//!
//! Whoever serves HTTPS hands over the requests for its path. What must never happen here: a status that depends on what is asked, since
//! that is said by the answer inside, or a body that is read beyond what a question can have.

use crate::{
    query::MOST_QUERY_BYTES,
    respond::{Responder, Transport, Via},
};
use bytes::Bytes;
use data_encoding::BASE64URL_NOPAD;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body;
use http_body_util::{BodyExt, Collected, Full, LengthLimitError, Limited};
use std::{error::Error, net::IpAddr, time::Duration};
use tokio::time::timeout;

/// The one media type of questions and of answers.
const DNS_MESSAGE: &str = "application/dns-message";
/// A question in base64url.
const MOST_TEXT_BYTES: usize = MOST_QUERY_BYTES.div_ceil(3) * 4;
/// How long the sender may take for the body of a question, which one packet holds.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Answers one request from this address.
pub async fn answer<B>(responder: &Responder, request: Request<B>, source: IpAddr) -> Response<Full<Bytes>>
where
    B: Body,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let message = match *request.method() {
        Method::GET => of_query(request.uri().query().unwrap_or_default()).map(Bytes::from),
        Method::POST => of_body(request).await,
        _ => Err(StatusCode::METHOD_NOT_ALLOWED),
    };
    let mut out = Vec::new();
    let answered = message.and_then(|message| {
        let via = Via { transport: Transport::Https, source };
        // What is answered by silence elsewhere is no question.
        responder.answer(&message, via, &mut out).ok_or(StatusCode::BAD_REQUEST)
    });
    match answered {
        Ok(answered) => found(out, answered.smallest_ttl_s),
        Err(status) => refused(status),
    }
}

/// The message that stands in the one parameter `dns` of a target.
fn of_query(query: &str) -> Result<Vec<u8>, StatusCode> {
    let mut values = query.split('&').filter_map(|pair| pair.strip_prefix("dns="));
    let (Some(text), None) = (values.next(), values.next()) else { return Err(StatusCode::BAD_REQUEST) };
    if text.len() > MOST_TEXT_BYTES {
        return Err(StatusCode::URI_TOO_LONG);
    }
    BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| StatusCode::BAD_REQUEST)
}

async fn of_body<B>(request: Request<B>) -> Result<Bytes, StatusCode>
where
    B: Body,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    if !request.headers().get(header::CONTENT_TYPE).is_some_and(is_dns_message) {
        return Err(StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
    let body = request.into_body();
    if body.size_hint().lower() > MOST_QUERY_BYTES as u64 {
        return Err(StatusCode::PAYLOAD_TOO_LARGE);
    }
    let read = timeout(BODY_TIMEOUT, Limited::new(body, MOST_QUERY_BYTES).collect()).await;
    let read = read.map_err(|_| StatusCode::REQUEST_TIMEOUT)?;
    read.map(Collected::to_bytes).map_err(|error| {
        let is_too_long = error.is::<LengthLimitError>();
        if is_too_long { StatusCode::PAYLOAD_TOO_LARGE } else { StatusCode::BAD_REQUEST }
    })
}

/// Whether this content type is the one of questions, whatever parameters it has.
fn is_dns_message(kind: &HeaderValue) -> bool {
    let kind = kind.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
    kind.trim().eq_ignore_ascii_case(DNS_MESSAGE)
}

fn found(answer: Vec<u8>, ttl_s: u32) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(answer));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(DNS_MESSAGE));
    // Not kept longer than any of its records (RFC 8484 section 5.1).
    if let Ok(kept) = HeaderValue::try_from(format!("max-age={ttl_s}")) {
        headers.insert(header::CACHE_CONTROL, kept);
    }
    response
}

fn refused(status: StatusCode) -> Response<Full<Bytes>> {
    let text = match status {
        StatusCode::METHOD_NOT_ALLOWED => "ask by GET with ?dns= or by POST (RFC 8484)\n",
        StatusCode::UNSUPPORTED_MEDIA_TYPE => "send application/dns-message (RFC 8484)\n",
        StatusCode::PAYLOAD_TOO_LARGE | StatusCode::URI_TOO_LONG => "send one question, which is shorter\n",
        StatusCode::REQUEST_TIMEOUT => "send the question at once\n",
        _ => "send one DNS question, by GET as ?dns= in base64url without padding (RFC 8484)\n",
    };
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(header::ALLOW, HeaderValue::from_static("GET, POST"));
    }
    if status == StatusCode::UNSUPPORTED_MEDIA_TYPE {
        headers.insert(header::ACCEPT, HeaderValue::from_static(DNS_MESSAGE));
    }
    response
}

#[cfg(test)]
mod tests;
