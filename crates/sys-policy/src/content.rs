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
    /// The texts in some fields of type string; empty where one is unset, or where there is no such field.
    pub(crate) fn texts<const N: usize>(self, fields: [Option<&FieldDescriptor>; N]) -> [&'a str; N] {
        match self {
            Self::Message(message) => fields.map(|field| match field.map(|field| message.get_field(field)) {
                Some(Cow::Borrowed(Value::String(text))) => text.as_str(),
                _ => "",
            }),
            Self::Encoded(bytes) => bytes.texts(fields.map(|field| field.map(FieldDescriptor::number))),
        }
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
