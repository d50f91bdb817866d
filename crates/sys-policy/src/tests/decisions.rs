//! Decisions on one record equal those of the oracle.

use super::{
    fixture::{ANY_GRANT, account, at_org, at_project, caller, encoded, org, placed, project, things},
    model::{NOW, Rule, Thing, Who, any_rule, any_thing, any_who, holds, names_next},
};
use crate::{Binding, Caller, GrantNo, Rules, Standing};
use proptest::prelude::*;
use prost_reflect::Value;
use std::sync::LazyLock;
use sys_contract::{
    id::{OrgId, OrgTag, RecordId},
    model::{Contract, Home, Role, Verb},
};

static BASE: LazyLock<Contract> = LazyLock::new(|| things(ANY_GRANT));

/// The number of `memo`.
const MEMO: u32 = 101;

pub(super) fn contract(home: Home, rules: &[Rule]) -> Contract {
    let mut contract = BASE.clone();
    contract.records[0].home = home;
    contract.records[0].allow = rules.iter().map(|rule| rule.grant.clone()).collect();
    contract
}

/// Rules that load: a condition that folds to a constant does not.
pub(super) fn compile(contract: &Contract) -> Option<Rules> {
    Rules::compile(contract).ok()
}

fn any_home() -> impl Strategy<Value = Home> {
    prop::sample::select(vec![Home::Org, Home::Global])
}

fn first(rules: &[Rule], verb: Verb, holds: impl Fn(&Rule) -> bool) -> Option<GrantNo> {
    let found = rules.iter().position(|rule| rule.grant.verbs.contains(&verb) && holds(rule))?;
    Some(GrantNo(found.try_into().expect("few rules")))
}

fn case() -> impl Strategy<Value = (Home, Vec<Rule>, Who, Thing, Thing)> {
    any_home().prop_flat_map(|home| {
        let rules = prop::collection::vec(any_rule(home), 1..4);
        (Just(home), rules, any_who(), any_thing(), any_thing())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn decisions_are_those_of_the_oracle((home, rules, who, thing, other) in case()) {
        // The result of a change: other values in the same place.
        let next = Thing { org: thing.org, project: thing.project, owner: thing.owner, ..other };
        let contract = contract(home, &rules);
        let Some(compiled) = compile(&contract) else { return Ok(()) };
        let record = compiled.record(0);
        let (caller, now) = (who.caller(), NOW);
        let (stored, changed) = (thing.message(&contract), next.message(&contract));
        let placement = record.placement(&stored).expect("a placed thing");
        let bytes = encoded(&stored).expect("no maps");
        prop_assert_eq!(record.placement(bytes.encoded()).expect("a placed thing"), placement);
        for verb in [Verb::Get, Verb::Create, Verb::Delete] {
            let expect = first(&rules, verb, |rule| holds(rule, home, &who, &thing, None, &NOW));
            prop_assert_eq!(record.allows(verb, &caller, &stored, &placement, &now), expect, "{:?}", verb);
            prop_assert_eq!(record.allows(verb, &caller, bytes.encoded(), &placement, &now), expect, "{:?} on bytes", verb);
            if expect.is_some() {
                prop_assert!(record.could(&caller, verb, &now), "{:?}: what is allowed was thought impossible", verb);
            }
        }
        let expect = first(&rules, Verb::Update, |rule| holds(rule, home, &who, &thing, Some(&next), &NOW));
        prop_assert_eq!(record.allows_update(&caller, &stored, &changed, &placement, &now), expect);
        prop_assert_eq!(record.allows(Verb::Update, &caller, &stored, &placement, &now), None);
        // Before the result is known, a `when` that names it is left out.
        let without_next = |rule: &Rule| match rule.when.as_ref().filter(|when| names_next(when)) {
            Some(_) => Rule { when: None, ..rule.clone() },
            None => rule.clone(),
        };
        let could = first(&rules, Verb::Update, |rule| holds(&without_next(rule), home, &who, &thing, None, &now));
        prop_assert_eq!(record.could_update(&caller, &stored, &placement, &now), could.is_some());
        prop_assert_eq!(record.could_update(&caller, bytes.encoded(), &placement, &now), could.is_some());
        prop_assert_eq!(
            record.allows(Verb::List, &caller, &stored, &placement, &now),
            record.allows(Verb::Get, &caller, &stored, &placement, &now)
        );
    }

    #[test]
    fn fields_are_hidden_and_unwritable_as_the_oracle_says(
        (home, rules, who, thing, _) in case(),
        readers in 0_usize..4,
    ) {
        let mut contract = contract(home, &rules);
        let (read, write) = rules.split_at(readers.min(rules.len()));
        let next_free = |rule: &&Rule| !rule.when.as_ref().is_some_and(names_next);
        let (read, write): (Vec<_>, Vec<_>) = (read.iter().filter(next_free).collect(), write.iter().filter(next_free).collect());
        let grants = |rules: &[&Rule]| rules.iter().map(|rule| rule.grant.clone()).collect::<Vec<_>>();
        let memo = contract.records[0].fields.iter_mut().find(|field| field.descriptor.number() == MEMO).expect("memo");
        (memo.read, memo.write) = (grants(&read), grants(&write));
        let Some(compiled) = compile(&contract) else { return Ok(()) };
        let record = compiled.record(0);
        let stored = thing.message(&contract);
        let placement = record.placement(&stored).expect("a placed thing");
        let any = |rules: &[&Rule]| {
            rules.is_empty() || rules.iter().any(|rule| holds(rule, home, &who, &thing, None, &NOW))
        };
        let caller = who.caller();
        let hidden = record.hidden_fields(&caller, &stored, &placement, &NOW);
        prop_assert_eq!(hidden.contains(MEMO), !any(&read));
        let unwritable = record.unwritable_fields(&caller, &stored, &placement, &NOW);
        prop_assert_eq!(unwritable.contains(MEMO), !any(&read) || !any(&write));
        let bytes = encoded(&stored).expect("no maps");
        prop_assert_eq!(record.hidden_fields(&caller, bytes.encoded(), &placement, &NOW), hidden);
        prop_assert_eq!(record.unwritable_fields(&caller, bytes.encoded(), &placement, &NOW), unwritable);
    }
}

#[test]
fn a_role_is_found_among_a_thousand_bindings() {
    let mut bindings: Vec<Binding> = (1..=250_u8)
        .flat_map(|of| [at_org(Role::Guest, of), at_project(Role::User, of, 1), at_project(Role::Guest, of, 2)])
        .collect();
    bindings.extend((1..=250_u8).map(|of| at_project(Role::Guest, of, 1)));
    bindings.reverse();
    let caller = caller(1, bindings);
    let now = super::fixture::NOW;
    for of in 1..=250 {
        assert!(caller.holds_at_org(Role::Guest, org(of), &now));
        assert!(!caller.holds_at_org(Role::User, org(of), &now));
        assert!(caller.holds_at_project(Role::User, org(of), project(1), &now));
        assert!(!caller.holds_at_project(Role::User, org(of), project(2), &now));
        assert!(caller.holds_at_project(Role::Guest, org(of), project(3), &now), "by the org's binding");
        assert_eq!(caller.in_org(org(of)).len(), 4);
    }
    assert!(!caller.is_member(org(251), &now));
}

#[test]
fn bindings_that_cannot_be_are_dropped() {
    let wrong = [
        Binding { scope: crate::BindingScope::Org(OrgTag::GLOBAL), ..at_org(Role::Admin, 1) },
        at_org(Role::Superadmin, 1),
        at_project(Role::Superadmin, 1, 1),
        Binding { role: Role::Admin, scope: crate::BindingScope::System, expires_unix_s: None },
    ];
    let caller = caller(1, wrong.to_vec());
    assert_eq!(caller.bindings(), []);
    assert!(!caller.is_superadmin(&super::fixture::NOW));
}

#[test]
fn accounts_in_bad_standing_are_nobody() {
    for standing in [Standing::Disabled, Standing::Unverified] {
        let id = account(1);
        let session = sys_contract::id::SessionId::from_record(id.record());
        let caller = Caller::new(id, session, standing, vec![at_org(Role::Admin, 1)]);
        assert_eq!(caller.account(), Some(id));
        assert_eq!(caller.bindings(), []);
        assert_eq!(caller.account_text(), "");
    }
}

#[test]
fn a_record_without_a_place_is_an_error_and_not_open() {
    let rules = Rules::compile(&BASE).expect("the fixture compiles");
    let record = rules.record(0);
    let of = super::fixture::message(&BASE, "Thing");
    let check = |field: &str, value: &str, expect: &str| {
        let mut thing = placed(&of, 1, 1, 1);
        thing.set_field_by_name(field, Value::String(value.to_owned()));
        assert_eq!(record.placement(&thing).expect_err(value).to_string(), expect);
    };
    check("org_id", "", "`org_id` is empty: a record at home in an org names it");
    check("org_id", "org_1", "`org_id` holds no id of its kind");
    check("org_id", &account(1).to_string(), "`org_id` holds no id of its kind");
    let nowhere = OrgId::from_record(RecordId { org: OrgTag::GLOBAL, uuid: uuid::Uuid::nil() });
    check("org_id", &nowhere.to_string(), "`org_id` names no org");
    check("project_id", "x", "`project_id` holds no id of its kind");
    check("owner_id", &project(1).to_string(), "`owner_id` holds no id of its kind");
    let whole = record.placement(&placed(&of, 1, 2, 3)).expect("a placed thing");
    assert_eq!(
        (whole.home, whole.org, whole.project, whole.owner),
        (org(1), Some(org(1)), Some(project(2)), Some(account(3)))
    );
}
