//! The harness of the integration tests: a real server on a free port over a store in a directory of its own, and a small
//! client that speaks Connect with JSON.
//!
//! What must never happen here: a sleep for a fixed time, or a way into the server that a stranger has not.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a harness is test code: a broken expectation fails the test that it serves"
)]

mod answer;
mod client;
mod golden;
mod mailbox;
mod people;
mod server;
mod snapshot;
mod streams;
mod tls;

pub use answer::Answer;
pub use client::{Client, Raw, frame, frames};
pub use golden::compare_golden;
pub use mailbox::Mailbox;
pub use people::{MANAGED_DOMAIN, Org, PASSWORD, Person, World, accept_only_invitation};
pub use server::{Options, TestServer, config, eventually, workspace};
pub use snapshot::Snapshot;
pub use streams::{Came, Form, Stream};
pub use tls::{Certificate, DOMAIN};
