//! What redb's errors mean to the layers above.

use crate::engine::{Bounded, EngineError, MAX_VALUE_BYTES};
use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::Arc,
};

/// Any of redb's errors.
pub(super) fn engine_error(error: impl Into<redb::Error>) -> EngineError {
    match error.into() {
        redb::Error::Io(error) => io_error(error),
        redb::Error::Corrupted(what) => EngineError::Corrupt { what },
        redb::Error::DatabaseClosed => EngineError::Closed,
        redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => {
            EngineError::Locked { path: PathBuf::from("the store") }
        }
        redb::Error::ValueTooLarge(size) => {
            EngineError::TooLarge { what: Bounded::ValueBytes, size, limit: MAX_VALUE_BYTES }
        }
        error @ (redb::Error::PreviousIo | redb::Error::LockPoisoned(_) | redb::Error::TransactionPoisoned) => {
            EngineError::Failed { cause: error.to_string() }
        }
        // The rest says that the file is not one of ours, or that it is used as none of our code does.
        error => EngineError::Corrupt { what: error.to_string() },
    }
}

/// Does something with redb, which panics on pages that it has not written so. The sums of pages are not checked where they are
/// read, so that a damaged file gets that far; nothing that is used after it was left half done here.
pub(super) fn sound<T>(work: impl FnOnce() -> Result<T, EngineError>) -> Result<T, EngineError> {
    let damaged = |_| EngineError::Corrupt { what: "its pages contradict each other".to_owned() };
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(damaged(panic)))
}

/// An error of the operating system.
pub(super) fn io_error(error: io::Error) -> EngineError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => EngineError::Full,
        // What redb says of a file that is none of its own, and what the system says of one that was cut off.
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => EngineError::Corrupt { what: error.to_string() },
        _ => EngineError::Io(Arc::new(error)),
    }
}
