//! Conditions as closures over records.
//!
//! No closure allocates. A leaf whose values cannot be read (an unset field, a variable that is not there, a value of another
//! type than the descriptor says) answers no under both polarities.

use super::{
    ir::{CallerField, Comparison, Ir, Leaf, Literal, Operand, Path, Root, TextTest, Type},
    time::{Now, duration_nanos},
};
use crate::{caller::Caller, fields::FieldSet};
use prost_reflect::{DynamicMessage, Value};
use std::{borrow::Cow, cmp::Ordering};

/// What a condition is evaluated on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Env<'a> {
    pub(crate) this: Option<&'a DynamicMessage>,
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
    let (last, message) = parent(path, env)?;
    match message.get_field(&last.field) {
        Cow::Borrowed(value) => Scalar::of(value),
        Cow::Owned(_) if last.presence => None,
        Cow::Owned(_) => Scalar::default_of(&path.ty),
    }
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
fn parent<'a, 'p>(path: &'p Path, env: &Env<'a>) -> Option<(&'p super::ir::Step, &'a DynamicMessage)> {
    let mut message = match path.root {
        Root::This => env.this?,
        Root::Next => env.next?,
        Root::Request => env.request?,
        Root::Caller(_) => return None,
    };
    let (last, way) = path.steps.split_last()?;
    for step in way {
        message = match message.get_field(&step.field) {
            Cow::Borrowed(Value::Message(inner)) => inner,
            _ => return None,
        };
    }
    Some((last, message))
}

/// Whether a path is set. None where the variable is not there at all.
fn is_set(path: &Path, env: &Env<'_>) -> Option<bool> {
    let message = match path.root {
        Root::Caller(field) => {
            return Some(!matches!(read_caller(field, env)?, Scalar::Bool(false) | Scalar::Str("")));
        }
        Root::This => env.this,
        Root::Next => env.next,
        Root::Request => env.request,
    };
    message?;
    Some(parent(path, env).is_some_and(|(last, message)| message.has_field(&last.field)))
}

fn compare(by: Comparison, a: &Operand, b: &Operand, env: &Env<'_>) -> Option<bool> {
    let (a, b) = (a.read(env)?, b.read(env)?);
    if std::mem::discriminant(&a) != std::mem::discriminant(&b) {
        return None;
    }
    let order = a.partial_cmp(&b);
    Some(match by {
        Comparison::Equal => order == Some(Ordering::Equal),
        Comparison::NotEqual => order != Some(Ordering::Equal),
        Comparison::Less => order == Some(Ordering::Less),
        Comparison::LessOrEqual => matches!(order, Some(Ordering::Less | Ordering::Equal)),
        Comparison::Greater => order == Some(Ordering::Greater),
        Comparison::GreaterOrEqual => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
    })
}

fn is_in(a: &Operand, list: &Path, env: &Env<'_>) -> Option<bool> {
    let a = a.read(env)?;
    let (last, message) = parent(list, env)?;
    match message.get_field(&last.field) {
        Cow::Borrowed(Value::List(values)) => Some(values.iter().any(|value| Scalar::of(value) == Some(a))),
        Cow::Borrowed(_) => None,
        Cow::Owned(_) => Some(false),
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
