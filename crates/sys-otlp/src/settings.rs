//! Where traces go, and what is needed for that.

use http::{HeaderName, HeaderValue, header};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, pem::PemObject},
    version::TLS13,
};
use std::{fmt, net::IpAddr, str::FromStr, sync::Arc};
use sys_core::trace::Sampling;

/// What the standard puts behind the URL of a collector.
const TRACES_PATH: &str = "/v1/traces";
/// Lines of the file of headers. A collector wants one or two.
const MAX_HEADERS: usize = 16;

/// How traces are sent.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The collector.
    pub endpoint: Endpoint,
    /// Whose word it is believed by.
    pub roots: Roots,
    /// What it wants to hear with each message.
    pub headers: Headers,
    /// What the server is called there (`service.name`).
    pub service: String,
    /// Which calls are recorded.
    pub sampling: Sampling,
}

/// A collector's URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub(crate) is_https: bool,
    /// Without the brackets of an address.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// As the request line has it.
    pub(crate) path: String,
    /// As `Host` has it.
    pub(crate) authority: HeaderValue,
}

/// Why a URL is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// It is none.
    #[error("not the URL of a collector: write https://HOST:PORT or http://127.0.0.1:4318")]
    NotOne,
    /// It goes to another machine in plain.
    #[error("traces go to another machine over TLS alone: write https://, or an address of this machine")]
    Plain,
    /// It has more than a collector's URL has.
    #[error(
        "a name, a password, a query or a fragment does not belong into a collector's URL: what it wants to hear goes into headers_file"
    )]
    More,
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let uri: http::Uri = text.parse().map_err(|_| EndpointError::NotOne)?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(EndpointError::NotOne);
        };
        let is_https = match scheme {
            "https" => true,
            "http" => false,
            _ => return Err(EndpointError::NotOne),
        };
        if authority.as_str().contains('@') || text.contains(['?', '#']) {
            return Err(EndpointError::More);
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if !is_https && !is_loopback(&host) {
            return Err(EndpointError::Plain);
        }
        if host.is_empty() {
            return Err(EndpointError::NotOne);
        }
        let base = uri.path().trim_end_matches('/');
        let path = if base.ends_with(TRACES_PATH) { base.to_owned() } else { format!("{base}{TRACES_PATH}") };
        let port = uri.port_u16().unwrap_or(if is_https { 443 } else { 80 });
        let authority = HeaderValue::from_str(authority.as_str()).map_err(|_| EndpointError::NotOne)?;
        Ok(Self { is_https, host, port, path, authority })
    }
}

/// A name of this machine. What it leads to is looked at once more when it is connected to.
fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.to_canonical().is_loopback())
}

/// Whose word a collector is believed by.
#[derive(Clone)]
pub struct Roots(pub(crate) Arc<ClientConfig>);

/// What is no list of certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there is no certificate in it that could be the root of a collector's: write one or more in PEM")]
pub struct RootsError;

impl fmt::Debug for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Roots")
    }
}

impl Roots {
    /// These authorities (PEM) alone, or those of browsers.
    pub fn of(pem: Option<&str>) -> Result<Self, RootsError> {
        let mut roots = RootCertStore::empty();
        match pem {
            None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Some(pem) => {
                for root in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                    roots.add(root.map_err(|_| RootsError)?).map_err(|_| RootsError)?;
                }
            }
        }
        if roots.is_empty() {
            return Err(RootsError);
        }
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&TLS13])
            // INVARIANT: the provider has suites of TLS 1.3; if one day it has not, no collector can be reached.
            .map_err(|_| RootsError)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(Arc::new(config)))
    }
}

/// Headers that are sent with each message: they may hold a secret.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers(pub(crate) Vec<(HeaderName, HeaderValue)>);

/// Why a file of headers is not taken. It says the line and not what stands there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeadersError {
    /// A line is none.
    #[error("line {0} is no header: write NAME: VALUE")]
    NotOne(usize),
    /// It is ours to say.
    #[error("line {line}: {name} is said by the server itself: remove the line")]
    Ours {
        /// Counted from 1.
        line: usize,
        /// The header.
        name: HeaderName,
    },
    /// There are too many.
    #[error("there are more than {MAX_HEADERS} headers")]
    TooMany,
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

impl FromStr for Headers {
    type Err = HeadersError;

    fn from_str(text: &str) -> Result<Self, HeadersError> {
        let mut headers = Vec::new();
        for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
            let (name, value) = line.split_once(':').ok_or(HeadersError::NotOne(number))?;
            let name = HeaderName::from_str(name.trim()).map_err(|_| HeadersError::NotOne(number))?;
            let mut value = HeaderValue::from_str(value.trim()).map_err(|_| HeadersError::NotOne(number))?;
            value.set_sensitive(true);
            let ours = [
                header::HOST,
                header::CONTENT_LENGTH,
                header::CONTENT_TYPE,
                header::CONTENT_ENCODING,
                header::TRANSFER_ENCODING,
                header::CONNECTION,
            ];
            if ours.contains(&name) {
                return Err(HeadersError::Ours { line: number, name });
            }
            headers.push((name, value));
        }
        if headers.len() > MAX_HEADERS {
            return Err(HeadersError::TooMany);
        }
        Ok(Self(headers))
    }
}

#[cfg(test)]
mod tests;
