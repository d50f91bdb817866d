//! Streams: let in like any call, then one turn after the other, each of them a call with a transaction of its own.
//!
//! A stream runs in a task of its own, so that it hears that its right has ended though its peer reads nothing. Beside its
//! turns it watches over itself ([`Stream::watched`]): whoever moves the epoch of its account stirs it, and it looks at its
//! right by itself every few seconds ([`open`]). It holds none of the turns of [`super::load`] while it waits.
//!
//! What must never happen here: an answer that was not judged in the transaction that it was read in, and a stream that goes
//! on after what it was let in by is gone.

mod answers;
mod open;
mod ticks;
mod turns;
mod unread;
mod watch;

pub(crate) use answers::Answers;
pub(super) use open::{OpenStreams, Place};
pub(super) use ticks::Ticks;

use super::{Admitted, Gate, Identified, Work, authorize, log_of};
use crate::{
    call::Call,
    host::LoadedMethod,
    metrics::{CameTo, UnderWay},
    module::{Conclude, HandleTurn, Handler},
    refusal::{Reason, Refusal},
};
use answers::Out;
use bytes::Bytes;
use connectrpc::{CodecFormat, dispatcher::RequestStream};
use futures_util::FutureExt;
use prost_reflect::DynamicMessage;
use std::{
    fmt,
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Instant,
};
use sys_audit::leaf::ENDED;
use sys_contract::{
    id::{OrgTag, RecordId},
    model::Serve,
};
use sys_net::Network;
use tokio::{sync::Notify, time::sleep_until};
use unread::{Counted, Listening, Unread};

/// A stream that was let in and has not begun. Whoever takes it out begins it; so it begins once.
#[derive(Clone)]
pub(crate) struct Opening {
    opened: Arc<Mutex<Option<Opened>>>,
    unread: Arc<Unread>,
}

/// What is known of a stream that was let in.
pub(crate) struct Opened {
    admitted: Admitted,
    place: Place,
    unread: Listening,
    under_way: UnderWay,
}

impl fmt::Debug for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Opening")
    }
}

impl Opening {
    pub(super) fn new(gate: &Arc<Gate>, admitted: Admitted, place: Place, arrived: Instant) -> Self {
        let under_way = UnderWay::begin(&admitted.method, arrived, &admitted.came_to);
        let most_bytes = usize::try_from(admitted.method.method().max_request_bytes).unwrap_or(usize::MAX);
        let source = admitted.identified.way.source.map(Network::of);
        let unread = Unread::new(gate.clone(), source, most_bytes);
        let opened = Opened { admitted, place, unread: Listening::to(&unread), under_way };
        Self { opened: Arc::new(Mutex::new(Some(opened))), unread }
    }

    /// The body of its messages, which counts for what all bodies together may hold.
    pub(super) fn counted<B>(&self, body: B) -> Counted<B> {
        self.unread.counted(body)
    }

    pub(crate) fn take(&self) -> Option<Opened> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Opened {
    /// It was refused before it began.
    pub(super) fn refused(self, gate: &Gate, refusal: &Refusal) {
        gate.totals.refused(refusal);
        self.admitted.came_to.note::<()>(&Err(refusal.clone()));
    }
}

/// What a stream does from its beginning to its end.
enum Course {
    /// Answers this request.
    Answer(Bytes, HandleTurn),
    /// Tells what is new, as this request asks for it.
    Watch(Bytes, Serve),
    /// Answers each of these requests.
    Converse(RequestStream, HandleTurn),
    /// Takes all of these requests, then answers.
    Collect(RequestStream, HandleTurn, Conclude),
}

/// A stream that is open.
struct Stream {
    gate: Arc<Gate>,
    method: Arc<LoadedMethod>,
    /// Who calls, as he was loaded last.
    identified: Mutex<Identified>,
    /// The request of a server stream, once it is known. Its right hangs on it.
    request: OnceLock<DynamicMessage>,
    /// Its right was looked at, and there is one.
    judged: Notify,
    /// It was found to be another than before: what was judged by the old one and is not told yet is not told any more.
    moved: Notify,
    /// When a watch wants to be stirred in any case.
    wake_unix_s: AtomicI64,
    place: Place,
    unread: Listening,
    format: CodecFormat,
    /// What the last turn was about, where the contract wants reads in the audit log.
    about: Mutex<About>,
    came_to: CameTo,
    deadline: Option<Instant>,
    /// Counts the stream where it is dropped.
    _under_way: UnderWay,
}

/// The org and the records that a turn was judged on.
#[derive(Default)]
struct About {
    org: Option<OrgTag>,
    records: Vec<RecordId>,
}

impl Gate {
    /// Begins a stream that answers one request.
    pub(crate) fn server_stream(self: &Arc<Self>, opened: Opened, request: Bytes, format: CodecFormat) -> Answers {
        let method = &opened.admitted.method;
        let course = match (&method.method().serve, &method.handler) {
            (Some(serve), _) => Some(Course::Watch(request, serve.clone())),
            (None, Some(Handler::ServerStream(handle))) => Some(Course::Answer(request, handle.clone())),
            (None, _) => None,
        };
        self.begin_stream(opened, course, format)
    }

    /// Begins a stream that takes requests, and answers each of them, or all of them together.
    pub(crate) fn conversation(
        self: &Arc<Self>,
        opened: Opened,
        requests: RequestStream,
        format: CodecFormat,
    ) -> Answers {
        let course = match &opened.admitted.method.handler {
            Some(Handler::Bidi(handle)) => Some(Course::Converse(requests, handle.clone())),
            Some(Handler::ClientStream(handle, conclude)) => {
                Some(Course::Collect(requests, handle.clone(), conclude.clone()))
            }
            _ => None,
        };
        self.begin_stream(opened, course, format)
    }

    fn begin_stream(self: &Arc<Self>, opened: Opened, course: Option<Course>, format: CodecFormat) -> Answers {
        let Opened { admitted: Admitted { identified, method, came_to, deadline }, place, unread, under_way } = opened;
        let stream = Stream {
            gate: self.clone(),
            method,
            identified: Mutex::new(identified),
            request: OnceLock::new(),
            judged: Notify::new(),
            moved: Notify::new(),
            wake_unix_s: AtomicI64::new(i64::MAX),
            place,
            unread,
            format,
            about: Mutex::default(),
            came_to,
            deadline,
            _under_way: under_way,
        };
        let (mut out, answers) = answers::channel();
        tokio::spawn(async move {
            let ended = stream.run(course, &mut out).await;
            stream.note_end(ended.as_ref());
            // Before its peer hears of the end, its place is free and the stream is counted.
            drop(stream);
            out.end(ended.and_then(Result::err));
        });
        answers
    }

    /// Sees to it that streams look at their right when it is time.
    pub(crate) fn tend_streams(&self) {
        self.streams.tend(self.clock.clone());
    }

    /// Ends all open streams where they next wait, and lets no others in: the server is about to stop.
    pub(crate) fn end_streams(&self) {
        self.streams.stop();
    }

    /// How many streams are open.
    pub(crate) fn open_streams(&self) -> usize {
        self.streams.count()
    }
}

impl Stream {
    /// Runs it to its end; nothing if its caller has left.
    async fn run(&self, course: Option<Course>, out: &mut Out) -> Option<Result<(), Refusal>> {
        let Some(course) = course else {
            return Some(Err(Refusal::internal(format!("{} streams, and its handler does not", self.method.path()))));
        };
        let gone = out.taker_is_gone();
        let running = async {
            tokio::select! {
                biased;
                () = gone => None,
                refusal = self.watched() => Some(Err(refusal)),
                () = at(self.deadline) => Some(Err(Refusal::new(Reason::Deadline, "the time that you gave the stream is up")
                    .help("open another one, with more time or without a bound"))),
                ended = self.follow(course, out) => Some(ended),
            }
        };
        // What a handler that panics leaves behind is a stream that has ended.
        let panicked = || Refusal::internal(format!("{} panicked", self.method.path()));
        AssertUnwindSafe(running).catch_unwind().await.unwrap_or_else(|_| Some(Err(panicked())))
    }

    /// Looks at the stream's right whenever it is told to; comes back when there is none any more.
    async fn watched(&self) -> Refusal {
        loop {
            self.place.told.judge.notified().await;
            if let Err(refusal) = Box::pin(self.judge()).await {
                return refusal;
            }
        }
    }

    /// Whether the caller may have this stream open: his session lasts, and a grant of the method holds for him, on the
    /// target of a server stream as it is now.
    async fn judge(&self) -> Result<(), Refusal> {
        let mut identified = self.identified();
        let now = self.gate.clock.now();
        if now.unix_s >= identified.session_ends_unix_s {
            let refusal = Refusal::token_refused();
            self.gate.note(&identified, self.method.path(), &refusal);
            return Err(refusal);
        }
        let before = identified.epoch.clone();
        self.gate.tried(&self.method, &mut identified, &Right { stream: self }).await?;
        if identified.epoch != before {
            self.moved.notify_one();
        }
        let expiries = identified.caller.bindings().iter().filter_map(|binding| binding.expires_unix_s);
        let next_expiry = expiries.filter_map(|at| i64::try_from(at).ok()).filter(|at| *at > now.unix_s).min();
        let good_until = next_expiry.unwrap_or(i64::MAX).min(identified.session_ends_unix_s);
        self.place.judged(now.unix_s, good_until.min(self.wake_unix_s.load(Ordering::Relaxed)));
        self.is_now(identified);
        self.judged.notify_one();
        Ok(())
    }

    /// Keeps what a turn was about.
    fn note_about(&self, call: &Call) {
        if call.method().method().audit_full {
            let (leaf, org) = call.leaf();
            let records = leaf.record_ids().collect();
            *self.about.lock().unwrap_or_else(PoisonError::into_inner) = About { org, records };
        }
    }

    fn identified(&self) -> Identified {
        self.identified.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps the caller as he was loaded anew.
    fn is_now(&self, identified: Identified) {
        *self.identified.lock().unwrap_or_else(PoisonError::into_inner) = identified;
    }

    /// Notes what the stream came to, with a leaf where the contract wants one of reads.
    fn note_end(&self, ended: Option<&Result<(), Refusal>>) {
        if let Some(ended) = ended {
            self.came_to.note(ended);
        }
        let refusal = ended.and_then(|ended| ended.as_ref().err());
        if let Some(refusal) = refusal {
            self.gate.totals.refused(refusal);
        }
        if self.method.method().audit_full {
            let About { org, records } =
                std::mem::take(&mut *self.about.lock().unwrap_or_else(PoisonError::into_inner));
            let identified = self.identified();
            let leaf = identified.leaf(self.method.path(), &self.gate.clock.now()).records(records);
            let leaf = leaf.refused(refusal.map_or(ENDED, |refusal| refusal.reason.name()));
            self.gate.refusals.put(log_of(&leaf, org, &identified.caller), leaf);
        }
    }
}

/// Looks at a stream's right, and does nothing with it.
struct Right<'a> {
    stream: &'a Stream,
}

impl Work for Right<'_> {
    type Done = ();

    async fn run(&self, call: &Call) -> Result<(), Refusal> {
        // A watch shows what a list shows to its caller as he is now: it has no target to be judged on.
        let request = self.stream.request.get().filter(|_| call.method().method().serve.is_none());
        if let Some(request) = request {
            return authorize(call, request).await.map(drop);
        }
        // Of a conversation each message is judged by itself.
        if call.method().could(call.caller(), call.now()) { Ok(()) } else { Err(Refusal::method_refused()) }
    }

    fn audits_reads(&self) -> bool {
        false
    }
}

/// Comes back at this moment, or never.
async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
