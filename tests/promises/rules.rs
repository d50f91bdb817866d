//! Who may do what, in one text: the matrix of the whole system, in which every method and every record appears. A change
//! of a rule is reviewed as a diff of `rules.txt`; `UPDATE_GOLDEN=1 cargo test -p sys-tests rules` writes it anew.

use sys_contract::model::Contract;
use sys_policy::{Rules, matrix};
use sys_tests::{compare_golden, workspace};

/// The contracts of an ordinary server.
pub(crate) fn contracts() -> [Contract; 4] {
    [
        sys_core::descriptors::contract().expect("sys-core's contract loads"),
        sys_account::module::contract().expect("sys-account's contract loads"),
        sys_domain::module::contract().expect("sys-domain's contract loads"),
        (*sys_server::modules::read(&workspace().join("modules/mod-notes")).expect("the notes load")).clone(),
    ]
}

#[test]
fn no_rule_changes_unseen() {
    let contracts = contracts();
    let rules: Vec<Rules> = contracts.iter().map(|contract| Rules::compile(contract).expect("rules compile")).collect();
    let text = matrix(&contracts.iter().zip(&rules).collect::<Vec<_>>());
    for contract in &contracts {
        for method in contract.services.iter().flat_map(|service| &service.methods) {
            assert!(text.contains(&method.path), "{} is missing", method.path);
        }
        for record in &contract.records {
            assert!(text.contains(record.message.full_name()), "{} is missing", record.message.full_name());
        }
    }
    compare_golden("tests/promises/rules.txt", &text);
}
