//! Where the requests of a connection run.
//!
//! A task of its own costs a request more than a short answer does. So a connection whose requests are answered in their first step and at once,
//! as questions to the zones are, has them begun where they are read. As soon as one has to wait for something, it goes on in a task, and
//! so does the next; where they take longer, each has its own from the start, so that the requests of one connection have all processors. What
//! must never happen here: a request that waits where it was read.

use crate::metered::Meter;
use hyper::rt::Executor;
use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

/// What is answered in less costs no more where it is read than it costs to give it a task.
const AT_ONCE: Duration = Duration::from_micros(10);

/// The requests of a connection: each in a task of its own, save those that are turned away, and those behind one that was answered in its
/// first step.
#[derive(Debug, Clone)]
pub(crate) struct Tasks {
    meter: Arc<Meter>,
    last: Last,
}

/// What is known of the last request.
#[derive(Debug, Clone)]
struct Last {
    /// Whether it was answered at once.
    is_quick: Arc<AtomicBool>,
    at_once: Duration,
}

impl Tasks {
    /// Of the connection that this counts for.
    pub(crate) fn new(meter: Arc<Meter>) -> Self {
        Self { meter, last: Last { is_quick: Arc::default(), at_once: AT_ONCE } }
    }
}

impl<F> Executor<F> for Tasks
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, request: F) {
        // It is some kilobytes long, and moved several times before it is a task; this is moved in its place.
        let mut request = Box::pin(request);
        let is_turned_away = self.meter.turns_away();
        if is_turned_away || self.last.is_quick.load(Ordering::Relaxed) {
            // Nobody is woken by this attempt: if it is not the last, the task begins with another.
            let answered = self.last.step(request.as_mut(), &mut Context::from_waker(Waker::noop()));
            if is_turned_away {
                // Which says nothing of those that are not.
                self.last.is_quick.store(false, Ordering::Relaxed);
            }
            if answered.is_pending() {
                drop(tokio::spawn(request));
            }
            return;
        }
        drop(tokio::spawn(First { request, last: Some(self.last.clone()) }));
    }
}

impl Last {
    /// The first step of a request.
    fn step<F: Future>(&self, request: Pin<&mut F>, context: &mut Context<'_>) -> Poll<F::Output> {
        let begun = Instant::now();
        let answered = request.poll(context);
        self.is_quick.store(answered.is_ready() && begun.elapsed() < self.at_once, Ordering::Relaxed);
        answered
    }
}

/// A request that tells of its first step.
struct First<F> {
    request: Pin<Box<F>>,
    last: Option<Last>,
}

impl<F: Future> Future for First<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        match self.last.take() {
            Some(last) => last.step(self.request.as_mut(), context),
            None => self.request.as_mut().poll(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use tokio::{sync::Notify, task::yield_now};

    /// What was answered so far, and whether in a task of its own.
    type Answered = Arc<Mutex<Vec<(&'static str, bool)>>>;

    /// A request that is answered in its first step, or when it is told to.
    async fn request(name: &'static str, told: Option<Arc<Notify>>, answered: Answered) {
        if let Some(told) = told {
            told.notified().await;
        }
        answered.lock().expect("no panic").push((name, tokio::task::try_id().is_some()));
    }

    /// Where that counts as at once which is answered within this time.
    fn tasks(at_once: Duration) -> Tasks {
        Tasks { meter: Arc::default(), last: Last { is_quick: Arc::default(), at_once } }
    }

    #[tokio::test]
    async fn behind_one_that_was_answered_at_once_requests_begin_where_they_are_read_and_wait_elsewhere() {
        let (tasks, answered, told) = (tasks(Duration::MAX), Answered::default(), Arc::new(Notify::new()));
        let begin =
            |name, told: Option<&Arc<Notify>>| tasks.execute(request(name, told.cloned(), Arc::clone(&answered)));
        let so_far = || answered.lock().expect("no panic").clone();
        begin("first", None);
        assert_eq!(so_far(), [], "nothing is known of it yet");
        yield_now().await;
        assert_eq!(so_far(), [("first", true)]);
        begin("second", None);
        begin("waits", Some(&told));
        begin("behind it", None);
        assert_eq!(so_far()[1..], [("second", false)]);
        yield_now().await;
        assert_eq!(so_far()[2..], [("behind it", true)], "one that waits keeps nobody else waiting");
        told.notify_one();
        for _ in 0..3 {
            yield_now().await;
        }
        assert_eq!(so_far()[3..], [("waits", true)]);
    }

    #[tokio::test]
    async fn requests_that_take_longer_have_tasks_of_their_own() {
        let (tasks, answered) = (tasks(Duration::ZERO), Answered::default());
        for name in ["first", "second", "third"] {
            tasks.execute(request(name, None, Arc::clone(&answered)));
            yield_now().await;
        }
        assert_eq!(*answered.lock().expect("no panic"), ["first", "second", "third"].map(|name| (name, true)));
    }

    #[tokio::test]
    async fn one_that_is_turned_away_costs_no_task() {
        let (meter, answered) = (Arc::<Meter>::default(), Answered::default());
        let tasks = Tasks::new(Arc::clone(&meter));
        meter.turn_away();
        tasks.execute(request("turned away", None, Arc::clone(&answered)));
        assert_eq!(*answered.lock().expect("no panic"), [("turned away", false)]);
    }
}
