//! The fields of a record: who sets them, how they are searched, who reads and writes them.

use super::{
    Reader,
    grants::{self, Ground, On, Scope},
    is_sys,
};
use crate::{
    model::{Field, Home, Index, Within},
    options::{self, path},
    problem::Place,
};
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};

/// Reads all fields of a record, in the order of their numbers.
pub(super) fn read(reader: &mut Reader, message: &MessageDescriptor, scope: &Scope) -> Vec<Field> {
    let mut descriptors: Vec<FieldDescriptor> = message.fields().collect();
    descriptors.sort_by_key(FieldDescriptor::number);
    descriptors.into_iter().map(|descriptor| read_one(reader, descriptor, scope)).collect()
}

fn read_one(reader: &mut Reader, descriptor: FieldDescriptor, scope: &Scope) -> Field {
    let file = descriptor.parent_file();
    let options_path = [descriptor.path(), &[path::FIELD_OPTIONS, path::FIELD]].concat();
    let place = reader.place(file.name(), descriptor.path());
    let option_place = reader.place(file.name(), &options_path);
    let policy = reader.options.field(&descriptor);
    let policy = reader.decoded(policy, &place).unwrap_or_default();

    let index = FieldIndex { reader, descriptor: &descriptor, policy: &policy, scope, place: &option_place }.read();
    if policy.output_only && !policy.write.is_empty() {
        let instead = "leave `write` out, or `output_only`";
        reader.refuse(&option_place, "a write rule stands on a field that only the server sets", instead);
    }
    if matches!(descriptor.name(), "id" | "etag") && !policy.read.is_empty() {
        let what = format!("`{}` cannot be hidden from who reads the record", descriptor.name());
        reader.refuse(&option_place, what, "leave `read` out");
    }
    let package = descriptor.parent_message().package_name().to_owned();
    let ground =
        Ground { on: On::Field, in_sys: is_sys(&package), scope: Some(scope), in_org: scope.home == Home::Org };
    let mut grants = |written: &[options::Grant], number: i32| {
        grants::read(reader, &ground, written, |reader, index| {
            reader.place(file.name(), &[options_path.as_slice(), &[number, index]].concat())
        })
    };
    let read = grants(&policy.read, path::FIELD_READ);
    let write = grants(&policy.write, path::FIELD_WRITE);
    Field {
        output_only: policy.output_only,
        immutable: policy.immutable,
        index,
        personal: policy.personal.unwrap_or(is_personal(&descriptor)),
        read,
        write,
        place,
        descriptor,
    }
}

/// Texts, bytes and whatever holds some say something about a person unless the author says otherwise.
fn is_personal(field: &FieldDescriptor) -> bool {
    matches!(field.kind(), Kind::String | Kind::Bytes | Kind::Message(_))
}

fn is_time(message: &str) -> bool {
    matches!(message, "google.protobuf.Timestamp" | "google.protobuf.Duration")
}

struct FieldIndex<'a> {
    reader: &'a mut Reader,
    descriptor: &'a FieldDescriptor,
    policy: &'a options::FieldPolicy,
    scope: &'a Scope,
    place: &'a Place,
}

impl FieldIndex<'_> {
    fn read(mut self) -> Option<Index> {
        let written = options::Index::try_from(self.policy.index);
        if self.policy.within != 0 && written != Ok(options::Index::Unique) {
            self.refuse("`within` stands without `index: UNIQUE`", "add `index: UNIQUE`, or leave `within` out");
        }
        if self.policy.visible && written != Ok(options::Index::Ordered) {
            self.refuse(
                "`visible` stands without `index: ORDERED`",
                "leave `visible` out: nothing of this field shows",
            );
        }
        if self.policy.whole && written != Ok(options::Index::Search) {
            self.refuse("`whole` stands without `index: SEARCH`", "leave `whole` out, or write `index: SEARCH`");
        }
        let index = match written {
            Ok(options::Index::Unspecified) => return None,
            Ok(options::Index::Equal) => Index::Equal,
            Ok(options::Index::Unique) => Index::Unique { within: self.within()? },
            Ok(options::Index::Search) => Index::Search { whole: self.policy.whole },
            Ok(options::Index::Ordered) => {
                self.check_shown();
                Index::Ordered
            }
            Err(_) => {
                self.refuse("this index does not exist", "write EQUAL, UNIQUE, SEARCH or ORDERED");
                return None;
            }
        };
        self.check_type(index);
        Some(index)
    }

    fn refuse(&mut self, what: impl Into<String>, instead: impl Into<String>) {
        self.reader.refuse(self.place, what, instead);
    }

    fn within(&mut self) -> Option<Within> {
        let within = match options::Level::try_from(self.policy.within) {
            Ok(options::Level::Unspecified) if self.scope.home == Home::Global => Within::System,
            Ok(options::Level::Unspecified | options::Level::Org) => Within::Org,
            Ok(options::Level::System) => Within::System,
            Ok(options::Level::Project) => Within::Project,
            Ok(options::Level::Owner) => Within::Owner,
            Err(_) => {
                self.refuse("this level does not exist", "write ORG, PROJECT or OWNER");
                return None;
            }
        };
        let (name, missing) = match within {
            Within::System => ("", false),
            Within::Org => ("org", self.scope.org.is_none()),
            Within::Project => ("project", self.scope.project.is_none()),
            Within::Owner => ("owner", self.scope.owner.is_none()),
        };
        if missing {
            let what = format!("this is unique within the {name}, but `{}` has no `scope.{name}`", self.scope.record);
            self.refuse(what, format!("name the field in `scope: {{ {name}: \"…\" }}`, or choose another `within`"));
        }
        if within == Within::System && self.scope.home == Home::Org {
            let instead = "write `within: ORG`: an org must not learn what another holds";
            self.refuse("this is unique in the whole system, on a record at home in an org", instead);
        } else if within == Within::System && self.policy.reveals.trim().is_empty() {
            let instead = "say why that may be seen: `reveals: \"…\"`";
            self.refuse("a value unique beyond an org shows strangers that it is taken", instead);
        }
        Some(within)
    }

    /// An index that keeps order keeps the values themselves, for whoever reads the disk.
    fn check_shown(&mut self) {
        let personal = self.policy.personal.unwrap_or(is_personal(self.descriptor));
        if personal && !self.policy.visible {
            let what =
                format!("ORDERED shows the values of `{}` on disk, and they are personal", self.descriptor.name());
            let instead = "write `personal: false` if they say nothing about a person, `visible: true` if they may be \
                           seen all the same, or leave the index out: up to 10,000 records are ordered without one";
            self.refuse(what, instead);
        }
        if !self.policy.read.is_empty() {
            let what = format!("ORDERED stands on `{}`, which not everybody may read", self.descriptor.name());
            self.refuse(what, "leave the index out: it could order nothing for anybody");
        }
    }

    fn check_type(&mut self, index: Index) {
        let field = self.descriptor;
        if matches!(field.name(), "id" | "etag") {
            let what = format!("`{}` cannot have an index", field.name());
            self.refuse(what, "leave it out: a record is found by its id, and its etag is made when it is read");
            return;
        }
        let singular = !field.is_list() && !field.is_map();
        let fits = match (index, field.kind()) {
            (Index::Search { .. }, kind) => kind == Kind::String,
            (Index::Ordered, Kind::Bytes) => false,
            (Index::Ordered, Kind::Message(message)) => is_time(message.full_name()),
            (Index::Ordered, _) => true,
            (_, Kind::Float | Kind::Double | Kind::Message(_)) => false,
            (_, _) => true,
        };
        if !(singular && fits) {
            let (name, kinds) = match index {
                Index::Search { .. } => ("SEARCH", "one string"),
                Index::Ordered => ("ORDERED", "one string, bool, number, enum, Timestamp or Duration"),
                Index::Equal => ("EQUAL", "one string, bytes, bool, integer or enum"),
                Index::Unique { .. } => ("UNIQUE", "one string, bytes, bool, integer or enum"),
            };
            self.refuse(format!("{name} fits {kinds}; `{}` is something else", field.name()), "leave the index out");
        }
    }
}
