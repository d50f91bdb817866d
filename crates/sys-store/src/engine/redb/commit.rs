//! The commit thread: all writes of the store, one batch after the other.
//!
//! What stands here decides whether an acknowledged commit is a promise. A transaction is answered `Ok` only after the sync
//! and after its snapshot is published. If anything goes wrong with a batch, all of it is answered with an error, and
//! since then nothing more is committed: redb itself takes no writes after an I/O error, and a disk that failed to sync must
//! not be asked again whether it did (a second sync reports success for pages that were dropped).

use super::{
    META, META_VERSION, ROWS, Snapshot, State,
    conflict::{Reads, Window, WindowBounds},
    error::engine_error,
    logs::Logs,
    syncs::Syncs,
};
use crate::engine::{CommitError, CommitVersion, EngineError, Write, change_prefixes};
use bytes::Bytes;
use redb::{Database, WriteTransaction};
use std::{
    error::Error,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, PoisonError},
    time::Instant,
};
use tokio::sync::oneshot;

/// Most transactions in a batch. A sync is shared by so many that it hardly counts, and the first does not wait for long.
pub(super) const BATCH: usize = 256;
/// A batch is full, too, once it has so many bytes: they stand in memory several times until they are written.
pub(super) const BATCH_BYTES: usize = 64 << 20;

type Verdict = Result<CommitVersion, CommitError>;

/// A transaction handed over.
#[derive(Debug)]
pub(super) struct Request {
    /// The version that it read.
    pub(super) snapshot: u64,
    pub(super) reads: Reads,
    pub(super) writes: Vec<Write>,
    pub(super) size_bytes: usize,
    /// Where its caller waits, if he still does.
    pub(super) answer: oneshot::Sender<Verdict>,
}

/// The commit thread's own.
#[derive(Debug)]
pub(super) struct Committer {
    database: Database,
    syncs: Syncs,
    state: Arc<State>,
    window: Window,
    logs: Logs,
    /// Of the last commit, those of the current batch included.
    version: u64,
}

impl Committer {
    pub(super) fn new(database: Database, syncs: Syncs, state: Arc<State>, version: u64, window: WindowBounds) -> Self {
        Self { database, syncs, state, window: Window::new(window, version), logs: Logs::default(), version }
    }

    /// Commits until the engine closes and all that was handed over before is done.
    pub(super) fn run(mut self) {
        while let Some(batch) = self.state.queue.take_batch() {
            self.answer(batch);
        }
        if let Err(error) = self.database.close() {
            // Nothing is lost by it: the next start finds the last commit as after a crash.
            tracing::warn!(error = &error as &dyn Error, "the store's file did not close cleanly");
        }
    }

    fn answer(&mut self, batch: Vec<Request>) {
        let mut answers = Vec::with_capacity(batch.len());
        let mut transactions = Vec::with_capacity(batch.len());
        for Request { snapshot, reads, writes, answer, .. } in batch {
            answers.push(answer);
            transactions.push((snapshot, reads, writes));
        }
        let verdicts = match self.state.failed.get() {
            Some(failed) => Err(CommitError::Engine(failed.clone())),
            None => self.commit_or_fail(transactions),
        };
        // A caller who has gone does not hear his answer; his commit stands.
        match verdicts {
            Ok(verdicts) => answers.into_iter().zip(verdicts).for_each(|(answer, verdict)| drop(answer.send(verdict))),
            Err(error) => answers.into_iter().for_each(|answer| drop(answer.send(Err(error.clone())))),
        }
    }

    /// After an error nothing more is committed, and a panic is one: redb aborts the process if its database is dropped by a
    /// thread that unwinds, and those who wait would never be answered.
    fn commit_or_fail(&mut self, batch: Vec<(u64, Reads, Vec<Write>)>) -> Result<Vec<Verdict>, CommitError> {
        let panicked = || CommitError::Unknown(EngineError::Failed { cause: "the commit thread panicked".to_owned() });
        catch_unwind(AssertUnwindSafe(|| self.commit(batch)))
            .unwrap_or_else(|_| Err(panicked()))
            .inspect_err(|error| self.fail(error))
    }

    /// Commits those of a batch that conflict with nothing. An error is that of the whole batch.
    fn commit(&mut self, batch: Vec<(u64, Reads, Vec<Write>)>) -> Result<Vec<Verdict>, CommitError> {
        let began = Instant::now();
        let mut txn = self.database.begin_write().map_err(engine_error)?;
        // Also makes the commit one in two phases. A start after a crash takes milliseconds instead of reading the file.
        txn.set_quick_repair(true);
        let mut changed = Vec::new();
        let verdicts = self.write(&txn, batch, &mut changed)?;
        let conflicts = verdicts.iter().filter(|verdict| matches!(verdict, Err(CommitError::Conflict))).count();
        if verdicts.iter().all(Result::is_err) {
            txn.abort().map_err(engine_error)?;
            self.state.counters.batch(verdicts.len(), conflicts, began.elapsed());
            return Ok(verdicts);
        }
        let syncs = self.syncs.count();
        txn.commit().map_err(|error| {
            let error = engine_error(error);
            if self.syncs.count() == syncs { CommitError::Engine(error) } else { CommitError::Unknown(error) }
        })?;
        let snapshot = Snapshot::of(&self.database, self.version).map_err(CommitError::Unknown)?;
        *self.state.published.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(snapshot));
        // Before anybody is answered, who may be gone; and only now, when it can be read.
        self.state.feed.call(&changed);
        self.state.counters.batch(verdicts.len(), conflicts, began.elapsed());
        Ok(verdicts)
    }

    fn write(
        &mut self,
        txn: &WriteTransaction,
        batch: Vec<(u64, Reads, Vec<Write>)>,
        changed: &mut Vec<Bytes>,
    ) -> Result<Vec<Verdict>, EngineError> {
        let now = Instant::now();
        let mut rows = txn.open_table(ROWS).map_err(engine_error)?;
        let mut verdicts = Vec::with_capacity(batch.len());
        for (snapshot, reads, writes) in batch {
            if self.window.conflicts(&reads, snapshot) {
                verdicts.push(Err(CommitError::Conflict));
                continue;
            }
            let version = self.version.checked_add(1).ok_or(EngineError::NumbersExhausted)?;
            changed.extend(change_prefixes(&writes));
            let completed = match self.logs.complete(writes, version, &rows) {
                Ok(completed) => completed,
                // These two are the transaction's own fault; anything else is the store's.
                Err(error @ (EngineError::NotALog | EngineError::NumbersExhausted)) => {
                    verdicts.push(Err(CommitError::Engine(error)));
                    continue;
                }
                Err(error) => return Err(error),
            };
            let mut keys = Vec::with_capacity(completed.len());
            for row in completed {
                match row.value {
                    Some(value) => drop(rows.insert(row.key.as_ref(), value.as_ref()).map_err(engine_error)?),
                    None => drop(rows.remove(row.key.as_ref()).map_err(engine_error)?),
                }
                keys.push(row.key);
            }
            self.window.add(version, keys, now);
            self.version = version;
            verdicts.push(Ok(CommitVersion(version)));
        }
        let mut meta = txn.open_table(META).map_err(engine_error)?;
        meta.insert(META_VERSION, self.version).map_err(engine_error)?;
        Ok(verdicts)
    }

    fn fail(&self, error: &CommitError) {
        let cause = match error {
            CommitError::Engine(cause) | CommitError::Unknown(cause) => cause.to_string(),
            CommitError::Conflict => error.to_string(),
        };
        tracing::error!(cause, "a commit failed, and the store takes no more until a restart");
        // Set once: later batches are refused before they get here.
        let _ = self.state.failed.set(EngineError::Failed { cause });
    }
}
