//! The answers of a stream on their way to whoever sends them: one waits at most, so that a stream is no faster than its peer.

use crate::refusal::{Reason, Refusal};
use bytes::Bytes;
use futures_util::Stream;
use std::{
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};

/// The longest time that a peer may leave answers untaken: what the listener gives a whole connection. It counts for all
/// that are handed over together, so that nobody has them kept for hours by taking one of them now and then.
const LONGEST_UNREAD: Duration = Duration::from_secs(20);
/// So many bytes of them earn him a second more: a slow connection is not a reader who does not read.
const LEAST_BYTES_PER_S: usize = 4 * 1_024;

/// Where a stream leaves its answers.
pub(super) struct Out {
    sender: mpsc::Sender<Bytes>,
    end: Arc<OnceLock<Option<Refusal>>>,
    longest_unread: Duration,
}

/// Where its answers are taken, and its end after the last of them.
#[derive(Debug)]
pub(crate) struct Answers {
    receiver: mpsc::Receiver<Bytes>,
    end: Arc<OnceLock<Option<Refusal>>>,
    is_over: bool,
}

pub(super) fn channel() -> (Out, Answers) {
    channel_of(LONGEST_UNREAD)
}

fn channel_of(longest_unread: Duration) -> (Out, Answers) {
    let (sender, receiver) = mpsc::channel(1);
    let end = Arc::default();
    (Out { sender, end: Arc::clone(&end), longest_unread }, Answers { receiver, end, is_over: false })
}

impl Out {
    /// Hands these over, one after the other, as they are taken.
    pub(super) async fn send(&self, answers: Vec<Bytes>) -> Result<(), Refusal> {
        let bytes: usize = answers.iter().map(Bytes::len).sum();
        let earned = Duration::from_secs(u64::try_from(bytes / LEAST_BYTES_PER_S).unwrap_or(u64::MAX));
        let until = Instant::now() + self.longest_unread.saturating_add(earned);
        for answer in answers {
            match timeout_at(until, self.sender.send(answer)).await {
                // Nobody is there any more: the stream hears of that in another way.
                Ok(Ok(()) | Err(_)) => {}
                Err(_) => {
                    return Err(Refusal::new(Reason::StreamUnread, "the answers were not taken in time")
                        .help("read the stream as it comes, or ask for less"));
                }
            }
        }
        Ok(())
    }

    /// Comes back when nobody takes the answers any more.
    pub(super) fn taker_is_gone(&self) -> impl Future<Output = ()> + Send + use<> {
        let sender = self.sender.clone();
        async move { sender.closed().await }
    }

    /// There is nothing more, and why.
    pub(super) fn end(self, refusal: Option<Refusal>) {
        // The first end is the only one: this takes the stream's side away.
        let _ = self.end.set(refusal);
    }
}

impl Stream for Answers {
    type Item = Result<Bytes, Refusal>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        if let Some(answer) = ready!(self.receiver.poll_recv(context)) {
            return Poll::Ready(Some(Ok(answer)));
        }
        self.is_over = true;
        // A stream that left no end was cut off with its runtime.
        let end = self.end.get().cloned().unwrap_or_else(|| Some(Refusal::internal("a stream without an end")));
        Poll::Ready(end.map(Err))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::{FutureExt, StreamExt};

    #[tokio::test]
    async fn answers_come_in_their_order_and_the_end_after_them() {
        let (out, answers) = channel();
        let sending = async move {
            out.send(vec!["one".into(), "two".into()]).await.unwrap();
            out.end(Some(Refusal::not_found()));
        };
        let (taken, ()) = tokio::join!(answers.collect::<Vec<_>>(), sending);
        assert_eq!(taken, [Ok("one".into()), Ok("two".into()), Err(Refusal::not_found())]);
        let (out, answers) = channel();
        out.end(None);
        assert!(answers.collect::<Vec<_>>().await.is_empty());
        let (out, answers) = channel();
        drop(out);
        assert_eq!(answers.collect::<Vec<_>>().await.len(), 1, "an end that nobody left is an error");
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_an_answer_now_and_then_is_waited_for_no_longer_than_all_of_them_need() {
        let (out, mut answers) = channel();
        let sending = tokio::spawn(async move { out.send(vec!["one".into(); 60]).await });
        for _ in 0..2 {
            tokio::time::sleep(LONGEST_UNREAD / 3).await;
            answers.next().await.unwrap().unwrap();
        }
        tokio::time::sleep(LONGEST_UNREAD / 2).await;
        assert!(sending.is_finished());
        assert_eq!(sending.await.unwrap().unwrap_err().reason, Reason::StreamUnread);
        // Much takes its time.
        let (out, mut answers) = channel();
        let seconds = 30;
        let part = Bytes::from(vec![7; LEAST_BYTES_PER_S]);
        let sending = tokio::spawn(async move { out.send(vec![part; seconds]).await });
        for _ in 0..seconds {
            tokio::time::sleep(Duration::from_secs(1)).await;
            answers.next().await.unwrap().unwrap();
        }
        sending.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn who_does_not_take_his_answers_is_not_waited_for() {
        let (out, mut answers) = channel_of(Duration::from_millis(10));
        assert_eq!(out.send(vec!["one".into(), "two".into()]).await.unwrap_err().reason, Reason::StreamUnread);
        assert_eq!(answers.next().await, Some(Ok("one".into())));
        assert_eq!(answers.next().now_or_never(), None);
        let gone = out.taker_is_gone();
        drop(answers);
        gone.await;
        out.send(vec!["three".into()]).await.unwrap();
    }
}
