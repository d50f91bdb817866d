//! Calls in the name of whoever is logged in.
//!
//! The access token is refreshed shortly before it ends, and once when the server refuses it. Refreshing happens under the
//! lock of the session, after a second look at it: another program may have done it meanwhile.

use crate::{
    CallError, Channel, DeviceKey, DeviceKeyError, Endpoint, KnownServers, Place, Protection, Refused, Session,
    SessionError, SessionStore, Token, Told,
    auth::{self, LoginRequest, RefreshRequest, SetupRequest, StepUpRequest, TokenPair, WhoAmI},
    descriptors, ech,
    tls::Shared,
};
use bytes::Bytes;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor};
use std::time::{SystemTime, UNIX_EPOCH};
use sys_contract::trace_context::TraceContext;
use tonic::Code;

/// The reason of a refusal that a password mends.
const STEP_UP_REQUIRED: &str = "STEP_UP_REQUIRED";

/// A server, and the session on it if there is one.
#[derive(Debug, Clone)]
pub struct Client {
    channel: Channel,
    sessions: SessionStore,
    /// The device key that the connection shows where the server asks for one.
    device: Option<DeviceKey>,
}

impl Client {
    /// Connects. The session of `sessions` is used where it is one on this server, with the key that it is bound to.
    pub async fn connect(endpoint: &Endpoint, sessions: SessionStore) -> Result<Self, ClientError> {
        let is_here = endpoint.server_name().is_some() && sessions.server()?.as_ref() == Some(endpoint);
        let session = if is_here { sessions.load().await? } else { None };
        let device = match &session {
            Some(session) => sessions.device_key(session).await?,
            None => None,
        };
        Self::connect_with(endpoint, sessions, &Told::default(), device).await
    }

    /// Connects to log in: over TLS with a new device key, to which the session will be bound.
    pub async fn connect_to_log_in(
        endpoint: &Endpoint,
        sessions: SessionStore,
        told: &Told,
    ) -> Result<Self, ClientError> {
        let device = endpoint.server_name().map(|_| DeviceKey::generate()).transpose()?;
        Self::connect_with(endpoint, sessions, told, device).await
    }

    /// Connects in nobody's name.
    pub async fn connect_to_trust(
        endpoint: &Endpoint,
        sessions: SessionStore,
        told: &Told,
    ) -> Result<Self, ClientError> {
        Self::connect_with(endpoint, sessions, told, None).await
    }

    async fn connect_with(
        endpoint: &Endpoint,
        sessions: SessionStore,
        told: &Told,
        device: Option<DeviceKey>,
    ) -> Result<Self, ClientError> {
        let servers = KnownServers::new(sessions.clone());
        let mut known = servers.of(endpoint)?;
        told.say(&mut known);
        let tls = Shared::new(known, servers.clone(), told.authority, device.as_ref());
        let tls = tls.map_err(|error| CallError::of_tls(endpoint, error))?;
        let channel = Channel::connect(endpoint, tls).await?;
        if endpoint.server_name().is_some() {
            // Only what has led to the right server is kept.
            servers.change(endpoint, |known| told.say(known)).await?;
            ech::learn(&channel, &servers, now_unix_s()).await?;
        }
        Ok(Self { channel, sessions, device })
    }

    /// The same, where calls say that they belong to this span, if to any.
    pub fn within(self, trace: Option<TraceContext>) -> Self {
        Self { channel: self.channel.within(trace), ..self }
    }

    /// How the connection is protected; nothing on loopback in the clear.
    pub fn protection(&self) -> Option<Protection> {
        self.channel.protection()
    }

    /// The server.
    pub fn endpoint(&self) -> &Endpoint {
        self.channel.endpoint()
    }

    /// The session on this server, if there is one.
    pub async fn session(&self) -> Result<Option<Session>, SessionError> {
        Ok(self.of_this_server(self.sessions.load().await?))
    }

    /// Tokens go to no other server than theirs.
    fn of_this_server(&self, session: Option<Session>) -> Option<Session> {
        session.filter(|session| session.server == *self.channel.endpoint())
    }

    /// Calls a method by its descriptor.
    pub async fn call(
        &self,
        method: &MethodDescriptor,
        request: &DynamicMessage,
    ) -> Result<DynamicMessage, ClientError> {
        let path = format!("{}/{}", method.parent_service().full_name(), method.name());
        let answer = self.call_bytes(&path, request.encode_to_vec().into()).await?;
        DynamicMessage::decode(method.output(), answer)
            .map_err(|error| CallError::Malformed { path, source: error.into() }.into())
    }

    /// Calls `package.Service/Method` with an encoded request.
    pub async fn call_bytes(&self, path: &str, request: Bytes) -> Result<Bytes, ClientError> {
        let Some(used) = self.fresh_token().await? else {
            return Ok(self.channel.call_bytes(path, request, None).await?);
        };
        match self.channel.call_bytes(path, request.clone(), Some(&used)).await {
            Err(CallError::Refused(refused)) if refused.code == Code::Unauthenticated => {
                let fresh = self.refresh(&used).await?;
                Ok(self.channel.call_bytes(path, request, Some(&fresh)).await?)
            }
            answered => Ok(answered?),
        }
    }

    /// The descriptors of what the caller may call, one pool for each module.
    pub async fn descriptors(&self) -> Result<Vec<DescriptorPool>, ClientError> {
        let answer = self.call_bytes(descriptors::GET_DESCRIPTORS, Bytes::new()).await?;
        Ok(descriptors::read(answer)?)
    }

    /// Logs in and keeps the session at this place ([`SessionStore::choose`]), instead of any other.
    pub async fn log_in(&self, request: &LoginRequest, place: &Place) -> Result<Session, ClientError> {
        let pair: TokenPair = self.channel.call_typed(auth::LOGIN, request, None).await?;
        self.keep(pair, place).await
    }

    /// Makes the first superadmin and keeps the session at this place, instead of any other.
    pub async fn set_up(&self, request: &SetupRequest, place: &Place) -> Result<Session, ClientError> {
        let pair: TokenPair = self.channel.call_typed(auth::SETUP, request, None).await?;
        self.keep(pair, place).await
    }

    /// Ends the session on the server, then forgets it. One that the server does not know any more is forgotten, too, and so is one
    /// whose device key is lost, which nobody can use any more; where the server cannot be asked it is kept, so that a session is
    /// never left alive unnoticed.
    pub async fn log_out(&self) -> Result<(), ClientError> {
        match self.call_bytes(auth::LOGOUT, Bytes::new()).await {
            Ok(_) | Err(ClientError::SessionEnded(_) | ClientError::DeviceKeyLost) => {}
            Err(ClientError::Call(CallError::Refused(refused))) if refused.code == Code::Unauthenticated => {}
            Err(error) => return Err(error),
        }
        Ok(self.sessions.lock().await?.remove().await?)
    }

    /// Forgets the session without asking the server, where it is not to be believed.
    pub async fn forget_session(&self) -> Result<(), ClientError> {
        Ok(self.sessions.lock().await?.remove().await?)
    }

    /// Shows the password again, after a call that was refused for want of it ([`ClientError::asks_for_password`]). The call
    /// may then be repeated.
    pub async fn step_up(&self, password: &str) -> Result<(), ClientError> {
        let request = StepUpRequest { password: password.to_owned() };
        self.call_bytes(auth::STEP_UP, request.encode_to_vec().into()).await.map(drop)
    }

    /// Who is logged in.
    pub async fn who_am_i(&self) -> Result<WhoAmI, ClientError> {
        let answer = self.call_bytes(auth::WHO_AM_I, Bytes::new()).await?;
        WhoAmI::decode(answer)
            .map_err(|error| CallError::Malformed { path: auth::WHO_AM_I.to_owned(), source: error.into() }.into())
    }

    /// The token of the session, refreshed if it is about to end; none where nobody is logged in.
    pub(crate) async fn fresh_token(&self) -> Result<Option<Token>, ClientError> {
        let Some(session) = self.session().await? else { return Ok(None) };
        self.shows_the_key_of(&session)?;
        if session.is_stale(now_unix_s()) {
            return self.refresh(&session.access_token).await.map(Some);
        }
        Ok(Some(session.access_token))
    }

    pub(crate) fn channel(&self) -> &Channel {
        &self.channel
    }

    async fn keep(&self, pair: TokenPair, place: &Place) -> Result<Session, ClientError> {
        // A server that asks for no device key binds to none.
        let bound_to = self.protection().and_then(|protection| protection.device);
        let session = pair.into_session(self.channel.endpoint(), bound_to);
        let key = self.device.as_ref().filter(|_| bound_to.is_some());
        self.sessions.lock().await?.save_in(place, &session, key).await?;
        Ok(session)
    }

    /// Tokens are worth nothing on a connection without the key that they are bound to, so they do not go there.
    fn shows_the_key_of(&self, session: &Session) -> Result<(), ClientError> {
        match session.device {
            Some(device) if self.device.as_ref().map(DeviceKey::fingerprint) != Some(device) => {
                Err(ClientError::DeviceKeyLost)
            }
            _ => Ok(()),
        }
    }

    /// A token in place of `used`, which the server refused or which is about to end.
    pub(crate) async fn refresh(&self, used: &Token) -> Result<Token, ClientError> {
        let lock = self.sessions.lock().await?;
        let Some(session) = self.of_this_server(lock.load().await?) else { return Err(ClientError::LoggedOut) };
        self.shows_the_key_of(&session)?;
        if session.access_token != *used && !session.is_stale(now_unix_s()) {
            return Ok(session.access_token);
        }
        let request = RefreshRequest { refresh_token: session.refresh_token.expose().to_owned() };
        match self.channel.call_typed::<TokenPair>(auth::REFRESH, &request, None).await {
            Ok(pair) => {
                let session = pair.into_session(self.channel.endpoint(), session.device);
                lock.save(&session).await?;
                Ok(session.access_token)
            }
            Err(CallError::Refused(refused)) if refused.code == Code::Unauthenticated => {
                Err(ClientError::SessionEnded(refused))
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Seconds since 1970. A clock before that counts as 1970: then tokens seem to last, and the server decides.
fn now_unix_s() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Why a call in somebody's name has no result.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The call itself failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The session cannot be read or kept.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The server ended the session: it ran out, was revoked, or its refresh token was used twice.
    #[error("your session has ended: {0}")]
    SessionEnded(Box<Refused>),
    /// Another program logged out meanwhile.
    #[error("you were logged out by another program")]
    LoggedOut,
    /// The key is gone that the session is bound to, or another program has logged in with another.
    #[error("the device key that your session is bound to is not here any more")]
    DeviceKeyLost,
    /// There is no device key.
    #[error(transparent)]
    DeviceKey(#[from] DeviceKeyError),
}

impl ClientError {
    /// Whether the call was refused because its method wants a password that was shown lately.
    pub fn asks_for_password(&self) -> bool {
        matches!(self, Self::Call(CallError::Refused(refused)) if refused.reason.as_deref() == Some(STEP_UP_REQUIRED))
    }

    /// The gRPC code that stands for this error, where there is one.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Call(error) => Some(error.code()),
            Self::Session(_) | Self::DeviceKey(_) => None,
            Self::SessionEnded(_) | Self::LoggedOut | Self::DeviceKeyLost => Some(Code::Unauthenticated),
        }
    }
}
