//! The domain model in, decisions out: who may do what to which record, what a list may walk through, what a filter means.
//!
//! What lives here: [`Rules`], compiled once from a [`sys_contract::model::Contract`]; the conditions of its grants and the
//! filters of lists, both in one CEL subset (`cel`); the ranges that a list seeks in ([`Plan`]); and the who-can-do-what
//! [`matrix()`]. What must never happen here: I/O, a clock, a random source, a decision that looks at anything but its
//! arguments. What is not granted is refused: each doubt ends in no. `sys-store` and `sys-core` act on what is decided here.

mod caller;
mod cel;
mod content;
mod fields;
mod filter;
mod grant;
mod matrix;
mod method;
mod placement;
mod plan;
mod rules;
mod search;
mod validations;
pub mod words;

pub use caller::{Binding, BindingScope, Caller, FRESH_PROOF_S, Standing};
pub use cel::error::CelError as FilterError;
pub use cel::time::Now;
pub use content::Content;
pub use fields::FieldSet;
pub use filter::Filter;
pub use grant::GrantNo;
pub use matrix::matrix;
pub use method::MethodRules;
pub use placement::{Placement, PlacementError};
pub use plan::{Branch, OrderedValue, Plan, RangeTest, Span, TokenTest, TokenValue};
pub use rules::{RecordRules, Rules};
pub use search::{MAX_SEARCHED_WORDS, Search, SearchError};

#[cfg(test)]
mod tests;
