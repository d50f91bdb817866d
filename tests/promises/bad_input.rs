//! Bad input gets a clear error, changes nothing, and disturbs nobody else.

use bytes::Bytes;
use serde_json::{Value, json};
use sys_tests::{TestServer, World};

const CREATE: &str = "notes.v1.NoteService/CreateNote";
const LIST: &str = "notes.v1.NoteService/ListNotes";
const LOGIN: &str = "sys.account.v1.AuthService/Login";

#[tokio::test]
async fn garbage_is_refused_and_the_server_goes_on() {
    let (server, world) = World::start().await;
    let user = &world.north.project_user;
    let malformed: [(&str, &[u8]); 7] = [
        ("application/json", b"{"),
        ("application/json", b"[]"),
        ("application/json", b"{\"note\": {\"titel\": \"mistyped\"}}"),
        ("application/json", b"{\"note\": {\"published\": \"perhaps\"}}"),
        ("application/proto", b"\xff\xff\xff\xff\xff\xff"),
        ("application/proto", b"\x0a\x7f"),
        ("application/grpc-web+proto", b"\x00\x00\x00\x00\x04garb"),
    ];
    for (content_type, body) in malformed {
        let (status, answer) = user.client.post(CREATE, content_type, Bytes::copy_from_slice(body)).await;
        let text = String::from_utf8_lossy(&answer);
        let refused = status == 400 || text.contains("grpc-status:3") || text.contains("grpc-status: 3");
        assert!(refused, "{content_type} {body:?}: {status} {text}");
        assert!(!text.contains("panick"), "{text}");
    }
    let (status, _) = user.client.post(CREATE, "text/plain", Bytes::from_static(b"x")).await;
    assert_eq!(status, 415);
    let (status, _) = user.client.post("no.such.Service/Method", "application/json", Bytes::from_static(b"{}")).await;
    assert_eq!(status, 404);
    let (status, _) = server.client().get("/../../etc/passwd").await;
    assert!(status == 404 || status == 405 || status == 415, "{status}");
    still_serves(&server, &world).await;
    server.stop().await;
}

#[tokio::test]
async fn what_is_too_large_or_nests_too_deep_is_refused_before_it_is_read() {
    let (server, world) = World::start().await;
    let user = &world.north.project_user;
    let large = json!({"note": {"title": "x".repeat(100_000)}});
    let answer = user.call(CREATE, large).await;
    assert_eq!(answer.code(), "resource_exhausted", "{answer:?}");
    let deep = format!("{}{}", "{\"note\":".repeat(5_000), "}".repeat(5_000));
    let (status, _) = user.client.post(CREATE, "application/json", Bytes::from(deep)).await;
    assert_eq!(status, 400);
    // Field 1, length-delimited, nested in itself until the decoder's limit.
    let nested = (0..2_000).fold(Vec::new(), |inner: Vec<u8>, _| {
        let mut outer = vec![0x0a];
        prost::encoding::encode_varint(inner.len() as u64, &mut outer);
        outer.extend(inner);
        outer
    });
    let (status, _) = user.client.post(CREATE, "application/proto", Bytes::from(nested)).await;
    assert_eq!(status, 400);
    still_serves(&server, &world).await;
    server.stop().await;
}

#[tokio::test]
async fn absurd_lists_are_refused_with_the_field_at_fault() {
    let (server, world) = World::start().await;
    let user = &world.north.project_user;
    let org = &world.north.id;
    let nested = format!("{}published{}", "(".repeat(40), ")".repeat(40));
    let long = format!("title == \"{}\"", "x".repeat(2_000));
    let many = vec!["published"; 100].join(" && ");
    let cases: [(Value, &str); 11] = [
        (json!({"orgId": org, "pageSize": -1}), "page_size"),
        (json!({"orgId": org, "pageSize": 1_000_000}), "page_size"),
        (json!({"orgId": org, "pageToken": "nonsense"}), "page_token"),
        (json!({"orgId": org, "filter": "titel == \"x\""}), "filter"),
        (json!({"orgId": org, "filter": "title == 1"}), "filter"),
        (json!({"orgId": org, "filter": nested}), "filter"),
        (json!({"orgId": org, "filter": long}), "filter"),
        (json!({"orgId": org, "filter": many}), "filter"),
        (json!({"orgId": org, "filter": "[1,2].all(x, x > 0)"}), "filter"),
        (json!({"orgId": org, "orderBy": "nothing"}), "order_by"),
        (json!({"orgId": "org_nonsense"}), "org_id"),
    ];
    for (query, field) in cases {
        let answer = user.call(LIST, query.clone()).await;
        answer.refused("invalid_argument");
        assert!(answer.fields().iter().any(|at| at == field), "{query}: {:?} {}", answer.fields(), answer.body);
    }
    let missing = user.call(LIST, json!({})).await;
    missing.refused("invalid_argument");
    server.stop().await;
}

#[tokio::test]
async fn forged_tokens_are_nobodys() {
    let (server, world) = World::start().await;
    let list = json!({"orgId": world.north.id});
    let genuine = world.north.user.client.clone();
    genuine.call(LIST, list.clone()).await.ok();
    for forged in ["", "x", "a.b.c", "eyJhbGciOiJub25lIn0.e30.", &"A".repeat(5_000)] {
        let answer = server.client().with_token(forged).call(LIST, list.clone()).await;
        answer.refused("unauthenticated");
        assert_eq!(answer.reason(), "TOKEN_REFUSED");
        // A bad token is not taken for none, even where none is needed.
        let login = json!({"email": "a@example.org", "password": "x"});
        server.client().with_token(forged).call(LOGIN, login).await.refused("unauthenticated");
    }
    server.client().call(LIST, list).await.refused("unauthenticated");
    server.stop().await;
}

#[tokio::test]
async fn a_second_server_on_the_same_data_is_told_so() {
    let server = TestServer::start().await;
    let second = sys_server::Server::start(
        sys_server::Config {
            data_dir: server.data_dir().to_owned(),
            edge: sys_server::EdgeConfig::default(),
            metrics_listen: None,
            traces: None,
            listen: ([127, 0, 0, 1], 0).into(),
            issuer: None,
            unsealer: sys_keys::Unsealer::DangerKeyFile(server.data_dir().join("danger-master.key")),
            modules: Vec::new(),
            mailing: sys_server::Mailing::DataDir,
            mail_from: "sys@localhost".to_owned(),
            allow_org_create: false,
            audit_retention: None,
            cache_bytes: 16 << 20,
            limits: sys_edge::Limits::default(),
            rates: sys_core::throttle::Rates::default(),
            clock: sys_core::clock::Clock::System,
            countries: std::sync::Arc::default(),
        },
        Vec::new(),
    )
    .await;
    let error = format!("{:#}", second.expect_err("two servers on one store"));
    assert!(error.contains("in use by another server"), "{error}");
    server.superadmin().await;
    server.stop().await;
}

async fn still_serves(server: &TestServer, world: &World) {
    let note = json!({"orgId": world.north.id, "projectId": world.north.projects[0], "title": "still here"});
    world.north.project_user.call(CREATE, json!({"note": note})).await.ok();
    let (status, body) =
        server.client().post("grpc.health.v1.Health/Check", "application/json", Bytes::from_static(b"{}")).await;
    assert_eq!((status, body.as_ref()), (200, br#"{"status":"SERVING"}"#.as_ref()));
}
