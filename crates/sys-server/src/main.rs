//! `sys-server`: parse, build, serve, drain. No algorithm lives here.

mod checks;
mod examine;
mod first_steps;
mod logs;
mod manual;
mod options;

use anyhow::Context;
use clap::Parser;
use options::{Command, ConfigCommand, Options, Run, Settings};
use std::{
    io::{self, Write},
    process::ExitCode,
};
use sys_server::{Server, config_file::ConfigFile};
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    let done = match Options::parse().command {
        Command::Run(run) => match prepared(*run) {
            Ok(settings) => return ended(serve(settings)),
            Err(error) => Err(error),
        },
        Command::Doctor(doctor) => return examine::examine(doctor),
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
        Err(error) => {
            // Nothing is logged yet: this is an answer to whoever typed the command. If nobody reads, nobody is told.
            let _ = writeln!(io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Reads what was asked for, and starts the log.
fn prepared(run: Run) -> anyhow::Result<Settings> {
    let file = run.file()?;
    let (filter, format) = run.log(&file);
    let settings = run.settings(file)?;
    logs::start(filter, format);
    Ok(settings)
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

#[tokio::main]
async fn serve(settings: Settings) -> anyhow::Result<()> {
    let Settings { config, bootstrap, key_is_readable } = settings;
    let mut stopped = Box::pin(stop()?);
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
    let drained = server.serve(stopped).await?;
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
        tracing::info!("stopping: calls under way may finish");
    })
}
