//! The clock, handed in: tests run years of renewals in milliseconds.

use crate::kept::Boxed;
use std::time::{Duration, SystemTime};

/// What time it is, and waiting.
pub trait AcmeClock: Send + Sync + 'static {
    /// Seconds since 1970.
    fn now_unix_s(&self) -> i64;

    /// Comes back after this time.
    fn sleep(&self, time: Duration) -> Boxed<'_, ()>;
}

/// The clock of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl AcmeClock for SystemClock {
    fn now_unix_s(&self) -> i64 {
        unix_s(SystemTime::now())
    }

    fn sleep(&self, time: Duration) -> Boxed<'_, ()> {
        Box::pin(tokio::time::sleep(time))
    }
}

/// Seconds since 1970; what lies before it is 0.
pub(crate) fn unix_s(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
