//! The edge as browsers see it: real servers, real Chromium, real Firefox, and a wire on which every byte is written down.
//!
//! What must never happen here: a test that calls a name hidden because it did not look. Each capture is shown to see: the name that
//! stands for all is on it, and so is the true one wherever nothing hides it.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "test code: the setting for tests does not reach functions beside them"
)]

mod chromium;
mod firefox;
mod life;
mod native;
mod page;
mod pebble;
mod stage;
mod wire;
