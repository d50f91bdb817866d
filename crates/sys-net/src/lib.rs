//! Who connects: what counts as one source, how many connections each has, and how they are accepted.
//!
//! Every listener and every limit by source stands on this, so that all of them mean the same by a source. What must never happen here: a byte of
//! a connection read or written, or any knowledge of what is spoken on it.

pub mod accept;
pub mod network;
pub mod sources;

pub use accept::{AcceptError, Acceptor};
pub use network::Network;
pub use sources::{Counted, Room, Sources};
