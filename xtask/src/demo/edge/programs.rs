//! The programs that take part, each of which ends with the demo: at its end, at Ctrl-C, and when it is killed.

use crate::step;
use anyhow::{Context, Result, bail};
use std::{
    collections::VecDeque,
    ffi::OsStr,
    fs::File,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

/// How long anything may take to be there.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a program may take to end by itself.
const DRAIN: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(100);
/// How much of a program's log is shown where it failed.
const LAST_LINES: usize = 12;

/// A program that ends with the demo.
pub(super) struct Running {
    process: Child,
    log: PathBuf,
}

/// A command that the kernel ends when this process is gone, by whatever: nobody else would, after a signal.
pub(super) fn bound(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM"]).arg(program).stdin(Stdio::null());
    command
}

impl Running {
    /// Starts it; what it says goes into this log.
    pub(super) fn start(command: &mut Command, log: &Path) -> Result<Self> {
        let process = command.spawn().with_context(|| format!("starting {command:?}"))?;
        Ok(Self { process, log: log.to_owned() })
    }

    pub(super) fn stdout(&mut self) -> Option<ChildStdout> {
        self.process.stdout.take()
    }

    /// Waits until it has ended by itself, and shows the end of its log where that was for a failure.
    pub(super) fn wait(&mut self) -> Result<ExitStatus> {
        let status = self.process.wait()?;
        if !status.success() {
            for line in last_lines(&self.log, |_| true) {
                step::note(&line);
            }
        }
        Ok(status)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(Some(_)) = self.process.try_wait() {
            return;
        }
        // Asked first, so that it ends in order; what a program makes of it is its own affair.
        let _ = Command::new("kill").arg(self.process.id().to_string()).stderr(Stdio::null()).status();
        let begun = Instant::now();
        while begun.elapsed() < DRAIN {
            if let Ok(Some(_)) = self.process.try_wait() {
                return;
            }
            thread::sleep(PAUSE);
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The last lines of a log that are of interest.
pub(super) fn last_lines(log: &Path, is_of_interest: impl Fn(&str) -> bool) -> Vec<String> {
    let mut last = VecDeque::new();
    let lines = File::open(log).into_iter().flat_map(|file| BufReader::new(file).split(b'\n')).map_while(Result::ok);
    for line in lines.map(|line| String::from_utf8_lossy(&line).into_owned()).filter(|line| is_of_interest(line)) {
        if last.len() == LAST_LINES {
            last.pop_front();
        }
        last.push_back(line);
    }
    last.into()
}

/// Waits until there is something, for a bounded time.
pub(super) fn until<T>(what: &str, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if let Some(found) = look()? {
            return Ok(found);
        }
        thread::sleep(PAUSE);
    }
    bail!("{} passed before {what}", step::human(PATIENCE))
}
