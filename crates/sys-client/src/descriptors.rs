//! The descriptors of what a caller may call.
//!
//! Their names become commands, flags and words of a shell, so none is taken from a server that is no name of protobuf: it could
//! steer a terminal, or look like what it is not.

use crate::CallError;
use bytes::Bytes;
use prost::Message;
use prost_reflect::DescriptorPool;
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet};

/// The method that serves them. Open to everybody; what it shows depends on the caller.
pub const GET_DESCRIPTORS: &str = "sys.core.v1.DescriptorService/GetDescriptors";

/// Modules whose descriptors are read; more are an error rather than a machine without memory.
pub const MAX_MODULES: usize = 256;
/// Letters of a name. Nobody writes longer ones, and help would be unreadable.
pub const MAX_NAME_BYTES: usize = 128;
/// Letters of the name of a package.
const MAX_PACKAGE_BYTES: usize = 512;

/// Reads the method's answer: one pool for each module. Pools are never merged: two modules may carry different versions
/// of one file.
pub(crate) fn read(answer: Bytes) -> Result<Vec<DescriptorPool>, CallError> {
    let malformed = |source| CallError::Malformed { path: GET_DESCRIPTORS.to_owned(), source };
    let answer = GetDescriptorsResponse::decode(answer).map_err(|error| malformed(error.into()))?;
    pools(&answer.file_descriptor_sets).map_err(|error| malformed(error.into()))
}

fn pools(sets: &[Vec<u8>]) -> Result<Vec<DescriptorPool>, DescriptorsError> {
    if sets.len() > MAX_MODULES {
        return Err(DescriptorsError::TooMany(sets.len()));
    }
    sets.iter().map(|set| pool(set)).collect()
}

/// The pool of one module, custom options included.
pub fn pool(set: &[u8]) -> Result<DescriptorPool, DescriptorsError> {
    let files = FileDescriptorSet::decode(set).map_err(|error| DescriptorsError::Unreadable(error.into()))?.file;
    // prost-reflect knows no editions and may panic on one, or on a syntax that is there and empty.
    let is_known = |syntax: Option<&str>| matches!(syntax, None | Some("proto2" | "proto3"));
    if let Some(file) = files.iter().find(|file| !is_known(file.syntax.as_deref())) {
        return Err(DescriptorsError::Syntax { file: file.name().to_owned(), syntax: file.syntax().to_owned() });
    }
    if !files.iter().all(has_names) {
        return Err(DescriptorsError::Name);
    }
    DescriptorPool::decode(set).map_err(|error| DescriptorsError::Unreadable(error.into()))
}

fn has_names(file: &FileDescriptorProto) -> bool {
    let package = file.package();
    let is_package = package.is_empty() || package.len() <= MAX_PACKAGE_BYTES && package.split('.').all(is_name);
    is_package
        && file.message_type.iter().all(message_has_names)
        && file.enum_type.iter().all(enum_has_names)
        && file.extension.iter().all(field_has_name)
        && file
            .service
            .iter()
            .all(|service| is_name(service.name()) && service.method.iter().all(|method| is_name(method.name())))
}

/// The decoder has bounded how deep messages nest.
fn message_has_names(message: &DescriptorProto) -> bool {
    is_name(message.name())
        && message.field.iter().chain(&message.extension).all(field_has_name)
        && message.oneof_decl.iter().all(|oneof| is_name(oneof.name()))
        && message.enum_type.iter().all(enum_has_names)
        && message.nested_type.iter().all(message_has_names)
}

fn enum_has_names(descriptor: &EnumDescriptorProto) -> bool {
    is_name(descriptor.name()) && descriptor.value.iter().all(|value| is_name(value.name()))
}

fn field_has_name(field: &FieldDescriptorProto) -> bool {
    is_name(field.name())
}

/// `ident` in the specification of Protocol Buffers, with an underscore where a letter may stand first, as compilers take it.
fn is_name(name: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    name.len() <= MAX_NAME_BYTES
        && name.bytes().next().is_some_and(is_letter)
        && name.bytes().all(|byte| is_letter(byte) || byte.is_ascii_digit())
}

/// Why descriptors cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DescriptorsError {
    /// No descriptors, or contradictory ones.
    #[error("the descriptors cannot be read")]
    Unreadable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A language that this version does not know.
    #[error("{file} is written in `{syntax}`, which this version does not read")]
    Syntax {
        /// The file.
        file: String,
        /// What it says.
        syntax: String,
    },
    /// Something in them is not called as the language allows.
    #[error("the descriptors hold a name that is none of protobuf")]
    Name,
    /// More modules than anybody has.
    #[error("{0} modules are more than {MAX_MODULES}")]
    TooMany(usize),
}

/// sys.core.v1.GetDescriptorsResponse.
#[derive(Clone, PartialEq, Message)]
struct GetDescriptorsResponse {
    #[prost(bytes = "vec", repeated, tag = "1")]
    file_descriptor_sets: Vec<Vec<u8>>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost_types::{EnumValueDescriptorProto, MethodDescriptorProto, OneofDescriptorProto, ServiceDescriptorProto};

    fn set(syntax: &str) -> Vec<u8> {
        let file = FileDescriptorProto {
            name: Some("a.proto".into()),
            syntax: Some(syntax.into()),
            ..FileDescriptorProto::default()
        };
        FileDescriptorSet { file: vec![file] }.encode_to_vec()
    }

    #[test]
    fn each_module_has_its_own_pool_and_unknown_syntax_is_refused() {
        assert_eq!(pools(&[set("proto3"), set("proto3")]).expect("two pools").len(), 2);
        for unknown in ["editions", ""] {
            assert!(matches!(pool(&set(unknown)), Err(DescriptorsError::Syntax { .. })));
        }
        assert!(matches!(pool(&[0xff; 9]), Err(DescriptorsError::Unreadable(_))));
        assert!(matches!(pools(&vec![Vec::new(); MAX_MODULES + 1]), Err(DescriptorsError::TooMany(_))));
    }

    /// A file in which everything that can have a name has this one.
    fn called(name: &str) -> FileDescriptorProto {
        let named = || Some(name.to_owned());
        let field = FieldDescriptorProto {
            name: named(),
            number: Some(1),
            r#type: Some(prost_types::field_descriptor_proto::Type::String.into()),
            oneof_index: Some(0),
            ..FieldDescriptorProto::default()
        };
        let value = EnumValueDescriptorProto { name: named(), number: Some(0), options: None };
        let one = EnumDescriptorProto { name: named(), value: vec![value], ..EnumDescriptorProto::default() };
        let inner = DescriptorProto {
            name: named(),
            field: vec![field],
            oneof_decl: vec![OneofDescriptorProto { name: named(), options: None }],
            enum_type: vec![one],
            ..DescriptorProto::default()
        };
        let method = MethodDescriptorProto { name: named(), ..MethodDescriptorProto::default() };
        FileDescriptorProto {
            package: named(),
            message_type: vec![DescriptorProto {
                nested_type: vec![inner],
                name: named(),
                ..DescriptorProto::default()
            }],
            service: vec![ServiceDescriptorProto { name: named(), method: vec![method], options: None }],
            ..FileDescriptorProto::default()
        }
    }

    /// The file with one of its names replaced, for each of them.
    fn each_renamed(name: &str) -> Vec<FileDescriptorProto> {
        let (good, bad) = (called("good"), called(name));
        let inner = |of: &FileDescriptorProto| of.message_type[0].nested_type[0].clone();
        let with = |inner: DescriptorProto| {
            let outer = DescriptorProto { nested_type: vec![inner], ..good.message_type[0].clone() };
            FileDescriptorProto { message_type: vec![outer], ..good.clone() }
        };
        let method = ServiceDescriptorProto { name: good.service[0].name.clone(), ..bad.service[0].clone() };
        let service = ServiceDescriptorProto { method: Vec::new(), ..bad.service[0].clone() };
        let own = inner(&good);
        let value = EnumDescriptorProto { name: own.enum_type[0].name.clone(), ..inner(&bad).enum_type[0].clone() };
        let of_enum = EnumDescriptorProto { value: Vec::new(), ..inner(&bad).enum_type[0].clone() };
        vec![
            FileDescriptorProto { package: bad.package.clone(), ..good.clone() },
            FileDescriptorProto { service: vec![method], ..good.clone() },
            FileDescriptorProto { service: vec![service], ..good.clone() },
            FileDescriptorProto { extension: inner(&bad).field, ..good.clone() },
            FileDescriptorProto { enum_type: vec![of_enum.clone()], ..good.clone() },
            with(DescriptorProto { name: bad.package.clone(), ..own.clone() }),
            with(DescriptorProto { field: inner(&bad).field, ..own.clone() }),
            with(DescriptorProto { extension: inner(&bad).field, ..own.clone() }),
            with(DescriptorProto { oneof_decl: inner(&bad).oneof_decl, ..own.clone() }),
            with(DescriptorProto { enum_type: vec![value], ..own.clone() }),
            with(DescriptorProto { enum_type: vec![of_enum], ..own }),
        ]
    }

    #[test]
    fn no_name_steers_a_terminal_or_a_shell() {
        let long = "x".repeat(MAX_NAME_BYTES + 1);
        for name in
            ["", "1st", "a b", "a-b", "a\u{1b}[2J", "a\nb", "$(reboot)", "nоte", "a\u{202e}b", ".", "a..b", &long]
        {
            for (place, file) in each_renamed(name).into_iter().enumerate() {
                // A file may be of no package.
                let set = FileDescriptorSet { file: vec![file] }.encode_to_vec();
                if !(name.is_empty() && place == 0) {
                    assert!(matches!(pool(&set), Err(DescriptorsError::Name)), "{name:?} at {place}");
                }
            }
        }
        for name in ["a", "_a1", "COLOUR_RED", &long[1..]] {
            assert!(each_renamed(name).iter().all(has_names), "{name}");
        }
        assert!(has_names(&FileDescriptorProto { package: Some("sys.core.v1".into()), ..called("a") }));
    }
}
