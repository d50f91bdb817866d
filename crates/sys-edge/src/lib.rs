//! Listeners: where bytes come in and requests come out.
//!
//! What lives here: accepting connections, telling HTTP/1.1 from HTTP/2 on one port, the limits of a connection and of its
//! source, the patience with a peer, not reading what cannot be answered in time, the check of the host that a request is
//! meant for, and the drain at the end. What must never happen here: a look at what a request says beyond its host, or any
//! knowledge of records, callers or rules; those begin in the service that [`Listener::serve`] is given. Start reading at [`listener`].

mod ahead;
pub mod congestion;
pub mod connection;
#[doc(hidden)]
pub mod fuzzing;
mod gathered;
pub mod host;
mod lanes;
pub mod limits;
pub mod listener;
mod metered;
mod patience;
mod sources;
mod tasks;

pub use ahead::Ahead;
pub use congestion::{Arrival, TurnedAway};
pub use connection::{Connection, Source};
pub use host::AllowedHosts;
pub use limits::Limits;
pub use listener::{Bind, BindError, Drained, Listener, ServeError};
