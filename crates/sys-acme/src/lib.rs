//! Certificates by ACME (RFC 8555): orders, challenges, renewals; and a local CA for where no other can be had.
//!
//! [`Keeper`] keeps one certificate for each [`Wanted`] for ever: it orders, renews, and says in plain words what failed and what to do. When
//! is decided in [`plan`], a pure function; one try is [`order`]; what a directory may send us is bounded in [`http`] and [`directory`].
//!
//! What must never happen here: a private key in a log line, or any knowledge of records, callers or listeners: who asks for
//! certificates says where keys are kept ([`Kept`]) and how a challenge is shown ([`Challenges`]).

mod account;
mod certificate;
mod challenge;
mod clock;
mod directory;
mod failure;
mod http;
mod keeper;
mod kept;
mod local_ca;
mod name;
mod order;
mod plan;
mod settings;
mod source;
mod status;
mod unwanted;

#[cfg(test)]
mod fake;

pub use certificate::Certificate;
pub use challenge::{Challenge, ChallengeKind, Challenges, NotShown};
pub use clock::{AcmeClock, SystemClock};
pub use keeper::{AskError, Keeper, OnCertificate, StartError};
pub use kept::{Boxed, Kept, KeptError};
pub use local_ca::{LocalCa, LocalCaError};
pub use name::Wanted;
pub use settings::{ExternalAccount, LETS_ENCRYPT, Settings, SettingsError};
pub use status::{CertificateState, CertificateStatus, FailureReport, Revoking, TooEarly, TooEarlyWhy};
pub use unwanted::forget_unwanted;
