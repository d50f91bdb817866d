//! Rows of the server itself: what belongs to no contract and no org. Sealed under the system tablespace.
//!
//! The names of rows stand plain in keys: ids and module names belong there, secrets and what people wrote do not.

use crate::{
    engine::{KeyRange, Order, key_after},
    header::{Place, Purpose, VERSION_OFFSET},
    key::{TableSpace, system_space},
    open::Open,
    refused::StoreError,
    sealed,
};
use bytes::Bytes;
use std::fmt;
use sys_contract::id::OrgTag;
use zeroize::Zeroizing;

/// Longest name of a system row in bytes.
pub const MAX_ROW_NAME_BYTES: usize = 128;

/// What a system row is about. The numbers are on disk and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum SystemKind {
    /// The numbers of modules, tables and indexes. Written by this crate alone.
    Catalog = 1,
    /// The contracts that modules were last loaded with. Written by this crate alone.
    Contract = 2,
    /// The server's settings and signing keys.
    Setting = 3,
    /// One for each account whose bindings are cached: read by each call, touched by each change.
    Epoch = 4,
    /// What is to be done once the transaction is committed: mail, events.
    Outbox = 5,
    /// What has been used and must not be used again, with the time from which on it may be forgotten.
    Used = 6,
    /// How far a job has come.
    Progress = 7,
    /// What was computed from the audit logs: nodes of their trees.
    AuditNode = 8,
}

/// A log of which each entry has a number without gaps. The numbers are on disk and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum LogKind {
    /// Who did what.
    Audit = 101,
    /// What was taken away for good, and stays away after a restore.
    Revocation = 102,
}

/// A row with its name.
pub type NamedRow = (Bytes, Zeroizing<Vec<u8>>);

/// A system row as it stands in the engine, sealed. Two states are equal if nothing has written the row in between, and by
/// that alone: each write has a nonce of its own.
#[derive(Clone, PartialEq, Eq)]
pub struct RowState(Option<Bytes>);

impl fmt::Debug for RowState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "RowState(..)" } else { "RowState(none)" })
    }
}

impl SystemKind {
    /// All of them, for those who walk over everything.
    pub(crate) const ALL: [Self; 8] = [
        Self::Catalog,
        Self::Contract,
        Self::Setting,
        Self::Epoch,
        Self::Outbox,
        Self::Used,
        Self::Progress,
        Self::AuditNode,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Catalog => "catalog",
            Self::Contract => "contract",
            Self::Setting => "setting",
            Self::Epoch => "epoch",
            Self::Outbox => "outbox",
            Self::Used => "used",
            Self::Progress => "progress",
            Self::AuditNode => "audit node",
        }
    }

    const fn at(self) -> TableSpace {
        TableSpace { space: system_space(), table: self as u16 }
    }

    /// The key of a row.
    pub(crate) fn key(self, name: &[u8]) -> Bytes {
        self.at().row(name)
    }
}

impl LogKind {
    /// All of them, for those who walk over everything.
    pub(crate) const ALL: [Self; 2] = [Self::Audit, Self::Revocation];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Audit => "audit",
            Self::Revocation => "revocation",
        }
    }

    /// What the keys of all orgs' logs begin with.
    pub(crate) fn all(self) -> Bytes {
        TableSpace { space: system_space(), table: self as u16 }.log(&[])
    }

    /// What the keys of an org's log begin with.
    pub(crate) fn prefix(self, org: OrgTag) -> Bytes {
        TableSpace { space: system_space(), table: self as u16 }.log(org.as_bytes())
    }
}

impl Open {
    /// A system row.
    pub async fn row(&mut self, kind: SystemKind, name: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        let key = kind.key(name);
        let Some(sealed) = self.value(&key).await? else { return Ok(None) };
        self.open_row(Purpose::SystemRow, kind.name(), &key, &sealed).await.map(Some)
    }

    /// The state of a system row, for comparison: whether it was written since another look at it. Not opened, so that it
    /// costs no more than the read.
    pub async fn row_state(&mut self, kind: SystemKind, name: &[u8]) -> Result<RowState, StoreError> {
        Ok(RowState(self.value(&kind.key(name)).await?))
    }

    /// Sets a system row.
    pub async fn put_row(&mut self, kind: SystemKind, name: &[u8], value: Vec<u8>) -> Result<(), StoreError> {
        if name.len() > MAX_ROW_NAME_BYTES {
            return Err(StoreError::RowName { bytes: name.len(), limit: MAX_ROW_NAME_BYTES });
        }
        let key = kind.key(name);
        let sealed = self.seal_row(Purpose::SystemRow, kind.name(), &key, value).await?;
        self.put(key, sealed, Some(VERSION_OFFSET));
        Ok(())
    }

    /// Removes a system row.
    pub fn delete_row(&mut self, kind: SystemKind, name: &[u8]) {
        self.remove(kind.key(name));
    }

    /// The first `limit` rows of a kind whose names begin with `prefix` and follow `after`, by name.
    pub async fn rows(
        &mut self,
        kind: SystemKind,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<NamedRow>, StoreError> {
        let all = kind.key(&[]);
        let mut keys = KeyRange::prefix(&kind.key(prefix));
        if let Some(after) = after {
            keys.start = keys.start.max(key_after(&kind.key(after)));
        }
        let mut rows = Vec::new();
        for (key, sealed) in self.rows_in(keys, Order::Asc, limit).await? {
            let value = self.open_row(Purpose::SystemRow, kind.name(), &key, &sealed).await?;
            rows.push((key.slice(all.len()..), value));
        }
        Ok(rows)
    }

    /// Adds an entry to a log of an org, or with [`OrgTag::GLOBAL`] of the server. It gets its number at the commit: entries of
    /// transactions that run at once do not conflict.
    pub(crate) async fn append(&mut self, log: LogKind, org: OrgTag, entry: Vec<u8>) -> Result<(), StoreError> {
        let prefix = log.prefix(org);
        let sealed = self.seal_row(Purpose::LogEntry, log.name(), &prefix, entry).await?;
        self.append_sealed(prefix, sealed);
        Ok(())
    }

    /// Seals what is to stand at a key of the system tablespace.
    pub(crate) async fn seal_row(
        &mut self,
        purpose: Purpose,
        table: &str,
        key: &[u8],
        value: Vec<u8>,
    ) -> Result<Bytes, StoreError> {
        let keys = self.keys_or_create(system_space()).await?;
        Ok(sealed::seal(&keys, &place(purpose, table, key), value, self.store.entropy().as_ref()))
    }

    /// Opens what stands at a key of the system tablespace.
    pub(crate) async fn open_row(
        &mut self,
        purpose: Purpose,
        table: &str,
        key: &[u8],
        stored: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        let keys = self.keys_or_create(system_space()).await?;
        sealed::open(&keys, &place(purpose, table, key), stored).map(|opened| opened.plaintext)
    }
}

fn place<'a>(purpose: Purpose, table: &'a str, key: &'a [u8]) -> Place<'a> {
    Place { purpose, module: "sys", org: OrgTag::GLOBAL, table, message: "", key }
}
