//! The command line, and what it means together with a configuration file: a flag wins, then the file, then the default.

use crate::{
    bring_in::ImportOptions,
    edge_flags::EdgeFlags,
    examine::Doctor,
    key_flags::unsealer,
    offline::{ChangePassphrase, EndSessions},
    trace_flags::TraceFlags,
};
use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use std::{fs, net::SocketAddr, num::NonZeroU32, path::PathBuf, sync::Arc, time::Duration};
use sys_core::{
    clock::Clock,
    countries::Countries,
    throttle::{Rate, Rates},
};
use sys_edge::Limits;
use sys_server::{
    Config, EdgeConfig, Mailing, Sockets,
    config_file::{self, ConfigFile, LogFilter, LogFormat},
};

/// What the server listens on where nobody says.
const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8443);
/// Who mail comes from where nobody says.
const MAIL_FROM: &str = "sys@localhost";
/// The largest table of countries that is read; the whole internet's has some 30 MB.
const MAX_COUNTRIES_BYTES: u64 = 256 << 20;
/// Megabytes of the store's cache where nobody says.
const CACHE_MB: u32 = 256;

/// The secure base for an organisation's applications: one server, one contract.
#[derive(Debug, Parser)]
#[command(name = "sys-server", version)]
pub(crate) struct Options {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const LOGGING: &str = "\
The log goes to standard error. No line of it holds a value of a record, an address or a token, at any level: of other \
crates than the server's own, warnings and errors alone are logged.

SIGHUP has it look at the files of certificates and read the configuration again: what can change does so at once, and of the rest \
the log says that it waits for a restart. SIGTERM and SIGINT stop the server: it takes no more connections, lets calls under way finish, and ends with 0.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs the server until SIGINT or SIGTERM.
    #[command(after_help = LOGGING)]
    Run(Box<Run>),

    /// Says what is wrong with a data directory that no server uses, and repairs its indexes. Ends with 0 if nothing is
    /// wrong, 1 if something is, 2 if it cannot be opened.
    Doctor(Doctor),

    /// Brings many records into a data directory that no server uses, from files with one in each line.
    Import(ImportOptions),

    /// Ends all sessions and makes all one-time tokens void, in a data directory that no server uses: after an older store was put
    /// back, in which those stand as good that were ended since.
    EndSessions(EndSessions),

    /// Puts another passphrase in the place of what opens the master key, in a data directory that no server uses. Copies of the
    /// key file from before still open by the old one.
    ChangePassphrase(ChangePassphrase),

    /// Checks a configuration file, or prints the schema of one.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },

    /// Prints the manual page, or writes the pages of all commands into a folder.
    Man {
        /// Writes one page for each command into this folder.
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },

    /// Prints a script that completes commands in a shell.
    Completion {
        /// The shell.
        shell: Shell,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Reads a file as `run --config` does, and everything that it names; starts nothing, changes nothing.
    Check {
        /// The file.
        file: PathBuf,
    },
    /// Prints the JSON Schema of the file, for editors.
    Schema,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Run {
    /// Takes settings from this file; flags win over it. `sys-server config schema` says what may stand in it.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Where everything is kept. Made if it is not there; nothing outside it is written.
    #[arg(long, value_name = "DIR", required_unless_present = "config")]
    pub(crate) data_dir: Option<PathBuf>,

    /// What to listen on. Without TLS, loopback only. Default: 127.0.0.1:8443.
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    pub(crate) listen: Option<SocketAddr>,

    #[command(flatten)]
    pub(crate) edge: EdgeFlags,

    /// Answers metrics for Prometheus on this address, at /metrics. Loopback only; off by default.
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    pub(crate) metrics_listen: Option<SocketAddr>,

    #[command(flatten)]
    pub(crate) traces: TraceFlags,

    /// Reads the passphrase of the master key from this file, without its last line break.
    #[arg(long, value_name = "FILE", required_unless_present_any = ["danger_key_file", "config"])]
    pub(crate) passphrase_file: Option<PathBuf>,

    /// DANGEROUS: keeps the key of the master key readable in this file. For demos and tests.
    #[arg(long, value_name = "FILE", conflicts_with = "passphrase_file")]
    pub(crate) danger_key_file: Option<PathBuf>,

    /// Serves the contract in this folder: its `.proto` files, by their paths below it. May be given again.
    #[arg(long = "module", value_name = "DIR")]
    pub(crate) modules: Vec<PathBuf>,

    /// Imports an organisation from a file of the earlier system, once.
    #[arg(long, value_name = "FILE")]
    pub(crate) bootstrap: Option<PathBuf>,

    /// Sends mail through this server: smtp://HOST:PORT or smtps://USER:PASSWORD@HOST.
    #[arg(long, value_name = "URL", env = "SYS_SMTP", hide_env_values = true, conflicts_with = "outbox_dir")]
    pub(crate) smtp: Option<String>,

    /// The address that mail comes from. Default: sys@localhost.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) mail_from: Option<String>,

    /// Leaves mail in this directory instead of sending it. Default: `outbox` in the data directory.
    #[arg(long, value_name = "DIR")]
    pub(crate) outbox_dir: Option<PathBuf>,

    /// Lets every verified account create an org, of which it is the first admin.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) allow_org_create: Option<bool>,

    /// Erases what entries of the audit logs said when they are older than this. Their hashes stay, so that the rest can be
    /// verified. By default nothing is erased.
    #[arg(long, value_name = "DAYS")]
    pub(crate) audit_retention_days: Option<NonZeroU32>,

    /// Megabytes of memory for the store's cache. Default: 256.
    #[arg(long, value_name = "MB")]
    pub(crate) cache_mb: Option<u32>,

    /// Shows people in their lists of sessions which country each was used from, by this table: lines of
    /// FIRST-ADDRESS,LAST-ADDRESS,COUNTRY. The addresses themselves are not kept.
    #[arg(long, value_name = "FILE")]
    pub(crate) countries_file: Option<PathBuf>,

    /// What is logged, such as `debug` or `warn,sys_server=info` (the default).
    #[arg(long, value_name = "LEVELS", env = "SYS_LOG", value_parser = log_filter)]
    pub(crate) log: Option<LogFilter>,

    /// How a line of the log is written; `text` by default.
    #[arg(long, value_name = "FORMAT", env = "SYS_LOG_FORMAT")]
    pub(crate) log_format: Option<LogFormat>,
}

/// A server that was asked for, by the command line and the file together.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) config: Config,
    pub(crate) bootstrap: Option<PathBuf>,
    /// Whether the key of all keys lies readable in a file.
    pub(crate) key_is_readable: bool,
}

impl Run {
    /// The command line with nothing on it but a file.
    pub(crate) fn of_file(file: PathBuf) -> Self {
        Self {
            config: Some(file),
            data_dir: None,
            listen: None,
            edge: EdgeFlags::default(),
            metrics_listen: None,
            traces: TraceFlags::default(),
            passphrase_file: None,
            danger_key_file: None,
            modules: Vec::new(),
            bootstrap: None,
            smtp: None,
            mail_from: None,
            outbox_dir: None,
            allow_org_create: None,
            audit_retention_days: None,
            cache_mb: None,
            countries_file: None,
            log: None,
            log_format: None,
        }
    }

    /// The file that it names, or one without settings.
    pub(crate) fn file(&self) -> anyhow::Result<ConfigFile> {
        Ok(self.config.as_deref().map(ConfigFile::read).transpose()?.unwrap_or_default())
    }

    /// What is logged and how.
    pub(crate) fn log(&self, file: &ConfigFile) -> (Option<LogFilter>, LogFormat) {
        let filter = self.log.clone().or_else(|| file.log.filter.clone());
        (filter, self.log_format.or(file.log.format).unwrap_or_default())
    }

    /// What it listens on where nobody has bound a port for it.
    fn listen(&self, file: &ConfigFile) -> SocketAddr {
        self.listen.or(file.listen.map(|address| address.0)).unwrap_or(LISTEN)
    }

    /// How the server is reached, by this file. Refused where no server would start with it.
    pub(crate) fn edge(&self, file: &ConfigFile, sockets: Sockets) -> anyhow::Result<EdgeConfig> {
        let listen = sockets.listen_addr().unwrap_or_else(|| self.listen(file));
        let edge = self.edge.clone().config(file, listen, sockets)?;
        edge.check(listen)?;
        Ok(edge)
    }

    /// The server that was asked for, with ports that are bound already.
    pub(crate) fn settings(self, file: ConfigFile, sockets: Sockets) -> anyhow::Result<Settings> {
        let listen = self.listen(&file);
        let edge = self.edge(&file, sockets)?;
        let data_dir = self.data_dir.or(file.data_dir).context("no data directory is named: write `data_dir: DIR`")?;
        // The two say one thing: a flag for either takes the place of both.
        let (passphrase, danger) = match (self.passphrase_file, self.danger_key_file) {
            (None, None) => (file.passphrase_file, file.danger_key_file),
            named => named,
        };
        let key_is_readable = danger.is_some();
        let mailing = match (self.smtp, self.outbox_dir) {
            (Some(url), _) => Mailing::Smtp(url),
            (None, Some(dir)) => Mailing::Directory(dir),
            (None, None) => match (file.mail.smtp, file.mail.outbox_dir) {
                (Some(url), _) => Mailing::Smtp(url.0),
                (None, Some(dir)) => Mailing::Directory(dir),
                (None, None) => Mailing::DataDir,
            },
        };
        let cache_mb = self.cache_mb.or(file.cache_mb.map(u32::from)).unwrap_or(CACHE_MB);
        let config = Config {
            data_dir,
            listen,
            edge,
            metrics_listen: self.metrics_listen.or(file.metrics_listen.map(|loopback| loopback.0)),
            traces: self.traces.settings(&file.traces)?,
            issuer: None,
            unsealer: unsealer(passphrase, danger)?,
            modules: if self.modules.is_empty() { file.modules } else { self.modules },
            mailing,
            mail_from: self.mail_from.or(file.mail.from).unwrap_or_else(|| MAIL_FROM.to_owned()),
            allow_org_create: self.allow_org_create.or(file.allow_org_create).unwrap_or_default(),
            audit_retention: self.audit_retention_days.or(file.audit_retention_days).map(days),
            cache_bytes: usize::try_from(cache_mb)?.saturating_mul(1 << 20),
            limits: limits(&file.limits),
            rates: rates(&file.rates),
            clock: Clock::System,
            countries: countries(self.countries_file.or(file.countries_file))?,
        };
        Ok(Settings { config, bootstrap: self.bootstrap, key_is_readable })
    }
}

fn days(days: NonZeroU32) -> Duration {
    Duration::from_secs(u64::from(days.get()).saturating_mul(86_400))
}

pub(crate) fn address(text: &str) -> Result<SocketAddr, String> {
    let unlike =
        |_| "write an address and a port, such as 127.0.0.1:8443 or [::1]:8443; names are not looked up".to_owned();
    text.parse().map_err(unlike)
}

fn log_filter(text: &str) -> Result<LogFilter, String> {
    LogFilter::try_from(text.to_owned())
}

/// The table in this file; without one, no country is known.
fn countries(file: Option<PathBuf>) -> anyhow::Result<Arc<Countries>> {
    let Some(file) = file else { return Ok(Arc::default()) };
    let about = || format!("{} is no table of countries", file.display());
    if fs::metadata(&file).with_context(about)?.len() > MAX_COUNTRIES_BYTES {
        bail!("{}: it has more than {MAX_COUNTRIES_BYTES} bytes", about());
    }
    let text = fs::read_to_string(&file).with_context(about)?;
    Ok(Arc::new(Countries::parse(&text).with_context(about)?))
}

fn limits(file: &config_file::Limits) -> Limits {
    let of = Limits::default();
    let many = |many: Option<NonZeroU32>, of| many.and_then(|many| usize::try_from(many.get()).ok()).unwrap_or(of);
    let seconds = |time: Option<NonZeroU32>, of| time.map_or(of, |time| Duration::from_secs(time.get().into()));
    let milliseconds = |time: Option<NonZeroU32>, of| time.map_or(of, |time| Duration::from_millis(time.get().into()));
    Limits {
        connections: many(file.connections, of.connections),
        connections_per_source: many(file.connections_per_source, of.connections_per_source),
        concurrent_streams: file.streams_per_connection.map_or(of.concurrent_streams, NonZeroU32::get),
        header_timeout: seconds(file.head_seconds, of.header_timeout),
        idle_timeout: seconds(file.idle_seconds, of.idle_timeout),
        crowded_idle_timeout: seconds(file.crowded_idle_seconds, of.crowded_idle_timeout),
        connection_age: seconds(file.age_seconds, of.connection_age),
        stall_timeout: seconds(file.stall_seconds, of.stall_timeout),
        least_bytes_per_s: file.least_bytes_per_second.map_or(of.least_bytes_per_s, |bytes| bytes.get().into()),
        longest_wait: milliseconds(file.longest_wait_milliseconds, of.longest_wait),
        drain_timeout: seconds(file.drain_seconds, of.drain_timeout),
        ..of
    }
}

fn rates(file: &config_file::Rates) -> Rates {
    let mut rates = Rates::default();
    let bucket = |rate: config_file::Rate| Rate { per_second: rate.per_second, burst: rate.burst };
    rates.source = file.source.map_or(rates.source, bucket);
    rates.account = file.account.map_or(rates.account, bucket);
    rates.sign_in_per_minute = file.sign_in_per_minute.unwrap_or(rates.sign_in_per_minute);
    rates
}

#[cfg(test)]
mod tests;
