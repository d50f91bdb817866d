//! The task that sends what was recorded: gathers for a moment, posts, tries again where that may help, and gives up in time.
//!
//! It holds one message and no more: what is recorded meanwhile waits in the tracer's queue, and is dropped and counted where that is full. What must
//! never happen here: a wait without a bound, least of all when the server stops.

use crate::{
    client::{NotTaken, Taken, post},
    settings::Settings,
    spans::Sender,
};
use bytes::Bytes;
use prost::Message;
use std::{sync::Arc, time::Duration};
use sys_core::trace::{Became, Recordings, Trace, Tracer};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep, timeout, timeout_at},
};

/// Traces in one message: at most some hundred kilobytes.
const MOST_AT_ONCE: usize = 256;
/// How long others are waited for that go into the same message.
const GATHERING: Duration = Duration::from_secs(1);
/// How often a message is posted before it is given up.
const TRIES: u32 = 5;
/// After the first try, and twice as long after each other one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause, also where a collector asks for more: meanwhile the queue fills.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// For what is left when the server stops. Who stops it waits for that.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// Sends what a tracer records.
#[derive(Debug)]
pub struct Exporter {
    switch: Switch,
    stopping: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// Says where traces go, while they do. Its clones are the same one; it keeps nothing running.
#[derive(Debug, Clone)]
pub struct Switch {
    tracer: Tracer,
    settings: watch::Sender<Option<Arc<Settings>>>,
}

impl Switch {
    /// From now on so, or not at all.
    pub fn set(&self, settings: Option<Settings>) {
        self.tracer.sample(settings.as_ref().map(|settings| settings.sampling));
        self.settings.send_replace(settings.map(Arc::new));
    }
}

impl Exporter {
    /// Begins to send so, or waits to be told to. `instance` are random bytes, by which collectors tell this server from others of the same name.
    /// Nothing where somebody sends what this tracer records already.
    pub fn start(tracer: &Tracer, settings: Option<Settings>, instance: [u8; 16]) -> Option<Self> {
        let recordings = tracer.recordings()?;
        let switch = Switch { tracer: tracer.clone(), settings: watch::Sender::new(None) };
        let (stopping, is_stopping) = watch::channel(false);
        let sender = Sender { instance: uuid::Builder::from_random_bytes(instance).into_uuid() };
        let sending = Sending {
            tracer: tracer.clone(),
            recordings,
            settings: switch.settings.subscribe(),
            stopping: is_stopping,
            sender,
            is_down: false,
        };
        switch.set(settings);
        Some(Self { switch, stopping, task: tokio::spawn(sending.run()) })
    }

    /// What says where traces go.
    pub fn switch(&self) -> Switch {
        self.switch.clone()
    }

    /// Records no more, sends what is there if that can be done in a few seconds, and ends.
    pub async fn stop(mut self) {
        self.switch.tracer.sample(None);
        // Who sends has ended, if nobody hears it.
        let _ = self.stopping.send(true);
        if timeout(LAST_WORDS, &mut self.task).await.is_err() {
            tracing::warn!("the last traces were not sent: the collector does not take them");
            self.task.abort();
        }
    }
}

/// The task's state.
struct Sending {
    tracer: Tracer,
    recordings: Recordings,
    settings: watch::Receiver<Option<Arc<Settings>>>,
    stopping: watch::Receiver<bool>,
    sender: Sender,
    /// The last message was not taken, and the log says so.
    is_down: bool,
}

impl Sending {
    async fn run(mut self) {
        loop {
            let traces = self.gathered().await;
            if traces.is_empty() {
                return;
            }
            let spans = traces.iter().map(Trace::spans).sum();
            let became = self.sent(&traces, spans).await;
            for (became, spans) in became {
                self.tracer.count(became, spans);
            }
        }
    }

    /// Waits for traces, and a moment for more of them. Nothing when the server stops and all are sent.
    async fn gathered(&mut self) -> Vec<Trace> {
        let mut traces = Vec::new();
        let mut stopping = self.stopping.clone();
        tokio::select! {
            biased;
            _ = self.recordings.take(&mut traces, MOST_AT_ONCE) => {}
            _ = stopping.wait_for(|stopping| *stopping) => return traces,
        }
        let until = Instant::now() + GATHERING;
        while traces.len() < MOST_AT_ONCE {
            let most = MOST_AT_ONCE - traces.len();
            tokio::select! {
                took = timeout_at(until, self.recordings.take(&mut traces, most)) => if !matches!(took, Ok(1..)) { break },
                // An error says that nobody is left who could stop it: then it stops, too.
                _ = stopping.wait_for(|stopping| *stopping) => break,
            }
        }
        traces
    }

    /// Posts a message until it is taken, or there is no point in it any more. What became of how many spans.
    async fn sent(&mut self, traces: &[Trace], spans: usize) -> [(Became, usize); 2] {
        let undelivered = [(Became::Undelivered, spans), (Became::Sent, 0)];
        for tried in 1..=TRIES {
            let Some(settings) = self.settings.borrow_and_update().clone() else { return undelivered };
            let message = Bytes::from(self.sender.request(&settings.service, traces).encode_to_vec());
            let error = match post(&settings, message).await {
                Ok(taken) => return self.taken(&taken, spans),
                Err(error) => error,
            };
            self.tell(&error);
            if !error.may_pass() {
                return [(Became::Rejected, spans), (Became::Sent, 0)];
            }
            if tried == TRIES || !self.paused(&error, tried).await {
                break;
            }
        }
        undelivered
    }

    fn taken(&mut self, taken: &Taken, spans: usize) -> [(Became, usize); 2] {
        if std::mem::take(&mut self.is_down) {
            tracing::info!("traces are sent again");
        }
        let rejected = taken.rejected.min(spans);
        if rejected > 0 {
            tracing::warn!(rejected, said = taken.said, "the collector does not want some spans");
        }
        [(Became::Rejected, rejected), (Became::Sent, spans - rejected)]
    }

    /// Once, until something is taken again: a collector that is down for a night fills no log.
    fn tell(&mut self, error: &NotTaken) {
        if !std::mem::replace(&mut self.is_down, true) {
            tracing::warn!(%error, "traces are not sent, and those that there is no room for are dropped");
        }
    }

    /// Waits until it makes sense to try again, or other settings came. Whether there is time for that.
    async fn paused(&mut self, error: &NotTaken, tried: u32) -> bool {
        let doubled = FIRST_PAUSE.saturating_mul(1 << (tried - 1).min(8));
        let pause = error.retry_after().unwrap_or(doubled).max(doubled).min(LONGEST_PAUSE);
        // Servers that lost the same collector do not all come back at the same moment.
        let more = Duration::from_millis(self.tracer.draw(u64::try_from(pause.as_millis() / 2).unwrap_or(0)));
        let mut stopping = self.stopping.clone();
        tokio::select! {
            biased;
            _ = stopping.wait_for(|stopping| *stopping) => false,
            // An error says that nobody can change them any more.
            changed = self.settings.changed() => changed.is_ok(),
            () = sleep(pause + more) => true,
        }
    }
}

#[cfg(test)]
mod tests;
