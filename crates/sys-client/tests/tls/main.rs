//! The client over TLS against a listener of our own: whom it believes, what it shows, and what nobody on the way sees.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "clippy.toml exempts test functions, not what they share"
)]

mod device;
mod hidden;
mod server;
mod trust;
