//! TLS on real sockets, with clients that nobody here wrote: rustls, and BoringSSL where rustls cannot.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "clippy.toml exempts test functions, not what they share"
)]

mod clients;
mod ech;
mod hostile;
mod identities;
mod pages;
mod server;
mod settings;
