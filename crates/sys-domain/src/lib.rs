//! The built-in module for the organisation's domains: their zones, certificates and ECH keys, kept consistent by themselves.
//!
//! [`Domain`] is what the assembly starts. Inside, [`ech`], `own`, `entered`, `registrar` and `status` decide, as pure functions
//! of what is kept, what was done and the time; `keeper` carries it out, one step after the other; [`module`] is the RPC surface.
//! What people ask for reaches the keeper through the vault (`wishes`), so that it is done if and only if their call was allowed.
//!
//! What must never happen here: a key or certificate kept anywhere but in the vault of sys-core; a record published whose ECH key the
//! listener does not accept; a name that had a certificate and has none any more; or a decision about who may change the zone,
//! which the contract makes.

mod ask;
mod certificates;
mod challenges;
mod dns;
mod domain;
pub mod ech;
mod entered;
mod facts;
#[doc(hidden)]
pub mod fuzzing;
mod keeper;
mod kept;
pub mod module;
mod own;
mod registrar;
mod serial;
mod settings;
mod status;
mod tls;
mod vault;
pub mod wire;
mod wishes;

#[cfg(test)]
mod tests;

pub use domain::{Domain, DomainError, Drives};
pub use module::DomainModule;
pub use settings::{
    CertificateFiles, DEFAULT_ROTATION_S, EchSettings, MAX_PUBLIC_NAMES, MIN_ROTATION_S, Settings, SettingsError,
    ZoneSettings,
};
pub use sys_acme::{ExternalAccount, Settings as AcmeSettings};
