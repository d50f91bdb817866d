//! The problems found so far. Collecting them in one place is what lets a load name all of them.

use crate::problem::{Place, Problem, Problems};

/// More problems than this are counted, not kept: nobody reads them, and a hostile file has one in every line.
const MAX_PROBLEMS: usize = 1000;

/// The refusals of one step of a load.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    kept: Vec<Problem>,
    dropped: usize,
}

impl Refusals {
    pub(super) fn add(&mut self, place: &Place, what: impl Into<String>, instead: impl Into<String>) {
        if self.is_full() {
            self.dropped += 1;
        } else {
            self.kept.push(Problem { place: place.clone(), what: what.into(), instead: instead.into() });
        }
    }

    /// Counts refusals that nobody sees.
    pub(super) fn drop_more(&mut self, count: usize) {
        self.dropped += count;
    }

    pub(super) fn is_full(&self) -> bool {
        self.kept.len() >= MAX_PROBLEMS
    }

    /// Fails with all refusals, sorted by place, if there are any.
    pub(super) fn none(&mut self) -> Result<(), Problems> {
        let mut kept = std::mem::take(&mut self.kept);
        kept.sort();
        kept.dedup();
        if let (Some(last), 1..) = (kept.last().cloned(), self.dropped) {
            let what = format!("{} more problems are not shown", self.dropped);
            kept.push(Problem { place: last.place, what, instead: "correct these first".to_owned() });
        }
        if kept.is_empty() { Ok(()) } else { Err(Problems(kept)) }
    }
}
