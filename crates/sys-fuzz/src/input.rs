//! How a target cuts its bytes into parts.

/// Between two parts. No UTF-8 text holds this byte, so that texts need no escape.
const SEPARATOR: u8 = 0xff;

/// The parts of an input, and empty ones behind its last.
pub(crate) fn parts<const N: usize>(bytes: &[u8]) -> [&[u8]; N] {
    let mut rest = bytes.splitn(N, |byte| *byte == SEPARATOR);
    std::array::from_fn(|_| rest.next().unwrap_or_default())
}

/// A part as a text, if it is one.
pub(crate) fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// Bytes taken one by one: zeros once there are no more.
pub(crate) struct Bytes<'a>(pub(crate) std::slice::Iter<'a, u8>);

impl<'a> Bytes<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes.iter())
    }

    pub(crate) fn next(&mut self) -> u8 {
        self.0.next().copied().unwrap_or(0)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u8) -> u8 {
        self.next() % end
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.as_slice().is_empty()
    }
}

/// `bytes` with changes that a second input tells: each three bytes of it are a place and what stands there.
pub(crate) fn edited(bytes: &[u8], edits: &[u8]) -> Vec<u8> {
    let mut edited = bytes.to_vec();
    for edit in edits.chunks_exact(3) {
        let at = usize::from(u16::from_be_bytes([edit[0], edit[1]]));
        if let Some(byte) = edited.get_mut(at) {
            *byte = edit[2];
        } else {
            edited.truncate(at % (bytes.len() + 1));
        }
    }
    edited
}
