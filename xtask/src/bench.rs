//! The benchmarks: runs each program of the bench workspace and puts its table where docs/benchmarks.md has its place.
//!
//! A program prints Markdown to standard output, its progress to standard error. Its place in the file is between
//! `<!-- begin NAME -->` and `<!-- end NAME -->`; what people wrote around it stays.

use crate::{root, step};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::{
    fs,
    process::{Command, ExitCode},
};

pub(crate) const HELP: &str = "\
cargo xtask bench [NAME...]
cargo xtask bench NAME --OPTION VALUE...

Builds and runs the programs of the bench workspace in release mode, all of them but `scale` or those named, and rewrites
their tables in docs/benchmarks.md. Nothing else should run on the machine meanwhile.

`scale` fills a store of the size that is asked for, which may take an hour and tens of gigabytes: it runs when it is named.
Its options are --orgs N, --accounts N, --records N, and --dir DIR to keep the store there.";

/// What runs only when it is named.
const ON_DEMAND: &str = "scale";

const REPORT: &str = "docs/benchmarks.md";
const MANIFEST: &str = "bench/Cargo.toml";

/// `cargo xtask bench`.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    let all = programs()?;
    let first_option = arguments.iter().position(|argument| argument.starts_with("--")).unwrap_or(arguments.len());
    let (names, options) = arguments.split_at(first_option);
    if !options.is_empty() && names.len() != 1 {
        bail!("options are one program's: name it before them");
    }
    if let Some(unknown) = names.iter().find(|name| !all.contains(name)) {
        bail!("there is no benchmark `{unknown}`; there are: {}", all.join(", "));
    }
    crate::tools::for_build()?;
    let file = root().join(REPORT);
    let mut report = fs::read_to_string(&file).unwrap_or_else(|_| "# Benchmarks\n".to_owned());
    let by_default: Vec<String> = all.iter().filter(|name| *name != ON_DEMAND).cloned().collect();
    for name in if names.is_empty() { &by_default } else { names } {
        crate::tools::peers(name)?;
        let measure = || {
            let mut cargo = Command::new("cargo");
            cargo.args(["run", "--release", "--quiet", "--manifest-path", MANIFEST, "--bin", name, "--"]);
            cargo.args(options).current_dir(root());
            step::output(&mut cargo)
        };
        let (table, took) = step::timed(name, "measuring, in release mode", measure);
        report = with_table(&report, name, &table?)?;
        // Written after each, so that a later one that fails does not take the earlier ones with it.
        fs::write(&file, &report).with_context(|| format!("writing {REPORT}"))?;
        step::note(&format!("{name}: {}", step::human(took)));
    }
    step::note(&format!("{REPORT} is rewritten"));
    Ok(ExitCode::SUCCESS)
}

/// The names of the programs in the bench workspace.
fn programs() -> Result<Vec<String>> {
    let mut metadata = Command::new("cargo");
    metadata.args(["metadata", "--format-version", "1", "--no-deps", "--manifest-path", MANIFEST]).current_dir(root());
    let metadata: Value = serde_json::from_str(&step::output(&mut metadata)?)?;
    let array = |value: &Value, key: &str| value.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    let targets = array(&metadata, "packages").into_iter().flat_map(|package| array(&package, "targets"));
    let programs = targets.filter(|target| array(target, "kind").iter().any(|kind| kind == "bin"));
    let names = programs.filter_map(|target| target.get("name").and_then(Value::as_str).map(str::to_owned));
    let mut names: Vec<_> = names.collect();
    names.sort();
    Ok(names)
}

/// The report with this program's table in its place, or at the end where it has none yet.
fn with_table(report: &str, name: &str, table: &str) -> Result<String> {
    let (begin, end) = (format!("<!-- begin {name} -->"), format!("<!-- end {name} -->"));
    let table = table.trim();
    let Some((before, rest)) = report.split_once(&begin) else {
        return Ok(format!("{}\n\n{begin}\n\n{table}\n\n{end}\n", report.trim_end()));
    };
    let (_, after) = rest.split_once(&end).with_context(|| format!("{REPORT} has `{begin}` but no `{end}`"))?;
    Ok(format!("{before}{begin}\n\n{table}\n\n{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_rewritten_in_its_place() {
        let first = with_table("# Benchmarks\n\nOn two cores.\n", "gate", "| a |\n").unwrap();
        assert_eq!(first, "# Benchmarks\n\nOn two cores.\n\n<!-- begin gate -->\n\n| a |\n\n<!-- end gate -->\n");
        let both = with_table(&format!("{first}\nWhat it means.\n"), "store", "| s |").unwrap();
        let again = with_table(&both, "gate", "| b |").unwrap();
        assert_eq!(again, both.replace("| a |", "| b |"));
        assert_eq!(with_table(&again, "gate", "| b |").unwrap(), again);
        assert!(with_table("<!-- begin gate -->", "gate", "").is_err());
    }
}
