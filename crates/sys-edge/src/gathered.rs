//! What a connection writes in one turn goes out together.
//!
//! HTTP/2 writes an answer in pieces: its head with its body, then the end of its stream, and each answer by itself. With a
//! system call for each piece a small answer cost more to send than to find. So the pieces are gathered while the connection
//! is polled ([`Gathered`]), and written when its turn is over ([`Outlet`]). What must never happen here: bytes that are left behind
//! when a turn ends and that nobody was woken for.

use crate::{metered::Meter, speak::Bottom};
use std::{
    error::Error,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that are gathered at most: some pages of a list. From there on the peer is waited for.
const MOST_BYTES: usize = 64 << 10;
/// What of the buffer is kept for the next turn. A connection that is idle holds no more.
const KEPT_BYTES: usize = 8 << 10;

/// What a connection ends with.
pub(crate) type Ended = Result<(), Box<dyn Error + Send + Sync>>;

/// A socket as the protocol sees it: it takes what is written and is flushed at once, up to a bound.
#[derive(Debug)]
pub(crate) struct Gathered<T>(Arc<Mutex<Outgoing<T>>>);

/// The other end of it, which writes what was gathered.
#[derive(Debug)]
pub(crate) struct Outlet<T> {
    outgoing: Arc<Mutex<Outgoing<T>>>,
    meter: Arc<Meter>,
    /// Whether the turn that is over now was waited for, so that other answers come with it.
    has_waited: bool,
}

#[derive(Debug)]
struct Outgoing<T> {
    socket: T,
    bytes: Vec<u8>,
    /// So many of them are written.
    written: usize,
}

/// A socket, and what writes to it when a turn of its connection is over.
pub(crate) fn gathered<T>(socket: T, meter: Arc<Meter>) -> (Gathered<T>, Outlet<T>) {
    let outgoing = Arc::new(Mutex::new(Outgoing { socket, bytes: Vec::new(), written: 0 }));
    (Gathered(Arc::clone(&outgoing)), Outlet { outgoing, meter, has_waited: false })
}

impl<T: AsyncWrite + Unpin> Outlet<T> {
    /// One turn of the connection that writes into the other end.
    pub(crate) fn poll_turn(
        &mut self,
        context: &mut Context<'_>,
        connection: impl FnOnce(&mut Context<'_>) -> Poll<Ended>,
    ) -> Poll<Ended> {
        let ended = connection(context);
        let mut outgoing = locked(&self.outgoing);
        // Others of its requests may be answered before this task has its turn again: their answers go out with these.
        if ended.is_pending() && !self.has_waited && !outgoing.bytes.is_empty() && self.meter.is_busy() {
            self.has_waited = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.has_waited = false;
        match outgoing.poll_write_out(context) {
            // One that ends has written all before it closed its socket.
            Poll::Ready(Err(error)) if ended.is_pending() => Poll::Ready(Err(error.into())),
            _ => ended,
        }
    }
}

impl<T: AsyncWrite + Unpin> Outgoing<T> {
    /// Ready when all that was gathered is written.
    fn poll_write_out(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(left) = self.bytes.get(self.written..).filter(|left| !left.is_empty()) {
            match ready!(Pin::new(&mut self.socket).poll_write(context, left))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.written += written,
            }
        }
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES);
        self.written = 0;
        Pin::new(&mut self.socket).poll_flush(context)
    }

    /// How many more bytes may be gathered; pending while the peer takes none.
    fn poll_room(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.bytes.len() >= MOST_BYTES {
            ready!(self.poll_write_out(context))?;
        }
        Poll::Ready(Ok(MOST_BYTES - self.bytes.len()))
    }
}

impl<T: Bottom> Gathered<T> {
    /// See [`Bottom::poll_readable`].
    pub(crate) fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        locked(&self.0).socket.poll_readable(context)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Gathered<T> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut locked(&self.0).socket).poll_read(context, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Gathered<T> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut outgoing = locked(&self.0);
        let room = ready!(outgoing.poll_room(context))?;
        let mut left = room;
        for piece in bytes {
            let taken = piece.get(..left).unwrap_or(piece);
            outgoing.bytes.extend_from_slice(taken);
            left -= taken.len();
        }
        Poll::Ready(Ok(room - left))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// At once: the turn in which this is asked ends with the bytes on their way, or with a waker for when they can be.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut outgoing = locked(&self.0);
        ready!(outgoing.poll_write_out(context))?;
        Pin::new(&mut outgoing.socket).poll_shutdown(context)
    }
}

fn locked<T>(outgoing: &Mutex<Outgoing<T>>) -> MutexGuard<'_, Outgoing<T>> {
    // A panic while it was held leaves bytes and a socket, as an error would.
    outgoing.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use tokio::io::AsyncWriteExt;

    /// A peer that takes so many bytes, and notes each write.
    #[derive(Debug, Default)]
    struct Peer {
        takes: usize,
        writes: Vec<Vec<u8>>,
    }

    impl AsyncWrite for Peer {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            let taken = bytes.len().min(self.takes);
            if taken == 0 {
                return Poll::Pending;
            }
            self.takes -= taken;
            self.writes.push(bytes[..taken].to_vec());
            Poll::Ready(Ok(taken))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    async fn turn(outlet: &mut Outlet<Peer>, connection: impl Future<Output = Ended>) -> Poll<Ended> {
        let mut connection = std::pin::pin!(connection);
        poll_fn(|context| Poll::Ready(outlet.poll_turn(context, |context| connection.as_mut().poll(context)))).await
    }

    fn writes(outlet: &Outlet<Peer>) -> Vec<Vec<u8>> {
        locked(&outlet.outgoing).socket.writes.clone()
    }

    async fn writing(socket: &mut Gathered<Peer>, pieces: &[&[u8]]) -> Ended {
        for piece in pieces {
            socket.write_all(piece).await?;
            socket.flush().await?;
        }
        std::future::pending().await
    }

    #[tokio::test]
    async fn what_a_turn_writes_goes_out_in_one_piece_when_it_is_over() {
        let (mut socket, mut outlet) = gathered(Peer { takes: 100, ..Peer::default() }, Arc::default());
        assert!(turn(&mut outlet, writing(&mut socket, &[b"head ", b"body ", b"end"])).await.is_pending());
        assert_eq!(writes(&outlet), [b"head body end"]);
    }

    #[tokio::test]
    async fn while_other_requests_are_under_way_one_turn_is_waited_for() {
        let meter = Arc::<Meter>::default();
        let other = meter.begin(false);
        let (mut socket, mut outlet) = gathered(Peer { takes: 100, ..Peer::default() }, Arc::clone(&meter));
        assert!(turn(&mut outlet, writing(&mut socket, &[b"one "])).await.is_pending());
        assert!(writes(&outlet).is_empty());
        assert!(turn(&mut outlet, writing(&mut socket, &[b"other"])).await.is_pending());
        assert_eq!(writes(&outlet), [b"one other"], "and no longer than one");
        drop(other);
        assert!(turn(&mut outlet, writing(&mut socket, &[b"last"])).await.is_pending());
        assert_eq!(writes(&outlet).len(), 2);
    }

    #[tokio::test]
    async fn no_more_is_gathered_than_the_bound_while_the_peer_takes_nothing() {
        let (mut socket, mut outlet) = gathered(Peer::default(), Arc::default());
        let long = vec![7; 3 * MOST_BYTES];
        assert!(turn(&mut outlet, writing(&mut socket, &[&long])).await.is_pending());
        assert_eq!(locked(&outlet.outgoing).bytes.len(), MOST_BYTES);
        locked(&outlet.outgoing).socket.takes = MOST_BYTES - 1;
        assert!(turn(&mut outlet, std::future::pending()).await.is_pending());
        let left = |outgoing: &Outgoing<Peer>| outgoing.bytes.len() - outgoing.written;
        assert_eq!(left(&locked(&outlet.outgoing)), 1, "what it does not take waits");
        locked(&outlet.outgoing).socket.takes = 1;
        poll_fn(|context| Pin::new(&mut socket).poll_shutdown(context)).await.unwrap();
        assert_eq!(writes(&outlet).concat().len(), MOST_BYTES, "and goes out before the socket is closed");
        assert!(locked(&outlet.outgoing).bytes.capacity() <= KEPT_BYTES);
    }
}
