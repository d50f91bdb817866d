//! What is judged: a message, decoded or as its bytes.

use prost_reflect::{DynamicMessage, FieldDescriptor, Value};
use std::borrow::Cow;
use sys_contract::encoded::Encoded;

/// A message that rules and filters are asked about. They answer alike for both forms.
#[derive(Debug, Clone, Copy)]
pub enum Content<'a> {
    /// Decoded.
    Message(&'a DynamicMessage),
    /// As its bytes.
    Encoded(Encoded<'a>),
}

impl<'a> Content<'a> {
    /// The text in a field of type string; none where it is unset or empty.
    pub(crate) fn text(self, field: &FieldDescriptor) -> Option<&'a str> {
        let text = match self {
            Self::Message(message) => match message.get_field(field) {
                Cow::Borrowed(Value::String(text)) => text.as_str(),
                _ => "",
            },
            Self::Encoded(bytes) => bytes.text(field.number()),
        };
        Some(text).filter(|text| !text.is_empty())
    }
}

impl<'a> From<&'a DynamicMessage> for Content<'a> {
    fn from(message: &'a DynamicMessage) -> Self {
        Self::Message(message)
    }
}

impl<'a> From<Encoded<'a>> for Content<'a> {
    fn from(bytes: Encoded<'a>) -> Self {
        Self::Encoded(bytes)
    }
}
