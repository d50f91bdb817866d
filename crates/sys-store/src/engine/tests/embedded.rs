//! What only the engine on a file can break: its locks, its life and its syncs.

use super::*;
use crate::engine::{EngineError, fault::poll_once, redb::Bounds};
use std::{fs, os::unix::fs::PermissionsExt, pin::pin, sync::Barrier, thread, time::Duration};

fn open(path: &std::path::Path) -> Result<RedbEngine, EngineError> {
    RedbEngine::open(path, OPTIONS)
}

fn bounded(bounds: Bounds) -> RedbEngine {
    Disk::new(0).restart(Plan::default()).open_with(OPTIONS, bounds).unwrap()
}

#[tokio::test]
async fn a_second_server_on_the_same_file_is_refused_and_told_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.redb");
    let first = open(&path).unwrap();
    let refusal = open(&path).unwrap_err();
    assert!(matches!(&refusal, EngineError::Locked { path: locked } if *locked == path), "{refusal:?}");
    assert!(refusal.to_string().contains("stop that one"), "{refusal}");
    commit(&first, vec![put("a", "1")]).await;
    drop(first);
    assert_eq!(get(&open(&path).unwrap(), "a").await, Some(bytes("1")));
}

#[test]
fn of_many_servers_that_start_on_nothing_one_gets_the_store() {
    const SERVERS: usize = 8;
    for _ in 0..5 {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.redb");
        let start = Barrier::new(SERVERS);
        let opened: Vec<_> = thread::scope(|scope| {
            let servers: Vec<_> = (0..SERVERS)
                .map(|_| {
                    scope.spawn(|| {
                        start.wait();
                        open(&path)
                    })
                })
                .collect();
            servers.into_iter().map(|server| server.join().unwrap()).collect()
        });
        assert_eq!(opened.iter().filter(|server| server.is_ok()).count(), 1, "{opened:?}");
        assert!(opened.iter().all(|server| matches!(server, Ok(_) | Err(EngineError::Locked { .. }))), "{opened:?}");
    }
}

#[tokio::test]
async fn versions_and_log_numbers_go_on_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.redb");
    let mut last = CommitVersion(0);
    for number in 0..4 {
        let engine = open(&path).unwrap();
        assert_eq!(engine.begin().await.unwrap().snapshot_version(), last);
        last = commit(&engine, vec![append("log", &number.to_string())]).await;
        assert_eq!(last.0, number + 1);
        let mut txn = engine.begin().await.unwrap();
        assert_eq!(txn.get(&numbered("log", number, "")).await.unwrap(), Some(bytes(number.to_string())));
    }
}

#[tokio::test]
async fn commits_syncs_conflicts_rows_and_reads_are_counted() {
    let engine = redb_on(&Disk::new(0));
    let before = engine.stats().unwrap();
    let mut loser = engine.begin().await.unwrap();
    loser.get(b"a").await.unwrap();
    commit(&engine, vec![put("a", "1"), put("b", "1")]).await;
    assert!(matches!(loser.commit(vec![put("a", "2")]).await, Err(CommitError::Conflict)));
    let after = engine.stats().unwrap();
    assert_eq!((after.conflicts - before.conflicts, after.rows - before.rows), (1, 2));
    assert_eq!(
        after.commit_micros.count() - before.commit_micros.count(),
        2,
        "a batch is one though all of it conflicts"
    );
    assert_eq!(after.batch_transactions.sum - before.batch_transactions.sum, 2);
    assert_eq!(after.sync_micros.count() - before.sync_micros.count(), 1, "a commit is one sync");
    let mut reader = engine.begin().await.unwrap();
    reader.range(KeyRange::prefix(b"a"), Order::Asc, 1).await.unwrap();
    drop(reader);
    let read = engine.stats().unwrap();
    assert_eq!((read.keys_read - before.keys_read, read.ranges_read - before.ranges_read), (1, 1));
    engine.close();
    assert!(matches!(engine.stats(), Err(EngineError::Closed)));
}

#[tokio::test]
async fn a_log_whose_first_rows_were_removed_goes_on_at_its_end() {
    let engine = redb_on(&Disk::new(0));
    commit(&engine, vec![append("log", "0"), append("log", "1")]).await;
    commit(&engine, vec![Write::Delete { key: numbered("log", 0, "") }]).await;
    commit(&engine, vec![append("log", "2")]).await;
    assert_eq!(
        all_rows(&engine).await.into_keys().collect::<Vec<_>>(),
        [numbered("log", 1, ""), numbered("log", 2, "")]
    );
}

#[tokio::test]
async fn a_store_that_was_not_finished_is_made_again_and_only_its_owner_reads_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.redb");
    fs::write(directory.path().join("store.redb.new"), "cut off by a crash").unwrap();
    commit(&open(&path).unwrap(), vec![put("a", "1")]).await;
    for file in [&path, &path.with_extension("wal")] {
        assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
}

#[test]
fn a_file_that_is_no_store_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.redb");
    let text = "a letter to my aunt, ".repeat(1_000);
    fs::write(&path, &text).unwrap();
    assert!(matches!(open(&path), Err(EngineError::Corrupt { .. })));
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
    assert!(matches!(open(&directory.path().join("nowhere/store.redb")), Err(EngineError::Io(_))));
}

#[test]
fn a_store_of_a_later_format_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.redb");
    let database = redb::Database::create(&path).unwrap();
    let txn = database.begin_write().unwrap();
    let meta = redb::TableDefinition::<&str, u64>::new("meta");
    txn.open_table(meta).unwrap().insert("format", 3).unwrap();
    txn.commit().unwrap();
    drop(database);
    assert!(matches!(open(&path), Err(EngineError::Format { found: 3, known: 2 })));
}

#[tokio::test]
async fn a_snapshot_older_than_what_is_remembered_conflicts() {
    let engine = bounded(Bounds { remembered_writes: 4, ..Bounds::default() });
    let mut early = engine.begin().await.unwrap();
    assert_eq!(early.get(b"mine").await.unwrap(), None);
    commit(&engine, vec![put("first", "")]).await;
    let mut late = engine.begin().await.unwrap();
    assert_eq!(late.get(b"mine too").await.unwrap(), None);
    let reads_nothing = engine.begin().await.unwrap();
    for n in 0..4 {
        commit(&engine, vec![put(&format!("other {n}"), "")]).await;
    }
    // Nobody wrote what they read, but of the first that is not known any more.
    assert!(is_conflict(&early.commit(vec![put("a", "")]).await));
    assert!(late.commit(vec![put("b", "")]).await.is_ok());
    assert!(reads_nothing.commit(vec![put("c", "")]).await.is_ok());
}

#[tokio::test]
async fn forgetting_a_write_does_not_forget_a_later_one_to_the_same_key() {
    let engine = bounded(Bounds { remembered_writes: 4, ..Bounds::default() });
    commit(&engine, vec![put("mine", "1")]).await;
    commit(&engine, vec![put("other", "")]).await;
    let mut txn = engine.begin().await.unwrap();
    assert_eq!(txn.get(b"mine").await.unwrap(), Some(bytes("1")));
    commit(&engine, vec![put("mine", "2")]).await;
    for _ in 0..2 {
        commit(&engine, vec![put("other", "")]).await;
    }
    assert!(is_conflict(&txn.commit(vec![put("a", "")]).await));
}

#[tokio::test]
async fn a_range_over_more_than_is_walked_still_finds_the_one_write_that_matters() {
    let engine = redb_on(&Disk::new(0));
    let many = |prefix: &str| (0..600).map(|n| put(&format!("{prefix}{n:03}"), "")).collect::<Vec<_>>();
    commit(&engine, many("a")).await;
    for (write, expected) in [("a599", true), ("b", false)] {
        let mut txn = engine.begin().await.unwrap();
        assert_eq!(txn.range(keys("a", "b"), Order::Asc, 4_000).await.unwrap().rows.len(), 600);
        commit(&engine, vec![put(write, "new")]).await;
        assert_eq!(is_conflict(&txn.commit(vec![put("c", "")]).await), expected, "{write}");
    }
}

#[tokio::test]
async fn an_old_transaction_reads_no_more() {
    let engine = bounded(Bounds { snapshot_age: Duration::ZERO, ..Bounds::default() });
    let mut txn = engine.begin().await.unwrap();
    assert!(matches!(txn.get(b"a").await, Err(EngineError::SnapshotTooOld)));
    assert!(matches!(txn.range(KeyRange::all(), Order::Asc, 1).await, Err(EngineError::SnapshotTooOld)));
}

#[tokio::test]
async fn a_commit_that_was_handed_over_runs_on_when_its_caller_goes() {
    let disk = Disk::new(0);
    let engine = redb_on(&disk);
    {
        let mut abandoned = pin!(engine.begin().await.unwrap().commit(vec![put("a", "1")]));
        // Polled once, it has handed its writes over, and the disk does not let it end.
        disk.hold_syncs(true);
        assert!(poll_once(abandoned.as_mut()).await.is_none());
    }
    disk.hold_syncs(false);
    commit(&engine, vec![put("b", "1")]).await;
    assert_eq!(get(&engine, "a").await, Some(bytes("1")));
}

#[tokio::test]
async fn closing_commits_what_was_handed_over_and_refuses_the_rest() {
    let disk = Disk::new(0);
    let engine = redb_on(&disk);
    let late = engine.begin().await.unwrap();
    let mut reader = engine.begin().await.unwrap();
    // More than the queue holds: each is polled once, and those that find no room have not been handed over.
    let mut waiting = Vec::new();
    let mut committed = 0;
    for n in 0..2_000 {
        let commit = engine.begin().await.unwrap().commit(vec![put(&n.to_string(), "")]);
        let mut commit = Box::pin(tokio::task::unconstrained(commit));
        match poll_once(commit.as_mut()).await {
            None => waiting.push(commit),
            Some(outcome) => committed += usize::from(outcome.is_ok()),
        }
    }
    engine.close();
    for commit in waiting {
        match commit.await {
            Ok(_) => committed += 1,
            Err(CommitError::Engine(EngineError::Closed)) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
    assert!(committed >= 1_000, "what was in the queue is committed: {committed}");
    assert!(matches!(engine.begin().await, Err(EngineError::Closed)));
    assert!(matches!(late.commit(vec![put("late", "")]).await, Err(CommitError::Engine(EngineError::Closed))));
    assert!(matches!(reader.get(b"50").await, Ok(None) | Err(EngineError::Closed)));
    assert_eq!(all_rows(&redb_on(&disk)).await.len(), committed);
}

#[tokio::test]
async fn concurrent_commits_share_a_sync() {
    let disk = Disk::new(0);
    let engine = redb_on(&disk);
    let before = disk.syncs();
    // The disk is so slow that 64 have handed their writes over before the first of them is through.
    disk.hold_syncs(true);
    let mut writers = Vec::new();
    for writer in 0..64 {
        let commit = engine.begin().await.unwrap().commit(vec![put(&writer.to_string(), "")]);
        let mut commit = Box::pin(tokio::task::unconstrained(commit));
        assert!(poll_once(commit.as_mut()).await.is_none());
        writers.push(commit);
    }
    disk.hold_syncs(false);
    for writer in writers {
        writer.await.unwrap();
    }
    let syncs = disk.syncs() - before;
    assert!(syncs < 64 / 4, "64 commits took {syncs} syncs");
    assert_eq!(all_rows(&engine).await.len(), 64);
}

#[tokio::test]
async fn a_flipped_bit_is_found_when_the_file_is_verified() {
    let disk = Disk::new(0);
    let engine = redb_on(&disk);
    commit(&engine, (0..500).map(|n| put(&format!("{n:03}"), "a value that stands out")).collect()).await;
    engine.close();
    let verify = RedbOptions { verify: true, ..OPTIONS };
    drop(disk.restart(Plan::default()).open(verify).unwrap());
    assert!(disk.flip_bit_of(b"a value that stands out") > 0);
    let found = disk.restart(Plan::default()).open(verify);
    assert!(matches!(found, Err(EngineError::Corrupt { .. })), "{found:?}");
}

#[tokio::test]
async fn a_page_that_is_not_what_was_written_is_damage_and_ends_nobody() {
    const PAGE_BYTES: usize = 4_096;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.redb");
    let engine = open(&path).unwrap();
    let value = "x".repeat(400);
    let rows: Vec<Write> = (0..300).map(|row| put(&format!("row {row:04}"), &value)).collect();
    commit(&engine, rows).await;
    drop(engine);
    let whole = fs::read(&path).unwrap();
    let mut damaged = 0;
    for (page, written) in whole.chunks_exact(PAGE_BYTES).enumerate() {
        if written.iter().all(|byte| *byte == 0) {
            continue;
        }
        let mut bytes = whole.clone();
        bytes[page * PAGE_BYTES..][..PAGE_BYTES].fill(0);
        fs::write(&path, bytes).unwrap();
        let read = match open(&path) {
            Ok(engine) => engine.begin().await.unwrap().range(KeyRange::all(), Order::Asc, 300).await.map(|_| ()),
            Err(error) => Err(error),
        };
        match read {
            Ok(()) => {}
            Err(EngineError::Corrupt { .. }) => damaged += 1,
            Err(other) => panic!("page {page}: {other:?}"),
        }
    }
    assert!(damaged > 10, "{damaged}");
}
