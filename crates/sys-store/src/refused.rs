//! Why an operation on records was refused, and why the store could not serve it.

use crate::{
    catalog::CatalogError,
    engine::{CommitError, EngineError},
    header::HeaderError,
};
use sys_contract::{id::RecordId, problem::Problems};
use sys_keys::{KeyError, SpaceId};

/// Why an operation on records was refused. What a caller learns from it follows from his rights alone.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// Absent, or hidden from this caller, whatever he wanted to do with it: the two answer alike.
    #[error("no such record")]
    NotFound,
    /// The caller may see the record but not do this to it, or to the field.
    #[error("not allowed{}", field.as_deref().map(|field| format!(" on `{field}`")).unwrap_or_default())]
    Denied {
        /// The field that he may not write, where it is one field.
        field: Option<String>,
    },
    /// The request is wrong.
    #[error("{field}: {what}")]
    Invalid {
        /// The path of the field at fault, from the record or the list request.
        field: String,
        /// What is wrong and what to write instead. Never the value.
        what: String,
    },
    /// The record is no longer as the caller last saw it.
    #[error("the record was changed meanwhile: read it again")]
    EtagMismatch,
    /// Another record has the value of a UNIQUE field.
    #[error("`{field}` is taken")]
    Taken {
        /// The field.
        field: String,
    },
    /// The page token is forged, of another server, caller or query, or under a key that is gone.
    #[error("the page token does not belong to this list: begin with the first page")]
    PageToken,
    /// The resume token is forged, of another server, caller or request, or under a key that is gone.
    #[error("the resume token does not belong to this watch: leave it out to begin anew")]
    ResumeToken,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Refused {
    pub(crate) fn invalid(field: impl Into<String>, what: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), what: what.into() }
    }

    pub(crate) fn denied(field: &str) -> Self {
        Self::Denied { field: Some(field.to_owned()) }
    }
}

/// Why the store could not serve an operation. Nothing in it is for callers.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The engine failed.
    #[error("the engine failed")]
    Engine(#[from] EngineError),
    /// The keys could not be had.
    #[error("the keys failed")]
    Keys(#[from] KeyError),
    /// A tablespace has rows, and the key file has no keys for it: it is an older copy. New keys would begin with a
    /// generation that was there already, and what is under the older one could never be told from it.
    #[error(
        "the store has rows of tablespace {space:?}, and the key file has no keys for it: the key file is an older copy; put \
         the newest one back"
    )]
    KeysMissing {
        /// The tablespace.
        space: SpaceId,
    },
    /// The first row of the store does not open: the key file is of another store, or that row is damaged.
    #[error(
        "the key file is not the one that this store was made with, or the store is damaged: put back the two that belong \
         together"
    )]
    OtherKeys,
    /// A transaction of the store itself could not be committed.
    #[error("the store's own transaction was not committed")]
    Commit(#[from] CommitError),
    /// A stored value does not open: it is damaged, was put there from elsewhere, or the key file is of other data.
    #[error("a stored value of `{table}` does not open: {cause}")]
    Sealed {
        /// The table.
        table: String,
        /// Why.
        cause: SealedError,
    },
    /// A stored record names no scope that can be read.
    #[error("a stored record of `{table}` has no valid scope: {what}")]
    Scope {
        /// The table.
        table: String,
        /// Which.
        what: String,
    },
    /// An index leads to a record that is not there.
    #[error("an index of `{table}` names the record {id:?}, which is not there")]
    Dangling {
        /// The table.
        table: String,
        /// The record.
        id: RecordId,
    },
    /// A note of a change cannot be read.
    #[error("a note of a change of `{table}` cannot be read")]
    Note {
        /// The table.
        table: String,
    },
    /// The contract was loaded anew while this call ran: run it again with the new one.
    #[error("module `{module}` was loaded anew meanwhile")]
    Superseded {
        /// The module.
        module: String,
    },
    /// A permit was used for another record type, caller, verb or transaction than it was minted for.
    #[error("a permit was used for what it was not minted for")]
    ForeignPermit,
    /// A message was given that is not of the table's type.
    #[error("`{got}` is no record of `{table}`")]
    ForeignMessage {
        /// The table.
        table: String,
        /// The message's full name.
        got: String,
    },
    /// An id was drawn that is in use: the source of randomness repeats itself.
    #[error("a new id is in use already")]
    IdInUse,
    /// Records with a scope cannot be created before [`crate::Store::set_directory`].
    #[error("the store does not know where orgs and projects stand")]
    NoDirectory,
    /// [`crate::Store::set_directory`] was called twice.
    #[error("the store knows already where orgs and projects stand")]
    DirectoryTwice,
    /// The store's own rows cannot be read, or are of a newer server.
    #[error("the catalog cannot be read: {what}")]
    Catalog {
        /// What was found.
        what: String,
    },
    /// A name in the store's own rows is longer than a key takes.
    #[error("the name of a system row has {bytes} bytes, and may have {limit} at most")]
    RowName {
        /// Its length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
}

/// Why a sealed value does not open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealedError {
    /// No header.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// Its keys are not in the key file.
    #[error("key generation {0} is not in the key file")]
    Generation(u32),
    /// Damaged, or sealed for another place.
    #[error("it is damaged, or was sealed for another place")]
    Forged,
    /// What was sealed is no message of the type.
    #[error("it holds no message of its type")]
    Message,
}

/// Why a contract was not loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The contract breaks what is stored under an older version of it.
    #[error("the contract breaks what is stored:\n{0}")]
    Breaking(Problems),
    /// It does not fit the catalog.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// A package of another module, whose records are stored under that one's name.
    #[error(
        "the package `{package}` belongs to the module `{module}`, under which the store keeps it: give the folder that name, \
         or the package another"
    )]
    Owned {
        /// The package.
        package: String,
        /// The module that brought it first.
        module: String,
    },
    /// A field was made UNIQUE, but stored records share a value.
    #[error("`{table}`.`{field}` cannot become UNIQUE: two stored records have the same value")]
    NotUnique {
        /// The table.
        table: String,
        /// The field.
        field: String,
    },
    /// A stored value cannot be indexed.
    #[error("`{table}`.`{field}` cannot be indexed: {what}")]
    NotIndexable {
        /// The table.
        table: String,
        /// The field.
        field: String,
        /// Why.
        what: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<EngineError> for Refused {
    fn from(error: EngineError) -> Self {
        Self::Store(error.into())
    }
}

impl From<KeyError> for Refused {
    fn from(error: KeyError) -> Self {
        Self::Store(error.into())
    }
}
