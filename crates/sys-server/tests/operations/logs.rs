//! What the server logs, and what it must not.

use crate::{
    LOGIN, PASSWORD, REGISTER, SETUP, json_of,
    server::{Server, eventually},
};
use serde_json::{Value, json};
use std::{fs, io::Write, net::TcpStream, path::Path};

const CREATE_NOTE: &str = "notes.v1.NoteService/CreateNote";

/// An organisation with one writer, to be imported.
pub(crate) const ORGANISATION: &str = "
orgs:
  main_bootstrap_orgs:
    - org: {name: canary-org, contact: canary-contact@example.org, creator_id: canary-contact@example.org}
projects:
  main_bootstrap_projects:
    - project: {name: canary-project, creator_id: canary-contact@example.org, org_name: canary-org}
regular_users:
  main_bootstrap_regular_users:
    - newaccounts:
        email: canary-writer@example.org
        password: canary passphrase
        new_user_roles:
          - {role: 2, project_name: canary-project}
";

/// Everything that the server's lines say, one JSON object each.
fn lines(log: &str) -> Vec<Value> {
    log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// Does with a server what people do and what they do wrong; all that they typed and all tokens that they got.
pub(crate) fn a_day(server: &Server) -> Vec<String> {
    let token = |body: &str, name: &str| json_of(body)[name].as_str().unwrap_or_default().to_owned();
    let setup = json!({"token": server.setup_token, "email": "canary-root@example.org", "password": PASSWORD,
        "displayName": "canary-name"});
    let (_, root) = server.call(SETUP, None, &setup.to_string());
    let login = |password: &str| json!({"email": "canary-writer@example.org", "password": password, "deviceName": "canary-device"});
    let (status, writer) = server.call(LOGIN, None, &login("canary passphrase").to_string());
    assert_eq!(status, 200, "{writer}");
    let access = token(&writer, "accessToken");
    server.call(LOGIN, None, &login("canary guess").to_string());
    let (_, me) = server.call("sys.account.v1.AuthService/WhoAmI", Some(&access), "{}");
    let me = json_of(&me);
    let role = &me["bindings"][0];
    let note = json!({"note": {"orgId": role["orgId"], "projectId": role["projectId"], "title": "canary-title", "draft": "canary-draft"}});
    let (status, created) = server.call(CREATE_NOTE, Some(&access), &note.to_string());
    assert_eq!(status, 200, "{created} {me}");
    server.call(CREATE_NOTE, Some(&access), &note.to_string().replace("title", "canary-field"));
    server.call(CREATE_NOTE, Some(&access), "{\"canary-malformed");
    server.call(CREATE_NOTE, Some("canary-token"), "{}");
    let list = json!({"orgId": role["orgId"], "filter": "title == 'canary-filter' &&"});
    server.call("notes.v1.NoteService/ListNotes", Some(&access), &list.to_string());
    let new = json!({"email": "canary-new@example.org", "password": "canary chosen", "displayName": "canary-new"});
    assert_eq!(server.call(REGISTER, None, &new.to_string()).0, 200);
    let _mail = eventually("a mail", || fs::read_dir(server.dir.path().join("data/outbox")).ok()?.next());
    // No HTTP at all.
    write!(TcpStream::connect(server.addr).unwrap(), "canary-garbage\r\n\r\n").unwrap();
    eventually("the end of the garbage", || server.log().contains("connection ended early").then_some(()));
    let tokens = ["accessToken", "refreshToken"].map(|name| [token(&root, name), token(&writer, name)]).concat();
    assert!(tokens.iter().all(|token| token.len() > 20));
    tokens.into_iter().chain([server.setup_token.clone(), PASSWORD.to_owned()]).collect()
}

#[test]
fn fault_22_no_personal_value_and_no_token_is_logged_however_much_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let organisation = dir.path().join("organisation.yaml");
    fs::write(&organisation, ORGANISATION).unwrap();
    let import = ["--bootstrap", organisation.to_str().unwrap()];
    let server = Server::start(&[&import[..], &["--log", "trace", "--log-format", "json"]].concat());
    let secrets = a_day(&server);
    server.terminate();
    let (_, dir) = server.ended();
    let log = fs::read_to_string(dir.path().join("log")).unwrap();
    for (line, text) in lines(&log).iter().zip(log.lines()) {
        let target = line["target"].as_str().unwrap_or_default();
        assert!(target.starts_with("sys_") || ["WARN", "ERROR"].contains(&line["level"].as_str().unwrap()), "{text}");
        assert!(!text.contains("canary"), "{text}");
        assert!(!secrets.iter().any(|secret| text.contains(secret.as_str())), "{text}");
    }
    // That the finer levels were on shows what is said of a call.
    let call = lines(&log).into_iter().find(|line| line["message"] == "call" && line["method"] == CREATE_NOTE);
    let call = call.unwrap_or_else(|| panic!("no call in {log}"));
    assert_eq!((&call["level"], &call["outcome"]), (&json!("DEBUG"), &json!("OK")));
    assert!(is_kept(dir.path()), "the canary is not where it belongs, so that its absence shows nothing");
}

/// Whether the mail, which is the one readable thing, holds what was typed.
fn is_kept(dir: &Path) -> bool {
    let mails = fs::read_dir(dir.join("data/outbox")).unwrap();
    mails
        .map(|mail| fs::read_to_string(mail.unwrap().path()).unwrap())
        .any(|mail| mail.contains("canary-new@example.org"))
}

#[test]
fn without_a_word_of_the_operator_the_log_is_short_and_in_text() {
    let server = Server::start(&[]);
    server.call(LOGIN, None, "{}");
    server.terminate();
    let (_, dir) = server.ended();
    let log = fs::read_to_string(dir.path().join("log")).unwrap();
    let said: Vec<&str> = log.lines().filter_map(|line| line.split_once("INFO ").map(|(_, said)| said)).collect();
    assert_eq!(log.lines().count(), said.len(), "{log}");
    // One more where the machine does not allow memory to be locked.
    let said: Vec<&str> = said.into_iter().filter(|said| !said.starts_with("memory may go to swap")).collect();
    assert_eq!(said.len(), 2, "{log}");
    assert!(said[0].starts_with("stopping") && said[1].starts_with("stopped"), "{log}");
}
