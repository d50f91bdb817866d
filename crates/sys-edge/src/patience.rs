//! How long a connection is waited for: for its first request, for its next one, and for taking what it asked for.

use crate::{Limits, metered::Meter};
use std::time::{Duration, Instant};
use tokio::{sync::watch, time::sleep};

/// Looks at a connection in the time of its shortest patience.
const LOOKS: u32 = 2;

/// What a connection is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    /// To pause: it is between two requests, and has not paused since the last.
    Pause,
    /// No request for too long.
    Idle,
    /// It was open for long enough, and begins anew.
    Old,
    /// The peer leaves unread what he asked for.
    Stalled,
}

/// Comes back when a connection has tried our patience, or is to pause where it may. `crowded` tells that others wait for a place.
pub(crate) async fn ends(
    watch: &mut Watch,
    meter: &Meter,
    limits: &Limits,
    crowded: &mut watch::Receiver<bool>,
    may_pause: bool,
) -> Over {
    let shortest = limits.header_timeout.min(limits.idle_timeout).min(limits.stall_timeout).min(limits.connection_age);
    loop {
        tokio::select! {
            () = sleep(shortest / LOOKS) => {}
            // A listener that is gone crowds nobody.
            _ = crowded.wait_for(|crowded| *crowded), if !*crowded.borrow() => {}
            () = sleep(limits.crowded_idle_timeout), if *crowded.borrow() => {}
        }
        let is_crowded = *crowded.borrow_and_update();
        if let Some(over) = watch.look(meter, limits, is_crowded, Instant::now()) {
            return over;
        }
        if may_pause && watch.pauses(meter) {
            return Over::Pause;
        }
    }
}

/// What was seen of a connection.
#[derive(Debug)]
pub(crate) struct Watch {
    opened: Instant,
    active: Instant,
    begun: u64,
    /// The requests that had begun when it paused last.
    paused: u64,
    /// Since when the peer is waited for, and what the socket had taken then.
    waiting: Option<(Instant, u64)>,
}

impl Watch {
    /// Of a connection that was accepted now.
    pub(crate) fn new(now: Instant) -> Self {
        Self { opened: now, active: now, begun: 0, paused: 0, waiting: None }
    }

    /// Whether it is to pause; once after each request at most, so that who sends his next one slowly is not waited for anew.
    fn pauses(&mut self, meter: &Meter) -> bool {
        let begun = meter.begun();
        meter.is_between_requests() && std::mem::replace(&mut self.paused, begun) != begun
    }

    fn look(&mut self, meter: &Meter, limits: &Limits, is_crowded: bool, now: Instant) -> Option<Over> {
        let begun = meter.begun();
        if begun != self.begun || meter.is_busy() {
            (self.begun, self.active) = (begun, now);
        }
        let patience = match (self.begun, is_crowded) {
            (0, _) => limits.header_timeout,
            (_, true) => limits.crowded_idle_timeout.min(limits.idle_timeout),
            (_, false) => limits.idle_timeout,
        };
        if self.is_stalled(meter, limits, now) {
            Some(Over::Stalled)
        } else if now.duration_since(self.active) >= patience {
            Some(Over::Idle)
        } else if now.duration_since(self.opened) >= limits.connection_age {
            Some(Over::Old)
        } else {
            None
        }
    }

    /// Whether the peer took less than the least in all of the time that he has for it.
    fn is_stalled(&mut self, meter: &Meter, limits: &Limits, now: Instant) -> bool {
        let written = meter.written_bytes();
        if !meter.is_waited_for() {
            self.waiting = None;
            return false;
        }
        let (since, written_then) = *self.waiting.get_or_insert((now, written));
        let waited = now.duration_since(since);
        if waited < limits.stall_timeout {
            return false;
        }
        self.waiting = Some((now, written));
        written.saturating_sub(written_then) < least_bytes(limits, waited)
    }
}

fn least_bytes(limits: &Limits, time: Duration) -> u64 {
    let milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    limits.least_bytes_per_s.saturating_mul(milliseconds) / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn after(begun: Instant, seconds: u64) -> Instant {
        begun + Duration::from_secs(seconds)
    }

    #[test]
    fn who_sends_no_request_is_let_go_and_sooner_where_others_wait() {
        let (limits, begun) = (Limits::default(), Instant::now());
        let meter = Arc::new(Meter::default());
        let mut watch = Watch::new(begun);
        assert_eq!(watch.look(&meter, &limits, false, after(begun, 9)), None);
        assert_eq!(watch.look(&meter, &limits, false, after(begun, 10)), Some(Over::Idle));
        let request = meter.begin(false);
        assert_eq!(watch.look(&meter, &limits, true, after(begun, 1_000)), None, "it is busy");
        drop(request);
        assert_eq!(watch.look(&meter, &limits, false, after(begun, 1_119)), None);
        assert_eq!(watch.look(&meter, &limits, true, after(begun, 1_119)), Some(Over::Idle));
        assert_eq!(watch.look(&meter, &limits, false, after(begun, 1_120)), Some(Over::Idle));
    }

    #[test]
    fn who_leaves_his_answer_unread_is_let_go_and_who_takes_a_little_is_not() {
        let (limits, begun) = (Limits::default(), Instant::now());
        let meter = Arc::new(Meter::default());
        let mut watch = Watch::new(begun);
        let mut request = meter.begin(false);
        assert_eq!(watch.look(&meter, &limits, false, after(begun, 600)), None, "we think, he waits");
        request.owes(true);
        assert_eq!(watch.look(&meter, &limits, false, after(begun, 601)), None);
        assert_eq!(watch.look(&meter, &limits, false, after(begun, 620)), None);
        assert_eq!(watch.look(&meter, &limits, false, after(begun, 621)), Some(Over::Stalled));
        let mut watch = Watch::new(begun);
        assert_eq!(watch.look(&meter, &limits, false, after(begun, 1)), None);
        for second in 2..100 {
            meter.add_written(limits.least_bytes_per_s);
            assert_eq!(watch.look(&meter, &limits, false, after(begun, second)), None);
        }
        request.owes(false);
        assert_eq!(watch.look(&meter, &limits, false, after(begun, 200)), None);
        request.owes(true);
        assert_eq!(watch.look(&meter, &limits, false, after(begun, 201)), None, "it begins anew");
        drop(request);
        assert!(!meter.is_waited_for() && !meter.is_busy());
    }

    #[test]
    fn nobody_stays_for_ever() {
        let (limits, begun) = (Limits::default(), Instant::now());
        let meter = Arc::new(Meter::default());
        let _request = meter.begin(false);
        let mut watch = Watch::new(begun);
        assert_eq!(watch.look(&meter, &limits, false, after(begun, 3_599)), None);
        assert_eq!(watch.look(&meter, &limits, false, after(begun, 3_600)), Some(Over::Old));
    }
}
