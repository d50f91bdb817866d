//! Streams: answers that come one after the other, and requests that go out as they are made.
//!
//! A stream has no time of its own: the server ends it after an hour, and the transport asks a silent server for signs of
//! life. It goes on when the access token that it was opened with has run out; the server ends it with its session.

use crate::{CallError, Client, ClientError, Token};
use bytes::Bytes;
use futures_util::stream;
use prost::Message;
use prost_reflect::{DynamicMessage, MethodDescriptor};
use std::fmt;
use tokio::sync::mpsc;
use tonic::{Code, Streaming};

/// The answers of a stream.
pub struct Answers {
    client: Client,
    method: MethodDescriptor,
    path: String,
    /// The request, where there is one only, so that it can be sent again with a fresh token.
    request: Option<Bytes>,
    used: Option<Token>,
    answers: Streaming<Bytes>,
}

impl fmt::Debug for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answers").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Client {
    /// Opens a stream that answers one request.
    pub async fn listen(&self, method: &MethodDescriptor, request: &DynamicMessage) -> Result<Answers, ClientError> {
        let (path, request) = (path_of(method), Bytes::from(request.encode_to_vec()));
        let used = self.fresh_token().await?;
        let answers = self.channel().open(&path, once(request.clone()), used.as_ref()).await?;
        Ok(Answers { client: self.clone(), method: method.clone(), path, request: Some(request), used, answers })
    }

    /// Opens a stream that takes these requests as they come; it is all said when their sender is dropped. Of a method that
    /// answers once, this comes back when it answers.
    pub async fn converse(
        &self,
        method: &MethodDescriptor,
        requests: mpsc::Receiver<DynamicMessage>,
    ) -> Result<Answers, ClientError> {
        let path = path_of(method);
        let requests = stream::unfold(requests, async |mut requests| {
            requests.recv().await.map(|request| (Bytes::from(request.encode_to_vec()), requests))
        });
        let used = self.fresh_token().await?;
        let answers = self.channel().open(&path, requests, used.as_ref()).await?;
        Ok(Answers { client: self.clone(), method: method.clone(), path, request: None, used, answers })
    }
}

impl Answers {
    /// The next answer; nothing at the end.
    pub async fn next(&mut self) -> Result<Option<DynamicMessage>, ClientError> {
        let answer = match self.answer().await {
            Err(CallError::Refused(refused)) if refused.code == Code::Unauthenticated => match self.again().await? {
                true => self.answer().await?,
                false => return Err(CallError::Refused(refused).into()),
            },
            answer => answer?,
        };
        // Once something came, a refusal is of the stream and not of the token that it was opened with.
        self.request = None;
        let Some(bytes) = answer else { return Ok(None) };
        let message = DynamicMessage::decode(self.method.output(), bytes);
        let malformed = |source| CallError::Malformed { path: self.path.clone(), source };
        Ok(Some(message.map_err(|error| malformed(error.into()))?))
    }

    async fn answer(&mut self) -> Result<Option<Bytes>, CallError> {
        self.answers.message().await.map_err(|status| CallError::from_status(status, self.client.endpoint()))
    }

    /// Opens the stream again with a fresh token, where nothing came yet and the request can be sent again.
    async fn again(&mut self) -> Result<bool, ClientError> {
        let (Some(request), Some(used)) = (self.request.take(), self.used.take()) else { return Ok(false) };
        let fresh = self.client.refresh(&used).await?;
        self.answers = self.client.channel().open(&self.path, once(request), Some(&fresh)).await?;
        Ok(true)
    }
}

fn path_of(method: &MethodDescriptor) -> String {
    format!("{}/{}", method.parent_service().full_name(), method.name())
}

fn once(request: Bytes) -> stream::Once<std::future::Ready<Bytes>> {
    stream::once(std::future::ready(request))
}
