//! The attack matrix: each method of each loaded module, called for real by each kind of caller on each kind of record, and
//! held against an oracle that reads the contract by itself.
//!
//! All of it is derived from the descriptors. [`plans`] says what a method is asked, [`callers`] and [`places`] are the axes,
//! [`stage`] lays out the world of a caller, [`requests`] writes the messages with what [`meanings`] knows of fields, [`attack`]
//! makes the calls, [`oracle`] says what they must come to. A method that cannot be asked fails the test; there is no list of
//! exceptions. `matrix.txt` holds all outcomes; `UPDATE_GOLDEN=1 cargo test -p sys-tests --test matrix` writes it anew.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "test code: the setting for tests does not reach functions beside them"
)]

mod attack;
mod callers;
mod conditions;
mod control;
mod fillings;
mod ground;
mod judge;
mod meanings;
mod oracle;
mod places;
mod plans;
mod report;
mod requests;
mod stage;
mod tally;
mod wire;

use attack::{Made, attack};
use callers::kinds;
use control::unnoticed;
use ground::Ground;
use judge::mismatches;
use plans::Plan;
use std::sync::Arc;
use sys_contract::model::Contract;
use sys_tests::compare_golden;
use tally::Tally;

/// Mismatches that are shown: one fault makes many.
const SHOWN: usize = 40;
/// How much of each: a request may be long.
const SHOWN_CHARS: usize = 600;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_of_every_caller_comes_to_what_the_contract_says() {
    let ground = Arc::new(Ground::start().await);
    // For as long as the process lives, which is as long as this test.
    let contracts: &'static [Arc<Contract>] = Vec::leak(ground.contracts().cloned().collect());
    let methods = contracts.iter().flat_map(|contract| {
        let methods = contract.services.iter().flat_map(|service| &service.methods);
        methods.map(move |method| Plan::of(contract, method))
    });
    let plans: &'static [Plan<'static>] = Vec::leak(methods.collect());
    let made = attack(&ground, plans, kinds()).await;
    let tally = Tally::default();
    let wrong: Vec<String> = mismatches(contracts, plans, &made, ground.now(), Some(&tally)).collect();
    let first: Vec<String> = wrong.iter().take(SHOWN).map(|text| text.chars().take(SHOWN_CHARS).collect()).collect();
    assert!(wrong.is_empty(), "{} calls are not as the contract says: {first:#?}", wrong.len());
    let gaps = tally.gaps(contracts.iter().map(AsRef::as_ref));
    assert!(gaps.untested.is_empty(), "rules that no case tells anything of: {:#?}", gaps.untested);
    compare_golden("tests/matrix/matrix.txt", &report::text(plans, &made, &gaps));
    let (tried, unnoticed) = unnoticed(contracts, plans, &made, ground.now(), &gaps);
    assert!(tried > 0 && unnoticed.is_empty(), "of {tried} changes of rules nobody notices {unnoticed:#?}");
    Arc::try_unwrap(ground).unwrap_or_else(|_| panic!("nobody calls any more")).stop().await;
}
