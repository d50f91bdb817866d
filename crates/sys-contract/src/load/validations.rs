//! Validation rules in CEL, collected wherever protovalidate would find them.
//!
//! The library that runs them hands each text to a parser that recurses, so that a text which is not found here would reach
//! it unbounded: every message of the module's files is walked, and every rule inside a rule for items, keys and values.
//! What the texts say is checked in `sys-policy`, like every other expression.

use super::Reader;
use crate::{
    model::{Validated, Validation},
    options::path,
    problem::Place,
};
use prost_protovalidate_types::{
    FieldRules, Ignore, MessageOneofRule, Rule, field_constraints_typed, field_rules, message_constraints_typed,
    predefined_constraints_typed,
};
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};

/// The most items that a list or map may hold, where its rules say so.
pub fn most_items(field: &FieldDescriptor) -> Option<u64> {
    let rules = field_constraints_typed(field).ok()??;
    if rules.ignore == Some(Ignore::Always as i32) {
        return None;
    }
    match rules.r#type? {
        field_rules::Type::Repeated(rules) if field.is_list() => rules.max_items,
        field_rules::Type::Map(rules) if field.is_map() => rules.max_pairs,
        _ => None,
    }
}

/// Reads the rules of all messages of the module's files.
pub(super) fn read(reader: &mut Reader) -> Vec<Validation> {
    let mut found = Vec::new();
    for path in reader.compiled.files.clone() {
        let Some(file) = reader.compiled.pool.get_file_by_name(&path) else { continue };
        let mut open: Vec<MessageDescriptor> = file.messages().collect();
        while let Some(message) = open.pop() {
            Reading { reader: &mut *reader, file: &path, found: &mut found }.message(&message);
            open.extend(message.child_messages());
        }
    }
    found
}

struct Reading<'a> {
    reader: &'a mut Reader,
    file: &'a str,
    found: &'a mut Vec<Validation>,
}

impl Reading<'_> {
    fn message(&mut self, message: &MessageDescriptor) {
        let at = [message.path(), &[path::MESSAGE_OPTIONS, path::VALIDATE]].concat();
        match message_constraints_typed(message) {
            Ok(Some(rules)) => {
                let this = Validated::Message(message.clone());
                self.rules(&rules.cel, &[&at[..], &[path::MESSAGE_RULES_CEL]].concat(), &this);
                self.bare_rules(&rules.cel_expression, &[&at[..], &[path::MESSAGE_RULES_EXPRESSION]].concat(), &this);
                self.choices(message, &rules.oneof, &at);
            }
            Ok(None) => {}
            Err(error) => self.unreadable(&at, &error),
        }
        for field in message.fields() {
            self.field(&field);
        }
    }

    fn field(&mut self, field: &FieldDescriptor) {
        let at = [field.path(), &[path::FIELD_OPTIONS, path::VALIDATE]].concat();
        match field_constraints_typed(field) {
            Ok(Some(rules)) => {
                let kind = if field.is_list() { "repeated" } else { rules_for(&field.kind()) };
                self.field_rules(&rules, (field, kind), this_of(field), &at);
            }
            Ok(None) => {}
            Err(error) => self.unreadable(&at, &error),
        }
        match predefined_constraints_typed(field) {
            Ok(Some(_)) => {
                let place = self.place(&at);
                let what = format!("a predefined rule stands on `{}`, which is no option", field.name());
                self.reader.refuse(&place, what, "write it as `(buf.validate.field).cel`, where it judges the field");
            }
            Ok(None) => {}
            Err(error) => self.unreadable(&at, &error),
        }
    }

    /// The rules of a field, and those for its items, keys and values. They nest as deep as the loader lets brackets nest.
    /// `kind` names those that fit.
    fn field_rules(
        &mut self,
        rules: &FieldRules,
        (field, kind): (&FieldDescriptor, &'static str),
        this: Validated,
        at: &[i32],
    ) {
        self.check_type(rules, field, kind, at);
        self.rules(&rules.cel, &[at, &[path::FIELD_RULES_CEL]].concat(), &this);
        self.bare_rules(&rules.cel_expression, &[at, &[path::FIELD_RULES_EXPRESSION]].concat(), &this);
        match &rules.r#type {
            Some(field_rules::Type::Repeated(repeated)) => {
                if let Some(items) = &repeated.items {
                    self.field_rules(items, (field, rules_for(&field.kind())), single(&field.kind()), at);
                }
            }
            Some(field_rules::Type::Map(map)) => {
                let Kind::Message(entry) = field.kind() else { return };
                if !field.is_map() {
                    return;
                }
                let (key, value) = (entry.map_entry_key_field().kind(), entry.map_entry_value_field().kind());
                if let Some(keys) = &map.keys {
                    self.field_rules(keys, (field, rules_for(&key)), Validated::Scalar, at);
                }
                if let Some(values) = &map.values {
                    self.field_rules(values, (field, rules_for(&value)), single(&value), at);
                }
            }
            _ => {}
        }
    }

    /// Rules of another type, which the library would find only when a server loads the contract, and bounds that nothing meets.
    fn check_type(&mut self, rules: &FieldRules, field: &FieldDescriptor, kind: &str, at: &[i32]) {
        let Some(of_type) = &rules.r#type else { return };
        let written = name_of(of_type);
        let name = field.name();
        if written != kind {
            let what = format!("`{name}` has rules for `{written}`, which it is not");
            let instead = match kind {
                "" => "write rules for the fields of its message, in that message".to_owned(),
                kind => format!("write them under `(buf.validate.field).{kind}`"),
            };
            self.reader.refuse(&self.place(at), what, instead);
        }
        if let Some((least, most)) =
            bounds(of_type).into_iter().find_map(|(least, most)| least.zip(most).filter(|(least, most)| least > most))
        {
            let what = format!("`{name}` holds at least {least} and at most {most}: nothing does");
            self.reader.refuse(&self.place(at), what, "swap them");
        }
    }

    /// Rules by which one of several fields is set.
    fn choices(&mut self, message: &MessageDescriptor, rules: &[MessageOneofRule], at: &[i32]) {
        for MessageOneofRule { fields, .. } in rules {
            let unknown = fields.iter().find(|name| message.get_field_by_name(name).is_none());
            let twice =
                fields.iter().enumerate().find(|(number, name)| fields.iter().take(*number).any(|n| n == *name));
            let what = match (unknown, twice) {
                (Some(name), _) => format!("a `oneof` rule names `{name}`, which `{}` does not have", message.name()),
                (None, Some((_, name))) => format!("a `oneof` rule names `{name}` twice"),
                (None, None) if fields.is_empty() => "a `oneof` rule names no field".to_owned(),
                (None, None) => continue,
            };
            self.reader.refuse(&self.place(at), what, "name two or more fields of the message, each once");
        }
    }

    fn rules(&mut self, rules: &[Rule], at: &[i32], this: &Validated) {
        let texts: Vec<String> = rules.iter().map(|rule| rule.expression.clone().unwrap_or_default()).collect();
        self.bare_rules(&texts, at, this);
    }

    fn bare_rules(&mut self, texts: &[String], at: &[i32], this: &Validated) {
        for (index, text) in (0_i32..).zip(texts) {
            let place = self.place(&[at, &[index]].concat());
            self.found.push(Validation { expression: text.clone(), this: this.clone(), place });
        }
    }

    fn place(&self, at: &[i32]) -> Place {
        self.reader.place(self.file, at)
    }

    fn unreadable(&mut self, at: &[i32], error: &dyn std::error::Error) {
        let place = self.place(at);
        let instead = "write it as buf/validate/validate.proto declares it";
        self.reader.refuse(&place, format!("a validation rule here cannot be read: {error}"), instead);
    }
}

/// The rules that fit a value; empty where none does.
fn rules_for(kind: &Kind) -> &'static str {
    match kind {
        Kind::Double => "double",
        Kind::Float => "float",
        Kind::Int32 => "int32",
        Kind::Int64 => "int64",
        Kind::Uint32 => "uint32",
        Kind::Uint64 => "uint64",
        Kind::Sint32 => "sint32",
        Kind::Sint64 => "sint64",
        Kind::Fixed32 => "fixed32",
        Kind::Fixed64 => "fixed64",
        Kind::Sfixed32 => "sfixed32",
        Kind::Sfixed64 => "sfixed64",
        Kind::Bool => "bool",
        Kind::String => "string",
        Kind::Bytes => "bytes",
        Kind::Enum(_) => "enum",
        Kind::Message(message) if message.is_map_entry() => "map",
        Kind::Message(message) => match message.full_name().strip_prefix("google.protobuf.").unwrap_or_default() {
            "Any" => "any",
            "Duration" => "duration",
            "FieldMask" => "field_mask",
            "Timestamp" => "timestamp",
            "DoubleValue" => "double",
            "FloatValue" => "float",
            "Int32Value" => "int32",
            "Int64Value" => "int64",
            "UInt32Value" => "uint32",
            "UInt64Value" => "uint64",
            "BoolValue" => "bool",
            "StringValue" => "string",
            "BytesValue" => "bytes",
            _ => "",
        },
    }
}

fn name_of(rules: &field_rules::Type) -> &'static str {
    use field_rules::Type;
    match rules {
        Type::Float(_) => "float",
        Type::Double(_) => "double",
        Type::Int32(_) => "int32",
        Type::Int64(_) => "int64",
        Type::Uint32(_) => "uint32",
        Type::Uint64(_) => "uint64",
        Type::Sint32(_) => "sint32",
        Type::Sint64(_) => "sint64",
        Type::Fixed32(_) => "fixed32",
        Type::Fixed64(_) => "fixed64",
        Type::Sfixed32(_) => "sfixed32",
        Type::Sfixed64(_) => "sfixed64",
        Type::Bool(_) => "bool",
        Type::String(_) => "string",
        Type::Bytes(_) => "bytes",
        Type::Enum(_) => "enum",
        Type::Repeated(_) => "repeated",
        Type::Map(_) => "map",
        Type::Any(_) => "any",
        Type::Duration(_) => "duration",
        Type::FieldMask(_) => "field_mask",
        Type::Timestamp(_) => "timestamp",
    }
}

/// The lengths that rules allow, from and to.
fn bounds(rules: &field_rules::Type) -> Vec<(Option<u64>, Option<u64>)> {
    use field_rules::Type;
    match rules {
        Type::String(rules) => vec![(rules.min_len, rules.max_len), (rules.min_bytes, rules.max_bytes)],
        Type::Bytes(rules) => vec![(rules.min_len, rules.max_len)],
        Type::Repeated(rules) => vec![(rules.min_items, rules.max_items)],
        Type::Map(rules) => vec![(rules.min_pairs, rules.max_pairs)],
        _ => Vec::new(),
    }
}

/// What a field's own rules call `this`.
fn this_of(field: &FieldDescriptor) -> Validated {
    if field.is_list() || field.is_map() { Validated::Items(field.clone()) } else { single(&field.kind()) }
}

fn single(kind: &Kind) -> Validated {
    match kind {
        Kind::Message(message) => Validated::Message(message.clone()),
        _ => Validated::Scalar,
    }
}
