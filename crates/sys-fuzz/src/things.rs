//! The contract that messages and filters are read against: a field of each kind.

use prost_protovalidate::Validator;
use prost_reflect::{DynamicMessage, FieldDescriptor, MessageDescriptor, Value, prost::Message};
use std::sync::{Arc, LazyLock};
use sys_contract::{Origin, SourceFile, model::Contract};
use sys_core::fuzzing::{Validation, validation};
use sys_policy::{RecordRules, Rules};
use sys_store::Table;

/// Loaded once: the targets ask for it millions of times.
pub(crate) struct Things {
    pub(crate) contract: Contract,
    pub(crate) rules: Rules,
    /// As the gate asks it, and the library by itself.
    pub(crate) validation: Validation,
    pub(crate) validator: Validator,
    pub(crate) table: Arc<Table>,
}

pub(crate) static THINGS: LazyLock<Things> = LazyLock::new(|| {
    let file = SourceFile {
        path: "things/v1/things.proto".to_owned(),
        text: include_str!("../contracts/things.proto").to_owned(),
    };
    let contract = sys_contract::load("mod-things", Origin::Uploaded, &[file]).expect("the contract loads");
    let rules = Rules::compile(&contract).expect("its rules compile");
    let record = contract.records.first().expect("a record").clone();
    let table = Arc::new(sys_store::fuzzing::table(record, Arc::clone(rules.record(0))));
    let validation = validation(&contract).expect("its validation rules compile");
    Things { contract, rules, validation, validator: Validator::new(), table }
});

impl Things {
    pub(crate) fn message(&self, name: &str) -> MessageDescriptor {
        self.contract.pool.get_message_by_name(&format!("things.v1.{name}")).expect("a message of the contract")
    }

    pub(crate) fn record(&self) -> &RecordRules {
        self.rules.record(0)
    }
}

/// A message for people. Its `Debug` shows its descriptor, too, and does not end where a message can hold one of its kind.
pub(crate) fn shown(message: &DynamicMessage) -> String {
    let json = sys_core::fuzzing::encode(message, true);
    json.map_or_else(|| message.encode_to_vec().escape_ascii().to_string(), |json| json.escape_ascii().to_string())
}

/// Whether two messages of one type say the same. Any NaN is like any other; what `except` picks is not looked at.
pub(crate) fn same(a: &DynamicMessage, b: &DynamicMessage, except: &impl Fn(&MessageDescriptor) -> bool) -> bool {
    use prost_reflect::ReflectMessage;
    let fields = |message: &DynamicMessage| message.fields().map(|(field, _)| field.number()).collect::<Vec<_>>();
    except(&a.descriptor())
        || (fields(a) == fields(b) && a.fields().zip(b.fields()).all(|((_, a), (_, b))| same_value(a, b, except)))
}

/// Whether a field says the same in two messages of one type.
pub(crate) fn same_field(a: &DynamicMessage, b: &DynamicMessage, field: &FieldDescriptor) -> bool {
    a.has_field(field) == b.has_field(field) && same_value(&a.get_field(field), &b.get_field(field), &|_| false)
}

fn same_value(a: &Value, b: &Value, except: &impl Fn(&MessageDescriptor) -> bool) -> bool {
    match (a, b) {
        (Value::Message(a), Value::Message(b)) => same(a, b, except),
        (Value::List(a), Value::List(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_value(a, b, except))
        }
        (Value::Map(a), Value::Map(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same_value(a, b, except)))
        }
        (Value::F32(a), Value::F32(b)) => a == b || a.is_nan() && b.is_nan(),
        (Value::F64(a), Value::F64(b)) => a == b || a.is_nan() && b.is_nan(),
        (a, b) => a == b,
    }
}
