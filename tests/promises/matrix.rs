//! The matrix, called for real: each method of each contract, as each person of a small world, on what lies in the person's
//! own org and in another one. The outcome of every call stands in `matrix.txt`, which is read as a diff; each is also held
//! against the rules as `sys-policy` decides them by itself.
//!
//! `UPDATE_GOLDEN=1 cargo test -p sys-tests matrix` writes it anew. A method without a request in `requests` fails
//! the test, and so does a caller who is let in but is told that his request is invalid: then its request there is wrong.

mod oracle;
mod requests;
mod setting;

use crate::rules::contracts;
use oracle::Oracle;
use requests::{Case, Traces, names_a_place, request_for};
use serde_json::Value;
use setting::{Place, Setting};
use std::{collections::BTreeMap, fmt::Write as _};
use sys_contract::model::Method;
use sys_tests::{Answer, TestServer, compare_golden};

/// What the callers of one method on one target came to: the outcome, and who had it.
type Outcomes = BTreeMap<String, Vec<&'static str>>;

#[tokio::test]
async fn every_method_answers_each_caller_as_the_rules_say() {
    let contracts = contracts();
    let setting = Setting::build(&contracts).await;
    let oracle = Oracle::new(&contracts);
    let mut desk = Desk { setting: &setting, server: setting.serve().await, spoiled: false };
    let mut matrix = String::new();
    let mut uncovered = Vec::new();
    for method in contracts.iter().flat_map(|contract| &contract.services).flat_map(|service| &service.methods) {
        let places = [("own", &setting.own), ("other", &setting.other)];
        for (name, place) in places.into_iter().take(if names_a_place(&method.path) { 2 } else { 1 }) {
            match desk.call_as_everybody(&oracle, method, place).await {
                Some(outcomes) => write(&mut matrix, method, name, outcomes),
                None => uncovered.push(&method.path),
            }
        }
    }
    desk.server.stop().await;
    assert!(uncovered.is_empty(), "methods without a request: {uncovered:?}");
    compare_golden("tests/promises/matrix.txt", &matrix);
}

/// Where callers come to, one after the other. Whoever leaves traces that the next one would see, spoils it: then the next
/// one finds a server on a fresh copy of the data.
struct Desk<'a> {
    setting: &'a Setting,
    server: TestServer,
    spoiled: bool,
}

impl Desk<'_> {
    /// Calls a method as everybody; `None` if nobody knows what to ask.
    async fn call_as_everybody(&mut self, oracle: &Oracle<'_>, method: &Method, place: &Place) -> Option<Outcomes> {
        let mut outcomes = Outcomes::new();
        let mut touched = false;
        for who in &self.setting.people {
            let case = request_for(&method.path, place, who, self.setting)?;
            if self.spoiled {
                self.start_afresh().await;
            }
            let answer = who.client.at(self.server.addr).call(&method.path, case.body.clone()).await;
            let outcome = outcome(&answer, &case);
            oracle.judge(method, who, place, &case, &outcome, self.server.now_unix_s());
            assert!(!outcome.starts_with("invalid_argument"), "{} as {}: {}", method.path, who.name, answer.body);
            outcomes.entry(outcome).or_default().push(who.name);
            self.spoiled = answer.is_ok() && case.traces == Traces::ForOthers;
            touched |= answer.is_ok() && case.traces == Traces::ForTheCaller;
        }
        self.spoiled |= touched;
        Some(outcomes)
    }

    async fn start_afresh(&mut self) {
        let fresh = self.setting.serve().await;
        std::mem::replace(&mut self.server, fresh).stop().await;
        self.spoiled = false;
    }
}

/// `ok`, or the code and reason of the refusal; of a list also whether it shows what it was asked for.
fn outcome(answer: &Answer, case: &Case) -> String {
    if !answer.is_ok() {
        return format!("{} {}", answer.code(), answer.reason());
    }
    let Some((items, id)) = &case.looks_for else { return "ok".to_owned() };
    let shown = match &answer.body[*items] {
        Value::Array(items) => items.iter().any(|item| item["id"] == id.as_str()),
        count => count == "1",
    };
    if shown { "ok, shown".to_owned() } else { "ok, not shown".to_owned() }
}

fn write(matrix: &mut String, method: &Method, place: &str, outcomes: Outcomes) {
    let on = if names_a_place(&method.path) { format!(" on {place}") } else { String::new() };
    writeln!(matrix, "{}{on}", method.path).expect("a string");
    for (outcome, names) in outcomes {
        writeln!(matrix, "  {outcome:<36} {}", names.join(" ")).expect("a string");
    }
}
