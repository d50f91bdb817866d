//! The program itself, run against a small server with the notes contract: what scripts and people see.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "clippy.toml exempts test functions, not what they share"
)]

mod audit;
mod keychain;
mod server;
mod tls;

use serde_json::{Value as Json, json};
use server::Server;
use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
};
use tempfile::TempDir;

/// The program in a directory of its own.
struct Sys {
    config: TempDir,
}

impl Sys {
    fn new() -> Self {
        Self { config: tempfile::tempdir().expect("a directory") }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sys"));
        command.args(words).env_clear().env("SYS_CONFIG_DIR", self.config.path()).stdin(Stdio::null());
        command
    }

    fn run(&self, words: &[&str]) -> Ran {
        Ran::of(&self.command(words).output().expect("the program runs"))
    }

    fn run_with_input(&self, words: &[&str], input: &str) -> Ran {
        let mut command = self.command(words);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program runs");
        // A program that refuses its arguments may end before it reads.
        let _ = child.stdin.take().expect("its input").write_all(input.as_bytes());
        Ran::of(&child.wait_with_output().expect("the program ends"))
    }

    fn logged_in(server: &Server) -> Self {
        let sys = Self::new();
        let words = ["login", "--server", &server.url, "--email", "a@example.org", "--password-stdin"];
        assert_eq!(sys.run_with_input(&words, "right\n").exit, 0);
        sys
    }

    fn session(&self) -> String {
        fs::read_to_string(self.config.path().join("session.json")).unwrap_or_default()
    }
}

#[derive(Debug)]
struct Ran {
    exit: i32,
    out: String,
    err: String,
}

impl Ran {
    fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
        Self { exit: output.status.code().expect("no signal"), out: text(&output.stdout), err: text(&output.stderr) }
    }

    fn json(&self) -> Json {
        assert_eq!(self.exit, 0, "{self:?}");
        serde_json::from_str(&self.out).expect("JSON")
    }

    #[track_caller]
    fn fails(&self, exit: i32, said: &str) {
        assert_eq!(self.exit, exit, "{self:?}");
        assert!(self.err.contains(said), "{self:?}");
        assert_eq!(self.out, "", "{self:?}");
        assert!(!self.err.contains("panicked"), "{self:?}");
    }
}

#[test]
fn a_command_that_needs_the_password_again_takes_it_aside_and_goes_on() {
    let server = Server::start();
    let sys = Sys::logged_in(&server);
    server.add_note("guarded");
    // Nobody to ask: the server's refusal says what to do.
    let refused = sys.run(&["note", "delete", "guarded"]);
    refused.fails(4, "PERMISSION_DENIED / STEP_UP_REQUIRED");
    assert!(refused.err.contains("what to do: show it again"), "{refused:?}");
    let delete = ["note", "delete", "guarded", "--password-stdin"];
    sys.run_with_input(&delete, "wrong\n").fails(4, "PERMISSION_DENIED");
    sys.run_with_input(&delete, "\n").fails(2, "standard input holds no line");
    assert_eq!(sys.run(&["note", "get", "guarded"]).json()["id"], json!("guarded"), "nothing happened so far");
    assert_eq!(sys.run_with_input(&delete, "right\n").json(), json!({}));
    sys.run(&["note", "get", "guarded"]).fails(5, "NOT_FOUND");
    // Where it is not asked for, nothing is read.
    server.add_note("other");
    assert_eq!(sys.run(&["note", "delete", "other", "--password-stdin"]).json(), json!({}));
}

#[test]
fn people_log_in_work_and_log_out() {
    let server = Server::start();
    let sys = Sys::logged_in(&server);
    let session = sys.session();
    assert!(session.contains("\"access_token\": \"access\""), "{session}");
    assert!(!session.contains("right"), "the password is kept");

    let words = ["note", "create", "--org-id", "org_1", "--project-id", "project_1", "--title", "Plan", "--published"];
    let created = sys.run(&words).json();
    assert_eq!(
        (&created["id"], &created["title"], &created["published"]),
        (&json!("note_0"), &json!("Plan"), &json!(true))
    );
    assert_eq!(sys.run(&["note", "get", "note_0"]).json(), created);
    let updated = sys.run(&["note", "update", "note_0", "--title", "B", "--published=false"]).json();
    assert_eq!(
        (&updated["title"], &updated["published"], &updated["org_id"]),
        (&json!("B"), &json!(false), &json!("org_1"))
    );
    let shown = sys.run(&["note", "get", "note_0", "--output", "yaml"]);
    assert!(shown.out.contains("title: B\n"), "{shown:?}");
    assert_eq!(sys.run(&["note", "delete", "note_0"]).json(), json!({}));
    sys.run(&["note", "get", "note_0"]).fails(5, "NOT_FOUND");

    let who = sys.run(&["whoami"]).json();
    assert_eq!((&who["bindings"][0]["role"], &who["session_kept_in"]), (&json!("ADMIN"), &json!("file")));
    let shown = sys.run(&["whoami", "--output", "table"]);
    assert!(shown.out.contains("role     ADMIN in org_1"), "{shown:?}");
    // What a program left that was killed while it wrote holds tokens, too.
    let left_over = sys.config.path().join("session.json.new");
    fs::write(&left_over, &session).expect("a file");
    assert_eq!(sys.run(&["logout"]).exit, 0);
    assert_eq!((sys.session().as_str(), left_over.exists()), ("", false));
    fs::write(&left_over, &session).expect("a file");
    assert_eq!(sys.run(&["logout", "--server", &server.url]).exit, 0, "nobody is logged in");
    assert!(!left_over.exists());
}

#[test]
fn a_command_says_which_trace_it_is_in_where_its_environment_does_and_is_disturbed_by_no_garbage() {
    const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let server = Server::start();
    let sys = Sys::logged_in(&server);
    assert_eq!(server.traced(), None);
    for (given, expect) in [(TRACE, Some((TRACE.to_owned(), "a=b".to_owned()))), ("garbage", None)] {
        for words in [&["whoami"][..], &["note", "list", "--org-id", "org_1"]] {
            let mut command = sys.command(words);
            command.env("TRACEPARENT", given).env("TRACESTATE", "a=b");
            assert_eq!(Ran::of(&command.output().expect("the program runs")).exit, 0);
            assert_eq!(server.traced(), expect, "{words:?}");
        }
    }
}

#[test]
fn a_list_is_read_page_by_page_or_whole() {
    let server = Server::start();
    let sys = Sys::logged_in(&server);
    for title in ["a", "b", "c", "d", "e"] {
        sys.run(&["note", "create", "--org-id", "org_1", "--title", title]).json();
    }
    let titles = |page: &Json| -> Vec<String> {
        let notes = page["notes"].as_array().expect("notes").iter();
        notes.map(|note| note["title"].as_str().expect("a title").to_owned()).collect()
    };
    let list = ["note", "list", "--org-id", "org_1"];
    let page = sys.run(&list).json();
    assert_eq!((titles(&page), &page["next_page_token"]), (vec!["a".to_owned(), "b".to_owned()], &json!("2")));
    let page = sys.run(&[&list[..], &["--page-token", "2"]].concat()).json();
    assert_eq!(titles(&page), ["c", "d"]);
    let all = sys.run(&[&list[..], &["--all"]].concat());
    assert_eq!(all.err, "", "how far it has come is for people at a terminal");
    let all = all.json();
    assert_eq!((titles(&all).concat(), &all["next_page_token"]), ("abcde".to_owned(), &json!("")));
    let table = sys.run(&[&list[..], &["--output", "table"]].concat());
    assert!(table.out.starts_with("ID      TITLE  "), "{table:?}");
    assert_eq!(table.err, "there is more: --all, or --page-token 2\n");
    sys.run(&["note", "list", "--org-id", "endless", "--all"]).fails(1, "the server's pages do not end");
}

#[test]
fn errors_say_code_reason_field_and_what_to_do_with_an_exit_code_each() {
    let server = Server::start();
    let sys = Sys::logged_in(&server);
    let refused = sys.run(&["note", "create", "--org-id", "org_1"]);
    refused.fails(3, "error: the request is not valid (INVALID_ARGUMENT / INVALID_FIELDS)\n");
    refused.fails(3, "\n  --title (note.title): is empty\n");
    refused.fails(3, "\nwhat to do: give it a title\n");
    sys.run(&["note", "delete", "forbidden"]).fails(4, "PERMISSION_DENIED");
    sys.run(&["note", "delete", "changed", "--etag", "old"]).fails(6, "ABORTED");
    sys.run(&["note", "delete", "often"]).fails(8, "what to do: wait a little and try again");
    sys.run(&["note", "delete", "broken"]).fails(1, "INTERNAL");
    sys.run(&["note", "update", "note_1"]).fails(2, "nothing to change");
    sys.run(&["note", "get"]).fails(2, "<ID>");
    sys.run(&["note", "fly"]).fails(2, "there is no command `note fly` here");
    sys.run(&["note", "creat"]).fails(2, "did you mean `create`?");
    sys.run(&["note", "get", "x", "--server", "http://example.org"]).fails(2, "without TLS");
    sys.run(&["note", "get", "x", "--server", "https://127.0.0.1:1"])
        .fails(7, "no server answers at https://127.0.0.1:1");
    sys.run(&["note", "get", "x", "--server", "http://127.0.0.1:1"])
        .fails(7, "no server answers at http://127.0.0.1:1");
}

#[test]
fn a_reason_has_a_page_that_is_shown_offline() {
    let page = Sys::new().run(&["explain", "NOT_FOUND"]);
    assert!(page.exit == 0 && page.out.starts_with("# NOT_FOUND\n"), "{page:?}");
    Sys::new().run(&["explain", "NOT_FUOND"]).fails(2, "did you mean `NOT_FOUND`?");
}

#[test]
fn manual_pages_are_of_all_commands_that_are_known() {
    let server = Server::start();
    let (sys, nobody) = (Sys::logged_in(&server), Sys::new());
    let page = sys.run(&["man", "note", "list"]);
    assert!(page.exit == 0 && page.out.contains(".SH NAME") && page.out.contains("\\-\\-all"), "{page:?}");
    assert!(nobody.run(&["man", "login"]).out.contains("\\-\\-email"));
    nobody.run(&["man", "note"]).fails(2, "there is no command `note` here");
    let dir = tempfile::tempdir().expect("a folder");
    let name = dir.path().to_str().expect("UTF-8");
    assert_eq!(sys.run(&["man", "--dir", name]).exit, 0);
    for file in ["sys.1", "sys-login.1", "sys-note-list.1"] {
        let page = std::fs::read_to_string(dir.path().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(page.contains(".SH SYNOPSIS"), "{file}: {page}");
    }
}

#[test]
fn commands_are_those_of_whoever_is_logged_in() {
    let server = Server::start();
    let nobody = Sys::new();
    nobody.run(&["note", "list"]).fails(2, "no server is known");
    let strange = nobody.run(&["note", "list", "--server", &server.url]);
    strange.fails(2, "there is no command `note` here");
    strange.fails(2, "depends on who is logged in, and nobody is: sys login --server");
    let sys = Sys::logged_in(&server);
    sys.run(&["noet", "list"]).fails(2, "did you mean `note`?");
    let help = sys.run(&["help"]);
    assert!(help.out.contains("\n  note "), "{help:?}");
    let help = nobody.run(&["--help"]);
    assert_eq!(help.exit, 0);
    assert!(!help.out.contains("\n  note ") && help.out.contains("\n  login "), "{help:?}");
    // The variable names the server as the flag does, and tokens of another server stay where they are.
    let other = Server::start();
    let ran = Ran::of(&sys.command(&["note", "list"]).env("SYS_SERVER", &other.url).output().expect("runs"));
    ran.fails(2, "there is no command `note` here");
}

#[test]
fn an_ended_session_says_so() {
    let server = Server::start();
    let sys = Sys::logged_in(&server);
    server.end_sessions();
    let ended = sys.run(&["note", "list", "--org-id", "org_1"]);
    ended.fails(4, "error: your session has ended");
    ended.fails(4, "what to do: log in again with `sys login`");
    assert_eq!(sys.run(&["logout"]).exit, 0, "a session that is gone can be forgotten");
    assert_eq!(sys.session(), "");
}

#[test]
fn passwords_come_on_standard_input_alone() {
    let server = Server::start();
    let sys = Sys::new();
    let login = ["login", "--server", &server.url, "--email", "a@example.org"];
    sys.run(&[&login[..], &["--password", "right"]].concat()).fails(2, "can be read by every program here");
    sys.run(&[&login[..], &["--password=right"]].concat()).fails(2, "--password-stdin");
    sys.run(&login).fails(2, "no terminal to ask on");
    sys.run_with_input(&[&login[..], &["--password-stdin"]].concat(), "wrong\n").fails(4, "UNAUTHENTICATED");
    sys.run_with_input(&[&login[..], &["--password-stdin"]].concat(), "").fails(2, "holds no line");
    assert_eq!(sys.session(), "");
    let setup = ["setup", "--server", &server.url, "--email", "a@example.org", "--password-stdin"];
    let on_line = sys.run_with_input(&[&setup[..], &["--token", "once"]].concat(), "right");
    on_line.fails(2, "a token on a command line can be read by every program here");
    on_line.fails(2, "--token-stdin");
    sys.run_with_input(&setup, "right").fails(2, "no token: there is no terminal to ask on");
    let setup = [&setup[..], &["--token-stdin"]].concat();
    sys.run_with_input(&setup, "twice\nright").fails(4, "UNAUTHENTICATED");
    assert_eq!(sys.run_with_input(&setup, "  once \nright").exit, 0);
    assert_eq!(sys.run(&["whoami"]).json()["email"], json!("a@example.org"), "setup leaves one logged in");
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let server = Server::start();
    let sys = Sys::logged_in(&server);
    for number in 0..200 {
        server.add_note(&format!("{number}{}", "x".repeat(1_000)));
    }
    let mut command = sys.command(&["note", "list", "--org-id", "org_1", "--all", "--output", "json"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program runs");
    drop(child.stdout.take());
    let ended = Ran::of(&child.wait_with_output().expect("the program ends"));
    assert_eq!((ended.exit, ended.err.as_str()), (0, ""));
}

#[test]
fn a_contract_is_checked_offline() {
    let sys = Sys::new();
    let notes = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../modules/mod-notes/notes/v1/notes.proto");
    let passed = sys.run(&["check", notes.to_str().expect("UTF-8")]);
    assert_eq!(passed.exit, 0, "{passed:?}");
    assert!(passed.out.contains("notes.v1.NoteService/CreateNote"), "{passed:?}");
    let directory = tempfile::tempdir().expect("a directory");
    let bad = directory.path().join("bad.proto");
    let text = fs::read_to_string(&notes).expect("the contract");
    fs::write(&bad, text.replace("this.published", "this.publisht")).expect("a file");
    let refused = sys.run(&["check", bad.to_str().expect("UTF-8")]);
    refused.fails(3, "publisht");
    refused.fails(3, "instead: ");
    let (bad, notes) = (bad.to_str().expect("UTF-8"), notes.to_str().expect("UTF-8"));
    fs::write(bad, text.replace("{serve: DELETE}", "{serve: DELETE step_up: {}}")).expect("a file");
    assert_eq!(sys.run(&["check", bad, "--against", notes]).exit, 0, "it asks for more than before");
    let weaker = sys.run(&["check", notes, "--against", bad]);
    weaker.fails(3, "`DeleteNote` needed a fresh password, and does not any more");
    let accepted = sys.run(&["check", notes, "--against", bad, "--accept-weaker"]);
    assert!(accepted.exit == 0 && accepted.err.starts_with("accepted: `DeleteNote` needed"), "{accepted:?}");
    fs::write(bad, text.replace("table: \"notes\"", "table: \"papers\"")).expect("a file");
    let moved = sys.run(&["check", bad, "--against", notes, "--accept-weaker"]);
    moved.fails(3, "`Note` moved from table `notes` to `papers`");
}

/// What a shell offers for a line, by its own completion machinery where it can be driven without a terminal.
fn offered(sys: &Sys, shell: &str, line: &str) -> Option<Vec<String>> {
    let script = sys.run(&["completion", shell]).out;
    let path = sys.config.path().join(format!("completion.{shell}"));
    fs::write(&path, script).expect("a file");
    let path = path.display();
    let program = match shell {
        "bash" => format!(
            "source {path}; COMP_LINE='{line}'; COMP_POINT=${{#COMP_LINE}}; _sys; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        ),
        "fish" => format!("source {path}; complete -C '{line}' | string split -f 1 \\t"),
        _ => format!(
            "compdef() {{ }}; source {path}; _describe() {{ print -rl -- ${{(P)2}}; }}; _files() {{ }}; \
             words=(\"${{(@s: :)line}}\"); CURRENT=${{#words}}; _sys | cut -d : -f 1"
        ),
    };
    let bin = Path::new(env!("CARGO_BIN_EXE_sys")).parent().expect("a directory").display();
    let output = Command::new(shell)
        .args(if shell == "fish" { &["--no-config", "-c"][..] } else { &["-c"][..] })
        .arg(program)
        .env_clear()
        .env("PATH", format!("{bin}:/usr/bin:/bin"))
        .env("HOME", sys.config.path())
        .env("SYS_CONFIG_DIR", sys.config.path())
        .env("line", line)
        .output();
    let Ok(output) = output else {
        eprintln!("{shell} is not installed here: its completion was not tried");
        return None;
    };
    let ran = Ran::of(&output);
    Some(ran.out.lines().map(str::to_owned).filter(|line| !line.is_empty()).collect())
}

#[test]
fn shells_complete_nouns_verbs_and_flags() {
    let server = Server::start();
    let sys = Sys::logged_in(&server);
    for shell in ["bash", "zsh", "fish"] {
        let check = |line: &str, expect: &[&str]| {
            if let Some(mut found) = offered(&sys, shell, line) {
                found.sort();
                assert_eq!(found, expect, "{shell}: {line}");
            }
        };
        check("sys no", &["note"]);
        check("sys note ", &["count", "create", "delete", "get", "list", "update", "watch"]);
        check("sys note create --p", &["--project-id", "--published"]);
        check(&format!("sys note --server {} li", server.url), &["list"]);
        check("sys logi", &["login"]);
    }
    let equals = offered(&sys, "bash", "sys note list --output=j");
    assert!(equals.is_none_or(|found| found == ["json"]));
}
