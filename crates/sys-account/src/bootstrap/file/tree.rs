//! YAML as a tree in which every value knows its line.
//!
//! Built from the parser's events with a stack of our own, so that neither the depth nor the number of values in a file
//! can hurt. Aliases are refused instead of counted: then a file's work is bounded by its size. Tags say nothing here: a
//! key's reader knows the type that it wants.

use super::problem::{Cause, FILE, FileProblem, Quoted};
use serde_saphyr::granit_parser::{self, ErrorKind, Event, Parser, ScalarStyle};
use std::{
    collections::{BTreeMap, btree_map},
    mem,
};

/// Values in a file: 25 are an account with its part of a survey, so this is enough for ten thousand of them.
pub(super) const MAX_VALUES: usize = 500_000;
/// Lists and mappings inside each other: the format itself needs seven.
pub(super) const MAX_DEPTH: usize = 32;

/// A value and where it begins.
pub(super) struct Node {
    pub(super) line: usize,
    pub(super) value: Value,
}

pub(super) enum Value {
    /// `null`, `~` or nothing at all.
    Null,
    /// A scalar. Plain ones may be numbers, quoted ones are texts.
    Scalar {
        text: String,
        plain: bool,
    },
    List(Vec<Node>),
    Mapping(BTreeMap<String, Entry>),
}

/// What stands under a key.
pub(super) struct Entry {
    /// The key's own line: where its value is missing, this is the line to name.
    pub(super) line: usize,
    pub(super) node: Node,
}

impl Value {
    /// What it is called in an error.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Scalar { .. } => "a text or number",
            Self::List(_) => "a list",
            Self::Mapping(_) => "a mapping",
        }
    }
}

/// The file's one document. Keys that stand twice go to `problems` (their first value is kept); what makes the rest
/// unreadable is the error.
pub(super) fn parse(text: &str, problems: &mut Vec<FileProblem>) -> Result<Node, FileProblem> {
    let options = granit_parser::options! { emit_comments: false };
    let mut tree = Tree { open: Vec::new(), root: None, values: 0, problems };
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, span) = event.map_err(|error| {
            let cause = match error.kind() {
                ErrorKind::UnknownAnchor => Cause::Alias,
                ErrorKind::RecursionLimitExceeded => Cause::TooDeep { max_depth: MAX_DEPTH },
                // Names what was expected and at most one character of the file, so no password gets out here.
                kind => Cause::NotYaml(kind.to_string()),
            };
            at_root(error.marker().line(), cause)
        })?;
        tree.take(event, span.start.line())?;
    }
    Ok(tree.root.unwrap_or(Node { line: 1, value: Value::Null }))
}

/// The tree while it grows.
struct Tree<'a> {
    open: Vec<Open>,
    root: Option<Node>,
    values: usize,
    problems: &'a mut Vec<FileProblem>,
}

/// A list or mapping whose end is not reached.
enum Open {
    List { line: usize, items: Vec<Node> },
    Mapping { line: usize, entries: BTreeMap<String, Entry>, key: Option<(String, usize)> },
}

impl Tree<'_> {
    fn take(&mut self, event: Event<'_>, line: usize) -> Result<(), FileProblem> {
        match event {
            Event::Scalar(text, style, anchor, _tag) => {
                refuse_anchor(anchor, line)?;
                let plain = style == ScalarStyle::Plain;
                let null = plain && matches!(text.as_ref(), "" | "~" | "null" | "Null" | "NULL");
                let value = if null { Value::Null } else { Value::Scalar { text: text.into_owned(), plain } };
                self.add(Node { line, value })
            }
            Event::SequenceStart(_, anchor, _tag) => {
                refuse_anchor(anchor, line)?;
                self.open(Open::List { line, items: Vec::new() }, line)
            }
            Event::MappingStart(_, anchor, _tag) => {
                refuse_anchor(anchor, line)?;
                self.open(Open::Mapping { line, entries: BTreeMap::new(), key: None }, line)
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open::List { line, items }) => self.add(Node { line, value: Value::List(items) }),
                Some(Open::Mapping { line, entries, .. }) => self.add(Node { line, value: Value::Mapping(entries) }),
                None => Ok(()),
            },
            Event::Alias(_) | Event::Anchor(..) | Event::UnresolvedAlias(_) => Err(at_root(line, Cause::Alias)),
            Event::DocumentStart(..) if self.root.is_some() => Err(at_root(line, Cause::SecondDocument)),
            // Beginnings, ends and comments carry no value.
            _ => Ok(()),
        }
    }

    fn open(&mut self, open: Open, line: usize) -> Result<(), FileProblem> {
        if self.open.len() >= MAX_DEPTH {
            return Err(at_root(line, Cause::TooDeep { max_depth: MAX_DEPTH }));
        }
        self.open.push(open);
        Ok(())
    }

    fn add(&mut self, node: Node) -> Result<(), FileProblem> {
        self.values += 1;
        if self.values > MAX_VALUES {
            return Err(at_root(node.line, Cause::TooManyValues { max_values: MAX_VALUES }));
        }
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::List { items, .. }) => items.push(node),
            Some(Open::Mapping { entries, key, .. }) => match mem::take(key) {
                None => *key = Some(read_key(node)?),
                Some((name, line)) => match entries.entry(name) {
                    btree_map::Entry::Vacant(place) => {
                        place.insert(Entry { line, node });
                    }
                    btree_map::Entry::Occupied(taken) => {
                        let path = Quoted::of(taken.key()).to_string();
                        let cause = Cause::DuplicateKey { first_line: taken.get().line };
                        self.problems.push(FileProblem { line, path, cause });
                    }
                },
            },
        }
        Ok(())
    }
}

fn read_key(node: Node) -> Result<(String, usize), FileProblem> {
    match node.value {
        Value::Scalar { text, .. } => Ok((text, node.line)),
        other => Err(at_root(node.line, Cause::WrongType { expected: "a key", found: other.kind() })),
    }
}

fn refuse_anchor(anchor: usize, line: usize) -> Result<(), FileProblem> {
    if anchor == 0 { Ok(()) } else { Err(at_root(line, Cause::Alias)) }
}

fn at_root(line: usize, cause: Cause) -> FileProblem {
    FileProblem { line: line.max(1), path: FILE.to_owned(), cause }
}
