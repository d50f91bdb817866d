//! Certificates over the years, from a directory in memory, on a clock that goes as fast as it is read.

mod revoked;
mod unwanted;

use crate::{
    AskError, CertificateState, Challenge, ChallengeKind, Keeper, Settings, StartError, TooEarlyWhy,
    fake::{DAY, HOUR, START, Trouble, World, pass},
};
use std::sync::atomic::Ordering;

const ORG: &[&str] = &["example.org", "*.example.org"];

fn state(keeper: &Keeper) -> CertificateState {
    keeper.status().remove(0).state
}

impl Keeper {
    async fn stop_after(self, seconds: i64) {
        pass(seconds).await;
        self.stop().await;
    }
}

/// What failed, and what to do.
fn trouble(keeper: &Keeper) -> (String, String) {
    match state(keeper) {
        CertificateState::Waiting { why, remedy, .. } | CertificateState::Failed { why, remedy, .. } => (why, remedy),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_certificate_comes_and_is_told_at_the_next_start_without_asking() {
    let world = World::new();
    let keeper = world.start(World::settings(&[ORG])).await.unwrap();
    pass(60).await;
    let told = world.told();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].1.names, ["example.org", "*.example.org"]);
    assert!(matches!(state(&keeper), CertificateState::Good { .. }), "{:?}", state(&keeper));
    assert_eq!(world.challenges.all.lock().unwrap().len(), 2);
    assert!(world.challenges.shown.lock().unwrap().is_empty(), "what was shown is taken away");
    keeper.stop().await;

    world.directory.troubled_by(|hit| panic!("asked for {}", hit.endpoint));
    let keeper = world.start(World::settings(&[ORG])).await.unwrap();
    assert_eq!(world.told()[1].1, told[0].1);
    assert!(matches!(state(&keeper), CertificateState::Good { .. }));
    pass(60).await;
}

#[tokio::test(start_paused = true)]
async fn years_pass_with_a_valid_certificate_each_day() {
    let world = World::new();
    let _keeper = world.start(World::settings(&[ORG, &["192.0.2.1"]])).await.unwrap();
    for day in 1..=5 * 365 {
        pass(DAY).await;
        let now = START + day * DAY;
        for names in [ORG, &["192.0.2.1"]] {
            let told = world.told();
            let newest = told.iter().rfind(|(_, certificate)| certificate.names == names).unwrap();
            assert!(newest.1.not_after_unix_s - now >= 29 * DAY, "day {day}");
        }
    }
    let told = world.told();
    assert!((60..=70).contains(&told.len()), "one for each two months and name: {}", told.len());
    let keys: std::collections::HashSet<&str> =
        told.iter().map(|(_, certificate)| certificate.key_pem.as_str()).collect();
    assert_eq!(keys.len(), told.len(), "each has a new key");
    assert_eq!(world.directory.hits("account").len(), 1, "the account is made once");
    assert_eq!(world.kept.names("").len(), 5, "an account, two certificates, and how their tries went");
}

#[tokio::test(start_paused = true)]
async fn a_renewal_window_decides_and_the_order_names_what_it_replaces() {
    let world = World::new();
    world.directory.now().window = Some((10 * DAY, 12 * DAY));
    let _keeper = world.start(World::settings(&[ORG])).await.unwrap();
    pass(9 * DAY).await;
    assert_eq!(world.told().len(), 1);
    pass(3 * DAY + HOUR).await;
    let told = world.told();
    assert_eq!(told.len(), 2);
    assert!((START + 10 * DAY..=START + 12 * DAY + HOUR).contains(&told[1].0));
    let orders = world.directory.hits("orders");
    assert!(orders[0].payload.get("replaces").is_none());
    assert!(orders[1].payload["replaces"].as_str().unwrap().contains('.'));
}

#[tokio::test(start_paused = true)]
async fn a_window_that_moves_forward_is_noticed_within_a_day() {
    let world = World::new();
    world.directory.now().window = Some((60 * DAY, 61 * DAY));
    let _keeper = world.start(World::settings(&[ORG])).await.unwrap();
    pass(5 * DAY).await;
    world.directory.now().window = Some((4 * DAY, 5 * DAY));
    pass(DAY).await;
    assert_eq!(world.told().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_order_that_may_not_replace_is_made_without_it() {
    let world = World::new();
    world.directory.now().window = Some((10 * DAY, 11 * DAY));
    world.directory.troubled_by(|hit| {
        let replaces = hit.payload.get("replaces").is_some();
        replaces.then(|| Trouble::problem(409, "alreadyReplaced", None))
    });
    let keeper = world.start(World::settings(&[ORG])).await.unwrap();
    pass(11 * DAY + HOUR).await;
    assert_eq!(world.told().len(), 2);
    assert_eq!(world.directory.hits("orders").len(), 3);
    assert!(matches!(state(&keeper), CertificateState::Good { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_profile_is_asked_for_only_where_there_is_one() {
    let world = World::new();
    world.directory.now().profiles = vec!["classic", "shortlived"];
    let with = |profile: &str| Settings { profile: Some(profile.to_owned()), ..World::settings(&[ORG]) };
    let keeper = world.start(with("tlsserver")).await.unwrap();
    pass(60).await;
    let (why, remedy) = trouble(&keeper);
    assert_eq!(why, "the ACME directory has no profile \"tlsserver\"; it has classic, shortlived");
    assert_eq!(remedy, "Choose one of the profiles that the directory has, or none");
    assert!(world.directory.hits("orders").is_empty());
    keeper.stop().await;

    let keeper = world.start(with("shortlived")).await.unwrap();
    pass(60).await;
    assert!(matches!(state(&keeper), CertificateState::Good { .. }), "other settings begin anew: {:?}", state(&keeper));
    assert_eq!(world.directory.hits("orders")[0].payload["profile"], "shortlived");
    keeper.stop().await;

    let keeper = world.start(World::settings(&[ORG])).await.unwrap();
    pass(60).await;
    assert!(world.directory.hits("orders")[1].payload.get("profile").is_none());
    keeper.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_is_waited_out() {
    let world = World::new();
    world.directory.troubled_by(|hit| {
        let limited = hit.endpoint == "orders" && hit.at < START + 2 * DAY;
        limited.then(|| Trouble::problem(429, "rateLimited", Some("180000")))
    });
    let keeper = world.start(World::settings(&[ORG])).await.unwrap();
    pass(60).await;
    assert_eq!(trouble(&keeper).0, "the ACME directory asks to wait: no");
    let Err(AskError::TooEarly(early)) = keeper.renew_now("example.org").await else { panic!("it is limited") };
    assert_eq!((early.why, early.until_unix_s / HOUR), (TooEarlyWhy::Told, (START + 50 * HOUR) / HOUR));
    assert_eq!(keeper.status().remove(0).too_early, Some(early));
    pass(50 * HOUR - 120).await;
    assert_eq!(world.directory.hits("orders").len(), 1, "also if somebody asks by hand");
    pass(HOUR).await;
    assert_eq!(world.told().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_order_that_is_stuck_is_given_up_and_made_anew() {
    for status in ["pending", "processing"] {
        let world = World::new();
        world.directory.now().stuck = Some(status);
        let keeper = world.start(World::settings(&[ORG])).await.unwrap();
        pass(HOUR / 6).await;
        assert_eq!(trouble(&keeper).0, format!("the order stayed {status} for longer than anybody should wait"));
        assert!(world.challenges.shown.lock().unwrap().is_empty());
        assert!(world.directory.hits("order").len() < 60);
        world.directory.now().stuck = None;
        pass(HOUR).await;
        assert_eq!(world.told().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_directory_does_not_keep_us_busy_with_authorizations_that_nobody_ordered() {
    let world = World::new();
    world.directory.now().more_authorizations = 1;
    let keeper = world.start(World::settings(&[ORG])).await.unwrap();
    pass(HOUR).await;
    assert!(matches!(state(&keeper), CertificateState::Failed { .. }), "{:?}", state(&keeper));
    assert!(world.directory.hits("authz").is_empty());
    world.directory.now().more_authorizations = 0;
    pass(DAY).await;
    assert_eq!(world.told().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn garbage_from_any_endpoint_is_a_failure_that_passes() {
    let endpoints =
        ["directory", "nonce", "account", "orders", "order", "authz", "challenge", "finalize", "certificate"];
    let bodies = [
        "",
        "null",
        "[]",
        "{}",
        "<html>",
        "\u{0}",
        "{\"status\":\"valid\"}",
        "{\"newNonce\":\"not a url\",\"newAccount\":\"x\",\"newOrder\":\"y\"}",
        "{\"status\":\"valid\",\"authorizations\":[],\"finalize\":\"nowhere\",\"certificate\":\"nowhere\"}",
        "{\"status\":\"pending\",\"authorizations\":[\"nowhere\"],\"finalize\":\"http://example.org/x\"}",
        "{\"status\":\"processing\",\"authorizations\":[],\"finalize\":\"x\"}",
        "{\"identifier\":{\"type\":\"dns\",\"value\":\"other.example\"},\"status\":\"pending\",\"challenges\":[]}",
        "{\"identifier\":{\"type\":\"dns\",\"value\":\"example.org\"},\"status\":\"pending\",\"challenges\":[]}",
        "{\"identifier\":{\"type\":\"dns\",\"value\":\"example.org\"},\"status\":\"expired\",\"challenges\":[]}",
        "-----BEGIN CERTIFICATE-----\nMAAA\n-----END CERTIFICATE-----\n",
        "{\"type\":\"x\",\"detail\":\"\\u001b[31m\"}",
    ];
    for endpoint in endpoints {
        for body in bodies {
            for status in [200, 302, 400, 500] {
                // There only what stands in the head counts.
                if matches!((endpoint, status), ("nonce" | "account", 200)) {
                    continue;
                }
                let world = World::new();
                world.directory.troubled_by(move |hit| {
                    let is_bad = hit.endpoint == endpoint && hit.at < START + DAY;
                    is_bad.then(|| Trouble::Answer { status, retry_after: None, body: body.to_owned() })
                });
                let keeper = world.start(World::settings(&[ORG])).await.unwrap();
                pass(HOUR).await;
                while state(&keeper) == CertificateState::Ordering && world.clock_hours() < 3 {
                    pass(30).await;
                }
                // What a directory says of a challenge that it was told of is not needed.
                if world.told().is_empty() {
                    let (why, remedy) = trouble(&keeper);
                    assert!(!why.is_empty() && !remedy.is_empty() && !why.contains(char::is_control), "{why:?}");
                    assert!(world.directory.hits(endpoint).len() < 120, "{endpoint} {status} {body}");
                }
                pass(2 * DAY).await;
                assert_eq!(world.told().len(), 1, "{endpoint} {status} {body}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_directory_that_answers_each_request_at_the_last_moment_is_given_up_for_now() {
    let world = World::new();
    world.directory.now().drips_s = 29;
    let names: Vec<String> = (0..100).map(|number| format!("host{number}.example.org")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let keeper = world.start(World::settings(&[&names])).await.unwrap();
    pass(HOUR - 1_300).await;
    assert!(trouble(&keeper).0.contains("stayed unproven"), "{:?}", trouble(&keeper));
    assert!(world.challenges.shown.lock().unwrap().is_empty());
    world.directory.now().drips_s = 0;
    pass(DAY).await;
    assert_eq!(world.told().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_ever_is_one_of_a_month() {
    for endpoint in
        ["directory", "nonce", "account", "orders", "order", "authz", "challenge", "finalize", "certificate"]
    {
        for after in ["18446744073709551615", "99999999999999999999999999", "Fri, 31 Dec 9999 23:59:59 GMT"] {
            let world = World::new();
            world.directory.troubled_by(move |hit| {
                let is_bad = hit.endpoint == endpoint && hit.at < START + 60;
                is_bad.then(|| Trouble::problem(503, "serverInternal", Some(after)))
            });
            let keeper = world.start(World::settings(&[ORG])).await.unwrap();
            pass(29 * DAY).await;
            assert!(world.told().is_empty(), "{endpoint} {after}");
            assert!(!trouble(&keeper).0.is_empty());
            pass(2 * DAY).await;
            assert_eq!(world.told().len(), 1, "{endpoint} {after}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_directory_that_is_down_for_a_season_is_asked_seldom_and_found_again() {
    let world = World::new();
    let keeper = world.start(World::settings(&[ORG])).await.unwrap();
    pass(DAY).await;
    world.directory.troubled_by(|hit| (hit.at < START + 120 * DAY).then_some(Trouble::Down));
    pass(70 * DAY).await;
    let (why, remedy) = trouble(&keeper);
    assert_eq!(why, "the ACME directory cannot be used: acme.example.org cannot be reached: refused");
    assert!(remedy.contains("port 443"), "{remedy}");
    assert!(matches!(state(&keeper), CertificateState::Waiting { .. }), "the old one is valid still");
    pass(40 * DAY).await;
    assert!(matches!(state(&keeper), CertificateState::Failed { .. }));
    let asked = world.directory.hits("directory").len();
    assert!((100..2_000).contains(&asked), "{asked} in 55 days");
    pass(12 * DAY).await;
    assert!(matches!(state(&keeper), CertificateState::Good { .. }));
}

#[tokio::test(start_paused = true)]
async fn one_that_fails_holds_up_no_other() {
    let world = World::new();
    world.directory.now().fails = Some(("example.org", "unauthorized"));
    let keeper = world.start(World::settings(&[ORG, &["example.com"], &["example.net"]])).await.unwrap();
    pass(60).await;
    let told: Vec<String> = world.told().into_iter().flat_map(|(_, certificate)| certificate.names).collect();
    assert_eq!(told.len(), 2);
    assert!(told.contains(&"example.com".to_owned()) && told.contains(&"example.net".to_owned()));
    assert_eq!(world.directory.hits("account").len(), 1, "they share an account though they began together");
    let (why, remedy) = trouble(&keeper);
    assert!(why.starts_with("the CA could not verify") && why.ends_with("by dns-01: wrong answer"), "{why}");
    assert!(remedy.contains("NS records"), "{remedy}");
}

#[tokio::test(start_paused = true)]
async fn after_a_wrong_answer_another_kind_of_proof_is_tried() {
    let world = World::new();
    world.directory.now().fails = Some(("example.org", "dns"));
    let settings =
        Settings { kinds: vec![ChallengeKind::Dns01, ChallengeKind::Http01], ..World::settings(&[&["example.org"]]) };
    let _keeper = world.start(settings).await.unwrap();
    pass(HOUR - 60).await;
    let shown = world.challenges.all.lock().unwrap().clone();
    assert!(matches!(shown[0], Challenge::Dns01 { .. }) && matches!(shown[1], Challenge::Http01 { .. }), "{shown:?}");
    assert!(world.directory.hits("orders").len() <= 5, "proofs that fail are few");
}

#[tokio::test(start_paused = true)]
async fn no_allowed_proof_is_said_so() {
    let world = World::new();
    let keeper = world.start(Settings { kinds: vec![ChallengeKind::Http01], ..World::settings(&[ORG]) }).await.unwrap();
    pass(60).await;
    let (why, remedy) = trouble(&keeper);
    assert!(why.starts_with("the CA offers no allowed way to prove *.example.org") && why.contains("Dns01"), "{why}");
    assert!(remedy.contains("Wildcards need dns-01"), "{remedy}");
    assert!(world.challenges.shown.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_challenge_that_cannot_be_shown_is_not_announced_to_the_directory() {
    let world = World::new();
    world.challenges.fails.store(true, Ordering::SeqCst);
    let keeper = world.start(World::settings(&[ORG])).await.unwrap();
    pass(30).await;
    assert!(trouble(&keeper).0.ends_with("could not be shown: the zone is not served"));
    assert!(world.directory.hits("challenge").is_empty() && world.challenges.shown.lock().unwrap().is_empty());
    world.challenges.fails.store(false, Ordering::SeqCst);
    pass(HOUR).await;
    assert_eq!(world.told().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_certificate_that_does_not_fit_is_not_taken() {
    for (change, what) in [
        (0, "it is for another key"),
        (1, "names that were ordered are missing"),
        (2, "it is valid for less than an hour from now"),
    ] {
        let world = World::new();
        {
            let mut now = world.directory.now();
            (now.other_key, now.other_names) = (change == 0, change == 1);
            now.lifetime_s = if change == 2 { 60 } else { 90 * DAY };
        }
        let keeper = world.start(World::settings(&[ORG])).await.unwrap();
        pass(60).await;
        assert_eq!(trouble(&keeper).0, format!("the certificate that came does not fit: {what}"));
        assert!(world.told().is_empty() && world.kept.names("certificate").is_empty());
        pass(DAY).await;
        assert!(world.directory.hits("orders").len() <= 8, "it is not ordered without end");
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_wrong_is_noticed_before_anything_is_ordered() {
    for ahead in [-3 * HOUR, 400 * DAY] {
        let world = World::new();
        world.directory.now().ahead_s = ahead;
        let keeper = world.start(World::settings(&[ORG])).await.unwrap();
        pass(60).await;
        let (why, remedy) = trouble(&keeper);
        assert!(why.starts_with("this machine's clock differs from the directory's by"), "{why}");
        assert!(remedy.contains("NTP"), "{remedy}");
        assert!(world.directory.hits("orders").is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_kept_is_not_told_and_not_ordered_twice() {
    let world = World::new();
    *world.kept.refuses.lock().unwrap() = Some("certificate");
    let keeper = world.start(World::settings(&[ORG])).await.unwrap();
    pass(HOUR).await;
    assert_eq!(trouble(&keeper).0, "it cannot be kept: the disk is full");
    assert!(world.told().is_empty());
    *world.kept.refuses.lock().unwrap() = None;
    pass(DAY).await;
    assert_eq!((world.told().len(), world.directory.hits("orders").len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_ordered_that_could_not_be_written_down() {
    let world = World::new();
    *world.kept.refuses.lock().unwrap() = Some("attempts");
    let keeper = world.start(World::settings(&[ORG])).await.unwrap();
    pass(HOUR).await;
    assert_eq!(trouble(&keeper).0, "it cannot be kept: the disk is full");
    assert!(world.directory.now().hits.is_empty());
    keeper.stop().await;
    world.kept.is_broken.store(true, Ordering::SeqCst);
    assert!(matches!(world.start(World::settings(&[ORG])).await, Err(StartError::Kept(_))));
}

#[tokio::test(start_paused = true)]
async fn a_renewal_by_hand_comes_at_once_but_not_twice_an_hour() {
    let world = World::new();
    let keeper = world.start(World::settings(&[ORG])).await.unwrap();
    pass(60).await;
    assert!(matches!(keeper.renew_now("example.org").await, Err(AskError::TooEarly(_))));
    pass(DAY).await;
    keeper.renew_now("example.org").await.unwrap();
    pass(60).await;
    assert_eq!(world.told().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_dies_of_its_orders_makes_few() {
    let world = World::new();
    world.directory.now().stuck = Some("pending");
    let mut starts = 0;
    while world.clock_hours() < 6 {
        let keeper = world.start(World::settings(&[ORG])).await.unwrap();
        pass(20).await;
        drop(keeper);
        starts += 1;
    }
    let orders = world.directory.hits("orders").len();
    assert!(starts > 1_000 && (2..=12).contains(&orders), "{orders} orders in {starts} starts");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_stops_takes_away_what_it_shows_and_goes_on_at_once() {
    let world = World::new();
    world.directory.now().stuck = Some("pending");
    let keeper = world.start(World::settings(&[ORG])).await.unwrap();
    pass(20).await;
    assert_eq!(world.challenges.shown.lock().unwrap().len(), 2);
    keeper.stop().await;
    assert!(world.challenges.shown.lock().unwrap().is_empty());
    world.directory.now().stuck = None;
    let _keeper = world.start(World::settings(&[ORG])).await.unwrap();
    pass(20).await;
    assert_eq!(world.told().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_account_that_is_gone_is_made_anew() {
    let world = World::new();
    let keeper = world.start(World::settings(&[ORG])).await.unwrap();
    pass(DAY).await;
    world.directory.troubled_by(|hit| {
        (hit.endpoint == "orders" && hit.at < START + DAY + 60)
            .then(|| Trouble::problem(400, "accountDoesNotExist", None))
    });
    keeper.renew_now("example.org").await.unwrap();
    pass(HOUR).await;
    assert_eq!((world.told().len(), world.directory.hits("account").len()), (2, 2), "{:?}", keeper.status());
}

#[tokio::test(start_paused = true)]
async fn bad_nonces_are_tried_again_at_once() {
    let world = World::new();
    let mut count = 0;
    world.directory.troubled_by(move |hit| {
        if hit.payload.is_null() && hit.endpoint != "order" {
            return None;
        }
        count += 1;
        (count % 3 == 0).then(|| Trouble::problem(400, "badNonce", None))
    });
    let _keeper = world.start(World::settings(&[ORG])).await.unwrap();
    pass(30).await;
    assert_eq!(world.told().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_damaged_is_ordered_anew() {
    let world = World::new();
    let keeper = world.start(World::settings(&[ORG])).await.unwrap();
    pass(60).await;
    keeper.stop().await;
    for prefix in ["certificate", "attempts"] {
        let name = world.kept.names(prefix).remove(0);
        world.kept.values.lock().unwrap().insert(name, b"damage".to_vec());
    }
    let _keeper = world.start(World::settings(&[ORG])).await.unwrap();
    pass(60).await;
    assert_eq!(world.told().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn no_secret_is_shown_or_told_in_words() {
    let world = World::new();
    world.directory.now().fails = Some(("example.com", "tls"));
    let keeper = world.start(World::settings(&[ORG, &["example.com"]])).await.unwrap();
    pass(60).await;
    let shown = format!("{keeper:?} {:?} {:?}", keeper.status(), world.told());
    assert!(!shown.contains("PRIVATE") && !shown.contains("token-"), "{shown}");
}
