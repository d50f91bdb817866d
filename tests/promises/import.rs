//! An import brings all of a file or nothing, says what is wrong by the line, and leaves no password that everybody knows.

use serde_json::{Value, json};
use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt};
use sys_tests::{Options, TestServer, workspace};

const LIST_ORGS: &str = "sys.account.v1.OrgService/ListOrgs";
const LOGIN: &str = "sys.account.v1.AuthService/Login";

fn demo() -> String {
    fs::read_to_string(workspace().join("demo/bootstrap.yaml")).unwrap()
}

/// The text with this line (counted from 1) in place of the one that stands there, indented as it is.
fn with_line(text: &str, number: usize, line: &str) -> String {
    let lines = text.lines().enumerate().map(|(at, old)| {
        let indent = old.len() - old.trim_start().len();
        if at + 1 == number { format!("{}{line}\n", &old[..indent]) } else { format!("{old}\n") }
    });
    lines.collect()
}

/// The number of the last line that holds this.
fn last_line_with(text: &str, needle: &str) -> usize {
    text.lines().enumerate().filter(|(_, line)| line.contains(needle)).last().expect("such a line").0 + 1
}

#[tokio::test]
async fn a_file_with_errors_is_refused_by_the_line_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (data_dir, file) = (dir.path().join("data"), dir.path().join("bootstrap.yaml"));
    let options = || Options { data_dir: Some(data_dir.clone()), ..Options::default() };
    let good = demo();
    // The last of everything is wrong, when all else would have come in already.
    let (role, email) = (last_line_with(&good, "role: "), last_line_with(&good, " email: "));
    let project = last_line_with(&good, "org_name: Hollow Hill Growers");
    let mut bad = with_line(&good, role, "- role: 4");
    bad = with_line(&bad, email, "email: nobody");
    bad = with_line(&bad, project, "org_name: Nowhere");
    for (text, lines) in
        [(bad, vec![project, email, role]), ("orgs: [".to_owned(), vec![1]), ("\0".to_owned(), vec![1])]
    {
        fs::write(&file, text).unwrap();
        let tried = TestServer::try_start(Options { bootstrap: Some(file.clone()), ..options() }).await;
        let error = format!("{:#}", tried.expect_err("a file with errors"));
        assert!(error.contains("nothing was imported"), "{error}");
        for line in lines {
            assert!(error.contains(&format!("line {line}:")), "no line {line}: {error}");
        }
    }
    let gone = TestServer::try_start(Options { bootstrap: Some(dir.path().join("absent.yaml")), ..options() }).await;
    assert!(format!("{:#}", gone.expect_err("no file")).contains("absent.yaml"));

    let server = TestServer::start_with(options()).await;
    let root = server.superadmin().await;
    assert_eq!(root.call(LIST_ORGS, json!({})).await.ok(), json!({}), "half of it came in");
    assert!(!data_dir.join("passwords.txt").exists());
    server.stop().await;
    // The control: the same file without its errors.
    fs::write(&file, good).unwrap();
    let server = TestServer::start_with(Options { bootstrap: Some(file), ..options() }).await;
    assert_eq!(server.imported.as_ref().unwrap().orgs, 2);
    server.stop().await;
}

#[tokio::test]
async fn passwords_that_a_file_lacks_are_drawn_and_left_for_the_operator_alone() {
    let bootstrap = Some(workspace().join("demo/bootstrap.yaml"));
    let server = TestServer::start_with(Options { bootstrap, ..Options::default() }).await;
    let file: Value = serde_saphyr::from_str(&demo()).unwrap();
    let accounts = file["regular_users"]["main_bootstrap_regular_users"].as_array().unwrap();
    let path = server.data_dir().join("passwords.txt");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let text = fs::read_to_string(&path).unwrap();
    let passwords: BTreeMap<&str, &str> = text.lines().map(|line| line.split_once(' ').unwrap()).collect();
    assert_eq!(passwords.len(), accounts.len());
    assert_eq!(server.imported.as_ref().unwrap().accounts, accounts.len());
    let mut different: Vec<&str> = passwords.values().copied().collect();
    different.sort_unstable();
    different.dedup();
    assert_eq!(different.len(), passwords.len(), "one password for two");

    let (email, password) = passwords.first_key_value().unwrap();
    let pair = server.call(LOGIN, json!({"email": email, "password": password})).await.ok();
    let person = server.person(email, &pair);
    assert!(!person.call(LIST_ORGS, json!({})).await.ok()["orgs"].as_array().unwrap().is_empty());
    let (_, others) = passwords.last_key_value().unwrap();
    server.call(LOGIN, json!({"email": email, "password": others})).await.refused("unauthenticated");
    server.stop().await;
}
