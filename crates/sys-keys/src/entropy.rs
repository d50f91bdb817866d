//! Where random bytes come from. Everything that needs some takes an [`Entropy`], so that tests can repeat a run.

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use std::{
    fmt,
    sync::{Mutex, PoisonError},
};
use zeroize::Zeroize;

/// A source of random bytes that nobody can predict.
pub trait Entropy: Send + Sync {
    /// Overwrites the whole buffer.
    fn fill(&self, buffer: &mut [u8]);
}

/// Bytes that the pool holds. Small, because a clone of a running machine repeats what is left in it: at most 85 nonces,
/// each repeated once, which costs AES-GCM-SIV no more than showing that two equal messages are equal.
const POOL_BYTES: usize = 1024;
/// Requests up to this size come from the pool: nonces and the random part of ids. Keys are longer and never do.
const POOLED_REQUEST_BYTES: usize = 16;

/// The operating system's random source through aws-lc's generator. Small requests are served from a pool, because a call
/// of the generator costs more than sealing a record.
pub struct SystemEntropy {
    source: SystemRandom,
    pool: Mutex<Pool>,
}

struct Pool {
    /// Random bytes; those from `left` on are used and wiped.
    bytes: Box<[u8; POOL_BYTES]>,
    left: usize,
}

impl SystemEntropy {
    /// A source with an empty pool.
    pub fn new() -> Self {
        let pool = Mutex::new(Pool { bytes: Box::new([0; POOL_BYTES]), left: 0 });
        Self { source: SystemRandom::new(), pool }
    }

    /// Overwrites the buffer from the generator itself.
    #[allow(clippy::panic, reason = "a server without randomness must stop: whatever it did next would be unsafe")]
    fn draw(&self, buffer: &mut [u8]) {
        if self.source.fill(buffer).is_err() {
            panic!("the system's random source failed");
        }
    }
}

impl Entropy for SystemEntropy {
    fn fill(&self, buffer: &mut [u8]) {
        if buffer.len() > POOLED_REQUEST_BYTES {
            return self.draw(buffer);
        }
        // A panic while the lock was held left the pool whole or emptied: `left` goes down before bytes are used.
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        if pool.left < buffer.len() {
            pool.left = 0;
            self.draw(pool.bytes.as_mut_slice());
            pool.left = POOL_BYTES;
        }
        pool.left -= buffer.len();
        let from = pool.left;
        if let Some(fresh) = pool.bytes.get_mut(from..).and_then(|rest| rest.get_mut(..buffer.len())) {
            buffer.copy_from_slice(fresh);
            fresh.zeroize();
        }
    }
}

impl Default for SystemEntropy {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.bytes.as_mut_slice().zeroize();
    }
}

impl fmt::Debug for SystemEntropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SystemEntropy")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_nonce_comes_twice_and_none_is_zero() {
        let entropy = SystemEntropy::new();
        let mut seen = HashSet::from([[0; 12]]);
        for _ in 0..10_000 {
            let mut nonce = [0; 12];
            entropy.fill(&mut nonce);
            assert!(seen.insert(nonce));
        }
    }

    #[test]
    fn every_size_is_filled_to_its_end() {
        let entropy = SystemEntropy::new();
        for size in 0..100 {
            // 16 draws leave a given byte zero by chance once in 2^128.
            let mut union = vec![0; size];
            for _ in 0..16 {
                let mut buffer = vec![0; size];
                entropy.fill(&mut buffer);
                union.iter_mut().zip(buffer).for_each(|(all, byte)| *all |= byte);
            }
            assert!(union.iter().all(|byte| *byte != 0), "{size} bytes");
        }
    }

    #[test]
    fn used_bytes_are_wiped_from_the_pool() {
        let entropy = SystemEntropy::new();
        for _ in 0..50 {
            entropy.fill(&mut [0; 12]);
        }
        let pool = entropy.pool.lock().unwrap();
        assert_eq!(pool.left, POOL_BYTES - 600);
        assert!(pool.bytes[pool.left..].iter().all(|byte| *byte == 0));
        assert!(pool.bytes[..pool.left].iter().any(|byte| *byte != 0));
    }
}
