//! Real kills: a server process that people write to is killed with SIGKILL at a moment that nobody chose, again and again on
//! one data directory. Nothing that it acknowledged is lost, nothing that it did not acknowledge is there in part, whoever had logged
//! out stays out, and `sys-server doctor` finds nothing wrong.
//!
//! This cannot show what a power cut does to unsynced writes, since the kernel keeps them; the store's fault tests do. A few
//! rounds are run with the other tests; `cargo xtask crash --kill N` runs N.

use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    env,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use sys_keys::Unsealer;
use sys_server::doctor::Orders;
use sys_tests::{Client, Options, PASSWORD, TestServer, World};
use tokio::{sync::Notify, task::JoinSet};

const CREATE: &str = "notes.v1.NoteService/CreateNote";
const UPDATE: &str = "notes.v1.NoteService/UpdateNote";
const DELETE: &str = "notes.v1.NoteService/DeleteNote";
const LIST: &str = "notes.v1.NoteService/ListNotes";
const LOGIN: &str = "sys.account.v1.AuthService/Login";
const LOGOUT: &str = "sys.account.v1.AuthService/Logout";
const WHO_AM_I: &str = "sys.account.v1.AuthService/WhoAmI";

/// Rounds of an ordinary run, and who says otherwise.
const ROUNDS: usize = 4;
const ROUNDS_VARIABLE: &str = "SYS_KILL_ROUNDS";
/// Tells the process that is killed where its data is.
const DATA_DIR: &str = "SYS_KILL_DATA_DIR";
/// People who write at the same time.
const WRITERS: usize = 4;
/// Notes of one writer: who has so many deletes one.
const MAX_NOTES: usize = 12;
/// Every so many rounds everything in the data directory is looked through.
const DOCTOR_EVERY: usize = 10;

/// Not a test: what the killed process runs. Prints where it listens.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "runs until it is killed; `nothing_that_a_killed_server_acknowledged_is_lost` starts it"]
async fn serve_until_killed() {
    let data_dir = env::var(DATA_DIR).expect("started by the test below alone");
    let server = TestServer::start_with(Options { data_dir: Some(data_dir.into()), ..Options::default() }).await;
    println!("\nlistens {}", server.addr);
    std::future::pending::<()>().await;
}

/// The process, and where it listens.
fn start(data_dir: &Path) -> (Child, SocketAddr) {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--ignored", "--exact", "kills::serve_until_killed", "--nocapture"])
        .env(DATA_DIR, data_dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let addr = lines.map_while(Result::ok).find_map(|line| line.strip_prefix("listens ")?.parse().ok());
    (child, addr.expect("the server starts"))
}

/// A note as its author knows it: title and draft.
type Note = (String, String);

/// Somebody who writes, and what he was told.
#[derive(Debug, Default, Clone)]
struct Writer {
    name: String,
    number: usize,
    /// What was acknowledged, by id.
    notes: BTreeMap<String, Note>,
    /// What was asked last, if no answer came: nobody knows whether it was done.
    asked: Option<Asked>,
}

#[derive(Debug, Clone)]
enum Asked {
    Create(Note),
    Update(String, Note),
    Delete(String),
}

/// What ends a round.
struct Killer {
    acknowledged: AtomicUsize,
    after: usize,
    now: Notify,
}

impl Killer {
    fn count(&self) {
        if self.acknowledged.fetch_add(1, Ordering::SeqCst) + 1 == self.after {
            self.now.notify_one();
        }
    }
}

impl Writer {
    /// Writes without a pause until the server is gone.
    async fn write(mut self, client: Client, place: Value, killer: Arc<Killer>) -> Self {
        loop {
            self.number += 1;
            let note = (format!("{} {}", self.name, self.number), format!("draft {}", self.number));
            let known = self.notes.keys().nth(self.number * 7 % self.notes.len().max(1)).cloned();
            let asked = match known {
                Some(id) if self.notes.len() >= MAX_NOTES => Asked::Delete(id),
                Some(id) if !self.number.is_multiple_of(3) => Asked::Update(id, note),
                _ => Asked::Create(note),
            };
            self.asked = Some(asked.clone());
            let mut body = place.clone();
            let (path, body) = match &asked {
                Asked::Create((title, draft)) => {
                    (body["title"], body["draft"]) = (json!(title), json!(draft));
                    (CREATE, json!({"note": body}))
                }
                Asked::Update(id, (title, draft)) => {
                    (UPDATE, json!({"note": {"id": id, "title": title, "draft": draft}, "updateMask": "title,draft"}))
                }
                Asked::Delete(id) => (DELETE, json!({"id": id})),
            };
            let Ok(answer) = client.try_call(path, body).await else { return self };
            let body = answer.ok();
            match asked {
                Asked::Create(note) => self.notes.insert(body["id"].as_str().unwrap().to_owned(), note),
                Asked::Update(id, note) => self.notes.insert(id, note),
                Asked::Delete(id) => self.notes.remove(&id),
            };
            self.asked = None;
            killer.count();
        }
    }

    /// Holds what is there against what was acknowledged, and learns what became of what was not answered.
    fn check(&mut self, mut found: BTreeMap<String, Note>) {
        match self.asked.take() {
            None => {}
            Some(Asked::Create(note)) => {
                let new: Vec<String> = found.keys().filter(|id| !self.notes.contains_key(*id)).cloned().collect();
                assert!(new.len() <= 1, "{} has notes that nobody asked for: {new:?}", self.name);
                if let Some(id) = new.into_iter().next() {
                    assert_eq!(found[&id], note, "half a note");
                    self.notes.insert(id, note);
                }
            }
            Some(Asked::Update(id, note)) if found.get(&id) == Some(&note) => {
                self.notes.insert(id, note);
            }
            Some(Asked::Delete(id)) if !found.contains_key(&id) => {
                self.notes.remove(&id);
            }
            Some(Asked::Update(..) | Asked::Delete(_)) => {}
        }
        for (id, note) in &self.notes {
            assert_eq!(found.remove(id).as_ref(), Some(note), "{id} of {} was acknowledged so", self.name);
        }
        assert!(found.is_empty(), "{} has what he deleted, or never wrote: {found:?}", self.name);
    }
}

/// The notes of an org that somebody sees, by id, but for those that others published.
async fn notes_of(client: &Client, org: &str, name: &str) -> BTreeMap<String, Note> {
    let body = json!({"orgId": org, "pageSize": 1000, "filter": format!("title.startsWith({name:?})")});
    let page = client.call(LIST, body).await.ok();
    let notes = page["notes"].as_array().cloned().unwrap_or_default();
    let text = |note: &Value, field: &str| note[field].as_str().unwrap_or_default().to_owned();
    notes.iter().map(|note| (text(note, "id"), (text(note, "title"), text(note, "draft")))).collect()
}

async fn log_in(addr: SocketAddr, email: &str) -> Client {
    let anonymous = Client::anonymous(addr);
    let pair = anonymous.call(LOGIN, json!({"email": email, "password": PASSWORD})).await.ok();
    anonymous.with_token(pair["accessToken"].as_str().unwrap())
}

/// What is kept over all rounds.
struct Run {
    org: String,
    place: Value,
    email: String,
    writers: Vec<Writer>,
    /// Clients of the last round that were told that they are logged out.
    logged_out: Vec<Client>,
    acknowledged: usize,
}

impl Run {
    /// Starts a server, holds what it has against what was acknowledged, lets everybody write, and kills it.
    async fn round(&mut self, data_dir: &Path, kill_after: usize) {
        let (mut child, addr) = start(data_dir);
        for client in std::mem::take(&mut self.logged_out) {
            client.at(addr).call(WHO_AM_I, json!({})).await.refused("unauthenticated");
        }
        let client = log_in(addr, &self.email).await;
        for writer in &mut self.writers {
            writer.check(notes_of(&client, &self.org, &format!("{} ", writer.name)).await);
        }
        let leaving = log_in(addr, &self.email).await;
        let killer = Arc::new(Killer { acknowledged: AtomicUsize::new(0), after: kill_after, now: Notify::new() });
        let mut writing = JoinSet::new();
        for writer in std::mem::take(&mut self.writers) {
            writing.spawn(writer.write(client.clone(), self.place.clone(), killer.clone()));
        }
        leaving.call(LOGOUT, json!({})).await.ok();
        self.logged_out.push(leaving);
        killer.now.notified().await;
        child.kill().unwrap();
        assert!(!child.wait().unwrap().success(), "it was killed");
        self.writers = writing.join_all().await;
        self.acknowledged += killer.acknowledged.load(Ordering::SeqCst);
    }
}

async fn doctor(data_dir: &Path) {
    let unsealer = Unsealer::DangerKeyFile(data_dir.join("danger-master.key"));
    let orders = Orders { repair: false, give_up_log: false, named: 10 };
    let diagnosis = sys_server::doctor::examine(data_dir, unsealer, orders, &mut |_| ()).await.unwrap();
    assert!(diagnosis.is_clean(), "{diagnosis:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_a_killed_server_acknowledged_is_lost() {
    let rounds = env::var(ROUNDS_VARIABLE).map_or(ROUNDS, |rounds| rounds.parse().expect("a number of rounds"));
    let (server, world) = World::start().await;
    let data_dir = server.data_dir().to_owned();
    let _kept = server.stop().await;
    let north = &world.north;
    let writer = |number| Writer { name: format!("writer{number}"), ..Writer::default() };
    let mut run = Run {
        org: north.id.clone(),
        place: json!({"orgId": north.id, "projectId": north.projects[0]}),
        email: north.project_user.email.clone(),
        writers: (0..WRITERS).map(writer).collect(),
        logged_out: Vec::new(),
        acknowledged: 0,
    };
    for round in 0..rounds {
        // Now and then the kill comes with the first answers.
        run.round(&data_dir, 1 + round * 37 % 90).await;
        if round % DOCTOR_EVERY == 0 || round + 1 == rounds {
            doctor(&data_dir).await;
        }
        if (round + 1) % 10 == 0 {
            println!("{} kills, {} answers", round + 1, run.acknowledged);
        }
    }
    let known: usize = run.writers.iter().map(|writer| writer.notes.len()).sum();
    println!("{rounds} kills, {} acknowledged writes, {known} notes at the end", run.acknowledged);
    run.round(&data_dir, 1).await;
}
