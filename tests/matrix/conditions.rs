//! Conditions, decided by the CEL interpreter of the `cel` crate, on maps made from messages.
//!
//! Nothing here is shared with sys-policy, which lowers conditions to a language of its own: this is the second reading.
//! Times and durations are nanoseconds.

use super::oracle::Facts;
use cel::{Context, Program, Value as Cel};
use prost_reflect::{DescriptorPool, DynamicMessage, EnumDescriptor, FieldDescriptor, ReflectMessage, Value};
use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex},
};
use sys_policy::Now;

/// Conditions that have been parsed, by their text.
static PROGRAMS: LazyLock<Mutex<HashMap<String, Arc<Program>>>> = LazyLock::new(Mutex::default);
/// The enums that conditions of a package may name.
static ENUMS: LazyLock<Mutex<HashMap<String, Variables>>> = LazyLock::new(Mutex::default);

type Variables = Arc<Vec<(String, Cel)>>;

/// What a condition sees.
pub(crate) struct Seen<'a> {
    pub(crate) this: Option<&'a DynamicMessage>,
    pub(crate) next: Option<&'a DynamicMessage>,
    pub(crate) request: Option<&'a DynamicMessage>,
    pub(crate) caller: &'a Facts,
    pub(crate) now: Now,
}

/// Whether a condition holds; one that fails does not.
pub(crate) fn holds(text: &str, pool: &DescriptorPool, package: &str, seen: &Seen<'_>) -> bool {
    let mut context = Context::default();
    for (name, value) in enums_of(pool, package).iter() {
        context.add_variable_from_value(name.clone(), value.clone());
    }
    for (name, message) in [("this", seen.this), ("next", seen.next), ("request", seen.request)] {
        if let Some(message) = message {
            context.add_variable_from_value(name, of_message(message));
        }
    }
    let caller = [
        ("account_id", text_value(if seen.caller.verified { &seen.caller.account } else { "" })),
        ("verified", Cel::Bool(seen.caller.verified)),
        ("superadmin", Cel::Bool(seen.caller.is_superadmin())),
    ];
    context.add_variable_from_value("caller", map(caller.map(|(name, value)| (name.to_owned(), value))));
    context.add_variable_from_value("now", Cel::Int(nanos(seen.now.unix_s, i64::from(seen.now.nanos))));
    context.add_function("duration", |text: Arc<String>| duration_nanos(&text));
    matches!(program(text).execute(&context), Ok(Cel::Bool(true)))
}

fn program(text: &str) -> Arc<Program> {
    let parse = || Arc::new(Program::compile(text).unwrap_or_else(|error| panic!("{text}: {error}")));
    PROGRAMS.lock().expect("no reader panics").entry(text.to_owned()).or_insert_with(parse).clone()
}

fn enums_of(pool: &DescriptorPool, package: &str) -> Variables {
    let mut known = ENUMS.lock().expect("no reader panics");
    known.entry(package.to_owned()).or_insert_with(|| Arc::new(enums(pool, package).into_iter().collect())).clone()
}

fn of_message(message: &DynamicMessage) -> Cel {
    if message.descriptor().full_name() == "google.protobuf.Timestamp" {
        let number = |name: &str| message.get_field_by_name(name).map(|value| value.into_owned());
        let seconds = number("seconds").and_then(|value| value.as_i64()).unwrap_or_default();
        let rest = number("nanos").and_then(|value| value.as_i32()).unwrap_or_default();
        return Cel::Int(nanos(seconds, i64::from(rest)));
    }
    let descriptor = message.descriptor();
    // What has presence is there or not; what has none reads as its default.
    let there = descriptor.fields().filter(|field| !field.supports_presence() || message.has_field(field));
    map(there.map(|field| (field.name().to_owned(), of_value(&field, &message.get_field(&field)))))
}

fn of_value(field: &FieldDescriptor, value: &Value) -> Cel {
    match value {
        Value::Bool(value) => Cel::Bool(*value),
        Value::I32(value) => Cel::Int(i64::from(*value)),
        Value::I64(value) => Cel::Int(*value),
        Value::U32(value) => Cel::UInt(u64::from(*value)),
        Value::U64(value) => Cel::UInt(*value),
        Value::F32(value) => Cel::Float(f64::from(*value)),
        Value::F64(value) => Cel::Float(*value),
        Value::String(value) => text_value(value),
        Value::Bytes(value) => Cel::Bytes(Arc::new(value.to_vec())),
        Value::EnumNumber(value) => Cel::Int(i64::from(*value)),
        Value::Message(message) => of_message(message),
        Value::List(values) => Cel::List(Arc::new(values.iter().map(|value| of_value(field, value)).collect())),
        Value::Map(_) => panic!("{} is a map, which no condition may name", field.full_name()),
    }
}

/// The enums of a pool as variables: by their full names, and by what they are called in the package.
fn enums(pool: &DescriptorPool, package: &str) -> HashMap<String, Cel> {
    let mut tree = Tree::default();
    for kind in pool.all_enums() {
        tree.add(kind.full_name(), &kind);
        if kind.package_name() == package {
            tree.add(kind.full_name().strip_prefix(package).unwrap_or_default().trim_start_matches('.'), &kind);
        }
    }
    tree.0.into_iter().map(|(name, branch)| (name, branch.into_value())).collect()
}

#[derive(Default)]
struct Tree(HashMap<String, Branch>);

enum Branch {
    Inner(Tree),
    Leaf(Cel),
}

impl Tree {
    fn add(&mut self, path: &str, kind: &EnumDescriptor) {
        match path.split_once('.') {
            None => {
                let values = kind.values().map(|value| (value.name().to_owned(), Cel::Int(i64::from(value.number()))));
                self.0.insert(path.to_owned(), Branch::Leaf(map(values)));
            }
            Some((first, rest)) => {
                let inner = self.0.entry(first.to_owned()).or_insert_with(|| Branch::Inner(Self::default()));
                if let Branch::Inner(inner) = inner {
                    inner.add(rest, kind);
                }
            }
        }
    }
}

impl Branch {
    fn into_value(self) -> Cel {
        match self {
            Self::Leaf(value) => value,
            Self::Inner(tree) => map(tree.0.into_iter().map(|(name, branch)| (name, branch.into_value()))),
        }
    }
}

fn map(entries: impl IntoIterator<Item = (String, Cel)>) -> Cel {
    Cel::from(entries.into_iter().collect::<HashMap<String, Cel>>())
}

fn text_value(text: &str) -> Cel {
    Cel::String(Arc::new(text.to_owned()))
}

fn nanos(seconds: i64, nanos: i64) -> i64 {
    seconds * 1_000_000_000 + nanos
}

/// The nanoseconds of a text such as `90s` or `1h`.
fn duration_nanos(text: &str) -> i64 {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let number: i64 = text[..text.len() - unit.len()].parse().unwrap_or_else(|_| panic!("{text} is no duration"));
    match unit {
        "s" => nanos(number, 0),
        "m" => nanos(number * 60, 0),
        "h" => nanos(number * 3_600, 0),
        _ => panic!("{text}: teach tests/matrix/conditions.rs this unit"),
    }
}
