//! The promises, each tested over the wire against a real server, and named after what must not happen.

mod bad_input;
mod concurrency;
mod faults;
mod notes;
mod protocols;
mod rules;
