//! A store as large as one machine is meant to hold, against the same at 1 % of the size: how fast it is imported, how it
//! starts, what memory it takes, and whether its answers are as fast.
//!
//! `scale [--orgs N] [--accounts N] [--records N] [--dir DIR]`. Both stores are made in DIR, unless they are there from an
//! earlier run, and stay there; without `--dir` they stand in a scratch directory that goes at the end. Each server is a
//! process of its own, on one core; the calls come one at a time from the other.

mod wire;
mod world;

use anyhow::Context;
use std::{
    env, fs,
    io::{BufRead, BufReader, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::{Duration, Instant},
};
use sys_bench::{
    machine,
    process::{SERVER_CORE, Stopped, move_to_load_core, pinned},
    resident_bytes, size,
};
use sys_server::import::{Source, Target, import};
use world::{Size, World};

/// The cache of each server, as it is by default.
const CACHE_BYTES: usize = 256 << 20;
const STARTS: usize = 3;
/// What of the whole the small store is.
const SMALL: u64 = 100;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["import", dir, orgs, accounts, records] => {
            let size = Size { orgs: orgs.parse()?, accounts: accounts.parse()?, records: records.parse()? };
            fill(Path::new(dir), size).await
        }
        ["serve", dir] => serve(Path::new(dir)).await,
        options => measure(options).await,
    }
}

/// Imports a world, as `sys-server import` does, and prints for each kind: lines, records, rows, seconds.
async fn fill(dir: &Path, size: Size) -> anyhow::Result<()> {
    let config = sys_bench::server_config(dir);
    let mut began = Instant::now();
    for (what, lines) in World::new(size).sources() {
        let lines = Box::new(BufReader::with_capacity(1 << 20, lines));
        let target = Target {
            data_dir: config.data_dir.clone(),
            unsealer: sys_bench::server_config(dir).unsealer,
            modules: config.modules.clone(),
            cache_bytes: CACHE_BYTES,
            check_only: false,
        };
        let mut told = Instant::now();
        let mut progress = |progress: sys_server::import::Progress<'_>| {
            if told.elapsed() > Duration::from_secs(10) {
                told = Instant::now();
                let (stored, seconds) = (progress.stored, began.elapsed().as_secs_f64());
                let rate = stored.rows as f64 / seconds;
                eprintln!("{what}: {} records, {rate:.0} rows/s", stored.records);
            }
        };
        let source = Source { what: what.to_owned(), name: what.to_owned(), lines };
        for (what, stored) in import(target, vec![source], &mut progress).await? {
            let seconds = began.elapsed().as_secs_f64();
            println!("{what} {} {} {} {seconds:.3}", stored.lines, stored.records, stored.rows);
        }
        began = Instant::now();
    }
    let status = fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("VmHWM")?;
    println!("peak {}", peak.trim().trim_end_matches(" kB"));
    Ok(())
}

async fn serve(dir: &Path) -> anyhow::Result<()> {
    let mut config = sys_bench::server_config(dir);
    config.cache_bytes = CACHE_BYTES;
    let server = sys_server::Server::start(config, Vec::new()).await?;
    let setup = server.new_setup_token().await?;
    println!("{} {}", server.addr(), setup.as_ref().map_or("-", |token| token.as_str()));
    std::io::stdout().flush()?;
    server.serve(std::future::pending()).await?;
    Ok(())
}

/// A store that was filled.
struct Filled {
    label: &'static str,
    size: Size,
    dir: PathBuf,
    /// What the import printed; none if it was there already.
    said: String,
}

/// A server that runs on a store.
struct Running {
    process: Stopped,
    addr: SocketAddr,
    setup: String,
    started: Duration,
}

async fn measure(options: &[&str]) -> anyhow::Result<()> {
    let mut whole = Size { orgs: 100_000, accounts: 1_000_000, records: 10_000_000 };
    let mut kept = None;
    for option in options.chunks(2) {
        match option {
            ["--orgs", n] => whole.orgs = n.parse()?,
            ["--accounts", n] => whole.accounts = n.parse()?,
            ["--records", n] => whole.records = n.parse()?,
            ["--dir", dir] => kept = Some(PathBuf::from(dir)),
            _ => anyhow::bail!("scale [--orgs N] [--accounts N] [--records N] [--dir DIR]"),
        }
    }
    let scratch = tempfile::tempdir_in(".")?;
    let root = kept.unwrap_or_else(|| scratch.path().to_owned());
    fs::create_dir_all(&root)?;
    let part = |n: u64| (n / SMALL).max(1);
    let small = Size { orgs: part(whole.orgs), accounts: part(whole.accounts), records: part(whole.records) };
    let small = filled("1 %", small, &root)?;
    let whole = filled("whole", whole, &root)?;
    move_to_load_core()?;
    println!("{}\n", machine());
    imports(&[&small, &whole]);
    let (small_server, small_starts) = started(&small).await?;
    let (whole_server, whole_starts) = started(&whole).await?;
    let idle = [&small_server, &whole_server].map(|server| resident_bytes(server.process.0.id()));
    let answers = wire::measure([(&small, &small_server), (&whole, &whole_server)]).await?;
    let working = [&small_server, &whole_server].map(|server| resident_bytes(server.process.0.id()));
    drop((small_server, whole_server));
    let raw = wire::raw([&small, &whole]).await?;
    println!("| at | start | resident, idle | resident, after the calls |\n|---|---|---|---|");
    for (n, (store, starts)) in [(&small, small_starts), (&whole, whole_starts)].into_iter().enumerate() {
        let (idle, working) = (idle[n] as f64 / 1e6, working[n] as f64 / 1e6);
        println!("| {} | {} s | {idle:.0} MB | {working:.0} MB |", store.label, starts.show(2));
    }
    println!("\nGoals: a start in under 1 s, under 1 GB of memory.\n");
    println!("{answers}\n{raw}");
    Ok(())
}

/// A store of this size, from an earlier run or made now.
fn filled(label: &'static str, size: Size, root: &Path) -> anyhow::Result<Filled> {
    let name = format!("{}-{}-{}", size.orgs, size.accounts, size.records);
    let (dir, said) = (root.join(&name), root.join(name + ".txt"));
    if !said.exists() {
        let numbers = [size.orgs, size.accounts, size.records].map(|n| n.to_string());
        let output = std::process::Command::new(env::current_exe()?)
            .arg("import")
            .arg(&dir)
            .args(numbers)
            .stderr(Stdio::inherit())
            .output()?;
        anyhow::ensure!(output.status.success(), "the import failed");
        fs::write(&said, output.stdout)?;
    }
    Ok(Filled { label, size, dir, said: fs::read_to_string(said)? })
}

fn imports(stores: &[&Filled]) {
    println!("| import | records | rows | time | records/s | rows/s |\n|---|---|---|---|---|---|");
    for store in stores {
        let (mut all, mut time, mut all_rows) = (0.0, 0.0, 0.0);
        let mut peak = 0.0;
        for line in store.said.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let number = |at: usize| words.get(at).and_then(|word| word.parse::<f64>().ok()).unwrap_or_default();
            if words[0] == "peak" {
                peak = words.last().and_then(|kib| kib.parse::<f64>().ok()).unwrap_or_default() * 1024.0;
                continue;
            }
            let (records, rows, seconds) = (number(2), number(3), number(4));
            (all, all_rows, time) = (all + records, all_rows + rows, time + seconds);
            row(store.label, words[0], records, rows, seconds);
        }
        row(store.label, "all", all, all_rows, time);
        let store_bytes = size(&store.dir.join("store.redb")) as f64;
        println!(
            "| {}: on disk {:.2} GB and {:.0} MB of keys, {:.0} bytes a record, {:.0} a row; peak memory {:.0} MB ||||||",
            store.label,
            store_bytes / 1e9,
            size(&store.dir.join("keys.sys")) as f64 / 1e6,
            store_bytes / all,
            store_bytes / all_rows,
            peak / 1e6
        );
    }
    println!("\nGoal: 50,000 rows/s.\n");
}

fn row(label: &str, what: &str, records: f64, rows: f64, seconds: f64) {
    let (records_s, rows_s) = (records / seconds, rows / seconds);
    println!("| {label}, {what} | {records:.0} | {rows:.0} | {seconds:.1} s | {records_s:.0} | {rows_s:.0} |");
}

/// Starts a server some times, and leaves the last running.
async fn started(store: &Filled) -> anyhow::Result<(Running, sys_bench::Spread)> {
    let mut times = Vec::new();
    loop {
        let running = start(store).await?;
        times.push(running.started.as_secs_f64());
        if times.len() == STARTS {
            return Ok((running, sys_bench::Spread::of(times)));
        }
    }
}

async fn start(store: &Filled) -> anyhow::Result<Running> {
    let began = Instant::now();
    let mut command = pinned(SERVER_CORE);
    command.arg(env::current_exe()?).arg("serve").arg(&store.dir).stdout(Stdio::piped());
    let mut child: Child = command.spawn()?;
    let stdout = child.stdout.take().context("piped")?;
    let process = Stopped(child);
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    let (addr, setup) = line.trim().split_once(' ').context("the server did not start")?;
    let addr = addr.parse()?;
    let mut client = sys_bench::client::Client::connect(addr).await;
    client.json("grpc.health.v1.Health/Check", "", serde_json::json!({})).await;
    Ok(Running { process, addr, setup: setup.to_owned(), started: began.elapsed() })
}
