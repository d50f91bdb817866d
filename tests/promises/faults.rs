//! What went wrong in the earlier system, by number: each test fails if it can happen again. Which is tested where, and
//! what has no place yet, stands in `docs/faults.md`.

mod data;
mod table;

use bytes::Bytes;
use serde_json::{Value, json};
use std::{collections::HashSet, fs, path::Path};
use sys_core::token::ACCESS_TOKEN_S;
use sys_tests::{Options, PASSWORD, Person, TestServer, World};

const WHO_AM_I: &str = "sys.account.v1.AuthService/WhoAmI";
const GET_ACCOUNT: &str = "sys.account.v1.AccountService/GetAccount";
const UPDATE_ACCOUNT: &str = "sys.account.v1.AccountService/UpdateAccount";
const DELETE_ACCOUNT: &str = "sys.account.v1.AccountService/DeleteAccount";
const DISABLE: &str = "sys.account.v1.AccountService/DisableAccount";
const ENABLE: &str = "sys.account.v1.AccountService/EnableAccount";
const CREATE_ACCOUNT: &str = "sys.account.v1.AccountService/CreateAccount";
const ASSIGN: &str = "sys.account.v1.MembershipService/AssignRole";
const REVOKE: &str = "sys.account.v1.MembershipService/RevokeRole";
const SUSPEND: &str = "sys.account.v1.MembershipService/SuspendMembership";
const INVITE: &str = "sys.account.v1.MembershipService/Invite";
const LOGIN: &str = "sys.account.v1.AuthService/Login";
const LIST_NOTES: &str = "notes.v1.NoteService/ListNotes";
const CREATE_NOTE: &str = "notes.v1.NoteService/CreateNote";

/// An account that the north org manages.
async fn managed(server: &TestServer, world: &World, email: &str) -> Person {
    let body =
        json!({"email": email, "displayName": "Managed", "managedByOrgId": world.north.id, "password": PASSWORD});
    world.north.admin.call(CREATE_ACCOUNT, body).await.ok();
    server.log_in(email).await
}

#[tokio::test]
async fn fault_01_no_access_token_outlives_its_ten_minutes() {
    let server = TestServer::start().await;
    let root = server.superadmin().await;
    root.call(WHO_AM_I, json!({})).await.ok();
    server.advance_s(ACCESS_TOKEN_S - 5);
    root.call(WHO_AM_I, json!({})).await.ok();
    server.advance_s(10);
    root.call(WHO_AM_I, json!({})).await.refused("unauthenticated");
    server.stop().await;
}

#[tokio::test]
async fn fault_02_nobody_raises_himself() {
    let (server, world) = World::start().await;
    let north = &world.north;
    let people =
        [&north.user, &north.guest, &north.project_admin, &north.project_user, &world.stranger, &world.superadmin];
    for person in people {
        for role in ["ADMIN", "SUPERADMIN"] {
            for project in ["", &north.projects[0]] {
                let body =
                    json!({"orgId": north.id, "projectId": project, "accountId": person.account_id, "role": role});
                let answer = person.call(ASSIGN, body).await;
                assert!(!answer.is_ok(), "{} became {role}", person.email);
            }
        }
    }
    let body = json!({"orgId": north.id, "accountId": north.admin.account_id, "role": "SUPERADMIN"});
    assert!(!north.admin.call(ASSIGN, body).await.is_ok());
    let body = json!({"orgId": north.id, "accountId": north.user.account_id, "role": "SUPERADMIN"});
    assert!(!north.admin.call(ASSIGN, body).await.is_ok(), "nobody gives more than he has");
    let body = json!({"orgId": north.id, "projectId": north.projects[0], "accountId": north.project_user.account_id, "role": "ADMIN"});
    north.project_admin.call(ASSIGN, body).await.ok();
    let body = json!({"orgId": north.id, "accountId": north.project_user.account_id, "role": "ADMIN"});
    assert!(!north.project_admin.call(ASSIGN, body).await.is_ok(), "an admin of a project gives nothing in the org");
    server.stop().await;
}

#[tokio::test]
async fn fault_03_nobody_reads_changes_or_deletes_another_persons_account() {
    let (server, world) = World::start().await;
    let victim = &world.north.user;
    let others =
        [&world.north.admin, &world.north.guest, &world.north.project_admin, &world.south.admin, &world.stranger];
    for other in others {
        let id = &victim.account_id;
        other.call(GET_ACCOUNT, json!({"id": id})).await.refused("not_found");
        let change = json!({"account": {"id": id, "displayName": "Taken over"}, "updateMask": "displayName"});
        other.call(UPDATE_ACCOUNT, change).await.refused("not_found");
        for method in [DELETE_ACCOUNT, DISABLE, ENABLE] {
            let answer = other.call(method, json!({"id": id})).await;
            assert!(["not_found", "permission_denied"].contains(&answer.code()), "{method}: {answer:?}");
        }
    }
    server.client().call(GET_ACCOUNT, json!({"id": victim.account_id})).await.refused("unauthenticated");
    let own = victim.call(GET_ACCOUNT, json!({"id": victim.account_id})).await.ok();
    assert_eq!(own["displayName"], "Somebody");
    let person = managed(&server, &world, "managed@managed.example.org").await;
    world.north.admin.call(GET_ACCOUNT, json!({"id": person.account_id})).await.ok();
    world.south.admin.call(GET_ACCOUNT, json!({"id": person.account_id})).await.refused("not_found");
    server.stop().await;
}

#[tokio::test]
async fn fault_04_no_answer_holds_a_password_or_its_hash() {
    let (server, world) = World::start().await;
    let everything = "sys.core.v1.DescriptorService/GetDescriptors";
    for person in [&world.superadmin, &world.north.admin] {
        let answers = [
            person.call("sys.account.v1.AccountService/ListAccounts", json!({})).await,
            person.call("sys.account.v1.MembershipService/ListMemberships", json!({"orgId": world.north.id})).await,
            person.call(WHO_AM_I, json!({})).await,
        ];
        for answer in answers {
            let text = answer.body.to_string();
            assert!(!text.contains("argon2") && !text.contains(PASSWORD), "{text}");
        }
        let (_, files) = person.client.post(everything, "application/proto", Bytes::new()).await;
        let text = String::from_utf8_lossy(&files);
        assert!(text.contains("AuthService") && !text.contains("password_phc") && !text.contains("refresh_hash"));
    }
    server.stop().await;
}

#[tokio::test]
async fn fault_05_an_empty_or_used_token_verifies_nothing() {
    let server = TestServer::start().await;
    server.register("victim@example.org").await;
    let verify = "sys.account.v1.AuthService/VerifyEmail";
    let reset = "sys.account.v1.AuthService/ResetPassword";
    for token in ["", "x", &"A".repeat(43)] {
        assert!(!server.call(verify, json!({"token": token, "password": PASSWORD})).await.is_ok());
        assert!(!server.call(reset, json!({"token": token, "newPassword": "another long passphrase"})).await.is_ok());
        assert!(
            !server
                .call(
                    "sys.account.v1.AuthService/Setup",
                    json!({"token": token, "email": "x@example.org", "password": PASSWORD})
                )
                .await
                .is_ok()
        );
    }
    let token = server.mailbox().token("victim@example.org", "").await;
    server.call(verify, json!({"token": token, "password": PASSWORD})).await.ok();
    assert!(!server.call(verify, json!({"token": token, "password": PASSWORD})).await.is_ok(), "good once");
    assert!(
        !server.call(reset, json!({"token": token, "newPassword": "another long passphrase"})).await.is_ok(),
        "good for one thing"
    );
    let setup = server.setup_token.clone().unwrap();
    server.superadmin().await;
    let again = json!({"token": setup, "email": "second@example.org", "password": PASSWORD});
    assert!(!server.call("sys.account.v1.AuthService/Setup", again).await.is_ok(), "dies at use");
    server.stop().await;
}

#[tokio::test]
async fn fault_06_and_10_no_method_takes_a_path_or_wipes_the_server() {
    let (server, world) = World::start().await;
    for id in ["../../etc/passwd", "/etc/passwd", "note_../../../x", "account_%2e%2e", ""] {
        world.superadmin.call(GET_ACCOUNT, json!({"id": id})).await.refused("invalid_argument");
        assert!(!world.north.user.call("notes.v1.NoteService/GetNote", json!({"id": id})).await.is_ok());
    }
    let all = "sys.core.v1.DescriptorService/GetDescriptors";
    let (_, files) = world.superadmin.client.post(all, "application/proto", Bytes::new()).await;
    let text = String::from_utf8_lossy(&files).to_lowercase();
    for word in ["dropall", "wipe", "restorebackup", "sendmail", "file_path"] {
        assert!(!text.contains(word), "a method for `{word}`");
    }
    server.stop().await;
}

#[tokio::test]
async fn fault_07_no_empty_secret_opens_a_server() {
    use sys_keys::{Keyring, SecretBytes, SystemEntropy, Unsealer};
    let dir = tempfile::tempdir().unwrap();
    let entropy = || std::sync::Arc::new(SystemEntropy::new());
    let empty = Unsealer::Passphrase(SecretBytes::from(Vec::new()));
    assert!(Keyring::create(&dir.path().join("keys.sys"), &empty, entropy()).is_err(), "an empty passphrase");
    let key = dir.path().join("empty.key");
    fs::write(&key, b"").unwrap();
    let empty = Unsealer::DangerKeyFile(key);
    assert!(Keyring::create(&dir.path().join("other.sys"), &empty, entropy()).is_err(), "an empty key file");
}

#[tokio::test]
async fn fault_08_a_filter_only_narrows_what_its_caller_sees() {
    let (server, world) = World::start().await;
    let north = &world.north;
    let note = json!({"orgId": north.id, "projectId": north.projects[0], "title": "secret plan"});
    north.project_user.call(CREATE_NOTE, json!({"note": note})).await.ok();
    let filters = [
        "author_id != \"account_nobody\"",
        "!(title == \"x\")",
        "true",
        "title == \"x\" || true",
        "published || !published",
        "title.contains(\"\")",
        "project_id != \"\"",
    ];
    for filter in filters {
        for person in [&north.other_project_user, &north.guest, &world.south.admin] {
            let answer = person.call(LIST_NOTES, json!({"orgId": north.id, "filter": filter})).await;
            assert!(!answer.is_ok() || answer.body.get("notes").is_none(), "{filter} shows {}", answer.body);
        }
    }
    let injected = ["title == \"x\" OR 1=1", "'; DROP TABLE notes; --", "title == \"x\" } || { true"];
    for filter in injected {
        let answer = north.project_user.call(LIST_NOTES, json!({"orgId": north.id, "filter": filter})).await;
        assert_eq!(answer.refused("invalid_argument").fields(), ["filter"]);
    }
    server.stop().await;
}

#[tokio::test]
async fn fault_12_each_role_counts_not_the_first_alone() {
    let (server, world) = World::start().await;
    let north = &world.north;
    let person = &north.project_guest;
    let in_second = json!({"note": {"orgId": north.id, "projectId": north.projects[1], "title": "x"}});
    assert!(!person.call(CREATE_NOTE, in_second.clone()).await.is_ok());
    let body =
        json!({"orgId": north.id, "projectId": north.projects[1], "accountId": person.account_id, "role": "USER"});
    north.admin.call(ASSIGN, body).await.ok();
    person.call(CREATE_NOTE, in_second).await.ok();
    let held = person.call(WHO_AM_I, json!({})).await.ok();
    assert_eq!(held["bindings"].as_array().map(Vec::len), Some(2), "{held}");
    server.stop().await;
}

#[tokio::test]
async fn fault_13_who_is_shut_out_is_out_with_his_next_request() {
    let (server, world) = World::start().await;
    let (north, list) = (&world.north, json!({"orgId": world.north.id}));
    let person = managed(&server, &world, "managed@managed.example.org").await;
    person.call(WHO_AM_I, json!({})).await.ok();
    assert!(!north.user.call(DISABLE, json!({"id": person.account_id})).await.is_ok());
    world.superadmin.call(DISABLE, json!({"id": person.account_id})).await.ok();
    person.call(WHO_AM_I, json!({})).await.refused("unauthenticated");
    let login = json!({"email": person.email, "password": PASSWORD});
    assert!(!server.call(LOGIN, login).await.is_ok(), "a disabled account logs in");
    let renew = json!({"refreshToken": person.refresh_token});
    assert!(!server.call("sys.account.v1.AuthService/Refresh", renew).await.is_ok());
    north.admin.call(ENABLE, json!({"id": person.account_id})).await.ok();
    server.log_in(&person.email).await.call(WHO_AM_I, json!({})).await.ok();

    north.user.call(LIST_NOTES, list.clone()).await.ok();
    north.admin.call(SUSPEND, json!({"orgId": north.id, "accountId": north.user.account_id})).await.ok();
    assert!(!can_list(&north.user, &list).await, "suspended");
    let body = json!({"orgId": north.id, "projectId": north.projects[0], "accountId": north.project_user.account_id});
    let create = json!({"note": {"orgId": north.id, "projectId": north.projects[0], "title": "x"}});
    north.project_user.call(CREATE_NOTE, create.clone()).await.ok();
    north.admin.call(REVOKE, body).await.ok();
    assert!(!north.project_user.call(CREATE_NOTE, create).await.is_ok(), "revoked");

    let guest = &north.guest;
    guest.call("sys.account.v1.AuthService/Logout", json!({})).await.ok();
    guest.call(WHO_AM_I, json!({})).await.refused("unauthenticated");
    server.stop().await;
}

async fn can_list(person: &Person, list: &Value) -> bool {
    let create = json!({"note": {"orgId": list["orgId"], "title": "x"}});
    person.call(LIST_NOTES, list.clone()).await.is_ok() || person.call(CREATE_NOTE, create).await.is_ok()
}

#[tokio::test]
async fn fault_18_times_are_what_the_clock_shows() {
    let server = TestServer::start().await;
    let root = server.superadmin().await;
    let before = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let org = root
        .call("sys.account.v1.OrgService/CreateOrg", json!({"name": "a", "adminEmail": "a@example.org"}))
        .await
        .ok();
    let created: String = org["createdAt"].as_str().unwrap().to_owned();
    let year: u64 = created[..4].parse().unwrap();
    assert_eq!(year, 1970 + before / 31_556_952, "{created}");
    server.stop().await;
}

#[tokio::test]
async fn fault_22_and_26_no_secret_or_text_of_a_person_stands_on_disk() {
    // A key of the server itself, which no call reaches.
    let kept = ["zz-kind-zz", "zznamezz", "zzkeyzz"];
    let (server, world) = World::start_with(Options { vault_item: Some(kept), ..Options::default() }).await;
    let canary = "zzcanaryzz";
    let note = json!({"orgId": world.north.id, "projectId": world.north.projects[0], "title": canary, "draft": canary});
    world.north.project_user.call(CREATE_NOTE, json!({"note": note})).await.ok();
    let me = json!({"account": {"id": world.stranger.account_id, "displayName": canary}, "updateMask": "displayName"});
    world.stranger.call(UPDATE_ACCOUNT, me).await.ok();
    let secrets = [canary, PASSWORD, "argon2", "stranger@example.org", &world.stranger.refresh_token];
    let secrets = [secrets.as_slice(), kept.as_slice()].concat();
    let dir = server.stop().await.unwrap();
    let mut looked_at = 0;
    search(&dir.path().join("data"), &mut |path, bytes| {
        looked_at += bytes.len();
        for secret in &secrets {
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "`{secret}` stands in {}", path.display());
        }
    });
    assert!(looked_at > 100_000, "the store was looked at");
}

#[tokio::test]
async fn fault_26_no_key_of_the_edge_stands_on_disk() {
    const WINDOW: usize = 24;
    let server = TestServer::start_with(Options { over_tls: true, ..Options::default() }).await;
    let mut pieces = HashSet::new();
    // The keys of ECH and of the zone, and those of the server's own authority and its certificates, which come a moment later.
    for kind in ["ech", "dnssec", "local-ca"] {
        let kept = sys_tests::eventually(kind, async || {
            let kept = server.kept(kind).await;
            let has_all = kind != "local-ca" || kept.iter().filter(|value| has(value, b"PRIVATE KEY")).count() >= 2;
            Some(kept).filter(|kept| !kept.is_empty() && has_all)
        });
        let kept = kept.await;
        pieces.extend(kept.iter().flat_map(|value| value.chunks_exact(WINDOW)).map(<[u8]>::to_vec));
    }
    assert!(pieces.len() > 20, "{}", pieces.len());
    let first_two = |bytes: &[u8]| usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
    let mut begins = vec![false; 1 << 16];
    pieces.iter().for_each(|piece| begins[first_two(piece)] = true);
    let holds = |bytes: &[u8]| {
        let mut windows = bytes.windows(WINDOW);
        windows.any(|window| begins[first_two(window)] && pieces.contains(window))
    };
    assert!(holds(&[b"before".as_slice(), &server.kept("ech").await[0]].concat()), "what is there is found");
    let dir = server.stop().await.unwrap();
    let mut looked_at = 0;
    search(&dir.path().join("data"), &mut |path, bytes| {
        looked_at += bytes.len();
        assert!(!holds(bytes), "a key stands in {}", path.display());
    });
    assert!(looked_at > 100_000, "the store was looked at");
}

fn has(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}

/// Shows each file below a directory but the mail, which is for people.
fn search(dir: &Path, look: &mut impl FnMut(&Path, &[u8])) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if path.file_name().is_none_or(|name| name != "outbox") {
                search(&path, look);
            }
        } else {
            look(&path, &fs::read(&path).unwrap());
        }
    }
}

#[tokio::test]
async fn fault_23_no_other_site_is_let_in_and_nothing_is_shown_to_strangers() {
    let server = TestServer::start().await;
    for path in ["/metrics", "/debug", "/debug/pprof", "/admin"] {
        let (status, body) = server.client().get(path).await;
        assert!(status >= 400, "{path}: {status} {body:?}");
    }
    let mut stream = tokio::net::TcpStream::connect(server.addr).await.unwrap();
    let request = format!(
        "OPTIONS /{LOGIN} HTTP/1.1\r\nHost: {}\r\nOrigin: https://evil.example\r\nAccess-Control-Request-Method: POST\r\nConnection: close\r\n\r\n",
        server.addr
    );
    let mut answer = String::new();
    tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes()).await.unwrap();
    tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut answer).await.unwrap();
    assert!(!answer.to_lowercase().contains("access-control-allow-origin"), "{answer}");
    let answer = server.call(CREATE_ACCOUNT, json!({})).await;
    assert!(answer.status >= 400, "no failure is answered as success");
    server.stop().await;
}

#[tokio::test]
async fn fault_24_a_deleted_account_leaves_nothing_behind() {
    let (server, world) = World::start().await;
    let (north, person) = (&world.north, &world.north.user);
    // Registering twice leaves one account, and both answers are alike.
    server.register("twice@example.org").await;
    server.register("twice@example.org").await;
    person.call(DELETE_ACCOUNT, json!({"id": person.account_id})).await.ok();
    person.call(WHO_AM_I, json!({})).await.refused("unauthenticated");
    let members =
        north.admin.call("sys.account.v1.MembershipService/ListMemberships", json!({"orgId": north.id})).await.ok();
    assert!(!members.to_string().contains(&person.account_id), "{members}");
    assert!(!server.call(LOGIN, json!({"email": person.email, "password": PASSWORD})).await.is_ok());
    // The address is free again, and the new account is another one with nothing of the old.
    let again = server.verified(&person.email).await;
    assert_ne!(again.account_id, person.account_id);
    assert!(!can_list(&again, &json!({"orgId": north.id})).await);
    // The last admin of an org stays, also by his own hand.
    let refused = north.admin.call(DELETE_ACCOUNT, json!({"id": north.admin.account_id})).await;
    refused.refused("failed_precondition");
    let body = json!({"orgId": north.id, "email": again.email, "role": "USER"});
    north.admin.call(INVITE, body).await.ok();
    server.stop().await;
}

#[tokio::test]
async fn fault_25_an_update_changes_what_its_mask_names_and_nothing_else() {
    let (server, world) = World::start().await;
    let person = managed(&server, &world, "managed@managed.example.org").await;
    world.north.admin.call(DISABLE, json!({"id": person.account_id})).await.ok();
    let change = json!({
        "account": {"id": person.account_id, "displayName": "Renamed", "disabled": false, "verified": true, "email": "x@example.org"},
        "updateMask": "displayName"
    });
    world.north.admin.call(UPDATE_ACCOUNT, change).await.ok();
    let seen = world.north.admin.call(GET_ACCOUNT, json!({"id": person.account_id})).await.ok();
    assert_eq!((&seen["displayName"], &seen["disabled"]), (&json!("Renamed"), &json!(true)));
    assert_eq!(seen["email"], "managed@managed.example.org");
    let forbidden = json!({"account": {"id": person.account_id, "disabled": false}, "updateMask": "disabled"});
    world.north.admin.call(UPDATE_ACCOUNT, forbidden).await.refused("invalid_argument");
    server.stop().await;
}
