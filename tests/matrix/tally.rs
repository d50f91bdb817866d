//! What each rule came to over all cases: whether it held and whether it failed, alone or with others.
//!
//! A rule that was never seen both ways was not tested. Which ways there are follows from the rule itself: nobody has a
//! permission, since no role has any, and what is open to everybody without a condition never fails.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{Mutex, PoisonError},
};
use sys_contract::model::{Contract, Grant};

/// Counts by rule.
#[derive(Debug, Default)]
pub(crate) struct Tally(Mutex<BTreeMap<String, Seen>>);

/// What was seen of a rule.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    held: bool,
    failed: bool,
    /// It held, and no other of its list did.
    alone: bool,
    /// Its condition held, or failed, for somebody who was meant.
    when_held: bool,
    when_failed: bool,
}

impl Tally {
    /// A grant was asked: whether the caller is meant, and whether its condition holds.
    pub(crate) fn judged(&self, grant: &Grant, who: bool, when: Option<bool>) {
        self.note(name(grant), |seen| {
            let held = who && when.unwrap_or(true);
            seen.held |= held;
            seen.failed |= !held;
            seen.when_held |= who && when == Some(true);
            seen.when_failed |= who && when == Some(false);
        });
    }

    pub(crate) fn alone(&self, grant: &Grant) {
        self.note(name(grant), |seen| seen.alone = true);
    }

    /// The condition of a step-up was asked.
    pub(crate) fn condition(&self, text: &str, holds: bool) {
        self.note(format!("unless {text}"), |seen| {
            seen.held |= holds;
            seen.failed |= !holds;
        });
    }

    fn note(&self, name: String, note: impl FnOnce(&mut Seen)) {
        note(self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_default());
    }

    /// What was not seen of the rules of these contracts, though it could be; and what never decided alone.
    pub(crate) fn gaps<'a>(&self, contracts: impl Iterator<Item = &'a Contract>) -> Gaps {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |name: &str| seen.get(name).copied().unwrap_or_default();
        let mut gaps = Gaps::default();
        for contract in contracts {
            for grant in grants(contract) {
                let name = name(grant);
                let Seen { held, failed, alone, when_held, when_failed } = of(&name);
                let mut lacks = |what: &str, lacking: bool| {
                    if lacking {
                        gaps.untested.push(format!("{name}: never {what}"));
                    }
                };
                lacks("held", !held && can_hold(grant));
                lacks("failed", !failed && can_fail(grant));
                lacks("held by its condition", grant.when.is_some() && !when_held && can_hold(grant));
                lacks("failed by its condition", grant.when.is_some() && !when_failed && can_hold(grant));
                if !alone && can_hold(grant) {
                    gaps.never_alone.push(name);
                }
            }
            for unless in contract
                .services
                .iter()
                .flat_map(|service| &service.methods)
                .filter_map(|method| method.step_up.as_ref()?.unless.as_deref())
            {
                let name = format!("unless {unless}");
                let Seen { held, failed, .. } = of(&name);
                if !(held && failed) {
                    gaps.untested.push(format!("{name}: never both ways"));
                }
            }
        }
        gaps
    }
}

/// What the cases leave open.
#[derive(Debug, Default)]
pub(crate) struct Gaps {
    pub(crate) untested: Vec<String>,
    /// Rules that held only beside others: whoever has this has another, too.
    pub(crate) never_alone: Vec<String>,
}

/// All grants of a contract: of records, of their fields, of methods.
pub(crate) fn grants(contract: &Contract) -> impl Iterator<Item = &Grant> {
    let of_records = contract.records.iter().flat_map(|record| {
        let of_fields = record.fields.iter().flat_map(|field| field.read.iter().chain(&field.write));
        record.allow.iter().chain(of_fields)
    });
    let methods = contract.services.iter().flat_map(|service| &service.methods);
    of_records.chain(methods.flat_map(|method| &method.allow))
}

/// No role has a permission yet.
fn can_hold(grant: &Grant) -> bool {
    grant.permission.is_none()
}

/// What is open to everybody, without a condition, never fails.
fn can_fail(grant: &Grant) -> bool {
    let named = grant.role.is_some() || grant.member || grant.owner || grant.signed_in;
    named || grant.when.is_some() || grant.permission.is_some()
}

/// A grant by where it stands and what it says: of those in one list, all stand in one place.
pub(crate) fn name(grant: &Grant) -> String {
    let mut text = format!("{}:", grant.place);
    let mut add = |word: String| write!(text, " {word}").expect("a string");
    grant.verbs.iter().for_each(|verb| add(format!("{verb:?}").to_uppercase()));
    if let Some((role, level)) = grant.role {
        add(format!("{role:?} at {level:?}"));
    }
    let flags =
        [("member", grant.member), ("owner", grant.owner), ("signed in", grant.signed_in), ("public", grant.public)];
    flags.into_iter().filter(|(_, set)| *set).for_each(|(word, _)| add(word.to_owned()));
    grant.permission.iter().for_each(|permission| add(format!("permission {permission}")));
    grant.when.iter().for_each(|when| add(format!("when {when}")));
    text
}
