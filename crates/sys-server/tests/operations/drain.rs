//! How the server stops.

use crate::{
    LOGIN, PASSWORD, REGISTER, json_of,
    server::{Begun, Server, eventually, program, terminate},
    superadmin,
};
use serde_json::json;
use std::{fs, net::TcpStream, process::Stdio};

const AUDIT: &str = "sys.account.v1.AuditService/ListSystemAudit";

/// Waits until the server is busy with so many calls of a method, whose bodies have not come.
fn under_way(server: &Server, method: &str) {
    let line = format!("sys_calls_in_flight{{method=\"{method}\"}} 1");
    eventually(&line, || server.metrics().contains(&line).then_some(()));
}

#[test]
fn what_is_under_way_at_sigterm_is_answered_mailed_and_audited_and_the_server_ends_with_0() {
    let server = Server::start(&[]);
    superadmin(&server);
    let registration = json!({"email": "late@example.org", "password": PASSWORD, "displayName": "Late"}).to_string();
    let guess = json!({"email": "root@example.org", "password": "a wrong passphrase"}).to_string();
    let mut registering = Begun::call(server.addr, REGISTER, None, registration.len());
    let mut guessing = Begun::call(server.addr, LOGIN, None, guess.len());
    under_way(&server, REGISTER);
    under_way(&server, LOGIN);

    server.terminate();
    eventually("a closed port", || TcpStream::connect(server.addr).is_err().then_some(()));
    under_way(&server, REGISTER);
    registering.send(&registration);
    let (status, body) = registering.answer();
    assert_eq!(status, 200, "{body}");
    // The last answer before the end: its leaf is still in the queue.
    guessing.send(&guess);
    let (status, body) = guessing.answer();
    assert_eq!((status, json_of(&body)["code"].as_str()), (401, Some("unauthenticated")), "{body}");

    let log = server.log();
    let (ended, dir) = server.ended();
    assert_eq!(ended.code(), Some(0), "{log}");
    let mails = fs::read_dir(dir.path().join("data/outbox")).unwrap();
    let mails: Vec<String> = mails.map(|mail| fs::read_to_string(mail.unwrap().path()).unwrap()).collect();
    assert!(mails.iter().any(|mail| mail.contains("late@example.org")), "the mail of the last call was not sent");

    let again = Server::start_in(dir, &[]);
    let login = json!({"email": "root@example.org", "password": PASSWORD}).to_string();
    let (_, body) = again.call(LOGIN, None, &login);
    let token = json_of(&body)["accessToken"].as_str().unwrap().to_owned();
    let (status, audit) = again.call(AUDIT, Some(&token), "{}");
    assert_eq!(status, 200, "{audit}");
    assert!(audit.contains("LOGIN_REFUSED"), "the refusal of the last call is not in the audit log: {audit}");
}

#[test]
fn a_server_that_is_asked_to_stop_while_it_starts_does_not_finish_its_import_first() {
    let dir = tempfile::tempdir().unwrap();
    let (file, data) = (dir.path().join("organisation.yaml"), dir.path().join("data"));
    // So many passwords take a minute to hash.
    let accounts: String = (0..3_000)
        .map(|n| {
            format!("    - newaccounts: {{email: user{n}@example.org, new_user_roles: [{{role: 1, org_name: O}}]}}\n")
        })
        .collect();
    let org = "{name: O, contact: office@example.org, creator_id: office@example.org}";
    let yaml = format!(
        "orgs:\n  main_bootstrap_orgs:\n    - org: {org}\nregular_users:\n  main_bootstrap_regular_users:\n{accounts}"
    );
    fs::write(&file, yaml).unwrap();
    let mut command = program();
    command.args(["run", "--listen", "127.0.0.1:0", "--data-dir"]).arg(&data).arg("--bootstrap").arg(&file);
    command.arg("--danger-key-file").arg(dir.path().join("key")).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    eventually("the store", || data.join("store.redb").exists().then_some(()));
    terminate(&child);
    let ended = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stdout) + String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.code() == Some(0) && !said.contains("ready"), "{said}");
}

#[test]
fn a_caller_who_never_finishes_does_not_hold_the_server_up() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("sys-server.yaml");
    fs::write(&config, "limits: {drain_seconds: 1}\n").unwrap();
    let server = Server::start(&["--config", config.to_str().unwrap()]);
    let _silent = Begun::call(server.addr, REGISTER, None, 100);
    under_way(&server, REGISTER);
    server.terminate();
    let (ended, dir) = server.ended();
    let log = fs::read_to_string(dir.path().join("log")).unwrap();
    assert_eq!(ended.code(), Some(0), "{log}");
    assert!(log.contains("cut=1"), "{log}");
}
