//! What every answer says to a browser, and which pages of which websites may ask.
//!
//! A browser is on the side of its user only if it is told what not to do. So every answer carries the strictest word on
//! each of these matters, where whoever made the answer has said none himself ([`harden`]); requests that a page of another website
//! makes are told apart by what the browser says of them (`hygiene/origins.rs`), and those that could change something are
//! refused before anybody else looks at them (`hygiene/service.rs`). What must never happen here: `*`, credentials, or an origin
//! that is let in because it looks like one of ours. Why so: `docs/decisions/0026-http-hygiene.md`.

mod origins;
mod security_txt;
mod service;

pub use origins::{OriginError, Origins};
pub use security_txt::{SecurityTxt, SecurityTxtError};
pub use service::{Answering, Current, Hygienic};

use http::{HeaderMap, HeaderName, HeaderValue, header};

/// What an operator decides of it. The default asks browsers to come back with TLS for a year, and lets in no page of others.
#[derive(Debug, Clone, Default)]
pub struct Hygiene {
    /// How long browsers shall not come without TLS.
    pub hsts: Hsts,
    /// The websites whose pages may call us.
    pub cors_origins: Origins,
    /// Whom to tell of a hole.
    pub security_txt: Option<SecurityTxt>,
}

/// HTTP Strict Transport Security (RFC 6797). It is said over TLS alone, and never of an address or of `localhost`, where it
/// would hold for every other program of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hsts {
    /// Nothing is said. Browsers that were told before still remember.
    Off,
    /// Of this host.
    Host {
        /// For so many seconds.
        max_age_s: u64,
    },
    /// Of this host and all below it, also those that other servers answer for.
    WithSubdomains {
        /// For so many seconds.
        max_age_s: u64,
    },
    /// As before, for two years, and with the consent to be built into browsers (hstspreload.org). That is not taken back
    /// within months.
    Preload,
}

/// A year.
const MAX_AGE_S: u64 = 31_536_000;
/// Twice what the list asks for at least.
const PRELOAD_MAX_AGE_S: u64 = 2 * MAX_AGE_S;

/// What is said where nobody has said anything else: of everything, and of what a browser could make a page of, whose policy is that of a page that is
/// none: it loads nothing, stands in no frame, sends nothing.
static OF_EVERYTHING: [(HeaderName, HeaderValue); 2] = [
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
];
static OF_PAGES: [(HeaderName, HeaderValue); 4] = [
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
    ),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
    (HeaderName::from_static("cross-origin-embedder-policy"), HeaderValue::from_static("require-corp")),
];
/// What no browser makes a page of, under `nosniff`: answers to questions (RFC 8484), of which policies would be a
/// good part.
static NO_PAGE: HeaderValue = HeaderValue::from_static("application/dns-message");
/// What tells a stranger which holes to try.
static BANNERS: [HeaderName; 2] = [header::SERVER, HeaderName::from_static("x-powered-by")];
/// Room for what is said of a page, what the answer says itself, and its length and date; made at once. For the rest there is enough.
const FIELDS: usize = 12;

/// Adds what every answer says, and takes away what none does.
pub(crate) fn harden(headers: &mut HeaderMap) {
    let is_page = headers.get(header::CONTENT_TYPE) != Some(&NO_PAGE);
    if is_page {
        headers.reserve(FIELDS);
    }
    let of_pages = OF_PAGES.iter().filter(|_| is_page);
    for (name, value) in OF_EVERYTHING.iter().chain(of_pages) {
        headers.entry(name).or_insert_with(|| value.clone());
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    for name in &BANNERS {
        headers.remove(name);
    }
}

impl Hygiene {
    /// A service that answers as these settings say, and has everything else answered by this one.
    pub fn around<S>(self, service: S) -> Hygienic<S> {
        Current::new(self).around(service)
    }
}

impl Default for Hsts {
    fn default() -> Self {
        Self::Host { max_age_s: MAX_AGE_S }
    }
}

impl Hsts {
    /// As it stands in an answer.
    fn value(self) -> Option<HeaderValue> {
        let text = match self {
            Self::Off => return None,
            Self::Host { max_age_s } => format!("max-age={max_age_s}"),
            Self::WithSubdomains { max_age_s } => format!("max-age={max_age_s}; includeSubDomains"),
            Self::Preload => format!("max-age={PRELOAD_MAX_AGE_S}; includeSubDomains; preload"),
        };
        HeaderValue::try_from(text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_keeps_what_it_says_itself_and_gets_the_strictest_of_the_rest() {
        let mut headers = HeaderMap::new();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("max-age=60"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("no"));
        headers.insert(header::SERVER, HeaderValue::from_static("sys/0.1.0"));
        harden(&mut headers);
        assert_eq!(headers[header::CACHE_CONTROL], "max-age=60");
        assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert_eq!(headers[header::REFERRER_POLICY], "no-referrer");
        assert!(headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap().starts_with("default-src 'none';"));
        assert!(!headers.contains_key(header::SERVER));
        assert_eq!(headers.len(), 7);
        let mut no_page = HeaderMap::from_iter([(header::CONTENT_TYPE, NO_PAGE.clone())]);
        harden(&mut no_page);
        let said = |name| no_page.get(name).map(HeaderValue::as_bytes);
        assert_eq!(said("x-content-type-options"), Some(&b"nosniff"[..]));
        assert_eq!(said("cross-origin-resource-policy"), Some(&b"same-origin"[..]));
        assert_eq!(said("cache-control"), Some(&b"no-store"[..]));
        assert_eq!(no_page.len(), 4, "what no browser shows is told nothing of pages");
    }

    #[test]
    fn how_long_browsers_stay_with_tls_is_said_as_the_list_of_browsers_asks() {
        let said = |hsts: Hsts| hsts.value().map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(said(Hsts::Off), None);
        assert_eq!(said(Hsts::default()).as_deref(), Some("max-age=31536000"));
        assert_eq!(said(Hsts::WithSubdomains { max_age_s: 60 }).as_deref(), Some("max-age=60; includeSubDomains"));
        assert_eq!(said(Hsts::Preload).as_deref(), Some("max-age=63072000; includeSubDomains; preload"));
    }
}
