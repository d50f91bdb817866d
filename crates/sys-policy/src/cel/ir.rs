//! A condition in types: negation normal form over leaves, as closures, index tests and matrix text are made of it.
//!
//! Its Display is CEL again, and means the same when it is read again.

use super::time::Now;
use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};
use std::fmt;
use sys_contract::encoded::FieldKind;

/// A condition. Negation stands at leaves alone, so that a leaf which cannot be evaluated can only take away.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Ir {
    Const(bool),
    /// INVARIANT: two or more, none of them `All`.
    All(Vec<Ir>),
    /// INVARIANT: two or more, none of them `Any`.
    Any(Vec<Ir>),
    Leaf {
        test: Leaf,
        negated: bool,
    },
}

/// A test on values.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Leaf {
    /// The path is set: each step with presence is there, and the last, if it has none, is not its default.
    Has(Path),
    /// A field of type bool.
    Bool(Path),
    Compare(Comparison, Operand, Operand),
    /// INVARIANT: literals only.
    InLiterals(Operand, Vec<Literal>),
    /// INVARIANT: the path is a list of the operand's type.
    InList(Operand, Path),
    Text(TextTest, Operand, Operand),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TextTest {
    StartsWith,
    EndsWith,
    Contains,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Operand {
    Path(Path),
    Literal(Literal),
    Now,
    NowPlus(Box<Operand>),
    NowMinus(Box<Operand>),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Literal {
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Str(String),
    Bytes(Vec<u8>),
    Timestamp { value: Now, text: String },
    Duration { nanos: i128, text: String },
    Enum { number: i32, name: String },
}

/// A field path from a variable.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Path {
    pub(crate) root: Root,
    /// Empty for the fields of `caller`.
    pub(crate) steps: Vec<Step>,
    pub(crate) ty: Type,
    /// As it is written.
    pub(crate) text: String,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Step {
    pub(crate) field: FieldDescriptor,
    /// Whether unset is something else than the default.
    pub(crate) presence: bool,
    /// How its value stands in the bytes of a message.
    pub(crate) kind: FieldKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Root {
    This,
    Next,
    Request,
    Caller(CallerField),
}

/// The fields of `sys.policy.v1.Caller`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallerField {
    AccountId,
    Verified,
    Superadmin,
}

impl CallerField {
    pub(crate) const ALL: [(&'static str, Self); 3] =
        [("account_id", Self::AccountId), ("verified", Self::Verified), ("superadmin", Self::Superadmin)];

    pub(crate) fn ty(self) -> Type {
        match self {
            Self::AccountId => Type::Str,
            Self::Verified | Self::Superadmin => Type::Bool,
        }
    }
}

/// The types of the subset.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Type {
    Bool,
    Int,
    Uint,
    Double,
    Str,
    Bytes,
    Timestamp,
    Duration,
    Enum(EnumDescriptor),
    Message(MessageDescriptor),
    List(Box<Type>),
}

impl Type {
    /// The type of a field's value; none for maps.
    pub(crate) fn of_field(field: &FieldDescriptor) -> Option<Self> {
        if field.is_map() {
            None
        } else if field.is_list() {
            Some(Self::List(Box::new(Self::of_kind(field.kind()))))
        } else {
            Some(Self::of_kind(field.kind()))
        }
    }

    fn of_kind(kind: Kind) -> Self {
        match kind {
            Kind::Bool => Self::Bool,
            Kind::Int32 | Kind::Int64 | Kind::Sint32 | Kind::Sint64 | Kind::Sfixed32 | Kind::Sfixed64 => Self::Int,
            Kind::Uint32 | Kind::Uint64 | Kind::Fixed32 | Kind::Fixed64 => Self::Uint,
            Kind::Float | Kind::Double => Self::Double,
            Kind::String => Self::Str,
            Kind::Bytes => Self::Bytes,
            Kind::Enum(of) => Self::Enum(of),
            Kind::Message(of) => match of.full_name() {
                "google.protobuf.Timestamp" => Self::Timestamp,
                "google.protobuf.Duration" => Self::Duration,
                _ => Self::Message(of),
            },
        }
    }

    /// Whether `==`, `!=` and `in` are defined: doubles have no equality that anybody expects.
    pub(crate) fn has_equality(&self) -> bool {
        !matches!(self, Self::Double | Self::Message(_) | Self::List(_))
    }

    /// Whether `<` and its like are defined: the numbers of an enum have no order that names show.
    pub(crate) fn has_order(&self) -> bool {
        !matches!(self, Self::Bool | Self::Enum(_) | Self::Message(_) | Self::List(_))
    }
}

impl Ir {
    pub(crate) fn leaf(test: Leaf) -> Self {
        Self::Leaf { test, negated: false }
    }

    /// The opposite, with negation pushed down to the leaves. An ordering keeps its negation, since a NaN is neither less
    /// nor greater or equal.
    pub(crate) fn negate(self) -> Self {
        match self {
            Self::Const(value) => Self::Const(!value),
            Self::All(parts) => Self::Any(parts.into_iter().map(Self::negate).collect()),
            Self::Any(parts) => Self::All(parts.into_iter().map(Self::negate).collect()),
            Self::Leaf { test: Leaf::Compare(Comparison::Equal, a, b), negated } => {
                Self::Leaf { test: Leaf::Compare(Comparison::NotEqual, a, b), negated }
            }
            Self::Leaf { test: Leaf::Compare(Comparison::NotEqual, a, b), negated } => {
                Self::Leaf { test: Leaf::Compare(Comparison::Equal, a, b), negated }
            }
            Self::Leaf { test, negated } => Self::Leaf { test, negated: !negated },
        }
    }

    pub(crate) fn all(a: Self, b: Self) -> Self {
        match (a, b) {
            (Self::Const(false), _) | (_, Self::Const(false)) => Self::Const(false),
            (Self::Const(true), other) | (other, Self::Const(true)) => other,
            (a, b) => Self::All([a, b].into_iter().flat_map(Self::conjuncts).collect()),
        }
    }

    pub(crate) fn any(a: Self, b: Self) -> Self {
        match (a, b) {
            (Self::Const(true), _) | (_, Self::Const(true)) => Self::Const(true),
            (Self::Const(false), other) | (other, Self::Const(false)) => other,
            (a, b) => Self::Any([a, b].into_iter().flat_map(Self::disjuncts).collect()),
        }
    }

    fn conjuncts(self) -> Vec<Self> {
        match self {
            Self::All(parts) => parts,
            other => vec![other],
        }
    }

    fn disjuncts(self) -> Vec<Self> {
        match self {
            Self::Any(parts) => parts,
            other => vec![other],
        }
    }

    /// The leaves, from left to right.
    pub(crate) fn leaves(&self) -> Vec<&Leaf> {
        match self {
            Self::Const(_) => Vec::new(),
            Self::Leaf { test, .. } => vec![test],
            Self::All(parts) | Self::Any(parts) => parts.iter().flat_map(Self::leaves).collect(),
        }
    }

    /// Whether some leaf reads this variable.
    pub(crate) fn names(&self, root: Root) -> bool {
        self.leaves().into_iter().flat_map(Leaf::paths).any(|path| path.root == root)
    }
}

impl Leaf {
    /// The paths that it reads.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &Path> {
        let (a, b) = match self {
            Self::Has(path) | Self::Bool(path) => (Some(path), None),
            Self::InLiterals(a, _) => (a.path(), None),
            Self::InList(a, list) => (a.path(), Some(list)),
            Self::Compare(_, a, b) | Self::Text(_, a, b) => (a.path(), b.path()),
        };
        a.into_iter().chain(b)
    }
}

impl Operand {
    /// The path that it reads.
    pub(crate) fn path(&self) -> Option<&Path> {
        match self {
            Self::Path(path) => Some(path),
            Self::NowPlus(by) | Self::NowMinus(by) => by.path(),
            Self::Literal(_) | Self::Now => None,
        }
    }
}

impl fmt::Display for Ir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Const(value) => write!(f, "{value}"),
            Self::All(parts) => join(f, parts, " && "),
            Self::Any(parts) => join(f, parts, " || "),
            Self::Leaf { test, negated: false } => fmt::Display::fmt(test, f),
            Self::Leaf { test: test @ (Leaf::Compare(..) | Leaf::InLiterals(..) | Leaf::InList(..)), .. } => {
                write!(f, "!({test})")
            }
            Self::Leaf { test, .. } => write!(f, "!{test}"),
        }
    }
}

fn join(f: &mut fmt::Formatter<'_>, parts: &[Ir], between: &str) -> fmt::Result {
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            f.write_str(between)?;
        }
        match part {
            Ir::All(_) | Ir::Any(_) => write!(f, "({part})")?,
            Ir::Const(_) | Ir::Leaf { .. } => fmt::Display::fmt(part, f)?,
        }
    }
    Ok(())
}

impl fmt::Display for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Has(path) => write!(f, "has({})", path.text),
            Self::Bool(path) => f.write_str(&path.text),
            Self::Compare(by, a, b) => write!(f, "{a} {} {b}", by.sign()),
            Self::InLiterals(a, literals) => {
                write!(f, "{a} in [")?;
                for (index, literal) in literals.iter().enumerate() {
                    write!(f, "{}{literal}", if index > 0 { ", " } else { "" })?;
                }
                f.write_str("]")
            }
            Self::InList(a, list) => write!(f, "{a} in {}", list.text),
            Self::Text(by, a, b) => write!(f, "{a}.{}({b})", by.name()),
        }
    }
}

impl Comparison {
    pub(crate) fn sign(self) -> &'static str {
        match self {
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }
}

impl TextTest {
    pub(crate) const ALL: [Self; 3] = [Self::StartsWith, Self::EndsWith, Self::Contains];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::StartsWith => "startsWith",
            Self::EndsWith => "endsWith",
            Self::Contains => "contains",
        }
    }
}

impl fmt::Display for Operand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => f.write_str(&path.text),
            Self::Literal(literal) => fmt::Display::fmt(literal, f),
            Self::Now => f.write_str("now"),
            Self::NowPlus(by) => write!(f, "now + {by}"),
            Self::NowMinus(by) => write!(f, "now - {by}"),
        }
    }
}

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => write!(f, "{value}"),
            Self::Int(value) => write!(f, "{value}"),
            Self::Uint(value) => write!(f, "{value}u"),
            Self::Double(value) => write!(f, "{value:?}"),
            Self::Str(value) => quote(f, value),
            Self::Bytes(value) => {
                f.write_str("b\"")?;
                value.iter().try_for_each(|byte| write!(f, "\\x{byte:02x}"))?;
                f.write_str("\"")
            }
            Self::Timestamp { text, .. } => write!(f, "timestamp(\"{text}\")"),
            Self::Duration { text, .. } => write!(f, "duration(\"{text}\")"),
            Self::Enum { name, .. } => f.write_str(name),
        }
    }
}

/// A string as the scanner lets it pass.
fn quote(f: &mut fmt::Formatter<'_>, value: &str) -> fmt::Result {
    f.write_str("\"")?;
    for c in value.chars() {
        match c {
            '\\' | '"' => write!(f, "\\{c}")?,
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            c if c.is_control() => write!(f, "\\u{:04x}", u32::from(c))?,
            c => write!(f, "{c}")?,
        }
    }
    f.write_str("\"")
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool => f.write_str("a bool"),
            Self::Int => f.write_str("an int"),
            Self::Uint => f.write_str("a uint"),
            Self::Double => f.write_str("a double"),
            Self::Str => f.write_str("a string"),
            Self::Bytes => f.write_str("bytes"),
            Self::Timestamp => f.write_str("a timestamp"),
            Self::Duration => f.write_str("a duration"),
            Self::Enum(of) => write!(f, "a {}", of.name()),
            Self::Message(of) => write!(f, "a message {}", of.name()),
            Self::List(_) => f.write_str("a list"),
        }
    }
}
