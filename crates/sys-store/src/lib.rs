//! The record store: protobuf messages as sealed, indexed records on a transactional ordered key-value engine, with the
//! rules of their contract applied inside each operation.
//!
//! From the bottom up: [`engine`] keeps bytes; `key`, `header` and `sealed` say where a record stands and what it looks
//! like there; `records` writes it with all its rows; [`Confined`] lets a caller do what the rules allow; [`Store`] loads
//! contracts and begins transactions. What must never happen here: a plaintext on its way to the engine, a row that is
//! not written with its record, an answer that follows from what its caller may not read. Decisions are made in
//! `sys-policy`, keys kept in `sys-keys`; here they are asked at the right moment.

#[cfg(test)]
mod bed;
pub mod check;
pub mod engine;

mod body;
mod build;
mod by_index;
mod candidates;
mod canonical;
mod catalog;
mod change;
mod confined;
mod cursor;
mod erasable;
#[cfg(test)]
mod faults;
#[doc(hidden)]
pub mod fuzzing;
mod header;
pub mod histogram;
mod import;
mod key;
mod list;
mod load;
mod note;
mod open;
mod ordered;
mod page;
mod prune;
mod records;
mod refused;
mod rows;
mod scope;
mod sealed;
mod shape;
mod sort;
mod store;
mod system;
mod table;
mod unruled;
mod view;
mod walked;
mod watch;

pub use catalog::CatalogError;
pub use change::Change;
pub use confined::{Confined, Permit, Written};
pub use erasable::{ErasableEntry, STUB_BYTES};
pub use header::HeaderError;
pub use import::{Import, Incoming, Put, Sealed};
pub use list::{ListRequest, MAX_COUNTED, MAX_PAGE_SIZE, MAX_SORTED, Page};
pub use open::Open;
pub use prune::Pruned;
pub use records::{MAX_RECORD_BYTES, Stored};
pub use refused::{LoadError, Refused, SealedError, StoreError};
pub use store::Store;
pub use system::{LogKind, MAX_ROW_NAME_BYTES, NamedRow, RowState, SystemKind};
pub use table::{Table, Tables};
pub use unruled::{Find, Unruled};
pub use view::View;
pub use walked::MAX_PAGE_BYTES;
pub use watch::{Batch, MAX_WATCHED, Moment, WATCH_BEAT_S, Watch, WatchEvent, WatchRequest};
