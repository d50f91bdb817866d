//! The commit thread: all writes of the store, one batch after the other.
//!
//! What stands here decides whether an acknowledged commit is a promise. A transaction is answered `Ok` only after the sync
//! and after its snapshot is published. If anything goes wrong with a batch, all of it is answered with an error, and
//! since then nothing more is committed: redb itself takes no writes after an I/O error, and a disk that failed to sync must
//! not be asked again whether it did (a second sync reports success for pages that were dropped).
//!
//! A batch is durable with its frame in the log, before redb takes it; redb's own commit is not synced then. Nothing is in redb that
//! is not in the log, so that whatever redb makes durable was committed. A batch for which the log has no room, or in whose time a
//! checkpoint is due, is a durable commit of redb instead, with all that came before it, and the log begins anew.

use super::{
    META, META_VERSION, ROWS, Snapshot, State,
    conflict::{Reads, Window, WindowBounds},
    create::{durable, note},
    error::engine_error,
    logs::Logs,
    queue::Taken,
    syncs::Syncs,
    wal::{NO_GENERATION, Wal},
};
use crate::engine::{CommitError, CommitVersion, EngineError, Write, change_prefixes};
use bytes::Bytes;
use redb::{Database, Durability, WriteTransaction};
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
    wal: Wal,
    state: Arc<State>,
    window: Window,
    logs: Logs,
    /// Of the last commit, those of the current batch included.
    version: u64,
}

impl Committer {
    pub(super) fn new(
        database: Database,
        syncs: Syncs,
        wal: Wal,
        state: Arc<State>,
        version: u64,
        window: WindowBounds,
    ) -> Self {
        Self { database, syncs, wal, state, window: Window::new(window, version), logs: Logs::default(), version }
    }

    /// Commits until the engine closes and all that was handed over before is done.
    pub(super) fn run(mut self) {
        loop {
            // A store that has failed makes no checkpoint any more.
            let due = if self.state.failed.get().is_some() { None } else { self.wal.due() };
            match self.state.queue.take_batch(due) {
                Taken::Batch(batch) => self.answer(batch),
                Taken::Nothing => drop(self.or_fail(Self::checkpoint)),
                Taken::Closed => break,
            }
        }
        if self.state.failed.get().is_none() {
            drop(self.or_fail(Self::contain_all));
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
            None => self.or_fail(|committer| committer.commit(transactions)),
        };
        // A caller who has gone does not hear his answer; his commit stands.
        match verdicts {
            Ok(verdicts) => answers.into_iter().zip(verdicts).for_each(|(answer, verdict)| drop(answer.send(verdict))),
            Err(error) => answers.into_iter().for_each(|answer| drop(answer.send(Err(error.clone())))),
        }
    }

    /// After an error nothing more is committed, and a panic is one: redb aborts the process if its database is dropped by a
    /// thread that unwinds, and those who wait would never be answered.
    fn or_fail<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, CommitError>) -> Result<T, CommitError> {
        let panicked = || CommitError::Unknown(EngineError::Failed { cause: "the commit thread panicked".to_owned() });
        catch_unwind(AssertUnwindSafe(|| work(self)))
            .unwrap_or_else(|_| Err(panicked()))
            .inspect_err(|error| self.fail(error))
    }

    /// Commits those of a batch that conflict with nothing. An error is that of the whole batch.
    fn commit(&mut self, batch: Vec<(u64, Reads, Vec<Write>)>) -> Result<Vec<Verdict>, CommitError> {
        let began = Instant::now();
        let txn = self.database.begin_write().map_err(engine_error)?;
        self.wal.begin_batch(self.version);
        let mut changed = Vec::new();
        let verdicts = self.write(&txn, batch, &mut changed)?;
        let conflicts = verdicts.iter().filter(|verdict| matches!(verdict, Err(CommitError::Conflict))).count();
        if verdicts.iter().all(Result::is_err) {
            txn.abort().map_err(engine_error)?;
            self.state.counters.batch(verdicts.len(), conflicts, began.elapsed());
            return Ok(verdicts);
        }
        if self.wal.takes_batch(began) {
            self.log(txn, began)?
        } else {
            self.contain(txn)?
        }
        self.publish()?;
        // Before anybody is answered, who may be gone; and only now, when it can be read.
        self.state.feed.call(&changed);
        self.state.counters.batch(verdicts.len(), conflicts, began.elapsed());
        Ok(verdicts)
    }

    /// Commits what a transaction of redb holds by writing it into the log.
    fn log(&mut self, mut txn: WriteTransaction, now: Instant) -> Result<(), CommitError> {
        let refused = |_| EngineError::Failed { cause: "the store takes durable commits alone".to_owned() };
        txn.set_durability(Durability::None).map_err(refused)?;
        self.wal.append(self.version, now)?;
        txn.commit().map_err(|error| CommitError::Unknown(engine_error(error)))
    }

    /// Commits it for good, with all that stands in the log, which begins anew.
    fn contain(&mut self, mut txn: WriteTransaction) -> Result<(), CommitError> {
        txn.set_quick_repair(true);
        note(&txn, self.version, self.wal.begin(self.version)?, self.wal.half_bytes())?;
        self.commit_durably(txn)
    }

    /// Makes redb contain for good what stands in the log, when nothing else is to be done.
    fn checkpoint(&mut self) -> Result<(), CommitError> {
        let txn = durable(&self.database)?;
        self.contain(txn)?;
        self.publish()
    }

    /// The last of all commits: after it no log belongs to the store.
    fn contain_all(&mut self) -> Result<(), CommitError> {
        let txn = durable(&self.database)?;
        note(&txn, self.version, NO_GENERATION, self.wal.half_bytes())?;
        self.commit_durably(txn)?;
        if let Err(error) = self.wal.wipe() {
            // What is left there is known as old by its versions.
            tracing::warn!(error = &error as &dyn Error, "the store's log was not emptied");
        }
        Ok(())
    }

    fn commit_durably(&self, txn: WriteTransaction) -> Result<(), CommitError> {
        let syncs = self.syncs.count();
        txn.commit().map_err(|error| {
            let error = engine_error(error);
            if self.syncs.count() == syncs { CommitError::Engine(error) } else { CommitError::Unknown(error) }
        })
    }

    /// Lets new transactions read the state after the last commit.
    fn publish(&self) -> Result<(), CommitError> {
        let snapshot = Snapshot::of(&self.database, self.version).map_err(CommitError::Unknown)?;
        *self.state.published.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(snapshot));
        Ok(())
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
                self.wal.push(&row);
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
