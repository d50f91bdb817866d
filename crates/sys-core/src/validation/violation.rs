//! What the validation library found, as the caller is told. It has no words for a rule about a whole message, nor for the
//! formats of text; what such a rule wants stands in the contract, or in its name.

use crate::refusal::FieldViolation;
use prost_protovalidate::Violation;
use prost_reflect::{DynamicMessage, Kind, MessageDescriptor, ReflectMessage};

/// The options of a message in protovalidate's own language.
const MESSAGE_RULES: &str = "buf.validate.message";
/// What the names of the rules about formats begin with, such as `string.email`.
const FORMATS: &str = "string.";

/// A violation in words. The field is empty where the rule is about the whole of `message`.
pub(super) fn told(violation: &Violation, message: &DynamicMessage) -> FieldViolation {
    let said = Some(violation.message().to_owned()).filter(|said| !said.is_empty());
    let said = said.or_else(|| own_words(violation, &message.descriptor()));
    FieldViolation { field: violation.field_path(), description: said.unwrap_or_else(|| by_name(violation.rule_id())) }
}

/// What the author of a rule about a whole message wrote beside it.
fn own_words(violation: &Violation, outermost: &MessageDescriptor) -> Option<String> {
    // Else it is a rule of a field, which may have the same name.
    if !violation.rule_path().is_empty() {
        return None;
    }
    let path = violation.to_proto().field.unwrap_or_default().elements;
    let message = path.iter().try_fold(outermost.clone(), |message, element| {
        let field = message.get_field_by_name(element.field_name())?;
        match field.kind() {
            Kind::Message(entry) if field.is_map() => entry.map_entry_value_field().kind().as_message().cloned(),
            kind => kind.as_message().cloned(),
        }
    })?;
    let extension = message.parent_pool().get_extension_by_name(MESSAGE_RULES)?;
    let options = message.options();
    let rules = options.get_extension(&extension);
    let rules = rules.as_message()?.get_field_by_name("cel")?;
    let text = |rule: &DynamicMessage, name: &str| Some(rule.get_field_by_name(name)?.as_str()?.to_owned());
    let mut rules = rules.as_list()?.iter().filter_map(|rule| rule.as_message());
    let broken = rules.find(|rule| text(rule, "id").as_deref() == Some(violation.rule_id()))?;
    text(broken, "message").filter(|words| !words.is_empty())
}

/// `string.email` wants an email. An empty text breaks a rule of its own, `string.email_empty`.
fn by_name(rule: &str) -> String {
    match rule.strip_prefix(FORMATS).and_then(|format| format.rsplit('.').next()) {
        Some(format) => {
            format!("is no valid {}", format.strip_suffix("_empty").unwrap_or(format).replace('_', " "))
        }
        None => format!("breaks the rule `{rule}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost_protovalidate::{Error, Validator};
    use serde_json::json;
    use sys_contract::{Origin, SourceFile};

    const CONTRACT: &str = r#"syntax = "proto3"; package words.v1;
        import "buf/validate/validate.proto"; import "sys/policy/v1/policy.proto";
        service WordService { rpc Say(SayRequest) returns (SayRequest) { option (sys.policy.v1.method_allow) = {public: true}; } }
        message Pair {
          option (buf.validate.message).cel = { id: "pair.order" message: "first comes before last" expression: "this.first <= this.last" };
          option (buf.validate.message).cel = { id: "pair.mute" expression: "this.first != 13" };
          int32 first = 1; int32 last = 2;
        }
        message SayRequest {
          option (buf.validate.message).cel = { id: "say.one" message: "say `a` or `b`" expression: "(this.a == '') != (this.b == '')" };
          string a = 1; string b = 2; Pair pair = 3;
          repeated Pair pairs = 4 [(buf.validate.field).repeated.max_items = 4];
          map<string, Pair> named = 5 [(buf.validate.field).map.max_pairs = 4];
          string email = 6 [(buf.validate.field).string.email = true];
          string host = 7 [(buf.validate.field).string.host_and_port = true];
          string title = 8 [(buf.validate.field).string.max_len = 1];
        }"#;

    #[test]
    fn each_rule_is_told_in_words_with_its_place() {
        let source = SourceFile { path: "words/v1/words.proto".into(), text: CONTRACT.into() };
        let contract =
            sys_contract::load("words", Origin::Uploaded, &[source]).unwrap_or_else(|found| panic!("{found}"));
        let request = contract.pool.get_message_by_name("words.v1.SayRequest").expect("the request");
        let check = |more: serde_json::Value, expect: &[(&str, &str)]| {
            let mut request_json = json!({"a": "x", "email": "a@example.org", "host": "example.org:80"});
            request_json.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
            let message = DynamicMessage::deserialize(request.clone(), request_json).expect("a request");
            let found = match Validator::new().validate(&message) {
                Err(Error::Validation(error)) => error.violations().iter().map(|one| told(one, &message)).collect(),
                other => {
                    other.expect("rules that compile");
                    Vec::new()
                }
            };
            let found: Vec<(&str, &str)> =
                found.iter().map(|one| (one.field.as_str(), one.description.as_str())).collect();
            assert_eq!(found, expect, "{more}");
        };
        check(json!({}), &[]);
        check(json!({"b": "y"}), &[("", "say `a` or `b`")]);
        check(json!({"pair": {"first": 2}}), &[("pair", "first comes before last")]);
        check(json!({"pair": {"first": 13, "last": 13}}), &[("pair", "breaks the rule `pair.mute`")]);
        check(json!({"pairs": [{}, {"first": 1}]}), &[("pairs[1]", "first comes before last")]);
        check(json!({"named": {"x": {"first": 1}}}), &[("named[\"x\"]", "first comes before last")]);
        check(json!({"email": "nobody"}), &[("email", "is no valid email")]);
        check(json!({"email": ""}), &[("email", "is no valid email")]);
        check(json!({"host": "a b"}), &[("host", "is no valid host and port")]);
        check(json!({"title": "too long"}), &[("title", "value length must be at most 1 characters")]);
    }
}
