//! Conditions as closures over records.
//!
//! No closure allocates. A leaf whose values cannot be read (an unset field, a variable that is not there, a value of another
//! type than the descriptor says) answers no under both polarities.

use super::{
    ir::{CallerField, Comparison, Ir, Leaf, Literal, Operand, Path, Root, TextTest, Type},
    time::{Now, duration_nanos},
};
use crate::{caller::Caller, content::Content, fields::FieldSet};
use prost_reflect::{DynamicMessage, Value};
use std::{borrow::Cow, cmp::Ordering};
use sys_contract::encoded::{Encoded, FieldKind, Plain};

/// What a condition is evaluated on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Env<'a> {
    pub(crate) this: Option<Content<'a>>,
    pub(crate) next: Option<&'a DynamicMessage>,
    pub(crate) request: Option<&'a DynamicMessage>,
    pub(crate) caller: Option<&'a Caller>,
    pub(crate) now: Now,
    /// Fields of `this` that must not be looked at.
    pub(crate) hidden: Option<&'a FieldSet>,
}

/// A compiled condition.
pub(crate) type Test = Box<dyn Fn(&Env<'_>) -> bool + Send + Sync>;

/// Compiles a condition.
pub(crate) fn compile(ir: &Ir) -> Test {
    match ir {
        Ir::Const(value) => {
            let value = *value;
            Box::new(move |_| value)
        }
        Ir::All(parts) => {
            let parts: Vec<Test> = parts.iter().map(compile).collect();
            Box::new(move |env| parts.iter().all(|part| part(env)))
        }
        Ir::Any(parts) => {
            let parts: Vec<Test> = parts.iter().map(compile).collect();
            Box::new(move |env| parts.iter().any(|part| part(env)))
        }
        Ir::Leaf { test, negated } => compile_leaf(test.clone(), !negated),
    }
}

/// A leaf that answers yes where the test gives `wanted` and no field that it reads is hidden.
fn compile_leaf(leaf: Leaf, wanted: bool) -> Test {
    let read: Vec<u32> = leaf.paths().filter_map(Path::field_of_this).collect();
    let test = compile_test(leaf, wanted);
    if read.is_empty() {
        return test;
    }
    Box::new(move |env| env.hidden.is_none_or(|hidden| !read.iter().any(|field| hidden.contains(*field))) && test(env))
}

fn compile_test(leaf: Leaf, wanted: bool) -> Test {
    match leaf {
        Leaf::Has(path) => Box::new(move |env| is_set(&path, env) == Some(wanted)),
        Leaf::Bool(path) => Box::new(move |env| read(&path, env) == Some(Scalar::Bool(wanted))),
        Leaf::Compare(by, a, b) => Box::new(move |env| compare(by, &a, &b, env) == Some(wanted)),
        Leaf::InLiterals(a, literals) => Box::new(move |env| {
            a.read(env).map(|a| literals.iter().any(|literal| literal.scalar() == a)) == Some(wanted)
        }),
        Leaf::InList(a, list) => Box::new(move |env| is_in(&a, &list, env) == Some(wanted)),
        Leaf::Text(by, a, b) => Box::new(move |env| compare_text(by, &a, &b, env) == Some(wanted)),
    }
}

/// A value in hand. Equality and order are those of the subset; different types are neither equal nor ordered.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub(super) enum Scalar<'a> {
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Str(&'a str),
    Bytes(&'a [u8]),
    Timestamp(Now),
    Duration(i128),
    Enum(i32),
}

impl<'a> Scalar<'a> {
    pub(super) fn of(value: &'a Value) -> Option<Self> {
        Some(match value {
            Value::Bool(value) => Self::Bool(*value),
            Value::I32(value) => Self::Int((*value).into()),
            Value::I64(value) => Self::Int(*value),
            Value::U32(value) => Self::Uint((*value).into()),
            Value::U64(value) => Self::Uint(*value),
            Value::F32(value) => Self::Double((*value).into()),
            Value::F64(value) => Self::Double(*value),
            Value::String(value) => Self::Str(value),
            Value::Bytes(value) => Self::Bytes(value),
            Value::EnumNumber(value) => Self::Enum(*value),
            Value::Message(value) => return Self::of_message(value),
            Value::List(_) | Value::Map(_) => return None,
        })
    }

    /// Timestamps and durations, which both have `seconds` = 1 and `nanos` = 2.
    fn of_message(message: &DynamicMessage) -> Option<Self> {
        let seconds = message.get_field_by_number(1)?.as_i64()?;
        let nanos = message.get_field_by_number(2)?.as_i32()?;
        match prost_reflect::ReflectMessage::descriptor(message).name() {
            "Timestamp" => Some(Self::Timestamp(Now { unix_s: seconds, nanos })),
            "Duration" => Some(Self::Duration(duration_nanos(seconds, nanos))),
            _ => None,
        }
    }

    /// A value of this type out of a message's bytes.
    fn of_plain(ty: &Type, value: Plain<'a>) -> Option<Self> {
        Some(match (ty, value) {
            (Type::Timestamp, Plain::Message(time)) => {
                let (unix_s, nanos) = seconds_and_nanos(time);
                Self::Timestamp(Now { unix_s, nanos })
            }
            (Type::Duration, Plain::Message(span)) => {
                let (seconds, nanos) = seconds_and_nanos(span);
                Self::Duration(duration_nanos(seconds, nanos))
            }
            (Type::Message(_) | Type::List(_), _) | (_, Plain::Message(_)) => return None,
            (_, Plain::Bool(value)) => Self::Bool(value),
            (_, Plain::Int(value)) => Self::Int(value),
            (_, Plain::Uint(value)) => Self::Uint(value),
            (_, Plain::Double(value)) => Self::Double(value),
            (_, Plain::Str(value)) => Self::Str(value),
            (_, Plain::Bytes(value)) => Self::Bytes(value),
            (_, Plain::Enum(value)) => Self::Enum(value),
        })
    }

    /// What a field of this type without presence reads as while it is unset.
    fn default_of(ty: &Type) -> Option<Self> {
        Some(match ty {
            Type::Bool => Self::Bool(false),
            Type::Int => Self::Int(0),
            Type::Uint => Self::Uint(0),
            Type::Double => Self::Double(0.0),
            Type::Str => Self::Str(""),
            Type::Bytes => Self::Bytes(&[]),
            Type::Enum(_) => Self::Enum(0),
            Type::Timestamp | Type::Duration | Type::Message(_) | Type::List(_) => return None,
        })
    }
}

impl Literal {
    pub(super) fn scalar(&self) -> Scalar<'_> {
        match self {
            Self::Bool(value) => Scalar::Bool(*value),
            Self::Int(value) => Scalar::Int(*value),
            Self::Uint(value) => Scalar::Uint(*value),
            Self::Double(value) => Scalar::Double(*value),
            Self::Str(value) => Scalar::Str(value),
            Self::Bytes(value) => Scalar::Bytes(value),
            Self::Timestamp { value, .. } => Scalar::Timestamp(*value),
            Self::Duration { nanos, .. } => Scalar::Duration(*nanos),
            Self::Enum { number, .. } => Scalar::Enum(*number),
        }
    }
}

impl Operand {
    pub(super) fn read<'a>(&'a self, env: &Env<'a>) -> Option<Scalar<'a>> {
        match self {
            Self::Path(path) => read(path, env),
            Self::Literal(literal) => Some(literal.scalar()),
            Self::Now => Some(Scalar::Timestamp(env.now)),
            Self::NowPlus(by) => Some(Scalar::Timestamp(env.now.plus(by.duration(env)?))),
            Self::NowMinus(by) => Some(Scalar::Timestamp(env.now.plus(by.duration(env)?.checked_neg()?))),
        }
    }

    fn duration(&self, env: &Env<'_>) -> Option<i128> {
        match self.read(env)? {
            Scalar::Duration(nanos) => Some(nanos),
            _ => None,
        }
    }
}

impl Path {
    /// The field of `this` that it begins with.
    pub(super) fn field_of_this(&self) -> Option<u32> {
        if self.root == Root::This { self.steps.first().map(|step| step.field.number()) } else { None }
    }
}

/// The value at the end of a path; none where a step with presence is unset.
fn read<'a>(path: &Path, env: &Env<'a>) -> Option<Scalar<'a>> {
    if let Root::Caller(field) = path.root {
        return read_caller(field, env);
    }
    let (last, content) = parent(path, env)?;
    let set = match content {
        Content::Message(message) => match message.get_field(&last.field) {
            Cow::Borrowed(value) => Some(Scalar::of(value)),
            Cow::Owned(_) => None,
        },
        Content::Encoded(bytes) => {
            let value = bytes.field(last.field.number()).and_then(|value| last.kind.plain(value));
            value.map(|value| Scalar::of_plain(&path.ty, value))
        }
    };
    match set {
        Some(value) => value,
        None if last.presence => None,
        None => Scalar::default_of(&path.ty),
    }
}

/// The fields of a timestamp or duration.
fn seconds_and_nanos(time: Encoded<'_>) -> (i64, i32) {
    let whole = |number, kind: FieldKind| match time.field(number).and_then(|value| kind.plain(value)) {
        Some(Plain::Int(value)) => value,
        _ => 0,
    };
    (whole(1, FieldKind::Int64), i32::try_from(whole(2, FieldKind::Int32)).unwrap_or(0))
}

fn read_caller<'a>(field: CallerField, env: &Env<'a>) -> Option<Scalar<'a>> {
    let caller = env.caller?;
    Some(match field {
        CallerField::AccountId => Scalar::Str(caller.account_text()),
        CallerField::Verified => Scalar::Bool(caller.is_verified()),
        CallerField::Superadmin => Scalar::Bool(caller.is_superadmin(&env.now)),
    })
}

/// The last step and the message that it is a field of; none where a message on the way is unset.
fn parent<'a, 'p>(path: &'p Path, env: &Env<'a>) -> Option<(&'p super::ir::Step, Content<'a>)> {
    let mut content = match path.root {
        Root::This => env.this?,
        Root::Next => env.next?.into(),
        Root::Request => env.request?.into(),
        Root::Caller(_) => return None,
    };
    let (last, way) = path.steps.split_last()?;
    for step in way {
        content = match content {
            Content::Message(message) => match message.get_field(&step.field) {
                Cow::Borrowed(Value::Message(inner)) => inner.into(),
                _ => return None,
            },
            Content::Encoded(bytes) => match step.kind.plain(bytes.field(step.field.number())?)? {
                Plain::Message(inner) => inner.into(),
                _ => return None,
            },
        };
    }
    Some((last, content))
}

/// Whether a path is set. None where the variable is not there at all.
fn is_set(path: &Path, env: &Env<'_>) -> Option<bool> {
    let is_there = match path.root {
        Root::Caller(field) => {
            return Some(!matches!(read_caller(field, env)?, Scalar::Bool(false) | Scalar::Str("")));
        }
        Root::This => env.this.is_some(),
        Root::Next => env.next.is_some(),
        Root::Request => env.request.is_some(),
    };
    let is_set = |(last, content): (&super::ir::Step, Content<'_>)| match content {
        Content::Message(message) => message.has_field(&last.field),
        Content::Encoded(bytes) => bytes.field(last.field.number()).is_some(),
    };
    is_there.then(|| parent(path, env).is_some_and(is_set))
}

fn compare(by: Comparison, a: &Operand, b: &Operand, env: &Env<'_>) -> Option<bool> {
    let (a, b) = (a.read(env)?, b.read(env)?);
    if std::mem::discriminant(&a) != std::mem::discriminant(&b) {
        return None;
    }
    Some(by.holds(a.partial_cmp(&b)))
}

impl Comparison {
    /// Whether it holds for values that stand to each other so; `None` is a NaN's order.
    pub(super) fn holds(self, order: Option<Ordering>) -> bool {
        match self {
            Self::Equal => order == Some(Ordering::Equal),
            Self::NotEqual => order != Some(Ordering::Equal),
            Self::Less => order == Some(Ordering::Less),
            Self::LessOrEqual => matches!(order, Some(Ordering::Less | Ordering::Equal)),
            Self::Greater => order == Some(Ordering::Greater),
            Self::GreaterOrEqual => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
        }
    }
}

fn is_in(a: &Operand, list: &Path, env: &Env<'_>) -> Option<bool> {
    let a = a.read(env)?;
    let (last, content) = parent(list, env)?;
    match content {
        Content::Message(message) => match message.get_field(&last.field) {
            Cow::Borrowed(Value::List(values)) => Some(values.iter().any(|value| Scalar::of(value) == Some(a))),
            Cow::Borrowed(_) => None,
            Cow::Owned(_) => Some(false),
        },
        Content::Encoded(bytes) => {
            let Type::List(of) = &list.ty else { return None };
            let mut values = bytes.list(last.field.number(), last.kind);
            Some(values.any(|value| Scalar::of_plain(of, value) == Some(a)))
        }
    }
}

fn compare_text(by: TextTest, a: &Operand, b: &Operand, env: &Env<'_>) -> Option<bool> {
    let (Scalar::Str(a), Scalar::Str(b)) = (a.read(env)?, b.read(env)?) else { return None };
    Some(match by {
        TextTest::StartsWith => a.starts_with(b),
        TextTest::EndsWith => a.ends_with(b),
        TextTest::Contains => a.contains(b),
    })
}
