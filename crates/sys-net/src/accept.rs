//! Connections accepted within bounds: each has a place, and one that has many may have to leave it for who has few.
//!
//! What must never happen here: a wait for a peer, or an end because of one.

use crate::sources::{Room, Sources};
use pin_project_lite::pin_project;
use std::{
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
    time::sleep,
};

/// Failures to accept, in a row, after which a listener gives up: 10 s with [`ACCEPT_PAUSE`] between them. Running out
/// of file descriptors passes when connections close; a broken socket never does.
pub const ACCEPT_FAILURES: u32 = 100;
/// Pause after a failure to accept, so that the loop does not spin while descriptors are short.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The system gave no connection for [`ACCEPT_FAILURES`] attempts in a row.
#[derive(Debug, thiserror::Error)]
#[error("the system accepts no connections any more")]
pub struct AcceptError(#[source] io::Error);

/// A port, and the places of its connections.
#[derive(Debug)]
pub struct Acceptor {
    socket: TcpListener,
    places: Arc<Semaphore>,
    sources: Arc<Sources>,
    crowd: watch::Sender<bool>,
    /// Who was accepted and has no place yet.
    waiting: Option<(TcpStream, SocketAddr)>,
}

/// A connection that has a place.
type Accepted = (TcpStream, SocketAddr, OwnedSemaphorePermit);

impl Acceptor {
    /// With so many places. Who holds them is counted in `sources` by whoever begins with a connection.
    pub fn new(socket: TcpListener, places: usize, sources: Arc<Sources>) -> Self {
        let places = Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS)));
        Self { socket, places, sources, crowd: watch::Sender::new(false), waiting: None }
    }

    /// Whether all places are taken.
    pub fn crowded(&self) -> watch::Receiver<bool> {
        self.crowd.subscribe()
    }

    /// Accepts connections until `shutdown` comes back, or until that cannot go on; then closes the port. `begin` makes of each what is to be done
    /// with it, in a task that holds its place, or nothing where it is to close. The tasks that are not over come back with why it ended.
    pub async fn each<F>(
        mut self,
        shutdown: impl Future<Output = ()>,
        mut begin: impl FnMut(TcpStream, SocketAddr) -> Option<F>,
    ) -> (JoinSet<F::Output>, Result<(), AcceptError>)
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let mut tasks = JoinSet::new();
        let mut shutdown = pin!(shutdown);
        let ended = loop {
            tokio::select! {
                biased;
                () = &mut shutdown => break Ok(()),
                Some(_) = tasks.join_next(), if !tasks.is_empty() => {}
                accepted = self.accept() => {
                    let (stream, peer, place) = match accepted { Ok(accepted) => accepted, Err(error) => break Err(error) };
                    let Some(begun) = begin(stream, peer) else { continue };
                    tasks.spawn(InPlace { begun, _place: place });
                }
            }
        };
        (tasks, ended)
    }

    /// Waits for a connection, then for a place, which another one may have to leave for it. While there is none, the connections hear
    /// that it is crowded. Whoever has come is found again if this is begun anew.
    async fn accept(&mut self) -> Result<Accepted, AcceptError> {
        loop {
            let is_crowded = self.places.available_permits() == 0;
            self.crowd.send_if_modified(|crowded| std::mem::replace(crowded, is_crowded) != is_crowded);
            if self.waiting.is_none() {
                let (stream, peer) = accepted(&self.socket).await?;
                if self.places.available_permits() == 0 && self.sources.make_room(peer.ip()) == Room::TooMany {
                    continue;
                }
                self.waiting = Some((stream, peer));
                continue;
            }
            let place = Arc::clone(&self.places).acquire_owned().await;
            let place = place.map_err(|closed| AcceptError(io::Error::other(closed)))?;
            if let Some((stream, peer)) = self.waiting.take() {
                return Ok((stream, peer, place));
            }
        }
    }
}

pin_project! {
    /// What is done with a connection, and its place. Not an `async` block: one that waits for a future that it was given holds it twice.
    struct InPlace<F> {
        #[pin]
        begun: F,
        _place: OwnedSemaphorePermit,
    }
}

impl<F: Future> Future for InPlace<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        self.project().begun.poll(context)
    }
}

async fn accepted(socket: &TcpListener) -> Result<(TcpStream, SocketAddr), AcceptError> {
    let mut failures = 0;
    loop {
        match socket.accept().await {
            Ok((stream, peer)) => {
                // Small answers must not wait for a full packet. A socket that refuses this is about to fail anyway.
                let _ = stream.set_nodelay(true);
                return Ok((stream, peer));
            }
            Err(error) => {
                failures += 1;
                tracing::warn!(%error, failures, "cannot accept a connection");
                if failures >= ACCEPT_FAILURES {
                    return Err(AcceptError(error));
                }
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

#[cfg(test)]
mod tests;
