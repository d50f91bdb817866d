//! A socket that counts, so that a peer who does not do his part is found out, and that is not read while there is too much
//! to do.

use crate::congestion::Congestion;
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

/// How often a socket whose reading pauses looks whether it may go on.
const PAUSE: Duration = Duration::from_millis(2);
/// Bytes read at once when requests had to wait lately: about a dozen small ones.
const SMALL_READ_BYTES: usize = 2_048;

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
}

impl Meter {
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
    congestion: Arc<Congestion>,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Metered {
    pub(crate) fn new(stream: TcpStream, meter: Arc<Meter>, congestion: Arc<Congestion>) -> Self {
        Self { stream, meter, congestion, pause: None }
    }

    /// Ready when this socket may be read. The first request of a connection is always heard.
    fn poll_may_read(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while self.meter.is_busy() && self.congestion.is_here() {
            let pause = self.pause.get_or_insert_with(|| Box::pin(sleep(PAUSE)));
            ready!(pause.as_mut().poll(context));
            self.pause = None;
        }
        self.pause = None;
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
        if !self.congestion.is_near() || buffer.remaining() <= SMALL_READ_BYTES {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let mut small = ReadBuf::new(buffer.initialize_unfilled_to(SMALL_READ_BYTES));
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut small))?;
        let read = small.filled().len();
        buffer.advance(read);
        Poll::Ready(Ok(()))
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
