//! What the client reads of audit logs: heads and entries as they are kept and exported, and the proof that one head goes on from
//! another.

use crate::input::{Bytes, edited, parts, text};
use std::sync::LazyLock;
use sys_audit::{
    Hash, HeadKey, SignedHead,
    head::Head,
    tree::{self, Run, leaf_hash},
};
use sys_client::audit_text;

const LOG: &str = "org_a";
/// Entries of the log whose heads are tried: trees of several shapes are below.
const LEAVES: u64 = 40;
const UNIX_S: i64 = 1_800_000_000;

static KEY: LazyLock<HeadKey> = LazyLock::new(|| HeadKey::new(&[7; 32]).expect("a key"));

fn root(leaves: std::ops::Range<u64>) -> Hash {
    let mut run = Run::default();
    leaves.for_each(|leaf| run.push_leaf(leaf_hash(&leaf.to_be_bytes())));
    run.root()
}

fn head(size: u64) -> SignedHead {
    KEY.sign(Head { log_id: LOG.to_owned(), size, root: root(0..size), unix_s: UNIX_S })
}

/// A head in JSON, and edits of one that we signed. What is read is written as the same; one that says anything else than what was signed
/// is not believed.
pub(crate) fn head_text(bytes: &[u8]) {
    let [json, edits] = parts(bytes);
    let read = |text: &[u8]| audit_text::to_head(&serde_json::from_slice(text).ok()?);
    if let Some(read) = read(json) {
        let written = audit_text::of_head(&read);
        assert_eq!(audit_text::to_head(&written).as_ref(), Some(&read), "a head is read as it was written");
        assert!(read.verify(LOG).is_err() || read.head.log_id == LOG, "a head of another log");
    }
    let good = head(5);
    assert_eq!(good.verify(LOG), Ok(()));
    let written = audit_text::of_head(&good).to_string();
    if let Some(changed) = read(&edited(written.as_bytes(), edits)) {
        // A signature has one text and one form, so that what is believed is what was signed.
        assert!(changed.verify(LOG).is_err() || changed == good, "{changed:?}");
    }
}

/// An entry in JSON: what is read is written as the same, so that nobody reads what was not hashed.
pub(crate) fn entry_text(bytes: &[u8]) {
    let Some(json) = text(bytes).and_then(|text| serde_json::from_str(text).ok()) else { return };
    if let Some(entry) = audit_text::to_entry(&json) {
        assert_eq!(audit_text::of_entry(&entry), json);
    }
}

/// Two sizes of a log, and edits of the proof between them: the true proof is believed, and no other; neither is a proof believed for a
/// log that was rewritten.
pub(crate) fn proof(bytes: &[u8]) {
    let [sizes, edits] = parts(bytes);
    let mut sizes = Bytes::new(sizes);
    let second = u64::from(sizes.next()) % (LEAVES + 1);
    let first = u64::from(sizes.next()) % (second + 1);
    let (kept, now) = (head(first), head(second));
    let parts = tree::consistency(first, second).expect("sizes in order");
    let good: Vec<Hash> = parts.into_iter().map(root).collect();
    assert_eq!(now.goes_on_from(&kept, &good), Ok(()), "{first} {second}");
    let flat: Vec<u8> = good.iter().flat_map(|hash| hash.0).collect();
    let changed: Vec<Hash> = edited(&flat, edits).chunks(tree::HASH_BYTES).filter_map(Hash::from_slice).collect();
    let believed = now.goes_on_from(&kept, &changed).is_ok();
    assert_eq!(believed, changed == good, "{first} {second}: {changed:?}");
    if first > 0 {
        // The same entries but for the first.
        let other = KEY.sign(Head { root: root(1..second + 1), ..now.head });
        assert!(other.goes_on_from(&kept, &good).is_err() && other.goes_on_from(&kept, &changed).is_err(), "a fork");
    }
}

/// A token of a page has one text.
pub(crate) fn page_token(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    if let Some(again) = sys_core::fuzzing::audit_page_token(text) {
        // The last page has none.
        assert!(again == text || again.is_empty(), "{text} is read as {again}");
    }
}
