//! The logs of a store, read as their readers do, and attacked as whoever writes to its engine can.

mod bed;

use super::{AuditError, keeper, logs::Log};
use bed::{Bed, DAY_S, NOW, org};
use proptest::prelude::*;
use std::{ops::Range, time::Duration};
use sys_audit::{
    Checker, Distrust, EntryFault, SignedHead,
    tree::{is_consistent, root_of_inclusion},
};
use sys_contract::id::OrgTag;

/// What a client does who keeps heads and reads the whole log.
async fn verified(bed: &Bed, log: Log, head: &SignedHead, kept: &[SignedHead]) -> Result<u64, EntryFault> {
    let mut checker = Checker::against(kept.iter().map(|kept| kept.head.clone()));
    let mut first = 0;
    while first < head.head.size {
        let leaves = bed.logs.leaves(log, first, 100.min(head.head.size - first)).await.unwrap();
        if leaves.is_empty() {
            break;
        }
        for raw in leaves {
            checker.push(raw.number, raw.hash, raw.leaf.as_deref())?;
            first = raw.number + 1;
        }
    }
    let erased = checker.erased();
    checker.finish(&head.head)?;
    Ok(erased)
}

/// The proof that a head goes on from another, if the server makes one.
async fn goes_on(bed: &Bed, log: Log, kept: &SignedHead, head: &SignedHead) -> Result<(), Distrust> {
    head.verify(&log.id())?;
    let proof = bed.logs.consistency(log, kept.head.size, head.head.size).await.unwrap();
    head.goes_on_from(kept, &proof)
}

#[tokio::test]
async fn heads_of_a_growing_log_go_on_from_each_other_across_kept_nodes() {
    let bed = Bed::new().await;
    let log = Log::Org(org(1));
    let mut heads = vec![bed.logs.head(log).await.unwrap()];
    for more in [1, 2, 252, 1, 1, 255, 1, 3_000, 7] {
        bed.append(org(1).tag(), more).await;
        bed.append(OrgTag::GLOBAL, 1).await;
        heads.push(bed.logs.head(log).await.unwrap());
    }
    let last = heads.last().unwrap();
    assert_eq!(last.head.size, 3_520);
    for kept in &heads {
        assert_eq!(goes_on(&bed, log, kept, last).await, Ok(()), "from {}", kept.head.size);
    }
    assert_eq!(verified(&bed, log, last, &heads).await, Ok(0));
    assert_eq!(bed.logs.head(Log::System).await.unwrap().head.size, 9);
    // The key outlasts the process.
    let again = bed.restarted().await;
    let head = again.logs.head(log).await.unwrap();
    assert_eq!((head.head.size, head.head.root, head.key_id()), (last.head.size, last.head.root, last.key_id()));
}

#[tokio::test]
async fn proofs_from_kept_nodes_are_those_of_the_leaves() {
    let bed = Bed::new().await;
    let log = Log::System;
    // More than 256 nodes of the lowest kind, so that one of the next stands over them.
    bed.append(OrgTag::GLOBAL, 256 * 257 + 3).await;
    let size = 256 * 257 + 3;
    // However long it takes; a reader waits for it so long only.
    keeper::round(&bed.logs, None).await.unwrap();
    let head = bed.logs.head(log).await.unwrap();
    assert_eq!(verified(&bed, log, &head, &[]).await, Ok(0), "the root from nodes is the root from leaves");
    for number in [0, 255, 256, 65_535, 65_536, 65_791, 65_792, size - 1] {
        let (hash, path) = bed.logs.inclusion(log, number, size).await.unwrap();
        assert_eq!(root_of_inclusion(number, size, &hash, &path), Some(head.head.root), "entry {number}");
        let raw = bed.logs.leaves(log, number, 1).await.unwrap();
        assert_eq!(raw[0].hash, hash);
    }
    for first in [1, 255, 256, 257, 511, 65_536, 65_537, 65_793, size] {
        let (_, path) = bed.logs.inclusion(log, 0, first).await.unwrap();
        let leaf = bed.logs.leaves(log, 0, 1).await.unwrap()[0].hash;
        let before = root_of_inclusion(0, first, &leaf, &path).unwrap();
        let proof = bed.logs.consistency(log, first, size).await.unwrap();
        assert!(is_consistent((first, &before), (size, &head.head.root), &proof), "from {first}");
    }
    assert!(bed.logs.inclusion(log, size, size).await.is_err());
    assert!(bed.logs.inclusion(log, 0, size + 1).await.is_err());
    assert!(bed.logs.consistency(log, 2, 1).await.is_err());
    assert!(bed.logs.consistency(log, 2, size + 1).await.is_err());
}

#[tokio::test]
async fn a_cut_is_found_by_the_server_and_by_who_kept_a_head() {
    for (entries, cut) in [(9, 1), (9, 9), (600, 1), (600, 300)] {
        let bed = Bed::new().await;
        let log = Log::Org(org(1));
        bed.append(org(1).tag(), entries).await;
        let kept = bed.logs.head(log).await.unwrap();
        bed.cut(org(1).tag(), cut).await;
        assert_eq!(bed.logs.head(log).await.unwrap_err().reason.name(), "AUDIT_LOG_DAMAGED");
        // The next entries take the numbers of those that are gone.
        bed.append(org(1).tag(), cut + 5).await;
        assert!(bed.logs.head(log).await.is_err(), "refilled");
        // Whoever also puts the server's own memory of it back has it signed, but not for those who kept a head.
        bed.forget(org(1).tag()).await;
        let forged = bed.logs.head(log).await.unwrap();
        assert!(matches!(goes_on(&bed, log, &kept, &forged).await, Err(Distrust::Fork { .. })));
        let found = verified(&bed, log, &forged, &[kept]).await;
        assert!(matches!(found, Err(EntryFault::Distrust(Distrust::Fork { .. }))), "{found:?}");
    }
}

#[tokio::test]
async fn a_change_of_order_is_found() {
    for (one, other, entries) in [(3, 4, 9), (3, 8, 9), (100, 500, 600), (100, 599, 600)] {
        let bed = Bed::new().await;
        let log = Log::System;
        bed.append(OrgTag::GLOBAL, entries).await;
        let kept = bed.logs.head(log).await.unwrap();
        bed.swap(OrgTag::GLOBAL, one, other).await;
        let found = verified(&bed, log, &kept, &[]).await;
        assert!(matches!(found, Err(EntryFault::Distrust(Distrust::Fork { .. }))), "{one} {other}: {found:?}");
    }
}

#[tokio::test]
async fn an_entry_of_another_log_does_not_open_and_a_missing_one_is_missed() {
    let bed = Bed::new().await;
    bed.append(org(1).tag(), 5).await;
    bed.append(org(2).tag(), 5).await;
    bed.copy((org(2).tag(), 1), (org(1).tag(), 1)).await;
    assert!(bed.logs.leaves(Log::Org(org(1)), 0, 5).await.is_err());
    bed.remove(org(2).tag(), 2).await;
    assert_eq!(bed.logs.leaves(Log::Org(org(2)), 0, 5).await.unwrap_err().reason.name(), "AUDIT_LOG_DAMAGED");
    assert!(bed.logs.head(Log::Org(org(2))).await.is_err());
}

#[tokio::test]
async fn what_the_retention_is_over_for_is_erased_and_the_rest_stays_verifiable() {
    let bed = Bed::new().await;
    let log = Log::Org(org(1));
    bed.append_at(org(1).tag(), 700, NOW - 10 * DAY_S).await;
    bed.append_at(org(1).tag(), 5, NOW - DAY_S).await;
    let kept = bed.logs.head(log).await.unwrap();
    let week = Some(Duration::from_secs(7 * 86_400));
    keeper::round(&bed.logs, None).await.unwrap();
    assert_eq!(verified(&bed, log, &kept, &[]).await, Ok(0), "kept for ever");
    for _ in 0..2 {
        keeper::round(&bed.logs, week).await.unwrap();
        let head = bed.logs.head(log).await.unwrap();
        // One entry says that 700 are erased, and only once.
        assert_eq!(head.head.size, 706);
        assert_eq!(goes_on(&bed, log, &kept, &head).await, Ok(()));
        assert_eq!(verified(&bed, log, &head, std::slice::from_ref(&kept)).await, Ok(700));
    }
    let found = bed.find(log, |_| {}).await;
    assert_eq!(found.first().and_then(|entry| entry.leaf.clone()).unwrap().erased_below, 700);
    assert_eq!(found.iter().filter(|entry| entry.leaf.is_none()).count(), 700);
    let theirs = bed.find(log, |query| query.until_unix_s = Some(i64::MAX)).await;
    assert_eq!(theirs.len(), 6, "nobody finds what is erased by what it said");
    // Nothing of it is left in the engine.
    let bytes = async |number| bed.stored_bytes(org(1).tag(), number).await;
    assert_eq!(bytes(0).await, bytes(699).await);
    assert!(bytes(0).await < bytes(700).await);
}

#[tokio::test]
async fn an_org_whose_keys_are_gone_leaves_a_log_of_hashes() {
    let mut bed = Bed::new().await;
    let log = Log::Org(org(1));
    bed.append(org(1).tag(), 300).await;
    bed.append(org(2).tag(), 3).await;
    let kept = bed.logs.head(log).await.unwrap();
    bed.shred_all_orgs().await;
    let head = bed.logs.head(log).await.unwrap();
    assert_eq!(verified(&bed, log, &head, &[kept]).await, Ok(300));
    assert!(bed.find(log, |_| {}).await.iter().all(|entry| entry.leaf.is_none()));
    // The server's own log is under the server's keys.
    bed.append(OrgTag::GLOBAL, 2).await;
    assert!(bed.find(Log::System, |_| {}).await.iter().all(|entry| entry.leaf.is_some()));
}

#[tokio::test]
async fn a_damaged_log_does_not_keep_others_from_being_tended() {
    let bed = Bed::new().await;
    for number in 1..4 {
        bed.append_at(org(number).tag(), 300, NOW - 10 * DAY_S).await;
    }
    bed.remove(org(1).tag(), 7).await;
    keeper::round(&bed.logs, Some(Duration::from_secs(86_400))).await.unwrap();
    for number in 2..4 {
        let found = bed.find(Log::Org(org(number)), |query| query.until_unix_s = Some(NOW)).await;
        assert_eq!(found.len(), 0, "org {number}");
    }
}

#[tokio::test]
async fn readers_and_writers_of_a_log_do_not_keep_each_other_from_it() {
    let bed = Bed::new().await;
    let log = Log::System;
    let writing = async {
        for _ in 0..40 {
            bed.append(OrgTag::GLOBAL, 20).await;
            tokio::task::yield_now().await;
        }
    };
    let reading = async {
        let mut kept = bed.logs.head(log).await.unwrap();
        while kept.head.size < 800 {
            let head = bed.logs.head(log).await.unwrap();
            assert_eq!(goes_on(&bed, log, &kept, &head).await, Ok(()));
            kept = head;
            tokio::task::yield_now().await;
        }
        kept
    };
    let ((), head) = tokio::join!(writing, reading);
    assert_eq!(verified(&bed, log, &head, &[]).await, Ok(0));
}

#[tokio::test]
async fn a_kept_seed_that_is_no_seed_is_refused() {
    let bed = Bed::new().await;
    bed.spoil_seed().await;
    let opened = super::AuditLogs::open(bed.store.clone(), crate::clock::Clock::System).await;
    assert!(matches!(opened, Err(AuditError::Key(_))), "{opened:?}");
}

/// What a query finds, against a look at each entry.
#[derive(Debug, Clone)]
struct Asked {
    account: Option<u8>,
    method: &'static str,
    allowed: Option<bool>,
    reason: &'static str,
    times: Range<i64>,
    oldest_first: bool,
    page_size: usize,
}

fn asked() -> impl Strategy<Value = Asked> {
    let account = proptest::option::of(0_u8..3);
    let method = prop_oneof![Just(""), Just("a.v1."), Just("a.v1.A/One"), Just("b.v1.B/Two"), Just("x")];
    let reason = prop_oneof![3 => Just(""), 1 => Just("NOT_FOUND"), 1 => Just("OK")];
    let times = (0_i64..6_000, 0_i64..6_000).prop_map(|(from, until)| NOW + from..NOW + until);
    (account, method, proptest::option::of(any::<bool>()), reason, times, any::<bool>(), 1_usize..60).prop_map(
        |(account, method, allowed, reason, times, oldest_first, page_size)| Asked {
            account,
            method,
            allowed,
            reason,
            times,
            oldest_first,
            page_size,
        },
    )
}

#[test]
fn a_query_finds_what_a_look_at_each_entry_finds() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let bed = runtime.block_on(Bed::with_many_kinds());
    proptest!(ProptestConfig::with_cases(60), |(asked in asked())| {
        let (found, expect) = runtime.block_on(bed.ask(&asked));
        prop_assert_eq!(found, expect);
    });
}
