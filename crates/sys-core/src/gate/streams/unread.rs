//! What has come on a stream, one message at a time, and its part of the room that all bodies share.
//!
//! The RPC library would read and unpack ahead of whoever listens. So a message is handed to it when the one before was dealt with,
//! and what it may unpack to has room before it is handed over. What must never happen here: bytes of a stream that are kept
//! and not counted, or a message that is held back from nobody.

use crate::{
    gate::{Gate, load::SMALL_BODY_BYTES},
    wire::{ENVELOPE_BYTES, IS_PACKED},
};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};
use sys_net::Network;

/// The flag of the envelope that is a stream's last ("EndStreamResponse" in the Connect protocol).
const IS_LAST: u8 = 2;

/// What has come on a stream and was not dealt with.
pub(in crate::gate) struct Unread {
    gate: Arc<Gate>,
    source: Option<Network>,
    /// What a message may unpack to.
    most_bytes: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Bytes that have come.
    came: usize,
    /// Of these, the ones that the library was handed.
    handed: usize,
    /// What the message that is handed over may unpack to.
    unpacked: usize,
    /// What counts of all that.
    counted: usize,
    is_asked_for: bool,
    is_too_much: bool,
    /// Nobody listens any more. The library throws away what comes then, within its own bounds.
    is_over: bool,
    held_back: Option<Waker>,
}

/// Whoever listens to a stream. Where this is dropped, nothing is held back for him any more.
pub(in crate::gate) struct Listening(Arc<Unread>);

/// A body whose bytes are counted, and which goes on when its next message is asked for. It ends early where there is no room.
pub(in crate::gate) struct Counted<B> {
    body: Pin<Box<B>>,
    unread: Arc<Unread>,
    rest: Bytes,
    envelope: Envelope,
}

/// Where in an envelope a body is.
#[derive(Default)]
struct Envelope {
    head: [u8; ENVELOPE_BYTES],
    head_bytes: usize,
    /// Bytes of the message that are still to come, once the head is there.
    left: usize,
}

impl Unread {
    pub(super) fn new(gate: Arc<Gate>, source: Option<Network>, most_bytes: usize) -> Arc<Self> {
        Arc::new(Self { gate, source, most_bytes, state: Mutex::default() })
    }

    /// Counts what comes in this body.
    pub(super) fn counted<B>(self: &Arc<Self>, body: B) -> Counted<B> {
        Counted { body: Box::pin(body), unread: Arc::clone(self), rest: Bytes::new(), envelope: Envelope::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts what there is now, if there is room for it, which is what this says. What finds none is not kept.
    fn count(&self, state: &mut State) -> bool {
        let counts = state.came.saturating_sub(SMALL_BODY_BYTES).saturating_add(state.unpacked);
        self.gate.load.let_go_of(self.source, state.counted.saturating_sub(counts));
        let fits = self.gate.load.hold_bytes(self.source, counts.saturating_sub(state.counted)).is_ok();
        if fits {
            state.counted = counts;
        }
        state.is_too_much |= !fits;
        fits
    }

    fn poll_asked_for(&self, context: &Context<'_>) -> Poll<()> {
        let mut state = self.state();
        if state.is_asked_for || state.is_over {
            return Poll::Ready(());
        }
        state.held_back = Some(context.waker().clone());
        Poll::Pending
    }

    /// So many more have come. Whether there is room for them.
    fn came(&self, more: usize) -> bool {
        let mut state = self.state();
        if state.is_over {
            return true;
        }
        state.came = state.came.saturating_add(more);
        self.count(&mut state)
    }

    /// So many are handed to the library; whether they end a message, and with which flags. Whether there is room for what
    /// becomes of them.
    fn hands(&self, bytes: usize, ends: Option<u8>) -> bool {
        let mut state = self.state();
        if state.is_over {
            return true;
        }
        state.handed = state.handed.saturating_add(bytes);
        let Some(flags) = ends else { return true };
        state.is_asked_for = false;
        if flags & IS_LAST != 0 {
            state.is_over = true;
        } else if flags & IS_PACKED != 0 {
            state.unpacked = self.most_bytes;
        }
        self.count(&mut state)
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        self.gate.load.let_go_of(self.source, self.state().counted);
    }
}

impl Listening {
    pub(super) fn to(unread: &Arc<Unread>) -> Self {
        Self(Arc::clone(unread))
    }

    /// Whatever came before was dealt with, and the next message is waited for.
    pub(super) fn ask_for_next(&self) {
        let held_back = {
            let mut state = self.0.state();
            state.came = state.came.saturating_sub(std::mem::take(&mut state.handed));
            (state.unpacked, state.is_asked_for) = (0, true);
            self.0.count(&mut state);
            state.held_back.take()
        };
        held_back.into_iter().for_each(Waker::wake);
    }

    /// Whether the body ended since there was no room for more.
    pub(super) fn is_too_much(&self) -> bool {
        self.0.state().is_too_much
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let held_back = {
            let mut state = self.0.state();
            state.is_over = true;
            state.held_back.take()
        };
        held_back.into_iter().for_each(Waker::wake);
    }
}

impl Envelope {
    /// Cuts off what comes next, up to the end of a message. If it is the end, with the flags of this message.
    fn cut(&mut self, bytes: &mut Bytes) -> (Bytes, Option<u8>) {
        let mut cut = 0;
        for byte in bytes.iter().take(ENVELOPE_BYTES.saturating_sub(self.head_bytes)) {
            if let Some(place) = self.head.get_mut(self.head_bytes) {
                *place = *byte;
            }
            self.head_bytes += 1;
            cut += 1;
            if self.head_bytes == ENVELOPE_BYTES {
                let [_, length @ ..] = self.head;
                self.left = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
            }
        }
        let of_message = self.left.min(bytes.len() - cut);
        self.left -= of_message;
        let ends = (self.head_bytes == ENVELOPE_BYTES && self.left == 0).then(|| {
            let [flags, ..] = std::mem::take(self).head;
            flags
        });
        (bytes.split_to(cut + of_message), ends)
    }
}

impl<B: Body<Data = Bytes>> Body for Counted<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = &mut *self;
        if this.unread.poll_asked_for(context).is_pending() {
            return Poll::Pending;
        }
        if this.rest.is_empty() {
            let polled = this.body.as_mut().poll_frame(context);
            let Poll::Ready(Some(Ok(frame))) = polled else { return polled };
            this.rest = match frame.into_data() {
                Ok(data) => data,
                Err(other) => return Poll::Ready(Some(Ok(other))),
            };
            if !this.unread.came(this.rest.len()) {
                this.rest = Bytes::new();
                return Poll::Ready(None);
            }
        }
        let (piece, ends) = this.envelope.cut(&mut this.rest);
        if !this.unread.hands(piece.len(), ends) {
            this.rest = Bytes::new();
            return Poll::Ready(None);
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_cut_at_the_end_of_each_message_however_it_comes() {
        let whole = [&[0, 0, 0, 0, 3][..], b"abc", &[1, 0, 0, 0, 0], &[2, 0, 0, 1, 0], &[7; 256]].concat();
        for size in [1, 2, 5, 7, 8, 9, 100, whole.len()] {
            let (mut envelope, mut ends, mut seen) = (Envelope::default(), Vec::new(), 0);
            for piece in whole.chunks(size) {
                let mut piece = Bytes::copy_from_slice(piece);
                while !piece.is_empty() {
                    let (cut, end) = envelope.cut(&mut piece);
                    seen += cut.len();
                    ends.extend(end.map(|flags| (seen, flags)));
                }
            }
            assert_eq!(ends, [(8, 0), (13, 1), (274, 2)], "in pieces of {size}");
        }
    }
}
