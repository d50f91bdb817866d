//! A served watch: what is new for this caller, told when something was committed, when his rights have changed, and when a
//! condition on the time turns. What is told is decided in the store ([`sys_store::Watch`]), each round in a read transaction
//! of its own, in which the caller's epoch is judged; here it is only asked at the right moments.

use super::{Stream, answers::Out};
use crate::{
    call::Call,
    gate::{Work, served, step_up},
    module::SHORTEST_PAUSE,
    refusal::Refusal,
    wire,
};
use bytes::Bytes;
use prost_reflect::{DynamicMessage, FieldDescriptor, Value};
use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use sys_contract::{
    id::{OrgId, OrgTag},
    model::{self, Serve, Shape},
};
use sys_policy::Now;
use sys_store::{Batch, Table, Watch, WatchEvent, WatchRequest};
use tokio::sync::Mutex;

/// The parts of a message that tells an event.
struct Told {
    event: FieldDescriptor,
    id: FieldDescriptor,
    item: FieldDescriptor,
    resume_token: FieldDescriptor,
}

impl Stream {
    /// Tells what is shown and then what is new, until the stream ends.
    pub(super) async fn watch(&self, request: Bytes, serve: &Serve, out: &Out) -> Result<(), Refusal> {
        let decoded = self.decoded(request)?;
        let request = self.request.get_or_init(|| decoded);
        let table = self.method.module.tables.table(serve.record).ok_or_else(|| Refusal::internal("no such table"))?;
        let (asked, told) = parts(&serve.shape, request)?;
        let org = asked.org_id.parse().map_or(OrgTag::GLOBAL, |org: OrgId| org.tag());
        // Before the first look, so that nothing is missed in between.
        let mut changes = self.gate.store.changes(table, org);
        let begin = Begin { table, asked: &asked, request };
        let watch = Mutex::new(Box::pin(self.in_time(self.in_turn(&begin))).await?);
        loop {
            let round = Round { stream: self, table, told: &told, asked: &asked, watch: &watch };
            let Said { messages, more, wake_at } = Box::pin(self.in_time(self.in_turn(&round))).await?;
            out.send(messages).await?;
            if more {
                self.pause(Duration::ZERO).await?;
                // What others commit is not counted as his calls.
                self.pace(false).await?;
                continue;
            }
            self.wake_at(wake_at);
            // Many commits are one round.
            self.pause(SHORTEST_PAUSE).await?;
            tokio::select! {
                biased;
                refusal = self.must_end() => return Err(refusal),
                () = self.judged.notified() => {}
                () = changes.next() => {}
            }
        }
    }

    /// Does some work in a call, as soon as it is its turn among the rounds of all watches.
    async fn in_turn<W: Work>(&self, work: &W) -> Result<W::Done, Refusal> {
        let _running = self.gate.load.enter_round().await?;
        self.done(work).await
    }

    /// Sees to it that the stream is stirred at this time of the server's clock.
    fn wake_at(&self, at: Option<Now>) {
        let unix_s = at.map_or(i64::MAX, |at| at.unix_s.saturating_add(i64::from(at.nanos > 0)));
        self.wake_unix_s.store(unix_s, Ordering::Relaxed);
        self.place.due_by(unix_s);
    }
}

/// Begins a watch.
struct Begin<'a> {
    table: &'a Arc<Table>,
    asked: &'a WatchRequest,
    request: &'a DynamicMessage,
}

impl Work for Begin<'_> {
    type Done = Watch;

    async fn run(&self, call: &Call) -> Result<Watch, Refusal> {
        step_up(call.method(), call.caller(), Some(self.request), call.now())?;
        served::note_org(call, &self.asked.org_id);
        Ok(call.open().await?.confined(self.table, call.caller()).watch(self.asked).await?)
    }
}

/// A round of a watch. It writes nothing, and so runs once.
struct Round<'a> {
    stream: &'a Stream,
    table: &'a Arc<Table>,
    told: &'a Told,
    asked: &'a WatchRequest,
    watch: &'a Mutex<Watch>,
}

/// What a round came to.
struct Said {
    messages: Vec<Bytes>,
    more: bool,
    wake_at: Option<Now>,
}

impl Work for Round<'_> {
    type Done = Said;

    async fn run(&self, call: &Call) -> Result<Said, Refusal> {
        served::note_org(call, &self.asked.org_id);
        let mut watch = self.watch.lock().await;
        let batch = call.open().await?.confined(self.table, call.caller()).follow(&mut watch).await?;
        let Batch { events, more, wake_at } = batch;
        let written = events.into_iter().map(|event| wire::encode(&self.message(call, event), self.stream.format));
        Ok(Said { messages: written.collect::<Result<_, _>>()?, more, wake_at })
    }

    /// Else a round of which somebody was told might run again, and would not tell it again.
    fn audits_reads(&self) -> bool {
        false
    }

    fn ended(&self, call: &Call) {
        self.stream.note_about(call);
    }
}

impl Round<'_> {
    fn message(&self, call: &Call, event: WatchEvent) -> DynamicMessage {
        let mut message = DynamicMessage::new(call.method().method().descriptor.output());
        let mut is = |event: model::WatchEvent| {
            message.set_field(&self.told.event, Value::EnumNumber(event.number()));
        };
        let view = match event {
            WatchEvent::Reset => {
                is(model::WatchEvent::Reset);
                None
            }
            WatchEvent::Added(view) => {
                is(model::WatchEvent::Added);
                Some(view)
            }
            WatchEvent::Changed(view) => {
                is(model::WatchEvent::Changed);
                Some(view)
            }
            WatchEvent::Removed(id) => {
                is(model::WatchEvent::Removed);
                message.set_field(&self.told.id, Value::String(self.table.id_text(id)));
                None
            }
            WatchEvent::Current { resume_token } => {
                is(model::WatchEvent::Current);
                message.set_field(&self.told.resume_token, Value::String(resume_token));
                None
            }
        };
        if let Some(view) = view {
            message.set_field(&self.told.id, Value::String(self.table.id_text(view.id())));
            message.set_field(&self.told.item, Value::Message(view.into_message()));
        }
        message
    }
}

/// What is asked for, and where the answers stand.
fn parts(shape: &Shape, request: &DynamicMessage) -> Result<(WatchRequest, Told), Refusal> {
    let Shape::Watch { org, project, filter, resume_token, event, id, item, next_resume_token } = shape else {
        return Err(Refusal::internal("a watch of another shape"));
    };
    let text = |field: &FieldDescriptor| served::text_at(request, field).unwrap_or_default();
    let optional = |field: &Option<FieldDescriptor>| field.as_ref().map(text).unwrap_or_default();
    let asked = WatchRequest {
        org_id: optional(org),
        project_id: optional(project),
        filter: optional(filter),
        resume_token: text(resume_token),
    };
    let [event, id, item, resume_token] = [event, id, item, next_resume_token].map(Clone::clone);
    Ok((asked, Told { event, id, item, resume_token }))
}
