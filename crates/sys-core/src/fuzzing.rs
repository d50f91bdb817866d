//! Doors for the fuzz targets (`crates/sys-fuzz`) to what is private here: the parsers that a request meets.

use crate::{describe, gate, host, wire};
use bytes::Bytes;
use connectrpc::CodecFormat;
use http::HeaderMap;
use prost_protovalidate::Validator;
use prost_reflect::{DynamicMessage, MessageDescriptor};
use std::time::{Duration, Instant};

/// The token of a request's head; empty where a header is there that holds none.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    gate::bearer(headers)
}

/// How long the sender of a request waits for its answer, if he says it.
pub fn patience(headers: &HeaderMap) -> Option<Duration> {
    let arrived = Instant::now();
    gate::deadline(headers, arrived).map(|deadline| deadline.duration_since(arrived))
}

/// A request's body, in protobuf or JSON.
pub fn decode(descriptor: MessageDescriptor, body: Bytes, json: bool) -> Option<DynamicMessage> {
    wire::decode(descriptor, body, format(json)).ok()
}

/// An answer's body.
pub fn encode(message: &DynamicMessage, json: bool) -> Option<Bytes> {
    wire::encode(message, format(json)).ok()
}

/// Whether a request passes what is asked of every request, and the validation rules of its contract.
pub fn is_valid(validator: &Validator, message: &DynamicMessage) -> bool {
    wire::unknown_enum_value(message).is_none() && host::held_against(validator, message, |_| true).is_ok()
}

/// The answer to a reflection question, over these FileDescriptorSets.
pub fn reflect(sets: &[Bytes], question: Bytes) -> Option<Bytes> {
    describe::answer_question(sets, question)
}

fn format(json: bool) -> CodecFormat {
    if json { CodecFormat::Json } else { CodecFormat::Proto }
}
