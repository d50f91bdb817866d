//! What stands on disk, and the tokens of pages and watches, which are sealed like it.

use crate::{
    input::{edited, parts, text},
    things::THINGS,
};
use std::{collections::BTreeSet, sync::LazyLock};
use sys_contract::{
    breaking_changes,
    id::{AccountId, OrgTag, ProjectId, RecordId},
};
use sys_keys::{SpaceKeys, deterministic::SeededEntropy, fuzzing::danger_space_keys};
use sys_store::fuzzing::{self, Query};

static KEYS: LazyLock<SpaceKeys> = LazyLock::new(|| danger_space_keys(0).expect("keys"));
/// Nothing is sealed with these. A fuzzer sees what is compared, and sends what the target itself has sealed.
static UNUSED_KEYS: LazyLock<SpaceKeys> = LazyLock::new(|| danger_space_keys(64).expect("keys"));
/// A commit, a time and a hash.
const POINT_BYTES: usize = 8 + 8 + 4 + 16;
/// What frames of a log are made of.
const LOG_PAGE_BYTES: usize = 4_096;
/// Where a commit writes its version, which is not under the seal.
const VERSION: std::ops::Range<usize> = 5..13;

fn entropy() -> SeededEntropy {
    SeededEntropy::danger_from_seed(1)
}

/// A log is read as it was written, cut anywhere it gives the batches before the cut, and changed anywhere no other rows: if it was not
/// the last batch that was changed, that is told. Rows that no batch of ours holds are not read.
pub(crate) fn log(bytes: &[u8]) {
    let _ = fuzzing::read_log(bytes);
    let Some((&[edits, cut, values], rest)) = bytes.split_first_chunk() else { return };
    let (edits, rest) = rest.split_at(usize::from(edits).min(rest.len()));
    let row = |row: &[u8]| (row[..1].to_vec(), (row.len() > 1).then(|| row[1..].repeat(usize::from(values))));
    let batches: Vec<Vec<_>> = rest.chunks(40).take(6).map(|batch| batch.chunks(9).map(row).collect()).collect();
    let whole = fuzzing::log(&batches);
    let written: Vec<Vec<_>> = batches.iter().map(|batch| batch.iter().cloned().map(Some).collect()).collect();
    assert_eq!(fuzzing::read_log(&whole), Some((written.clone(), false)), "a log is read as it was written");
    assert!(whole.len().is_multiple_of(LOG_PAGE_BYTES), "frames are whole pages");

    let cut = whole.len() * usize::from(cut) / 255;
    if let Some((before, damaged)) = fuzzing::read_log(&whole[..cut]) {
        assert!(!damaged && before == written[..before.len()], "a cut log has the batches before the cut");
        assert!(before.len() == written.len() || cut < whole.len(), "a whole log has all batches");
    } else {
        assert!(cut < LOG_PAGE_BYTES, "a cut is no loss of the log");
    }
    let changed = edited(&whole, edits);
    if let Some((read, damaged)) = fuzzing::read_log(&changed) {
        assert_eq!(read, written[..read.len()], "a changed log holds other rows");
        let touched = fuzzing::log(&batches[..(read.len() + 1).min(batches.len())]).len();
        if changed.len() == whole.len() && changed[touched..] == whole[touched..] && read.len() + 1 < written.len() {
            assert!(damaged, "a batch that is lost before others is told");
        }
    }
}

/// A value's header is put together as it was taken apart. What was sealed opens in its own place alone and unchanged alone.
pub(crate) fn value(bytes: &[u8]) {
    if let Some(again) = fuzzing::header(bytes) {
        assert_eq!(again, bytes, "a header is written as it was read");
    }
    assert_eq!(fuzzing::open(&UNUSED_KEYS, b"key", bytes), None, "a stranger's bytes open");
    if let Some(again) = fuzzing::note(bytes) {
        assert_eq!(again, bytes, "a note of a change is written as it was read");
    }
    let [plaintext, key, edits] = parts(bytes);
    let sealed = fuzzing::seal(&KEYS, key, plaintext.to_vec(), &entropy());
    assert_eq!(fuzzing::open(&KEYS, key, &sealed).as_deref(), Some(plaintext));
    assert_eq!(fuzzing::open(&KEYS, &[key, b"x"].concat(), &sealed), None, "it opens in another place");
    let mut changed = edited(&sealed, edits);
    if changed.len() == sealed.len() {
        changed[VERSION].copy_from_slice(&sealed[VERSION]);
    }
    assert_eq!(fuzzing::open(&KEYS, key, &changed).is_some(), changed == sealed, "a changed value opens");
}

/// A key that is read begins as keys of its kind do.
pub(crate) fn key(bytes: &[u8]) {
    if let Some(begins) = fuzzing::key_begins(bytes) {
        assert!(bytes.starts_with(&begins) && begins.len() >= 11, "{begins:?}");
    }
}

/// A page token opens for the query that it was made for, unchanged, and for no other.
pub(crate) fn page_token(bytes: &[u8]) {
    let [filter, order_by, position, edits] = parts(bytes);
    let (Some(filter), Some(order_by)) = (text(filter), text(order_by)) else { return };
    let id = RecordId::new(OrgTag::GLOBAL, 1_700_000_000_000, [3; 10]);
    let query = Query {
        account: Some(AccountId::from_record(id)),
        org: Some(OrgTag::of_org(id)),
        project: None,
        filter,
        order_by,
    };
    if let Some(text) = text(bytes) {
        assert_eq!(fuzzing::open_page_token(&UNUSED_KEYS, &query, text), None, "a stranger's text is a token");
    }
    let position = [&[7; 16], position].concat();
    if let Some(again) = fuzzing::position(&position) {
        assert_eq!(again, position, "a position is written as it was read");
    }
    let Some(token) = fuzzing::page_token(&KEYS, &query, &position, &entropy()) else { return };
    let opened = |query: &Query<'_>, token: &str| fuzzing::open_page_token(&KEYS, query, token);
    // Longer ones are not made: the values of an order are bounded.
    assert!(opened(&query, &token).is_none_or(|opened| opened == position), "a token leads elsewhere");
    assert!(opened(&query, &token).is_some() || token.len() > 4096, "a token does not open");
    let joined = format!("{filter}{order_by}");
    let others = [
        Query { account: None, ..query },
        Query { org: None, ..query },
        Query { project: Some(ProjectId::from_record(id)), ..query },
        Query { filter: &joined, order_by: "", ..query },
        Query { filter: "", order_by: &joined, ..query },
    ];
    for other in others {
        let same = other.account == query.account
            && other.org == query.org
            && other.project == query.project
            && (other.filter, other.order_by) == (query.filter, query.order_by);
        assert!(same || opened(&other, &token).is_none(), "a token opens for another query: {other:?}");
    }
    let changed = edited(token.as_bytes(), edits);
    let Some(changed) = text(&changed) else { return };
    assert!(changed == token || opened(&query, changed).is_none(), "a changed token opens");
}

/// A resume token opens for the watch that it was made for, unchanged, and neither for another nor as a page token.
pub(crate) fn resume_token(bytes: &[u8]) {
    let [filter, point, edits] = parts(bytes);
    let Some(filter) = text(filter) else { return };
    let id = RecordId::new(OrgTag::GLOBAL, 1_700_000_000_000, [3; 10]);
    let query = Query {
        account: Some(AccountId::from_record(id)),
        org: Some(OrgTag::of_org(id)),
        project: None,
        filter,
        order_by: "",
    };
    if let Some(text) = text(bytes) {
        assert_eq!(fuzzing::open_resume_token(&UNUSED_KEYS, &query, text), None, "a stranger's text is a token");
    }
    if let Some(again) = fuzzing::point(point) {
        assert_eq!(again, point, "a point is written as it was read");
    }
    let point: Vec<u8> = point.iter().copied().chain(std::iter::repeat(0)).take(POINT_BYTES).collect();
    let token = fuzzing::resume_token(&KEYS, &query, &point, &entropy()).expect("so many bytes are a point");
    let opened = |query: &Query<'_>, token: &str| fuzzing::open_resume_token(&KEYS, query, token);
    assert_eq!(opened(&query, &token), Some(point.clone()), "a token leads elsewhere");
    let longer = format!("{filter} ");
    let others = [
        Query { account: None, ..query },
        Query { org: None, ..query },
        Query { project: Some(ProjectId::from_record(id)), ..query },
        Query { filter: &longer, ..query },
        Query { order_by: "id", ..query },
    ];
    for other in others {
        assert_eq!(opened(&other, &token), None, "a token opens for another watch: {other:?}");
    }
    assert_eq!(fuzzing::open_page_token(&KEYS, &query, &token), None, "it opens as a page token");
    let page = fuzzing::page_token(&KEYS, &query, &[7; 16], &entropy()).expect("a position");
    assert_eq!(opened(&query, &page), None, "a page token opens as a resume token");
    let changed = edited(token.as_bytes(), edits);
    let Some(changed) = text(&changed) else { return };
    assert!(changed == token || opened(&query, changed).is_none(), "a changed token opens");
}

/// Rows of the catalog are written as they were read; a load gives no number twice and changes none.
pub(crate) fn catalog_row(bytes: &[u8]) {
    if let Some(kept) = fuzzing::kept_contract(bytes) {
        let _ = breaking_changes(&kept, &THINGS.contract);
    }
    let Some(row) = fuzzing::catalog_row(bytes) else { return };
    assert_eq!(fuzzing::catalog_row(&row).as_ref(), Some(&row), "a row has one form");
    let Some(loaded) = fuzzing::catalog_loaded(&row, &THINGS.contract) else { return };
    let numbers = |row: &[u8]| fuzzing::catalog_numbers(row).expect("what we wrote can be read");
    let (before, after) = (numbers(&row), numbers(&loaded));
    assert!(after.len() >= before.len(), "a table is gone");
    for (was, is) in before.iter().zip(&after) {
        assert!(was.0 == is.0 && is.1.starts_with(&was.1), "a number changed: {was:?} {is:?}");
    }
    let new_tables: Vec<u32> = after.iter().skip(before.len()).map(|table| table.0).collect();
    assert!(are_new(&before.iter().map(|table| table.0).collect::<Vec<_>>(), &new_tables), "{before:?} {after:?}");
    for (index, is) in after.iter().enumerate() {
        let was = before.get(index).map_or(&[][..], |table| &table.1);
        assert!(are_new(was, &is.1[was.len()..]), "an index has another's number: {was:?} {is:?}");
    }
    assert_eq!(fuzzing::catalog_loaded(&loaded, &THINGS.contract), Some(loaded), "a second load changes nothing");
}

/// Whether these numbers were never given before, and each once.
fn are_new(before: &[u32], new: &[u32]) -> bool {
    let given: BTreeSet<u32> = before.iter().copied().collect();
    let fresh: BTreeSet<u32> = new.iter().copied().collect();
    fresh.len() == new.len() && fresh.is_disjoint(&given) && !fresh.contains(&0)
}
