//! The embedded engine on a failing disk: nothing acknowledged is lost, nothing is there in part.

use super::*;
use crate::engine::{EngineError, fault::Random};
use std::collections::BTreeSet;

/// Power cuts in the test. Each goes over up to three lives of one disk.
const ROUNDS: u64 = 300;
/// Commits that are under way at the same time.
const WRITERS: usize = 4;

/// How a transaction of the test ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Acknowledged(CommitVersion),
    /// Either way is right.
    Unknown,
    /// Certainly not committed.
    Refused,
}

/// What became of each transaction; its index is its name.
#[derive(Debug, Default)]
struct History {
    fates: Vec<Fate>,
    sizes: Vec<usize>,
}

impl History {
    fn begin(&mut self, size: usize) -> usize {
        self.fates.push(Fate::Unknown);
        self.sizes.push(size);
        self.fates.len() - 1
    }

    fn acknowledged(&self) -> usize {
        self.fates.iter().filter(|fate| matches!(fate, Fate::Acknowledged(_))).count()
    }
}

fn part(name: usize, part: usize) -> Bytes {
    bytes(format!("part/{name:05}/{part:03}"))
}

/// A transaction with a row of each kind: its parts, some of them large, a log entry, a change row, a stamped row.
fn writes(name: usize, size: usize) -> Vec<Write> {
    let mut writes: Vec<_> = (0..size)
        .map(|n| {
            let value = format!("{name}.{n} ").repeat(1 + n * n * n % 700);
            Write::Put { key: part(name, n), value: bytes(value), stamp: None }
        })
        .collect();
    let name = format!("{name:05}");
    writes.push(append("log/", &name));
    writes.push(Write::Change { prefix: bytes("change/"), suffix: bytes(format!("/{name}")), value: bytes(&name) });
    writes.push(Write::Put { key: bytes(format!("stamp/{name}")), value: bytes("........"), stamp: Some(0) });
    writes
}

/// Commits random transactions, a few at a time, until the disk takes no more or there have been enough.
async fn work(engine: &RedbEngine, history: &mut History, random: &mut Random) {
    for _ in 0..12 {
        let mut commits = Vec::new();
        for _ in 0..=random.below(WRITERS) {
            let size = 1 + random.below(8);
            let name = history.begin(size);
            let Ok(mut txn) = engine.begin().await else { return };
            // Reads what nobody else writes, so that it does not conflict.
            if txn.get(&part(name, 0)).await.is_err() {
                history.fates[name] = Fate::Refused;
                continue;
            }
            commits.push((name, tokio::spawn(txn.commit(writes(name, size)))));
        }
        for (name, commit) in commits {
            history.fates[name] = match commit.await.unwrap() {
                Ok(version) => Fate::Acknowledged(version),
                Err(CommitError::Unknown(_)) => Fate::Unknown,
                Err(CommitError::Engine(_)) => Fate::Refused,
                Err(CommitError::Conflict) => panic!("nobody else wrote what it read"),
            };
        }
    }
}

/// What is wrong with what a store holds, if anything is.
async fn verify(engine: &RedbEngine, history: &History) -> Result<(), String> {
    let rows = all_rows(engine).await;
    let mut expected = Rows::new();
    let mut logged = BTreeSet::new();
    let mut versions = BTreeSet::new();
    for (key, name) in rows.range(bytes("log/")..bytes("log0")) {
        if *key != numbered("log/", logged.len() as u64, "") {
            return Err(format!("the log has a gap before {key:?}"));
        }
        if !logged.insert(name.clone()) {
            return Err(format!("{name:?} is logged twice"));
        }
        expected.insert(key.clone(), name.clone());
    }
    for (name, (fate, size)) in history.fates.iter().zip(&history.sizes).enumerate() {
        let text = format!("{name:05}");
        let stamp = rows.get(&bytes(format!("stamp/{text}")));
        let version = stamp.and_then(|stamp| stamp.as_ref().try_into().ok()).map(u64::from_be_bytes);
        match (fate, version) {
            (Fate::Acknowledged(acknowledged), None) => return Err(format!("{name} is lost: {acknowledged:?}")),
            (Fate::Acknowledged(CommitVersion(acknowledged)), Some(version)) if *acknowledged != version => {
                return Err(format!("{name} was committed as {acknowledged} and is there as {version}"));
            }
            (Fate::Refused, Some(_)) => return Err(format!("{name} was refused and is there")),
            _ => {}
        }
        let Some(version) = version else { continue };
        if !versions.insert(version) || !logged.remove(&bytes(&text)) {
            return Err(format!("{name} is there in part"));
        }
        expected.insert(bytes(format!("stamp/{text}")), bytes(version.to_be_bytes()));
        expected.insert(numbered("change/", version, &format!("/{text}")), bytes(&text));
        for write in writes(name, *size) {
            if let Write::Put { key, value, stamp: None } = write {
                expected.insert(key, value);
            }
        }
    }
    let at = engine.begin().await.unwrap().snapshot_version().0;
    if versions.last().is_some_and(|last| *last > at) {
        return Err(format!("the store is at version {at}, before its last commit"));
    }
    if rows != expected {
        return Err("rows are missing or are nobody's".to_owned());
    }
    Ok(())
}

/// Some lives of one disk that end with a power cut each; what is wrong at the end of one of them, and how many commits were
/// acknowledged.
async fn lives(seed: u64, faults: Plan) -> (Result<(), String>, usize) {
    let mut random = Random(seed);
    let disk = Disk::new(seed);
    let mut history = History::default();
    for life in 0..=random.below(3) {
        // Most cuts fall into the work, some into the start, and some lives go on to their end.
        let soon = random.below(4) == 0;
        let power_cut_at = Some(random.below(if soon { 30 } else { 400 }) as u64);
        let plan = Plan { power_cut_at, ..faults };
        if let Ok(engine) = RedbEngine::with_backend(disk.restart(plan), OPTIONS) {
            work(&engine, &mut history, &mut random).await;
        }
        if disk.is_dead() && life == 0 && history.fates.is_empty() {
            // redb does not open what it has not finished; on a file, it is made under another name.
            return (Ok(()), 0);
        }
        let found = match RedbEngine::with_backend(
            disk.restart(Plan { drop_all: faults.drop_all, ..Plan::default() }),
            OPTIONS,
        ) {
            Ok(engine) => verify(&engine, &history).await,
            Err(error) => Err(format!("the store does not open: {error:?}")),
        };
        if found.is_err() {
            return (found, history.acknowledged());
        }
    }
    (Ok(()), history.acknowledged())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_the_power_goes() {
    let mut acknowledged = 0;
    for seed in 0..ROUNDS {
        for drop_all in [false, true] {
            let (found, commits) = lives(seed, Plan { drop_all, ..Plan::default() }).await;
            assert_eq!(found, Ok(()), "seed {seed}, drop_all {drop_all}");
            acknowledged += commits;
        }
    }
    assert!(acknowledged > 5_000, "the rounds end too early to show anything: {acknowledged} commits");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_a_disk_that_lies_about_syncs_is_caught() {
    let (mut caught, mut rounds) = (0, 0);
    for seed in 0..ROUNDS / 5 {
        let (found, acknowledged) = lives(seed, Plan { lying_sync: true, drop_all: true, ..Plan::default() }).await;
        rounds += usize::from(acknowledged > 0);
        caught += usize::from(found.is_err() && acknowledged > 0);
    }
    assert!(rounds > 20, "{rounds} rounds with a commit");
    assert_eq!(caught, rounds, "each round that acknowledged something lost it, and that must show");
}

/// Works until `faults` act, and gives the engine, what it answered first, and what became of the transactions.
async fn work_until(disk: &Disk, faults: Plan, seed: u64) -> (RedbEngine, CommitError, History) {
    let engine = redb_on(disk);
    let mut history = History::default();
    work(&engine, &mut history, &mut Random(seed)).await;
    disk.set_plan(faults);
    for n in 0..1_000 {
        let txn = engine.begin().await.unwrap();
        let name = history.begin(n % 9);
        match txn.commit(writes(name, n % 9)).await {
            Ok(version) => history.fates[name] = Fate::Acknowledged(version),
            Err(error) => {
                if matches!(error, CommitError::Engine(_)) {
                    history.fates[name] = Fate::Refused;
                }
                return (engine, error, history);
            }
        }
    }
    panic!("the fault never acted");
}

/// After a commit has failed: no commit gets through, what was acknowledged can be read, and a restart finds all of it.
async fn survives(disk: &Disk, engine: RedbEngine, error: CommitError, mut history: History) {
    let (CommitError::Engine(first) | CommitError::Unknown(first)) = error else { panic!("{error:?}") };
    let late = history.begin(3);
    history.fates[late] = Fate::Refused;
    let refusal = engine.begin().await.unwrap().commit(writes(late, 3)).await.unwrap_err();
    let CommitError::Engine(EngineError::Failed { cause }) = &refusal else { panic!("{refusal:?}") };
    assert_eq!(*cause, first.to_string(), "the refusal says what went wrong at first");
    let last = history.acknowledged() - 1;
    let stamp = engine.begin().await.unwrap().get(format!("stamp/{last:05}").as_bytes()).await;
    assert!(matches!(stamp, Ok(Some(_)) | Err(EngineError::Failed { .. } | EngineError::Io(_))), "{stamp:?}");
    drop(engine);
    assert_eq!(verify(&redb_on(disk), &history).await, Ok(()));
}

#[tokio::test]
async fn a_full_disk_refuses_commits_and_loses_none() {
    let mut said_so = 0;
    for seed in 0..40 {
        let disk = Disk::new(seed);
        let faults = Plan { full_from: Some(seed), ..Plan::default() };
        let (engine, error, history) = work_until(&disk, faults, seed).await;
        let (CommitError::Engine(cause) | CommitError::Unknown(cause)) = &error else { panic!("{error:?}") };
        assert!(matches!(cause, EngineError::Full), "{error:?}");
        said_so += usize::from(matches!(error, CommitError::Engine(_)));
        survives(&disk, engine, error, history).await;
    }
    assert!(said_so > 20, "most of the time it is certain that nothing was committed: {said_so}");
}

#[tokio::test]
async fn an_error_of_the_disk_stops_commits_and_loses_none() {
    let mut unknown = 0;
    for seed in 0..60 {
        let disk = Disk::new(seed);
        let faults = Plan { error_at: Some(seed), ..Plan::default() };
        let (engine, error, history) = work_until(&disk, faults, seed).await;
        let (CommitError::Engine(cause) | CommitError::Unknown(cause)) = &error else { panic!("{error:?}") };
        assert!(matches!(cause, EngineError::Io(_) | EngineError::Failed { .. }), "{error:?}");
        unknown += usize::from(matches!(error, CommitError::Unknown(_)));
        survives(&disk, engine, error, history).await;
    }
    assert!(unknown > 0, "an error at the last sync of a commit leaves it unknown");
}

#[tokio::test]
async fn a_disk_that_takes_no_writes_is_found_at_the_start() {
    let disk = Disk::new(0);
    commit(&redb_on(&disk), vec![put("a", "1")]).await;
    let read_only = Plan { read_only: true, ..Plan::default() };
    let refusal = RedbEngine::with_backend(disk.restart(read_only), OPTIONS).unwrap_err();
    assert!(matches!(refusal, EngineError::Io(_)), "{refusal:?}");
    assert_eq!(get(&redb_on(&disk), "a").await, Some(bytes("1")));
}

#[tokio::test]
async fn a_commit_thread_that_dies_leaves_nobody_waiting() {
    for seed in 0..20 {
        let disk = Disk::new(seed);
        let faults = Plan { panic_at: Some(seed), ..Plan::default() };
        let (engine, error, history) = work_until(&disk, faults, seed).await;
        assert!(matches!(&error, CommitError::Unknown(EngineError::Failed { .. })), "{error:?}");
        survives(&disk, engine, error, history).await;
    }
}
