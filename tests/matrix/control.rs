//! The negative control: with one rule of a contract changed, what was observed must no longer agree with it.
//!
//! Nothing is called again. Each grant in turn is taken out, loses its condition, or asks for a lower role, in a copy of the
//! contract that the oracle reads; an oracle that agrees with such a copy, or cases that do not reach the rule, would show here.

use super::{
    attack::Made,
    judge::mismatches,
    plans::Plan,
    tally::{Gaps, grants, name},
};
use std::sync::Arc;
use sys_contract::model::{Contract, Grant, Role};
use sys_policy::Now;

/// One change of a grant; `None` takes it out.
type Change = Box<dyn Fn(&Grant) -> Option<Grant>>;

/// The changes of rules that nobody would notice.
pub(crate) fn unnoticed(
    contracts: &[Arc<Contract>],
    plans: &[Plan<'_>],
    made: &[Made],
    now: Now,
    gaps: &Gaps,
) -> (usize, Vec<String>) {
    let (mut tried, mut unnoticed) = (0, Vec::new());
    for (number, contract) in contracts.iter().enumerate() {
        for grant in grants(contract) {
            let name = name(grant);
            // What holds only beside another changes nothing by itself.
            if gaps.never_alone.contains(&name) || grant.permission.is_some() {
                continue;
            }
            // Whom a wider grant of a handler's method lets in, the handler may refuse in the same words: of these the golden
            // file tells, and here only what follows from their loss.
            let of_record = !grant_is_of_method(contract, &name);
            for (what, change) in changes(grant).into_iter().take(if of_record { usize::MAX } else { 1 }) {
                let mut changed = contracts.to_vec();
                changed[number] = Arc::new(with(contract, &name, &change));
                tried += 1;
                if mismatches(&changed, plans, made, now, None).next().is_none() {
                    unnoticed.push(format!("{name}: {what}"));
                }
            }
        }
    }
    (tried, unnoticed)
}

fn grant_is_of_method(contract: &Contract, named: &str) -> bool {
    let mut methods = contract.services.iter().flat_map(|service| &service.methods);
    methods.any(|method| method.allow.iter().any(|grant| name(grant) == named))
}

/// The changes that are tried, the loss of the grant first.
fn changes(grant: &Grant) -> Vec<(&'static str, Change)> {
    let mut changes: Vec<(&str, Change)> = vec![("taken out", Box::new(|_| None))];
    if grant.when.is_some() {
        changes.push(("without its condition", Box::new(|grant| Some(Grant { when: None, ..grant.clone() }))));
    }
    let lower = match grant.role {
        Some((Role::Admin, level)) => Some((Role::User, level)),
        Some((Role::User, level)) => Some((Role::Guest, level)),
        _ => None,
    };
    if let Some(role) = lower {
        changes.push(("for a lower role", Box::new(move |grant| Some(Grant { role: Some(role), ..grant.clone() }))));
    }
    changes
}

/// A copy of a contract in which the grant of this name is changed.
fn with(contract: &Contract, named: &str, change: &Change) -> Contract {
    let mut contract = contract.clone();
    let apply = |grants: &mut Vec<Grant>| {
        let changed =
            grants.drain(..).filter_map(|grant| if name(&grant) == named { change(&grant) } else { Some(grant) });
        *grants = changed.collect();
    };
    for record in &mut contract.records {
        apply(&mut record.allow);
        for field in &mut record.fields {
            apply(&mut field.read);
            apply(&mut field.write);
        }
    }
    let methods = contract.services.iter_mut().flat_map(|service| &mut service.methods);
    methods.for_each(|method| apply(&mut method.allow));
    contract
}
