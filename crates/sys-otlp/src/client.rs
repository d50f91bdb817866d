//! One message posted to a collector, over one connection, bounded in time and in size.
//!
//! There is at most one message a second until there is much to tell: connections are not kept. Redirects are not followed.

use crate::{messages::ExportTraceServiceResponse, settings::Settings};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use prost::Message;
use rustls::pki_types::ServerName;
use std::{convert::Infallible, future::pending, io, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

/// For one message with its connection: what the standard's exporters wait.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);
/// For the head of an answer.
const HEAD_BYTES: usize = 32 << 10;
/// For its body, which says at most how many spans were not wanted and why.
const BODY_BYTES: usize = 64 << 10;
/// Characters of what a collector says that are logged.
const MAX_SAID: usize = 200;

/// What a collector did with a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Spans that it did not want.
    pub(crate) rejected: usize,
    /// Why not, in its words, without what could forge a line of a log.
    pub(crate) said: String,
}

/// Why a collector did not take a message.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotTaken {
    #[error("the collector cannot be reached: {0}")]
    Connect(io::Error),
    #[error("the collector's name leads to another machine, and there is no TLS: write https://")]
    Elsewhere,
    #[error("the collector does not prove who it is: {0}")]
    NotTrusted(io::Error),
    #[error("the collector did not answer within {} s", TIMEOUT.as_secs())]
    TimedOut,
    #[error("the collector broke off, or what it answers is not HTTP")]
    Broken,
    #[error("the collector answered with status {0}")]
    Busy(StatusCode, Option<Duration>),
    #[error("the collector does not want it: it answered with status {0}")]
    Refused(StatusCode),
}

impl NotTaken {
    /// Whether it may take the same message another time (OTLP/HTTP, "Retryable Response Codes").
    pub(crate) fn may_pass(&self) -> bool {
        !matches!(self, Self::Refused(_))
    }

    /// When it wants to be asked again.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Busy(_, after) => *after,
            _ => None,
        }
    }
}

/// Posts a message.
pub(crate) async fn post(settings: &Settings, message: Bytes) -> Result<Taken, NotTaken> {
    timeout(TIMEOUT, posted(settings, message)).await.unwrap_or(Err(NotTaken::TimedOut))
}

async fn posted(settings: &Settings, message: Bytes) -> Result<Taken, NotTaken> {
    let endpoint = &settings.endpoint;
    let stream = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await.map_err(NotTaken::Connect)?;
    // It goes out at once: there is one message on a connection.
    let _ = stream.set_nodelay(true);
    if !endpoint.is_https {
        let peer = stream.peer_addr().map_err(NotTaken::Connect)?;
        if !peer.ip().to_canonical().is_loopback() {
            return Err(NotTaken::Elsewhere);
        }
        return exchange(stream, settings, message).await;
    }
    let name = ServerName::try_from(endpoint.host.clone()).map_err(|_| NotTaken::Broken)?;
    let tls = TlsConnector::from(settings.roots.0.clone());
    let stream = tls.connect(name, stream).await.map_err(NotTaken::NotTrusted)?;
    exchange(stream, settings, message).await
}

async fn exchange<S>(stream: S, settings: &Settings, message: Bytes) -> Result<Taken, NotTaken>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let handshake = http1::Builder::new().max_buf_size(HEAD_BYTES).handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|_| NotTaken::Broken)?;
    let request = request(settings, message).ok_or(NotTaken::Broken)?;
    let exchange = async move {
        let (head, body) = sender.send_request(request).await.map_err(|_| NotTaken::Broken)?.into_parts();
        let body = Limited::new(body, BODY_BYTES).collect().await.map_err(|_| NotTaken::Broken)?;
        read(&Response::from_parts(head, body.to_bytes()))
    };
    // A connection that is over has handed on all that it read: the answer comes out of the exchange.
    let drive = async move {
        let _ = connection.await;
        pending::<Infallible>().await
    };
    tokio::select! {
        taken = exchange => taken,
        never = drive => match never {},
    }
}

fn request(settings: &Settings, message: Bytes) -> Option<Request<Full<Bytes>>> {
    let endpoint = &settings.endpoint;
    let mut request = Request::post(&endpoint.path).body(Full::new(message)).ok()?;
    let headers = request.headers_mut();
    headers.insert(header::HOST, endpoint.authority.clone());
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    headers.insert(header::USER_AGENT, HeaderValue::from_static(concat!("sys-otlp/", env!("CARGO_PKG_VERSION"))));
    headers.extend(settings.headers.0.iter().cloned());
    Some(request)
}

/// What an answer says.
fn read(answer: &Response<Bytes>) -> Result<Taken, NotTaken> {
    match answer.status() {
        status if status.is_success() => {
            // Who answers 200 has taken it, whatever else he says.
            let said = ExportTraceServiceResponse::decode(answer.body().clone()).unwrap_or_default();
            let partial = said.partial_success.unwrap_or_default();
            let rejected = usize::try_from(partial.rejected_spans).unwrap_or(0);
            let said =
                partial.error_message.chars().filter(|character| !character.is_control()).take(MAX_SAID).collect();
            Ok(Taken { rejected, said })
        }
        status @ (StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT) => {
            let after = answer.headers().get(header::RETRY_AFTER);
            let seconds = after.and_then(|after| after.to_str().ok()?.trim().parse().ok());
            Err(NotTaken::Busy(status, seconds.map(Duration::from_secs)))
        }
        status => Err(NotTaken::Refused(status)),
    }
}

#[cfg(test)]
mod tests;
