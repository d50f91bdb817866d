//! Unknown fields: what a message holds beyond its descriptor. They could be neither validated nor judged, and survive in
//! stored records only.

use prost_reflect::{DynamicMessage, Value};

/// Removes the unknown fields of a message, however deep they stand.
pub fn drop_unknown(message: &mut DynamicMessage) {
    drop_unknown_at_top(message);
    for (_, value) in message.fields_mut() {
        drop_in_value(value);
    }
}

/// Removes those of the message itself alone: enough where no field holds another message.
pub fn drop_unknown_at_top(message: &mut DynamicMessage) {
    // Each is removed as the iterator goes over it.
    message.take_unknown_fields().for_each(drop);
}

fn drop_in_value(value: &mut Value) {
    match value {
        Value::Message(message) => drop_unknown(message),
        Value::List(values) => values.iter_mut().for_each(drop_in_value),
        Value::Map(entries) => entries.values_mut().for_each(drop_in_value),
        _ => {}
    }
}
