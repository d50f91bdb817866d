//! What stands on disk: no plaintext, and nothing that opens in another place or under other keys.

use crate::harness::*;
use bytes::Bytes;
use std::{fs, sync::Arc};
use sys_contract::{id::RecordId, model::Role};
use sys_keys::{Keyring, Unsealer, deterministic::SeededEntropy};
use sys_store::{
    LoadError, Refused, SealedError, Store, StoreError, SystemKind, Table,
    engine::{AnyEngine, CommitVersion, Engine, KeyRange, Order, Txn, Write, memory::MemoryEngine, redb::RedbEngine},
};

/// Sealed records are longer than this, index rows are empty and change rows short.
const SHORTEST_RECORD: usize = 40;

async fn all_rows(engine: &AnyEngine) -> Vec<(Bytes, Bytes)> {
    engine.begin().await.unwrap().range(KeyRange::all(), Order::Asc, 4_096).await.unwrap().rows
}

async fn put(engine: &AnyEngine, key: &Bytes, value: &Bytes) {
    let write = Write::Put { key: key.clone(), value: value.clone(), stamp: None };
    engine.begin().await.unwrap().commit(vec![write]).await.unwrap();
}

async fn remove(engine: &AnyEngine, key: &Bytes) {
    engine.begin().await.unwrap().commit(vec![Write::Delete { key: key.clone() }]).await.unwrap();
}

#[tokio::test]
async fn no_plaintext_of_a_record_is_on_disk() {
    let world = World::new(Kind::Redb).await;
    let notes = world.notes().await;
    let user = caller(1, vec![world.at_project(Role::User, 0)]);
    let canaries = ["Kanarienvogel", "Zeisigfink"];
    let mut ids = Vec::new();
    for round in 0..20 {
        let fields = [("title", text(&format!("{} {round}", canaries[0]))), ("draft", text(canaries[1]))];
        ids.push(world.create(&notes, &user, world.task(&notes, 0, &fields)).await.unwrap().view.id());
        let mut open = world.begin().await;
        open.put_row(SystemKind::Outbox, &[round], canaries[0].into()).await.unwrap();
        open.commit().await.unwrap();
    }
    let AnyEngine::Redb(engine) = &world.engine else { panic!("redb") };
    RedbEngine::close(engine);
    let bytes: Vec<u8> =
        ["data", "keys"].iter().flat_map(|file| fs::read(world.files.path().join(file)).unwrap()).collect();
    assert_eq!(
        fs::read(world.data_file()).unwrap().len(),
        bytes.len() - fs::read(world.files.path().join("keys")).unwrap().len()
    );
    let holds = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
    // The search finds what does stand there plain.
    assert!(holds(ids[0].uuid.as_bytes()));
    for canary in canaries {
        for part in [canary, &canary.to_lowercase(), &canary.to_lowercase()[..6]] {
            assert!(!holds(part.as_bytes()), "{part}");
        }
    }
    // Ids in fields are text, and text is sealed.
    assert!(!holds(world.project_text(0).as_bytes()));
}

#[tokio::test]
async fn a_sealed_record_put_elsewhere_does_not_open() {
    for kind in BOTH {
        let world = World::new(kind).await;
        let (tasks, notes) = (world.tasks().await, world.notes().await);
        let user = caller(1, vec![world.at_org(Role::User, 0), world.at_org(Role::User, 1)]);
        let create = async |table: &Arc<Table>, project| {
            let message = world.task(table, project, &[]);
            world.create(table, &user, message).await.unwrap().view.id()
        };
        let tables = [&tasks, &tasks, &tasks, &notes];
        let ids = [create(&tasks, 0).await, create(&tasks, 0).await, create(&tasks, 2).await, create(&notes, 0).await];
        let rows = all_rows(&world.engine).await;
        let row = |at: usize| {
            let is_record = |(key, value): &&(Bytes, Bytes)| {
                key.starts_with(ids[at].org.as_bytes())
                    && key.ends_with(ids[at].uuid.as_bytes())
                    && value.len() > SHORTEST_RECORD
            };
            rows.iter().find(is_record).unwrap()
        };
        // Another record's place in the table, another org's, another table's; and a single bit anywhere.
        for (at, from) in [(0, 1), (0, 2), (0, 3), (3, 0)] {
            put(&world.engine, &row(at).0, &row(from).1).await;
            let forged = world.begin().await.confined(tables[at], &user).find(ids[at]).await;
            let Err(Refused::Store(StoreError::Sealed { cause, .. })) = forged else { panic!("{forged:?}") };
            assert!(matches!(cause, SealedError::Forged), "{cause:?}");
            put(&world.engine, &row(at).0, &row(at).1).await;
            world.get(tables[at], &user, ids[at]).await.expect("back in its place");
        }
        let (key, value) = row(0);
        for byte in 0..value.len() {
            let mut flipped = value.to_vec();
            flipped[byte] ^= 1;
            put(&world.engine, key, &flipped.into()).await;
            let opened = world.begin().await.confined(&tasks, &user).find(ids[0]).await;
            // The commit version is stamped after sealing and is not sealed; nothing else may be touched.
            assert_eq!(opened.is_ok(), (5..13).contains(&byte), "byte {byte}");
        }
    }
}

#[tokio::test]
async fn a_system_row_put_elsewhere_does_not_open() {
    let world = World::new(Kind::Memory).await;
    let mut open = world.begin().await;
    open.put_row(SystemKind::Setting, b"one", b"1".to_vec()).await.unwrap();
    open.put_row(SystemKind::Setting, b"two", b"2".to_vec()).await.unwrap();
    open.commit().await.unwrap();
    let rows = all_rows(&world.engine).await;
    let find = |name: &[u8]| rows.iter().find(|(key, _)| key.ends_with(name)).unwrap();
    put(&world.engine, &find(b"one").0, &find(b"two").1).await;
    let forged = world.begin().await.row(SystemKind::Setting, b"one").await;
    assert!(matches!(forged, Err(StoreError::Sealed { cause: SealedError::Forged, .. })), "{forged:?}");
}

#[tokio::test]
async fn a_store_does_not_open_under_other_keys() {
    let world = World::new(Kind::Memory).await;
    let entropy = Arc::new(SeededEntropy::danger_from_seed(2));
    let unsealer = Unsealer::DangerKeyFile(world.files.path().join("danger2"));
    let keyring = Keyring::create(&world.files.path().join("keys2"), &unsealer, entropy.clone()).unwrap();
    let opened = Store::open(world.engine.clone(), keyring.clone(), entropy.clone()).await;
    assert!(matches!(opened, Err(StoreError::KeysMissing { .. })), "no keys at all: {opened:?}");
    // Those of another store.
    Store::open(AnyEngine::Memory(MemoryEngine::new()), keyring.clone(), entropy.clone()).await.unwrap();
    let opened = Store::open(world.engine.clone(), keyring, entropy).await;
    assert!(matches!(opened, Err(StoreError::OtherKeys)), "{opened:?}");
}

#[tokio::test]
async fn a_catalog_that_was_lost_is_not_begun_anew_beside_its_rows() {
    let world = World::new(Kind::Memory).await;
    let tasks = world.tasks().await;
    let user = caller(1, vec![world.at_project(Role::User, 0)]);
    let id = world.create(&tasks, &user, world.task(&tasks, 0, &[])).await.unwrap().view.id();
    let (keyring, entropy) = (world.store.keyring().clone(), world.store.entropy().clone());
    let open = async |engine: &AnyEngine| Store::open(engine.clone(), keyring.clone(), entropy.clone()).await;
    let load_tasks = async |store: &Store| load(store, compile("mod-tasks", "tasks/v1/tasks.proto", TASKS)).await;
    let rows = all_rows(&world.engine).await;
    let row = |name: &[u8]| rows.iter().find(|(key, _)| key.starts_with(&[0; 8]) && key.ends_with(name)).unwrap();

    // Of one module: it would begin with other numbers, and with none of its records.
    let (key, value) = row(b"module/mod-tasks");
    remove(&world.engine, key).await;
    let lost = load_tasks(&open(&world.engine).await.unwrap()).await;
    assert!(matches!(lost, Err(LoadError::Store(StoreError::Catalog { .. }))), "{lost:?}");
    put(&world.engine, key, value).await;

    // Of the store: all modules would.
    let (key, value) = row(b"identity");
    remove(&world.engine, key).await;
    let lost = open(&world.engine).await;
    assert!(matches!(lost, Err(StoreError::Catalog { .. })), "{lost:?}");
    put(&world.engine, key, value).await;
    let store = open(&world.engine).await.unwrap();
    let tasks = load_tasks(&store).await.unwrap().by_name("tasks.v1.Task").unwrap().clone();
    assert!(store.begin(NOW).await.unwrap().danger_unruled(&tasks).get(id).await.unwrap().is_some());

    // A data file from before a module came does open; but the number that the module's keys are for is given to no other.
    let taken: Vec<[u8; 2]> = keyring.spaces().iter().map(|space| space.module.to_be_bytes()).collect();
    let older = AnyEngine::Memory(MemoryEngine::new());
    let store = open(&older).await.unwrap();
    let directory =
        load(&store, compile("sys-directory", "sys/directory/v1/directory.proto", DIRECTORY)).await.unwrap();
    let org = directory.table(0).unwrap();
    let mut open = store.begin(NOW).await.unwrap();
    open.danger_unruled(org).create(message(org, &[("name", text("A"))])).await.unwrap();
    open.commit().await.unwrap();
    let numbers: Vec<[u8; 2]> = all_rows(&older).await.iter().map(|(key, _)| [key[6], key[7]]).collect();
    assert!(numbers.iter().any(|number| *number != [0, 0]));
    assert!(numbers.iter().all(|number| *number == [0, 0] || !taken.contains(number)), "{numbers:?} of {taken:?}");
}

/// Keys that belong to tasks in org A, from the byte that says what they lead to.
async fn task_rows(world: &World) -> Vec<(Bytes, Bytes)> {
    let prefix = [world.orgs[0].tag().as_bytes().as_slice(), &[0, 2, 0, 1]].concat();
    let mut txn = world.engine.begin().await.unwrap();
    let rows = txn.range(KeyRange::prefix(&prefix), Order::Asc, 4_096).await.unwrap().rows;
    rows.into_iter().map(|(key, value)| (key.slice(prefix.len()..), value)).collect()
}

#[tokio::test]
async fn each_commit_leaves_one_note_of_each_record_that_it_wrote_with_the_sealed_state_before() {
    for kind in BOTH {
        let world = World::new(kind).await;
        let table = world.tasks().await;
        let user = caller(1, vec![world.at_project(Role::User, 0)]);
        let mut expect = Vec::new();
        let mut open = world.begin().await;
        let mut ids = Vec::new();
        for _ in 0..2 {
            ids.push(open.confined(&table, &user).create(world.task(&table, 0, &[])).await.unwrap().view.id());
        }
        let weight = |weight| message(&table, &[("weight", prost_reflect::Value::I32(weight))]);
        update_in(&mut open.confined(&table, &user), ids[0], &[], weight(1), None).await.unwrap();
        let version = open.commit().await.unwrap();
        ids.sort();
        expect.extend((0_u32..).zip(&ids).map(|(number, id)| (version, number, *id, 1, Bytes::new())));
        let rows = task_rows(&world).await;
        let (_, before) = rows.iter().find(|(key, _)| key[0] == 1 && key.ends_with(ids[1].uuid.as_bytes())).unwrap();
        let mut open = world.begin().await;
        open.danger_unruled(&table).delete(ids[1]).await.unwrap();
        expect.push((open.commit().await.unwrap(), 0, ids[1], 2, before.clone()));

        let note = |(version, number, id, op, before): (CommitVersion, u32, RecordId, u8, Bytes)| {
            let key = [&[4], version.0.to_be_bytes().as_slice(), &number.to_be_bytes()].concat();
            let note = [id.uuid.as_bytes().as_slice(), &[op], &NOW.unix_s.to_be_bytes(), &before].concat();
            (Bytes::from(key), Bytes::from(note))
        };
        let expect: Vec<_> = expect.into_iter().map(note).collect();
        let rows = task_rows(&world).await;
        let (changes, rest): (Vec<_>, Vec<_>) = rows.into_iter().partition(|(key, _)| key[0] == 4);
        assert_eq!(changes, expect);
        // The deleted record left nothing else behind.
        let of = |id: usize| rest.iter().filter(|(key, _)| key.ends_with(ids[id].uuid.as_bytes())).count();
        assert_eq!((of(0), of(1)), (4, 0), "record, weight, project and owner");
    }
}

#[tokio::test]
async fn no_entry_of_a_dropped_index_stays_on_disk() {
    for kind in BOTH {
        let world = World::new(kind).await;
        let user = caller(1, vec![world.at_project(Role::User, 0)]);
        let table = world.tasks().await;
        for weight in 1..6 {
            let fields =
                [("weight", prost_reflect::Value::I32(weight)), ("state", prost_reflect::Value::EnumNumber(1))];
            world.create(&table, &user, world.task(&table, 0, &fields)).await.unwrap();
        }
        let tokens = async || task_rows(&world).await.iter().filter(|(key, _)| key[0] == 2).count();
        assert_eq!(tokens().await, 10);
        let without =
            TASKS.replace("int32 weight = 10 [(sys.policy.v1.field) = { index: EQUAL }]", "int32 weight = 10");
        world.load_tasks(&without).await.unwrap();
        assert_eq!(tokens().await, 5);
    }
}
