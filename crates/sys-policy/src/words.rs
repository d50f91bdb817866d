//! Words of a text as SEARCH indexes hold them, and the word beginnings that a condition proves.
//!
//! Store and rules share this one definition: the store writes a token for each of [`prefixes`] of each of
//! [`normalised_words`], and a `startsWith` proposes only beginnings that every matching text is certain to have.
//! Must never happen here: a proposal that leaves out a text which matches.

use unicode_normalization::{
    IsNormalized, UnicodeNormalization,
    char::{canonical_combining_class, is_combining_mark},
    is_nfkc_quick,
};

/// Letters of the shortest beginning that is indexed; one letter would name half of a table.
pub const MIN_PREFIX_LETTERS: usize = 2;
/// Letters of the longest beginning that is indexed: each more is a row more for each word.
pub const MAX_PREFIX_LETTERS: usize = 8;

/// The words of a text: NFKC, each letter in lower case, cut at all that is neither letter, digit nor combining mark.
pub fn normalised_words(text: &str) -> impl Iterator<Item = String> {
    let normal = normalise(text);
    let mut words = Vec::new();
    for word in normal.split(|c| !is_in_word(c)).filter(|word| !word.is_empty()) {
        words.push(word.to_owned());
    }
    words.into_iter()
}

/// The beginnings of a normalised word that an index holds: of 2 to 8 letters.
pub fn prefixes(word: &str) -> impl Iterator<Item = &str> {
    let ends = word.char_indices().skip(1).map(|(at, _)| at).chain((!word.is_empty()).then_some(word.len()));
    ends.skip(MIN_PREFIX_LETTERS - 1)
        .take(MAX_PREFIX_LETTERS + 1 - MIN_PREFIX_LETTERS)
        .filter_map(|end| word.get(..end))
}

/// The longest indexed beginning of a normalised word; none for a single letter.
pub fn longest_prefix(word: &str) -> Option<&str> {
    prefixes(word).last()
}

/// Beginnings that words of every text are certain to have which starts with `literal`.
///
/// What follows the literal may change its end: a combining mark melts into the last letter, and the last word may go
/// on. So the literal is cut at its last normalisation boundary (a character that is a starter and never composes with
/// what stands before it: Unicode Standard Annex 15, section 9), and the last word counts as a beginning only.
pub(crate) fn certain_beginnings(literal: &str) -> Vec<String> {
    let certain = literal.char_indices().rev().find(|(_, c)| is_boundary(*c)).map_or(0, |(at, _)| at);
    beginnings(literal.get(..certain).unwrap_or_default())
}

/// Beginnings of the words of every text that equals `literal`.
pub(crate) fn beginnings(literal: &str) -> Vec<String> {
    normalised_words(literal).filter_map(|word| longest_prefix(&word).map(str::to_owned)).collect()
}

/// Character by character, so that the normal form of a joined text is that of its parts, joined.
fn normalise(text: &str) -> String {
    text.nfkc().flat_map(char::to_lowercase).collect()
}

fn is_in_word(c: char) -> bool {
    c.is_alphanumeric() || is_combining_mark(c)
}

/// Whether the normal form of a text can be cut in front of this character.
fn is_boundary(c: char) -> bool {
    canonical_combining_class(c) == 0 && is_nfkc_quick(std::iter::once(c)) == IsNormalized::Yes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &str, expect: &[&str]) {
        assert_eq!(normalised_words(text).collect::<Vec<_>>(), expect, "{text:?}");
    }

    #[test]
    fn words_are_cut_and_normalised() {
        check("", &[]);
        check("Plan B: the (2nd) try!", &["plan", "b", "the", "2nd", "try"]);
        check("ＰＬＡＮ ﬁne Ⅳ", &["plan", "fine", "iv"]);
        check("u\u{308}ber Straße", &["über", "straße"]);
        check("हिन्दी लिपि", &["हिन्दी", "लिपि"]);
    }

    #[test]
    fn an_index_holds_beginnings_of_2_to_8_letters() {
        let of = |word: &'static str| prefixes(word).collect::<Vec<_>>();
        assert_eq!(of(""), Vec::<&str>::new());
        assert_eq!(of("p"), Vec::<&str>::new());
        assert_eq!(of("übe"), ["üb", "übe"]);
        assert_eq!(of("organisation"), ["or", "org", "orga", "organ", "organi", "organis", "organisa"]);
    }

    #[test]
    fn a_literal_proposes_only_what_is_certain() {
        let of = |literal| certain_beginnings(literal);
        assert_eq!(of("plan"), ["pla"]);
        assert_eq!(of("plan "), ["plan"]);
        assert_eq!(of("Organisation of pl"), ["organisa", "of"]);
        assert_eq!(of("pla"), ["pl"]);
        assert_eq!(of("pl"), Vec::<String>::new());
        assert_eq!(of("cafe\u{301}s"), ["café"]);
    }

    /// Letters that compose, decompose and change their case in odd ways, beside any character.
    fn odd_text() -> impl Strategy<Value = String> {
        let odd = prop::sample::select(vec![
            'a', 'B', ' ', '-', 'e', '\u{301}', '\u{308}', '\u{345}', '\u{5b0}', 'İ', 'ẞ', 'ﬁ', '½', 'ﷺ', '가',
            '\u{1100}', '\u{1161}', '\u{11a8}', '\u{1e9b}', '\u{323}', '<', '\u{338}', 'Σ', '\u{212b}', '\u{9c7}',
            '\u{9be}', '\u{3099}', 'か',
        ]);
        prop::collection::vec(prop_oneof![4 => odd, 1 => any::<char>()], 0..14).prop_map(String::from_iter)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        #[test]
        fn a_proposal_leaves_out_no_text_that_matches(literal in odd_text(), rest in odd_text()) {
            let text = format!("{literal}{rest}");
            let indexed = |text: &str| -> Vec<String> {
                normalised_words(text).flat_map(|word| prefixes(&word).map(str::to_owned).collect::<Vec<_>>()).collect()
            };
            for beginning in certain_beginnings(&literal) {
                prop_assert!(indexed(&text).contains(&beginning), "{:?} of {:?} in {:?}", beginning, literal, text);
            }
            for beginning in beginnings(&literal) {
                prop_assert!(indexed(&literal).contains(&beginning));
            }
        }
    }
}
