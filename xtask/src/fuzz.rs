//! `cargo xtask fuzz`: libFuzzer on one of the targets that `fuzz/README.md` lists.
//!
//! libFuzzer needs code that counts where it goes, and AddressSanitizer; both are flags of the compiler, so no other toolchain
//! and no program besides is needed. The sanitizer's flag is not stable yet: `RUSTC_BOOTSTRAP` lets the stable compiler take
//! it. What is built so stays in `fuzz/target`.

use crate::{root, say, step, tools};
use anyhow::{Context, Result, bail};
use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

pub(crate) const HELP: &str = "\
cargo xtask fuzz TARGET [SECONDS]
cargo xtask fuzz --minimise TARGET

Runs libFuzzer on a target of fuzz/README.md, for a minute if nothing else is said. New inputs go to fuzz/found/TARGET,
an input that breaks a promise to fuzz/artifacts/TARGET. Without TARGET, lists them.

  --minimise   add what was found to fuzz/corpus/TARGET, and keep there, beside the files with names, at most a hundred that reach
               what nothing else reaches";

const MANIFEST: &str = "fuzz/Cargo.toml";
const HOST: &str = "x86_64-unknown-linux-gnu";
const SECONDS: u32 = 60;
/// Longest input that is made: no promise here is about more.
const MAX_INPUT_BYTES: usize = 4096;
/// A target that takes longer for one input, in seconds, has found something: all of them take milliseconds.
const TIMEOUT_S: u32 = 10;
/// Inputs that a corpus keeps beside those with names: a repository is no place for all of them.
const MOST_KEPT: usize = 100;
const FLAGS: [&str; 6] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Zsanitizer=address",
];
/// What costs most and shows least is off: in safe code no pointer outlives its stack frame. The validation library forgets
/// the rules of messages that can hold their own kind, so that leaks are not looked for.
const SANITIZER: &str = "detect_stack_use_after_return=0:malloc_context_size=3:max_malloc_fill_size=0:detect_leaks=0";

/// `cargo xtask fuzz`.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    let minimise = arguments.first().is_some_and(|first| first == "--minimise");
    let (target, seconds) = match arguments.get(usize::from(minimise)..).unwrap_or_default() {
        [] => return Ok(say(&targets()?.join("\n"))),
        [target] => (target, SECONDS),
        [target, seconds] if !minimise => (target, seconds.parse().context("SECONDS is a number")?),
        _ => bail!("too many arguments: --help says what is understood"),
    };
    let all = targets()?;
    if !all.contains(target) {
        bail!("there is no target `{target}`; there are: {}", all.join(", "));
    }
    tools::for_build()?;
    let program = build()?;
    if minimise {
        keep_the_least(&program, target)?
    } else {
        fuzz(&program, target, seconds)?
    }
    Ok(ExitCode::SUCCESS)
}

/// The targets: each has a corpus.
fn targets() -> Result<Vec<String>> {
    let folders = fs::read_dir(root().join("fuzz/corpus")).context("reading fuzz/corpus")?;
    let names = folders.map(|folder| Ok(folder?.file_name().to_string_lossy().into_owned()));
    let mut names = names.collect::<Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

/// Builds the one program of all targets; gives its path.
fn build() -> Result<PathBuf> {
    // The target is named so that build scripts and macros are built without these flags.
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--release", "--target", HOST, "--manifest-path", MANIFEST]).current_dir(root());
    step::run(cargo.env("RUSTC_BOOTSTRAP", "1").env("RUSTFLAGS", FLAGS.join(" ")))?;
    Ok(root().join("fuzz/target").join(HOST).join("release/fuzz"))
}

fn fuzz(program: &Path, target: &str, seconds: u32) -> Result<()> {
    let (found, artifacts) = (folder("found", target)?, folder("artifacts", target)?);
    let mut command = Command::new(program);
    command.arg(format!("-max_total_time={seconds}")).arg(format!("-artifact_prefix={}/", artifacts.display()));
    command.arg(format!("-max_len={MAX_INPUT_BYTES}")).arg(format!("-timeout={TIMEOUT_S}"));
    command.arg("-print_final_stats=1");
    let dictionary = root().join("fuzz/dictionaries").join(format!("{target}.dict"));
    if dictionary.exists() {
        command.arg(format!("-dict={}", dictionary.display()));
    }
    // What is found goes to the first folder.
    command.arg(found).arg(root().join("fuzz/corpus").join(target));
    step::run(command.env("SYS_FUZZ_TARGET", target).env("ASAN_OPTIONS", SANITIZER))
}

/// Replaces the corpus by the least of it and of what was found that reaches the same code.
fn keep_the_least(program: &Path, target: &str) -> Result<()> {
    let (found, kept) = (folder("found", target)?, folder("kept", target)?);
    let corpus = root().join("fuzz/corpus").join(target);
    let mut command = Command::new(program);
    command
        .args(["-set_cover_merge=1".to_owned(), format!("-max_len={MAX_INPUT_BYTES}")])
        .args([&kept, &corpus, &found]);
    step::run(command.env("SYS_FUZZ_TARGET", target).env("ASAN_OPTIONS", SANITIZER))?;
    let mut named = Vec::new();
    for file in fs::read_dir(&corpus).context("reading the corpus")? {
        let path = file?.path();
        // What has a name was put there by somebody, for a reason.
        if is_hash(path.file_name()) {
            fs::remove_file(path)?;
        } else {
            named.push(fs::read(path)?);
        }
    }
    let mut new = fs::read_dir(&kept)?.collect::<Result<Vec<_>, _>>()?;
    // By their hashes, which are as good as chance.
    new.sort_by_key(fs::DirEntry::file_name);
    for file in new.iter().take(MOST_KEPT) {
        if !named.contains(&fs::read(file.path())?) {
            fs::copy(file.path(), corpus.join(file.file_name()))?;
        }
    }
    fs::remove_dir_all(kept).context("removing what was copied")
}

/// Whether libFuzzer has named a file: by the SHA-1 of its bytes.
fn is_hash(name: Option<&OsStr>) -> bool {
    name.and_then(OsStr::to_str).is_some_and(|name| name.len() == 40 && name.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn folder(kind: &str, target: &str) -> Result<PathBuf> {
    let folder = root().join("fuzz").join(kind).join(target);
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_has_named_stays_in_the_corpus() {
        assert!(is_hash(Some(OsStr::new("da39a3ee5e6b4b0d3255bfef95601890afd80709"))));
        assert!(!is_hash(Some(OsStr::new("a_deep_expression"))));
        assert!(!is_hash(Some(OsStr::new("da39a3ee5e6b4b0d3255bfef95601890afd8070g"))));
    }

    #[test]
    fn each_target_has_a_corpus() {
        let targets = targets().unwrap();
        assert!(targets.contains(&"filter".to_owned()), "{targets:?}");
    }
}
