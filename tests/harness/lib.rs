//! The harness of the integration tests: a real server on a free port over a store in a directory of its own, and a small
//! client that speaks Connect with JSON.
//!
//! What must never happen here: a sleep for a fixed time, or a way into the server that a stranger has not.

mod answer;
mod client;
mod mailbox;
mod people;
mod server;

pub use answer::Answer;
pub use client::{Client, Raw, frame, frames};
pub use mailbox::Mailbox;
pub use people::{Org, PASSWORD, Person, World, accept_only_invitation};
pub use server::{Options, TestServer, copy_of, eventually, workspace};
