//! A served watch: what is new for this caller, told when something was committed, when his rights have changed, and when a
//! condition on the time turns, each at the next tick ([`super::ticks`]). What is told is decided in the store ([`sys_store::Watch`]), each round in a read transaction
//! of its own, in which the caller's epoch is judged; here it is only asked at the right moments.

use super::{
    Stream,
    answers::Out,
    ticks::{Beat, TICK, Tick},
};
use crate::{
    call::Call,
    gate::{Work, kept::Room, served, step_up},
    refusal::Refusal,
    wire,
};
use bytes::Bytes;
use futures_util::FutureExt;
use prost_reflect::{DynamicMessage, FieldDescriptor, Value};
use std::{
    pin::pin,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use sys_contract::{
    id::{OrgId, OrgTag},
    model::{self, Serve, Shape},
};
use sys_policy::Now;
use sys_store::{Batch, Moment, Table, Watch, WatchEvent, WatchRequest, engine::Changes};
use tokio::{
    sync::Mutex,
    time::{Instant, sleep, sleep_until},
};

/// The longest rest of a watch that took long.
const LONGEST_REST: Duration = Duration::from_secs(5);

/// The parts of a message that tells an event.
struct Told {
    event: FieldDescriptor,
    id: FieldDescriptor,
    item: FieldDescriptor,
    resume_token: FieldDescriptor,
}

/// A watch that is open.
struct Watching<'a> {
    stream: &'a Stream,
    table: &'a Arc<Table>,
    told: &'a Told,
    asked: WatchRequest,
    request: &'a DynamicMessage,
    watch: Mutex<Watch>,
    /// For what it remembers.
    room: Room,
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
        let mut beat = self.gate.ticks.join(&self.gate);
        let begin = Begin { table, asked: &asked, request };
        let watch = Mutex::new(Box::pin(self.in_time(self.in_turn(&begin))).await?);
        let room = self.gate.kept.room_of_watch(self.identified().whose());
        let mut watching = Watching { stream: self, table, told: &told, asked, request, watch, room };
        let mut due = None;
        loop {
            let tick = self.next_look(&mut beat, &mut changes, due).await?;
            due = Box::pin(watching.look(tick, &mut beat, out)).await?;
            self.wake_at(due);
        }
    }

    /// Waits for the tick at which the watch is to be looked at.
    async fn next_look(&self, beat: &mut Beat, changes: &mut Changes, due: Option<Now>) -> Result<Tick, Refusal> {
        let soon = sleep(due.map_or(Duration::MAX, |due| until(due, self.gate.clock.now()).saturating_sub(TICK)));
        let (mut soon, mut is_soon) = (pin!(soon), false);
        loop {
            let is_stirred = beat.is_stirred();
            tokio::select! {
                biased;
                refusal = self.must_end() => return Err(refusal),
                () = self.judged.notified() => beat.stir(),
                () = changes.next() => beat.stir(),
                () = soon.as_mut(), if !is_soon => is_soon = true,
                tick = beat.next(due), if is_stirred || is_soon => return Ok(tick),
            }
        }
    }

    /// Hands over what is new as it is taken, if there is room for it until then.
    async fn tell_new(&self, out: &Out, messages: Vec<Bytes>) -> Result<(), Refusal> {
        let bytes = messages.iter().map(Bytes::len).sum();
        let _room = self.gate.kept.room_for(self.identified().whose(), bytes)?;
        out.send(messages).await
    }

    /// Does some work in a call, as soon as it is its turn among the rounds of all watches.
    async fn in_turn<W: Work>(&self, work: &W) -> Result<W::Done, Refusal> {
        let _running = self.gate.load.enter_round().await?;
        self.done(work).await
    }

    /// Sees to it that the stream is stirred at this time of the server's clock, also where that is set.
    fn wake_at(&self, at: Option<Now>) {
        let unix_s = at.map_or(i64::MAX, |at| at.unix_s.saturating_add(i64::from(at.nanos > 0)));
        self.wake_unix_s.store(unix_s, Ordering::Relaxed);
        self.place.due_by(unix_s);
    }
}

impl Watching<'_> {
    /// Brings the watch up to a tick and tells what is new, when it is time to. Gives when it must be looked at again in any
    /// case.
    async fn look(&mut self, tick: Tick, beat: &mut Beat, out: &Out) -> Result<Option<Now>, Refusal> {
        let stream = self.stream;
        // From here on it is judged by the right that there is now.
        let _ = stream.moved.notified().now_or_never();
        let (mut begun, mut worked, mut moment) = (tick.at, Duration::ZERO, tick.moment);
        let mut told_at = Some(tick);
        loop {
            let round = Round { watching: self, moment };
            let Said { messages, more, wake_at, remembered_bytes } =
                Box::pin(stream.in_time(stream.in_turn(&round))).await?;
            let ready = Instant::now();
            worked += ready.saturating_duration_since(begun);
            self.room.resize(remembered_bytes)?;
            let tells = !messages.is_empty();
            let telling = async {
                if let Some(tick) = told_at.take_if(|_| tells) {
                    sleep_until(tick.told_at(ready)).await;
                }
                stream.tell_new(out, messages).await
            };
            tokio::select! {
                biased;
                () = stream.moved.notified() => return self.begin_anew(beat).await,
                told = telling => told?,
            }
            if !more {
                return self.rest(worked).await.map(|()| wake_at);
            }
            stream.pause(Duration::ZERO).await?;
            if tells {
                // What is hidden from him is not counted as his.
                stream.pace(false).await?;
            }
            (begun, moment) = (Instant::now(), beat.last().map_or(moment, |tick| tick.moment));
        }
    }

    /// What has been judged by a right that is another now is not told any more. What the caller was shown is not known then.
    async fn begin_anew(&mut self, beat: &mut Beat) -> Result<Option<Now>, Refusal> {
        self.asked.resume_token.clear();
        let begin = Begin { table: self.table, asked: &self.asked, request: self.request };
        self.watch = Mutex::new(Box::pin(self.stream.in_time(self.stream.in_turn(&begin))).await?);
        beat.stir();
        Ok(None)
    }

    /// A watch that takes long looks more seldom, so that it has a fifth of the time, and others have theirs.
    async fn rest(&self, worked: Duration) -> Result<(), Refusal> {
        let Some(rest) = rest_after(worked) else { return Ok(()) };
        tokio::select! {
            biased;
            () = self.stream.moved.notified() => Ok(()),
            rested = self.stream.pause(rest) => rested,
        }
    }
}

/// How long a watch rests after a look. After one of a fifth of a tick it waits for the next tick in any case.
fn rest_after(worked: Duration) -> Option<Duration> {
    (worked > TICK / 5).then(|| worked.saturating_mul(4).min(LONGEST_REST))
}

/// How long it is until a time of the server's clock.
fn until(at: Now, now: Now) -> Duration {
    let since_1970 =
        |at: Now| Duration::new(u64::try_from(at.unix_s).unwrap_or(0), u32::try_from(at.nanos).unwrap_or(0));
    since_1970(at).saturating_sub(since_1970(now))
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
    watching: &'a Watching<'a>,
    moment: Moment,
}

/// What a round came to.
struct Said {
    messages: Vec<Bytes>,
    more: bool,
    wake_at: Option<Now>,
    remembered_bytes: usize,
}

impl Work for Round<'_> {
    type Done = Said;

    async fn run(&self, call: &Call) -> Result<Said, Refusal> {
        let Watching { stream, table, asked, watch, .. } = self.watching;
        served::note_org(call, &asked.org_id);
        let mut watch = watch.lock().await;
        let batch = call.open().await?.confined(table, call.caller()).follow(&mut watch, &self.moment).await?;
        let Batch { events, more, wake_at } = batch;
        let written = events.into_iter().map(|event| wire::encode(&self.message(call, event), stream.format));
        let messages = written.collect::<Result<_, _>>()?;
        Ok(Said { messages, more, wake_at, remembered_bytes: watch.size_bytes() })
    }

    /// Else a round of which somebody was told might run again, and would not tell it again.
    fn audits_reads(&self) -> bool {
        false
    }

    fn ended(&self, call: &Call) {
        self.watching.stream.note_about(call);
    }
}

impl Round<'_> {
    fn message(&self, call: &Call, event: WatchEvent) -> DynamicMessage {
        let Watching { told, table, .. } = self.watching;
        let mut message = DynamicMessage::new(call.method().method().descriptor.output());
        let mut is = |event: model::WatchEvent| {
            message.set_field(&told.event, Value::EnumNumber(event.number()));
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
                message.set_field(&told.id, Value::String(table.id_text(id)));
                None
            }
            WatchEvent::Current { resume_token } => {
                is(model::WatchEvent::Current);
                message.set_field(&told.resume_token, Value::String(resume_token));
                None
            }
        };
        if let Some(view) = view {
            message.set_field(&told.id, Value::String(table.id_text(view.id())));
            message.set_field(&told.item, Value::Message(view.into_message()));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_look_of_more_than_20_ms_is_followed_by_a_rest() {
        let ms = Duration::from_millis;
        let check = |worked, expect| assert_eq!(rest_after(worked), expect, "{worked:?}");
        check(ms(13), None);
        check(ms(20), None);
        check(ms(21), Some(ms(84)));
        check(ms(60_000), Some(LONGEST_REST));
    }
}
