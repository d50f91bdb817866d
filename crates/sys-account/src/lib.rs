//! The built-in module: accounts, sessions, orgs, projects, memberships.
//!
//! It is RPC surface over sys-core's `Identity`, on the same module API as any other: [`module`] puts it together, and one
//! file for each service holds the handlers of the methods that have logic. Who may do what is decided by the contract in
//! `proto/sys/account/v1`, by the gate, and by `Identity`; what is decided here is what the parts say to each other.
//!
//! What must never happen here: an answer that tells whether an address has an account, a token or password anywhere but in
//! a mail to its owner or in the answer to who just proved himself, or a text for callers with an address in it.

pub mod account;
pub mod audit;
pub mod auth;
pub mod bootstrap;
pub mod deliver;
pub mod email;
pub mod image;
mod mail;
pub mod membership;
pub mod module;
pub mod org;
pub mod project;
mod request;
pub mod session;
pub mod wire;

pub use deliver::{Mailer, MailerError};
pub use module::{AccountModule, Settings};
