//! What a module brings: a contract, and a handler for each method that has logic.
//!
//! A handler of a stream never sees the stream. It is called for each turn: for each message that the caller sends, or for
//! each part of what a server stream answers. A turn is a call like any other, with a transaction and a judgement of its own;
//! what one turn leaves for the next is a value that the gate keeps meanwhile.

use crate::{call::Call, gate::Permit, refusal::Refusal};
use bytes::Bytes;
use std::{any::Any, collections::BTreeMap, fmt, future::Future, pin::Pin, sync::Arc, time::Duration};
use sys_contract::model::{Contract, Flow};

/// A future of a handler.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A handler with its types erased: served, in-process and (later) remote methods look alike to the gate. It may run again
/// after a conflict, so that it has no effect but its call's transaction.
pub type Handle = Arc<dyn Fn(Permit, Call, Bytes) -> BoxFuture<Result<Bytes, Refusal>> + Send + Sync>;

/// The same for a turn of a stream: the request of a server stream, or the message that has just come, and what the turn
/// before left.
pub(crate) type HandleTurn = Arc<dyn Fn(Permit, Call, Bytes, Left) -> BoxFuture<Result<Turned, Refusal>> + Send + Sync>;

/// What answers a client stream at its end, from what its last turn left.
pub(crate) type Conclude = Arc<dyn Fn(Left) -> Result<Bytes, Refusal> + Send + Sync>;

/// What a turn left for the next; nothing before the first. The type is the handler's own.
pub(crate) type Left = Option<Arc<dyn Any + Send + Sync>>;

/// What a turn of a stream came to, with its types erased.
pub(crate) struct Turned {
    pub(crate) answers: Vec<Bytes>,
    pub(crate) left: Left,
    pub(crate) next: Next,
}

/// What stands behind a method with logic.
#[derive(Clone)]
pub(crate) enum Handler {
    Unary(Handle),
    ServerStream(HandleTurn),
    ClientStream(HandleTurn, Conclude),
    Bidi(HandleTurn),
}

impl Handler {
    pub(crate) fn flow(&self) -> Flow {
        match self {
            Self::Unary(_) => Flow::Unary,
            Self::ServerStream(_) => Flow::ServerStream,
            Self::ClientStream(..) => Flow::ClientStream,
            Self::Bidi(_) => Flow::Bidi,
        }
    }
}

/// A part of what a server stream answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part<Res, S> {
    /// The answers, in their order: [`MAX_ANSWERS`] at most.
    pub answers: Vec<Res>,
    /// What the handler wants to know in its next turn.
    pub state: S,
    /// When that is.
    pub next: Next,
}

/// When a server stream goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// As soon as the caller has taken what there is.
    Now,
    /// After this time, of [`SHORTEST_PAUSE`] at least.
    After(Duration),
    /// Never: there is no more.
    End,
}

/// Answers in one turn of a stream. They are held until the caller has taken them.
pub const MAX_ANSWERS: usize = 256;
/// The shortest time between two turns of a stream that waits for something.
pub const SHORTEST_PAUSE: Duration = Duration::from_millis(100);

/// A module in this process. Trusted: it is contained against mistakes, not against malice.
pub trait Module: Send + Sync + 'static {
    /// Its contract, compiled.
    fn contract(&self) -> Arc<Contract>;
    /// Registers a handler for each method that the contract does not serve. A gap or an extra refuses the load.
    fn register(self: Arc<Self>, handlers: &mut Handlers);
}

/// The handlers of one module.
#[derive(Default)]
pub struct Handlers {
    handlers: BTreeMap<&'static str, Handler>,
    twice: Vec<&'static str>,
}

impl fmt::Debug for Handlers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.handlers.keys()).finish()
    }
}

impl Handlers {
    /// Stands ready for the method at this path, such as `notes.v1.NoteService/PublishNote`. The request has passed the
    /// gate: the caller may call, the message is valid, its target is one that he may act on.
    pub fn unary<Req, Res, F, Fut>(&mut self, path: &'static str, handler: F)
    where
        Req: prost::Message + Default + 'static,
        Res: prost::Message + 'static,
        F: Fn(Call, Req) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<Res, Refusal>> + Send + 'static,
    {
        let handle: Handle = Arc::new(move |_permit, call, request| {
            let handler = handler.clone();
            Box::pin(async move {
                let request = Req::decode(request).map_err(Refusal::internal)?;
                handler(call, request).await.map(|response| Bytes::from(response.encode_to_vec()))
            })
        });
        self.add(path, Handler::Unary(handle));
    }

    /// Stands ready for a method that answers by a stream. Called for one part after the other, each time with the request and
    /// with what it left the last time. Each part is judged anew, on the request and its target as it is then.
    pub fn server_stream<Req, Res, S, F, Fut>(&mut self, path: &'static str, handler: F)
    where
        Req: prost::Message + Default + 'static,
        Res: prost::Message + 'static,
        S: Default + Clone + Send + Sync + 'static,
        F: Fn(Call, Req, S) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<Part<Res, S>, Refusal>> + Send + 'static,
    {
        self.add(path, Handler::ServerStream(turn(handler)));
    }

    /// Stands ready for a method that takes a stream and answers once. Called for each message with what the last one left;
    /// what each writes is stored before the next is looked at. The answer is made from what the last one left, and from
    /// nothing else.
    pub fn client_stream<Req, Res, S, F, Fut, C>(&mut self, path: &'static str, handler: F, conclude: C)
    where
        Req: prost::Message + Default + 'static,
        Res: prost::Message + 'static,
        S: Default + Clone + Send + Sync + 'static,
        F: Fn(Call, Req, S) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<S, Refusal>> + Send + 'static,
        C: Fn(S) -> Result<Res, Refusal> + Send + Sync + 'static,
    {
        let handle = turn(move |call, request: Req, state: S| {
            let handled = handler(call, request, state);
            async move { handled.await.map(|state| Part { answers: Vec::<Res>::new(), state, next: Next::Now }) }
        });
        let conclude = move |left| {
            let answer = conclude(state_of::<S>(left)?)?;
            Ok(Bytes::from(answer.encode_to_vec()))
        };
        self.add(path, Handler::ClientStream(handle, Arc::new(conclude)));
    }

    /// Stands ready for a method that takes a stream and answers by one. Called for each message with what the last one left;
    /// answers it with any number of messages ([`MAX_ANSWERS`]). What each writes is stored before its answers are sent.
    pub fn bidi<Req, Res, S, F, Fut>(&mut self, path: &'static str, handler: F)
    where
        Req: prost::Message + Default + 'static,
        Res: prost::Message + 'static,
        S: Default + Clone + Send + Sync + 'static,
        F: Fn(Call, Req, S) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<(Vec<Res>, S), Refusal>> + Send + 'static,
    {
        let handle = turn(move |call, request: Req, state: S| {
            let handled = handler(call, request, state);
            async move { handled.await.map(|(answers, state)| Part { answers, state, next: Next::Now }) }
        });
        self.add(path, Handler::Bidi(handle));
    }

    fn add(&mut self, path: &'static str, handler: Handler) {
        if self.handlers.insert(path, handler).is_some() {
            self.twice.push(path);
        }
    }

    pub(crate) fn take(&mut self, path: &str) -> Option<Handler> {
        self.handlers.remove(path)
    }

    /// What stands ready for no method of the contract, or twice for one.
    pub(crate) fn left_over(&self) -> impl Iterator<Item = &'static str> {
        self.handlers.keys().copied().chain(self.twice.iter().copied())
    }
}

/// Hands a module to each of its handlers, which are plain functions.
#[derive(Debug)]
pub struct Registry<'a, M> {
    module: Arc<M>,
    handlers: &'a mut Handlers,
}

impl<'a, M: Module> Registry<'a, M> {
    /// Of this module, into these handlers.
    pub fn new(module: Arc<M>, handlers: &'a mut Handlers) -> Self {
        Self { module, handlers }
    }

    /// Stands ready for the method at this path: [`Handlers::unary`].
    pub fn unary<Req, Res, Fut>(&mut self, path: &'static str, handler: fn(Arc<M>, Call, Req) -> Fut)
    where
        Req: prost::Message + Default + 'static,
        Res: prost::Message + 'static,
        Fut: Future<Output = Result<Res, Refusal>> + Send + 'static,
    {
        let module = self.module.clone();
        self.handlers.unary(path, move |call, request| handler(module.clone(), call, request));
    }
}

/// A handler of turns with its types erased.
fn turn<Req, Res, S, F, Fut>(handler: F) -> HandleTurn
where
    Req: prost::Message + Default + 'static,
    Res: prost::Message + 'static,
    S: Default + Clone + Send + Sync + 'static,
    F: Fn(Call, Req, S) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<Part<Res, S>, Refusal>> + Send + 'static,
{
    Arc::new(move |_permit, call, request, left| {
        let handler = handler.clone();
        Box::pin(async move {
            let request = Req::decode(request).map_err(Refusal::internal)?;
            let part = handler(call, request, state_of(left)?).await?;
            if part.answers.len() > MAX_ANSWERS {
                return Err(Refusal::internal("too many answers in one turn of a stream"));
            }
            let answers = part.answers.iter().map(|answer| Bytes::from(answer.encode_to_vec())).collect();
            Ok(Turned { answers, left: Some(Arc::new(part.state)), next: part.next })
        })
    })
}

/// What the last turn left, as its handler knows it.
fn state_of<S: Default + Clone + 'static>(left: Left) -> Result<S, Refusal> {
    let Some(left) = left else { return Ok(S::default()) };
    left.downcast_ref().cloned().ok_or_else(|| Refusal::internal("a stream's state of another type"))
}
