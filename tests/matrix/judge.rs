//! Outcomes held against what the contract says, and answers against what their caller may read.

use super::{
    Made, Plan, Tally,
    oracle::{Expected, Oracle},
};
use std::sync::Arc;
use sys_contract::model::Contract;
use sys_policy::Now;

/// What is not as these contracts say it: they may differ from those that the server has loaded.
pub(crate) fn mismatches<'m>(
    contracts: &'m [Arc<Contract>],
    plans: &'m [Plan<'_>],
    made: &'m [Made],
    now: Now,
    tally: Option<&'m Tally>,
) -> impl Iterator<Item = String> + 'm {
    made.iter().filter_map(move |made| {
        let plan = &plans[made.plan];
        let contract = contracts.iter().find(|contract| contract.module == plan.contract.module).expect("its contract");
        let oracle = Oracle { contract, now, tally };
        let what = outcome(&oracle, plan, made).or_else(|| shown(&oracle, contracts, made)).or(made.broken.clone());
        let request = || super::ground::json_of(&made.ask.message);
        what.map(|what| {
            format!("{} [{}] as {}: {what} ({}) {}", plan.method.path, made.case, made.kind, made.told, request())
        })
    })
}

fn outcome(oracle: &Oracle<'_>, plan: &Plan<'_>, made: &Made) -> Option<String> {
    let outcome = made.outcome.as_str();
    match oracle.expects(plan, &made.facts, made.form, &made.ask) {
        Expected::Exactly(expected) => {
            (outcome != expected).then(|| format!("it came to `{outcome}`, and not to `{expected}`"))
        }
        // What is the gate's to say, a handler does not.
        Expected::UpToHandler => {
            ["METHOD_REFUSED", "STEP_UP_REQUIRED", "UNAUTHENTICATED", "invalid_argument", "internal"]
                .iter()
                .find(|word| outcome.ends_with(&format!(" {word}")) || outcome.starts_with(*word))
                .map(|_| format!("it came to `{outcome}`, though it was let in"))
        }
    }
}

/// What an answer shows that its caller may not read, or hides that he may.
fn shown(oracle: &Oracle<'_>, contracts: &[Arc<Contract>], made: &Made) -> Option<String> {
    made.shown.iter().find_map(|shown| {
        let mut records = contracts.iter().flat_map(|contract| &contract.records);
        let record = records.find(|record| record.message.full_name() == shown.record).expect("a record");
        let readable = oracle.reads(record, &made.facts, &shown.stored);
        let stored = record.fields.iter().filter(|field| shown.stored.has_field(&field.descriptor));
        let mut expected: std::collections::BTreeSet<u32> = match readable {
            // The id alone.
            None => [record.id.number()].into(),
            Some(readable) => stored.map(|field| field.descriptor.number()).filter(|n| readable.contains(n)).collect(),
        };
        let mut fields = shown.fields.clone();
        if let Some(etag) = &record.etag {
            fields.remove(&etag.number());
            expected.remove(&etag.number());
        }
        (fields != expected)
            .then(|| format!("of {} it shows the fields {fields:?}, and not {expected:?}", shown.record))
    })
}
