//! A contract's descriptors as bytes: whole, or reduced to the methods that somebody may call.
//!
//! Options and comments stay: the CLI, reflection and the clients' guards are made from these bytes alone. They are edited
//! as dynamic messages, because prost's own descriptor types drop options that they do not know.

use crate::model::{Contract, Method};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, FileDescriptor, Kind, MessageDescriptor, ReflectMessage, Value};
use prost_types::FileDescriptorProto;
use std::collections::{BTreeSet, HashMap, HashSet};

/// Field numbers on the paths of source locations.
mod path {
    pub(super) const DEPENDENCY: i32 = 3;
    pub(super) const MESSAGE: i32 = 4;
    pub(super) const ENUM: i32 = 5;
    pub(super) const SERVICE: i32 = 6;
    pub(super) const METHOD: i32 = 2;
}

/// A `FileDescriptorSet` whose files are bytes already: messages and bytes look the same on the wire.
#[derive(Clone, PartialEq, Message)]
struct EncodedSet {
    #[prost(bytes = "vec", repeated, tag = "1")]
    file: Vec<Vec<u8>>,
}

impl Contract {
    /// All of its files and what they import, as an encoded `FileDescriptorSet` with options and comments.
    pub fn file_descriptor_set(&self) -> Vec<u8> {
        self.pool.encode_to_vec()
    }

    /// The `FileDescriptorSet` of the methods that `keep` picks, with their services and messages, the records that they
    /// are judged on, and the files that these need; imported before importing. `None` if no method is left.
    pub fn select(&self, keep: impl Fn(&Method) -> bool) -> Option<Vec<u8>> {
        let methods = self.services.iter().flat_map(|service| &service.methods);
        let selection = Selection::of(self, methods.filter(|method| keep(method)));
        if selection.files.is_empty() {
            return None;
        }
        let file = self.pool.files().filter_map(|file| selection.encode(&file)).collect();
        Some(EncodedSet { file }.encode_to_vec())
    }
}

/// What stays.
struct Selection {
    /// For each own file that stays, the paths of what stays in it: dependencies, messages, enums, services, methods.
    files: HashMap<String, BTreeSet<Vec<i32>>>,
    /// Imported files that stay, whole.
    imported: HashSet<String>,
}

impl Selection {
    fn of<'a>(contract: &Contract, methods: impl Iterator<Item = &'a Method>) -> Self {
        let own: HashSet<&str> = contract.files.iter().map(String::as_str).collect();
        let mut selection = Self { files: HashMap::new(), imported: HashSet::new() };
        let mut types = Types { open: Vec::new(), seen: HashSet::new(), found: Vec::new() };
        for method in methods {
            let descriptor = &method.descriptor;
            let file = descriptor.parent_file();
            selection.keep(&file, descriptor.parent_service().path());
            selection.keep(&file, descriptor.path());
            types.open(descriptor.input());
            types.open(descriptor.output());
            let target = method.target.as_ref().and_then(|target| contract.records.get(target.record));
            target.into_iter().for_each(|record| types.open(record.message.clone()));
        }
        types.follow();
        for (file, path) in types.found {
            if own.contains(file.name()) {
                selection.keep(&file, &path);
            } else {
                selection.imported.insert(file.name().to_owned());
            }
        }
        selection.keep_dependencies(&contract.pool, &own);
        selection
    }

    fn keep(&mut self, file: &FileDescriptor, path: &[i32]) {
        self.files.entry(file.name().to_owned()).or_default().insert(path.to_vec());
    }

    /// Imports of own files stay where something in them stays, and those that declare options, which may stand anywhere.
    fn keep_dependencies(&mut self, pool: &DescriptorPool, own: &HashSet<&str>) {
        let staying: Vec<FileDescriptor> = self.files.keys().filter_map(|name| pool.get_file_by_name(name)).collect();
        let mut open: Vec<FileDescriptor> = Vec::new();
        for file in staying {
            for (index, dependency) in (0_i32..).zip(file.dependencies()) {
                let name = dependency.name();
                let is_own = own.contains(name);
                let declares_options = !is_own && dependency.extensions().len() > 0;
                if declares_options || self.imported.contains(name) || is_own && self.files.contains_key(name) {
                    self.keep(&file, &[path::DEPENDENCY, index]);
                    open.extend(Some(dependency).filter(|_| !is_own));
                }
            }
        }
        self.imported.clear();
        while let Some(file) = open.pop() {
            if self.imported.insert(file.name().to_owned()) {
                open.extend(file.dependencies());
            }
        }
    }

    /// The file's bytes with only what stays, or nothing.
    fn encode(&self, file: &FileDescriptor) -> Option<Vec<u8>> {
        if self.imported.contains(file.name()) {
            return Some(file.encode_to_vec());
        }
        let kept = self.files.get(file.name())?;
        let bytes = file.encode_to_vec();
        let mut reduced = DynamicMessage::decode(FileDescriptorProto::default().descriptor(), bytes.as_slice()).ok()?;
        for (name, number) in [
            ("dependency", path::DEPENDENCY),
            ("message_type", path::MESSAGE),
            ("enum_type", path::ENUM),
            ("service", path::SERVICE),
        ] {
            if number == path::SERVICE {
                for (index, service) in (0_i32..).zip(list_mut(&mut reduced, name)) {
                    let methods = service.as_message_mut().map(|service| list_mut(service, "method"));
                    methods.into_iter().for_each(|methods| retain(methods, kept, &[number, index, path::METHOD]));
                }
            }
            retain(list_mut(&mut reduced, name), kept, &[number]);
        }
        let info = reduced.get_field_by_name_mut("source_code_info").and_then(Value::as_message_mut);
        if let Some(info) = info {
            list_mut(info, "location").retain_mut(|location| move_location(location, kept));
        }
        Some(reduced.encode_to_vec())
    }
}

fn list_mut<'a>(message: &'a mut DynamicMessage, field: &str) -> &'a mut Vec<Value> {
    let list = message.get_field_by_name_mut(field).and_then(Value::as_list_mut);
    #[allow(clippy::expect_used, reason = "INVARIANT: called with repeated fields of descriptor.proto alone")]
    list.expect("a repeated field of descriptor.proto")
}

/// Keeps the items of a list whose path stays.
fn retain(items: &mut Vec<Value>, kept: &BTreeSet<Vec<i32>>, parent: &[i32]) {
    let mut indexes = 0_i32..;
    items.retain(|_| indexes.next().is_some_and(|index| kept.contains(&[parent, &[index]].concat())));
}

/// Moves a source location to where its subject now stands; false if its subject is gone.
fn move_location(location: &mut Value, kept: &BTreeSet<Vec<i32>>) -> bool {
    let Some(location) = location.as_message_mut() else { return false };
    let steps = list_mut(location, "path");
    let old: Vec<i32> = steps.iter().filter_map(Value::as_i32).collect();
    let Some(new) = moved(&old, kept) else { return false };
    *steps = new.into_iter().map(Value::I32).collect();
    true
}

/// Where a path leads once what is not kept is gone.
fn moved(old: &[i32], kept: &BTreeSet<Vec<i32>>) -> Option<Vec<i32>> {
    let mut new = old.to_vec();
    let mut renumber = |length: usize| -> Option<()> {
        let end = old.get(..length)?;
        if !kept.contains(end) {
            return None;
        }
        let parent = end.get(..length - 1)?;
        let first = [parent, &[0]].concat();
        // What stays before it; what lies below its siblings is longer, and no sibling.
        let before = kept.range(first..end.to_vec()).filter(|path| path.len() == length).count();
        *new.get_mut(length - 1)? = i32::try_from(before).ok()?;
        Some(())
    };
    if let [path::DEPENDENCY | path::MESSAGE | path::ENUM | path::SERVICE, _, ..] = *old {
        renumber(2)?;
    }
    if let [path::SERVICE, _, path::METHOD, _, ..] = *old {
        renumber(4)?;
    }
    Some(new)
}

/// The types that messages are made of, by the top-level message or enum that declares them.
struct Types {
    open: Vec<MessageDescriptor>,
    seen: HashSet<String>,
    found: Vec<(FileDescriptor, Vec<i32>)>,
}

impl Types {
    fn open(&mut self, message: MessageDescriptor) {
        let mut top = message;
        while let Some(parent) = top.parent_message() {
            top = parent;
        }
        if self.seen.insert(top.full_name().to_owned()) {
            self.found.push((top.parent_file(), top.path().to_vec()));
            self.open.push(top);
        }
    }

    fn follow(&mut self) {
        while let Some(message) = self.open.pop() {
            // A top-level message stays whole, with all that is declared in it.
            self.open.extend(message.child_messages());
            for field in message.fields() {
                match field.kind() {
                    Kind::Message(message) => self.open(message),
                    Kind::Enum(values) => match values.parent_message() {
                        Some(parent) => self.open(parent),
                        None => self.found.push((values.parent_file(), values.path().to_vec())),
                    },
                    _ => {}
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Origin, SourceFile, comment_of, load};
    use proptest::prelude::*;

    const TYPES: &str = "syntax = \"proto3\"; package notes.v1;
        message Unused { Colour colour = 1; }
        // How it looks.
        enum Colour {
          COLOUR_UNSPECIFIED = 0;
          // Like snow.
          WHITE = 1;
        }
        message Outer { message Inner { Colour colour = 1; } }";
    const FIRST: &str = "syntax = \"proto3\"; package notes.v1;
        import \"google/protobuf/empty.proto\"; import \"notes/v1/unused.proto\"; import \"notes/v1/types.proto\";
        import \"google/protobuf/timestamp.proto\"; import \"sys/policy/v1/policy.proto\";
        message Gone { Nothing nothing = 1; }
        // What was asked.
        message Asked {
          // Since when.
          google.protobuf.Timestamp since = 1;
          Outer.Inner inner = 2;
        }
        // Says nothing.
        service QuietService {
          // Is silent.
          rpc Hush(google.protobuf.Empty) returns (google.protobuf.Empty) { option (sys.policy.v1.method_allow) = { public: true }; }
        }
        // Says much.
        service LoudService {
          // First of three.
          rpc One(Gone) returns (Gone) { option (sys.policy.v1.method_allow) = { public: true }; }
          // Second of three.
          rpc Two(Asked) returns (Asked) { option (sys.policy.v1.method_allow) = { signed_in: true when: \"now > now\" }; }
          // Third of three.
          rpc Three(google.protobuf.Empty) returns (Asked) { option (sys.policy.v1.method_allow) = { public: true }; }
        }";
    const UNUSED: &str = "syntax = \"proto3\"; package notes.v1; message Nothing {}";

    fn contract() -> Contract {
        let file = |path: &str, text: &str| SourceFile { path: path.to_owned(), text: text.to_owned() };
        let files = [
            file("notes/v1/types.proto", TYPES),
            file("notes/v1/first.proto", FIRST),
            file("notes/v1/unused.proto", UNUSED),
        ];
        load("mod-notes", Origin::Uploaded, &files).unwrap()
    }

    fn selected(keep: &[&str]) -> DescriptorPool {
        let bytes = contract().select(|method| keep.contains(&method.descriptor.name())).unwrap();
        DescriptorPool::decode(bytes.as_slice()).unwrap()
    }

    fn files(pool: &DescriptorPool) -> Vec<String> {
        pool.files().map(|file| file.name().to_owned()).collect()
    }

    #[test]
    fn the_whole_set_keeps_options_and_comments() {
        let contract = contract();
        let pool = DescriptorPool::decode(contract.file_descriptor_set().as_slice()).unwrap();
        assert_eq!(pool.encode_to_vec(), contract.file_descriptor_set());
        let one = pool.get_service_by_name("notes.v1.LoudService").unwrap().methods().next().unwrap();
        assert_eq!(comment_of(&one), "First of three.");
        let allow = pool.get_extension_by_name("sys.policy.v1.method_allow").unwrap();
        assert!(one.options().has_extension(&allow));
    }

    #[test]
    fn only_what_the_method_needs_is_left() {
        let pool = selected(&["Two"]);
        let mut names: Vec<_> = pool.all_messages().map(|message| message.full_name().to_owned()).collect();
        names.retain(|name| name.starts_with("notes"));
        assert_eq!(names, ["notes.v1.Outer", "notes.v1.Outer.Inner", "notes.v1.Asked"]);
        let methods: Vec<_> = pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()).collect();
        assert_eq!(methods.iter().map(|method| method.full_name()).collect::<Vec<_>>(), ["notes.v1.LoudService.Two"]);
        let files = files(&pool);
        assert!(!files.iter().any(|file| file.contains("empty") || file.contains("unused")), "{files:?}");
        assert!(files.iter().any(|file| file.contains("timestamp")), "{files:?}");
    }

    #[test]
    fn comments_and_options_stay_with_their_subject() {
        let pool = selected(&["Two", "Three"]);
        let service = pool.get_service_by_name("notes.v1.LoudService").unwrap();
        assert_eq!(comment_of(&service), "Says much.");
        let comments: Vec<_> = service.methods().map(|method| comment_of(&method)).collect();
        assert_eq!(comments, ["Second of three.", "Third of three."]);
        let asked = pool.get_message_by_name("notes.v1.Asked").unwrap();
        assert_eq!(comment_of(&asked), "What was asked.");
        assert_eq!(comment_of(&asked.get_field_by_name("since").unwrap()), "Since when.");
        let colour = pool.get_enum_by_name("notes.v1.Colour").unwrap();
        assert_eq!(comment_of(&colour), "How it looks.");
        assert_eq!(comment_of(&colour.get_value_by_name("WHITE").unwrap()), "Like snow.");
        let allow = pool.get_extension_by_name("sys.policy.v1.method_allow").unwrap();
        let options = service.methods().next().unwrap().options();
        assert!(options.get_extension(&allow).to_string().contains("now > now"));
        assert!(!files(&pool).iter().any(|file| file.contains("unused")));
    }

    #[test]
    fn the_record_that_calls_are_judged_on_stays() {
        let whole =
            include_str!("load/tests/whole.proto").replace("returns (Note) {\n", "returns (PublishNoteRequest) {\n");
        let file = SourceFile { path: "notes/v1/notes.proto".to_owned(), text: whole };
        let contract = load("mod-notes", Origin::Uploaded, &[file]).unwrap();
        let bytes = contract.select(|method| method.verb_name == "publish").unwrap();
        let pool = DescriptorPool::decode(bytes.as_slice()).unwrap();
        assert!(pool.get_message_by_name("notes.v1.Note").is_some());
        assert!(pool.get_message_by_name("notes.v1.ListNotesRequest").is_none());
    }

    #[test]
    fn nothing_selected_is_nothing() {
        assert_eq!(contract().select(|_| false), None);
    }

    proptest! {
        /// Whatever is picked decodes, holds exactly the picked methods, and each keeps its comment.
        #[test]
        fn any_selection_stands_by_itself(picked in proptest::collection::vec(any::<bool>(), 4)) {
            let contract = contract();
            let all: Vec<&Method> = contract.services.iter().flat_map(|service| &service.methods).collect();
            let kept: Vec<(String, String)> = all.iter().zip(&picked).filter(|(_, keep)| **keep)
                .map(|(method, _)| (method.descriptor.full_name().to_owned(), method.comment.clone())).collect();
            let bytes = contract.select(|method| kept.iter().any(|(name, _)| name == method.descriptor.full_name()));
            prop_assert_eq!(bytes.is_none(), kept.is_empty());
            if let Some(bytes) = bytes {
                let pool = DescriptorPool::decode(bytes.as_slice()).unwrap();
                let found: Vec<(String, String)> = pool.services().flat_map(|service| service.methods().collect::<Vec<_>>())
                    .map(|method| (method.full_name().to_owned(), comment_of(&method))).collect();
                prop_assert_eq!(found, kept);
            }
        }
    }
}
