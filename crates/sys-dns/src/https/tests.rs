//! Questions as requests, good ones and malformed ones.

use super::*;
use crate::respond::tests::{question, responder};
use hickory_proto::op::Message;
use http_body::Frame;
use http_body_util::BodyExt;

async fn ask(request: Request<Full<Bytes>>) -> (StatusCode, http::HeaderMap, Bytes) {
    let (responder, _) = responder(None);
    let response = answer(&responder, request, "192.0.2.9".parse().unwrap()).await;
    let (head, body) = response.into_parts();
    (head.status, head.headers, body.collect().await.unwrap().to_bytes())
}

fn get(query: &str) -> Request<Full<Bytes>> {
    Request::get(format!("https://example.org/dns-query{query}")).body(Full::default()).unwrap()
}

fn post(kind: Option<&str>, body: Vec<u8>) -> Request<Full<Bytes>> {
    let request = Request::post("https://example.org/dns-query");
    let request = kind.into_iter().fold(request, |request, kind| request.header(header::CONTENT_TYPE, kind));
    request.body(Full::from(body)).unwrap()
}

#[tokio::test]
async fn a_question_is_answered_by_get_and_post_alike_and_kept_as_long_as_its_records() {
    let message = question("mail.example.org", 1, Some((1_232, false, &[])));
    let text = BASE64URL_NOPAD.encode(&message);
    let requests = [
        get(&format!("?dns={text}")),
        get(&format!("?ct=application/dns-message&dns={text}&x")),
        post(Some(DNS_MESSAGE), message.clone()),
        post(Some("Application/DNS-Message; charset=x"), message),
    ];
    for request in requests {
        let (status, headers, body) = ask(request).await;
        assert_eq!(
            (status, &headers[header::CONTENT_TYPE], &headers[header::CACHE_CONTROL]),
            (StatusCode::OK, &HeaderValue::from_static(DNS_MESSAGE), &HeaderValue::from_static("max-age=600"))
        );
        let answer = Message::from_vec(&body).unwrap();
        assert_eq!((answer.answers.len(), body.len() % 468), (1, 0));
    }
    // What does not exist is kept as long as the SOA says.
    let nothing = question("no.example.org", 1, None);
    let (_, headers, _) = ask(post(Some(DNS_MESSAGE), nothing)).await;
    assert_eq!(headers[header::CACHE_CONTROL], "max-age=300");
}

#[tokio::test]
async fn a_malformed_question_is_answered_within_dns_and_none_at_all_by_a_status() {
    let mut malformed = question("example.org", 1, None);
    malformed.push(0);
    let (status, headers, body) = ask(post(Some(DNS_MESSAGE), malformed)).await;
    assert_eq!((status, &headers[header::CACHE_CONTROL]), (StatusCode::OK, &HeaderValue::from_static("max-age=0")));
    assert_eq!(body[3] & 0x0f, 1);
    let mut answer = question("example.org", 1, None);
    answer[2] |= 0x80;
    for silent in [answer, vec![], vec![0; 11]] {
        assert_eq!(ask(post(Some(DNS_MESSAGE), silent)).await.0, StatusCode::BAD_REQUEST);
    }
}

#[tokio::test]
async fn what_is_no_request_of_rfc_8484_is_told_why() {
    let message = question("example.org", 1, None);
    let text = BASE64URL_NOPAD.encode(&message);
    let check = async |request, expected: u16| {
        let (status, headers, body) = ask(request).await;
        assert_eq!(status.as_u16(), expected);
        assert_eq!(headers[header::CACHE_CONTROL], "no-store");
        assert!(body.ends_with(b"\n"));
        headers
    };
    for query in ["", "?", "?dns", "?dns=", "?dns=%00", "?dns=AAA=", "?dns=++++", "?DNS=AAAA"] {
        check(get(query), 400).await;
    }
    check(get(&format!("?dns={text}&dns={text}")), 400).await;
    check(get(&format!("?dns={text}=")), 400).await;
    check(get(&format!("?dns={}", "A".repeat(6_000))), 414).await;
    let headers = check(post(None, message.clone()), 415).await;
    assert_eq!(headers[header::ACCEPT], DNS_MESSAGE);
    check(post(Some("application/dns-json"), message.clone()), 415).await;
    check(post(Some(DNS_MESSAGE), vec![0; MOST_QUERY_BYTES + 1]), 413).await;
    for method in [Method::PUT, Method::HEAD, Method::DELETE, Method::OPTIONS] {
        let mut request = get(&format!("?dns={text}"));
        *request.method_mut() = method;
        assert_eq!(check(request, 405).await[header::ALLOW], "GET, POST");
    }
}

/// A body of so many pieces of 512 bytes, whose length nobody is told beforehand.
struct Pieces(usize);

impl Body for Pieces {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let Some(left) = self.0.checked_sub(1) else { return Poll::Ready(None) };
        self.0 = left;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[0; 512])))))
    }
}

#[tokio::test]
async fn a_body_without_a_length_is_read_up_to_the_bound() {
    let (responder, _) = responder(None);
    for (pieces, expected) in
        [(8, StatusCode::OK), (9, StatusCode::PAYLOAD_TOO_LARGE), (usize::MAX, StatusCode::PAYLOAD_TOO_LARGE)]
    {
        let request = Request::post("/").header(header::CONTENT_TYPE, DNS_MESSAGE).body(Pieces(pieces)).unwrap();
        let response = answer(&responder, request, "192.0.2.9".parse().unwrap()).await;
        assert_eq!(response.status(), expected, "{pieces}");
    }
}

/// A body that comes byte by byte, each a moment after the one before.
struct Dripping(Vec<u8>, bool);

impl Body for Dripping {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.1 = !self.1;
        if self.1 {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let next = (!self.0.is_empty()).then(|| self.0.remove(0));
        Poll::Ready(next.map(|byte| Ok(Frame::data(Bytes::from(vec![byte])))))
    }
}

#[tokio::test]
async fn a_question_that_comes_in_pieces_is_answered_as_a_whole() {
    let (responder, _) = responder(None);
    let body = Dripping(question("mail.example.org", 1, None), false);
    let request = Request::post("/").header(header::CONTENT_TYPE, DNS_MESSAGE).body(body).unwrap();
    let answered = answer(&responder, request, "192.0.2.9".parse().unwrap()).await.into_body().collect().await.unwrap();
    assert_eq!(Message::from_vec(&answered.to_bytes()).unwrap().answers.len(), 1);
}
