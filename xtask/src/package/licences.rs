//! Whose work is linked into the programs, and under which terms: nearly all licences want their text to go with it.

use crate::{root, step};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt::Write as _,
    fs,
    path::Path,
    process::Command,
};

/// How files begin that say the terms.
const NAMES: [&str; 4] = ["LICENSE", "LICENCE", "COPYING", "NOTICE"];
/// How far below a crate's folder they are looked for: libraries of C that it brings have their own.
const DEPTH: usize = 2;
const TITLE: &str = "The libraries that sys-server and sys are linked with, and their licences.";

/// The texts of all crates of others that these crates of ours are built with. Equal texts stand once.
pub(super) fn of(crates: &[&str]) -> Result<String> {
    let mut metadata = Command::new("cargo");
    metadata.args(["metadata", "--format-version", "1", "--locked", "--filter-platform", &host()?]);
    let metadata: Value = serde_json::from_str(&step::output(metadata.current_dir(root()))?)?;
    let mut names = BTreeSet::new();
    let mut texts: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in linked(&metadata, crates)? {
        let field = |name: &str| package[name].as_str().unwrap_or_default();
        let name = format!("{} {}", field("name"), field("version"));
        names.insert(format!("{name}  {}", field("license")));
        let folder = Path::new(field("manifest_path")).parent().context("a crate without a folder")?;
        for text in terms(folder, DEPTH)? {
            texts.entry(text).or_default().insert(name.clone());
        }
    }
    if names.is_empty() || texts.is_empty() {
        bail!("no licences were found: are the sources of the dependencies there?");
    }
    Ok(written(&names, &texts))
}

fn written(names: &BTreeSet<String>, texts: &BTreeMap<String, BTreeSet<String>>) -> String {
    let mut all = format!("{TITLE}\n\n");
    for name in names {
        all += name;
        all.push('\n');
    }
    for (text, holders) in texts {
        let holders: Vec<&str> = holders.iter().map(String::as_str).collect();
        // A string takes all that is written to it.
        let _ = write!(all, "\n{}\n{}\n\n{}\n", "-".repeat(72), holders.join(", "), text.trim_end());
    }
    all
}

/// The crates of others that are reached from ours by dependencies that end up in the program.
fn linked<'a>(metadata: &'a Value, crates: &[&str]) -> Result<Vec<&'a Value>> {
    let list = |value: &'a Value| value.as_array().context("cargo metadata has another form");
    let by_id = |all: &'a [Value]| all.iter().map(|one| (one["id"].as_str(), one)).collect::<HashMap<_, _>>();
    let packages = by_id(list(&metadata["packages"])?);
    let nodes = by_id(list(metadata.pointer("/resolve/nodes").context("cargo metadata resolves nothing")?)?);
    let ours = |package: &Value| package["source"].is_null();
    let is_root = |package: &Value| ours(package) && crates.iter().any(|name| package["name"] == *name);
    let mut waiting: Vec<_> = packages.iter().filter(|(_, package)| is_root(package)).map(|(id, _)| *id).collect();
    let mut seen = BTreeSet::new();
    while let Some(id) = waiting.pop() {
        if !seen.insert(id) {
            continue;
        }
        for dependency in list(&nodes.get(&id).context("a crate that is not resolved")?["deps"])? {
            let kinds = list(&dependency["dep_kinds"])?;
            // Those of tests and build scripts have another kind.
            if kinds.iter().any(|kind| kind["kind"].is_null()) {
                waiting.push(dependency["pkg"].as_str());
            }
        }
    }
    Ok(seen.iter().filter_map(|id| packages.get(id).copied()).filter(|package| !ours(package)).collect())
}

/// The files with the terms of a crate.
fn terms(folder: &Path, depth: usize) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry.with_context(|| folder.display().to_string())?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_uppercase();
        if path.is_dir() && depth > 0 {
            found.extend(terms(&path, depth - 1)?);
        } else if path.is_file() && NAMES.iter().any(|start| name.starts_with(start)) {
            let text = fs::read(&path).with_context(|| path.display().to_string())?;
            found.push(String::from_utf8_lossy(&text).replace("\r\n", "\n"));
        }
    }
    Ok(found)
}

/// The platform that is built for.
fn host() -> Result<String> {
    let said = step::output(Command::new("rustc").arg("-vV"))?;
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc does not say its host")?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ours, with a dependency of each kind, and one that the program's own dependency brings.
    fn metadata() -> Value {
        let package = |id: &str, source: Value| serde_json::json!({"id": id, "name": id, "source": source});
        let depends = |on: &str, kind: Value| serde_json::json!({"pkg": on, "dep_kinds": [{"kind": kind}]});
        let node = |id: &str, deps: Vec<Value>| serde_json::json!({"id": id, "deps": deps});
        serde_json::json!({
            "packages": [
                package("program", Value::Null), package("ours", Value::Null), package("another", Value::Null),
                package("linked", "registry".into()), package("brought", "registry".into()),
                package("build", "registry".into()), package("test", "registry".into()), package("elsewhere", "registry".into()),
            ],
            "resolve": {"nodes": [
                node("program", vec![depends("ours", Value::Null), depends("build", "build".into()), depends("test", "dev".into())]),
                node("ours", vec![depends("linked", Value::Null)]), node("linked", vec![depends("brought", Value::Null)]),
                node("another", vec![depends("elsewhere", Value::Null)]),
                node("brought", vec![]), node("build", vec![]), node("test", vec![]), node("elsewhere", vec![]),
            ]},
        })
    }

    #[test]
    fn what_is_linked_in_is_found_and_nothing_else() {
        let metadata = metadata();
        let names: Vec<_> =
            linked(&metadata, &["program"]).unwrap().iter().map(|found| found["name"].as_str()).collect();
        assert_eq!(names, [Some("brought"), Some("linked")]);
    }

    #[test]
    fn a_text_that_several_have_stands_once() {
        let holders = ["a 1", "b 2"].map(str::to_owned);
        let text =
            written(&holders.clone().into(), &BTreeMap::from([("Do as you like.\n".to_owned(), holders.into())]));
        assert!(text.ends_with("\na 1, b 2\n\nDo as you like.\n"), "{text}");
        assert_eq!(text.matches("Do as you like.").count(), 1);
    }
}
