//! Questions in requests (DNS over HTTPS, RFC 8484), by GET and by POST.
//!
//! Whoever serves HTTPS hands over the requests for its path. What must never happen here: a status that depends on what is asked, since
//! that is said by the answer inside, or a body that is read beyond what a question can have.

use crate::{
    query::MOST_QUERY_BYTES,
    respond::{Responder, Transport, Via},
};
use bytes::{Buf, Bytes};
use data_encoding::BASE64URL_NOPAD;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body;
use http_body_util::Full;
use std::{
    fmt,
    future::{Ready, poll_fn, ready},
    net::IpAddr,
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::timeout;

/// The one media type of questions and of answers.
const DNS_MESSAGE: &str = "application/dns-message";
/// A question in base64url.
const MOST_TEXT_BYTES: usize = MOST_QUERY_BYTES.div_ceil(3) * 4;
/// What most answers fit in, padded.
const USUAL_BYTES: usize = 468;
/// How long the sender may take for the body of a question, which one packet holds.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Answers one request from this address. A question that stands in the target is answered in the first step.
pub fn answer<B>(responder: &Responder, request: Request<B>, source: IpAddr) -> Answering
where
    B: Body<Data: Send, Error: Send> + Send + 'static,
{
    match *request.method() {
        Method::GET => {
            let message = of_query(request.uri().query().unwrap_or_default());
            Answering::Now(ready(said(responder, message, source)))
        }
        Method::POST => {
            let is_question = request.headers().get(header::CONTENT_TYPE).is_some_and(is_dns_message);
            let (responder, body) = (responder.clone(), request.into_body());
            Answering::Reading(Box::pin(async move {
                let read = read(body).await;
                // Said when it is read, since clients that still send may take an answer for a failure.
                let message =
                    read.and_then(|read| is_question.then_some(read).ok_or(StatusCode::UNSUPPORTED_MEDIA_TYPE));
                said(&responder, message, source)
            }))
        }
        _ => Answering::Now(ready(refused(StatusCode::METHOD_NOT_ALLOWED))),
    }
}

/// An answer that is under way. It is small, and so is what it is put into: only what has to be waited for has memory of its own.
pub enum Answering {
    /// Nothing has to be waited for.
    Now(Ready<Response<Full<Bytes>>>),
    /// The question is to be read.
    Reading(Pin<Box<dyn Future<Output = Response<Full<Bytes>>> + Send>>),
}

impl Future for Answering {
    type Output = Response<Full<Bytes>>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Self::Now(answer) => Pin::new(answer).poll(context),
            Self::Reading(answer) => answer.as_mut().poll(context),
        }
    }
}

impl fmt::Debug for Answering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answering").finish_non_exhaustive()
    }
}

fn said(responder: &Responder, message: Result<impl AsRef<[u8]>, StatusCode>, source: IpAddr) -> Response<Full<Bytes>> {
    let mut out = Vec::with_capacity(USUAL_BYTES);
    let answered = message.and_then(|message| {
        let via = Via { transport: Transport::Https, source };
        // What is answered by silence elsewhere is no question.
        responder.answer(message.as_ref(), via, &mut out).ok_or(StatusCode::BAD_REQUEST)
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

/// All of a body, if it is no longer than a question and comes in time.
async fn read<B: Body>(body: B) -> Result<Bytes, StatusCode> {
    if body.size_hint().lower() > MOST_QUERY_BYTES as u64 {
        return Err(StatusCode::PAYLOAD_TOO_LARGE);
    }
    let mut whole = pin!(whole(body));
    // It usually is there, so that nobody has to keep the time.
    if let Poll::Ready(read) = poll_fn(|context| Poll::Ready(whole.as_mut().poll(context))).await {
        return read;
    }
    timeout(BODY_TIMEOUT, whole).await.unwrap_or(Err(StatusCode::REQUEST_TIMEOUT))
}

/// A body as it comes, up to the length of a question. One that comes at once is not copied.
async fn whole<B: Body>(body: B) -> Result<Bytes, StatusCode> {
    let mut body = pin!(body);
    let mut question = Bytes::new();
    while let Some(frame) = poll_fn(|context| body.as_mut().poll_frame(context)).await {
        let Ok(mut data) = frame.map_err(|_| StatusCode::BAD_REQUEST)?.into_data() else { continue };
        if question.len().saturating_add(data.remaining()) > MOST_QUERY_BYTES {
            return Err(StatusCode::PAYLOAD_TOO_LARGE);
        }
        let more = data.copy_to_bytes(data.remaining());
        question = if question.is_empty() { more } else { [question, more].concat().into() };
        if body.is_end_stream() {
            break;
        }
    }
    Ok(question)
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
