//! The enum in front of the engines, so that whoever holds an engine needs neither a type parameter nor a `dyn`.

use super::{
    Changes, CommitError, CommitVersion, Engine, EngineError, KeyRange, Order, RangeRead, Txn, Write,
    memory::{MemoryEngine, MemoryTxn},
    redb::{EngineStats, RedbEngine, RedbTxn},
};
use bytes::Bytes;
use std::collections::HashSet;

/// Any of the engines.
#[derive(Debug, Clone)]
pub enum AnyEngine {
    /// The embedded engine.
    Redb(RedbEngine),
    /// The model, for tests: nothing in it outlives the process.
    Memory(MemoryEngine),
}

/// A transaction of any of the engines.
#[derive(Debug)]
pub enum AnyTxn {
    /// Of the embedded engine.
    Redb(RedbTxn),
    /// Of the model.
    Memory(MemoryTxn),
}

impl AnyEngine {
    /// What the engine has done since it was opened. The model counts nothing.
    pub fn stats(&self) -> Result<Option<EngineStats>, EngineError> {
        match self {
            Self::Redb(engine) => engine.stats().map(Some),
            Self::Memory(_) => Ok(None),
        }
    }
}

impl Engine for AnyEngine {
    type Txn = AnyTxn;

    async fn begin(&self) -> Result<AnyTxn, EngineError> {
        match self {
            Self::Redb(engine) => engine.begin().await.map(AnyTxn::Redb),
            Self::Memory(engine) => engine.begin().await.map(AnyTxn::Memory),
        }
    }

    fn changes(&self, prefix: Bytes) -> Changes {
        match self {
            Self::Redb(engine) => engine.changes(prefix),
            Self::Memory(engine) => engine.changes(prefix),
        }
    }

    fn written(&self) -> HashSet<Bytes> {
        match self {
            Self::Redb(engine) => engine.written(),
            Self::Memory(engine) => engine.written(),
        }
    }
}

impl Txn for AnyTxn {
    fn snapshot_version(&self) -> CommitVersion {
        match self {
            Self::Redb(txn) => txn.snapshot_version(),
            Self::Memory(txn) => txn.snapshot_version(),
        }
    }

    async fn get(&mut self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        match self {
            Self::Redb(txn) => txn.get(key).await,
            Self::Memory(txn) => txn.get(key).await,
        }
    }

    async fn range(&mut self, keys: KeyRange, order: Order, limit: usize) -> Result<RangeRead, EngineError> {
        match self {
            Self::Redb(txn) => txn.range(keys, order, limit).await,
            Self::Memory(txn) => txn.range(keys, order, limit).await,
        }
    }

    async fn commit(self, writes: Vec<Write>) -> Result<CommitVersion, CommitError> {
        match self {
            Self::Redb(txn) => txn.commit(writes).await,
            Self::Memory(txn) => txn.commit(writes).await,
        }
    }

    async fn commit_alone(self, writes: Vec<Write>) -> Result<CommitVersion, CommitError> {
        match self {
            Self::Redb(txn) => txn.commit_alone(writes).await,
            Self::Memory(txn) => txn.commit_alone(writes).await,
        }
    }
}
