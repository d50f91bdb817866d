//! Fields taken out of a message's bytes and texts put in: what is left is again what encoding it gives.

use super::{EncodedBuf, Next};

/// Wire type 2.
const SIZED: u32 = 2;
/// A field's number and the length of what fits a message take at most as many bytes.
const MOST_BEFORE_TEXT: usize = 10;

impl EncodedBuf {
    /// Takes out all fields that `hidden` names.
    pub fn cut(&mut self, hidden: impl Fn(u32) -> bool) {
        let Some(first) = self.place_of(&hidden) else { return };
        let mut kept = Vec::with_capacity(self.bytes.capacity());
        let (before, mut rest) = self.bytes.split_at_checked(first).unwrap_or_default();
        kept.extend_from_slice(before);
        while let Some(next) = Next::of(rest) {
            let (field, behind) = rest.split_at_checked(rest.len() - next.rest.len()).unwrap_or_default();
            if !hidden(next.number) {
                kept.extend_from_slice(field);
            }
            rest = behind;
        }
        self.bytes = kept;
    }

    /// Puts a text into a field of type string that is in no oneof, whatever was there.
    pub fn set_text(&mut self, number: u32, text: &str) {
        let at = self.place_of(&|field| field >= number).unwrap_or(self.bytes.len());
        let behind = self.bytes.get(at..).and_then(Next::of).filter(|next| next.number == number);
        let end = behind.map_or(at, |next| self.bytes.len() - next.rest.len());
        let mut field = Vec::with_capacity(if text.is_empty() { 0 } else { text.len() + MOST_BEFORE_TEXT });
        if !text.is_empty() {
            push_message(&mut field, number, text.as_bytes());
        }
        self.bytes.splice(at..end, field);
    }

    /// Where the first field begins that is such a one.
    fn place_of(&self, such: &impl Fn(u32) -> bool) -> Option<usize> {
        let mut rest = self.bytes.as_slice();
        while let Some(next) = Next::of(rest) {
            if such(next.number) {
                return Some(self.bytes.len() - rest.len());
            }
            rest = next.rest;
        }
        None
    }
}

/// Appends a message as one value of a repeated field, or as the value of a field.
pub fn push_message(to: &mut Vec<u8>, number: u32, message: &[u8]) {
    push_varint(to, u64::from(number << 3 | SIZED));
    push_varint(to, message.len() as u64);
    to.extend_from_slice(message);
}

fn push_varint(to: &mut Vec<u8>, mut value: u64) {
    loop {
        let [bits, ..] = (value & 0x7f).to_le_bytes();
        value >>= 7;
        if value == 0 {
            to.push(bits);
            return;
        }
        to.push(bits | 0x80);
    }
}
