//! What a condition says about the order of values: ranges that every record which meets it lies in.

use super::{
    eval::{Env, Scalar},
    ir::{Comparison, Ir, Leaf, Operand, Path, Root},
    time::Now,
    tokens::Indexes,
};
use crate::plan::{OrderedValue, RangeTest};
use prost_reflect::{FieldDescriptor, Value};
use std::ops::Bound;
use sys_contract::model::Index;

/// The ranges that follow from a condition at a time: one for each field with an ORDERED index that its top conjunction
/// bounds.
pub(crate) fn ranges(ir: &Ir, indexes: &Indexes, now: Now) -> Vec<RangeTest> {
    let leaves = match ir {
        Ir::All(parts) => parts.as_slice(),
        other => std::slice::from_ref(other),
    };
    let mut ranges: Vec<RangeTest> = Vec::new();
    let bounds = leaves.iter().filter_map(|leaf| bound(leaf, indexes, now));
    for (field, by, value) in bounds.filter(|(_, by, _)| *by != Comparison::NotEqual) {
        let at = ranges.iter().position(|range| range.field == field.number()).unwrap_or(ranges.len());
        if at == ranges.len() {
            ranges.push(RangeTest { field: field.number(), lower: Bound::Unbounded, upper: Bound::Unbounded });
        }
        let Some(range) = ranges.get_mut(at) else { continue };
        // Of two bounds on one side the first counts; the opened record is held against both.
        let narrow = |side: &mut Bound<OrderedValue>, bound| {
            if *side == Bound::Unbounded {
                *side = bound;
            }
        };
        match by {
            Comparison::Less => narrow(&mut range.upper, Bound::Excluded(value)),
            Comparison::LessOrEqual => narrow(&mut range.upper, Bound::Included(value)),
            Comparison::Greater => narrow(&mut range.lower, Bound::Excluded(value)),
            Comparison::GreaterOrEqual => narrow(&mut range.lower, Bound::Included(value)),
            Comparison::Equal => {
                narrow(&mut range.lower, Bound::Included(value.clone()));
                narrow(&mut range.upper, Bound::Included(value));
            }
            Comparison::NotEqual => {}
        }
    }
    ranges
}

/// The field, how it compares, and with what, the field on the left.
fn bound<'a>(leaf: &'a Ir, indexes: &Indexes, now: Now) -> Option<(&'a FieldDescriptor, Comparison, OrderedValue)> {
    let Ir::Leaf { test: Leaf::Compare(by, a, b), negated: false } = leaf else { return None };
    let (path, by, value) = match (a, b) {
        (Operand::Path(path), value) => (path, *by, value),
        (value, Operand::Path(path)) => (path, turned(*by), value),
        _ => return None,
    };
    if value.path().is_some() {
        return None;
    }
    let env = Env { this: None, next: None, request: None, caller: None, now, hidden: None };
    Some((ordered(path, indexes)?, by, OrderedValue::of_scalar(value.read(&env)?)))
}

/// The field of `this` that a path is, if it has an ORDERED index.
fn ordered<'a>(path: &'a Path, indexes: &Indexes) -> Option<&'a FieldDescriptor> {
    let [step] = path.steps.as_slice() else { return None };
    let is_ordered = path.root == Root::This && indexes.get(&step.field.number()) == Some(&Index::Ordered);
    is_ordered.then_some(&step.field)
}

/// The comparison with its sides changed.
fn turned(by: Comparison) -> Comparison {
    match by {
        Comparison::Less => Comparison::Greater,
        Comparison::LessOrEqual => Comparison::GreaterOrEqual,
        Comparison::Greater => Comparison::Less,
        Comparison::GreaterOrEqual => Comparison::LessOrEqual,
        Comparison::Equal | Comparison::NotEqual => by,
    }
}

impl OrderedValue {
    /// The order of a field's value; none of lists, maps, and messages that are no time.
    pub fn of(value: &Value) -> Option<Self> {
        Scalar::of(value).map(Self::of_scalar)
    }

    fn of_scalar(value: Scalar<'_>) -> Self {
        match value {
            Scalar::Bool(value) => Self::Bool(value),
            Scalar::Int(value) => Self::Int(value),
            Scalar::Uint(value) => Self::Uint(value),
            Scalar::Double(value) => Self::Double(value),
            Scalar::Str(value) => Self::Text(value.as_bytes().to_vec()),
            Scalar::Bytes(value) => Self::Bytes(value.to_vec()),
            Scalar::Timestamp(value) => Self::Timestamp(value),
            Scalar::Duration(nanos) => Self::Duration(nanos),
            Scalar::Enum(value) => Self::Enum(value),
        }
    }
}
