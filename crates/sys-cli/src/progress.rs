//! How far long work has come, on standard error and only where a person looks at it.

use indicatif::{ProgressBar, ProgressStyle};
use std::time::Duration;

/// How often it is drawn while nothing comes.
const TICK: Duration = Duration::from_millis(120);

/// Records that came so far, of a list whose end nobody knows. It is gone from the screen when it is dropped.
#[derive(Debug)]
pub(crate) struct Records(ProgressBar);

impl Records {
    /// Begins to show them. On anything but a terminal nothing is drawn.
    pub(crate) fn begin() -> Self {
        let style = ProgressStyle::with_template("{spinner} {human_pos} records, {elapsed}");
        let bar = ProgressBar::new_spinner().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar.enable_steady_tick(TICK);
        Self(bar)
    }

    /// So many have come.
    pub(crate) fn came(&self, records: usize) {
        self.0.inc(u64::try_from(records).unwrap_or(u64::MAX));
    }
}

impl Drop for Records {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
