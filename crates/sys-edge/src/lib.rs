//! Listeners: where bytes come in and requests come out.
//!
//! What lives here: accepting connections, telling HTTP/1.1 from HTTP/2 on one port, the limits of a connection and of its
//! source, the patience with a peer, not reading what cannot be answered in time, the check of the host that a request is
//! meant for, and the drain at the end. Beside it, what goes with being reached by everybody: who is behind a proxy ([`proxy`]), the port
//! without TLS ([`plain`]), what browsers are told and which pages may call ([`hygiene`]), and sockets and signs of life between us and
//! systemd ([`inherited`], [`notify`]). What must never happen here: a look at what a request says beyond its host and the website that it
//! comes from, or any knowledge of records, callers or rules; those begin in the service that [`Listener::serve`] is given. Start
//! reading at [`listener`].

mod ahead;
mod answers;
pub mod congestion;
pub mod connection;
pub mod dot;
pub mod ech;
#[doc(hidden)]
pub mod fuzzing;
mod gathered;
pub mod host;
pub mod hygiene;
pub mod inherited;
mod landing;
mod lanes;
pub mod limits;
pub mod listener;
mod metered;
mod noise;
pub mod notify;
mod opened;
mod patience;
pub mod plain;
pub mod proxy;
mod speak;
mod tasks;
pub mod tls;

pub use ahead::Ahead;
pub use congestion::{Arrival, TurnedAway};
pub use connection::{Connection, Source};
pub use host::AllowedHosts;
pub use limits::Limits;
pub use listener::{Bind, BindError, Drained, Listener, ServeError};
pub use proxy::ProxySources;
