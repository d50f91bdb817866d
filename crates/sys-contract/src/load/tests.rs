//! What loads, what it becomes, and every refusal with its place, fault and remedy.

use super::*;
use crate::{
    comment_of,
    model::{Home, Index, Level, Record, Role, Shape, Verb, Within},
};
use prost_protovalidate_types::FieldConstraintsExt;
use std::fmt::Write;

mod hostile;
mod odd;
mod refusals;

pub(super) const WHOLE: &str = include_str!("tests/whole.proto");
pub(super) const GLOBAL: &str = include_str!("tests/global.proto");
const MOD_NOTES: &str = include_str!("../../../../modules/mod-notes/notes/v1/notes.proto");

pub(super) fn source(path: &str, text: &str) -> SourceFile {
    SourceFile { path: path.to_owned(), text: text.to_owned() }
}

fn uploaded(text: &str) -> Result<Contract, Problems> {
    load("mod-notes", Origin::Uploaded, &[source("notes/v1/notes.proto", text)])
}

fn built_in(text: &str) -> Result<Contract, Problems> {
    load("sys-demo", Origin::BuiltIn, &[source("sys/demo/v1/demo.proto", text)])
}

fn record(contract: &Contract) -> &Record {
    contract.records.first().expect("one record")
}

/// One line for each thing that a contract says.
fn summary(contract: &Contract) -> String {
    let mut text = String::new();
    for service in &contract.services {
        writeln!(text, "{} ({}) {}", service.full_name, service.noun, service.place).unwrap();
        for method in &service.methods {
            let serve = method.serve.as_ref().map(|serve| (serve.verb, serve.record));
            let target = method.target.as_ref().map(|target| (target.record, target.id.len()));
            writeln!(
                text,
                "  {} serve {serve:?} target {target:?} reach {:?} elevate {:?} allow {} audit {} {}B {}ms {}",
                method.verb_name,
                method.reach,
                method.elevate,
                method.allow.len(),
                method.audit_full,
                method.max_request_bytes,
                method.deadline_ms,
                method.place
            )
            .unwrap();
        }
    }
    for record in &contract.records {
        writeln!(
            text,
            "{} {}_ table {} home {:?}",
            record.message.full_name(),
            record.prefix,
            record.table,
            record.home
        )
        .unwrap();
        for grant in &record.allow {
            writeln!(
                text,
                "  allow {:?} {:?} member {} owner {} signed_in {} public {} when {:?} {}",
                grant.verbs,
                grant.role,
                grant.member,
                grant.owner,
                grant.signed_in,
                grant.public,
                grant.when,
                grant.place
            )
            .unwrap();
        }
        for field in &record.fields {
            writeln!(
                text,
                "  {} output_only {} immutable {} index {:?} personal {} read {} write {} {}",
                field.descriptor.name(),
                field.output_only,
                field.immutable,
                field.index,
                field.personal,
                field.read.len(),
                field.write.len(),
                field.place
            )
            .unwrap();
        }
    }
    text
}

#[test]
fn the_whole_example_loads_into_what_it_says() {
    insta::assert_snapshot!(summary(&uploaded(WHOLE).unwrap()));
}

#[test]
fn a_global_record_loads_in_our_own_packages() {
    let contract = built_in(GLOBAL).unwrap();
    insta::assert_snapshot!(summary(&contract));
    let record = record(&contract);
    assert_eq!(record.home, Home::Global);
    assert_eq!(record.org.as_ref().map(|field| field.name()), Some("id"));
}

#[test]
fn mod_notes_loads_as_the_example_less_its_handler() {
    let contract = uploaded(MOD_NOTES).unwrap();
    let whole = uploaded(WHOLE).unwrap();
    let verbs = |contract: &Contract| -> Vec<_> {
        let methods = contract.services.iter().flat_map(|service| &service.methods);
        methods.map(|method| (method.verb_name.clone(), method.serve.as_ref().map(|serve| serve.verb))).collect()
    };
    let mut expected = verbs(&whole);
    assert_eq!(expected.pop(), Some(("publish".to_owned(), None)));
    expected.insert(3, ("count".to_owned(), Some(Verb::Count)));
    expected.insert(4, ("watch".to_owned(), Some(Verb::Watch)));
    assert_eq!(verbs(&contract), expected);
    let grants = |contract: &Contract| -> Vec<_> {
        record(contract)
            .allow
            .iter()
            .map(|grant| (grant.verbs.clone(), grant.role, grant.member, grant.owner))
            .collect()
    };
    assert_eq!(grants(&contract), grants(&whole));
}

#[test]
fn a_fresh_password_is_asked_of_accounts_alone_whoever_serves_the_method() {
    let served = WHOLE.replace("{ serve: DELETE }", "{ serve: DELETE step_up: {} }");
    let contract = uploaded(&served).unwrap();
    let method = contract.services[0].methods.iter().find(|method| method.verb_name == "delete").unwrap();
    assert!(method.step_up.as_ref().is_some_and(|step_up| step_up.unless.is_none()));
    let open = |verbs: &str| {
        served.replace(
            "{ verbs: [DELETE] role: ADMIN at: PROJECT }",
            &format!("{{ verbs: [{verbs}] public: true reveals: \"all\" }}"),
        )
    };
    let problems = uploaded(&open("DELETE")).unwrap_err();
    assert!(problems.to_string().contains("`step_up` on what anybody may call"), "{problems}");
    uploaded(&open("GET")).unwrap();
}

#[test]
fn each_grant_statement_has_its_own_line() {
    let contract = uploaded(WHOLE).unwrap();
    let lines: Vec<_> = record(&contract).allow.iter().map(|grant| grant.place.line).collect();
    let expected: Vec<_> =
        (1..).zip(WHOLE.lines()).filter(|(_, line)| line.contains(".allow)")).map(|(at, _)| at).collect();
    assert_eq!(lines, expected);
}

#[test]
fn grants_are_read_typed() {
    let contract = uploaded(WHOLE).unwrap();
    let [first, owner, _, member] = record(&contract).allow.as_slice() else { panic!("four grants") };
    assert_eq!(
        (first.verbs.as_slice(), first.role),
        ([Verb::Get, Verb::Create].as_slice(), Some((Role::User, Level::Project)))
    );
    assert!(owner.owner && owner.role.is_none());
    assert!(member.member);
    assert_eq!(member.when.as_deref(), Some("this.published"));
}

#[test]
fn shapes_name_the_parts_of_the_messages() {
    let contract = uploaded(WHOLE).unwrap();
    let shape = |verb: &str| {
        let methods = contract.services.iter().flat_map(|service| &service.methods);
        let method = methods.filter(|method| method.verb_name == verb).find_map(|method| method.serve.clone());
        method.unwrap().shape
    };
    let Shape::List { org, project, filter, order_by, items, .. } = shape("list") else { panic!("a list") };
    let names = [org, project, filter, order_by, Some(items)].map(|field| field.unwrap().name().to_owned());
    assert_eq!(names, ["org_id", "project_id", "filter", "order_by", "notes"]);
    assert!(
        matches!(shape("update"), Shape::Update { item, mask } if item.name() == "note" && mask.name() == "update_mask")
    );
    assert!(matches!(shape("delete"), Shape::Delete { etag: Some(_), .. }));
}

#[test]
fn unique_reaches_as_far_as_its_home_unless_it_says() {
    let within = |text: &str, field: &str| {
        let contract = if text.contains("sys.demo") { built_in(text) } else { uploaded(text) }.unwrap();
        record(&contract).fields.iter().find(|read| read.descriptor.name() == field).unwrap().index
    };
    let unique = WHOLE.replace("{ index: SEARCH }", "{ index: UNIQUE }");
    assert_eq!(within(&unique, "title"), Some(Index::Unique { within: Within::Org }));
    let owner = WHOLE.replace("{ index: SEARCH }", "{ index: UNIQUE within: OWNER }");
    assert_eq!(within(&owner, "title"), Some(Index::Unique { within: Within::Owner }));
    assert_eq!(within(GLOBAL, "name"), Some(Index::Unique { within: Within::System }));
}

#[test]
fn comments_are_kept() {
    let contract = uploaded(MOD_NOTES).unwrap();
    let service = contract.services.first().unwrap();
    assert_eq!(
        service.comment,
        "Notes that the people of a project write, keep to themselves or publish to their whole org."
    );
    assert_eq!(
        service.methods.first().unwrap().comment,
        "Writes a note into a project. The caller becomes its author."
    );
    let field = |name: &str| record(&contract).message.get_field_by_name(name).unwrap();
    assert_eq!(comment_of(&field("draft")), "Seen and written by the author alone.");
    let behind = uploaded(WHOLE).unwrap();
    assert_eq!(comment_of(&record(&behind).message.get_field_by_name("id").unwrap()), "");
    let author = record(&behind).message.get_field_by_name("author_id").unwrap();
    assert_eq!(comment_of(&author), "the caller, set on CREATE");
    let verb = contract.pool.get_enum_by_name("sys.policy.v1.Verb").unwrap().get_value_by_name("LIST").unwrap();
    assert!(comment_of(&verb).starts_with("Only in `serve`"));
}

#[test]
fn the_rules_of_protovalidate_are_in_the_pool() {
    let contract = uploaded(WHOLE).unwrap();
    let title = record(&contract).message.get_field_by_name("title").unwrap();
    let rules = title.field_constraints().unwrap().unwrap();
    assert!(format!("{rules:?}").contains("max_len: Some(200)"), "{rules:?}");
}

#[test]
fn the_records_behind_identity_need_no_rule_and_are_not_served() {
    let core = GLOBAL.replace("sys.demo.v1", "sys.core.v1").replace("home: GLOBAL scope", "home: GLOBAL  scope");
    let bare: String = core.lines().filter(|line| !line.contains(".allow)")).collect::<Vec<_>>().join("\n");
    let unserved: String = bare.lines().filter(|line| !line.contains("rpc GetOrg")).collect::<Vec<_>>().join("\n");
    assert!(built_in(&unserved).unwrap().records[0].allow.is_empty());
    let problems = built_in(&bare).unwrap_err();
    assert_eq!(problems.0.len(), 1, "{problems}");
    assert!(problems.to_string().contains("no grant of `Org` opens GET"), "{problems}");
}

#[test]
fn problems_come_all_at_once_and_sorted() {
    let text = WHOLE
        .replace("[(sys.policy.v1.field) = { immutable: true }]", "")
        .replace("role: USER at: PROJECT", "role: USER")
        .replace("{ serve: GET }", "{}");
    let problems = uploaded(&text).unwrap_err().0;
    let lines: Vec<_> = problems.iter().map(|problem| problem.place.line).collect();
    assert!(lines.is_sorted() && lines.len() == 4, "{problems:#?}");
}

#[test]
fn a_module_of_several_files_loads_in_any_order() {
    let messages = "syntax = \"proto3\"; package notes.v1; message Empty {}";
    let service = "syntax = \"proto3\"; package notes.v1; import \"notes/v1/m.proto\"; import \"sys/policy/v1/policy.proto\";\n\
        service PingService { rpc Ping(Empty) returns (Empty) { option (sys.policy.v1.method_allow) = { public: true }; } }";
    let files = [source("notes/v1/a.proto", service), source("notes/v1/m.proto", messages)];
    let contract = load("mod-ping", Origin::Uploaded, &files).unwrap();
    assert_eq!(contract.files, ["notes/v1/a.proto", "notes/v1/m.proto"]);
    let reversed = load("mod-ping", Origin::Uploaded, &[files[1].clone(), files[0].clone()]).unwrap();
    assert_eq!(reversed.file_descriptor_set(), contract.file_descriptor_set());
}
