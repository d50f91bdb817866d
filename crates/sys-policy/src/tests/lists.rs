//! Gate equals filter: what the ranges of a plan propose and GET allows is exactly what GET allows.

use super::{
    decisions::{compile, contract},
    fixture::{account, encoded, org, project},
    model::{NOW, Rule, Seen, Thing, Where, Who, any_cond, any_rule, any_thing, any_who, cel, eval, holds},
};
use crate::{Branch, FieldSet, Span, TokenTest, TokenValue, words};
use proptest::prelude::*;
use prost_reflect::{DynamicMessage, ReflectMessage};
use sys_contract::model::{Home, Verb};

/// What the store does for a branch: the range, then each test against the index. Default values have no rows.
fn proposes(branch: &Branch, thing: &Thing, record: &DynamicMessage) -> bool {
    let span = match branch.span {
        Span::Whole => true,
        Span::Org(of) => thing.org != 0 && of == org(thing.org),
        Span::Project(of) => thing.project != 0 && of == project(thing.project),
        Span::Owner(of) => thing.owner != 0 && of == account(thing.owner),
    };
    span && branch.tokens.iter().all(|test| passes(test, record))
}

fn passes(test: &TokenTest, record: &DynamicMessage) -> bool {
    let field = record.descriptor().get_field(test.field).expect("a field of the record");
    let value = record.get_field(&field);
    assert!(!test.any_of.is_empty());
    test.any_of.iter().any(|wanted| match wanted {
        TokenValue::Exact(wanted) => !value.is_default(&field.kind()) && *wanted == *value,
        TokenValue::WordPrefix(wanted) => words::normalised_words(value.as_str().expect("a string"))
            .any(|word| words::prefixes(&word).any(|prefix| prefix == wanted)),
    })
}

fn case() -> impl Strategy<Value = (Home, Vec<Rule>, Who, Vec<Thing>, u8, u8)> {
    prop::sample::select(vec![Home::Org, Home::Global]).prop_flat_map(|home| {
        let rules = prop::collection::vec(any_rule(home), 1..4);
        (Just(home), rules, any_who(), prop::collection::vec(any_thing(), 12), 0_u8..3, 0_u8..4)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn a_list_holds_exactly_what_get_allows((home, rules, who, things, in_org, in_project) in case()) {
        let contract = contract(home, &rules);
        let Some(compiled) = compile(&contract) else { return Ok(()) };
        let record = compiled.record(0);
        let (caller, now) = (who.caller(), NOW);
        let (wanted_org, wanted_project) = ((in_org != 0).then(|| org(in_org)), (in_project != 0).then(|| project(in_project)));
        let plan = record.plan(&caller, wanted_org, wanted_project, &now);
        if home == Home::Org && in_org == 0 {
            prop_assert_eq!(plan.branches, vec![]);
            return Ok(());
        }
        for thing in &things {
            let message = thing.message(&contract);
            let placement = record.placement(&message).expect("a placed thing");
            // A tablespace of an org holds its own records alone.
            let in_tablespace = home == Home::Global || thing.org == in_org;
            // Where what is asked for may lead the walk, it passes nothing that is hidden.
            if in_tablespace && plan.covers_all() {
                let get = record.allows(Verb::Get, &caller, &message, &placement, &now);
                prop_assert!(get.is_some(), "{:?} is hidden, and {:?} covers it", thing, plan);
            }
            let proposed = in_tablespace && plan.branches.iter().any(|branch| proposes(branch, thing, &message));
            let listed = proposed
                && record.is_within(&placement, wanted_org, wanted_project)
                && record.allows(Verb::Get, &caller, &message, &placement, &now).is_some();
            let expect = (in_org == 0 || thing.org == in_org)
                && (in_project == 0 || thing.project == in_project)
                && rules.iter().any(|rule| rule.grant.verbs.contains(&Verb::Get) && holds(rule, home, &who, thing, None, &NOW));
            prop_assert_eq!(listed, expect, "{:?} by {:?}", thing, plan);
            // CREATE sees to it that a record's project lies in its org.
            let elsewhere = |at: Where| matches!(at, Where::Project(of, project) if project == thing.project && of != thing.org);
            let possible = !who.bindings.iter().any(|(_, at, _)| elsewhere(*at));
            for branch in plan.branches.iter().filter(|branch| possible && branch.covers_span) {
                let walked = in_tablespace && proposes(branch, thing, &message);
                let allowed = record.allows(Verb::Get, &caller, &message, &placement, &now).is_some();
                prop_assert!(!walked || allowed, "{:?} covers {:?}, which is hidden", branch, thing);
            }
        }
        for (index, branch) in plan.branches.iter().enumerate() {
            prop_assert!(match branch.span {
                Span::Org(of) => home == Home::Global && wanted_org.is_none_or(|wanted| wanted == of),
                Span::Project(of) => wanted_project.is_none_or(|wanted| wanted == of),
                Span::Whole | Span::Owner(_) => true,
            }, "{:?} lies outside what is wanted", branch);
            prop_assert!(!plan.branches[..index].contains(branch), "{:?} twice", branch);
        }
    }

    #[test]
    fn who_holds_nothing_walks_nothing((home, rules, who, _, in_org, _) in case()) {
        let strangers = |rule: &&Rule| {
            let grant = &rule.grant;
            grant.role.is_some() || grant.member || (grant.owner && home == Home::Org)
        };
        let rules: Vec<Rule> = rules.iter().filter(strangers).cloned().collect();
        let who = Who { bindings: Vec::new(), ..who };
        let contract = contract(home, &rules);
        let Some(compiled) = compile(&contract) else { return Ok(()) };
        let plan = compiled.record(0).plan(&who.caller(), Some(org(in_org)), None, &NOW);
        prop_assert_eq!(plan.branches, vec![]);
    }

    #[test]
    fn a_filter_matches_what_the_oracle_matches(
        condition in any_cond(false, false),
        thing in any_thing(),
        hidden in prop::sample::subsequence(vec![("title", 5), ("flag", 6), ("state", 7), ("count", 8), ("due", 12), ("nick", 14)], 0..3),
    ) {
        let contract = contract(Home::Org, &[]);
        let compiled = compile(&contract).expect("no rules");
        let text = cel(&condition, "");
        // Some random conditions are longer than a filter may be.
        let Ok(filter) = compiled.record(0).filter(&text) else { return Ok(()) };
        let names: Vec<&str> = hidden.iter().map(|(name, _)| *name).collect();
        let numbers: FieldSet = hidden.iter().map(|(_, number)| *number).collect();
        let full = thing.message(&contract);
        let mut view = full.clone();
        numbers.iter().for_each(|number| view.clear_field_by_number(number));
        let matched = filter.matches(&view, &numbers, &NOW);
        prop_assert_eq!(matched, eval(&condition, &thing, None, Seen::default(), &names, &NOW) == Some(true), "{}", text);
        // Of bytes nothing needs to be cut out for it.
        let bytes = encoded(&full).expect("no maps");
        prop_assert_eq!(filter.matches(bytes.encoded(), &numbers, &NOW), matched, "{} on bytes", text);
        if matched {
            for test in filter.token_tests() {
                prop_assert!(passes(&test, &full), "{} proposes {:?}", text, test);
            }
        }
    }
}

#[test]
fn an_empty_filter_matches_all() {
    let contract = contract(Home::Org, &[]);
    let compiled = compile(&contract).expect("no rules");
    for text in ["", "  \n"] {
        let filter = compiled.record(0).filter(text).expect("an empty filter");
        let thing = super::fixture::placed(&super::fixture::message(&contract, "Thing"), 1, 1, 1);
        assert!(filter.matches(&thing, &FieldSet::new(), &NOW));
    }
}

#[test]
fn a_filter_proposes_nothing_on_a_field_with_a_read_rule() {
    let contract = contract(Home::Org, &[]);
    let compiled = compile(&contract).expect("no rules");
    let tests = |text: &str| compiled.record(0).filter(text).expect(text).token_tests();
    assert_eq!(tests("nick == \"x\"").len(), 1);
    assert_eq!(tests("secret == \"x\""), vec![], "its rows would tell of values that the caller may not read");
}
