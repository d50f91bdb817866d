//! What a caller sees of a record: its own redacted copy, and an etag over exactly that.

use crate::{body::Body, records::Stored, table::Table};
use data_encoding::BASE64URL_NOPAD;
use prost_reflect::{DynamicMessage, Value};
use std::borrow::Cow;
use sys_contract::id::RecordId;
use sys_keys::{GenerationKeys, SpaceKeys};
use sys_policy::{Content, FieldSet};

/// A record as one caller may see it.
#[derive(Debug, Clone)]
pub struct View {
    id: RecordId,
    body: Body,
}

impl View {
    /// Its id.
    pub fn id(&self) -> RecordId {
        self.id
    }

    /// The record without what the caller may not read, with `id` and `etag` set.
    pub fn message(&self) -> &DynamicMessage {
        self.body.message()
    }

    /// The message alone.
    pub fn into_message(self) -> DynamicMessage {
        self.body.into_message()
    }

    /// The message as it is sent: mostly it was never decoded.
    pub fn into_bytes(self) -> Vec<u8> {
        self.body.into_bytes()
    }

    /// How long the message is.
    pub(crate) fn size_bytes(&self) -> usize {
        self.body.size_bytes()
    }

    /// What filters are asked about.
    pub(crate) fn content(&self) -> Content<'_> {
        self.body.content()
    }

    /// The record without hidden and unknown fields.
    pub(crate) fn redacted(table: &Table, stored: Stored, hidden: &FieldSet) -> Self {
        Self { id: stored.id(), body: stored.into_body().redacted(table, hidden) }
    }

    /// Nothing but the id: the answer to a write whose result its caller may not read.
    pub(crate) fn of_id(table: &Table, id: RecordId) -> Self {
        let mut message = table.empty_record();
        message.set_field(&table.record.id, Value::String(table.id_text(id)));
        Self { id, body: Body::Message(message) }
    }

    /// The view with its etag in the record's `etag` field, where it has one.
    pub(crate) fn with_etag(mut self, table: &Table, keys: &SpaceKeys) -> Self {
        self.set_etag(table, keys);
        self
    }

    /// Puts its etag into the record's `etag` field, where it has one.
    pub(crate) fn set_etag(&mut self, table: &Table, keys: &SpaceKeys) {
        if let Some(field) = &table.record.etag {
            let etag = self.etag(table, keys.newest());
            self.body.set_text(field, &etag);
        }
    }

    /// Whether an etag is that of this view, which has none set yet. Made under an older key generation it still counts. No
    /// secret hangs on the comparison: who may write need not send an etag at all.
    pub(crate) fn has_etag(&self, table: &Table, keys: &SpaceKeys, etag: &str) -> bool {
        keys.live().iter().any(|keys| self.etag(table, keys) == etag)
    }

    /// `MAC(etag key, canonical bytes of the view)`. Over the view and not the record, so that a change of what is hidden
    /// does not show; keyed, so that nobody tries values of hidden fields against it.
    fn etag(&self, table: &Table, keys: &GenerationKeys) -> String {
        BASE64URL_NOPAD.encode(&keys.etag(&self.canonical(table)))
    }

    /// Bytes that are equal for equal views, and for no others.
    pub(crate) fn canonical(&self, table: &Table) -> Cow<'_, [u8]> {
        self.body.canonical(table)
    }
}

impl PartialEq for View {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id && self.message() == other.message()
    }
}
