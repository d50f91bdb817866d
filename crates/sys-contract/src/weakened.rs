//! What a new version of a contract opens more, or protects less, than the one before: a call that needed a fresh password and does
//! not, that could be made more seldom, with less in it, or not without a trace; a field that is seen on disk; a rule that refused more.
//!
//! None of it breaks what is stored ([`breaking_changes`](crate::breaking_changes) is about that), and each may be meant. But, like a
//! grant to more people, it is a decision, so that somebody must see it. Grants themselves are compared by the matrix, and so are
//! `reach` and `elevate`.

mod fields;
mod rules;

use crate::{
    model::{Contract, Method, Rate, StepUp},
    problem::{Place, Problem},
};
use std::collections::HashMap;

/// What `new` protects less than `old`, its version before, in the order of places in `new`. What is gone is not compared: nobody
/// calls it.
pub fn weakened(old: &Contract, new: &Contract) -> Vec<Problem> {
    let mut found = methods_of(old, new);
    found.extend(fields::weakened(old, new));
    found.extend(rules::weakened(old, new));
    found.sort();
    found
}

/// A way in which something protects less, with what would keep it.
fn weaker(place: &Place, what: String, kept: &str) -> Problem {
    Problem { place: place.clone(), what, instead: format!("keep {kept}, or say that this is meant") }
}

fn methods(contract: &Contract) -> impl Iterator<Item = &Method> {
    contract.services.iter().flat_map(|service| &service.methods)
}

fn methods_of(old: &Contract, new: &Contract) -> Vec<Problem> {
    let before: HashMap<&str, &Method> = methods(old).map(|method| (method.path.as_str(), method)).collect();
    let mut found = Vec::new();
    for now in methods(new) {
        if let Some(before) = before.get(now.path.as_str()) {
            found.extend(less(before, now));
            continue;
        }
        found.push(Problem {
            place: now.place.clone(),
            what: format!("`{}` is new, and nobody could call it before", now.descriptor.name()),
            instead: "look in the matrix who can, and say that this is meant".to_owned(),
        });
        // Who gives a method another name gives it its protections, too.
        let is_gone = |before: &&Method| methods(new).all(|now| now.path != before.path);
        let gone = methods(old).filter(is_gone).find(|before| stands_for(now, before, (new, old)));
        found.extend(gone.into_iter().flat_map(|before| less(before, now)));
    }
    found
}

/// Whether a new method does what one did that is gone: it serves the same, or takes the same request.
fn stands_for(now: &Method, before: &Method, (new, old): (&Contract, &Contract)) -> bool {
    let served = |method: &Method, contract: &Contract| {
        let serve = method.serve.as_ref()?;
        let record = contract.records.get(serve.record)?;
        Some((serve.verb, record.message.full_name().to_owned()))
    };
    match (served(now, new), served(before, old)) {
        (Some(now), Some(before)) => now == before,
        _ => now.descriptor.input().full_name() == before.descriptor.input().full_name(),
    }
}

fn less(before: &Method, now: &Method) -> Vec<Problem> {
    let name = now.descriptor.name();
    let audit = (before.audit_full && !now.audit_full).then(|| {
        (
            format!("each call of `{name}` was audited, and now those that change nothing are not"),
            "`audit: FULL`".to_owned(),
        )
    });
    let sign_in = (before.sign_in && !now.sign_in).then(|| {
        (format!("`{name}` was throttled and audited as a sign-in, and is not any more"), "`sign_in: true`".to_owned())
    });
    let (was, is) = (before.max_request_bytes, now.max_request_bytes);
    let bytes = (was < is).then(|| {
        (
            format!("a request of `{name}` had {was} bytes at most, and has {is} now"),
            format!("`max_request_bytes: {was}`"),
        )
    });
    let (was, is) = (before.deadline_ms, now.deadline_ms);
    let time = (was < is).then(|| {
        (format!("a call of `{name}` took {was} ms at most, and may take {is} ms now"), format!("`deadline_ms: {was}`"))
    });
    let found = [less_asked(name, before.step_up.as_ref(), now.step_up.as_ref()), audit, sign_in, bytes, time];
    let found = found.into_iter().chain([less_slowed(name, before.rate, now.rate)]).flatten();
    found.map(|(what, kept)| weaker(&now.place, what, &kept)).collect()
}

/// Whether two conditions let the same calls through cannot be told from their texts, so that another text counts as a wider one.
fn less_asked(name: &str, before: Option<&StepUp>, now: Option<&StepUp>) -> Option<(String, String)> {
    let before = before?;
    let kept = match &before.unless {
        Some(unless) => format!("`step_up: {{unless: {unless:?}}}`"),
        None => "`step_up: {}`".to_owned(),
    };
    let what = match (now, &before.unless) {
        (None, _) => format!("`{name}` needed a fresh password, and does not any more"),
        (Some(StepUp { unless: None, .. }), _) => return None,
        (Some(StepUp { unless: Some(now), .. }), Some(was)) if now == was => return None,
        (Some(StepUp { unless: Some(now), .. }), Some(was)) => {
            format!("`{name}` needed a fresh password unless `{was}`, and now unless `{now}`")
        }
        (Some(StepUp { unless: Some(now), .. }), None) => {
            format!("each call of `{name}` needed a fresh password, and now those do not for which `{now}`")
        }
    };
    Some((what, kept))
}

fn less_slowed(name: &str, before: Option<Rate>, now: Option<Rate>) -> Option<(String, String)> {
    let before = before?;
    let shown = |rate: Rate| format!("{} calls a minute and {} at once", rate.per_minute, rate.burst);
    let kept = format!("`rate: {{per_minute: {} burst: {}}}`", before.per_minute, before.burst);
    match now {
        None => Some((format!("`{name}` allowed {}, and has no bound of its own now", shown(before)), kept)),
        Some(now) if now.per_minute > before.per_minute || now.burst > before.burst => {
            Some((format!("`{name}` allowed {}, and now {}", shown(before), shown(now)), kept))
        }
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests;
