//! A socket that counts, so that a peer who does not do his part is found out, and that is not read for a moment when a request
//! of it was turned away.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Sleep, sleep},
};

/// For how long a connection is not read after a request of it was turned away. Its next ones are then read and turned away
/// together, which is what each costs least in, and what it sends is bounded by its streams. Short beside the time for which
/// requests wait that are taken in, so that nobody is idle for it.
const PAUSE: Duration = Duration::from_millis(10);

/// What has become of a connection so far. Plain counters instead of a timer for each request: this is on every request's
/// way.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    begun: AtomicU64,
    ended: AtomicU64,
    /// Answers of which there is more to send as soon as the peer takes it.
    owed: AtomicU64,
    written_bytes: AtomicU64,
    /// Whether the socket took no more at the last attempt.
    blocked: AtomicBool,
    /// Whether a request was turned away since the socket was read.
    turned_away: AtomicBool,
    /// Whether the request that has come last was turned away, and nobody has asked yet.
    turns_away: AtomicBool,
}

impl Meter {
    /// The request that has come now is turned away.
    pub(crate) fn turn_away(&self) {
        self.turned_away.store(true, Ordering::Relaxed);
        self.turns_away.store(true, Ordering::Relaxed);
    }

    /// Whether the request that has come now is turned away.
    pub(crate) fn turns_away(&self) -> bool {
        self.turns_away.load(Ordering::Relaxed) && self.turns_away.swap(false, Ordering::Relaxed)
    }

    /// Requests begun so far.
    pub(crate) fn begun(&self) -> u64 {
        self.begun.load(Ordering::Acquire)
    }

    /// Whether any request is under way.
    pub(crate) fn is_busy(&self) -> bool {
        // In this order, so that one that begins meanwhile counts.
        let ended = self.ended.load(Ordering::Acquire);
        self.begun() != ended
    }

    /// Whether the peer leaves something unread that he asked for.
    pub(crate) fn is_waited_for(&self) -> bool {
        self.blocked.load(Ordering::Relaxed) || self.owed.load(Ordering::Relaxed) > 0
    }

    /// Bytes that the socket took so far.
    pub(crate) fn written_bytes(&self) -> u64 {
        self.written_bytes.load(Ordering::Relaxed)
    }

    /// As if the socket had taken these.
    #[cfg(test)]
    pub(crate) fn add_written(&self, bytes: u64) {
        self.written_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts a request from here until the guard is dropped.
    pub(crate) fn begin(self: &Arc<Self>) -> UnderWay {
        self.begun.fetch_add(1, Ordering::AcqRel);
        UnderWay { meter: Arc::clone(self), owes: false }
    }
}

/// One request under way; ends where it is dropped.
#[derive(Debug)]
pub(crate) struct UnderWay {
    meter: Arc<Meter>,
    owes: bool,
}

impl UnderWay {
    /// Whether there is more of the answer to send as soon as the peer takes it.
    pub(crate) fn owes(&mut self, owes: bool) {
        match (self.owes, owes) {
            (false, true) => drop(self.meter.owed.fetch_add(1, Ordering::Relaxed)),
            (true, false) => drop(self.meter.owed.fetch_sub(1, Ordering::Relaxed)),
            (true, true) | (false, false) => {}
        }
        self.owes = owes;
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.owes(false);
        self.meter.ended.fetch_add(1, Ordering::AcqRel);
    }
}

/// The socket of a connection.
#[derive(Debug)]
pub(crate) struct Metered {
    stream: TcpStream,
    meter: Arc<Meter>,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Metered {
    pub(crate) fn new(stream: TcpStream, meter: Arc<Meter>) -> Self {
        Self { stream, meter, pause: None }
    }

    /// Ready when this socket may be read.
    fn poll_may_read(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let turned_away = &self.meter.turned_away;
        if turned_away.load(Ordering::Relaxed) {
            turned_away.store(false, Ordering::Relaxed);
            self.pause = Some(Box::pin(sleep(PAUSE)));
        }
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(context));
            self.pause = None;
        }
        Poll::Ready(())
    }

    fn note_written(&self, written: &Poll<io::Result<usize>>) {
        match written {
            Poll::Ready(Ok(bytes)) => {
                let bytes = u64::try_from(*bytes).unwrap_or(u64::MAX);
                self.meter.written_bytes.fetch_add(bytes, Ordering::Relaxed);
                self.meter.blocked.store(false, Ordering::Relaxed);
            }
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.meter.blocked.store(true, Ordering::Relaxed),
        }
    }
}

impl AsyncRead for Metered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_may_read(context));
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Metered {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.note_written(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.note_written(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
