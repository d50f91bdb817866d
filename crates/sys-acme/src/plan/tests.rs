//! When a certificate is ordered, renewed and tried again, whatever happens meanwhile.

use super::*;
use proptest::prelude::*;

const START: i64 = 1_800_000_000;

fn state(lifetime: i64) -> State {
    let held = Held { not_before: START, not_after: START + lifetime, taken_at: START };
    State { held: Some(held), proofs: 1, ..State::default() }
}

/// When the next order is made, if time just passes.
fn order_time(state: &State, mut now: i64, random: u64) -> i64 {
    for _ in 0..100_000 {
        match next_step(state, now, random) {
            Step::Order => return now,
            Step::AskWindow | Step::Revoke => panic!("has no windows, and revokes nothing"),
            Step::Wait { until, .. } => {
                assert!(until > now, "a wait of nothing is a loop");
                now = until;
            }
        }
    }
    panic!("no order is ever made");
}

#[test]
fn a_long_lifetime_is_renewed_when_a_third_is_left_a_short_one_at_its_half() {
    for (days, earliest, latest) in [(90, 1_330, 1_440), (47, 695, 752), (6, 64, 72), (398, 5_890, 6_368)] {
        for random in [0, u64::MAX / 2, u64::MAX] {
            let hours = (order_time(&state(days * DAY), START, random) - START) / HOUR;
            assert!((earliest..=latest).contains(&hours), "{days} days: {hours} h");
        }
    }
}

#[test]
fn without_a_certificate_one_is_ordered_at_once() {
    assert_eq!(next_step(&State::default(), START, 7), Step::Order);
}

#[test]
fn a_window_decides_and_one_that_is_over_means_now() {
    let mut state = state(90 * DAY);
    let window = Window { start: START + 20 * DAY, end: START + 22 * DAY };
    state.told_window(Some(window), Some(3_600), START);
    let at = order_time(&state, START, u64::MAX / 2);
    assert!((at - (START + 21 * DAY)).abs() < 2, "the middle of the window");
    state.told_window(Some(Window { start: START, end: START + 1 }), Some(3_600), START + 5 * DAY);
    assert_eq!(next_step(&state, START + 5 * DAY, 7), Step::Order);
}

#[test]
fn a_window_that_ends_before_it_begins_is_none() {
    let mut state = state(90 * DAY);
    state.told_window(Some(Window { start: START + 5, end: START }), None, START);
    assert_eq!(state.window, None);
}

#[test]
fn windows_that_always_lie_in_the_past_do_not_order_without_end() {
    let (mut state, mut now, mut orders) = (state(90 * DAY), START, 0);
    state.has_windows = true;
    while now < START + 30 * DAY {
        match next_step(&state, now, 7) {
            Step::Order => {
                orders += 1;
                state.succeeded(Held { not_before: now, not_after: now + 90 * DAY, taken_at: now });
            }
            Step::AskWindow => state.told_window(Some(Window { start: 1, end: 2 }), Some(0), now),
            Step::Revoke => panic!("revokes nothing"),
            Step::Wait { until, .. } => now = until,
        }
    }
    assert!((29..=30).contains(&orders), "{orders}");
}

#[test]
fn asking_by_hand_skips_the_wait_but_not_what_the_directory_said() {
    let mut state = State { proofs: 1, ..State::default() };
    for _ in 0..6 {
        state.failed(Pace::ByHand, None, START);
    }
    assert!(order_time(&state, START, 0) > START + HOUR);
    state.ask();
    assert_eq!(order_time(&state, START, 0), START + TRIES_APART);
    state.failed(Pace::Directory, Some(7_200), START);
    state.ask();
    assert_eq!(order_time(&state, START, 0), START + 7_200);
}

#[test]
fn a_wish_lasts_until_it_is_granted() {
    let mut state = state(90 * DAY);
    let now = START + 10 * DAY;
    state.ask();
    assert_eq!(next_step(&state, now, 7), Step::Order);
    state.failed(Pace::Soon, None, now);
    assert!(order_time(&state, now, 7) < now + HOUR);
    state.succeeded(Held { not_before: now, not_after: now + 90 * DAY, taken_at: now });
    assert!(order_time(&state, now, 7) > now + 50 * DAY);
}

#[test]
fn asking_by_hand_again_and_again_fails_five_proofs_an_hour() {
    for (proofs, expect) in [(1, 5), (2, 2)] {
        let mut state = State { proofs, ..State::default() };
        state.ask();
        let (mut now, mut tries) = (START, 0);
        while now < START + HOUR {
            match next_step(&state, now, 7) {
                Step::Order => {
                    tries += 1;
                    state.failed(Pace::Validation, None, now);
                    state.ask();
                }
                Step::Wait { until, .. } => now = until,
                Step::AskWindow | Step::Revoke => panic!("has no windows, and revokes nothing"),
            }
        }
        assert_eq!(tries, expect, "with {proofs} proofs a try");
    }
}

#[test]
fn a_clock_that_was_wrong_holds_nothing_up() {
    let mut state = State { proofs: 1, ..State::default() };
    state.failed(Pace::Validation, Some(3_600), START + 1_000 * DAY);
    assert_eq!(next_step(&state, START, 7), Step::Order);
    let held = Held { not_before: START, not_after: START + 90 * DAY, taken_at: START + 1_000 * DAY };
    state = State { held: Some(held), has_windows: true, window_due: START + 1_000 * DAY, ..State::default() };
    assert_eq!(next_step(&state, START, 7), Step::AskWindow);
    state.has_windows = false;
    assert!(order_time(&state, START, 7) <= START + 60 * DAY);
}

#[test]
fn a_revocation_comes_before_the_order_and_holds_it_up_no_longer_when_it_fails() {
    let mut state = state(90 * DAY);
    state.revoke("leaf".to_owned(), START + 90 * DAY);
    let (mut now, mut revokes) = (START + DAY, Vec::new());
    let failure = |at_unix_s| FailureReport { at_unix_s, why: "why".to_owned(), remedy: "remedy".to_owned() };
    let mut orders = 0;
    while now < START + 10 * DAY {
        match next_step(&state, now, 7) {
            Step::Revoke => {
                revokes.push(now);
                state.revocation.as_mut().unwrap().failed(Pace::Directory, None, failure(now));
            }
            Step::Order => {
                orders += 1;
                state.succeeded(Held { not_before: now, not_after: now + 90 * DAY, taken_at: now });
            }
            Step::Wait { until, .. } => {
                assert!(until > now, "a wait of nothing is a loop");
                now = until;
            }
            Step::AskWindow => panic!("has no windows"),
        }
    }
    assert_eq!(
        (revokes.first(), orders),
        (Some(&(START + DAY)), 1),
        "the new certificate leaves the old one to be revoked"
    );
    assert!(revokes.windows(2).all(|two| (600..=12 * HOUR).contains(&(two[1] - two[0]))), "{revokes:?}");
    assert!(revokes.len() > 10, "{revokes:?}");
    // Whoever set his clock back does not wait until it has caught up.
    assert_eq!(next_step(&state, START, 7), Step::Revoke);
    state.revocation.as_mut().unwrap().failed(Pace::Soon, Some(u64::MAX), failure(now));
    assert!(matches!(next_step(&state, now + DAY, 7), Step::Wait { .. }), "the directory asked for it");
}

#[test]
fn who_asks_too_early_hears_why_and_until_when() {
    let mut state = state(90 * DAY);
    let now = START + 70 * DAY;
    let early = |why, until_unix_s| Some(TooEarly { why, until_unix_s });
    for tries in 1..=5 {
        state.failed(Pace::Validation, None, now + tries);
    }
    assert_eq!(state.too_early(now + 60), early(TooEarlyWhy::Proofs, now + 1 + HOUR));
    state.failed(Pace::Directory, Some(7_200), now + 10);
    assert_eq!(state.too_early(now + 60), early(TooEarlyWhy::Told, now + 10 + 7_200), "the longest");
    assert_eq!(state.too_early(now + 10 + 7_200), None);
    assert_eq!(state.too_early(now - DAY), None, "failures of a clock that was wrong");
}

#[test]
fn a_certificate_that_just_came_is_not_renewed_by_hand() {
    let mut state = state(90 * DAY);
    let until = |until_unix_s| Some(TooEarly { why: TooEarlyWhy::New, until_unix_s });
    assert_eq!(state.too_early(START + 60), until(START + HOUR));
    assert_eq!(state.too_early(START + HOUR), None);
    state.replace = true;
    assert_eq!(state.too_early(START + 60), None, "one that was revoked is");
}

fn pace() -> impl Strategy<Value = Pace> {
    prop_oneof![Just(Pace::Soon), Just(Pace::Directory), Just(Pace::Validation), Just(Pace::ByHand)]
}

proptest! {
    /// Never later than the end minus its margin, whatever window there is, as long as nothing has failed.
    #[test]
    fn the_first_try_is_in_time(
        lifetime in 2 * HOUR..800 * DAY, random: u64, window in proptest::option::of((0..900 * DAY, 0..900 * DAY))
    ) {
        let mut state = state(lifetime);
        state.told_window(window.map(|(start, end)| Window { start: START + start, end: START + end }), None, START);
        let at = order_time(&state, START, random);
        prop_assert!(at <= START + lifetime - lifetime / 10, "{} of {lifetime}", at - START);
        prop_assert!(at >= START + (lifetime / 4).clamp(MIN_AGE, DAY));
    }

    /// If all fails: tries go on until the end and after it, and there are never too many.
    #[test]
    fn failures_are_paced(
        lifetime in DAY..400 * DAY, random: u64, proofs in 1..3_usize, paces in proptest::collection::vec(pace(), 1..60)
    ) {
        let mut state = state(lifetime);
        state.proofs = proofs;
        let (mut now, mut tries, mut failed) = (START, Vec::new(), Vec::new());
        let mut paces = paces.iter().cycle();
        while now < START + lifetime + 2 * DAY && tries.len() < 20_000 {
            now = order_time(&state, now, random);
            tries.push(now);
            let pace = *paces.next().unwrap();
            if pace == Pace::Validation {
                failed.extend(std::iter::repeat_n(now, proofs));
            }
            state.failed(pace, None, now);
        }
        prop_assert!(tries.windows(2).all(|pair| pair[1] - pair[0] >= MINUTE));
        prop_assert!(tries.windows(2).all(|pair| pair[1] - pair[0] <= DAY + DAY / 4));
        prop_assert!(failed.windows(6).all(|six| six[5] - six[0] >= HOUR), "five an hour");
        prop_assert!(tries.windows(101).all(|many| many[100] - many[0] >= DAY), "a hundred a day");
        let last_tenth = START + lifetime - lifetime / 10..START + lifetime;
        prop_assert!(tries.iter().filter(|at| last_tenth.contains(at)).count() >= 1, "it is still tried at the end");
    }

    /// The same failure again is waited for longer, up to a bound.
    #[test]
    fn waits_grow(pace in pace(), random: u64) {
        let mut state = State { proofs: 1, ..State::default() };
        let (first, longest) = pace.waits();
        let mut now = START;
        let mut smallest = 0;
        for count in 0..20 {
            state.failed(pace, None, now);
            let next = order_time(&state, now, random);
            let floor = first.saturating_mul(1 << count).min(longest);
            prop_assert!(next - now >= floor.max(smallest) && next - now <= longest + longest / 4);
            (smallest, now) = (floor, next);
        }
    }

    #[test]
    fn what_the_directory_asks_for_is_honoured(pace in pace(), seconds in 0..30 * 86_400_u64, random: u64, asked: bool) {
        let mut state = state(90 * DAY);
        state.failed(pace, Some(seconds), START + 80 * DAY);
        (state.wished, state.asked) = (asked, asked);
        let at = order_time(&state, START + 80 * DAY, random);
        prop_assert!(at >= START + 80 * DAY + i64::try_from(seconds).unwrap());
    }

    /// No state, clock or number makes it panic, or wait for nothing.
    #[test]
    fn a_wait_lies_ahead(
        times in proptest::array::uniform8(any::<i64>()), random: u64, now: i64, flags in proptest::array::uniform4(any::<bool>()),
        failures: u32, pace in pace()
    ) {
        let [not_before, not_after, taken_at, start, end, window_due, failed, until] = times;
        let state = State {
            held: flags[0].then_some(Held { not_before, not_after, taken_at }),
            has_windows: flags[1],
            replace: flags[2],
            asked: flags[3],
            wished: flags[3],
            window: Some(Window { start, end }),
            window_due, failures, pace,
            last_failure: Some(failed),
            not_before: Some(until),
            failed_proofs: vec![failed, start, end],
            ..State::default()
        };
        if let Step::Wait { until, order_at } = next_step(&state, now, random) {
            prop_assert!(until > now && order_at >= until);
        }
    }
}
