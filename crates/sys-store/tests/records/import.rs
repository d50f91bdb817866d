//! An imported store is the one that calls would have written, row for row; and what an import refuses.

use crate::harness::*;
use bytes::Bytes;
use proptest::prelude::*;
use prost_reflect::DynamicMessage;
use std::{collections::BTreeMap, sync::Arc};
use sys_contract::id::{OrgId, OrgTag, RecordId};
use sys_store::{
    Find, Import, Incoming, Put, Refused, Store, Table,
    check::CheckOptions,
    engine::{AnyEngine, CommitError, Engine, KeyRange, MAX_RANGE_ROWS, Order, Txn, key_after},
};

const CHANGE: u8 = 4;

/// A task of project A1, A2 or B1, with values that others may have, too.
#[derive(Debug, Clone)]
struct New {
    project: usize,
    number: u8,
    code: u8,
    slug: u8,
    title: String,
}

fn news() -> impl Strategy<Value = Vec<New>> {
    let new = (0_usize..3, 0_u8..30, 0_u8..12, 0_u8..12, "[ab]{0,3} [cd]{0,4}");
    let new = new.prop_map(|(project, number, code, slug, title)| New { project, number, code, slug, title });
    proptest::collection::vec(new, 1..25)
}

fn task(world: &World, table: &Table, new: &New) -> (RecordId, DynamicMessage) {
    // No value is nothing that one could take.
    let value = |prefix: &str, n: u8| text(&if n < 4 { String::new() } else { format!("{prefix}{n}") });
    let fields = [("code", value("c", new.code)), ("slug", value("s", new.slug)), ("kind", text(&new.title))];
    let id = RecordId::new(world.projects[new.project].0.tag(), u64::from(new.number), [new.number; 10]);
    (id, world.task(table, new.project, &fields))
}

async fn written(store: &Store, table: &Arc<Table>, id: RecordId, new: DynamicMessage) -> Result<(), Refused> {
    let mut open = store.begin(NOW).await.unwrap();
    open.danger_unruled(table).create_as(id, new).await?;
    open.commit().await.unwrap();
    Ok(())
}

async fn sealed(store: &Store, table: &Arc<Table>, id: RecordId, new: DynamicMessage) -> sys_store::Sealed {
    let incoming = Incoming::new(table, id, new).unwrap();
    store.keys_for_incoming([&incoming]).await.unwrap();
    store.seal_incoming(incoming).unwrap()
}

/// The keys of all rows, those of changes without the versions of their commits; of these the number alone counts.
async fn keys(engine: &AnyEngine) -> BTreeMap<Bytes, usize> {
    let mut txn = engine.begin().await.unwrap();
    let mut keys = BTreeMap::new();
    let mut rest = KeyRange::all();
    loop {
        let rows = txn.range(rest.clone(), Order::Asc, MAX_RANGE_ROWS).await.unwrap().rows;
        let Some((last, _)) = rows.last() else { return keys };
        rest.start = key_after(last);
        for (key, _) in rows {
            let key = if key.get(10) == Some(&CHANGE) { key.slice(..11) } else { key };
            *keys.entry(key).or_default() += 1;
        }
    }
}

async fn records(store: &Store, table: &Arc<Table>, orgs: &[OrgId]) -> Vec<(RecordId, DynamicMessage)> {
    let mut open = store.begin(NOW).await.unwrap();
    let mut all = Vec::new();
    for org in orgs {
        let found = open.danger_unruled(table).find(&Find::all(org.tag())).await.unwrap();
        all.extend(found.into_iter().map(|stored| (stored.id(), stored.into_message())));
    }
    all
}

fn on_a_runtime<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn an_imported_store_is_what_calls_would_have_written(news in news(), round in 1_usize..8) {
        on_a_runtime(async {
            let world = World::new(Kind::Memory).await;
            let table = world.tasks().await;
            let AnyEngine::Memory(engine) = &world.engine else { panic!("it is in memory") };
            let engine = AnyEngine::Memory(engine.fork());
            let entropy = world.store.entropy().clone();
            let other = Store::open(engine.clone(), world.store.keyring().clone(), entropy).await.unwrap();
            let directory = |n| world.directory.table(n).unwrap().clone();
            other.set_directory(directory(0), directory(1)).unwrap();

            let mut by_calls = Vec::new();
            for new in &news {
                let (id, message) = task(&world, &table, new);
                by_calls.push(written(&world.store, &table, id, message).await.is_ok());
            }
            let mut import = Import::default();
            let mut by_import = Vec::new();
            for round in news.chunks(round) {
                let mut open = other.begin(NOW).await.unwrap();
                for new in round {
                    let (id, message) = task(&world, &table, new);
                    let sealed = sealed(&other, &table, id, message).await;
                    by_import.push(matches!(import.put(&mut open, sealed).await, Ok(Put::New)));
                }
                open.commit_import().await.unwrap();
            }
            prop_assert_eq!(by_import, by_calls);
            prop_assert_eq!(records(&other, &table, &world.orgs).await, records(&world.store, &table, &world.orgs).await);
            prop_assert_eq!(keys(&engine).await, keys(&world.engine).await);
            let report = other.check(CheckOptions::default(), &mut |_| {}).await.unwrap();
            prop_assert!(report.is_clean(), "{report:?}");
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn what_is_there_is_passed_over_if_it_is_the_same_and_refused_if_not() {
    for kind in BOTH {
        let world = World::new(kind).await;
        let table = world.tasks().await;
        let id = RecordId::new(world.orgs[0].tag(), 1, [1; 10]);
        let put = async |title: &str, id: RecordId, project: usize| {
            let mut open = world.begin().await;
            let new = world.task(&table, project, &[("kind", text(title))]);
            let sealed = sealed(&world.store, &table, id, new).await;
            let put = Import::default().put(&mut open, sealed).await.map_err(|refused| crate::harness::kind(&refused));
            open.commit_import().await.unwrap();
            put
        };
        assert_eq!(put("one", id, 0).await, Ok(Put::New));
        assert_eq!(put("one", id, 0).await, Ok(Put::AlreadyThere));
        assert_eq!(put("two", id, 0).await, Err("taken id".to_owned()));
        assert_eq!(put("one", id, 1).await, Err("taken id".to_owned()), "in another project");
        assert_eq!(records(&world.store, &table, &world.orgs).await.len(), 1);
    }
}

#[tokio::test]
async fn scopes_must_exist_and_ids_must_say_where_a_record_stands() {
    let world = World::new(Kind::Memory).await;
    let table = world.tasks().await;
    let mut import = Import::default();
    let mut open = world.begin().await;
    let org = world.orgs[0].tag();
    let mut put = async |id: RecordId, org: String, project: String| {
        let mut new = message(&table, &[("org_id", text(&org)), ("project_id", text(&project))]);
        new.set_field_by_name("kind", text("a"));
        let incoming = Incoming::new(&table, id, new).map_err(|refused| refused.to_string())?;
        world.store.keys_for_incoming([&incoming]).await.unwrap();
        let sealed = world.store.seal_incoming(incoming).unwrap();
        import.put(&mut open, sealed).await.map_err(|refused| refused.to_string())
    };
    let id = |org, n| RecordId::new(org, n, [u8::try_from(n).unwrap(); 10]);
    // Another org of the same tag, after the right one was looked up.
    assert_eq!(put(id(org, 1), world.org_text(0), world.project_text(0)).await, Ok(Put::New));
    let mut forged = [9; 10];
    forged[4..].copy_from_slice(org.as_bytes());
    let forged = OrgId::from_record(RecordId::new(OrgTag::GLOBAL, 9, forged));
    assert_eq!(forged.tag(), org);
    let refused = put(id(org, 2), forged.to_string(), world.project_text(0)).await;
    assert!(refused.as_ref().is_err_and(|error| error.contains("there is no such org")), "{refused:?}");
    let refused = put(id(org, 3), world.org_text(0), world.project_text(2)).await;
    assert!(refused.as_ref().is_err_and(|error| error.contains("no such project")), "{refused:?}");
    for elsewhere in [world.orgs[1].tag(), OrgTag::GLOBAL] {
        let refused = put(id(elsewhere, 4), world.org_text(0), world.project_text(0)).await;
        assert!(
            refused.as_ref().is_err_and(|error| error.starts_with("id: it is an id of another org")),
            "{refused:?}"
        );
    }
}

#[tokio::test]
async fn a_commit_of_somebody_else_stops_an_import() {
    for kind in BOTH {
        let world = World::new(kind).await;
        let table = world.tasks().await;
        let id = |n: u8| RecordId::new(world.orgs[0].tag(), 1, [n; 10]);
        let new = || world.task(&table, 0, &[("kind", text("a"))]);
        let mut open = world.begin().await;
        let sealed = sealed(&world.store, &table, id(1), new()).await;
        Import::default().put(&mut open, sealed).await.unwrap();
        written(&world.store, &table, id(2), new()).await.unwrap();
        assert!(matches!(open.commit_import().await, Err(CommitError::Conflict)));
        assert_eq!(records(&world.store, &table, &world.orgs).await.len(), 1);
    }
}
