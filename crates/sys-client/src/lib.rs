//! A client for any sys server.
//!
//! What lives here: where a server is ([`endpoint`]), calls to methods known only by their descriptors ([`channel`],
//! [`stream`]), errors as typed values ([`status`]), and a session that is kept ([`session_store`], [`keychain`]) and refreshed
//! unnoticed ([`client`]). What must never happen here: a token in a log, an error text or a `Debug` form, or a call in the clear to
//! another machine. Start reading at [`client`].

pub mod audit;
pub mod audit_text;
pub mod auth;
pub mod channel;
pub mod client;
pub mod descriptors;
pub mod endpoint;
#[doc(hidden)]
pub mod fuzzing;
pub mod heads;
pub mod keychain;
pub mod session;
pub mod session_store;
pub mod status;
pub mod stream;

pub use channel::Channel;
pub use client::{Client, ClientError};
pub use endpoint::{Endpoint, EndpointError};
pub use keychain::{Keychain, KeychainError};
pub use session::{Session, Token};
pub use session_store::{Place, SessionError, SessionStore, Wish};
pub use status::{CallError, FieldViolation, Refused};
pub use stream::Answers;
pub use tonic::Code;
