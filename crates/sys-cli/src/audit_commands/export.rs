//! A log as a file of lines, and back: `sys audit export` and `sys audit verify --file`.

use super::{AuditFailure, for_people, for_programs, log_of};
use crate::{
    failure::Failure,
    output::{self, Format},
    progress, trace,
};
use clap::ArgMatches;
use serde_json::{Value as Json, json};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, BufWriter, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};
use sys_audit::{Checker, SignedHead};
use sys_client::{Client, Endpoint, SessionStore, audit::RawLeaf, audit_text, heads::KeptHeads};

/// A line with a leaf takes about 700 bytes; a longer one than this is of another file.
const MAX_LINE_BYTES: u64 = 1 << 20;

/// Writes a log down, once all of it is checked.
pub(crate) async fn export(matches: &ArgMatches, server: &Endpoint, sessions: SessionStore) -> Result<(), Failure> {
    let log = log_of(matches);
    let client = Client::connect(server, sessions.clone()).await?.within(trace::of_environment());
    let seen = KeptHeads::new(sessions).check(&client, &log, false).await.map_err(AuditFailure::from)?;
    let path = matches.get_one::<PathBuf>("file").cloned().unwrap_or_default();
    // Under its name only when it is whole.
    let part = PathBuf::from(format!("{}.part", path.display()));
    let failed = |source| AuditFailure::File { path: path.display().to_string(), source };
    // It names who did what: for its owner alone, as the data that it comes from.
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part).map_err(failed)?;
    let mut out = BufWriter::new(file);
    let progress = progress::Records::begin();
    writeln!(out, "{}", first_line(server, seen.head())).map_err(failed)?;
    let each = |raw: &RawLeaf| {
        progress.came(1);
        writeln!(out, "{}", audit_text::of_entry(raw)).map_err(failed)
    };
    let erased = client.audit_walk(&log, seen.head(), seen.kept(), each).await;
    drop(progress);
    let written = erased.and_then(|erased| {
        let file = out.into_inner().map_err(|error| failed(error.into_error()))?;
        file.sync_all().and_then(|()| fs::rename(&part, &path)).map_err(failed)?;
        Ok(erased)
    });
    if written.is_err() {
        // What is half there proves nothing; that it cannot be removed changes nothing.
        let _ = fs::remove_file(&part);
    }
    let erased = written?;
    let size = seen.head().head.size;
    output::note(&format!(
        "wrote {size} entries ({erased} erased) to {}; `sys audit verify --file` checks it",
        path.display()
    ));
    Ok(())
}

/// Checks a file that `export` wrote, without a server: against the head in it, and against the one that is kept here.
pub(crate) fn verify_file(path: &Path, sessions: SessionStore, format: Format) -> Result<(), Failure> {
    let (head, erased, kept) = checked(path, &KeptHeads::new(sessions))?;
    match &kept {
        None => output::note(&format!(
            "warning: no head of this log is kept here, so that the file alone vouches for key {}",
            head.key_id()
        )),
        Some(kept) if kept.head.size > head.head.size => {
            output::note(
                "the head that is kept here is newer: it is signed by the same key, and no more can be said without the server",
            );
        }
        Some(_) => {}
    }
    let kept = kept.filter(|kept| kept.head.size <= head.head.size);
    Ok(output::value(&for_people(&head, erased, kept.as_ref()), &for_programs(&head, erased, kept.as_ref()), format)?)
}

/// The head of a file whose entries are all what they were, how many of them are erased, and the head that is kept here.
fn checked(path: &Path, heads: &KeptHeads) -> Result<(SignedHead, u64, Option<SignedHead>), AuditFailure> {
    let name = path.display().to_string();
    let wrong = |line: usize, what: &str| AuditFailure::Line { path: name.clone(), line, what: what.to_owned() };
    let failed = |source| AuditFailure::File { path: name.clone(), source };
    let mut lines = Lines(BufReader::new(File::open(path).map_err(failed)?));
    let first = lines.next().map_err(failed)?.and_then(|line| serde_json::from_str::<Json>(&line).ok());
    let head = first.as_ref().and_then(|first| audit_text::to_head(first.get("head")?));
    let (Some(first), Some(head)) = (first, head) else { return Err(wrong(1, "no head of an audit log")) };
    let log_id = head.head.log_id.clone();
    head.verify(&log_id).map_err(|distrust| wrong(1, &distrust.to_string()))?;
    let server = first.get("server").and_then(Json::as_str).and_then(|server| server.parse::<Endpoint>().ok());
    let kept = server.map(|server| heads.of(&server, &log_id)).transpose()?.flatten();
    if let Some(kept) = kept.as_ref().filter(|kept| kept.public_key != head.public_key) {
        let what =
            format!("signed by key {}; the head that is kept here is signed by {}", head.key_id(), kept.key_id());
        return Err(wrong(1, &what));
    }
    // An export from before the kept head is a part of it, and cannot be compared with it.
    let comparable = kept.as_ref().filter(|kept| kept.head.size <= head.head.size);
    let mut checker = Checker::against(comparable.map(|kept| kept.head.clone()));
    let progress = progress::Records::begin();
    let mut number = 1;
    while let Some(line) = lines.next().map_err(failed)? {
        number += 1;
        let entry = serde_json::from_str(&line).ok().as_ref().and_then(audit_text::to_entry);
        let raw = entry.ok_or_else(|| wrong(number, "it does not say what was hashed, or is no entry"))?;
        checker.push(raw.number, raw.hash, raw.leaf.as_deref()).map_err(|fault| wrong(number, &fault.to_string()))?;
        progress.came(1);
    }
    let erased = checker.erased();
    checker.finish(&head.head).map_err(|distrust| wrong(number, &distrust.to_string()))?;
    Ok((head, erased, kept))
}

fn first_line(server: &Endpoint, head: &SignedHead) -> Json {
    json!({ "server": server.as_str(), "head": audit_text::of_head(head) })
}

/// Lines of bounded length.
struct Lines<R>(R);

impl<R: BufRead> Lines<R> {
    fn next(&mut self) -> io::Result<Option<String>> {
        let mut line = String::new();
        let read = io::Read::take(&mut self.0, MAX_LINE_BYTES).read_line(&mut line)?;
        Ok((read > 0).then_some(line))
    }
}
