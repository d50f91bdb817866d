//! Frames of HTTP/2 that ask for nothing: pings, settings, priorities, windows, empty pieces of a body.
//!
//! Each is lawful, is answered at most with another frame, and costs us about as much as it costs its sender. So a peer may send as
//! many as go with what he asked for and was answered, and some thousand more; then he is read no further, and his connection closes.
//! Other floods are bounded by the protocol's own code: heads without an end, streams that are reset, small pieces
//! of bodies. What must never happen here: a look into what a frame carries.

use crate::{gathered::Gathered, metered::Meter, speak::Bottom, tls::Protocol};
use bytes::{BufMut, Bytes, BytesMut};
use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// Such frames that every connection may send: three pings a second for as long as it may be open.
const FREE: u64 = 10_000;
/// Such frames for each request, and for each piece of an answer. A client who opens both windows for each piece, and measures
/// the way by a ping, sends three.
const FOR_EACH: u64 = 8;

/// Written bytes that one more may come for: who has small windows opens them more than once for a piece. An acknowledged ping
/// is a tenth of that.
const BYTES_FOR_ONE: u64 = 256;

/// What a client of HTTP/2 says first (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The head of a frame: 3 bytes of length, type, flags, 4 of stream (section 4.1).
const HEAD_BYTES: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;

/// A connection that is read as long as there is not too much noise on it.
#[derive(Debug)]
pub(crate) struct Quiet<T> {
    socket: T,
    /// Read and counted already, and to be read once more.
    again: Bytes,
    frames: Frames,
    meter: Arc<Meter>,
}

/// Counts the frames that ask for nothing in what a client sends.
#[derive(Debug)]
struct Frames {
    state: State,
    noise: u64,
}

#[derive(Debug)]
enum State {
    /// So many bytes of the preface have come.
    Preface(usize),
    /// So many bytes of a head have come.
    Head([u8; HEAD_BYTES], usize),
    /// So many bytes of a frame are still to come.
    Payload(usize),
    /// It is no HTTP/2.
    Other,
}

impl<T> Quiet<T> {
    pub(crate) fn new(socket: T, meter: Arc<Meter>) -> Self {
        Self { socket, again: Bytes::new(), frames: Frames { state: State::Preface(0), noise: 0 }, meter }
    }

    /// These bytes, which were read here, are read once more; tells whether there are any.
    pub(crate) fn read_again(&mut self, bytes: Bytes) -> bool {
        // None of them may still be a piece of a buffer.
        self.again = if bytes.is_empty() { Bytes::new() } else { bytes };
        !self.again.is_empty()
    }

    fn check(&self) -> io::Result<()> {
        let asked = self.meter.begun().saturating_add(self.meter.handed_over()).saturating_mul(FOR_EACH);
        let taken = self.meter.written_bytes() / BYTES_FOR_ONE;
        if self.frames.noise <= FREE.saturating_add(asked).saturating_add(taken) {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::InvalidData, "the peer sends too many frames that ask for nothing"))
    }
}

impl<T: AsyncRead + Unpin> Quiet<T> {
    /// What its client speaks, by the first bytes that he sends.
    pub(crate) async fn protocol(&mut self) -> io::Result<Protocol> {
        let mut first = BytesMut::with_capacity(PREFACE.len());
        let protocol = loop {
            let left = PREFACE.len() - first.len();
            if left == 0 {
                break Protocol::Http2;
            }
            if self.read_buf(&mut (&mut first).limit(left)).await? == 0 || !PREFACE.starts_with(&first) {
                break Protocol::Http11;
            }
        };
        self.again = first.freeze();
        Ok(protocol)
    }
}

impl<T: Bottom> Quiet<Gathered<T>> {
    /// See [`Bottom::poll_readable`].
    pub(crate) fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_readable(context)
    }
}

impl Frames {
    fn read(&mut self, mut bytes: &[u8]) {
        while let Some((first, rest)) = bytes.split_first() {
            bytes = rest;
            match &mut self.state {
                State::Other => return,
                State::Preface(seen) => {
                    if PREFACE.get(*seen) != Some(first) {
                        self.state = State::Other;
                        return;
                    }
                    *seen += 1;
                    if *seen == PREFACE.len() {
                        self.state = State::Head([0; HEAD_BYTES], 0);
                    }
                }
                State::Head(head, filled) => {
                    if let Some(place) = head.get_mut(*filled) {
                        *place = *first;
                    }
                    *filled += 1;
                    if *filled == HEAD_BYTES {
                        let head = *head;
                        self.begin(head);
                    }
                }
                State::Payload(left) => {
                    // This byte, and as many of the rest as belong to the frame.
                    let more = (*left - 1).min(bytes.len());
                    *left -= 1 + more;
                    let is_over = *left == 0;
                    bytes = bytes.get(more..).unwrap_or_default();
                    if is_over {
                        self.state = State::Head([0; HEAD_BYTES], 0);
                    }
                }
            }
        }
    }

    fn begin(&mut self, [high, middle, low, kind, flags, ..]: [u8; HEAD_BYTES]) {
        let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        let is_noise = match kind {
            HEADERS | CONTINUATION => false,
            DATA => length == 0 && flags & END_STREAM == 0,
            _ => true,
        };
        self.noise += u64::from(is_noise);
        self.state = if length == 0 { State::Head([0; HEAD_BYTES], 0) } else { State::Payload(length) };
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Quiet<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.again.is_empty() {
            let length = self.again.len().min(buffer.remaining());
            buffer.put_slice(&self.again.split_to(length));
            return Poll::Ready(Ok(()));
        }
        self.check()?;
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.socket).poll_read(context, buffer))?;
        self.frames.read(buffer.filled().get(before..).unwrap_or_default());
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Quiet<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    const PING: u8 = 6;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    }

    /// Gives these bytes so many at a time.
    fn in_pieces(bytes: &'static [u8], size: usize) -> impl AsyncRead + Unpin {
        let (mut far, near) = tokio::io::duplex(size);
        tokio::spawn(async move { far.write_all(bytes).await });
        near
    }

    fn noise(pieces: &[&[u8]]) -> u64 {
        let mut frames = Frames { state: State::Preface(0), noise: 0 };
        pieces.iter().for_each(|piece| frames.read(piece));
        frames.noise
    }

    #[test]
    fn noise_is_counted_however_its_bytes_come() {
        let frames = [
            frame(4, 0, &[0; 12]),
            frame(HEADERS, 4, &[PING; 40]),
            frame(CONTINUATION, 4, &[]),
            frame(DATA, 0, &[PING; 70_000]),
            frame(PING, 0, &[7; 8]),
            frame(PING, 1, &[7; 8]),
            frame(DATA, 0, &[]),
            frame(DATA, END_STREAM, &[]),
            frame(8, 0, &[0; 4]),
            frame(0xfa, 0xff, b"nothing"),
        ]
        .concat();
        let all = [PREFACE, &frames].concat();
        assert_eq!(noise(&[&all]), 6);
        for size in [1, 2, 8, 9, 10, 23, 24, 25, 1_000] {
            let pieces: Vec<_> = all.chunks(size).collect();
            assert_eq!(noise(&pieces), 6, "{size}");
        }
        assert_eq!(noise(&[b"GET / HTTP/1.1\r\n", &frames]), 0);
        assert_eq!(noise(&[b"PRI * HTTP/2.0\r\n\r\nSX", &frames]), 0);
    }

    #[tokio::test]
    async fn the_first_bytes_tell_what_is_spoken_and_are_read_once_more() {
        let http2 = [PREFACE, &frame(PING, 0, &[7; 8])].concat().leak();
        for (bytes, expect) in [
            (&*http2, Protocol::Http2),
            (PREFACE, Protocol::Http2),
            (b"GET / HTTP/1.1\r\n", Protocol::Http11),
            (b"PRI * HTTP/2.0\r\n\r\nSX and more than that", Protocol::Http11),
            (b"PRI", Protocol::Http11),
            (b"P", Protocol::Http11),
            (b"", Protocol::Http11),
        ] {
            for size in [1, 7, PREFACE.len() - 1, PREFACE.len(), 100] {
                let mut socket = Quiet::new(in_pieces(bytes, size), Arc::default());
                assert_eq!(socket.protocol().await.unwrap(), expect, "{bytes:?} by {size}");
                let mut read = Vec::new();
                socket.read_to_end(&mut read).await.unwrap();
                assert_eq!(read, bytes, "by {size}");
                assert_eq!(
                    socket.frames.noise,
                    u64::from(bytes.len() > PREFACE.len() && expect == Protocol::Http2),
                    "counted once"
                );
            }
        }
    }

    #[tokio::test]
    async fn who_asks_for_something_may_make_the_more_noise() {
        let pings = |count: u64| [PREFACE, &frame(PING, 0, &[7; 8]).repeat(usize::try_from(count).unwrap())].concat();
        let read = async |count: u64, meter: Arc<Meter>| {
            let bytes = pings(count);
            Quiet::new(bytes.as_slice(), meter).read_to_end(&mut Vec::new()).await
        };
        assert!(read(FREE, Arc::default()).await.is_ok());
        assert!(read(FREE + 1, Arc::default()).await.is_err());
        let meter = Arc::<Meter>::default();
        let mut request = meter.begin(false);
        assert!(read(FREE + FOR_EACH, Arc::clone(&meter)).await.is_ok());
        request.owes(true);
        assert!(read(FREE + 2 * FOR_EACH, Arc::clone(&meter)).await.is_ok());
        assert!(read(FREE + 2 * FOR_EACH + 1, Arc::clone(&meter)).await.is_err());
        meter.add_written(3 * BYTES_FOR_ONE);
        assert!(read(FREE + 2 * FOR_EACH + 3, Arc::clone(&meter)).await.is_ok());
        assert!(read(FREE + 2 * FOR_EACH + 4, meter).await.is_err());
    }
}
