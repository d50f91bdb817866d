//! `sys-server end-sessions` and `change-passphrase` as an operator uses them.

use crate::{
    LOGIN, PASSWORD, SETUP, json_of,
    server::{Server, program},
    superadmin,
};
use serde_json::json;
use std::{fs, os::unix::fs::PermissionsExt, path::Path};
use tempfile::TempDir;

const WHO_AM_I: &str = "sys.account.v1.AuthService/WhoAmI";
const REFRESH: &str = "sys.account.v1.AuthService/Refresh";
const KEY: [&str; 2] = ["--danger-key-file", "data/danger-master.key"];

/// What a command ended with, and what it said.
fn run(dir: &Path, command: &[&str]) -> (bool, String) {
    let output = program().current_dir(dir).args(command).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

fn secret(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// A directory that a server has used.
fn used() -> TempDir {
    let server = Server::start(&[]);
    superadmin(&server);
    stopped(server)
}

fn stopped(server: Server) -> TempDir {
    server.terminate();
    let (ended, dir) = server.ended();
    assert!(ended.success());
    dir
}

#[test]
fn no_session_and_no_token_from_before_is_good_once_all_were_ended() {
    let server = Server::start(&[]);
    let setup = json!({"token": server.setup_token, "email": "root@example.org", "password": PASSWORD});
    let (status, body) = server.call(SETUP, None, &setup.to_string());
    assert_eq!(status, 200, "{body}");
    let pair = json_of(&body);
    let (access, refresh) = (pair["accessToken"].as_str().unwrap(), json!({"refreshToken": pair["refreshToken"]}));
    assert_eq!(server.call(WHO_AM_I, Some(access), "{}").0, 200);
    let end = [&["end-sessions", "--data-dir", "data"], &KEY[..]].concat();
    let (done, said) = run(server.dir.path(), &end);
    assert!(!done && said.contains("stop the server"), "{said}");

    let dir = stopped(server);
    let (done, said) = run(dir.path(), &end);
    assert!(
        done && said
            == "sessions that were ended: 1; one-time tokens that are void: 0; invitations that were withdrawn: 0\n",
        "{said}"
    );
    assert_eq!(
        run(dir.path(), &end).1,
        "sessions that were ended: 0; one-time tokens that are void: 0; invitations that were withdrawn: 0\n"
    );
    let server = Server::start_in(dir, &[]);
    assert_eq!(server.call(WHO_AM_I, Some(access), "{}").0, 401);
    assert_eq!(server.call(REFRESH, None, &refresh.to_string()).0, 401);
    let login = json!({"email": "root@example.org", "password": PASSWORD});
    assert_eq!(server.call(LOGIN, None, &login.to_string()).0, 200);
}

#[test]
fn a_changed_passphrase_opens_and_what_opened_before_does_not() {
    let dir = used();
    let path = |name: &str| dir.path().join(name);
    secret(&path("one"), "the first passphrase\n");
    secret(&path("two"), "the second passphrase\n");
    let change = |old: [&str; 2], new: &str| {
        let words = [&["change-passphrase", "--data-dir", "data"], &old[..], &["--new-passphrase-file", new]].concat();
        run(dir.path(), &words)
    };
    let opens = |key: [&str; 2]| run(dir.path(), &[&["doctor", "--data-dir", "data"], &key[..]].concat()).0;
    let (one, two) = (["--passphrase-file", "one"], ["--passphrase-file", "two"]);
    let (done, said) = change(KEY, "one");
    assert!(done && said.contains("data/keys.sys opens by the new passphrase"), "{said}");
    assert!(said.contains("destroy them and data/danger-master.key"), "{said}");
    assert!(opens(one) && !opens(KEY));
    let before = fs::read(path("data/keys.sys")).unwrap();
    let (done, said) = change(two, "one");
    assert!(!done && said.contains("is not changed: the master key does not open"), "{said}");
    secret(&path("short"), "short\n");
    let (done, said) = change(one, "short");
    assert!(!done && said.contains("choose a longer one"), "{said}");
    assert_eq!(fs::read(path("data/keys.sys")).unwrap(), before, "what was refused changed nothing");
    assert!(change(one, "two").0);
    assert!(opens(two) && !opens(one));
}

#[test]
fn a_name_that_was_mistyped_makes_no_data_directory() {
    let dir = tempfile::tempdir().unwrap();
    secret(&dir.path().join("passphrase"), "a passphrase of nobody\n");
    fs::create_dir(dir.path().join("empty")).unwrap();
    fs::write(dir.path().join("file"), "text").unwrap();
    for (name, expect) in [("nowhere", "is no directory"), ("file", "is no directory"), ("empty", "has no store")] {
        let key = ["--data-dir", name, "--passphrase-file", "passphrase"];
        let change = [&["change-passphrase"], &key[..], &["--new-passphrase-file", "passphrase"]].concat();
        for command in [[&["end-sessions"], &key[..]].concat(), change] {
            let (done, said) = run(dir.path(), &command);
            assert!(!done && said.contains(expect), "{said}");
        }
    }
    assert!(!dir.path().join("nowhere").exists());
    assert_eq!(fs::read_dir(dir.path().join("empty")).unwrap().count(), 0);
}
