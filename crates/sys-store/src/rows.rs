//! The rows that stand beside a record so that lists find it: one for each token, one for each scope. Pure.
//!
//! A record's rows are under the key generation of the record itself and say nothing that is not in the record, so that
//! they can be made again from it, and removed with it. A field that is unset or at its default has no row: rules and
//! filters never propose one.

use crate::{
    canonical::value_bytes,
    key::{ScopeKind, TOKEN_BYTES, TableSpace, join, org_scope},
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

/// A field has more than [`MAX_TOKENS_PER_FIELD`] tokens. They cannot be left out, since then a search would not find what
/// a get shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TooManyTokens {
    pub(crate) field: String,
}

/// The keys of all rows of a record.
pub(crate) fn rows_of(
    table: &Table,
    keys: &GenerationKeys,
    id: RecordId,
    record: &DynamicMessage,
    placement: &Placement,
) -> Result<BTreeSet<Bytes>, TooManyTokens> {
    let at = table.at(id.org);
    let mut rows = BTreeSet::new();
    for index in &table.indexes {
        for token in tokens_of(at, index, keys, record)? {
            rows.insert(join(at.token(index.number, keys.generation(), &token), id.uuid.as_bytes()));
        }
    }
    for (kind, scope) in scopes_of(table, placement) {
        rows.insert(join(at.scope(kind, keys.generation(), &scope), id.uuid.as_bytes()));
    }
    Ok(rows)
}

/// The tokens of a record in one index.
pub(crate) fn tokens_of(
    at: TableSpace,
    index: &TableIndex,
    keys: &GenerationKeys,
    record: &DynamicMessage,
) -> Result<BTreeSet<[u8; TOKEN_BYTES]>, TooManyTokens> {
    let mut tokens = BTreeSet::new();
    if !record.has_field(&index.field) {
        return Ok(tokens);
    }
    match (index.kind, record.get_field(&index.field).as_ref()) {
        (Index::Search, Value::String(text)) => {
            for word in words::normalised_words(text) {
                tokens.extend(words::prefixes(&word).map(|prefix| hash(at, index, keys, prefix.as_bytes())));
                if tokens.len() > MAX_TOKENS_PER_FIELD {
                    return Err(TooManyTokens { field: index.field.name().to_owned() });
                }
            }
        }
        // The contract's loader lets SEARCH on nothing but a string.
        (Index::Search, _) => {}
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
        (Index::Search, TokenValue::WordPrefix(prefix)) => Some(hash(at, index, keys, prefix.as_bytes())),
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
