//! The import of an organisation at the first run: the I/O around `sys_account::bootstrap`.

use crate::Server;
use anyhow::{Context, bail};
use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::Path,
};
use sys_account::bootstrap::{self, Imported, file};
use zeroize::Zeroizing;

/// Imports a file of the earlier system: all of it or, where anything in it is wrong, nothing. Passwords that were drawn are
/// left in a file of mode 0600 in the data directory before anything is stored, so that none is lost.
pub async fn import(server: &Server, path: &Path) -> anyhow::Result<Imported> {
    let text = fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let read = match file::read(&text) {
        Ok(read) => read,
        Err(problems) => {
            let lines: Vec<String> = problems.iter().map(|problem| format!("{}:{problem}", path.display())).collect();
            bail!("nothing was imported, since the file has errors:\n{}", lines.join("\n"));
        }
    };
    let (monitor, identity) = (&server.monitor, server.monitor.identity());
    let entropy = monitor.store().entropy().clone();
    let prepared = bootstrap::prepare(read, identity, entropy.as_ref()).await?;
    let loaded = monitor.host().loaded(bootstrap::RECORDS_OF).context("the account module is not loaded")?;
    let passwords = server.data_dir.drawn_passwords();
    let imported = monitor
        .danger_as_server(async |open| {
            let importer = identity.danger_import(open, loaded.tables(), entropy.as_ref());
            let imported = bootstrap::import(importer, &prepared, server.issuer()).await?;
            keep(&passwords, &imported.drawn_passwords).map_err(sys_core::refusal::Refusal::internal)?;
            Ok(imported)
        })
        .await?;
    Ok(imported)
}

/// Adds passwords to the operator's file.
fn keep(path: &Path, drawn: &[(String, Zeroizing<String>)]) -> anyhow::Result<()> {
    if drawn.is_empty() {
        return Ok(());
    }
    let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    for (email, password) in drawn {
        writeln!(file, "{email} {}", password.as_str())?;
    }
    Ok(file.sync_all()?)
}
