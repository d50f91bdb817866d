//! The record layer from outside, on each engine: what a caller sees, what stands on disk, what two transactions may do.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "all of this is a test"
)]

mod conflicts;
mod doctor;
mod evolution;
mod harness;
mod import;
mod interference;
mod model;
mod ordered;
mod pages;
mod reads;
mod sealed;
mod search;
mod system;
mod two_worlds;
mod unique;
mod updates;
mod watch;
