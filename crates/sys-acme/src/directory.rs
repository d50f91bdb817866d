//! What goes over to the ACME library, and what does not: an answer is looked at before the library sees it.
//!
//! The library trusts a directory further than we do: it panics on a directory whose URLs are none and on a `Retry-After` of ten digits
//! too many, refuses renewal information without one, and takes an error page for garbage. Here each of these becomes an error with a
//! reason. What must never happen here: a body in an error or a log.

use crate::{
    clock::{AcmeClock, unix_s},
    http::{Exchange, HttpError, host},
};
use ::http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, header};
use bytes::Bytes;
use http_body_util::BodyExt;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use serde_json::Value;
use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
};

/// The longest `Retry-After` that is believed.
const MAX_RETRY_AFTER_S: u64 = 30 * 24 * 3600;
/// When renewal information is asked for again if the directory does not say (RFC 9773 section 4.3.2 leaves it open).
const RENEWAL_INFO_RETRY_AFTER_S: u64 = 6 * 3600;
/// URLs that a directory has to name (RFC 8555 section 7.1.1), and those that it may.
const NEEDED_URLS: [&str; 3] = ["newNonce", "newAccount", "newOrder"];
const OTHER_URLS: [&str; 4] = ["revokeCert", "keyChange", "newAuthz", "renewalInfo"];
/// We say who we are (RFC 8555 section 6.1); the library adds itself.
const USER_AGENT: &str = concat!("sys-acme/", env!("CARGO_PKG_VERSION"));

/// What was noticed of the answers so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Notes(Arc<Mutex<Noted>>);

#[derive(Debug, Clone, Copy, Default)]
struct Noted {
    retry_after_s: Option<u64>,
    skew_s: Option<i64>,
}

impl Notes {
    /// How long the last answer asked to wait.
    pub(crate) fn retry_after_s(&self) -> Option<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retry_after_s
    }

    /// By how much the directory's clock was ahead of ours, when it last answered.
    pub(crate) fn skew_s(&self) -> Option<i64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).skew_s
    }

    fn note(&self, noted: Noted) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Noted { retry_after_s: noted.retry_after_s, skew_s: noted.skew_s.or(last.skew_s) };
    }
}

/// The library's way out.
#[derive(Clone)]
pub(crate) struct Watched {
    pub(crate) exchange: Arc<dyn Exchange>,
    pub(crate) clock: Arc<dyn AcmeClock>,
    pub(crate) directory: Uri,
    pub(crate) notes: Notes,
}

impl Watched {
    async fn send(self, request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, HttpError> {
        let (head, body) = request.into_parts();
        let (method, uri) = (head.method.clone(), head.uri.clone());
        let Ok(body) = body.collect().await;
        let mut request = Request::from_parts(head, body.to_bytes());
        introduce(request.headers_mut());

        let mut answer = self.exchange.exchange(request).await?;
        let noted = noted(answer.headers(), self.clock.now_unix_s());
        self.notes.note(noted);
        let default = (method == Method::GET).then_some(RENEWAL_INFO_RETRY_AFTER_S);
        answer.headers_mut().remove(header::RETRY_AFTER);
        if let Some(seconds) = noted.retry_after_s.or(default) {
            answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        readable(&answer, &method, &uri)?;
        if uri == self.directory {
            let host = host(&uri);
            check_directory(answer.body()).map_err(|reason| HttpError::NoDirectory { host, reason })?;
        }
        let (parts, body) = answer.into_parts();
        Ok(BytesResponse { parts, body: Box::new(body) })
    }
}

impl HttpClient for Watched {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let this = self.clone();
        Box::pin(async move { this.send(request).await.map_err(|error| Error::Other(Box::new(error))) })
    }
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").field("directory", &self.directory).finish_non_exhaustive()
    }
}

fn introduce(headers: &mut HeaderMap) {
    let library = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if let Ok(both) = HeaderValue::from_str(format!("{USER_AGENT} {library}").trim()) {
        headers.insert(header::USER_AGENT, both);
    }
    headers.insert(header::ACCEPT_LANGUAGE, HeaderValue::from_static("en"));
}

fn noted(headers: &HeaderMap, now_unix_s: i64) -> Noted {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).map(str::trim);
    let date = |text: &str| httpdate::parse_http_date(text).ok().map(unix_s);
    let directory_now = text(header::DATE).and_then(date);
    let retry_after_s = text(header::RETRY_AFTER).and_then(|text| match text.parse::<u64>() {
        Ok(seconds) => Some(seconds),
        // All digits, and too many: "for ever".
        Err(_) if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => Some(MAX_RETRY_AFTER_S),
        // A date is one of the directory's clock, if it says what that shows.
        Err(_) => Some(date(text)?.saturating_sub(directory_now.unwrap_or(now_unix_s)).max(0).unsigned_abs()),
    });
    Noted {
        retry_after_s: retry_after_s.map(|seconds| seconds.min(MAX_RETRY_AFTER_S)),
        skew_s: directory_now.map(|there| there.saturating_sub(now_unix_s)),
    }
}

/// An error goes on only if it is a problem document (RFC 7807), and answers what the library looks at: to what is no POST it believes
/// that all went well.
fn readable(answer: &Response<Bytes>, method: &Method, uri: &Uri) -> Result<(), HttpError> {
    if answer.status().is_success() {
        return Ok(());
    }
    let is_error = answer.status().is_client_error() || answer.status().is_server_error();
    let explains = is_error && method == Method::POST;
    let has_type = |body: Value| body.get("type").is_some_and(Value::is_string);
    if explains && serde_json::from_slice(answer.body()).is_ok_and(has_type) {
        return Ok(());
    }
    Err(HttpError::Status { host: host(uri), status: answer.status().as_u16() })
}

fn check_directory(body: &[u8]) -> Result<(), &'static str> {
    let directory: Value = serde_json::from_slice(body).map_err(|_| "what it answers is not JSON")?;
    let is_url = |value: &Value| {
        let uri = value.as_str().and_then(|text| text.parse::<Uri>().ok());
        uri.is_some_and(|uri| uri.scheme_str() == Some("https") && uri.host().is_some_and(|host| !host.is_empty()))
    };
    if !NEEDED_URLS.iter().all(|name| directory.get(name).is_some_and(is_url)) {
        return Err("it does not name newNonce, newAccount and newOrder with https:// URLs");
    }
    if !OTHER_URLS.iter().filter_map(|name| directory.get(name)).all(|value| value.is_null() || is_url(value)) {
        return Err("it names something that is no https:// URL");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn headers(pairs: &[(header::HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap())).collect()
    }

    #[test]
    fn retry_after_is_read_and_bounded() {
        let now = 784_111_777; // Sun, 06 Nov 1994 08:49:37 GMT
        let read = |text: &str| noted(&headers(&[(header::RETRY_AFTER, text)]), now).retry_after_s;
        assert_eq!(read("120"), Some(120));
        assert_eq!(read("Sun, 06 Nov 1994 08:50:37 GMT"), Some(60));
        assert_eq!(read("Sun, 06 Nov 1994 08:00:00 GMT"), Some(0));
        assert_eq!(read("18446744073709551615"), Some(MAX_RETRY_AFTER_S));
        assert_eq!(read("99999999999999999999999"), Some(MAX_RETRY_AFTER_S));
        assert_eq!(read("soon"), None);
        assert_eq!(read(""), None);
    }

    #[test]
    fn a_date_is_one_of_the_directorys_clock() {
        let both = headers(&[
            (header::DATE, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (header::RETRY_AFTER, "Sun, 06 Nov 1994 08:50:37 GMT"),
        ]);
        let noted = noted(&both, 784_111_777 - 86_400);
        assert_eq!((noted.retry_after_s, noted.skew_s), (Some(60), Some(86_400)));
    }

    #[test]
    fn a_directory_names_urls() {
        let directory =
            |url: &str| format!(r#"{{"newNonce":"{url}","newAccount":"https://a/b","newOrder":"https://a/c"}}"#);
        assert_eq!(check_directory(directory("https://example.org/n").as_bytes()), Ok(()));
        for wrong in ["", "not a url", "http://example.org/n", "/n", "https://", "javascript:1"] {
            assert!(check_directory(directory(wrong).as_bytes()).is_err(), "{wrong}");
        }
        for wrong in ["", "[]", "{}", "null", "<html>", r#"{"newNonce":1,"newAccount":2,"newOrder":3}"#] {
            assert!(check_directory(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(body in proptest::collection::vec(any::<u8>(), 0..200), after in "[ -~]{0,40}", now in any::<i64>()) {
            let _ = check_directory(&body);
            let pairs = headers(&[(header::RETRY_AFTER, &after), (header::DATE, &after)]);
            prop_assert!(noted(&pairs, now).retry_after_s.is_none_or(|seconds| seconds <= MAX_RETRY_AFTER_S));
        }
    }
}
