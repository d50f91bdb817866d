//! The pure part of the audit log: what the server that writes it and the client that doubts it must agree on.
//!
//! [`leaf`] is what an entry says and how it is hashed, [`connection`] what it says of how its call came, [`tree`] the Merkle tree over the hashes (RFC 6962), [`head`] what a
//! server signs of a tree and what a later head owes to an earlier one, [`check`] a whole log held against its head. No I/O, no
//! clock, no random source: a server keeps the log in `sys-core`, a client asks for it in `sys-client`.

pub mod check;
pub mod connection;
pub mod head;
pub mod leaf;
pub mod tree;

pub use check::{Checker, EntryFault};
pub use connection::{Connection, DeviceKey};
pub use head::{Distrust, Head, HeadKey, KeyRefused, SignedHead};
pub use leaf::Leaf;
pub use tree::Hash;
