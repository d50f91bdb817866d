//! The organisation's own zone on the wire: what is in it, signed as it is asked for, and answered within bounds.
//!
//! What must never happen here: any knowledge of records, callers or rules, or an answer that is larger than what was asked with
//! allows.

pub mod answer;
mod cookie;
pub mod dnssec;
pub mod https;
mod limiter;
pub mod name;
pub mod query;
pub mod respond;
mod seldom;
pub mod serve;
mod siphash;
pub mod zone;
