//! DNSSEC: keys, signatures, denial, and how one key follows another.
//!
//! One key signs everything (a CSK, RFC 6781 section 3.1): ECDSA P-256 with SHA-256, algorithm 13. Names that do not exist are
//! denied by one NSEC that is made for the question (compact denial, RFC 9824), so nobody can walk the zone. What must never
//! happen here: a clock that is read, a key that leaves in any form but [`SigningKey::pkcs8`], or a step of a rollover that leaves a
//! resolver with a set that it kept and cannot validate. Why so: `docs/decisions/0029-own-zone.md`.

mod denial;
mod key;
mod rollover;
mod signature;

pub(crate) use denial::{NSEC, NXNAME, RRSIG, denial};
pub use key::{KeyError, SigningKey, SigningKeys};
pub(crate) use rollover::KEY_TTL_S;
pub use rollover::{Delegation, ParentDs, Rollover, RolloverError};
pub(crate) use signature::{Signed, Window, sign};
