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
    FieldRules, Ignore, Rule, field_constraints_typed, field_rules, message_constraints_typed,
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
            Ok(Some(rules)) => self.field_rules(&rules, field, this_of(field), &at),
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
    fn field_rules(&mut self, rules: &FieldRules, field: &FieldDescriptor, this: Validated, at: &[i32]) {
        self.rules(&rules.cel, &[at, &[path::FIELD_RULES_CEL]].concat(), &this);
        self.bare_rules(&rules.cel_expression, &[at, &[path::FIELD_RULES_EXPRESSION]].concat(), &this);
        match &rules.r#type {
            Some(field_rules::Type::Repeated(repeated)) => {
                if let Some(items) = &repeated.items {
                    self.field_rules(items, field, single(&field.kind()), at);
                }
            }
            Some(field_rules::Type::Map(map)) => {
                let value = match field.kind() {
                    Kind::Message(entry) if field.is_map() => single(&entry.map_entry_value_field().kind()),
                    _ => Validated::Scalar,
                };
                if let Some(keys) = &map.keys {
                    self.field_rules(keys, field, Validated::Scalar, at);
                }
                if let Some(values) = &map.values {
                    self.field_rules(values, field, value, at);
                }
            }
            _ => {}
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
