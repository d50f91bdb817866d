//! What the earlier system did to data: wiped it at each start, wrote it where clients said, rewrote all of it, lost pages of
//! it, and mixed people up.

use bytes::Bytes;
use data_encoding::BASE64;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};
use sys_store::engine::{
    Engine, KeyRange, Order, Txn, key_after,
    redb::{RedbEngine, RedbOptions},
};
use sys_tests::{Options, TestServer, World};
use tokio::task::JoinSet;

const CREATE_NOTE: &str = "notes.v1.NoteService/CreateNote";
const GET_NOTE: &str = "notes.v1.NoteService/GetNote";
const LIST_NOTES: &str = "notes.v1.NoteService/ListNotes";
const UPDATE_ORG: &str = "sys.account.v1.OrgService/UpdateOrg";
const GET_ORG: &str = "sys.account.v1.OrgService/GetOrg";
const REGISTER: &str = "sys.account.v1.AuthService/Register";
const LOGIN: &str = "sys.account.v1.AuthService/Login";
const WHO_AM_I: &str = "sys.account.v1.AuthService/WhoAmI";
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";
/// Largest picture in bytes.
const PICTURE_BYTES: usize = 256 * 1024;

/// The server that is started again on the same data.
async fn again(data_dir: &Path) -> TestServer {
    TestServer::start_with(Options { data_dir: Some(data_dir.to_owned()), ..Options::default() }).await
}

#[tokio::test]
async fn fault_09_a_start_leaves_everything_as_it_was() {
    let (server, world) = World::start().await;
    let (data_dir, author) = (server.data_dir().to_owned(), &world.north.project_user);
    let new = json!({"orgId": world.north.id, "projectId": world.north.projects[0], "title": "kept", "draft": "too"});
    let note = author.call(CREATE_NOTE, json!({"note": new})).await.ok();
    let kept = server.stop().await;
    for _ in 0..2 {
        let server = again(&data_dir).await;
        assert_eq!(server.setup_token, None, "it does not take itself for a new one");
        let client = author.client.at(server.addr);
        assert_eq!(client.call(GET_NOTE, json!({"id": note["id"]})).await.ok(), note);
        client.call(WHO_AM_I, json!({})).await.ok();
        server.stop().await;
    }
    // A store whose keys are not there is not begun anew.
    let (keys, before) = (data_dir.join("keys.sys"), rows(&data_dir).await);
    fs::rename(&keys, data_dir.join("elsewhere")).unwrap();
    let started = TestServer::try_start(Options { data_dir: Some(data_dir.clone()), ..Options::default() }).await;
    assert!(started.is_err(), "it starts without keys");
    assert!(rows(&data_dir).await == before, "it changes a store that is not its own");
    let _ = fs::remove_file(&keys);
    fs::rename(data_dir.join("elsewhere"), &keys).unwrap();
    let server = again(&data_dir).await;
    author.client.at(server.addr).call(GET_NOTE, json!({"id": note["id"]})).await.ok();
    server.stop().await;
    drop(kept);
}

fn files(dir: &Path, all: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, all);
        }
        all.insert(path);
    }
}

#[tokio::test]
async fn fault_11_nothing_that_a_client_names_says_where_a_file_is_written() {
    let (server, world) = World::start().await;
    let top = server.data_dir().parent().unwrap().to_owned();
    let mut before = BTreeSet::new();
    files(&top, &mut before);
    let names = ["../../up", "/etc/up", "..\\up", "a/../../../up", "%2e%2e%2fup", "up\u{0}", ".", ".."];
    let mut mails = 0;
    for name in names {
        for email in [format!("\"{name}\"@example.org"), format!("{name}@example.org"), format!("up@{name}")] {
            let body = json!({"email": email, "password": sys_tests::PASSWORD, "displayName": name});
            mails += usize::from(server.call(REGISTER, body).await.is_ok());
        }
        let note = json!({"orgId": world.north.id, "projectId": world.north.projects[0], "title": name, "draft": name});
        world.north.project_user.call(CREATE_NOTE, json!({"note": note})).await;
        let org = json!({"org": {"id": world.north.id, "description": name}, "updateMask": "description"});
        world.north.admin.call(UPDATE_ORG, org).await;
    }
    // One that is sent for certain.
    server.registered("down@example.org").await;
    let data_dir = server.data_dir().to_owned();
    let _kept = server.stop().await;
    let mut after = BTreeSet::new();
    files(&top, &mut after);
    let new: Vec<_> = after.difference(&before).collect();
    assert!(!new.is_empty() && new.len() <= mails + 1, "{new:?}");
    for path in new {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap();
        let stem = name.strip_suffix(".eml").unwrap_or_else(|| panic!("{name} is no mail"));
        assert_eq!(path.parent(), Some(data_dir.join("outbox").as_path()));
        assert!(stem.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)), "{name}");
    }
}

/// All rows of a store that nobody has open.
async fn rows(data_dir: &Path) -> BTreeMap<Bytes, Bytes> {
    let engine = RedbEngine::open(&data_dir.join("store.redb"), RedbOptions::default()).unwrap();
    let mut txn = engine.begin().await.unwrap();
    let (mut rows, mut rest) = (BTreeMap::new(), KeyRange::all());
    loop {
        let page = txn.range(rest.clone(), Order::Asc, 1_000).await.unwrap().rows;
        let Some((last, _)) = page.last() else { break };
        rest.start = key_after(last);
        rows.extend(page);
    }
    drop(txn);
    engine.close();
    rows
}

#[tokio::test]
async fn fault_14_a_login_attempt_rewrites_nothing() {
    const ATTEMPTS: usize = 5;
    let (server, world) = World::start().await;
    let data_dir = server.data_dir().to_owned();
    let _kept = server.stop().await;
    let before = rows(&data_dir).await;
    let server = again(&data_dir).await;
    for _ in 0..ATTEMPTS {
        let body = json!({"email": world.north.user.email, "password": "a guess"});
        server.call(LOGIN, body).await.refused("unauthenticated");
    }
    server.stop().await;
    let after = rows(&data_dir).await;
    let rewritten = before.iter().filter(|(key, value)| after.get(*key) != Some(value)).count();
    let added = after.len() - before.len().min(after.len());
    // There are 17 accounts. What an attempt leaves is a leaf of the audit log.
    assert!(rewritten <= 4, "{rewritten} of {} rows were rewritten", before.len());
    assert!((1..=4 * ATTEMPTS).contains(&added), "{added} rows were added");
}

#[tokio::test]
async fn fault_17_pages_are_whole_in_both_directions_and_outlive_the_process() {
    let (server, world) = World::start().await;
    let (north, author) = (&world.north, &world.north.project_user);
    let empty = author.call(LIST_NOTES, json!({"orgId": north.id})).await.ok();
    assert_eq!((empty.get("notes"), empty.get("nextPageToken")), (None, None), "an empty list is one");
    let mut ids = Vec::new();
    for number in 0..7 {
        let note = json!({"orgId": north.id, "projectId": north.projects[0], "title": format!("note {number}")});
        ids.push(author.call(CREATE_NOTE, json!({"note": note})).await.text("id"));
    }
    let (mut server, mut kept) = (server, None);
    let data_dir = server.data_dir().to_owned();
    for (order, descends) in [("id", false), ("id desc", true), ("title desc", true), ("", false)] {
        let (mut listed, mut token) = (Vec::new(), String::new());
        loop {
            let body = json!({"orgId": north.id, "orderBy": order, "pageSize": 2, "pageToken": token});
            let page = author.client.at(server.addr).call(LIST_NOTES, body).await.ok();
            let notes = page["notes"].as_array().cloned().unwrap_or_default();
            listed.extend(notes.iter().map(|note| note["id"].as_str().unwrap_or_default().to_owned()));
            token = page["nextPageToken"].as_str().unwrap_or_default().to_owned();
            if token.is_empty() {
                break;
            }
            if order == "id desc" {
                // The token is no address of a process: the next page comes from another one.
                kept = server.stop().await.or(kept);
                server = again(&data_dir).await;
            }
        }
        let mut expected = ids.clone();
        if order != "title desc" {
            // Ids of one millisecond are in any order.
            expected.sort();
        }
        if descends {
            expected.reverse();
        }
        assert_eq!(listed, expected, "{order}");
    }
    server.stop().await;
    drop(kept);
}

#[tokio::test]
async fn fault_19_a_logo_is_set_changed_and_taken_away() {
    let (server, world) = World::start().await;
    let north = &world.north;
    for logo in [PNG, b"\xff\xd8\xff\xe0 another", b""] {
        let logo = BASE64.encode(logo);
        let body = json!({"org": {"id": north.id, "logo": logo}, "updateMask": "logo"});
        north.admin.call(UPDATE_ORG, body).await.ok();
        let seen = north.guest.call(GET_ORG, json!({"id": north.id})).await.ok();
        assert_eq!(seen["logo"].as_str().unwrap_or_default(), logo);
    }
    server.stop().await;
}

#[tokio::test]
async fn fault_20_the_largest_picture_comes_back_as_it_was_sent() {
    let (server, world) = World::start().await;
    let north = &world.north;
    let noise = (0..PICTURE_BYTES - PNG.len()).map(|at| u8::try_from(at * 31 % 251).unwrap());
    let logo = BASE64.encode(&PNG.iter().copied().chain(noise).collect::<Vec<u8>>());
    let body = json!({"org": {"id": north.id, "logo": logo}, "updateMask": "logo"});
    north.admin.call(UPDATE_ORG, body).await.ok();
    let seen = north.guest.call(GET_ORG, json!({"id": north.id})).await.ok();
    assert!(seen["logo"] == json!(logo), "it differs");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_21_nobody_is_taken_for_another_however_many_call_at_once() {
    let (server, world) = World::start().await;
    let mut calling = JoinSet::new();
    for person in world.north.people().into_iter().chain(world.south.people()) {
        let (client, account) = (person.client.clone(), person.account_id.clone());
        calling.spawn(async move {
            for _ in 0..8 {
                let told: Value = client.call(WHO_AM_I, json!({})).await.ok();
                assert_eq!(
                    told["account"]["id"].as_str().or(told["accountId"].as_str()),
                    Some(account.as_str()),
                    "{told}"
                );
            }
        });
    }
    calling.join_all().await;
    server.stop().await;
}
