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

/// From now on this process's memory comes in pages of 4 KiB. The allocator asks for those of 2 MiB, of which all counts that a buffer
/// for a connection merely reserves: an idle one took half as much again (docs/decisions/0020-allocator.md). A kernel that knows
/// none is as good.
pub fn use_small_pages() {
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}
