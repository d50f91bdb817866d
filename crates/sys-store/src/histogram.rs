//! How often a measure fell under each of some bounds: counters side by side, without a lock, cheap enough for the way of
//! every request. Nothing here knows what is measured, or who reads it.

use std::sync::atomic::{AtomicU64, Ordering};

/// Observations, counted by the least bound that they do not exceed.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64],
    /// One for each bound.
    within: Box<[AtomicU64]>,
    above: AtomicU64,
    sum: AtomicU64,
}

/// What a histogram holds at a moment. The counters are read one after the other, so that an observation that comes meanwhile
/// may be in some of them alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observations {
    /// Each bound, and how many observations fell between the bound before it and itself.
    pub within: Vec<(u64, u64)>,
    /// How many exceeded the last bound.
    pub above: u64,
    /// The sum of all.
    pub sum: u64,
}

impl Histogram {
    /// An empty one with these bounds, which ascend.
    pub fn new(bounds: &'static [u64]) -> Self {
        let within = bounds.iter().map(|_| AtomicU64::new(0)).collect();
        Self { bounds, within, above: AtomicU64::new(0), sum: AtomicU64::new(0) }
    }

    /// Counts one observation.
    pub fn observe(&self, value: u64) {
        let bound = self.bounds.partition_point(|bound| *bound < value);
        self.within.get(bound).unwrap_or(&self.above).fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// What has been observed so far.
    pub fn observations(&self) -> Observations {
        let counts = self.within.iter().map(|count| count.load(Ordering::Relaxed));
        Observations {
            within: self.bounds.iter().copied().zip(counts).collect(),
            above: self.above.load(Ordering::Relaxed),
            sum: self.sum.load(Ordering::Relaxed),
        }
    }
}

impl Observations {
    /// How many there are.
    pub fn count(&self) -> u64 {
        self.within.iter().map(|(_, count)| count).sum::<u64>() + self.above
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_observation_counts_under_the_least_bound_that_holds_it() {
        let histogram = Histogram::new(&[1, 10, 100]);
        for value in [0, 1, 2, 10, 11, 100, 101, 5_000] {
            histogram.observe(value);
        }
        let seen = histogram.observations();
        assert_eq!(seen, Observations { within: vec![(1, 2), (10, 2), (100, 2)], above: 2, sum: 5_225 });
        assert_eq!(seen.count(), 8);
    }
}
