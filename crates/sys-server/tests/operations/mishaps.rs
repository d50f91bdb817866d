//! What happens to those who run a server: files that are lost, mixed up or open to others, limits that are too low, words that
//! are mistyped. Each ends with a text that says what to do, and nothing begins anew where data was.

use crate::server::{Server, program};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output, Stdio},
};
use tempfile::TempDir;

/// A data directory that a server has used and left.
fn used() -> TempDir {
    let server = Server::start(&[]);
    server.terminate();
    let (ended, dir) = server.ended();
    assert!(ended.success());
    dir
}

/// A server that is expected not to start: asked for by what opens its keys and what else.
fn run(dir: &Path, opens: [&str; 2], arguments: &[&str]) -> Output {
    let mut command = program();
    command.current_dir(dir).args(["run", "--data-dir", "data", "--listen", "127.0.0.1:0"]).args(opens);
    command.args(arguments).output().unwrap()
}

/// What was said, once it is sure that the end was an orderly one.
fn refused(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(output.stdout.is_empty(), "it was ready: {said}");
    said
}

fn secret(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

const KEY: [&str; 2] = ["--danger-key-file", "data/danger-master.key"];
const PASSPHRASE: [&str; 2] = ["--passphrase-file", "passphrase"];

#[test]
fn a_lost_store_is_told_and_not_begun_anew() {
    let dir = used();
    let (store, aside) = (dir.path().join("data/store.redb"), dir.path().join("aside"));
    fs::rename(&store, &aside).unwrap();
    let doctor = || {
        let mut command = program();
        command.current_dir(dir.path()).args(["doctor", "--data-dir", "data"]).args(KEY).output().unwrap()
    };
    assert_eq!(doctor().status.code(), Some(2));
    // Missing at first, then empty: the attempt itself has made the file.
    for _ in 0..2 {
        let said = refused(&run(dir.path(), KEY, &[]));
        assert!(said.contains("data/store.redb was missing or is empty") && said.contains("put data/store.redb back"));
    }
    for empty in [None, Some("")] {
        if let Some(nothing) = empty {
            fs::write(&store, nothing).unwrap();
        }
        let looked = doctor();
        let said = String::from_utf8_lossy(&looked.stderr).into_owned();
        assert_eq!(looked.status.code(), Some(2), "{said}");
        assert!(said.contains("was missing or is empty"), "{said}");
    }

    // What it says is what helps.
    fs::rename(&aside, &store).unwrap();
    let server = Server::start_in(dir, &[]);
    server.terminate();
    let (_, dir) = server.ended();
    fs::remove_file(dir.path().join("data/store.redb")).unwrap();
    fs::rename(dir.path().join("data/keys.sys"), dir.path().join("keys-of-old")).unwrap();
    assert!(!Server::start_in(dir, &[]).setup_token.is_empty(), "begun anew, as was asked for");
}

#[test]
fn keys_that_are_missing_or_of_another_server_are_told_from_damage() {
    let (dir, other) = (used(), used());
    let keys = dir.path().join("data/keys.sys");
    let right = fs::read(&keys).unwrap();
    fs::remove_file(&keys).unwrap();
    assert!(refused(&run(dir.path(), KEY, &[])).contains("data/keys.sys is missing"));
    assert!(!keys.exists(), "no new keys where the right ones belong");

    secret(&keys, "");
    assert!(refused(&run(dir.path(), KEY, &[])).contains("put back its newest copy"));
    fs::copy(other.path().join("data/keys.sys"), &keys).unwrap();
    assert!(refused(&run(dir.path(), KEY, &[])).contains("not the secret that it was sealed with"));
    let others_key = ["--danger-key-file", "others.key"];
    fs::copy(other.path().join("data/danger-master.key"), dir.path().join("others.key")).unwrap();
    assert!(refused(&run(dir.path(), others_key, &[])).contains("put back the two that belong together"));

    fs::write(&keys, right).unwrap();
    secret(&dir.path().join("passphrase"), "a passphrase of nobody\n");
    let said = refused(&run(dir.path(), PASSPHRASE, &[]));
    assert!(said.contains("does not open by a passphrase; it opens by: danger-key-file"), "{said}");
    drop(Server::start_in(dir, &[]));
}

#[test]
fn a_passphrase_is_read_from_a_file_that_is_one_and_private() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("passphrase");
    let said = |text: &str, mode: u32| {
        secret(&file, text);
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        refused(&run(dir.path(), PASSPHRASE, &[]))
    };
    assert!(said("a passphrase of nobody\n", 0o644).contains("run `chmod 600 passphrase`"));
    assert!(said("short\n", 0o600).contains("choose a longer one"));
    assert!(said(&"long".repeat(2_000), 0o600).contains("no file with a passphrase"));
    assert!(said("a passphrase of nobody\n", 0o606).contains("open to everybody"));
    assert!(refused(&run(dir.path(), ["--passphrase-file", "nowhere"], &[])).contains("nowhere cannot be read"));
}

#[test]
fn a_module_that_is_forgotten_or_renamed_is_told() {
    let dir = used();
    // The harness names the module; here it is forgotten.
    let log = dir.path().join("log-without");
    let mut command = program();
    command.current_dir(dir.path()).args(["run", "--data-dir", "data", "--listen", "127.0.0.1:0"]).args(KEY);
    let mut child = command.stdout(Stdio::null()).stderr(fs::File::create(&log).unwrap()).spawn().unwrap();
    let told = || fs::read_to_string(&log).unwrap().contains("mod-notes was served before").then_some(());
    crate::server::eventually("the warning", told);
    child.kill().unwrap();
    child.wait().unwrap();

    let renamed = dir.path().join("renamed");
    fs::create_dir_all(renamed.join("notes/v1")).unwrap();
    let proto = crate::server::workspace().join("modules/mod-notes/notes/v1/notes.proto");
    fs::copy(proto, renamed.join("notes/v1/notes.proto")).unwrap();
    let said = refused(&run(dir.path(), KEY, &["--module", "renamed"]));
    assert!(said.contains("belongs to the module `mod-notes`"), "{said}");
}

/// Runs a shell that lowers a limit first.
fn limited(dir: &Path, limit: &str) -> Output {
    let line = format!("{limit}; exec \"$0\" run --data-dir data --listen 127.0.0.1:0 {} {}", KEY[0], KEY[1]);
    let program = env!("CARGO_BIN_EXE_sys-server");
    Command::new("sh").current_dir(dir).args(["-c", &line, program]).output().unwrap()
}

#[test]
fn limits_that_are_too_low_end_the_start_with_a_word_and_harm_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let said = refused(&limited(dir.path(), "ulimit -n 8"));
    assert!(said.contains("`ulimit -a`") && !said.contains("fault of the server"), "{said}");
    // No file may have more than a few blocks of 512 bytes.
    let said = refused(&limited(dir.path(), "ulimit -f 100"));
    assert!(said.contains("the disk that it is on is full"), "{said}");
    drop(Server::start_in(dir, &[]));
}

#[test]
fn on_a_full_disk_what_need_not_be_written_down_goes_on_and_a_start_says_what_to_do() {
    let server = Server::start(&[]);
    let setup = format!(
        r#"{{"token": "{}", "email": "root@example.org", "password": "correct horse battery"}}"#,
        server.setup_token
    );
    let (status, pair) = server.call("sys.account.v1.AuthService/Setup", None, &setup);
    assert_eq!(status, 200, "{pair}");
    let token = pair.split(r#""accessToken":""#).nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    // Not a byte more, in no file.
    let limit = ["--fsize=0:0", "--pid", &server.pid().to_string()];
    assert!(Command::new("prlimit").args(limit).status().unwrap().success());
    let call = |path: &str| server.call(path, Some(token), "{}");
    for _ in 0..2 {
        let (status, said) = call("sys.domain.v1.TlsService/Status");
        assert!(status == 503 && said.contains("unavailable"), "it would have to be in the audit log: {said}");
        let (status, said) = call("sys.account.v1.OrgService/ListOrgs");
        assert_eq!(status, 200, "{said}");
    }
    server.terminate();
    let (_, dir) = server.ended();
    let said = refused(&limited(dir.path(), "ulimit -f 0"));
    assert!(
        said.contains("store.redb") && said.contains("free some MiB") && !said.contains("fault of the server"),
        "{said}"
    );
    drop(Server::start_in(dir, &[]));
}

#[test]
fn a_mistyped_address_is_answered_with_one_that_works() {
    let dir = tempfile::tempdir().unwrap();
    for address in ["localhost:8443", "8443", "127.0.0.1", "::1:8443"] {
        let output = run(dir.path(), KEY, &["--metrics-listen", address]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("such as 127.0.0.1:8443 or [::1]:8443"), "{said}");
    }
    let said = refused(&run(dir.path(), KEY, &["--metrics-listen", "0.0.0.0:0"]));
    assert!(said.contains("metrics are not answered") && said.contains("other machines"), "{said}");
}
