//! Rows and logs of the server itself, and its look at records without rules.

use crate::harness::*;
use prost_reflect::Value;
use sys_contract::id::OrgTag;
use sys_policy::Span;
use sys_store::{Find, LogKind, Open, StoreError, Stored, SystemKind};

async fn names(open: &mut Open, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Vec<String> {
    let rows = open.rows(SystemKind::Outbox, prefix, after, limit).await.unwrap();
    let name = |(name, value): (bytes::Bytes, zeroize::Zeroizing<Vec<u8>>)| {
        assert_eq!(value.as_slice(), [b"value of ", &*name].concat());
        String::from_utf8(name.to_vec()).unwrap()
    };
    rows.into_iter().map(name).collect()
}

#[tokio::test]
async fn rows_are_found_by_name_prefix_and_place() {
    for kind in BOTH {
        let world = World::new(kind).await;
        let mut open = world.begin().await;
        for name in ["b1", "a1", "b3", "c", "b2"] {
            let value = format!("value of {name}");
            open.put_row(SystemKind::Outbox, name.as_bytes(), value.into()).await.unwrap();
        }
        // Another kind's rows are not among them.
        open.put_row(SystemKind::Used, b"b4", b"x".to_vec()).await.unwrap();
        for committed in [false, true] {
            if committed {
                open.commit().await.unwrap();
                open = world.begin().await;
            }
            assert_eq!(names(&mut open, b"", None, 10).await, ["a1", "b1", "b2", "b3", "c"]);
            assert_eq!(names(&mut open, b"b", None, 2).await, ["b1", "b2"]);
            assert_eq!(names(&mut open, b"b", Some(b"b1"), 10).await, ["b2", "b3"]);
            assert_eq!(names(&mut open, b"b", Some(b"c"), 10).await, Vec::<String>::new());
        }
        // What the transaction itself removed does not shorten the answer.
        open.delete_row(SystemKind::Outbox, b"b1");
        open.delete_row(SystemKind::Outbox, b"a1");
        assert_eq!(names(&mut open, b"", None, 2).await, ["b2", "b3"]);
        assert!(open.row(SystemKind::Outbox, b"b1").await.unwrap().is_none());
        open.commit().await.unwrap();
        assert_eq!(names(&mut world.begin().await, b"", None, 10).await, ["b2", "b3", "c"]);
    }
}

#[tokio::test]
async fn a_row_name_is_bounded() {
    let world = World::new(Kind::Memory).await;
    let mut open = world.begin().await;
    let refused = open.put_row(SystemKind::Outbox, &[b'x'; 129], Vec::new()).await;
    assert!(matches!(refused, Err(StoreError::RowName { bytes: 129, limit: 128 })), "{refused:?}");
}

#[tokio::test]
async fn entries_of_a_log_are_numbered_without_gaps_and_do_not_conflict() {
    for kind in BOTH {
        let world = World::new(kind).await;
        let org = world.orgs[0].tag();
        let (mut one, mut two, lost) = (world.begin().await, world.begin().await, world.begin().await);
        one.append(LogKind::Audit, org, b"a".to_vec()).await.unwrap();
        one.append(LogKind::Audit, org, b"b".to_vec()).await.unwrap();
        two.append(LogKind::Audit, org, b"c".to_vec()).await.unwrap();
        two.append(LogKind::Audit, OrgTag::GLOBAL, b"g".to_vec()).await.unwrap();
        drop(lost);
        one.commit().await.unwrap();
        two.commit().await.unwrap();
        let mut open = world.begin().await;
        let mut entries = async |org, from, limit| {
            let entries = open.log_entries(LogKind::Audit, org, from, limit).await.unwrap();
            entries.into_iter().map(|(number, entry)| format!("{number}{}", entry[0] as char)).collect::<String>()
        };
        assert_eq!(entries(org, 0, 10).await, "0a1b2c");
        assert_eq!(entries(org, 1, 1).await, "1b");
        assert_eq!(entries(org, 3, 1).await, "");
        assert_eq!(entries(OrgTag::GLOBAL, 0, 10).await, "0g");
        assert_eq!(entries(world.orgs[1].tag(), 0, 10).await, "");
    }
}

#[tokio::test]
async fn records_are_found_without_rules_by_scope_and_value_defaults_too() {
    for kind in BOTH {
        let world = World::new(kind).await;
        let table = world.tasks().await;
        let mut all = Vec::new();
        let mut open = world.begin().await;
        for (project, weight, owner) in [(0, 0, 1), (0, 7, 2), (1, 7, 1), (1, 0, 2), (0, 7, 1)] {
            let mut task = world.task(&table, project, &[("weight", Value::I32(weight))]);
            task.set_field_by_name("owner_id", text(&account(owner).to_string()));
            let id = open.danger_unruled(&table).create(task).await.unwrap().id();
            all.push((id, project, weight, owner));
        }
        for committed in [false, true] {
            if committed {
                open.commit().await.unwrap();
                open = world.begin().await;
            }
            let base = Find::all(world.orgs[0].tag());
            let mut check = async |find: Find, of: &dyn Fn(usize, i32, u8) -> bool| {
                let mut expect: Vec<_> = all.iter().filter(|(_, p, w, o)| of(*p, *w, *o)).map(|(id, ..)| *id).collect();
                expect.sort();
                let found = open.danger_unruled(&table).find(&find).await.unwrap();
                assert_eq!(found.iter().map(Stored::id).collect::<Vec<_>>(), expect, "{find:?}");
                let behind = Find { after: expect.first().copied(), ..find.clone() };
                let found = open.danger_unruled(&table).find(&behind.first(2)).await.unwrap();
                let rest: Vec<_> = expect.into_iter().skip(1).take(2).collect();
                assert_eq!(found.iter().map(Stored::id).collect::<Vec<_>>(), rest, "behind the first, of {find:?}");
            };
            let (project, owner) = (Span::Project(world.projects[0].1), Span::Owner(account(1)));
            check(base.clone(), &|_, _, _| true).await;
            check(base.clone().with(10, Value::I32(7)), &|_, weight, _| weight == 7).await;
            check(base.clone().with(10, Value::I32(0)), &|_, weight, _| weight == 0).await;
            check(base.clone().within(project), &|project, _, _| project == 0).await;
            check(base.clone().within(owner).with(10, Value::I32(7)), &|_, weight, owner| weight == 7 && owner == 1)
                .await;
            check(base.clone().with(10, Value::I32(8)), &|_, _, _| false).await;
        }
    }
}
