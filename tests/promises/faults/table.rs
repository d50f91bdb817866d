//! `docs/faults.md` says where each fault of the earlier system is tested. Here: that it says so of all of them, and that
//! what it names is there.

use std::{collections::BTreeSet, fs};
use sys_tests::workspace;

const TABLE: &str = "docs/faults.md";
const FAULTS: std::ops::RangeInclusive<u32> = 1..=26;

/// The cells of the rows below a heading.
fn rows<'a>(text: &'a str, heading: &str) -> Vec<Vec<&'a str>> {
    let (_, section) = text.split_once(&format!("## {heading}\n")).unwrap_or_else(|| panic!("no `{heading}`"));
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    rows.skip(1).filter(|row| !row.starts_with("---")).map(|row| row.split(" | ").map(str::trim).collect()).collect()
}

/// What a cell names: file and test.
fn tests_of(cell: &str) -> Vec<(String, String)> {
    let names = cell.split('`').skip(1).step_by(2);
    let pairs = names.filter_map(|name| name.split_once("::"));
    pairs.map(|(file, test)| (file.to_owned(), test.to_owned())).collect()
}

#[test]
fn the_table_of_faults_names_all_of_them_and_tests_that_are_there() {
    let text = fs::read_to_string(workspace().join(TABLE)).unwrap();
    let faults = rows(&text, "The faults");
    let numbers: Vec<u32> = faults.iter().map(|row| row[0].parse().unwrap()).collect();
    assert_eq!(numbers, FAULTS.collect::<Vec<_>>(), "each fault has its row, in order");
    let holes = rows(&text, "Holes of others");
    assert!(holes.len() >= 5, "{holes:?}");
    let mut named = BTreeSet::new();
    for row in faults.iter().chain(&holes) {
        let cell = row.last().copied().unwrap_or_default();
        let tests = tests_of(cell);
        assert!(!tests.is_empty() || cell.starts_with("comes with "), "{}: neither test nor when it comes", row[0]);
        for (file, test) in tests {
            let source = fs::read_to_string(workspace().join(&file)).unwrap_or_else(|_| panic!("{file} is not there"));
            assert!(source.contains(&format!("fn {test}(")), "{file} has no test `{test}`");
            named.insert(test);
        }
    }
    // The other way round: a fault's test that no row names.
    for file in ["tests/promises/faults.rs", "tests/promises/faults/data.rs"] {
        let source = fs::read_to_string(workspace().join(file)).unwrap();
        let tests = source.lines().filter_map(|line| line.strip_prefix("async fn fault_"));
        for test in tests.filter_map(|line| line.split('(').next()) {
            assert!(named.contains(&format!("fault_{test}")), "{TABLE} does not name fault_{test}");
        }
    }
}
