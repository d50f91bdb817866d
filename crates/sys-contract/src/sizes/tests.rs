//! Bounds of sizes, held against what the validation library says of the same message.

use super::*;
use crate::{Origin, SourceFile, load};

const CONTRACT: &str = r#"
syntax = "proto3";
package sizes.v1;
import "buf/validate/validate.proto";
message Inner { string name = 1 [(buf.validate.field).string.max_len = 3]; Inner deep = 2; }
message Request {
  string title = 1 [(buf.validate.field).string = {max_len: 4 max_bytes: 6}];
  bytes blob = 2 [(buf.validate.field).bytes.max_len = 2];
  repeated string tags = 3 [(buf.validate.field).repeated = {max_items: 2 items: {string: {max_len: 2}}}];
  map<string, Inner> inners = 4 [(buf.validate.field).map = {max_pairs: 2 keys: {string: {max_len: 1}}}];
  Inner inner = 5;
  repeated Inner list = 6;
  repeated int64 free = 7;
  repeated int64 judged = 8 [(buf.validate.field).repeated.items.int64.gt = 0];
  repeated string ignored = 9 [(buf.validate.field) = {ignore: IGNORE_ALWAYS repeated: {max_items: 1}}];
  string code = 10 [(buf.validate.field).string.len = 2];
}
"#;

fn request() -> DynamicMessage {
    let file = SourceFile { path: "sizes/v1/sizes.proto".to_owned(), text: CONTRACT.to_owned() };
    let contract = load("mod-sizes", Origin::Uploaded, &[file]).unwrap();
    DynamicMessage::new(contract.pool.get_message_by_name("sizes.v1.Request").unwrap())
}

fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

fn inner(request: &DynamicMessage, name: &str, deep: Option<Value>) -> Value {
    let of = request.descriptor().get_field_by_name("inner").unwrap().kind().as_message().unwrap().clone();
    let mut inner = DynamicMessage::new(of);
    inner.set_field_by_name("name", text(name));
    deep.into_iter().for_each(|deep| inner.set_field_by_name("deep", deep));
    Value::Message(inner)
}

#[track_caller]
fn check(field: &str, value: impl FnOnce(&DynamicMessage) -> Value, expect: &[&str]) -> usize {
    let mut request = request();
    let value = value(&request);
    request.set_field_by_name(field, value);
    let sizes = Sizes::of(request.descriptor().parent_pool());
    let Measured { too_large, items } = sizes.measure(&request, |_| true);
    let told: Vec<String> = too_large.into_iter().map(|(path, what)| format!("{path}: {what}")).collect();
    assert_eq!(told, expect);
    let left_out = sizes.measure(&request, |judged| judged.name() != field);
    assert_eq!(left_out, Measured::default(), "what is left out is not looked at");
    items
}

#[test]
fn what_is_too_large_is_told_with_its_path_and_bound() {
    check("title", |_| text("abcd"), &[]);
    check("title", |_| text("abcde"), &["title: value length must be at most 4 characters"]);
    check("title", |_| text("éééé"), &["title: must be at most 6 bytes"]);
    check("blob", |_| Value::Bytes(vec![0; 3].into()), &["blob: value length must be at most 2 bytes"]);
    check("code", |_| text("abc"), &["code: must be 2 characters"]);
    check("code", |_| text("a"), &[]);
    check(
        "tags",
        |_| Value::List(vec![text("ab"), text("abc")]),
        &["tags[1]: value length must be at most 2 characters"],
    );
    check("inner", |request| inner(request, "abcd", None), &["inner.name: value length must be at most 3 characters"]);
    let deep = |request: &DynamicMessage| {
        let deep = inner(request, "abcd", None);
        Value::List(vec![inner(request, "", None), inner(request, "abc", Some(deep))])
    };
    check("list", deep, &["list[1].deep.name: value length must be at most 3 characters"]);
    let map = |request: &DynamicMessage| {
        Value::Map([(MapKey::String("ab".to_owned()), inner(request, "abcd", None))].into_iter().collect())
    };
    let told = [
        "inners[\"ab\"]: value length must be at most 1 characters",
        "inners[\"ab\"].name: value length must be at most 3 characters",
    ];
    check("inners", map, &told);
}

#[test]
fn of_a_list_that_is_too_long_no_item_is_looked_at() {
    let many = |_: &DynamicMessage| Value::List(vec![text("much too long"); 5_000]);
    assert_eq!(check("tags", many, &["tags: must have at most 2 items"]), 0);
    let map = |request: &DynamicMessage| {
        Value::Map((0..5).map(|key| (MapKey::String(format!("{key}0")), inner(request, "abcd", None))).collect())
    };
    assert_eq!(check("inners", map, &["inners: must have at most 2 entries"]), 0);
}

#[test]
fn what_rules_judge_one_by_one_is_counted_and_only_so_much_is_told() {
    assert_eq!(check("free", |_| Value::List(vec![Value::I64(1); 50]), &[]), 0);
    assert_eq!(check("judged", |_| Value::List(vec![Value::I64(1); 50]), &[]), 50);
    assert_eq!(check("ignored", |_| Value::List(vec![text("any"); 50]), &[]), 0);
    let mut request = request();
    let long = inner(&request, "much too long", None);
    request.set_field_by_name("list", Value::List(vec![long; 5_000]));
    let measured = Sizes::of(request.descriptor().parent_pool()).measure(&request, |_| true);
    assert_eq!((measured.too_large.len(), measured.items), (MOST_TOLD, 5_000));
}
