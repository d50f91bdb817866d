//! Field masks: what an update changes, and what it must leave alone.

use crate::{
    condition::Sample,
    input::{self, Bytes, parts},
    things::{THINGS, same_field, shown},
};
use prost_reflect::{DynamicMessage, FieldDescriptor};
use sys_policy::FieldSet;
use sys_store::fuzzing::updated;

/// What nobody changes once a thing is made: its id, and where it belongs.
const FIXED: [&str; 4] = ["id", "org_id", "project_id", "owner_id"];
/// Most fields on the way of one path.
const MAX_DEPTH: usize = 8;

/// A mask, the bytes of a stored thing and of what its caller may do, and the thing that is sent. Only what the mask names is
/// changed, and to what was sent; never what is fixed, hidden, or not to be written; and once more changes nothing.
pub(crate) fn mask(bytes: &[u8]) {
    let [mask, stored, new] = parts(bytes);
    let Some(mask) = input::text(mask) else { return };
    let paths: Vec<String> = mask.split(',').filter(|path| !path.is_empty()).map(str::to_owned).collect();
    let Ok(new) = DynamicMessage::decode(THINGS.message("Thing"), new) else { return };
    let mut stored = Bytes::new(stored);
    let (record, mut hidden) = Sample::new(&mut stored).view();
    let mut unwritable: FieldSet = [u32::from(stored.next() % 32)].into_iter().collect();
    // Whoever may not read a field does not see it in the record, either; here it is there.
    hidden = [u32::from(stored.next() % 32)].into_iter().chain(hidden.iter()).collect();
    unwritable = unwritable.iter().chain(hidden.iter()).collect();
    let update =
        |record: &DynamicMessage| updated(&THINGS.table, record, (&paths, new.clone()), (&hidden, &unwritable));
    let next = match update(&record) {
        Ok(next) => next,
        Err(refused) => return assert!(!refused.to_string().is_empty()),
    };
    for field in THINGS.message("Thing").fields().filter(|field| !same_field(&record, &next, field)) {
        assert!(!FIXED.contains(&field.name()), "`{mask}` changes `{}`", field.name());
        assert!(!hidden.contains(field.number()) && !unwritable.contains(field.number()), "{}", field.name());
        assert!(is_meant(&paths, &new, &field), "`{mask}` changes `{}` to {}", field.name(), shown(&next));
    }
    for path in paths.iter().filter(|path| *path != "*") {
        let Some(way) = way(path) else { panic!("`{path}` is no path, and was taken for one") };
        let is_choice = way.iter().any(|field| field.containing_oneof().is_some());
        assert!(is_choice || at(&next, &way, &new), "`{path}` of `{mask}` is not as it was sent: {}", shown(&next));
    }
    let again = update(&next).expect("the same again");
    let differs = THINGS.message("Thing").fields().any(|field| !same_field(&again, &next, &field));
    assert!(!differs, "`{mask}` changes something the second time: {} {}", shown(&next), shown(&again));
}

/// Whether a mask names a field, or one that excludes it.
fn is_meant(paths: &[String], new: &DynamicMessage, field: &FieldDescriptor) -> bool {
    let choice: Vec<FieldDescriptor> =
        field.containing_oneof().map_or(vec![field.clone()], |oneof| oneof.fields().collect());
    choice.iter().any(|field| match paths {
        [] => new.has_field(field),
        [all] if all == "*" => true,
        named => named.iter().any(|path| path.split('.').next() == Some(field.name())),
    })
}

/// The fields of a path, read by somebody else.
fn way(path: &str) -> Option<Vec<FieldDescriptor>> {
    let mut message = Some(THINGS.message("Thing"));
    let mut fields = Vec::new();
    for name in path.split('.') {
        let field = message?.fields().find(|field| field.name() == name)?;
        let is_one = !field.is_list() && !field.is_map();
        message = field.kind().as_message().filter(|_| is_one).cloned();
        fields.push(field);
    }
    (fields.len() <= MAX_DEPTH).then_some(fields)
}

/// Whether two messages have the same at the end of a way. What is unset on the way is empty.
fn at(a: &DynamicMessage, way: &[FieldDescriptor], b: &DynamicMessage) -> bool {
    match way {
        [] => true,
        [last] => same_field(a, b, last),
        [first, rest @ ..] => {
            let (a, b) = (a.get_field(first), b.get_field(first));
            a.as_message().zip(b.as_message()).is_some_and(|(a, b)| at(a, rest, b))
        }
    }
}
