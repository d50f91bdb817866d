//! `sys-server config check`: a file is read as `run --config` reads it, and so is what it names. Nothing is made, opened for
//! writing or listened on, so that it may run beside the server.

use crate::options::Run;
use anyhow::bail;
use std::{fs, os::unix::fs::PermissionsExt, path::Path};
use sys_account::Mailer;
use sys_server::{Mailing, config_file::ConfigFile, modules};

/// What `mail.from` is tried with where no mail server is named.
const NO_MAIL_SERVER: &str = "smtp://localhost";

/// All that is wrong with a file, or that it is well.
pub(crate) fn check(path: &Path) -> anyhow::Result<String> {
    let file = ConfigFile::read(path)?;
    let secret = file.passphrase_file.clone().or_else(|| file.danger_key_file.clone());
    let config = Run::of_file(path.to_owned()).settings(file)?.config;
    let mut problems = Vec::new();
    if let Some(secret) = secret.filter(|secret| is_open(secret)) {
        problems.push(format!("{0} can be read by others: run `chmod 600 {0}`", secret.display()));
    }
    let data_dir = &config.data_dir;
    if data_dir.exists() && !data_dir.is_dir() {
        problems.push(format!("data_dir: {} is no directory", data_dir.display()));
    } else if is_open(data_dir) {
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
    if config.metrics_listen.is_some_and(|metrics| metrics == config.listen && metrics.port() != 0) {
        problems.push("metrics_listen: the server listens there itself; name another port".to_owned());
    }
    if problems.is_empty() {
        return Ok(format!("{} is well\n", path.display()));
    }
    let lines: Vec<String> = problems.iter().map(|problem| format!("{}: {problem}", path.display())).collect();
    bail!("{}", lines.join("\n"))
}

/// Whether others than its owner may look into what is there.
fn is_open(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0)
}
