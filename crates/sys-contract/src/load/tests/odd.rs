//! Contracts that are odd rather than broken: names that differ by their case alone, types of every kind, options that contradict each
//! other. Each is refused with place and remedy, or loads.

use super::*;

/// What becomes of a contract with this text in it: what is told, or that it loads.
fn told(text: &str) -> String {
    let text = format!("{HEAD}\n{text}");
    match load("mod-a", Origin::Uploaded, &[source("a/v1/a.proto", &text)]) {
        Ok(_) => "loads\n".to_owned(),
        Err(problems) => {
            assert!(
                problems.0.iter().all(|problem| problem.place.line > 0 && !problem.instead.is_empty()),
                "{problems}"
            );
            format!("{problems}\n")
        }
    }
}

const HEAD: &str = "syntax = \"proto3\"; package a.v1; import \"buf/validate/validate.proto\"; \
    import \"google/protobuf/any.proto\"; import \"google/protobuf/empty.proto\"; import \"google/protobuf/struct.proto\"; import \"sys/policy/v1/policy.proto\";";

/// A record with these fields besides.
fn record(name: &str, table: &str, fields: &str) -> String {
    format!(
        "message {name} {{ option (sys.policy.v1.record) = {{table: \"{table}\" scope: {{org: \"org_id\"}}}}; \
         option (sys.policy.v1.allow) = {{verbs: [GET] member: true}}; \
         string id = 1 [(sys.policy.v1.field) = {{output_only: true}}]; \
         string org_id = 2 [(sys.policy.v1.field) = {{immutable: true}}];\n{fields}}}\n"
    )
}

fn method(name: &str, options: &str) -> String {
    format!(
        "rpc {name}(google.protobuf.Empty) returns (google.protobuf.Empty) {{ option (sys.policy.v1.method_allow) = {{public: true}}; {options} }}\n"
    )
}

#[test]
fn what_is_odd_is_refused_with_its_remedy_or_loads() {
    let many = |count: u32| (3..count).map(|number| format!("string f{number} = {number};\n")).collect::<String>();
    let cases = [
        ("tables that differ by case", record("One", "ones", "") + &record("Two", "Ones", "")),
        ("one table for two", record("One", "ones", "") + &record("Two", "ones", "")),
        ("ids that begin alike", record("FooBar", "ones", "") + &record("Foo_Bar", "twos", "")),
        ("ids that begin alike by case", record("FooBar", "ones", "") + &record("fooBar", "twos", "")),
        ("services of one noun", format!("service FooService {{ {} }} service Foo {{ {} }}", method("A", ""), method("A", ""))),
        ("methods of one verb", format!("service FooService {{ {} {} }}", method("ReadAll", ""), method("read_all", ""))),
        ("methods of one verb by the noun", format!("service FooService {{ {} {} }}", method("GetFoo", ""), method("FooGet", ""))),
        ("fields of one name in JSON", "message A { string foo_bar = 1; string fooBar = 2; }".to_owned()),
        ("fields that differ by case", "message A { string foo = 1; string Foo = 2; }".to_owned()),
        ("a given name in JSON", "message A { string a = 1 [json_name = \"b\"]; string c = 2 [json_name = \"b\"]; }".to_owned()),
        ("messages that differ by case", "message A { string a = 1; } message a { string a = 1; }".to_owned()),
        ("two names of one number", "enum E { option allow_alias = true; E_UNSPECIFIED = 0; A = 1; B = 1; }".to_owned()),
        ("two names of one number without a word", "enum E { E_UNSPECIFIED = 0; A = 1; B = 1; }".to_owned()),
        ("an enum that begins elsewhere", "enum E { A = 1; }".to_owned()),
        ("a record that holds itself", record("One", "ones", "One one = 3; repeated One ones = 4; map<string, One> named = 5;")),
        ("fields of every kind", record("One", "ones", "oneof c { string a = 3; int64 b = 4; } map<int32, bytes> m = 5; optional bool o = 6; google.protobuf.Any any = 7; google.protobuf.Struct s = 8;")),
        ("a scope in a oneof", record("One", "ones", "oneof c { string project_id = 3; string b = 4; }").replace("org: \"org_id\"", "org: \"org_id\" project: \"project_id\"")),
        ("names that conditions use", record("One", "ones", "string this = 3; string caller = 4; string now = 5; string next = 6; string request = 7; bool true = 8; string in = 9; string has = 10;")),
        ("thousands of fields", record("One", "ones", &many(3_000))),
        ("a long constant", format!("message A {{ string a = 1 [(buf.validate.field).cel_expression = \"this != '{}'\"]; }}", "x".repeat(60_000))),
        ("a very long name", format!("message {} {{ string a = 1; }}", "A".repeat(10_000))),
        ("proto2 fields", "message A { required string a = 1; }".to_owned()),
        ("a group", "message A { optional group G = 1 { string a = 1; } }".to_owned()),
        ("a default", "message A { string a = 1 [default = \"x\"]; }".to_owned()),
        ("an extension range", "message A { extensions 100 to 200; }".to_owned()),
        ("a message set", "message A { option message_set_wire_format = true; }".to_owned()),
        ("a method twice", format!("service FooService {{ {} {} }}", method("A", ""), method("A", ""))),
        ("an option twice", record("One", "ones", "string a = 3 [(sys.policy.v1.field) = {immutable: true}, (sys.policy.v1.field) = {immutable: false}];")),
        ("set by the server and by the caller once", record("One", "ones", "string a = 3 [(sys.policy.v1.field) = {output_only: true immutable: true}];")),
        ("written by some and by nobody", record("One", "ones", "string a = 3 [(sys.policy.v1.field) = {output_only: true write: {member: true}}];")),
        ("visible to nobody's use", record("One", "ones", "string a = 3 [(sys.policy.v1.field) = {visible: true}];")),
        ("everybody and somebody", record("One", "ones", "").replace("member: true", "public: true member: true")),
        ("a rule that contradicts itself", "message A { string a = 1 [(buf.validate.field).string = {min_len: 5 max_len: 2}]; }".to_owned()),
        ("a rule of another type", "message A { string a = 1 [(buf.validate.field).int32.gt = 5]; }".to_owned()),
        ("a rule of a list on one", "message A { string a = 1 [(buf.validate.field).repeated.max_items = 5]; }".to_owned()),
        ("a rule for items of another type", "message A { repeated string a = 1 [(buf.validate.field).repeated.items.bytes.len = 5]; map<string, int32> b = 2 [(buf.validate.field).map = {keys: {int32: {gt: 1}} values: {int64: {gt: 1}}}]; }".to_owned()),
        ("a rule for a message", "message A { A a = 1 [(buf.validate.field).string.len = 5]; }".to_owned()),
        ("rules that fit", "message A { repeated string a = 1 [(buf.validate.field).repeated.items.string.len = 5]; map<string, int32> b = 2 [(buf.validate.field).map = {keys: {string: {min_len: 1}} values: {int32: {gt: 1}}}]; google.protobuf.Any c = 3 [(buf.validate.field).any.in = \"x\"]; }".to_owned()),
        ("a oneof rule of no field", "message A { option (buf.validate.message).oneof = {fields: [\"b\"]}; string a = 1; }".to_owned()),
    ];
    let told: String = cases.iter().map(|(name, text)| format!("--- {name}\n{}", told(text))).collect();
    insta::assert_snapshot!(told);
}
