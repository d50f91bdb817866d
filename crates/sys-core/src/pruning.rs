//! The task that removes what is kept of the past for those who watch: an hour's notes of changes, with the states before.
//!
//! It is always there: what was deleted stays sealed in a note until it has gone.

use crate::clock::Clock;
use std::time::Duration;
use sys_store::Store;
use tokio::task::JoinHandle;

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(10);
/// Between two parts of much work, so that calls come in between: a part is some milliseconds.
const BREATH: Duration = Duration::from_millis(20);

/// The task.
#[derive(Debug)]
pub(crate) struct Pruning(JoinHandle<()>);

impl Pruning {
    /// Starts it.
    pub(crate) fn start(store: Store, clock: Clock) -> Self {
        Self(tokio::spawn(async move {
            loop {
                let pause = match store.prune_changes(clock.now()).await {
                    Ok(pruned) if pruned.more => BREATH,
                    Ok(_) => PAUSE,
                    Err(error) => {
                        tracing::error!(%error, "old notes of changes could not be removed; it is tried again");
                        PAUSE
                    }
                };
                tokio::time::sleep(pause).await;
            }
        }))
    }

    /// Ends it. The rest is done after the next start.
    pub(crate) async fn stop(mut self) {
        self.0.abort();
        // Cancelled, that is; it holds the store until then.
        let _ = (&mut self.0).await;
    }
}

impl Drop for Pruning {
    /// A server that is given up without a word holds its store no longer.
    fn drop(&mut self) {
        self.0.abort();
    }
}
