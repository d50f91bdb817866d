//! `sys explain`: what a reason means and what to do about it, from the pages of `docs/errors`.

use crate::failure::Failure;
use sys_contract::names;

/// Each reason and its page, sorted.
const PAGES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/pages.rs"));

/// The page of a reason.
pub(crate) fn page(reason: &str) -> Option<&'static str> {
    PAGES.iter().find(|(known, _)| *known == reason).map(|(_, page)| *page)
}

/// The page of a reason as somebody typed it; without one the reasons that there are.
pub(crate) fn explain(reason: Option<&str>) -> Result<String, Failure> {
    let reasons = || PAGES.iter().map(|(reason, _)| *reason);
    let Some(typed) = reason else {
        return Ok(reasons().map(|reason| format!("{reason}\n")).collect());
    };
    let asked = typed.to_uppercase().replace('-', "_");
    page(&asked).map(str::to_owned).ok_or_else(|| {
        let meant =
            names::nearest(&asked, reasons()).map(|meant| format!("did you mean `{meant}`? ")).unwrap_or_default();
        Failure::Usage("no server gives this reason".to_owned(), meant + "`sys explain` lists all of them")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_explained_as_it_is_typed() {
        assert!(explain(Some("not-found")).expect("a page").starts_with("# NOT_FOUND\n"));
        assert!(explain(None).expect("a list").lines().any(|line| line == "TOKEN_REFUSED"));
        let failure = explain(Some("NOT_FUOND")).expect_err("no reason").report(None);
        assert!(failure.contains("did you mean `NOT_FOUND`?"), "{failure}");
        assert!(explain(Some("README")).is_err(), "the index is no reason");
    }
}
