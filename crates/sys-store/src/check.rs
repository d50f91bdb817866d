//! Whether a store is whole: every row is read, every sealed value opened, and all index and scope rows are computed again
//! from the records.
//!
//! For a store that nobody serves, since it is read in many snapshots: a write in between would look like damage. What a
//! record's rows are is asked of the function that the writes use, so that there is one truth. Rows that should not be
//! there are found by counting: if each expected row is there and there are no more than those, there are no others, and
//! only where the numbers differ is each row held against its record. What must never happen here: a value of a record in
//! a finding (findings name ids), and a record that is written (a repair writes and removes index rows, nothing else).
//!
//! `known` makes tables out of the catalog alone, without a contract; `scan` walks; `table`, `system` and `changes` judge.

mod changes;
mod known;
mod report;
mod scan;
mod system;
mod table;

pub use report::{Fault, Found, Report, Seen};

use crate::{refused::StoreError, store::Store};

/// What a check does with what it finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Nothing is written.
    Look,
    /// Index and scope rows are made to agree with the records, in small transactions. What is cut off goes on when it is
    /// run again: rows that are right already are left alone.
    RepairIndexes,
}

/// How a check is run.
#[derive(Debug, Clone, Copy)]
pub struct CheckOptions {
    /// Whether indexes are repaired on the way.
    pub mode: Mode,
    /// Of each fault so many places are named; all are counted.
    pub named: usize,
}

impl Default for CheckOptions {
    fn default() -> Self {
        Self { mode: Mode::Look, named: 10 }
    }
}

impl Store {
    /// Walks through everything in the store. Nobody else may write meanwhile. `progress` is told now and then what was
    /// seen so far. A repair reports what it found, not what is left: check again afterwards.
    ///
    /// Fails only where the walk cannot go on: the engine fails, or the store is under other keys.
    pub async fn check(
        &self,
        options: CheckOptions,
        progress: &mut (dyn FnMut(&Seen) + Send),
    ) -> Result<Report, StoreError> {
        scan::run(self, options, progress).await
    }
}
