//! What answers look like.

use super::{notes, served};
use crate::{command_tree::Tree, output, table};
use prost_reflect::DynamicMessage;
use serde_json::{Value as Json, json};
use unicode_width::UnicodeWidthStr;

fn answer(verb: &str, json: Json) -> DynamicMessage {
    let tree = notes();
    let verb = tree.verb("note", verb).expect("a verb");
    DynamicMessage::deserialize(verb.method.output(), json).expect("an answer")
}

fn two_notes() -> DynamicMessage {
    answer(
        "list",
        json!({
            "notes": [
                { "id": "note_1", "org_id": "org_1", "title": "First\nplan", "published": true, "etag": "e" },
                { "id": "note_22", "org_id": "org_1", "title": "Second", "draft": "\u{1b}[2J", "project_id": "project_1" },
            ],
            "next_page_token": "t",
        }),
    )
}

#[test]
fn a_list_is_a_table_with_its_id_first_and_the_ids_of_others_last() {
    let expect = "\
ID       TITLE       PUBLISHED  DRAFT  ORG ID  PROJECT ID  AUTHOR ID
note_1   First plan  yes               org_1
note_22  Second      no         \u{fffd}[2J   org_1   project_1";
    assert_eq!(table::of(&two_notes(), None), expect);
    assert_eq!(table::of(&answer("list", json!({})), None), "nothing to show");
}

#[test]
fn what_holds_one_list_and_nothing_else_is_a_table_too() {
    let tree = notes();
    let pool = tree.verb("note", "get").expect("a verb").method.parent_pool().clone();
    let set = pool.get_message_by_name("google.protobuf.FileDescriptorSet").expect("in every contract with options");
    let set = DynamicMessage::deserialize(set, json!({"file": [{"name": "a.proto"}, {"name": "b.proto"}]}));
    let shown = table::of(&set.expect("two files"), None);
    let first: Vec<_> = shown.lines().map(|line| line.split_whitespace().next().unwrap_or_default()).collect();
    assert_eq!(first, ["NAME", "a.proto", "b.proto"], "{shown}");
}

#[test]
fn a_table_keeps_to_the_terminal_and_never_cuts_the_id() {
    let long = "a title with wide letters 漢字漢字漢字 and many more words than fit";
    let id = "note_0123456789012345678901234567890123456789";
    let message = answer("list", json!({ "notes": [{ "id": id, "title": long, "org_id": id, "draft": long }] }));
    for width in [0, 10, 50, 80, 120, 400] {
        let table = table::of(&message, Some(width));
        assert!(table.contains(id), "{table}");
        for line in table.lines() {
            assert!(line.width() <= width.max(id.len()), "{width}: {line}");
        }
    }
    assert!(table::of(&message, Some(80)).contains('…'));
}

#[test]
fn one_record_is_a_line_for_each_field() {
    let shown = table::of(&answer("get", json!({ "id": "note_1", "title": "A", "published": true })), None);
    assert!(shown.starts_with("ID          note_1\nORG ID\n"), "{shown}");
    assert!(shown.contains("\nTITLE       A\nPUBLISHED   yes\n"), "{shown}");
    assert_eq!(table::of(&answer("delete", json!({})), None), "");
}

#[test]
fn json_has_the_names_of_the_contract_and_every_field() {
    let shown = output::json(&answer("get", json!({ "id": "note_1" }))).expect("JSON");
    let expect = json!({
        "id": "note_1", "org_id": "", "project_id": "", "author_id": "", "title": "", "published": false, "draft": "", "etag": "",
    });
    assert_eq!(shown, expect);
}

const REPORT: &str = r#"syntax = "proto3";
package report.v1;
import "sys/policy/v1/policy.proto";
// Reports.
service ReportService {
  // Reports.
  rpc Make(MakeRequest) returns (Report) { option (sys.policy.v1.method_allow) = {public: true}; }
}
message MakeRequest {}
message Report { string state = 1; repeated Finding findings = 2; repeated Finding others = 3; }
message Finding { string about = 1; string remedy = 2; repeated string names = 3; bytes key = 4; }
"#;

#[test]
fn lists_in_one_record_stand_below_it_and_are_never_cut() {
    let tree = Tree::of(&[served("report", "report/v1/report.proto", REPORT)]);
    let report = tree.verb("report", "make").expect("the verb").method.output();
    let finding = |about: &str| json!({ "about": about, "remedy": "do this, then that", "names": ["a", "b"] });
    let message = json!({ "state": "GREEN", "findings": [finding("one"), finding("another")] });
    let message = DynamicMessage::deserialize(report, message).expect("an answer");
    let expect = "\
STATE  GREEN

FINDINGS
ABOUT    REMEDY              NAMES
one      do this, then that  a, b
another  do this, then that  a, b";
    assert_eq!(table::of(&message, Some(80)), expect);
    let narrow = table::of(&message, Some(20));
    let expect = "FINDINGS\nABOUT   one\nREMEDY  do this, then that\nNAMES   a, b\n";
    assert!(narrow.contains(expect) && !narrow.contains('…'), "{narrow}");
    assert!(!narrow.contains("OTHERS"), "{narrow}");
}
