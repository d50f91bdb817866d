//! SipHash-2-4, which RFC 9018 makes cookies of: a keyed hash of few bytes, for what must not be guessed and is short-lived.
//!
//! `SipHash-2-4(key, bytes)` of Aumasson and Bernstein, "SipHash: a fast short-input PRF" (2012), with its 64 bits of output. Not for what has to
//! hold against collisions: 64 bits do not.

/// A key of 128 bits. Never shown.
#[derive(Clone, Copy)]
pub(crate) struct SipKey(u64, u64);

impl SipKey {
    pub(crate) fn new(key: [u8; 16]) -> Self {
        let [low, high] = [0, 1].map(|half| {
            let (words, _) = key.as_chunks::<8>();
            words.get(half).map_or(0, |word| u64::from_le_bytes(*word))
        });
        Self(low, high)
    }

    pub(crate) fn hash(&self, bytes: &[u8]) -> u64 {
        let mut state = [
            self.0 ^ 0x736f_6d65_7073_6575,
            self.1 ^ 0x646f_7261_6e64_6f6d,
            self.0 ^ 0x6c79_6765_6e65_7261,
            self.1 ^ 0x7465_6462_7974_6573,
        ];
        let (words, tail) = bytes.as_chunks::<8>();
        for word in words {
            absorb(&mut state, u64::from_le_bytes(*word));
        }
        // The last word ends with the lowest byte of the length.
        let mut last = [0; 8];
        last.iter_mut().zip(tail).for_each(|(place, byte)| *place = *byte);
        absorb(&mut state, u64::from_le_bytes(last) | ((bytes.len() as u64) << 56));
        state[2] ^= 0xff;
        (0..4).for_each(|_| round(&mut state));
        state.iter().fold(0, |hash, word| hash ^ word)
    }
}

impl std::fmt::Debug for SipKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SipKey(..)")
    }
}

fn absorb(state: &mut [u64; 4], word: u64) {
    state[3] ^= word;
    round(state);
    round(state);
    state[0] ^= word;
}

fn round([a, b, c, d]: &mut [u64; 4]) {
    *a = a.wrapping_add(*b);
    *c = c.wrapping_add(*d);
    *b = b.rotate_left(13) ^ *a;
    *d = d.rotate_left(16) ^ *c;
    *a = a.rotate_left(32);
    *c = c.wrapping_add(*b);
    *a = a.wrapping_add(*d);
    *b = b.rotate_left(17) ^ *c;
    *d = d.rotate_left(21) ^ *a;
    *c = c.rotate_left(32);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the paper's appendix, and of the reference implementation's table for lengths on both sides of a word.
    #[test]
    fn it_is_the_siphash_of_the_paper() {
        let key = SipKey::new(std::array::from_fn(|at| u8::try_from(at).expect("below 16")));
        let bytes: Vec<u8> = (0..64).collect();
        let of = |length: usize| key.hash(&bytes[..length]);
        assert_eq!(of(15), 0xa129_ca61_49be_45e5);
        assert_eq!([of(0), of(7), of(8)], [0x726f_db47_dd0e_0e31, 0xab02_00f5_8b01_d137, 0x93f5_f579_9a93_2462]);
    }
}
