//! Requests and records held against the validation rules of their contract.
//!
//! Sizes come first, for the whole message, since they cost next to nothing: a rule in CEL, which costs microseconds for each item of a
//! list, sees no list that is longer than it may be. What must never happen here: a message that passes without all its rules having
//! been asked.

mod sayable;
mod violation;

use crate::{
    host::ModuleError,
    refusal::{FieldViolation, Refusal},
    wire::unknown_enum_value,
};
use prost_protovalidate::{Error, Filter, ValidationOption, Validator, Violation};
use prost_reflect::{DynamicMessage, FieldDescriptor, MessageDescriptor, ReflectMessage};
use std::{collections::HashSet, fmt, sync::Arc};
use sys_contract::{model::Contract, sizes::Sizes};

/// Violations that are told. A request may have thousands, while gRPC has room for some kilobytes in its trailers.
const MAX_VIOLATIONS: usize = 16;
/// Of a request of which rules judge more items one by one, the first fault alone is told: each one holds a copy of its value.
const ITEMS_FOR_ALL_FAULTS: usize = 256;

/// The validation rules of a module.
pub struct Validation {
    validator: Validator,
    sizes: Sizes,
    /// Full names of the messages that may hold others of their own type.
    nesting: HashSet<String>,
}

impl fmt::Debug for Validation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Validation")
    }
}

/// What of a message is judged.
pub(crate) enum Judged<'a> {
    /// All of it.
    Whole,
    /// All but what is in this field, and in other messages of its type: it is judged where it is stored.
    AllBut(&'a FieldDescriptor),
    /// These fields, and what is said of the message as a whole.
    Fields(&'a [String]),
}

impl Validation {
    /// The rules of a contract's messages. Those of requests are compiled here, so that a broken rule refuses the load and not a call.
    pub(crate) fn of(contract: &Contract) -> Result<Self, ModuleError> {
        Self::with(Validator::new(), contract)
    }

    fn with(validator: Validator, contract: &Contract) -> Result<Self, ModuleError> {
        for method in contract.services.iter().flat_map(|service| &service.methods) {
            let input = method.descriptor.input();
            if let Err(Error::Compilation(cause)) = validator.validate(&DynamicMessage::new(input.clone())) {
                return Err(ModuleError::Validation {
                    message: input.full_name().to_owned(),
                    cause: cause.to_string(),
                });
            }
        }
        let nesting = contract.pool.all_messages().filter(nests_itself);
        let nesting = nesting.map(|message| message.full_name().to_owned()).collect();
        Ok(Self { validator, sizes: Sizes::of(&contract.pool), nesting })
    }

    /// Holds a message against its rules.
    pub(crate) fn check(&self, message: &DynamicMessage, judged: &Judged<'_>) -> Result<(), Refusal> {
        let measured = self.sizes.measure(message, |field| judged.field(field));
        if !measured.too_large.is_empty() {
            let violation = |(field, description)| FieldViolation { field, description };
            return Err(Refusal::invalid_fields(
                measured.too_large.into_iter().map(violation).take(MAX_VIOLATIONS).collect(),
            ));
        }
        let is_long = measured.items > ITEMS_FOR_ALL_FAULTS;
        let mut found = self.violations(message, judged, is_long)?;
        // Of a record that was changed some faults do not count, and the one that was told might be one of these.
        if is_long && !found.is_empty() && !found.iter().any(|violation| judged.path(&violation.field_path())) {
            found = self.violations(message, judged, false)?;
        }
        let counting = found.iter().filter(|violation| judged.path(&violation.field_path()));
        let fields: Vec<FieldViolation> =
            counting.take(MAX_VIOLATIONS).map(|found| violation::told(found, message)).collect();
        if fields.is_empty() { Ok(()) } else { Err(Refusal::invalid_fields(fields)) }
    }

    /// What is at fault, or the first of it alone.
    fn violations(
        &self,
        message: &DynamicMessage,
        judged: &Judged<'_>,
        is_first_alone: bool,
    ) -> Result<Vec<Violation>, Refusal> {
        let mut options = Vec::new();
        options.extend(judged.filter(&message.descriptor(), &self.nesting).map(ValidationOption::Filter));
        options.extend(is_first_alone.then_some(ValidationOption::FailFast));
        match self.validator.validate_with(message, &options) {
            Ok(()) => Ok(Vec::new()),
            Err(Error::Validation(error)) => Ok(error.into_violations()),
            Err(error) => Err(Refusal::internal(error)),
        }
    }
}

/// Refuses numbers that name no value of their enum, and values that JSON cannot say.
pub(crate) fn has_known_values(message: &DynamicMessage) -> Result<(), Refusal> {
    if let Some(field) = unknown_enum_value(message) {
        return Err(Refusal::invalid(field, "a number that names no value of this enum"));
    }
    match sayable::unsayable(message) {
        Some(field) => Err(Refusal::invalid(field, "a value that its type does not have: JSON has no form for it")),
        None => Ok(()),
    }
}

impl Judged<'_> {
    /// Whether the sizes of a field of the message are judged.
    fn field(&self, field: &FieldDescriptor) -> bool {
        match self {
            Self::Whole => true,
            Self::AllBut(left_out) => field != *left_out,
            Self::Fields(names) => names.iter().any(|name| name == field.name()),
        }
    }

    /// Whether a fault at this path counts.
    fn path(&self, path: &str) -> bool {
        match self {
            Self::Whole | Self::AllBut(_) => true,
            Self::Fields(names) => {
                let field = path.split(['.', '[']).next().unwrap_or_default();
                field.is_empty() || names.iter().any(|name| name == field)
            }
        }
    }

    /// What the validator passes over in a message of this type, if that is not one of those that nest themselves.
    fn filter(&self, message: &MessageDescriptor, nesting: &HashSet<String>) -> Option<Arc<dyn Filter>> {
        match self {
            Self::Whole => None,
            Self::AllBut(field) => Some(Arc::new(LeavesOut(field.kind().as_message()?.clone()))),
            // The validator does not say how deep a field stands. Of what a record holds of its own type all fields are judged.
            Self::Fields(_) if nesting.contains(message.full_name()) => None,
            Self::Fields(names) => Some(Arc::new(Only { record: message.clone(), names: names.to_vec() })),
        }
    }
}

/// Whether a message of this type may hold others of it, at any depth.
fn nests_itself(message: &MessageDescriptor) -> bool {
    let (mut left, mut seen) = (vec![message.clone()], HashSet::new());
    while let Some(holder) = left.pop() {
        for held in holder.fields().filter_map(|field| field.kind().as_message().cloned()) {
            if held == *message {
                return true;
            }
            if seen.insert(held.full_name().to_owned()) {
                left.push(held);
            }
        }
    }
    false
}

/// Passes over the fields of a record but these.
struct Only {
    record: MessageDescriptor,
    names: Vec<String>,
}

impl Filter for Only {
    fn should_validate(&self, _: &DynamicMessage, _: &MessageDescriptor) -> bool {
        true
    }

    fn should_validate_field(&self, _: &DynamicMessage, field: &FieldDescriptor) -> bool {
        *field.parent_message() != self.record || self.names.iter().any(|name| name == field.name())
    }
}

/// Passes over messages of this type, and what they hold.
struct LeavesOut(MessageDescriptor);

impl Filter for LeavesOut {
    fn should_validate(&self, _: &DynamicMessage, descriptor: &MessageDescriptor) -> bool {
        *descriptor != self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost_protovalidate::ValidatorOption;
    use prost_reflect::Value;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use sys_contract::{Origin, SourceFile};

    /// `now` in each rule, so that whoever asks for it counts the rules that are run.
    const CONTRACT: &str = r#"
syntax = "proto3";
package cost.v1;
import "buf/validate/validate.proto";
message Node {
  Node child = 1;
  repeated string free = 2 [(buf.validate.field).repeated.items.string.min_len = 1];
  string title = 3 [(buf.validate.field).string.min_len = 2];
}
message Inner { repeated int64 numbers = 1 [(buf.validate.field).repeated.max_items = 2]; }
message Request {
  option (buf.validate.message).cel_expression = "now > timestamp('2020-01-01T00:00:00Z') && this.tags.all(tag, tag != 'x')";
  repeated string tags = 1 [(buf.validate.field).repeated = {
    max_items: 3
    items: {cel_expression: "this != '' && now > timestamp('2020-01-01T00:00:00Z') ? '' : 'not empty'"}
  }];
  Inner inner = 2;
  repeated string free = 3 [(buf.validate.field).repeated.items.string.min_len = 1];
  string title = 4 [(buf.validate.field).string.min_len = 2];
}
"#;

    struct Bed {
        validation: Validation,
        rules_run: Arc<AtomicUsize>,
        request: MessageDescriptor,
    }

    impl Bed {
        fn new() -> Self {
            let file = SourceFile { path: "cost/v1/cost.proto".to_owned(), text: CONTRACT.to_owned() };
            let contract = sys_contract::load("mod-cost", Origin::Uploaded, &[file]).unwrap();
            let rules_run = Arc::new(AtomicUsize::new(0));
            let counted = Arc::clone(&rules_run);
            let now = Arc::new(move || {
                counted.fetch_add(1, Ordering::Relaxed);
                prost_types::Timestamp { seconds: 1_800_000_000, nanos: 0 }
            });
            let validator = Validator::with_options(&[ValidatorOption::NowFn(now)]);
            let request = contract.pool.get_message_by_name("cost.v1.Request").unwrap();
            Self { validation: Validation::with(validator, &contract).unwrap(), rules_run, request }
        }

        /// The fields at fault, and how many rules in CEL were run.
        fn check(&self, fields: &[(&str, Value)], judged: &Judged<'_>) -> (Vec<String>, usize) {
            let mut request = DynamicMessage::new(self.request.clone());
            for (field, value) in fields {
                request.set_field_by_name(field, value.clone());
            }
            self.rules_run.store(0, Ordering::Relaxed);
            let refused = self.validation.check(&request, judged).err();
            let fields = refused.into_iter().flat_map(|refusal| refusal.fields).map(|fault| fault.field).collect();
            (fields, self.rules_run.load(Ordering::Relaxed))
        }

        fn inner(&self, numbers: usize) -> Value {
            let of = self.request.get_field_by_name("inner").unwrap().kind().as_message().unwrap().clone();
            let mut inner = DynamicMessage::new(of);
            inner.set_field_by_name("numbers", Value::List(vec![Value::I64(1); numbers]));
            Value::Message(inner)
        }
    }

    fn texts(text: &str, count: usize) -> Value {
        Value::List(vec![Value::String(text.to_owned()); count])
    }

    #[test]
    fn no_rule_in_cel_is_run_on_a_message_of_which_anything_is_too_large() {
        let bed = Bed::new();
        let title = ("title", Value::String("ok".to_owned()));
        let check = |fields: &[(&str, Value)]| bed.check(fields, &Judged::Whole);
        // One of the message, and one for each item.
        assert_eq!(check(&[title.clone(), ("tags", texts("a", 3))]), (vec![], 4));
        assert_eq!(check(&[title.clone(), ("tags", texts("a", 10_000))]), (vec!["tags".to_owned()], 0));
        // Wherever it stands.
        let inner = ("inner", bed.inner(10_000));
        assert_eq!(check(&[title, ("tags", texts("a", 3)), inner]), (vec!["inner.numbers".to_owned()], 0));
    }

    #[test]
    fn of_very_many_items_the_first_fault_is_told_and_of_a_few_all() {
        let bed = Bed::new();
        let title = ("title", Value::String("ok".to_owned()));
        let (faults, _) = bed.check(&[title.clone(), ("free", texts("", 3))], &Judged::Whole);
        assert_eq!(faults, ["free[0]", "free[1]", "free[2]"]);
        let (faults, _) = bed.check(&[title, ("free", texts("", ITEMS_FOR_ALL_FAULTS + 1))], &Judged::Whole);
        assert_eq!(faults, ["free[0]"]);
    }

    #[test]
    fn what_is_left_out_is_not_judged_and_the_rest_is() {
        let bed = Bed::new();
        let left_out = bed.request.get_field_by_name("inner").unwrap();
        let fields = [("inner", bed.inner(10_000)), ("title", Value::String("x".to_owned()))];
        assert_eq!(bed.check(&fields, &Judged::AllBut(&left_out)).0, ["title"]);
        assert_eq!(bed.check(&fields, &Judged::Fields(&["title".to_owned()])).0, ["title"]);
        assert_eq!(bed.check(&fields, &Judged::Fields(&["inner".to_owned()])).0, ["inner.numbers"]);
    }

    #[test]
    fn of_very_many_items_of_a_changed_field_the_first_fault_is_told_whatever_else_is_at_fault() {
        let bed = Bed::new();
        let fields = [("free", texts("", ITEMS_FOR_ALL_FAULTS + 1)), ("title", Value::String("x".to_owned()))];
        let free = ["free".to_owned()];
        assert_eq!(bed.check(&fields, &Judged::Fields(&free)).0, ["free[0]"]);
        let fields = [("free", texts("a", ITEMS_FOR_ALL_FAULTS + 1)), ("title", Value::String("x".to_owned()))];
        assert!(bed.check(&fields, &Judged::Fields(&free)).0.is_empty(), "what was not changed does not count");
    }

    #[test]
    fn what_a_record_holds_of_its_own_type_is_judged_with_all_its_fields() {
        let bed = Bed::new();
        let node = bed.request.parent_pool().get_message_by_name("cost.v1.Node").unwrap();
        let with = |fields: &[(&str, Value)]| {
            let mut message = DynamicMessage::new(node.clone());
            fields.iter().for_each(|(field, value)| message.set_field_by_name(field, value.clone()));
            message
        };
        let title = ("title", Value::String("x".to_owned()));
        let child = ("child", Value::Message(with(std::slice::from_ref(&title))));
        let faults = |fields: &[(&str, Value)], changed: &str| {
            let refused = bed.validation.check(&with(fields), &Judged::Fields(&[changed.to_owned()])).err();
            refused.into_iter().flat_map(|refusal| refusal.fields).map(|fault| fault.field).collect::<Vec<_>>()
        };
        assert_eq!(faults(&[child.clone(), title.clone()], "child"), ["child.title"]);
        // The first fault is one that does not count.
        let free = ("free", texts("", ITEMS_FOR_ALL_FAULTS + 1));
        assert_eq!(faults(&[child, free, title], "free").first().map(String::as_str), Some("free[0]"));
    }
}
