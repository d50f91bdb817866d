//! The hosts that a listener answers to.
//!
//! On loopback without TLS a page of any website can make a browser talk to this port, by a DNS name of its own that it
//! points at 127.0.0.1 (DNS rebinding). The browser then sends that name as the host, so a request for a host that is not
//! ours is refused before anything else looks at it.

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, Uri, header, uri::Authority};
use http_body_util::Full;

/// Host names, compared without regard to case and with any port: a tunnel may show us under another port than ours.
#[derive(Debug, Clone)]
pub struct AllowedHosts(Vec<String>);

impl AllowedHosts {
    /// `localhost`, `127.0.0.1` and `[::1]`.
    pub fn loopback() -> Self {
        Self(["localhost", "127.0.0.1", "[::1]"].map(str::to_owned).into())
    }

    /// These and one more, without a port; an IPv6 address stands in brackets.
    #[must_use]
    pub fn and(mut self, host: impl Into<String>) -> Self {
        self.0.push(host.into());
        self
    }

    /// Whether a request is meant for one of these hosts. Each place that names a host must name one of them: the
    /// request target (`:authority` in HTTP/2) and the `Host` line, of which there may be one.
    pub(crate) fn admit<B>(&self, request: &Request<B>) -> Result<(), HostRefusal> {
        let target = request.uri().authority();
        let line = host_line(request.headers())?;
        if target.is_none() && line.is_none() {
            return Err(HostRefusal::Missing);
        }
        let named = [target, line.as_ref()].into_iter().flatten();
        if named.into_iter().all(|authority| self.contains(authority)) { Ok(()) } else { Err(HostRefusal::Misdirected) }
    }

    fn contains(&self, authority: &Authority) -> bool {
        self.0.iter().any(|host| host.eq_ignore_ascii_case(authority.host())) && names_no_more(authority)
    }

    /// What a refused caller gets.
    pub(crate) fn refuse(&self, refusal: HostRefusal) -> Response<Full<Bytes>> {
        let (status, text) = match refusal {
            HostRefusal::Missing => {
                (StatusCode::BAD_REQUEST, "the request names no host, or more than one\n".to_owned())
            }
            HostRefusal::Misdirected => {
                (StatusCode::MISDIRECTED_REQUEST, format!("this server answers to {} alone\n", self.0.join(", ")))
            }
        };
        let mut response = Response::new(Full::new(Bytes::from(text)));
        *response.status_mut() = status;
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain; charset=utf-8"));
        response
    }
}

/// Why a request is not meant for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HostRefusal {
    /// No host, several, or one that cannot be read (RFC 9112 section 3.2 wants 400).
    Missing,
    /// Another host (RFC 9110 section 15.5.20).
    Misdirected,
}

/// Whether nothing stands beside the host but a port: `Authority` also reads `user@host` and `[::1]8443`.
fn names_no_more(authority: &Authority) -> bool {
    let rest = authority.as_str().strip_prefix(authority.host());
    rest.is_some_and(|rest| {
        rest.is_empty() || rest.strip_prefix(':').is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()))
    })
}

fn host_line(headers: &HeaderMap) -> Result<Option<Authority>, HostRefusal> {
    let mut lines = headers.get_all(header::HOST).iter();
    let Some(line) = lines.next() else { return Ok(None) };
    if lines.next().is_some() {
        return Err(HostRefusal::Missing);
    }
    let uri = Uri::try_from(line.as_bytes()).map_err(|_| HostRefusal::Missing)?;
    // A `Host` line is an authority and nothing more: `host/path` or `http://host` parse as other things.
    match (uri.scheme(), uri.authority(), uri.path_and_query()) {
        (None, Some(authority), None) => Ok(Some(authority.clone())),
        _ => Err(HostRefusal::Missing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(target: &str, hosts: &[&str], expect: Result<(), HostRefusal>) {
        let mut request = Request::builder().uri(target);
        for host in hosts {
            request = request.header(header::HOST, *host);
        }
        let request = request.body(()).expect("a request");
        assert_eq!(AllowedHosts::loopback().admit(&request), expect, "{target} {hosts:?}");
    }

    #[test]
    fn only_requests_for_our_own_hosts_pass() {
        for host in ["localhost", "LOCALHOST:8443", "127.0.0.1:1", "[::1]", "[::1]:8443"] {
            check("/x", &[host], Ok(()));
            check(&format!("http://{host}/x"), &[], Ok(()));
        }
        for host in ["evil.example", "localhost.evil.example", "evil.example:8443", "127.0.0.2", "localhost."] {
            check("/x", &[host], Err(HostRefusal::Misdirected));
            check(&format!("http://{host}/x"), &[], Err(HostRefusal::Misdirected));
        }
    }

    #[test]
    fn two_names_for_one_request_must_both_be_ours() {
        check("http://localhost/x", &["evil.example"], Err(HostRefusal::Misdirected));
        check("http://evil.example/x", &["localhost"], Err(HostRefusal::Misdirected));
        check("http://localhost/x", &["127.0.0.1"], Ok(()));
        check("/x", &["localhost", "localhost"], Err(HostRefusal::Missing));
    }

    #[test]
    fn a_request_without_a_readable_host_is_refused() {
        for hosts in [&[][..], &[""], &["http://localhost"], &["localhost/x"], &["local host"], &["\u{7f}"]] {
            let mut request = Request::new(());
            for host in hosts {
                let Ok(value) = header::HeaderValue::from_bytes(host.as_bytes()) else { continue };
                request.headers_mut().append(header::HOST, value);
            }
            assert_eq!(AllowedHosts::loopback().admit(&request), Err(HostRefusal::Missing), "{hosts:?}");
        }
        check("/x", &["evil@localhost"], Err(HostRefusal::Misdirected));
        check("http://[::1]8443/x", &["localhost"], Err(HostRefusal::Misdirected));
        check("/x", &["[::1]evil.example"], Err(HostRefusal::Misdirected));
    }

    #[test]
    fn a_named_host_can_be_added() {
        let request =
            Request::builder().uri("/").header(header::HOST, "sys.example.org:443").body(()).expect("request");
        assert_eq!(AllowedHosts::loopback().admit(&request), Err(HostRefusal::Misdirected));
        assert_eq!(AllowedHosts::loopback().and("sys.example.org").admit(&request), Ok(()));
    }
}
