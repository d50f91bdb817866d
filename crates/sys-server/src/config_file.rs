//! The configuration file: what an operator may write, and why a file is refused, with its line and what to write instead.
//!
//! Every setting is also a flag of `sys-server run` or has a default; a flag wins over the file. What must never stand in
//! the file is a secret: it names the files that hold them, so that it can be shown and kept in a repository. The schema
//! that editors use is made from the very types that read the file.

mod changes;
mod edge;
mod traces;

pub use edge::{
    Acme, Address, CertificateFiles, Dns, ExternalAccount, Host, HostName, Http, Network, Origin, SecurityTxt, Tls,
};
pub use traces::{CollectorUrl, Ratio, Traces};

use schemars::JsonSchema;
use serde::Deserialize;
use std::{
    fmt, fs, io,
    net::SocketAddr,
    num::{NonZeroU16, NonZeroU32},
    path::{Path, PathBuf},
};
use sys_contract::names;
use tracing_subscriber::EnvFilter;

/// Bytes of a file that is read; a configuration has some hundred.
const MAX_FILE_BYTES: u64 = 64 << 10;

/// Settings of `sys-server run`. All of them may be left out; a flag of the same meaning wins. Paths are relative to the
/// folder of this file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "sys-server configuration")]
pub struct ConfigFile {
    /// Where everything is kept: made if it is not there, closed to all but its owner.
    pub data_dir: Option<PathBuf>,
    /// What to listen on, such as `192.0.2.1:443`. Loopback only, where there is no TLS.
    pub listen: Option<Address>,
    /// Where plain HTTP is sent on to TLS, such as `192.0.2.1:80`. Nowhere if it is left out.
    pub plain_listen: Option<Address>,
    /// The domains that the server is reached by, such as `org.example`.
    pub domains: Vec<HostName>,
    /// Further names that it is reached by, within the domains, such as `www.example.org`.
    pub hosts: Vec<HostName>,
    /// The port that clients reach it on; by default the one that is listened on.
    pub https_port: Option<NonZeroU16>,
    /// The addresses that the names lead to. By default the one that is listened on.
    pub public_addresses: Vec<Host>,
    /// The networks of proxies in front, such as `192.0.2.0/24`, which say by PROXY protocol v2 who is behind them.
    pub proxies: Vec<Network>,
    /// Certificates, and how names are hidden.
    pub tls: Tls,
    /// The zones of the domains.
    pub dns: Dns,
    /// What answers over HTTP say beside what was asked.
    pub http: Http,
    /// Where metrics are answered, such as `127.0.0.1:9464`. Loopback only; nowhere if it is left out.
    pub metrics_listen: Option<Loopback>,
    /// Where traces of calls go.
    pub traces: Traces,
    /// The file that holds the passphrase of the master key.
    pub passphrase_file: Option<PathBuf>,
    /// DANGEROUS: the file that holds the key of the master key, readable. For demos and tests.
    pub danger_key_file: Option<PathBuf>,
    /// Folders of modules that are contracts only.
    pub modules: Vec<PathBuf>,
    /// Lets every verified account create an org, of which it is the first admin.
    pub allow_org_create: Option<bool>,
    /// Erases what entries of the audit logs said when they are older than so many days; their hashes stay, so that the rest
    /// can be verified. Nothing is erased if it is left out.
    pub audit_retention_days: Option<NonZeroU32>,
    /// Megabytes of memory for the store's cache.
    pub cache_mb: Option<NonZeroU32>,
    /// A table of the countries of addresses, for people's lists of their sessions: lines of FIRST,LAST,COUNTRY.
    pub countries_file: Option<PathBuf>,
    /// How mail leaves the server.
    pub mail: Mail,
    /// What is logged to standard error.
    pub log: Log,
    /// Bounds of the listener.
    pub limits: Limits,
    /// How often somebody may knock.
    pub rates: Rates,
}

/// How mail leaves the server. Without `smtp` and `outbox_dir` it is left in `outbox` in the data directory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Mail {
    /// The address that mail comes from.
    pub from: Option<String>,
    /// The mail server, such as `smtps://mail.example.org`. One that wants a password goes into the variable SYS_SMTP.
    pub smtp: Option<SmtpUrl>,
    /// Leaves mail in this directory instead of sending it.
    pub outbox_dir: Option<PathBuf>,
}

/// What is logged to standard error.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// Levels, such as `debug` or `warn,sys_server=info` (the default).
    pub filter: Option<LogFilter>,
    /// `text` for people (the default) or `json`, one object a line, for programs.
    pub format: Option<LogFormat>,
}

/// How a line of the log is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line, for programs.
    Json,
}

/// Bounds of the listener.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Connections open at once; further ones wait.
    pub connections: Option<NonZeroU32>,
    /// Connections from one source: an IPv4 address, or the /56 of an IPv6 address. Further ones close at once.
    pub connections_per_source: Option<NonZeroU32>,
    /// Calls that one HTTP/2 connection may have under way.
    pub streams_per_connection: Option<NonZeroU32>,
    /// Seconds until a connection has sent the head of its first request, and an HTTP/1.1 connection that of each.
    pub head_seconds: Option<NonZeroU32>,
    /// Seconds that a connection may be open without a call under way.
    pub idle_seconds: Option<NonZeroU32>,
    /// The same while others wait for a place.
    pub crowded_idle_seconds: Option<NonZeroU32>,
    /// Seconds after which a connection is asked to begin anew.
    pub age_seconds: Option<NonZeroU32>,
    /// Seconds that a client may leave his answer unread, or take less of it in each than `least_bytes_per_second`.
    pub stall_seconds: Option<NonZeroU32>,
    /// Bytes of an answer that a client takes in a second, at least.
    pub least_bytes_per_second: Option<NonZeroU32>,
    /// Milliseconds that a call may have to wait until it is begun with; one that would wait longer is told at once to come
    /// back.
    pub longest_wait_milliseconds: Option<NonZeroU32>,
    /// Seconds that calls under way may take to finish once the server is asked to stop.
    pub drain_seconds: Option<NonZeroU32>,
}

/// How often somebody may knock.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Rates {
    /// For a source: an IPv4 address, or the /56 of an IPv6 address.
    pub source: Option<Rate>,
    /// For an account.
    pub account: Option<Rate>,
    /// Sign-ins from one source at one account, in a minute.
    pub sign_in_per_minute: Option<NonZeroU32>,
}

/// A bucket of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// Refilled in a second.
    pub per_second: NonZeroU32,
    /// Taken at once.
    pub burst: NonZeroU32,
}

/// An address that other machines do not reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub struct Loopback(pub SocketAddr);

impl TryFrom<String> for Loopback {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let addr: SocketAddr = text.parse().map_err(|_| "not an address: write 127.0.0.1:PORT or \"[::1]:PORT\"")?;
        if addr.ip().to_canonical().is_loopback() {
            Ok(Self(addr))
        } else {
            Err("other machines reach this address: write 127.0.0.1:PORT".to_owned())
        }
    }
}

/// The URL of a mail server, without a password.
#[derive(Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub struct SmtpUrl(pub String);

impl fmt::Debug for SmtpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SmtpUrl(..)")
    }
}

impl TryFrom<String> for SmtpUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let Some(rest) = text.strip_prefix("smtp://").or_else(|| text.strip_prefix("smtps://")) else {
            return Err("not the URL of a mail server: write smtps://HOST or smtp://HOST:PORT".to_owned());
        };
        if rest.contains('@') {
            return Err("a password does not belong in this file: put the URL into the variable SYS_SMTP".to_owned());
        }
        Ok(Self(text))
    }
}

/// Levels of the log.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub struct LogFilter(pub String);

impl TryFrom<String> for LogFilter {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        EnvFilter::try_new(&text)
            .map(|_| Self(text))
            .map_err(|error| format!("{error}: write a level such as `info`, or `warn,sys_core=debug`"))
    }
}

/// Why a file is not read.
#[derive(Debug, thiserror::Error)]
pub enum ConfigFileError {
    /// It cannot be opened.
    #[error("{} cannot be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is no configuration.
    #[error("{} has more than {MAX_FILE_BYTES} bytes: it is no configuration", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// Something in it is wrong.
    #[error("{}:{mistake}", path.display())]
    Mistake {
        /// The file.
        path: PathBuf,
        /// What.
        mistake: Mistake,
    },
}

/// What is wrong in a file, where, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: {what}")]
pub struct Mistake {
    /// Counted from 1; 0 where it is the whole file's.
    pub line: u64,
    /// Counted from 1.
    pub column: u64,
    /// In words.
    pub what: String,
}

impl ConfigFile {
    /// Reads a file. Its relative paths become relative to where the process is.
    pub fn read(path: &Path) -> Result<Self, ConfigFileError> {
        let unreadable = |source| ConfigFileError::Unreadable { path: path.to_owned(), source };
        if fs::metadata(path).map_err(unreadable)?.len() > MAX_FILE_BYTES {
            return Err(ConfigFileError::TooLarge { path: path.to_owned() });
        }
        let text = fs::read_to_string(path).map_err(unreadable)?;
        let mut file =
            Self::parse(&text).map_err(|mistake| ConfigFileError::Mistake { path: path.to_owned(), mistake })?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let paths = [
            &mut file.data_dir,
            &mut file.passphrase_file,
            &mut file.danger_key_file,
            &mut file.countries_file,
            &mut file.mail.outbox_dir,
            &mut file.traces.root_file,
            &mut file.traces.headers_file,
        ];
        let acme = file.tls.acme.iter_mut().flat_map(|acme| {
            let key = acme.external_account.as_mut().map(|account| &mut account.key_file);
            acme.root_file.iter_mut().chain(key)
        });
        let certificates = file.tls.files.iter_mut().flat_map(|files| [&mut files.chain, &mut files.key]);
        for named in paths.into_iter().flatten().chain(&mut file.modules).chain(acme).chain(certificates) {
            *named = folder.join(&*named);
        }
        Ok(file)
    }

    /// Reads a text; paths stay as they are written.
    pub fn parse(text: &str) -> Result<Self, Mistake> {
        let file: Option<Self> = serde_saphyr::from_str(text).map_err(mistake)?;
        let file = file.unwrap_or_default();
        let both = |one: &str, other: &str| Mistake {
            line: line_of(text, other),
            column: 1,
            what: format!("`{one}` and `{other}` exclude each other: remove one"),
        };
        if file.passphrase_file.is_some() && file.danger_key_file.is_some() {
            return Err(both("passphrase_file", "danger_key_file"));
        }
        if file.mail.smtp.is_some() && file.mail.outbox_dir.is_some() {
            return Err(both("smtp", "outbox_dir"));
        }
        Ok(file)
    }

    /// The JSON Schema (2020-12) of the file, for editors.
    pub fn schema() -> String {
        let schema = schemars::schema_for!(Self);
        // A schema is JSON that has no map with keys of another type than text, which is all that could fail.
        serde_json::to_string_pretty(&schema).unwrap_or_default()
    }
}

/// The line of the first mapping with this key.
fn line_of(text: &str, key: &str) -> u64 {
    let stands =
        |line: &str| line.trim_start().strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with(':'));
    (1..).zip(text.lines()).find(|(_, line)| stands(line)).map_or(0, |(number, _)| number)
}

fn mistake(error: serde_saphyr::Error) -> Mistake {
    use serde_saphyr::Error;
    let error = error.without_snippet();
    let (line, column) = error.location().map_or((0, 0), |place| (place.line(), place.column()));
    let what = match error {
        Error::SerdeUnknownField { field, expected, .. } => {
            let meant = names::nearest(field, expected.iter().copied());
            let meant = meant.map(|meant| format!("did you mean `{meant}`? ")).unwrap_or_default();
            format!("`{field}` is no setting here; {meant}settings here are {}", expected.join(", "))
        }
        Error::SerdeUnknownVariant { variant, expected, .. } => {
            format!("`{variant}` is none of them: write {}", expected.join(" or "))
        }
        Error::SerdeMissingField { field, .. } => {
            format!("`{field}` is missing beside the others: write `{field}: VALUE`")
        }
        Error::DuplicateMappingKey { .. } => "this setting stands twice: remove one".to_owned(),
        Error::Unexpected { expected: "sequence start", .. } => {
            "a list should stand here: write [ONE, OTHER]".to_owned()
        }
        Error::Unexpected { expected: "mapping start", .. } => {
            "settings should stand here: write `name: value`".to_owned()
        }
        Error::InvalidScalar { ty: "boolean", .. } => "write true or false".to_owned(),
        Error::InvalidScalar { ty: "floating point", .. } => "write a number, such as 0.1".to_owned(),
        Error::InvalidScalar { .. } | Error::SerdeInvalidValue { .. } => "write a whole number, 1 or more".to_owned(),
        other => {
            // The place is told in front.
            let text = other.to_string();
            text.rsplit_once(" at line ").map_or_else(|| text.clone(), |(text, _)| text.to_owned())
        }
    };
    Mistake { line, column, what }
}

#[cfg(test)]
mod tests;
