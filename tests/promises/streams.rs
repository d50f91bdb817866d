//! Streams over the wire: every protocol, what a message in the middle may do, and what ends a stream that is open.

use prost::{Message, Name};
use serde_json::{Value, json};
use std::{fs, sync::Arc, time::Duration};
use sys_contract::{
    id::RecordId,
    load::{Origin, SourceFile, load},
    model::Contract,
};
use sys_core::{
    call::Call,
    module::{Handlers, Module, Next, Part},
    refusal::Refusal,
};
use sys_tests::{Came, Client, Form, Options, Person, Stream, TestServer, World, workspace};

const CREATE: &str = "notes.v1.NoteService/CreateNote";
const GET: &str = "notes.v1.NoteService/GetNote";
const LIST: &str = "notes.v1.NoteService/ListNotes";
const UPDATE: &str = "notes.v1.NoteService/UpdateNote";
const DELETE: &str = "notes.v1.NoteService/DeleteNote";
const WATCH: &str = "notes.v1.NoteService/WatchNotes";
const READ: &str = "notes.v1.NoteService/ReadNote";
const COLLECT: &str = "notes.v1.NoteService/CollectNotes";
const RENAME: &str = "notes.v1.NoteService/RenameNotes";
const REVOKE_SESSION: &str = "sys.account.v1.SessionService/RevokeSession";
const SUSPEND: &str = "sys.account.v1.MembershipService/SuspendMembership";
const REVOKE_ROLE: &str = "sys.account.v1.MembershipService/RevokeRole";
const ASSIGN_ROLE: &str = "sys.account.v1.MembershipService/AssignRole";

/// A method of each kind, with handlers.
const METHODS: &str = r#"
  // Shows a note, and shows it again when it has changed.
  rpc ReadNote(ReadNoteRequest) returns (stream Note) {
    option (sys.policy.v1.method) = {target: {record: "Note" id: "id"}};
    option (sys.policy.v1.method_allow) = {role: USER at: PROJECT};
  }
  // The titles of the notes that are named one by one.
  rpc CollectNotes(stream ReadNoteRequest) returns (CollectNotesResponse) {
    option (sys.policy.v1.method) = {target: {record: "Note" id: "id"}};
    option (sys.policy.v1.method_allow) = {role: USER at: PROJECT};
  }
  // Renames one note after the other.
  rpc RenameNotes(stream RenameNotesRequest) returns (stream Note) {
    option (sys.policy.v1.method) = {target: {record: "Note" id: "id"}};
    option (sys.policy.v1.method_allow) = {owner: true};
  }
"#;

const MESSAGES: &str = r#"
message ReadNoteRequest { string id = 1; }
message CollectNotesResponse { repeated string titles = 1; }
message RenameNotesRequest { string id = 1; string title = 2 [(buf.validate.field).string.min_len = 1]; }
"#;

#[derive(Clone, PartialEq, Message)]
struct Note {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(string, tag = "5")]
    title: String,
    #[prost(string, tag = "7")]
    draft: String,
}

impl Name for Note {
    const NAME: &'static str = "Note";
    const PACKAGE: &'static str = "notes.v1";
}

#[derive(Clone, PartialEq, Message)]
struct ReadNoteRequest {
    #[prost(string, tag = "1")]
    id: String,
}

#[derive(Clone, PartialEq, Message)]
struct CollectNotesResponse {
    #[prost(string, repeated, tag = "1")]
    titles: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct RenameNotesRequest {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(string, tag = "2")]
    title: String,
}

struct Streaming;

fn contract() -> Contract {
    let text = fs::read_to_string(workspace().join("modules/mod-notes/notes/v1/notes.proto")).unwrap();
    let (before, after) = text.split_once("service NoteService {\n").unwrap();
    let text = format!("{before}service NoteService {{\n{METHODS}{after}{MESSAGES}");
    let source = SourceFile { path: "notes/v1/notes.proto".to_owned(), text };
    load("mod-notes", Origin::Uploaded, &[source]).unwrap_or_else(|problems| panic!("{problems}"))
}

impl Module for Streaming {
    fn contract(&self) -> Arc<Contract> {
        Arc::new(contract())
    }

    fn register(self: Arc<Self>, handlers: &mut Handlers) {
        handlers.server_stream(READ, read);
        handlers.client_stream(
            COLLECT,
            async |call: Call, request: ReadNoteRequest, mut titles: Vec<String>| {
                titles.push(found(&call, &request.id).await?.title);
                Ok(titles)
            },
            |titles| Ok(CollectNotesResponse { titles }),
        );
        handlers.bidi(RENAME, async |call: Call, request: RenameNotesRequest, renamed: usize| {
            let change = Note { title: request.title, ..Note::default() };
            let note = call.records().update(id_of(&request.id)?, &["title"], &change, None).await?;
            Ok((vec![note], renamed + 1))
        });
    }
}

async fn read(call: Call, request: ReadNoteRequest, shown: String) -> Result<Part<Note, String>, Refusal> {
    // What the gate cuts away is not the handler's business: it makes up a draft for everybody.
    let note = Note { draft: "made up".to_owned(), ..found(&call, &request.id).await? };
    let next = Next::After(Duration::from_millis(100));
    let state = note.title.clone();
    let answers = if state == shown { Vec::new() } else { vec![note] };
    Ok(Part { answers, state, next })
}

async fn found(call: &Call, id: &str) -> Result<Note, Refusal> {
    call.records().get::<Note>(id_of(id)?).await?.ok_or_else(Refusal::not_found)
}

fn id_of(text: &str) -> Result<RecordId, Refusal> {
    RecordId::parse(text, "note").map_err(|error| Refusal::invalid("id", error.to_string()))
}

async fn started() -> (TestServer, World) {
    let options = Options { modules: Some(Vec::new()), in_process: vec![Arc::new(Streaming)], ..Options::default() };
    World::start_with(options).await
}

async fn created(by: &Person, world: &World, project: usize, title: &str) -> String {
    let project = &world.north.projects[project];
    let note = json!({"orgId": world.north.id, "projectId": project, "title": title, "draft": "mine"});
    by.call(CREATE, json!({"note": note})).await.text("id")
}

async fn rename(by: &Person, id: &str, title: &str) {
    by.call(UPDATE, json!({"note": {"id": id, "title": title}, "updateMask": "title"})).await.ok();
}

fn client(person: &Person) -> &Client {
    &person.client
}

#[tokio::test]
async fn streams_speak_every_protocol_and_each_answer_is_cut_to_what_its_caller_may_read() {
    let (server, world) = started().await;
    let (author, admin) = (&world.north.project_user, &world.north.project_admin);
    let id = created(author, &world, 0, "before").await;
    for form in Form::ALL {
        rename(author, &id, "before").await;
        let mut own = client(author).listen(READ, form, &json!({"id": id})).await;
        let mut others = client(admin).listen(READ, form, &json!({"id": id})).await;
        let (note, cut) = (own.message().await, others.message().await);
        assert_eq!((&note["title"], &note["draft"]), (&json!("before"), &json!("mine")), "{form:?}");
        assert_eq!((&cut["title"], cut.get("draft")), (&json!("before"), None), "{form:?}");
        rename(author, &id, "after").await;
        assert_eq!(own.message().await["title"], "after", "{form:?}");

        let mut collected = client(author).stream(COLLECT, form).await;
        for _ in 0..2 {
            collected.say(&json!({"id": id})).await;
        }
        collected.hush();
        assert_eq!(collected.message().await, json!({"titles": ["after", "after"]}), "{form:?}");
        assert_eq!(collected.came().await, Came::End(String::new()), "{form:?}");

        let mut renames = client(author).stream(RENAME, form).await;
        for title in ["one", "two"] {
            renames.say(&json!({"id": id, "title": title})).await;
            assert_eq!(renames.message().await["title"], title, "{form:?}");
        }
        renames.hush();
        assert_eq!(renames.came().await, Came::End(String::new()), "{form:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_message_that_is_refused_ends_its_stream_and_takes_back_nothing() {
    let (server, world) = started().await;
    let author = &world.north.project_user;
    let other = &world.north.other_project_user;
    let (own, hidden) = (created(author, &world, 0, "own").await, created(other, &world, 1, "hidden").await);
    let absent = created(author, &world, 0, "gone").await;
    author.call(DELETE, json!({"id": absent})).await.ok();
    let cases = [
        (json!({"id": hidden, "title": "mine now"}), "NOT_FOUND"),
        (json!({"id": absent, "title": "mine now"}), "NOT_FOUND"),
        (json!({"id": own, "title": ""}), "INVALID_ARGUMENT"),
        (json!({"id": "nonsense", "title": "x"}), "INVALID_ARGUMENT"),
    ];
    for form in Form::ALL {
        for (wrong, reason) in &cases {
            let mut renames = client(author).stream(RENAME, form).await;
            let title = format!("{form:?} before {reason}");
            renames.say(&json!({"id": own, "title": title})).await;
            assert_eq!(renames.message().await["title"], title.as_str());
            renames.say(wrong).await;
            renames.say(&json!({"id": own, "title": "too late"})).await;
            assert_eq!(renames.came().await, Came::End((*reason).to_owned()), "{form:?}");
            assert_eq!(author.call(GET, json!({"id": own})).await.text("title"), title);
        }
        // What a stranger may not see ends his stream before it begins to answer.
        let mut peek = client(&world.south.admin).listen(READ, form, &json!({"id": own})).await;
        assert_eq!(peek.came().await, Came::End("NOT_FOUND".to_owned()));
    }
    assert_eq!(other.call(GET, json!({"id": hidden})).await.text("title"), "hidden");
    server.stop().await;
}

/// Streams of a person that are open and have answered, one of each protocol.
async fn reading(person: &Person, id: &str) -> Vec<Stream> {
    let mut open = Vec::new();
    for form in Form::ALL {
        let mut stream = client(person).listen(READ, form, &json!({"id": id})).await;
        stream.message().await;
        open.push(stream);
    }
    open
}

async fn all_end(streams: Vec<Stream>, reason: &str) {
    for mut stream in streams {
        assert_eq!(stream.end().await, reason);
    }
}

#[tokio::test]
async fn an_open_stream_ends_with_its_session_its_role_its_membership_or_its_hour() {
    let (server, world) = started().await;
    let north = &world.north;
    let id = created(&north.project_user, &world, 0, "read by many").await;
    let member = |person: &Person| json!({"orgId": north.id, "accountId": person.account_id});

    let streams = reading(&north.project_user, &id).await;
    north.project_user.call(REVOKE_SESSION, json!({"id": north.project_user.session_id})).await.ok();
    all_end(streams, "TOKEN_REFUSED").await;

    // Of who holds nothing else, the method itself is refused; of who reads the note otherwise, his note.
    let streams = reading(&north.user, &id).await;
    north.admin.call(REVOKE_ROLE, member(&north.user)).await.ok();
    all_end(streams, "METHOD_REFUSED").await;
    let mut lowered = json!({"role": "USER", "projectId": north.projects[1]});
    lowered["orgId"] = json!(north.id);
    lowered["accountId"] = json!(north.project_admin.account_id);
    north.admin.call(ASSIGN_ROLE, lowered).await.ok();
    let streams = reading(&north.project_admin, &id).await;
    let mut role = member(&north.project_admin);
    role["projectId"] = json!(north.projects[0]);
    north.admin.call(REVOKE_ROLE, role).await.ok();
    all_end(streams, "NOT_FOUND").await;

    let id = created(&north.other_project_user, &world, 1, "read by another").await;
    let streams = reading(&north.other_project_user, &id).await;
    north.admin.call(SUSPEND, member(&north.other_project_user)).await.ok();
    all_end(streams, "METHOD_REFUSED").await;

    let streams = reading(&north.admin, &id).await;
    server.advance_s(3_599);
    assert!(north.admin.call(GET, json!({"id": id})).await.code() == "unauthenticated", "his token is long over");
    server.advance_s(1);
    all_end(streams, "STREAM_OVER").await;
    server.stop().await;
}

#[tokio::test]
async fn a_server_that_stops_says_so_on_each_open_stream() {
    let (server, world) = started().await;
    let author = &world.north.project_user;
    let id = created(author, &world, 0, "still open").await;
    let mut streams = reading(author, &id).await;
    streams.push(client(author).stream(RENAME, Form::Grpc).await);
    let stopping = tokio::spawn(server.stop());
    all_end(streams, "SERVER_STOPPING").await;
    stopping.await.unwrap();
}

/// An event of a watch: what happened, the note's id, and its title where it is shown.
async fn event(watch: &mut Stream) -> (String, String, String) {
    let event = watch.message().await;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (text(&event["event"]), text(&event["id"]), text(&event["note"]["title"]))
}

fn told(what: &str, id: &str, title: &str) -> (String, String, String) {
    (what.to_owned(), id.to_owned(), title.to_owned())
}

#[tokio::test]
async fn a_watch_tells_what_a_list_would_show_and_goes_on_from_its_token() {
    let (server, world) = World::start().await;
    let north = &world.north;
    let (author, reader) = (&north.project_user, &north.guest);
    let org = json!({"orgId": north.id});
    for form in Form::ALL {
        let first = created(author, &world, 0, "first").await;
        let mut own = client(author).listen(WATCH, form, &org).await;
        let mut others = client(reader).listen(WATCH, form, &org).await;
        for (watch, sees) in [(&mut own, true), (&mut others, false)] {
            assert_eq!(event(watch).await.0, "RESET", "{form:?}");
            if sees {
                assert_eq!(event(watch).await, told("ADDED", &first, "first"), "{form:?}");
            }
            assert_eq!(event(watch).await.0, "CURRENT", "{form:?}");
        }
        rename(author, &first, "renamed").await;
        assert_eq!(event(&mut own).await, told("CHANGED", &first, "renamed"), "{form:?}");
        assert_eq!(event(&mut own).await.0, "CURRENT");
        // Shown to the whole org, and hidden again: the guest learns of it, and of nothing before.
        let publish =
            |published: bool| json!({"note": {"id": first, "published": published}, "updateMask": "published"});
        author.call(UPDATE, publish(true)).await.ok();
        assert_eq!(event(&mut others).await, told("ADDED", &first, "renamed"), "{form:?}");
        let current = others.message().await;
        assert_eq!(current["event"], "CURRENT");
        author.call(UPDATE, publish(false)).await.ok();
        assert_eq!(event(&mut others).await, told("REMOVED", &first, ""), "{form:?}");
        drop((own, others));
        // From the token on, without what was told before.
        let mut from = org.clone();
        from["resumeToken"] = current["resumeToken"].clone();
        let mut again = client(reader).listen(WATCH, form, &from).await;
        assert_eq!(event(&mut again).await, told("REMOVED", &first, ""), "{form:?}");
        author.call(DELETE, json!({"id": first})).await.ok();
    }
    let listed = author.call(LIST, org).await.ok();
    assert!(listed.get("notes").is_none());
    server.stop().await;
}

#[tokio::test]
async fn a_watch_is_judged_again_when_roles_change_and_ends_when_none_is_left() {
    let (server, world) = World::start().await;
    let north = &world.north;
    let (author, reader) = (&north.project_user, &north.guest);
    let id = created(author, &world, 0, "for those who may").await;
    let mut watch = client(reader).listen(WATCH, Form::Grpc, &json!({"orgId": north.id})).await;
    assert_eq!((event(&mut watch).await.0, event(&mut watch).await.0), ("RESET".to_owned(), "CURRENT".to_owned()));
    let mut role = json!({"orgId": north.id, "projectId": north.projects[0], "accountId": reader.account_id});
    role["role"] = json!("USER");
    north.admin.call(ASSIGN_ROLE, role.clone()).await.ok();
    let mut added = event(&mut watch).await;
    while added.0 != "ADDED" {
        added = event(&mut watch).await;
    }
    assert_eq!(added, told("ADDED", &id, "for those who may"));
    role.as_object_mut().unwrap().remove("role");
    north.admin.call(REVOKE_ROLE, role).await.ok();
    let mut removed = event(&mut watch).await;
    while removed.0 != "REMOVED" {
        assert!(removed.2.is_empty(), "{removed:?}");
        removed = event(&mut watch).await;
    }
    assert_eq!(removed, told("REMOVED", &id, ""));
    let member = json!({"orgId": north.id, "accountId": reader.account_id});
    north.admin.call(SUSPEND, member).await.ok();
    assert_eq!(watch.end().await, "METHOD_REFUSED");
    server.stop().await;
}
