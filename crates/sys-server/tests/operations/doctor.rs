//! `sys-server doctor` as scripts use it: what it ends with, and what it leaves alone.

use crate::server::{Server, program};
use serde_json::Value;
use std::{fs, os::unix::fs::PermissionsExt, path::Path};

/// What it ended with, and what it said.
fn doctor(data: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = program();
    command.arg("doctor").arg("--data-dir").arg(data).arg("--danger-key-file").arg(data.join("danger-master.key"));
    let output = command.args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn its_exit_code_says_what_a_script_must_know() {
    let server = Server::start(&[]);
    let data = server.dir.path().join("data");
    let (code, said, error) = doctor(&data, &["--repair"]);
    assert_eq!((code, said.as_str()), (Some(2), ""), "a server runs there");
    assert!(error.contains("is in use: stop the server that runs on it"), "{error}");
    assert!(!error.contains('\r'), "no progress where nobody looks: {error}");
    server.terminate();
    let (ended, dir) = server.ended();
    assert!(ended.success());

    let data = dir.path().join("data");
    let (code, said, _) = doctor(&data, &[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.ends_with(": nothing is wrong\n"), "{said}");
    fs::set_permissions(data.join("store.redb"), fs::Permissions::from_mode(0o644)).unwrap();
    let (code, said, _) = doctor(&data, &["--output", "json"]);
    let json: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &json["clean"], &json["files"][0]["fault"]), (Some(1), &false.into(), &"file_mode".into()));

    // A store that is cut off is not looked at, and not made whole either.
    let store = data.join("store.redb");
    let bytes = fs::read(&store).unwrap();
    fs::write(&store, &bytes[..bytes.len() / 2]).unwrap();
    let (code, said, error) = doctor(&data, &["--repair"]);
    assert_eq!((code, said.as_str()), (Some(2), ""), "{error}");
    assert!(error.contains("cannot be read"), "{error}");
    let (code, _, error) = doctor(&dir.path().join("nowhere"), &[]);
    assert_eq!(code, Some(2), "{error}");
    assert!(!dir.path().join("nowhere").exists());
}
