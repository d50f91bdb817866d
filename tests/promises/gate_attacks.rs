//! Attacks on the gate that need a whole server: what its log says afterwards, what reflection gives away, what unpacks to
//! more than it is. The handlers that misbehave are in sys-core's own tests.

use bytes::Bytes;
use http::{Request, header};
use prost::Message;
use serde_json::{Value, json};
use std::path::Path;
use sys_contract::id::{OrgId, OrgTag};
use sys_core::{audit::Leaf, clock::Clock};
use sys_store::{LogKind, engine::Order};
use sys_tests::{Client, World, frame, frames};

const CREATE: &str = "notes.v1.NoteService/CreateNote";
const GET: &str = "notes.v1.NoteService/GetNote";
const LOGIN: &str = "sys.account.v1.AuthService/Login";
const REFLECTION: &str = "grpc.reflection.v1.ServerReflection/ServerReflectionInfo";

/// A leaf as `method outcome`, with the account of who called.
fn said(leaf: &Leaf) -> (String, String) {
    let method = leaf.method.rsplit('/').next().unwrap_or_default();
    (format!("{method} {}", leaf.outcome), leaf.account_id.clone())
}

/// The logs of the server and of these orgs, read from the data of a server that has stopped.
async fn logs(data_dir: &Path, orgs: &[&str]) -> Vec<Vec<Leaf>> {
    let config = sys_server::Config {
        data_dir: data_dir.to_owned(),
        listen: ([127, 0, 0, 1], 0).into(),
        edge: sys_server::EdgeConfig::default(),
        metrics_listen: None,
        traces: None,
        issuer: None,
        unsealer: sys_keys::Unsealer::DangerKeyFile(data_dir.join("danger-master.key")),
        modules: Vec::new(),
        mailing: sys_server::Mailing::DataDir,
        mail_from: "sys@localhost".to_owned(),
        allow_org_create: false,
        audit_retention: None,
        cache_bytes: 16 << 20,
        limits: sys_edge::Limits::default(),
        rates: sys_core::throttle::Rates::default(),
        clock: Clock::System,
        countries: std::sync::Arc::default(),
    };
    let server = sys_server::Server::start(config, Vec::new()).await.expect("the data opens again");
    let mut open = server.monitor().store().begin(Clock::System.now()).await.unwrap();
    let tags = orgs.iter().map(|org| org.parse::<OrgId>().unwrap().tag());
    let mut logs = Vec::new();
    for org in std::iter::once(OrgTag::GLOBAL).chain(tags) {
        let entries = open.erasable_entries(LogKind::Audit, org, 0..u64::MAX, Order::Asc, 1_000).await.unwrap();
        assert_eq!(
            entries.iter().map(|entry| entry.number).collect::<Vec<_>>(),
            (0..entries.len() as u64).collect::<Vec<_>>()
        );
        let leaf =
            |entry: &sys_store::ErasableEntry| Leaf::decode(entry.content.as_deref().unwrap().as_slice()).unwrap();
        logs.push(entries.iter().map(leaf).collect());
    }
    logs
}

#[tokio::test]
async fn an_org_reads_in_its_log_what_was_done_there_and_what_its_own_people_were_refused() {
    let (server, World { north, south, .. }) = World::start().await;
    let (author, neighbour, foreigner) = (&north.project_user, &north.other_project_user, &south.admin);
    let new = |title: &str| json!({"note": {"orgId": north.id, "projectId": north.projects[0], "title": title}});
    let note = author.call(CREATE, new("in the log")).await.text("id");
    neighbour.call(CREATE, new("not in the log")).await.refused("permission_denied");
    // Neither may a stranger fill the log of an org, nor open one for an org that is not there.
    foreigner.call(GET, json!({"id": note})).await.refused("not_found");
    foreigner.call(CREATE, new("of another org")).await.refused("permission_denied");
    server
        .client()
        .call(LOGIN, json!({"email": author.email, "password": "wrong password"}))
        .await
        .refused("unauthenticated");
    let data_dir = server.data_dir().to_owned();
    let _kept = server.stop().await;

    let logs = logs(&data_dir, &[&north.id, &south.id]).await;
    let [server_log, north_log, south_log] = logs.as_slice() else { panic!("three logs") };
    let last_of_north: Vec<_> = north_log.iter().rev().take(2).rev().map(said).collect();
    let of_notes = |log: &[Leaf]| -> Vec<(String, String)> {
        log.iter().filter(|leaf| leaf.method.starts_with("notes.")).map(said).collect()
    };
    assert_eq!(of_notes(north_log), last_of_north);
    assert_eq!(
        last_of_north,
        [
            ("CreateNote OK".to_owned(), author.account_id.clone()),
            ("CreateNote RECORD_REFUSED".to_owned(), neighbour.account_id.clone()),
        ]
    );
    assert!(of_notes(south_log).is_empty());
    let foreign = |outcome: &str| (outcome.to_owned(), foreigner.account_id.clone());
    assert_eq!(of_notes(server_log), [foreign("GetNote NOT_FOUND"), foreign("CreateNote RECORD_REFUSED")]);
    // What is done to an org and its people stands in its log, too.
    assert!(
        north_log.iter().any(|leaf| said(leaf).0 == "Invite OK"),
        "{:?}",
        north_log.iter().map(said).collect::<Vec<_>>()
    );
    let bytes = |account: &str| account.parse::<sys_contract::id::AccountId>().unwrap().record().to_bytes().to_vec();
    let knocks: Vec<_> =
        server_log.iter().filter(|leaf| leaf.records.contains(&bytes(&author.account_id))).map(said).collect();
    let nobody = |outcome: &str| (outcome.to_owned(), String::new());
    assert!(knocks.contains(&nobody("Login OK")) && knocks.contains(&nobody("Login LOGIN_REFUSED")), "{knocks:?}");
    for leaf in logs.iter().flatten() {
        assert!(!format!("{leaf:?}").contains("in the log"), "a leaf names no values: {leaf:?}");
    }
}

#[tokio::test]
async fn reflection_shows_nobody_more_than_he_may_call() {
    let (server, world) = World::start().await;
    let (nobody, guest) = (server.client(), world.north.guest.client.clone());
    let services = |shown: &[u8]| String::from_utf8_lossy(shown).into_owned();
    let (shown_to_nobody, shown_to_guest) = (ask(&nobody, 7, "").await, ask(&guest, 7, "").await);
    assert!(services(&shown_to_nobody).contains("sys.account.v1.AuthService"));
    assert!(!services(&shown_to_nobody).contains("notes.v1"));
    assert!(services(&shown_to_guest).contains("notes.v1.NoteService"));
    for (client, symbol, is_shown) in [
        (&nobody, "sys.account.v1.AuthService.Login", true),
        (&nobody, "notes.v1.NoteService", false),
        (&nobody, "notes.v1.Note", false),
        (&guest, "notes.v1.Note", true),
        (&guest, "sys.account.v1.OrgService.GetOrg", true),
        (&guest, "sys.core.v1.Principal", false),
        (&world.superadmin.client, "sys.core.v1.Principal", false),
    ] {
        let answer = ask(client, 4, symbol).await;
        assert_eq!(!services(&answer).contains("nothing of this name"), is_shown, "{symbol}");
    }
    server.stop().await;
}

/// Asks reflection one question, `field` being its number: 4 for a symbol, 7 for the services.
async fn ask(client: &Client, field: u8, text: &str) -> Vec<u8> {
    let mut question = vec![field << 3 | 2, u8::try_from(text.len()).unwrap()];
    question.extend_from_slice(text.as_bytes());
    let (status, body) = client.post(REFLECTION, "application/connect+proto", frame(&question)).await;
    assert_eq!(status, 200);
    frames(&body).swap_remove(0).1
}

/// `{"orgId":"…"}` with 200,000 spaces, in gzip.
const BOMB: &str = "H4sIAAAAAAACA+3BQQkAIBQFsCryYtjAHoJH4V/F7mbwvu1k1xozPQ0AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA+Jb7AEsRDRlMDQMA";

#[tokio::test]
async fn what_unpacks_to_more_than_a_method_takes_is_refused() {
    let (server, world) = World::start().await;
    let bomb = data_encoding::BASE64.decode(BOMB.as_bytes()).unwrap();
    assert!(bomb.len() < 512);
    let user = &world.north.project_user.client;
    let packed = |body: Vec<u8>| {
        Request::post(format!("/{GET}"))
            .header(header::HOST, server.addr.to_string())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::CONTENT_ENCODING, "gzip")
            .header(header::AUTHORIZATION, format!("Bearer {}", user.token().unwrap()))
            .body(http_body_util::Full::new(Bytes::from(body)))
            .unwrap()
    };
    let answer = user.http1(packed(bomb.clone())).await;
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!((answer.status, body["code"].as_str()), (429, Some("resource_exhausted")), "{body}");
    let answer = user.http1(packed(bomb[..40].to_vec())).await;
    assert_eq!(answer.status, 400, "cut off in the middle");
    server.stop().await;
}
