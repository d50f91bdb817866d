//! The shapes of served methods, after AIP-131 to 135 with `id` for `name`.
//!
//! A served method has no code, so that a field which has no meaning here would be dropped without a word: every field of
//! its messages is accounted for, or the method is refused.

use super::{
    Reader,
    records::{Known, Records},
};
use crate::{
    model::{Home, Record, Shape, Verb},
    problem::Place,
};
use prost_reflect::{FieldDescriptor, FileDescriptor, Kind, MessageDescriptor, MethodDescriptor};

/// The record that a method serves and where the parts stand, or nothing once it is refused.
pub(super) fn read(
    reader: &mut Reader,
    records: &Records,
    method: &MethodDescriptor,
    place: &Place,
    verb: Verb,
) -> Option<(usize, Shape)> {
    Reading { reader, records, method, place }.read(verb)
}

struct Reading<'a> {
    reader: &'a mut Reader,
    records: &'a Records,
    method: &'a MethodDescriptor,
    place: &'a Place,
}

impl<'a> Reading<'a> {
    fn read(&mut self, verb: Verb) -> Option<(usize, Shape)> {
        match verb {
            Verb::Get => self.get(),
            Verb::List => self.list(),
            Verb::Count => self.count(),
            Verb::Watch => self.watch(),
            Verb::Create => self.create(),
            Verb::Update => self.update(),
            Verb::Delete => self.delete(),
        }
    }

    fn refuse(&mut self, what: impl Into<String>, instead: impl Into<String>) {
        self.reader.refuse(self.place, what, instead);
    }

    /// Refuses where the fault stands; what is declared in an imported file is refused where it is used.
    fn refuse_at(&mut self, file: &FileDescriptor, path: &[i32], what: impl Into<String>, instead: impl Into<String>) {
        let own = self.reader.compiled.files.iter().any(|own| own == file.name());
        let place = if own { self.reader.place(file.name(), path) } else { self.place.clone() };
        self.reader.refuse(&place, what, instead);
    }

    fn get(&mut self) -> Option<(usize, Shape)> {
        let (record, _) = self.answered()?;
        let mut parts = Parts::of(self.method.input());
        let id = self.required(&mut parts, "id", &Kind::String);
        self.nothing_else(&parts)?;
        Some((record, Shape::Get { id: id? }))
    }

    fn create(&mut self) -> Option<(usize, Shape)> {
        let (record, served) = self.answered()?;
        let mut parts = Parts::of(self.method.input());
        let item = self.item(&mut parts, served);
        self.nothing_else(&parts)?;
        self.check_placeable(served)?;
        Some((record, Shape::Create { item: item? }))
    }

    /// The gate takes org and project of a new record from the record itself, where somebody must be able to write them.
    fn check_placeable(&mut self, served: &Record) -> Option<()> {
        for field in [&served.org, &served.project].into_iter().flatten() {
            let name = field.name();
            let read = served.fields.iter().find(|read| read.descriptor.name() == name);
            if name != "id" && read.is_some_and(|read| read.output_only) {
                let what = format!("CREATE is served, but `{name}` is output_only, so that nobody can say where");
                self.refuse(what, format!("make `{name}` immutable instead of output_only"));
                return None;
            }
        }
        Some(())
    }

    fn update(&mut self) -> Option<(usize, Shape)> {
        let (record, served) = self.answered()?;
        let mut parts = Parts::of(self.method.input());
        let item = self.item(&mut parts, served);
        let mask = match parts.take("update_mask") {
            Some(mask) if is_message(&mask, "google.protobuf.FieldMask") => Some(mask),
            _ => {
                let input = self.method.input();
                let what = format!("`{}` has no mask of fields", input.name());
                let instead = "add `google.protobuf.FieldMask update_mask = …`";
                self.refuse_at(&input.parent_file(), input.path(), what, instead);
                None
            }
        };
        self.nothing_else(&parts)?;
        Some((record, Shape::Update { item: item?, mask: mask? }))
    }

    /// The answer is empty, so that the method's name says what is deleted: `DeleteNote`.
    fn delete(&mut self) -> Option<(usize, Shape)> {
        if self.method.output().full_name() != "google.protobuf.Empty" {
            let what = format!("a served DELETE answers with `{}`", self.method.output().name());
            self.refuse(what, "write `returns (google.protobuf.Empty)`");
        }
        let package = self.method.parent_file().package_name().to_owned();
        let name = self.method.name().strip_prefix("Delete").unwrap_or_default();
        let (record, served) = match self.records.find(&format!("{package}.{name}")) {
            Some(Known::At(index)) => (index, self.records.get(index)?),
            Some(Known::Refused) => return None,
            None => {
                let otherwise = "call it `Delete` and the name of the record: `DeleteNote`";
                let instead = self.reader.meant(name, self.records.names(), otherwise);
                self.refuse(format!("`{}` names no record to delete", self.method.name()), instead);
                return None;
            }
        };
        let mut parts = Parts::of(self.method.input());
        let id = self.required(&mut parts, "id", &Kind::String);
        let etag = if served.etag.is_some() { self.optional(&mut parts, "etag", &Kind::String) } else { None };
        self.nothing_else(&parts)?;
        Some((record, Shape::Delete { id: id?, etag }))
    }

    fn list(&mut self) -> Option<(usize, Shape)> {
        let mut answer = Parts::of(self.method.output());
        let mut lists = answer.left.iter().filter(|field| field.is_list() && field.kind().as_message().is_some());
        let (Some(items), None) = (lists.next().cloned(), lists.next()) else {
            let output = self.method.output();
            let what = format!("`{}` does not hold one list of records", output.name());
            let instead = "write `repeated Note notes = 1; string next_page_token = 2;`";
            self.refuse_at(&output.parent_file(), output.path(), what, instead);
            return None;
        };
        let items = answer.take(items.name())?;
        let (record, served) = self.known(items.kind().as_message()?)?;
        let next_page_token = self.required(&mut answer, "next_page_token", &Kind::String);
        let complete = self.nothing_else(&answer);

        let mut parts = Parts::of(self.method.input());
        let page_size = self.required(&mut parts, "page_size", &Kind::Int32);
        let page_token = self.required(&mut parts, "page_token", &Kind::String);
        let [org, project, filter] = self.which(&mut parts, served)?;
        let order_by = self.optional(&mut parts, "order_by", &Kind::String);
        self.nothing_else(&parts)?;
        complete?;
        let shape = Shape::List {
            org,
            project,
            filter,
            order_by,
            page_size: page_size?,
            page_token: page_token?,
            items,
            next_page_token: next_page_token?,
        };
        Some((record, shape))
    }

    /// The answer is a number, so that the method's name says what is counted: `CountNotes`.
    fn count(&mut self) -> Option<(usize, Shape)> {
        let package = self.method.parent_file().package_name().to_owned();
        let counted = self.method.name().strip_prefix("Count").unwrap_or_default();
        let (record, served) = match self.records.find_plural(&package, counted) {
            Some(Known::At(index)) => (index, self.records.get(index)?),
            Some(Known::Refused) => return None,
            None => {
                let instead = "call it `Count` and the plural of the record's name: `CountNotes`";
                self.refuse(format!("`{}` names no records to count", self.method.name()), instead);
                return None;
            }
        };
        let mut answer = Parts::of(self.method.output());
        let count = self.required(&mut answer, "count", &Kind::Int64);
        let complete = self.nothing_else(&answer);
        let mut parts = Parts::of(self.method.input());
        let [org, project, filter] = self.which(&mut parts, served)?;
        self.nothing_else(&parts)?;
        complete?;
        Some((record, Shape::Count { org, project, filter, count: count? }))
    }

    /// Each message of the answer says what became of one record, so that its parts are there whatever it says.
    fn watch(&mut self) -> Option<(usize, Shape)> {
        let mut answer = Parts::of(self.method.output());
        let is_message =
            |field: &&FieldDescriptor| !field.is_list() && !field.is_map() && field.kind().as_message().is_some();
        let mut records = answer.left.iter().filter(is_message);
        let (Some(item), None) = (records.next().cloned(), records.next()) else {
            let output = self.method.output();
            let what = format!("`{}` does not hold one record", output.name());
            let instead = "write `sys.policy.v1.WatchEvent event = 1; string id = 2; Note note = 3; \
                           string resume_token = 4;`";
            self.refuse_at(&output.parent_file(), output.path(), what, instead);
            return None;
        };
        let item = answer.take(item.name())?;
        let (record, served) = self.known(item.kind().as_message()?)?;
        let event = self.event(&mut answer);
        let id = self.required(&mut answer, "id", &Kind::String);
        let next_resume_token = self.required(&mut answer, "resume_token", &Kind::String);
        let complete = self.nothing_else(&answer);
        let mut parts = Parts::of(self.method.input());
        let resume_token = self.required(&mut parts, "resume_token", &Kind::String);
        let [org, project, filter] = self.which(&mut parts, served)?;
        self.nothing_else(&parts)?;
        complete?;
        let (event, id, resume_token) = (event?, id?, resume_token?);
        let next_resume_token = next_resume_token?;
        Some((record, Shape::Watch { org, project, filter, resume_token, event, id, item, next_resume_token }))
    }

    /// The field that says what happened: one enum for all contracts, so that clients need to know no other.
    fn event(&mut self, parts: &mut Parts) -> Option<FieldDescriptor> {
        let is_event = |field: &FieldDescriptor| {
            let kind = field.kind();
            let of = kind.as_enum();
            !field.is_list() && of.is_some_and(|of| of.full_name() == "sys.policy.v1.WatchEvent")
        };
        let field = parts.take("event").filter(is_event);
        if field.is_none() {
            let output = self.method.output();
            let what = format!("`{}` does not say what happened", output.name());
            let instead = "add `sys.policy.v1.WatchEvent event = …`";
            self.refuse_at(&output.parent_file(), output.path(), what, instead);
        }
        field
    }

    /// The fields that say which records are meant.
    fn which(&mut self, parts: &mut Parts, served: &Record) -> Option<[Option<FieldDescriptor>; 3]> {
        let org = match (served.home, &served.org) {
            (Home::Org, _) => Some(self.required(parts, "org_id", &Kind::String)?),
            (Home::Global, Some(_)) => self.optional(parts, "org_id", &Kind::String),
            (Home::Global, None) => None,
        };
        let project = served.project.as_ref().and_then(|_| self.optional(parts, "project_id", &Kind::String));
        let filter = self.optional(parts, "filter", &Kind::String);
        Some([org, project, filter])
    }

    /// The record that the method answers with.
    fn answered(&mut self) -> Option<(usize, &'a Record)> {
        let output = self.method.output();
        self.known(&output)
    }

    fn known(&mut self, message: &MessageDescriptor) -> Option<(usize, &'a Record)> {
        match self.records.find(message.full_name()) {
            Some(Known::At(index)) => Some((index, self.records.get(index)?)),
            Some(Known::Refused) => None,
            None => {
                let what = format!("`{}` is served, but `{}` is no record", self.method.name(), message.name());
                let instead = format!(
                    "answer with a record, or declare it one: `option (sys.policy.v1.record) = {{ … }};` in `{}`",
                    message.name()
                );
                self.refuse(what, instead);
                None
            }
        }
    }

    fn item(&mut self, parts: &mut Parts, served: &Record) -> Option<FieldDescriptor> {
        let wanted = served.message.full_name();
        let item = parts.left.iter().find(|field| is_message(field, wanted)).cloned();
        if item.is_none() {
            let (input, name) = (self.method.input(), served.message.name());
            let what = format!("`{}` holds no `{name}`", input.name());
            self.refuse_at(&input.parent_file(), input.path(), what, format!("add one field of type `{name}`"));
        }
        item.and_then(|item| parts.take(item.name()))
    }

    fn required(&mut self, parts: &mut Parts, name: &str, kind: &Kind) -> Option<FieldDescriptor> {
        let field = self.optional(parts, name, kind);
        if field.is_none() && !parts.had(name) {
            self.refuse(
                format!("`{}` has no field `{name}`", parts.message.name()),
                format!("add `{kind:?} {name} = …`"),
            );
        }
        field
    }

    fn optional(&mut self, parts: &mut Parts, name: &str, kind: &Kind) -> Option<FieldDescriptor> {
        let field = parts.take(name)?;
        if field.kind() != *kind || field.is_list() || field.is_map() {
            let what = format!("`{}.{name}` is not one {kind:?}", parts.message.name());
            self.refuse_at(&field.parent_file(), field.path(), what, format!("write `{kind:?} {name} = …`"));
            return None;
        }
        Some(field)
    }

    fn nothing_else(&mut self, parts: &Parts) -> Option<()> {
        let Some(extra) = parts.left.first() else { return Some(()) };
        let what = format!("`{}.{}` has no meaning in a served method", parts.message.name(), extra.name());
        let instead = "remove the field, or leave `serve` out and write a handler";
        self.refuse_at(&extra.parent_file(), extra.path(), what, instead);
        None
    }
}

/// The fields of a message that are not accounted for yet.
struct Parts {
    message: MessageDescriptor,
    left: Vec<FieldDescriptor>,
}

impl Parts {
    fn of(message: MessageDescriptor) -> Self {
        let left = message.fields().collect();
        Self { message, left }
    }

    fn take(&mut self, name: &str) -> Option<FieldDescriptor> {
        let at = self.left.iter().position(|field| field.name() == name)?;
        Some(self.left.remove(at))
    }

    fn had(&self, name: &str) -> bool {
        self.message.get_field_by_name(name).is_some()
    }
}

fn is_message(field: &FieldDescriptor, full_name: &str) -> bool {
    let kind = field.kind();
    let message = kind.as_message();
    !field.is_list() && !field.is_map() && message.is_some_and(|message| message.full_name() == full_name)
}
