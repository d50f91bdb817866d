//! How large lists, maps and texts may be, where validation rules say so.
//!
//! The validation library judges all rules of a message in the order of its fields, so that a rule in CEL goes over a list before the
//! rule that bounds the list is asked, and each of ten thousand items may be a violation. What stands here is asked first: one pass
//! over the message that looks at lengths alone. It says of them what the library would say, and nothing of anything else.

use prost_protovalidate_types::{
    FieldRules, Ignore, field_constraints_typed, field_rules,
    rules_meta::{bytes, map, repeated, string},
};
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, MapKey, MessageDescriptor, ReflectMessage, Value,
};
use std::{
    collections::HashMap,
    fmt::{Display, Write},
};

/// What is told of one message: nobody mends more at once.
const MOST_TOLD: usize = 16;

/// The bounds of all messages of a contract. Read once.
#[derive(Debug, Default)]
pub struct Sizes {
    /// By full name, where each stands in `messages`.
    places: HashMap<String, usize>,
    /// For each message the fields that have a bound, or messages in them that may have one.
    messages: Vec<Vec<Bounded>>,
}

/// What is known of a message's sizes once it was looked at.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Measured {
    /// What is larger than it may be: the path of its field, and what it must be.
    pub too_large: Vec<(String, String)>,
    /// Items of lists and maps that rules are asked of, one by one.
    pub items: usize,
}

#[derive(Debug)]
struct Bounded {
    field: FieldDescriptor,
    bounds: Bounds,
    /// The messages in it.
    inside: Option<usize>,
}

/// The bounds of a value, and of what it holds.
#[derive(Debug, Default)]
struct Bounds {
    most_items: Option<u64>,
    chars: Length,
    bytes: Length,
    /// Of items of a list, or values of a map.
    items: Option<Box<Bounds>>,
    keys: Option<Box<Bounds>>,
    /// Rules of another kind are asked of each item, key or value.
    judges_items: bool,
}

/// How long something may be, and how long it must be; each is an upper bound, and each is told by itself.
#[derive(Debug, Default)]
struct Length {
    most: Option<u64>,
    exactly: Option<u64>,
}

impl Sizes {
    /// The bounds of all messages of a pool.
    pub fn of(pool: &DescriptorPool) -> Self {
        let all: Vec<MessageDescriptor> = pool.all_messages().collect();
        let places = (0..).zip(&all).map(|(place, message)| (message.full_name().to_owned(), place)).collect();
        let mut sizes = Self { places, messages: Vec::new() };
        sizes.messages = all.iter().map(|message| sizes.fields(message)).collect();
        sizes
    }

    /// Looks at those fields of a message that `judged` names, and at all that they hold.
    pub fn measure(&self, message: &DynamicMessage, judged: impl Fn(&FieldDescriptor) -> bool) -> Measured {
        let mut measuring = Measuring { sizes: self, path: String::new(), measured: Measured::default() };
        if let Some(place) = self.places.get(message.descriptor().full_name()) {
            measuring.message(message, *place, judged);
        }
        measuring.measured
    }

    fn fields(&self, message: &MessageDescriptor) -> Vec<Bounded> {
        let fields = message.fields().filter_map(|field| {
            // Rules that cannot be read refuse the contract.
            let rules = field_constraints_typed(&field).ok().flatten().unwrap_or_default();
            if rules.ignore == Some(Ignore::Always as i32) {
                return None;
            }
            let kind = field.kind();
            let inner = kind.as_message().map(|message| match field.is_map() {
                true => message.map_entry_value_field().kind().as_message().cloned(),
                false => Some(message.clone()),
            });
            let inside = inner.flatten().and_then(|inner| self.places.get(inner.full_name()).copied());
            let bounds = Bounds::of(&rules);
            (bounds.says_something() || inside.is_some()).then_some(Bounded { field, bounds, inside })
        });
        fields.collect()
    }
}

impl Bounds {
    fn of(rules: &FieldRules) -> Self {
        let inner = |rules: &Option<Box<FieldRules>>| {
            let rules = rules.as_deref().filter(|rules| rules.ignore != Some(Ignore::Always as i32));
            rules.map(|rules| Box::new(Self::of(rules)))
        };
        match &rules.r#type {
            Some(field_rules::Type::String(rules)) => Self {
                chars: Length { most: rules.max_len, exactly: rules.len },
                bytes: Length { most: rules.max_bytes, exactly: rules.len_bytes },
                ..Self::default()
            },
            Some(field_rules::Type::Bytes(rules)) => {
                Self { bytes: Length { most: rules.max_len, exactly: rules.len }, ..Self::default() }
            }
            Some(field_rules::Type::Repeated(rules)) => Self {
                most_items: rules.max_items,
                items: inner(&rules.items),
                judges_items: rules.items.is_some(),
                ..Self::default()
            },
            Some(field_rules::Type::Map(rules)) => Self {
                most_items: rules.max_pairs,
                items: inner(&rules.values),
                keys: inner(&rules.keys),
                judges_items: rules.values.is_some() || rules.keys.is_some(),
                ..Self::default()
            },
            _ => Self::default(),
        }
    }

    fn says_something(&self) -> bool {
        let Self { most_items, chars, bytes, judges_items, .. } = self;
        let lengths = [chars, bytes].into_iter().any(|length| length.most.is_some() || length.exactly.is_some());
        most_items.is_some() || *judges_items || lengths
    }
}

struct Measuring<'a> {
    sizes: &'a Sizes,
    path: String,
    measured: Measured,
}

impl Measuring<'_> {
    fn message(&mut self, message: &DynamicMessage, place: usize, judged: impl Fn(&FieldDescriptor) -> bool) {
        let sizes = self.sizes;
        for Bounded { field, bounds, inside } in sizes.messages.get(place).into_iter().flatten() {
            if message.has_field(field) && judged(field) {
                let before = self.path.len();
                let dot = if before == 0 { "" } else { "." };
                self.path.extend([dot, field.name()]);
                self.value(&message.get_field(field), bounds, *inside);
                self.path.truncate(before);
            }
        }
    }

    fn value(&mut self, value: &Value, bounds: &Bounds, inside: Option<usize>) {
        match value {
            Value::String(text) => self.text(text, bounds),
            Value::Bytes(value) => self.length(value.len(), &bounds.bytes, bytes::max_len_message, bytes::len_message),
            Value::Message(inner) => inside.into_iter().for_each(|place| self.message(inner, place, |_| true)),
            Value::List(items) => self.list(items, bounds, inside),
            Value::Map(entries) => self.map(entries, bounds, inside),
            _ => {}
        }
    }

    fn text(&mut self, text: &str, bounds: &Bounds) {
        let chars = &bounds.chars;
        // A text has no more letters than bytes: most are not counted.
        if exceeds(text.len(), chars.most, chars.exactly) {
            self.length(text.chars().count(), chars, string::max_len_message, string::len_message);
        }
        self.length(text.len(), &bounds.bytes, string::max_bytes_message, string::len_bytes_message);
    }

    fn list(&mut self, items: &[Value], bounds: &Bounds, inside: Option<usize>) {
        if let Some(most) = bounds.most_items.filter(|most| exceeds(items.len(), Some(*most), None)) {
            // Its items do not matter any more.
            return self.add(repeated::max_items_message(most));
        }
        let Some(of_items) = self.counted(items.len(), bounds, inside) else { return };
        for (number, item) in items.iter().enumerate() {
            self.entry(&number, |measuring| measuring.value(item, of_items, inside));
        }
    }

    fn map(&mut self, entries: &HashMap<MapKey, Value>, bounds: &Bounds, inside: Option<usize>) {
        if let Some(most) = bounds.most_items.filter(|most| exceeds(entries.len(), Some(*most), None)) {
            return self.add(map::max_pairs_message(most));
        }
        let Some(of_items) = self.counted(entries.len(), bounds, inside) else { return };
        for (key, value) in entries {
            self.entry(&shown(key), |measuring| {
                if let (MapKey::String(key), Some(bounds)) = (key, &bounds.keys) {
                    measuring.text(key, bounds);
                }
                measuring.value(value, of_items, inside);
            });
        }
    }

    /// Counts what is judged one by one. The bounds of each, if there is anything to look at.
    fn counted<'b>(&mut self, items: usize, bounds: &'b Bounds, inside: Option<usize>) -> Option<&'b Bounds> {
        const NONE: &Bounds = &Bounds {
            most_items: None,
            chars: Length { most: None, exactly: None },
            bytes: Length { most: None, exactly: None },
            items: None,
            keys: None,
            judges_items: false,
        };
        if !bounds.judges_items && inside.is_none() {
            return None;
        }
        self.measured.items = self.measured.items.saturating_add(items);
        Some(bounds.items.as_deref().unwrap_or(NONE))
    }

    /// Looks at one of many, unless enough is told already.
    fn entry(&mut self, key: &dyn Display, look: impl FnOnce(&mut Self)) {
        if self.measured.too_large.len() >= MOST_TOLD {
            return;
        }
        let before = self.path.len();
        // A text grows as long as there is memory.
        let _ = write!(self.path, "[{key}]");
        look(self);
        self.path.truncate(before);
    }

    fn length(&mut self, length: usize, bounds: &Length, at_most: fn(u64) -> String, exactly: fn(u64) -> String) {
        for (bound, what) in [(bounds.exactly, exactly), (bounds.most, at_most)] {
            if let Some(bound) = bound.filter(|bound| exceeds(length, Some(*bound), None)) {
                self.add(what(bound));
            }
        }
    }

    fn add(&mut self, what: String) {
        self.measured.too_large.push((self.path.clone(), what));
    }
}

fn exceeds(length: usize, most: Option<u64>, exactly: Option<u64>) -> bool {
    let length = u64::try_from(length).unwrap_or(u64::MAX);
    [most, exactly].into_iter().flatten().any(|bound| length > bound)
}

/// A key as it stands in a path: texts in quotes.
fn shown(key: &MapKey) -> String {
    match key {
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
        MapKey::String(key) => format!("{key:?}"),
    }
}

#[cfg(test)]
mod tests;
