//! Requests and answers: protobuf and JSON against the contract's descriptors, validation, reflection.

use crate::things::{THINGS, same, shown};
use bytes::Bytes;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage, Value};
use std::sync::LazyLock;
use sys_core::fuzzing::{decode, encode, is_valid, reflect};

/// The requests that the first byte of an input chooses from.
const REQUESTS: [&str; 5] =
    ["CreateThingRequest", "UpdateThingRequest", "ListThingsRequest", "MeasureRequest", "GetThingRequest"];

/// What is read as protobuf is written as the same, in protobuf and in JSON, and keeps nothing unknown.
pub(crate) fn protobuf(bytes: &[u8]) {
    let Some((message, body)) = request(bytes) else { return };
    if let Some(message) = decode(message, Bytes::copy_from_slice(body), false) {
        reads_back(&message);
    }
}

/// What is read as JSON is written as the same, in JSON and in protobuf.
pub(crate) fn json(bytes: &[u8]) {
    let Some((message, body)) = request(bytes) else { return };
    if let Some(message) = decode(message, Bytes::copy_from_slice(body), true) {
        reads_back(&message);
    }
}

/// Any question is answered or refused, and what is answered names only files that were shown.
pub(crate) fn reflection(bytes: &[u8]) {
    static SETS: LazyLock<Vec<Bytes>> = LazyLock::new(|| vec![THINGS.contract.file_descriptor_set().into()]);
    let question = Bytes::copy_from_slice(bytes);
    let Some(answer) = reflect(&SETS, question.clone()) else { return };
    assert_eq!(reflect(&SETS, question), Some(answer.clone()), "one question has one answer");
    // The answer holds the question, a name or the files: nothing makes it larger than that.
    assert!(answer.len() < 4 * bytes.len() + 2 * SETS[0].len() + 4096, "an answer of {} bytes", answer.len());
}

/// Whether an input is a request at all.
#[cfg(test)]
pub(crate) fn is_read(bytes: &[u8], json: bool) -> bool {
    request(bytes).is_some_and(|(message, body)| decode(message, Bytes::copy_from_slice(body), json).is_some())
}

fn request(bytes: &[u8]) -> Option<(MessageDescriptor, &[u8])> {
    let (kind, body) = bytes.split_first()?;
    Some((THINGS.message(REQUESTS[usize::from(*kind) % REQUESTS.len()]), body))
}

fn reads_back(message: &DynamicMessage) {
    assert!(knows_all(message), "an unknown field was kept");
    let valid = is_valid(&THINGS.validation, message);
    // Numbers that name nothing are refused by us, and let pass by the library where no rule is about them.
    assert!(!valid || THINGS.validator.validate(message).is_ok(), "the library refuses {}", shown(message));
    let is_refused_by_us = has_known_values(message) && !has_a_time_or_mask(message) && !valid;
    assert!(!is_refused_by_us || THINGS.validator.validate(message).is_err(), "the library passes {}", shown(message));
    let written = encode(message, false).expect("protobuf can say it");
    let read = decode(message.descriptor(), written, false).expect("what we wrote can be read");
    assert!(same(message, &read, &|_| false), "protobuf says something else: {} {}", shown(message), shown(&read));
    assert_eq!(is_valid(&THINGS.validation, &read), valid, "a message is valid or is not: {}", shown(message));
    // JSON has no words for times outside of the years 1 to 9999 and for some paths of a mask. Who sends them is refused, since
    // nobody could read them in JSON.
    let Some(written) = encode(message, true) else { return assert!(!valid, "what is valid cannot be said in JSON") };
    if !valid && has_a_time_or_mask(message) {
        return;
    }
    let Some(read) = decode(message.descriptor(), written.clone(), true) else {
        assert!(has_a_time_or_mask(message), "what we wrote cannot be read: {written:?}");
        return;
    };
    let mask = |message: &MessageDescriptor| message.full_name() == "google.protobuf.FieldMask";
    assert!(same(message, &read, &mask), "JSON says something else: {} {}", shown(message), shown(&read));
}

/// Whether each enum's number names a value of it.
fn has_known_values(message: &DynamicMessage) -> bool {
    let is_known = |field: &FieldDescriptor, value: &Value| match (field.kind(), value) {
        (Kind::Enum(values), Value::EnumNumber(number)) => values.get_value(*number).is_some(),
        (Kind::Enum(values), Value::List(numbers)) => {
            numbers.iter().filter_map(Value::as_enum_number).all(|number| values.get_value(number).is_some())
        }
        _ => true,
    };
    message.fields().all(|(field, value)| is_known(&field, value))
        && inner(message).iter().all(|inner| has_known_values(inner))
}

fn knows_all(message: &DynamicMessage) -> bool {
    message.unknown_fields().next().is_none() && inner(message).iter().all(|inner| knows_all(inner))
}

fn has_a_time_or_mask(message: &DynamicMessage) -> bool {
    let name = message.descriptor().full_name().to_owned();
    ["Timestamp", "Duration", "FieldMask"].iter().any(|of| name.ends_with(of))
        || inner(message).iter().any(|inner| has_a_time_or_mask(inner))
}

fn inner(message: &DynamicMessage) -> Vec<&DynamicMessage> {
    let mut found = Vec::new();
    for (_, value) in message.fields() {
        match value {
            Value::Message(inner) => found.push(inner),
            Value::List(items) => found.extend(items.iter().filter_map(Value::as_message)),
            Value::Map(entries) => found.extend(entries.values().filter_map(Value::as_message)),
            _ => {}
        }
    }
    found
}
