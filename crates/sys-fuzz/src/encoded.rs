//! Records that stay bytes.

use crate::{
    input::parts,
    things::{THINGS, same},
};
use prost_reflect::{DynamicMessage, ReflectMessage, Value, prost::Message};
use std::sync::LazyLock;
use sys_contract::{encoded::Shape, unknown::drop_unknown};

static SHAPE: LazyLock<Shape> = LazyLock::new(|| Shape::of(&THINGS.message("Thing")));
const TITLE: u32 = 5;

/// Numbers of fields, and a record. Its bytes are taken exactly where encoding it gives them back; and what is cut out of them and put
/// into them is what changing the record and encoding it gives.
pub(crate) fn record(bytes: &[u8]) {
    let [hidden, bytes] = parts(bytes);
    let mut message = DynamicMessage::decode(THINGS.message("Thing"), bytes).ok();
    message.iter_mut().for_each(drop_unknown);
    let expected = message.as_ref().is_some_and(|message| message.encode_to_vec() == bytes && !holds_map(message));
    let taken = SHAPE.read(bytes.to_vec());
    assert_eq!(taken.is_ok(), expected, "\"{}\"", bytes.escape_ascii());
    let (mut taken, mut message) = match (taken, message) {
        (Ok(taken), Some(message)) => (taken, message),
        (taken, _) => return assert_eq!(taken.err().as_deref(), Some(bytes), "what is not taken comes back"),
    };
    let again = DynamicMessage::decode(message.descriptor(), taken.encoded().bytes()).expect("it was taken");
    assert!(same(&again, &message, &|_| false));
    assert_eq!(
        taken.encoded().texts([Some(TITLE)]),
        [message.get_field_by_number(TITLE).and_then(|text| text.as_str().map(str::to_owned)).unwrap_or_default()]
    );
    taken.cut(|number| is_hidden(hidden, number));
    for field in THINGS.message("Thing").fields().filter(|field| is_hidden(hidden, field.number())) {
        message.clear_field(&field);
    }
    assert_eq!(taken.encoded().bytes(), message.encode_to_vec(), "without {hidden:?}");
    for text in ["", "a title"] {
        taken.set_text(TITLE, text);
        message.set_field_by_number(TITLE, Value::String(text.to_owned()));
        assert_eq!(taken.encoded().bytes(), message.encode_to_vec(), "with `{text}`");
    }
    assert!(SHAPE.read(taken.into_bytes()).is_ok());
}

fn is_hidden(hidden: &[u8], number: u32) -> bool {
    hidden.iter().any(|hidden| u32::from(*hidden) == number)
}

/// Maps are encoded in any order.
fn holds_map(message: &DynamicMessage) -> bool {
    message.fields().any(|(_, value)| match value {
        Value::Map(_) => true,
        Value::Message(inner) => holds_map(inner),
        Value::List(items) => items.iter().filter_map(Value::as_message).any(holds_map),
        _ => false,
    })
}
