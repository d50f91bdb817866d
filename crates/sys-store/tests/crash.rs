//! Real kills: a process that commits is killed with SIGKILL at a moment that nobody chose, again and again on one
//! store. `cargo xtask crash --kill N` does it N times.
//!
//! This cannot show what a power cut does to unsynced writes, since the kernel keeps them; the engine's own fault tests do. It
//! shows that nothing which a killed process had only in its memory was ever acknowledged, and that the next one starts.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use bytes::Bytes;
use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};
use sys_store::engine::{
    Engine, KeyRange, Order, Txn, Write, key_after,
    redb::{RedbEngine, RedbOptions},
};

/// A log so small that checkpoints come often.
const OPTIONS: RedbOptions =
    RedbOptions { cache_bytes: 64 << 20, verify: false, log_bytes: 256 << 10, give_up_log: false };
/// Rounds of an ordinary run, and who says otherwise.
const ROUNDS: usize = 10;
const ROUNDS_VARIABLE: &str = "SYS_KILL_ROUNDS";
/// Commits under way at the same time in the process that is killed.
const WRITERS: usize = 8;
/// Rows of a transaction beside its log entry.
const PARTS: usize = 5;

/// Tell the process that is killed where the store is, and in which round it runs.
const STORE: &str = "SYS_STORE_CRASH_TEST_FILE";
const ROUND: &str = "SYS_STORE_CRASH_TEST_ROUND";

fn writes(name: &str) -> Vec<Write> {
    let part = |n: usize| Write::Put { key: part(name, n), value: Bytes::from(name.repeat(1 + n * 50)), stamp: None };
    let log = Write::Append { log: Bytes::from_static(b"log/"), value: Bytes::from(name.to_owned()) };
    (0..PARTS).map(part).chain([log]).collect()
}

fn part(name: &str, n: usize) -> Bytes {
    Bytes::from(format!("part/{name}/{n}"))
}

/// Not a test: what the killed process runs. Prints each name after its commit was acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "runs until it is killed; `an_acknowledged_commit_survives_a_kill` starts it"]
async fn commit_until_killed() {
    let store = env::var(STORE).expect("started by the test below alone");
    let round = env::var(ROUND).unwrap();
    let engine = RedbEngine::open(Path::new(&store), OPTIONS).unwrap();
    println!();
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (engine, round) = (engine.clone(), round.clone());
            tokio::spawn(async move {
                for n in 0.. {
                    let name = format!("{round}.{writer}.{n:06}");
                    let mut txn = engine.begin().await.unwrap();
                    assert_eq!(txn.get(&part(&name, 0)).await.unwrap(), None);
                    txn.commit(writes(&name)).await.unwrap();
                    println!("acknowledged {name}");
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
}

/// Starts the process, kills it after so many acknowledgements, and gives all names that it printed.
fn run_and_kill(store: &Path, round: usize, kill_after: usize) -> Vec<String> {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--ignored", "--exact", "commit_until_killed", "--nocapture"])
        .env(STORE, store)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut acknowledged = Vec::new();
    let mut line = String::new();
    while lines.read_line(&mut line).unwrap() > 0 {
        // The kill may cut the last line off: then nobody has read that acknowledgement.
        if let Some(name) = line.strip_prefix("acknowledged ").and_then(|rest| rest.strip_suffix('\n')) {
            acknowledged.push(name.to_owned());
            if acknowledged.len() == kill_after {
                child.kill().unwrap();
            }
        }
        line.clear();
    }
    assert!(!child.wait().unwrap().success(), "it was killed");
    acknowledged
}

async fn rows_of(engine: &RedbEngine) -> BTreeMap<Bytes, Bytes> {
    let mut txn = engine.begin().await.unwrap();
    let mut rows = BTreeMap::new();
    let mut rest = KeyRange::all();
    loop {
        let page = txn.range(rest.clone(), Order::Asc, 1_000).await.unwrap().rows;
        let Some((last, _)) = page.last() else { return rows };
        rest.start = key_after(last);
        rows.extend(page);
    }
}

#[tokio::test]
async fn an_acknowledged_commit_survives_a_kill() {
    let rounds = env::var(ROUNDS_VARIABLE).map_or(ROUNDS, |rounds| rounds.parse().expect("a number of rounds"));
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store.redb");
    let mut acknowledged = Vec::new();
    for round in 0..rounds {
        // In the first round the kill comes right after the store was made.
        let kill_after = 1 + round * 37 % 200;
        let names = run_and_kill(&store, round, kill_after);
        assert!(names.len() >= kill_after, "the process ended before it was killed");
        acknowledged.extend(names);

        let engine = RedbEngine::open(&store, OPTIONS).unwrap();
        let rows = rows_of(&engine).await;
        let mut expected = BTreeMap::new();
        let mut logged = BTreeSet::new();
        for (number, (key, name)) in rows.range(Bytes::from_static(b"log/")..Bytes::from_static(b"log0")).enumerate() {
            assert_eq!(**key, [b"log/".as_slice(), &(number as u64).to_be_bytes()].concat(), "the log has no gaps");
            expected.insert(key.clone(), name.clone());
            let name = String::from_utf8(name.to_vec()).unwrap();
            for write in writes(&name) {
                if let Write::Put { key, value, .. } = write {
                    expected.insert(key, value);
                }
            }
            logged.insert(name);
        }
        assert!(rows == expected, "each transaction that is there is there in full, and nothing else");
        for name in &acknowledged {
            assert!(logged.contains(name), "{name} was acknowledged in a round up to {round} and is lost");
        }
    }
}
