//! The promises, each tested over the wire against a real server, and named after what must not happen.

mod bad_input;
mod faults;
mod notes;
