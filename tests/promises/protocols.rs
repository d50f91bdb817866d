//! One gate behind every protocol: what Connect, gRPC and gRPC-Web answer is the same, refusals too.

use bytes::Bytes;
use data_encoding::{BASE64_NOPAD, BASE64URL_NOPAD};
use http::HeaderMap;
use prost::Message;
use serde_json::{Value, json};
use sys_tests::{Answer, Client, Person, TestServer, World, frame, frames};

const CREATE: &str = "notes.v1.NoteService/CreateNote";
const GET: &str = "notes.v1.NoteService/GetNote";
const LIST: &str = "notes.v1.NoteService/ListNotes";
const UPDATE: &str = "notes.v1.NoteService/UpdateNote";
const HEALTH: &str = "grpc.health.v1.Health/Check";

/// The flag of the frame that holds the trailers of gRPC-Web.
const TRAILERS: u8 = 0x80;

#[derive(Clone, PartialEq, Message)]
struct GetNoteRequest {
    #[prost(string, tag = "1")]
    id: String,
}

/// As much of a note as is compared.
#[derive(Clone, PartialEq, Message)]
struct Note {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(string, tag = "5")]
    title: String,
    #[prost(string, tag = "7")]
    draft: String,
}

/// google.rpc.Status.
#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// google.protobuf.Any.
#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

async fn created(world: &World) -> Value {
    let (org, project) = (&world.north.id, &world.north.projects[0]);
    let note = json!({"orgId": org, "projectId": project, "title": "the same for all", "draft": "mine"});
    world.north.project_user.call(CREATE, json!({"note": note})).await.ok()
}

/// What a call over gRPC came to: the status, and the message if there is one.
async fn over_grpc(client: &Client, path: &str, request: &impl Message) -> (String, Option<Note>, HeaderMap) {
    let raw = client.grpc(path, &request.encode_to_vec()).await;
    assert!(!raw.headers.contains_key("grpc-status"), "the status stands once, with its details: {:?}", raw.headers);
    assert_eq!(raw.status, 200, "gRPC tells its status in the trailers");
    // An answer without a body has its trailers where the headers are.
    let trailers = if raw.trailers.is_empty() { raw.headers } else { raw.trailers };
    let note = frames(&raw.body).first().map(|(_, message)| Note::decode(message.as_slice()).unwrap());
    (trailers["grpc-status"].to_str().unwrap().to_owned(), note, trailers)
}

/// The same over gRPC-Web: the trailers are the last frame.
async fn over_grpc_web(client: &Client, path: &str, request: &impl Message) -> (String, Option<Note>) {
    let (status, body) = client.post(path, "application/grpc-web+proto", frame(&request.encode_to_vec())).await;
    assert_eq!(status, 200);
    let frames = frames(&body);
    let (flag, trailers) = frames.last().expect("a frame of trailers");
    assert_eq!(*flag, TRAILERS);
    let trailers = String::from_utf8(trailers.clone()).unwrap().to_lowercase();
    let status = trailers.lines().find_map(|line| line.strip_prefix("grpc-status:")).expect("a status");
    let note = frames.iter().find(|(flag, _)| *flag == 0).map(|(_, message)| Note::decode(message.as_slice()).unwrap());
    (status.trim().to_owned(), note)
}

async fn over_connect(client: &Client, path: &str, request: &impl Message) -> (u16, Bytes) {
    client.post(path, "application/proto", request.encode_to_vec().into()).await
}

#[tokio::test]
async fn the_same_note_comes_over_every_protocol_cut_to_who_asks() {
    let (server, world) = World::start().await;
    let note = created(&world).await;
    let request = GetNoteRequest { id: note["id"].as_str().unwrap().to_owned() };
    for (person, draft) in [(&world.north.project_user, "mine"), (&world.north.admin, "")] {
        let expected = Note { id: request.id.clone(), title: "the same for all".to_owned(), draft: draft.to_owned() };
        let (status, over_grpc, _) = over_grpc(&person.client, GET, &request).await;
        assert_eq!((status.as_str(), over_grpc.as_ref()), ("0", Some(&expected)));
        let (status, over_web) = over_grpc_web(&person.client, GET, &request).await;
        assert_eq!((status.as_str(), over_web.as_ref()), ("0", Some(&expected)));
        let (status, body) = over_connect(&person.client, GET, &request).await;
        assert_eq!((status, Note::decode(body).unwrap()), (200, expected));
    }
    server.stop().await;
}

#[tokio::test]
async fn a_refusal_is_the_same_over_every_protocol() {
    const NOT_FOUND: &str = "5";
    const UNAUTHENTICATED: &str = "16";
    let (server, world) = World::start().await;
    let note = created(&world).await;
    let request = GetNoteRequest { id: note["id"].as_str().unwrap().to_owned() };
    let cases = [(&world.south.admin.client, NOT_FOUND), (&server.client(), UNAUTHENTICATED)];
    for (client, expected) in cases {
        let (status, message, trailers) = over_grpc(client, GET, &request).await;
        assert_eq!((status.as_str(), message), (expected, None));
        let details = trailers["grpc-status-details-bin"].as_bytes();
        let details: Vec<u8> = details.iter().copied().filter(|byte| *byte != b'=').collect();
        let rich = Status::decode(BASE64_NOPAD.decode(&details).unwrap().as_slice()).unwrap();
        assert_eq!(rich.code.to_string(), expected);
        assert!(rich.details[0].type_url.ends_with("google.rpc.ErrorInfo"), "{:?}", rich.details[0].type_url);
        assert!(!rich.details[0].value.is_empty());
        let (status, message) = over_grpc_web(client, GET, &request).await;
        assert_eq!((status.as_str(), message), (expected, None));
        let (status, body) = over_connect(client, GET, &request).await;
        let json: Value = serde_json::from_slice(&body).unwrap();
        let connect = if expected == NOT_FOUND { (404, "not_found") } else { (401, "unauthenticated") };
        assert_eq!((status, json["code"].as_str().unwrap()), connect);
    }
    server.stop().await;
}

#[tokio::test]
async fn nothing_is_called_by_a_get_request() {
    let (server, world) = World::start().await;
    let author = &world.north.project_user;
    let message = json!({"note": {"orgId": world.north.id, "projectId": world.north.projects[0], "title": "x"}});
    let encoded = BASE64URL_NOPAD.encode(message.to_string().as_bytes());
    let query = format!("?connect=v1&encoding=json&base64=1&message={encoded}");
    for path in [CREATE, LIST, "sys.account.v1.AuthService/Logout"] {
        let (status, body) = author.client.get(&format!("/{path}{query}")).await;
        assert!((400..500).contains(&status), "{path}: {status} {body:?}");
    }
    let page = author.call(LIST, json!({"orgId": world.north.id})).await.ok();
    assert!(page.get("notes").is_none(), "a link made a note: {page}");
    server.stop().await;
}

#[tokio::test]
async fn whoever_asks_for_its_health_is_told() {
    #[derive(Clone, PartialEq, Message)]
    struct Health {
        #[prost(int32, tag = "1")]
        status: i32,
    }
    const SERVING: i32 = 1;
    let server = TestServer::start().await;
    let client = server.client();
    let json = client.call(HEALTH, json!({})).await.ok();
    assert_eq!(json, json!({"status": "SERVING"}));
    let raw = client.grpc(HEALTH, b"").await;
    assert_eq!(raw.trailers["grpc-status"], "0");
    let frames = frames(&raw.body);
    assert_eq!(Health::decode(frames[0].1.as_slice()).unwrap(), Health { status: SERVING });
    server.stop().await;
}

#[tokio::test]
async fn the_published_keys_verify_an_access_token_and_nothing_else() {
    let server = TestServer::start().await;
    let root = server.superadmin().await;
    let (status, body) = server.client().get("/.well-known/jwks.json").await;
    assert_eq!(status, 200);
    let keys: Value = serde_json::from_slice(&body).unwrap();
    let [key] = keys["keys"].as_array().unwrap().as_slice() else { panic!("one key: {keys}") };
    assert_eq!((&key["kty"], &key["crv"], &key["alg"]), (&json!("OKP"), &json!("Ed25519"), &json!("EdDSA")));
    assert!(key.get("d").is_none(), "the private part");

    let token = root.client.token().unwrap();
    let header = jsonwebtoken::decode_header(token).unwrap();
    assert_eq!((header.alg, header.typ.as_deref()), (jsonwebtoken::Algorithm::EdDSA, Some("at+jwt")));
    assert_eq!(header.kid.as_deref(), key["kid"].as_str());
    let mut validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::EdDSA);
    validation.set_audience(&["http://sys.test"]);
    validation.set_issuer(&["http://sys.test"]);
    let public = jsonwebtoken::DecodingKey::from_ed_components(key["x"].as_str().unwrap()).unwrap();
    let claims = jsonwebtoken::decode::<Value>(token, &public, &validation).unwrap().claims;
    assert_eq!(claims["sub"], root.account_id.as_str());
    assert!(claims.get("roles").is_none() && claims.get("role").is_none(), "roles are not in the token");
    let other = jsonwebtoken::DecodingKey::from_ed_der(&[7; 32]);
    assert!(jsonwebtoken::decode::<Value>(token, &other, &validation).is_err());
    server.stop().await;
}

/// One refusal of each kind: code, reason, and the fields at fault; each says what to do.
#[tokio::test]
async fn a_refusal_says_what_kind_it_is_which_field_and_what_to_do() {
    let (server, world) = World::start().await;
    let (north, author) = (&world.north, &world.north.project_user);
    let note = created(&world).await;
    let check = |answer: Answer, code: &str, reason: &str, fields: &[&str], helps: bool| {
        assert_eq!((answer.code(), answer.reason().as_str()), (code, reason), "{}", answer.body);
        assert_eq!(answer.fields(), fields, "{}", answer.body);
        assert_eq!(!answer.help().is_empty(), helps, "{}: `{}`", answer.body, answer.help());
        assert!(!answer.body["message"].as_str().unwrap().is_empty());
    };
    let get = json!({"id": note["id"]});
    let change = |person: &Person, fields: Value, mask: &str| {
        let (client, mut next) = (person.client.clone(), fields);
        next["id"] = note["id"].clone();
        let body = json!({"note": next, "updateMask": mask});
        async move { client.call(UPDATE, body).await }
    };
    check(server.call(GET, get.clone()).await, "unauthenticated", "UNAUTHENTICATED", &[], true);
    let forged = server.client().with_token("a.b.c").call(GET, get.clone()).await;
    check(forged, "unauthenticated", "TOKEN_REFUSED", &[], true);
    check(world.stranger.call(GET, get.clone()).await, "permission_denied", "METHOD_REFUSED", &[], true);
    check(north.guest.call(GET, get.clone()).await, "not_found", "NOT_FOUND", &[], false);
    let others = change(&north.admin, json!({"title": "x"}), "title").await;
    check(others, "permission_denied", "RECORD_REFUSED", &[], true);
    let stale = change(author, json!({"title": "x", "etag": "c3RhbGU"}), "title").await;
    check(stale, "aborted", "ETAG_MISMATCH", &[], true);
    let empty = change(author, json!({"title": ""}), "title").await;
    check(empty, "invalid_argument", "INVALID_ARGUMENT", &["note.title"], false);
    let mistyped = author.call(GET, json!({"idd": "x"})).await;
    check(mistyped, "invalid_argument", "MALFORMED", &[], true);
    let project = "sys.account.v1.ProjectService/CreateProject";
    let twice = north.admin.call(project, json!({"orgId": north.id, "name": "first"})).await;
    check(twice, "already_exists", "TAKEN", &["name"], false);
    let last = json!({"orgId": north.id, "accountId": north.admin.account_id});
    let last = north.admin.call("sys.account.v1.MembershipService/RemoveMembership", last).await;
    check(last, "failed_precondition", "LAST_ADMIN", &[], true);
    check(author.call("notes.v1.NoteService/Nothing", json!({})).await, "unimplemented", "NO_SUCH_METHOD", &[], true);
    server.stop().await;
}

#[tokio::test]
async fn the_body_of_a_refused_caller_is_not_looked_at() {
    let (server, world) = World::start().await;
    let bodies = [Bytes::from_static(b"{{{ no JSON"), Bytes::from(vec![b'x'; 200_000]), Bytes::new()];
    for body in bodies {
        let size = body.len();
        let (status, answer) = server.client().post(CREATE, "application/json", body.clone()).await;
        let refusal: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!((status, &refusal["code"]), (401, &json!("unauthenticated")), "{size} bytes");
        let (status, answer) = world.stranger.client.post(CREATE, "application/json", body).await;
        let refusal: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!((status, &refusal["code"]), (403, &json!("permission_denied")), "{size} bytes");
    }
    let mut malformed =
        world.north.project_user.client.post(CREATE, "application/json", Bytes::from_static(b"{{{")).await;
    let refusal: Value = serde_json::from_slice(&malformed.1.split_off(0)).unwrap();
    assert_eq!(refusal["code"], "invalid_argument", "the control: who may call is told what is wrong");
    server.stop().await;
}
