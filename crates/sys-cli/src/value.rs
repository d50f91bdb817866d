//! The text of a flag, read as the value that its field holds.
//!
//! Every text gives a value or an error that says what to write. The only thing read from outside is the file that
//! `@FILE` names for a bytes field.

use data_encoding::{BASE64_NOPAD, BASE64URL_NOPAD};
use prost_reflect::{DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value};
use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read},
};

/// Bytes of a file given as `@FILE`: above every bound that a server sets on a request.
const MAX_FILE_BYTES: u64 = 16 * 1_024 * 1_024;

/// How the text of a flag is read.
#[derive(Debug, Clone)]
pub(crate) enum Shape {
    /// `true` or `false`.
    Bool,
    /// As it stands.
    Text,
    /// A number of this kind.
    Number(Kind),
    /// `@FILE`, else base64.
    Bytes,
    /// The name of one of its values.
    Enum(EnumDescriptor),
    /// google.protobuf.Timestamp, in RFC 3339.
    Time(MessageDescriptor),
    /// google.protobuf.Duration, such as `90s` or `1.5s`; also in whole `m`, `h` and `d`.
    Duration(MessageDescriptor),
    /// google.protobuf.FieldMask: paths with commas between them.
    Mask(MessageDescriptor),
    /// google.protobuf.StringValue and its like: what they wrap.
    Wrapped(MessageDescriptor, Box<Shape>),
    /// Any other message, in JSON.
    Json(MessageDescriptor),
    /// One entry of a map, as `KEY=VALUE`.
    Entry(Box<Shape>, Box<Shape>),
}

/// Why a text is no value of its field.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ValueError {
    #[error("not a number that the field holds: {0}")]
    Number(String),
    #[error("not true or false")]
    Bool,
    #[error("not one of its values: {0}")]
    Enum(String),
    #[error("neither base64 nor `@FILE`")]
    Base64,
    #[error("cannot read {path}: {source}")]
    File { path: String, source: io::Error },
    #[error("{path} is larger than {MAX_FILE_BYTES} bytes")]
    LargeFile { path: String },
    #[error("not a time: write it in RFC 3339, such as 2026-11-22T10:00:00Z")]
    Time,
    #[error("not a duration: write it as 90s, 1.5s, 30m, 12h or 7d")]
    Duration,
    #[error("not JSON of a {message}: {error}")]
    Json { message: String, error: String },
    #[error("write it as KEY=VALUE")]
    Entry,
    #[error("this field cannot be given as text")]
    Unfit,
}

impl Shape {
    /// How one value of a field is read; for a repeated field one of its elements, for a map one of its entries.
    pub(crate) fn of(field: &FieldDescriptor) -> Self {
        match field.kind() {
            Kind::Message(entry) if field.is_map() => Self::Entry(
                Box::new(Self::of_kind(entry.map_entry_key_field().kind())),
                Box::new(Self::of_kind(entry.map_entry_value_field().kind())),
            ),
            kind => Self::of_kind(kind),
        }
    }

    fn of_kind(kind: Kind) -> Self {
        match kind {
            Kind::Bool => Self::Bool,
            Kind::String => Self::Text,
            Kind::Bytes => Self::Bytes,
            Kind::Enum(descriptor) => Self::Enum(descriptor),
            Kind::Message(message) => Self::of_message(message),
            number => Self::Number(number),
        }
    }

    fn of_message(message: MessageDescriptor) -> Self {
        match message.full_name() {
            "google.protobuf.Timestamp" => Self::Time(message),
            "google.protobuf.Duration" => Self::Duration(message),
            "google.protobuf.FieldMask" => Self::Mask(message),
            name if name.starts_with("google.protobuf.") && name.ends_with("Value") => {
                // Struct's `Value` and `ListValue` have no single scalar to unwrap.
                let wrapped = message.get_field_by_name("value").filter(|field| !field.is_list());
                match wrapped {
                    Some(field) if message.fields().len() == 1 => {
                        let inner = Self::of_kind(field.kind());
                        Self::Wrapped(message, Box::new(inner))
                    }
                    _ => Self::Json(message),
                }
            }
            _ => Self::Json(message),
        }
    }

    /// What stands for the value in usage and help.
    pub(crate) fn placeholder(&self) -> String {
        match self {
            Self::Bool => "true|false".into(),
            Self::Text => "TEXT".into(),
            Self::Number(_) => "NUMBER".into(),
            Self::Bytes => "@FILE|BASE64".into(),
            Self::Enum(_) => "NAME".into(),
            Self::Time(_) => "TIME".into(),
            Self::Duration(_) => "DURATION".into(),
            Self::Mask(_) => "FIELD,...".into(),
            Self::Wrapped(_, inner) => inner.placeholder(),
            Self::Json(_) => "JSON".into(),
            Self::Entry(key, value) => format!("{}={}", key.placeholder(), value.placeholder()),
        }
    }

    /// The texts that are values, where there are few: enum names and booleans.
    pub(crate) fn possible(&self) -> Option<Vec<String>> {
        match self {
            Self::Bool => Some(vec!["true".into(), "false".into()]),
            Self::Enum(descriptor) => Some(names(descriptor)),
            Self::Wrapped(_, inner) => inner.possible(),
            _ => None,
        }
    }

    /// The value that a text stands for.
    pub(crate) fn read(&self, text: &str) -> Result<Value, ValueError> {
        match self {
            Self::Bool => text.parse().map(Value::Bool).map_err(|_| ValueError::Bool),
            Self::Text => Ok(Value::String(text.to_owned())),
            Self::Number(kind) => number(kind, text),
            Self::Bytes => bytes(text).map(|bytes| Value::Bytes(bytes.into())),
            Self::Enum(descriptor) => {
                let named = descriptor.values().find(|value| value.name().eq_ignore_ascii_case(text));
                let value = named.ok_or_else(|| ValueError::Enum(names(descriptor).join(", ")))?;
                Ok(Value::EnumNumber(value.number()))
            }
            Self::Time(message) => from_json(message, text.into()).map_err(|_| ValueError::Time),
            Self::Duration(message) => from_json(message, in_seconds(text).into()).map_err(|_| ValueError::Duration),
            Self::Mask(message) => mask(message, text.split(',').map(str::trim).filter(|path| !path.is_empty())),
            Self::Wrapped(message, inner) => {
                let mut wrapper = DynamicMessage::new(message.clone());
                wrapper.try_set_field_by_name("value", inner.read(text)?).map_err(|_| ValueError::Unfit)?;
                Ok(Value::Message(wrapper))
            }
            Self::Json(message) => {
                let json = serde_json::from_str(text).map_err(|error| json_error(message, &error))?;
                from_json(message, json).map_err(|error| json_error(message, &error))
            }
            Self::Entry(key, value) => {
                let (key_text, value_text) = text.split_once('=').ok_or(ValueError::Entry)?;
                let key: MapKey = key.read(key_text)?.into_map_key().ok_or(ValueError::Unfit)?;
                Ok(Value::Map(HashMap::from([(key, value.read(value_text)?)])))
            }
        }
    }
}

/// A FieldMask with these paths.
pub(crate) fn mask<'a>(
    message: &MessageDescriptor,
    paths: impl IntoIterator<Item = &'a str>,
) -> Result<Value, ValueError> {
    let paths = paths.into_iter().map(|path| Value::String(path.to_owned())).collect();
    let mut mask = DynamicMessage::new(message.clone());
    mask.try_set_field_by_name("paths", Value::List(paths)).map_err(|_| ValueError::Unfit)?;
    Ok(Value::Message(mask))
}

/// An enum's names, less the one that stands for "not said".
fn names(descriptor: &EnumDescriptor) -> Vec<String> {
    let said = |number: i32, name: &str| number != 0 || !name.ends_with("UNSPECIFIED");
    let values = descriptor.values().filter(|value| said(value.number(), value.name()));
    values.map(|value| value.name().to_owned()).collect()
}

fn number(kind: &Kind, text: &str) -> Result<Value, ValueError> {
    fn read<T: std::str::FromStr>(text: &str) -> Result<T, ValueError>
    where
        T::Err: std::fmt::Display,
    {
        text.parse().map_err(|error: T::Err| ValueError::Number(error.to_string()))
    }
    match kind {
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => read(text).map(Value::I32),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => read(text).map(Value::I64),
        Kind::Uint32 | Kind::Fixed32 => read(text).map(Value::U32),
        Kind::Uint64 | Kind::Fixed64 => read(text).map(Value::U64),
        Kind::Float => read(text).map(Value::F32),
        Kind::Double => read(text).map(Value::F64),
        _ => Err(ValueError::Unfit),
    }
}

/// Standard or URL alphabet, with or without padding.
fn bytes(text: &str) -> Result<Vec<u8>, ValueError> {
    if let Some(path) = text.strip_prefix('@') {
        return file(path);
    }
    let bare = text.trim_end_matches('=').as_bytes();
    BASE64_NOPAD.decode(bare).or_else(|_| BASE64URL_NOPAD.decode(bare)).map_err(|_| ValueError::Base64)
}

fn file(path: &str) -> Result<Vec<u8>, ValueError> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes));
    read.map_err(|source| ValueError::File { path: path.to_owned(), source })?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length <= MAX_FILE_BYTES) {
        Ok(bytes)
    } else {
        Err(ValueError::LargeFile { path: path.to_owned() })
    }
}

/// `12h` in the only unit that protobuf's JSON knows; what is no whole number of a unit is left for it to refuse.
fn in_seconds(text: &str) -> String {
    let unit = |suffix: char, seconds: i64| {
        let count: i64 = text.strip_suffix(suffix)?.parse().ok()?;
        count.checked_mul(seconds).map(|seconds| format!("{seconds}s"))
    };
    unit('m', 60).or_else(|| unit('h', 3_600)).or_else(|| unit('d', 86_400)).unwrap_or_else(|| text.to_owned())
}

fn from_json(message: &MessageDescriptor, json: serde_json::Value) -> Result<Value, serde_json::Error> {
    DynamicMessage::deserialize(message.clone(), json).map(Value::Message)
}

fn json_error(message: &MessageDescriptor, error: &serde_json::Error) -> ValueError {
    ValueError::Json { message: message.name().to_owned(), error: error.to_string() }
}
