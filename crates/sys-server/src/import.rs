//! `sys-server import` without its command line: files of lines into a data directory that no server uses.
//!
//! What a line must be is the business of `sys_core::import`; here lines are read, rounds are made of them, and it is said how
//! far it is. What must never happen here: a file that is held in memory whole, or an error that does not say what was stored.

use crate::{
    assemble::{ORG, monitor_over, open_store},
    data_dir::DataDir,
};
use anyhow::{Context, anyhow, bail};
use std::{
    fmt,
    io::{BufRead, Read},
    path::PathBuf,
    sync::Arc,
};
use sys_account::bootstrap::{RECORDS_OF, accounts, orgs};
use sys_core::{
    clock::Clock,
    import::{Brought, ImportError, Importing, Line, ROUND_BYTES, ROUND_LINES, Stored},
    monitor::{Monitor, Settings},
    refusal::Refusal,
    throttle::Rates,
};
use sys_keys::Unsealer;

/// What stands for lines with an account each.
pub const ACCOUNTS: &str = "accounts";
/// Longest line. A record has a mebibyte at most, and JSON may double it.
const LINE_BYTES: u64 = 4 << 20;
/// Records that are sys-core's own are brought in through [`ACCOUNTS`] alone, which keeps them in agreement.
const CORE_PACKAGE: &str = "sys.core.";
const ACCOUNT: &str = "sys.account.v1.Account";

/// Where to.
#[derive(Debug)]
pub struct Target {
    /// The data directory. Made if it is not there.
    pub data_dir: PathBuf,
    /// What opens the master key.
    pub unsealer: Unsealer,
    /// Folders of modules that are contracts only.
    pub modules: Vec<PathBuf>,
    /// Memory of the store's cache.
    pub cache_bytes: usize,
    /// Reads everything and stores nothing.
    pub check_only: bool,
}

/// Lines of one kind.
pub struct Source {
    /// The full name of a record type, or [`ACCOUNTS`].
    pub what: String,
    /// What errors call it.
    pub name: String,
    /// The lines.
    pub lines: Box<dyn BufRead + Send>,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("what", &self.what).field("name", &self.name).finish_non_exhaustive()
    }
}

/// How far a source is.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    /// The kind of lines.
    pub what: &'a str,
    /// Bytes that were read.
    pub read_bytes: u64,
    /// What is on disk.
    pub stored: Stored,
}

/// Imports sources one after the other; what came of each. `progress` is told after each round.
pub async fn import(
    target: Target,
    sources: Vec<Source>,
    progress: &mut (dyn FnMut(Progress<'_>) + Send),
) -> anyhow::Result<Vec<(String, Stored)>> {
    let data_dir = DataDir::open(&target.data_dir)?;
    let store = open_store(&data_dir, target.unsealer, target.cache_bytes).await?;
    let settings = Settings {
        // No token is made and no mail is sent.
        issuer: "http://localhost".to_owned(),
        rates: Rates::default(),
        clock: Clock::System,
        countries: Arc::default(),
    };
    let monitor = monitor_over(store, settings, sys_account::Settings::default(), Vec::new(), &target.modules).await?;
    let mut done = Vec::new();
    for source in sources {
        let what = source.what.clone();
        let stored = one(&monitor, source, target.check_only, progress).await?;
        done.push((what, stored));
    }
    if !target.check_only {
        monitor.end_import().await?;
    }
    monitor.stop().await;
    Ok(done)
}

/// Reads a line of a kind.
type Reader = Box<dyn Fn(&str) -> Result<Brought, Refusal> + Send + Sync>;

fn reader(monitor: &Monitor, what: &str) -> anyhow::Result<Reader> {
    if what == ACCOUNTS {
        let module = monitor.host().loaded(RECORDS_OF).context("the account module is not loaded")?;
        let identity = monitor.identity().clone();
        return Ok(Box::new(move |line| accounts::read(&module, &identity, line)));
    }
    if what == ORG {
        let module = monitor.host().loaded(RECORDS_OF).context("the account module is not loaded")?;
        let identity = monitor.identity().clone();
        return Ok(Box::new(move |line| orgs::read(&module, &identity, line)));
    }
    if what == ACCOUNT || what.starts_with(CORE_PACKAGE) {
        bail!("{what} is brought in as `{ACCOUNTS}=FILE`, with all that belongs to an account");
    }
    let module = monitor.host().modules().into_iter().find(|module| module.tables().by_name(what).is_some());
    let unknown = || anyhow!("no module that is loaded has records of type {what}: name its folder with --module");
    let module = module.ok_or_else(unknown)?;
    let table = module.tables().by_name(what).cloned().ok_or_else(unknown)?;
    Ok(Box::new(move |line| module.read_record(&table, line)))
}

async fn one(
    monitor: &Monitor,
    mut source: Source,
    check_only: bool,
    progress: &mut (dyn FnMut(Progress<'_>) + Send),
) -> anyhow::Result<Stored> {
    let read = reader(monitor, &source.what)?;
    let account_module = monitor.host().loaded(RECORDS_OF).context("the account module is not loaded")?;
    let orgs = account_module.tables().by_name(ORG).cloned().context("orgs have no table")?;
    let mut importing = monitor.danger_import(orgs, &source.what);
    let (mut number, mut read_bytes) = (0, 0);
    let done = loop {
        let round = match next_round(&mut *source.lines, &mut number, &mut read_bytes) {
            Ok(round) if round.is_empty() => break Ok(()),
            Ok(round) => round,
            Err(error) => break Err(error),
        };
        let stored = match check_only {
            true => importing.check(round, &read),
            false => importing.store(round, &read).await,
        };
        if let Err(error) = stored {
            break Err(error.into());
        }
        progress(Progress { what: &source.what, read_bytes, stored: importing.stored() });
    };
    end(importing, &source.name, done, check_only).await
}

/// Waits for what is on its way, and says where a source that is wrong stands.
async fn end(
    importing: Importing<'_>,
    name: &str,
    done: anyhow::Result<()>,
    check_only: bool,
) -> anyhow::Result<Stored> {
    let stored = importing.finish().await.with_context(|| format!("{name} was not stored whole: run it again"))?;
    let Err(error) = done else { return Ok(stored) };
    let wrong = match error.downcast_ref::<ImportError>() {
        Some(ImportError::Line { .. }) | None => "correct it",
        Some(_) => "find out why",
    };
    let so_far = match (check_only, stored.lines) {
        (true, _) => "nothing was stored".to_owned(),
        (false, 0) => format!("nothing of this file was stored: {wrong} and run the import again"),
        (false, lines) => format!(
            "its first {lines} lines are stored, and the import is not complete: {wrong} and run it again before a server is \
             used on them; what is there already is passed over, and what was deleted meanwhile comes back"
        ),
    };
    Err(error.context(format!("{name}: {so_far}")))
}

/// The next lines. Blank ones are passed over.
fn next_round(lines: &mut dyn BufRead, number: &mut u64, read_bytes: &mut u64) -> anyhow::Result<Vec<Line>> {
    let (mut round, mut round_bytes) = (Vec::new(), 0);
    while round.len() < ROUND_LINES && round_bytes < ROUND_BYTES {
        let mut line = Vec::new();
        let read = Read::take(&mut *lines, LINE_BYTES).read_until(b'\n', &mut line)?;
        if read == 0 {
            break;
        }
        *number += 1;
        *read_bytes += read as u64;
        if read as u64 == LINE_BYTES && line.last() != Some(&b'\n') {
            bail!("line {number}: it has more than {LINE_BYTES} bytes");
        }
        let text = String::from_utf8(line).map_err(|_| anyhow!("line {number}: it is not in UTF-8"))?;
        if !text.trim().is_empty() {
            round_bytes += text.len();
            round.push(Line { number: *number, text });
        }
    }
    Ok(round)
}
