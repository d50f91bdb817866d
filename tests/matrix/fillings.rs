//! Values for the fields of any record, made from its descriptor: two sets of them, both within its validation rules.

use super::{
    ground::{Ground, json_of},
    places::Filling,
};
use prost_protovalidate::Validator;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, Value};
use std::sync::LazyLock;
use sys_contract::model::{Index, Record};

/// What a picture begins with; as good as any other bytes where no picture is asked for.
const PNG: &[u8] = b"\x89PNG\x0d\x0a\x1a\x0a";
/// How far from now times are: a day.
const DAY_S: i64 = 86_400;
/// What holds messages against the rules beside their fields. It compiles them once.
static VALIDATOR: LazyLock<Validator> = LazyLock::new(Validator::new);

/// Those whom a filling may name.
#[derive(Debug, Clone)]
pub(crate) struct Named {
    /// The caller's account; empty for nobody.
    pub(crate) caller: String,
    pub(crate) another: String,
}

/// A record with all values that its makers may give: not those that the server sets, and not its place.
pub(crate) fn filled(ground: &Ground, record: &Record, filling: Filling, named: &Named) -> DynamicMessage {
    let mut message = DynamicMessage::new(record.message.clone());
    for field in &record.fields {
        let descriptor = &field.descriptor;
        if field.output_only || is_placing(record, descriptor) || record.etag.as_ref() == Some(descriptor) {
            continue;
        }
        let Some(value) = value(ground, descriptor, filling, named) else { continue };
        let value = match (value, &field.index) {
            (Value::String(text), Some(Index::Unique { .. })) => Value::String(format!("{text} {}", ground.serial())),
            (value, _) => value,
        };
        message.set_field(descriptor, value);
    }
    let violations = violations(&message);
    assert!(
        violations.is_empty(),
        "no value is known for {violations:?} of {}: {}",
        record.message.full_name(),
        json_of(&message)
    );
    message
}

/// Fills what the server alone sets and rules hide: whether it is shown can be told only where there is something.
pub(crate) fn fill_hidden(record: &Record, message: &mut DynamicMessage) {
    for field in record.fields.iter().filter(|field| field.output_only && !field.read.is_empty()) {
        let value = match field.descriptor.kind() {
            Kind::String => Value::String("example.org".to_owned()),
            kind => panic!("{}: no value of {kind:?} is known that the server sets", field.descriptor.full_name()),
        };
        let value = if field.descriptor.is_list() { Value::List(vec![value]) } else { value };
        message.set_field(&field.descriptor, value);
    }
}

/// The paths of the fields that are not as their rules want them.
pub(crate) fn violations(message: &DynamicMessage) -> Vec<String> {
    match VALIDATOR.validate(message) {
        Ok(()) => Vec::new(),
        Err(prost_protovalidate::Error::Validation(error)) => {
            error.violations().iter().map(|violation| violation.field_path()).collect()
        }
        Err(error) => panic!("{}: {error}", json_of(message)),
    }
}

/// Whether a field may be left as it is in this message, or be empty in an empty one.
pub(crate) fn obeys(message: &DynamicMessage, field: &FieldDescriptor) -> bool {
    !violations(message).iter().any(|path| path == field.name())
}

/// Whether a field says where a record stands, or which it is.
pub(crate) fn is_placing(record: &Record, field: &FieldDescriptor) -> bool {
    let scope = [&record.org, &record.project, &record.owner];
    *field == record.id || scope.into_iter().flatten().any(|scope| scope == field)
}

/// A value of a field; `None` for those that stay empty: lists and maps, and messages that nothing is known of.
fn value(ground: &Ground, field: &FieldDescriptor, filling: Filling, named: &Named) -> Option<Value> {
    if field.is_list() || field.is_map() {
        return None;
    }
    let full = filling == Filling::Full;
    let number = if full { 2 } else { 1 };
    Some(match field.kind() {
        Kind::Bool => Value::Bool(full),
        Kind::String if field.name().ends_with("_id") => {
            Value::String(if full { named.caller.clone() } else { named.another.clone() })
        }
        Kind::String => Value::String(format!("{} {}", if full { "b" } else { "a" }, field.name())),
        Kind::Bytes => Value::Bytes(PNG.into()),
        Kind::Enum(values) => {
            let last = values.values().last().map_or(0, |value| value.number());
            Value::EnumNumber(if full { last } else { i32::from(last > 0) })
        }
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(number),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(number.into()),
        Kind::Uint32 | Kind::Fixed32 => Value::U32(number.unsigned_abs()),
        Kind::Uint64 | Kind::Fixed64 => Value::U64(number.unsigned_abs().into()),
        Kind::Double => Value::F64(number.into()),
        Kind::Float => Value::F32(if full { 2.0 } else { 1.0 }),
        Kind::Message(message) if message.full_name() == "google.protobuf.Timestamp" => {
            let at = ground.now().unix_s + if full { DAY_S } else { -DAY_S };
            let mut time = DynamicMessage::new(message);
            time.set_field_by_name("seconds", Value::I64(at));
            Value::Message(time)
        }
        Kind::Message(_) => return None,
    })
}
