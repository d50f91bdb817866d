//! What a server says at its start: what came in, how to become superadmin, what to try, and where it is ready.

use data_encoding::HEXLOWER;
use std::{
    env,
    io::{self, Write},
    path::{Path, PathBuf},
};
use sys_account::bootstrap::Imported;
use sys_server::{
    Server,
    bootstrap::{self, PasswordAt, Somebody},
};

/// The module whose commands a newcomer tries.
const NOTES: &str = "mod-notes";

/// Imports what is to be imported and prints the first steps. The last line is `ready URL`.
pub(crate) async fn print(import: Option<&Path>, key_is_readable: bool, server: &Server) -> anyhow::Result<()> {
    let mut out = String::new();
    if key_is_readable {
        out.push_str(
            "DANGEROUS: the key of all keys lies readable in a file (--danger-key-file). Whoever copies the disk reads \
             everything. For demos and tests only.\n",
        );
    }
    let mut somebody = None;
    if let Some(file) = import {
        summary(&mut out, &bootstrap::import(server, file).await?, server);
        somebody = bootstrap::somebody(server, file).await?.map(|somebody| (somebody, file));
    }
    let (url, sys) = (server.url(), client());
    // What a client needs to trust the server, in the commands that log in.
    let at = match server.ca_fingerprint() {
        Some(fingerprint) => format!("{url} --ca sha256:{}", HEXLOWER.encode(&fingerprint)),
        None => url.clone(),
    };
    if let Some(token) = server.new_setup_token().await? {
        out.push_str(&format!(
            "\nno superadmin yet; within 30 minutes, once, in another terminal:\n  {sys} setup --server {at} --email \
             you@example.org\nit asks for this token: {}\n",
            token.as_str()
        ));
    }
    match somebody {
        Some((somebody, file)) => tour(&mut out, &somebody, file, server, &at, &sys),
        None => out.push_str(&format!(
            "\ntry next, in another terminal:\n  {sys} login --server {at} --email EMAIL\n  {sys} whoami\n  {sys} org list\n"
        )),
    }
    for addr in server.dns_addrs() {
        out.push_str(&format!("\nzones {addr}\n"));
    }
    if let Some(addr) = server.dns_tls_addr() {
        out.push_str(&format!("\nzones-over-tls {addr}\n"));
    }
    if let Some(addr) = server.plain_addr() {
        out.push_str(&format!("\nplain http://{addr}\n"));
    }
    if let Some(addr) = server.metrics_addr() {
        out.push_str(&format!("\nmetrics http://{addr}/metrics\n"));
    }
    out.push_str(&format!("\nready {url}\n"));
    let mut stdout = io::stdout().lock();
    stdout.write_all(out.as_bytes())?;
    Ok(stdout.flush()?)
}

/// Three commands that work as they stand, as somebody of the organisation that came in.
fn tour(out: &mut String, somebody: &Somebody, file: &Path, server: &Server, at: &str, sys: &str) {
    let Somebody { email, org, project, password } = somebody;
    let login = format!("{sys} login --server {at} --email {}", shell_word(email));
    match password {
        PasswordAt::Drawn(line) => {
            let drawn = shell_word(&near(&server.drawn_passwords()));
            out.push_str(&format!(
                "\ntry next, in another terminal (all passwords stand in {drawn}):\n  sed -n '{line}s/.* //p' {drawn} | {login} \
                 --password-stdin\n"
            ));
        }
        PasswordAt::Brought(line) => out.push_str(&format!(
            "\ntry next, in another terminal (the password stands in line {line} of {}):\n  {login}\n",
            near(file)
        )),
    }
    out.push_str(&format!("  {sys} project list\n"));
    if server.monitor().host().loaded(NOTES).is_some() {
        out.push_str(&format!(
            "  {sys} note create --org-id {org} --project-id {project} --title 'A first note' --published\n"
        ));
    } else {
        out.push_str(&format!("  {sys} project get {project}\n"));
    }
}

fn summary(out: &mut String, imported: &Imported, server: &Server) {
    let Imported { orgs, projects, accounts, bindings, invitations, already_there, .. } = imported;
    out.push_str(&format!(
        "imported: {orgs} orgs, {projects} projects, {accounts} accounts, {bindings} bindings, {invitations} invitations\n"
    ));
    if *already_there > 0 {
        out.push_str(&format!("already there from an earlier import: {already_there}\n"));
    }
    for mismatch in &imported.mismatches {
        out.push_str(&format!("mismatch: {mismatch}\n"));
    }
    for skipped in &imported.skipped {
        out.push_str(&format!("skipped: {skipped}\n"));
    }
    if !imported.drawn_passwords.is_empty() {
        out.push_str(&format!(
            "drew {} passwords; they stand in {}\n",
            imported.drawn_passwords.len(),
            near(&server.drawn_passwords())
        ));
    }
}

/// How the command line program is called from here: by its path where it lies beside the server and no shell looks there, else by
/// its name.
fn client() -> String {
    let folder = env::current_exe().ok().and_then(|server| Some(server.parent()?.to_owned()));
    let searched = env::var_os("PATH").unwrap_or_default();
    let beside = folder.filter(|folder| env::split_paths(&searched).all(|searched| searched != *folder));
    let path = beside.map(|folder| folder.join("sys")).filter(|path| path.is_file());
    path.map_or_else(|| "sys".to_owned(), |path| shell_word(&near(&path)))
}

/// A path as people here write it: from the working directory if it lies below. Services run in the root, where nobody works.
fn near(path: &Path) -> String {
    let here: Option<PathBuf> = env::current_dir().ok().filter(|here| here.parent().is_some());
    let below = here.as_deref().and_then(|here| path.strip_prefix(here).ok());
    below.unwrap_or(path).display().to_string()
}

/// A word that a shell takes as it is.
fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@+=,%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_can_be_pasted_into_a_shell() {
        assert_eq!(shell_word("target/debug/sys"), "target/debug/sys");
        assert_eq!(shell_word("a b"), "'a b'");
        assert_eq!(shell_word("o'hara@example.org"), r"'o'\''hara@example.org'");
        assert_eq!(shell_word("$(x)"), "'$(x)'");
    }
}
