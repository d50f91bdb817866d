//! List filters: conditions that a caller writes, on records as he sees them.

use crate::{
    cel::{
        self, Profile, Scope,
        error::CelError,
        eval::{Env, Test, compile},
        ir::Ir,
        ranges::ranges,
        time::Now,
        tokens::{Indexes, Proposal, proposals},
        turns,
    },
    content::Content,
    fields::FieldSet,
    plan::{RangeTest, TokenTest},
};
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};
use std::fmt;

/// A list's filter, typed against its record.
///
/// Each leaf carries its own `has()`: a field that is unset or hidden meets no test, not even `!=` and not under `!`.
pub struct Filter {
    ir: Ir,
    test: Test,
    token_tests: Vec<TokenTest>,
    indexes: Indexes,
}

impl Filter {
    /// Reads a filter. An empty text lets everything pass. `indexes` are the fields that may drive a list: none of them
    /// has a read rule, since the rows of a token range would tell of values that the caller may not read.
    pub(crate) fn read(
        text: &str,
        record: &MessageDescriptor,
        pool: &DescriptorPool,
        indexes: &Indexes,
    ) -> Result<Self, CelError> {
        let ir = if text.trim().is_empty() {
            Ir::Const(true)
        } else {
            cel::check(text, Scope { pool, package: record.package_name(), profile: Profile::Filter { record } })?
        };
        let fixed = |proposal| match proposal {
            Proposal::Fixed(test) => Some(test),
            Proposal::CallersAccount(_) => None,
        };
        let token_tests = proposals(&ir, indexes).into_iter().filter_map(fixed).collect();
        Ok(Self { test: compile(&ir), ir, token_tests, indexes: indexes.clone() })
    }

    /// Whether a record passes, as the caller sees it: `view` is redacted, `hidden` says which fields that took away.
    /// Of a view as bytes what is hidden need not be cut out: no test looks at it.
    pub fn matches<'a>(&self, view: impl Into<Content<'a>>, hidden: &'a FieldSet, now: &Now) -> bool {
        let this = Some(view.into());
        let env = Env { this, next: None, request: None, caller: None, now: *now, hidden: Some(hidden) };
        (self.test)(&env)
    }

    /// Whether time alone can change what it lets through.
    pub fn names_now(&self) -> bool {
        turns::names_now(&self.ir)
    }

    /// The first moment after `now` at which it may judge this view otherwise; none if time changes nothing.
    pub fn next_turn(&self, view: &DynamicMessage, hidden: &FieldSet, now: &Now) -> Option<Now> {
        let env =
            Env { this: Some(view.into()), next: None, request: None, caller: None, now: *now, hidden: Some(hidden) };
        turns::next_turn(&self.ir, &env)
    }

    /// Index tests that every matching record passes, all of them.
    pub fn token_tests(&self) -> Vec<TokenTest> {
        self.token_tests.clone()
    }

    /// Ranges of ORDERED indexes that every matching record lies in, all of them, at a time.
    pub fn range_tests(&self, now: &Now) -> Vec<RangeTest> {
        ranges(&self.ir, &self.indexes, *now)
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Filter")
            .field("ir", &format_args!("{}", self.ir))
            .field("token_tests", &self.token_tests)
            .finish()
    }
}
