//! The server with sealed records against what a good team would build instead: PostgreSQL 15 with row level security behind
//! a thin server. The same world, the same calls from the same client, in turn.
//!
//! What is compared is the processor time of all processes that serve: on the peer's side the thin server and the
//! database. Run without arguments; it starts both sides as processes of their own, on one core, and loads from the other.

mod messages;
mod peer;
mod people;
mod postgres;
mod work;

use anyhow::{Context, Result};
use std::{
    io::{BufRead, BufReader, Write as _},
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};
use sys_bench::{
    Spread,
    client::{CONNECTIONS, STREAMS},
    cpu_of, cpu_of_family, machine,
    process::{SERVER_CORE, Stopped, move_to_load_core, pinned},
    sync_ms,
};
use work::{NOTES, Side, Work};

/// How often each kind of call is measured, unless the environment variable of this name says otherwise.
const ROUNDS: (&str, usize) = ("ROWS_ROUNDS", 5);
/// A round's calls one after the other, as a part of those under load.
const ALONE: usize = 2;

/// A server that is measured.
struct Running {
    side: Side,
    server: Stopped,
    /// The parent of the database's processes.
    database: Option<u32>,
}

/// Measurements of one kind of call on one side, one of each round.
#[derive(Default)]
struct Measured {
    /// Processor time of all processes in us a call, and the database's part of it.
    cpu_us: Vec<f64>,
    database_us: Vec<f64>,
    /// Median latencies in ms, under load and with one call at a time.
    loaded_ms: Vec<f64>,
    alone_ms: Vec<f64>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => {
            move_to_load_core()?;
            measure().await
        }
        ["sys", dir] => serve(Path::new(dir)).await,
        ["peer", socket_dir] => peer::serve(Path::new(socket_dir), postgres::DATABASE).await,
        _ => anyhow::bail!("it takes no arguments"),
    }
}

/// Our server, with everybody in it.
async fn serve(dir: &Path) -> Result<()> {
    // Beside the data directory, which the server makes.
    let file = dir.with_extension("yaml");
    std::fs::write(&file, people::organisation())?;
    let server = sys_server::Server::start(sys_bench::server_config(dir), Vec::new()).await?;
    sys_server::bootstrap::import(&server, &file).await?;
    say(&server.addr().to_string())?;
    server.serve(std::future::pending()).await?;
    Ok(())
}

/// Tells the process that started this one where it listens.
fn say(addr: &str) -> Result<()> {
    println!("{addr}");
    Ok(std::io::stdout().flush()?)
}

/// This program once more as a server, on the servers' core.
async fn start(role: &str, dir: &Path, database: Option<u32>) -> Result<Running> {
    let mut command: Command = pinned(SERVER_CORE);
    let child = command.arg(std::env::current_exe()?).arg(role).arg(dir).stdout(Stdio::piped()).spawn()?;
    let mut server = Stopped(child);
    let mut line = String::new();
    BufReader::new(server.0.stdout.take().context("piped")?).read_line(&mut line)?;
    let addr: SocketAddr = line.trim().parse().with_context(|| format!("`{role}` does not say where it listens"))?;
    let side = Side::prepare(addr).await;
    side.prove().await;
    eprintln!("{role}: ready");
    Ok(Running { side, server, database })
}

impl Running {
    /// Processor time so far: of all processes, and the database's.
    fn cpu(&self) -> (Duration, Duration) {
        let database = self.database.map(cpu_of_family).unwrap_or_default();
        (cpu_of(self.server.0.id()) + database, database)
    }

    async fn measure(&self, work: Work, each: usize, measured: &mut Measured) {
        let calls = (CONNECTIONS * STREAMS * each) as f64;
        let (all, database) = self.cpu();
        let loaded = self.side.load(work, CONNECTIONS, STREAMS, each).await;
        let (all_after, database_after) = self.cpu();
        measured.cpu_us.push((all_after - all).as_secs_f64() * 1e6 / calls);
        measured.database_us.push((database_after - database).as_secs_f64() * 1e6 / calls);
        measured.loaded_ms.push(Spread::of(loaded).median);
        // At least a few, and an even number.
        let alone = self.side.load(work, 1, 1, (each / ALONE).max(10) / 2 * 2).await;
        measured.alone_ms.push(Spread::of(alone).median);
    }
}

async fn measure() -> Result<()> {
    let rounds = std::env::var(ROUNDS.0).ok().map_or(Ok(ROUNDS.1), |rounds| rounds.parse())?;
    // The database's is a directory of its own, since it may belong to another user.
    let (ours, theirs) = (tempfile::tempdir_in(".")?, tempfile::tempdir_in(".")?);
    let sync = sync_ms(ours.path());
    let database = postgres::Postgres::start(theirs.path()).await?;
    let mut peer = start("peer", &database.dir, Some(database.pid())).await?;
    database.analyze().await?;
    let mut sys = start("sys", &ours.path().join("data"), None).await?;
    let mut measured = Work::ALL.map(|_| (Measured::default(), Measured::default()));
    let begun = Instant::now();
    for round in 0..=rounds {
        peer.side.log_in().await;
        sys.side.log_in().await;
        for ((work, _, each, _), (of_peer, of_sys)) in Work::ALL.iter().zip(&mut measured) {
            // The first round warms up.
            let mut unused = (Measured::default(), Measured::default());
            let (of_peer, of_sys) = if round == 0 { (&mut unused.0, &mut unused.1) } else { (of_peer, of_sys) };
            peer.measure(*work, *each, of_peer).await;
            sys.measure(*work, *each, of_sys).await;
        }
        eprintln!("round {round} of {rounds}: {:.0} s", begun.elapsed().as_secs_f64());
    }
    report(rounds, sync, measured);
    Ok(())
}

fn report(rounds: usize, sync: Spread, measured: [(Measured, Measured); 6]) {
    println!(
        "Calls over Connect on HTTP/2, {CONNECTIONS} connections with {STREAMS} streams, {NOTES} notes in each of {} projects to \
         begin with; median (min–max) of {rounds} rounds, {}, a sync takes {} ms.\n",
        people::PROJECTS,
        machine(),
        sync.show(2)
    );
    let (mut throughput, mut latency) = (String::new(), String::new());
    for ((_, name, each, goal), (peer, sys)) in Work::ALL.into_iter().zip(measured) {
        let per_second = |us: Vec<f64>| Spread::of(us.into_iter().map(|us| 1e6 / us).collect());
        let (cpu, database) = (Spread::of(peer.cpu_us.clone()).median, Spread::of(peer.database_us).median);
        let (theirs, ours) = (per_second(peer.cpu_us), per_second(sys.cpu_us));
        throughput += &format!(
            "| {name} | {} | {:.0} % | {} | {:.2} × | {goal} × |\n",
            theirs.show(0),
            database / cpu * 100.0,
            ours.show(0),
            ours.median / theirs.median
        );
        let [alone, sys_alone, loaded, sys_loaded] =
            [peer.alone_ms, sys.alone_ms, peer.loaded_ms, sys.loaded_ms].map(|ms| Spread::of(ms).show(2));
        let calls = CONNECTIONS * STREAMS * each;
        latency += &format!("| {name} | {calls} | {alone} | {sys_alone} | {loaded} | {sys_loaded} |\n");
    }
    println!(
        "| calls a CPU second | PostgreSQL stack | of it the database | sys | ratio | goal |\n|---|---|---|---|---|---|"
    );
    println!("{throughput}");
    println!(
        "| latency, ms | calls a round | PostgreSQL stack, one at a time | sys, one at a time | PostgreSQL stack, {0} at once | \
         sys, {0} at once |\n|---|---|---|---|---|---|",
        CONNECTIONS * STREAMS
    );
    print!("{latency}");
}
