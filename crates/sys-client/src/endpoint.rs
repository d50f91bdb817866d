//! Where a server is.

use http::{Uri, uri::Authority};
use rustls::pki_types::ServerName;
use std::{fmt, net::IpAddr, str::FromStr};

/// The port of `https` where none is named.
const HTTPS_PORT: u16 = 443;

/// The origin of a server: scheme, host and port, and nothing after them.
///
/// Plain `http` is for loopback alone: beyond it passwords and tokens would cross a network readable. An `https` origin is brought
/// into one form, so that each server has one entry wherever something is kept for it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    origin: String,
    /// What is spoken over TLS, and to whom; none on loopback in the clear.
    tls: Option<Named>,
}

/// A host that shows a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Named {
    name: ServerName<'static>,
    port: u16,
}

impl Endpoint {
    /// The origin as text, such as `http://127.0.0.1:8443` or `https://example.org`.
    pub fn as_str(&self) -> &str {
        &self.origin
    }

    /// The name that the server's certificate must be for; none where it shows none.
    pub fn server_name(&self) -> Option<&ServerName<'static>> {
        self.tls.as_ref().map(|named| &named.name)
    }

    /// The port of a server that speaks TLS.
    pub(crate) fn tls_port(&self) -> Option<u16> {
        self.tls.as_ref().map(|named| named.port)
    }

    fn over_tls(authority: &Authority) -> Option<Self> {
        let host = authority.host().to_ascii_lowercase();
        let host = host.strip_suffix('.').unwrap_or(&host);
        let name = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let name = ServerName::try_from(name.to_owned()).ok()?;
        let port = if authority.as_str().ends_with(':') { None } else { authority.port() };
        let port = port.map_or(HTTPS_PORT, |port| port.as_u16());
        let origin = if port == HTTPS_PORT { format!("https://{host}") } else { format!("https://{host}:{port}") };
        Some(Self { origin, tls: Some(Named { name, port }) })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.origin)
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let malformed = || EndpointError::Malformed { text: text.to_owned() };
        let uri: Uri = text.parse().map_err(|_| malformed())?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else { return Err(malformed()) };
        let bare = uri.path().trim_matches('/').is_empty() && uri.query().is_none();
        if !bare || !names_no_more(authority) {
            return Err(malformed());
        }
        match scheme {
            "http" if is_loopback(authority.host()) => Ok(Self { origin: format!("http://{authority}"), tls: None }),
            "http" => Err(EndpointError::PlaintextBeyondLoopback { text: text.to_owned() }),
            "https" => Self::over_tls(authority).ok_or_else(malformed),
            _ => Err(malformed()),
        }
    }
}

/// Whether nothing stands beside the host but a port: `Authority` also reads `user@host` and `[::1]8443`.
fn names_no_more(authority: &Authority) -> bool {
    let rest = authority.as_str().strip_prefix(authority.host());
    rest.is_some_and(|rest| {
        rest.is_empty() || rest.strip_prefix(':').is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()))
    })
}

/// `localhost` counts: it never leaves the machine (RFC 6761 section 6.3).
fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

/// Why a text names no server that can be talked to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// It is no origin.
    #[error(
        "`{text}` is no server: write its scheme, host and port, such as https://example.org or http://127.0.0.1:8443"
    )]
    Malformed {
        /// What was given.
        text: String,
    },
    /// Plain HTTP to another machine.
    #[error(
        "`{text}` is another machine, and without TLS passwords and tokens would cross the network readable: write https, plain http is for 127.0.0.1, [::1] and localhost alone"
    )]
    PlaintextBeyondLoopback {
        /// What was given.
        text: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_on_loopback_is_accepted_and_normalised() {
        let check = |text: &str, expect: &str| assert_eq!(text.parse::<Endpoint>().expect(text).as_str(), expect);
        check("http://127.0.0.1:8443", "http://127.0.0.1:8443");
        check("http://127.0.0.1:8443/", "http://127.0.0.1:8443");
        check("http://localhost", "http://localhost");
        check("http://LOCALHOST:1", "http://LOCALHOST:1");
        check("http://[::1]:8443", "http://[::1]:8443");
    }

    #[test]
    fn plain_http_to_another_machine_is_refused() {
        for text in ["http://192.0.2.1:8443", "http://example.org", "http://127.0.0.1.example.org", "http://[::]:80"] {
            let error = text.parse::<Endpoint>().expect_err(text);
            assert!(matches!(error, EndpointError::PlaintextBeyondLoopback { .. }), "{error}");
        }
    }

    #[test]
    fn what_is_no_origin_is_refused() {
        for text in ["", "127.0.0.1:8443", "http://", "http://localhost/x", "http://localhost?x", "ftp://localhost"] {
            assert!(matches!(text.parse::<Endpoint>(), Err(EndpointError::Malformed { .. })), "{text}");
        }
        for text in ["http://me@localhost", "http://[::1]8443", "http://[::1]example.org:80"] {
            assert!(matches!(text.parse::<Endpoint>(), Err(EndpointError::Malformed { .. })), "{text}");
        }
        for text in
            ["https://me@example.org", "https://exa_mple!.org", "https://example.org/x", "https://-a-", "https://[::1"]
        {
            assert!(matches!(text.parse::<Endpoint>(), Err(EndpointError::Malformed { .. })), "{text}");
        }
    }

    #[test]
    fn a_server_over_tls_has_one_form() {
        let check = |text: &str, origin: &str, name: &str, port: u16| {
            let endpoint: Endpoint = text.parse().expect(text);
            assert_eq!(endpoint.as_str(), origin);
            assert_eq!(endpoint.server_name().expect("a name").to_str(), name);
            assert_eq!(endpoint.tls_port(), Some(port));
            assert_eq!(origin.parse::<Endpoint>().expect("its own form"), endpoint);
        };
        check("https://Example.ORG.:443/", "https://example.org", "example.org", 443);
        check("https://example.org:8443", "https://example.org:8443", "example.org", 8443);
        check("https://192.0.2.1", "https://192.0.2.1", "192.0.2.1", 443);
        check("https://[2001:DB8::1]:8443", "https://[2001:db8::1]:8443", "2001:db8::1", 8443);
        assert_eq!("http://localhost:1".parse::<Endpoint>().expect("an endpoint").server_name(), None);
    }
}
