//! The request that a command line stands for.

use crate::{
    command_tree::Verb,
    flags::{Flag, Given, path_text},
    secret::{self, SecretError, Secrets},
    value,
};
use clap::{ArgMatches, parser::ValueSource};
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, Value};
use std::collections::HashMap;

/// What the names of secrets begin with that are being chosen, so that they are typed twice.
const CHOSEN: &str = "new-";
/// What the names of secrets end with that are copied from elsewhere.
const TOKEN: &str = "token";

/// Why a command line stands for no request.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    #[error("nothing to change: give at least one field")]
    NothingToChange,
    #[error("{flag} and `{other}` exclude each other")]
    Exclusive { flag: String, other: String },
    #[error("{flag} cannot be given here")]
    Unfit { flag: String },
    #[error(transparent)]
    Secret(#[from] SecretError),
}

impl Verb {
    /// The request that these arguments stand for. Secrets are asked for where the method wants them.
    pub(crate) fn request(
        &self,
        matches: &ArgMatches,
        secrets: &mut impl Secrets,
    ) -> Result<DynamicMessage, RequestError> {
        let mut request = DynamicMessage::new(self.method.input());
        for flag in &self.flags.all {
            if let Some(value) = given(flag, matches, secrets)? {
                set(&mut request, &flag.path, value, flag)?;
            }
        }
        self.fill_mask(&mut request, matches)?;
        Ok(request)
    }

    /// An update changes what was given and what is to be cleared, and nothing else.
    fn fill_mask(&self, request: &mut DynamicMessage, matches: &ArgMatches) -> Result<(), RequestError> {
        let Some(field) = &self.flags.mask else { return Ok(()) };
        let Kind::Message(message) = field.kind() else { return Ok(()) };
        let cleared: Vec<&String> =
            matches.try_get_many("clear").ok().flatten().map(Iterator::collect).unwrap_or_default();
        let mut paths = Vec::new();
        for flag in self.changeable() {
            let clears = cleared.contains(&&flag.long);
            let changes = has_path(request, &flag.path) || is_given(flag, matches);
            if clears && changes {
                return Err(RequestError::Exclusive { flag: flag.shown(), other: format!("--clear {}", flag.long) });
            }
            if clears || changes {
                // The mask's paths begin at the record.
                paths.push(path_text(flag.path.get(1..).unwrap_or_default()));
            }
        }
        if paths.is_empty() {
            return Err(RequestError::NothingToChange);
        }
        let unfit = || RequestError::Unfit { flag: field.name().to_owned() };
        let mask = value::mask(&message, paths.iter().map(String::as_str)).map_err(|_| unfit())?;
        request.try_set_field(field, mask).map_err(|_| unfit())
    }
}

fn is_given(flag: &Flag, matches: &ArgMatches) -> bool {
    matches!(matches.value_source(&flag.long), Some(ValueSource::CommandLine))
}

/// What was given for a flag: its one value, or all of them as a list or map.
fn given(flag: &Flag, matches: &ArgMatches, secrets: &mut impl Secrets) -> Result<Option<Value>, RequestError> {
    if flag.given == Given::Aside {
        let from_stdin = matches.get_flag(&flag.long);
        if !from_stdin && flag.instead.is_some_and(|other| matches.value_source(other).is_some()) {
            return Ok(None);
        }
        let secret = match flag.long.as_str() {
            name if name.starts_with(CHOSEN) => secret::chosen(secrets, name, from_stdin)?,
            name if name.ends_with(TOKEN) => secret::pasted(secrets, name, from_stdin)?,
            name => secrets.read(name, from_stdin)?,
        };
        return Ok(secret.map(|secret| Value::String(secret.as_str().to_owned())));
    }
    // clap knows the ids of a command in debug builds only; ours are all its own, so an error means not given.
    let Some(values) = matches.try_get_many::<Value>(&flag.long).ok().flatten() else { return Ok(None) };
    let mut values = values.cloned();
    if !flag.repeated {
        return Ok(values.next_back());
    }
    let is_map = flag.path.last().is_some_and(FieldDescriptor::is_map);
    Ok(Some(if is_map { Value::Map(merged(values)) } else { Value::List(values.collect()) }))
}

/// Entries given one by one; of two with one key the later stays.
fn merged(entries: impl Iterator<Item = Value>) -> HashMap<prost_reflect::MapKey, Value> {
    let entries = entries.filter_map(|value| if let Value::Map(entry) = value { Some(entry) } else { None });
    entries.flatten().collect()
}

/// Puts a value at the end of a path, making the messages on the way.
fn set(message: &mut DynamicMessage, path: &[FieldDescriptor], value: Value, flag: &Flag) -> Result<(), RequestError> {
    let unfit = || RequestError::Unfit { flag: flag.shown() };
    let (field, rest) = path.split_first().ok_or_else(unfit)?;
    // Setting one field of a oneof would silently drop the other.
    let siblings = field.containing_oneof().into_iter().flat_map(|oneof| oneof.fields().collect::<Vec<_>>());
    if let Some(other) = siblings.into_iter().find(|other| other != field && message.has_field(other)) {
        return Err(RequestError::Exclusive { flag: flag.shown(), other: other.name().to_owned() });
    }
    if rest.is_empty() {
        return message.try_set_field(field, value).map_err(|_| unfit());
    }
    let inner = message.get_field_mut(field).as_message_mut().ok_or_else(unfit)?;
    set(inner, rest, value, flag)
}

/// Whether something stands at a path.
fn has_path(message: &DynamicMessage, path: &[FieldDescriptor]) -> bool {
    match path.split_first() {
        None => true,
        Some((field, rest)) => {
            message.has_field(field)
                && (rest.is_empty() || message.get_field(field).as_message().is_some_and(|inner| has_path(inner, rest)))
        }
    }
}
