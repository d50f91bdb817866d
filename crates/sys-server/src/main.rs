//! `sys-server`: parse, build, serve, drain. No algorithm lives here.

mod first_steps;
mod options;

use anyhow::Context;
use clap::Parser;
use options::{Command, Options, Run};
use std::{
    io::{self, IsTerminal},
    process::ExitCode,
};
use sys_server::Server;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let options = Options::parse();
    let filter = EnvFilter::try_from_env("SYS_LOG").unwrap_or_else(|_| EnvFilter::new("warn,sys_server=info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_target(false);
    log.with_ansi(io::stderr().is_terminal()).init();
    // The place alone: a panic's text may hold what somebody wrote.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "a task failed: this is a fault of the server");
    }));
    let Command::Run(run) = options.command;
    match serve(*run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn serve(run: Run) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let server = Server::start(run.config()?, Vec::new()).await?;
    first_steps::print(&run, &server).await?;
    let stopped = async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        tracing::info!("stopping: calls under way may finish");
    };
    let drained = server.serve(stopped).await?;
    tracing::info!(finished = drained.finished, cut = drained.cut, "stopped");
    Ok(())
}
