//! The promises, each tested over the wire against a real server, and named after what must not happen.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "test code: the setting for tests does not reach functions beside them"
)]

mod accounts;
mod audit;
mod bad_input;
mod concurrency;
mod device_keys;
mod doctor;
mod faults;
mod gate_attacks;
mod import;
mod kills;
mod notes;
mod org_y;
mod orgs;
mod overload;
mod protocols;
mod publish;
mod rules;
mod sessions;
mod streams;
mod two_worlds;
