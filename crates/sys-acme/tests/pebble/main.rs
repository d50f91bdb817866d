//! Certificates from Pebble, Let's Encrypt's test server, which verifies each proof for real: by DNS, on the port for files, and on the one for
//! handshakes. What Pebble 2.4 does not know (renewal windows, profiles) is tested against the directory in memory, beside the code.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "clippy.toml exempts test functions, not what they share"
)]

mod world;

use std::time::Duration;
use sys_acme::{AskError, CertificateState, ChallengeKind, ExternalAccount, Settings};
use world::{EAB_KEY, EAB_KEY_ID, Pebble, World};

const WHY: &str = "needs pebble: cargo xtask test runs it";

/// All three kinds, a wildcard, and addresses: each certificate leads to Pebble's root and is for its key.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs pebble: cargo xtask test runs it"]
async fn each_kind_of_proof_is_verified() {
    let pebble = Pebble::start(&[]).await.expect(WHY);
    for (kind, names) in [
        (ChallengeKind::Dns01, vec!["example.org", "*.example.org"]),
        (ChallengeKind::Http01, vec!["www.example.com", "example.com"]),
        (ChallengeKind::TlsAlpn01, vec!["www.example.net"]),
        (ChallengeKind::Http01, vec!["127.0.0.1"]),
        (ChallengeKind::TlsAlpn01, vec!["127.0.0.1", "mixed.example.net"]),
    ] {
        let mut world = World::new(&pebble);
        let keeper = world.start(Settings { kinds: vec![kind], ..pebble.settings(&[&names]) }).await;
        let certificate = world.certificate().await;
        let mut expect = names.clone();
        expect.sort_unstable();
        let mut got = certificate.names.clone();
        got.sort_unstable();
        assert_eq!(got, expect);
        for name in &names {
            pebble.check_chain(&certificate, &name.replace('*', "wild")).await;
        }
        assert!(world.shown().is_empty(), "what was shown is taken away");
        keeper.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs pebble: cargo xtask test runs it"]
async fn several_certificates_share_an_account_and_outlive_a_start() {
    let pebble = Pebble::start(&[]).await.expect(WHY);
    let mut world = World::new(&pebble);
    let settings =
        || pebble.settings(&[&["a.example.org"], &["b.example.org"], &["c.example.org", "*.c.example.org"][..]]);
    let keeper = world.start(settings()).await;
    let mut first = vec![world.certificate().await, world.certificate().await, world.certificate().await];
    assert_eq!(world.kept_names("account").len(), 1);
    keeper.stop().await;
    let keeper = world.start(settings()).await;
    let mut again = vec![world.certificate().await, world.certificate().await, world.certificate().await];
    first.sort_by(|one, other| one.names.cmp(&other.names));
    again.sort_by(|one, other| one.names.cmp(&other.names));
    assert!(first == again, "no certificate is ordered twice");
    assert!(keeper.status().iter().all(|status| matches!(status.state, CertificateState::Good { .. })));
    keeper.stop().await;
}

/// The proof is shown, but is another: the status says so, and another kind of proof is tried next.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs pebble: cargo xtask test runs it"]
async fn a_wrong_answer_is_told_and_the_next_kind_tried() {
    let pebble = Pebble::start(&[]).await.expect(WHY);
    for (kind, part) in
        [(ChallengeKind::Dns01, "port 53"), (ChallengeKind::Http01, "port 80"), (ChallengeKind::TlsAlpn01, "port 443")]
    {
        let mut world = World::new(&pebble);
        world.show_wrong_answers(kind);
        let other = if kind == ChallengeKind::Dns01 { ChallengeKind::Http01 } else { ChallengeKind::Dns01 };
        let keeper =
            world.start(Settings { kinds: vec![kind, other], ..pebble.settings(&[&["wrong.example.org"]]) }).await;
        let failure = world.failure(&keeper).await;
        assert!(
            failure.why.starts_with(&format!("the CA could not verify wrong.example.org by {kind}: ")),
            "{}",
            failure.why
        );
        assert!(failure.remedy.contains(part), "{}", failure.remedy);
        keeper.renew_now("wrong.example.org").await.expect("a wish is granted after a failure");
        world.skip_while_waiting(&keeper).await;
        world.certificate().await;
        keeper.stop().await;
    }
}

/// Pebble refuses each twentieth nonce by itself; here it refuses far more, and nothing but patience is needed.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs pebble: cargo xtask test runs it"]
async fn refused_nonces_are_overcome() {
    let pebble = Pebble::start(&[("PEBBLE_WFE_NONCEREJECT", "20")]).await.expect(WHY);
    let mut world = World::new(&pebble);
    let keeper = world.start(pebble.settings(&[&["nonce.example.org", "*.nonce.example.org"]])).await;
    // Three refusals in a row end a try, and the next begins a minute later.
    world.skip_while_waiting(&keeper).await;
    world.certificate().await;
    keeper.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs pebble: cargo xtask test runs it"]
async fn an_external_account_is_needed_told_and_bound() {
    let pebble = Pebble::start(&[("EAB", "required")]).await.expect(WHY);
    let world = World::new(&pebble);
    let settings = || pebble.settings(&[&["eab.example.org"]]);
    let keeper = world.start(settings()).await;
    let failure = world.failure(&keeper).await;
    assert_eq!(failure.why, "the CA gives accounts only to its customers (external account binding)");
    assert!(failure.remedy.contains("key id"), "{}", failure.remedy);
    keeper.stop().await;

    let world = World::new(&pebble);
    let wrong = ExternalAccount::parse(EAB_KEY_ID, "d3Jvbmcga2V5IHdyb25nIGtleSB3cm9uZyBrZXk").expect("base64url");
    let keeper = world.start(Settings { external_account: Some(wrong), ..settings() }).await;
    assert!(world.failure(&keeper).await.why.starts_with("the ACME directory refused: "));
    keeper.stop().await;

    let mut world = World::new(&pebble);
    let right = ExternalAccount::parse(EAB_KEY_ID, EAB_KEY).expect("base64url");
    let keeper = world.start(Settings { external_account: Some(right), ..settings() }).await;
    world.certificate().await;
    keeper.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs pebble: cargo xtask test runs it"]
async fn a_revoked_certificate_is_revoked_at_the_ca_and_replaced() {
    let pebble = Pebble::start(&[]).await.expect(WHY);
    let mut world = World::new(&pebble);
    let keeper = world.start(pebble.settings(&[&["revoked.example.org"]])).await;
    let first = world.certificate().await;
    assert_eq!(pebble.status_of(&first).await, "Valid");
    assert!(matches!(keeper.renew_now("revoked.example.org").await, Err(AskError::TooEarly(_))));
    keeper.revoke("revoked.example.org").await.expect("it is revoked");
    let second = world.certificate().await;
    assert_eq!(pebble.status_of(&first).await, "Revoked");
    assert_eq!(pebble.status_of(&second).await, "Valid");
    assert_ne!(first.key_pem, second.key_pem);
    keeper.stop().await;
}

/// A directory that forgot everything is a new one: the account is made again by itself.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs pebble: cargo xtask test runs it"]
async fn a_directory_that_goes_away_and_comes_back_without_memory_is_used_again() {
    let mut pebble = Pebble::start(&[]).await.expect(WHY);
    let mut world = World::new(&pebble);
    let keeper = world.start(pebble.settings(&[&["first.example.org"]])).await;
    world.certificate().await;
    keeper.stop().await;
    pebble.stop().await;
    let keeper = world.start(pebble.settings(&[&["second.example.org"]])).await;
    let failure = world.failure(&keeper).await;
    assert!(failure.why.contains("cannot be reached"), "{}", failure.why);
    pebble.start_again().await.expect(WHY);
    world.skip_while_waiting(&keeper).await;
    pebble.check_chain(&world.certificate().await, "second.example.org").await;
    assert_eq!(world.kept_names("account").len(), 1, "in place of the one that is gone");
    keeper.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs pebble: cargo xtask test runs it"]
async fn a_clock_that_differs_from_the_cas_is_told_before_anything_is_ordered() {
    let pebble = Pebble::start(&[]).await.expect(WHY);
    let world = World::new(&pebble);
    world.skip(Duration::from_secs(400 * 24 * 3_600 + 60));
    let keeper = world.start(pebble.settings(&[&["clock.example.org"]])).await;
    let failure = world.failure(&keeper).await;
    assert_eq!(failure.why, "this machine's clock differs from the directory's by 400 days");
    keeper.stop().await;
}

/// A directory that we have no reason to trust gets no request.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs pebble: cargo xtask test runs it"]
async fn a_directory_without_a_trusted_certificate_is_not_asked() {
    let pebble = Pebble::start(&[]).await.expect(WHY);
    let world = World::new(&pebble);
    let keeper = world.start(Settings { root_pem: None, ..pebble.settings(&[&["trust.example.org"]]) }).await;
    let failure = world.failure(&keeper).await;
    assert!(failure.why.contains("does not prove who it is"), "{}", failure.why);
    assert!(failure.remedy.contains("root certificate"), "{}", failure.remedy);
    assert!(world.kept_names("account").is_empty());
    keeper.stop().await;
}
