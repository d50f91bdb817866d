//! How many signatures strangers can have made in one second, by asking for names that nobody entered. What each network has of it is
//! counted by who knows where a question came from (`respond.rs`).
//!
//! What stands in a zone is signed once a day; what does not is signed when it is asked for, and anybody can think of names. One
//! signature takes some 40 microseconds, so the bound keeps a flood by either way below a tenth of a core.

use std::sync::atomic::{AtomicU64, Ordering};

/// Signatures a second over names that do not stand in the zone, for each way that questions come.
pub(super) const SIGNATURES_PER_S: u32 = 2_000;

/// What is left in this second.
#[derive(Debug, Default)]
pub(super) struct Budget {
    /// The second's lower 32 bits, then how many were taken in it.
    taken: AtomicU64,
}

impl Budget {
    /// Takes one, if there is one left in this second.
    pub(super) fn take(&self, now_unix_s: i64) -> bool {
        let second = now_unix_s.unsigned_abs() & u64::from(u32::MAX);
        let next = |taken: u64| match taken >> 32 == second {
            true if taken & u64::from(u32::MAX) >= u64::from(SIGNATURES_PER_S) => None,
            true => Some(taken.saturating_add(1)),
            false => Some((second << 32) | 1),
        };
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_so_many_and_the_next_one_as_many() {
        let budget = Budget::default();
        let taken = |now| (0..2 * SIGNATURES_PER_S).filter(|_| budget.take(now)).count();
        assert_eq!([7, 7, 8, i64::MAX, -3].map(taken), [2_000, 0, 2_000, 2_000, 2_000]);
    }
}
