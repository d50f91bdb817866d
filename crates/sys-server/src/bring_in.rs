//! `sys-server import`: its flags, how far it is, and what it says at the end.

use crate::key_flags::KeyFlags;
use anyhow::{Context, anyhow};
use clap::Args;
use std::{
    fs::File,
    io::{self, BufReader, IsTerminal, Read, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use sys_core::import::Stored;
use sys_server::import::{self, Progress, Source, Target};

/// How often a terminal is told how far it is.
const ON_TERMINAL: Duration = Duration::from_millis(500);
/// How often a log is.
const IN_LOG: Duration = Duration::from_secs(10);
const BUFFER_BYTES: usize = 1 << 20;

const LINES: &str = "\
Each FILE holds a record of its TYPE in each line, in JSON, with its id; `-` is standard input. Name types in the order of \
what depends on what:

  sys-server import --data-dir DIR --passphrase-file FILE --module modules/mod-notes \\
    sys.account.v1.Org=orgs.jsonl sys.account.v1.Project=projects.jsonl \\
    accounts=accounts.jsonl notes.v1.Note=notes.jsonl

Lines of one org should stand together: a file in which they do not is several times slower. What is wrong is told with file \
and line. An import that was cut off goes on when it is run again: records that are there already, just so, are passed over. What was deleted in between comes back: run it again \
only until people use the server.";

#[derive(Debug, Args)]
#[command(after_help = LINES)]
pub(crate) struct ImportOptions {
    /// The data directory. Made if it is not there; no server may be running on it.
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,

    #[command(flatten)]
    key: KeyFlags,

    /// Loads the contract in this folder, as `run` does. May be given again.
    #[arg(long = "module", value_name = "DIR")]
    modules: Vec<PathBuf>,

    /// Megabytes of memory for the store's cache.
    #[arg(long, value_name = "MB", default_value_t = 256)]
    cache_mb: u32,

    /// Reads and validates all lines, and stores nothing. Scopes and values that only one may have are not looked up.
    #[arg(long)]
    check: bool,

    /// What is imported: the full name of a record type, or `accounts`, and its file.
    #[arg(value_name = "TYPE=FILE", required = true, value_parser = named_file)]
    files: Vec<(String, PathBuf)>,
}

fn named_file(text: &str) -> Result<(String, PathBuf), String> {
    let (what, file) = text.split_once('=').ok_or("write TYPE=FILE, such as notes.v1.Note=notes.jsonl")?;
    Ok((what.to_owned(), PathBuf::from(file)))
}

/// Imports, and says what came of it.
pub(crate) async fn bring_in(options: ImportOptions) -> anyhow::Result<String> {
    let mut sources = Vec::new();
    let mut total_bytes = Some(0);
    // All files are opened before anything is stored.
    for (what, file) in options.files {
        let (lines, bytes) = opened(&file)?;
        total_bytes = total_bytes.zip(bytes).map(|(sum, bytes)| sum + bytes);
        let lines = Box::new(BufReader::with_capacity(BUFFER_BYTES, lines));
        sources.push(Source { what, name: file.display().to_string(), lines });
    }
    let check_only = options.check;
    let target = Target {
        data_dir: options.data_dir,
        unsealer: options.key.unsealer()?,
        modules: options.modules,
        cache_bytes: usize::try_from(options.cache_mb)?.saturating_mul(1 << 20),
        check_only,
    };
    let mut shown = Shown::new(total_bytes);
    let imported = import::import(target, sources, &mut |progress| shown.progress(progress)).await;
    shown.clear();
    let mut said = String::new();
    for (what, stored) in imported? {
        said.push_str(&format!("{what}: {}\n", summary(&stored, check_only)));
    }
    Ok(said)
}

fn summary(Stored { lines, records, already_there, rows }: &Stored, check_only: bool) -> String {
    match check_only {
        true => format!("{lines} lines are well"),
        false => format!("{lines} lines, {records} records stored in {rows} rows, {already_there} were there already"),
    }
}

fn opened(file: &Path) -> anyhow::Result<(Box<dyn Read + Send>, Option<u64>)> {
    if file == Path::new("-") {
        return Ok((Box::new(io::stdin()), None));
    }
    let opened = File::open(file).with_context(|| format!("{} cannot be read", file.display()))?;
    let metadata = opened.metadata()?;
    if metadata.is_dir() {
        return Err(anyhow!("{} is a folder: name a file", file.display()));
    }
    Ok((Box::new(opened), metadata.is_file().then_some(metadata.len())))
}

/// What is said on the way: rows and records a second since the beginning, and how long it may take yet.
struct Shown {
    terminal: bool,
    total_bytes: Option<u64>,
    began: Instant,
    /// When something was said last; at first as soon as a round is stored.
    last: Option<Instant>,
    what: String,
    /// Of the sources before this one.
    before: (Stored, u64),
    now: (Stored, u64),
}

impl Shown {
    fn new(total_bytes: Option<u64>) -> Self {
        let (began, none) = (Instant::now(), (Stored::default(), 0));
        let terminal = io::stderr().is_terminal();
        Self { terminal, total_bytes, began, last: None, what: String::new(), before: none, now: none }
    }

    fn progress(&mut self, Progress { what, read_bytes, stored }: Progress<'_>) {
        if what != self.what {
            self.before = (self.sum(), self.before.1 + self.now.1);
            self.what = what.to_owned();
        }
        self.now = (stored, read_bytes);
        let pause = if self.terminal { ON_TERMINAL } else { IN_LOG };
        if self.sum().lines == 0 || self.last.is_some_and(|last| last.elapsed() < pause) {
            return;
        }
        self.last = Some(Instant::now());
        let (sum, seconds) = (self.sum(), self.began.elapsed().as_secs_f64());
        let left = self.total_bytes.map(|total| {
            let read = (self.before.1 + self.now.1).max(1) as f64;
            format!(", {:.0} s left", (total as f64 / read - 1.0).max(0.0) * seconds)
        });
        let line = format!(
            "{what}: {} lines stored, {:.0} records/s, {:.0} rows/s{}",
            stored.lines,
            sum.records as f64 / seconds,
            sum.rows as f64 / seconds,
            left.unwrap_or_default()
        );
        let (begin, end) = if self.terminal { ("\r\x1b[K", "") } else { ("", "\n") };
        // Whoever looked may be gone; that is no reason to stop.
        let _ = write!(io::stderr(), "{begin}{line}{end}");
    }

    fn sum(&self) -> Stored {
        let (before, now) = (self.before.0, self.now.0);
        Stored {
            lines: before.lines + now.lines,
            records: before.records + now.records,
            already_there: before.already_there + now.already_there,
            rows: before.rows + now.rows,
        }
    }

    fn clear(&self) {
        if self.terminal {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
