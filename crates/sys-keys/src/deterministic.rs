//! Entropy for tests: the same seed gives the same bytes. Whoever knows the seed knows every key made from it.

use crate::entropy::Entropy;
use aws_lc_rs::hmac;
use std::sync::atomic::{AtomicU64, Ordering};

/// A stream of bytes that a seed determines: block `i` is `HMAC-SHA256(seed, i)`. Only for tests.
#[derive(Debug)]
pub struct SeededEntropy {
    seed: hmac::Key,
    next: AtomicU64,
}

impl SeededEntropy {
    /// Only for tests: a stream that anybody can repeat.
    pub fn danger_from_seed(seed: u64) -> Self {
        Self { seed: hmac::Key::new(hmac::HMAC_SHA256, &seed.to_be_bytes()), next: AtomicU64::new(0) }
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_mut(32) {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            let block = hmac::sign(&self.seed, &index.to_be_bytes());
            chunk.iter_mut().zip(block.as_ref()).for_each(|(to, from)| *to = *from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_determines_the_bytes_and_another_gives_others() {
        let draw = |seed| {
            let entropy = SeededEntropy::danger_from_seed(seed);
            let mut bytes = [0; 100];
            entropy.fill(&mut bytes);
            bytes
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        assert_ne!(draw(1)[..32], draw(1)[32..64]);
    }
}
