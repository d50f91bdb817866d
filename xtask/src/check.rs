//! Everything that must pass, in one run: `cargo xtask lint` and `cargo xtask test`.
//!
//! A phase that fails does not stop the next ones, so that one run shows all that is wrong. The last line counts what ran:
//! each test, and each phase that failed otherwise.

use crate::{buf, layers, package, root, say, step, tools};
use anyhow::{Result, bail};
use std::{
    fmt,
    path::Path,
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

pub(crate) const TEST_HELP: &str = "\
cargo xtask test [--quick] [--allow-breaking]

Runs everything that must pass: `cargo xtask lint`, all tests of the workspace, and the peers (programs that nobody here
wrote, against a real server). Prints how long each phase took, and last a line `N passed, M failed`.

  --quick            only what cargo alone can do: format, layers, clippy, tests
  --allow-breaking   the protos may differ incompatibly from the last release (or commit, before the first release)";

pub(crate) const LINT_HELP: &str = "\
cargo xtask lint [--quick] [--allow-breaking]

Checks all that needs no running: format, layers, clippy, dependencies (cargo-deny), protos (buf lint, buf breaking),
and what a package is made of (systemd-analyze).

  --quick            only what cargo alone can do: format, layers, clippy
  --allow-breaking   the protos may differ incompatibly from the last release (or commit, before the first release)";

/// What a phase counted.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Count {
    passed: usize,
    failed: usize,
    /// Programs that could not be had here, and whose tests did not run for that.
    without: Vec<&'static str>,
}

impl Count {
    fn failure() -> Self {
        Self { failed: 1, ..Self::default() }
    }

    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.without.extend(other.without);
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        if !self.without.is_empty() {
            write!(f, "; not run: the tests with {}, which is missing here", self.without.join(" and "))?;
        }
        Ok(())
    }
}

/// One thing that must pass.
struct Phase {
    name: &'static str,
    why: &'static str,
    run: fn() -> Result<Count>,
}

const LINT: [Phase; 7] = [
    Phase { name: "format", why: "one style, so that a change shows what it changes", run: format },
    Phase { name: "layers", why: "arrows between crates point down only", run: layers },
    Phase { name: "clippy", why: "no warning, in tests neither", run: clippy },
    Phase { name: "dependencies", why: "licences, banned crates, sources (deny.toml)", run: dependencies },
    Phase {
        name: "protos",
        why: "one style for the contract (buf.yaml)",
        run: || buf::lint().map(|()| Count::default()),
    },
    Phase {
        name: BREAKING,
        why: "clients and stored records outlive a release",
        run: || buf::breaking().map(|()| Count::default()),
    },
    Phase {
        name: "packaging",
        why: "units that systemd takes, with the whole sandbox, and scripts that a shell understands",
        run: || package::check().map(|()| Count::default()),
    },
];
const TESTS: [Phase; 4] = [
    Phase { name: "tests", why: "all promises, on this machine", run: tests },
    Phase { name: "keychain", why: "the CLI's session in a keychain that nobody here wrote", run: keychain },
    Phase {
        name: "edge",
        why: "certificate authority, resolvers, browsers and proxies that nobody here wrote",
        run: edge,
    },
    Phase { name: "peers", why: "clients that nobody here wrote", run: peers },
];
/// The test programs of [`edge`].
const EDGE_TESTS: [&str; 4] = ["edge", "pebble", "proxy", "validators"];
const BREAKING: &str = "breaking";
/// The phases that need more than cargo.
const NOT_QUICK: [&str; 7] = ["dependencies", "protos", BREAKING, "packaging", "keychain", "edge", "peers"];

/// `cargo xtask test`.
pub(crate) fn test(arguments: &[String]) -> Result<ExitCode> {
    let (count, phases) = run(LINT.iter().chain(&TESTS), arguments)?;
    summary(&phases);
    // The line that closes a run, for people and for CI alike.
    let _ = say(&count.to_string());
    Ok(if count.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// `cargo xtask lint`.
pub(crate) fn lint(arguments: &[String]) -> Result<ExitCode> {
    let (count, phases) = run(LINT.iter(), arguments)?;
    summary(&phases);
    Ok(if count.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What became of a phase.
struct Outcome {
    name: &'static str,
    passed: bool,
    took: Duration,
}

fn run<'a>(phases: impl Iterator<Item = &'a Phase>, arguments: &[String]) -> Result<(Count, Vec<Outcome>)> {
    let (mut quick, mut allow_breaking) = (false, false);
    for argument in arguments {
        match argument.as_str() {
            "--quick" => quick = true,
            "--allow-breaking" => allow_breaking = true,
            other => bail!("`{other}` is not understood: --help says what is"),
        }
    }
    let skipped = |name| (quick && NOT_QUICK.contains(&name)) || (allow_breaking && name == BREAKING);
    tools::for_build()?;
    let mut count = Count::default();
    let mut outcomes = Vec::new();
    let start = Instant::now();
    for phase in phases.filter(|phase| !skipped(phase.name)) {
        let (result, took) = step::timed(phase.name, phase.why, phase.run);
        let counted = result.unwrap_or_else(|error| {
            step::note(&format!("FAILED: {error:#}"));
            Count::failure()
        });
        step::note(&format!("{}: {}", phase.name, step::human(took)));
        outcomes.push(Outcome { name: phase.name, passed: counted.failed == 0, took });
        count.add(counted);
    }
    outcomes.push(Outcome { name: "all", passed: count.failed == 0, took: start.elapsed() });
    Ok((count, outcomes))
}

fn summary(outcomes: &[Outcome]) {
    eprintln!();
    for outcome in outcomes {
        let word = if outcome.passed { "ok" } else { "FAILED" };
        eprintln!("    {:<14} {word:<8} {}", outcome.name, step::human(outcome.took));
    }
}

fn format() -> Result<Count> {
    need_component("fmt", "rustfmt")?;
    step::run(cargo().args(["fmt", "--all", "--check"]))?;
    Ok(Count::default())
}

fn layers() -> Result<Count> {
    step::note(&format!("{} arrows between crates, all pointing down", layers::check()?));
    Ok(Count::default())
}

fn clippy() -> Result<Count> {
    need_component("clippy", "clippy")?;
    step::run(cargo().args(["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"]))?;
    Ok(Count::default())
}

fn dependencies() -> Result<Count> {
    let mut deny = Command::new(tools::cargo_deny()?);
    // Not its advisories: they need a database from the network, and a test must not depend on today's.
    deny.args(["--workspace", "check", "--hide-inclusion-graph", "bans", "licenses", "sources"]);
    step::run(deny.current_dir(root()))?;
    Ok(Count::default())
}

fn tests() -> Result<Count> {
    counted(cargo().args(["test", "--workspace", "--no-fail-fast"]))
}

fn keychain() -> Result<Count> {
    tools::keychain()?;
    counted(cargo().args(["test", "--workspace", "--test", "cli", "keychain", "--", "--ignored"]))
}

/// The tests that talk to programs of others about names, certificates and TLS. Of the whole workspace, so that nothing is built
/// again with other features.
fn edge() -> Result<Count> {
    tools::edge()?;
    let mut count = Count::default();
    let mut skipped = Vec::new();
    for (browser, tests) in [(tools::CHROMIUM, "chromium::"), (tools::FIREFOX, "firefox::")] {
        if !tools::browser(&browser)? {
            count.without.push(browser.program);
            skipped.extend(["--skip", tests]);
        }
    }
    let files = EDGE_TESTS.iter().flat_map(|test| ["--test", test]);
    for command in [
        cargo().args(["test", "--workspace"]).args(files).args(["--", "--ignored"]).args(skipped),
        cargo().args(["test", "--workspace", "--lib", "--", "--ignored", "serve::", "pebble", "unbound"]),
        cargo().args(["test", "--workspace", "--test", "operations", "kdig", "--", "--ignored"]),
    ] {
        count.add(counted(command)?);
    }
    Ok(count)
}

fn peers() -> Result<Count> {
    let script = root().join("tests/peers/run");
    if !script.exists() {
        step::note("no tests/peers/run: no peers to run");
        return Ok(Count::default());
    }
    tools::node_programs()?;
    counted(Command::new("bash").arg(script).current_dir(root()))
}

/// Runs something that runs tests. A failure that is no test's counts as one.
fn counted(command: &mut Command) -> Result<Count> {
    let mut count = Count::default();
    let ok = step::watch(command, |line| {
        if let Some(counted) = read_count(line) {
            count.add(counted);
        }
    })?;
    if !ok && count.failed == 0 {
        count.failed = 1;
    }
    if ok && count.passed == 0 {
        bail!("no test ran");
    }
    Ok(count)
}

/// The counts in a closing line: `test result: ok. 3 passed; 0 failed; ...` of cargo's, or `3 passed, 0 failed`.
fn read_count(line: &str) -> Option<Count> {
    let line = line.trim();
    let (_, counts) = line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". ")).unwrap_or(("", line));
    let mut parts = counts.split([';', ',']);
    let mut next = |word: &str| parts.next()?.trim().strip_suffix(word)?.trim().parse().ok();
    Some(Count { passed: next("passed")?, failed: next("failed")?, ..Count::default() })
}

fn cargo() -> Command {
    let mut cargo = Command::new("cargo");
    cargo.current_dir::<&Path>(&root());
    cargo
}

/// A part of the toolchain that some installations leave out.
fn need_component(subcommand: &str, component: &str) -> Result<()> {
    if step::output(cargo().args([subcommand, "--version"])).is_ok() {
        return Ok(());
    }
    if tools::find("rustup").is_none() {
        bail!("`cargo {subcommand}` is missing: install {component} the way that cargo was installed");
    }
    step::run(Command::new("rustup").args(["component", "add", component]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of((passed, failed): (usize, usize)) -> Count {
        Count { passed, failed, ..Count::default() }
    }

    #[test]
    fn what_did_not_run_is_said_where_people_look() {
        let mut count = of((2, 0));
        assert_eq!(count.to_string(), "2 passed, 0 failed");
        count.add(Count { without: vec!["chromium"], ..of((3, 1)) });
        assert_eq!(count.to_string(), "5 passed, 1 failed; not run: the tests with chromium, which is missing here");
    }

    #[test]
    fn closing_lines_are_counted() {
        let check = |line: &str, expect: Option<(usize, usize)>| {
            assert_eq!(read_count(line), expect.map(of), "{line}");
        };
        check(
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.31s",
            Some((12, 0)),
        );
        check("test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out", Some((3, 2)));
        check("7 passed, 1 failed", Some((7, 1)));
        check("  7 passed, 0 failed, 2 skipped", Some((7, 0)));
        check("test tests::seven_passed ... ok", None);
        check("all passed, none failed", None);
        check("", None);
    }

    #[test]
    fn a_run_that_fails_without_a_failed_test_is_a_failure() {
        let run = |script: &str| counted(Command::new("sh").args(["-c", script]));
        assert_eq!(run("echo '3 passed, 0 failed'").unwrap(), of((3, 0)));
        assert_eq!(run("echo '3 passed, 0 failed'; exit 1").unwrap(), of((3, 1)));
        assert_eq!(run("echo '3 passed, 2 failed'; exit 1").unwrap(), of((3, 2)));
        assert_eq!(run("exit 1").unwrap(), of((0, 1)));
        assert!(run("true").is_err(), "a run without tests proves nothing");
    }
}
