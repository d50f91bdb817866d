//! The processes that are measured: servers on one core, the load on the other.

use std::process::{Child, Command, Stdio};

/// The core of the servers.
pub const SERVER_CORE: &str = "0";
/// The core of the load.
pub const LOAD_CORE: &str = "1";

/// Where Debian keeps servers, off the PATH of those who are not root.
const SERVERS: &str = "/usr/sbin";

/// Runs what comes after it on one core.
pub fn pinned(core: &str) -> Command {
    let mut command = Command::new("taskset");
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:{SERVERS}")).args(["--cpu-list", core]);
    command
}

/// Moves this process to the load's core, with all its threads.
pub fn move_to_load_core() -> anyhow::Result<()> {
    let pid = std::process::id().to_string();
    let arguments = ["--all-tasks", "--cpu-list", "--pid", LOAD_CORE, &pid];
    let moved = Command::new("taskset").args(arguments).stdout(Stdio::null()).status()?;
    anyhow::ensure!(moved.success(), "taskset does not move this process to core {LOAD_CORE}");
    Ok(())
}

/// A process that ends with this value.
#[derive(Debug)]
pub struct Stopped(pub Child);

impl Drop for Stopped {
    fn drop(&mut self) {
        // It is a child of ours that keeps nothing.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
