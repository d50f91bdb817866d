//! Commands, help and completion.

use super::{command, notes, received, sent, served};
use crate::{
    command_tree::Tree,
    complete,
    failure::Failure,
    flags::{Given, MAX_FLAGS},
};
use clap::{Arg, Command};
use std::{fs, path::Path};
use sys_client::{CallError, Code, FieldViolation, Refused};
use sys_contract::{Origin, SourceFile};

fn find<'a>(root: &'a Command, path: &[&str]) -> &'a Command {
    path.iter().fold(root, |command, name| command.find_subcommand(name).unwrap_or_else(|| panic!("no {name}")))
}

fn flags(command: &Command) -> Vec<String> {
    command.get_arguments().filter_map(Arg::get_long).map(str::to_owned).collect()
}

fn help(tree: &Tree, path: &[&str]) -> String {
    let words = std::iter::once("sys").chain(path.iter().copied()).chain(["--help"]);
    let Err(help) = command(tree).try_get_matches_from(words) else { panic!("--help is no command") };
    help.to_string()
}

fn completed(tree: &Tree, line: &str) -> Vec<String> {
    let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
    let candidates = complete::candidates(&command(tree), &words);
    candidates.into_iter().map(|line| line.split('\t').next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn a_module_without_code_has_all_its_commands() {
    let tree = notes();
    let command = command(&tree);
    command.clone().debug_assert();
    let verbs: Vec<&str> = find(&command, &["note"]).get_subcommands().map(Command::get_name).collect();
    assert_eq!(verbs, ["count", "create", "delete", "get", "list", "update", "watch"]);
}

#[test]
fn flags_are_the_fields_that_a_caller_may_write() {
    let command = command(&notes());
    let flags = |verb: &str| flags(find(&command, &["note", verb]));
    assert_eq!(flags("create"), ["org-id", "project-id", "title", "published", "draft"]);
    assert_eq!(flags("get"), [""; 0]);
    assert_eq!(flags("count"), ["org-id", "project-id", "filter"]);
    assert_eq!(
        flags("list"),
        ["org-id", "project-id", "filter", "order-by", "page-size", "page-token", "all", "watch"]
    );
    assert_eq!(flags("watch"), ["org-id", "project-id", "filter", "resume-token"]);
    assert_eq!(flags("update"), ["title", "published", "draft", "etag", "clear"]);
    assert_eq!(flags("delete"), ["etag"]);
    for verb in ["get", "update", "delete"] {
        let ids: Vec<&str> =
            find(&command, &["note", verb]).get_positionals().map(|arg| arg.get_id().as_str()).collect();
        assert_eq!(ids, ["id"], "{verb}");
    }
}

#[test]
fn comments_are_the_help_and_examples_are_derived() {
    let tree = notes();
    let list = help(&tree, &["note", "list"]);
    assert!(list.contains("Lists the notes of an org that the caller may read."), "{list}");
    assert!(list.contains("A condition in the CEL subset"), "{list}");
    assert!(list.contains("sys note list --org-id ORG_ID --all --output json"), "{list}");
    let create = help(&tree, &["note", "create"]);
    assert!(create.contains("sys note create --org-id ORG_ID --project-id PROJECT_ID --title TEXT"), "{create}");
    assert!(create.contains("Seen and written by the author alone."), "{create}");
    let update = help(&tree, &["note", "update"]);
    assert!(update.contains("sys note update ID --title TEXT"), "{update}");
    let root = help(&tree, &[]);
    assert!(root.contains("note        Notes that the people of a project write"), "{root}");
    assert!(root.contains("Exit codes:") && root.contains("  8  rate limited"), "{root}");
}

#[test]
fn what_a_caller_may_not_call_is_no_command() {
    let text = include_str!("../../../../modules/mod-notes/notes/v1/notes.proto");
    let source = SourceFile { path: "notes/v1/notes.proto".to_owned(), text: text.to_owned() };
    let contract = sys_contract::load("mod-notes", Origin::Uploaded, &[source]).expect("a contract");
    let tree = Tree::of(&[received(&contract, |method| method.path.ends_with("/GetNote"))]);
    let verbs: Vec<&String> = tree.nouns["note"].verbs.keys().collect();
    assert_eq!(verbs, ["get"]);
    command(&tree).debug_assert();
}

#[test]
fn the_projects_own_contract_has_the_commands_that_the_tour_shows() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto/sys/account/v1");
    let sources: Vec<SourceFile> = fs::read_dir(folder)
        .expect("the contract")
        .map(|entry| {
            let entry = entry.expect("a file");
            let path = format!("sys/account/v1/{}", entry.file_name().to_string_lossy());
            SourceFile { path, text: fs::read_to_string(entry.path()).expect("its text") }
        })
        .collect();
    let contract =
        sys_contract::load("sys-account", Origin::BuiltIn, &sources).unwrap_or_else(|problems| panic!("{problems}"));
    let tree = Tree::of(&[received(&contract, |_| true)]);
    command(&tree).debug_assert();
    for words in [
        &["org", "list"][..],
        &["org", "list", "--filter", "listed", "--order-by", "id desc", "--page-size", "5", "--all"],
        &["project", "create", "--org-id", "org_1", "--name", "N"],
        &["account", "get", "account_1"],
        &["org", "update", "org_1", "--name", "N"],
    ] {
        assert!(sent(&tree, words).is_ok(), "{words:?}: {:?}", sent(&tree, words));
    }
    assert!(help(&tree, &["org", "list"]).contains("\n  sys org list --all --output json"));
    // The mails of sys-account say to write these as they stand here: the rest is asked for.
    for words in [
        &["auth", "verify-email"][..],
        &["auth", "reset-password"],
        &["auth", "confirm-email"],
        &["auth", "change-password"],
        &["auth", "forgot-password", "--email", "a@example.org"],
        &["membership", "accept-invitation"],
        &["membership", "accept-invitation", "invitation_1"],
        &["membership", "decline-invitation"],
    ] {
        let words = [words, &["--server", "http://127.0.0.1:8443"]].concat();
        assert!(sent(&tree, &words).is_ok(), "{words:?}: {:?}", sent(&tree, &words));
    }
    let flags_of_all = tree.nouns.values().flat_map(|noun| noun.verbs.values()).flat_map(|verb| &verb.flags.all);
    let secrets = flags_of_all.filter(|flag| flag.long.ends_with("token") && flag.long != "page-token");
    assert_eq!(secrets.filter(|flag| flag.given == Given::Aside).count(), 5, "no token of a mail on a command line");
    // These hand out or take tokens: they have commands of their own, or none.
    for verb in ["login", "refresh", "logout", "setup", "step-up", "who-am-i"] {
        assert!(tree.verb("auth", verb).is_none(), "sys auth {verb}");
    }
    assert!(tree.verb("auth", "register").is_some());
    // What a token alone is not enough for takes the password aside, and nothing else does.
    let command = command(&tree);
    let takes =
        |noun: &str, verb: &str| flags(find(&command, &[noun, verb])).iter().any(|flag| flag == "password-stdin");
    for (noun, verb) in
        [("account", "delete"), ("org", "delete"), ("session", "revoke-all"), ("membership", "assign-role")]
    {
        assert!(takes(noun, verb), "{noun} {verb}");
    }
    assert!(!takes("org", "update") && !takes("session", "list") && !takes("session", "revoke"));
}

#[test]
fn nouns_verbs_flags_and_values_complete() {
    let tree = notes();
    assert_eq!(completed(&tree, "no"), ["note"]);
    assert_eq!(completed(&tree, "lo"), ["login", "logout"]);
    assert_eq!(completed(&tree, "note "), ["count", "create", "delete", "get", "list", "update", "watch"]);
    assert_eq!(completed(&tree, "note l"), ["list"]);
    assert_eq!(completed(&tree, "note create --p"), ["--project-id", "--published"]);
    assert_eq!(completed(&tree, "note --server http://a create --t"), ["--title"]);
    assert_eq!(completed(&tree, "note list --output "), ["table", "json", "yaml"]);
    assert_eq!(completed(&tree, "note list --output=j"), ["--output=json"]);
    assert_eq!(completed(&tree, "note create --published=t"), ["--published=true"]);
    assert_eq!(completed(&tree, "note create --published --t"), ["--title"]);
    assert_eq!(completed(&tree, "completion "), ["bash", "zsh", "fish"]);
    assert_eq!(completed(&tree, "note list --filter "), [""; 0]);
    assert!(completed(&tree, "").contains(&"whoami".to_owned()));
    assert_eq!(complete::candidates(&command(&tree), &[]).len(), completed(&tree, "").len());
}

#[test]
fn completion_never_offers_the_flag_that_is_refused() {
    assert_eq!(completed(&notes(), "login --pass"), ["--password-stdin"]);
}

#[test]
fn no_service_takes_a_command_of_the_programs_own() {
    // A server refuses such a contract; a client must not depend on that.
    let pools: Vec<_> = ["LoginService", "HelpService", "Check", "GoodService"]
        .map(|name| {
            let file = prost_reflect::prost_types::FileDescriptorProto {
                name: Some("a.proto".into()),
                package: Some("a".into()),
                syntax: Some("proto3".into()),
                message_type: vec![prost_reflect::prost_types::DescriptorProto {
                    name: Some("M".into()),
                    ..Default::default()
                }],
                service: vec![prost_reflect::prost_types::ServiceDescriptorProto {
                    name: Some(name.into()),
                    method: vec![prost_reflect::prost_types::MethodDescriptorProto {
                        name: Some("Ping".into()),
                        input_type: Some(".a.M".into()),
                        output_type: Some(".a.M".into()),
                        ..Default::default()
                    }],
                    options: None,
                }],
                ..Default::default()
            };
            let set = prost_reflect::prost_types::FileDescriptorSet { file: vec![file] };
            prost_reflect::DescriptorPool::from_file_descriptor_set(set).expect("a pool")
        })
        .into();
    let tree = Tree::of(&pools);
    assert_eq!(tree.nouns.keys().collect::<Vec<_>>(), ["good"]);
    command(&tree).debug_assert();
}

#[test]
fn a_field_at_fault_is_named_by_its_flag() {
    let tree = notes();
    let refused = Refused {
        code: Code::InvalidArgument,
        reason: Some("INVALID_ARGUMENT".into()),
        message: "the request is not valid".into(),
        fields: vec![FieldViolation { field: "note.title".into(), description: "is empty".into() }],
        help: None,
    };
    let report = Failure::from(CallError::Refused(Box::new(refused))).report(tree.verb("note", "create"));
    assert!(report.contains("\n  --title (note.title): is empty"), "{report}");
}

#[test]
fn a_request_that_nests_without_end_has_a_bounded_command_line() {
    let fields: String =
        (1..=9).map(|number| format!("  Knot k{number} = {number};\n  Other o{number} = 1{number};\n")).collect();
    let other: String = (1..=9).map(|number| format!("  Deep d{number} = {number};\n")).collect();
    let deep: String = (1..=9).map(|number| format!("  Other o{number} = {number};\n")).collect();
    let text = format!(
        "syntax = \"proto3\";\npackage knots.v1;\nimport \"sys/policy/v1/policy.proto\";\n\
         // Knots.\nservice KnotService {{ rpc Tie(Knot) returns (Knot) {{ option (sys.policy.v1.method_allow) = {{public: true}}; }} }}\n\
         message Knot {{\n{fields}}}\nmessage Other {{\n{other}}}\nmessage Deep {{\n{deep}}}\n"
    );
    let tree = Tree::of(&[served("mod-knots", "knots/v1/knots.proto", &text)]);
    let command = command(&tree);
    command.clone().debug_assert();
    let count = find(&command, &["knot", "tie"]).get_arguments().count();
    assert!(count > 9 && count <= MAX_FLAGS + 2, "{count}");
}
