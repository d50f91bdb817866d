//! The comments that an author wrote above (or behind) what he declared: help texts and docs are made from them.

use prost_reflect::{
    EnumDescriptor, EnumValueDescriptor, FieldDescriptor, FileDescriptor, MessageDescriptor, MethodDescriptor,
    ServiceDescriptor,
};
use prost_types::source_code_info::Location;

/// What is declared in a file, and so can have a comment.
pub trait Declared {
    /// The file that declares it.
    fn file(&self) -> FileDescriptor;
    /// Its path in the file's descriptor, as in `SourceCodeInfo.Location.path`.
    fn path_in_file(&self) -> &[i32];
}

macro_rules! declared {
    ($($descriptor:ty),*) => {$(
        impl Declared for $descriptor {
            fn file(&self) -> FileDescriptor {
                self.parent_file()
            }

            fn path_in_file(&self) -> &[i32] {
                self.path()
            }
        }
    )*};
}

declared!(ServiceDescriptor, MethodDescriptor, MessageDescriptor, FieldDescriptor, EnumDescriptor, EnumValueDescriptor);

/// The comment above a declaration, else the one behind it, without comment signs; empty where there is none.
pub fn comment_of(descriptor: &impl Declared) -> String {
    let file = descriptor.file();
    let info = file.file_descriptor_proto().source_code_info.as_ref();
    let location =
        info.and_then(|info| info.location.iter().find(|location| location.path == descriptor.path_in_file()));
    location.map(comment_at).unwrap_or_default()
}

/// The comment of a location in a file's source info.
pub(crate) fn comment_at(location: &Location) -> String {
    let text = location.leading_comments.as_deref().or(location.trailing_comments.as_deref()).unwrap_or_default();
    // One blank belongs to the comment sign; more of them are the author's.
    let lines: Vec<&str> = text.lines().map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end()).collect();
    lines.join("\n").trim().to_owned()
}
