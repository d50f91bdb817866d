//! What the program says on standard output: answers as a table, JSON or YAML.
//!
//! JSON is protobuf's own form with the names of the `.proto` file, every field present, so that scripts find what they
//! look for. A reader that closes its end (`| head`) ends the output and is no error.

use crate::{plain, table};
use prost_reflect::{DynamicMessage, SerializeOptions};
use serde_json::Value as Json;
use std::io::{self, IsTerminal, Write};

/// How answers are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Table,
    Json,
    Yaml,
}

impl Format {
    /// The names on the command line.
    pub(crate) const NAMES: [&'static str; 3] = ["table", "json", "yaml"];

    /// By its name; without one a table for people and JSON for programs.
    pub(crate) fn named(name: Option<&str>) -> Self {
        match name {
            Some("table") => Self::Table,
            Some("json") => Self::Json,
            Some("yaml") => Self::Yaml,
            _ if io::stdout().is_terminal() => Self::Table,
            _ => Self::Json,
        }
    }
}

/// Why an answer cannot be shown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutputError {
    #[error("cannot write to standard output")]
    Write(#[from] io::Error),
    #[error("cannot write the answer as JSON")]
    Json(#[from] serde_json::Error),
    #[error("cannot write the answer as YAML: {0}")]
    Yaml(String),
}

/// Shows a method's answer.
pub(crate) fn message(message: &DynamicMessage, format: Format) -> Result<(), OutputError> {
    let text = match format {
        Format::Table => table::of(message, width()),
        Format::Json | Format::Yaml => structured(&json(message)?, format)?,
    };
    print(&text)
}

/// Shows what is no method's answer: `people` as a table, `programs` as JSON or YAML.
pub(crate) fn value(people: &str, programs: &Json, format: Format) -> Result<(), OutputError> {
    match format {
        Format::Table => print(people),
        Format::Json | Format::Yaml => print(&structured(programs, format)?),
    }
}

/// Writes a text and a line end where it has none.
pub(crate) fn print(text: &str) -> Result<(), OutputError> {
    let mut out = io::stdout().lock();
    let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    match write!(out, "{text}{end}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Writes a line of a stream; whether anybody still reads.
pub(crate) fn line(text: &str) -> Result<bool, OutputError> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        written => Ok(written.map(|()| true)?),
    }
}

/// Shows one of many messages; whether anybody still reads. JSON is one line each, so that programs read line by line.
pub(crate) fn one_of_many(message: &DynamicMessage, format: Format) -> Result<bool, OutputError> {
    match format {
        Format::Table => line(&table::row(message, width())),
        Format::Json => line(&plain::json(&json(message)?.to_string())),
        Format::Yaml => line(&format!("---\n{}", structured(&json(message)?, format)?.trim_end())),
    }
}

/// Writes a note to people beside the output. If nobody reads standard error, there is nobody to tell.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", plain::lines(text));
}

/// Protobuf's JSON of a message.
pub(crate) fn json(message: &DynamicMessage) -> Result<Json, serde_json::Error> {
    let options = SerializeOptions::new().use_proto_field_name(true).skip_default_fields(false);
    message.serialize_with_options(serde_json::value::Serializer, &options)
}

fn structured(value: &Json, format: Format) -> Result<String, OutputError> {
    match format {
        Format::Yaml => serde_saphyr::to_string(value).map_err(|error| OutputError::Yaml(error.to_string())),
        Format::Json | Format::Table => Ok(plain::json(&serde_json::to_string_pretty(value)?)),
    }
}

/// Columns of the terminal; without one a table is as wide as it needs.
pub(crate) fn width() -> Option<usize> {
    terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| usize::from(width.0))
}
