//! `sys-server`: parse, build, serve, drain. No algorithm lives here.

mod bring_in;
mod checks;
mod edge_flags;
mod examine;
mod first_steps;
mod key_flags;
mod logs;
mod manual;
mod offline;
mod options;
mod private_memory;
mod reload;
mod trace_flags;

use anyhow::Context;
use clap::Parser;
use options::{Command, ConfigCommand, Options, Run, Settings};
use private_memory::Swap;
use reload::{Hangups, Reload};
use std::{
    io::{self, Write},
    process::ExitCode,
};
use sys_edge::{
    inherited::{Inherited, InheritedError},
    notify::State,
};
use sys_server::{Server, Sockets, config_file::ConfigFile};
use tokio::signal::unix::{SignalKind, signal};

/// signal(7): its number on the architectures that this runs on.
const SIGXFSZ: i32 = 25;

fn main() -> ExitCode {
    // It changes the environment, so while there is one thread.
    let inherited = Inherited::take();
    sys_server::use_small_pages();
    let command = Options::parse().command;
    // Before a passphrase is asked for or a key is read.
    let swap = match private_memory::keep() {
        Ok(swap) => swap,
        Err(error) => return refused(&error),
    };
    let done = match command {
        Command::Run(run) => match prepared(*run, inherited) {
            Ok((settings, reload)) => {
                if swap == Swap::Possible {
                    tracing::info!(
                        "memory may go to swap: allow it to be locked (LimitMEMLOCK=infinity), or encrypt the swap"
                    );
                }
                return ended(wait_for(serve(settings, reload)));
            }
            Err(error) => Err(error),
        },
        Command::Doctor(doctor) => return examine::examine(doctor),
        Command::Import(options) => wait_for(bring_in::bring_in(options)).and_then(print),
        Command::EndSessions(options) => wait_for(offline::end_sessions(options)).and_then(print),
        Command::ChangePassphrase(options) => wait_for(offline::change_passphrase(options)).and_then(print),
        Command::Config { command: ConfigCommand::Check { file } } => {
            checks::check(&file).and_then(|well| print(&well))
        }
        Command::Config { command: ConfigCommand::Schema } => print(ConfigFile::schema() + "\n"),
        Command::Man { dir: Some(dir) } => manual::pages(&dir).map_err(Into::into),
        Command::Man { dir: None } => manual::page().map_err(Into::into).and_then(print),
        Command::Completion { shell } => print(manual::completion(shell)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => refused(&error),
    }
}

/// Nothing is logged yet: this is an answer to whoever typed the command. If nobody reads, nobody is told.
fn refused(error: &anyhow::Error) -> ExitCode {
    let _ = writeln!(io::stderr(), "error: {error:#}");
    ExitCode::FAILURE
}

/// Reads what was asked for, and starts the log.
fn prepared(run: Run, inherited: Result<Inherited, InheritedError>) -> anyhow::Result<(Settings, Reload)> {
    let file = run.file()?;
    let (filter, format) = run.log(&file);
    let settings = run.clone().settings(file.clone(), Sockets::claim(inherited?)?)?;
    let levels = logs::start(filter, format);
    Ok((settings, Reload { run, started: file, levels }))
}

fn print(text: impl AsRef<[u8]>) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_ref())?;
    Ok(stdout.flush()?)
}

fn ended(served: anyhow::Result<()>) -> ExitCode {
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs work to its end on threads for it.
pub(crate) fn wait_for<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    // Else tokio would panic: the operating system has limits of its own.
    let cannot = "cannot start: the limits of this process (`ulimit -a`) leave too few open files, threads or memory";
    runtime.context(cannot)?.block_on(work)
}

async fn serve(settings: Settings, reload: Reload) -> anyhow::Result<()> {
    let Settings { config, bootstrap, key_is_readable } = settings;
    // Where a file may grow no further, writing fails, as on a full disk; else that would kill the process.
    let _no_larger = signal(SignalKind::from_raw(SIGXFSZ)).context("cannot listen for SIGXFSZ")?;
    let mut stopped = Box::pin(stop()?);
    let hangups = Hangups::listen()?;
    let started = async {
        let server = Server::start(config, Vec::new()).await?;
        first_steps::print(bootstrap.as_deref(), key_is_readable, &server).await?;
        anyhow::Ok(server)
    };
    let server = tokio::select! {
        started = started => started?,
        // An import may take minutes. It is stored whole at its end or not at all.
        () = &mut stopped => return Ok(()),
    };
    reload::tell(State::Ready);
    let reloading = reload.at_each(hangups, server.live());
    let drained = tokio::select! {
        drained = server.serve(stopped) => drained?,
        // It ends with the signals, which never end.
        never = reloading => match never {},
    };
    tracing::info!(finished = drained.finished, cut = drained.cut, "stopped");
    Ok(())
}

/// Comes back when somebody asks the process to stop. From this call on, it is not killed by that.
fn stop() -> anyhow::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        reload::tell(State::Stopping);
        tracing::info!("stopping: calls under way may finish");
    })
}
