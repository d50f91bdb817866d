//! What a new version of a contract protects less than the one before: a call that needed a fresh password and does not, that
//! could be made more seldom, with less in it, or not without a trace.
//!
//! None of it breaks what is stored ([`breaking_changes`](crate::breaking_changes) is about that), and each may be meant. But, like a
//! grant to more people, it is a decision, so that somebody must see it. Grants themselves are compared by the matrix.

use crate::{
    model::{Contract, Method, Rate, StepUp},
    problem::Problem,
};
use std::collections::HashMap;

/// What `new` protects less than `old`, its version before, in the order of places in `new`. Methods that are new or gone are
/// not compared.
pub fn weakened(old: &Contract, new: &Contract) -> Vec<Problem> {
    let before: HashMap<&str, &Method> = methods(old).map(|method| (method.path.as_str(), method)).collect();
    let both = methods(new).filter_map(|now| before.get(now.path.as_str()).map(|before| (*before, now)));
    let mut found: Vec<Problem> = both.flat_map(|(before, now)| less(before, now)).collect();
    found.sort();
    found
}

fn methods(contract: &Contract) -> impl Iterator<Item = &Method> {
    contract.services.iter().flat_map(|service| &service.methods)
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
    let found = [less_asked(name, before.step_up.as_ref(), now.step_up.as_ref()), audit, sign_in, bytes];
    let found = found.into_iter().chain([less_slowed(name, before.rate, now.rate)]).flatten();
    found
        .map(|(what, kept)| Problem {
            place: now.place.clone(),
            what,
            instead: format!("keep {kept}, or say that this is meant"),
        })
        .collect()
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
mod tests {
    use super::*;
    use crate::{Origin, SourceFile, load};

    const NOTES: &str = include_str!("load/tests/whole.proto");
    /// What the example's only method with a handler has.
    const PLAIN: &str = "audit: FULL";
    const GUARDED: &str =
        "audit: FULL step_up: {unless: \"request.id == 'a'\"} rate: {per_minute: 6 burst: 2} max_request_bytes: 1000";

    fn notes(options: &str) -> Contract {
        assert_eq!(NOTES.matches(PLAIN).count(), 1);
        let text = NOTES.replace(PLAIN, options);
        load("mod-notes", Origin::Uploaded, &[SourceFile { path: "notes/v1/notes.proto".to_owned(), text }]).unwrap()
    }

    #[track_caller]
    fn check(before: &str, now: &str, expect: &[&str]) {
        let found = weakened(&notes(before), &notes(now));
        let found: Vec<String> = found.iter().map(|problem| format!("{}; {}", problem.what, problem.instead)).collect();
        assert_eq!(found, expect, "{before} -> {now}");
    }

    #[test]
    fn each_protection_that_goes_or_gives_way_is_told() {
        let or = "or say that this is meant";
        check(
            GUARDED,
            "",
            &[
                "`PublishNote` allowed 6 calls a minute and 2 at once, and has no bound of its own now; keep `rate: {per_minute: 6 burst: 2}`, or say that this is meant",
                "`PublishNote` needed a fresh password, and does not any more; keep `step_up: {unless: \"request.id == 'a'\"}`, or say that this is meant",
                "a request of `PublishNote` had 1000 bytes at most, and has 65536 now; keep `max_request_bytes: 1000`, or say that this is meant",
                "each call of `PublishNote` was audited, and now those that change nothing are not; keep `audit: FULL`, or say that this is meant",
            ],
        );
        check(
            "step_up: {}",
            "step_up: {unless: \"request.id == 'a'\"}",
            &[&format!(
                "each call of `PublishNote` needed a fresh password, and now those do not for which `request.id == 'a'`; keep `step_up: {{}}`, {or}"
            )],
        );
        check(
            "step_up: {unless: \"request.id == 'a'\"}",
            "step_up: {unless: \"request.id == 'b'\"}",
            &[&format!(
                "`PublishNote` needed a fresh password unless `request.id == 'a'`, and now unless `request.id == 'b'`; keep `step_up: {{unless: \"request.id == 'a'\"}}`, {or}"
            )],
        );
        for (per_minute, burst) in [(7, 2), (6, 3), (5, 3)] {
            check(
                "rate: {per_minute: 6 burst: 2}",
                &format!("rate: {{per_minute: {per_minute} burst: {burst}}}"),
                &[&format!(
                    "`PublishNote` allowed 6 calls a minute and 2 at once, and now {per_minute} calls a minute and {burst} at once; keep `rate: {{per_minute: 6 burst: 2}}`, {or}"
                )],
            );
        }
    }

    #[test]
    fn what_protects_as_much_or_more_passes() {
        check("", "", &[]);
        check(GUARDED, GUARDED, &[]);
        check("", GUARDED, &[]);
        check("step_up: {unless: \"request.id == 'a'\"}", "step_up: {}", &[]);
        check("rate: {per_minute: 6 burst: 2}", "rate: {per_minute: 5 burst: 1}", &[]);
        check("max_request_bytes: 1000", "max_request_bytes: 999", &[]);
        let other = "syntax = \"proto3\"; package notes.v1; message Unrelated {}".to_owned();
        let file = SourceFile { path: "notes/v1/notes.proto".to_owned(), text: other };
        let none = load("mod-notes", Origin::Uploaded, &[file]).unwrap();
        assert_eq!(weakened(&notes(GUARDED), &none), [], "nobody calls a method that is gone");
        assert_eq!(weakened(&none, &notes(GUARDED)), []);
    }
}
