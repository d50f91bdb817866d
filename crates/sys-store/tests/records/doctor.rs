//! A check finds each kind of damage by its name, and a repair makes indexes what they were, byte for byte.

use crate::harness::*;
use bytes::Bytes;
use proptest::prelude::*;
use prost::Message;
use prost_reflect::Value;
use std::{fs, sync::Arc};
use sys_contract::{
    id::{OrgTag, RecordId},
    model::Role,
};
use sys_keys::{Keyring, SpaceId, Unsealer, deterministic::SeededEntropy};
use sys_store::{
    Find, Store, StoreError, SystemKind, Table,
    check::{CheckOptions, Fault, Mode, Report},
    engine::{AnyEngine, Engine, KeyRange, MAX_RANGE_ROWS, Order, RangeRead, Txn, Write},
};

type Row = (Bytes, Bytes);

const TOKEN: u8 = 2;
const SCOPE: u8 = 3;
const CHANGE: u8 = 4;

async fn check(store: &Store, mode: Mode) -> Report {
    store.check(CheckOptions { mode, ..CheckOptions::default() }, &mut |_| {}).await.unwrap()
}

async fn look(world: &World) -> Report {
    check(&world.store, Mode::Look).await
}

async fn all_rows(engine: &AnyEngine) -> Vec<Row> {
    let mut txn = engine.begin().await.unwrap();
    let mut all: Vec<Row> = Vec::new();
    let mut rest = KeyRange::all();
    loop {
        let RangeRead { rows, is_end } = txn.range(rest.clone(), Order::Asc, MAX_RANGE_ROWS).await.unwrap();
        all.extend(rows);
        match all.last() {
            Some((last, _)) if !is_end => rest.start = sys_store::engine::key_after(last),
            _ => return all,
        }
    }
}

async fn write(engine: &AnyEngine, writes: Vec<Write>) {
    for chunk in writes.chunks(1_000) {
        engine.begin().await.unwrap().commit(chunk.to_vec()).await.unwrap();
    }
}

async fn put(engine: &AnyEngine, key: &Bytes, value: &Bytes) {
    write(engine, vec![Write::Put { key: key.clone(), value: value.clone(), stamp: None }]).await;
}

async fn remove(engine: &AnyEngine, key: &Bytes) {
    write(engine, vec![Write::Delete { key: key.clone() }]).await;
}

fn kind_of(key: &[u8]) -> u8 {
    key[10]
}

/// The rows of a kind that belong to a record: by its UUID at the end of the key, or of the value of a change.
fn rows_of(rows: &[Row], kind: u8, id: RecordId) -> Vec<Row> {
    let of_record = |(key, value): &&Row| {
        let uuid = id.uuid.as_bytes();
        key.starts_with(id.org.as_bytes())
            && kind_of(key) == kind
            && (if kind == CHANGE { value.starts_with(uuid) } else { key.ends_with(uuid) })
    };
    rows.iter().filter(of_record).cloned().collect()
}

/// What is wrong, as names with counts.
fn wrong(report: &Report) -> Vec<String> {
    report.found.iter().map(|(fault, found)| format!("{} {}", fault.name(), found.count)).collect()
}

struct Bed {
    world: World,
    tasks: Arc<Table>,
    ids: Vec<RecordId>,
}

impl Bed {
    /// Some tasks with values in every index, of which one was changed and one deleted.
    async fn new(kind: Kind, count: usize) -> Self {
        let world = World::new(kind).await;
        let (tasks, notes) = (world.tasks().await, world.notes().await);
        let user = caller(1, vec![world.at_org(Role::User, 0), world.at_org(Role::User, 1)]);
        let mut ids = Vec::new();
        for number in 0..count {
            let fields = [
                ("code", text(&format!("code {number}"))),
                ("slug", text(&format!("slug {number}"))),
                ("nick", text(&format!("nick {number}"))),
                ("state", Value::EnumNumber(1)),
                ("weight", Value::I32(i32::try_from(number % 3).unwrap())),
            ];
            let task = world.task(&tasks, number % 3, &fields);
            ids.push(world.create(&tasks, &user, task).await.unwrap().view.id());
        }
        let note = world.task(&notes, 0, &[("title", text("Some words of a title"))]);
        world.create(&notes, &user, note).await.unwrap();
        let change = message(&tasks, &[("code", text("another"))]);
        world.update(&tasks, &user, ids[0], &["code"], change, None).await.unwrap();
        let mut open = world.begin().await;
        let last = ids.pop().unwrap();
        open.danger_unruled(&tasks).delete(last).await.unwrap();
        for number in 0..5_u8 {
            for org in [world.orgs[0].tag(), OrgTag::GLOBAL] {
                open.append_erasable(sys_store::LogKind::Audit, org, &[number; 32], vec![number]).await.unwrap();
            }
        }
        open.commit().await.unwrap();
        Self { world, tasks, ids }
    }

    async fn rows(&self) -> Vec<Row> {
        all_rows(&self.world.engine).await
    }

    fn engine(&self) -> &AnyEngine {
        &self.world.engine
    }

    /// The record of an id as it stands in the engine: the longest value under its UUID.
    async fn record(&self, at: usize) -> Row {
        rows_of(&self.rows().await, 1, self.ids[at]).pop().unwrap()
    }

    /// What the check says, then what it says after a repair.
    async fn found_and_left(&self) -> (Vec<String>, Vec<String>) {
        let found = look(&self.world).await;
        let repaired = check(&self.world.store, Mode::RepairIndexes).await;
        assert_eq!(repaired.found, found.found, "a repair reports what it found");
        (wrong(&found), wrong(&look(&self.world).await))
    }
}

#[tokio::test]
async fn a_store_that_was_only_used_is_clean() {
    for kind in BOTH {
        let bed = Bed::new(kind, 12).await;
        let before = bed.rows().await;
        let report = look(&bed.world).await;
        assert_eq!(wrong(&report), Vec::<String>::new());
        // 11 tasks, a note, 2 orgs and 3 projects; each was noted once, one task twice more and one deleted.
        assert_eq!((report.seen.records, report.seen.changes, report.seen.log_entries), (17, 20, 10));
        let index_rows = before.iter().filter(|(key, _)| matches!(kind_of(key), TOKEN | SCOPE)).count();
        assert_eq!(report.seen.index_rows, u64::try_from(index_rows).unwrap());
        let repaired = check(&bed.world.store, Mode::RepairIndexes).await;
        assert_eq!((repaired.rows_written, repaired.rows_removed), (0, 0));
        assert_eq!(bed.rows().await, before, "nothing was written");
    }
}

#[tokio::test]
async fn missing_index_and_scope_rows_are_found_and_made_again() {
    for kind in BOTH {
        let bed = Bed::new(kind, 8).await;
        let before = bed.rows().await;
        let token = rows_of(&before, TOKEN, bed.ids[1]).swap_remove(0).0;
        let scope = rows_of(&before, SCOPE, bed.ids[2]).swap_remove(0).0;
        remove(bed.engine(), &token).await;
        remove(bed.engine(), &scope).await;
        // A row that says something is no row of an index.
        let odd = rows_of(&before, SCOPE, bed.ids[3]).swap_remove(0).0;
        put(bed.engine(), &odd, &Bytes::from_static(b"x")).await;
        let report = look(&bed.world).await;
        assert_eq!(wrong(&report), ["index_missing 3"]);
        for at in [1, 2, 3] {
            let id = bed.tasks.id_text(bed.ids[at]);
            assert!(report.found[&Fault::IndexMissing].first.iter().any(|place| place.ends_with(&id)), "{report:?}");
        }
        assert_eq!(bed.found_and_left().await, (vec!["index_missing 3".to_owned()], Vec::new()));
        assert_eq!(bed.rows().await, before, "the repair made what was there");
    }
}

#[tokio::test]
async fn stray_rows_are_found_and_removed() {
    for kind in BOTH {
        let bed = Bed::new(kind, 8).await;
        let before = bed.rows().await;
        let token = rows_of(&before, TOKEN, bed.ids[1]).swap_remove(0).0;
        let scope = rows_of(&before, SCOPE, bed.ids[1]).swap_remove(0).0;
        let with_uuid = |row: &Bytes, uuid: &[u8]| Bytes::from([&row[..row.len() - 16], uuid].concat());
        // Of a record that does not hold the value, of no record at all, and of an index that does not exist.
        put(bed.engine(), &with_uuid(&token, bed.ids[4].uuid.as_bytes()), &Bytes::new()).await;
        put(bed.engine(), &with_uuid(&scope, &[9; 16]), &Bytes::new()).await;
        let mut other_index = token.to_vec();
        other_index[12] = 99;
        put(bed.engine(), &other_index.into(), &Bytes::new()).await;
        assert_eq!(bed.found_and_left().await, (vec!["index_stray 3".to_owned()], Vec::new()));
        assert_eq!(bed.rows().await, before, "the repair left what was there");
    }
}

#[tokio::test]
async fn damaged_lost_and_outdated_records_are_found_and_left_alone() {
    let bed = Bed::new(Kind::Memory, 8).await;
    let check = async |damage: &[(Bytes, Option<Bytes>)], found: &[&str], left: &[&str]| {
        let before = bed.rows().await;
        for (key, value) in damage {
            match value {
                Some(value) => put(bed.engine(), key, value).await,
                None => remove(bed.engine(), key).await,
            }
        }
        let (was, is) = bed.found_and_left().await;
        assert_eq!(
            (was.as_slice(), is.as_slice()),
            (
                found.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>().as_slice(),
                left.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>().as_slice()
            )
        );
        // Back to what it was.
        let after = bed.rows().await;
        let gone = after.iter().filter(|row| !before.contains(row)).map(|(key, _)| Write::Delete { key: key.clone() });
        let gone: Vec<_> = gone.collect();
        write(bed.engine(), gone).await;
        for (key, value) in &before {
            put(bed.engine(), key, value).await;
        }
        assert_eq!(wrong(&look(&bed.world).await), Vec::<String>::new());
    };
    let (key, value) = bed.record(1).await;
    let changed = |at: usize, to: u8| {
        let mut value = value.to_vec();
        value[at] = to;
        Some(Bytes::from(value))
    };
    // A byte of the ciphertext, the generation, the version up and down; the record of another place; nothing at all.
    check(&[(key.clone(), changed(40, value[40] ^ 1))], &["record_forged 1"], &["record_forged 1"]).await;
    check(&[(key.clone(), changed(4, 7))], &["record_generation 1"], &["record_generation 1"]).await;
    check(&[(key.clone(), changed(5, 1))], &["change_missing 1"], &["change_missing 1"]).await;
    check(
        &[(key.clone(), Some(bed.record(2).await.1))],
        &["record_forged 1", "change_missing 1"],
        &["record_forged 1", "change_missing 1"],
    )
    .await;
    check(&[(key.clone(), Some(Bytes::from_static(b"short")))], &["record_forged 1"], &["record_forged 1"]).await;
    let rows = u64::try_from(
        rows_of(&bed.rows().await, TOKEN, bed.ids[1]).len() + rows_of(&bed.rows().await, SCOPE, bed.ids[1]).len(),
    );
    let strays = format!("index_stray {}", rows.unwrap());
    check(&[(key.clone(), None)], &["record_lost 1", &strays], &["record_lost 1"]).await;
    // An older value put back: its rows are those of the newer one.
    let user = caller(1, vec![bed.world.at_org(Role::User, 0), bed.world.at_org(Role::User, 1)]);
    let next = message(&bed.tasks, &[("code", text("newer"))]);
    bed.world.update(&bed.tasks, &user, bed.ids[1], &["code"], next, None).await.unwrap();
    check(
        &[(key.clone(), Some(value.clone()))],
        &["record_outdated 1", "index_missing 1", "index_stray 1"],
        &["record_outdated 1"],
    )
    .await;
    // A deleted one put back.
    let newest = bed.record(1).await.1;
    let mut open = bed.world.begin().await;
    assert!(open.danger_unruled(&bed.tasks).delete(bed.ids[1]).await.unwrap());
    open.commit().await.unwrap();
    let missing = strays.replace("stray", "missing");
    check(&[(key.clone(), Some(newest))], &["record_outdated 1", &missing], &["record_outdated 1"]).await;
}

#[tokio::test]
async fn two_records_with_one_unique_value_are_found() {
    for kind in BOTH {
        let bed = Bed::new(kind, 8).await;
        let user = caller(1, vec![bed.world.at_org(Role::User, 0)]);
        let id = bed.ids[3];
        // The store forgets that the code is taken.
        for (key, _) in rows_of(&bed.rows().await, TOKEN, id) {
            remove(bed.engine(), &key).await;
        }
        let twin = bed.world.task(&bed.tasks, 0, &[("code", text("code 3"))]);
        let twin = bed.world.create(&bed.tasks, &user, twin).await.unwrap().view.id();
        let (found, left) = bed.found_and_left().await;
        assert_eq!((found, left), (vec!["index_missing 4".to_owned()], vec!["not_unique 1".to_owned()]));
        let report = look(&bed.world).await;
        let expected = format!("mod-tasks/tasks.code: {} and {}", bed.tasks.id_text(id), bed.tasks.id_text(twin));
        assert_eq!(report.found[&Fault::NotUnique].first, [expected]);
    }
}

#[tokio::test]
async fn logs_changes_and_rows_of_the_server_are_judged() {
    let bed = Bed::new(Kind::Memory, 8).await;
    let rows = bed.rows().await;
    let org = bed.world.orgs[0].tag();
    let entry = |org: OrgTag, number: u64| {
        let end = [&org.as_bytes()[..], &number.to_be_bytes()].concat();
        rows.iter().find(|(key, _)| kind_of(key) == 5 && key.ends_with(&end)).unwrap().clone()
    };
    remove(bed.engine(), &entry(org, 2).0).await;
    remove(bed.engine(), &entry(OrgTag::GLOBAL, 0).0).await;
    put(bed.engine(), &entry(OrgTag::GLOBAL, 3).0, &entry(org, 3).1).await;
    let changes = rows_of(&rows, CHANGE, bed.ids[1]);
    remove(bed.engine(), &changes[0].0).await;
    let malformed = rows_of(&rows, CHANGE, bed.ids[2]).swap_remove(0).0;
    put(bed.engine(), &malformed, &Bytes::from_static(b"x")).await;
    let mut open = bed.world.begin().await;
    open.put_row(SystemKind::Setting, b"one", b"1".to_vec()).await.unwrap();
    open.put_row(SystemKind::Setting, b"two", b"2".to_vec()).await.unwrap();
    open.commit().await.unwrap();
    let rows = bed.rows().await;
    let named = |name: &[u8]| rows.iter().find(|(key, _)| key.ends_with(name)).unwrap().clone();
    put(bed.engine(), &named(b"two").0, &named(b"one").1).await;
    // Keys of no part of the store, of no table, of no module.
    let mut no_table = bed.record(1).await.0.to_vec();
    no_table[9] = 77;
    for key in [Bytes::from_static(b"?"), no_table.into(), Bytes::from_static(&[9; 60])] {
        put(bed.engine(), &key, &Bytes::new()).await;
    }
    let report = look(&bed.world).await;
    let expected = [
        "system_row_forged 1",
        "log_entry_forged 1",
        "log_gap 1",
        "change_missing 2",
        "change_malformed 1",
        "unknown_key 3",
        "log_begins 1",
    ];
    assert_eq!(wrong(&report), expected);
    assert_eq!(report.found[&Fault::LogGap].first, [format!("audit of org {org:?}: 3 stands behind 1")]);
    assert!(!report.is_clean());
}

/// The part of a module's row in the catalog that a test changes.
#[derive(Clone, PartialEq, prost::Message)]
struct ModuleRow {
    #[prost(uint32, tag = "1")]
    number: u32,
    #[prost(message, repeated, tag = "2")]
    tables: Vec<TableRow>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct TableRow {
    #[prost(uint32, tag = "1")]
    number: u32,
    #[prost(string, tag = "2")]
    name: String,
}

#[tokio::test]
async fn a_catalog_that_contradicts_itself_is_found() {
    let bed = Bed::new(Kind::Memory, 8).await;
    let added = ModuleRow { number: 0, tables: vec![TableRow { number: 40, name: "ghosts".into() }] };
    let mut open = bed.world.begin().await;
    // Protobuf messages written one behind the other are merged; a number of 0 is not written.
    let row = open.row(SystemKind::Catalog, b"module/mod-tasks").await.unwrap().unwrap();
    let merged = [row.as_slice(), &added.encode_to_vec()].concat();
    open.put_row(SystemKind::Catalog, b"module/mod-tasks", merged).await.unwrap();
    open.put_row(SystemKind::Catalog, b"module/odd", vec![0xff; 9]).await.unwrap();
    open.commit().await.unwrap();
    let report = look(&bed.world).await;
    assert_eq!(wrong(&report), ["catalog 2"]);
    let first = &report.found[&Fault::Catalog].first;
    assert!(first.iter().any(|place| place.contains("mod-tasks") && place.contains("`ghosts`")), "{first:?}");
    assert!(first.iter().any(|place| place.contains("odd: its row cannot be read")), "{first:?}");
    // A module's row put in the place of another's: its tables are unknown, and everything else is looked at all the same.
    let rows = bed.rows().await;
    let named = |name: &[u8]| rows.iter().find(|(key, _)| key.ends_with(name)).unwrap().clone();
    put(bed.engine(), &named(b"module/mod-notes").0, &named(b"module/odd").1).await;
    let report = look(&bed.world).await;
    let notes = rows.iter().filter(|(key, _)| key[6..8] == [0, 3]).count();
    assert_eq!(
        wrong(&report),
        ["catalog 3".to_owned(), "system_row_forged 1".to_owned(), format!("unknown_key {notes}")]
    );
}

#[tokio::test]
async fn an_older_key_file_is_found_and_makes_no_new_keys() {
    let bed = Bed::new(Kind::Memory, 2).await;
    let (path, older) = (bed.world.files.path().join("keys"), bed.world.files.path().join("older"));
    fs::copy(&path, &older).unwrap();
    // Org B gets its first task, and its keys, after the copy was made.
    let user = caller(1, vec![bed.world.at_org(Role::User, 1)]);
    let id = bed.world.create(&bed.tasks, &user, bed.world.task(&bed.tasks, 2, &[])).await.unwrap().view.id();
    let unsealer = Unsealer::DangerKeyFile(bed.world.files.path().join("danger"));
    let entropy = Arc::new(SeededEntropy::danger_from_seed(3));
    let keyring = Keyring::open(&older, &unsealer, entropy.clone()).unwrap();
    let store = Store::open(bed.engine().clone(), keyring, entropy).await.unwrap();
    let directory = |at| bed.world.directory.table(at).unwrap().clone();
    store.set_directory(directory(0), directory(1)).unwrap();
    let report = check(&store, Mode::RepairIndexes).await;
    assert_eq!(wrong(&report), ["keys_missing 1"]);
    assert!(report.found[&Fault::KeysMissing].first[0].contains("mod-tasks"), "{report:?}");
    assert_eq!(report.rows_removed, 0, "without keys nothing can be said of a row");
    // Neither does a write make a second first generation, nor does a list show less than there is.
    let length = fs::metadata(&older).unwrap().len();
    let mut open = store.begin(NOW).await.unwrap();
    let missing = |refused| matches!(refused, sys_store::Refused::Store(StoreError::KeysMissing { .. }));
    let task = bed.world.task(&bed.tasks, 2, &[]);
    assert!(missing(open.confined(&bed.tasks, &user).create(task).await.unwrap_err()));
    let list = sys_store::ListRequest { org_id: bed.world.org_text(1), ..Default::default() };
    assert!(missing(open.confined(&bed.tasks, &user).list(&list).await.unwrap_err()));
    let found = open.danger_unruled(&bed.tasks).find(&Find::all(id.org)).await;
    assert!(matches!(found, Err(StoreError::KeysMissing { .. })), "{found:?}");
    assert_eq!(fs::metadata(&older).unwrap().len(), length, "no key was made");
}

#[tokio::test]
async fn keys_without_rows_are_worth_knowing() {
    let bed = Bed::new(Kind::Memory, 2).await;
    let space = SpaceId { module: 1, org: OrgTag::from_bytes([7; 6]) };
    bed.world.store.keyring().space_or_create(space).unwrap();
    let report = look(&bed.world).await;
    assert_eq!(wrong(&report), ["keys_unused 1"]);
    assert!(report.is_clean());
}

#[tokio::test]
async fn a_repair_that_was_cut_off_goes_on() {
    let bed = Bed::new(Kind::Memory, 300).await;
    let before = bed.rows().await;
    let tokens = before.iter().filter(|(key, _)| matches!(kind_of(key), TOKEN | SCOPE));
    let left = before.len() - tokens.clone().count();
    write(bed.engine(), tokens.map(|(key, _)| Write::Delete { key: key.clone() }).collect()).await;
    let store = bed.world.store.clone();
    let cut = tokio::spawn(async move {
        let mut progress = |_: &_| panic!("cut off after the first batch");
        let options = CheckOptions { mode: Mode::RepairIndexes, ..CheckOptions::default() };
        store.check(options, &mut progress).await
    });
    assert!(cut.await.is_err(), "it was cut off");
    let between = bed.rows().await;
    assert!(left < between.len() && between.len() < before.len(), "{left}, {}, {}", between.len(), before.len());
    check(&bed.world.store, Mode::RepairIndexes).await;
    assert_eq!(bed.rows().await, before);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn whatever_happened_to_index_rows_a_repair_makes_them_what_they_were(
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0_u8..4), 1..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let bed = Bed::new(Kind::Memory, 12).await;
            let before = bed.rows().await;
            let rows: Vec<&Row> = before.iter().filter(|(key, _)| matches!(kind_of(key), TOKEN | SCOPE)).collect();
            for (a, b, how) in damage {
                let (key, other) = (&a.get(&rows).0, &b.get(&rows).0);
                match how {
                    0 => remove(bed.engine(), key).await,
                    1 => put(bed.engine(), key, &Bytes::from_static(b"?")).await,
                    // Another record's UUID behind this token, or a token that nobody has.
                    2 => put(bed.engine(), &[&key[..key.len() - 16], &other[other.len() - 16..]].concat().into(), &Bytes::new()).await,
                    _ => {
                        let mut odd = key.to_vec();
                        let at = odd.len() - 17;
                        odd[at] ^= 0x40;
                        put(bed.engine(), &odd.into(), &Bytes::new()).await;
                    }
                }
            }
            check(&bed.world.store, Mode::RepairIndexes).await;
            assert_eq!(bed.rows().await, before);
            assert_eq!(wrong(&look(&bed.world).await), Vec::<String>::new());
        });
    }
}
