//! List filters: what a caller writes to choose among the records that he sees.

use crate::{
    condition::{Condition, NOW_UNIX_S, Sample},
    input::{self, Bytes, parts},
    things::{THINGS, shown},
};
use prost_reflect::DynamicMessage;
use sys_policy::{FieldSet, Filter, Now, TokenTest, TokenValue, words};

const NOW: Now = Now { unix_s: NOW_UNIX_S, nanos: 0 };

/// A filter and the bytes of records. What is read means one thing: in brackets the same, and what its negation lets pass it
/// does not. A record that passes has the tokens that the filter has looked up.
pub(crate) fn text(bytes: &[u8]) {
    let [text, samples] = parts(bytes);
    let Some(text) = input::text(text) else { return };
    let filter = match THINGS.record().filter(text) {
        Ok(filter) => filter,
        Err(error) => {
            assert!(!error.to_string().is_empty() && !error.instead().is_empty(), "{error:?}");
            return;
        }
    };
    assert!(text.len() <= 1024, "a filter of {} bytes", text.len());
    let bracketed = THINGS.record().filter(&format!("({text})")).ok();
    let negated = THINGS.record().filter(&format!("!({text})")).ok();
    let mut samples = Bytes::new(samples);
    for _ in 0..4 {
        let (view, hidden) = Sample::new(&mut samples).view();
        let matches = filter.matches(&view, &hidden, &NOW);
        if let Some(bracketed) = &bracketed {
            assert_eq!(bracketed.matches(&view, &hidden, &NOW), matches, "brackets change `{text}`");
        }
        if let Some(negated) = negated.as_ref().filter(|_| !text.trim().is_empty()) {
            assert!(!(matches && negated.matches(&view, &hidden, &NOW)), "`{text}` and its negation: {}", shown(&view));
        }
        has_its_tokens(&filter, &view, &hidden, text);
        if samples.is_empty() {
            break;
        }
    }
}

/// A condition and a record, made from bytes: the filter agrees with the naive oracle, whatever is hidden.
pub(crate) fn meaning(bytes: &[u8]) {
    let mut bytes = Bytes::new(bytes);
    let sample = Sample::new(&mut bytes);
    let condition = Condition::new(&mut bytes);
    let text = condition.text();
    let filter = THINGS.record().filter(&text).unwrap_or_else(|error| panic!("`{text}` is refused: {error}"));
    let (view, hidden) = sample.view();
    let expected = condition.holds(&sample, false);
    assert_eq!(filter.matches(&view, &hidden, &NOW), expected, "`{text}` of {} without {hidden:?}", shown(&view));
    has_its_tokens(&filter, &view, &hidden, &text);
}

fn has_its_tokens(filter: &Filter, view: &DynamicMessage, hidden: &FieldSet, text: &str) {
    if filter.matches(view, hidden, &NOW) {
        for test in filter.token_tests() {
            assert!(
                test.any_of.iter().any(|token| has_token(view, &test, token)),
                "`{text}` leaves out {}: {test:?}",
                shown(view)
            );
        }
    }
}

/// Whether an index holds a record under a token.
fn has_token(view: &DynamicMessage, test: &TokenTest, token: &TokenValue) -> bool {
    let value = view.get_field_by_number(test.field).expect("a field of the record");
    match token {
        TokenValue::Exact(token) => value.as_ref() == token,
        TokenValue::WordPrefix(beginning) => {
            let text = value.as_str().expect("a text");
            words::normalised_words(text).any(|word| words::prefixes(&word).any(|prefix| prefix == beginning))
        }
    }
}
