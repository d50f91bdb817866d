//! SIGHUP: the files of certificates are looked at, the configuration file is read again, and what can change does so in the server that
//! runs. No connection is dropped.
//!
//! What must never happen here: half of a configuration. A file that no server would start with changes nothing.

use crate::{logs::Levels, options::Run};
use anyhow::Context;
use std::convert::Infallible;
use sys_edge::notify::{State, notify};
use sys_server::{Live, Sockets, config_file::ConfigFile};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signal that asks for it.
#[derive(Debug)]
pub(crate) struct Hangups(Signal);

impl Hangups {
    /// From this call on, the process is not killed by it.
    pub(crate) fn listen() -> anyhow::Result<Self> {
        Ok(Self(signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?))
    }
}

/// What is read again, and what it is compared with.
#[derive(Debug)]
pub(crate) struct Reload {
    /// The command line, whose flags still win.
    pub(crate) run: Run,
    /// The file as the server was started with it.
    pub(crate) started: ConfigFile,
    pub(crate) levels: Levels,
}

impl Reload {
    /// Does it at each signal, for ever.
    pub(crate) async fn at_each(self, mut hangups: Hangups, live: Live) -> Infallible {
        loop {
            if hangups.0.recv().await.is_none() {
                // No signal comes any more.
                std::future::pending::<()>().await;
            }
            tell(State::Reloading);
            live.look_at_files();
            match self.again(&live) {
                Ok(waiting) => {
                    for setting in waiting {
                        tracing::warn!(setting, "was changed, and needs a restart");
                    }
                    tracing::info!("the configuration was read again");
                }
                Err(error) => tracing::error!("everything stays as it was: {error:#}"),
            }
            tell(State::Ready);
        }
    }

    /// The settings that wait for a restart, once all others hold.
    fn again(&self, live: &Live) -> anyhow::Result<Vec<&'static str>> {
        let file = self.run.file()?;
        let edge = self.run.edge(&file, Sockets::default())?;
        let traces = self.run.traces.settings(&file.traces)?;
        let (filter, _) = self.run.log(&file);
        self.levels.change(filter)?;
        live.trace(traces);
        live.say(edge.hygiene);
        Ok(self.started.wait_for_restart(&file))
    }
}

/// Tells who started us, if somebody wants to hear it.
pub(crate) fn tell(state: State) {
    if let Err(error) = notify(state) {
        tracing::warn!(%error, "systemd could not be told how the server is");
    }
}
