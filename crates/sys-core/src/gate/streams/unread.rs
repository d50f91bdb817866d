//! What has come on a stream and is not yet taken as a message. It has its part of the room that all bodies share, so that
//! nobody fills the memory with messages that he never finishes.

use crate::gate::{Gate, load::SMALL_BODY_BYTES};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

/// The bytes of a stream that nobody has taken yet.
pub(in crate::gate) struct Unread {
    gate: Arc<Gate>,
    bytes: Mutex<usize>,
    is_too_much: AtomicBool,
}

/// A body whose bytes are counted. It ends early where there is no room for more.
pub(in crate::gate) struct Counted<B> {
    body: Pin<Box<B>>,
    unread: Arc<Unread>,
}

impl Unread {
    pub(super) fn new(gate: Arc<Gate>) -> Self {
        Self { gate, bytes: Mutex::new(0), is_too_much: AtomicBool::new(false) }
    }

    /// Counts what comes in this body.
    pub(super) fn counted<B>(self: &Arc<Self>, body: B) -> Counted<B> {
        Counted { body: Box::pin(body), unread: Arc::clone(self) }
    }

    /// A message was taken. What came behind it is less than a frame, and not worth counting.
    pub(super) fn taken(&self) {
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        self.gate.load.let_go_of(std::mem::take(&mut *bytes).saturating_sub(SMALL_BODY_BYTES));
    }

    /// Whether the body ended since there was no room for more.
    pub(super) fn is_too_much(&self) -> bool {
        self.is_too_much.load(Ordering::Acquire)
    }

    /// So many more have come; whether there is room for them.
    fn came(&self, more: usize) -> bool {
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let before = bytes.saturating_sub(SMALL_BODY_BYTES);
        *bytes = bytes.saturating_add(more);
        let fits = self.gate.load.hold_bytes(bytes.saturating_sub(SMALL_BODY_BYTES) - before).is_ok();
        if !fits {
            self.is_too_much.store(true, Ordering::Release);
        }
        fits
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        self.taken();
    }
}

impl<B: Body<Data = Bytes>> Body for Counted<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let polled = self.body.as_mut().poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && !self.unread.came(frame.data_ref().map_or(0, Bytes::len))
        {
            return Poll::Ready(None);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
