//! The client that `sys` uses, which is of another TLS library than the server.

use crate::stage::{COVER, Stage};
use sys_client::{Client, Ech, SessionStore, Told};
use sys_tests::DOMAIN;

#[tokio::test(flavor = "multi_thread")]
async fn sys_hides_the_name_once_it_has_the_keys() {
    let stage = Stage::set().await;
    let home = tempfile::tempdir().unwrap();
    let sessions = SessionStore::new(home.path());
    let endpoint = stage.url().trim_end_matches('/').parse().unwrap();
    let first = Client::connect_to_trust(&endpoint, sessions.clone(), &stage.server.told()).await.unwrap();
    assert_ne!(first.protection().unwrap().ech, Ech::Accepted);
    assert!(stage.capture.shows(DOMAIN), "nobody could have hidden the name on the first connection");
    drop(first);

    stage.capture.forget();
    let second = Client::connect_to_trust(&endpoint, sessions, &Told::default()).await.unwrap();
    assert_eq!(second.protection().unwrap().ech, Ech::Accepted);
    assert!(stage.capture.shows(COVER), "the capture is not of this connection");
    assert!(!stage.capture.shows(DOMAIN));
}
