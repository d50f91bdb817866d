//! Non-interference: two stores that differ only in what one caller may not see answer him alike, whatever he asks.
//!
//! A program is a random sequence of steps. Some are the caller's own calls: both stores answer, and the answers must be equal
//! to the byte, etags, errors, page counts and the lengths of page tokens included. Some are what others do in both stores,
//! and some in one of them only; those are left out where the caller could see the difference, which a naive reading of the contract
//! decides (`seen`), not the rules under test. Ids, keys and times are the same on both sides; the order in which
//! records are made is not, and so no commit number is.
//!
//! What a contract shows on purpose is left out: that a UNIQUE value is taken within its reach. What the clock shows is not
//! compared: docs/timing.md says what follows what.

mod base;
mod program;
mod seen;
mod side;

use crate::harness::Kind;
use program::{Program, Side, Step, program};
use proptest::{
    prelude::*,
    test_runner::{Config, TestCaseError, TestError, TestRng, TestRunner},
};
use side::{Pair, Spy};
use std::cell::Cell;

/// Runs a program on two stores; says where their answers differ, and how many deeds were done on one side only.
fn differ(kind: Kind, spy: Spy, program: &Program) -> Result<usize, TestCaseError> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut pair = Pair::new(kind, spy, program).await;
        let mut apart = 0;
        for (number, step) in program.steps.iter().enumerate() {
            let moved = match step {
                Step::Ask(ask) => {
                    let (left, right) = pair.ask(number, ask).await;
                    prop_assert_eq!(left, right, "step {}: {:?}", number, ask);
                    ask.writes()
                }
                Step::Both(deed) => pair.deed(number, &[Side::Left, Side::Right], deed).await,
                Step::Only(side, deed) => {
                    let done = pair.deed(number, &[*side], deed).await;
                    apart += usize::from(done);
                    done
                }
            };
            if moved {
                let (left, right) = pair.seen().await;
                prop_assert_eq!(left, right, "step {} brought what is seen apart: {:?}", number, step);
            }
        }
        Ok(apart)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, max_shrink_iters: 3_000, ..ProptestConfig::default() })]

    #[test]
    fn two_stores_that_differ_in_what_is_hidden_answer_alike(program in program()) {
        differ(Kind::Memory, Spy::None, &program)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 500, ..ProptestConfig::default() })]

    #[test]
    fn so_do_two_stores_on_redb(program in program()) {
        differ(Kind::Redb, Spy::None, &program)?;
    }
}

/// The smallest program that gives away a spy, among as many as the test above tries.
fn caught(spy: Spy) -> Option<Program> {
    let config = Config { cases: 300, max_shrink_iters: 1_000, failure_persistence: None, ..Config::default() };
    let rng = TestRng::deterministic_rng(config.rng_algorithm);
    match TestRunner::new_with_rng(config, rng).run(&program(), |program| differ(Kind::Memory, spy, &program).map(drop))
    {
        Err(TestError::Fail(_, program)) => Some(program),
        Ok(()) => None,
        Err(aborted) => panic!("{aborted}"),
    }
}

#[test]
fn control_answers_to_somebody_who_sees_more_are_found_to_differ() {
    let program = caught(Spy::Insider).expect("what an admin is shown differs");
    assert!(program.steps.len() < 12, "a short example: {program:?}");
}

#[test]
fn control_a_commit_number_in_an_answer_is_found() {
    let program = caught(Spy::Versions).expect("the commit numbers differ");
    assert!(program.steps.len() < 12, "a short example: {program:?}");
}

#[test]
fn control_an_event_for_a_record_that_was_not_judged_is_found() {
    let program = caught(Spy::Gone).expect("a hidden record that goes is told of");
    assert!(program.steps.len() < 12, "a short example: {program:?}");
}

#[test]
fn control_a_message_for_each_commit_is_found() {
    let program = caught(Spy::Woken).expect("commits are heard that show nothing");
    assert!(program.steps.len() < 12, "a short example: {program:?}");
}

#[test]
fn control_the_programs_do_hide_something() {
    let config = Config { cases: 60, failure_persistence: None, ..Config::default() };
    let rng = TestRng::deterministic_rng(config.rng_algorithm);
    let (programs, deeds) = (Cell::new(0), Cell::new(0));
    TestRunner::new_with_rng(config, rng)
        .run(&program(), |program| {
            let apart = differ(Kind::Memory, Spy::None, &program)?;
            programs.set(programs.get() + usize::from(apart > 0));
            deeds.set(deeds.get() + apart);
            Ok(())
        })
        .unwrap();
    let (programs, deeds) = (programs.get(), deeds.get());
    assert!(programs > 50 && deeds > 300, "{deeds} deeds in {programs} programs were done on one side only");
}
