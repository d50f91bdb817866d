//! `sys`, the command line of a sys server. Parses, dispatches, and says how it ended; what the commands are is told by
//! the server ([`command_tree`]), what they send by [`request`], what they show by [`output`].

mod audit_commands;
mod built_in;
mod check;
mod command_tree;
mod complete;
mod exit;
mod explain;
mod failure;
mod flags;
mod manual;
mod options;
mod output;
mod plain;
mod progress;
mod request;
mod run;
mod secret;
mod server_commands;
mod session_commands;
mod streams;
mod table;
#[cfg(test)]
mod tests;
mod trace;
mod value;

use std::{ffi::OsString, process::ExitCode};

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    // One call after the other: a second thread would only make the start slower.
    let exit = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(run::run(arguments)),
        Err(error) => {
            output::note(&format!("error: cannot start: {error}"));
            exit::Exit::Other
        }
    };
    ExitCode::from(exit.number())
}
