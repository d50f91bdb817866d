//! What a condition says about indexes: tests that every record which meets it passes.

use super::{
    eval::Scalar,
    ir::{Comparison, Ir, Leaf, Literal, Operand, Path, Root, TextTest},
};
use crate::{
    plan::{TokenTest, TokenValue},
    words,
};
use bytes::Bytes;
use prost_reflect::{FieldDescriptor, Kind, Value};
use std::collections::BTreeMap;
use sys_contract::model::Index;

/// The indexed fields of a record type that may be looked up, by number.
pub(crate) type Indexes = BTreeMap<u32, Index>;

/// A token test whose value may still depend on the caller.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Proposal {
    Fixed(TokenTest),
    /// The field equals the caller's account.
    CallersAccount(u32),
}

/// The tests that follow from a condition: from each leaf of its top conjunction that says something of an index.
pub(crate) fn proposals(ir: &Ir, indexes: &Indexes) -> Vec<Proposal> {
    let leaves = match ir {
        Ir::All(parts) => parts.as_slice(),
        other => std::slice::from_ref(other),
    };
    leaves.iter().flat_map(|leaf| of_leaf(leaf, indexes)).collect()
}

fn of_leaf(leaf: &Ir, indexes: &Indexes) -> Vec<Proposal> {
    let Ir::Leaf { test, negated } = leaf else { return Vec::new() };
    match (test, negated) {
        (Leaf::Bool(path), negated) => equal(path, &[Literal::Bool(!negated)], indexes),
        (Leaf::Compare(Comparison::Equal, Operand::Path(path), Operand::Literal(literal)), false)
        | (Leaf::Compare(Comparison::Equal, Operand::Literal(literal), Operand::Path(path)), false) => {
            equal(path, std::slice::from_ref(literal), indexes)
        }
        (Leaf::Compare(Comparison::Equal, Operand::Path(a), Operand::Path(b)), false) => {
            callers_account(a, b, indexes).or_else(|| callers_account(b, a, indexes)).into_iter().collect()
        }
        (Leaf::InLiterals(Operand::Path(path), literals), false) => equal(path, literals, indexes),
        (Leaf::Text(TextTest::StartsWith, Operand::Path(path), Operand::Literal(Literal::Str(text))), false) => {
            match indexed(path, indexes) {
                Some((field, Index::Search { .. })) => words_of(field, words::certain_beginnings(text)),
                _ => Vec::new(),
            }
        }
        _ => Vec::new(),
    }
}

/// The field is one of the literals.
fn equal(path: &Path, literals: &[Literal], indexes: &Indexes) -> Vec<Proposal> {
    match (indexed(path, indexes), literals) {
        (Some((field, Index::Equal | Index::Unique { .. } | Index::Search { whole: true })), _) => {
            let values = literals.iter().map(|literal| exact(field, literal)).collect::<Option<Vec<_>>>();
            let test =
                values.filter(|values| !values.is_empty()).map(|any_of| TokenTest { field: field.number(), any_of });
            test.map(Proposal::Fixed).into_iter().collect()
        }
        (Some((field, Index::Search { whole: false })), [Literal::Str(text)]) => {
            words_of(field, words::beginnings(text))
        }
        _ => Vec::new(),
    }
}

fn words_of(field: &FieldDescriptor, beginnings: Vec<String>) -> Vec<Proposal> {
    let field = field.number();
    let test = |word| Proposal::Fixed(TokenTest { field, any_of: vec![TokenValue::WordPrefix(word)] });
    beginnings.into_iter().map(test).collect()
}

fn callers_account(field: &Path, account: &Path, indexes: &Indexes) -> Option<Proposal> {
    let (field, index) = indexed(field, indexes)?;
    let is_account = account.root == Root::Caller(super::ir::CallerField::AccountId);
    (is_account && matches!(index, Index::Equal | Index::Unique { .. }))
        .then(|| Proposal::CallersAccount(field.number()))
}

/// The field of `this` that a path is, with its index.
fn indexed<'a>(path: &'a Path, indexes: &Indexes) -> Option<(&'a FieldDescriptor, Index)> {
    match (path.root, path.steps.as_slice()) {
        (Root::This, [step]) => indexes.get(&step.field.number()).map(|index| (&step.field, *index)),
        _ => None,
    }
}

/// The literal as a value of the field's kind. None for defaults, which need not stand in an index, for numbers that the
/// kind cannot hold, and for messages, which have no canonical bytes.
fn exact(field: &FieldDescriptor, literal: &Literal) -> Option<TokenValue> {
    let value = match (literal.scalar(), field.kind()) {
        (Scalar::Bool(value), _) => Value::Bool(value),
        (Scalar::Int(value), Kind::Int32 | Kind::Sint32 | Kind::Sfixed32) => Value::I32(value.try_into().ok()?),
        (Scalar::Int(value), _) => Value::I64(value),
        (Scalar::Uint(value), Kind::Uint32 | Kind::Fixed32) => Value::U32(value.try_into().ok()?),
        (Scalar::Uint(value), _) => Value::U64(value),
        (Scalar::Str(value), _) => Value::String(value.to_owned()),
        (Scalar::Bytes(value), _) => Value::Bytes(Bytes::copy_from_slice(value)),
        (Scalar::Enum(value), _) => Value::EnumNumber(value),
        (Scalar::Double(_) | Scalar::Timestamp(_) | Scalar::Duration(_), _) => return None,
    };
    (!field.is_list() && !value.is_default(&field.kind())).then_some(TokenValue::Exact(value))
}
