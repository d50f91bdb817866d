//! Which crate may use which: arrows point down only (ARCHITECTURE.md).

use crate::{no_arguments, root, say, step};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    process::{Command, ExitCode},
};

pub(crate) const HELP: &str = "\
cargo xtask layers

Checks from cargo's metadata that each crate uses only crates below it, that the applications are used by nobody, and
that the crates without I/O stay so. Build and development dependencies count, too.";

/// The direct dependencies of each package: a name, and whether its tests alone use it.
type Uses = BTreeMap<String, BTreeSet<(String, bool)>>;

/// What each crate of the workspace may use of the others. A crate that is not here may not exist.
const MAY_USE: [(&str, &[&str]); 19] = [
    ("sys-contract", &[]),
    // What a source is, for listeners and for limits alike.
    ("sys-net", &[]),
    ("sys-policy", &["sys-contract"]),
    ("sys-keys", &["sys-contract"]),
    // The part of the audit log that a server and those who doubt it must agree on.
    ("sys-audit", &["sys-contract"]),
    ("sys-store", &["sys-contract", "sys-policy", "sys-keys"]),
    ("sys-core", &["sys-contract", "sys-policy", "sys-keys", "sys-audit", "sys-store", "sys-net"]),
    // The built-in module stands on the module API of sys-core like any other module.
    ("sys-account", &["sys-contract", "sys-core"]),
    // A listener knows nothing of records.
    ("sys-edge", &["sys-net"]),
    ("sys-dns", &["sys-net"]),
    // Where keys are kept and how a challenge is shown is said by who asks for certificates.
    ("sys-acme", &[]),
    // The other built-in module: what the listeners show is kept and decided here.
    ("sys-domain", &["sys-contract", "sys-core", "sys-edge", "sys-dns", "sys-acme"]),
    // What the gate has recorded, on its way out.
    ("sys-otlp", &["sys-contract", "sys-audit", "sys-core"]),
    ("sys-client", &["sys-contract", "sys-audit"]),
    // `sys-server` touches a data directory, `sys` talks to a server.
    (
        "sys-server",
        &[
            "sys-contract",
            "sys-policy",
            "sys-keys",
            "sys-store",
            "sys-core",
            "sys-account",
            "sys-edge",
            "sys-dns",
            "sys-domain",
            "sys-otlp",
        ],
    ),
    ("sys-cli", &["sys-contract", "sys-policy", "sys-audit", "sys-client"]),
    ("xtask", &[]),
    ("sys-fuzz", EVERYTHING),
    ("sys-tests", EVERYTHING),
];
/// What a crate's own tests may use besides. The crate itself never sees it.
const TESTS_MAY_USE: [(&str, &str); 9] = [
    // A gate on a store in memory, to call the module through.
    ("sys-account", "sys-keys"),
    ("sys-account", "sys-policy"),
    ("sys-account", "sys-store"),
    // Somebody to call as.
    ("sys-domain", "sys-account"),
    ("sys-domain", "sys-keys"),
    ("sys-domain", "sys-policy"),
    ("sys-domain", "sys-store"),
    ("sys-client", "sys-edge"),
    ("sys-cli", "sys-edge"),
];
/// The tests stand above everything.
const EVERYTHING: &[&str] = &["*"];

/// The crates that do no I/O, and what would bring it in.
const WITHOUT_IO: [&str; 3] = ["sys-contract", "sys-policy", "sys-audit"];
const IO: [&str; 7] = ["tokio", "hyper", "redb", "tonic", "connectrpc", "rand", "getrandom"];

/// `cargo xtask layers`.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    no_arguments(arguments)?;
    Ok(say(&format!("{} arrows between crates, all pointing down", check()?)))
}

/// The number of arrows between our crates, if all of them are allowed.
pub(crate) fn check() -> Result<usize> {
    let mut metadata = Command::new("cargo");
    metadata.args(["metadata", "--format-version", "1", "--no-deps", "--offline"]).current_dir(root());
    let used = dependencies(&serde_json::from_str(&step::output(&mut metadata)?)?)?;
    let wrong = wrong_arrows(&used);
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n"));
    }
    Ok(used.values().flatten().filter(|(name, _)| used.contains_key(name)).count())
}

fn dependencies(metadata: &Value) -> Result<Uses> {
    let name = |value: &Value| value.get("name").and_then(Value::as_str).map(str::to_owned);
    let packages = metadata.get("packages").and_then(Value::as_array).context("cargo metadata lists no packages")?;
    let mut used = Uses::new();
    for package in packages {
        let dependencies =
            package.get("dependencies").and_then(Value::as_array).context("a package without dependencies")?;
        let uses = dependencies.iter().filter_map(|used| Some((name(used)?, used.get("kind")? == "dev"))).collect();
        used.insert(name(package).context("a package without a name")?, uses);
    }
    Ok(used)
}

fn wrong_arrows(used: &Uses) -> Vec<String> {
    let mut wrong = Vec::new();
    for (package, dependencies) in used {
        let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| name == package) else {
            wrong.push(format!("{package} has no place in the layers: give it one in xtask/src/layers.rs"));
            continue;
        };
        for (dependency, in_tests) in dependencies {
            let is_allowed = *allowed == EVERYTHING
                || allowed.contains(&dependency.as_str())
                || (*in_tests && TESTS_MAY_USE.contains(&(package, dependency)));
            if used.contains_key(dependency) && !is_allowed {
                wrong.push(format!("{package} may not use {dependency}: arrows point down only"));
            }
            if WITHOUT_IO.contains(&package.as_str()) && IO.contains(&dependency.as_str()) {
                wrong.push(format!("{package} may not use {dependency}: it does no I/O"));
            }
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(arrows: &[(&str, &[&str])]) -> Vec<String> {
        let set = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), false)).collect();
        wrong_arrows(&arrows.iter().map(|(package, uses)| ((*package).to_owned(), set(uses))).collect())
    }

    #[test]
    fn arrows_point_down_only() {
        let below: [(&str, &[&str]); 4] =
            [("sys-contract", &["prost"]), ("sys-policy", &["sys-contract"]), ("sys-server", &[]), ("sys-cli", &[])];
        assert!(wrong(&below).is_empty());
        let up = wrong(&[("sys-contract", &["sys-policy"]), ("sys-policy", &[])]);
        assert_eq!(up, ["sys-contract may not use sys-policy: arrows point down only"]);
        let application = wrong(&[("sys-edge", &["sys-server"]), ("sys-server", &[]), ("sys-tests", &["sys-server"])]);
        assert_eq!(application, ["sys-edge may not use sys-server: arrows point down only"]);
        assert_eq!(wrong(&[("sys-cli", &["sys-store"]), ("sys-store", &[])]).len(), 1);
        assert_eq!(wrong(&[("sys-util", &[])]).len(), 1);
        assert_eq!(wrong(&[("sys-policy", &["tokio"])]), ["sys-policy may not use tokio: it does no I/O"]);
    }

    #[test]
    fn what_the_tests_use_is_not_the_crate_s_to_use() {
        let uses = |in_tests| {
            let client = ("sys-client".to_owned(), BTreeSet::from([("sys-edge".to_owned(), in_tests)]));
            wrong_arrows(&Uses::from([client, ("sys-edge".to_owned(), BTreeSet::new())]))
        };
        assert!(uses(true).is_empty());
        assert_eq!(uses(false), ["sys-client may not use sys-edge: arrows point down only"]);
    }

    #[test]
    fn the_table_itself_points_down_only() {
        for (at, (package, allowed)) in MAY_USE.iter().enumerate() {
            for dependency in allowed.iter().filter(|name| **name != "*") {
                let stands = MAY_USE.iter().position(|(name, _)| name == dependency);
                assert!(stands.is_some_and(|below| below < at), "{package} -> {dependency}");
            }
        }
    }
}
