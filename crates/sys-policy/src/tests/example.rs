//! The example of the design: who may do what with notes, as decisions, as a matrix, and what is wrong with bad rules.

use super::fixture::{NOW, account, at_org, at_project, caller, json, load, org, org_id, project};
use crate::{Branch, Caller, FRESH_PROOF_S, Plan, Rules, Span, TokenTest, TokenValue, matrix};
use prost_reflect::{DynamicMessage, Value};
use sys_contract::{
    Origin,
    model::{Contract, Role, Verb},
};

const NOTES: &str = include_str!("../../../../modules/mod-notes/notes/v1/notes.proto");
const PUBLISH: &str = r#"
service PublishService {
  rpc PublishNote(PublishNoteRequest) returns (Note) {
    option (sys.policy.v1.method) = {
      target: { record: "Note" id: "id" }
      reach: ["Note.UPDATE"]
      audit: FULL
    };
    option (sys.policy.v1.method_allow) = { owner: true };
    option (sys.policy.v1.method_allow) = { role: ADMIN at: PROJECT when: "!this.published && request.id != ''" };
  }
}
message PublishNoteRequest { string id = 1; }
service WithdrawalService {
  rpc Withdraw(WithdrawRequest) returns (Note) {
    option (sys.policy.v1.method) = { step_up: { unless: "request.why in [Why.MISTAKE, Why.OTHER] && has(request.until)" } };
    option (sys.policy.v1.method_allow) = { signed_in: true };
  }
  rpc WithdrawAll(WithdrawRequest) returns (Note) {
    option (sys.policy.v1.method) = { step_up: {} };
    option (sys.policy.v1.method_allow) = { signed_in: true };
  }
}
message WithdrawRequest { Why why = 1; optional int64 until = 2; }
enum Why { WHY_UNSPECIFIED = 0; MISTAKE = 1; SHAME = 2; OTHER = 3; }
"#;

fn notes(more: &str) -> Contract {
    load("notes/v1/notes.proto", format!("{NOTES}{more}"), Origin::Uploaded)
}

/// A note of account 1 in project 1 of org 1.
fn note(contract: &Contract, published: bool) -> DynamicMessage {
    let text = format!(
        r#"{{"orgId": "{}", "projectId": "{}", "authorId": "{}", "title": "Plan", "draft": "d", "published": {published}}}"#,
        org_id(1),
        project(1),
        account(1)
    );
    json(&contract.records[0].message, &text)
}

fn people() -> Vec<(&'static str, Caller)> {
    vec![
        ("anonymous", Caller::anonymous()),
        ("author, bound", caller(1, vec![at_project(Role::Guest, 1, 1)])),
        ("author, no longer bound", caller(1, vec![at_org(Role::Admin, 2)])),
        ("guest of the project", caller(2, vec![at_project(Role::Guest, 1, 1)])),
        ("user of the project", caller(2, vec![at_project(Role::User, 1, 1)])),
        ("admin of the project", caller(2, vec![at_project(Role::Admin, 1, 1)])),
        ("admin of another project", caller(2, vec![at_project(Role::Admin, 1, 2)])),
        ("user of the org", caller(2, vec![at_org(Role::User, 1)])),
        ("admin of another org", caller(2, vec![at_org(Role::Admin, 2)])),
    ]
}

#[test]
fn notes_are_open_to_whom_they_say() {
    let contract = notes("");
    let rules = Rules::compile(&contract).expect("the notes compile");
    let record = rules.record(0);
    let mut table = String::new();
    for (who, caller) in people() {
        table.push_str(&format!("{who}:"));
        for published in [false, true] {
            let note = note(&contract, published);
            let placement = record.placement(&note).expect("a note has a place");
            let allows = |verb| record.allows(verb, &caller, &note, &placement, &NOW).is_some();
            let update = record.allows_update(&caller, &note, &note, &placement, &NOW).is_some();
            let draft = !record.hidden_fields(&caller, &note, &placement, &NOW).contains(7);
            let can = [
                ("get", allows(Verb::Get)),
                ("draft", allows(Verb::Get) && draft),
                ("create", allows(Verb::Create)),
                ("update", update),
                ("delete", allows(Verb::Delete)),
            ];
            let can: Vec<_> = can.into_iter().filter(|(_, can)| *can).map(|(verb, _)| verb).collect();
            table.push_str(&format!(" [{}]", can.join(" ")));
        }
        table.push('\n');
    }
    // Unpublished, then published.
    insta::assert_snapshot!(table, @r"
    anonymous: [] []
    author, bound: [update delete] [get draft update delete]
    author, no longer bound: [] []
    guest of the project: [] [get]
    user of the project: [get create] [get create]
    admin of the project: [get create delete] [get create delete]
    admin of another project: [] [get]
    user of the org: [get create] [get create]
    admin of another org: [] []
    ");
}

#[test]
fn a_list_of_notes_walks_what_the_caller_holds() {
    let contract = notes("");
    let rules = Rules::compile(&contract).expect("the notes compile");
    let plan = |caller: &Caller, in_project| rules.record(0).plan(caller, Some(org(1)), in_project, &NOW);
    let published = || vec![TokenTest { field: 6, any_of: vec![TokenValue::Exact(Value::Bool(true))] }];
    let branch = |span, tokens: Vec<TokenTest>| Branch { span, covers_span: tokens.is_empty(), tokens };
    let two = caller(2, vec![at_project(Role::User, 1, 1), at_project(Role::Guest, 1, 2), at_org(Role::Admin, 2)]);
    assert_eq!(
        plan(&two, None).branches,
        [branch(Span::Whole, published()), branch(Span::Project(project(1)), vec![])]
    );
    assert_eq!(plan(&two, Some(project(1))).branches, [branch(Span::Project(project(1)), vec![])]);
    assert_eq!(plan(&two, Some(project(2))).branches, [branch(Span::Project(project(2)), published())]);
    let admin = caller(2, vec![at_org(Role::Admin, 1), at_project(Role::User, 1, 1)]);
    assert_eq!(plan(&admin, None).branches, [branch(Span::Whole, vec![])]);
    assert_eq!(plan(&Caller::anonymous(), None), Plan::default());
    assert_eq!(rules.record(0).plan(&admin, None, None, &NOW), Plan::default(), "a list names its org");
}

#[test]
fn a_handlers_method_is_judged_on_its_target() {
    let contract = notes(PUBLISH);
    let rules = Rules::compile(&contract).expect("the notes compile");
    let method = rules.method("notes.v1.PublishService/PublishNote").expect("the method");
    let target = method.target().expect("its target");
    let request =
        json(&contract.pool.get_message_by_name("notes.v1.PublishNoteRequest").expect("it"), r#"{"id": "n"}"#);
    let empty = DynamicMessage::new(prost_reflect::ReflectMessage::descriptor(&request));
    let check = |who: &Caller, published: bool, request: &DynamicMessage, could: bool, expect: Option<u32>| {
        let note = note(&contract, published);
        let placement = target.placement(&note).expect("a note has a place");
        assert_eq!(method.could(who, &NOW), could);
        let found = method.allows(who, Some((&note, &placement)), request, &NOW);
        assert_eq!(found.map(|grant| grant.0), expect);
        assert_eq!(method.allows(who, None, request, &NOW), None, "without its target it is judged by nothing");
    };
    check(&caller(1, vec![at_project(Role::Guest, 1, 2)]), true, &request, true, Some(0));
    check(&caller(2, vec![at_project(Role::Guest, 1, 1)]), false, &request, true, None);
    check(&caller(2, vec![at_project(Role::Admin, 1, 1)]), false, &request, true, Some(1));
    check(&caller(2, vec![at_project(Role::Admin, 1, 1)]), true, &request, true, None);
    check(&caller(2, vec![at_project(Role::Admin, 1, 1)]), false, &empty, true, None);
    check(&caller(2, vec![]), false, &request, false, None);
    check(&Caller::anonymous(), false, &request, false, None);

    let served = rules.method("notes.v1.NoteService/ListNotes").expect("the method");
    assert_eq!(served.served().map(|(_, verb)| verb), Some(Verb::List));
    assert!(served.could(&caller(2, vec![at_project(Role::Guest, 1, 1)]), &NOW));
    assert!(!served.could(&caller(2, vec![]), &NOW));
    assert!(rules.method("notes.v1.NoteService/NoSuchMethod").is_none());
}

#[test]
fn what_a_stolen_token_must_not_be_enough_for_asks_for_a_password_shown_lately() {
    let contract = notes(PUBLISH);
    let rules = Rules::compile(&contract).expect("the notes compile");
    let request = contract.pool.get_message_by_name("notes.v1.WithdrawRequest").expect("it");
    let lacks = |method: &str, caller: &Caller, text: Option<&str>| {
        let message = text.map(|text| json(&request, text));
        rules.method(&format!("notes.v1.{method}")).expect("the method").lacks_step_up(caller, message.as_ref(), &NOW)
    };
    let all = "WithdrawalService/WithdrawAll";
    let some = "WithdrawalService/Withdraw";
    for (age_s, lately) in [(0, true), (FRESH_PROOF_S - 1, true), (FRESH_PROOF_S, false), (-30, true), (-31, false)] {
        let person = caller(1, vec![]).proven_at(NOW.unix_s - age_s);
        assert_eq!(lacks(all, &person, None), !lately, "before the request is read, {age_s} s after");
        assert_eq!(lacks(all, &person, Some("{}")), !lately, "{age_s} s after");
        assert_eq!(lacks(some, &person, Some("{}")), !lately, "{age_s} s after");
    }
    let person = caller(1, vec![]);
    assert!(lacks(all, &person, None) && lacks(all, &Caller::anonymous(), None), "never shown");
    assert!(!lacks(some, &person, None), "that hangs on the request");
    for (text, spared) in [
        (r#"{"why": "MISTAKE", "until": "1"}"#, true),
        (r#"{"why": "OTHER", "until": "0"}"#, true),
        (r#"{"why": "MISTAKE"}"#, false),
        (r#"{"why": "SHAME", "until": "1"}"#, false),
        (r#"{"why": 77, "until": "1"}"#, false),
        ("{}", false),
    ] {
        assert_eq!(lacks(some, &person, Some(text)), !spared, "{text}");
    }
    assert!(!lacks("NoteService/DeleteNote", &person, Some("{}")), "nothing asks for it");
}

#[test]
fn the_matrix_says_who_may_do_what() {
    let contract = notes(PUBLISH);
    let rules = Rules::compile(&contract).expect("the notes compile");
    let text = matrix(&[(&contract, &rules)]);
    insta::assert_snapshot!(text);
    for method in contract.services.iter().flat_map(|service| &service.methods) {
        assert!(text.contains(&format!("method {}\n", method.path)), "{} is in the matrix", method.path);
    }
}

#[test]
fn all_problems_are_told_with_their_places() {
    let contract = load(
        "test/v1/bad.proto",
        r#"syntax = "proto3";
package test.v1;
import "sys/policy/v1/policy.proto";
message Bad {
  option (sys.policy.v1.record) = { table: "bads" scope: { org: "org_id" } };
  option (sys.policy.v1.allow) = { verbs: [GET] member: true when: "this.publishd" };
  option (sys.policy.v1.allow) = { verbs: [GET, UPDATE] member: true when: "next.published" };
  option (sys.policy.v1.allow) = { verbs: [UPDATE] member: true when: "next.published" };
  option (sys.policy.v1.allow) = { verbs: [DELETE] member: true when: "this.published || !false" };
  string id = 1 [(sys.policy.v1.field) = { output_only: true }];
  string org_id = 2 [(sys.policy.v1.field) = { immutable: true }];
  bool published = 3 [(sys.policy.v1.field) = { read: { member: true when: "this.published == 1" } }];
}
service BadService {
  rpc Act(ActRequest) returns (ActRequest) {
    option (sys.policy.v1.method_allow) = { signed_in: true when: "this.published" };
    option (sys.policy.v1.method_allow) = { signed_in: true when: "request.nam == 'x'" };
  }
  rpc Ask(ActRequest) returns (ActRequest) {
    option (sys.policy.v1.method) = { step_up: { unless: "this.published" } };
    option (sys.policy.v1.method_allow) = { signed_in: true };
  }
  rpc Tell(ActRequest) returns (ActRequest) {
    option (sys.policy.v1.method) = { step_up: { unless: "request.name == '' || true" } };
    option (sys.policy.v1.method_allow) = { signed_in: true };
  }
}
message ActRequest { string name = 1; }
"#
        .to_owned(),
        Origin::Uploaded,
    );
    let problems = Rules::compile(&contract).expect_err("nothing of it loads");
    insta::assert_snapshot!(problems.to_string());
}
