//! Promise 11: the audit logs are read by those whom they concern, each read is an entry of its own, and whatever is done to the
//! data file shows against a head that was kept outside.

use bytes::Bytes;
use serde_json::{Value, json};
use std::{fs, path::Path, time::Duration};
use sys_audit::{
    Distrust,
    tree::{Hash, leaf_hash, root_of_inclusion},
};
use sys_client::{
    Client, Place, SessionStore,
    audit::{AuditError, Log},
    auth::LoginRequest,
    heads::{HeadsError, KeptHeads, Seen},
};
use sys_contract::id::{OrgId, OrgTag};
use sys_store::engine::{
    Engine, KeyRange, Order, Txn, Write,
    redb::{RedbEngine, RedbOptions},
};
use sys_tests::{Options, PASSWORD, Person, TestServer, World};
use tempfile::TempDir;

const LIST: &str = "sys.account.v1.AuditService/ListAudit";
const LIST_SYSTEM: &str = "sys.account.v1.AuditService/ListSystemAudit";
const HEAD: &str = "sys.account.v1.AuditService/GetAuditHead";
const INCLUSION: &str = "sys.account.v1.AuditService/GetAuditInclusion";
const LEAVES: &str = "sys.account.v1.AuditService/ReadAuditLeaves";
const CREATE: &str = "notes.v1.NoteService/CreateNote";
/// Tables of the store's own rows, as they stand on disk.
const AUDIT_LOG: u16 = 101;
const AUDIT_NODES: u16 = 8;

/// `method outcome` of each entry.
fn said(answer: &Value) -> Vec<String> {
    let line = |entry: &Value| {
        let method = entry["method"].as_str().unwrap_or_default().rsplit('/').next().unwrap_or_default();
        format!("{method} {}", entry["outcome"].as_str().unwrap_or_default())
    };
    answer["entries"].as_array().map(|entries| entries.iter().map(line).collect()).unwrap_or_default()
}

#[tokio::test]
async fn each_reads_the_log_that_concerns_him_and_each_read_is_an_entry() {
    let (server, World { superadmin, north, south, stranger }) = World::start().await;
    let org = json!({"orgId": north.id});
    let new = json!({"note": {"orgId": north.id, "projectId": north.projects[0], "title": "t"}});
    north.project_user.call(CREATE, new.clone()).await.ok();
    north.other_project_user.call(CREATE, new).await.refused("permission_denied");
    let newest = north.admin.call(LIST, json!({"orgId": north.id, "pageSize": 1})).await.ok();
    assert_eq!(newest["entries"][0]["accountId"], north.project_user.account_id.as_str());
    // The page before this one is an entry.
    let again = north.admin.call(LIST, json!({"orgId": north.id, "accountId": north.admin.account_id, "pageSize": 1}));
    assert_eq!(said(&again.await.ok()), ["ListAudit OK"]);
    for path in [LIST, HEAD, LEAVES] {
        let before = size(&north.admin, &north.id).await;
        north.admin.call(path, org.clone()).await.ok();
        assert!(size(&north.admin, &north.id).await >= before + 2, "{path} and the look at the size");
    }
    // An org's log is that org's: no role elsewhere opens it, nor a lesser one in it.
    for who in [&superadmin, &south.admin, &stranger, &north.user, &north.guest, &north.project_admin] {
        for path in [LIST, HEAD, INCLUSION, LEAVES] {
            assert!(!who.call(path, org.clone()).await.is_ok(), "{} {path}", who.email);
        }
    }
    for who in [&north.admin, &stranger, &north.user] {
        who.call(LIST_SYSTEM, json!({})).await.refused("permission_denied");
    }
    let refused = json!({"outcome": "AUDIT_OUTCOME_REFUSED", "method": LIST, "accountId": superadmin.account_id});
    let told = sys_tests::eventually("the refusal in the log", || async {
        Some(superadmin.call(LIST_SYSTEM, refused.clone()).await.ok()).filter(|told| !said(told).is_empty())
    });
    assert!(said(&told.await).iter().all(|line| line == "ListAudit METHOD_REFUSED"));
    server.stop().await;
}

#[tokio::test]
async fn a_query_finds_by_account_method_time_and_outcome() {
    let (server, World { north, .. }) = World::start().await;
    let note = |project: &str| json!({"note": {"orgId": north.id, "projectId": project, "title": "t"}});
    north.project_user.call(CREATE, note(&north.projects[0])).await.ok();
    let begun = server.now_unix_s();
    server.advance_s(500);
    north.other_project_user.call(CREATE, note(&north.projects[0])).await.refused("permission_denied");
    let ask = async |more: Value| {
        let mut body = json!({"orgId": north.id, "method": "notes.v1.", "pageSize": 500});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        said(&north.admin.call(LIST, body).await.ok())
    };
    let time = |unix_s: i64| json!(prost_types::Timestamp { seconds: unix_s, nanos: 0 }.to_string());
    let refused = || ask(json!({"outcome": "AUDIT_OUTCOME_REFUSED"}));
    sys_tests::eventually("the refusal", || async { Some(refused().await).filter(|found| !found.is_empty()) }).await;
    let all = ask(json!({})).await;
    let [not, done] = all.as_slice() else { panic!("two entries, newest first: {all:?}") };
    assert_eq!(done, "CreateNote OK");
    let reason = not.strip_prefix("CreateNote ").unwrap();
    assert_eq!(ask(json!({"oldestFirst": true})).await, [done.as_str(), not]);
    assert_eq!(refused().await, [not.as_str()]);
    assert_eq!(ask(json!({"outcome": "AUDIT_OUTCOME_ALLOWED"})).await, [done.as_str()]);
    assert_eq!(ask(json!({"reason": reason})).await, [not.as_str()]);
    assert_eq!(ask(json!({"accountId": north.project_user.account_id})).await, [done.as_str()]);
    assert_eq!(ask(json!({"accountId": north.guest.account_id})).await, [""; 0]);
    assert_eq!(ask(json!({"method": "notes.v1.NoteService/Get"})).await, [""; 0]);
    assert_eq!(ask(json!({"startTime": time(begun + 250)})).await, [not.as_str()]);
    assert_eq!(ask(json!({"endTime": time(begun + 250)})).await, [done.as_str()]);
    north.admin.call(LIST, json!({"orgId": north.id, "pageToken": "x"})).await.refused("invalid_argument");
    north.admin.call(LIST, json!({"orgId": north.id, "accountId": "x"})).await.refused("invalid_argument");
    server.stop().await;
}

#[tokio::test]
async fn an_entry_is_proven_to_be_in_the_log() {
    let (server, World { north, .. }) = World::start().await;
    let head = north.admin.call(HEAD, json!({"orgId": north.id})).await.ok();
    let size: u64 = head["treeSize"].as_str().unwrap().parse().unwrap();
    let leaves = north.admin.call(LEAVES, json!({"orgId": north.id})).await.ok();
    for number in [0, size / 2, size - 1] {
        let body = json!({"orgId": north.id, "number": number, "treeSize": size});
        let proof = north.admin.call(INCLUSION, body).await.ok();
        let path: Vec<Hash> = proof["path"].as_array().into_iter().flatten().map(hash).collect();
        let leaf = base64(&leaves["leaves"][usize::try_from(number).unwrap()]["leaf"]);
        assert_eq!(
            root_of_inclusion(number, size, &leaf_hash(&leaf), &path),
            Some(hash(&head["rootHash"])),
            "{number}"
        );
    }
    let beyond = json!({"orgId": north.id, "number": 0, "treeSize": size + 1_000});
    north.admin.call(INCLUSION, beyond).await.refused("invalid_argument");
    server.stop().await;
}

/// Somebody at a client program that keeps heads.
struct Watcher {
    client: Client,
    heads: KeptHeads,
    directory: TempDir,
}

impl Watcher {
    async fn new(server: &TestServer, email: &str) -> Self {
        Self::in_directory(tempfile::tempdir().unwrap(), server, email).await
    }

    async fn in_directory(directory: TempDir, server: &TestServer, email: &str) -> Self {
        let sessions = SessionStore::new(directory.path());
        let client = Client::connect(&endpoint(server), sessions.clone()).await.unwrap();
        let device_name = "test".to_owned();
        let request = LoginRequest { email: email.to_owned(), password: PASSWORD.to_owned(), device_name };
        client.log_in(&request, &Place::File(directory.path().join("session.json"))).await.unwrap();
        Self { client, heads: KeptHeads::new(sessions), directory }
    }

    /// The same program after the server came back, at another port as far as this test is concerned.
    async fn at(self, before: &str, server: &TestServer, email: &str) -> Self {
        let file = self.directory.path().join("audit-heads.json");
        let text = fs::read_to_string(&file).unwrap().replace(before, endpoint(server).as_str());
        fs::write(&file, text).unwrap();
        Self::in_directory(self.directory, server, email).await
    }

    async fn check(&self, log: &Log, anew: bool) -> Result<Seen, HeadsError> {
        self.heads.check(&self.client, log, anew).await
    }

    /// Reads the whole log against the head that was just seen and the one that was kept before.
    async fn walk(&self, log: &Log, seen: &Seen) -> Result<u64, AuditError> {
        self.client.audit_walk(log, seen.head(), seen.kept(), |_| Ok::<(), AuditError>(())).await
    }
}

#[tokio::test]
async fn a_client_sees_that_a_log_goes_on_from_what_it_kept_also_over_a_restart() {
    let (server, World { north, superadmin, .. }) = World::start().await;
    for (email, log) in [(&north.admin.email, Log::Org(north.id.clone())), (&superadmin.email, Log::System)] {
        let watcher = Watcher::new(&server, email).await;
        assert!(matches!(watcher.check(&log, false).await.unwrap(), Seen::First(_)));
        let seen = watcher.check(&log, false).await.unwrap();
        assert!(matches!(seen, Seen::GoesOn { .. }), "{seen:?}");
        assert_eq!(watcher.walk(&log, &seen).await.unwrap(), 0);
    }
    let watcher = Watcher::new(&server, &north.admin.email).await;
    let log = Log::Org(north.id.clone());
    watcher.check(&log, false).await.unwrap();
    let (before, data_dir) = (endpoint(&server).to_string(), server.data_dir().to_owned());
    let _kept = server.stop().await;
    let server = TestServer::start_with(Options { data_dir: Some(data_dir), ..Options::default() }).await;
    let watcher = watcher.at(&before, &server, &north.admin.email).await;
    let seen = watcher.check(&log, false).await.unwrap();
    assert!(matches!(seen, Seen::GoesOn { .. }), "{seen:?}");
    assert_eq!(watcher.walk(&log, &seen).await.unwrap(), 0);
    server.stop().await;
}

#[tokio::test]
async fn a_cut_an_exchange_and_a_rewritten_log_are_found_by_who_kept_a_head() {
    for deed in ["cut", "cut and grown", "exchanged"] {
        let (server, World { north, .. }) = World::start().await;
        let watcher = Watcher::new(&server, &north.admin.email).await;
        let log = Log::Org(north.id.clone());
        let kept = watcher.check(&log, false).await.unwrap().head().clone();
        let (before, data_dir) = (endpoint(&server).to_string(), server.data_dir().to_owned());
        let _kept = server.stop().await;
        tamper(&data_dir, &north.id, deed).await;
        let server = TestServer::start_with(Options { data_dir: Some(data_dir), ..Options::default() }).await;
        let watcher = watcher.at(&before, &server, &north.admin.email).await;
        if deed == "cut and grown" {
            while size(&server.log_in(&north.admin.email).await, &north.id).await <= kept.head.size {}
        }
        let found = watcher.check(&log, false).await;
        let Err(HeadsError::Audit(AuditError::Distrust(distrust))) = found else { panic!("{deed}: {found:?}") };
        match deed {
            "cut" => assert!(matches!(distrust, Distrust::Cut { .. }), "{distrust:?}"),
            _ => assert!(matches!(distrust, Distrust::Fork { .. }), "{deed}: {distrust:?}"),
        }
        // The head that proves it is not given up, unless it is said; and then it is set aside.
        assert_eq!(watcher.heads.of(watcher.client.endpoint(), &north.id).unwrap(), Some(kept.clone()));
        let seen = watcher.check(&log, true).await.unwrap();
        assert!(matches!(seen, Seen::Anew { .. }), "{seen:?}");
        assert!(matches!(watcher.check(&log, false).await.unwrap(), Seen::GoesOn { .. }));
        let text = fs::read_to_string(watcher.directory.path().join("audit-heads.json")).unwrap();
        let file: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(file["set_aside"][0]["head"]["root_hash"], kept.head.root.to_string());
        server.stop().await;
    }
}

#[tokio::test]
async fn a_server_does_not_sign_a_log_that_takes_back_what_it_signed() {
    let (server, World { north, .. }) = World::start().await;
    north.admin.call(HEAD, json!({"orgId": north.id})).await.ok();
    let data_dir = server.data_dir().to_owned();
    let _kept = server.stop().await;
    tamper(&data_dir, &north.id, "cut, and nothing else").await;
    let server = TestServer::start_with(Options { data_dir: Some(data_dir), ..Options::default() }).await;
    let admin = server.log_in(&north.admin.email).await;
    let answer = admin.call(HEAD, json!({"orgId": north.id})).await;
    answer.refused("internal");
    assert_eq!(answer.reason(), "AUDIT_LOG_DAMAGED");
    server.stop().await;
}

#[tokio::test]
async fn what_the_retention_is_over_for_is_erased_at_the_next_start_and_the_rest_verifies() {
    let (server, World { north, .. }) = World::start().await;
    let watcher = Watcher::new(&server, &north.admin.email).await;
    let log = Log::Org(north.id.clone());
    let kept = watcher.check(&log, false).await.unwrap().head().clone();
    let (before, data_dir) = (endpoint(&server).to_string(), server.data_dir().to_owned());
    let _kept = server.stop().await;
    let retention = Some(Duration::from_secs(30 * 86_400));
    let options =
        Options { data_dir: Some(data_dir), shift_s: 60 * 86_400, audit_retention: retention, ..Options::default() };
    let server = TestServer::start_with(options).await;
    let watcher = watcher.at(&before, &server, &north.admin.email).await;
    let erased = sys_tests::eventually("the retention", || async {
        let seen = watcher.check(&log, false).await.unwrap();
        Some(watcher.walk(&log, &seen).await.unwrap()).filter(|erased| *erased >= kept.head.size)
    });
    // The entry of the check itself came after the head that it asked for.
    assert!(erased.await >= kept.head.size);
    let admin = server.log_in(&north.admin.email).await;
    let oldest = admin.call(LIST, json!({"orgId": north.id, "oldestFirst": true, "pageSize": 1})).await.ok();
    assert_eq!((&oldest["entries"][0]["erased"], &oldest["entries"][0]["method"]), (&json!(true), &Value::Null));
    server.stop().await;
}

/// Does something to the log of an org in the data file, and removes what the server remembers of it where that gives it away.
async fn tamper(data_dir: &Path, org: &str, deed: &str) {
    let engine = RedbEngine::open(&data_dir.join("store.redb"), RedbOptions::default()).unwrap();
    let tag = org.parse::<OrgId>().unwrap().tag();
    let mut txn = engine.begin().await.unwrap();
    let entries = txn.range(KeyRange::prefix(&rows_of(AUDIT_LOG, 5, tag)), Order::Asc, 4_000).await.unwrap().rows;
    let nodes = txn.range(KeyRange::prefix(&rows_of(AUDIT_NODES, 1, tag)), Order::Asc, 4_000).await.unwrap().rows;
    assert!(entries.len() > 8 && !nodes.is_empty());
    let delete = |key: &Bytes| Write::Delete { key: key.clone() };
    let put = |key: &Bytes, value: &Bytes| Write::Put { key: key.clone(), value: value.clone(), stamp: None };
    let mut writes: Vec<Write> = match deed {
        "exchanged" => vec![put(&entries[2].0, &entries[5].1), put(&entries[5].0, &entries[2].1)],
        _ => entries[entries.len() - 6..].iter().map(|(key, _)| delete(key)).collect(),
    };
    if deed != "cut, and nothing else" {
        writes.extend(nodes.iter().map(|(key, _)| delete(key)));
    }
    txn.commit(writes).await.unwrap();
}

/// GLOBAL | module 0 | table | kind | org.
fn rows_of(table: u16, kind: u8, org: OrgTag) -> Vec<u8> {
    [&[0; 8], table.to_be_bytes().as_slice(), &[kind], org.as_bytes().as_slice()].concat()
}

async fn size(admin: &Person, org: &str) -> u64 {
    let head = admin.call(HEAD, json!({"orgId": org})).await.ok();
    head["treeSize"].as_str().unwrap().parse().unwrap()
}

fn endpoint(server: &TestServer) -> sys_client::Endpoint {
    format!("http://{}", server.addr).parse().unwrap()
}

fn base64(text: &Value) -> Vec<u8> {
    data_encoding::BASE64.decode(text.as_str().unwrap().as_bytes()).unwrap()
}

fn hash(text: &Value) -> Hash {
    Hash::from_slice(&base64(text)).unwrap()
}
