//! Assembly of the server: data directory, keys, store, monitor, modules, listener. No algorithm lives here.
//!
//! The binary parses its command line into a [`Config`]; the tests make one by themselves, so that both run the same server.

pub mod assemble;
pub mod bootstrap;
pub mod config_file;
mod data_dir;
pub mod doctor;
mod metrics;
pub mod modules;

pub use assemble::{Config, Mailing, Server};
