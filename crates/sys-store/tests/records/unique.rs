//! UNIQUE fields: how far they reach, what frees a value, and two who take it at once.

use crate::harness::*;
use prost_reflect::Value;
use std::sync::Arc;
use sys_contract::model::{Role, Verb};
use sys_policy::Caller;
use sys_store::{ListRequest, Table, View, engine::CommitError};

async fn set_up(kind: Kind) -> (World, Arc<Table>, Caller, Caller) {
    let world = World::new(kind).await;
    let table = world.tasks().await;
    let bindings = || vec![world.at_org(Role::User, 0), world.at_org(Role::User, 1)];
    let (ann, ben) = (caller(1, bindings()), caller(2, bindings()));
    (world, table, ann, ben)
}

#[tokio::test]
async fn a_value_is_unique_as_far_as_its_field_says_and_no_farther() {
    for kind in BOTH {
        let (world, table, ann, ben) = set_up(kind).await;
        let all = [("code", text("c")), ("slug", text("s")), ("nick", text("n"))];
        world.create(&table, &ann, world.task(&table, 0, &all)).await.unwrap();
        let create = async |caller: &Caller, project, name: &str, value: &str| {
            let new = world.task(&table, project, &[(name, text(value))]);
            world.create(&table, caller, new).await.map(|_| ()).map_err(|error| crate::harness::kind(&error))
        };
        let taken = |name: &str| Err(format!("taken {name}"));
        // Within the org: in each of its projects, not in the other org.
        assert_eq!(create(&ben, 1, "code", "c").await, taken("code"));
        assert_eq!(create(&ben, 2, "code", "c").await, Ok(()));
        // Within the project.
        assert_eq!(create(&ben, 0, "slug", "s").await, taken("slug"));
        assert_eq!(create(&ben, 1, "slug", "s").await, Ok(()));
        // Within those of one owner.
        assert_eq!(create(&ann, 1, "nick", "n").await, taken("nick"));
        assert_eq!(create(&ben, 1, "nick", "n").await, Ok(()));
        // To be without a value is nothing that one could take.
        assert_eq!(create(&ann, 0, "code", "").await, Ok(()));
        assert_eq!(create(&ann, 0, "code", "").await, Ok(()));
    }
}

#[tokio::test]
async fn a_value_is_free_once_its_holder_gives_it_up() {
    for kind in BOTH {
        let (world, table, ann, _) = set_up(kind).await;
        let code = |code| world.task(&table, 0, &[("code", text(code))]);
        let first = world.create(&table, &ann, code("x")).await.unwrap().view.id();
        let second = world.create(&table, &ann, code("y")).await.unwrap().view.id();
        let update = async |id, new| world.update(&table, &ann, id, &["code"], code(new), None).await;
        assert_eq!(refusal(update(second, "x").await), "taken code");
        update(first, "x").await.expect("its own value");
        update(first, "z").await.unwrap();
        update(second, "x").await.expect("given up");

        // Within one transaction, too: its own writes count before they are committed.
        let mut open = world.begin().await;
        let mut confined = open.confined(&table, &ann);
        let permit = confined.permit(Verb::Delete, second).await.unwrap();
        confined.delete(permit, None).await.unwrap();
        confined.create(code("x")).await.expect("freed by the same transaction");
        assert_eq!(refusal(confined.create(code("x")).await), "taken code");
        open.commit().await.unwrap();
    }
}

#[tokio::test]
async fn of_two_who_take_a_value_at_once_one_conflicts_and_then_finds_it_taken() {
    for kind in BOTH {
        for (field, project) in [("code", 0), ("slug", 1), ("nick", 0)] {
            let (world, table, ann, _) = set_up(kind).await;
            let new = || world.task(&table, project, &[(field, text("v"))]);
            let (mut one, mut two) = (world.begin().await, world.begin().await);
            one.confined(&table, &ann).create(new()).await.unwrap();
            two.confined(&table, &ann).create(new()).await.unwrap();
            one.commit().await.unwrap();
            assert!(matches!(two.commit().await, Err(CommitError::Conflict)), "{field}");
            assert_eq!(refusal(world.create(&table, &ann, new()).await), format!("taken {field}"));
        }
    }
}

#[tokio::test]
async fn two_who_take_different_values_do_not_conflict() {
    for kind in BOTH {
        let (world, table, ann, ben) = set_up(kind).await;
        // The first write makes the tablespace's keys and is not what is looked at here.
        world.create(&table, &ann, world.task(&table, 0, &[])).await.unwrap();
        let (mut one, mut two) = (world.begin().await, world.begin().await);
        one.confined(&table, &ann).create(world.task(&table, 0, &[("code", text("v"))])).await.unwrap();
        two.confined(&table, &ben).create(world.task(&table, 1, &[("code", text("w"))])).await.unwrap();
        one.commit().await.unwrap();
        two.commit().await.unwrap();
    }
}

#[tokio::test]
async fn a_value_stays_taken_and_found_under_a_new_key_generation() {
    for kind in BOTH {
        let (world, table, ann, _) = set_up(kind).await;
        let code = |code| world.task(&table, 0, &[("code", text(code)), ("weight", Value::I32(7))]);
        let old = world.create(&table, &ann, code("x")).await.unwrap().view.id();
        // The module's tablespace in the org: modules are numbered from 1, and the directory came first.
        let space = sys_keys::SpaceId { module: 2, org: world.orgs[0].tag() };
        let keys = world.store.keyring().rotate(space).unwrap();
        assert_eq!(keys.live().len(), 2);

        assert_eq!(refusal(world.create(&table, &ann, code("x")).await), "taken code");
        let new = world.create(&table, &ann, code("y")).await.unwrap().view.id();
        // One is led by the tokens of the whole org, the other by the range of his project.
        let member = caller(3, vec![world.at_project(Role::User, 0)]);
        let found = async || {
            let filter = "weight == 7".to_owned();
            let request = ListRequest { org_id: world.org_text(0), filter, ..ListRequest::default() };
            let mut found = Vec::new();
            for caller in [&ann, &member] {
                let page = world.list(&table, caller, &request).await.unwrap();
                found.push(page.views.iter().map(View::id).collect::<Vec<_>>());
            }
            assert_eq!(found[0], found[1]);
            found.remove(0)
        };
        let mut both = vec![old, new];
        both.sort();
        assert_eq!(found().await, both);

        // A write moves a record with all its rows to the new generation; none is left behind.
        world.update(&table, &ann, old, &["code"], code("z"), None).await.unwrap();
        assert_eq!(found().await, both);
        world.create(&table, &ann, code("x")).await.expect("given up under the old generation");
    }
}
