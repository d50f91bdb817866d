//! Certificates that nobody wants any more, or under other names.

use super::ORG;
use crate::fake::{DAY, HOUR, START, Trouble, World, pass};

#[tokio::test(start_paused = true)]
async fn what_nobody_wants_is_forgotten_with_its_key_after_a_day() {
    let world = World::new();
    let both = || World::settings(&[ORG, &["example.com"]]);
    world.start(both()).await.unwrap().stop_after(60).await;
    let all = world.kept.names("");
    assert_eq!(all.len(), 5);
    world.start(World::settings(&[ORG])).await.unwrap().stop_after(23 * HOUR).await;
    assert_eq!(world.kept.names(""), all, "it may come back");
    world.start(both()).await.unwrap().stop_after(60).await;
    assert_eq!(world.directory.hits("orders").len(), 2, "and finds its certificate");
    let keeper = world.start(World::settings(&[ORG])).await.unwrap();
    pass(25 * HOUR).await;
    assert_eq!((world.kept.names("").len(), world.kept.names("account").len()), (3, 1));
    assert_eq!(keeper.status().len(), 1);
    keeper.stop().await;
    world.start(World::settings(&[ORG])).await.unwrap().stop_after(60).await;
    assert_eq!(world.directory.hits("orders").len(), 2, "what is wanted is there still");
}

#[tokio::test(start_paused = true)]
async fn what_nobody_wants_is_forgotten_by_a_server_that_never_runs_for_a_day_when_it_is_over() {
    let world = World::new();
    world.start(World::settings(&[ORG, &["example.com"]])).await.unwrap().stop_after(60).await;
    let mut days = 0;
    while world.kept.names("certificate").len() > 1 {
        world.start(World::settings(&[ORG])).await.unwrap().stop_after(DAY / 2).await;
        days += 1;
    }
    assert!((178..=182).contains(&days), "{days} half days");
}

#[tokio::test(start_paused = true)]
async fn who_changes_the_names_has_the_certificate_from_before_until_the_new_one_has_come() {
    let world = World::new();
    world.start(World::settings(&[ORG, &["example.com"]])).await.unwrap().stop_after(60).await;
    world.directory.troubled_by(|hit| (hit.at < START + 5 * DAY).then_some(Trouble::Down));
    let (before, more) = (world.told(), ["example.org", "*.example.org", "a.b.example.org"]);
    let more = || World::settings(&[&more]);
    world.start(more()).await.unwrap().stop_after(3 * DAY).await;
    let _keeper = world.start(more()).await.unwrap();
    let told: Vec<_> = world.told().into_iter().skip(before.len()).map(|(_, certificate)| certificate).collect();
    let org = before.iter().find(|(_, certificate)| certificate.names == ORG).unwrap().1.clone();
    assert!(told.len() == 2 && told.iter().all(|one| one.chain_pem == org.chain_pem), "{told:?}");
    assert_eq!(world.kept.names("certificate").len(), 1, "that of the domain that is gone is forgotten");
    pass(5 * DAY).await;
    assert_eq!(world.told().last().unwrap().1.names.len(), 3);
    assert_eq!(world.kept.names("certificate").len(), 1, "it has done its part");
}
