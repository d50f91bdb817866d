//! Rows and logs of the server itself, and its look at records without rules.

use crate::harness::*;
use prost_reflect::Value;
use sys_contract::id::OrgTag;
use sys_policy::Span;
use sys_store::{ErasableEntry, Find, LogKind, Open, STUB_BYTES, StoreError, Stored, SystemKind, engine::Order};

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

const STUB: [u8; STUB_BYTES] = [7; STUB_BYTES];

/// Entries of a log as number and content; a dash for one that says nothing any more.
async fn entries(open: &mut Open, org: OrgTag, numbers: std::ops::Range<u64>, order: Order, limit: usize) -> String {
    let entries = open.erasable_entries(LogKind::Audit, org, numbers, order, limit).await.unwrap();
    let said = |entry: &ErasableEntry| {
        assert_eq!(entry.stub, STUB);
        let content = entry.content.as_ref().map_or('-', |content| content[0] as char);
        format!("{}{content}", entry.number)
    };
    entries.iter().map(said).collect()
}

async fn append(open: &mut Open, org: OrgTag, content: &[u8]) {
    open.append_erasable(LogKind::Audit, org, &STUB, content.to_vec()).await.unwrap();
}

#[tokio::test]
async fn entries_of_a_log_are_numbered_without_gaps_and_do_not_conflict() {
    for kind in BOTH {
        let world = World::new(kind).await;
        let org = world.orgs[0].tag();
        let (mut one, mut two, lost) = (world.begin().await, world.begin().await, world.begin().await);
        append(&mut one, org, b"a").await;
        append(&mut one, org, b"b").await;
        append(&mut two, org, b"c").await;
        append(&mut two, OrgTag::GLOBAL, b"g").await;
        drop(lost);
        one.commit().await.unwrap();
        two.commit().await.unwrap();
        let mut open = world.begin().await;
        assert_eq!(entries(&mut open, org, 0..10, Order::Asc, 10).await, "0a1b2c");
        assert_eq!(entries(&mut open, org, 0..u64::MAX, Order::Desc, 2).await, "2c1b");
        assert_eq!(entries(&mut open, org, 1..3, Order::Asc, 1).await, "1b");
        assert_eq!(entries(&mut open, org, 0..2, Order::Desc, 1).await, "1b");
        assert_eq!(entries(&mut open, org, 3..9, Order::Asc, 1).await, "");
        assert_eq!(entries(&mut open, OrgTag::GLOBAL, 0..10, Order::Asc, 10).await, "0g");
        assert_eq!(entries(&mut open, world.orgs[1].tag(), 0..10, Order::Asc, 10).await, "");
        let mut next = async |org| open.next_number(LogKind::Audit, org).await.unwrap();
        assert_eq!((next(org).await, next(OrgTag::GLOBAL).await, next(world.orgs[1].tag()).await), (3, 1, 0));
    }
}

#[tokio::test]
async fn what_an_entry_says_can_go_while_its_number_and_stub_stay() {
    for kind in BOTH {
        let world = World::new(kind).await;
        let org = world.orgs[0].tag();
        let mut open = world.begin().await;
        for content in [b"a", b"b", b"c"] {
            append(&mut open, org, content).await;
        }
        open.commit().await.unwrap();
        let mut open = world.begin().await;
        let old = open.erasable_entries(LogKind::Audit, org, 0..2, Order::Asc, 9).await.unwrap();
        open.erase_contents(LogKind::Audit, org, &old).await.unwrap();
        open.commit().await.unwrap();
        let mut open = world.begin().await;
        append(&mut open, org, b"d").await;
        open.commit().await.unwrap();
        assert_eq!(entries(&mut world.begin().await, org, 0..9, Order::Asc, 9).await, "0-1-2c3d");
    }
}

#[tokio::test]
async fn the_orgs_that_have_a_log_are_found_one_by_one() {
    for kind in BOTH {
        let world = World::new(kind).await;
        let mut orgs: Vec<OrgTag> = world.orgs.iter().map(|org| org.tag()).collect();
        orgs.push(OrgTag::GLOBAL);
        orgs.sort();
        let mut open = world.begin().await;
        for org in &orgs {
            append(&mut open, *org, b"a").await;
            append(&mut open, *org, b"b").await;
        }
        open.commit().await.unwrap();
        let (mut open, mut found) = (world.begin().await, Vec::new());
        while let Some(next) = open.next_log(LogKind::Audit, found.last().copied()).await.unwrap() {
            found.push(next);
        }
        assert_eq!(found, orgs);
        assert_eq!(open.next_log(LogKind::Revocation, None).await.unwrap(), None);
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
