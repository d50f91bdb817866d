//! What the parts of the package say of each other, without building it.

use super::*;
use std::collections::BTreeSet;

/// The files of a folder of `packaging`.
fn packaging(folder: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(root().join("packaging").join(folder)).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

#[test]
fn nothing_that_belongs_into_the_package_is_left_out() {
    let packaged = FILES.map(|(from, _)| from);
    for unit in packaging("systemd") {
        assert!(packaged.contains(&format!("packaging/systemd/{unit}").as_str()), "{unit}");
    }
    let others = ["changelog", "control", "copyright", "sys-server.yaml"];
    for file in packaging("debian") {
        assert!(others.contains(&&*file) || CONTROL.iter().any(|(name, _)| *name == file), "{file}");
    }
    for (from, to) in FILES {
        assert!(root().join(from).is_file(), "{from}");
        assert_eq!(text("packaging/debian/conffiles").contains(&format!("/{to}\n")), to.starts_with("etc/"), "{to}");
    }
}

#[test]
fn every_unit_is_stopped_before_it_is_removed_and_told_of_in_the_docs() {
    let (prerm, docs) = (text("packaging/debian/prerm"), text("docs/operating.md"));
    for unit in packaging("systemd") {
        assert!(prerm.split_whitespace().any(|word| word == unit), "{unit}");
        assert!(unit.ends_with(".service") || docs.contains(&unit), "{unit}");
    }
}

#[test]
fn the_changelog_begins_with_this_version() {
    let expected = format!("sys-server ({}) ", env!("CARGO_PKG_VERSION"));
    assert!(text("packaging/debian/changelog").starts_with(&expected), "{expected}");
}

#[test]
fn folders_of_the_package_are_open_to_all_whoever_made_it() {
    let folder = std::env::temp_dir().join(format!("xtask-package-{}", std::process::id()));
    write(&folder.join("a/b/file"), "text").unwrap();
    let mode = |path: &str| fs::metadata(folder.join(path)).unwrap().permissions().mode() & 0o777;
    let modes = [mode("a"), mode("a/b"), mode("a/b/file")];
    let found = installed(&folder);
    fs::remove_dir_all(&folder).unwrap();
    assert_eq!(modes, [0o755, 0o755, 0o644]);
    assert_eq!(found.unwrap(), [Path::new("a/b/file")]);
}
