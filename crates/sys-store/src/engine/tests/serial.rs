//! Random transactions: both engines against each other and against the oracle.

use super::*;
use proptest::{collection::vec, prelude::*, sample::select};
use std::sync::{Arc, Mutex};

/// Transactions that are open at a time.
const SLOTS: usize = 4;

#[derive(Debug, Clone)]
enum Step {
    Begin(usize),
    Read(usize, Read),
    Commit(usize, Vec<Write>),
    Reopen,
}

/// Few keys, so that transactions meet.
fn key() -> impl Strategy<Value = Bytes> {
    "[abc]{1,2}".prop_map(bytes)
}

/// From before all keys to behind the logs and the change rows, upside down now and then.
fn range() -> impl Strategy<Value = KeyRange> {
    let start = prop_oneof![key(), Just(bytes(""))];
    let end = prop_oneof![key(), Just(bytes("l1")), Just(bytes("z"))];
    (start, end).prop_map(|(start, end)| KeyRange { start, end })
}

fn read() -> impl Strategy<Value = Read> {
    let order = select(vec![Order::Asc, Order::Desc]);
    prop_oneof![key().prop_map(Read::Get), (range(), order, 0..5_usize).prop_map(|(k, o, l)| Read::Range(k, o, l))]
}

fn write() -> impl Strategy<Value = Write> {
    let log = select(vec![bytes("l1"), bytes("l2")]);
    prop_oneof![
        4 => (key(), "[xy]").prop_map(|(key, value)| Write::Put { key, value: bytes(value), stamp: None }),
        1 => key().prop_map(|key| Write::Put { key, value: bytes("version:12345678!"), stamp: Some(8) }),
        3 => key().prop_map(|key| Write::Delete { key }),
        2 => (log, "[xy]").prop_map(|(log, value)| Write::Append { log, value: bytes(value) }),
        1 => "[12]".prop_map(|s| Write::Change { prefix: bytes("m"), suffix: bytes(s), value: bytes("changed") }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        30 => (0..SLOTS).prop_map(Step::Begin),
        60 => (0..SLOTS, read()).prop_map(|(slot, read)| Step::Read(slot, read)),
        40 => (0..SLOTS, vec(write(), 0..5)).prop_map(|(slot, writes)| Step::Commit(slot, writes)),
        1 => Just(Step::Reopen),
    ]
}

/// A transaction that is open on both engines.
struct Open {
    redb: crate::engine::redb::RedbTxn,
    memory: crate::engine::memory::MemoryTxn,
    reads: Vec<(Read, Answer)>,
}

/// Both engines and what they should hold.
struct Both {
    disk: Disk,
    redb: RedbEngine,
    memory: MemoryEngine,
    oracle: Oracle,
    open: [Option<Open>; SLOTS],
}

impl Both {
    fn new() -> Self {
        let disk = Disk::new(1);
        let redb = redb_on(&disk);
        Self { disk, redb, memory: MemoryEngine::new(), oracle: Oracle::default(), open: Default::default() }
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Begin(slot) => {
                let (redb, memory) = (self.redb.begin().await.unwrap(), self.memory.begin().await.unwrap());
                assert_eq!(redb.snapshot_version().0, self.oracle.version, "a snapshot has all that was acknowledged");
                assert_eq!(redb.snapshot_version(), memory.snapshot_version());
                self.open[slot].get_or_insert(Open { redb, memory, reads: Vec::new() });
            }
            Step::Read(slot, read) => {
                let Some(open) = &mut self.open[slot] else { return };
                let answer = read.on(&mut open.redb).await;
                assert_eq!(answer, read.on(&mut open.memory).await, "both engines answer {read:?} alike");
                open.reads.push((read, answer));
            }
            Step::Commit(slot, writes) => {
                let Some(open) = self.open[slot].take() else { return };
                self.commit(open, writes).await;
            }
            Step::Reopen => {
                self.open = Default::default();
                self.redb.close();
                self.redb = redb_on(&self.disk);
            }
        }
    }

    /// The embedded engine refuses exactly what read something that was written since. The model compares answers, so it
    /// lets through what was written back as it was: it may accept more, and never refuses what the other accepts.
    async fn commit(&mut self, open: Open, writes: Vec<Write>) {
        let snapshot = open.redb.snapshot_version();
        let outdated = !writes.is_empty() && self.oracle.written_since(snapshot.0, &open.reads);
        match open.redb.commit(writes.clone()).await {
            Ok(version) => {
                assert!(!outdated, "a transaction that read something outdated was committed: {:?}", open.reads);
                assert_eq!(open.memory.commit(writes.clone()).await.unwrap(), version);
                if writes.is_empty() {
                    assert_eq!(version, snapshot, "who writes nothing commits at his snapshot");
                } else {
                    // What it read is what it would read now: it runs as if alone, in the order of versions.
                    open.reads.iter().for_each(|(read, seen)| assert_eq!(read.on_rows(&self.oracle.rows), *seen));
                    self.oracle.apply(&writes, version);
                }
            }
            Err(CommitError::Conflict) => assert!(outdated, "a conflict with nothing: {:?}", open.reads),
            Err(error) => panic!("{error:?}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]
    #[test]
    fn both_engines_agree_and_are_serializable(steps in vec(step(), 1..120)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut both = Both::new();
            for step in steps {
                both.step(step).await;
            }
            assert_eq!(all_rows(&both.redb).await, both.oracle.rows);
            assert_eq!(all_rows(&both.memory).await, both.oracle.rows);
        });
    }
}

/// A committed transaction.
struct Done {
    version: CommitVersion,
    reads: Vec<(Read, Answer)>,
    writes: Vec<Write>,
}

/// One writer that reads two of four keys and a range of them, and writes a value that is nobody else's.
async fn contend(engine: AnyEngine, writer: usize, done: Arc<Mutex<Vec<Done>>>) -> usize {
    let mut random = crate::engine::fault::Random(writer as u64);
    let mut conflicts = 0;
    for round in 0..20 {
        let mut txn = engine.begin().await.unwrap();
        let mut reads = Vec::new();
        for read in [
            Read::Get(bytes(format!("k{}", random.below(4)))),
            Read::Range(keys(&format!("k{}", random.below(4)), "k9"), Order::Asc, 1 + random.below(2)),
        ] {
            let answer = read.on(&mut txn).await;
            reads.push((read, answer));
        }
        let writes = vec![
            put(&format!("k{}", random.below(4)), &format!("{writer}.{round}")),
            append("log", &format!("{writer}.{round}")),
        ];
        match txn.commit(writes.clone()).await {
            Ok(version) => done.lock().unwrap().push(Done { version, reads, writes }),
            Err(CommitError::Conflict) => conflicts += 1,
            Err(error) => panic!("{error:?}"),
        }
    }
    conflicts
}

#[tokio::test]
async fn concurrent_transactions_are_serializable_in_the_order_of_their_versions() {
    for engine in each_engine() {
        let done = Arc::new(Mutex::new(Vec::new()));
        let writers: Vec<_> =
            (0..16).map(|writer| tokio::spawn(contend(engine.clone(), writer, Arc::clone(&done)))).collect();
        let mut conflicts = 0;
        for writer in writers {
            conflicts += writer.await.unwrap();
        }
        let mut done = std::mem::take(&mut *done.lock().unwrap());
        if matches!(engine, AnyEngine::Redb(_)) {
            assert!(conflicts > 0, "the writers never met, so this shows nothing");
        }
        done.sort_by_key(|done| done.version);
        let mut oracle = Oracle::default();
        for Done { version, reads, writes } in done {
            reads.iter().for_each(|(read, seen)| assert_eq!(read.on_rows(&oracle.rows), *seen, "before {version:?}"));
            oracle.apply(&writes, version);
        }
        assert_eq!(all_rows(&engine).await, oracle.rows);
    }
}
