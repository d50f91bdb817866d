//! What is said once a minute, however often it happens: a stranger who can make it happen must not fill the log.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

const EVERY_S: u64 = 60;

/// How often a thing has happened since it was last said.
#[derive(Debug)]
pub(crate) struct Seldom {
    said_unix_s: AtomicI64,
    unsaid: AtomicU64,
}

impl Default for Seldom {
    fn default() -> Self {
        Self { said_unix_s: AtomicI64::new(i64::MIN), unsaid: AtomicU64::new(0) }
    }
}

impl Seldom {
    /// It happened once more. Where it is time to say so: how often, all in all, since it was last said.
    pub(crate) fn happened(&self, now_unix_s: i64) -> Option<u64> {
        self.unsaid.fetch_add(1, Ordering::Relaxed);
        let said = self.said_unix_s.load(Ordering::Relaxed);
        // Either way, so that a clock which was put back keeps nothing unsaid for longer.
        if now_unix_s.abs_diff(said) < EVERY_S {
            return None;
        }
        // Of several threads that come here at once one says it.
        self.said_unix_s.compare_exchange(said, now_unix_s, Ordering::Relaxed, Ordering::Relaxed).ok()?;
        Some(self.unsaid.swap(0, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happens_often_is_said_once_a_minute_with_how_often() {
        let seldom = Seldom::default();
        assert_eq!(seldom.happened(1_000), Some(1));
        for now in 1_000..1_060 {
            assert_eq!(seldom.happened(now), None);
        }
        assert_eq!([1_060, 1_061].map(|now| seldom.happened(now)), [Some(61), None]);
        // A clock that was put back.
        assert_eq!([40, 41, 100].map(|now| seldom.happened(now)), [Some(2), None, Some(2)]);
    }
}
