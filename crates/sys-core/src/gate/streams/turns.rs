//! The turns of a stream: what is done with one message, or for one part of the answers.
//!
//! A turn waits for its bucket and for its place among the calls that run; then it is decoded, validated, judged, handled and
//! committed like a call. What one is refused for ends the stream; what those before it stored stays.

use super::{Course, Stream, answers::Out};
use crate::{
    call::Call,
    gate::{
        Work, authorize,
        load::{Running, overloaded},
        request::too_large,
        shown, step_up,
    },
    module::{HandleTurn, Left, Next, SHORTEST_PAUSE},
    refusal::{Reason, Refusal},
    wire,
};
use bytes::Bytes;
use connectrpc::{ConnectError, ErrorCode, dispatcher::RequestStream};
use futures_util::StreamExt;
use prost_reflect::{DynamicMessage, prost::Message};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// A turn that waits for its bucket no longer than this waits, and its caller feels it by the transport's flow control. One
/// that would wait longer is refused.
const LONGEST_PACE: Duration = Duration::from_secs(1);
/// The longest silence of a caller who may send messages.
const LONGEST_SILENCE: Duration = Duration::from_secs(300);

/// Where a stream stands between its turns.
struct Turns<'a> {
    handle: &'a HandleTurn,
    left: Left,
    /// The first turn was paid for when the stream was let in, and has a leaf where the contract wants one of reads.
    is_first: bool,
}

/// What a turn came to.
struct Said {
    answers: Vec<Bytes>,
    left: Left,
    next: Next,
}

impl<'a> Turns<'a> {
    fn of(handle: &'a HandleTurn) -> Self {
        Self { handle, left: None, is_first: true }
    }
}

impl Stream {
    /// Follows a course to its end.
    pub(super) async fn follow(&self, course: Course, out: &Out) -> Result<(), Refusal> {
        match course {
            Course::Answer(request, handle) => self.answer(request, &handle, out).await,
            Course::Watch(request, serve) => self.watch(request, &serve, out).await,
            Course::Converse(requests, handle) => self.converse(requests, &handle, out).await.map(drop),
            Course::Collect(requests, handle, conclude) => {
                let left = self.converse(requests, &handle, out).await?;
                let answer = conclude(left)?;
                let conclusion = Conclusion { stream: self, answer };
                let answer = Box::pin(self.in_time(self.done(&conclusion))).await?;
                self.tell(out, vec![answer]).await
            }
        }
    }

    /// Answers one request, part after part.
    async fn answer(&self, request: Bytes, handle: &HandleTurn, out: &Out) -> Result<(), Refusal> {
        let decoded = self.decoded(request)?;
        let request = self.request.get_or_init(|| decoded);
        let mut turns = Turns::of(handle);
        loop {
            if !turns.is_first {
                self.pace(false).await?;
            }
            let part = async {
                let _running = self.enter().await?;
                self.turn(&mut turns, request).await
            };
            let (answers, next) = Box::pin(self.in_time(part)).await?;
            self.tell(out, answers).await?;
            match next {
                Next::End => return Ok(()),
                Next::Now => self.pause(Duration::ZERO).await?,
                Next::After(pause) => self.pause(pause.max(SHORTEST_PAUSE)).await?,
            }
        }
    }

    /// Takes one message after the other, and answers each.
    async fn converse(&self, mut requests: RequestStream, handle: &HandleTurn, out: &Out) -> Result<Left, Refusal> {
        let mut turns = Turns::of(handle);
        while let Some(message) = self.heard(&mut requests).await? {
            if !turns.is_first {
                self.pace(true).await?;
            }
            let answer = async {
                let _running = self.enter().await?;
                let request = self.decoded(message)?;
                self.turn(&mut turns, &request).await
            };
            let (answers, _) = Box::pin(self.in_time(answer)).await?;
            self.tell(out, answers).await?;
        }
        Ok(turns.left)
    }

    /// The next message; nothing when the caller has said all that he had to say.
    async fn heard(&self, requests: &mut RequestStream) -> Result<Option<Bytes>, Refusal> {
        self.unread.ask_for_next();
        tokio::select! {
            biased;
            refusal = self.must_end() => Err(refusal),
            heard = timeout(LONGEST_SILENCE, requests.next()) => match heard {
                Ok(None | Some(Err(_))) if self.unread.is_too_much() => Err(overloaded()),
                Ok(None) => Ok(None),
                Ok(Some(Ok(message))) => Ok(Some(message)),
                Ok(Some(Err(error))) => Err(self.refused_by_library(&error)),
                Err(_) => Err(Refusal::new(Reason::StreamIdle, "nothing came on the stream for too long")
                    .help("open a stream when there is something to say, and close it when all is said")),
            },
        }
    }

    /// Waits for the place of a turn.
    async fn enter(&self) -> Result<Running<'_>, Refusal> {
        let identified = self.identified();
        self.gate.kept.may_begin(&identified.whose())?;
        self.gate.load.enter(identified.way.source).await
    }

    /// Hands answers over as they are taken. Until then they have their part of the room for what is kept for callers, past a share
    /// if need be: what they answer may be stored.
    async fn tell(&self, out: &Out, answers: Vec<Bytes>) -> Result<(), Refusal> {
        let bytes = answers.iter().map(Bytes::len).sum();
        let _room = self.gate.kept.room_anyway(self.identified().whose(), bytes);
        out.send(answers).await
    }

    /// Waits so long, unless the stream has to end.
    pub(super) async fn pause(&self, pause: Duration) -> Result<(), Refusal> {
        tokio::select! {
            biased;
            refusal = self.must_end() => Err(refusal),
            () = sleep(pause) => Ok(()),
        }
    }

    /// Comes back when the stream has to end where it waits.
    pub(super) async fn must_end(&self) -> Refusal {
        loop {
            if let Some(refusal) = self.place.must_end(self.gate.clock.now().unix_s) {
                return refusal;
            }
            self.place.told.wind_up.notified().await;
        }
    }

    pub(super) fn decoded(&self, message: Bytes) -> Result<DynamicMessage, Refusal> {
        let request = wire::decode(self.method.method().descriptor.input(), message, self.format)?;
        crate::host::validate(&self.method, &request)?;
        Ok(request)
    }

    async fn turn(&self, turns: &mut Turns<'_>, request: &DynamicMessage) -> Result<(Vec<Bytes>, Next), Refusal> {
        let Said { answers, left, next } = self.done(&Turn { stream: self, turns, request }).await?;
        (turns.left, turns.is_first) = (left, false);
        Ok((answers, next))
    }

    /// Does some work in a call of this stream's caller.
    pub(super) async fn done<W: Work>(&self, work: &W) -> Result<W::Done, Refusal> {
        let mut identified = self.identified();
        let done = self.gate.tried(&self.method, &mut identified, work).await?;
        self.is_now(identified);
        Ok(done)
    }

    /// Within the time that the contract gives a call.
    pub(super) async fn in_time<T>(&self, turn: impl Future<Output = Result<T, Refusal>>) -> Result<T, Refusal> {
        let longest = Duration::from_millis(u64::from(self.method.method().deadline_ms));
        timeout(longest, turn).await.unwrap_or_else(|_| {
            Err(Refusal::new(Reason::Deadline, "a part of the stream took too long and was given up")
                .help("a change may have been stored all the same: look before you try again"))
        })
    }

    /// Takes one from each bucket that a call takes one from. For a message also from that of the method.
    pub(super) async fn pace(&self, is_message: bool) -> Result<(), Refusal> {
        let identified = self.identified();
        let (gate, account, source) = (&self.gate, identified.caller.account(), identified.way.source);
        let note = |refusal: &Refusal| gate.note(&identified, self.method.path(), refusal);
        if let Some(source) = source {
            patiently(|| gate.throttle.source(source)).await.inspect_err(|_| gate.refusals.count())?;
        }
        if let Some(account) = account {
            patiently(|| gate.throttle.account(account)).await.inspect_err(note)?;
        }
        if let Some(rate) = self.method.rate.as_ref().filter(|_| is_message) {
            patiently(|| gate.throttle.method(rate, account, source)).await.inspect_err(note)?;
        }
        Ok(())
    }

    /// What the RPC library refuses by itself of what came.
    fn refused_by_library(&self, error: &ConnectError) -> Refusal {
        let most_bytes = usize::try_from(self.method.method().max_request_bytes).unwrap_or(usize::MAX);
        match error.code {
            ErrorCode::ResourceExhausted => too_large(most_bytes),
            ErrorCode::Internal => Refusal::new(Reason::Malformed, "the stream broke off"),
            _ => Refusal::new(Reason::Malformed, "a message is not framed and compressed as the headers say")
                .help(format!("send messages of at most {most_bytes} bytes, unpacked")),
        }
    }
}

/// Takes one from a bucket as soon as there is one, if that is soon.
async fn patiently(take: impl Fn() -> Result<(), Refusal>) -> Result<(), Refusal> {
    let until = Instant::now() + LONGEST_PACE;
    loop {
        let Err(refusal) = take() else { return Ok(()) };
        match refusal.retry_after() {
            Some(wait) if Instant::now() + wait <= until => sleep(wait).await,
            _ => return Err(refusal),
        }
    }
}

/// One turn.
struct Turn<'a> {
    stream: &'a Stream,
    turns: &'a Turns<'a>,
    request: &'a DynamicMessage,
}

impl Work for Turn<'_> {
    type Done = Said;

    async fn run(&self, call: &Call) -> Result<Said, Refusal> {
        step_up(call.method(), call.caller(), Some(self.request), call.now())?;
        let permit = authorize(call, self.request).await?;
        call.note(|subject| subject.grant = Some(permit.grant()));
        let message = self.request.encode_to_vec().into();
        let turned = (self.turns.handle)(permit, call.clone(), message, self.turns.left.clone()).await?;
        let mut answers = Vec::with_capacity(turned.answers.len());
        for answer in turned.answers {
            answers.push(wire::encode(&shown(call, answer).await?, self.stream.format)?);
        }
        Ok(Said { answers, left: turned.left, next: turned.next })
    }

    fn audits_reads(&self) -> bool {
        self.turns.is_first
    }

    fn ended(&self, call: &Call) {
        self.stream.note_about(call);
    }
}

/// The answer to all messages of a client stream, made from what the last of them left.
struct Conclusion<'a> {
    stream: &'a Stream,
    answer: Bytes,
}

impl Work for Conclusion<'_> {
    type Done = Bytes;

    async fn run(&self, call: &Call) -> Result<Bytes, Refusal> {
        if !call.method().could(call.caller(), call.now()) {
            return Err(Refusal::method_refused());
        }
        wire::encode(&shown(call, self.answer.clone()).await?, self.stream.format)
    }

    fn audits_reads(&self) -> bool {
        false
    }
}
