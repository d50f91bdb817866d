//! Watches at the gate: when they speak, what they hold, how many there may be.

use super::*;
use crate::throttle::CallerKey;
use std::collections::BTreeMap;
use sys_policy::Now;
use tokio::time::Instant;

const RESET: &str = "RESET";
const CURRENT: &str = "CURRENT";
/// What one alone may leave unread.
const HALF: usize = 64 << 20;

impl Spoken {
    async fn watch(bed: &Bed, token: &str) -> Self {
        Self::listen(bed, "WatchEntries", Some(token), &json!({})).await
    }

    /// The next event: what happened, or the text of what was added, or the reason of the end.
    async fn event(&mut self) -> String {
        match self.next().await {
            Came::Message(event) if event["event"] == "ADDED" => event["entry"]["text"].as_str().unwrap().to_owned(),
            Came::Message(event) => event["event"].as_str().unwrap().to_owned(),
            Came::End(refused) => refused.map(|(_, reason)| reason).unwrap_or_default(),
        }
    }

    /// What it tells until it is up to date.
    async fn told(&mut self) -> Vec<String> {
        let mut told = Vec::new();
        while told.last().is_none_or(|last| last != CURRENT) {
            told.push(timeout(PATIENCE, self.event()).await.expect("something comes"));
        }
        told
    }
}

/// What somebody writes, so many milliseconds after the watch is up to date.
#[derive(Clone, Copy)]
enum Written {
    Seen(&'static str),
    /// Opens so many seconds after that.
    SeenLater(&'static str, i64),
    Hidden,
    HiddenUntilLater(i64),
}

/// All events of a watch in 70 seconds and when they come, while this is written.
async fn told_of(script: &[(u64, Written)]) -> Vec<(Duration, String)> {
    const LASTS: Duration = Duration::from_secs(70);
    let bed = Bed::with_runtimes_clock().await;
    let ((token, mine), (_, others)) = (somebody(&bed, HOUR_S).await, somebody(&bed, HOUR_S).await);
    let mut watch = Spoken::watch(&bed, &token).await;
    assert_eq!(watch.told().await, [RESET, CURRENT]);
    let (begun, now) = (Instant::now(), bed.gate().clock.now());
    let later = |seconds| Some(Now { unix_s: now.unix_s + seconds, ..now });
    let writing = async {
        for (after_ms, written) in script {
            tokio::time::sleep_until(begun + Duration::from_millis(*after_ms)).await;
            match *written {
                Written::Seen(text) => bed.enter(mine.account, text, None).await,
                Written::SeenLater(text, seconds) => bed.enter(mine.account, text, later(seconds)).await,
                Written::Hidden => bed.enter(others.account, "hidden", None).await,
                Written::HiddenUntilLater(seconds) => bed.enter(others.account, "hidden", later(seconds)).await,
            }
        }
    };
    let hearing = async {
        let mut told = Vec::new();
        while let Ok(event) = tokio::time::timeout_at(begun + LASTS, watch.event()).await {
            told.push((begun.elapsed(), event));
        }
        told
    };
    let ((), told) = tokio::join!(writing, hearing);
    told
}

/// Two worlds: what is hidden from him moves neither what somebody is told nor when.
#[tokio::test(start_paused = true)]
async fn when_a_watch_speaks_does_not_follow_from_what_is_hidden() {
    // A watch that is up to date looks at the ticks 50 ms later and every 100 ms; some of this is as near to them as may be.
    let seen = [
        (20, Written::Seen("one")),
        (151, Written::Seen("two")),
        (349, Written::Seen("three")),
        (460, Written::SeenLater("five", 3)),
        (1_251, Written::Seen("four")),
        (5_555, Written::Seen("six")),
    ];
    let expected = told_of(&seen).await;
    let told: Vec<_> = expected.iter().map(|(_, event)| event.as_str()).filter(|event| *event != CURRENT).collect();
    assert_eq!(told, ["one", "two", "three", "four", "five", "six"]);
    assert_eq!(expected.len(), 2 * told.len() + 1, "each with a token, and one more after a minute: {expected:?}");
    let first = expected.first().unwrap().0.as_millis();
    assert!(expected.iter().all(|(at, _)| (at.as_millis() - first) % 100 == 0), "{expected:?}");
    for seed in 0..6_u64 {
        // Everywhere, and just before what is seen.
        let mut script: Vec<_> = seen.to_vec();
        let mut random = seed;
        for number in 0..150 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let within_ms = if number % 10 == 0 { 69_000 } else { 6_000 };
            let at_ms = (random >> 33) % within_ms;
            let later_s = i64::try_from(at_ms / 1_000).unwrap() + 1;
            script.push((at_ms, if number % 4 == 0 { Written::HiddenUntilLater(later_s) } else { Written::Hidden }));
        }
        script.extend(
            [10, 49, 140, 148, 340, 1_240, 2_990, 5_540, 5_560, 65_640, 65_690].map(|at| (at, Written::Hidden)),
        );
        script.sort_by_key(|(at, _)| *at);
        assert_eq!(told_of(&script).await, expected, "seed {seed}");
    }
}

#[tokio::test]
async fn fifteen_hundred_watches_live_together_and_a_call_is_answered_meanwhile() {
    const EACH: usize = 60;
    const PEOPLE: usize = 25;
    let bed = Bed::new().await;
    let mut watches = Vec::new();
    for _ in 0..PEOPLE {
        let (token, claims) = somebody(&bed, HOUR_S).await;
        for _ in 0..EACH {
            watches.push((claims.account, Spoken::watch(&bed, &token).await));
        }
    }
    for (_, watch) in &mut watches {
        assert_eq!(watch.told().await, [RESET, CURRENT]);
    }
    assert_eq!(bed.gate().open_streams(), PEOPLE * EACH);
    let accounts: BTreeMap<_, _> = watches.iter().map(|(account, _)| (account.to_string(), *account)).collect();
    for (text, account) in &accounts {
        bed.enter(*account, text, None).await;
    }
    assert_eq!(bed.post("Pass").await.status, 200, "while all of them look");
    for (account, watch) in &mut watches {
        assert_eq!(watch.told().await, [account.to_string(), CURRENT.to_owned()]);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_for_those_who_do_not_read_has_its_bound() {
    let bed = Bed::new().await;
    let ((token, claims), (others_token, other)) = (somebody(&bed, HOUR_S).await, somebody(&bed, HOUR_S).await);
    for account in [claims.account, other.account] {
        bed.enter(account, &"w".repeat(500_000), None).await;
    }
    let share = || CallerKey::of(Some(claims.account), None);
    let all = bed.gate().kept.room_for(share(), HALF).unwrap();
    let mut watch = Spoken::watch(&bed, &token).await;
    assert_eq!(watch.came().await, refused("unavailable", "OVERLOADED"));
    assert_eq!(Spoken::watch(&bed, &others_token).await.told().await.len(), 3, "others have theirs");
    drop(all);
    // One and a half of them fit.
    let rest = bed.gate().kept.room_for(share(), HALF - 800_000).unwrap();
    let mut first = Spoken::watch(&bed, &token).await;
    assert_eq!(first.event().await, RESET);
    let mut second = Spoken::watch(&bed, &token).await;
    assert_eq!(second.came().await, refused("unavailable", "OVERLOADED"), "the first has not taken all of it");
    assert_eq!(first.told().await.len(), 2);
    let mut third = Spoken::watch(&bed, &token).await;
    assert_eq!(third.told().await.len(), 3);
    drop((rest, first, second, third));
    bed.eventually(async || bed.gate().open_streams() == 0).await;
    assert_eq!(bed.gate().kept.bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_was_judged_by_a_right_that_has_changed_since_is_not_told() {
    let bed = Bed::new().await;
    let (token, claims) = somebody(&bed, HOUR_S).await;
    for number in 0..100 {
        bed.enter(claims.account, &format!("{number}"), None).await;
    }
    let mut watch = Spoken::watch(&bed, &token).await;
    for _ in 0..10 {
        watch.event().await;
    }
    let mut open = bed.open().await;
    crate::epoch::advance(&mut open, claims.account).await.unwrap();
    bed.gate().commit_and_tell(open, vec![claims.account]).await.unwrap();
    // Time passes, and nobody reads.
    tokio::time::sleep(Duration::from_millis(10)).await;
    let mut before = 0;
    while watch.event().await != RESET {
        before += 1;
        assert!(before <= 4, "what was on its way is not more than a few");
    }
    assert_eq!(watch.told().await.len(), 101, "all of it, by the right that there is now");
    revoke(&bed, &claims).await;
    assert_eq!(watch.came().await, refused("unauthenticated", "TOKEN_REFUSED"));
}

#[tokio::test]
async fn watches_that_come_and_go_leave_nothing_behind() {
    let bed = Bed::new().await;
    let (token, claims) = somebody(&bed, HOUR_S).await;
    for round in 0..20 {
        let mut watches = Vec::new();
        for _ in 0..50 {
            watches.push(Spoken::watch(&bed, &token).await);
        }
        bed.enter(claims.account, "entry", None).await;
        if round % 2 == 0 {
            watches.last_mut().unwrap().told().await;
        }
        // Some of them before they were ever heard, some in the middle of an answer.
        for watch in &mut watches {
            watch.response.as_ref().inspect(|response| response.abort());
        }
        drop(watches);
        bed.eventually(async || bed.gate().open_streams() == 0).await;
    }
    bed.eventually(async || !bed.gate().ticks.is_ticking()).await;
    assert_eq!(bed.gate().kept.bytes(), 0);
    // And the next one is told all the same.
    assert_eq!(Spoken::watch(&bed, &token).await.told().await.len(), 22);
}
