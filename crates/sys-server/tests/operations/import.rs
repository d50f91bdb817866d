//! `sys-server import` as an operator uses it: what comes in, what is refused, and what a kill leaves.

use crate::{
    json_of,
    server::{Server, program, workspace},
    superadmin,
};
use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
};
use sys_contract::id::{OrgTag, RecordId};
use sys_core::import::ROUND_LINES;
use tempfile::TempDir;

fn id(prefix: &str, org: OrgTag, number: u32) -> String {
    let [a, b, c, d] = number.to_be_bytes();
    // The last six make the tag of an org.
    RecordId::new(org, u64::from(number), [7, 7, 7, 7, 1, 7, a, b, c, d]).text(prefix)
}

fn global(prefix: &str, number: u32) -> String {
    id(prefix, OrgTag::GLOBAL, number)
}

fn org_line(number: u32) -> String {
    format!(r#"{{"id":"{}","name":"Org {number}"}}"#, global("org", number))
}

fn project_line(number: u32, name: &str) -> String {
    format!(r#"{{"id":"{}","orgId":"{}","name":"{name}"}}"#, global("project", number), global("org", 1))
}

fn account_line(number: u32, email: &str) -> String {
    let (org, project) = (global("org", 1), global("project", 1));
    format!(
        r#"{{"id":"{}","email":"{email}","display_name":"Ada Writer","managed_by_org_id":"{org}","roles":[{{"role":"USER","org_id":"{org}","project_id":"{project}"}}]}}"#,
        global("account", number)
    )
}

fn note_line(number: u32, title: &str) -> String {
    let org = RecordId::parse(&global("org", 1), "org").unwrap();
    format!(
        r#"{{"id":"{}","orgId":"{}","projectId":"{}","authorId":"{}","title":"{title}"}}"#,
        id("note", OrgTag::of_org(org), number),
        global("org", 1),
        global("project", 1),
        global("account", 1)
    )
}

fn command(dir: &Path, arguments: &[&str]) -> Command {
    let data = dir.join("data");
    let mut command = program();
    command.arg("import").arg("--data-dir").arg(&data).arg("--danger-key-file").arg(data.join("danger-master.key"));
    command.arg("--module").arg(workspace().join("modules/mod-notes")).args(arguments).current_dir(dir);
    command
}

/// Whether it ended well, and what it said.
fn import(dir: &Path, arguments: &[&str]) -> (bool, String) {
    let output = command(dir, arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout) + &text(output.stderr))
}

fn write(dir: &Path, name: &str, lines: &[String]) {
    fs::write(dir.join(name), lines.join("\n")).unwrap();
}

fn doctor_finds_nothing(dir: &Path) {
    let data = dir.join("data");
    let mut command = program();
    command.arg("doctor").arg("--data-dir").arg(&data).arg("--danger-key-file").arg(data.join("danger-master.key"));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

const WORLD: [&str; 4] = [
    "sys.account.v1.Org=orgs.jsonl",
    "sys.account.v1.Project=projects.jsonl",
    "accounts=accounts.jsonl",
    "notes.v1.Note=notes.jsonl",
];

fn world() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "orgs.jsonl", &[org_line(1), String::new(), org_line(2)]);
    write(dir.path(), "projects.jsonl", &[project_line(1, "one"), project_line(2, "two")]);
    write(dir.path(), "accounts.jsonl", &[account_line(1, "Ada@Example.org")]);
    write(dir.path(), "notes.jsonl", &[note_line(1, "Plan of the year"), note_line(2, "Other")]);
    dir
}

#[test]
fn what_was_imported_is_whole_and_found_and_comes_in_once() {
    let dir = world();
    let (well, said) = import(dir.path(), &[&["--check"], &WORLD[..]].concat());
    assert!(well && said.contains("notes.v1.Note: 2 lines are well"), "{said}");
    let (well, said) = import(dir.path(), &WORLD);
    assert!(well, "{said}");
    assert!(said.contains("sys.account.v1.Org: 2 lines, 2 records stored in "), "{said}");
    // An account is a record, what it logs in with, and its role.
    assert!(said.contains("accounts: 1 lines, 3 records stored in "), "{said}");
    doctor_finds_nothing(dir.path());
    let (well, said) = import(dir.path(), &WORLD);
    assert!(well && said.contains("accounts: 1 lines, 0 records stored in 0 rows, 3 were there already"), "{said}");

    let server = Server::start_in(dir, &[]);
    assert!(!server.log().contains("import"), "{}", server.log());
    let root = superadmin(&server);
    let search = |query: &str| {
        let request = format!(r#"{{"query":"{query}"}}"#);
        let (status, body) = server.call("sys.account.v1.AccountService/SearchAccounts", Some(&root), &request);
        assert_eq!(status, 200, "{body}");
        json_of(&body)["accounts"][0]["email"].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(search("Ad"), "ada@example.org");
    assert_eq!(search("ADA@example.org"), "ada@example.org");
    let (status, body) = server.call("sys.account.v1.AuditService/ListSystemAudit", Some(&root), "{}");
    assert_eq!(status, 200, "{body}");
    for told in [r#""method":"sys-server/import/notes.v1.Note""#, r#""imported":"2""#] {
        assert!(body.replace(' ', "").contains(told), "{body}");
    }

    // A server that runs keeps the store to itself.
    let (well, said) = import(server.dir.path(), &WORLD);
    assert!(!well && said.contains("in use by another server"), "{said}");
}

#[test]
fn a_wrong_line_is_named_with_what_is_wrong_and_no_value() {
    let dir = world();
    let (well, said) = import(dir.path(), &WORLD);
    assert!(well, "{said}");
    let secret = "Verysecretvalue";
    let mut unknown_field = note_line(5, secret);
    unknown_field.insert_str(1, r#""titel":"x","#);
    let foreign_project = note_line(5, secret).replace(&global("project", 1), &global("project", 77));
    let role = account_line(5, "eve@example.org").replace("USER", "SUPERADMIN");
    // A role elsewhere is for its person to accept, wherever among his roles it stands.
    let elsewhere = account_line(5, "eve@example.org")
        .replace(&format!(r#""org_id":"{}""#, global("org", 1)), &format!(r#""org_id":"{}""#, global("org", 2)));
    let with_domain =
        |number, domain: &str| org_line(number).replacen('{', &format!(r#"{{"accountDomains":["{domain}"],"#), 1);
    let closed = with_domain(5, "c.example.org").replacen('{', r#"{"closedAt":"2026-01-02T03:04:05Z","#, 1);
    for (what, lines, line, why) in [
        ("accounts", vec![account_line(4, "dan@example.org"), elsewhere], 2, "in the org that manages it alone"),
        (
            "sys.account.v1.Org",
            vec![with_domain(5, "a.example.org"), with_domain(6, "a.example.org")],
            2,
            "has this `domain`",
        ),
        ("sys.account.v1.Org", vec![with_domain(5, "A.example.org")], 1, "in lower case and ASCII"),
        ("sys.account.v1.Org", vec![closed], 1, "a closed org has no domains of mail"),
        ("notes.v1.Note", vec![note_line(3, "a"), "{".to_owned()], 2, "it is no notes.v1.Note in JSON, at column"),
        ("notes.v1.Note", vec![unknown_field], 1, "it is no notes.v1.Note in JSON, at column"),
        ("notes.v1.Note", vec![note_line(5, "")], 1, "title: "),
        ("notes.v1.Note", vec![foreign_project], 1, "the org has no such project"),
        ("notes.v1.Note", vec![note_line(1, secret)], 1, "another record has this `id`"),
        ("sys.account.v1.Project", vec![project_line(4, "four"), project_line(5, "one")], 2, "has this `name`"),
        ("accounts", vec![account_line(5, "b@example.org"), account_line(6, "B@example.org")], 2, "has this `email`"),
        ("accounts", vec![account_line(5, secret)], 1, "not an e-mail address"),
        ("accounts", vec![role], 1, "write GUEST, USER or ADMIN"),
    ] {
        write(dir.path(), "wrong.jsonl", &lines);
        let (well, said) = import(dir.path(), &[&format!("{what}=wrong.jsonl")]);
        assert!(!well, "{what} {why}");
        assert!(said.contains(&format!("line {line}: ")) && said.contains(why), "{what} {why}: {said}");
        assert!(said.contains("wrong.jsonl: nothing of this file was stored"), "{said}");
        assert!(!said.contains(secret), "{said}");
    }
    for (argument, why) in [
        ("sys.core.v1.Principal=notes.jsonl", "is brought in as `accounts=FILE`"),
        ("notes.v1.Nothing=notes.jsonl", "no module that is loaded has records of type notes.v1.Nothing"),
        ("notes.v1.Note=nothing.jsonl", "nothing.jsonl cannot be read"),
        ("notes.v1.Note", "write TYPE=FILE"),
    ] {
        let (well, said) = import(dir.path(), &[argument]);
        assert!(!well && said.contains(why), "{said}");
    }
    doctor_finds_nothing(dir.path());
}

#[test]
fn an_import_that_was_killed_is_whole_as_far_as_it_came_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let rounds = u32::try_from(ROUND_LINES).unwrap();
    let lines: Vec<String> = (1..=2 * rounds + 5).map(org_line).collect();
    let mut child =
        command(dir.path(), &["sys.account.v1.Org=-"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // The rest is held back, so that it cannot come to its end.
    for line in &lines[..2 * ROUND_LINES] {
        writeln!(stdin, "{line}").unwrap();
    }
    stdin.flush().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let stored = format!("{rounds} lines stored");
    assert!(said.any(|line| line.contains(&stored)), "the first round is not stored");
    child.kill().unwrap();
    child.wait().unwrap();
    doctor_finds_nothing(dir.path());

    let server = Server::start_in(dir, &[]);
    assert!(server.log().contains("an import was cut off (sys.account.v1.Org up to line"), "{}", server.log());
    server.terminate();
    let (_, dir) = server.ended();
    write(dir.path(), "orgs.jsonl", &lines);
    let (well, said) = import(dir.path(), &[WORLD[0]]);
    assert!(well, "{said}");
    let summary = said.lines().next().unwrap();
    let numbers: Vec<u32> = summary.split([' ', ',']).filter_map(|word| word.parse().ok()).collect();
    let [all, new, _, there] = numbers[..] else { panic!("{said}") };
    assert_eq!((all, new + there), (2 * rounds + 5, 2 * rounds + 5), "{said}");
    assert!(there >= rounds, "{said}");
    let server = Server::start_in(dir, &[]);
    assert!(!server.log().contains("cut off"), "{}", server.log());
}
