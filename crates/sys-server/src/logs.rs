//! The log: lines on standard error, for people or for programs.
//!
//! What must never happen here: a line of another crate below a warning. HTTP and TLS libraries write headers, and with them
//! tokens, into their finer levels; whoever asks for all that there is gets all that is ours.

use std::io::{self, IsTerminal};
use sys_server::config_file::{LogFilter, LogFormat};
use tracing::Level;
use tracing_subscriber::{
    EnvFilter, Layer, Registry, filter::filter_fn, layer::SubscriberExt, reload, util::SubscriberInitExt,
};

/// What is logged where nobody says.
const FILTER: &str = "warn,sys_server=info";
/// In the place of a panic of the embedded engine, which checks nothing that it reads.
const ENGINE: &str = "/redb-";
/// How the names of our own crates begin.
const OURS: &str = "sys_";

/// The levels of the log that was started.
#[derive(Debug)]
pub(crate) struct Levels(reload::Handle<EnvFilter, Registry>);

impl Levels {
    /// From now on these.
    pub(crate) fn change(&self, filter: Option<LogFilter>) -> anyhow::Result<()> {
        Ok(self.0.reload(levels(filter))?)
    }
}

/// Starts the log of this process.
pub(crate) fn start(filter: Option<LogFilter>, format: LogFormat) -> Levels {
    let (filter, handle) = reload::Layer::new(levels(filter));
    let ours = filter_fn(|metadata| *metadata.level() <= Level::WARN || metadata.target().starts_with(OURS));
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_target(false);
    let lines = match format {
        LogFormat::Text => lines.with_ansi(io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_target(true).boxed(),
    };
    tracing_subscriber::registry().with(filter).with(lines.with_filter(ours)).init();
    // The place alone: a panic's text may hold what somebody wrote.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        match place.contains(ENGINE) {
            true => tracing::error!(
                place,
                "the data file is damaged: stop the server, and ask `sys-server doctor` what is left"
            ),
            false => tracing::error!(place, "a task failed: this is a fault of the server"),
        }
    }));
    Levels(handle)
}

fn levels(filter: Option<LogFilter>) -> EnvFilter {
    EnvFilter::new(filter.map_or_else(|| FILTER.to_owned(), |filter| filter.0))
}
