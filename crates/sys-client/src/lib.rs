//! A client for any sys server.
//!
//! What lives here: where a server is ([`endpoint`]) and what is known of it ([`servers`]), connections that are worth trust ([`tls`],
//! [`ech`]), calls to methods known only by their descriptors ([`channel`], [`stream`]), errors as typed values ([`status`]), and a
//! session that is kept ([`session_store`], [`keychain`]), bound to a key of this machine ([`device_key`]) and refreshed unnoticed
//! ([`client`]). What must never happen here: a token or key in a log, an error text or a `Debug` form, or a call in the clear to
//! another machine. Start reading at [`client`].

pub mod audit;
pub mod audit_text;
pub mod auth;
pub mod channel;
pub mod client;
pub mod descriptors;
pub mod device_key;
pub mod ech;
pub mod endpoint;
pub mod fingerprint;
#[doc(hidden)]
pub mod fuzzing;
pub mod heads;
pub mod keychain;
mod own_file;
pub mod servers;
pub mod session;
pub mod session_store;
pub mod status;
pub mod stream;
pub mod tls;

pub use channel::Channel;
pub use client::{Client, ClientError};
pub use device_key::{DeviceKey, DeviceKeyError};
pub use endpoint::{Endpoint, EndpointError};
pub use fingerprint::{Fingerprint, FingerprintError};
pub use keychain::{Keychain, KeychainError};
pub use servers::{KnownEch, KnownServer, KnownServers, Told};
pub use session::{Session, Token};
pub use session_store::{Place, SessionError, SessionStore, Wish};
pub use status::{CallError, FieldViolation, Refused};
pub use stream::Answers;
pub use tls::{Authority, Ech, Protection, TlsError};
pub use tonic::Code;
