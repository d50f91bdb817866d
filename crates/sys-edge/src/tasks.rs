//! Where the requests of a connection run.

use crate::metered::Meter;
use hyper::rt::Executor;
use std::{
    sync::Arc,
    task::{Context, Waker},
};

/// Each request of a connection in a task of its own, save those that are turned away: these are answered where they are read,
/// since a task costs more than their answer.
#[derive(Debug, Clone)]
pub(crate) struct Tasks(Arc<Meter>);

impl Tasks {
    /// Of the connection that this counts for.
    pub(crate) fn new(meter: Arc<Meter>) -> Self {
        Self(meter)
    }
}

impl<F> Executor<F> for Tasks
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, request: F) {
        if !self.0.turns_away() {
            drop(tokio::spawn(request));
            return;
        }
        let mut request = Box::pin(request);
        // Nobody is woken by this attempt: if it is not the last, the task begins with another.
        if request.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            drop(tokio::spawn(request));
        }
    }
}
