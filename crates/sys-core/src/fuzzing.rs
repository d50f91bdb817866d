//! Doors for the fuzz targets (`crates/sys-fuzz`) to what is private here: the parsers that a request meets.

mod frames;

pub use crate::validation::Validation;
pub use frames::{Heard, heard};

use crate::{
    audit::query,
    describe,
    gate::{self, request},
    import,
    refusal::{Reason, Refusal},
    validation::{Judged, has_known_values},
    wire,
};
use bytes::Bytes;
use connectrpc::CodecFormat;
use http::{HeaderMap, StatusCode, request::Parts};
use prost_reflect::{DynamicMessage, MessageDescriptor};
use std::time::{Duration, Instant};
use sys_contract::{
    id::RecordId,
    model::{Contract, Flow},
};
use sys_store::Table;

/// The token of a request's head; empty where a header is there that holds none.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    gate::bearer(headers)
}

/// How long the sender of a request waits for its answer, if he says it.
pub fn patience(headers: &HeaderMap) -> Option<Duration> {
    let arrived = Instant::now();
    gate::deadline(headers, arrived).map(|deadline| deadline.duration_since(arrived))
}

/// Whether a request of so many bytes at most is in a form that is spoken here.
pub fn form(head: &Parts, flow: Flow, most_bytes: usize) -> Result<(), Reason> {
    let checked = match flow {
        Flow::Unary => request::check_form(head, most_bytes),
        Flow::ServerStream => request::check_form_of_stream(head, Some(most_bytes)),
        Flow::ClientStream | Flow::Bidi => request::check_form_of_stream(head, None),
    };
    checked.map_err(|refusal| refusal.reason)
}

/// How a refusal is answered: the status, and the headers.
pub fn refused(reason: Reason, head: &Parts) -> (StatusCode, HeaderMap) {
    let response = request::answer(Refusal::new(reason, "refused"), head);
    (response.status(), response.headers().clone())
}

/// A token of a page of the audit log, read and written anew.
pub fn audit_page_token(text: &str) -> Option<String> {
    let position = query::position(text).ok()??;
    Some(query::token(&(position..u64::MAX), true))
}

/// A line of an import.
pub fn import_line(validation: &Validation, table: &Table, line: &str) -> Result<(RecordId, DynamicMessage), Refusal> {
    import::read_line(validation, table, line)
}

/// A request's body, in protobuf or JSON.
pub fn decode(descriptor: MessageDescriptor, body: Bytes, json: bool) -> Option<DynamicMessage> {
    wire::decode(descriptor, body, format(json)).ok()
}

/// An answer's body.
pub fn encode(message: &DynamicMessage, json: bool) -> Option<Bytes> {
    wire::encode(message, format(json)).ok()
}

/// The validation rules of a contract.
pub fn validation(contract: &Contract) -> Option<Validation> {
    Validation::of(contract).ok()
}

/// Whether a request passes what is asked of every request, and the validation rules of its contract.
pub fn is_valid(validation: &Validation, message: &DynamicMessage) -> bool {
    has_known_values(message).and_then(|()| validation.check(message, &Judged::Whole)).is_ok()
}

/// The answer to a reflection question, over these FileDescriptorSets.
pub fn reflect(sets: &[Bytes], question: Bytes) -> Option<Bytes> {
    describe::answer_question(sets, question)
}

fn format(json: bool) -> CodecFormat {
    if json { CodecFormat::Json } else { CodecFormat::Proto }
}
