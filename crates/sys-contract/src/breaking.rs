//! What a new version of a contract must not change: everything that stored records were written and placed by.
//!
//! Table, home, scope, numbers, names and types are frozen; what is removed leaves its number `reserved`, for ever.
//! Indexes, grants and everything else may change: indexes are rebuilt, and a widened grant is a decision, not a fault.

use crate::{
    comments::Declared,
    model::{Contract, Flow, Record},
    problem::{Place, Problem},
};
use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};
use std::collections::HashMap;

/// What `new` must not change of `old`, its version before, in the order of places in `new`.
pub fn breaking_changes(old: &Contract, new: &Contract) -> Vec<Problem> {
    let mut changes = Changes { new, found: Vec::new() };
    changes.records(old);
    changes.methods(old);
    for file in old.files.iter().filter_map(|file| old.pool.get_file_by_name(file)) {
        file.messages().for_each(|message| changes.message(&message));
        file.enums().for_each(|values| changes.values(&values));
    }
    changes.found.sort();
    changes.found
}

struct Changes<'a> {
    new: &'a Contract,
    found: Vec<Problem>,
}

impl Changes<'_> {
    fn add(&mut self, place: Place, what: String, instead: impl Into<String>) {
        self.found.push(Problem { place, what, instead: instead.into() });
    }

    fn records(&mut self, old: &Contract) {
        let new: HashMap<&str, &Record> =
            self.new.records.iter().map(|record| (record.message.full_name(), record)).collect();
        for before in &old.records {
            let name = before.message.full_name();
            match new.get(name) {
                Some(after) => self.record(before, after),
                None => {
                    let place = Place { file: before.place.file.clone(), line: 0, column: 0 };
                    let what = format!("record `{name}` is gone, and its table `{}` still holds data", before.table);
                    self.add(place, what, "keep the record, with grants for whoever still needs it");
                }
            }
        }
    }

    fn record(&mut self, before: &Record, after: &Record) {
        let name = before.message.name();
        if before.table != after.table {
            let what = format!("`{name}` moved from table `{}` to `{}`", before.table, after.table);
            self.add(after.place.clone(), what, format!("write `table: \"{}\"`", before.table));
        }
        if before.home != after.home {
            let what = format!("`{name}` has another home than before");
            self.add(after.place.clone(), what, "leave `home` as it was: its records lie there, under those keys");
        }
        let scopes = [
            ("org", &before.org, &after.org),
            ("project", &before.project, &after.project),
            ("owner", &before.owner, &after.owner),
        ];
        for (part, before, after_field) in scopes {
            let number = |field: &Option<FieldDescriptor>| field.as_ref().map(FieldDescriptor::number);
            if number(before) != number(after_field) {
                let was = before.as_ref().map_or("nothing", |field| field.name());
                let what = format!("`scope.{part}` of `{name}` was {was}");
                self.add(after.place.clone(), what, "leave the scope as it was: stored records are placed by it");
            }
        }
    }

    fn methods(&mut self, old: &Contract) {
        let methods = old.services.iter().flat_map(|service| &service.methods);
        for before in methods {
            let (service, name) = before.path.split_once('/').unwrap_or_default();
            let after = self.new.pool.get_service_by_name(service);
            let Some(after) = after.and_then(|service| service.methods().find(|method| method.name() == name)) else {
                continue;
            };
            let (was, is) = (before.flow, Flow::of(&after));
            if was != is {
                let what = format!("`{name}` was {}, and is now {}", was.name(), is.name());
                self.add(place_of(&after), what, "add a method beside it");
            }
            let types = [(before.descriptor.input(), after.input()), (before.descriptor.output(), after.output())];
            for (before, now) in types.iter().filter(|(before, now)| before.full_name() != now.full_name()) {
                let what = format!("`{name}` spoke `{}`, and now `{}`", before.full_name(), now.full_name());
                self.add(place_of(&after), what, "add a method beside it");
            }
        }
    }

    fn message(&mut self, before: &MessageDescriptor) {
        // The entry of a map is compared as the type of its field.
        before.child_messages().filter(|nested| !nested.is_map_entry()).for_each(|nested| self.message(&nested));
        before.child_enums().for_each(|values| self.values(&values));
        // A message that is gone changes the type of each field that had it, or nobody misses it.
        let Some(after) = self.new.pool.get_message_by_name(before.full_name()) else { return };
        for field in before.fields() {
            match after.get_field(field.number()) {
                Some(now) => self.field(&field, &now),
                None => self.removed_field(&field, &after),
            }
        }
        let reserved: Vec<_> = after.reserved_ranges().map(|range| (range.start.into(), range.end.into())).collect();
        for range in before.reserved_ranges() {
            self.reserved((range.start.into(), range.end.into()), &reserved, place_of(&after));
        }
    }

    fn field(&mut self, before: &FieldDescriptor, now: &FieldDescriptor) {
        let what = |what: &str, before: &str, now: &str| format!("{what} was `{before}`, and is now `{now}`");
        let number = before.number();
        if before.name() != now.name() {
            let what = what(&format!("field {number}"), before.name(), now.name());
            self.add(
                place_of(now),
                what,
                format!("keep `{} = {number}`, and give the new field a new number", before.name()),
            );
            return;
        }
        let types = [before, now].map(type_name);
        let labels = [before, now].map(label);
        let pairs = [("the type of", types), ("the label of", labels)];
        for (part, [before_text, now_text]) in pairs.into_iter().filter(|(_, [before, now])| before != now) {
            let what = what(&format!("{part} `{}`", before.name()), &before_text, &now_text);
            self.add(place_of(now), what, "keep it, and add a new field beside it");
        }
    }

    fn removed_field(&mut self, before: &FieldDescriptor, after: &MessageDescriptor) {
        let (name, number) = (before.name(), before.number());
        if let Some(moved) = after.get_field_by_name(name) {
            let what = format!("`{name}` had number {number}, and has {} now", moved.number());
            self.add(place_of(&moved), what, format!("write `{name} = {number}`"));
        } else if !after.reserved_ranges().any(|range| range.contains(&number)) {
            let what = format!("field `{name}` is gone, and its number {number} is free for another meaning");
            self.add(place_of(after), what, format!("add `reserved {number}; reserved \"{name}\";`"));
        }
    }

    fn values(&mut self, before: &EnumDescriptor) {
        let Some(after) = self.new.pool.get_enum_by_name(before.full_name()) else { return };
        for value in before.values() {
            let (name, number) = (value.name(), value.number());
            let mut same = after.values().filter(|now| now.number() == number).peekable();
            match same.peek().cloned() {
                None if after.reserved_ranges().any(|range| range.contains(&number)) => {}
                None => {
                    let what = format!("value `{name}` is gone, and its number {number} is free for another meaning");
                    self.add(place_of(&after), what, format!("add `reserved {number}; reserved \"{name}\";`"));
                }
                Some(now) if !same.any(|now| now.name() == name) => {
                    let what = format!("value {number} was `{name}`, and is now `{}`", now.name());
                    self.add(place_of(&now), what, format!("keep `{name} = {number}`"));
                }
                Some(_) => {}
            }
        }
        let span = |range: std::ops::RangeInclusive<i32>| (i64::from(*range.start()), i64::from(*range.end()) + 1);
        let reserved: Vec<_> = after.reserved_ranges().map(span).collect();
        for range in before.reserved_ranges() {
            self.reserved(span(range), &reserved, place_of(&after));
        }
    }

    /// What was reserved stays so: somewhere, bytes of the old meaning may still lie.
    fn reserved(&mut self, (start, end): (i64, i64), now: &[(i64, i64)], place: Place) {
        let mut covered = start;
        while let Some((_, to)) = now.iter().find(|(from, to)| *from <= covered && covered < *to) {
            covered = *to;
        }
        if covered < end {
            let what = format!("number {covered} was reserved, and is not any more");
            self.add(place, what, format!("add `reserved {covered};`"));
        }
    }
}

/// The type of a field as it is written, with full names.
fn type_name(field: &FieldDescriptor) -> String {
    match field.kind() {
        Kind::Message(entry) if field.is_map() => {
            let (key, value) = (entry.map_entry_key_field().kind(), entry.map_entry_value_field().kind());
            format!("map<{key:?}, {value:?}>")
        }
        kind => format!("{kind:?}"),
    }
}

/// How often a field may stand in its message.
fn label(field: &FieldDescriptor) -> String {
    let oneof = field.containing_oneof().filter(|oneof| !oneof.is_synthetic());
    match oneof {
        Some(oneof) => format!("oneof {}", oneof.name()),
        None if field.is_map() => "map".to_owned(),
        None if field.is_list() => "repeated".to_owned(),
        None if field.supports_presence() && field.kind().as_message().is_none() => "optional".to_owned(),
        None => "singular".to_owned(),
    }
}

/// Where it is declared, or else where that is which holds it.
pub(crate) fn place_of(descriptor: &impl Declared) -> Place {
    let file = descriptor.file();
    let path = descriptor.path_in_file();
    let locations = file.file_descriptor_proto().source_code_info.iter().flat_map(|info| &info.location);
    let around = locations.filter(|location| !location.path.is_empty() && path.starts_with(&location.path));
    let nearest = around.max_by_key(|location| location.path.len());
    let (line, column) = match nearest.map(|location| location.span.as_slice()) {
        Some([line, column, ..]) => (line.saturating_add(1), column.saturating_add(1)),
        _ => (0, 0),
    };
    Place {
        file: file.name().into(),
        line: u32::try_from(line).unwrap_or_default(),
        column: u32::try_from(column).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Origin, SourceFile, load};

    const NOTES: &str = include_str!("load/tests/whole.proto");
    const REST: &str = "
message Part {
  reserved 3, 5 to 9;
  string name = 1;
  map<string, int32> counts = 2;
  Colour colour = 4;
  oneof weight { int32 grams = 10; int32 stones = 11; }
}
enum Colour { reserved 7; COLOUR_UNSPECIFIED = 0; WHITE = 1; BLACK = 2; }
";

    fn notes(text: &str) -> Contract {
        let file = SourceFile { path: "notes/v1/notes.proto".to_owned(), text: text.to_owned() };
        load("mod-notes", Origin::Uploaded, &[file]).unwrap()
    }

    /// What becomes of the example when each text is replaced by the other.
    fn changes(edits: &[(&str, &str)]) -> Vec<String> {
        let old = format!("{NOTES}{REST}");
        let mut new = old.clone();
        for (from, to) in edits {
            assert_eq!(new.matches(from).count(), 1, "{from}");
            new = new.replacen(from, to, 1);
        }
        let found = breaking_changes(&notes(&old), &notes(&new));
        assert!(found.iter().all(|problem| !problem.instead.is_empty()));
        found.into_iter().map(|problem| format!("{}: {}", problem.place.line, problem.what)).collect()
    }

    #[test]
    fn what_does_not_touch_stored_data_may_change() {
        let none: [String; 0] = [];
        assert_eq!(changes(&[]), none);
        assert_eq!(changes(&[("{ index: EQUAL }", "{ personal: true }")]), none);
        assert_eq!(changes(&[("{ index: SEARCH }", "{ index: UNIQUE }")]), none);
        assert_eq!(changes(&[("string draft = 7 ", "string hint = 9; string draft = 7 ")]), none);
        assert_eq!(changes(&[("  string name = 1;", "  reserved 1; reserved \"name\";")]), none);
        assert_eq!(changes(&[("WHITE = 1;", "reserved 1;")]), none);
        assert_eq!(
            changes(&[
                ("reserved 3, 5 to 9;", "reserved 5 to 6, 7 to 12000, 3;"),
                (" oneof weight { int32 grams = 10; int32 stones = 11; }", "")
            ]),
            none
        );
        assert_eq!(
            changes(&[("{ verbs: [DELETE] role: ADMIN at: PROJECT }", "{ verbs: [DELETE] role: USER at: PROJECT }")]),
            none
        );
    }

    #[test]
    fn the_place_of_records_is_frozen() {
        assert_eq!(
            changes(&[("table: \"notes\"", "table: \"papers\"")]),
            ["22: `Note` moved from table `notes` to `papers`"]
        );
        assert_eq!(
            changes(&[
                ("owner: \"author_id\"", "owner: \"editor_id\""),
                (
                    "string draft = 7 ",
                    "string editor_id = 9 [(sys.policy.v1.field) = { immutable: true }]; string draft = 7 "
                )
            ]),
            ["22: `scope.owner` of `Note` was author_id"]
        );
    }

    #[test]
    fn home_is_frozen() {
        let global = include_str!("load/tests/global.proto");
        let read = |text: &str| {
            let file = SourceFile { path: "sys/demo/v1/demo.proto".to_owned(), text: text.to_owned() };
            load("sys-demo", Origin::BuiltIn, &[file]).unwrap()
        };
        let moved = global
            .replace("home: GLOBAL scope: { org: \"id\" }", "scope: { org: \"kind\" }")
            .replace("signed_in: true", "member: true")
            .replace("{ personal: false }", "{ immutable: true }");
        let found = breaking_changes(&read(global), &read(&moved));
        let found: Vec<&str> = found.iter().map(|problem| problem.what.as_str()).collect();
        assert_eq!(found, ["`Org` has another home than before", "`scope.org` of `Org` was id"]);
    }

    #[test]
    fn a_record_does_not_vanish_over_its_data() {
        let other = "syntax = \"proto3\"; package notes.v1; message Unrelated {}";
        let found = breaking_changes(&notes(NOTES), &notes(other));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].what, "record `notes.v1.Note` is gone, and its table `notes` still holds data");
    }

    #[test]
    fn numbers_names_types_and_labels_are_frozen() {
        let line = |text: &str| 1 + format!("{NOTES}{REST}").lines().position(|line| line.contains(text)).unwrap();
        let part = line("message Part");
        let check = |from: &str, to: &str, at: usize, what: &str| {
            assert_eq!(changes(&[(from, to)]), [format!("{at}: {what}")]);
        };
        check(
            "  string name = 1;",
            "  bytes name = 1;",
            part + 2,
            "the type of `name` was `string`, and is now `bytes`",
        );
        check(
            "  string name = 1;",
            "  repeated string name = 1;",
            part + 2,
            "the label of `name` was `singular`, and is now `repeated`",
        );
        check(
            "  string name = 1;",
            "  optional string name = 1;",
            part + 2,
            "the label of `name` was `singular`, and is now `optional`",
        );
        check("  string name = 1;", "  string title = 1;", part + 2, "field 1 was `name`, and is now `title`");
        check("  string name = 1;", "  string name = 12;", part + 2, "`name` had number 1, and has 12 now");
        check("  string name = 1;\n", "", part, "field `name` is gone, and its number 1 is free for another meaning");
        check(
            "map<string, int32> counts",
            "map<string, int64> counts",
            part + 3,
            "the type of `counts` was `map<string, int32>`, and is now `map<string, int64>`",
        );
        check(
            "int32 stones = 11; }",
            "} int32 stones = 11;",
            part + 5,
            "the label of `stones` was `oneof weight`, and is now `singular`",
        );
        check("reserved 3, 5 to 9;", "reserved 3, 5 to 8;", part, "number 9 was reserved, and is not any more");
        let colour = line("enum Colour");
        check(" WHITE = 1;", "", colour, "value `WHITE` is gone, and its number 1 is free for another meaning");
        check("WHITE = 1;", "PALE = 1;", colour, "value 1 was `WHITE`, and is now `PALE`");
        check("reserved 7;", "", colour, "number 7 was reserved, and is not any more");
    }

    #[test]
    fn a_method_keeps_speaking_its_messages() {
        assert_eq!(
            changes(&[("rpc PublishNote(PublishNoteRequest)", "rpc PublishNote(GetNoteRequest)")]),
            ["16: `PublishNote` spoke `notes.v1.PublishNoteRequest`, and now `notes.v1.GetNoteRequest`"]
        );
        assert_eq!(
            changes(&[(
                "rpc PublishNote(PublishNoteRequest) returns (Note)",
                "rpc PublishNote(PublishNoteRequest) returns (stream Note)"
            )]),
            ["16: `PublishNote` was unary, and is now a stream of answers"]
        );
    }
}
