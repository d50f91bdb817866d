//! Conditions and records made from bytes, and what a condition means, said as plainly as can be: the naive oracle of
//! list filters.

use crate::{input::Bytes, things::THINGS};
use prost_reflect::{DynamicMessage, Value};
use std::fmt::Write;
use sys_policy::FieldSet;

const TEXTS: [&str; 8] = ["", "a", "ab", "b", "Plan b", "plan", "ü", "z z"];
const COMPARISONS: [&str; 6] = ["==", "!=", "<", "<=", ">", ">="];
const STATES: [&str; 3] = ["STATE_UNSPECIFIED", "OPEN", "DONE"];
/// Most leaves of a condition, and most of its negations and brackets in each other: what every filter may have.
const MAX_LEAVES: usize = 6;
const MAX_DEPTH: usize = 4;
/// The moment that `now` is.
pub(crate) const NOW_UNIX_S: i64 = 1_795_356_000;

/// A record, as far as conditions here can look at it.
pub(crate) struct Sample {
    flag: bool,
    count: i64,
    title: &'static str,
    nick: Option<&'static str>,
    /// The last is a number that has no name.
    state: usize,
    tags: Vec<&'static str>,
    inner: Option<(&'static str, Option<i64>)>,
    /// Seconds from now.
    due: Option<i64>,
    hidden: Vec<Field>,
}

/// The record's fields, by number.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Field {
    Title = 5,
    Flag = 6,
    State = 7,
    Count = 8,
    Due = 12,
    Nick = 14,
    Inner = 15,
    Tags = 16,
}

const FIELDS: [Field; 8] =
    [Field::Title, Field::Flag, Field::State, Field::Count, Field::Due, Field::Nick, Field::Inner, Field::Tags];

/// A condition.
pub(crate) enum Condition {
    All(Vec<Self>),
    Any(Vec<Self>),
    Not(Box<Self>),
    Leaf(Leaf),
}

/// A test of one field.
pub(crate) enum Leaf {
    Flag,
    Count(usize, i64),
    CountIn(Vec<i64>),
    Title(usize, &'static str),
    TitleStarts(&'static str),
    TitleEnds(&'static str),
    TitleContains(&'static str),
    Nick(usize, &'static str),
    HasNick,
    /// Equal, or not.
    State(bool, usize),
    InTags(&'static str),
    InnerName(usize, &'static str),
    InnerSize(usize, i64),
    HasInnerSize,
    HasInner,
    Due(usize),
}

fn text(bytes: &mut Bytes<'_>) -> &'static str {
    TEXTS[usize::from(bytes.below(8))]
}

fn number(bytes: &mut Bytes<'_>) -> i64 {
    i64::from(bytes.below(5)) - 2
}

fn comparison(bytes: &mut Bytes<'_>) -> usize {
    usize::from(bytes.below(6))
}

fn some<T>(bytes: &mut Bytes<'_>, value: impl FnOnce(&mut Bytes<'_>) -> T) -> Option<T> {
    (bytes.below(2) == 1).then(|| value(bytes))
}

impl Sample {
    pub(crate) fn new(bytes: &mut Bytes<'_>) -> Self {
        let hidden = bytes.next();
        Self {
            flag: bytes.below(2) == 1,
            count: number(bytes),
            title: text(bytes),
            nick: some(bytes, text),
            state: usize::from(bytes.below(4)),
            tags: (0..bytes.below(3)).map(|_| text(bytes)).collect(),
            inner: some(bytes, |bytes| (text(bytes), some(bytes, number))),
            due: some(bytes, number),
            hidden: FIELDS
                .into_iter()
                .enumerate()
                .filter(|(at, _)| hidden >> at & 1 == 1)
                .map(|(_, field)| field)
                .collect(),
        }
    }

    /// The record as its caller sees it: what is hidden is not there.
    pub(crate) fn view(&self) -> (DynamicMessage, FieldSet) {
        let mut view = DynamicMessage::new(THINGS.message("Thing"));
        let mut set = |field: Field, value: Value| {
            if !self.hidden.contains(&field) {
                view.set_field_by_number(field as u32, value);
            }
        };
        set(Field::Flag, Value::Bool(self.flag));
        set(Field::Count, Value::I32(i32::try_from(self.count).expect("a small number")));
        set(Field::Title, Value::String(self.title.to_owned()));
        set(Field::State, Value::EnumNumber(i32::try_from(self.state).expect("a small number")));
        set(Field::Tags, Value::List(self.tags.iter().map(|tag| Value::String((*tag).to_owned())).collect()));
        if let Some(nick) = self.nick {
            set(Field::Nick, Value::String(nick.to_owned()));
        }
        if let Some((name, size)) = self.inner {
            let mut inner = DynamicMessage::new(THINGS.message("Inner"));
            inner.set_field_by_name("name", Value::String(name.to_owned()));
            if let Some(size) = size {
                inner.set_field_by_name("size", Value::I64(size));
            }
            set(Field::Inner, Value::Message(inner));
        }
        if let Some(due) = self.due {
            let descriptor =
                THINGS.contract.pool.get_message_by_name("google.protobuf.Timestamp").expect("a timestamp");
            let mut time = DynamicMessage::new(descriptor);
            time.set_field_by_name("seconds", Value::I64(NOW_UNIX_S + due));
            set(Field::Due, Value::Message(time));
        }
        (view, self.hidden.iter().map(|field| *field as u32).collect())
    }
}

impl Condition {
    pub(crate) fn new(bytes: &mut Bytes<'_>) -> Self {
        Self::below(bytes, MAX_DEPTH, &mut MAX_LEAVES.clone())
    }

    fn below(bytes: &mut Bytes<'_>, depth: usize, leaves: &mut usize) -> Self {
        let kind = bytes.below(8);
        if depth > 0 && *leaves > 1 && kind < 4 {
            *leaves -= 1;
            let mut part = || Self::below(bytes, depth - 1, leaves);
            return match kind {
                0 | 1 => Self::All(vec![part(), part()]),
                2 => Self::Any(vec![part(), part()]),
                _ => Self::Not(Box::new(part())),
            };
        }
        Self::Leaf(Leaf::new(bytes))
    }

    /// Whether a record passes: what is negated is said of the leaves, and a leaf whose field is not there is false either
    /// way.
    pub(crate) fn holds(&self, sample: &Sample, negated: bool) -> bool {
        match self {
            Self::Not(inner) => inner.holds(sample, !negated),
            Self::Leaf(leaf) => leaf.value(sample).is_some_and(|value| value != negated),
            Self::All(parts) if !negated => parts.iter().all(|part| part.holds(sample, false)),
            Self::Any(parts) if negated => parts.iter().all(|part| part.holds(sample, true)),
            Self::All(parts) | Self::Any(parts) => parts.iter().any(|part| part.holds(sample, negated)),
        }
    }

    pub(crate) fn text(&self) -> String {
        let join = |parts: &[Self], by: &str| {
            parts.iter().map(|part| format!("({})", part.text())).collect::<Vec<_>>().join(by)
        };
        match self {
            Self::All(parts) => join(parts, " && "),
            Self::Any(parts) => join(parts, " || "),
            Self::Not(inner) => format!("!({})", inner.text()),
            Self::Leaf(leaf) => leaf.text(),
        }
    }
}

impl Leaf {
    fn new(bytes: &mut Bytes<'_>) -> Self {
        match bytes.below(16) {
            0 => Self::Flag,
            1 => Self::Count(comparison(bytes), number(bytes)),
            2 => Self::CountIn((0..=bytes.below(3)).map(|_| number(bytes)).collect()),
            3 => Self::Title(comparison(bytes), text(bytes)),
            4 => Self::TitleStarts(text(bytes)),
            5 => Self::TitleEnds(text(bytes)),
            6 => Self::TitleContains(text(bytes)),
            7 => Self::Nick(comparison(bytes), text(bytes)),
            8 => Self::HasNick,
            9 => Self::State(bytes.below(2) == 1, usize::from(bytes.below(3))),
            10 => Self::InTags(text(bytes)),
            11 => Self::InnerName(comparison(bytes), text(bytes)),
            12 => Self::InnerSize(comparison(bytes), number(bytes)),
            13 => Self::HasInnerSize,
            14 => Self::HasInner,
            _ => Self::Due(comparison(bytes)),
        }
    }

    /// What it says of a record; nothing if the field is hidden, or is not there and has no default.
    fn value(&self, sample: &Sample) -> Option<bool> {
        let (field, value) = match self {
            Self::Flag => (Field::Flag, Some(sample.flag)),
            Self::Count(by, than) => (Field::Count, Some(compare(*by, &sample.count, than))),
            Self::CountIn(list) => (Field::Count, Some(list.contains(&sample.count))),
            Self::Title(by, than) => (Field::Title, Some(compare(*by, &sample.title, than))),
            Self::TitleStarts(part) => (Field::Title, Some(sample.title.starts_with(part))),
            Self::TitleEnds(part) => (Field::Title, Some(sample.title.ends_with(part))),
            Self::TitleContains(part) => (Field::Title, Some(sample.title.contains(part))),
            Self::Nick(by, than) => (Field::Nick, sample.nick.map(|nick| compare(*by, &nick, than))),
            Self::HasNick => (Field::Nick, Some(sample.nick.is_some())),
            Self::State(equal, state) => (Field::State, Some((sample.state == *state) == *equal)),
            Self::InTags(tag) => (Field::Tags, Some(sample.tags.contains(tag))),
            Self::InnerName(by, than) => (Field::Inner, sample.inner.map(|(name, _)| compare(*by, &name, than))),
            Self::InnerSize(by, than) => {
                (Field::Inner, sample.inner.and_then(|(_, size)| size).map(|size| compare(*by, &size, than)))
            }
            Self::HasInnerSize => (Field::Inner, Some(sample.inner.is_some_and(|(_, size)| size.is_some()))),
            Self::HasInner => (Field::Inner, Some(sample.inner.is_some())),
            Self::Due(by) => (Field::Due, sample.due.map(|due| compare(*by, &due, &0))),
        };
        value.filter(|_| !sample.hidden.contains(&field))
    }

    fn text(&self) -> String {
        let by = |by: &usize| COMPARISONS[*by];
        match self {
            Self::Flag => "flag".to_owned(),
            Self::Count(op, than) => format!("count {} {than}", by(op)),
            Self::CountIn(list) => {
                let mut text = "count in [".to_owned();
                for (at, number) in list.iter().enumerate() {
                    let _ = write!(text, "{}{number}", if at == 0 { "" } else { ", " });
                }
                text + "]"
            }
            Self::Title(op, than) => format!("title {} {than:?}", by(op)),
            Self::TitleStarts(part) => format!("title.startsWith({part:?})"),
            Self::TitleEnds(part) => format!("title.endsWith({part:?})"),
            Self::TitleContains(part) => format!("title.contains({part:?})"),
            Self::Nick(op, than) => format!("nick {} {than:?}", by(op)),
            Self::HasNick => "has(nick)".to_owned(),
            Self::State(equal, state) => format!("state {} State.{}", if *equal { "==" } else { "!=" }, STATES[*state]),
            Self::InTags(tag) => format!("{tag:?} in tags"),
            Self::InnerName(op, than) => format!("inner.name {} {than:?}", by(op)),
            Self::InnerSize(op, than) => format!("inner.size {} {than}", by(op)),
            Self::HasInnerSize => "has(inner.size)".to_owned(),
            Self::HasInner => "has(inner)".to_owned(),
            Self::Due(op) => format!("due {} now", by(op)),
        }
    }
}

fn compare<T: PartialOrd>(by: usize, a: &T, b: &T) -> bool {
    match COMPARISONS[by] {
        "==" => a == b,
        "!=" => a != b,
        "<" => a < b,
        "<=" => a <= b,
        ">" => a > b,
        _ => a >= b,
    }
}
