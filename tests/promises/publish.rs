//! A module with logic in this process: the design's example whole, and modules that do what they must not.

use prost::{Message, Name};
use serde_json::{Value, json};
use std::{
    fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};
use sys_contract::{
    id::RecordId,
    load::{Origin, SourceFile, load},
    model::Contract,
};
use sys_core::{
    call::Call,
    module::{Handlers, Module},
    refusal::Refusal,
};
use sys_tests::{Client, Options, Person, TestServer, World, workspace};

const CREATE: &str = "notes.v1.NoteService/CreateNote";
const GET: &str = "notes.v1.NoteService/GetNote";
const LIST: &str = "notes.v1.NoteService/ListNotes";
const UPDATE: &str = "notes.v1.NoteService/UpdateNote";
const PUBLISH: &str = "notes.v1.NoteService/PublishNote";
const QUOTE: &str = "notes.v1.NoteService/QuoteNote";
const STRAY: &str = "notes.v1.NoteService/StrayNote";

/// How often the gate runs a handler before it gives up.
const ATTEMPTS: usize = 10;

/// The method of the design's example, and two for handlers that cannot be trusted.
const METHODS: &str = r#"
  // Shows a note to the whole org.
  rpc PublishNote(PublishNoteRequest) returns (Note) {
    option (sys.policy.v1.method) = {target: {record: "Note" id: "id"} audit: FULL};
    option (sys.policy.v1.method_allow) = {owner: true};
  }
  // Answers with notes that its handler makes up.
  rpc QuoteNote(QuoteNoteRequest) returns (QuoteNoteResponse) {
    option (sys.policy.v1.method) = {target: {record: "Note" id: "id"}};
    option (sys.policy.v1.method_allow) = {role: USER at: PROJECT};
  }
  // Tries what it does not list.
  rpc StrayNote(StrayNoteRequest) returns (Note) {
    option (sys.policy.v1.method) = {target: {record: "Note" id: "id"}};
    option (sys.policy.v1.method_allow) = {owner: true};
  }
"#;

const MESSAGES: &str = r#"
message PublishNoteRequest { string id = 1; }
message QuoteNoteRequest { string id = 1; string other_id = 2; }
message QuoteNoteResponse { Note note = 1; repeated Note others = 2; }
message StrayNoteRequest { string id = 1; string what = 2; bool hushed = 3; }
"#;

#[derive(Clone, PartialEq, Message)]
struct Note {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(string, tag = "2")]
    org_id: String,
    #[prost(string, tag = "3")]
    project_id: String,
    #[prost(string, tag = "5")]
    title: String,
    #[prost(bool, tag = "6")]
    published: bool,
    #[prost(string, tag = "7")]
    draft: String,
}

impl Name for Note {
    const NAME: &'static str = "Note";
    const PACKAGE: &'static str = "notes.v1";
}

#[derive(Clone, PartialEq, Message)]
struct PublishNoteRequest {
    #[prost(string, tag = "1")]
    id: String,
}

#[derive(Clone, PartialEq, Message)]
struct QuoteNoteRequest {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(string, tag = "2")]
    other_id: String,
}

#[derive(Clone, PartialEq, Message)]
struct QuoteNoteResponse {
    #[prost(message, optional, tag = "1")]
    note: Option<Note>,
    #[prost(message, repeated, tag = "2")]
    others: Vec<Note>,
}

#[derive(Clone, PartialEq, Message)]
struct StrayNoteRequest {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(string, tag = "2")]
    what: String,
    #[prost(bool, tag = "3")]
    hushed: bool,
}

/// The notes module with handlers.
#[derive(Default)]
struct Publishing {
    /// How often the handler of PublishNote ran.
    attempts: AtomicUsize,
    /// Changes that somebody else makes while it runs, the next one last.
    meanwhile: Mutex<Vec<(Client, Value)>>,
    /// Handlers that it registers besides.
    extra: Vec<&'static str>,
    /// A handler that it forgets.
    forgotten: Option<&'static str>,
}

fn contract() -> Contract {
    let text = fs::read_to_string(workspace().join("modules/mod-notes/notes/v1/notes.proto")).unwrap();
    let (before, after) = text.split_once("service NoteService {\n").unwrap();
    let text = format!("{before}service NoteService {{\n{METHODS}{after}{MESSAGES}");
    let source = SourceFile { path: "notes/v1/notes.proto".to_owned(), text };
    load("mod-notes", Origin::Uploaded, &[source]).unwrap_or_else(|problems| panic!("{problems}"))
}

impl Module for Publishing {
    fn contract(&self) -> Arc<Contract> {
        Arc::new(contract())
    }

    fn register(self: Arc<Self>, handlers: &mut Handlers) {
        let expected = [PUBLISH, QUOTE, STRAY].into_iter().filter(|path| Some(*path) != self.forgotten);
        for path in expected.chain(self.extra.clone()) {
            let module = self.clone();
            match path {
                QUOTE => handlers.unary(path, quote),
                STRAY => handlers.unary(path, stray),
                _ => handlers.unary(path, move |call, request| publish(module.clone(), call, request)),
            }
        }
    }
}

fn id_of(text: &str) -> Result<RecordId, Refusal> {
    RecordId::parse(text, "note").map_err(|error| Refusal::invalid("id", error.to_string()))
}

async fn publish(module: Arc<Publishing>, call: Call, request: PublishNoteRequest) -> Result<Note, Refusal> {
    module.attempts.fetch_add(1, Ordering::SeqCst);
    let id = id_of(&request.id)?;
    call.records().get::<Note>(id).await?.ok_or_else(Refusal::not_found)?;
    let change = module.meanwhile.lock().unwrap().pop();
    if let Some((client, change)) = change {
        client.call(UPDATE, change).await.ok();
    }
    call.records().update(id, &["published"], &Note { published: true, ..Note::default() }, None).await
}

/// Makes up what it answers, with its caller's own words about hidden fields and with a note that he may not see.
async fn quote(_: Call, request: QuoteNoteRequest) -> Result<QuoteNoteResponse, Refusal> {
    let made_up = |id: String| Note { id, title: "made up".to_owned(), draft: "made up".to_owned(), ..Note::default() };
    let others = vec![made_up(request.other_id), made_up(String::new())];
    Ok(QuoteNoteResponse { note: Some(made_up(request.id)), others })
}

/// Writes what it may, then tries something that its method does not list.
async fn stray(call: Call, request: StrayNoteRequest) -> Result<Note, Refusal> {
    let id = id_of(&request.id)?;
    let changed = Note { title: "half done".to_owned(), ..Note::default() };
    let seen = call.records().update(id, &["title"], &changed, None).await?;
    let tried = match request.what.as_str() {
        "delete" => call.records().delete::<Note>(id, None).await,
        "create" => call.records().create(&Note { title: "more".to_owned(), ..seen.clone() }).await.map(|_| ()),
        "elevate" => call.elevated().map(|_| ()),
        _ => call.records().get::<Account>(id).await.map(|_| ()),
    };
    match tried {
        Err(refusal) if !request.hushed => Err(refusal),
        _ => Ok(seen),
    }
}

/// A record of another module.
#[derive(Clone, PartialEq, Message)]
struct Account {}

impl Name for Account {
    const NAME: &'static str = "Account";
    const PACKAGE: &'static str = "sys.account.v1";
}

fn options(module: &Arc<Publishing>) -> Options {
    Options { modules: Some(Vec::new()), in_process: vec![module.clone()], ..Options::default() }
}

async fn started() -> (TestServer, World, Arc<Publishing>) {
    let module = Arc::new(Publishing::default());
    let (server, world) = World::start_with(options(&module)).await;
    (server, world, module)
}

async fn create(by: &Person, world: &World, title: &str) -> Value {
    let note = json!({"orgId": world.north.id, "projectId": world.north.projects[0], "title": title, "draft": "mine"});
    by.call(CREATE, json!({"note": note})).await.ok()
}

#[tokio::test]
async fn a_note_is_published_by_its_author_and_by_nobody_else() {
    let (server, world, _) = started().await;
    let (north, author) = (&world.north, &world.north.project_user);
    let id = create(author, &world, "the example").await["id"].clone();
    let this = json!({"id": id});
    let not_seen = [&north.guest, &north.project_guest, &north.other_project_user, &world.south.admin];
    let seen = [&north.user, &north.admin, &north.project_admin];
    for other in not_seen {
        other.call(PUBLISH, this.clone()).await.refused("not_found");
        other.call(GET, this.clone()).await.refused("not_found");
    }
    for other in seen {
        assert_eq!(other.call(PUBLISH, this.clone()).await.refused("permission_denied").reason(), "RECORD_REFUSED");
    }
    for other in [&world.stranger, &world.superadmin] {
        assert_eq!(other.call(PUBLISH, this.clone()).await.refused("permission_denied").reason(), "METHOD_REFUSED");
    }
    server.call(PUBLISH, this.clone()).await.refused("unauthenticated");
    author.call(PUBLISH, json!({})).await.refused("invalid_argument");
    author.call(PUBLISH, json!({"id": "note_nonsense"})).await.refused("invalid_argument");

    let published = author.call(PUBLISH, this.clone()).await.ok();
    assert_eq!((&published["published"], &published["draft"]), (&json!(true), &json!("mine")));
    for member in [&north.guest, &north.other_project_user] {
        let note = member.call(GET, this.clone()).await.ok();
        assert!(note.get("draft").is_none(), "{note}");
        // What he sees he still does not publish, and learns that it is there.
        assert_eq!(member.call(PUBLISH, this.clone()).await.refused("permission_denied").reason(), "RECORD_REFUSED");
    }
    world.south.admin.call(GET, this).await.refused("not_found");
    server.stop().await;
}

#[tokio::test]
async fn what_a_handler_answers_is_cut_to_what_its_caller_may_read() {
    let (server, world, _) = started().await;
    let north = &world.north;
    let note = create(&north.project_user, &world, "as it is stored").await;
    let in_second = json!({"orgId": north.id, "projectId": north.projects[1], "title": "others'"});
    let hidden = north.other_project_user.call(CREATE, json!({"note": in_second})).await.text("id");
    let request = json!({"id": note["id"], "otherId": hidden});
    for (caller, draft) in [(&north.project_user, Some("mine")), (&north.project_admin, None)] {
        let answer = caller.call(QUOTE, request.clone()).await.ok();
        assert_eq!(answer["note"]["title"], "as it is stored", "the stored record answers, not the handler");
        assert_eq!(answer["note"].get("draft").and_then(Value::as_str), draft);
        assert_eq!(answer["others"], json!([{"id": hidden}, {}]), "of what he may not see, the id alone");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_handler_runs_again_when_somebody_else_was_faster() {
    let (server, world, module) = started().await;
    let author = &world.north.project_user;
    let id = create(author, &world, "before").await["id"].clone();
    let change =
        |title: String| (author.client.clone(), json!({"note": {"id": id, "title": title}, "updateMask": "title"}));
    *module.meanwhile.lock().unwrap() = vec![change("changed meanwhile".to_owned())];
    let published = author.call(PUBLISH, json!({"id": id})).await.ok();
    assert_eq!(module.attempts.load(Ordering::SeqCst), 2);
    assert_eq!((&published["published"], &published["title"]), (&json!(true), &json!("changed meanwhile")));

    // There is a bound to it, and then nothing has happened.
    let id = create(author, &world, "never the same").await["id"].clone();
    let changes = |number| {
        (author.client.clone(), json!({"note": {"id": id, "title": format!("change {number}")}, "updateMask": "title"}))
    };
    *module.meanwhile.lock().unwrap() = (0..2 * ATTEMPTS).map(changes).collect();
    module.attempts.store(0, Ordering::SeqCst);
    assert_eq!(author.call(PUBLISH, json!({"id": id})).await.refused("aborted").reason(), "CONFLICT");
    assert_eq!(module.attempts.load(Ordering::SeqCst), ATTEMPTS);
    assert!(author.call(GET, json!({"id": id})).await.ok().get("published").is_none());
    server.stop().await;
}

#[tokio::test]
async fn a_handler_that_reaches_beyond_its_method_changes_nothing() {
    let (server, world, _) = started().await;
    let author = &world.north.project_user;
    for what in ["delete", "create", "elevate", "other"] {
        let note = create(author, &world, "whole").await;
        let answer = author.call(STRAY, json!({"id": note["id"], "what": what})).await;
        answer.refused("internal");
        assert!(!answer.body.to_string().contains("reach"), "internals: {}", answer.body);
        assert_eq!(author.call(GET, json!({"id": note["id"]})).await.ok(), note, "{what}: half of it was done");
        // Who hushes the error up has what he may do, and nothing else.
        author.call(STRAY, json!({"id": note["id"], "what": what, "hushed": true})).await.ok();
        assert_eq!(author.call(GET, json!({"id": note["id"]})).await.text("title"), "half done");
        let page = author.call(LIST, json!({"orgId": world.north.id, "filter": "title == \"more\""})).await.ok();
        assert!(page.get("notes").is_none(), "{page}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_contract_and_its_handlers_that_do_not_match_do_not_load() {
    let refused = async |module: Publishing| {
        let error = TestServer::try_start(options(&Arc::new(module))).await.expect_err("it loads");
        format!("{error:#}")
    };
    let gap = refused(Publishing { forgotten: Some(PUBLISH), ..Publishing::default() }).await;
    assert!(gap.contains(PUBLISH) && gap.contains("notes/v1/notes.proto:") && gap.contains("`serve`"), "{gap}");
    for extra in ["notes.v1.NoteService/GetNote", "notes.v1.NoteService/NoSuch", PUBLISH] {
        let error = refused(Publishing { extra: vec![extra], ..Publishing::default() }).await;
        assert!(error.contains(extra) && error.contains("mod-notes"), "{error}");
    }
    // The control.
    TestServer::start_with(options(&Arc::default())).await.stop().await;
}
