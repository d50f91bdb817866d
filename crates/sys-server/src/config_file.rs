//! The configuration file: what an operator may write, and why a file is refused, with its line and what to write instead.
//!
//! Every setting is also a flag of `sys-server run` or has a default; a flag wins over the file. What must never stand in
//! the file is a secret: it names the files that hold them, so that it can be shown and kept in a repository. The schema
//! that editors use is made from the very types that read the file.

mod changes;
mod edge;

pub use edge::{
    Acme, Address, CertificateFiles, Dns, ExternalAccount, Host, HostName, Http, Network, Origin, SecurityTxt, Tls,
};

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
    /// Connections from one source: an IPv4 address, or the /64 of an IPv6 address. Further ones close at once.
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
    /// For a source: an IPv4 address, or the /64 of an IPv6 address.
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
mod tests {
    use super::*;

    /// What a text is refused with.
    fn check(text: &str, expect: &str) {
        let mistake = ConfigFile::parse(text).expect_err(text);
        assert_eq!(mistake.to_string(), expect, "{text}");
    }

    #[test]
    fn a_mistake_is_told_with_its_line_and_what_to_write() {
        check(
            "rates:\n  source: {per_second: 1, burst: 2}\n  acount: 1",
            "3:3: `acount` is no setting here; did you mean `account`? settings here are source, account, sign_in_per_minute",
        );
        check(
            "data_dir: x\nmetrics_listen: 192.0.2.1:5",
            "2:17: other machines reach this address: write 127.0.0.1:PORT",
        );
        check("metrics_listen: here", "1:17: not an address: write 127.0.0.1:PORT or \"[::1]:PORT\"");
        check("listen: here", "1:9: not an address: write ADDRESS:PORT or \"[ADDRESS]:PORT\"; names are not looked up");
        check("public_addresses: [x]", "1:20: not an address: write one such as 192.0.2.1 or \"2001:db8::1\"");
        check(
            "domains: [org.example, 'a b']",
            "1:24: blanks, quotes and control characters are no part of a name: write \\032 if a blank is really meant",
        );
        check("domains: [org]", "1:11: the name has no dot: write it in full, as in mail.example.org.");
        check(
            "proxies: [192.0.2.1/24]",
            "1:11: \"192.0.2.1/24\" has bits behind its prefix; write 192.0.2.0/24 for the network, or the address alone",
        );
        check(
            "http:\n  cors_origins: ['*']",
            "2:18: \"*\" would let in every website; name each that may call, such as https://app.example.org",
        );
        check(
            "dns: {tls_listen: dns.example}",
            "1:19: not an address: write ADDRESS:PORT or \"[ADDRESS]:PORT\"; names are not looked up",
        );
        check("https_port: 0", "1:1: write a whole number, 1 or more");
        check("tls: {files: [{chain: a}]}", "1:16: `key` is missing beside the others: write `key: VALUE`");
        check(
            "tls: {local-ca: true}",
            "1:7: `local-ca` is no setting here; did you mean `local_ca`? settings here are acme, files, local_ca, ech_public_names, \
             ech_rotation_hours",
        );
        check("tls: {acme: {}}", "1:13: `email` is missing beside the others: write `email: VALUE`");
        check("data_dir: x\ncache_mb: 0", "2:1: write a whole number, 1 or more");
        check("data_dir: x\ncache_mb: many", "2:11: write a whole number, 1 or more");
        check("allow_org_create: maybe", "1:19: write true or false");
        check("log:\n  format: xml", "2:11: `xml` is none of them: write text or json");
        check("rates:\n  source: {per_second: 1}", "2:12: `burst` is missing beside the others: write `burst: VALUE`");
        check("listen: 127.0.0.1:1\nlisten: 127.0.0.1:2", "2:1: this setting stands twice: remove one");
        check(
            "mail:\n  smtp: smtp://user:secret@mail.example.org",
            "2:9: a password does not belong in this file: put the URL into the variable SYS_SMTP",
        );
        check(
            "data_dir: x\npassphrase_file: a\ndanger_key_file: b\n",
            "3:1: `passphrase_file` and `danger_key_file` exclude each other: remove one",
        );
        check("mail: {smtp: 'smtp://a', outbox_dir: b}", "0:1: `smtp` and `outbox_dir` exclude each other: remove one");
        check("modules: a", "1:10: a list should stand here: write [ONE, OTHER]");
        check("- a", "1:1: settings should stand here: write `name: value`");
        for text in ["a: [", "data_dir: 'x", "log:\n  filter: a=b=c", "data_dir: x\n---\ndata_dir: y"] {
            let mistake = ConfigFile::parse(text).expect_err(text);
            println!("{text:?} {mistake}");
            assert!(mistake.line >= 1 && !mistake.what.contains(" at line "), "{mistake}");
        }
    }

    #[test]
    fn nothing_is_a_configuration_too() {
        for text in ["", "# a comment\n", "data_dir:\n"] {
            assert_eq!(ConfigFile::parse(text), Ok(ConfigFile::default()), "{text:?}");
        }
    }

    #[test]
    fn the_example_of_the_docs_is_read_and_shows_the_defaults() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/sys-server.yaml");
        let file = ConfigFile::read(&path).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(file.data_dir.as_deref(), Some(Path::new("/var/lib/sys")));
        assert_eq!(file.listen, Some(Address(([127, 0, 0, 1], 8443).into())));
        let (limits, rates) = (sys_edge::Limits::default(), sys_core::throttle::Rates::default());
        let shown = &file.limits;
        for (shown, default) in [
            (shown.connections, limits.connections as u64),
            (shown.connections_per_source, limits.connections_per_source as u64),
            (shown.streams_per_connection, limits.concurrent_streams.into()),
            (shown.head_seconds, limits.header_timeout.as_secs()),
            (shown.idle_seconds, limits.idle_timeout.as_secs()),
            (shown.crowded_idle_seconds, limits.crowded_idle_timeout.as_secs()),
            (shown.age_seconds, limits.connection_age.as_secs()),
            (shown.stall_seconds, limits.stall_timeout.as_secs()),
            (shown.least_bytes_per_second, limits.least_bytes_per_s),
            (shown.longest_wait_milliseconds, u64::try_from(limits.longest_wait.as_millis()).unwrap()),
            (shown.drain_seconds, limits.drain_timeout.as_secs()),
        ] {
            assert_eq!(shown.map(|shown| u64::from(shown.get())), Some(default), "{limits:?}");
        }
        let rate = |rate: sys_core::throttle::Rate| Some(Rate { per_second: rate.per_second, burst: rate.burst });
        assert_eq!((file.rates.source, file.rates.account), (rate(rates.source), rate(rates.account)));
        assert_eq!(file.rates.sign_in_per_minute, Some(rates.sign_in_per_minute));
    }

    #[test]
    fn what_the_example_shows_in_comments_is_read_too() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/sys-server.yaml");
        let shown = |line: &str| {
            let (name, _) = line.trim_start().strip_prefix("# ")?.split_once(": ")?;
            // These two stand beside what they exclude.
            let is_setting = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
            (is_setting && !["danger_key_file", "outbox_dir"].contains(&name)).then(|| line.replacen("# ", "", 1))
        };
        let text = fs::read_to_string(path).expect("the example");
        let lines: Vec<String> = text.lines().map(|line| shown(line).unwrap_or_else(|| line.to_owned())).collect();
        let file = ConfigFile::parse(&lines.join("\n")).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(file.plain_listen, Some(Address(([0, 0, 0, 0], 80).into())));
        assert_eq!(file.https_port.map(NonZeroU16::get), Some(443));
        assert_eq!(file.public_addresses, [Host([192, 0, 2, 1].into())]);
        assert_eq!(file.tls.acme.expect("acme").email, "you@org.example");
        assert_eq!(file.tls.files.len(), 1);
        assert_eq!(file.dns.tls_listen, Some(Address(([192, 0, 2, 1], 853).into())));
        assert_eq!(file.dns.resolver, Some(Address(([192, 0, 2, 53], 53).into())));
        let security = file.http.security_txt.expect("contacts");
        sys_edge::hygiene::SecurityTxt::new(&security.contacts, &security.expires).expect("what is shown is right");
    }

    #[test]
    fn paths_are_relative_to_the_file() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("sys-server.yaml");
        let tls = "tls: {acme: {email: you@example.org, root_file: root.pem, external_account: {key_id: a, key_file: hmac}}, \
                   files: [{chain: chain.pem, key: /srv/key.pem}]}";
        let rest = "data_dir: data\nmodules: [notes, /srv/other]\nmail: {outbox_dir: ../mail}";
        fs::write(&path, format!("{tls}\n{rest}")).expect("written");
        let file = ConfigFile::read(&path).expect("a configuration");
        assert_eq!(file.data_dir, Some(dir.path().join("data")));
        assert_eq!(file.modules, [dir.path().join("notes"), PathBuf::from("/srv/other")]);
        assert_eq!(file.mail.outbox_dir, Some(dir.path().join("../mail")));
        let acme = file.tls.acme.expect("acme");
        assert_eq!(acme.root_file, Some(dir.path().join("root.pem")));
        assert_eq!(acme.external_account.expect("an account").key_file, dir.path().join("hmac"));
        let files = CertificateFiles { chain: dir.path().join("chain.pem"), key: PathBuf::from("/srv/key.pem") };
        assert_eq!(file.tls.files, [files]);
    }
}
