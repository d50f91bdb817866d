//! `sys-server config check`: a file is read as `run --config` reads it, and so is what it names. Nothing is made, opened for
//! writing or listened on, so that it may run beside the server.

use crate::options::Run;
use anyhow::{Context, bail};
use std::{fs, net::SocketAddr, os::unix::fs::PermissionsExt, path::Path};
use sys_account::Mailer;
use sys_core::clock::Clock;
use sys_edge::tls::Identity;
use sys_server::{
    Config, Mailing, Sockets,
    config_file::{CertificateFiles, ConfigFile},
    modules,
};
use zeroize::Zeroizing;

/// Bits of a mode. A group may read a secret, as when root renews certificates for the server's user; nobody but that user has
/// anything to do in the data directory.
const EVERYBODY: u32 = 0o007;
const OTHERS: u32 = 0o077;
/// What `mail.from` is tried with where no mail server is named.
const NO_MAIL_SERVER: &str = "smtp://localhost";

/// All that is wrong with a file, or that it is well.
pub(crate) fn check(path: &Path) -> anyhow::Result<String> {
    let file = ConfigFile::read(path)?;
    let config = Run::of_file(path.to_owned()).settings(file.clone(), Sockets::default())?.config;
    let mut problems = Vec::new();
    let account = file.tls.acme.as_ref().and_then(|acme| acme.external_account.as_ref());
    let keys = file.tls.files.iter().map(|files| &files.key).chain(account.map(|account| &account.key_file));
    let secrets = file.passphrase_file.iter().chain(keys).chain(&file.traces.headers_file);
    let own = file.danger_key_file.iter().filter(|secret| is_open(secret, OTHERS));
    for secret in secrets.filter(|secret| is_open(secret, EVERYBODY)).chain(own) {
        problems.push(format!("{0} can be read by others: run `chmod 600 {0}`", secret.display()));
    }
    for files in &file.tls.files {
        if let Err(error) = certificate(files) {
            problems.push(format!("tls.files: {error:#}"));
        }
    }
    problems.extend(twice(&config));
    let data_dir = &config.data_dir;
    if data_dir.exists() && !data_dir.is_dir() {
        problems.push(format!("data_dir: {} is no directory", data_dir.display()));
    } else if is_open(data_dir, OTHERS) {
        problems.push(format!("data_dir: {0} is open to others: run `chmod 700 {0}`", data_dir.display()));
    }
    for dir in &config.modules {
        if let Err(error) = modules::read(dir) {
            problems.push(format!("modules: {error:#}"));
        }
    }
    let mail_server = if let Mailing::Smtp(url) = &config.mailing { url } else { NO_MAIL_SERVER };
    if let Err(error) = Mailer::smtp(mail_server, &config.mail_from) {
        problems.push(format!("mail: {error}"));
    }
    if problems.is_empty() {
        return Ok(format!("{} is well\n", path.display()));
    }
    let lines: Vec<String> = problems.iter().map(|problem| format!("{}: {problem}", path.display())).collect();
    bail!("{}", lines.join("\n"))
}

/// Refuses what no client would take.
fn certificate(files: &CertificateFiles) -> anyhow::Result<()> {
    let read =
        |path: &Path| fs::read(path).map(Zeroizing::new).with_context(|| format!("{} cannot be read", path.display()));
    let (chain, key) = (read(&files.chain)?, read(&files.key)?);
    let which = || files.chain.display().to_string();
    let identity = Identity::from_pem(&chain, &key).with_context(which)?;
    if identity.not_after_unix_s() <= Clock::System.now().unix_s {
        bail!("{}: the certificate has ended; have it renewed", which());
    }
    Ok(())
}

/// The streams that two listeners would want at one address.
fn twice(config: &Config) -> impl Iterator<Item = String> {
    let edge = &config.edge;
    let others = [
        ("metrics_listen", config.metrics_listen),
        ("plain_listen", edge.plain_listen),
        ("dns.tls_listen", edge.dns_tls_listen),
    ];
    let others = others.into_iter().filter_map(|(name, addr)| Some((name, addr?)));
    let mut taken: Vec<SocketAddr> = vec![config.listen];
    let all: Vec<_> = others.chain(edge.dns_listen.iter().map(|addr| ("dns.listen", *addr))).collect();
    all.into_iter().filter_map(move |(name, addr)| {
        let is_taken = addr.port() != 0 && taken.contains(&addr);
        taken.push(addr);
        is_taken.then(|| format!("{name}: the server listens on {addr} for something else; name another port"))
    })
}

/// Whether some of these may look into what is there.
fn is_open(path: &Path, to: u32) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & to != 0)
}
