//! The answer to whoever comes when there is more to do than can be done. Of these there may be many times as many as are served, so
//! that theirs is made once for each form in which calls come, and costs next to nothing.

use super::{front::FrontBody, load, request::SPOKEN};
use crate::refusal::Refusal;
use bytes::Bytes;
use connectrpc::ConnectError;
use futures_util::FutureExt;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Either, Full};

/// The answers, by the content type of the request.
#[derive(Debug)]
pub(super) struct TooMuch {
    refusal: Refusal,
    answers: Vec<(&'static str, Answer)>,
}

#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl TooMuch {
    pub(super) fn new() -> Self {
        let refusal = load::overloaded();
        let answers = spoken().filter_map(|form| Some((form, Answer::to(form, &refusal)?))).collect();
        Self { refusal, answers }
    }

    /// What is answered.
    pub(super) fn refusal(&self) -> &Refusal {
        &self.refusal
    }

    /// The answer to a request in one of the usual forms.
    pub(super) fn answer(&self, request: &HeaderMap) -> Option<Response<FrontBody>> {
        let form = request.get(header::CONTENT_TYPE)?;
        let (_, answer) = self.answers.iter().find(|(spoken, _)| form == spoken)?;
        let mut response = Response::new(Either::Right(Full::new(answer.body.clone())));
        *response.status_mut() = answer.status;
        *response.headers_mut() = answer.headers.clone();
        Some(response)
    }
}

impl Answer {
    fn to(form: &'static str, refusal: &Refusal) -> Option<Self> {
        let request = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(form))]);
        let (head, body) = ConnectError::from(refusal.clone()).into_http_response(&request).into_parts();
        // It is there as a whole; were it not, this form would go without.
        let body = body.collect().now_or_never()?.ok()?;
        let mut headers = head.headers;
        if let Some(trailers) = body.trailers() {
            // Without a body, headers and trailers are one ("Trailers-Only" in the gRPC protocol).
            headers.extend(trailers.clone());
        }
        Some(Self { status: head.status, headers, body: body.to_bytes() })
    }
}

fn spoken() -> impl Iterator<Item = &'static str> {
    SPOKEN.split(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_is_asked_at_the_path_where_it_is_answered() {
        assert_eq!(super::super::HEALTH_PATH, format!("/{}", crate::describe::HEALTH_CHECK));
    }

    #[test]
    fn each_form_has_its_answer_which_says_why_and_when_to_come_back() {
        let too_much = TooMuch::new();
        for form in spoken() {
            let asked = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(form))]);
            let response = too_much.answer(&asked).expect(form);
            assert_eq!(response.headers()[header::RETRY_AFTER], "1", "{form}");
            let (head, body) = response.into_parts();
            let body = body.collect().now_or_never().expect("whole").expect("infallible");
            assert!(body.trailers().is_none(), "{form}");
            let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
            if form.starts_with("application/grpc-web") {
                assert!(text.contains("grpc-status: 14") && text.contains("grpc-status-details-bin"), "{text}");
            } else if form.starts_with("application/grpc") {
                assert_eq!((head.status, text.as_str()), (StatusCode::OK, ""));
                assert_eq!(head.headers["grpc-status"], "14");
                assert!(head.headers.contains_key("grpc-status-details-bin"));
                assert_eq!(head.headers.get_all("grpc-status").iter().count(), 1);
            } else {
                assert_eq!(head.status, StatusCode::SERVICE_UNAVAILABLE);
                assert!(text.contains("google.rpc.RetryInfo") && text.contains("unavailable"), "{text}");
            }
        }
        assert!(too_much.answer(&HeaderMap::new()).is_none(), "who says nothing is answered by the library");
    }
}
