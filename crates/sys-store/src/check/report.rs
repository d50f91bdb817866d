//! What a check found: counts, and some places by name.

use std::collections::BTreeMap;

/// What can be wrong with a store, or worth knowing. Each has a stable name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// A tablespace holds rows, and the key file has no keys for it.
    KeysMissing,
    /// The catalog cannot be read, or contradicts what is kept of a contract.
    Catalog,
    /// A record is damaged, or was sealed for another place.
    RecordForged,
    /// A record is under a key generation that the key file does not have.
    RecordGeneration,
    /// A record names no valid scope.
    RecordScope,
    /// A record's own scope says that it belongs into another tablespace.
    RecordHome,
    /// A record is older than the last change of it that was noted: somebody put an older value back.
    RecordOutdated,
    /// A record that was written last is gone without a deletion.
    RecordLost,
    /// A row of the server itself does not open.
    SystemRowForged,
    /// An entry of a log does not open.
    LogEntryForged,
    /// Entries of a log are missing between two others.
    LogGap,
    /// The last change of a record was not noted.
    ChangeMissing,
    /// A note of a change cannot be read.
    ChangeMalformed,
    /// A record is not found by an index or scope.
    IndexMissing,
    /// An index or scope names a record that is not there, or that it should not name.
    IndexStray,
    /// Two records share a value that is UNIQUE.
    NotUnique,
    /// A key that no part of the store writes, or of a module or table that the catalog does not know.
    UnknownKey,
    /// Worth knowing: a tablespace has keys and no rows. Lawful after a first write that was cut off; also what a data file
    /// looks like that is older than the key file.
    KeysUnused,
    /// Worth knowing: an index is not judged, since its contract must be loaded to build it, or to remove what is left of it.
    IndexUnsettled,
    /// Worth knowing: there are more deletions than are remembered, so that records which are lost may not be among the findings.
    ChangesUnjudged,
    /// Worth knowing: a log does not begin with its first entry.
    LogBegins,
}

impl Fault {
    /// Its name: the same for good, for scripts.
    pub const fn name(self) -> &'static str {
        match self {
            Self::KeysMissing => "keys_missing",
            Self::Catalog => "catalog",
            Self::RecordForged => "record_forged",
            Self::RecordGeneration => "record_generation",
            Self::RecordScope => "record_scope",
            Self::RecordHome => "record_home",
            Self::RecordOutdated => "record_outdated",
            Self::RecordLost => "record_lost",
            Self::SystemRowForged => "system_row_forged",
            Self::LogEntryForged => "log_entry_forged",
            Self::LogGap => "log_gap",
            Self::ChangeMissing => "change_missing",
            Self::ChangeMalformed => "change_malformed",
            Self::IndexMissing => "index_missing",
            Self::IndexStray => "index_stray",
            Self::NotUnique => "not_unique",
            Self::UnknownKey => "unknown_key",
            Self::KeysUnused => "keys_unused",
            Self::IndexUnsettled => "index_unsettled",
            Self::ChangesUnjudged => "changes_unjudged",
            Self::LogBegins => "log_begins",
        }
    }

    /// What it means and what to do.
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::KeysMissing => "the key file is an older copy: put the newest one back",
            Self::Catalog => "restore a backup: without the catalog nobody knows what the rows are",
            Self::RecordForged => "the file was damaged or changed by somebody: restore these records from a backup",
            Self::RecordGeneration => "the key file is an older copy: put the newest one back",
            Self::RecordScope | Self::RecordHome => "a fault of the server that wrote it: restore these records",
            Self::RecordOutdated => "an older value was put back into the file: restore these records from a backup",
            Self::RecordLost => "a record was taken out of the file: restore it from a backup",
            Self::SystemRowForged => "the file was damaged or changed by somebody: restore a backup",
            Self::LogEntryForged | Self::LogGap => {
                "the log was changed in the file: hold it against a copy of its head"
            }
            Self::ChangeMissing | Self::ChangeMalformed => {
                "an incremental backup would leave these records out: make a full one"
            }
            Self::IndexMissing | Self::IndexStray => "run it again with --repair: indexes are made anew from records",
            Self::NotUnique => "change one of the two records",
            Self::UnknownKey => "a later server wrote it, or nobody did: start the newest server that ran here",
            Self::KeysUnused => "nothing, unless the data file was put back from an older copy",
            Self::IndexUnsettled => "nothing: start the server with this module, which finishes it",
            Self::ChangesUnjudged => "nothing: lost records of these are found by a rehearsed restore alone",
            Self::LogBegins => "nothing, if older entries were removed on purpose",
        }
    }

    /// Whether the store is not as it should be; if not, it is worth knowing alone.
    pub const fn is_problem(self) -> bool {
        !matches!(self, Self::KeysUnused | Self::IndexUnsettled | Self::ChangesUnjudged | Self::LogBegins)
    }
}

/// How often a fault was found, and where first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// How often.
    pub count: u64,
    /// Some of the places: names and ids, never values.
    pub first: Vec<String>,
}

/// How much was looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// Tablespaces with rows.
    pub tablespaces: u64,
    /// Records of contracts.
    pub records: u64,
    /// Rows of indexes and scopes.
    pub index_rows: u64,
    /// Rows of the server itself.
    pub system_rows: u64,
    /// Entries of logs.
    pub log_entries: u64,
    /// Notes of changes.
    pub changes: u64,
}

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// How much was looked at.
    pub seen: Seen,
    /// What was found, by kind.
    pub found: BTreeMap<Fault, Found>,
    /// Index rows that a repair wrote.
    pub rows_written: u64,
    /// Index rows that a repair removed.
    pub rows_removed: u64,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        !self.found.keys().any(|fault| fault.is_problem())
    }

    /// How often a fault was found.
    pub fn count(&self, fault: Fault) -> u64 {
        self.found.get(&fault).map_or(0, |found| found.count)
    }

    /// Counts a fault, and names its place while fewer than `named` are.
    pub(crate) fn add(&mut self, fault: Fault, named: usize, place: impl FnOnce() -> String) {
        let found = self.found.entry(fault).or_default();
        found.count += 1;
        if found.first.len() < named {
            found.first.push(place());
        }
    }
}
