//! The account module behind the real gate, on a store in memory, called as a client calls it: JSON over the Connect protocol,
//! without a socket.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do"
)]

mod address;
mod bound;
mod harness;
mod import;
mod memberships;
mod orgs;
mod search;
mod sessions;
mod sign_in;
mod tokens;
mod unproven;
