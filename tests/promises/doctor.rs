//! `sys-server doctor` tells a sound data directory from one that is not, leaves a running server alone, and repairs indexes.

use serde_json::{Value, json};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};
use sys_keys::Unsealer;
use sys_server::doctor::{Diagnosis, Orders, Output, examine, render};
use sys_store::{
    check::Fault,
    engine::{
        Engine, KeyRange, Order, Txn, Write,
        redb::{RedbEngine, RedbOptions},
    },
};
use sys_tests::{Options, TestServer, World};
use tempfile::TempDir;

/// The byte of a key that says what it leads to, and what it says of rows by token, scope and value.
const KIND_AT: usize = 10;
const INDEX_ROWS: [u8; 3] = [2, 3, 6];

/// A data directory that a server has used: an organisation with some notes.
async fn used() -> (PathBuf, Option<TempDir>, World) {
    let (server, world) = World::start().await;
    let org = &world.north;
    for title in ["Plan", "Another plan", "Something else"] {
        let note = json!({"orgId": org.id, "projectId": org.projects[0], "title": title});
        org.project_user.call("notes.v1.NoteService/CreateNote", json!({"note": note})).await.ok();
    }
    let dir = server.data_dir().to_owned();
    (dir, server.stop().await, world)
}

async fn look(dir: &Path, repair: bool) -> anyhow::Result<Diagnosis> {
    let unsealer = Unsealer::DangerKeyFile(dir.join("danger-master.key"));
    examine(dir, unsealer, Orders { repair, give_up_log: false, named: 3 }, &mut |_| {}).await
}

async fn refused(dir: &Path) -> String {
    format!("{:#}", look(dir, true).await.unwrap_err())
}

#[tokio::test]
async fn a_directory_that_a_server_used_is_sound_and_one_that_it_uses_is_left_alone() {
    let (dir, _kept, _) = used().await;
    let diagnosis = look(&dir, false).await.unwrap();
    let text = render(Output::Text, &dir, &diagnosis);
    assert!(diagnosis.is_clean(), "{text}");
    assert!(text.ends_with("nothing is wrong\n"), "{text}");
    assert!(diagnosis.found.seen.records > 20 && diagnosis.found.seen.log_entries > 20, "{text}");

    let options = Options { data_dir: Some(dir.clone()), ..Options::default() };
    let server = TestServer::start_with(options).await;
    assert!(refused(&dir).await.contains("stop the server that runs on it"));
    server.client().call("sys.account.v1.AuthService/WhoAmI", json!({})).await.refused("unauthenticated");
    server.stop().await;
    assert!(look(&dir, false).await.unwrap().is_clean());
}

#[tokio::test]
async fn what_is_missing_in_an_index_is_named_by_id_and_made_again() {
    let (dir, _kept, world) = used().await;
    let engine = RedbEngine::open(&dir.join("store.redb"), RedbOptions::default()).unwrap();
    let mut txn = engine.begin().await.unwrap();
    let rows = txn.range(KeyRange::all(), Order::Asc, 4_096).await.unwrap().rows;
    drop(txn);
    // All rows by which notes of the org are found; the org of an index row is not GLOBAL.
    let lost = rows.iter().filter(|(key, _)| INDEX_ROWS.contains(&key[KIND_AT]) && !key.starts_with(&[0; 6]));
    let writes: Vec<_> = lost.map(|(key, _)| Write::Delete { key: key.clone() }).collect();
    let count = writes.len();
    assert!(count > 10);
    engine.begin().await.unwrap().commit(writes).await.unwrap();
    engine.close();

    let found = look(&dir, false).await.unwrap();
    assert_eq!(found.found.count(Fault::IndexMissing), u64::try_from(count).unwrap());
    let json: Value = serde_json::from_str(&render(Output::Json, &dir, &found)).unwrap();
    assert_eq!((&json["clean"], &json["found"][0]["fault"]), (&json!(false), &json!("index_missing")));
    let first = json["found"][0]["first"].as_array().unwrap();
    assert_eq!(first.len(), 3);
    assert!(first[0].as_str().unwrap().contains(": note_"), "{first:?}");
    let text = render(Output::Text, &dir, &found);
    assert!(text.contains(&format!("and {} more", count - 3)) && text.ends_with("something is wrong\n"), "{text}");
    assert!(!text.contains("Plan") && !json.to_string().contains("Plan"));

    let repaired = look(&dir, true).await.unwrap();
    assert!(repaired.is_clean(), "{}", render(Output::Text, &dir, &repaired));
    assert_eq!(repaired.found.rows_written, u64::try_from(count).unwrap());
    let server = TestServer::start_with(Options { data_dir: Some(dir), ..Options::default() }).await;
    let list = json!({"orgId": world.north.id, "filter": "title.startsWith(\"Plan\")"});
    let user = world.at(&server).north.project_user;
    let page = user.call("notes.v1.NoteService/ListNotes", list.clone()).await.ok();
    assert_eq!(page["notes"].as_array().unwrap().len(), 1);
    assert_eq!(user.call("notes.v1.NoteService/CountNotes", list).await.ok()["count"], "1");
    server.stop().await;
}

#[tokio::test]
async fn files_that_others_may_open_or_that_were_left_over_are_told_and_nothing_is_made_of_what_is_no_data_directory() {
    let (dir, _kept, _) = used().await;
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    mode(&dir, 0o755);
    mode(&dir.join("store.redb"), 0o640);
    fs::write(dir.join("store.redb.new"), b"").unwrap();
    mode(&dir.join("store.redb.new"), 0o600);
    fs::write(dir.join("passwords.txt"), b"").unwrap();
    mode(&dir.join("passwords.txt"), 0o600);
    let diagnosis = look(&dir, false).await.unwrap();
    let found: Vec<_> = diagnosis.files.iter().map(|file| (file.fault, file.is_problem, file.path.as_path())).collect();
    let expected = [
        ("file_mode", true, dir.clone()),
        ("file_mode", true, dir.join("store.redb")),
        ("file_left_over", false, dir.join("store.redb.new")),
        ("passwords_lie_here", false, dir.join("passwords.txt")),
    ];
    assert_eq!(found, expected.iter().map(|(a, b, path)| (*a, *b, path.as_path())).collect::<Vec<_>>());
    assert!(!diagnosis.is_clean());

    // A key that was not finished is told; a key file that is gone is not made anew, and neither is a store.
    let keys = dir.join("keys.sys");
    let mut bytes = fs::read(&keys).unwrap();
    bytes.push(0);
    fs::write(&keys, &bytes).unwrap();
    let files = look(&dir, false).await.unwrap().files;
    assert!(files.iter().any(|file| file.fault == "key_unfinished"), "{files:?}");
    fs::rename(&keys, dir.join("elsewhere")).unwrap();
    assert!(refused(&dir).await.contains("has no key file: put"));
    mode(&dir, 0o700);
    mode(&dir.join("store.redb"), 0o600);
    let started = TestServer::try_start(Options { data_dir: Some(dir.clone()), ..Options::default() }).await;
    let error = format!("{:#}", started.unwrap_err());
    assert!(error.contains("keys.sys is missing"), "{error}");
    assert!(!keys.exists());
    let empty = tempfile::tempdir().unwrap();
    assert!(refused(empty.path()).await.contains("has no store"));
    assert!(refused(&empty.path().join("nowhere")).await.contains("is no directory"));
    assert_eq!(fs::read_dir(empty.path()).unwrap().count(), 0);
}
