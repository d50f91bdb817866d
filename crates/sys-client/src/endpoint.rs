//! Where a server is.

use http::{Uri, uri::Authority};
use std::{fmt, net::IpAddr, str::FromStr};

/// The origin of a server: scheme, host and port, and nothing after them.
///
/// Plain `http` is for loopback alone: beyond it passwords and tokens would cross a network readable.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint(String);

impl Endpoint {
    /// The origin as text, such as `http://127.0.0.1:8443`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
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
            "http" if is_loopback(authority.host()) => Ok(Self(format!("http://{authority}"))),
            "http" => Err(EndpointError::PlaintextBeyondLoopback { text: text.to_owned() }),
            "https" => Err(EndpointError::TlsNotYet { text: text.to_owned() }),
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
    #[error("`{text}` is no server: write its scheme, host and port, such as http://127.0.0.1:8443")]
    Malformed {
        /// What was given.
        text: String,
    },
    /// Plain HTTP to another machine.
    #[error(
        "`{text}` is another machine, and without TLS passwords and tokens would cross the network readable: plain http is for 127.0.0.1, [::1] and localhost alone"
    )]
    PlaintextBeyondLoopback {
        /// What was given.
        text: String,
    },
    /// TLS is not there yet.
    #[error("`{text}` needs TLS, which this version does not speak yet: use http to a server on this machine")]
    TlsNotYet {
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
        assert!(matches!("https://example.org".parse::<Endpoint>(), Err(EndpointError::TlsNotYet { .. })));
    }
}
