//! Which rounds are run, and where their randomness comes from. A round is its seed: the same seed does the same again.
//!
//! An ordinary test runs a few. `cargo xtask crash --rounds N` runs N of each kind, `--from` says with which seed it
//! begins; a failure names its seed.

use std::{env, ops::Range};

/// How many rounds of each kind.
const ROUNDS: &str = "SYS_FAULT_ROUNDS";
/// The seed of the first.
const FROM: &str = "SYS_FAULT_FROM";

/// The seeds of a run: so many as the environment says, else as an ordinary run has time for.
pub(crate) fn seeds(ordinary: u64) -> Range<u64> {
    let from = number(FROM).unwrap_or(0);
    let seeds = from..from.saturating_add(number(ROUNDS).unwrap_or(ordinary));
    println!("seeds {seeds:?}");
    seeds
}

/// What a failure says.
pub(crate) fn replay(seed: u64) -> String {
    format!("seed {seed}; again with {FROM}={seed} {ROUNDS}=1")
}

fn number(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, not `{text}`")))
}

/// SplitMix64 (Steele, Lea, Flood 2014): a seed gives the same run each time.
#[derive(Debug, Clone)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, evenly enough for tests.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64).try_into().unwrap_or(0)
    }
}
