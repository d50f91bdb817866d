//! What an update asks for, read from its mask and message alone, and how it is merged into a stored record. Pure.
//!
//! The mask follows AIP-134: paths; none, for the fields that are set; `*`, for all that the caller may write. The merge is
//! made on the stored message, so that what this server does not know survives. It is judged by its result: whatever field
//! differs afterwards must be one that the caller reads and writes, by whichever path or `oneof` it came to differ. Who does
//! not read all fields of a `oneof` changes none of them: whether he could would tell which one is set.

use crate::{canonical::same_field, refused::Refused, table::Table};
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage};
use sys_contract::unknown::drop_unknown;
use sys_policy::FieldSet;

/// Most paths of a mask: more than any record has fields.
const MAX_PATHS: usize = 256;
/// Most fields on the way of one path.
const MAX_DEPTH: usize = 8;

/// An update that can be asked for. Proves that its paths exist and that none names what only the server sets.
#[derive(Debug, Clone)]
pub struct Change {
    paths: Paths,
    new: DynamicMessage,
}

#[derive(Debug, Clone)]
enum Paths {
    /// The fields that are set in the message.
    Populated,
    /// `*`.
    All,
    /// Those that the mask names.
    Named(Vec<Path>),
}

/// A way into a message: the record's field, then fields of messages inside.
#[derive(Debug, Clone)]
struct Path {
    field: FieldDescriptor,
    inside: Vec<FieldDescriptor>,
}

impl Change {
    /// Reads a mask. `new` is a message of the table's type; its `id`, `etag` and other fields of the server are ignored.
    pub fn parse(table: &Table, mask: &[String], mut new: DynamicMessage) -> Result<Self, Refused> {
        if mask.len() > MAX_PATHS {
            return Err(Refused::invalid("update_mask", format!("it has more than {MAX_PATHS} paths")));
        }
        if new.descriptor() != table.record.message {
            return Err(Refused::invalid("update_mask", "the message is of another type"));
        }
        drop_unknown(&mut new);
        let paths = match mask {
            [] => Paths::Populated,
            [all] if all == "*" => Paths::All,
            named => Paths::Named(named.iter().map(|path| Path::parse(table, path)).collect::<Result<_, _>>()?),
        };
        Ok(Self { paths, new })
    }

    /// The stored record with the change made, if it touches nothing that the caller may not.
    pub(crate) fn merge(
        &self,
        table: &Table,
        stored: &DynamicMessage,
        hidden: &FieldSet,
        unwritable: &FieldSet,
    ) -> Result<DynamicMessage, Refused> {
        let mut next = stored.clone();
        match &self.paths {
            Paths::Named(paths) => {
                for path in paths {
                    // Not even to the value that it has: the answer would tell.
                    if hidden.contains(path.field.number()) {
                        return Err(Refused::denied(path.field.name()));
                    }
                    set(&mut next, &self.new, &path.field, &path.inside);
                }
            }
            Paths::Populated | Paths::All => self.merge_fields(table, hidden, unwritable, &mut next)?,
        }
        for field in &table.record.fields {
            let descriptor = &field.descriptor;
            let differs = |field: &FieldDescriptor| !same_field(stored, &next, field);
            if hidden.contains(descriptor.number()) && choice(descriptor).any(|field| differs(&field)) {
                return Err(Refused::denied(descriptor.name()));
            }
            if !differs(descriptor) {
                continue;
            }
            if unwritable.contains(descriptor.number()) {
                return Err(Refused::denied(descriptor.name()));
            }
            if is_fixed(table, descriptor) {
                return Err(Refused::invalid(descriptor.name(), "it cannot be changed once the record is made"));
            }
        }
        Ok(next)
    }

    /// Takes over whole fields: those that are set, and with `*` also the emptiness of those that the caller may write.
    fn merge_fields(
        &self,
        table: &Table,
        hidden: &FieldSet,
        unwritable: &FieldSet,
        next: &mut DynamicMessage,
    ) -> Result<(), Refused> {
        let clears = matches!(self.paths, Paths::All);
        for field in &table.record.fields {
            let descriptor = &field.descriptor;
            if is_of_server(table, descriptor) {
                continue;
            }
            let number = descriptor.number();
            if self.new.has_field(descriptor) {
                if hidden.contains(number) {
                    return Err(Refused::denied(descriptor.name()));
                }
                set(next, &self.new, descriptor, &[]);
            } else if clears
                && !choice(descriptor).any(|field| self.new.has_field(&field) || hidden.contains(field.number()))
                && !(unwritable.contains(number) || is_fixed(table, descriptor))
            {
                next.clear_field(descriptor);
            }
        }
        Ok(())
    }
}

impl Path {
    fn parse(table: &Table, text: &str) -> Result<Self, Refused> {
        let unknown =
            || Refused::invalid("update_mask", format!("`{}` has no such field", table.record.message.name()));
        let mut message: Option<MessageDescriptor> = Some(table.record.message.clone());
        let mut fields = Vec::new();
        for name in text.split('.') {
            let field = message.and_then(|message| message.get_field_by_name(name)).ok_or_else(unknown)?;
            if fields.len() == MAX_DEPTH {
                return Err(Refused::invalid("update_mask", format!("a path has more than {MAX_DEPTH} fields")));
            }
            message = match field.kind() {
                Kind::Message(message) if !field.is_list() && !field.is_map() => Some(message),
                _ => None,
            };
            fields.push(field);
        }
        let mut fields = fields.into_iter();
        let field = fields.next().ok_or_else(unknown)?;
        if is_of_server(table, &field) {
            return Err(Refused::invalid("update_mask", format!("`{}` is set by the server", field.name())));
        }
        Ok(Self { field, inside: fields.collect() })
    }
}

/// Makes the field at the end of a path in `to` what it is in `from`. What is unset on the way in `from` is empty; nothing is
/// made on the way in `to` only to be cleared.
fn set(to: &mut DynamicMessage, from: &DynamicMessage, field: &FieldDescriptor, inside: &[FieldDescriptor]) {
    match inside.split_first() {
        None if from.has_field(field) => to.set_field(field, from.get_field(field).into_owned()),
        None => to.clear_field(field),
        Some((next, rest)) => {
            if !from.has_field(field) && !to.has_field(field) {
                return;
            }
            let from = from.get_field(field);
            if let (Some(to), Some(from)) = (to.get_field_mut(field).as_message_mut(), from.as_message()) {
                set(to, from, next, rest);
            }
        }
    }
}

/// The fields of which one at most is set: those of its `oneof`, or the field alone.
fn choice(field: &FieldDescriptor) -> impl Iterator<Item = FieldDescriptor> {
    let siblings: Vec<_> = field.containing_oneof().map_or(vec![field.clone()], |oneof| oneof.fields().collect());
    siblings.into_iter()
}

/// Set by the server, whatever a request says.
pub(crate) fn is_of_server(table: &Table, field: &FieldDescriptor) -> bool {
    let declared = table.record.fields.iter().any(|f| f.output_only && f.descriptor == *field);
    declared || *field == table.record.id || table.record.etag.as_ref() == Some(field)
}

/// Set when the record is made and never again.
fn is_fixed(table: &Table, field: &FieldDescriptor) -> bool {
    let declared = table.record.fields.iter().any(|f| f.immutable && f.descriptor == *field);
    declared || is_of_server(table, field) || table.is_scope(field)
}
