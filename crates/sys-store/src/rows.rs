//! The rows that stand beside a record so that lists find it: one for each token, one for each scope. Pure.
//!
//! A record's rows are under the key generation of the record itself and say nothing that is not in the record, so that
//! they can be made again from it, and removed with it. A field that is unset or at its default has no token: rules and
//! filters never propose one.

use crate::{
    canonical::value_bytes,
    key::{ScopeKind, TOKEN_BYTES, TableSpace, join, org_scope},
    ordered,
    table::{Table, TableIndex},
};
use bytes::Bytes;
use prost_reflect::{DynamicMessage, FieldDescriptor, Value};
use std::collections::BTreeSet;
use sys_contract::{
    id::RecordId,
    model::{Home, Index},
};
use sys_keys::GenerationKeys;
use sys_policy::{Placement, TokenValue, words};

/// Most tokens of one field of a record. A title of 200 letters has at most 155; beyond this a text is no title, and each
/// token is a row to write.
pub(crate) const MAX_TOKENS_PER_FIELD: usize = 512;

/// A field has more tokens than [`MAX_TOKENS_PER_FIELD`], or is longer than an order keeps. Its rows cannot be left out, since
/// then a list would not find what a get shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NotIndexable {
    pub(crate) field: String,
    /// What is wrong and what to do.
    pub(crate) what: String,
}

/// The keys of all rows of a record.
pub(crate) fn rows_of(
    table: &Table,
    keys: &GenerationKeys,
    id: RecordId,
    record: &DynamicMessage,
    placement: &Placement,
) -> Result<BTreeSet<Bytes>, NotIndexable> {
    let at = table.at(id.org);
    let mut rows = BTreeSet::new();
    for index in &table.indexes {
        rows.extend(rows_in(at, index, keys, id, record)?);
    }
    for (kind, scope) in scopes_of(table, placement) {
        rows.insert(join(at.scope(kind, keys.generation(), &scope), id.uuid.as_bytes()));
    }
    Ok(rows)
}

/// The keys of the rows of a record in one index.
pub(crate) fn rows_in(
    at: TableSpace,
    index: &TableIndex,
    keys: &GenerationKeys,
    id: RecordId,
    record: &DynamicMessage,
) -> Result<Vec<Bytes>, NotIndexable> {
    let prefixes = match index.kind {
        Index::Ordered => vec![join(at.ordered(index.number), &value_in_order(index, record)?)],
        _ => {
            let tokens = tokens_of(at, index, keys, record)?.into_iter();
            tokens.map(|token| at.token(index.number, keys.generation(), &token)).collect()
        }
    };
    Ok(prefixes.into_iter().map(|prefix| join(prefix, id.uuid.as_bytes())).collect())
}

/// The value of a record in an ORDERED index, which holds a row for each record: for those too of which the field is unset.
fn value_in_order(index: &TableIndex, record: &DynamicMessage) -> Result<Vec<u8>, NotIndexable> {
    let too_long = |text: &str| text.len() > ordered::MAX_INDEXED_BYTES;
    if record.get_field(&index.field).as_str().is_some_and(too_long) {
        let limit = ordered::MAX_INDEXED_BYTES;
        let what = format!("it has more than {limit} bytes, and records are ordered by it: make it shorter");
        return Err(NotIndexable { field: index.field.name().to_owned(), what });
    }
    Ok(ordered::of_field(&index.field, record))
}

/// The tokens of a record in one index.
fn tokens_of(
    at: TableSpace,
    index: &TableIndex,
    keys: &GenerationKeys,
    record: &DynamicMessage,
) -> Result<BTreeSet<[u8; TOKEN_BYTES]>, NotIndexable> {
    let mut tokens = BTreeSet::new();
    if !record.has_field(&index.field) {
        return Ok(tokens);
    }
    match (index.kind, record.get_field(&index.field).as_ref()) {
        (Index::Search { whole }, Value::String(text)) => {
            if whole {
                tokens.insert(hash(at, index, keys, &whole_text(text)));
            }
            for word in words::normalised_words(text) {
                tokens.extend(words::prefixes(&word).map(|prefix| hash(at, index, keys, prefix.as_bytes())));
                if tokens.len() > MAX_TOKENS_PER_FIELD {
                    let what = "it has too many words to be searchable: make it shorter".to_owned();
                    return Err(NotIndexable { field: index.field.name().to_owned(), what });
                }
            }
        }
        // The contract's loader lets SEARCH on nothing but a string, and ORDERED has values for tokens.
        (Index::Search { .. } | Index::Ordered, _) => {}
        (Index::Equal | Index::Unique { .. }, value) => {
            tokens.insert(hash(at, index, keys, &value_bytes(value)));
        }
    }
    Ok(tokens)
}

/// The token that an index holds for a value; none if it holds no rows for it.
pub(crate) fn token_of_test(
    at: TableSpace,
    index: &TableIndex,
    keys: &GenerationKeys,
    value: &TokenValue,
) -> Option<[u8; TOKEN_BYTES]> {
    match (index.kind, value) {
        (Index::Search { .. }, TokenValue::WordPrefix(prefix)) => Some(hash(at, index, keys, prefix.as_bytes())),
        (Index::Search { whole: true }, TokenValue::Exact(Value::String(text))) if !text.is_empty() => {
            Some(hash(at, index, keys, &whole_text(text)))
        }
        (Index::Equal | Index::Unique { .. }, TokenValue::Exact(value)) if !is_default(&index.field, value) => {
            Some(hash(at, index, keys, &value_bytes(value)))
        }
        _ => None,
    }
}

/// By which scopes a record is found. In an org's own tablespace the org needs no row: it is the table.
pub(crate) fn scopes_of(table: &Table, placement: &Placement) -> impl Iterator<Item = (ScopeKind, [u8; 16])> {
    let org = placement.org.filter(|_| table.record.home == Home::Global);
    [
        org.map(|org| (ScopeKind::Org, org_scope(org))),
        placement.project.map(|project| (ScopeKind::Project, project.uuid().into_bytes())),
        placement.owner.map(|owner| (ScopeKind::Owner, owner.uuid().into_bytes())),
    ]
    .into_iter()
    .flatten()
}

/// A whole text among the beginnings of words, none of which has a NUL in it.
fn whole_text(text: &str) -> Vec<u8> {
    [b"\0", text.as_bytes()].concat()
}

/// Whether a record that holds this value may look like one that holds none.
fn is_default(field: &FieldDescriptor, value: &Value) -> bool {
    !field.supports_presence() && value.is_default(&field.kind())
}

/// `HMAC(index key, table | index, value)`: one value has different tokens in different indexes.
fn hash(at: TableSpace, index: &TableIndex, keys: &GenerationKeys, value: &[u8]) -> [u8; TOKEN_BYTES] {
    let [a, b] = at.table.to_be_bytes();
    let [c, d] = index.number.to_be_bytes();
    keys.token(&[a, b, c, d], value)
}
