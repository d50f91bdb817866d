//! Each way in which a new version of a contract can protect less, one change of the example at a time.

use super::*;
use crate::{Origin, SourceFile, load};

const NOTES: &str = include_str!("../load/tests/whole.proto");
/// What the example's only method with a handler has.
const PLAIN: &str = "audit: FULL";
const GUARDED: &str =
    "audit: FULL step_up: {unless: \"request.id == 'a'\"} rate: {per_minute: 6 burst: 2} max_request_bytes: 1000";

fn notes(options: &str) -> Contract {
    assert_eq!(NOTES.matches(PLAIN).count(), 1);
    let text = NOTES.replace(PLAIN, options);
    load("mod-notes", Origin::Uploaded, &[SourceFile { path: "notes/v1/notes.proto".to_owned(), text }]).unwrap()
}

#[track_caller]
fn check(before: &str, now: &str, expect: &[&str]) {
    let found = weakened(&notes(before), &notes(now));
    let found: Vec<String> = found.iter().map(|problem| format!("{}; {}", problem.what, problem.instead)).collect();
    assert_eq!(found, expect, "{before} -> {now}");
}

#[test]
fn each_protection_that_goes_or_gives_way_is_told() {
    let or = "or say that this is meant";
    check(
        GUARDED,
        "",
        &[
            "`PublishNote` allowed 6 calls a minute and 2 at once, and has no bound of its own now; keep `rate: {per_minute: 6 burst: 2}`, or say that this is meant",
            "`PublishNote` needed a fresh password, and does not any more; keep `step_up: {unless: \"request.id == 'a'\"}`, or say that this is meant",
            "a request of `PublishNote` had 1000 bytes at most, and has 65536 now; keep `max_request_bytes: 1000`, or say that this is meant",
            "each call of `PublishNote` was audited, and now those that change nothing are not; keep `audit: FULL`, or say that this is meant",
        ],
    );
    check(
        "step_up: {}",
        "step_up: {unless: \"request.id == 'a'\"}",
        &[&format!(
            "each call of `PublishNote` needed a fresh password, and now those do not for which `request.id == 'a'`; keep `step_up: {{}}`, {or}"
        )],
    );
    check(
        "step_up: {unless: \"request.id == 'a'\"}",
        "step_up: {unless: \"request.id == 'b'\"}",
        &[&format!(
            "`PublishNote` needed a fresh password unless `request.id == 'a'`, and now unless `request.id == 'b'`; keep `step_up: {{unless: \"request.id == 'a'\"}}`, {or}"
        )],
    );
    for (per_minute, burst) in [(7, 2), (6, 3), (5, 3)] {
        check(
            "rate: {per_minute: 6 burst: 2}",
            &format!("rate: {{per_minute: {per_minute} burst: {burst}}}"),
            &[&format!(
                "`PublishNote` allowed 6 calls a minute and 2 at once, and now {per_minute} calls a minute and {burst} at once; keep `rate: {{per_minute: 6 burst: 2}}`, {or}"
            )],
        );
    }
}

#[test]
fn what_protects_as_much_or_more_passes() {
    check("", "", &[]);
    check(GUARDED, GUARDED, &[]);
    check("", GUARDED, &[]);
    check("step_up: {unless: \"request.id == 'a'\"}", "step_up: {}", &[]);
    check("rate: {per_minute: 6 burst: 2}", "rate: {per_minute: 5 burst: 1}", &[]);
    check("max_request_bytes: 1000", "max_request_bytes: 999", &[]);
    let other = "syntax = \"proto3\"; package notes.v1; message Unrelated {}".to_owned();
    let file = SourceFile { path: "notes/v1/notes.proto".to_owned(), text: other };
    let none = load("mod-notes", Origin::Uploaded, &[file]).unwrap();
    assert_eq!(weakened(&notes(GUARDED), &none), [], "nobody calls a method that is gone");
    let new = weakened(&none, &notes(GUARDED));
    assert_eq!(new.len(), methods(&notes(GUARDED)).count(), "each method is new, and nothing else is told: {new:?}");
}

/// What becomes of the example when each text is replaced by the other.
fn told(edits: &[(&str, &str)]) -> String {
    let load = |text: &str| {
        let file = SourceFile { path: "notes/v1/notes.proto".to_owned(), text: text.to_owned() };
        load("mod-notes", Origin::Uploaded, &[file]).unwrap_or_else(|problems| panic!("{problems}"))
    };
    let etag = "  string etag = 8";
    let old = format!("{}{RULES}", NOTES.replace(etag, &format!("{FIELDS}{etag}")));
    let mut new = old.clone();
    for (from, to) in edits {
        assert_eq!(new.matches(from).count(), 1, "{from}");
        new = new.replacen(from, to, 1);
    }
    let found = weakened(&load(&old), &load(&new));
    found.iter().map(|problem| format!("{problem}\n")).collect()
}

const FIELDS: &str = "  string stamp = 9 [(sys.policy.v1.field) = { output_only: true }];
  string kind = 10 [(sys.policy.v1.field) = { immutable: true }];
";
const RULES: &str = r#"
message Ruled {
  option (buf.validate.message).cel = {id: "a" message: "in order" expression: "this.low <= this.high"};
  option (buf.validate.message).cel = {id: "b" expression: "this.low != 7"};
  int32 low = 1 [(buf.validate.field).int32 = {gte: 0 lt: 10}];
  int32 high = 2 [(buf.validate.field).int32 = {in: [1, 2] not_in: [3, 4]}];
  string name = 3 [(buf.validate.field) = {required: true string: {min_len: 2 max_len: 5 pattern: "^a"}}];
  repeated string tags = 4 [(buf.validate.field).repeated = {max_items: 3 unique: true items: {string: {max_len: 9}}}];
  map<string, int64> counts = 5 [(buf.validate.field).map = {max_pairs: 3 values: {int64: {gt: 0}}}];
  string mail = 6 [(buf.validate.field).string.email = true];
  string code = 7 [(buf.validate.field).cel_expression = "this.startsWith('a')"];
  oneof choice { option (buf.validate.oneof).required = true; string left = 8; string right = 9; }
  message Inside { double ratio = 1 [(buf.validate.field).double = {lte: 0.5 finite: true}]; }
  string told = 10 [(buf.validate.field).string = {max_len: 5 example: "a"}];
}
"#;

#[test]
fn each_rule_that_refuses_less_is_told() {
    insta::assert_snapshot!(told(&[
        ("expression: \"this.low != 7\"", "expression: \"this.low != 8\""),
        ("{gte: 0 lt: 10}", "{gte: -1 lt: 11}"),
        ("{in: [1, 2] not_in: [3, 4]}", "{in: [1, 2, 5] not_in: [3]}"),
        (
            "{required: true string: {min_len: 2 max_len: 5 pattern: \"^a\"}}",
            "{string: {min_len: 1 max_len: 6 pattern: \"^b\"}}"
        ),
        ("{max_items: 3 unique: true items: {string: {max_len: 9}}}", "{max_items: 4 items: {string: {max_len: 10}}}"),
        ("{max_pairs: 3 values: {int64: {gt: 0}}}", "{}"),
        (
            "(buf.validate.field).string.email = true",
            "(buf.validate.field) = {string: {email: true} ignore: IGNORE_ALWAYS}"
        ),
        ("\"this.startsWith('a')\"", "\"this.startsWith('b')\""),
        ("option (buf.validate.oneof).required = true; ", ""),
        ("{lte: 0.5 finite: true}", "{lte: 0.75}"),
    ]));
}

#[test]
fn what_refuses_as_much_or_more_is_not_told() {
    assert_eq!(
        told(&[
            ("message: \"in order\"", "message: \"in another order\""),
            ("{gte: 0 lt: 10}", "{gte: 1 lt: 9}"),
            ("{in: [1, 2] not_in: [3, 4]}", "{in: [2] not_in: [3, 4, 5]}"),
            ("{max_items: 3 unique: true", "{max_items: 2 min_items: 1 unique: true"),
            ("{lte: 0.5 finite: true}", "{lte: 0.25 finite: true gt: 0}"),
            ("example: \"a\"", "example: \"b\""),
            ("string mail = 6 [", "string mail = 6 [(buf.validate.field).required = true, "),
        ]),
        ""
    );
}

#[test]
fn each_field_that_shows_more_or_takes_more_is_told() {
    insta::assert_snapshot!(told(&[
        ("string stamp = 9 [(sys.policy.v1.field) = { output_only: true }]", "string stamp = 9"),
        ("string kind = 10 [(sys.policy.v1.field) = { immutable: true }]", "string kind = 10"),
        ("{ index: SEARCH }", "{ index: ORDERED visible: true }, (buf.validate.field).string.max_bytes = 96"),
        ("{ index: EQUAL }", "{ index: ORDERED }"),
        ("{ read: { owner: true } }", "{ read: { owner: true } personal: false index: EQUAL }"),
    ]));
    let unique = |within: &str| format!("{{ index: UNIQUE within: {within} }}");
    let told = |from: &str, to: &str| {
        let load = |index: &str| {
            let text = NOTES.replace("{ index: SEARCH }", index);
            let file = SourceFile { path: "notes/v1/notes.proto".to_owned(), text };
            load("mod-notes", Origin::Uploaded, &[file]).unwrap()
        };
        weakened(&load(from), &load(to)).into_iter().map(|problem| problem.what).collect::<Vec<_>>()
    };
    assert_eq!(
        told(&unique("ORG"), "{ index: EQUAL }"),
        ["a value of `title` stood once, and may stand in any number of records now"]
    );
    for (from, to) in [("ORG", "PROJECT"), ("PROJECT", "OWNER")] {
        let what = "a value of `title` stood once in a wider circle than now";
        assert_eq!(told(&unique(from), &unique(to)), [what], "{from} -> {to}");
        assert!(told(&unique(to), &unique(from)).is_empty(), "{to} -> {from}");
    }
    assert_eq!(
        told("{ }", "{ index: SEARCH }"),
        ["which records share a value of `title` did not show on disk, and does now"]
    );
    let words = "which records share a word of `title` did not show on disk, and does now";
    assert_eq!(told("{ index: EQUAL }", "{ index: SEARCH }"), [words]);
    assert!(told(&unique("ORG"), "{ index: SEARCH }").contains(&words.to_owned()));
    assert!(told("{ index: EQUAL personal: false }", "{ index: SEARCH personal: false }").is_empty());
    assert!(told("{ index: SEARCH }", "{ index: EQUAL }").is_empty());
}

#[test]
fn a_method_that_is_new_is_told_and_one_with_another_name_loses_nothing() {
    let load = |text: &str| {
        let file = SourceFile { path: "notes/v1/notes.proto".to_owned(), text: text.to_owned() };
        load("mod-notes", Origin::Uploaded, &[file]).unwrap_or_else(|problems| panic!("{problems}"))
    };
    let renamed = NOTES.replace("rpc PublishNote(", "rpc ShowNote(").replace(PLAIN, "deadline_ms: 20000");
    let found = weakened(&load(NOTES), &load(&renamed));
    insta::assert_snapshot!(found.iter().map(|problem| format!("{problem}\n")).collect::<String>());
    let moved = NOTES.replace("rpc PublishNote(", "rpc ShowNote(");
    assert_eq!(weakened(&load(NOTES), &load(&moved)).len(), 1, "it is new, and protected as before");
}
