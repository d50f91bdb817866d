//! The log before redb: what it promises when it is cut off, damaged, lost or another's, and that checkpoints keep it small.

use super::*;
use crate::engine::{
    Bounded, EngineError,
    fault::File,
    redb::{Bounds, wal::WalBounds},
};
use std::time::{Duration, Instant};

const GIVE_UP_LOG: RedbOptions = RedbOptions { give_up_log: true, ..OPTIONS };
const PAGE_BYTES: usize = 4_096;

/// The rows that commit `n` of these tests leaves.
fn batch(n: usize) -> Vec<Write> {
    let value = n.to_string().repeat(n * 997 % 5_000 + 1);
    vec![put(&format!("row {n:03}"), &value), put("newest", &n.to_string()), delete(&format!("row {:03}", n / 2))]
}

/// What the first `count` commits leave.
fn rows_after(count: usize) -> Rows {
    let mut oracle = Oracle::default();
    (1..=count).for_each(|n| oracle.apply(&batch(n), CommitVersion(n as u64)));
    oracle.rows
}

async fn version(engine: &RedbEngine) -> u64 {
    engine.begin().await.unwrap().snapshot_version().0
}

/// Restarts a machine and asserts that it holds as many commits as it says, and gives their number.
async fn whole(disk: &Disk) -> usize {
    let engine = redb_on(disk);
    let count = usize::try_from(version(&engine).await).unwrap();
    assert_eq!(all_rows(&engine).await, rows_after(count));
    count
}

/// What redb holds without its log.
async fn contained(disk: &Disk) -> u64 {
    let copy = disk.copy();
    copy.replace(File::Log, Vec::new());
    version(&copy.restart(Plan::default()).open(GIVE_UP_LOG).unwrap()).await
}

/// A disk on which so many commits stand in the log alone, as the power cut left it.
async fn logged(count: usize) -> Disk {
    let disk = Disk::new(3);
    let engine = redb_on(&disk);
    for n in 1..=count {
        commit(&engine, batch(n)).await;
    }
    assert_eq!(contained(&disk).await, 0, "no checkpoint has come in between");
    disk.copy()
}

#[tokio::test]
async fn the_power_may_go_at_any_operation_of_commits_and_checkpoints() {
    let (mut cuts, mut checkpoints) = (0, 0);
    for drop_all in [true, false] {
        for seed in 0..2 {
            let mut at = 0;
            loop {
                let disk = Disk::new(seed);
                drop(redb_on(&disk));
                let plan = Plan { power_cut_at: Some(at), drop_all, ..Plan::default() };
                let mut acknowledged = 0;
                if let Ok(engine) = disk.restart(plan).open(OPTIONS) {
                    for n in 1..=25 {
                        if engine.begin().await.unwrap().commit(batch(n)).await.is_err() {
                            break;
                        }
                        acknowledged = n;
                    }
                }
                let died = disk.is_dead();
                let count = whole(&disk).await;
                assert!(
                    count == acknowledged || count == acknowledged + 1 && died,
                    "{acknowledged} were acknowledged, {count} are there: cut at {at}, disk {seed}, {drop_all}"
                );
                if !died {
                    break;
                }
                (at, cuts) = (at + 1, cuts + 1);
                checkpoints += usize::from(contained(&disk).await > 0);
            }
        }
    }
    println!("{cuts} power cuts");
    assert!(cuts > 300 && checkpoints > 50, "{cuts} cuts, {checkpoints} with a checkpoint before");
}

#[tokio::test]
async fn the_power_may_go_while_the_log_is_brought_in_and_once_more() {
    let disk = logged(5).await;
    let mut cuts = 0;
    for drop_all in [true, false] {
        let mut first = 0;
        loop {
            let mut second = 0;
            let once = disk.copy();
            let cut = |at| Plan { power_cut_at: Some(at), drop_all, ..Plan::default() };
            drop(once.restart(cut(first)).open(OPTIONS));
            let died = once.is_dead();
            drop(once.restart(Plan { drop_all, ..Plan::default() }));
            loop {
                let twice = once.copy();
                drop(twice.restart(cut(second)).open(OPTIONS));
                let died = twice.is_dead();
                assert_eq!(whole(&twice).await, 5, "cut at {first}, then at {second}");
                if !died {
                    break;
                }
                // Each second operation of the second time is enough.
                (second, cuts) = (second + 2, cuts + 1);
            }
            if !died {
                break;
            }
            first += 1;
        }
    }
    assert!(cuts > 100, "{cuts}");
}

#[tokio::test]
async fn damage_before_the_last_frame_is_told_and_given_up_only_on_demand() {
    let disk = logged(6).await;
    let log = disk.bytes_of(File::Log);
    let frames: Vec<usize> =
        (0..log.len()).step_by(PAGE_BYTES).filter(|at| log[*at..].starts_with(b"sys.wal")).collect();
    let (last, mut told) = (*frames.last().unwrap(), 0);
    for at in (frames[1]..last + PAGE_BYTES).step_by(61) {
        let damaged = disk.copy();
        let mut bytes = log.clone();
        bytes[at] ^= 4;
        damaged.replace(File::Log, bytes);
        let before = frames.iter().filter(|frame| **frame <= at).count() - 2;
        if at >= last {
            // Nobody can tell it from a frame that was under way when the power went.
            assert_eq!(whole(&damaged).await, before);
            continue;
        }
        let refusal = damaged.restart(Plan::default()).open(OPTIONS).unwrap_err();
        assert!(matches!(refusal, EngineError::LogDamaged { .. }), "{refusal:?}");
        assert!(refusal.to_string().contains("restore a backup"), "{refusal}");
        assert_eq!(version(&damaged.restart(Plan::default()).open(GIVE_UP_LOG).unwrap()).await, before as u64);
        assert_eq!(whole(&damaged).await, before, "once it is given up, it is gone for good");
        told += 1;
    }
    assert!(told > 200, "{told}");
}

#[tokio::test]
async fn a_log_that_is_lost_or_of_another_store_is_told() {
    let disk = logged(4).await;
    let other = Disk::new(7);
    commit(&redb_on(&other), batch(1)).await;
    for log in [Vec::new(), vec![0; disk.bytes_of(File::Log).len()], other.bytes_of(File::Log), vec![1; 100]] {
        let lost = disk.copy();
        lost.replace(File::Log, log);
        let refusal = lost.restart(Plan::default()).open(OPTIONS).unwrap_err();
        assert!(matches!(refusal, EngineError::LogLost), "{refusal:?}");
        lost.replace(File::Log, disk.bytes_of(File::Log));
        assert_eq!(whole(&lost).await, 4, "the refusal has changed nothing");
    }
}

#[tokio::test]
async fn a_log_that_was_cut_off_is_told_and_given_up_only_as_far_as_it_is_gone() {
    let disk = logged(6).await;
    let log = disk.bytes_of(File::Log);
    let mut kept = Vec::new();
    for length in (0..log.len()).step_by(2 * PAGE_BYTES).chain([log.len() - 1, log.len() + 2 * PAGE_BYTES]) {
        let cut = disk.copy();
        let mut bytes = log.clone();
        bytes.resize(length, 0);
        cut.replace(File::Log, bytes.clone());
        let refusal = cut.restart(Plan::default()).open(OPTIONS).unwrap_err();
        assert!(matches!(refusal, EngineError::LogLost), "{length}: {refusal:?}");
        assert_eq!(cut.bytes_of(File::Log), bytes, "the refusal has changed nothing");
        let engine = cut.restart(Plan::default()).open(GIVE_UP_LOG).unwrap();
        let count = usize::try_from(version(&engine).await).unwrap();
        assert_eq!(all_rows(&engine).await, rows_after(count));
        kept.push(count);
        commit(&engine, batch(count + 1)).await;
        drop(engine);
        assert_eq!(whole(&cut).await, count + 1, "the store goes on with a whole log");
    }
    assert_eq!((kept.first(), kept.last()), (Some(&0), Some(&6)));
    assert!(kept.iter().any(|count| (1..6).contains(count)), "{kept:?}");
}

#[tokio::test]
async fn a_log_without_its_beginning_is_told_and_given_up_as_far_as_it_is_gone() {
    let disk = logged(6).await;
    let mut log = disk.bytes_of(File::Log);
    let first = (0..log.len()).step_by(PAGE_BYTES).find(|at| log[*at..].starts_with(b"sys.wal")).unwrap();
    log[first + 20] ^= 1;
    disk.replace(File::Log, log);
    let refusal = disk.restart(Plan::default()).open(OPTIONS).unwrap_err();
    assert!(matches!(refusal, EngineError::LogLost), "{refusal:?}");
    drop(disk.restart(Plan::default()).open(GIVE_UP_LOG).unwrap());
    assert_eq!(whole(&disk).await, 6, "all frames behind the first could be read");
}

#[test]
fn a_log_that_is_too_long_is_refused_before_anything_is_made() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.redb");
    let refused = |opened: Result<RedbEngine, EngineError>| match opened {
        Err(EngineError::TooLarge { what: Bounded::LogBytes, .. }) => true,
        other => panic!("{other:?}"),
    };
    assert!(refused(RedbEngine::open(&path, RedbOptions { log_bytes: usize::MAX, ..OPTIONS })));
    assert!(!path.exists());
    // Takes no room on the disk.
    std::fs::File::create(path.with_extension("wal")).unwrap().set_len(1 << 40).unwrap();
    assert!(refused(RedbEngine::open(&path, OPTIONS)));
}

/// As the server before wrote it, which did not note how long the log is.
#[tokio::test]
async fn a_closed_store_that_does_not_say_how_long_its_log_is_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.redb");
    let engine = RedbEngine::open(&path, OPTIONS).unwrap();
    commit(&engine, batch(1)).await;
    engine.close();
    let database = redb::Database::open(&path).unwrap();
    let txn = database.begin_write().unwrap();
    let meta = redb::TableDefinition::<&str, u64>::new("meta");
    assert!(txn.open_table(meta).unwrap().remove("log_half_bytes").unwrap().is_some());
    txn.commit().unwrap();
    drop(database);
    let engine = RedbEngine::open(&path, OPTIONS).unwrap();
    assert_eq!(all_rows(&engine).await, rows_after(1));
    commit(&engine, batch(2)).await;
}

#[tokio::test]
async fn a_log_whose_store_is_lost_is_left_alone() {
    let disk = logged(4).await;
    let without = disk.copy();
    without.replace(File::Pages, Vec::new());
    for _ in 0..2 {
        let refusal = without.restart(Plan::default()).open(OPTIONS).unwrap_err();
        assert!(matches!(refusal, EngineError::LogOfAnother), "{refusal:?}");
    }
    assert_eq!(without.bytes_of(File::Log), disk.bytes_of(File::Log));
    without.replace(File::Pages, disk.bytes());
    assert_eq!(whole(&without).await, 4);
}

#[tokio::test]
async fn a_store_that_was_closed_needs_no_log_and_takes_any_that_was_emptied() {
    let disk = Disk::new(3);
    let engine = redb_on(&disk);
    for n in 1..=4 {
        commit(&engine, batch(n)).await;
    }
    engine.close();
    let (closed, emptied) = (disk.bytes(), disk.bytes_of(File::Log));
    for log in [Vec::new(), emptied] {
        let copy = Disk::holding(closed.clone(), 5);
        copy.replace(File::Log, log);
        assert_eq!(whole(&copy).await, 4);
    }
}

#[tokio::test]
async fn what_is_in_the_log_alone_is_bounded_in_rows_and_time() {
    let disk = Disk::new(0);
    let engine = redb_on(&disk);
    for n in 1..=60 {
        commit(&engine, batch(n)).await;
        // Disk 0 has a checkpoint every 20 rows.
        let contained = contained(&disk).await;
        assert!(contained + 20 / 3 >= n as u64, "{contained} of {n}");
    }
    drop(engine);

    let disk = Disk::new(3);
    let soon = Bounds { wal: WalBounds { age: Duration::ZERO, ..WalBounds::default() }, ..Bounds::default() };
    let engine = disk.restart(Plan::default()).open_with(OPTIONS, soon).unwrap();
    commit(&engine, batch(1)).await;
    let began = Instant::now();
    while contained(&disk).await == 0 {
        assert!(began.elapsed() < Duration::from_secs(20), "an idle store makes no checkpoint");
    }
    let syncs = disk.syncs();
    assert_eq!(get(&engine, "newest").await, Some(bytes("1")));
    commit(&engine, batch(2)).await;
    assert!(disk.syncs() > syncs);
}

#[tokio::test]
async fn a_batch_larger_than_the_log_goes_past_it() {
    let disk = Disk::new(0);
    let engine = redb_on(&disk);
    commit(&engine, vec![put("small", "1")]).await;
    assert_eq!(contained(&disk).await, 0);
    commit(&engine, vec![put("large", &"x".repeat(100_000))]).await;
    assert_eq!(contained(&disk).await, 2);
    commit(&engine, vec![put("small", "2")]).await;
    let copy = disk.copy();
    let engine = redb_on(&copy);
    assert_eq!((version(&engine).await, get(&engine, "small").await), (3, Some(bytes("2"))));
}

#[tokio::test]
async fn a_full_disk_is_certain_before_the_frame_and_unknown_from_there_on() {
    // A batch of the first page is written into zeros that are there already.
    let disk = Disk::new(3);
    let engine = redb_on(&disk);
    commit(&engine, batch(1)).await;
    disk.set_plan(Plan { full_from: Some(0), ..Plan::default() });
    let error = engine.begin().await.unwrap().commit(batch(2)).await.unwrap_err();
    assert!(matches!(error, CommitError::Unknown(EngineError::Full)), "{error:?}");

    // One that goes past the log is nothing before redb's own commit.
    let disk = Disk::new(0);
    let engine = redb_on(&disk);
    commit(&engine, batch(1)).await;
    disk.set_plan(Plan { full_from: Some(0), ..Plan::default() });
    let large = vec![put("large", &"x".repeat(100_000))];
    let error = engine.begin().await.unwrap().commit(large).await.unwrap_err();
    assert!(matches!(error, CommitError::Engine(EngineError::Full)), "{error:?}");
    drop(engine);
    assert_eq!(whole(&disk).await, 1);
}

#[tokio::test]
async fn a_commit_is_one_write_and_one_sync() {
    let disk = Disk::new(3);
    let engine = redb_on(&disk);
    commit(&engine, batch(1)).await;
    let before = (disk.operations(), disk.syncs());
    commit(&engine, batch(2)).await;
    assert_eq!((disk.operations() - before.0, disk.syncs() - before.1), (2, 1));
}

/// Of a store that an older server wrote, which knew no log.
#[tokio::test]
async fn a_store_of_the_first_format_is_read_and_then_has_a_log() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.redb");
    let database = redb::Database::create(&path).unwrap();
    let txn = database.begin_write().unwrap();
    let rows = redb::TableDefinition::<&[u8], &[u8]>::new("rows");
    let meta = redb::TableDefinition::<&str, u64>::new("meta");
    txn.open_table(rows).unwrap().insert(b"a".as_slice(), b"1".as_slice()).unwrap();
    txn.open_table(meta).unwrap().insert("format", 1).unwrap();
    txn.open_table(meta).unwrap().insert("version", 9).unwrap();
    txn.commit().unwrap();
    drop(database);
    let engine = RedbEngine::open(&path, OPTIONS).unwrap();
    assert_eq!((version(&engine).await, get(&engine, "a").await), (9, Some(bytes("1"))));
    assert_eq!(commit(&engine, vec![put("b", "2")]).await, CommitVersion(10));
}
