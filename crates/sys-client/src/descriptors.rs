//! The descriptors of what a caller may call.

use crate::CallError;
use bytes::Bytes;
use prost::Message;
use prost_reflect::DescriptorPool;
use prost_types::FileDescriptorSet;

/// The method that serves them. Open to everybody; what it shows depends on the caller.
pub const GET_DESCRIPTORS: &str = "sys.core.v1.DescriptorService/GetDescriptors";

/// Modules whose descriptors are read; more are an error rather than a machine without memory.
pub const MAX_MODULES: usize = 256;

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
    DescriptorPool::decode(set).map_err(|error| DescriptorsError::Unreadable(error.into()))
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
    use prost_types::FileDescriptorProto;

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
}
