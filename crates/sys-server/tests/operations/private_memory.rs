//! What lies in the server's memory becomes no file; and it comes in small pages.

use super::server::{Server, program};
use std::{
    fs,
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Command, Stdio},
};

/// SIGABRT, signal(7): what a process gets that aborts. (SIGSEGV has a handler of the standard library, which looks for overflown stacks.)
const ABRT: i32 = 6;

/// A shell that allows itself this, as far as it may, and becomes the program of the arguments behind it.
fn allowed(limits: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{limits} 2>/dev/null; exec \"$0\" \"$@\"")]);
    command
}

/// The server's program, started so.
fn server_allowed(limits: &str) -> Command {
    let mut command = allowed(limits);
    command.arg(program().get_program()).env_remove("SYS_LOG").env_remove("SYS_LOG_FORMAT").env_remove("SYS_SMTP");
    command
}

fn cores(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("core")).collect()
}

/// The value of a line in one of the files about a process.
fn said(pid: u32, file: &str, line: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
    let found = text.lines().find_map(|text| text.strip_prefix(line));
    found.unwrap_or_else(|| panic!("no {line:?} in {text}")).split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_server_that_crashes_leaves_no_core_whatever_its_limits_were() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = server_allowed("ulimit -c unlimited");
    command.current_dir(dir.path());
    let server = Server::start_as(command, tempfile::tempdir().unwrap(), &[]);
    assert_eq!(said(server.pid(), "limits", "Max core file size"), "0 0 bytes");
    let killed = Command::new("kill").args(["-ABRT", &server.pid().to_string()]).status().unwrap();
    assert!(killed.success());
    let (status, _data) = server.ended();
    assert_eq!((status.signal(), status.core_dumped()), (Some(ABRT), false));
    assert_eq!(cores(dir.path()), [""; 0]);
}

/// Without this, the test above could pass because nothing here ever leaves a core.
#[test]
fn control_another_program_that_crashes_leaves_one_where_the_machine_allows_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = allowed("ulimit -c unlimited");
    command.args(["sh", "-c", "ulimit -c; kill -ABRT $$"]).current_dir(dir.path()).stdout(Stdio::piped());
    let output = command.output().unwrap();
    assert_eq!(output.status.signal(), Some(ABRT));
    let limit = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.core_dumped(), limit.trim() != "0", "the limit was {limit}");
}

#[test]
fn memory_is_locked_where_the_limit_allows_it_and_it_is_said_where_not() {
    let server = Server::start_as(server_allowed("ulimit -l unlimited"), tempfile::tempdir().unwrap(), &[]);
    let limit = said(server.pid(), "limits", "Max locked memory");
    let locked = said(server.pid(), "status", "VmLck:");
    if limit.starts_with("unlimited") {
        assert_ne!(locked, "0 kB");
        assert!(!server.log().contains("memory may go to swap"), "{}", server.log());
    } else {
        assert_eq!(locked, "0 kB", "the limit is {limit}");
        assert!(server.log().contains("memory may go to swap"), "{}", server.log());
    }
    let limited = Server::start_as(server_allowed("ulimit -l 64"), tempfile::tempdir().unwrap(), &[]);
    assert_eq!(said(limited.pid(), "status", "VmLck:"), "0 kB");
    assert!(limited.log().contains("memory may go to swap"), "{}", limited.log());
}

#[test]
fn what_a_buffer_reserves_counts_page_by_page() {
    // A kernel without huge pages has no such line, and nothing to turn off.
    let status = |pid: &str| fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    if !status("self").contains("THP_enabled:") {
        return;
    }
    let server = Server::start_as(server_allowed("true"), tempfile::tempdir().unwrap(), &[]);
    assert_eq!(said(server.pid(), "status", "THP_enabled:"), "0");
}
