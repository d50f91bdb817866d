//! Records: the messages that are stored, and the fields that place them.

use super::{
    Reader,
    grants::{self, Ground, On, Scope},
    is_sys, is_within,
};
use crate::{
    id::{AccountId, OrgId, ProjectId, SessionId},
    load::fields,
    model::{Field, Home, Record, Verb},
    names,
    options::{self, path},
    problem::Place,
};
use prost_reflect::{Cardinality, FieldDescriptor, Kind, MessageDescriptor};
use std::collections::{HashMap, HashSet};

/// Longest name of a table: it stands in the store's catalog and in the additional data of each sealed record.
const TABLE_NAME_MAX: usize = 63;
/// Prefixes of ids that mean the system's own records everywhere.
const OUR_PREFIXES: [&str; 4] = [AccountId::PREFIX, OrgId::PREFIX, ProjectId::PREFIX, SessionId::PREFIX];

/// The records that methods may name.
#[derive(Debug, Default)]
pub(super) struct Records {
    pub(super) loaded: Vec<Record>,
    /// One for each of them.
    scopes: Vec<Scope>,
    /// By full name: where it stands in `loaded`, or that it was refused already.
    known: HashMap<String, Known>,
}

/// What became of a message that says it is a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    At(usize),
    Refused,
}

impl Records {
    pub(super) fn find(&self, full_name: &str) -> Option<Known> {
        self.known.get(full_name).copied()
    }

    /// The record of a package whose name has this plural.
    pub(super) fn find_plural(&self, package: &str, plural: &str) -> Option<Known> {
        let is_meant = |full_name: &str| {
            let name = full_name.strip_prefix(package).and_then(|rest| rest.strip_prefix('.'));
            name.is_some_and(|name| names::plural_of(name) == plural)
        };
        // Of two such names the first: which one must not depend on the order of a map.
        self.known
            .iter()
            .filter(|(full_name, _)| is_meant(full_name))
            .min_by_key(|(name, _)| *name)
            .map(|(_, known)| *known)
    }

    pub(super) fn get(&self, index: usize) -> Option<&Record> {
        self.loaded.get(index)
    }

    /// What grants on the record are checked against.
    pub(super) fn scope(&self, index: usize) -> Option<&Scope> {
        self.scopes.get(index)
    }

    /// The names of all records, for hints.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.loaded.iter().map(|record| record.message.name())
    }
}

/// Reads all records of the module's files.
pub(super) fn read(reader: &mut Reader) -> Records {
    let mut records = Records::default();
    let mut tables: HashMap<String, String> = HashMap::new();
    let mut prefixes: HashMap<String, String> = HashMap::new();
    for path in reader.compiled.files.clone() {
        let Some(file) = reader.compiled.pool.get_file_by_name(&path) else { continue };
        for message in file.messages() {
            let place = reader.place(&path, message.path());
            let policy = reader.options.record(&message);
            let Some(policy) = reader.decoded(policy, &place) else {
                refuse_stray_rules(reader, &message);
                continue;
            };
            message.child_messages().for_each(|nested| refuse_nested(reader, &nested));
            let (record, scope) = Reading { reader, message: &message, policy: &policy, place: &place }.read();
            if let Some(record) = &record {
                records.scopes.push(scope);
                let name = message.full_name();
                refuse_taken(reader, &mut tables, &place, ("table", &record.table), name);
                refuse_taken(reader, &mut prefixes, &place, ("prefix of ids", &record.prefix), name);
            }
            let known = if record.is_some() { Known::At(records.loaded.len()) } else { Known::Refused };
            records.known.insert(message.full_name().to_owned(), known);
            records.loaded.extend(record);
        }
    }
    refuse_records_in_records(reader, &records);
    records
}

/// A record held inside another would be read and written by the rules of the outer one: its own would guard nothing.
fn refuse_records_in_records(reader: &mut Reader, records: &Records) {
    for record in &records.loaded {
        for field in record.message.fields() {
            let Kind::Message(held) = field.kind() else { continue };
            let mut seen = HashSet::new();
            let mut open = vec![held];
            while let Some(message) = open.pop() {
                if records.find(message.full_name()).is_some() {
                    let place = reader.place(field.parent_file().name(), field.path());
                    let what = format!("`{}` would hold the record `{}`", field.name(), message.name());
                    reader.refuse(&place, what, "hold its id: `string note_id = …`");
                    break;
                }
                if seen.insert(message.full_name().to_owned()) {
                    open.extend(message.fields().filter_map(|field| field.kind().as_message().cloned()));
                }
            }
        }
    }
}

fn refuse_taken(
    reader: &mut Reader,
    taken: &mut HashMap<String, String>,
    place: &Place,
    (what, name): (&str, &str),
    record: &str,
) {
    if let Some(first) = taken.get(name) {
        let text = format!("`{record}` and `{first}` have the same {what}, `{name}`");
        reader.refuse(place, text, "give one of them another name");
    } else {
        taken.insert(name.to_owned(), record.to_owned());
    }
}

/// Rules on a message that is no record would look like protection and be none.
fn refuse_stray_rules(reader: &mut Reader, message: &MessageDescriptor) {
    let file = message.parent_file();
    let place = reader.place(file.name(), message.path());
    let allow = reader.options.allow(message);
    if !reader.decoded(allow, &place).is_empty() {
        let place = reader.place(file.name(), &[message.path(), &[path::MESSAGE_OPTIONS, path::ALLOW, 0]].concat());
        let instead = "declare it one: `option (sys.policy.v1.record) = { table: \"…\" … };`";
        reader.refuse(&place, format!("a grant stands on `{}`, which is no record", message.name()), instead);
    }
    for field in message.fields() {
        let policy = reader.options.field(&field);
        if reader.decoded(policy, &place).is_some() {
            let place = reader.place(file.name(), &[field.path(), &[path::FIELD_OPTIONS, path::FIELD]].concat());
            let what = format!("a rule stands on a field of `{}`, which is no record", message.name());
            reader.refuse(&place, what, "move the rule to the field of a record, or declare the message one");
        }
    }
    message.child_messages().for_each(|nested| refuse_nested(reader, &nested));
}

fn refuse_nested(reader: &mut Reader, message: &MessageDescriptor) {
    let place = reader.place(message.parent_file().name(), message.path());
    let policy = reader.options.record(message);
    if reader.decoded(policy, &place).is_some() {
        reader.refuse(&place, "this record is declared inside another message", "declare it at the top of the file");
    }
    refuse_stray_rules(reader, message);
}

struct Reading<'a> {
    reader: &'a mut Reader,
    message: &'a MessageDescriptor,
    policy: &'a options::RecordPolicy,
    place: &'a Place,
}

impl Reading<'_> {
    /// The record, or nothing if not even its id is known. What else is wrong is refused, and the load fails.
    fn read(mut self) -> (Option<Record>, Scope) {
        let (message, place) = (self.message, self.place.clone());
        self.check_table();
        let prefix = names::id_prefix(message.name());
        if !self.reader.built_in && OUR_PREFIXES.contains(&prefix.as_str()) {
            let what = format!("ids that begin with `{prefix}_` are the system's own");
            self.refuse(what, format!("give the message another name than `{}`", message.name()));
        }
        let home = self.home();
        let scope = self.scope(home, &prefix);
        let id = self.id();
        let etag = message.get_field_by_name("etag");
        etag.iter().for_each(|etag| self.check_etag(etag));
        let fields = fields::read(self.reader, message, &scope);
        self.check_placing(&scope, id.as_ref(), &fields);
        let allow = self.allow(&scope);
        let record = id.map(|id| Record {
            message: message.clone(),
            prefix,
            comment: self.reader.compiled.places.comment(message.parent_file().name(), message.path()),
            table: self.policy.table.clone(),
            home,
            id,
            etag,
            org: scope.org.clone(),
            project: scope.project.clone(),
            owner: scope.owner.clone(),
            allow,
            fields,
            place,
        });
        (record, scope)
    }

    fn refuse(&mut self, what: impl Into<String>, instead: impl Into<String>) {
        let place = self.option_place();
        self.reader.refuse(&place, what, instead);
    }

    fn option_place(&self) -> Place {
        let at = [self.message.path(), &[path::MESSAGE_OPTIONS, path::RECORD]].concat();
        self.reader.place(self.message.parent_file().name(), &at)
    }

    fn field_place(&self, field: &FieldDescriptor) -> Place {
        self.reader.place(field.parent_file().name(), field.path())
    }

    fn check_table(&mut self) {
        let table = &self.policy.table;
        let letters = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_';
        let begins = table.starts_with(|letter: char| letter.is_ascii_lowercase());
        if !begins || table.len() > TABLE_NAME_MAX || !table.chars().all(letters) {
            let what = format!("`{table}` is no name of a table");
            let name = names::words(self.message.name()).join("_");
            self.refuse(what, format!("write one in snake_case, such as `table: \"{name}s\"`"));
        }
    }

    fn home(&mut self) -> Home {
        match options::Home::try_from(self.policy.home) {
            Ok(options::Home::Unspecified) => Home::Org,
            Ok(options::Home::Global) => {
                if !is_sys(self.message.package_name()) {
                    let instead = "leave `home` out: the record lives with its org, under the org's keys";
                    self.refuse("`home: GLOBAL` is kept for packages `sys.*`", instead);
                }
                Home::Global
            }
            Err(_) => {
                self.refuse("this home does not exist", "leave it out, or write GLOBAL in a package `sys.*`");
                Home::Org
            }
        }
    }

    fn scope(&mut self, home: Home, prefix: &str) -> Scope {
        let names = self.policy.scope.clone().unwrap_or_default();
        let org = self.scope_field("org", &names.org, (prefix, OrgId::PREFIX));
        let project = self.scope_field("project", &names.project, (prefix, ProjectId::PREFIX));
        let owner = self.scope_field("owner", &names.owner, (prefix, AccountId::PREFIX));
        if home == Home::Org && names.org.is_empty() {
            let instead = "name the field that holds the org's id: `scope: { org: \"org_id\" }`";
            self.refuse(format!("`{}` has no `scope.org`, and so no home", self.message.name()), instead);
        } else if org.is_none() && project.is_some() && names.org.is_empty() {
            let instead = "name the project's org, too: `scope: { org: \"org_id\" project: \"…\" }`";
            self.refuse("`scope.project` stands without `scope.org`", instead);
        }
        let named: Vec<&str> = [&org, &project, &owner].into_iter().flatten().map(FieldDescriptor::name).collect();
        let twice = named.iter().find(|name| named.iter().filter(|other| other == name).count() > 1);
        if let Some(name) = twice {
            self.refuse(format!("`{name}` is two scopes at once"), "name a field of its own for each");
        }
        Scope { record: self.message.name().to_owned(), home, names, org, project, owner }
    }

    /// The field of this name. `id` may place a record only if its ids are of the kind that the scope holds.
    fn scope_field(&mut self, part: &str, name: &str, (own, wanted): (&str, &str)) -> Option<FieldDescriptor> {
        if name.is_empty() {
            return None;
        }
        let Some(field) = self.message.get_field_by_name(name) else {
            let fields: Vec<String> = self.message.fields().map(|field| field.name().to_owned()).collect();
            let otherwise = format!("name a field of `{}`", self.message.name());
            let instead = self.reader.meant(name, fields.iter().map(String::as_str), &otherwise);
            self.refuse(format!("`scope.{part}`: `{}` has no field `{name}`", self.message.name()), instead);
            return None;
        };
        if name == "id" && own != wanted {
            let what = format!("`scope.{part}: \"id\"`, but ids of `{}` are `{own}_…`", self.message.name());
            self.refuse(what, format!("name a field that holds ids `{wanted}_…`"));
        }
        Some(field)
    }

    fn id(&mut self) -> Option<FieldDescriptor> {
        let Some(id) = self.message.get_field_by_name("id") else {
            let instead = "add `string id = …  [(sys.policy.v1.field) = { output_only: true }];`";
            let what = format!("`{}` has no field `id`", self.message.name());
            self.reader.refuse(self.place, what, instead);
            return None;
        };
        if !is_plain_text(&id) {
            let place = self.field_place(&id);
            self.reader.refuse(&place, "`id` is not a plain string", "write `string id = …`");
        }
        Some(id)
    }

    fn check_etag(&mut self, etag: &FieldDescriptor) {
        if !is_plain_text(etag) {
            let place = self.field_place(etag);
            self.reader.refuse(&place, "`etag` is not a plain string", "write `string etag = …`");
        }
    }

    /// Only the server sets `id` and `etag`, and nothing moves a record once it stands somewhere.
    fn check_placing(&mut self, scope: &Scope, id: Option<&FieldDescriptor>, fields: &[Field]) {
        for field in fields {
            let name = field.descriptor.name();
            let is = |other: &Option<FieldDescriptor>| other.as_ref().is_some_and(|other| other.name() == name);
            let set_by_server = id.is_some_and(|id| id.name() == name) || name == "etag";
            let places = is(&scope.org) || is(&scope.project) || is(&scope.owner);
            let place = self.field_place(&field.descriptor);
            if set_by_server && !field.output_only {
                let instead = "add `[(sys.policy.v1.field) = { output_only: true }]`";
                self.reader.refuse(&place, format!("`{name}` is set by the server alone"), instead);
            } else if places && !field.output_only && !field.immutable {
                let what = format!("`{name}` places the record, and could be changed");
                self.reader.refuse(&place, what, "add `[(sys.policy.v1.field) = { immutable: true }]`");
            }
            if places && !set_by_server && !is_plain_text(&field.descriptor) {
                let what = format!("`{name}` places the record, and is not a plain string");
                self.reader.refuse(&place, what, format!("write `string {name} = …`, without `optional`"));
            }
        }
    }

    fn allow(&mut self, scope: &Scope) -> Vec<crate::model::Grant> {
        let message = self.message;
        let file = message.parent_file();
        let written = self.reader.options.allow(message);
        let written = self.reader.decoded(written, self.place);
        if written.is_empty() && !is_behind_identity(self.reader, message) {
            let instead =
                "say who may do what: `option (sys.policy.v1.allow) = { verbs: [GET] role: USER at: PROJECT };`";
            let what = format!("record `{}` has no rule, so nobody can reach it", message.name());
            self.reader.refuse(self.place, what, instead);
        }
        let ground = Ground {
            on: On::Record,
            in_sys: is_sys(message.package_name()),
            scope: Some(scope),
            in_org: scope.home == Home::Org,
        };
        grants::read(self.reader, &ground, &written, |reader, index| {
            reader.place(file.name(), &[message.path(), &[path::MESSAGE_OPTIONS, path::ALLOW, index]].concat())
        })
    }
}

/// sys-core's own records stand behind its `Identity` handle: no method serves them, nothing else reaches them.
pub(super) fn is_behind_identity(reader: &Reader, message: &MessageDescriptor) -> bool {
    reader.built_in && is_within(message.package_name(), "sys.core")
}

/// A singular string that is never absent.
pub(super) fn is_plain_text(field: &FieldDescriptor) -> bool {
    field.kind() == Kind::String && field.cardinality() != Cardinality::Repeated && !field.supports_presence()
}

/// Whether some grant of the record opens the verb.
pub(super) fn opens(record: &Record, verb: Verb) -> bool {
    record.allow.iter().any(|grant| grant.verbs.contains(&verb.granted_as()))
}
