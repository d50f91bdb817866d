//! The order of a list: by id, which the store keeps, or by other fields, which is made in memory. Pure.

use crate::{engine::Order, refused::Refused, table::Table, view::View};
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, Value};
use std::cmp::Reverse;
use uuid::Uuid;

/// Most fields of an order.
const MAX_SORT_FIELDS: usize = 3;
/// As many bytes of a value count for the order; values that agree so far are ordered by id. They stand in page tokens.
const MAX_SORT_BYTES: usize = 256;

/// What a list is ordered by.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Sort {
    /// As the store keeps records: by the time of their creation.
    ById(Order),
    /// By these fields, then by id.
    ByFields(Vec<(FieldDescriptor, Order)>),
}

/// Where a record stands in a [`Sort::ByFields`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SortKey {
    fields: Vec<SortField>,
    uuid: Uuid,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum SortField {
    Asc(Vec<u8>),
    Desc(Reverse<Vec<u8>>),
}

impl Sort {
    /// Reads an `order_by` (AIP-132): fields with commas between them, each perhaps with ` desc` behind it.
    pub(crate) fn parse(table: &Table, text: &str) -> Result<Self, Refused> {
        let invalid = |what: String| Refused::invalid("order_by", what);
        if text.trim().is_empty() {
            return Ok(Self::ById(Order::Asc));
        }
        let mut fields = Vec::new();
        for part in text.split(',') {
            let mut words = part.split_whitespace();
            let (name, direction) = (words.next().unwrap_or_default(), words.next());
            let order = match (direction, words.next()) {
                (None | Some("asc"), None) => Order::Asc,
                (Some("desc"), None) => Order::Desc,
                _ => return Err(invalid("write it as `field` or `field desc`, with commas between fields".to_owned())),
            };
            let field = table.record.message.get_field_by_name(name);
            let field = field.ok_or_else(|| invalid(format!("`{}` has no such field", table.record.message.name())))?;
            if !is_sortable(&field) {
                return Err(invalid(format!("records cannot be ordered by `{}`", field.name())));
            }
            if fields.len() == MAX_SORT_FIELDS {
                return Err(invalid(format!("it names more than {MAX_SORT_FIELDS} fields")));
            }
            fields.push((field, order));
        }
        match fields.as_slice() {
            [(field, order), ..] if *field == table.record.id => Ok(Self::ById(*order)),
            _ => Ok(Self::ByFields(fields)),
        }
    }
}

impl SortKey {
    /// Where a view stands. What is hidden from the caller is unset in it, and orders as such.
    pub(crate) fn of(fields: &[(FieldDescriptor, Order)], view: &View) -> Self {
        let bytes = fields.iter().map(|(field, _)| field_bytes(field, view.message())).collect();
        Self::from_parts(fields, bytes, view.id().uuid)
    }

    /// From what [`SortKey::bytes`] gave.
    pub(crate) fn from_parts(fields: &[(FieldDescriptor, Order)], bytes: Vec<Vec<u8>>, uuid: Uuid) -> Self {
        let field = |((_, order), bytes): (&(_, Order), _)| match order {
            Order::Asc => SortField::Asc(bytes),
            Order::Desc => SortField::Desc(Reverse(bytes)),
        };
        Self { fields: fields.iter().zip(bytes).map(field).collect(), uuid }
    }

    /// The bytes that order each field.
    pub(crate) fn bytes(&self) -> impl Iterator<Item = &[u8]> {
        self.fields.iter().map(|field| match field {
            SortField::Asc(bytes) | SortField::Desc(Reverse(bytes)) => bytes.as_slice(),
        })
    }

    /// Which record.
    pub(crate) fn uuid(&self) -> Uuid {
        self.uuid
    }
}

fn is_sortable(field: &FieldDescriptor) -> bool {
    if field.is_list() || field.is_map() {
        return false;
    }
    match field.kind() {
        Kind::Message(message) => is_time(message.full_name()),
        _ => true,
    }
}

fn is_time(message: &str) -> bool {
    matches!(message, "google.protobuf.Timestamp" | "google.protobuf.Duration")
}

/// Bytes that compare as the values do; an unset field comes first.
fn field_bytes(field: &FieldDescriptor, message: &DynamicMessage) -> Vec<u8> {
    if field.supports_presence() && !message.has_field(field) {
        return Vec::new();
    }
    let value = message.get_field(field);
    let mut bytes = vec![1];
    match value.as_ref() {
        Value::Bool(value) => bytes.push(u8::from(*value)),
        Value::I32(value) | Value::EnumNumber(value) => push_whole(&mut bytes, i128::from(*value)),
        Value::I64(value) => push_whole(&mut bytes, i128::from(*value)),
        Value::U32(value) => push_whole(&mut bytes, i128::from(*value)),
        Value::U64(value) => push_whole(&mut bytes, i128::from(*value)),
        Value::F32(value) => push_fraction(&mut bytes, f64::from(*value)),
        Value::F64(value) => push_fraction(&mut bytes, *value),
        Value::String(value) => bytes.extend(value.bytes().take(MAX_SORT_BYTES)),
        Value::Bytes(value) => bytes.extend(value.iter().take(MAX_SORT_BYTES)),
        Value::Message(time) => {
            push_whole(&mut bytes, part(time, "seconds"));
            push_whole(&mut bytes, part(time, "nanos"));
        }
        Value::List(_) | Value::Map(_) => {}
    }
    bytes
}

fn part(time: &DynamicMessage, name: &str) -> i128 {
    match time.get_field_by_name(name).as_deref() {
        Some(Value::I64(value)) => i128::from(*value),
        Some(Value::I32(value)) => i128::from(*value),
        _ => 0,
    }
}

/// Moved so that the lowest number is all zeros.
fn push_whole(bytes: &mut Vec<u8>, value: i128) {
    bytes.extend_from_slice(&value.wrapping_sub(i128::MIN).to_be_bytes());
}

/// The total order of IEEE 754: negative numbers with all bits turned, others with the sign turned.
fn push_fraction(bytes: &mut Vec<u8>, value: f64) {
    let bits = value.to_bits();
    let ordered = if bits >> 63 == 1 { !bits } else { bits | 1 << 63 };
    bytes.extend_from_slice(&ordered.to_be_bytes());
}
