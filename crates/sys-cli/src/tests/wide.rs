//! Every kind of field, and any text in it.

use super::{Lines, command, sent, sent_with, served};
use crate::{command_tree::Tree, table, value::Shape};
use proptest::prelude::*;
use prost_reflect::{DynamicMessage, FieldDescriptor};
use serde_json::json;
use std::{fs, sync::LazyLock};

const WIDE: &str = r#"syntax = "proto3";
package wide.v1;
import "google/protobuf/duration.proto";
import "google/protobuf/empty.proto";
import "google/protobuf/field_mask.proto";
import "google/protobuf/struct.proto";
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";
import "sys/policy/v1/policy.proto";

// Everything.
service WideService {
  // Takes anything.
  rpc Take(TakeRequest) returns (TakeResponse) {
    option (sys.policy.v1.method_allow) = {public: true};
  }
  // Shows what was taken.
  rpc ListTaken(ListTakenRequest) returns (ListTakenResponse) {
    option (sys.policy.v1.method_allow) = {public: true};
  }
  // Takes passwords.
  rpc Guard(GuardRequest) returns (TakeResponse) {
    option (sys.policy.v1.method_allow) = {public: true};
  }
}

enum Colour {
  COLOUR_UNSPECIFIED = 0;
  RED = 1;
  BLUE = -2;
}

message Point {
  sint32 x = 1;
  sint32 y = 2;
  Point next = 3;
}

message TakeRequest {
  string text = 1;
  bytes logo = 2;
  int64 whole = 3;
  uint32 count = 4;
  double ratio = 5;
  float small = 6;
  Colour colour = 7;
  repeated Colour colours = 8;
  repeated string tags = 9;
  map<string, int32> scores = 10;
  google.protobuf.Timestamp at = 11;
  google.protobuf.Duration within = 12;
  google.protobuf.FieldMask fields = 13;
  google.protobuf.StringValue maybe = 14;
  google.protobuf.Struct free = 15;
  google.protobuf.Value any_value = 16;
  Point point = 17;
  repeated Point points = 18;
  oneof one {
    string by_name = 19;
    int32 by_number = 20;
  }
  optional bool sure = 21;
  repeated bool flags = 22;
  fixed64 huge = 23;
  google.protobuf.Empty nothing = 24;
  google.protobuf.BoolValue perhaps = 25;
  map<int32, Point> places = 26;
  string server = 27;
  string output_text = 28;
  string output = 29;
}

message GuardRequest {
  string email = 1;
  string old_password = 2;
  string new_password = 3;
}

message TakeResponse {}

message ListTakenRequest {
  string page_token = 1;
}

message ListTakenResponse {
  repeated TakeRequest taken = 1;
  string next_page_token = 2;
}
"#;

static TREE: LazyLock<Tree> = LazyLock::new(|| Tree::of(&[served("mod-wide", "wide/v1/wide.proto", WIDE)]));

fn take(words: &[&str]) -> Result<serde_json::Value, String> {
    sent(&TREE, &[&["wide", "take"], words].concat())
}

#[test]
fn every_kind_of_field_has_a_flag() {
    command(&TREE).debug_assert();
    let check = |words: &[&str], expect: serde_json::Value| assert_eq!(take(words), Ok(expect), "{words:?}");
    check(&["--text", "a b"], json!({ "text": "a b" }));
    check(&["--whole", "-9223372036854775808"], json!({ "whole": "-9223372036854775808" }));
    check(&["--huge=18446744073709551615"], json!({ "huge": "18446744073709551615" }));
    check(&["--count", "7", "--ratio", "-0.5", "--small", "2"], json!({ "count": 7, "ratio": -0.5, "small": 2.0 }));
    check(&["--colour", "red"], json!({ "colour": "RED" }));
    check(&["--colours", "RED", "--colours", "BLUE"], json!({ "colours": ["RED", "BLUE"] }));
    check(&["--tags", "a", "--tags", "b=c"], json!({ "tags": ["a", "b=c"] }));
    check(&["--scores", "a=1", "--scores", "b=-2", "--scores", "a=3"], json!({ "scores": { "a": 3, "b": -2 } }));
    check(&["--at", "2026-11-22T10:00:00.5+01:00"], json!({ "at": "2026-11-22T09:00:00.500Z" }));
    check(&["--within", "1.5s"], json!({ "within": "1.500s" }));
    check(&["--within", "2h"], json!({ "within": "7200s" }));
    check(&["--fields", "org_id, title"], json!({ "fields": "orgId,title" }));
    check(&["--maybe", "x"], json!({ "maybe": "x" }));
    check(&["--free", r#"{"a":[1,true]}"#], json!({ "free": { "a": [1.0, true] } }));
    check(&["--any-value", "[1]"], json!({ "any_value": [1.0] }));
    check(&["--point.x", "1", "--point.y", "-1"], json!({ "point": { "x": 1, "y": -1 } }));
    check(&["--point.next", r#"{"x":2}"#], json!({ "point": { "next": { "x": 2 } } }));
    check(&["--points", r#"{"x":1}"#, "--points", "{}"], json!({ "points": [{ "x": 1 }, {}] }));
    check(&["--by-number", "5"], json!({ "by_number": 5 }));
    check(&["--flags", "true", "--flags", "false"], json!({ "flags": [true, false] }));
    check(&["--perhaps", "true"], json!({ "perhaps": true }));
    check(&[r#"--places=-1={"y":1}"#], json!({ "places": { "-1": { "y": 1 } } }));
    check(&["--sure"], json!({ "sure": true }));
}

#[test]
fn a_field_called_like_a_flag_of_all_commands_keeps_its_path() {
    let sent = take(&["--request.server", "s", "--request.output", "o", "--server", "http://localhost"]);
    assert_eq!(sent, Ok(json!({ "server": "s", "output": "o" })));
}

#[test]
fn bytes_come_from_a_file_or_as_base64() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("logo");
    fs::write(&path, [0, 255, 10]).expect("a file");
    let at = format!("@{}", path.display());
    for text in [at.as_str(), "AP8K", "AP8K==="] {
        assert_eq!(take(&["--logo", text]), Ok(json!({ "logo": "AP8K" })), "{text}");
    }
    assert_eq!(take(&["--logo", "-_8"]).map_err(|_| ()), Err(()), "a dash begins a flag");
    assert_eq!(take(&["--logo=-_8"]), Ok(json!({ "logo": "+/8=" })));
    assert!(take(&["--logo", "@/no/such/file"]).is_err_and(|error| error.contains("cannot read /no/such/file")));
    assert!(take(&["--logo", "no base64!"]).is_err_and(|error| error.contains("@FILE")));
}

#[test]
fn what_is_no_value_says_what_to_write() {
    for (words, expect) in [
        (["--at", "yesterday"], "RFC 3339"),
        (["--at", "2026-11-22"], "RFC 3339"),
        (["--at", "99999-01-01T00:00:00Z"], "RFC 3339"),
        (["--within", "soon"], "1.5s"),
        (["--within", "9223372036854775807d"], "1.5s"),
        (["--colour", "GREEN"], "possible values: BLUE, RED"),
        (["--scores", "a"], "KEY=VALUE"),
        (["--scores", "a=b"], "not a number"),
        (["--count", "-1"], "not a number"),
        (["--whole", "1e3"], "not a number"),
        (["--point.next", "{x}"], "JSON of a Point"),
        (["--points", r#"{"z":1}"#], "JSON of a Point"),
        (["--free", "1"], "JSON of a Struct"),
    ] {
        let error = take(&words).expect_err("no value");
        assert!(error.contains(expect), "{words:?}: {error}");
    }
}

#[test]
fn two_fields_of_a_oneof_exclude_each_other() {
    let error = take(&["--by-name", "a", "--by-number", "0"]).expect_err("both");
    assert_eq!(error, "--by-number and `by_name` exclude each other");
}

#[test]
fn passwords_come_on_standard_input_and_never_as_arguments() {
    let words = ["wide", "guard", "--email", "a@example.org", "--old-password-stdin", "--new-password-stdin"];
    let sent = sent_with(&TREE, &words, &mut Lines(vec!["old", "new"]));
    assert_eq!(sent, Ok(json!({ "email": "a@example.org", "old_password": "old", "new_password": "new" })));
    assert!(
        sent_with(&TREE, &words, &mut Lines(vec!["old"])).is_err_and(|error| error.contains("--new-password-stdin"))
    );
    let error = super::sent(&TREE, &["wide", "guard", "--old-password", "x"]).expect_err("an argument");
    assert!(error.contains("unexpected argument '--old-password'"), "{error}");
    // Neither asked for nor given: the field stays empty and the server says what it thinks of that.
    assert_eq!(super::sent(&TREE, &["wide", "guard"]), Ok(json!({})));
}

#[test]
fn what_is_not_set_is_empty_in_a_table() {
    let answer =
        json!({ "taken": [{ "at": "2026-11-22T10:00:00Z", "colour": "RED" }, { "within": "1s", "sure": false }] });
    let verb = TREE.verb("wide", "list-taken").expect("the verb");
    let answer = DynamicMessage::deserialize(verb.method.output(), answer).expect("an answer");
    let table = table::of(&answer, None);
    let cells: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(cells[1], ["0", "0", "0", "0", "RED", "2026-11-22T10:00:00Z", "0"], "{table}");
    assert_eq!(cells[2], ["0", "0", "0", "0", "1s", "no", "0"], "{table}");
}

fn any_field() -> impl Strategy<Value = FieldDescriptor> {
    let verb = TREE.verb("wide", "take").expect("the verb");
    let fields: Vec<_> = verb.method.input().fields().collect();
    prop::sample::select(fields)
}

/// Text that looks like values often enough to get deep into the parsers.
fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[-+0-9.eE]{0,24}",
        "[0-9]{1,5}-[0-9]{1,3}-[0-9]{1,3}[T ][0-9:.]{0,24}(Z|[-+][0-9:]{0,6})?",
        "-?[0-9]{0,20}(\\.[0-9]{0,12})?[smhd]?",
        "[A-Za-z0-9+/=_-]{0,32}",
        "[a-z0-9-]{0,4}=.{0,8}",
        "[\\[\\]{}\",:0-9a-z]{0,32}",
    ]
}

proptest! {
    #[test]
    fn no_text_of_a_flag_panics_and_what_is_read_fits_its_field(field in any_field(), text in any_text()) {
        // `@` would read files of this machine.
        prop_assume!(!text.starts_with('@'));
        if let Ok(value) = Shape::of(&field).read(&text) {
            let kind = field.kind();
            let fits = if field.is_map() { value.is_valid_for_field(&field) } else { value.is_valid(&kind) };
            prop_assert!(fits, "{value:?} in {}", field.full_name());
        }
    }

    #[test]
    fn no_command_line_panics(words in prop::collection::vec(
        prop_oneof![
            any_text(),
            any_field().prop_map(|field| format!("--{}", field.name().replace('_', "-"))),
            (any_field(), any_text()).prop_map(|(field, text)| format!("--{}={text}", field.name().replace('_', "-"))),
        ],
        0..6,
    )) {
        prop_assume!(!words.iter().any(|word| word.contains('@')));
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let _ = take(&words);
        let words: Vec<String> = ["wide", "take"].into_iter().chain(words).map(str::to_owned).collect();
        let _ = crate::complete::candidates(&command(&TREE), &words);
    }
}
