//! The hosts that a listener answers to.
//!
//! On loopback without TLS a page of any website can make a browser talk to this port, by a DNS name of its own that it
//! points at 127.0.0.1 (DNS rebinding). The browser then sends that name as the host, so a request for a host that is not
//! ours is refused before anything else looks at it.

use crate::{answers, hygiene::harden};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, Uri, header, uri::Authority};
use http_body_util::Full;
use std::net::Ipv4Addr;

/// The hosts that every machine has. Nothing is given away by naming them.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// Host names, compared without regard to case and with any port: a tunnel may show us under another port than ours.
#[derive(Debug, Clone)]
pub struct AllowedHosts(Vec<String>);

impl AllowedHosts {
    /// `localhost`, `127.0.0.1` and `[::1]`.
    pub fn loopback() -> Self {
        Self::of(LOOPBACK)
    }

    /// These and no others, each without a port; an IPv6 address stands in brackets.
    pub fn of(hosts: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self(hosts.into_iter().map(Into::into).collect())
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
        self.spelled(authority).is_some()
    }

    /// This host as it was spelled to us, if it is one of ours.
    pub(crate) fn spelled(&self, authority: &Authority) -> Option<&str> {
        let ours = self.0.iter().find(|host| host.eq_ignore_ascii_case(authority.host()));
        ours.map(String::as_str).filter(|_| names_no_more(authority))
    }

    /// What a refused caller gets. Of our hosts only those are named that every machine has: who came by our address alone
    /// does not learn which names are served there, since that is what an encrypted client hello hides.
    pub(crate) fn refuse(&self, refusal: HostRefusal) -> Response<Full<Bytes>> {
        let mut response = match refusal {
            HostRefusal::Missing => {
                answers::text(StatusCode::BAD_REQUEST, "the request names no host, or more than one\n")
            }
            HostRefusal::Misdirected => answers::text(StatusCode::MISDIRECTED_REQUEST, self.misdirected()),
        };
        harden(response.headers_mut());
        response
    }

    fn misdirected(&self) -> String {
        let told: Vec<_> = LOOPBACK.into_iter().filter(|host| self.0.iter().any(|ours| ours == host)).collect();
        match (told.is_empty(), told.len() == self.0.len()) {
            (true, _) => "this server does not answer to that name\n".to_owned(),
            (false, true) => format!("this server answers to {} alone\n", told.join(", ")),
            (false, false) => format!("this server does not answer to that name; it does to {}\n", told.join(", ")),
        }
    }
}

/// The host that a request names first. It is one of ours once the request was admitted.
pub(crate) fn named<B>(request: &Request<B>) -> Option<Authority> {
    request.uri().authority().cloned().or_else(|| host_line(request.headers()).ok().flatten())
}

/// Whether this is a name of the machine itself, or an address.
pub(crate) fn is_no_domain(host: &str) -> bool {
    let is_address = host.starts_with('[') || host.parse::<Ipv4Addr>().is_ok();
    let last = host.rsplit('.').next().unwrap_or_default();
    is_address || last.eq_ignore_ascii_case("localhost")
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
    fn a_stranger_is_told_no_name_that_he_did_not_know() {
        let refused = |hosts: AllowedHosts| hosts.misdirected();
        assert_eq!(refused(AllowedHosts::loopback()), "this server answers to localhost, 127.0.0.1, [::1] alone\n");
        for hosts in [AllowedHosts::of(["sys.example.org"]), AllowedHosts::loopback().and("sys.example.org")] {
            let told = refused(hosts);
            assert!(told.contains("does not answer to that name") && !told.contains("example"), "{told}");
        }
    }

    #[test]
    fn a_named_host_can_be_added() {
        let request =
            Request::builder().uri("/").header(header::HOST, "sys.example.org:443").body(()).expect("request");
        assert_eq!(AllowedHosts::loopback().admit(&request), Err(HostRefusal::Misdirected));
        assert_eq!(AllowedHosts::loopback().and("sys.example.org").admit(&request), Ok(()));
    }
}
