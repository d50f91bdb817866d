//! Heads and entries of audit logs as JSON: what is kept, and what is exported.
//!
//! An export is a text of lines: the signed head first, then each entry in its order. An entry's line has the bytes that were
//! hashed (`leaf`, base64) and, for people and programs, what they say; who reads it back makes the line anew from the bytes and
//! compares, so that nobody reads what was not hashed.

use crate::audit::RawLeaf;
use data_encoding::{BASE64, HEXLOWER};
use prost::Message;
use prost_types::Timestamp;
use serde_json::{Value as Json, json};
use sys_audit::{Connection, DeviceKey, Hash, Leaf, SignedHead, head::Head};

/// What ids of records begin with of which the kind is not known.
const RECORD_PREFIX: &str = "record";

/// A head as JSON.
pub fn of_head(signed: &SignedHead) -> Json {
    json!({
        "log_id": signed.head.log_id,
        "tree_size": signed.head.size,
        "root_hash": signed.head.root.to_string(),
        "time_unix_s": signed.head.unix_s,
        "key_id": signed.key_id(),
        "public_key": BASE64.encode(&signed.public_key),
        "signature": BASE64.encode(&signed.signature),
    })
}

/// Reads a head back. Nothing of it is verified.
pub fn to_head(text: &Json) -> Option<SignedHead> {
    let bytes = |field: &str| BASE64.decode(text.get(field)?.as_str()?.as_bytes()).ok();
    Some(SignedHead {
        head: Head {
            log_id: text.get("log_id")?.as_str()?.to_owned(),
            size: text.get("tree_size")?.as_u64()?,
            root: to_hash(text.get("root_hash")?)?,
            unix_s: text.get("time_unix_s")?.as_i64()?,
        },
        public_key: bytes("public_key")?.try_into().ok()?,
        signature: bytes("signature")?,
    })
}

/// An entry as JSON. What is no leaf of this version says nothing beside its bytes.
pub fn of_entry(raw: &RawLeaf) -> Json {
    let leaf = raw.leaf.as_deref().and_then(|leaf| Leaf::decode(leaf).ok());
    let mut entry = json!({
        "number": raw.number,
        "leaf_hash": raw.hash.to_string(),
        "leaf": raw.leaf.as_deref().map(|leaf| BASE64.encode(leaf)),
    });
    if let (Some(leaf), Some(entry)) = (leaf, entry.as_object_mut()) {
        let device_key = leaf.device_key();
        entry.insert("time".to_owned(), Timestamp { seconds: leaf.unix_s, nanos: leaf.nanos }.to_string().into());
        entry.insert("record_ids".to_owned(), leaf.record_ids().map(|id| id.text(RECORD_PREFIX)).collect());
        entry.insert("account_id".to_owned(), leaf.account_id.into());
        entry.insert("session_id".to_owned(), leaf.session_id.into());
        entry.insert("method".to_owned(), leaf.method.into());
        entry.insert("outcome".to_owned(), leaf.outcome.into());
        entry.insert("grant".to_owned(), leaf.grant.into());
        entry.insert("lost".to_owned(), leaf.lost.into());
        entry.insert("erased_below".to_owned(), leaf.erased_below.into());
        // Younger than the others, so that lines without it are as they were.
        if leaf.imported > 0 {
            entry.insert("imported".to_owned(), leaf.imported.into());
        }
        match device_key {
            DeviceKey::None => {}
            DeviceKey::Shown => drop(entry.insert("device_key".to_owned(), "SHOWN".into())),
            DeviceKey::NotShown => drop(entry.insert("device_key".to_owned(), "NOT_SHOWN".into())),
        }
        if let Some(connection) = leaf.connection {
            entry.insert("connection".to_owned(), of_connection(&connection));
        }
    }
    entry
}

fn of_connection(connection: &Connection) -> Json {
    json!({
        "tls_version": connection.version_name(),
        "tls_group": connection.group_name(),
        "ech_accepted": connection.ech_accepted,
        "certificate": connection.certificate_name(),
    })
}

/// Reads an entry back, if its line says what its bytes do.
pub fn to_entry(text: &Json) -> Option<RawLeaf> {
    let leaf = match text.get("leaf")? {
        Json::Null => None,
        leaf => Some(BASE64.decode(leaf.as_str()?.as_bytes()).ok()?),
    };
    let raw = RawLeaf { number: text.get("number")?.as_u64()?, hash: to_hash(text.get("leaf_hash")?)?, leaf };
    (of_entry(&raw) == *text).then_some(raw)
}

fn to_hash(text: &Json) -> Option<Hash> {
    Hash::from_slice(&HEXLOWER.decode(text.as_str()?.as_bytes()).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sys_audit::{HeadKey, tree::leaf_hash};

    fn entry() -> RawLeaf {
        let leaf = Leaf { unix_s: 1_800_000_000, method: "a.v1.A/One".into(), grant: Some(1), ..Leaf::default() };
        let leaf = leaf.records([sys_contract::id::RecordId::from_bytes([7; 22])]).encode_to_vec();
        RawLeaf { number: 3, hash: leaf_hash(&leaf), leaf: Some(leaf) }
    }

    #[test]
    fn an_entry_reads_back_and_says_what_was_hashed() {
        let line = of_entry(&entry());
        assert_eq!(line["method"], "a.v1.A/One");
        assert_eq!(line["time"], "2027-01-15T08:00:00Z");
        assert_eq!(to_entry(&line), Some(entry()));
        let erased = RawLeaf { leaf: None, ..entry() };
        assert_eq!(to_entry(&of_entry(&erased)), Some(erased));
    }

    #[test]
    fn an_entry_says_how_its_call_came_and_an_older_one_says_nothing_of_it() {
        let connection = Connection { version: 0x0304, group: 0x11ec, ech_accepted: true, certificate: vec![0xab; 8] };
        let leaf = Leaf { connection: Some(connection), device_key: DeviceKey::NotShown.into(), ..Leaf::default() };
        let leaf = leaf.encode_to_vec();
        let raw = RawLeaf { number: 3, hash: leaf_hash(&leaf), leaf: Some(leaf) };
        let line = of_entry(&raw);
        assert_eq!(line["device_key"], "NOT_SHOWN");
        assert_eq!(line["connection"]["tls_group"], "X25519MLKEM768");
        assert_eq!(line["connection"]["certificate"], "abababababababab");
        assert_eq!(to_entry(&line), Some(raw));
        let older = of_entry(&entry());
        assert_eq!((older.get("device_key"), older.get("connection")), (None, None));
    }

    #[test]
    fn a_line_that_was_made_to_say_something_else_is_refused() {
        for (field, value) in [
            ("method", json!("a.v1.A/Two")),
            ("outcome", json!("NOT_FOUND")),
            ("account_id", json!("account_x")),
            ("time", json!("2027-01-15T08:00:01Z")),
            ("record_ids", json!([])),
            ("grant", Json::Null),
            ("leaf", Json::Null),
            ("leaf", json!("AAAA")),
            ("more", json!(1)),
            ("number", json!("3")),
            ("leaf_hash", json!("00")),
        ] {
            let mut line = of_entry(&entry());
            line[field] = value;
            assert_eq!(to_entry(&line), None, "{field}");
        }
        assert_eq!(to_entry(&json!([])), None);
    }

    #[test]
    fn a_head_reads_back() {
        let head = Head { log_id: "system".into(), size: 3, root: leaf_hash(b""), unix_s: 1 };
        let signed = HeadKey::new(&[1; 32]).expect("a key").sign(head);
        assert_eq!(to_head(&of_head(&signed)), Some(signed.clone()));
        for field in ["log_id", "tree_size", "root_hash", "time_unix_s", "public_key", "signature"] {
            let mut text = of_head(&signed);
            text.as_object_mut().expect("an object").remove(field);
            assert_eq!(to_head(&text), None, "{field}");
        }
    }
}
