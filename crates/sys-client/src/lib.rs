//! A client for any sys server.
//!
//! What lives here: where a server is ([`endpoint`]), calls to methods known only by their descriptors ([`channel`]),
//! errors as typed values ([`status`]), and a session that is kept in a file and refreshed unnoticed ([`session`],
//! [`client`]). What must never happen here: a token in a log, an error text or a `Debug` form, or a call in the clear to
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
pub mod session;
pub mod status;

pub use channel::Channel;
pub use client::{Client, ClientError};
pub use endpoint::{Endpoint, EndpointError};
pub use session::{Session, SessionError, SessionStore, Token};
pub use status::{CallError, FieldViolation, Refused};
pub use tonic::Code;
