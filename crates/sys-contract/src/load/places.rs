//! Where in the sources a declaration or an option statement stands.
//!
//! protox gives one span for each option statement, and prost-reflect rewrites its path to the extension's number and, in
//! a repeated one, its index: so each grant has a line of its own, and what is nested deeper has its statement's.

use crate::{comments, problem::Place};
use prost_types::{FileDescriptorProto, source_code_info::Location};
use std::{collections::HashMap, sync::Arc};

/// The places of a module's own files.
#[derive(Debug, Default)]
pub(super) struct Places {
    files: HashMap<String, FilePlaces>,
}

#[derive(Debug)]
struct FilePlaces {
    path: Arc<str>,
    found: HashMap<Vec<i32>, Found>,
}

#[derive(Debug)]
struct Found {
    line: u32,
    column: u32,
    comment: String,
}

impl Places {
    /// Notes the places of a linked file.
    pub(super) fn insert(&mut self, file: &FileDescriptorProto, text: &str) {
        let lines: Vec<&str> = text.split('\n').collect();
        let locations = file.source_code_info.iter().flat_map(|info| &info.location);
        let found = locations.filter_map(|location| Some((location.path.clone(), Found::new(location, &lines)?)));
        let places = FilePlaces { path: file.name().into(), found: found.collect() };
        self.files.insert(file.name().to_owned(), places);
    }

    /// The place of what has this path in the file's descriptor, or of the nearest thing around it that has one.
    pub(super) fn of(&self, file: &str, path: &[i32]) -> Place {
        let Some(places) = self.files.get(file) else { return whole_file(file) };
        let ends = (0..=path.len()).rev();
        let found = ends.filter_map(|end| path.get(..end)).find_map(|path| places.found.get(path));
        found.map_or_else(
            || whole_file(file),
            |found| Place { file: places.path.clone(), line: found.line, column: found.column },
        )
    }

    /// The comment of what has exactly this path.
    pub(super) fn comment(&self, file: &str, path: &[i32]) -> String {
        let found = self.files.get(file).and_then(|places| places.found.get(path));
        found.map(|found| found.comment.clone()).unwrap_or_default()
    }
}

impl Found {
    fn new(location: &Location, lines: &[&str]) -> Option<Self> {
        let [line, column, ..] = *location.span else { return None };
        let (line, column) = (usize::try_from(line).ok()?, usize::try_from(column).ok()?);
        let text = lines.get(line)?.get(..column)?;
        Some(Self { line: count(line), column: count(text.chars().count()), comment: comments::comment_at(location) })
    }
}

/// The place where a span of source info begins.
pub(super) fn at_span(file: &str, text: &str, span: &[i32]) -> Option<Place> {
    let [line, column, ..] = *span else { return None };
    let (line, column) = (usize::try_from(line).ok()?, usize::try_from(column).ok()?);
    let before = text.split('\n').nth(line)?.get(..column)?;
    Some(Place { file: file.into(), line: count(line), column: count(before.chars().count()) })
}

/// The place of a byte offset in a text.
pub(super) fn at_offset(file: &str, text: &str, offset: usize) -> Place {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let column = before.get(line_start..).unwrap_or_default().chars().count();
    Place { file: file.into(), line: count(before.matches('\n').count()), column: count(column) }
}

/// The place of what concerns a file as a whole.
pub(super) fn whole_file(file: &str) -> Place {
    Place { file: file.into(), line: 0, column: 0 }
}

/// From counting at 0 to counting at 1.
fn count(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX).saturating_add(1)
}
