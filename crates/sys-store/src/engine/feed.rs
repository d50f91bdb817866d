//! Who wants to hear that a commit made changes: by the prefixes of [`Write::Change`](super::Write::Change).
//!
//! Told by the engine itself once the commit can be read, so that nothing is missed when the future of a commit is dropped.
//! A subscription says "look again" and nothing more: what changed stands in the rows, and many commits may be one call.
//! There are as many entries as there are prefixes that somebody listens to. Beside them stand the prefixes that were written
//! to since somebody last asked for them, each once: for those who clear up.

use bytes::Bytes;
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::watch;

/// The subscriptions of one engine.
#[derive(Debug, Clone, Default)]
pub(super) struct Feed(Arc<Mutex<Heard>>);

#[derive(Debug, Default)]
struct Heard {
    listeners: HashMap<Bytes, watch::Sender<()>>,
    written: HashSet<Bytes>,
}

/// Hears of commits with changes below one prefix.
#[derive(Debug)]
pub struct Changes {
    feed: Feed,
    prefix: Bytes,
    calls: watch::Receiver<()>,
}

impl Feed {
    pub(super) fn subscribe(&self, prefix: Bytes) -> Changes {
        let calls = self.lock().listeners.entry(prefix.clone()).or_default().subscribe();
        Changes { feed: self.clone(), prefix, calls }
    }

    /// Calls those who listen to these prefixes. To be called when the commit can be read and not before: whoever subscribes
    /// in between begins his transaction afterwards.
    pub(super) fn call(&self, prefixes: &[Bytes]) {
        if prefixes.is_empty() {
            return;
        }
        let mut heard = self.lock();
        for prefix in prefixes {
            if let Some(sender) = heard.listeners.get(prefix) {
                sender.send_replace(());
            }
            if !heard.written.contains(prefix) {
                // The prefix may be a part of a larger buffer, which it would keep.
                heard.written.insert(Bytes::copy_from_slice(prefix));
            }
        }
    }

    /// The prefixes that were written to since this was last asked.
    pub(super) fn written(&self) -> HashSet<Bytes> {
        std::mem::take(&mut self.lock().written)
    }

    fn lock(&self) -> MutexGuard<'_, Heard> {
        // Nothing panics while it holds the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Changes {
    /// Waits until something was committed since the last call, or since the subscription began. What was committed before
    /// that is in each transaction that begins from now on. May come too often, and never too seldom.
    pub async fn next(&mut self) {
        if self.calls.changed().await.is_err() {
            // The sender lives as long as anybody listens.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        let mut heard = self.feed.lock();
        if heard.listeners.get(&self.prefix).is_some_and(|sender| sender.receiver_count() == 1) {
            heard.listeners.remove(&self.prefix);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn calls_are_kept_until_they_are_heard_and_nobody_stays_behind() {
        let (feed, a, b) = (Feed::default(), Bytes::from("a"), Bytes::from("b"));
        let (mut first, mut second) = (feed.subscribe(a.clone()), feed.subscribe(a.clone()));
        feed.call(&[a.clone(), b.clone()]);
        feed.call(&[a]);
        first.next().await;
        second.next().await;
        let again = tokio::time::timeout(std::time::Duration::ZERO, first.next()).await;
        assert!(again.is_err(), "two calls were one");
        drop(first);
        assert_eq!(feed.lock().listeners.len(), 1);
        drop(second);
        assert_eq!(feed.lock().listeners.len(), 0);
        assert_eq!((feed.written().len(), feed.written().len()), (2, 0));
    }
}
