//! `sys-server doctor`: its flags, how far it is, and what it ends with.

use crate::key_flags::KeyFlags;
use clap::Args;
use std::{
    io::{self, IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};
use sys_server::doctor::{self, Orders, Output};
use sys_store::check::Seen;

/// What it ends with if it could not look: neither 0, nothing is wrong, nor 1, something is.
const CANNOT_OPEN: u8 = 2;
/// How often a terminal is told how far it is.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// The data directory. No server may be running on it.
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,

    #[command(flatten)]
    key: KeyFlags,

    /// Makes indexes agree with their records. Records are never written. May be cut off and run again.
    #[arg(long)]
    repair: bool,

    /// Opens a store whose log (`store.wal`) is lost or damaged without the commits that cannot be read from it. They are gone then,
    /// though they were acknowledged: half a minute of them at most, unless the disk stood still. Copy the directory first.
    #[arg(long)]
    give_up_log: bool,

    /// How many places of each fault are named; all are counted.
    #[arg(long, value_name = "COUNT", default_value_t = 10)]
    named: usize,

    /// How it is printed.
    #[arg(long, value_name = "FORM", default_value = "text")]
    output: Output,
}

/// Prints what is wrong with a data directory, or why that cannot be said.
pub(crate) fn examine(options: Doctor) -> ExitCode {
    crate::wait_for(look(options)).unwrap_or_else(|error| {
        // An answer to whoever typed the command. If nobody reads, nobody is told.
        let _ = writeln!(io::stderr(), "error: {error:#}");
        ExitCode::from(CANNOT_OPEN)
    })
}

async fn look(options: Doctor) -> anyhow::Result<ExitCode> {
    let mut last = Instant::now();
    let mut stderr = io::stderr();
    let shows = stderr.is_terminal();
    let mut progress = |seen: &Seen| {
        if shows && last.elapsed() >= PROGRESS_EVERY {
            last = Instant::now();
            // A terminal that is gone is no reason to stop.
            let _ = write!(stderr, "\rlooked at {} records, {} index rows ", seen.records, seen.index_rows);
        }
    };
    let Doctor { data_dir, key, repair, give_up_log, named, output } = options;
    let unsealer = key.unsealer()?;
    let orders = Orders { repair, give_up_log, named };
    let examined = doctor::examine(&data_dir, unsealer, orders, &mut progress).await;
    if shows {
        let _ = write!(io::stderr(), "\r\x1b[K");
    }
    let diagnosis = examined?;
    let mut stdout = io::stdout().lock();
    stdout.write_all(doctor::render(output, &data_dir, &diagnosis).as_bytes())?;
    stdout.flush()?;
    Ok(if diagnosis.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
