//! Fields taken out of a message's bytes and texts put in: what is left is again what encoding it gives.

use super::{EncodedBuf, Next};

/// Wire type 2.
const SIZED: u32 = 2;

impl EncodedBuf {
    /// Takes out all fields that `hidden` names.
    pub fn cut(&mut self, hidden: impl Fn(u32) -> bool) {
        // Each byte that stays is moved once at most, however often hidden fields stand between.
        let (mut at, mut kept) = (0, 0);
        while let Some(next) = self.bytes.get(at..).and_then(Next::of) {
            let end = self.bytes.len() - next.rest.len();
            if !hidden(next.number) {
                if kept < at {
                    self.bytes.copy_within(at..end, kept);
                }
                kept += end - at;
            }
            at = end;
        }
        self.bytes.truncate(kept);
    }

    /// Puts a text into a field of type string that is in no oneof, whatever was there.
    pub fn set_text(&mut self, number: u32, text: &str) {
        let mut at = 0;
        while let Some(next) = self.bytes.get(at..).and_then(Next::of).filter(|next| next.number <= number) {
            let end = self.bytes.len() - next.rest.len();
            if next.number == number {
                self.bytes.drain(at..end);
                break;
            }
            at = end;
        }
        if text.is_empty() {
            return;
        }
        // Behind all others, and then turned into its place: no second buffer, and where there was room none at all.
        let before = self.bytes.len();
        push_message(&mut self.bytes, number, text.as_bytes());
        let added = self.bytes.len() - before;
        if let Some(turned) = self.bytes.get_mut(at..) {
            turned.rotate_right(added);
        }
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
