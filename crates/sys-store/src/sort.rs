//! The order of a list: by id, which the store keeps, or by other fields, which is made in memory. Pure.

use crate::{engine::Order, ordered, refused::Refused, table::Table, view::View};
use prost_reflect::{FieldDescriptor, Kind};
use std::cmp::Reverse;
use uuid::Uuid;

/// Most fields of an order.
const MAX_SORT_FIELDS: usize = 3;

/// What a list is ordered by.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Sort {
    /// As the store keeps records: by the time of their creation.
    ById(Order),
    /// By these fields, then by id in the direction of the last of them, as an index on it is walked.
    ByFields(Vec<(FieldDescriptor, Order)>),
}

/// Where a record stands in a [`Sort::ByFields`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SortKey {
    fields: Vec<Directed<Vec<u8>>>,
    uuid: Directed<Uuid>,
}

/// A value that is ordered up or down.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Directed<T> {
    Asc(T),
    Desc(Reverse<T>),
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
        let bytes = fields.iter().map(|(field, _)| ordered::of_field(field, view.message())).collect();
        Self::from_parts(fields, bytes, view.id().uuid)
    }

    /// From what [`SortKey::bytes`] gave.
    pub(crate) fn from_parts(fields: &[(FieldDescriptor, Order)], bytes: Vec<Vec<u8>>, uuid: Uuid) -> Self {
        let last = fields.last().map_or(Order::Asc, |(_, order)| *order);
        let field = |((_, order), bytes): (&(_, Order), _)| Directed::new(*order, bytes);
        Self { fields: fields.iter().zip(bytes).map(field).collect(), uuid: Directed::new(last, uuid) }
    }

    /// The bytes that order each field.
    pub(crate) fn bytes(&self) -> impl Iterator<Item = &[u8]> {
        self.fields.iter().map(|field| field.value().as_slice())
    }

    /// Which record.
    pub(crate) fn uuid(&self) -> Uuid {
        *self.uuid.value()
    }
}

impl<T> Directed<T> {
    fn new(order: Order, value: T) -> Self {
        match order {
            Order::Asc => Self::Asc(value),
            Order::Desc => Self::Desc(Reverse(value)),
        }
    }

    fn value(&self) -> &T {
        match self {
            Self::Asc(value) | Self::Desc(Reverse(value)) => value,
        }
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
