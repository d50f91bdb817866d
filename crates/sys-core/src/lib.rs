//! The reference monitor: every call is identified, throttled, validated, authorized, confined to the caller's rows,
//! redacted and audited here, whichever module it is for.
//!
//! The way of a request stands in [`gate`]. A module sees [`module`] and [`call`] and nothing else; [`identity`] is handed
//! to one module at assembly. What must never happen here: a record reached without a [`call::Call`], a security
//! decision left to a module, or a value of a record in a log line.

pub mod audit;
pub mod call;
pub mod clock;
pub mod countries;
mod describe;
pub mod descriptors;
mod epoch;
#[doc(hidden)]
pub mod fuzzing;
pub mod gate;
pub mod host;
pub mod identity;
pub mod import;
pub mod metrics;
pub mod module;
pub mod monitor;
pub mod outbox;
pub mod password;
mod pruning;
pub mod records;
pub mod refusal;
pub mod throttle;
pub mod token;
pub mod trace;
mod validation;
pub mod vault;
mod wire;

pub use sys_keys::{Entropy, SystemEntropy};
