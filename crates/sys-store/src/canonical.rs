//! One byte string for each value: what index tokens, etags and comparisons are made of. Pure.
//!
//! Protobuf's own encoding does not do: it leaves the order of map entries open, and one number has several encodings.
//! The bytes are on disk only through keyed hashes; a change here means a new [`crate::catalog::INDEX_FORMAT`].

use prost_reflect::{DynamicMessage, FieldDescriptor, MapKey, Value};
use std::borrow::Cow;

/// What most records take, so that the buffer rarely grows.
const USUAL_BYTES: usize = 512;

/// The bytes of a value: a type tag, then the value.
pub(crate) fn value_bytes(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    push_value(&mut bytes, value);
    bytes
}

/// The bytes of a message: its populated fields by number. Unknown fields are not part of it. `fields` are those of its type,
/// by number: the caller has them at hand, and to look them up anew costs more than all the rest.
pub(crate) fn message_bytes(message: &DynamicMessage, fields: &[FieldDescriptor]) -> Vec<u8> {
    let populated: Vec<_> = fields.iter().filter_map(|field| Some((field, populated(message, field)?))).collect();
    let mut bytes = Vec::with_capacity(USUAL_BYTES);
    push_count(&mut bytes, populated.len());
    for (field, value) in populated {
        bytes.extend_from_slice(&field.number().to_be_bytes());
        push_value(&mut bytes, value);
    }
    bytes
}

/// The value of a field that [`DynamicMessage::has_field`] says is there, without making a default to compare it with.
fn populated<'a>(message: &'a DynamicMessage, field: &FieldDescriptor) -> Option<&'a Value> {
    match message.get_field(field) {
        Cow::Borrowed(value) if field.supports_presence() || !is_default(value) => Some(value),
        Cow::Borrowed(_) | Cow::Owned(_) => None,
    }
}

/// Whether this is what a field without presence holds when nobody has set it.
fn is_default(value: &Value) -> bool {
    match value {
        Value::Bool(value) => !value,
        Value::I32(value) | Value::EnumNumber(value) => *value == 0,
        Value::I64(value) => *value == 0,
        Value::U32(value) => *value == 0,
        Value::U64(value) => *value == 0,
        Value::F32(value) => *value == 0.0,
        Value::F64(value) => *value == 0.0,
        Value::String(value) => value.is_empty(),
        Value::Bytes(value) => value.is_empty(),
        Value::Message(_) => false,
        Value::List(values) => values.is_empty(),
        Value::Map(entries) => entries.is_empty(),
    }
}

/// Whether a field says the same in two messages. Unset and default differ where the field has presence.
pub(crate) fn same_field(a: &DynamicMessage, b: &DynamicMessage, field: &FieldDescriptor) -> bool {
    a.has_field(field) == b.has_field(field) && value_bytes(&a.get_field(field)) == value_bytes(&b.get_field(field))
}

fn push_value(to: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Bool(value) => to.extend_from_slice(&[1, u8::from(*value)]),
        // Whole numbers of all widths are one kind: a filter's literal does not know the width of the field.
        Value::I32(value) | Value::EnumNumber(value) => push_whole(to, i128::from(*value)),
        Value::I64(value) => push_whole(to, i128::from(*value)),
        Value::U32(value) => push_whole(to, i128::from(*value)),
        Value::U64(value) => push_whole(to, i128::from(*value)),
        Value::F32(value) => push_fraction(to, f64::from(*value)),
        Value::F64(value) => push_fraction(to, *value),
        Value::String(value) => {
            to.push(4);
            push_sized(to, value.as_bytes());
        }
        Value::Bytes(value) => {
            to.push(5);
            push_sized(to, value);
        }
        Value::Message(value) => {
            to.push(6);
            push_message(to, value);
        }
        Value::List(values) => {
            to.push(7);
            push_count(to, values.len());
            values.iter().for_each(|value| push_value(to, value));
        }
        Value::Map(entries) => {
            to.push(8);
            push_count(to, entries.len());
            let mut entries: Vec<_> = entries.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            for (key, value) in entries {
                push_value(to, &of_key(key));
                push_value(to, value);
            }
        }
    }
}

fn push_message(to: &mut Vec<u8>, message: &DynamicMessage) {
    let mut fields: Vec<_> = message.fields().collect();
    fields.sort_by_key(|(field, _)| field.number());
    push_count(to, fields.len());
    for (field, value) in fields {
        to.extend_from_slice(&field.number().to_be_bytes());
        push_value(to, value);
    }
}

/// Appends bytes with their length before them. A length beyond u32 is cut; no value here is as long as a record may be.
pub(crate) fn push_sized(to: &mut Vec<u8>, bytes: &[u8]) {
    push_count(to, bytes.len());
    to.extend_from_slice(bytes);
}

fn push_whole(to: &mut Vec<u8>, value: i128) {
    to.push(2);
    to.extend_from_slice(&value.to_be_bytes());
}

fn push_fraction(to: &mut Vec<u8>, value: f64) {
    to.push(3);
    to.extend_from_slice(&value.to_bits().to_be_bytes());
}

fn push_count(to: &mut Vec<u8>, count: usize) {
    to.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_be_bytes());
}

fn of_key(key: &MapKey) -> Value {
    match key {
        MapKey::Bool(key) => Value::Bool(*key),
        MapKey::I32(key) => Value::I32(*key),
        MapKey::I64(key) => Value::I64(*key),
        MapKey::U32(key) => Value::U32(*key),
        MapKey::U64(key) => Value::U64(*key),
        MapKey::String(key) => Value::String(key.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn whole_numbers_of_all_widths_are_one_value() {
        let seven = value_bytes(&Value::I32(7));
        for same in [Value::I64(7), Value::U32(7), Value::U64(7), Value::EnumNumber(7)] {
            assert_eq!(value_bytes(&same), seven);
        }
        for other in [Value::I32(-7), Value::String("7".into()), Value::Bool(true), Value::F64(7.0)] {
            assert_ne!(value_bytes(&other), seven);
        }
    }

    #[test]
    fn a_map_has_one_encoding() {
        let map = |keys: &[i32]| {
            Value::Map(keys.iter().map(|key| (MapKey::I32(*key), Value::Bool(true))).collect::<HashMap<_, _>>())
        };
        let keys: Vec<i32> = (0..100).collect();
        let reversed: Vec<i32> = (0..100).rev().collect();
        assert_eq!(value_bytes(&map(&keys)), value_bytes(&map(&reversed)));
    }

    #[test]
    fn lists_do_not_run_into_each_other() {
        let list = |items: &[&str]| Value::List(items.iter().map(|item| Value::String((*item).into())).collect());
        assert_ne!(value_bytes(&list(&["ab", "c"])), value_bytes(&list(&["a", "bc"])));
        assert_ne!(value_bytes(&list(&["", "a"])), value_bytes(&list(&["a"])));
    }
}
