//! The CEL subset: text in, a typed condition out, and from that closures, index tests and canonical text.
//!
//! The way of a text: `scan` bounds it before anything recurses, the `cel` crate parses it, `lower` checks names and types
//! against the descriptors and brings it into negation normal form (`ir`), `eval` compiles that to closures and `tokens` to
//! index tests. There are two profiles: rules, whose fields with presence stand behind `has()`, and filters, where each
//! leaf carries its own. In both, a leaf that cannot be evaluated is false under both polarities, so that an error can only
//! take away. Must never happen here: a coercion between types, a name that is guessed, a text that reaches the parser
//! unscanned.

pub(crate) mod error;
pub(crate) mod eval;
pub(crate) mod ir;
pub(crate) mod lower;
mod names;
mod operands;
pub(crate) mod ranges;
mod scan;
pub(crate) mod time;
pub(crate) mod tokens;
pub(crate) mod turns;

use error::CelError;
use ir::Ir;
use prost_reflect::{DescriptorPool, MessageDescriptor};
use scan::Language;

/// Nodes of the parsed expression: a condition that a reviewer can hold in his head.
const MAX_NODES: usize = 64;
/// Depth of nesting, in the text and in the parsed expression.
pub(crate) const MAX_DEPTH: usize = 16;

/// What a text may name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scope<'a> {
    /// Where enums are looked up.
    pub(crate) pool: &'a DescriptorPool,
    /// The package in which enum names resolve.
    pub(crate) package: &'a str,
    /// The variables.
    pub(crate) profile: Profile<'a>,
}

/// The two dialects.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Profile<'a> {
    /// `when`: variables, and fields with presence behind `has()`.
    Rule {
        /// The record: the type of `this`.
        this: Option<&'a MessageDescriptor>,
        /// Whether `next` may be named, which has the type of `this`.
        next: bool,
        /// The request, on methods.
        request: Option<&'a MessageDescriptor>,
    },
    /// `filter`: bare field names.
    Filter {
        /// The record.
        record: &'a MessageDescriptor,
    },
}

/// Reads a condition.
pub(crate) fn check(text: &str, scope: Scope<'_>) -> Result<Ir, CelError> {
    let tested = scan::scan(text, Language::Subset)?;
    let parsed = match scope.profile {
        Profile::Rule { .. } => parse(text)?,
        Profile::Filter { .. } => parse(&with_this(text, &tested))?,
    };
    let mut nodes = 0;
    lower::measure(&parsed, 1, &mut nodes)?;
    lower::condition(&parsed, scope)
}

/// Parses a validation rule, within the bounds of all other texts. Its names and types are the validation library's affair.
pub(crate) fn parse_validation(text: &str) -> Result<cel::IdedExpr, CelError> {
    scan::scan(text, Language::Validation)?;
    parse(text)
}

/// Whether the parser may see a validation rule.
#[cfg(test)]
pub(crate) fn scan_validation(text: &str) -> Result<(), CelError> {
    scan::scan(text, Language::Validation).map(drop)
}

/// CEL has `has(this.x)` and no `has(x)`: in filters the parser sees the former.
fn with_this(text: &str, tested: &[usize]) -> String {
    let mut full = text.to_owned();
    for at in tested.iter().rev() {
        full.insert_str(*at, lower::THIS_DOT);
    }
    full
}

/// What the scanner has let through is a sentence of the grammar; the parser may still refuse its literals and macros.
fn parse(text: &str) -> Result<cel::IdedExpr, CelError> {
    cel::parser::Parser::new().parse(text).map_err(|errors| match errors.errors.first() {
        Some(error) if error.msg.contains("has() macro") => lower::no_field_in_has(),
        Some(error) => CelError::Syntax { what: error.msg.clone() },
        None => CelError::Syntax { what: "it is no expression".to_owned() },
    })
}

#[cfg(test)]
mod tests;
