//! The key hierarchy, sealing, and the key file.
//!
//! ```text
//! sealer (passphrase, …)  opens  master key  opens  tablespace key, one for each generation
//!                                                   and from it: data, index, page-token, etag and purpose keys
//! ```
//!
//! What lives here: every key of the server at rest and in memory. What must never happen here: a key that leaves as
//! bytes (callers get functions such as [`GenerationKeys::seal`], and a [`Secret`] only for a purpose that they name), a
//! key handed out before it is on disk, or an error that says more than its reader needs. The hierarchy and the format
//! of the key file are pure: entropy is an argument, files are touched in `key_file` and `private_file` alone. The key
//! file and the reasons for its shape stand in `docs/decisions/0003-keys.md`.

mod aead;
mod derivation;
pub mod deterministic;
mod entropy;
mod error;
#[doc(hidden)]
pub mod fuzzing;
mod hierarchy;
mod key_file;
mod keyring;
mod parts;
mod private_file;
mod sealer;
mod secret;
mod space;

pub use aead::{NONCE_BYTES, OpenError, TAG_BYTES};
pub use entropy::{Entropy, SystemEntropy};
pub use error::{KeyError, KeyFileError};
pub use keyring::Keyring;
pub use parts::length_prefixed;
pub use sealer::Unsealer;
pub use secret::{Secret, SecretBytes};
pub use space::{Generation, GenerationKeys, MESSAGE_BOUND, SpaceId, SpaceKeys, TOKEN_BYTES};
