//! The first step: are these files that may be compiled at all?
//!
//! What stands between an uploaded text and compilers that are not ours: bounds on size and nesting (their recursion
//! would overflow the stack), proto3 alone (editions make them panic), no foreign path, package or extension.

use super::{MAX_FILE_BYTES, MAX_FILES, MAX_SOURCE_BYTES, Origin, SourceFile, is_within, places, refusals::Refusals};
use crate::{
    load::compile::{self, caught},
    problem::{Place, Problems},
};
use prost_types::{DescriptorProto, FileDescriptorProto};
use protox::file::File;
use std::collections::HashSet;

/// Deepest nesting of brackets. Messages nest up to 31 deep; decoders stop at 100, and names add [`MAX_NAME_PARTS`].
const MAX_NESTING: usize = 40;
/// Most parts of a dotted name: each part of an option's name is a message inside another.
const MAX_NAME_PARTS: usize = 16;

/// Path and package roots that are ours, whatever is uploaded.
const OUR_ROOTS: [&str; 3] = ["sys", "buf", "google"];

/// A file that parsed, before its names are resolved.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) descriptor: FileDescriptorProto,
    pub(super) text: String,
}

impl Parsed {
    /// The place of what has this path in the unresolved descriptor.
    pub(super) fn place(&self, path: &[i32]) -> Place {
        let locations = self.descriptor.source_code_info.iter().flat_map(|info| &info.location);
        let found = locations
            .filter(|location| location.path == path)
            .find_map(|location| places::at_span(self.descriptor.name(), &self.text, &location.span));
        found.unwrap_or_else(|| places::whole_file(self.descriptor.name()))
    }
}

/// Parses the files, in the order of their paths.
pub(super) fn read(module: &str, origin: Origin, sources: &[SourceFile]) -> Result<Vec<Parsed>, Problems> {
    let mut refusals = Refusals::default();
    check_bounds(module, sources, &mut refusals);
    refusals.none()?;

    let mut sources: Vec<&SourceFile> = sources.iter().collect();
    sources.sort_by(|one, other| one.path.cmp(&other.path));
    let mut paths = HashSet::new();
    let mut parsed = Vec::new();
    for source in sources {
        let place = places::whole_file(&source.path);
        if !paths.insert(source.path.as_str()) {
            refusals.add(&place, "this path is given twice", "give each file once");
        } else if check_path(origin, &source.path, &mut refusals)
            && check_syntax(source, &mut refusals)
            && check_nesting(source, &mut refusals)
        {
            parsed.extend(parse(origin, source, &mut refusals));
        }
    }
    refusals.none()?;
    Ok(parsed)
}

fn check_bounds(module: &str, sources: &[SourceFile], refusals: &mut Refusals) {
    if sources.is_empty() {
        refusals.add(&places::whole_file(module), "there is no .proto file", "give at least one");
    }
    if sources.len() > MAX_FILES {
        let what = format!("these are {} files; a contract has at most {MAX_FILES}", sources.len());
        refusals.add(&places::whole_file(module), what, "split the module");
    }
    let total: usize = sources.iter().map(|source| source.text.len()).sum();
    if total > MAX_SOURCE_BYTES {
        let what = format!("these are {total} bytes; a contract has at most {MAX_SOURCE_BYTES}");
        refusals.add(&places::whole_file(module), what, "split the module");
    }
    for source in sources.iter().filter(|source| source.text.len() > MAX_FILE_BYTES) {
        let what = format!("this is {} bytes long; a file has at most {MAX_FILE_BYTES}", source.text.len());
        refusals.add(&places::whole_file(&source.path), what, "split the file");
    }
}

fn check_path(origin: Origin, path: &str, refusals: &mut Refusals) -> bool {
    let place = places::whole_file(path);
    let plain = |part: &str| {
        let letters = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-' | '.');
        !part.is_empty() && !part.starts_with('.') && part.chars().all(letters)
    };
    let refused = if !path.split('/').all(plain) || !path.ends_with(".proto") {
        Some(("this is no path of a .proto file inside a module", "write it like `notes/v1/notes.proto`"))
    } else if compile::is_embedded(path) {
        Some(("this file comes with the server", "leave it out and import it; it is always there"))
    } else if root_of(path, '/').is_some_and(|root| root != "sys" || origin == Origin::Uploaded) {
        Some(("files under sys/, buf/ and google/ are not a module's", "put it into a folder named after its package"))
    } else {
        None
    };
    if let Some((what, instead)) = refused {
        refusals.add(&place, what, instead);
    }
    refused.is_none()
}

/// Which of our roots a path or package lies in.
fn root_of(name: &str, separator: char) -> Option<&'static str> {
    let first = name.split(separator).next().unwrap_or_default();
    OUR_ROOTS.into_iter().find(|root| *root == first)
}

/// Refuses what does not begin with `syntax = "proto3";`, before a parser reads the rest by the rules of another syntax.
fn check_syntax(source: &SourceFile, refusals: &mut Refusals) -> bool {
    let statement = first_statement(&source.text);
    let value = statement.strip_prefix("syntax").and_then(|rest| rest.trim_start().strip_prefix('='));
    let is_proto3 = value.map(str::trim_start).is_some_and(|value| {
        let quoted = ["\"proto3\"", "'proto3'"].iter().find_map(|text| value.strip_prefix(text));
        quoted.is_some_and(|rest| rest.trim_start().starts_with(';'))
    });
    if !is_proto3 {
        let place = places::at_offset(&source.path, &source.text, source.text.len() - statement.len());
        let instead = "write `syntax = \"proto3\";` as the first statement; proto2 and editions are not supported";
        refusals.add(&place, "this file is not proto3", instead);
    }
    is_proto3
}

/// What follows blanks and comments at the beginning.
fn first_statement(text: &str) -> &str {
    let mut rest = text.trim_start();
    loop {
        let comment = if rest.starts_with("//") {
            rest.split_once('\n')
        } else if rest.starts_with("/*") {
            rest.split_once("*/")
        } else {
            return rest;
        };
        rest = comment.map_or("", |(_, after)| after.trim_start());
    }
}

/// Refuses what nests too deep, by a scan that knows strings and comments. Where it reads a text otherwise than the
/// parser does, the parser refuses the text.
fn check_nesting(source: &SourceFile, refusals: &mut Refusals) -> bool {
    let text = &source.text;
    let (mut depth, mut parts) = (0_usize, 0_usize);
    let mut letters = text.char_indices();
    while let Some((offset, letter)) = letters.next() {
        let rest = letters.as_str();
        match letter {
            '"' | '\'' => skip_string(&mut letters, letter),
            '#' => skip_to(&mut letters, "\n"),
            '/' if rest.starts_with('/') => skip_to(&mut letters, "\n"),
            '/' if rest.starts_with('*') => {
                letters.next();
                skip_to(&mut letters, "*/");
            }
            '{' | '[' | '<' => depth += 1,
            '}' | ']' | '>' => depth = depth.saturating_sub(1),
            '.' => parts += 1,
            _ => {}
        }
        if !(matches!(letter, '.' | '_' | '(' | ')' | '/' | '#') || letter.is_alphanumeric() || letter.is_whitespace())
        {
            parts = 0;
        }
        let what = if depth > MAX_NESTING {
            format!("brackets nest deeper than {MAX_NESTING}")
        } else if parts >= MAX_NAME_PARTS {
            format!("this name has more than {MAX_NAME_PARTS} parts")
        } else {
            continue;
        };
        refusals.add(&places::at_offset(&source.path, text, offset), what, "flatten it");
        return false;
    }
    true
}

fn skip_string(letters: &mut std::str::CharIndices<'_>, quote: char) {
    while let Some((_, letter)) = letters.next() {
        match letter {
            '\\' => drop(letters.next()),
            letter if letter == quote => return,
            _ => {}
        }
    }
}

fn skip_to(letters: &mut std::str::CharIndices<'_>, end: &str) {
    let rest = letters.as_str();
    let skipped = rest.find(end).map_or(rest.len(), |at| at + end.len());
    let left = rest.len() - skipped;
    while letters.as_str().len() > left {
        letters.next();
    }
}

fn parse(origin: Origin, source: &SourceFile, refusals: &mut Refusals) -> Option<Parsed> {
    let parsed = caught(|| File::from_source(&source.path, &source.text));
    let descriptor = match parsed {
        Ok(Ok(file)) => FileDescriptorProto::from(file),
        Ok(Err(error)) => {
            compile::explain(&error, source, &compile::KnownNames::default(), refusals);
            return None;
        }
        Err(crashed) => {
            refusals.add(&places::whole_file(&source.path), crashed.what(), crashed.instead());
            return None;
        }
    };
    let parsed = Parsed { descriptor, text: source.text.clone() };
    check_file(origin, &parsed, refusals);
    Some(parsed)
}

/// Field numbers of `FileDescriptorProto` and `DescriptorProto`.
mod path {
    pub(super) const PACKAGE: i32 = 2;
    pub(super) const DEPENDENCY: i32 = 3;
    pub(super) const MESSAGE: i32 = 4;
    pub(super) const EXTENSION: i32 = 7;
    pub(super) const NESTED: i32 = 3;
    pub(super) const NESTED_EXTENSION: i32 = 6;
}

fn check_file(origin: Origin, parsed: &Parsed, refusals: &mut Refusals) {
    let file = &parsed.descriptor;
    let package = file.package();
    let ours = OUR_ROOTS.into_iter().find(|root| is_within(package, root));
    if package.is_empty() {
        refusals.add(
            &places::whole_file(file.name()),
            "this file has no package",
            "write one, like `package notes.v1;`",
        );
    } else if ours.is_some_and(|root| root != "sys" || origin == Origin::Uploaded) {
        let what = format!("package `{package}` is not a module's: sys, buf and google are ours");
        refusals.add(&parsed.place(&[path::PACKAGE]), what, "name the package after the module, like `notes.v1`");
    }
    for index in file.public_dependency.iter().chain(&file.weak_dependency) {
        let instead = "write a plain `import`, here and where its names are used";
        refusals.add(
            &parsed.place(&[path::DEPENDENCY, *index]),
            "`import public` and `import weak` are not supported",
            instead,
        );
    }
    // An own option could carry the number of one of ours, and so read as a rule that nobody sees.
    if let Some(at) = extensions(file).first() {
        refusals.add(&parsed.place(at), "a contract declares no options of its own", "remove the `extend`");
    }
    // Neither is proto3, though the parser takes both.
    for (at, message) in messages(file) {
        let is_set = message.options.as_ref().is_some_and(prost_types::MessageOptions::message_set_wire_format);
        if is_set || !message.extension_range.is_empty() {
            let what = "`extensions` and message sets are not supported";
            refusals.add(&parsed.place(&at), what, "add the fields to the message itself");
        }
    }
}

/// The paths of all extensions that a file declares.
fn extensions(file: &FileDescriptorProto) -> Vec<Vec<i32>> {
    let mut found: Vec<Vec<i32>> = indexes(&file.extension).map(|(index, _)| vec![path::EXTENSION, index]).collect();
    for (at, message) in messages(file) {
        let below = |(index, _)| [at.as_slice(), &[path::NESTED_EXTENSION, index]].concat();
        found.extend(indexes(&message.extension).map(below));
    }
    found
}

/// All messages of a file, with their paths.
fn messages(file: &FileDescriptorProto) -> Vec<(Vec<i32>, &DescriptorProto)> {
    let mut found = Vec::new();
    let mut open: Vec<_> =
        indexes(&file.message_type).map(|(index, message)| (vec![path::MESSAGE, index], message)).collect();
    while let Some((at, message)) = open.pop() {
        let below = |index: i32| [at.as_slice(), &[path::NESTED, index]].concat();
        open.extend(indexes(&message.nested_type).map(|(index, nested)| (below(index), nested)));
        found.push((at, message));
    }
    found
}

fn indexes<T>(items: &[T]) -> impl Iterator<Item = (i32, &T)> {
    (0_i32..).zip(items)
}
