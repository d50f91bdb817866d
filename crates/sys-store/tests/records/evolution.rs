//! Contracts that change over stored records: indexes that come and go, numbers that stay.

use crate::harness::*;
use prost_reflect::Value;
use std::sync::Arc;
use sys_contract::model::Role;
use sys_keys::{Keyring, Unsealer, deterministic::SeededEntropy};
use sys_store::{
    Find, ListRequest, LoadError, Refused, Store, StoreError, Table,
    engine::{
        AnyEngine,
        redb::{RedbEngine, RedbOptions},
    },
};

/// The contract without an index on `weight`.
fn without_index() -> String {
    let without = TASKS.replace("int32 weight = 10 [(sys.policy.v1.field) = { index: EQUAL }]", "int32 weight = 10");
    assert_ne!(without, TASKS);
    without
}

/// How many tasks of both orgs the index of `weight` leads to.
async fn found(world: &World, table: &Arc<Table>, weight: i32) -> usize {
    let mut open = world.begin().await;
    let mut count = 0;
    for org in &world.orgs {
        let find = Find::all(org.tag()).with(10, Value::I32(weight));
        count += open.danger_unruled(table).find(&find).await.unwrap().len();
    }
    count
}

#[tokio::test]
async fn an_index_added_later_holds_the_records_that_were_there() {
    for kind in BOTH {
        let world = World::new(kind).await;
        let user = caller(1, vec![world.at_org(Role::User, 0), world.at_org(Role::User, 1)]);
        let old = world.load_tasks(&without_index()).await.unwrap();
        let create = async |table: &Arc<Table>, project| {
            world.create(table, &user, world.task(table, project, &[("weight", Value::I32(7))])).await
        };
        for number in 0..70 {
            create(&old, if number % 7 == 0 { 2 } else { 0 }).await.unwrap();
        }
        let new = world.tasks().await;
        assert_eq!(found(&world, &new, 7).await, 70);

        // Who still writes by the old contract would leave the new index behind.
        let refused = create(&old, 0).await;
        assert!(matches!(refused, Err(Refused::Store(StoreError::Superseded { .. }))), "{refused:?}");
        let request = ListRequest { org_id: world.org_text(0), ..ListRequest::default() };
        let refused = world.list(&old, &user, &request).await;
        assert!(matches!(refused, Err(Refused::Store(StoreError::Superseded { .. }))), "{refused:?}");
        create(&new, 0).await.unwrap();
        assert_eq!(found(&world, &new, 7).await, 71);

        // Gone, and back: nothing of what happened meanwhile is missing or left over.
        let without = world.load_tasks(&without_index()).await.unwrap();
        let id = create(&without, 0).await.unwrap().view.id();
        let mut open = world.begin().await;
        let task = open.danger_unruled(&without).get(id).await.unwrap().unwrap();
        let mut task = task.into_message();
        task.set_field_by_name("weight", Value::I32(8));
        open.danger_unruled(&without).update(id, task).await.unwrap();
        open.commit().await.unwrap();
        let again = world.tasks().await;
        assert_eq!((found(&world, &again, 7).await, found(&world, &again, 8).await), (71, 1));
    }
}

#[tokio::test]
async fn a_load_that_changes_nothing_leaves_older_tables_as_they_were() {
    let world = World::new(Kind::Memory).await;
    let user = caller(1, vec![world.at_org(Role::User, 0)]);
    let (old, _new) = (world.tasks().await, world.tasks().await);
    world.create(&old, &user, world.task(&old, 0, &[])).await.unwrap();
}

#[tokio::test]
async fn a_field_with_equal_values_cannot_become_unique_and_nothing_changes() {
    for kind in BOTH {
        let world = World::new(kind).await;
        let user = caller(1, vec![world.at_org(Role::User, 0)]);
        let old = world.tasks().await;
        for _ in 0..2 {
            world.create(&old, &user, world.task(&old, 0, &[("kind", text("same"))])).await.unwrap();
        }
        let unique =
            TASKS.replace("{ immutable: true }];\n  Place", "{ immutable: true index: UNIQUE within: ORG }];\n  Place");
        assert_ne!(unique, TASKS);
        let refused = world.load_tasks(&unique).await;
        assert!(matches!(&refused, Err(LoadError::NotUnique { field, .. }) if field == "kind"), "{refused:?}");
        let third = world.create(&old, &user, world.task(&old, 0, &[("kind", text("other"))])).await;
        let third = third.expect("the older contract goes on").view.id();

        // Once the values differ it loads, whatever the first attempt left behind.
        let find = Find::all(world.orgs[0].tag());
        let mut open = world.begin().await;
        let mut unruled = open.danger_unruled(&old);
        let all = unruled.find(&find).await.unwrap();
        let one = all.iter().find(|task| task.id() != third).unwrap().id();
        unruled.delete(one).await.unwrap();
        open.commit().await.unwrap();
        let new = world.load_tasks(&unique).await.unwrap();
        let taken = world.create(&new, &user, world.task(&new, 0, &[("kind", text("same"))])).await;
        assert_eq!(refusal(taken), "taken kind");
    }
}

#[tokio::test]
async fn a_restart_finds_everything_under_the_same_numbers() {
    let world = World::new(Kind::Redb).await;
    let user = caller(1, vec![world.at_project(Role::User, 0)]);
    let (notes, tasks) = (world.notes().await, world.tasks().await);
    let note = world.create(&notes, &user, world.task(&notes, 0, &[("title", text("stays"))])).await.unwrap().view;
    let task = world.create(&tasks, &user, world.task(&tasks, 0, &[("weight", Value::I32(7))])).await.unwrap().view;
    let World { files, engine, .. } = world;
    let AnyEngine::Redb(engine) = engine else { panic!("redb") };
    RedbEngine::close(&engine);

    let entropy = Arc::new(SeededEntropy::danger_from_seed(3));
    let unsealer = Unsealer::DangerKeyFile(files.path().join("danger"));
    let keyring = Keyring::open(&files.path().join("keys"), &unsealer, entropy.clone()).unwrap();
    let engine = RedbEngine::open(&files.path().join("data"), RedbOptions::default()).unwrap();
    let store = Store::open(AnyEngine::Redb(engine), keyring, entropy).await.unwrap();
    // In another order than before.
    let tasks = load(&store, compile("mod-tasks", "tasks/v1/tasks.proto", TASKS)).await.unwrap();
    let notes = load(&store, compile("mod-notes", "notes/v1/notes.proto", NOTES)).await.unwrap();
    for (table, view) in [(notes.table(0).unwrap(), note), (tasks.table(0).unwrap(), task)] {
        let mut open = store.begin(NOW).await.unwrap();
        let found = open.confined(table, &user).find(view.id()).await.unwrap();
        assert_eq!(found.unwrap().message().to_string(), view.message().to_string());
    }
}

#[tokio::test]
async fn a_load_that_fails_keeps_the_indexes_that_it_would_have_dropped() {
    let world = World::new(Kind::Memory).await;
    let user = caller(1, vec![world.at_org(Role::User, 0)]);
    let old = world.tasks().await;
    for _ in 0..2 {
        let new = world.task(&old, 0, &[("kind", text("same")), ("weight", Value::I32(7))]);
        world.create(&old, &user, new).await.unwrap();
    }
    let other = without_index()
        .replace("{ immutable: true }];\n  Place", "{ immutable: true index: UNIQUE within: ORG }];\n  Place");
    assert!(matches!(world.load_tasks(&other).await, Err(LoadError::NotUnique { .. })));
    world.create(&old, &user, world.task(&old, 0, &[("weight", Value::I32(7))])).await.unwrap();
    assert_eq!(found(&world, &old, 7).await, 3);
}

#[tokio::test]
async fn a_contract_that_breaks_what_is_stored_does_not_load() {
    let world = World::new(Kind::Memory).await;
    let user = caller(1, vec![world.at_org(Role::User, 0)]);
    let old = world.tasks().await;
    let id = world.create(&old, &user, world.task(&old, 0, &[("weight", Value::I32(7))])).await.unwrap().view.id();
    let weight = "int32 weight = 10 [(sys.policy.v1.field) = { index: EQUAL }];";
    let changes = [
        ("table: \"tasks\"", "table: \"jobs\"", "moved from table"),
        ("owner: \"owner_id\"", "owner: \"kind\"", "`scope.owner`"),
        (weight, "", "field `weight` is gone"),
        (weight, "string weight = 10;", "the type of `weight`"),
        (weight, "repeated int32 weight = 10;", "the label of `weight`"),
        ("STATE_DONE = 2", "STATE_DONE = 3", "STATE_DONE"),
        ("string town = 2", "string town = 3", "`town`"),
    ];
    for (before, after, expect) in changes {
        assert!(TASKS.contains(before), "{before}");
        let text = TASKS.replace(before, after);
        match world.load_tasks(&text).await {
            Err(LoadError::Breaking(problems)) => {
                assert!(problems.to_string().contains(expect), "{before}: {problems}");
                assert!(problems.to_string().contains("tasks/v1/tasks.proto:"), "{problems}");
            }
            other => panic!("{before} to {after}: {other:?}"),
        }
    }
    world.get(&old, &user, id).await.expect("the older contract goes on");
    let grown =
        TASKS.replace(weight, "reserved 10;").replace("string kind = 13", "string more = 30;\n  string kind = 13");
    let new = world.load_tasks(&grown).await.expect("nothing is broken");
    world.get(&new, &user, id).await.unwrap();
    // What is held against is what was loaded last: the number stays reserved.
    let reused = grown.replace("reserved 10;", "string other = 10;");
    assert!(matches!(world.load_tasks(&reused).await, Err(LoadError::Breaking(_))));
}

#[tokio::test]
async fn a_package_stays_with_the_module_that_brought_it() {
    let world = World::new(Kind::Memory).await;
    world.tasks().await;
    // As when somebody gives the folder of a module another name: it would begin anew, without its records.
    let renamed = load(&world.store, compile("mod-renamed", "tasks/v1/tasks.proto", TASKS)).await;
    let Err(LoadError::Owned { package, module }) = renamed else { panic!("{renamed:?}") };
    assert_eq!((package.as_str(), module.as_str()), ("tasks.v1", "mod-tasks"));
    world.tasks().await;
    let mut known = world.store.known_modules().await.unwrap();
    known.sort();
    assert_eq!(known, ["mod-tasks", "sys-directory"], "nothing is left of the attempt");
}
