//! The command line.

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use std::{fs, net::SocketAddr, path::PathBuf};
use sys_core::{clock::Clock, throttle::Rates};
use sys_edge::Limits;
use sys_keys::{SecretBytes, Unsealer};
use sys_server::{Config, Mailing};

/// The secure base for an organisation's applications: one server, one contract.
#[derive(Debug, Parser)]
#[command(name = "sys-server", version)]
pub(crate) struct Options {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const LOGGING: &str = "\
SYS_LOG sets what is logged to standard error, such as `debug` or `warn,sys_server=info` (the default). No log line holds \
a value of a record, an address or a token.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs the server until SIGINT or SIGTERM.
    #[command(after_help = LOGGING)]
    Run(Box<Run>),
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// Where everything is kept. Made if it is not there; nothing outside it is written.
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: PathBuf,

    /// What to listen on. Without TLS, loopback only.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8443")]
    pub(crate) listen: SocketAddr,

    /// Reads the passphrase of the master key from this file, without its last line break.
    #[arg(long, value_name = "FILE", required_unless_present = "danger_key_file")]
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

    /// The address that mail comes from.
    #[arg(long, value_name = "ADDRESS", default_value = "sys@localhost")]
    pub(crate) mail_from: String,

    /// Leaves mail in this directory instead of sending it. Default: `outbox` in the data directory.
    #[arg(long, value_name = "DIR")]
    pub(crate) outbox_dir: Option<PathBuf>,

    /// Lets every verified account create an org, of which it is the first admin.
    #[arg(long)]
    pub(crate) allow_org_create: bool,

    /// Megabytes of memory for the store's cache.
    #[arg(long, value_name = "MB", default_value_t = 256)]
    pub(crate) cache_mb: usize,
}

impl Run {
    /// The server that was asked for.
    pub(crate) fn config(&self) -> anyhow::Result<Config> {
        let mailing = match (&self.smtp, &self.outbox_dir) {
            (Some(url), _) => Mailing::Smtp(url.clone()),
            (None, Some(dir)) => Mailing::Directory(dir.clone()),
            (None, None) => Mailing::DataDir,
        };
        Ok(Config {
            data_dir: self.data_dir.clone(),
            listen: self.listen,
            issuer: None,
            unsealer: self.unsealer()?,
            modules: self.modules.clone(),
            mailing,
            mail_from: self.mail_from.clone(),
            allow_org_create: self.allow_org_create,
            cache_bytes: self.cache_mb.saturating_mul(1 << 20),
            limits: Limits::default(),
            rates: Rates::default(),
            clock: Clock::System,
        })
    }

    fn unsealer(&self) -> anyhow::Result<Unsealer> {
        if let Some(file) = &self.danger_key_file {
            return Ok(Unsealer::DangerKeyFile(file.clone()));
        }
        let file = self.passphrase_file.as_ref().context("name a --passphrase-file")?;
        let mut bytes = fs::read(file).with_context(|| format!("{} cannot be read", file.display()))?;
        if bytes.ends_with(b"\n") {
            bytes.pop();
        }
        Ok(Unsealer::Passphrase(SecretBytes::from(bytes)))
    }
}
