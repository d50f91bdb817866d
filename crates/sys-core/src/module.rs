//! What a module brings: a contract, and a handler for each method that has logic.

use crate::{call::Call, gate::Permit, refusal::Refusal};
use bytes::Bytes;
use std::{collections::BTreeMap, fmt, future::Future, pin::Pin, sync::Arc};
use sys_contract::model::Contract;

/// A future of a handler.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A handler with its types erased: served, in-process and (later) remote methods look alike to the gate. It may run again
/// after a conflict, so that it has no effect but its call's transaction.
pub type Handle = Arc<dyn Fn(Permit, Call, Bytes) -> BoxFuture<Result<Bytes, Refusal>> + Send + Sync>;

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
    handles: BTreeMap<&'static str, Handle>,
    twice: Vec<&'static str>,
}

impl fmt::Debug for Handlers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.handles.keys()).finish()
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
        if self.handles.insert(path, handle).is_some() {
            self.twice.push(path);
        }
    }

    pub(crate) fn take(&mut self, path: &str) -> Option<Handle> {
        self.handles.remove(path)
    }

    /// What stands ready for no method of the contract, or twice for one.
    pub(crate) fn left_over(&self) -> impl Iterator<Item = &'static str> {
        self.handles.keys().copied().chain(self.twice.iter().copied())
    }
}
