//! A session in a file: who reads it, and what stands there while it is replaced.

use super::*;
use crate::{Token, own_file::LOCK_PAUSE};
use std::{os::unix::fs::PermissionsExt, path::Path};

fn session(number: i64) -> Session {
    Session {
        server: "http://127.0.0.1:8443".parse().expect("an endpoint"),
        account_id: "account_1".into(),
        session_id: "session_1".into(),
        access_token: Token::new(format!("access {number}")),
        access_expires_unix_s: number,
        refresh_token: Token::new("refresh \"quoted\""),
        device: None,
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("metadata").permissions().mode() & 0o777
}

#[tokio::test]
async fn a_session_survives_in_a_file_that_only_its_user_reads() {
    let directory = tempfile::tempdir().expect("a directory");
    let inner = directory.path().join("config/sys");
    let store = SessionStore::new(&inner);
    assert_eq!(store.load().await.expect("nothing there"), None);
    // A leftover that everybody may read must not pass its permissions on.
    fs::create_dir_all(&inner).expect("a directory");
    fs::write(inner.join("session.json.new"), "left over").expect("a file");
    let lock = store.lock().await.expect("the lock");
    lock.save(&session(1)).await.expect("saved");
    assert_eq!(mode(&inner.join("session.json")), 0o600);
    assert_eq!(mode(&inner.join("session.lock")), 0o600);
    assert_eq!(store.load().await.expect("readable"), Some(session(1)));
    lock.save(&session(2)).await.expect("replaced");
    assert_eq!(store.load().await.expect("readable"), Some(session(2)));
    assert!(!inner.join(NEW_FILE).exists());
    lock.remove().await.expect("removed");
    lock.remove().await.expect("removed twice");
    assert_eq!(store.load().await.expect("nothing there"), None);
}

#[tokio::test]
async fn the_directory_is_made_for_its_user_alone() {
    let directory = tempfile::tempdir().expect("a directory");
    let inner = directory.path().join("sys");
    let store = SessionStore::new(&inner);
    store.lock().await.expect("the lock");
    assert_eq!(mode(&inner), 0o700);
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_see_whole_sessions_while_one_is_replaced() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = SessionStore::new(directory.path());
    store.lock().await.expect("the lock").save(&session(0)).await.expect("saved");
    let reader = {
        let store = store.clone();
        tokio::spawn(async move {
            for _ in 0..500 {
                store.load().await.expect("whole").expect("there");
            }
        })
    };
    let lock = store.lock().await.expect("the lock");
    for number in 1..100 {
        lock.save(&session(number)).await.expect("saved");
    }
    reader.await.expect("no reader saw half a session");
}

#[tokio::test]
async fn only_one_program_at_a_time_changes_the_session() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = SessionStore::new(directory.path());
    let first = store.lock().await.expect("the lock");
    let other = SessionStore::new(directory.path());
    let mut second = std::pin::pin!(other.lock());
    assert!(tokio::time::timeout(LOCK_PAUSE * 3, second.as_mut()).await.is_err(), "two hold the lock");
    drop(first);
    second.await.expect("the lock is free");
}

#[tokio::test]
async fn a_file_that_others_can_read_or_that_is_no_session_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = SessionStore::new(directory.path());
    let path = directory.path().join("session.json");
    fs::write(&path, "{}").expect("a file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("permissions");
    assert!(matches!(store.load().await, Err(SessionError::Exposed { .. })));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("permissions");
    assert!(matches!(store.load().await, Err(SessionError::Malformed { .. })));
}

#[test]
fn the_environment_says_where_the_session_is() {
    let check = |variables: &[(&str, &str)], expect: Option<&str>| {
        let variable =
            |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value));
        let found = SessionStore::from_environment(variable).ok().map(|store| store.directory);
        assert_eq!(found.as_deref(), expect.map(Path::new), "{variables:?}");
    };
    check(&[("HOME", "/home/a")], Some("/home/a/.config/sys"));
    check(&[("HOME", "/home/a"), ("XDG_CONFIG_HOME", "/x")], Some("/x/sys"));
    check(&[("HOME", "/home/a"), ("XDG_CONFIG_HOME", "relative")], Some("/home/a/.config/sys"));
    check(&[("HOME", "/home/a"), ("XDG_CONFIG_HOME", "/x"), ("SYS_CONFIG_DIR", "here")], Some("here"));
    check(&[("SYS_CONFIG_DIR", "")], None);
}

#[tokio::test]
async fn the_key_of_a_session_lies_apart_and_goes_with_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = SessionStore::new(directory.path());
    let (file, _) = store.choose(Wish::File).await.expect("a place");
    let key = DeviceKey::generate().expect("a key");
    let bound = Session { device: Some(key.fingerprint()), ..session(1) };
    store.lock().await.expect("the lock").save_in(&file, &bound, Some(&key)).await.expect("saved");
    assert_eq!(mode(&directory.path().join(DEVICE_FILE)), 0o600);
    let kept = fs::read_to_string(directory.path().join(FILE)).expect("a session");
    assert!(!kept.contains("\"key\""), "{kept}");
    let loaded = store.load().await.expect("readable").expect("a session");
    assert_eq!(loaded, bound);
    let found = store.device_key(&loaded).await.expect("readable").expect("its key");
    assert_eq!(found.fingerprint(), key.fingerprint());
    // The key of another login is none of this one's.
    let other = DeviceKey::generate().expect("a key");
    let elsewhere = Session { device: Some(other.fingerprint()), ..session(1) };
    assert!(store.device_key(&elsewhere).await.expect("readable").is_none());
    // A session without one leaves none behind.
    store.lock().await.expect("the lock").save_in(&file, &session(2), None).await.expect("saved");
    assert!(!directory.path().join(DEVICE_FILE).exists());
    let lock = store.lock().await.expect("the lock");
    lock.save_in(&file, &bound, Some(&key)).await.expect("saved");
    lock.remove().await.expect("removed");
    assert!(!directory.path().join(DEVICE_FILE).exists());
}
