//! The embedded engine on a failing disk: nothing acknowledged is lost, nothing is there in part. The same for records with
//! their indexes is in `crate::faults`.

use super::*;
use crate::engine::{
    EngineError,
    fault::{Random, replay, seeds},
};
use std::{
    collections::{BTreeSet, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
};

/// Rounds of an ordinary run. Each goes over up to three lives of one disk.
const ROUNDS: u64 = 500;
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
async fn work(engine: &RedbEngine, disk: &Disk, history: &mut History, random: &mut Random) {
    for _ in 0..12 {
        let (mut names, mut commits) = (Vec::new(), Vec::new());
        for _ in 0..=random.below(WRITERS) {
            let size = 1 + random.below(8);
            let name = history.begin(size);
            let Ok(mut txn) = engine.begin().await else { return };
            // Reads what nobody else writes, so that it does not conflict.
            if txn.get(&part(name, 0)).await.is_err() {
                history.fates[name] = Fate::Refused;
                continue;
            }
            names.push(name);
            commits.push(txn.commit(writes(name, size)));
        }
        for (name, outcome) in names.into_iter().zip(disk.commit_together(commits).await) {
            history.fates[name] = match outcome {
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

/// What came of a round.
struct Round {
    found: Result<(), String>,
    acknowledged: usize,
    /// A fingerprint of the disk at the end.
    disk: u64,
}

/// Some lives of one disk that end with a power cut each, most of them by something that goes wrong before.
async fn round(seed: u64, lying_sync: bool) -> Round {
    let mut random = Random(seed);
    let disk = Disk::new(seed);
    let mut history = History::default();
    let drop_all = lying_sync || random.below(3) == 0;
    let (mut made, mut found) = (false, Ok(()));
    for _ in 0..=random.below(3) {
        let plan = Plan { lying_sync, drop_all, ..fault(&mut random, lying_sync) };
        // Before the first start is through there is no store: on a file, it is made under another name.
        if let Ok(engine) = disk.restart(plan).open(OPTIONS) {
            made = true;
            work(&engine, &disk, &mut history, &mut random).await;
        }
        if !made {
            break;
        }
        // Sometimes only the process is gone, and the machine finds its power cut later.
        let well = Plan { drop_all, ..Plan::default() };
        let cycle = lying_sync || disk.is_dead() || random.below(3) > 0;
        let plugged = if cycle { disk.restart(well) } else { disk.reopen(well) };
        found = match plugged.open(OPTIONS) {
            Ok(engine) => verify(&engine, &history).await,
            Err(error) => Err(format!("the store does not open: {error:?}")),
        };
        if found.is_err() {
            break;
        }
    }
    let mut hasher = DefaultHasher::new();
    disk.bytes().hash(&mut hasher);
    Round { found, acknowledged: history.acknowledged(), disk: hasher.finish() }
}

/// What goes wrong in a life: mostly the power, in the work or at the start, or not before its end.
fn fault(random: &mut Random, power_only: bool) -> Plan {
    let soon = random.below(4) == 0;
    let at = Some(random.below(if soon { 30 } else { 400 }) as u64);
    match random.below(if power_only { 5 } else { 8 }) {
        0..=4 => Plan { power_cut_at: at, ..Plan::default() },
        5 => Plan { full_from: at, ..Plan::default() },
        6 => Plan { read_only_from: at, ..Plan::default() },
        _ => Plan { error_at: at, ..Plan::default() },
    }
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_whatever_the_disk_does() {
    let (mut acknowledged, mut rounds) = (0, 0);
    for seed in seeds(ROUNDS) {
        let round = round(seed, false).await;
        assert_eq!(round.found, Ok(()), "{}", replay(seed));
        acknowledged += round.acknowledged;
        rounds += 1;
    }
    println!("{rounds} rounds, {acknowledged} commits acknowledged");
    assert!(rounds < 100 || acknowledged > rounds * 8, "{acknowledged} commits in {rounds} rounds show nothing");
}

#[tokio::test]
async fn control_a_disk_that_lies_about_syncs_is_caught() {
    let (mut caught, mut rounds) = (0, 0);
    for seed in 0..60 {
        let round = round(seed, true).await;
        rounds += usize::from(round.acknowledged > 0);
        caught += usize::from(round.found.is_err() && round.acknowledged > 0);
    }
    assert!(rounds > 20, "{rounds} rounds with a commit");
    assert_eq!(caught, rounds, "each round that acknowledged something lost it, and that must show");
}

#[tokio::test]
async fn control_a_disk_that_lies_about_syncs_of_the_log_alone_is_caught() {
    let (mut caught, mut rounds) = (0, 0);
    for seed in 0..40 {
        let (disk, mut history) = (Disk::new(seed), History::default());
        drop(redb_on(&disk));
        let plan = Plan { lying_log_sync: true, drop_all: true, ..Plan::default() };
        let engine = disk.restart(plan).open(OPTIONS).unwrap();
        work(&engine, &disk, &mut history, &mut Random(seed)).await;
        // The last checkpoint may have come with the last commit.
        let found = match disk.copy().restart(Plan::default()).open(OPTIONS) {
            Ok(engine) => verify(&engine, &history).await,
            Err(error) => Err(format!("the store does not open: {error:?}")),
        };
        rounds += usize::from(history.acknowledged() > 0);
        caught += usize::from(found.is_err());
    }
    assert_eq!(rounds, 40);
    assert!(caught > 30, "{caught} of {rounds} rounds were found out");
}

#[tokio::test]
async fn a_seed_gives_the_same_round_again() {
    for seed in 0..25 {
        let (first, again) = (round(seed, false).await, round(seed, false).await);
        assert_eq!((first.acknowledged, first.disk), (again.acknowledged, again.disk), "seed {seed}");
    }
}

#[tokio::test]
async fn a_flipped_bit_anywhere_is_found_by_a_verified_start_or_touches_nothing() {
    let (mut found, mut harmless) = (0, 0);
    for seed in seeds(60) {
        let (mut random, disk, mut history) = (Random(seed), Disk::new(seed), History::default());
        work(&redb_on(&disk), &disk, &mut history, &mut random).await;
        // Most of a file that is new holds nothing.
        let used: Vec<usize> =
            disk.bytes().iter().enumerate().filter(|(_, byte)| **byte != 0).map(|(at, _)| at).collect();
        let (byte, bit) = (used[random.below(used.len())], random.below(8));
        disk.flip(byte, bit);
        let verify_sums = RedbOptions { verify: true, ..OPTIONS };
        match disk.restart(Plan::default()).open(verify_sums) {
            Ok(engine) => {
                assert_eq!(verify(&engine, &history).await, Ok(()), "byte {byte}, {}", replay(seed));
                harmless += 1;
            }
            Err(_) => found += 1,
        }
    }
    println!("{found} flipped bits found, {harmless} in pages that are no longer used");
}

/// Works until `faults` act, and gives the engine, what it answered first, and what became of the transactions.
async fn work_until(disk: &Disk, faults: Plan, seed: u64) -> (RedbEngine, CommitError, History) {
    let engine = redb_on(disk);
    let mut history = History::default();
    work(&engine, disk, &mut history, &mut Random(seed)).await;
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
    let read_only = Plan { read_only_from: Some(0), ..Plan::default() };
    let refusal = disk.restart(read_only).open(OPTIONS).unwrap_err();
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
