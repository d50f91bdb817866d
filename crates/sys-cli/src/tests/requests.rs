//! What command lines send: hoisted records, masks, ids, pages.

use super::{command, notes, sent, served};
use crate::{
    command_tree::Tree,
    request::RequestError,
    secret::{SecretError, Secrets},
};
use serde_json::json;
use zeroize::Zeroizing;

#[test]
fn create_sends_the_record_of_its_flags() {
    let words =
        ["note", "create", "--org-id", "org_1", "--project-id", "project_1", "--title", "A plan", "--published"];
    let expect =
        json!({ "note": { "org_id": "org_1", "project_id": "project_1", "title": "A plan", "published": true } });
    assert_eq!(sent(&notes(), &words), Ok(expect));
}

#[test]
fn get_and_delete_take_the_id_without_a_flag() {
    let tree = notes();
    assert_eq!(sent(&tree, &["note", "get", "note_1"]), Ok(json!({ "id": "note_1" })));
    assert_eq!(sent(&tree, &["note", "delete", "note_1", "--etag", "e"]), Ok(json!({ "id": "note_1", "etag": "e" })));
    assert!(sent(&tree, &["note", "get"]).is_err_and(|error| error.contains("<ID>")));
}

#[test]
fn update_changes_what_was_given_and_nothing_else() {
    let tree = notes();
    let check = |words: &[&str], note: serde_json::Value, mask: &str| {
        let words = [&["note", "update", "note_1"], words].concat();
        let mut note = note;
        note["id"] = "note_1".into();
        assert_eq!(sent(&tree, &words), Ok(json!({ "note": note, "update_mask": mask })), "{words:?}");
    };
    check(&["--title", "B"], json!({ "title": "B" }), "title");
    check(&["--published=false"], json!({}), "published");
    check(&["--published", "--draft", ""], json!({ "published": true }), "published,draft");
    check(&["--title", "B", "--etag", "e"], json!({ "title": "B", "etag": "e" }), "title");
    check(&["--clear", "draft"], json!({}), "draft");
    check(&["--clear", "draft", "--clear", "title"], json!({}), "title,draft");
}

#[test]
fn an_update_of_nothing_or_of_what_cannot_change_is_refused() {
    let tree = notes();
    for words in [&["note", "update", "note_1"][..], &["note", "update", "note_1", "--etag", "e"]] {
        assert_eq!(sent(&tree, words), Err("nothing to change: give at least one field".into()));
    }
    for flag in ["--org-id", "--project-id", "--author-id", "--id"] {
        let error = sent(&tree, &["note", "update", "note_1", flag, "x"]).expect_err(flag);
        assert!(error.contains("unexpected argument"), "{error}");
    }
    let error = sent(&tree, &["note", "update", "note_1", "--title", "B", "--clear", "title"]).expect_err("both");
    assert_eq!(error, "--title and `--clear title` exclude each other");
    assert!(sent(&tree, &["note", "update", "note_1", "--clear", "org-id"]).is_err());
}

#[test]
fn list_sends_filter_order_and_page() {
    let words = ["note", "list", "--org-id", "org_1", "--filter", "published && title.startsWith(\"a\")"];
    let words = [&words[..], &["--order-by", "id desc", "--page-size", "5", "--page-token", "t"]].concat();
    let expect = json!({
        "org_id": "org_1", "filter": "published && title.startsWith(\"a\")", "order_by": "id desc",
        "page_size": 5, "page_token": "t",
    });
    assert_eq!(sent(&notes(), &words), Ok(expect));
    assert_eq!(sent(&notes(), &["note", "list", "--page-size", "-1"]), Ok(json!({ "page_size": -1 })));
}

#[test]
fn what_excludes_each_other_or_is_no_value_is_refused_before_anything_is_sent() {
    let tree = notes();
    for (words, expect) in [
        (&["note", "list", "--all", "--page-token", "t"][..], "cannot be used with"),
        (&["note", "list", "--page-size", "many"], "not a number"),
        (&["note", "list", "--page-size", "99999999999"], "not a number"),
        (&["note", "create", "--published=maybe"], "possible values: true, false"),
        (&["note", "create", "--titel", "x"], "--title"),
        (&["note", "create", "--title"], "a value is required"),
        (&["note", "creat"], "create"),
    ] {
        let error = sent(&tree, words).expect_err("refused");
        assert!(error.contains(expect), "{error}");
    }
}

/// Somebody at a terminal, and what he was asked for.
struct Typed(Vec<&'static str>, Vec<String>);

impl Secrets for Typed {
    fn read(&mut self, name: &str, _: bool) -> Result<Option<Zeroizing<String>>, SecretError> {
        self.1.push(name.to_owned());
        Ok(Some(Zeroizing::new(self.0.remove(0).to_owned())))
    }
}

const DOOR: &str = "syntax = \"proto3\"; package demo.v1; import \"sys/policy/v1/policy.proto\";
    service DoorService {
      rpc Lock(LockRequest) returns (LockRequest) { option (sys.policy.v1.method_allow) = { signed_in: true }; }
      rpc Open(OpenRequest) returns (OpenRequest) { option (sys.policy.v1.method_allow) = { signed_in: true }; }
    }
    message LockRequest { string password = 1; string new_password = 2; string resume_token = 3; }
    message OpenRequest { string id = 1; string token = 2; }";

/// What the command sends and asks for.
fn typed(words: &[&str], typed: &[&'static str]) -> Result<(serde_json::Value, Vec<String>), RequestError> {
    let tree = Tree::of(&[served("demo", "demo/v1/door.proto", DOOR)]);
    let matches = command(&tree).try_get_matches_from(words).expect("parsed");
    let (name, matches) = matches.subcommand().and_then(|(_, door)| door.subcommand()).expect("a verb");
    let mut terminal = Typed(typed.to_vec(), Vec::new());
    let request = tree.verb("door", name).expect("the method").request(matches, &mut terminal)?;
    Ok((serde_json::to_value(&request).expect("JSON"), terminal.1))
}

#[test]
fn a_one_time_token_is_asked_for_unless_an_id_stands_in_its_place() {
    let asked = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let by_token = typed(&["sys", "door", "open"], &["  -once\t"]).expect("a request");
    assert_eq!(by_token, (json!({ "token": "-once" }), asked(&["token"])));
    let by_id = typed(&["sys", "door", "open", "door_1"], &[]).expect("a request");
    assert_eq!(by_id, (json!({ "id": "door_1" }), asked(&[])));
    // Whoever says both is told by the server.
    let both = typed(&["sys", "door", "open", "door_1", "--token-stdin"], &["once"]).expect("a request");
    assert_eq!(both, (json!({ "id": "door_1", "token": "once" }), asked(&["token"])));
    let tree = Tree::of(&[served("demo", "demo/v1/door.proto", DOOR)]);
    let error = sent(&tree, &["door", "open", "--token", "once"]).expect_err("an argument");
    assert!(error.contains("unexpected argument '--token'") && error.contains("'--token-stdin'"), "{error}");
    let flags = &tree.verb("door", "lock").expect("the method").flags;
    assert!(flags.at("resume_token").is_some_and(|flag| flag.shown() == "--resume-token"), "not a secret");
}

#[test]
fn a_password_that_is_being_chosen_is_typed_twice_and_one_that_is_shown_once() {
    let lock = |words: &[&'static str]| typed(&["sys", "door", "lock"], words);
    let (request, _) = lock(&["old", "new", "new"]).expect("a request");
    assert_eq!(request, json!({ "password": "old", "newPassword": "new" }));
    assert!(matches!(lock(&["old", "new", "mew"]), Err(RequestError::Secret(SecretError::Differ))));
}
