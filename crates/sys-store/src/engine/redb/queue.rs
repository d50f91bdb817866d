//! The queue between the callers, who are async, and the commit thread, which is not.
//!
//! A channel of tokio's does not do: it ends only when everybody who waits for room has been polled again, so that a
//! runtime with one thread which waits for the end would wait for ever.

use super::commit::{BATCH, BATCH_BYTES, Request};
use crate::engine::EngineError;
use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Instant,
};
use tokio::sync::Semaphore;

/// Commits that wait for the commit thread. Four full batches: whoever comes later waits before he hands his writes over.
const COMMIT_QUEUE: usize = 4 * BATCH;

/// Transactions that were handed over, in their order.
#[derive(Debug)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    filled: Condvar,
    room: Semaphore,
}

/// What came out of the queue.
#[derive(Debug)]
pub(super) enum Taken {
    Batch(Vec<Request>),
    /// The time is over.
    Nothing,
    /// The queue is closed and empty.
    Closed,
}

#[derive(Debug, Default)]
struct Waiting {
    requests: VecDeque<Request>,
    closed: bool,
}

impl Queue {
    pub(super) fn new() -> Self {
        Self { waiting: Mutex::default(), filled: Condvar::new(), room: Semaphore::new(COMMIT_QUEUE) }
    }

    /// Hands a transaction over, once there is room for it. After `Ok` it will be answered.
    pub(super) async fn push(&self, request: Request) -> Result<(), EngineError> {
        let room = self.room.acquire().await.map_err(|_| EngineError::Closed)?;
        let mut waiting = self.lock();
        if waiting.closed {
            return Err(EngineError::Closed);
        }
        // Given back when the request is taken out.
        room.forget();
        waiting.requests.push_back(request);
        self.filled.notify_one();
        Ok(())
    }

    /// Waits for transactions, until this moment if there is one, and takes a batch of them.
    pub(super) fn take_batch(&self, until: Option<Instant>) -> Taken {
        let nothing_to_do = |waiting: &mut Waiting| waiting.requests.is_empty() && !waiting.closed;
        let mut waiting = match until {
            Some(until) => {
                let time = until.saturating_duration_since(Instant::now());
                let waited = self.filled.wait_timeout_while(self.lock(), time, nothing_to_do);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
            None => self.filled.wait_while(self.lock(), nothing_to_do).unwrap_or_else(PoisonError::into_inner),
        };
        let mut batch = Vec::new();
        let mut size_bytes = 0;
        while batch.len() < BATCH && size_bytes < BATCH_BYTES {
            let Some(request) = waiting.requests.pop_front() else { break };
            size_bytes += request.size_bytes;
            batch.push(request);
        }
        self.room.add_permits(batch.len());
        match batch.is_empty() {
            false => Taken::Batch(batch),
            true if waiting.closed => Taken::Closed,
            true => Taken::Nothing,
        }
    }

    /// Takes nothing more in. What is in it still comes out.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.room.close();
        self.filled.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing panics while it holds the lock; if something did, the requests would still be whole.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
