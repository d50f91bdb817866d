//! The peer: a thin server in front of PostgreSQL, as a good team would write it for these methods.
//!
//! It verifies the token, checks the request's form, and leaves who may do what to the row level security of `schema.sql`:
//! each call is one transaction that sets the caller first. All statements are prepared, and those of a transaction are
//! sent in one go, so that a call costs one round trip.

mod accounts;
mod notes;
mod tokens;

pub use accounts::hash;

use crate::messages::path;
use anyhow::Result;
use bytes::Bytes;
use connectrpc::{
    CodecFormat, ConnectError, ConnectRpcService, Dispatcher, EncodedBody, EncodedResponse, MethodDescriptor, Payload,
    RequestContext,
    dispatcher::{RequestStream, StreamingResult, UnaryResult},
};
use deadpool_postgres::{Client, ManagerConfig, Pool, RecyclingMethod};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use prost::Message;
use std::{net::SocketAddr, path::Path, sync::Arc};
use tokens::{Caller, Tokens};
use tokio::net::TcpListener;
use tokio_postgres::{NoTls, Row, error::SqlState, types::ToSql};
use uuid::Uuid;

/// Connections to the database. With all processes on one core more of them cost more switches, and fewer share less of
/// each sync.
const POOL_SIZE: usize = 16;

/// Serves on a free port of loopback and says which.
pub async fn serve(socket_dir: &Path, database: &str) -> Result<()> {
    let peer =
        Peer(Arc::new(State { pool: pool(socket_dir, database)?, tokens: Tokens::new()?, decoy: accounts::decoy()? }));
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    crate::say(&listener.local_addr()?.to_string())?;
    let service = TowerToHyperService::new(ConnectRpcService::new(peer));
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let service = service.clone();
        tokio::spawn(async move {
            // A client that goes away is no error.
            let _ = auto::Builder::new(TokioExecutor::new())
                .http2_only()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

fn pool(socket_dir: &Path, database: &str) -> Result<Pool> {
    let mut config = tokio_postgres::Config::new();
    // Plans are made once: the policies' subqueries hide from the planner what it would plan anew for.
    config.host_path(socket_dir).user("app").dbname(database).options("-c plan_cache_mode=force_generic_plan");
    let manager = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = deadpool_postgres::Manager::from_config(config, NoTls, manager);
    Ok(Pool::builder(manager).max_size(POOL_SIZE).build()?)
}

#[derive(Clone)]
struct Peer(Arc<State>);

/// What the calls share.
struct State {
    pool: Pool,
    tokens: Tokens,
    /// Checked for addresses without an account, so that they take as long.
    decoy: String,
}

impl State {
    async fn answer(&self, method: &'static str, ctx: &RequestContext, body: Bytes) -> Result<Vec<u8>, ConnectError> {
        if method == path::LOGIN {
            return Ok(self.login(decode(body)?).await?.encode_to_vec());
        }
        let caller = self.caller(ctx)?;
        Ok(match method {
            path::GET_NOTE => self.get_note(&caller, decode(body)?).await?.encode_to_vec(),
            path::LIST_NOTES => self.list_notes(&caller, decode(body)?).await?.encode_to_vec(),
            path::CREATE_NOTE => self.create_note(&caller, decode(body)?).await?.encode_to_vec(),
            path::ASSIGN_ROLE => self.assign_role(&caller, decode(body)?).await?.encode_to_vec(),
            _ => self.who_am_i(&caller).await?.encode_to_vec(),
        })
    }

    fn caller(&self, ctx: &RequestContext) -> Result<Caller, ConnectError> {
        let header = ctx.header("authorization").and_then(|value| value.to_str().ok());
        let token = header.and_then(|value| value.strip_prefix("Bearer "));
        token.and_then(|token| self.tokens.verify(token)).ok_or_else(|| ConnectError::unauthenticated("log in"))
    }

    async fn connection(&self) -> Result<Client, ConnectError> {
        self.pool.get().await.map_err(|error| ConnectError::unavailable(error.to_string()))
    }

    /// One statement with the rights of a caller.
    async fn as_caller(
        &self,
        caller: &Caller,
        statement: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, ConnectError> {
        let client = self.connection().await?;
        let statement = client.prepare_cached(statement).await.map_err(failed)?;
        // Not a parameter, since SET takes none; a UUID has no quotes.
        let begin = format!("BEGIN; SET LOCAL app.account = '{}'", caller.account.as_hyphenated());
        // In this order, and all sent before the first answer is waited for. Where one fails the rest is refused, and the
        // commit rolls back.
        let (_, rows, _) = tokio::try_join!(
            biased;
            client.batch_execute(&begin),
            client.query(&statement, parameters),
            client.batch_execute("COMMIT")
        )
        .map_err(failed)?;
        Ok(rows)
    }
}

fn decode<M: Message + Default>(body: Bytes) -> Result<M, ConnectError> {
    M::decode(body).map_err(|_| ConnectError::invalid_argument("the body is not this message"))
}

fn parse_id(text: &str, field: &str) -> Result<Uuid, ConnectError> {
    text.parse().map_err(|_| ConnectError::invalid_argument(format!("{field}: not an id")))
}

/// What the database refuses, as the caller is told of it.
fn failed(error: tokio_postgres::Error) -> ConnectError {
    match error.code() {
        Some(code) if *code == SqlState::INSUFFICIENT_PRIVILEGE => ConnectError::permission_denied("not allowed"),
        Some(code) if *code == SqlState::FOREIGN_KEY_VIOLATION => {
            ConnectError::not_found("no such org, project or account")
        }
        Some(code) if *code == SqlState::CHECK_VIOLATION => ConnectError::failed_precondition("against the rules"),
        _ => ConnectError::internal(error.to_string()),
    }
}

impl Dispatcher for Peer {
    fn lookup(&self, path: &str) -> Option<MethodDescriptor> {
        method(path).map(|_| MethodDescriptor::unary(false))
    }

    fn call_unary(&self, path: &str, ctx: RequestContext, request: Payload, _: CodecFormat) -> UnaryResult {
        let (state, method) = (self.0.clone(), method(path).expect("looked up"));
        Box::pin(async move {
            let answer = state.answer(method, &ctx, request.encoded()?).await?;
            Ok(EncodedResponse::new(EncodedBody::Contiguous(answer.into())))
        })
    }

    fn call_server_streaming(&self, _: &str, _: RequestContext, _: Bytes, _: CodecFormat) -> StreamingResult {
        Box::pin(async { Err(ConnectError::unimplemented("unary only")) })
    }

    fn call_client_streaming(&self, _: &str, _: RequestContext, _: RequestStream, _: CodecFormat) -> UnaryResult {
        Box::pin(async { Err(ConnectError::unimplemented("unary only")) })
    }

    fn call_bidi_streaming(&self, _: &str, _: RequestContext, _: RequestStream, _: CodecFormat) -> StreamingResult {
        Box::pin(async { Err(ConnectError::unimplemented("unary only")) })
    }
}

fn method(path: &str) -> Option<&'static str> {
    use path::{ASSIGN_ROLE, CREATE_NOTE, GET_NOTE, LIST_NOTES, LOGIN, WHO_AM_I};
    [GET_NOTE, LIST_NOTES, CREATE_NOTE, ASSIGN_ROLE, LOGIN, WHO_AM_I].into_iter().find(|method| *method == path)
}
