//! The same calls to both servers, one at a time and in turn; then the raw engine's own reads of the same rows.

use crate::{
    Filled, Running,
    world::{NOTES_PER_PROJECT, World, mixed, word},
};
use anyhow::Context;
use serde_json::{Value, json};
use std::{
    fs,
    hint::black_box,
    path::Path,
    time::{Duration, Instant},
};
use sys_bench::client::Client;
use sys_store::engine::{
    Engine, KeyRange, Order, Txn,
    redb::{RedbEngine, RedbOptions},
};

const PASSWORD: &str = "a passphrase of nobody";
/// Orgs whose people call, from the largest to the smallest.
const ORGS: u64 = 12;
const ROUNDS: u64 = 10;
/// Calls of a round.
const CALLS: u64 = 40;
/// Reads of the raw engine.
const RAW_READS: u64 = 4_000;

/// People of a world who have logged in.
struct People {
    world: World,
    client: Client,
    superadmin: String,
    /// For each of some orgs: its number, its admin, and an account that writes in one of its projects.
    orgs: Vec<(u64, String, String)>,
}

/// A call of whom, to what, with what; by a number.
type Ask = fn(&People, u64) -> (&'static str, String, Value);

const NOTES: &str = "notes.v1.NoteService/ListNotes";
const ASKED: [(&str, Ask); 10] = [
    ("a note, by its id", |people, n| {
        let (org, _, writer) = people.some(n);
        let project = people.world.project_of(*org, 1) * NOTES_PER_PROJECT;
        let in_project = (people.world.notes_of(*org) - project).min(NOTES_PER_PROJECT);
        let note = people.world.note(*org, project + mixed(9, n, 0) % in_project);
        ("notes.v1.NoteService/GetNote", writer.clone(), json!({"id": note.text("note")}))
    }),
    ("a page of 50 notes of a project, by a writer of it", |people, n| {
        let (org, _, writer) = people.some(n);
        (NOTES, writer.clone(), people.in_project(*org, json!({})))
    }),
    ("a page of 50 notes of an org, by its admin", |people, n| {
        let (org, admin, _) = people.some(n);
        (NOTES, admin.clone(), json!({"orgId": people.world.org(*org).to_string()}))
    }),
    ("notes of a project by the beginning of the title", |people, n| {
        let (org, _, writer) = people.some(n);
        let filter = format!("title.startsWith(\"{}\")", &word(mixed(10, n, 0))[..3]);
        (NOTES, writer.clone(), people.in_project(*org, json!({"filter": filter})))
    }),
    ("notes of an org by the beginning of the title", |people, n| {
        let (org, admin, _) = people.some(n);
        let filter = format!("title.startsWith(\"{}\")", &word(mixed(10, n, 0))[..3]);
        (NOTES, admin.clone(), json!({"orgId": people.world.org(*org).to_string(), "filter": filter}))
    }),
    ("a count of the notes of a project", |people, n| {
        let (org, _, writer) = people.some(n);
        ("notes.v1.NoteService/CountNotes", writer.clone(), people.in_project(*org, json!({})))
    }),
    ("20 accounts by the beginning of a word of the name, of all", |people, n| {
        people.search(word(mixed(11, n, 0))[..4].to_owned())
    }),
    ("20 accounts by the beginnings of both words of the name, of all", |people, n| {
        let (org, account) = people.somebody(n);
        let name = people.world.name(org, account);
        let (first, second) = name.split_once(' ').unwrap_or_default();
        people.search(format!("{} {}", &second[..4], &first[..4]))
    }),
    ("20 accounts by the beginning of a part of the address, of all", |people, n| {
        // Of the number of an org: such as the 47 of `word.4711.8@example.org`. No name has one.
        people.search((10 + mixed(16, n, 0) % 90).to_string())
    }),
    ("an account by its address, of all", |people, n| {
        let (org, account) = people.somebody(n);
        people.search(people.world.email(org, account))
    }),
];

impl People {
    fn some(&self, n: u64) -> &(u64, String, String) {
        &self.orgs[n as usize % self.orgs.len()]
    }

    /// Any account of the world: its org and its number there.
    fn somebody(&self, n: u64) -> (u64, u64) {
        let org = mixed(12, n, 0) % self.world.size.orgs;
        (org, mixed(13, n, 0) % self.world.accounts_of(org))
    }

    /// What a superadmin looks for.
    fn search(&self, query: String) -> (&'static str, String, Value) {
        let request = json!({"query": query, "pageSize": 20});
        ("sys.account.v1.AccountService/SearchAccounts", self.superadmin.clone(), request)
    }

    fn in_project(&self, org: u64, mut request: Value) -> Value {
        request["orgId"] = self.world.org(org).to_string().into();
        request["projectId"] = self.world.project(org, self.world.project_of(org, 1)).to_string().into();
        request
    }

    async fn new(store: &Filled, server: &Running) -> anyhow::Result<Self> {
        let world = World::new(store.size);
        let mut client = Client::connect(server.addr).await;
        let email = "root@example.org";
        let setup = json!({"token": server.setup, "email": email, "password": PASSWORD});
        let superadmin = match server.setup.as_str() {
            "-" => login(&mut client, email).await,
            _ => client.json("sys.account.v1.AuthService/Setup", "", setup).await,
        };
        let superadmin = access_token(&superadmin)?;
        // Of orgs that fill at least a project, in equal steps of their rank.
        let full = (0..store.size.orgs).take_while(|org| world.notes_of(*org) >= NOTES_PER_PROJECT).count() as u64;
        anyhow::ensure!(full >= 1, "no org has {NOTES_PER_PROJECT} notes: ask for more records");
        let mut orgs = Vec::new();
        for n in 0..ORGS.min(full) {
            let org = n * full / ORGS.min(full);
            let mut tokens = Vec::new();
            for account in [0, 1] {
                let email = world.email(org, account);
                client.json("sys.account.v1.AuthService/ForgotPassword", "", json!({"email": email})).await;
                let token = mailed(&store.dir.join("outbox"), &email).await?;
                let reset = json!({"token": token, "newPassword": PASSWORD});
                client.json("sys.account.v1.AuthService/ResetPassword", "", reset).await;
                tokens.push(access_token(&login(&mut client, &email).await)?);
            }
            let [admin, writer] = tokens.try_into().ok().context("two")?;
            orgs.push((org, admin, writer));
        }
        Ok(Self { world, client, superadmin, orgs })
    }
}

async fn login(client: &mut Client, email: &str) -> Value {
    client.json("sys.account.v1.AuthService/Login", "", json!({"email": email, "password": PASSWORD})).await
}

fn access_token(pair: &Value) -> anyhow::Result<String> {
    Ok(pair["accessToken"].as_str().context("no token")?.to_owned())
}

/// The token in the mail to this address. The file goes, so that the next look is short.
async fn mailed(outbox: &Path, email: &str) -> anyhow::Result<String> {
    let deadline = Instant::now() + Duration::from_secs(30);
    while Instant::now() < deadline {
        for entry in fs::read_dir(outbox).into_iter().flatten().flatten() {
            let path = entry.path();
            let Ok(text) = fs::read_to_string(&path) else { continue };
            let to_him = text.lines().any(|line| line.strip_prefix("To:").is_some_and(|to| to.trim() == email));
            if to_him && path.extension().is_some_and(|extension| extension == "eml") {
                let text = text.replace("=\r\n", "").replace("=\n", "");
                let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_'));
                let token = words.filter(|word| word.len() == 43).last().context("no token in the mail")?;
                fs::remove_file(path)?;
                return Ok(token.to_owned());
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    anyhow::bail!("no mail came")
}

/// Latencies of all calls on both servers, as a table.
pub async fn measure(servers: [(&Filled, &Running); 2]) -> anyhow::Result<String> {
    let mut people = Vec::new();
    for (store, server) in servers {
        people.push(People::new(store, server).await?);
    }
    let mut table = "| call, one at a time | 1 %: median | 99 % | whole: median | 99 % | ratio of the medians |\n\
                     |---|---|---|---|---|---|\n"
        .to_owned();
    for (what, ask) in ASKED {
        let mut took = [Vec::new(), Vec::new()];
        for round in 0..=ROUNDS {
            for (people, took) in people.iter_mut().zip(&mut took) {
                for n in 0..CALLS {
                    let (path, token, request) = ask(people, round * CALLS + n);
                    let began = Instant::now();
                    black_box(people.client.json(path, &token, request).await);
                    // The first round warms up.
                    if round > 0 {
                        took.push(began.elapsed().as_secs_f64() * 1e3);
                    }
                }
            }
        }
        let [small, whole] = took.map(ends);
        let ratio = whole.0 / small.0;
        table += &format!(
            "| {what} | {:.2} ms | {:.2} ms | {:.2} ms | {:.2} ms | {ratio:.2} × |\n",
            small.0, small.1, whole.0, whole.1
        );
    }
    Ok(table)
}

/// Median and 99th of a hundred.
fn ends(mut took: Vec<f64>) -> (f64, f64) {
    took.sort_by(f64::total_cmp);
    (took[took.len() / 2], took[took.len() * 99 / 100])
}

/// What the engine alone takes for reads of notes all over the store.
pub async fn raw(stores: [&Filled; 2]) -> anyhow::Result<String> {
    let mut measured = Vec::new();
    for store in stores {
        let world = World::new(store.size);
        let options = RedbOptions { cache_bytes: crate::CACHE_BYTES, ..RedbOptions::default() };
        let engine = RedbEngine::open(&store.dir.join("store.redb"), options)?;
        // An org's first row is its first note: what stands before the id is the same for all.
        let first = engine.begin().await?.range(KeyRange::prefix(world.org(0).tag().as_bytes()), Order::Asc, 1).await?;
        let head = first.rows.first().and_then(|(key, _)| key.get(6..11)).context("no note")?.to_vec();
        let (mut gets, mut pages) = (Vec::new(), Vec::new());
        for n in 0..RAW_READS {
            let org = mixed(14, n, 0) % world.size.orgs;
            let id = world.note(org, mixed(15, n, 0) % world.notes_of(org));
            let key = [id.org.as_bytes(), head.as_slice(), id.uuid.as_bytes()].concat();
            let mut txn = engine.begin().await?;
            let began = Instant::now();
            anyhow::ensure!(black_box(txn.get(&key).await?).is_some(), "a note is not where it belongs");
            gets.push(began.elapsed().as_secs_f64() * 1e6);
            let range = KeyRange { start: key.into(), end: KeyRange::all().end };
            let began = Instant::now();
            black_box(txn.range(range, Order::Asc, 50).await?);
            pages.push(began.elapsed().as_secs_f64() * 1e6);
        }
        engine.close();
        measured.push((ends(gets).0, ends(pages).0));
    }
    let [small, whole] = measured.try_into().ok().context("two")?;
    let row =
        |what, small: f64, whole: f64| format!("| {what} | {small:.1} us | {whole:.1} us | {:.2} × |\n", whole / small);
    let head = "| the raw engine, median | 1 % | whole | ratio |\n|---|---|---|---|\n";
    Ok([
        head.to_owned(),
        row("a row anywhere, by its key", small.0, whole.0),
        row("50 rows behind it", small.1, whole.1),
    ]
    .concat())
}
