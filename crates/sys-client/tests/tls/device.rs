//! The key that a session is bound to.

use crate::server::{Authority, Server, pinned};
use std::{fs, os::unix::fs::PermissionsExt};
use sys_client::{Client, ClientError, SessionStore, Told, auth};

const KEY_FILE: &str = "device-key.json";

#[tokio::test]
async fn the_same_key_is_shown_on_all_connections_of_a_session() {
    let authority = Authority::new("ours");
    let server = Server::of(&authority).await;
    let client = server.log_in(pinned(&authority)).await;
    let session = client.session().await.expect("readable").expect("logged in");
    let device = session.device.expect("bound");
    assert_eq!(server.last(auth::LOGIN).certificate, Some(device));
    for _ in 0..3 {
        let client = server.connect().await.expect("connected");
        client.who_am_i().await.expect("served");
        assert_eq!(client.protection().expect("TLS").device, Some(device));
        assert_eq!(server.last(auth::WHO_AM_I).certificate, Some(device));
    }
    let mode = fs::metadata(server.directory.path().join(KEY_FILE)).expect("kept").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn each_login_makes_a_key_and_a_logout_removes_it() {
    let authority = Authority::new("ours");
    let server = Server::of(&authority).await;
    let first = server.log_in(pinned(&authority)).await;
    let device = |client: &Client| client.protection().expect("TLS").device.expect("shown");
    let second = server.log_in(Told::default()).await;
    assert_ne!(device(&first), device(&second));
    // The first connection shows a key that the new session is not bound to.
    let called = server.seen().len();
    assert!(matches!(first.who_am_i().await, Err(ClientError::DeviceKeyLost)));
    assert_eq!(server.seen().len(), called, "a token went over a connection without its key");
    second.log_out().await.expect("logged out");
    assert!(!server.directory.path().join(KEY_FILE).exists());
    // Nobody in particular shows no key.
    server.connect().await.expect("connected").call_bytes("a.B/C", bytes::Bytes::new()).await.expect("served");
    assert_eq!(server.last("a.B/C").certificate, None);
}

#[tokio::test]
async fn a_session_without_its_key_is_worth_nothing_and_can_be_forgotten() {
    let authority = Authority::new("ours");
    let server = Server::of(&authority).await;
    server.log_in(pinned(&authority)).await;
    let elsewhere = tempfile::tempdir().expect("a directory");
    for file in ["session.json", "servers.json"] {
        fs::copy(server.directory.path().join(file), elsewhere.path().join(file)).expect("copied");
    }
    let copied = SessionStore::new(elsewhere.path());
    let client = Client::connect(&server.endpoint, copied.clone()).await.expect("connected");
    assert!(matches!(client.who_am_i().await, Err(ClientError::DeviceKeyLost)));
    let key = server.directory.path().join(KEY_FILE);
    let broken = fs::read_to_string(&key).expect("a key").replace("\"key\": \"", "\"key\": \"AAAA");
    let other = elsewhere.path().join(KEY_FILE);
    for text in ["", "{}"] {
        fs::write(&other, text).expect("written");
        fs::set_permissions(&other, fs::Permissions::from_mode(0o600)).expect("permissions");
        let client = Client::connect(&server.endpoint, copied.clone()).await.expect("connected");
        assert!(matches!(client.who_am_i().await, Err(ClientError::DeviceKeyLost)), "{text}");
    }
    fs::write(&other, broken).expect("written");
    assert!(Client::connect(&server.endpoint, copied.clone()).await.is_err(), "no key at all");
    fs::remove_file(&other).expect("removed");
    let client = Client::connect(&server.endpoint, copied.clone()).await.expect("connected");
    client.log_out().await.expect("forgotten");
    assert_eq!(copied.load().await.expect("readable"), None);
    assert!(server.seen().iter().all(|seen| seen.path != auth::WHO_AM_I && seen.path != auth::LOGOUT));
}

#[tokio::test]
async fn a_key_that_others_can_read_is_refused() {
    let authority = Authority::new("ours");
    let server = Server::of(&authority).await;
    server.log_in(pinned(&authority)).await;
    let key = server.directory.path().join(KEY_FILE);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("permissions");
    assert!(matches!(server.connect().await, Err(ClientError::Session(sys_client::SessionError::Exposed { .. }))));
}
