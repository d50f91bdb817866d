//! The outcome of each call, as far as it follows from the rules alone: decided by `sys-policy` from the contract, the
//! bindings that the setting gave out and the records as they are stored, with no server in between.

use super::{
    requests::Case,
    setting::{Place, Who},
};
use prost_reflect::{DynamicMessage, FieldDescriptor, Value};
use sys_contract::model::{Contract, Method, Shape, Verb};
use sys_policy::{Caller, MethodRules, Now, Placement, RecordRules, Rules};

const TOKEN_REFUSED: &str = "unauthenticated TOKEN_REFUSED";
const UNAUTHENTICATED: &str = "unauthenticated UNAUTHENTICATED";
const METHOD_REFUSED: &str = "permission_denied METHOD_REFUSED";
const STEP_UP_REQUIRED: &str = "permission_denied STEP_UP_REQUIRED";
const RECORD_REFUSED: &str = "permission_denied RECORD_REFUSED";
const NOT_FOUND: &str = "not_found NOT_FOUND";

/// All contracts and their rules.
pub(super) struct Oracle<'a>(Vec<(&'a Contract, Rules)>);

impl<'a> Oracle<'a> {
    pub(super) fn new(contracts: &'a [Contract]) -> Self {
        Self(contracts.iter().map(|contract| (contract, Rules::compile(contract).expect("rules compile"))).collect())
    }

    fn rules_of(&self, method: &Method) -> (&'a Contract, &MethodRules) {
        let mut found = self.0.iter().filter_map(|(contract, rules)| Some((*contract, rules.method(&method.path)?)));
        let (contract, rules) = found.next().expect("a method of a contract");
        (contract, rules)
    }

    /// Fails if an outcome is not what the rules say.
    pub(super) fn judge(&self, method: &Method, who: &Who, place: &Place, case: &Case, outcome: &str, now_unix_s: i64) {
        let about = || format!("{} as {}: {}", method.path, who.name, case.body);
        let Some(caller) = &who.caller else {
            assert_eq!(outcome, TOKEN_REFUSED, "a token that is no longer good: {}", about());
            return;
        };
        let (contract, rules) = self.rules_of(method);
        let now = Now { unix_s: now_unix_s, nanos: 0 };
        if !rules.could(caller, &now) {
            let refused = if caller.account().is_none() { UNAUTHENTICATED } else { METHOD_REFUSED };
            assert_eq!(outcome, refused, "not admitted: {}", about());
            return;
        }
        assert!(![UNAUTHENTICATED, METHOD_REFUSED].contains(&outcome), "{outcome}, though admitted: {}", about());
        let request = DynamicMessage::deserialize(method.descriptor.input(), &case.body).expect("a request in JSON");
        let lacks_step_up = rules.lacks_step_up(caller, Some(&request), &now);
        assert_eq!(
            outcome == STEP_UP_REQUIRED,
            lacks_step_up,
            "{outcome}, by when the password was shown: {}",
            about()
        );
        if lacks_step_up {
            return;
        }
        let expected = match rules.served() {
            Some((record, verb)) => Some(served(contract, method, record, verb, caller, &request, place, case, &now)),
            None => refused_on_target(contract, method, rules, caller, &request, place, &now),
        };
        if let Some(expected) = expected {
            assert_eq!(outcome, expected, "by the rules of the record: {}", about());
        }
    }
}

/// What a served method answers.
#[allow(clippy::too_many_arguments, reason = "all that the answer may depend on")]
fn served(
    contract: &Contract,
    method: &Method,
    rules: &RecordRules,
    verb: Verb,
    caller: &Caller,
    request: &DynamicMessage,
    place: &Place,
    case: &Case,
    now: &Now,
) -> &'static str {
    let serve = method.serve.as_ref().expect("a served method");
    let kind = &contract.records[serve.record];
    let (record, placement) = match &serve.shape {
        Shape::Get { id } | Shape::Delete { id, .. } => at(rules, place, request, std::slice::from_ref(id)),
        Shape::Update { item, .. } => at(rules, place, request, &[item.clone(), kind.id.clone()]),
        Shape::List { .. } | Shape::Count { .. } => {
            known(rules, place, &case.looks_for.as_ref().expect("a list looks for something").1)
        }
        Shape::Create { item } => {
            let mut next = request.get_field(item).as_message().expect("a record").clone();
            if let (Some(owner), Some(account)) = (&kind.owner, caller.account()) {
                next.set_field(owner, Value::String(account.to_string()));
            }
            let placement = rules.placement(&next).expect("a place in an org");
            (next, placement)
        }
    };
    let allows = |verb| rules.allows(verb, caller, &record, &placement, now).is_some();
    match verb {
        Verb::List | Verb::Count if allows(Verb::Get) => "ok, shown",
        Verb::List | Verb::Count => "ok, not shown",
        Verb::Create if allows(Verb::Create) => "ok",
        Verb::Create => RECORD_REFUSED,
        Verb::Get | Verb::Update | Verb::Delete if !allows(Verb::Get) => NOT_FOUND,
        Verb::Get => "ok",
        Verb::Update if rules.could_update(caller, &record, &placement, now) => "ok",
        Verb::Delete if allows(Verb::Delete) => "ok",
        Verb::Update | Verb::Delete => RECORD_REFUSED,
    }
}

/// What a handler's method answers if its grants do not hold on its target. What its handler says is not known here.
fn refused_on_target(
    contract: &Contract,
    method: &Method,
    rules: &MethodRules,
    caller: &Caller,
    request: &DynamicMessage,
    place: &Place,
    now: &Now,
) -> Option<&'static str> {
    let target = method.target.as_ref()?;
    let record_rules = rules.target().expect("the rules of the target");
    let (record, placement) = at(record_rules, place, request, &target.id);
    debug_assert_eq!(contract.records[target.record].message, prost_reflect::ReflectMessage::descriptor(&record));
    if rules.allows(caller, Some((&record, &placement)), request, now).is_some() {
        return None;
    }
    let seen = record_rules.allows(Verb::Get, caller, &record, &placement, now).is_some();
    Some(if seen { RECORD_REFUSED } else { NOT_FOUND })
}

/// The record whose id stands at the end of a path of request fields.
fn at(
    rules: &RecordRules,
    place: &Place,
    request: &DynamicMessage,
    path: &[FieldDescriptor],
) -> (DynamicMessage, Placement) {
    let mut value = Value::Message(request.clone());
    for field in path {
        value = value.as_message().expect("a message on the way").get_field(field).into_owned();
    }
    known(rules, place, value.as_str().expect("an id"))
}

fn known(rules: &RecordRules, place: &Place, id: &str) -> (DynamicMessage, Placement) {
    let record = place.records.get(id).unwrap_or_else(|| panic!("{id} is none of the setting's records")).clone();
    let placement = rules.placement(&record).expect("a place in an org");
    (record, placement)
}
