//! The import of an organisation at the first run: the I/O around `sys_account::bootstrap`.

use crate::Server;
use anyhow::{Context, anyhow};
use indicatif::{ProgressBar, ProgressStyle};
use std::{
    collections::HashSet,
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};
use sys_account::bootstrap::{self, Imported, file};
use sys_contract::id::{OrgId, ProjectId};
use zeroize::Zeroizing;

/// Imports a file of the earlier system: all of it or, where anything in it is wrong, nothing. Passwords that were drawn are
/// left in a file of mode 0600 in the data directory before anything is stored, so that none is lost.
pub async fn import(server: &Server, path: &Path) -> anyhow::Result<Imported> {
    let read = read(path)?;
    let (monitor, identity) = (&server.monitor, server.monitor.identity());
    let entropy = monitor.store().entropy().clone();
    // Where nobody looks at standard error, nothing is drawn.
    let progress = ProgressBar::new(u64::try_from(read.users.len())?).with_style(style());
    let prepared = bootstrap::prepare(read, identity, entropy.as_ref(), || progress.inc(1)).await;
    progress.finish_and_clear();
    let prepared = prepared?;
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

/// Somebody of an imported file, for the first steps of a newcomer.
#[derive(Debug)]
pub struct Somebody {
    /// The address that he logs in with.
    pub email: String,
    /// An org that he is in.
    pub org: OrgId,
    /// A project of it that he may write into.
    pub project: ProjectId,
    /// Where his password stands.
    pub password: PasswordAt,
}

/// Where a password stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PasswordAt {
    /// In this line of the file of drawn passwords.
    Drawn(usize),
    /// In this line of the file that was imported.
    Brought(usize),
}

/// Somebody of the file, if it has anybody who may write into a project.
pub async fn somebody(server: &Server, path: &Path) -> anyhow::Result<Option<Somebody>> {
    let read = read(path)?;
    let (monitor, identity) = (&server.monitor, server.monitor.identity());
    let entropy = monitor.store().entropy().clone();
    let loaded = monitor.host().loaded(bootstrap::RECORDS_OF).context("the account module is not loaded")?;
    let found = monitor
        .danger_as_server(async |open| {
            let mut importer = identity.danger_import(open, loaded.tables(), entropy.as_ref());
            bootstrap::somebody(&mut importer, &read).await
        })
        .await?;
    let Some(found) = found else { return Ok(None) };
    let email = found.user.email.value.as_str().to_owned();
    let brought = found.user.password.as_ref().map(|password| PasswordAt::Brought(password.line));
    let password = brought.or_else(|| drawn_line(&server.data_dir.drawn_passwords(), &email).map(PasswordAt::Drawn));
    Ok(password.map(|password| Somebody { email, org: found.org, project: found.project, password }))
}

/// The line of an address in the operator's file, counted from 1.
fn drawn_line(path: &Path, email: &str) -> Option<usize> {
    let text = Zeroizing::new(fs::read_to_string(path).ok()?);
    text.lines().position(|line| line.split(' ').next() == Some(email)).map(|index| index + 1)
}

fn style() -> ProgressStyle {
    let style = ProgressStyle::with_template("passwords {bar:30} {human_pos}/{human_len}, {eta} left");
    style.unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn read(path: &Path) -> anyhow::Result<file::BootstrapFile> {
    let text = Zeroizing::new(fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?);
    file::read(&text).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(|problem| format!("{}:{problem}", path.display())).collect();
        anyhow!("nothing was imported, since the file has errors:\n{}", lines.join("\n"))
    })
}

/// Adds passwords to the operator's file, in place of those of the same addresses: an import that failed after this has left
/// passwords of accounts that do not exist.
fn keep(path: &Path, drawn: &[(String, Zeroizing<String>)]) -> anyhow::Result<()> {
    if drawn.is_empty() {
        return Ok(());
    }
    let before = match fs::read_to_string(path) {
        Ok(text) => Zeroizing::new(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Zeroizing::default(),
        Err(error) => return Err(error).with_context(|| format!("{} cannot be read", path.display())),
    };
    let addresses: HashSet<&str> = drawn.iter().map(|(email, _)| email.as_str()).collect();
    let new = path.with_extension("txt.new");
    // What an earlier attempt left may be open to others, or lead elsewhere.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    let mut lines = BufWriter::new(file);
    for line in before.lines().filter(|line| !addresses.contains(line.split(' ').next().unwrap_or_default())) {
        writeln!(lines, "{line}")?;
    }
    for (email, password) in drawn {
        writeln!(lines, "{email} {}", password.as_str())?;
    }
    lines.into_inner()?.sync_all()?;
    fs::rename(&new, path)?;
    let folder = path.parent().context("a file lies in a folder")?;
    Ok(File::open(folder)?.sync_all()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn an_import_that_is_repeated_leaves_one_password_for_each_address() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("passwords.txt");
        let drawn = |pairs: &[(&str, &str)]| -> Vec<(String, Zeroizing<String>)> {
            pairs
                .iter()
                .map(|(email, password)| ((*email).to_owned(), Zeroizing::new((*password).to_owned())))
                .collect()
        };
        keep(&path, &drawn(&[("a@example.org", "one"), ("b@example.org", "two")])).unwrap();
        fs::write(path.with_extension("txt.new"), "what a crash left").unwrap();
        keep(&path, &drawn(&[("b@example.org", "three"), ("c@example.org", "four")])).unwrap();
        keep(&path, &[]).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text, "a@example.org one\nb@example.org three\nc@example.org four\n");
        assert_eq!(drawn_line(&path, "b@example.org"), Some(2));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
