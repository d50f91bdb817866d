//! A page of a list as it grows: so many records and so many bytes at most, by what its caller sees of them.

use crate::{page::Position, view::View};

/// Most bytes of a page, by the records as they are sent: a few below what clients of gRPC take if they are not told otherwise.
/// A record has 1 MiB at most, so that a page holds three of any.
pub const MAX_PAGE_BYTES: usize = (4 << 20) - 8 * 1_024;
/// What a record of a page takes beside what its caller sees of it: its etag, its number in the page and its length.
const BESIDE_BYTES: usize = 40;

/// The records of a page, and where the last of them stands.
pub(crate) struct Walked {
    views: Vec<View>,
    bytes: usize,
    page_size: usize,
    last: Option<Position>,
    is_full: bool,
}

impl Walked {
    /// A page of so many records.
    pub(crate) fn of(page_size: usize) -> Self {
        Self { views: Vec::new(), bytes: 0, page_size, last: None, is_full: false }
    }

    /// Takes the next record, or is full without it.
    pub(crate) fn take(&mut self, view: View, at: impl FnOnce() -> Position) {
        let bytes = self.bytes.saturating_add(size_bytes(&view));
        // A page that held none would lead back to itself.
        if bytes > MAX_PAGE_BYTES && !self.views.is_empty() {
            self.is_full = true;
            return;
        }
        self.views.push(view);
        (self.bytes, self.last) = (bytes, Some(at()));
        self.is_full = self.views.len() >= self.page_size;
    }

    pub(crate) fn is_full(&self) -> bool {
        self.is_full
    }

    /// The records, and where the next page goes on if this one is full.
    pub(crate) fn into_parts(self) -> (Vec<View>, Option<Position>) {
        let last = self.last.filter(|_| self.is_full);
        (self.views, last)
    }
}

/// What a record takes on a page.
pub(crate) fn size_bytes(view: &View) -> usize {
    view.size_bytes().saturating_add(BESIDE_BYTES)
}
