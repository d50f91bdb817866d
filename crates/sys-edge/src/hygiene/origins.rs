//! Which website a request comes from, by what the browser says of it.
//!
//! `Origin` and `Sec-Fetch-Site` are set by browsers and by no page. What is no browser can write there what it likes, and
//! gains nothing by it: it could leave them out.

use http::{HeaderName, HeaderValue, Method, Request, Uri, header, uri::Authority};
use std::sync::Arc;

/// W3C Fetch Metadata Request Headers, section 2.4.
const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Origins (RFC 6454) of websites, as browsers write them. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Origins(Arc<[HeaderValue]>);

/// Why a text is no origin that could be let in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OriginError {
    /// `*` or `null`.
    #[error("{0:?} would let in every website; name each that may call, such as https://app.example.org")]
    Everybody(String),
    /// A page that came without TLS could have been changed on its way.
    #[error(
        "{0:?} is not https; a page that came without TLS can be anybody's, except on this machine (http://localhost:5173)"
    )]
    NoTls(String),
    /// Not as a browser writes it.
    #[error(
        "{0:?} is not as browsers write an origin: scheme and host in small letters, a port unless it is the usual one, \
         nothing behind it (https://app.example.org, https://app.example.org:8443; names beyond ASCII as xn--)"
    )]
    Form(String),
}

/// Who made a request, as far as a browser says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Asker {
    /// No browser, or one that says nothing, which none does with a request that could change something.
    NoPage,
    /// One of our own pages, or the user himself.
    OurPage,
    /// A page of a website that may call.
    Configured(HeaderValue),
    /// A page of any other.
    OtherPage,
}

impl Origins {
    /// Reads origins as they stand in a configuration.
    pub fn parse<T: AsRef<str>>(origins: impl IntoIterator<Item = T>) -> Result<Self, OriginError> {
        origins.into_iter().map(|origin| parse(origin.as_ref())).collect::<Result<_, _>>().map(Self)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Who made this request, which came to `host`, with TLS or without.
    pub(super) fn asker<B>(&self, request: &Request<B>, host: Option<&Authority>, is_tls: bool) -> Asker {
        let headers = request.headers();
        let mut origins = headers.get_all(header::ORIGIN).iter();
        let site = headers.get(SITE).map(HeaderValue::as_bytes);
        match (origins.next(), origins.next(), site) {
            (Some(_), Some(_), _) => Asker::OtherPage,
            // Also where `Origin` is `null`, as it is for a form of a page that says no referrer.
            (_, None, Some(b"same-origin" | b"none")) => Asker::OurPage,
            (Some(origin), None, _) if self.0.contains(origin) => Asker::Configured(origin.clone()),
            (Some(origin), None, _) if host.is_some_and(|host| is_of(origin, host, is_tls)) => Asker::OurPage,
            (Some(_), None, _) | (None, _, Some(_)) => Asker::OtherPage,
            (None, _, None) => Asker::NoPage,
        }
    }
}

/// Whether a method promises to change nothing (RFC 9110 section 9.2.1).
pub(super) fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// Whether this is the origin of our own pages under this host.
fn is_of(origin: &HeaderValue, host: &Authority, is_tls: bool) -> bool {
    let (scheme, usual_port) = if is_tls { ("https://", ":443") } else { ("http://", ":80") };
    let host = host.as_str().to_ascii_lowercase();
    let host = host.strip_suffix(usual_port).unwrap_or(&host);
    origin.as_bytes().strip_prefix(scheme.as_bytes()) == Some(host.as_bytes())
}

fn parse(text: &str) -> Result<HeaderValue, OriginError> {
    if matches!(text, "*" | "null") {
        return Err(OriginError::Everybody(text.to_owned()));
    }
    let form = || OriginError::Form(text.to_owned());
    let uri: Uri = text.parse().map_err(|_| form())?;
    let (scheme, authority) = uri.scheme_str().zip(uri.authority()).ok_or_else(form)?;
    let (host, port) = (authority.host(), authority.port_u16());
    let usual_port = match scheme {
        "https" => 443,
        "http" if is_on_this_machine(host) => 80,
        "http" => return Err(OriginError::NoTls(text.to_owned())),
        _ => return Err(form()),
    };
    let port = port.map(|port| format!(":{port}"));
    let canonical = format!("{scheme}://{}{}", host.to_ascii_lowercase(), port.as_deref().unwrap_or_default());
    let is_canonical = text == canonical && !host.is_empty() && authority.port_u16() != Some(usual_port);
    if is_canonical { HeaderValue::try_from(text).map_err(|_| form()) } else { Err(form()) }
}

fn is_on_this_machine(host: &str) -> bool {
    host == "localhost" || host.ends_with(".localhost") || matches!(host, "127.0.0.1" | "[::1]")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asker(origin: &[&str], site: Option<&str>, host: &str, is_tls: bool) -> Asker {
        let origins = Origins::parse(["https://app.example.org", "http://localhost:5173"]).unwrap();
        let mut request = Request::builder().uri("/");
        for origin in origin {
            request = request.header(header::ORIGIN, *origin);
        }
        if let Some(site) = site {
            request = request.header(SITE, site);
        }
        origins.asker(&request.body(()).unwrap(), host.parse().ok().as_ref(), is_tls)
    }

    #[test]
    fn a_page_is_let_in_under_its_very_origin_and_under_no_other() {
        for origin in ["https://app.example.org", "http://localhost:5173"] {
            for site in [None, Some("cross-site"), Some("same-site")] {
                let configured = Asker::Configured(HeaderValue::from_static(origin));
                assert_eq!(asker(&[origin], site, "org.example", true), configured);
            }
        }
        for origin in [
            "https://app.example.org.evil.example",
            "https://evil.example/https://app.example.org",
            "https://app.example.org:8443",
            "https://app.example.org/",
            "https://APP.example.org",
            "http://app.example.org",
            "https://evilapp.example.org",
            "https://x.app.example.org",
            "https://example.org",
            "https://org.example",
            "http://localhost:51730",
            "null",
            "",
            "*",
        ] {
            for site in [None, Some("cross-site"), Some("same-site"), Some("nonsense")] {
                assert_eq!(asker(&[origin], site, "sys.example.org", true), Asker::OtherPage, "{origin}");
            }
        }
        let twice = ["https://app.example.org", "https://app.example.org"];
        assert_eq!(asker(&twice, Some("same-origin"), "org.example", true), Asker::OtherPage);
    }

    #[test]
    fn our_own_pages_are_told_by_host_and_scheme_or_by_the_browser() {
        for (origin, host, is_tls, is_ours) in [
            ("https://org.example", "org.example", true, true),
            ("https://org.example", "ORG.example:443", true, true),
            ("https://org.example:8443", "org.example:8443", true, true),
            ("http://localhost:8443", "localhost:8443", false, true),
            ("http://[::1]:8443", "[::1]:8443", false, true),
            ("http://127.0.0.1", "127.0.0.1:80", false, true),
            ("http://org.example", "org.example", true, false),
            ("https://org.example", "org.example", false, false),
            ("https://org.example", "org.example:8443", true, false),
            ("https://org.example:8443", "org.example", true, false),
            ("https://org.examples", "org.example", true, false),
        ] {
            let expect = if is_ours { Asker::OurPage } else { Asker::OtherPage };
            assert_eq!(asker(&[origin], None, host, is_tls), expect, "{origin} {host}");
        }
        assert_eq!(asker(&["null"], Some("same-origin"), "org.example", true), Asker::OurPage);
        assert_eq!(asker(&[], Some("none"), "org.example", true), Asker::OurPage);
        assert_eq!(asker(&[], None, "org.example", true), Asker::NoPage);
        for site in ["cross-site", "same-site", "", "SAME-ORIGIN", "nonsense"] {
            assert_eq!(asker(&[], Some(site), "org.example", true), Asker::OtherPage, "{site}");
        }
    }

    #[test]
    fn an_origin_that_no_browser_would_write_is_refused_before_it_never_fits() {
        for (text, hint) in [
            ("*", "every website"),
            ("null", "every website"),
            ("http://app.example.org", "is not https"),
            ("http://192.0.2.7", "is not https"),
            ("https://app.example.org/", "browsers write"),
            ("https://app.example.org/path", "browsers write"),
            ("https://App.example.org", "browsers write"),
            ("HTTPS://app.example.org", "browsers write"),
            ("https://app.example.org:443", "browsers write"),
            ("http://localhost:80", "browsers write"),
            ("https://app.example.org:", "browsers write"),
            ("https://app.example.org:08443", "browsers write"),
            ("https://user@app.example.org", "browsers write"),
            ("https://app.example.org?x", "browsers write"),
            ("https://b\u{fc}cher.example", "browsers write"),
            ("https://", "browsers write"),
            ("app.example.org", "browsers write"),
            ("ftp://app.example.org", "browsers write"),
            ("", "browsers write"),
        ] {
            let error = Origins::parse([text]).unwrap_err().to_string();
            assert!(error.contains(hint), "{text}: {error}");
        }
        assert!(Origins::parse(["https://192.0.2.7", "https://[2001:db8::1]:8443", "http://app.localhost"]).is_ok());
    }
}
