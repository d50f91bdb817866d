//! Assembly of the server: data directory, keys, store, monitor, modules, listener. No algorithm lives here.
//!
//! The binary parses its command line into a [`Config`]; the tests make one by themselves, so that both run the same server.

pub mod assemble;
pub mod bootstrap;
pub mod config_file;
mod data_dir;
pub mod doctor;
pub mod edge;
pub mod import;
mod metrics;
pub mod modules;
mod ports;
mod sockets;
pub mod upkeep;

pub use assemble::{Config, Mailing, Server};
pub use edge::{EdgeConfig, Live};
pub use sockets::Sockets;

/// Calls take and give back much memory in small pieces, and passwords in large ones (docs/decisions/0020-allocator.md). Here and
/// not in the binary, so that tests and benchmarks run what is shipped.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
