//! More than a server can do: what it can do is found out by a load that waits for its answers, then three times as much is
//! offered by one that does not, and counted is what is answered in time. A health check asks all the while.
//!
//! The server has one core and the load another. Run without arguments.

use anyhow::Context;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use std::{
    io::{BufRead, BufReader, Write as _},
    net::SocketAddr,
    path::PathBuf,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use sys_bench::{
    Spread,
    client::Client,
    machine,
    process::{SERVER_CORE, Stopped, move_to_load_core, pinned},
};
use tokio::{net::TcpStream, task::JoinSet, time::timeout_at};

/// Rounds, each with both loads; the first one warms up.
const ROUNDS: usize = 5;
/// How long a load lasts.
const LASTS: Duration = Duration::from_secs(6);
/// Connections of the load.
const CONNECTIONS: usize = 64;
/// Calls that the load which waits has under way on each of them.
const STREAMS: usize = 4;
/// How much more than it can do is offered.
const TIMES: u32 = 3;
/// How long a caller waits; then he has given up, and says so in his request.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often new calls are made by the load that does not wait.
const TICK: Duration = Duration::from_millis(1);
/// How often health is asked for.
const HEALTH_EVERY: Duration = Duration::from_millis(50);
/// Notes on the page that is read.
const NOTES: usize = 20;
const HEALTH: &str = "grpc.health.v1.Health/Check";
const PASSWORD: &str = "a passphrase of nobody";
const ORGANISATION: &str = include_str!("../../../tests/peers/organisation.yaml");

type Sender = hyper::client::conn::http2::SendRequest<Full<Bytes>>;

/// What the load asks for.
#[derive(Clone)]
struct Ask {
    path: &'static str,
    token: String,
    body: Bytes,
}

/// What became of the calls of a load.
#[derive(Default)]
struct Came {
    offered: AtomicU64,
    answered: AtomicU64,
    turned_away: AtomicU64,
    given_up: AtomicU64,
    milliseconds: std::sync::Mutex<Vec<f64>>,
}

/// A load, in numbers a second.
#[derive(Clone, Copy)]
struct Measured {
    offered: f64,
    answered: f64,
    turned_away: f64,
    given_up: f64,
    median_ms: f64,
    slow_ms: f64,
    health: Health,
}

/// How health was told.
#[derive(Clone, Copy, Default)]
struct Health {
    asked: usize,
    told: usize,
    slowest_ms: f64,
}

impl Came {
    fn measured(&self, took: Duration, health: Health) -> Measured {
        let rate = |count: &AtomicU64| count.load(Ordering::Relaxed) as f64 / took.as_secs_f64();
        let mut times = std::mem::take(&mut *self.milliseconds.lock().expect("no panic"));
        times.sort_by(f64::total_cmp);
        let at = |share: f64| times.get(((times.len() as f64 - 1.0) * share) as usize).copied().unwrap_or(f64::NAN);
        Measured {
            offered: rate(&self.offered),
            answered: rate(&self.answered),
            turned_away: rate(&self.turned_away),
            given_up: rate(&self.given_up),
            median_ms: at(0.5),
            slow_ms: at(0.99),
            health,
        }
    }
}

async fn connect(addr: SocketAddr) -> Sender {
    let stream = TcpStream::connect(addr).await.expect("the server listens");
    stream.set_nodelay(true).expect("a socket");
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
    tokio::spawn(connection);
    sender
}

/// One call, from the moment that its caller begins to wait.
async fn call(mut sender: Sender, addr: SocketAddr, ask: &Ask, came: &Came) {
    let begun = Instant::now();
    came.offered.fetch_add(1, Ordering::Relaxed);
    let request = Request::post(format!("http://{addr}/{}", ask.path))
        .header("content-type", "application/proto")
        .header("connect-timeout-ms", PATIENCE.as_millis().to_string())
        .header("authorization", format!("Bearer {}", ask.token))
        .body(Full::new(ask.body.clone()))
        .expect("a request");
    let answered = async {
        let response = sender.send_request(request).await.ok()?;
        let status = response.status().as_u16();
        response.into_body().collect().await.ok().map(|_| status)
    };
    match timeout_at((begun + PATIENCE).into(), answered).await {
        Ok(Some(200)) => {
            came.answered.fetch_add(1, Ordering::Relaxed);
            came.milliseconds.lock().expect("no panic").push(begun.elapsed().as_secs_f64() * 1e3);
        }
        Ok(Some(503 | 429)) => drop(came.turned_away.fetch_add(1, Ordering::Relaxed)),
        // A connection that breaks is no better than no answer.
        Ok(Some(504) | None) | Err(_) => drop(came.given_up.fetch_add(1, Ordering::Relaxed)),
        Ok(Some(other)) => panic!("{}: {other}", ask.path),
    }
}

/// As many calls as the server answers, by callers who wait for one answer before they ask again.
async fn waiting(addr: SocketAddr, ask: &Ask) -> Measured {
    let came = Arc::new(Came::default());
    let (over, asking) = watch_health(addr);
    let mut tasks = JoinSet::new();
    let begun = Instant::now();
    for _ in 0..CONNECTIONS {
        let sender = connect(addr).await;
        for _ in 0..STREAMS {
            let (sender, ask, came) = (sender.clone(), ask.clone(), came.clone());
            tasks.spawn(async move {
                while begun.elapsed() < LASTS {
                    call(sender.clone(), addr, &ask, &came).await;
                }
            });
        }
    }
    while tasks.join_next().await.is_some() {}
    let took = begun.elapsed();
    over.store(true, Ordering::Relaxed);
    came.measured(took, asking.await.expect("no panic"))
}

/// So many calls a second, whatever becomes of them.
async fn pressing(addr: SocketAddr, ask: &Ask, rate: f64) -> Measured {
    let came = Arc::new(Came::default());
    let (over, asking) = watch_health(addr);
    let mut senders = Vec::new();
    for _ in 0..CONNECTIONS {
        senders.push(connect(addr).await);
    }
    let mut tasks = JoinSet::new();
    let mut tick = tokio::time::interval(TICK);
    let (begun, mut made) = (Instant::now(), 0);
    while begun.elapsed() < LASTS {
        tick.tick().await;
        let due = (begun.elapsed().as_secs_f64() * rate) as usize;
        for number in made..due {
            let (sender, ask, came) = (senders[number % CONNECTIONS].clone(), ask.clone(), came.clone());
            tasks.spawn(async move { call(sender, addr, &ask, &came).await });
        }
        made = due;
        while tasks.try_join_next().is_some() {}
    }
    let took = begun.elapsed();
    // What is answered after the end is answered in time or not, as before; it is a part of what was offered.
    while tasks.join_next().await.is_some() {}
    over.store(true, Ordering::Relaxed);
    came.measured(took, asking.await.expect("no panic"))
}

/// Asks for health on a connection of its own until it is told that it is over.
fn watch_health(addr: SocketAddr) -> (Arc<AtomicBool>, tokio::task::JoinHandle<Health>) {
    let over = Arc::new(AtomicBool::new(false));
    let is_over = over.clone();
    let asking = tokio::spawn(async move {
        let mut health = Health::default();
        let mut tick = tokio::time::interval(HEALTH_EVERY);
        while !is_over.load(Ordering::Relaxed) {
            tick.tick().await;
            health.asked += 1;
            let begun = Instant::now();
            // A connection each, as a watcher that has just come makes.
            let told = async { Client::connect(addr).await.post(HEALTH, "application/json", "", "{}".into()).await.0 };
            if timeout_at((begun + PATIENCE).into(), told).await == Ok(200) {
                health.told += 1;
            }
            health.slowest_ms = health.slowest_ms.max(begun.elapsed().as_secs_f64() * 1e3);
        }
        health
    });
    (over, asking)
}

async fn serve(dir: PathBuf) -> anyhow::Result<()> {
    let file = dir.with_extension("yaml");
    std::fs::write(&file, ORGANISATION)?;
    let server = sys_server::Server::start(sys_bench::server_config(&dir), Vec::new()).await?;
    sys_server::bootstrap::import(&server, &file).await?;
    println!("{}", server.addr());
    std::io::stdout().flush()?;
    server.serve(std::future::pending()).await?;
    Ok(())
}

/// Logs in, writes some notes, and says what the loads ask for: to read a page of them, and to write one more.
async fn prepare(addr: SocketAddr) -> (Ask, Ask) {
    let mut client = Client::connect(addr).await;
    let login = json!({"email": "writer@example.org", "password": PASSWORD});
    let pair = client.json("sys.account.v1.AuthService/Login", "", login).await;
    let token = pair["accessToken"].as_str().expect("a token").to_owned();
    let who = client.json("sys.account.v1.AuthService/WhoAmI", &token, json!({})).await;
    let (org, project) = (&who["bindings"][0]["orgId"], &who["bindings"][0]["projectId"]);
    for number in 0..NOTES {
        let note = json!({"orgId": org, "projectId": project, "title": format!("Note {number}"), "published": true});
        client.json("notes.v1.NoteService/CreateNote", &token, json!({"note": note})).await;
    }
    let (org, project) = (org.as_str().expect("an org"), project.as_str().expect("a project"));
    // ListNotesRequest { org_id, project_id, page_size }
    let mut list = [text(1, org), text(2, project)].concat();
    list.extend([5 << 3, u8::try_from(NOTES).expect("few")]);
    // CreateNoteRequest { note: { org_id, project_id, title } }
    let note = [text(2, org), text(3, project), text(5, "Written under pressure")].concat();
    let create = [vec![1 << 3 | 2, u8::try_from(note.len()).expect("short")], note].concat();
    let ask = |path, body: Vec<u8>| Ask { path, token: token.clone(), body: body.into() };
    (ask("notes.v1.NoteService/ListNotes", list), ask("notes.v1.NoteService/CreateNote", create))
}

/// A field of text.
fn text(number: u8, text: &str) -> Vec<u8> {
    let mut field = vec![number << 3 | 2, u8::try_from(text.len()).expect("short")];
    field.extend_from_slice(text.as_bytes());
    field
}

async fn measure() -> anyhow::Result<()> {
    let dir = tempfile::tempdir_in(".")?;
    let data = dir.path().join("data");
    let child = pinned(SERVER_CORE).arg(std::env::current_exe()?).arg(&data).stdout(Stdio::piped()).spawn()?;
    let mut child = Stopped(child);
    let mut line = String::new();
    BufReader::new(child.0.stdout.take().context("piped")?).read_line(&mut line)?;
    let addr: SocketAddr = line.trim().parse()?;
    let (list, create) = prepare(addr).await;
    println!(
        "{CONNECTIONS} connections, a caller gives up after {} s; median (min–max) of {ROUNDS} rounds of {} s, {}.\n",
        PATIENCE.as_secs(),
        LASTS.as_secs(),
        machine()
    );
    println!(
        "| load | offered/s | answered in time/s | of what it can do | turned away/s | given up/s | median | 99 % within | \
         health told | slowest |\n|---|---|---|---|---|---|---|---|---|---|"
    );
    for (what, ask) in [(format!("a page of {NOTES} notes"), &list), ("a new note".to_owned(), &create)] {
        let (mut can, mut pressed) = (Vec::new(), Vec::new());
        for round in 0..=ROUNDS {
            let capacity = waiting(addr, ask).await;
            let overload = pressing(addr, ask, f64::from(TIMES) * capacity.answered).await;
            eprintln!("{what}, round {round}: {:.0}/s, then {:.0}/s", capacity.answered, overload.answered);
            if round > 0 {
                can.push(capacity);
                pressed.push((overload, overload.answered / capacity.answered));
            }
        }
        let ratio = Spread::of(pressed.iter().map(|(_, ratio)| 100.0 * ratio).collect());
        row(&format!("{what}, callers who wait"), &can, "100 %");
        let pressed: Vec<Measured> = pressed.into_iter().map(|(measured, _)| measured).collect();
        row(&format!("{what}, {TIMES} times as many as it can answer"), &pressed, &format!("{} %", ratio.show(0)));
    }
    println!("\nGoal: 90 % of what it can do, and health always told.");
    Ok(())
}

fn row(what: &str, rounds: &[Measured], share: &str) {
    let show = |of: fn(&Measured) -> f64| Spread::of(rounds.iter().map(of).collect()).show(0);
    let sum = |of: fn(&Measured) -> usize| rounds.iter().map(of).sum::<usize>();
    let slowest = rounds.iter().map(|measured| measured.health.slowest_ms).fold(0.0, f64::max);
    println!(
        "| {what} | {} | {} | {share} | {} | {} | {} ms | {} ms | {} of {} | {slowest:.0} ms |",
        show(|measured| measured.offered),
        show(|measured| measured.answered),
        show(|measured| measured.turned_away),
        show(|measured| measured.given_up),
        show(|measured| measured.median_ms),
        show(|measured| measured.slow_ms),
        sum(|measured| measured.health.told),
        sum(|measured| measured.health.asked),
    );
}

fn main() -> anyhow::Result<()> {
    let dir = std::env::args_os().nth(1);
    if dir.is_none() {
        // Before there are threads that would have to be moved, too.
        move_to_load_core()?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match dir {
        Some(dir) => runtime.block_on(serve(dir.into())),
        None => runtime.block_on(measure()),
    }
}
