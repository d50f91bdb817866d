//! What a server says at its start: what came in, how to become superadmin, what to try, and where it is ready.

use crate::options::Run;
use std::io::{self, Write};
use sys_account::bootstrap::Imported;
use sys_server::{Server, bootstrap};

/// Imports what is to be imported and prints the first steps. The last line is `ready http://ADDRESS`.
pub(crate) async fn print(run: &Run, server: &Server) -> anyhow::Result<()> {
    let mut out = String::new();
    if run.danger_key_file.is_some() {
        out.push_str(
            "DANGEROUS: the key of all keys lies readable in a file (--danger-key-file). Whoever copies the disk reads \
             everything. For demos and tests only.\n",
        );
    }
    if let Some(file) = &run.bootstrap {
        summary(&mut out, &bootstrap::import(server, file).await?, server);
    }
    let url = format!("http://{}", server.addr());
    if let Some(token) = server.new_setup_token().await? {
        out.push_str(&format!(
            "\nno superadmin yet; within 30 minutes, once:\n  sys setup --server {url} --token {} --email YOU@EXAMPLE.ORG\n",
            token.as_str()
        ));
    }
    out.push_str(&format!(
        "\ntry next:\n  sys login --server {url} --email SOMEBODY\n  sys org list\n  sys note create --help\n\nready {url}\n"
    ));
    let mut stdout = io::stdout().lock();
    stdout.write_all(out.as_bytes())?;
    Ok(stdout.flush()?)
}

fn summary(out: &mut String, imported: &Imported, server: &Server) {
    let Imported { orgs, projects, accounts, bindings, invitations, already_there, .. } = imported;
    out.push_str(&format!(
        "imported: {orgs} orgs, {projects} projects, {accounts} accounts, {bindings} bindings, {invitations} invitations\n"
    ));
    if *already_there > 0 {
        out.push_str(&format!("already there: {already_there}\n"));
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
            server.drawn_passwords().display()
        ));
    }
}
