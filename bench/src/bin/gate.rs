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
use prost::Message;
use prost_reflect::DynamicMessage;
use serde_json::json;
use std::{
    io::{BufRead, BufReader, Write as _},
    net::SocketAddr,
    process::Stdio,
    sync::Arc,
    time::Instant,
};
use sys_bench::{
    Spread,
    client::{CONNECTIONS, Call, Client, STREAMS},
    cpu_of, machine,
    process::{SERVER_CORE, Stopped, move_to_load_core, pinned},
    resident_bytes,
};
use sys_policy::Now;
use sys_store::{Store, Table};

const ROUNDS: usize = 7;
const CALLS: usize = 20_000;
const PASSWORD: &str = "a passphrase of nobody";
const ORGANISATION: &str = include_str!("../../../tests/peers/organisation.yaml");

/// A record type that is read: its module, the method, the message that asks for one.
struct Kind {
    module: &'static str,
    method: &'static str,
    request: &'static str,
}

const NOTE: Kind =
    Kind { module: "mod-notes", method: "notes.v1.NoteService/GetNote", request: "notes.v1.GetNoteRequest" };
const PLAIN: Kind =
    Kind { module: "mod-plain", method: "plain.v1.PlainService/GetPlain", request: "plain.v1.GetPlainRequest" };

/// The record layer's get of a record by its id, with nothing around it.
struct Bare {
    store: Store,
    kinds: [(Kind, Arc<Table>); 2],
}

impl Bare {
    fn kind(&self, path: &str) -> Option<&(Kind, Arc<Table>)> {
        self.kinds.iter().find(|(kind, _)| kind.method == path)
    }
}

impl Dispatcher for Bare {
    fn lookup(&self, path: &str) -> Option<MethodDescriptor> {
        self.kind(path).map(|_| MethodDescriptor::unary(false))
    }

    fn call_unary(&self, path: &str, _: RequestContext, request: Payload, _: CodecFormat) -> UnaryResult {
        let (kind, table) = self.kind(path).expect("looked up");
        let (store, table, input) = (self.store.clone(), table.clone(), kind.request);
        Box::pin(async move {
            let failed = |error: &dyn std::fmt::Display| ConnectError::internal(error.to_string());
            let input = table.record().message.parent_pool().get_message_by_name(input);
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
    let kinds = [NOTE, PLAIN].map(|kind| {
        let module = server.monitor().host().loaded(kind.module).expect("a module of the bench");
        let table = module.tables().table(0).expect("one table").clone();
        (kind, table)
    });
    let bind = sys_edge::Bind::at(SocketAddr::from(([127, 0, 0, 1], 0)));
    let bare = sys_edge::Listener::bind(bind).await?;
    println!("{} {}", server.addr(), bare.local_addr());
    std::io::stdout().flush()?;
    let service = ConnectRpcService::new(Bare { store, kinds });
    tokio::spawn(bare.serve(service, std::future::pending()));
    server.serve(std::future::pending()).await?;
    Ok(())
}

/// CPU microseconds of the server for a request.
async fn load(pid: u32, addr: SocketAddr, kind: &Kind, token: &str, body: Bytes) -> f64 {
    let call = Call { path: kind.method, token: token.to_owned(), body };
    let begun = cpu_of(pid);
    sys_bench::client::load(addr, CONNECTIONS, STREAMS, CALLS / CONNECTIONS / STREAMS, move |_, _| call.clone()).await;
    (cpu_of(pid) - begun).as_secs_f64() * 1e6 / CALLS as f64
}

async fn measure() -> anyhow::Result<()> {
    let dir = tempfile::tempdir_in(".")?;
    let data = dir.path().join("data");
    let begun = Instant::now();
    // The server has one core and the load the other: how much of the load's work one write answers depends on nothing else.
    let child = pinned(SERVER_CORE).arg(std::env::current_exe()?).arg(&data).stdout(Stdio::piped()).spawn()?;
    let mut child = Stopped(child);
    let pid = child.0.id();
    let mut line = String::new();
    BufReader::new(child.0.stdout.take().expect("piped")).read_line(&mut line)?;
    let started = begun.elapsed();
    let mut addrs = line.split_whitespace().map(|addr| addr.parse::<SocketAddr>());
    let (gate, bare) = (addrs.next().expect("two")?, addrs.next().expect("two")?);
    let idle = resident_bytes(pid);
    let Prepared { author, guest, note, plain } = prepare(gate).await;
    let (note, plain) = (request(&note), request(&plain));
    // All send the same request, the token too: the bare servers read it and ask nothing.
    let cases = [
        (bare, &PLAIN, &author, &plain),
        (gate, &PLAIN, &author, &plain),
        (bare, &NOTE, &author, &note),
        (gate, &NOTE, &author, &note),
        (bare, &NOTE, &guest, &note),
        (gate, &NOTE, &guest, &note),
    ];
    let mut measured = cases.map(|_| Vec::new());
    for round in 0..=ROUNDS {
        // In turn, so that a machine that drifts drifts for all. The first round warms up.
        for ((addr, kind, token, body), measured) in cases.iter().zip(&mut measured) {
            let cpu = load(pid, *addr, kind, token, (*body).clone()).await;
            if round > 0 {
                measured.push(cpu);
            }
        }
    }
    let [bare_plain, plain, bare_author, author, bare_guest, guest] = measured.map(Spread::of);
    println!(
        "A get over Connect on HTTP/2, {CONNECTIONS} connections with {STREAMS} streams; server CPU in us a request, \
         median (min–max) of {ROUNDS} rounds of {CALLS} calls, {}.\n",
        machine()
    );
    println!("| call | bare server, same store call | whole gate | ratio | goal |\n|---|---|---|---|---|");
    let row = |what: &str, bare: Spread, gate: Spread, goal: f64| {
        let ratio = gate.median / bare.median;
        println!("| {what} | {} us | {} us | {ratio:.2} × | {goal} × |", bare.show(1), gate.show(1));
    };
    row("a record without field rules", bare_plain, plain, 1.25);
    row("a note, by its author, who reads the guarded field", bare_author, author, 1.5);
    row("a note, by a guest, for whom it is redacted", bare_guest, guest, 1.5);
    println!(
        "\nFirst start, with two accounts imported: {:.2} s. Resident memory before the first call: {:.0} MB; after the \
         load: {:.0} MB.",
        started.as_secs_f64(),
        idle as f64 / 1e6,
        resident_bytes(pid) as f64 / 1e6
    );
    Ok(())
}

/// The access tokens of an author and a guest, and the ids of a note and a plain note that the author wrote.
struct Prepared {
    author: String,
    guest: String,
    note: String,
    plain: String,
}

async fn prepare(gate: SocketAddr) -> Prepared {
    let mut client = Client::connect(gate).await;
    let mut tokens = Vec::new();
    for email in ["writer@example.org", "guest@example.org"] {
        let login = json!({"email": email, "password": PASSWORD});
        let pair = client.json("sys.account.v1.AuthService/Login", "", login).await;
        tokens.push(pair["accessToken"].as_str().expect("a token").to_owned());
    }
    let who = client.json("sys.account.v1.AuthService/WhoAmI", &tokens[0], json!({})).await;
    let place = &who["bindings"][0];
    // Short, so that it is the gate that is measured and not the bytes.
    let record = json!({
        "orgId": place["orgId"], "projectId": place["projectId"], "title": "A short note", "published": true,
        "draft": "and a draft"
    });
    let mut ids = Vec::new();
    for (method, item) in [("notes.v1.NoteService/CreateNote", "note"), ("plain.v1.PlainService/CreatePlain", "plain")]
    {
        let created = client.json(method, &tokens[0], json!({item: record})).await;
        ids.push(created["id"].as_str().expect("an id").to_owned());
    }
    let [author, guest] = tokens.try_into().expect("two");
    let [note, plain] = ids.try_into().expect("two");
    Prepared { author, guest, note, plain }
}

/// A message whose first field is the id.
fn request(id: &str) -> Bytes {
    let mut body = vec![0x0a, u8::try_from(id.len()).expect("short")];
    body.extend_from_slice(id.as_bytes());
    body.into()
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match std::env::args_os().nth(1) {
        Some(dir) => serve(dir.into()).await,
        None => {
            move_to_load_core()?;
            measure().await
        }
    }
}
