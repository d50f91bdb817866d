//! Certificates that somebody had declared void: gone on with by whoever comes after, and never shown as good.

use super::{ORG, state};
use crate::{
    AskError, CertificateState,
    fake::{DAY, HOUR, START, Trouble, World, pass},
};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

#[tokio::test(start_paused = true)]
async fn a_revoked_certificate_is_replaced_by_one_with_another_key() {
    let world = World::new();
    let keeper = world.start(World::settings(&[ORG])).await.unwrap();
    assert_eq!(keeper.revoke("example.com").await, Err(AskError::Unknown { name: "example.com".to_owned() }));
    pass(60).await;
    keeper.revoke("*.EXAMPLE.org").await.unwrap();
    pass(60).await;
    let (told, revoked) = (world.told(), world.directory.hits("revoke"));
    assert_eq!((told.len(), revoked.len()), (2, 1));
    assert_eq!(revoked[0].payload["reason"], 1);
    assert_ne!(told[0].1.key_pem, told[1].1.key_pem);
    assert!(matches!(state(&keeper), CertificateState::Good { .. }));
}

/// Ends the server when so many things have happened to what it keeps and to the directory, from now on.
fn cut_off_after(world: &World, things: usize) -> Arc<tokio::sync::Notify> {
    let (left, cut) = (AtomicUsize::new(things), Arc::new(tokio::sync::Notify::new()));
    let told = cut.clone();
    let passes = Arc::new(move || {
        let passes = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        if !passes {
            told.notify_one();
        }
        passes
    });
    *world.kept.passes.lock().unwrap() = Some(passes.clone());
    // What reaches the directory happens there, whether or not anybody hears the answer.
    world.directory.troubled_by(move |_| (!passes()).then_some(Trouble::Down));
    cut
}

#[tokio::test(start_paused = true)]
async fn whoever_is_cut_off_in_a_revocation_goes_on_with_it_at_the_next_start() {
    let mut was_cut_off = 0;
    for things in 0..60 {
        let world = World::new();
        let keeper = world.start(World::settings(&[ORG])).await.unwrap();
        pass(DAY).await;
        let first = world.told()[0].1.clone();
        let cut = cut_off_after(&world, things);
        let asked = keeper.revoke("example.org").await;
        // Dropped at the very moment: what it would do next it does not.
        let ended = tokio::time::timeout(std::time::Duration::from_secs(600), cut.notified()).await;
        was_cut_off += usize::from(ended.is_ok());
        drop(keeper);
        *world.kept.passes.lock().unwrap() = None;
        world.directory.now().troubles = None;
        let keeper = world.start(World::settings(&[ORG])).await.unwrap();
        let revoked = || world.directory.hits("revoke").len();
        let last = world.told().last().unwrap().1.clone();
        if asked.is_ok() && last == first {
            let status = keeper.status().remove(0);
            assert!(status.is_void, "after {things}: it is told before anything else happens: {status:?}");
        }
        pass(HOUR).await;
        let status = keeper.status().remove(0);
        assert!((status.revoking.is_none(), status.is_void) == (true, false), "after {things}: {status:?}");
        let last = world.told().last().unwrap().1.clone();
        // Who was refused asks again: sys-domain does so by itself.
        if asked.is_ok() {
            assert!(revoked() >= 1 && last.key_pem != first.key_pem, "after {things}");
            assert!(!world.directory.now().revoked.is_empty(), "after {things}: the directory was told to the end");
        }
        assert!(matches!(state(&keeper), CertificateState::Good { .. }), "after {things}: {status:?}");
    }
    assert!((20..60).contains(&was_cut_off), "all of it was gone through: {was_cut_off}");
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_makes_no_void_certificate_good() {
    let world = World::new();
    let keeper = world.start(World::settings(&[ORG])).await.unwrap();
    pass(DAY).await;
    keeper.stop().await;
    // Since then it is a year earlier.
    world.clock.set_back(365 * DAY);
    world.directory.now().stuck = Some("pending");
    let keeper = world.start(World::settings(&[ORG])).await.unwrap();
    keeper.revoke("example.org").await.unwrap();
    pass(20).await;
    drop(keeper);
    let keeper = world.start(World::settings(&[ORG])).await.unwrap();
    assert!(keeper.status().remove(0).is_void, "{:?}", keeper.status());
    world.directory.now().stuck = None;
    pass(HOUR).await;
    assert!(!keeper.status().remove(0).is_void && world.directory.now().revoked.len() == 1, "{:?}", keeper.status());
}

#[tokio::test(start_paused = true)]
async fn a_directory_that_does_not_revoke_is_asked_again_while_another_certificate_is_shown() {
    let world = World::new();
    let keeper = world.start(World::settings(&[ORG])).await.unwrap();
    pass(DAY).await;
    world.directory.troubled_by(|hit| {
        (hit.endpoint == "revoke" && hit.at < START + 4 * DAY).then(|| Trouble::problem(500, "serverInternal", None))
    });
    keeper.revoke("example.org").await.unwrap();
    pass(HOUR).await;
    assert_eq!(world.told().len(), 2);
    let status = keeper.status().remove(0);
    assert!(!status.is_void && matches!(status.state, CertificateState::Good { .. }), "{status:?}");
    assert!(status.revoking.unwrap().failure.unwrap().why.contains("fault of its own"));
    assert_eq!(keeper.revoke("example.org").await, Err(AskError::Busy), "the new one after the old one");
    pass(4 * DAY).await;
    assert_eq!(keeper.status().remove(0).revoking, None);
    let asked = world.directory.hits("revoke").len();
    assert!((5..40).contains(&asked), "{asked}");
    assert_eq!(world.told().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_certificate_that_is_over_is_not_revoked_for_ever() {
    let world = World::new();
    let keeper = world.start(World::settings(&[ORG])).await.unwrap();
    pass(DAY).await;
    world.directory.troubled_by(|hit| (hit.endpoint == "revoke").then(|| Trouble::problem(403, "unauthorized", None)));
    keeper.revoke("example.org").await.unwrap();
    pass(80 * DAY).await;
    assert!(keeper.status().remove(0).revoking.is_some());
    pass(12 * DAY).await;
    assert_eq!(keeper.status().remove(0).revoking, None);
}
