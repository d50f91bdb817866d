//! What two transactions at once may do: only what they could have done one after the other.

use crate::harness::*;
use prost_reflect::Value;
use std::sync::Arc;
use sys_contract::model::{Role, Verb};
use sys_policy::Caller;
use sys_store::{ListRequest, Open, Table, engine::CommitError};

async fn set_up(kind: Kind) -> (World, Arc<Table>, Caller) {
    let world = World::new(kind).await;
    let table = world.tasks().await;
    let user = caller(1, vec![world.at_project(Role::User, 0)]);
    (world, table, user)
}

fn conflicts(result: Result<sys_store::engine::CommitVersion, CommitError>) {
    assert!(matches!(result, Err(CommitError::Conflict)), "{result:?}");
}

fn list_of(world: &World, filter: &str) -> ListRequest {
    ListRequest { org_id: world.org_text(0), filter: filter.to_owned(), ..ListRequest::default() }
}

async fn list_in(open: &mut Open, world: &World, table: &Arc<Table>, user: &Caller, filter: &str) -> usize {
    open.confined(table, user).list(&list_of(world, filter)).await.unwrap().views.len()
}

#[tokio::test]
async fn an_update_of_what_was_changed_meanwhile_conflicts() {
    for kind in BOTH {
        let (world, table, user) = set_up(kind).await;
        let id = world.create(&table, &user, world.task(&table, 0, &[])).await.unwrap().view.id();
        let weight = |weight| message(&table, &[("weight", Value::I32(weight))]);
        let mut slow = world.begin().await;
        update_in(&mut slow.confined(&table, &user), id, &[], weight(1), None).await.unwrap();
        world.update(&table, &user, id, &[], weight(2), None).await.unwrap();
        conflicts(slow.commit().await);
        assert_eq!(field(world.get(&table, &user, id).await.unwrap().message(), "weight"), Value::I32(2));
    }
}

#[tokio::test]
async fn a_decision_from_a_list_conflicts_with_a_record_that_joins_it() {
    for kind in BOTH {
        for filter in ["", "weight == 7", "state == State.STATE_OPEN"] {
            let (world, table, user) = set_up(kind).await;
            let one = [("weight", Value::I32(7)), ("state", Value::EnumNumber(1))];
            world.create(&table, &user, world.task(&table, 0, &one)).await.unwrap();
            // "At most two": each of the two sees one and adds another.
            let (mut a, mut b) = (world.begin().await, world.begin().await);
            for open in [&mut a, &mut b] {
                assert_eq!(list_in(open, &world, &table, &user, filter).await, 1);
                open.confined(&table, &user).create(world.task(&table, 0, &one)).await.unwrap();
                assert_eq!(list_in(open, &world, &table, &user, filter).await, 2, "sees its own write");
            }
            a.commit().await.unwrap();
            conflicts(b.commit().await);
        }
    }
}

#[tokio::test]
async fn write_skew_conflicts() {
    for kind in BOTH {
        let (world, table, user) = set_up(kind).await;
        let mut ids = Vec::new();
        for _ in 0..2 {
            ids.push(world.create(&table, &user, world.task(&table, 0, &[])).await.unwrap().view.id());
        }
        // "One of the two stays": each looks at the other and deletes its own.
        let (mut a, mut b) = (world.begin().await, world.begin().await);
        for (open, mine, other) in [(&mut a, ids[0], ids[1]), (&mut b, ids[1], ids[0])] {
            let mut confined = open.confined(&table, &user);
            assert!(confined.find(other).await.unwrap().is_some());
            let permit = confined.permit(Verb::Delete, mine).await.unwrap();
            confined.delete(permit, None).await.unwrap();
        }
        a.commit().await.unwrap();
        conflicts(b.commit().await);
    }
}

#[tokio::test]
async fn a_project_that_is_deleted_meanwhile_gets_no_record() {
    for kind in BOTH {
        let (world, table, user) = set_up(kind).await;
        let projects = world.directory.table(1).unwrap();
        let mut slow = world.begin().await;
        slow.confined(&table, &user).create(world.task(&table, 0, &[])).await.unwrap();
        let mut open = world.begin().await;
        assert!(open.danger_unruled(projects).delete(world.projects[0].1.record()).await.unwrap());
        open.commit().await.unwrap();
        conflicts(slow.commit().await);
        assert_eq!(refusal(world.create(&table, &user, world.task(&table, 0, &[])).await), "invalid project_id");
    }
}

#[tokio::test]
async fn a_transaction_that_only_reads_never_conflicts() {
    for kind in BOTH {
        let (world, table, user) = set_up(kind).await;
        let mut reader = world.begin().await;
        assert_eq!(list_in(&mut reader, &world, &table, &user, "").await, 0);
        world.create(&table, &user, world.task(&table, 0, &[])).await.unwrap();
        assert_eq!(list_in(&mut reader, &world, &table, &user, "").await, 0, "one snapshot");
        reader.commit().await.unwrap();
    }
}

#[tokio::test]
async fn what_is_not_committed_was_never_there() {
    for kind in BOTH {
        let (world, table, user) = set_up(kind).await;
        let mut open = world.begin().await;
        let id = open.confined(&table, &user).create(world.task(&table, 0, &[])).await.unwrap().view.id();
        assert!(open.confined(&table, &user).find(id).await.unwrap().is_some());
        drop(open);
        assert!(world.get(&table, &user, id).await.is_none());
    }
}
