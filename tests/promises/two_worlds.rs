//! Non-interference over the wire: two servers that differ in what somebody may not see answer him alike, to the byte. The
//! random sequences are in sys-store (`tests/records/two_worlds.rs`), where they are fast; here every method of every contract is
//! called on what is there on one server only.
//!
//! Both begin with a copy of the same data, keys included. What differs by nature is taken out: the nonces of page tokens
//! (their length stays), and ids and times of what a call itself makes.

use crate::rules::contracts;
use bytes::Bytes;
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use sys_contract::model::Method;
use sys_tests::{Client, Options, PASSWORD, Person, Snapshot, TestServer, World};

const CREATE_NOTE: &str = "notes.v1.NoteService/CreateNote";
const UPDATE_NOTE: &str = "notes.v1.NoteService/UpdateNote";
const DELETE_NOTE: &str = "notes.v1.NoteService/DeleteNote";
const LIST_NOTES: &str = "notes.v1.NoteService/ListNotes";
const CREATE_PROJECT: &str = "sys.account.v1.ProjectService/CreateProject";
const DELETE_PROJECT: &str = "sys.account.v1.ProjectService/DeleteProject";
const CREATE_ORG: &str = "sys.account.v1.OrgService/CreateOrg";
const INVITE: &str = "sys.account.v1.MembershipService/Invite";

/// Whose address is registered on the right alone.
const GHOST: &str = "ghost@example.org";

/// Two servers, and who is at both.
struct Pair {
    left: TestServer,
    right: TestServer,
    world: World,
}

impl Pair {
    /// Both begin with some notes in each project of the north.
    async fn start() -> (Self, Vec<String>) {
        let (server, world) = World::start().await;
        let mut notes = Vec::new();
        for number in 0..12 {
            let (author, project) = if number % 3 == 0 {
                (&world.north.other_project_user, &world.north.projects[1])
            } else {
                (&world.north.user, &world.north.projects[0])
            };
            let title = format!("plan of day {number}");
            let note = json!({"orgId": world.north.id, "projectId": project, "title": title, "published": number % 2 == 0, "draft": "d"});
            notes.push(author.call(CREATE_NOTE, json!({"note": note})).await.text("id"));
        }
        let snapshot = Snapshot::of(server).await;
        let (left, right) =
            (snapshot.start_with(Options::default()).await, snapshot.start_with(Options::default()).await);
        (Self { left, right, world }, notes)
    }

    /// Somebody at the right server.
    fn on_right(&self, person: &Person) -> Client {
        person.client.at(self.right.addr)
    }

    /// What both servers answer; of a token that leads on, each its own.
    async fn both(&self, client: &Client, path: &str, bodies: [&Value; 2]) -> [Told; 2] {
        let ask = async |server: &TestServer, body: &Value| {
            let (status, bytes) =
                client.at(server.addr).post(path, "application/json", Bytes::from(body.to_string())).await;
            Told { status, bytes }
        };
        [ask(&self.left, bodies[0]).await, ask(&self.right, bodies[1]).await]
    }

    /// Fails unless both servers answer alike; gives the code of the answer.
    async fn alike(&self, name: &str, client: &Client, path: &str, body: &Value) -> String {
        let [left, right] = self.both(client, path, [body, body]).await;
        assert_eq!(left.compared(path), right.compared(path), "{path} as {name}: {body}");
        let body: Value = serde_json::from_slice(&left.bytes).unwrap_or_default();
        body["code"].as_str().unwrap_or("ok").to_owned()
    }

    async fn stop(self) {
        self.left.stop().await;
        self.right.stop().await;
    }
}

/// An answer as it came.
struct Told {
    status: u16,
    bytes: Bytes,
}

impl Told {
    /// What is compared: the bytes as they are, unless something in them differs by nature.
    fn compared(&self, path: &str) -> (u16, String) {
        let text = String::from_utf8_lossy(&self.bytes).into_owned();
        let Ok(mut body) = serde_json::from_str::<Value>(&text) else { return (self.status, text) };
        let makes =
            ["Create", "Invite"].iter().any(|verb| path.split('/').nth(1).unwrap_or_default().starts_with(verb));
        if !take_out(&mut body, makes && self.status == 200) {
            return (self.status, text);
        }
        (self.status, body.to_string())
    }

    fn page_token(&self) -> Option<String> {
        let body: Value = serde_json::from_slice(&self.bytes).ok()?;
        body["nextPageToken"].as_str().filter(|token| !token.is_empty()).map(str::to_owned)
    }
}

/// Takes out what differs by nature; whether there was any.
fn take_out(body: &mut Value, made_anew: bool) -> bool {
    match body {
        Value::Object(fields) => {
            let mut taken = false;
            for (name, value) in fields.iter_mut() {
                let is_token = name == "nextPageToken" && value.is_string();
                if is_token {
                    *value = json!(format!("{} characters", value.as_str().map_or(0, str::len)));
                }
                let by_nature = ["id", "etag", "createdAt", "createTime", "expiresAt", "expireTime", "lastUsedAt"];
                if made_anew && by_nature.contains(&name.as_str()) || name == "lastUsedAt" {
                    *value = json!("of its own");
                    taken = true;
                }
                taken |= is_token || take_out(value, made_anew);
            }
            taken
        }
        // All of them: none may be passed over because one before it was changed.
        Value::Array(items) => {
            items.iter_mut().map(|item| take_out(item, made_anew)).filter(|taken| *taken).count() > 0
        }
        _ => false,
    }
}

/// What a request names, by the field.
type Names = BTreeMap<&'static str, String>;

fn names(org: &str, project: &str, account: &str, note: &str) -> Names {
    let pairs = [("org", org), ("project", project), ("account", account), ("note", note), ("email", GHOST)];
    pairs.into_iter().map(|(name, value)| (name, value.to_owned())).collect()
}

/// A request of a method that names these things, made from its descriptor.
fn request(method: &Method, names: &Names) -> Value {
    let nouns = ["Note", "Account", "Org", "Project", "Session"];
    let own = nouns.iter().find(|noun| method.path.contains(&format!(".{noun}Service/")));
    message(&method.descriptor.input(), own.map_or("invitation", |noun| noun).to_lowercase().as_str(), names)
}

fn message(descriptor: &MessageDescriptor, own: &str, names: &Names) -> Value {
    let fields = descriptor.fields().filter(|field| !field.is_list() && !field.is_map());
    let fields: Map<String, Value> =
        fields.filter_map(|field| Some((field.json_name().to_owned(), value(&field, own, names)?))).collect();
    Value::Object(fields)
}

fn value(field: &FieldDescriptor, own: &str, names: &Names) -> Option<Value> {
    let named = |noun: &str| names.get(noun).map(|name| json!(name));
    match (field.name(), field.kind()) {
        ("id", _) => named(own),
        ("etag" | "page_token" | "order_by" | "filter", _) => None,
        ("update_mask", _) => Some(json!("*")),
        ("author_id" | "owner_id", _) => None,
        (name, Kind::String) if name.ends_with("_id") => {
            ["org", "project", "account"].into_iter().find(|noun| name.contains(noun)).and_then(named)
        }
        (name, Kind::String) if name.contains("email") => named("email"),
        // One of its own for each method: whoever registers somebody's address must not know his password by that.
        (name, Kind::String) if name.contains("password") => {
            Some(json!(format!("a passphrase for {}", field.full_name())))
        }
        // What can be named by its id is.
        ("token", _) if field.parent_message().get_field_by_name("id").is_some() => None,
        (name, Kind::String) if name.contains("token") => Some(json!("A".repeat(43))),
        ("query", _) => named("email"),
        (_, Kind::String) => Some(json!("something")),
        (_, Kind::Enum(values)) if field.name() == "role" => {
            values.values().find(|value| value.name().contains("USER")).map(|value| json!(value.name()))
        }
        (_, Kind::Message(inner)) if !inner.full_name().starts_with("google.") => Some(message(&inner, own, names)),
        _ => None,
    }
}

/// All methods, those that end sessions last.
fn methods() -> Vec<Method> {
    let contracts = contracts();
    let services = contracts.iter().flat_map(|contract| &contract.services);
    let mut methods: Vec<Method> = services.flat_map(|service| service.methods.clone()).collect();
    methods.sort_by_key(|method| ["Logout", "RevokeAll"].iter().any(|word| method.path.contains(word)));
    methods
}

/// Things of the right alone, and of the left alone. Hidden from everybody in the north but its admin, and from strangers.
async fn part(pair: &Pair, notes: &[String]) -> [Names; 2] {
    let (north, south) = (&pair.world.north, &pair.world.south);
    let ghost = pair.right.verified(GHOST).await;
    let (user, neighbour) = (pair.on_right(&north.user), pair.on_right(&north.other_project_user));
    let mut note = String::new();
    for number in 0..30 {
        let new = json!({"orgId": north.id, "projectId": north.projects[1], "title": "plan of others", "draft": number.to_string()});
        note = neighbour.call(CREATE_NOTE, json!({"note": new})).await.text("id");
    }
    for (number, id) in notes.iter().enumerate().filter(|(number, _)| number % 3 > 0) {
        let body = json!({"note": {"id": id, "draft": format!("hidden {number}")}, "updateMask": "draft"});
        user.call(UPDATE_NOTE, body).await.ok();
    }
    // Neither published nor in the first project.
    neighbour.call(DELETE_NOTE, json!({"id": notes[3]})).await.ok();
    let admin = pair.on_right(&south.admin);
    let project = admin.call(CREATE_PROJECT, json!({"orgId": south.id, "name": "of the right"})).await.text("id");
    admin.call(DELETE_PROJECT, json!({"id": south.projects[1]})).await.ok();
    let invite = json!({"orgId": south.id, "email": GHOST, "role": "USER"});
    let invitation = admin.call(INVITE, invite).await.text("id");
    let sessions = ghost.call("sys.account.v1.SessionService/ListSessions", json!({})).await.ok();
    let session = sessions["sessions"][0]["id"].as_str().expect("the one of his login").to_owned();
    let root = pair.on_right(&pair.world.superadmin);
    let org = root.call(CREATE_ORG, json!({"name": "right", "adminEmail": GHOST})).await.text("id");
    let mut parted = [
        names(&org, &project, &ghost.account_id, &note),
        names(&south.id, &south.projects[1], &ghost.account_id, &notes[3]),
    ];
    for names in &mut parted {
        names.extend([("session", session.clone()), ("invitation", invitation.clone())]);
    }
    parted
}

#[tokio::test]
async fn every_method_answers_alike_about_what_is_hidden_and_what_is_not_there() {
    let (pair, notes) = Pair::start().await;
    let [apart, gone] = part(&pair, &notes).await;
    let north = &pair.world.north;
    // In one's own org, about what is not of it.
    let mut beside = apart.clone();
    beside.extend(names(&north.id, &gone["project"], &apart["account"], &apart["note"]));
    let callers = [
        ("project_user", north.project_user.client.clone()),
        ("project_admin", north.project_admin.client.clone()),
        ("guest", north.guest.client.clone()),
        ("stranger", pair.world.stranger.client.clone()),
        ("nobody", pair.left.client()),
    ];
    let mut codes: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (name, client) in &callers {
        for method in methods() {
            for names in [&apart, &gone, &beside] {
                let code = pair.alike(name, client, &method.path, &request(&method, names)).await;
                if client.token().is_some() {
                    codes.entry(method.path.clone()).or_default().insert(code);
                }
            }
            // And about nothing in particular.
            pair.alike(name, client, &method.path, &json!({})).await;
        }
    }
    // A request that means nothing to a method asks about nothing that is hidden.
    for method in methods().into_iter().filter(|method| request(method, &apart) != json!({})) {
        let takes = |word: &str| method.descriptor.input().fields().any(|field| field.name().contains(word));
        let is_asked = |code: &String| match code.as_str() {
            "invalid_argument" | "unimplemented" => false,
            "unauthenticated" => takes("token") || takes("password"),
            _ => true,
        };
        assert!(codes[&method.path].iter().any(is_asked), "{}: {:?}", method.path, codes[&method.path]);
    }
    pair.stop().await;
}

#[tokio::test]
async fn lists_and_writes_answer_alike_beside_hidden_notes() {
    let (pair, notes) = Pair::start().await;
    part(&pair, &notes).await;
    let north = &pair.world.north;
    let filters = [
        "",
        "published",
        "title.startsWith(\"plan of\")",
        "title.startsWith(\"plan of\") && !published",
        "draft == \"hidden 1\"",
        "draft != \"d\"",
    ];
    let callers =
        [("project_user", &north.project_user), ("project_admin", &north.project_admin), ("guest", &north.guest)];
    let mut pages = 0;
    for (name, person) in callers {
        for filter in filters {
            for order_by in ["", "id desc", "title desc", "draft, title"] {
                for project in ["", &north.projects[0], &north.projects[1]] {
                    let mut tokens = [String::new(), String::new()];
                    loop {
                        let body = |token: &str| json!({"orgId": north.id, "projectId": project, "filter": filter, "orderBy": order_by, "pageSize": 3, "pageToken": token});
                        let bodies = [body(&tokens[0]), body(&tokens[1])];
                        let told = pair.both(&person.client, LIST_NOTES, [&bodies[0], &bodies[1]]).await;
                        let compared = told.each_ref().map(|told| told.compared(LIST_NOTES));
                        assert_eq!(compared[0], compared[1], "{name}: {}", bodies[0]);
                        pages += 1;
                        let [Some(left), Some(right)] = told.each_ref().map(Told::page_token) else { break };
                        tokens = [left, right];
                    }
                }
            }
        }
        for (number, id) in notes.iter().enumerate() {
            let one = json!({"id": id});
            pair.alike(name, &person.client, "notes.v1.NoteService/GetNote", &one).await;
            for mask in ["title", "draft", "*"] {
                let note = json!({"id": id, "title": "new", "draft": format!("hidden {number}"), "etag": "d3Jvbmc"});
                pair.alike(name, &person.client, UPDATE_NOTE, &json!({"note": note, "updateMask": mask})).await;
            }
            pair.alike(name, &person.client, DELETE_NOTE, &json!({"id": id, "etag": "d3Jvbmc"})).await;
        }
    }
    // Last: what is made has an id of its own on each side.
    for (name, person) in callers {
        for project in &north.projects {
            let note = json!({"orgId": north.id, "projectId": project, "title": "made by both"});
            pair.alike(name, &person.client, CREATE_NOTE, &json!({"note": note})).await;
        }
    }
    assert!(pages > 300, "{pages} pages");
    pair.stop().await;
}

/// Who has an account is nobody's to know: not an org's admin's, not a stranger's.
#[tokio::test]
async fn nobody_is_told_whether_an_address_has_an_account() {
    let (pair, _) = Pair::start().await;
    let ghost = pair.right.verified(GHOST).await;
    let (north, nobody) = (&pair.world.north, pair.left.client());
    let auth = |method: &str| format!("sys.account.v1.AuthService/{method}");
    for (method, body) in [
        ("Login", json!({"email": GHOST, "password": "not the right passphrase"})),
        ("ForgotPassword", json!({"email": GHOST})),
        ("Register", json!({"email": GHOST, "password": PASSWORD, "displayName": "Somebody"})),
        ("Login", json!({"email": GHOST, "password": "not the right passphrase"})),
    ] {
        pair.alike("nobody", &nobody, &auth(method), &body).await;
    }
    let (admin, member) = (&north.admin.client, format!("sys.account.v1.MembershipService/{}", "AssignRole"));
    let invite = json!({"orgId": north.id, "email": GHOST, "role": "USER"});
    pair.alike("admin", admin, INVITE, &invite).await;
    pair.alike("admin", admin, INVITE, &invite).await;
    let create = json!({"email": GHOST, "displayName": "Ghost", "managedByOrgId": north.id, "password": PASSWORD});
    pair.alike("admin", admin, "sys.account.v1.AccountService/CreateAccount", &create).await;
    for (name, client) in [("admin", admin), ("stranger", &pair.world.stranger.client)] {
        assert_eq!(pair.alike(name, client, &auth("ChangeEmail"), &json!({"newEmail": GHOST})).await, "ok");
    }
    let assign = json!({"orgId": north.id, "accountId": ghost.account_id, "role": "USER"});
    pair.alike("admin", admin, &member, &assign).await;
    for (method, body) in [
        ("AccountService/GetAccount", json!({"id": ghost.account_id})),
        ("AccountService/SearchAccounts", json!({"query": "ghost"})),
        ("MembershipService/ListRoles", json!({"orgId": north.id, "accountId": ghost.account_id})),
        ("MembershipService/SuspendMembership", json!({"orgId": north.id, "accountId": ghost.account_id})),
        ("MembershipService/ListMemberships", json!({"orgId": north.id})),
    ] {
        pair.alike("admin", admin, &format!("sys.account.v1.{method}"), &body).await;
    }
    pair.stop().await;
}

/// The comparison can tell.
#[tokio::test]
async fn control_who_may_see_what_differs_is_answered_otherwise() {
    let (pair, notes) = Pair::start().await;
    let [apart, _] = part(&pair, &notes).await;
    let north = &pair.world.north;
    let differs = async |client: &Client, path: &str, body: Value| {
        let [left, right] = pair.both(client, path, [&body, &body]).await;
        left.compared(path) != right.compared(path)
    };
    assert!(differs(&north.admin.client, "notes.v1.NoteService/GetNote", json!({"id": apart["note"]})).await);
    assert!(differs(&north.user.client, "notes.v1.NoteService/GetNote", json!({"id": notes[1]})).await, "his draft");
    assert!(differs(&north.other_project_user.client, LIST_NOTES, json!({"orgId": north.id})).await);
    let projects = "sys.account.v1.ProjectService/ListProjects";
    assert!(differs(&pair.world.south.admin.client, projects, json!({"orgId": pair.world.south.id})).await);
    pair.stop().await;
}
