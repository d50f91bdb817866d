//! A small unary call through the whole gate against the same store call on a bare server: the same RPC library, listener
//! and store, without identification, throttling, validation, rules, redaction and audit.
//!
//! Each server is a process of its own; what is compared is its CPU time for a request. Run without arguments.

use bytes::Bytes;
use connectrpc::{
    CodecFormat, ConnectError, ConnectRpcService, Dispatcher, EncodedBody, EncodedResponse, MethodDescriptor, Payload,
    RequestContext,
    dispatcher::{RequestStream, StreamingResult, UnaryResult},
};
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use prost_reflect::DynamicMessage;
use serde_json::json;
use std::{
    io::{BufRead, BufReader, Write as _},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Instant,
};
use sys_bench::{Spread, cpu_of, machine, resident_bytes};
use sys_policy::Now;
use sys_store::{Store, Table};
use tokio::{net::TcpStream, task::JoinSet};

const ROUNDS: usize = 7;
const CALLS: usize = 20_000;
const CONNECTIONS: usize = 4;
const STREAMS: usize = 8;
const PASSWORD: &str = "a passphrase of nobody";
const ORGANISATION: &str = include_str!("../../../tests/peers/organisation.yaml");

/// The record layer's get of a note by the caller's own id, with nothing around it.
struct Bare {
    store: Store,
    table: Arc<Table>,
}

impl Dispatcher for Bare {
    fn lookup(&self, path: &str) -> Option<MethodDescriptor> {
        (path == "notes.v1.NoteService/GetNote").then(|| MethodDescriptor::unary(false))
    }

    fn call_unary(&self, _: &str, _: RequestContext, request: Payload, _: CodecFormat) -> UnaryResult {
        let (store, table) = (self.store.clone(), self.table.clone());
        Box::pin(async move {
            let failed = |error: &dyn std::fmt::Display| ConnectError::internal(error.to_string());
            let input = table.record().message.parent_pool().get_message_by_name("notes.v1.GetNoteRequest");
            let input = input.ok_or_else(|| ConnectError::internal("no descriptor"))?;
            let request = DynamicMessage::decode(input, request.encoded()?).map_err(|error| failed(&error))?;
            let id = request.get_field_by_name("id").and_then(|id| id.as_str().map(str::to_owned)).unwrap_or_default();
            let id = table.parse_id(&id).map_err(|error| failed(&error))?;
            let now = Now { unix_s: 1_800_000_000, nanos: 0 };
            let mut open = store.begin(now).await.map_err(|error| failed(&error))?;
            let stored = open.danger_unruled(&table).get(id).await.map_err(|error| failed(&error))?;
            let note = stored.ok_or_else(|| ConnectError::not_found("no such note"))?;
            Ok(EncodedResponse::new(EncodedBody::Contiguous(note.message().encode_to_vec().into())))
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

/// Serves the gate on one port and the bare server on another; which of them works is the load's choice.
async fn serve(dir: std::path::PathBuf) -> anyhow::Result<()> {
    // Beside the data directory, which the server makes.
    let file = dir.with_extension("yaml");
    std::fs::write(&file, ORGANISATION)?;
    let config = sys_bench::server_config(&dir);
    let server = sys_server::Server::start(config, Vec::new()).await?;
    sys_server::bootstrap::import(&server, &file).await?;
    let store = server.monitor().store().clone();
    let notes = server.monitor().host().loaded("mod-notes").expect("the notes module");
    let table = notes.tables().table(0).expect("notes").clone();
    let bind = sys_edge::Bind {
        addr: SocketAddr::from(([127, 0, 0, 1], 0)),
        limits: sys_edge::Limits::default(),
        allowed_hosts: sys_edge::AllowedHosts::loopback(),
    };
    let bare = sys_edge::Listener::bind(bind).await?;
    println!("{} {}", server.addr(), bare.local_addr());
    std::io::stdout().flush()?;
    let service = ConnectRpcService::new(Bare { store, table });
    tokio::spawn(bare.serve(service, std::future::pending()));
    server.serve(std::future::pending()).await?;
    Ok(())
}

/// A client of one HTTP/2 connection.
#[derive(Clone)]
struct Client {
    addr: SocketAddr,
    sender: hyper::client::conn::http2::SendRequest<Full<Bytes>>,
}

impl Client {
    async fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).await.expect("the server listens");
        stream.set_nodelay(true).expect("a socket");
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
        tokio::spawn(connection);
        Self { addr, sender }
    }

    async fn post(&mut self, path: &str, content_type: &str, token: &str, body: Bytes) -> (u16, Bytes) {
        let mut request = Request::post(format!("http://{}/{path}", self.addr)).header("content-type", content_type);
        if !token.is_empty() {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(Full::new(body)).expect("a request");
        let response = self.sender.send_request(request).await.expect("an answer");
        let status = response.status().as_u16();
        (status, response.into_body().collect().await.expect("whole").to_bytes())
    }

    async fn json(&mut self, path: &str, token: &str, body: serde_json::Value) -> serde_json::Value {
        let (status, answer) = self.post(path, "application/json", token, body.to_string().into()).await;
        assert_eq!(status, 200, "{path}: {}", String::from_utf8_lossy(&answer));
        serde_json::from_slice(&answer).expect("JSON")
    }
}

/// CPU microseconds of the server for a request.
async fn load(pid: u32, addr: SocketAddr, token: &str, body: Bytes) -> f64 {
    let begun = cpu_of(pid);
    let mut tasks = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let client = Client::connect(addr).await;
        for _ in 0..STREAMS {
            let (mut client, token, body) = (client.clone(), token.to_owned(), body.clone());
            tasks.spawn(async move {
                for _ in 0..CALLS / CONNECTIONS / STREAMS {
                    let path = "notes.v1.NoteService/GetNote";
                    let (status, answer) = client.post(path, "application/proto", &token, body.clone()).await;
                    assert!(status == 200 && !answer.is_empty(), "{status}");
                }
            });
        }
    }
    while tasks.join_next().await.is_some() {}
    (cpu_of(pid) - begun).as_secs_f64() * 1e6 / CALLS as f64
}

struct Stopped(Child);

impl Drop for Stopped {
    fn drop(&mut self) {
        // It is a child of ours that keeps nothing.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn measure() -> anyhow::Result<()> {
    let dir = tempfile::tempdir_in(".")?;
    let data = dir.path().join("data");
    let begun = Instant::now();
    let child = Command::new(std::env::current_exe()?).arg(&data).stdout(Stdio::piped()).spawn()?;
    let mut child = Stopped(child);
    let pid = child.0.id();
    let mut line = String::new();
    BufReader::new(child.0.stdout.take().expect("piped")).read_line(&mut line)?;
    let started = begun.elapsed();
    let mut addrs = line.split_whitespace().map(|addr| addr.parse::<SocketAddr>());
    let (gate, bare) = (addrs.next().expect("two")?, addrs.next().expect("two")?);
    let idle = resident_bytes(pid);
    let (author, guest, id) = prepare(gate).await;
    let body = request(&id);
    let (mut bares, mut authors, mut guests) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        // In turn, so that a machine that drifts drifts for all. The first round warms up.
        let bare = load(pid, bare, "", body.clone()).await;
        let author = load(pid, gate, &author, body.clone()).await;
        let guest = load(pid, gate, &guest, body.clone()).await;
        if round > 0 {
            bares.push(bare);
            authors.push(author);
            guests.push(guest);
        }
    }
    let (bare, author, guest) = (Spread::of(bares), Spread::of(authors), Spread::of(guests));
    println!(
        "GetNote over Connect on HTTP/2, {CONNECTIONS} connections with {STREAMS} streams; server CPU in us a request, \
         median (min–max) of {ROUNDS} rounds of {CALLS} calls, {}.\n",
        machine()
    );
    println!("| call | CPU | ratio to bare | goal |\n|---|---|---|---|");
    println!("| bare server, same store call | {} us | 1 | |", bare.show(1));
    let row = |who: &str, cpu: Spread| {
        println!("| whole gate, {who} | {} us | {:.2} × | 1.5 × |", cpu.show(1), cpu.median / bare.median);
    };
    row("the author, who reads the guarded field", author);
    row("a guest, for whom it is redacted", guest);
    println!(
        "\nFirst start, with two accounts imported: {:.2} s. Resident memory before the first call: {:.0} MB; after the \
         load: {:.0} MB.",
        started.as_secs_f64(),
        idle as f64 / 1e6,
        resident_bytes(pid) as f64 / 1e6
    );
    Ok(())
}

/// Logs in the author and a guest, and has the author publish a note: their access tokens and its id.
async fn prepare(gate: SocketAddr) -> (String, String, String) {
    let mut client = Client::connect(gate).await;
    let mut tokens = Vec::new();
    for email in ["writer@example.org", "guest@example.org"] {
        let login = json!({"email": email, "password": PASSWORD});
        let pair = client.json("sys.account.v1.AuthService/Login", "", login).await;
        tokens.push(pair["accessToken"].as_str().expect("a token").to_owned());
    }
    let who = client.json("sys.account.v1.AuthService/WhoAmI", &tokens[0], json!({})).await;
    let place = &who["bindings"][0];
    let note = json!({
        "orgId": place["orgId"], "projectId": place["projectId"], "title": "A note of ordinary length",
        "published": true, "draft": "seen by its author alone"
    });
    let note = client.json("notes.v1.NoteService/CreateNote", &tokens[0], json!({"note": note})).await;
    let id = note["id"].as_str().expect("an id").to_owned();
    (tokens[0].clone(), tokens[1].clone(), id)
}

/// GetNoteRequest { id }.
fn request(id: &str) -> Bytes {
    let mut body = vec![0x0a, u8::try_from(id.len()).expect("short")];
    body.extend_from_slice(id.as_bytes());
    body.into()
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match std::env::args_os().nth(1) {
        Some(dir) => serve(dir.into()).await,
        None => measure().await,
    }
}
