//! A search: words, each of which is to begin a word in one of the fields with a SEARCH index.
//!
//! It is a filter that the CEL subset cannot say, whose `startsWith` is exact and begins at the beginning of the text. What must
//! never happen here: a field that has a read rule is searched, since whom it is hidden from would learn of it; or a
//! proposal that leaves out a record which matches.

use crate::{
    cel::tokens::Indexes,
    content::Content,
    plan::{TokenTest, TokenValue},
    words::{MIN_PREFIX_LETTERS, longest_prefix, normalised_words},
};
use prost_reflect::{FieldDescriptor, MessageDescriptor};
use sys_contract::model::Index;

/// Most words of a search: each is looked up in each of the fields.
pub const MAX_SEARCHED_WORDS: usize = 8;

/// Words to be found in the records of one type.
#[derive(Debug)]
pub struct Search {
    words: Vec<String>,
    fields: Vec<FieldDescriptor>,
}

/// Why nothing can be searched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SearchError {
    /// Every index would have to be read from its beginning to its end.
    #[error(
        "no word in it has {MIN_PREFIX_LETTERS} letters: write the beginning of a word, of {MIN_PREFIX_LETTERS} letters or more"
    )]
    TooShort,
    /// Beyond [`MAX_SEARCHED_WORDS`].
    #[error("it has more than {MAX_SEARCHED_WORDS} words: write fewer")]
    TooManyWords,
}

impl Search {
    /// `indexes` are those of fields that whoever reads a record may read.
    pub(crate) fn read(text: &str, record: &MessageDescriptor, indexes: &Indexes) -> Result<Self, SearchError> {
        let mut words: Vec<String> = normalised_words(text).take(MAX_SEARCHED_WORDS + 1).collect();
        if words.len() > MAX_SEARCHED_WORDS {
            return Err(SearchError::TooManyWords);
        }
        if words.iter().all(|word| longest_prefix(word).is_none()) {
            return Err(SearchError::TooShort);
        }
        words.sort_unstable();
        words.dedup();
        let searched = indexes.iter().filter(|(_, index)| matches!(index, Index::Search { .. }));
        Ok(Self { words, fields: searched.filter_map(|(number, _)| record.get_field(*number)).collect() })
    }

    /// Whether a record has them all.
    pub fn matches<'a>(&self, view: impl Into<Content<'a>>) -> bool {
        let view = view.into();
        let texts = self.fields.iter().flat_map(|field| view.texts([Some(field)]));
        let held: Vec<String> = texts.flat_map(normalised_words).collect();
        self.words.iter().all(|word| held.iter().any(|held| held.starts_with(word.as_str())))
    }

    /// Index tests: every matching record passes one of each group. A word of one letter has none.
    pub fn token_tests(&self) -> Vec<Vec<TokenTest>> {
        let in_each_field = |prefix: &str| {
            let test = |field: &FieldDescriptor| TokenTest {
                field: field.number(),
                any_of: vec![TokenValue::WordPrefix(prefix.to_owned())],
            };
            self.fields.iter().map(test).collect()
        };
        self.words.iter().filter_map(|word| longest_prefix(word)).map(in_each_field).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Rules, words::prefixes};
    use proptest::prelude::*;
    use prost_reflect::{DynamicMessage, Value};
    use std::sync::LazyLock;
    use sys_contract::{Origin, SourceFile, model::Contract};

    const PERSON: &str = r#"
syntax = "proto3";
package test.v1;
import "sys/policy/v1/policy.proto";
message Person {
  option (sys.policy.v1.record) = { table: "people" scope: { org: "org_id" } };
  option (sys.policy.v1.allow) = { verbs: [GET] role: USER at: ORG };
  string id = 1 [(sys.policy.v1.field) = { output_only: true }];
  string org_id = 2 [(sys.policy.v1.field) = { immutable: true }];
  string name = 3 [(sys.policy.v1.field) = { index: SEARCH }];
  string address = 4 [(sys.policy.v1.field) = { index: SEARCH whole: true }];
  string secret = 5 [(sys.policy.v1.field) = { index: SEARCH read: { role: ADMIN at: ORG } }];
  string plain = 6 [(sys.policy.v1.field) = { index: EQUAL }];
}
"#;

    static CONTRACT: LazyLock<Contract> = LazyLock::new(|| {
        let source = SourceFile { path: "test/v1/person.proto".to_owned(), text: PERSON.to_owned() };
        sys_contract::load("mod-test", Origin::Uploaded, &[source]).unwrap()
    });

    fn search(text: &str) -> Result<Search, SearchError> {
        Rules::compile(&CONTRACT).unwrap().record(0).search(text)
    }

    fn person(name: &str, address: &str) -> DynamicMessage {
        let mut person = DynamicMessage::new(CONTRACT.records[0].message.clone());
        for (field, text) in [("name", name), ("address", address), ("secret", "hidden"), ("plain", "unindexed")] {
            person.set_field_by_name(field, Value::String(text.to_owned()));
        }
        person
    }

    #[test]
    fn every_word_begins_a_word_of_some_searched_field() {
        let ada = person("Ada Lovelace", "a.byron+post@mail.example.org");
        let finds = |text| search(text).unwrap().matches(&ada);
        for found in ["ada", "AD", "love", "lovelace", "byr", "post", "exam", "org", "ada love", "love ada", "ada exam"]
        {
            assert!(finds(found), "{found}");
        }
        for found in ["a.byron", "byron+post@mail.example.org", "ada l", "\u{ff21}\u{ff24}\u{ff21}"] {
            assert!(finds(found), "{found}");
        }
        for missed in ["da", "lovelaces", "ada byrons", "ada x", "hidden", "unindexed", "elace"] {
            assert!(!finds(missed), "{missed}");
        }
    }

    #[test]
    fn what_no_index_could_lead_to_is_refused() {
        for short in ["", " ", "a", "a b c", "@.", "\u{fc}"] {
            assert_eq!(search(short).unwrap_err(), SearchError::TooShort, "{short:?}");
        }
        assert!(search("a bc").is_ok());
        assert!(search("aa bb cc dd ee ff gg hh").is_ok());
        assert_eq!(search("aa bb cc dd ee ff gg hh ii").unwrap_err(), SearchError::TooManyWords);
    }

    proptest! {
        #[test]
        fn a_proposal_leaves_out_no_record_that_matches(
            name in "([a-cA-C\u{e9}e\u{301}]{1,10}[ .-]){0,3}", address in "[a-c]{1,10}@[a-c]{1,9}", text in "[a-ce\u{301} .]{1,12}",
        ) {
            let Ok(search) = search(&text) else { return Ok(()) };
            let person = person(&name, &address);
            let has = |test: &TokenTest| {
                let value = person.get_field_by_number(test.field).unwrap().into_owned();
                let words: Vec<String> = normalised_words(value.as_str().unwrap()).collect();
                let holds = |wanted: &str| words.iter().any(|word| prefixes(word).any(|prefix| prefix == wanted));
                test.any_of.iter().any(|value| matches!(value, TokenValue::WordPrefix(prefix) if holds(prefix)))
            };
            let proposed = search.token_tests().iter().all(|group| group.iter().any(has));
            prop_assert!(!search.matches(&person) || proposed);
        }
    }
}
