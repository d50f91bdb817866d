//! What the measurements share: the notes contract, time of the processor, medians, and tables.

pub mod client;
pub mod process;

use std::{fs, io::Write as _, path::Path, sync::Arc, time::Duration};
use sys_contract::{
    load::{Origin, SourceFile, load},
    model::Contract,
};

/// The contract of modules/mod-notes.
pub fn notes_contract() -> Arc<Contract> {
    contract("mod-notes", "notes/v1/notes.proto", include_str!("../../modules/mod-notes/notes/v1/notes.proto"))
}

/// A contract of one file.
pub fn contract(module: &str, path: &str, text: &str) -> Arc<Contract> {
    let source = SourceFile { path: path.to_owned(), text: text.to_owned() };
    Arc::new(load(module, Origin::Uploaded, &[source]).expect("the contract loads"))
}

/// User and system time of a process so far, from Linux's accounting.
pub fn cpu_of(pid: u32) -> Duration {
    let stat = Stat::of(pid).expect("the process runs");
    stat.ticks(&[11, 12])
}

/// User and system time of a process and of those that it has begun, and they in turn; its own children that have ended with the rest.
pub fn cpu_of_family(pid: u32) -> Duration {
    let parent = Stat::of(pid).expect("the process runs");
    let numbers =
        fs::read_dir("/proc").expect("Linux").filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    // One may end meanwhile: its parent has its time from then on.
    let running: Vec<_> = numbers.filter_map(|number: u32| Some((number.to_string(), Stat::of(number)?))).collect();
    let mut spent = parent.ticks(&[11, 12, 13, 14]);
    let mut family = vec![pid.to_string()];
    while let Some(parent) = family.pop() {
        for (number, stat) in running.iter().filter(|(_, stat)| stat.0[1] == parent) {
            spent += stat.ticks(&[11, 12]);
            family.push(number.clone());
        }
    }
    spent
}

/// The fields of a process behind its name, counted from 0; the name may hold spaces, so that it is left out.
struct Stat(Vec<String>);

impl Stat {
    fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Some(Self(stat.rsplit(')').next()?.split_whitespace().map(str::to_owned).collect()))
    }

    /// The sum of these fields, which count hundredths of a second.
    fn ticks(&self, fields: &[usize]) -> Duration {
        let ticks: u64 = fields.iter().map(|field| self.0[*field].parse::<u64>().expect("a number")).sum();
        Duration::from_millis(ticks * 10)
    }
}

/// User and system time of this process so far.
pub fn own_cpu() -> Duration {
    cpu_of(std::process::id())
}

/// Resident memory of a process in bytes.
pub fn resident_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number") * 1024
}

/// Minimum, median and maximum of some measurements.
#[derive(Debug, Clone, Copy)]
pub struct Spread {
    /// The least.
    pub min: f64,
    /// The one in the middle.
    pub median: f64,
    /// The greatest.
    pub max: f64,
}

impl Spread {
    /// Of at least one measurement.
    pub fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        Self { min: values[0], median: values[values.len() / 2], max: values[values.len() - 1] }
    }

    /// `median (min–max)` with so many digits.
    pub fn show(&self, digits: usize) -> String {
        format!("{:.digits$} ({:.digits$}–{:.digits$})", self.median, self.min, self.max)
    }
}

/// Nanoseconds of the processor that one call takes: the median and spread over `rounds` rounds of `calls`.
pub fn nanos(rounds: usize, calls: u64, mut call: impl FnMut(u64)) -> Spread {
    let mut round = || {
        let begun = std::time::Instant::now();
        (0..calls).for_each(&mut call);
        begun.elapsed().as_nanos() as f64 / calls as f64
    };
    round();
    Spread::of((0..rounds).map(|_| round()).collect())
}

/// Milliseconds that one sync of a file takes here.
pub fn sync_ms(dir: &Path) -> Spread {
    let mut file = fs::File::create(dir.join("sync")).expect("a file");
    let mut once = || {
        file.write_all(&[7; 4096]).expect("a write");
        let begun = std::time::Instant::now();
        file.sync_data().expect("a sync");
        begun.elapsed().as_secs_f64() * 1e3
    };
    Spread::of((0..200).map(|_| once()).collect())
}

/// The machine, in a line.
pub fn machine() -> String {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split(": ").nth(1));
    let count = cpus.lines().filter(|line| line.starts_with("processor")).count();
    format!("{count} × {}", model.unwrap_or("unknown processor"))
}

/// Size of a file in bytes.
pub fn size(path: &Path) -> u64 {
    fs::metadata(path).map(|metadata| metadata.len()).unwrap_or(0)
}

/// A server over this directory with the notes module, and with notes that have no field rule.
pub fn server_config(dir: &Path) -> sys_server::Config {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    sys_server::Config {
        data_dir: dir.to_owned(),
        listen: ([127, 0, 0, 1], 0).into(),
        edge: sys_server::EdgeConfig::default(),
        metrics_listen: None,
        traces: None,
        issuer: None,
        unsealer: sys_keys::Unsealer::DangerKeyFile(dir.join("danger-master.key")),
        modules: vec![root.join("modules/mod-notes"), root.join("bench/modules/mod-plain")],
        mailing: sys_server::Mailing::DataDir,
        mail_from: "sys@localhost".to_owned(),
        allow_org_create: false,
        audit_retention: None,
        cache_bytes: 256 << 20,
        limits: sys_edge::Limits::default(),
        rates: wide_open(),
        clock: sys_core::clock::Clock::System,
        countries: std::sync::Arc::default(),
    }
}

/// Buckets that a load of one source does not empty: what is measured is the work, not the refusal.
fn wide_open() -> sys_core::throttle::Rates {
    let many = 10_000_000.try_into().expect("not zero");
    let rate = sys_core::throttle::Rate { per_second: many, burst: many };
    sys_core::throttle::Rates { source: rate, account: rate, sign_in_per_minute: many, danger_nothing_else: true }
}
