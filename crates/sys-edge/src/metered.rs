//! A socket that counts, so that a peer who does not do his part is found out, and that rests for a moment when a request of it
//! was turned away.

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

/// For how long a connection rests after a request of it was turned away: it is not read, and not written to once the answer is out.
/// What it sends meanwhile, which is bounded by its streams, is then read, and turned away or answered, together; that is what
/// each costs least in. Short beside the time for which requests wait that are taken in, so that nobody is idle for it.
const SHORTEST_REST: Duration = Duration::from_millis(10);
/// While something is turned away after each rest, the next one is twice as long, up to this. Half the time for which requests
/// wait.
const LONGEST_REST: Duration = Duration::from_millis(40);

/// What has become of a connection so far. Plain counters instead of a timer for each request: this is on every request's
/// way.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    begun: AtomicU64,
    ended: AtomicU64,
    /// Answers of which there is more to send as soon as the peer takes it.
    owed: AtomicU64,
    handed_over: AtomicU64,
    written_bytes: AtomicU64,
    /// Whether the last request came with a body.
    has_body: AtomicBool,
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

    /// Answers, and pieces of them, that were handed over so far.
    pub(crate) fn handed_over(&self) -> u64 {
        self.handed_over.load(Ordering::Relaxed)
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

    /// Whether nothing of a request is under way on a connection that has one at a time. It is not said of one that came with a body,
    /// of which a part may still be to be read when it is answered.
    pub(crate) fn is_between_requests(&self) -> bool {
        self.begun() > 0 && !self.is_busy() && !self.is_waited_for() && !self.has_body.load(Ordering::Relaxed)
    }

    /// Counts a request from here until the guard is dropped.
    pub(crate) fn begin(self: &Arc<Self>, has_body: bool) -> UnderWay {
        self.has_body.store(has_body, Ordering::Relaxed);
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
        if owes {
            self.meter.handed_over.fetch_add(1, Ordering::Relaxed);
        }
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
    rest: Option<Rest>,
    next_rest: Duration,
    /// Whether something was read since the last rest.
    has_read: bool,
    /// How many more bytes may be read, where there is a bound.
    readable_bytes: Option<usize>,
}

/// A connection rests until then.
#[derive(Debug)]
struct Rest {
    until: Pin<Box<Sleep>>,
    /// Whether all is written that was to be written at its beginning.
    is_quiet: bool,
}

impl Metered {
    pub(crate) fn new(stream: TcpStream, meter: Arc<Meter>) -> Self {
        Self { stream, meter, rest: None, next_rest: SHORTEST_REST, has_read: false, readable_bytes: None }
    }

    /// The same, and who sends more than this many bytes is an error.
    pub(crate) fn reading_at_most(self, bytes: usize) -> Self {
        Self { readable_bytes: Some(bytes), ..self }
    }

    /// From now on there is no bound for what is read.
    pub(crate) fn read_all(&mut self) {
        self.readable_bytes = None;
    }

    /// Reads within the bound.
    fn poll_read_within(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Some(most) = self.readable_bytes else { return Pin::new(&mut self.stream).poll_read(context, buffer) };
        if most == 0 {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "the peer sends more than he may")));
        }
        let mut within = ReadBuf::new(buffer.initialize_unfilled_to(most.min(buffer.remaining())));
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut within))?;
        let read = within.filled().len();
        self.readable_bytes = Some(most.saturating_sub(read));
        buffer.advance(read);
        Poll::Ready(Ok(()))
    }

    /// Ready when the peer has sent something, or has gone, since a read has found nothing.
    pub(crate) fn poll_arrival(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_read_ready(context)
    }

    /// Ready when this socket may be read.
    fn poll_may_read(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let turned_away = &self.meter.turned_away;
        if turned_away.load(Ordering::Relaxed) {
            turned_away.store(false, Ordering::Relaxed);
            self.rest = Some(Rest { until: Box::pin(sleep(self.next_rest)), is_quiet: false });
            self.next_rest = (2 * self.next_rest).min(LONGEST_REST);
        } else if self.has_read {
            self.next_rest = SHORTEST_REST;
        }
        self.has_read = false;
        self.poll_rested(context)
    }

    /// Ready when this socket rests no more.
    fn poll_rested(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Some(rest) = &mut self.rest {
            ready!(rest.until.as_mut().poll(context));
            self.rest = None;
        }
        Poll::Ready(())
    }

    /// Ready when this socket may be written to.
    fn poll_may_write(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.rest.as_ref().is_some_and(|rest| rest.is_quiet) { self.poll_rested(context) } else { Poll::Ready(()) }
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
        let read = self.poll_read_within(context, buffer);
        self.has_read = read.is_ready();
        read
    }
}

impl AsyncWrite for Metered {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_may_write(context));
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.note_written(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_may_write(context));
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.note_written(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        if let Some(rest) = self.rest.as_mut().filter(|_| flushed.is_ready()) {
            // Nothing is left to write, and what comes now is written after the rest, together.
            rest.is_quiet = true;
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    /// Whether a byte can be written, and read, at this moment.
    async fn takes_and_gives(socket: &mut Metered) -> (bool, bool) {
        poll_fn(|context| {
            let mut byte = [0];
            let mut buffer = ReadBuf::new(&mut byte);
            let given = Pin::new(&mut *socket).poll_read(context, &mut buffer).is_ready();
            let taken = Pin::new(&mut *socket).poll_write(context, b"x").is_ready();
            Poll::Ready((taken, given))
        })
        .await
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_request_was_turned_away_its_answer_goes_out_and_then_its_connection_rests() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let (mut peer, accepted) = tokio::join!(
            async { TcpStream::connect(listener.local_addr().unwrap()).await.unwrap() },
            listener.accept()
        );
        let meter = Arc::new(Meter::default());
        let mut socket = Metered::new(accepted.unwrap().0, Arc::clone(&meter));
        peer.write_all(b"many requests").await.unwrap();
        assert_eq!(socket.read_u8().await.unwrap(), b'm');
        assert_eq!(takes_and_gives(&mut socket).await, (true, true));
        for rest in [10, 20, 40, 40] {
            assert_eq!(socket.next_rest, Duration::from_millis(rest));
            meter.turn_away();
            assert_eq!(takes_and_gives(&mut socket).await, (true, false), "the answer goes out");
            socket.flush().await.unwrap();
            assert_eq!(takes_and_gives(&mut socket).await, (false, false), "it rests");
            assert_eq!(socket.write(b"x").await.unwrap(), 1, "it has rested");
            socket.read_u8().await.unwrap();
        }
        // What was read last was not turned away.
        assert_eq!(takes_and_gives(&mut socket).await, (true, true));
        assert_eq!(socket.next_rest, SHORTEST_REST);
        assert!(!meter.is_waited_for(), "a rest is not the peer's doing");
    }
}
