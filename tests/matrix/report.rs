//! The outcome of all calls as a text that is read as a diff: for each method, the cases with the same outcomes stand
//! together, and of the callers those who had the same.

use super::{
    attack::Made,
    callers::{Kind, State, holding_name},
    plans::Plan,
    tally::Gaps,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

/// Who had which outcome.
type Outcomes<'m> = BTreeMap<&'m str, BTreeSet<Kind>>;

/// The text of all outcomes.
pub(crate) fn text(plans: &[Plan<'_>], made: &[Made], gaps: &Gaps) -> String {
    let mut text = String::new();
    for (number, plan) in plans.iter().enumerate() {
        writeln!(text, "{}", plan.method.path).expect("a string");
        let of_plan: Vec<&Made> = made.iter().filter(|made| made.plan == number).collect();
        method(&mut text, &of_plan);
    }
    writeln!(text, "\nrules that held only where another of their list held, too").expect("a string");
    gaps.never_alone.iter().for_each(|name| writeln!(text, "  {name}").expect("a string"));
    text
}

fn method(text: &mut String, made: &[&Made]) {
    // Whom the token does not name is refused alike, whatever he asks for.
    let (named, unnamed): (Vec<&Made>, Vec<&Made>) = made.iter().partition(|made| made.kind.state.is_identified());
    let mut cases: Vec<&str> = Vec::new();
    for made in &named {
        if !cases.contains(&made.case.as_str()) {
            cases.push(&made.case);
        }
    }
    cases.sort_unstable();
    let mut alike: Vec<(Outcomes<'_>, Vec<&str>)> = Vec::new();
    for case in cases {
        let outcomes = outcomes(named.iter().filter(|made| made.case == case));
        match alike.iter_mut().find(|(other, _)| *other == outcomes) {
            Some((_, cases)) => cases.push(case),
            None => alike.push((outcomes, vec![case])),
        }
    }
    write_outcomes(text, &outcomes(unnamed.iter()), &unnamed);
    for (outcomes, cases) in alike {
        let cases: Vec<&str> = cases.into_iter().filter(|case| !case.is_empty()).collect();
        if !cases.is_empty() {
            writeln!(text, "  [{}]", cases.join(" | ")).expect("a string");
        }
        write_outcomes(text, &outcomes, &named);
    }
}

fn outcomes<'m>(made: impl Iterator<Item = &'m &'m Made>) -> Outcomes<'m> {
    let mut outcomes = Outcomes::new();
    for made in made {
        outcomes.entry(&made.outcome).or_default().insert(made.kind);
    }
    outcomes
}

fn write_outcomes(text: &mut String, outcomes: &Outcomes<'_>, all: &[&Made]) {
    let all: BTreeSet<Kind> = all.iter().map(|made| made.kind).collect();
    for (outcome, kinds) in outcomes {
        writeln!(text, "    {outcome:<36} {}", callers(kinds, &all)).expect("a string");
    }
}

/// A set of callers in few words: whole states, then for each holding the states that are left.
fn callers(kinds: &BTreeSet<Kind>, all: &BTreeSet<Kind>) -> String {
    if kinds == all {
        return "everybody".to_owned();
    }
    let mut left = kinds.clone();
    let mut words = Vec::new();
    for state in State::ALL {
        let of_state: BTreeSet<Kind> = all.iter().filter(|kind| kind.state == state).copied().collect();
        // The ordinary states are told by who it is.
        if !matches!(state, State::Verified | State::Unproven) && !of_state.is_empty() && of_state.is_subset(&left) {
            left.retain(|kind| kind.state != state);
            words.push(format!("({})", state.name()));
        }
    }
    let mut by_holding: BTreeMap<_, Vec<State>> = BTreeMap::new();
    for kind in left {
        by_holding.entry(kind.held).or_default().push(kind.state);
    }
    for (held, states) in by_holding {
        let name = holding_name(held);
        if states == [State::Verified, State::Unproven] {
            words.push(name.to_owned());
        } else {
            let states: Vec<&str> = states.into_iter().map(State::name).collect();
            words.push(format!("{name}({})", states.join(" ")));
        }
    }
    words.join(" ")
}
