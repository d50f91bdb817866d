//! Rows and logs of the server itself.

use crate::harness::*;
use sys_contract::id::OrgTag;
use sys_store::{LogKind, Open, StoreError, SystemKind};

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
