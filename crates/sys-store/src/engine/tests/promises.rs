//! The promises of [`Engine`] one by one, on each engine.

use super::*;
use crate::engine::{
    Bounded, EngineError, MAX_KEY_BYTES, MAX_RANGE_BYTES, MAX_RANGE_ROWS, MAX_READS, MAX_VALUE_BYTES, MAX_WRITES,
};

#[tokio::test]
async fn write_skew_is_refused() {
    for engine in each_engine() {
        commit(&engine, vec![put("on call: ann", "yes"), put("on call: bob", "yes")]).await;
        let (mut ann, mut bob) = (engine.begin().await.unwrap(), engine.begin().await.unwrap());
        // Each sees that the other stays, and goes.
        assert_eq!(ann.get(b"on call: bob").await.unwrap(), Some(bytes("yes")));
        assert_eq!(bob.get(b"on call: ann").await.unwrap(), Some(bytes("yes")));
        assert!(ann.commit(vec![put("on call: ann", "no")]).await.is_ok());
        assert!(is_conflict(&bob.commit(vec![put("on call: bob", "no")]).await));
    }
}

#[tokio::test]
async fn a_phantom_is_refused() {
    for engine in each_engine() {
        let (mut one, mut other) = (engine.begin().await.unwrap(), engine.begin().await.unwrap());
        // Both find no booking of the room and book it.
        assert!(one.range(keys("room/", "room0"), Order::Asc, 10).await.unwrap().rows.is_empty());
        assert!(other.range(keys("room/", "room0"), Order::Desc, 1).await.unwrap().rows.is_empty());
        assert!(one.commit(vec![put("room/monday", "one")]).await.is_ok());
        assert!(is_conflict(&other.commit(vec![put("room/tuesday", "other")]).await));
    }
}

#[tokio::test]
async fn a_lost_update_is_refused() {
    for engine in each_engine() {
        commit(&engine, vec![put("count", "1")]).await;
        let (mut one, mut other) = (engine.begin().await.unwrap(), engine.begin().await.unwrap());
        assert_eq!(one.get(b"count").await.unwrap(), other.get(b"count").await.unwrap());
        assert!(one.commit(vec![put("count", "2")]).await.is_ok());
        assert!(is_conflict(&other.commit(vec![put("count", "2 too")]).await));
    }
}

#[tokio::test]
async fn the_absence_of_a_key_is_a_read() {
    for engine in each_engine() {
        let (mut one, mut other) = (engine.begin().await.unwrap(), engine.begin().await.unwrap());
        assert_eq!(one.get(b"name").await.unwrap(), None);
        assert_eq!(other.get(b"name").await.unwrap(), None);
        assert!(one.commit(vec![put("name", "one")]).await.is_ok());
        assert!(is_conflict(&other.commit(vec![put("elsewhere", "other")]).await));
    }
}

/// Reads `limit` rows of b, d, f, h from between a and z, then lets another commit `write`; whether that is a conflict.
async fn conflicts_with(engine: &AnyEngine, order: Order, limit: usize, write: Write) -> bool {
    commit(engine, ["b", "d", "f", "h"].map(|key| put(key, "as before")).to_vec()).await;
    for key in ["a", "c", "dd", "e", "g", "i"] {
        commit(engine, vec![delete(key)]).await;
    }
    let mut txn = engine.begin().await.unwrap();
    assert_eq!(txn.range(keys("a", "z"), order, limit).await.unwrap().rows.len(), limit.min(4));
    commit(engine, vec![write]).await;
    is_conflict(&txn.commit(vec![put("~ elsewhere", "")]).await)
}

#[tokio::test]
async fn a_limited_range_conflicts_as_far_as_it_was_read_and_no_further() {
    use Order::{Asc, Desc};
    let new = |key| put(key, "new");
    for engine in each_engine() {
        for (order, limit, write, expected) in [
            (Asc, 2, new("a"), true),
            (Asc, 2, new("c"), true),
            (Asc, 2, delete("d"), true),
            (Asc, 2, new("dd"), false),
            (Asc, 2, delete("f"), false),
            (Asc, 4, new("i"), false),
            (Asc, 5, new("i"), true),
            (Asc, 5, new("zz"), false),
            (Desc, 2, new("i"), true),
            (Desc, 2, new("g"), true),
            (Desc, 2, delete("f"), true),
            (Desc, 2, new("e"), false),
            (Desc, 2, delete("d"), false),
            (Desc, 4, new("a"), false),
            (Desc, 5, new("a"), true),
            (Desc, 5, new("A"), false),
            (Asc, 0, new("c"), false),
        ] {
            let found = conflicts_with(&engine, order, limit, write.clone()).await;
            assert_eq!(found, expected, "{order:?}, {limit} rows, then {write:?}");
        }
    }
}

/// Reads of three rows of 512 KiB and one of nothing: what fits of them, and what was seen by it.
#[tokio::test]
async fn a_range_stops_at_its_bound_in_bytes_says_so_and_conflicts_as_far_as_it_was_read() {
    use Order::{Asc, Desc};
    let large = "x".repeat(MAX_RANGE_BYTES / 2);
    for engine in each_engine() {
        let rows = ["b", "d", "f"].map(|key| put(key, &large));
        commit(&engine, rows.into_iter().chain([put("h", "")]).collect()).await;
        for (from, to, order, limit, expected, is_end) in [
            ("a", "z", Asc, 10, "bd", false),
            ("c", "z", Asc, 10, "df", false),
            ("e", "z", Asc, 10, "fh", true),
            ("a", "z", Desc, 10, "hfd", false),
            ("a", "c", Desc, 10, "b", true),
            ("a", "z", Asc, 1, "b", false),
            ("e", "z", Asc, 2, "fh", false),
            ("a", "z", Asc, 0, "", false),
            ("z", "a", Asc, 10, "", true),
        ] {
            let read = engine.begin().await.unwrap().range(keys(from, to), order, limit).await.unwrap();
            let found: Vec<u8> = read.rows.iter().map(|(key, _)| key[0]).collect();
            assert_eq!(
                (found.as_slice(), read.is_end),
                (expected.as_bytes(), is_end),
                "{from} to {to}, {order:?}, {limit}"
            );
        }
        for (order, written, conflicts) in
            [(Asc, "c", true), (Asc, "e", false), (Asc, "i", false), (Desc, "e", true), (Desc, "c", false)]
        {
            let mut txn = engine.begin().await.unwrap();
            txn.range(keys("a", "z"), order, 10).await.unwrap();
            commit(&engine, vec![put(written, "new")]).await;
            let found = is_conflict(&txn.commit(vec![put("~ elsewhere", "")]).await);
            assert_eq!(found, conflicts, "{order:?}, then {written}");
            commit(&engine, vec![delete(written)]).await;
        }
        commit(&engine, vec![put("b", &large.repeat(4))]).await;
        let read = engine.begin().await.unwrap().range(keys("a", "z"), Asc, 10).await.unwrap();
        assert_eq!((read.rows.len(), read.is_end), (1, false), "one row at least, however large");
    }
}

#[tokio::test]
async fn a_snapshot_does_not_move_and_reads_alone_never_conflict() {
    for engine in each_engine() {
        let before = commit(&engine, vec![put("a", "1"), put("b", "1")]).await;
        let mut txn = engine.begin().await.unwrap();
        assert_eq!(txn.get(b"a").await.unwrap(), Some(bytes("1")));
        commit(&engine, vec![put("a", "2"), delete("b"), put("c", "2")]).await;
        assert_eq!(txn.get(b"b").await.unwrap(), Some(bytes("1")));
        assert_eq!(txn.range(KeyRange::all(), Order::Asc, 10).await.unwrap().rows.len(), 2);
        assert_eq!(txn.commit(Vec::new()).await.unwrap(), before);
    }
}

#[tokio::test]
async fn an_acknowledged_commit_is_in_the_next_snapshot_and_a_refused_one_in_none() {
    for engine in each_engine() {
        let mut refused = engine.begin().await.unwrap();
        refused.get(b"a").await.unwrap();
        let version = commit(&engine, vec![put("a", "1")]).await;
        assert_eq!(engine.begin().await.unwrap().snapshot_version(), version);
        assert!(is_conflict(&refused.commit(vec![put("b", "no"), append("log", "no")]).await));
        assert_eq!(all_rows(&engine).await, Rows::from([(bytes("a"), bytes("1"))]));
    }
}

#[tokio::test]
async fn of_two_writes_to_a_key_the_later_one_holds() {
    for engine in each_engine() {
        commit(&engine, vec![put("a", "1"), put("a", "2"), put("b", "1"), delete("b"), delete("c"), put("c", "1")])
            .await;
        assert_eq!(all_rows(&engine).await, Rows::from([(bytes("a"), bytes("2")), (bytes("c"), bytes("1"))]));
    }
}

#[tokio::test]
async fn appends_are_numbered_without_gaps_and_do_not_conflict() {
    for engine in each_engine() {
        let (one, other) = (engine.begin().await.unwrap(), engine.begin().await.unwrap());
        one.commit(vec![append("log", "0"), append("other log", "0"), append("log", "1")]).await.unwrap();
        other.commit(vec![append("log", "2")]).await.unwrap();
        for number in 0..3 {
            let mut txn = engine.begin().await.unwrap();
            let row = txn.get(&numbered("log", number, "")).await.unwrap();
            assert_eq!(row, Some(bytes(number.to_string())));
        }
        assert!(engine.begin().await.unwrap().get(&numbered("other log", 0, "")).await.unwrap().is_some());
        assert_eq!(all_rows(&engine).await.len(), 4);
    }
}

#[tokio::test]
async fn an_append_follows_the_last_row_that_is_there() {
    for engine in each_engine() {
        commit(&engine, vec![append("log", "0"), append("log", "1")]).await;
        commit(&engine, vec![Write::Delete { key: numbered("log", 1, "") }]).await;
        commit(&engine, vec![append("log", "1 again")]).await;
        commit(&engine, vec![Write::Put { key: numbered("log", 5, ""), value: bytes("5"), stamp: None }]).await;
        commit(&engine, vec![append("log", "6")]).await;
        let expected = [(0, "0"), (1, "1 again"), (5, "5"), (6, "6")];
        assert_eq!(all_rows(&engine).await, expected.map(|(n, value)| (numbered("log", n, ""), bytes(value))).into());
    }
}

#[tokio::test]
async fn who_read_the_end_of_a_log_conflicts_with_an_append() {
    for engine in each_engine() {
        let mut txn = engine.begin().await.unwrap();
        txn.range(KeyRange::prefix(b"log"), Order::Desc, 1).await.unwrap();
        commit(&engine, vec![append("log", "0")]).await;
        assert!(is_conflict(&txn.commit(vec![put("head", "no row")]).await));
    }
}

#[tokio::test]
async fn the_commit_version_is_written_where_it_was_asked_for() {
    for engine in each_engine() {
        let stamped = Write::Put { key: bytes("a"), value: bytes("head........tail"), stamp: Some(4) };
        let change = Write::Change { prefix: bytes("changes/"), suffix: bytes("/1"), value: bytes("a") };
        let version = commit(&engine, vec![stamped, change]).await;
        let value = [b"head".as_slice(), &version.0.to_be_bytes(), b"tail"].concat();
        let change = (numbered("changes/", version.0, "/1"), bytes("a"));
        assert_eq!(all_rows(&engine).await, Rows::from([(bytes("a"), value.into()), change]));
    }
}

/// Refused, and nothing of it was written.
async fn refuses(engine: &AnyEngine, writes: Vec<Write>) -> EngineError {
    let before = all_rows(engine).await;
    let refusal = engine.begin().await.unwrap().commit(writes).await;
    assert_eq!(all_rows(engine).await, before);
    match refusal {
        Err(CommitError::Engine(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_is_too_large_or_malformed_is_refused_whole() {
    use EngineError::{EmptyKey, MixedLog, NotALog, NumbersExhausted, StampOutside, TooLarge};
    for engine in each_engine() {
        let long = "k".repeat(MAX_KEY_BYTES + 1);
        let value = "v".repeat(MAX_VALUE_BYTES + 1);
        let stamp = |offset| Write::Put { key: bytes("a"), value: bytes("twelve bytes"), stamp: Some(offset) };
        let last = Write::Put { key: numbered("full", u64::MAX, ""), value: bytes(""), stamp: None };
        commit(&engine, vec![put("text", ""), last, stamp(4), put(&long[1..], &value[1..])]).await;

        assert!(matches!(refuses(&engine, vec![put("", "")]).await, EmptyKey));
        for (what, writes) in [
            (Bounded::KeyBytes, vec![put("a", ""), put(&long, "")]),
            (Bounded::KeyBytes, vec![append(&long[8..], "")]),
            (Bounded::ValueBytes, vec![put("a", &value)]),
            (Bounded::Writes, vec![delete("a"); MAX_WRITES + 1]),
            (Bounded::TransactionBytes, vec![put("a", &value[1..]); 5]),
        ] {
            assert!(matches!(refuses(&engine, writes).await, TooLarge { what: w, .. } if w == what), "{what:?}");
        }
        assert!(matches!(refuses(&engine, vec![stamp(5)]).await, StampOutside { offset: 5, value_bytes: 12 }));
        assert!(matches!(refuses(&engine, vec![stamp(usize::MAX)]).await, StampOutside { .. }));
        let row = Write::Delete { key: numbered("log", 7, "") };
        assert!(matches!(refuses(&engine, vec![row, append("log", "")]).await, MixedLog));
        assert!(matches!(refuses(&engine, vec![append("log", "gone"), append("text", "")]).await, NotALog));
        assert!(matches!(refuses(&engine, vec![append("log", "gone"), append("full", "")]).await, NumbersExhausted));
        // None of the refused ones has used a number up.
        commit(&engine, vec![append("log", "0")]).await;
        assert_eq!(engine.begin().await.unwrap().get(&numbered("log", 0, "")).await.unwrap(), Some(bytes("0")));
    }
}

#[tokio::test]
async fn reads_have_their_bounds() {
    for engine in each_engine() {
        let mut txn = engine.begin().await.unwrap();
        let refusal = txn.range(KeyRange::all(), Order::Asc, MAX_RANGE_ROWS + 1).await;
        assert!(matches!(refusal, Err(EngineError::TooLarge { what: Bounded::RangeRows, .. })));
        drop(txn);
        // As many as are remembered, then one more.
        for (more, can_write) in [(0, true), (1, false)] {
            for writes in [vec![], vec![put("b", "")]] {
                let mut txn = engine.begin().await.unwrap();
                for _ in 0..MAX_READS / 2 {
                    txn.get(b"a").await.unwrap();
                    txn.range(keys("a", "b"), Order::Asc, 1).await.unwrap();
                }
                for _ in 0..more {
                    assert_eq!(txn.get(b"a").await.unwrap(), None, "reading goes on");
                }
                let is_read_only = writes.is_empty();
                match txn.commit(writes).await {
                    Ok(_) => assert!(can_write || is_read_only),
                    Err(CommitError::Engine(EngineError::TooLarge { what: Bounded::Reads, .. })) => {
                        assert!(!can_write && !is_read_only);
                    }
                    Err(refusal) => panic!("{refusal}"),
                }
            }
        }
    }
}

#[test]
fn a_prefix_is_the_range_of_all_keys_that_begin_with_it() {
    let longest = vec![0xff; MAX_KEY_BYTES];
    for (prefix, inside, outside) in [
        (b"ab".as_slice(), vec![b"ab".as_slice(), b"ab\0", b"ab\xff\xff"], vec![b"a".as_slice(), b"aa\xff", b"ac"]),
        (b"a\xff", vec![b"a\xff", b"a\xff\xff"], vec![b"a\xfe", b"b"]),
        (b"\xff\xff", vec![b"\xff\xff", &longest], vec![b"\xff\xfe", b"\xff"]),
        (b"", vec![b"\0", &longest], vec![]),
    ] {
        let range = KeyRange::prefix(prefix);
        assert!(inside.iter().all(|key| range.contains(key)), "{range:?}");
        assert!(!outside.iter().any(|key| range.contains(key)), "{range:?}");
    }
}
