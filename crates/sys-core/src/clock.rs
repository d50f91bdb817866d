//! The one place where sys-core reads the time. Everything else gets it as an argument.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};
use sys_policy::Now;

/// Tells the time. One reading serves a whole call.
#[derive(Debug, Clone, Default)]
pub enum Clock {
    /// The machine's.
    #[default]
    System,
    /// The machine's, moved by so many seconds: what tests use to let tokens expire.
    Shifted(Arc<AtomicI64>),
    /// What stands there, in Unix seconds: for tests that must know the time to the second.
    Manual(Arc<AtomicI64>),
    /// From this time on, by the runtime's own clock: for tests that hold that one.
    Counted(Now, tokio::time::Instant),
}

impl Clock {
    /// The time, as rules see it.
    pub fn now(&self) -> Now {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let unix_s = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
        let nanos = i32::try_from(since.subsec_nanos()).unwrap_or(0);
        match self {
            Self::System => Now { unix_s, nanos },
            Self::Shifted(by) => Now { unix_s: unix_s.saturating_add(by.load(Ordering::Relaxed)), nanos },
            Self::Counted(from, since) => {
                let nanos = i64::from(from.nanos) + i64::from(since.elapsed().subsec_nanos());
                let passed_s = i64::try_from(since.elapsed().as_secs()).unwrap_or(i64::MAX);
                let unix_s = from.unix_s.saturating_add(passed_s).saturating_add(nanos / 1_000_000_000);
                Now { unix_s, nanos: i32::try_from(nanos % 1_000_000_000).unwrap_or(0) }
            }
            Self::Manual(at) => Now { unix_s: at.load(Ordering::Relaxed), nanos: 0 },
        }
    }
}

/// Unix milliseconds of a reading, for ids.
pub fn unix_ms(now: &Now) -> u64 {
    let ms = now.unix_s.saturating_mul(1000).saturating_add(i64::from(now.nanos) / 1_000_000);
    u64::try_from(ms).unwrap_or(0)
}
