//! The promises, each tested over the wire against a real server, and named after what must not happen.

mod accounts;
mod bad_input;
mod concurrency;
mod faults;
mod gate_attacks;
mod import;
mod matrix;
mod notes;
mod org_y;
mod orgs;
mod protocols;
mod publish;
mod rules;
