//! Taking typed values out of the tree, with what goes wrong and what is left over noted on the way.
//!
//! A value is taken once; what nobody took is reported as skipped. So no key of a file can get lost unseen, whatever
//! the earlier system's modules wrote into it.

use super::{
    CAMPAIGN_KEYS, Located, SkipReason, Skipped,
    problem::{Cause, FILE, FileProblem, Quoted},
    tree::{self, Entry, Node, Value},
};
use crate::{email::CanonicalEmail, image::Image};
use data_encoding::{BASE64, BASE64_NOPAD};
use std::collections::{BTreeMap, btree_map};
use sys_core::password::Password;
use unicode_normalization::UnicodeNormalization;

/// Longest name of an org, project or person in characters: what their records take (proto/sys/account/v1).
pub(super) const MAX_NAME_CHARS: usize = 100;
/// Problems shown of one file.
pub(super) const MAX_PROBLEMS: usize = 100;
/// Kinds of left-over keys shown of one file.
pub(super) const MAX_SKIPPED: usize = 100;

/// A mapping that values are taken out of.
pub(super) struct Fields {
    /// The path of keys that leads to it.
    pub(super) path: String,
    /// The line on which it begins.
    pub(super) line: usize,
    entries: BTreeMap<String, Entry>,
}

/// What came up while reading.
#[derive(Default)]
pub(super) struct Notes {
    problems: Vec<FileProblem>,
    skipped: BTreeMap<String, Skipped>,
}

impl Notes {
    /// The file's outermost mapping.
    pub(super) fn root(&mut self, text: &str) -> Option<Fields> {
        match tree::parse(text, &mut self.problems) {
            Ok(node) => self.mapping(node, FILE),
            Err(problem) => {
                self.problems.push(problem);
                None
            }
        }
    }

    pub(super) fn add(&mut self, line: usize, path: String, cause: Cause) {
        self.problems.push(FileProblem { line, path, cause });
    }

    /// Whether this value stands here for the first time; if not, that is a problem. `at` says the path and how to show it.
    pub(super) fn once<K: Ord>(
        &mut self,
        seen: &mut BTreeMap<K, usize>,
        value: K,
        line: usize,
        at: impl FnOnce() -> (String, Quoted),
    ) -> bool {
        match seen.entry(value) {
            btree_map::Entry::Vacant(place) => {
                place.insert(line);
                true
            }
            btree_map::Entry::Occupied(first) => {
                let (path, value) = at();
                self.add(line, path, Cause::Duplicate { value, first_line: *first.get() });
                false
            }
        }
    }

    /// What was skipped, in the order of lines; or the problems, if there is any.
    pub(super) fn finish(self) -> Result<Vec<Skipped>, Vec<FileProblem>> {
        let Self { mut problems, skipped } = self;
        if problems.is_empty() {
            let mut skipped: Vec<_> = skipped.into_values().collect();
            skipped.sort_by_key(|skipped| skipped.first_line);
            return Ok(skipped);
        }
        problems.sort_by_key(|problem| problem.line);
        if let Some(first_left_out) = problems.get(MAX_PROBLEMS) {
            let line = first_left_out.line;
            problems.truncate(MAX_PROBLEMS);
            let cause = Cause::TooManyProblems { max_problems: MAX_PROBLEMS };
            problems.push(FileProblem { line, path: FILE.to_owned(), cause });
        }
        Err(problems)
    }

    pub(super) fn mapping(&mut self, node: Node, path: &str) -> Option<Fields> {
        match node.value {
            Value::Mapping(entries) => Some(Fields { path: path.to_owned(), line: node.line, entries }),
            other => {
                let cause = Cause::WrongType { expected: "a mapping", found: other.kind() };
                self.add(node.line, path.to_owned(), cause);
                None
            }
        }
    }

    /// Reports all that is left in a mapping as skipped.
    pub(super) fn skip_rest(&mut self, fields: Fields) {
        for (key, entry) in fields.entries {
            let why =
                if CAMPAIGN_KEYS.contains(&key.as_str()) { SkipReason::CampaignModule } else { SkipReason::UnknownKey };
            self.skip(join(&fields.path, Quoted::of(&key).bare()), why, entry.line);
        }
    }

    fn skip(&mut self, what: String, why: SkipReason, line: usize) {
        let room = self.skipped.len() < MAX_SKIPPED;
        let (what, why) = if room || self.skipped.contains_key(&what) {
            (what, why)
        } else {
            ("other keys".to_owned(), SkipReason::UnknownKey)
        };
        let entry = self.skipped.entry(what.clone()).or_insert(Skipped { what, count: 0, why, first_line: line });
        entry.count += 1;
        entry.first_line = entry.first_line.min(line);
    }
}

impl Fields {
    /// The path of a key in this mapping.
    pub(super) fn path_of(&self, key: &str) -> String {
        join(&self.path, key)
    }

    /// A text some mappings further down, left where it is.
    pub(super) fn peek_text(&self, keys: &[&str]) -> Option<Located<String>> {
        let (first, rest) = keys.split_first()?;
        let mut node = &self.entries.get(*first)?.node;
        for key in rest {
            let Value::Mapping(entries) = &node.value else { return None };
            node = &entries.get(*key)?.node;
        }
        let Value::Scalar { text, .. } = &node.value else { return None };
        Some(Located { value: normal_name(text), line: node.line })
    }

    /// The line of a key, or of the mapping where the key is missing.
    pub(super) fn line_of(&self, key: &str) -> usize {
        self.entries.get(key).map_or(self.line, |entry| entry.line)
    }

    /// Whether a key has a value, whatever it is.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.get(key).is_some_and(|entry| !matches!(entry.node.value, Value::Null))
    }

    /// The value under a key, if it has one.
    pub(super) fn optional(&mut self, key: &str) -> Option<Node> {
        self.entries.remove(key).map(|entry| entry.node).filter(|node| !matches!(node.value, Value::Null))
    }

    /// The value under a key that must have one.
    pub(super) fn required(&mut self, key: &str, expected: &'static str, notes: &mut Notes) -> Option<Node> {
        let line = self.line_of(key);
        let node = self.optional(key);
        if node.is_none() {
            notes.add(line, self.path_of(key), Cause::Missing { expected });
        }
        node
    }

    /// A mapping that must be there.
    pub(super) fn mapping(&mut self, key: &str, notes: &mut Notes) -> Option<Fields> {
        let node = self.required(key, "a mapping", notes)?;
        notes.mapping(node, &self.path_of(key))
    }

    /// A list that must be there, and the path of its items.
    pub(super) fn list(&mut self, key: &str, notes: &mut Notes) -> Option<(Vec<Node>, String)> {
        let node = self.required(key, "a list", notes)?;
        match node.value {
            Value::List(items) => Some((items, format!("{}[]", self.path_of(key)))),
            other => {
                let cause = Cause::WrongType { expected: "a list", found: other.kind() };
                notes.add(node.line, self.path_of(key), cause);
                None
            }
        }
    }

    /// A name that must be there: NFC, no white space around it, no control characters.
    pub(super) fn name(&mut self, key: &str, notes: &mut Notes) -> Option<Located<String>> {
        let node = self.required(key, "a name", notes)?;
        self.read_name(key, node, notes)
    }

    /// A name that may be missing.
    pub(super) fn optional_name(&mut self, key: &str, notes: &mut Notes) -> Option<Located<String>> {
        let node = self.optional(key)?;
        self.read_name(key, node, notes)
    }

    fn read_name(&self, key: &str, node: Node, notes: &mut Notes) -> Option<Located<String>> {
        let text = self.text(key, node, notes)?;
        let name = normal_name(&text.value);
        if name.is_empty() || name.chars().count() > MAX_NAME_CHARS || name.chars().any(char::is_control) {
            notes.add(text.line, self.path_of(key), Cause::Name { max_chars: MAX_NAME_CHARS });
            return None;
        }
        Some(Located { value: name, line: text.line })
    }

    /// An e-mail address that must be there.
    pub(super) fn email(&mut self, key: &str, notes: &mut Notes) -> Option<Located<CanonicalEmail>> {
        let node = self.required(key, "an e-mail address", notes)?;
        let text = self.text(key, node, notes)?;
        match CanonicalEmail::parse(&text.value) {
            Ok(value) => Some(Located { value, line: text.line }),
            Err(error) => {
                notes.add(text.line, self.path_of(key), Cause::Email(error));
                None
            }
        }
    }

    /// A password, which most files leave out.
    pub(super) fn optional_password(&mut self, key: &str, notes: &mut Notes) -> Option<Located<Password>> {
        let node = self.optional(key)?;
        let text = self.text(key, node, notes)?;
        match Password::to_set(text.value, key) {
            Ok(value) => Some(Located { value, line: text.line }),
            Err(refusal) => {
                let cause = refusal.fields.into_iter().next().map_or(refusal.message, |field| field.description);
                notes.add(text.line, self.path_of(key), Cause::Password(cause));
                None
            }
        }
    }

    /// A picture in base64, which may be missing. The earlier system writes it without padding.
    pub(super) fn optional_image(&mut self, key: &str, notes: &mut Notes) -> Option<Located<Image>> {
        let node = self.optional(key)?;
        let text = self.text(key, node, notes)?;
        let compact: String = text.value.split_ascii_whitespace().collect();
        let encoding = if compact.ends_with('=') { BASE64 } else { BASE64_NOPAD };
        let image = match encoding.decode(compact.as_bytes()) {
            Ok(bytes) => Image::parse(bytes).map_err(Cause::Image),
            Err(_) => Err(Cause::Base64),
        };
        match image {
            Ok(value) => Some(Located { value, line: text.line }),
            Err(cause) => {
                notes.add(text.line, self.path_of(key), cause);
                None
            }
        }
    }

    /// A number written as one: not in quotes.
    pub(super) fn number(&mut self, key: &str, notes: &mut Notes) -> Option<Located<String>> {
        let node = self.required(key, "a number", notes)?;
        let found = node.value.kind();
        match node.value {
            Value::Scalar { text, plain: true } => Some(Located { value: text, line: node.line }),
            Value::Scalar { .. } => {
                notes.add(node.line, self.path_of(key), Cause::WrongType { expected: "a number", found: "a text" });
                None
            }
            _ => {
                notes.add(node.line, self.path_of(key), Cause::WrongType { expected: "a number", found });
                None
            }
        }
    }

    fn text(&self, key: &str, node: Node, notes: &mut Notes) -> Option<Located<String>> {
        match node.value {
            Value::Scalar { text, .. } => Some(Located { value: text, line: node.line }),
            other => {
                notes.add(node.line, self.path_of(key), Cause::WrongType { expected: "a text", found: other.kind() });
                None
            }
        }
    }
}

/// One form for each name, so that a reference finds what it names.
fn normal_name(text: &str) -> String {
    text.trim().nfc().collect()
}

fn join(path: &str, key: &str) -> String {
    if path == FILE { key.to_owned() } else { format!("{path}.{key}") }
}
