//! DNS over TLS (RFC 7858): streams behind the same handshake as requests, within its bounds, for somebody else to answer on.
//!
//! It stands on a port of its own, and its streams are never served HTTP. What must never happen here: a look at what is asked.

use crate::{Limits, ProxySources, metered::Meter, opened::Door, tls::Tls};
use std::sync::Arc;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};

/// What shakes hands for questions. Clones share its turns.
#[derive(Debug, Clone)]
pub struct Dot(Arc<Door>);

impl Dot {
    /// Shows what `tls` shows, for the runtime that this is called in.
    pub fn new(tls: Tls, limits: &Limits) -> Self {
        Self(Arc::new(Door::new(Some(tls), ProxySources::default(), limits)))
    }

    /// Shakes hands on a connection; `None` where that fails or takes too long, which is the peer's doing. How many connections there may
    /// be, whoever accepts them sees to.
    pub async fn open(self, stream: TcpStream) -> Option<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        let meter = Arc::new(Meter::default());
        match timeout(self.0.time(), self.0.open_for_questions(stream, &meter)).await {
            Ok(Ok(stream)) => Some(stream),
            Ok(Err(error)) => {
                tracing::debug!(%error, "a connection for questions closes before its first");
                None
            }
            Err(_) => None,
        }
    }
}
