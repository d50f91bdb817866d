//! The contract compiled: descriptors, typed options, ids.
//!
//! What lives here: the reading of a module's `.proto` files into [`model::Contract`], with each refusal naming file, line
//! and what to write instead. What must never happen here: I/O, a clock, a random source, or a decision (those are made
//! in `sys-policy` from what stands here). Start at [`load`](mod@load).

pub mod breaking;
pub mod comments;
pub mod encoded;
pub mod id;
pub mod load;
pub mod model;
pub mod names;
mod options;
pub mod problem;
pub mod rpc;
mod select;
pub mod sizes;
pub mod trace_context;
pub mod unknown;
pub mod weakened;

pub use breaking::breaking_changes;
pub use comments::comment_of;
pub use load::{Origin, SourceFile, load};
pub use weakened::weakened;
