//! Validation rules that refuse less than before.
//!
//! Each rule is a path of options and a value, such as `string.max_len` and 200. A bound is looser or tighter than another; of everything
//! else another value counts as a looser one, since it cannot be told whether the same passes.

use super::weaker;
use crate::{
    breaking::place_of,
    model::Contract,
    problem::{Place, Problem},
};
use prost_reflect::{DynamicMessage, FieldDescriptor, MessageDescriptor, ReflectMessage, Value};
use std::{cmp::Ordering, collections::BTreeMap};

/// The rules of one thing, by their paths. A rule that stands several times, such as one in CEL, has several values.
type Rules = BTreeMap<String, Vec<Value>>;

/// What the rules of `new` refuse less than those of `old`.
pub(super) fn weakened(old: &Contract, new: &Contract) -> Vec<Problem> {
    let mut found = Vec::new();
    let files = old.files.iter().filter_map(|file| old.pool.get_file_by_name(file));
    let mut open: Vec<MessageDescriptor> = files.flat_map(|file| file.messages().collect::<Vec<_>>()).collect();
    while let Some(before) = open.pop() {
        open.extend(before.child_messages());
        if let Some(now) = new.pool.get_message_by_name(before.full_name()) {
            message(&before, &now, &mut found);
        }
    }
    found
}

fn message(before: &MessageDescriptor, now: &MessageDescriptor, found: &mut Vec<Problem>) {
    let what = format!("`{}`", now.name());
    less(&what, &place_of(now), (&of(&before.options()), &of(&now.options())), found);
    let fields = before.fields().filter_map(|field| Some((now.get_field(field.number())?, field)));
    for (now, before) in fields {
        let what = format!("`{}`", now.name());
        less(&what, &place_of(&now), (&of(&before.options()), &of(&now.options())), found);
    }
    for before in before.oneofs() {
        if let Some(after) = now.oneofs().find(|oneof| oneof.name() == before.name()) {
            let what = format!("`{}`", after.name());
            less(&what, &place_of(now), (&of(&before.options()), &of(&after.options())), found);
        }
    }
}

/// The rules among the options of something.
fn of(options: &DynamicMessage) -> Rules {
    let mut rules = Rules::new();
    for (extension, value) in options.extensions() {
        if let Some(message) = value.as_message().filter(|_| extension.parent_file().package_name() == "buf.validate") {
            collect(message, "", &mut rules);
        }
    }
    rules
}

fn collect(message: &DynamicMessage, path: &str, rules: &mut Rules) {
    for (field, value) in message.fields() {
        let path = if path.is_empty() { field.name().to_owned() } else { format!("{path}.{}", field.name()) };
        for value in value.as_list().unwrap_or(std::slice::from_ref(value)) {
            match value.as_message() {
                Some(inner) if inner.descriptor().full_name() == "buf.validate.Rule" => {
                    // What a rule is called and says refuses nobody. One without a message says it itself.
                    let expression = inner.get_field_by_name("expression");
                    rules.entry(path.clone()).or_default().extend(expression.map(|text| text.into_owned()));
                }
                Some(inner) if inner.descriptor().package_name() == "buf.validate" => collect(inner, &path, rules),
                _ if is_example(&field) => {}
                _ => rules.entry(path.clone()).or_default().push(value.clone()),
            }
        }
    }
}

/// Examples are for people.
fn is_example(field: &FieldDescriptor) -> bool {
    field.name() == "example"
}

fn less(what: &str, place: &Place, (before, now): (&Rules, &Rules), found: &mut Vec<Problem>) {
    for (path, was) in before {
        let Some(is) = now.get(path) else {
            if permits(path, was) {
                let told = format!("{what} had the rule `{path}: {}`, and has none now", shown(was));
                found.push(weaker(place, told, &format!("`{path}: {}`", shown(was))));
            }
            continue;
        };
        if is_looser(path, was, is) {
            // Of many only those that are gone.
            let gone: Vec<Value> = was.iter().filter(|value| !is.contains(value)).cloned().collect();
            let was = if refuses_alone(path) { gone.as_slice() } else { was };
            let told = format!("{what} had the rule `{path}: {}`, and now `{path}: {}`", shown(was), shown(is));
            found.push(weaker(place, told, &format!("`{path}: {}`", shown(was))));
        }
    }
    // The one rule that lets pass what others refuse.
    for path in now.keys().filter(|path| is_ignore(path) && !before.contains_key(*path)) {
        let told = format!("the rules of {what} are passed over now where `{path}` says so");
        found.push(weaker(place, told, &format!("it without `{path}`")));
    }
}

/// Whether more may pass where a rule with these values is gone.
fn permits(path: &str, was: &[Value]) -> bool {
    !is_ignore(path) && was.iter().any(|value| value.as_bool() != Some(false))
}

fn is_ignore(path: &str) -> bool {
    last(path) == "ignore"
}

fn last(path: &str) -> &str {
    path.rsplit_once('.').map_or(path, |(_, last)| last)
}

/// Whether each value of a rule refuses by itself.
fn refuses_alone(path: &str) -> bool {
    matches!(last(path), "not_in" | "cel" | "cel_expression")
}

/// Whether more may pass by `is` than by `was`.
fn is_looser(path: &str, was: &[Value], is: &[Value]) -> bool {
    let order = || was.first().zip(is.first()).and_then(|(was, is)| compare(was, is));
    match last(path) {
        // For times, `lt_now` and its like are flags; they are compared as everything else.
        "lt" | "lte" | "max_len" | "max_bytes" | "max_items" | "max_pairs" | "within" => {
            !matches!(order(), Some(Ordering::Equal | Ordering::Greater))
        }
        "gt" | "gte" | "min_len" | "min_bytes" | "min_items" | "min_pairs" => {
            !matches!(order(), Some(Ordering::Equal | Ordering::Less))
        }
        // Whatever is on the list passes.
        "in" => is.iter().any(|value| !was.contains(value)),
        "ignore" => was != is,
        _ if refuses_alone(path) => was.iter().any(|value| !is.contains(value)),
        _ => was != is && was.iter().any(|value| value.as_bool() != Some(false)),
    }
}

/// Two values of a bound.
fn compare(was: &Value, is: &Value) -> Option<Ordering> {
    match (was, is) {
        (Value::U64(was), Value::U64(is)) => Some(was.cmp(is)),
        (Value::I64(was), Value::I64(is)) => Some(was.cmp(is)),
        (Value::U32(was), Value::U32(is)) => Some(was.cmp(is)),
        (Value::I32(was), Value::I32(is)) => Some(was.cmp(is)),
        (Value::F64(was), Value::F64(is)) => was.partial_cmp(is),
        (Value::F32(was), Value::F32(is)) => was.partial_cmp(is),
        (Value::Message(was), Value::Message(is)) => Some(time(was)?.cmp(&time(is)?)),
        _ => None,
    }
}

/// The nanoseconds of a Timestamp or Duration.
fn time(message: &DynamicMessage) -> Option<i128> {
    let seconds = message.get_field_by_name("seconds")?.as_i64()?;
    let nanos = message.get_field_by_name("nanos")?.as_i32()?;
    Some(i128::from(seconds) * 1_000_000_000 + i128::from(nanos))
}

fn shown(values: &[Value]) -> String {
    let shown: Vec<String> = values.iter().map(|value| value.to_string()).collect();
    if let [one] = shown.as_slice() { one.clone() } else { format!("[{}]", shown.join(", ")) }
}
