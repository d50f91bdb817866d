//! HTTP as far as a directory needs it: one request over one TLS 1.3 connection, bounded in time and in size.
//!
//! There are some twenty requests to a certificate, every two months: connections are not kept. Redirects are not followed, since RFC 8555
//! knows none, and nothing goes to a URL without https, whoever named it.

use crate::{kept::Boxed, settings::SettingsError};
use ::http::{HeaderValue, Request, Response, Uri, header};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
    version::TLS13,
};
use std::{convert::Infallible, fmt, future::pending, sync::Arc, time::Duration};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

/// What a peer may take of us.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// For one request with its connection. A CA answers at once; what takes longer it has polled for.
    pub(crate) time: Duration,
    /// For the body of an answer. A chain of a hundred names has some 20 KiB.
    pub(crate) body_bytes: usize,
}

const BOUNDS: Bounds = Bounds { time: Duration::from_secs(30), body_bytes: 128 * 1024 };
/// For the head of an answer.
const HEAD_BYTES: usize = 32 * 1024;

/// Sends a request to who its URI names, and gives back the answer.
pub(crate) trait Exchange: Send + Sync + 'static {
    fn exchange(&self, request: Request<Bytes>) -> Boxed<'_, Result<Response<Bytes>, HttpError>>;
}

/// Why there is no answer that could be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HttpError {
    #[error("it named a URL that does not begin with https://")]
    NotHttps,
    #[error("{host} cannot be reached: {reason}")]
    Connect { host: String, reason: String },
    #[error("{host} does not prove who it is: {reason}")]
    NotTrusted { host: String, reason: String },
    #[error("{host} did not answer within {seconds} s")]
    TimedOut { host: String, seconds: u64 },
    #[error("{host} broke off its answer, or it is larger than {limit} bytes")]
    Broken { host: String, limit: usize },
    #[error("{host} answered with status {status}")]
    Status { host: String, status: u16 },
    #[error("{host} is no ACME directory: {reason}")]
    NoDirectory { host: String, reason: &'static str },
}

/// The real thing.
pub(crate) struct Https {
    tls: TlsConnector,
    bounds: Bounds,
}

impl Https {
    /// Trusts these roots (PEM) alone, or those of browsers.
    pub(crate) fn new(root_pem: Option<&str>) -> Result<Self, SettingsError> {
        let mut roots = RootCertStore::empty();
        match root_pem {
            None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Some(pem) => {
                for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                    let certificate = certificate.map_err(|_| SettingsError::Root)?;
                    roots.add(certificate).map_err(|_| SettingsError::Root)?;
                }
            }
        }
        if roots.is_empty() {
            return Err(SettingsError::Root);
        }
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&TLS13])
            // INVARIANT: the provider has suites of TLS 1.3; if one day it has not, no directory can be asked.
            .map_err(|_| SettingsError::Root)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { tls: TlsConnector::from(Arc::new(config)), bounds: BOUNDS })
    }

    async fn send(&self, mut request: Request<Bytes>, host: &str) -> Result<Response<Bytes>, HttpError> {
        let uri = request.uri().clone();
        if uri.scheme_str() != Some("https") {
            return Err(HttpError::NotHttps);
        }
        let stream = self.connect(&uri, host).await?;
        let broken = || HttpError::Broken { host: host.to_owned(), limit: self.bounds.body_bytes };
        make_origin_form(&mut request, &uri).ok_or(HttpError::NotHttps)?;
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(HEAD_BYTES)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|_| broken())?;
        let limit = self.bounds.body_bytes;
        let exchange = async move {
            let answer = sender.send_request(request.map(Full::new)).await.map_err(|_| broken())?;
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, limit).collect().await.map_err(|_| broken())?;
            Ok(Response::from_parts(head, body.to_bytes()))
        };
        // A connection that is over has handed on all that it read: the answer comes out of the exchange.
        let drive = async move {
            let _ = connection.await;
            pending::<Infallible>().await
        };
        tokio::select! {
            answer = exchange => answer,
            never = drive => match never {},
        }
    }

    async fn connect(&self, uri: &Uri, host: &str) -> Result<tokio_rustls::client::TlsStream<TcpStream>, HttpError> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| HttpError::NotHttps)?;
        let port = uri.port_u16().unwrap_or(443);
        let stream = TcpStream::connect((host, port))
            .await
            .map_err(|error| HttpError::Connect { host: host.to_owned(), reason: error.to_string() })?;
        self.tls
            .connect(name, stream)
            .await
            .map_err(|error| HttpError::NotTrusted { host: host.to_owned(), reason: error.to_string() })
    }
}

impl Exchange for Https {
    fn exchange(&self, request: Request<Bytes>) -> Boxed<'_, Result<Response<Bytes>, HttpError>> {
        Box::pin(async move {
            let host = host(request.uri());
            match timeout(self.bounds.time, self.send(request, &host)).await {
                Ok(answer) => answer,
                Err(_) => Err(HttpError::TimedOut { host, seconds: self.bounds.time.as_secs() }),
            }
        })
    }
}

impl fmt::Debug for Https {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Https").field("bounds", &self.bounds).finish_non_exhaustive()
    }
}

/// The host that a URI names, an address without its brackets.
pub(crate) fn host(uri: &Uri) -> String {
    uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned()
}

/// The path alone in the request line, the rest in `Host` (RFC 9112 section 3.2.1).
fn make_origin_form(request: &mut Request<Bytes>, uri: &Uri) -> Option<()> {
    let authority = uri.authority()?;
    let host = match authority.port_u16() {
        Some(port) if port != 443 => format!("{}:{port}", authority.host()),
        _ => authority.host().to_owned(),
    };
    request.headers_mut().insert(header::HOST, HeaderValue::from_str(&host).ok()?);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = path.parse().ok()?;
    Some(())
}

#[cfg(test)]
mod tests;
