//! Traces of what a server does, as a collector gets them, and what becomes of a server whose collector fails.
//!
//! The messages are read here by a few lines of their own; `tests/peers/traces.py` reads them with OpenTelemetry's.

use crate::{
    LOGIN, SETUP,
    logs::{ORGANISATION, a_day},
    server::{Begun, Server, eventually, program},
    superadmin,
};
use prost::Message;
use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    process::Command,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

const CREATE_NOTE: &str = "notes.v1.NoteService/CreateNote";
const WHO_AM_I: &str = "sys.account.v1.AuthService/WhoAmI";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

#[derive(Clone, PartialEq, Message)]
struct Request {
    #[prost(message, repeated, tag = "1")]
    resources: Vec<Resource>,
}

#[derive(Clone, PartialEq, Message)]
struct Resource {
    #[prost(message, repeated, tag = "2")]
    scopes: Vec<Scope>,
}

#[derive(Clone, PartialEq, Message)]
struct Scope {
    #[prost(message, repeated, tag = "2")]
    spans: Vec<Span>,
}

#[derive(Clone, PartialEq, Message)]
struct Span {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    parent: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(int32, tag = "6")]
    kind: i32,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<Attribute>,
    #[prost(message, repeated, tag = "13")]
    links: Vec<Link>,
}

#[derive(Clone, PartialEq, Message)]
struct Link {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct Attribute {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<Text>,
}

#[derive(Clone, PartialEq, Message)]
struct Text {
    #[prost(string, tag = "1")]
    text: String,
}

impl Span {
    fn says(&self, key: &str) -> Option<&str> {
        let attribute = self.attributes.iter().find(|attribute| attribute.key == key)?;
        attribute.value.as_ref().map(|value| value.text.as_str())
    }
}

/// The heads and bodies of what came.
type Heard = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

/// A collector on this machine that gives everybody the same answer.
struct Collector {
    addr: SocketAddr,
    heard: Heard,
}

impl Collector {
    fn start(answer: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (addr, heard) = (listener.local_addr().unwrap(), Heard::default());
        let hearing = heard.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                hearing.lock().unwrap().push(message(&stream));
                let _ = (&stream).write_all(answer.as_bytes());
            }
        });
        Self { addr, heard }
    }

    fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// All bytes that have come, heads and bodies.
    fn bytes(&self) -> Vec<u8> {
        let heard = self.heard.lock().unwrap();
        heard.iter().flat_map(|(head, body)| [head.as_bytes(), body].concat()).collect()
    }

    fn spans(&self) -> Vec<Span> {
        let heard = self.heard.lock().unwrap();
        let requests = heard.iter().map(|(_, body)| Request::decode(&body[..]).unwrap());
        requests.flat_map(|request| request.resources).flat_map(|it| it.scopes).flat_map(|it| it.spans).collect()
    }

    /// The spans of calls of a method, once there are so many.
    fn calls(&self, method: &str, how_many: usize) -> Vec<Span> {
        eventually(&format!("{how_many} spans of {method}"), || {
            let spans: Vec<Span> = self.spans().into_iter().filter(|span| span.name == method).collect();
            (spans.len() >= how_many).then_some(spans)
        })
    }
}

/// The head and the body of a request.
fn message(stream: &TcpStream) -> (String, Vec<u8>) {
    let (mut reader, mut head) = (BufReader::new(stream), String::new());
    while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).unwrap() > 0 {}
    let small = head.to_ascii_lowercase();
    let length = small.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    (head, body)
}

const WELL: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

/// How many spans became what, by the metrics.
fn became(server: &Server) -> BTreeMap<String, u64> {
    let metrics = server.metrics();
    let of = |line: &str| {
        let (what, count) = line.strip_prefix("sys_trace_spans_total{became=\"")?.split_once("\"} ")?;
        Some((what.to_owned(), count.parse().unwrap()))
    };
    metrics.lines().filter_map(of).collect()
}

fn call_within(server: &Server, path: &str, token: Option<&str>, lines: &str) -> u16 {
    let mut begun = Begun::call_with(server.addr, path, token, lines, 2);
    begun.send("{}");
    begun.answer().0
}

#[test]
fn each_call_is_a_trace_with_its_steps_and_no_personal_value_and_no_token_is_in_it() {
    let collector = Collector::start(WELL);
    let dir = tempfile::tempdir().unwrap();
    let organisation = dir.path().join("organisation.yaml");
    fs::write(&organisation, ORGANISATION).unwrap();
    let headers = dir.path().join("headers");
    fs::write(&headers, "authorization: Bearer of-the-collector\n").unwrap();
    let url = collector.url();
    let server = Server::start(&[
        "--bootstrap",
        organisation.to_str().unwrap(),
        "--traces-endpoint",
        &url,
        "--traces-headers-file",
        headers.to_str().unwrap(),
        "--log",
        "trace",
        "--log-format",
        "json",
    ]);
    let secrets = a_day(&server);
    server.terminate();
    let (status, _) = server.ended();
    assert!(status.success());
    // All of it has come, since what is left is sent at the end.
    let (spans, bytes) = (collector.spans(), String::from_utf8_lossy(&collector.bytes()).into_owned());
    assert!(bytes.starts_with("POST /v1/traces HTTP/1.1\r\n") && bytes.contains("Bearer of-the-collector"), "{bytes}");
    assert!(!bytes.contains("canary"), "{bytes}");
    assert!(!secrets.iter().any(|secret| bytes.contains(secret.as_str())), "{bytes}");
    let told = format!("{spans:?}");
    assert!(!told.contains("127.0.0.1"), "no address of a caller: {told}");

    let calls: Vec<&Span> = spans.iter().filter(|span| span.kind == 2).collect();
    let outcomes = |method: &str| -> Vec<&str> {
        let of = calls.iter().filter(|span| span.name == method);
        of.map(|span| span.says("sys.refusal.reason").unwrap_or("OK")).collect()
    };
    assert_eq!(outcomes(SETUP), ["OK"]);
    assert_eq!(outcomes(LOGIN), ["OK", "LOGIN_REFUSED"]);
    assert_eq!(outcomes(CREATE_NOTE), ["OK", "MALFORMED", "MALFORMED", "TOKEN_REFUSED"]);
    for call in &calls {
        assert!(call.parent.is_empty() && call.says("rpc.system.name") == Some("connectrpc"), "{call:?}");
        let parts: Vec<&Span> = spans.iter().filter(|span| span.trace_id == call.trace_id && span.kind == 1).collect();
        for part in &parts {
            let parent = spans.iter().find(|span| span.span_id == part.parent).unwrap_or_else(|| panic!("{part:?}"));
            assert_eq!(parent.trace_id, part.trace_id);
        }
        let has = |name: &str| parts.iter().any(|part| part.name == name);
        let is_refused = call.says("sys.refusal.reason").is_some();
        assert!(has("throttle") && (is_refused || has("identify") && has("handle")), "{call:?} {parts:?}");
    }
    let created = calls.iter().find(|call| call.name == CREATE_NOTE).unwrap();
    let has = |name: &str| spans.iter().any(|span| span.trace_id == created.trace_id && span.name == name);
    assert!(has("audit") && has("commit"), "a write is audited and committed");
    assert_eq!(created.says("network.protocol.version"), Some("1.1"));
}

#[test]
fn a_caller_who_is_signed_in_says_in_which_trace_he_is_and_a_stranger_is_linked_to_his() {
    let collector = Collector::start(WELL);
    let server = Server::start(&["--traces-endpoint", &collector.url()]);
    let token = superadmin(&server);
    let lines = format!("traceparent: 00-{TRACE}-00f067aa0ba902b7-00\r\ntracestate: a=b\r\n");
    assert_eq!(call_within(&server, WHO_AM_I, Some(&token), &lines), 200);
    assert_eq!(call_within(&server, WHO_AM_I, None, &lines), 401);
    assert_eq!(call_within(&server, "canary.v1.Canary/Canary", Some(&token), &lines), 404);
    let spans = collector.calls(WHO_AM_I, 2);
    let theirs = data_encoding::HEXLOWER.decode(TRACE.as_bytes()).unwrap();
    let (known, strangers): (Vec<&Span>, Vec<&Span>) = spans.iter().partition(|span| span.trace_id == theirs);
    assert_eq!((known.len(), strangers.len()), (1, 1), "{spans:?}");
    assert_eq!(known[0].parent, data_encoding::HEXLOWER.decode(b"00f067aa0ba902b7").unwrap());
    assert!(strangers[0].parent.is_empty() && strangers[0].links[0].trace_id == theirs, "{strangers:?}");
    assert_eq!(collector.calls("connectrpc", 1)[0].says("rpc.method"), Some("_OTHER"));
    assert!(!String::from_utf8_lossy(&collector.bytes()).to_lowercase().contains("canary"));
    eventually("the count of what was sent", || (became(&server)["sent"] >= 3).then_some(()));
    // A port that nobody is on is named nowhere.
    assert!(!server.log().contains("traces"), "{}", server.log());
}

/// Calls a server whose collector does not do its part, and stops it.
fn suffers(url: &str, expect_in_log: &str) {
    let server = Server::start(&["--traces-endpoint", url]);
    let token = superadmin(&server);
    for _ in 0..200 {
        assert_eq!(server.call(WHO_AM_I, Some(&token), "{}").0, 200);
    }
    eventually("a word in the log", || server.log().contains(expect_in_log).then_some(()));
    let waiting =
        server.metrics().lines().find_map(|line| line.strip_prefix("sys_traces_waiting ")?.parse::<u64>().ok());
    assert!(waiting.is_some_and(|waiting| waiting <= 2_048), "{waiting:?}");
    let log = server.log();
    assert_eq!(log.matches("traces are not sent").count(), 1, "a collector that is down fills no log: {log}");
    server.terminate();
    let begun = Instant::now();
    let (status, _) = server.ended();
    assert!(status.success());
    assert!(begun.elapsed() < Duration::from_secs(20), "it was waited for: {:?}", begun.elapsed());
}

#[test]
fn a_collector_that_is_down_hangs_or_talks_nonsense_keeps_nobody_waiting() {
    let down = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    suffers(&format!("http://{down}"), "the collector cannot be reached");
    let nonsense = Collector::start("SSH-2.0-nonsense\r\n\r\n");
    suffers(&nonsense.url(), "is not HTTP");
    let hangs = TcpListener::bind("127.0.0.1:0").unwrap();
    suffers(&format!("http://{}", hangs.local_addr().unwrap()), "did not answer within 10 s");
}

#[test]
fn what_a_collector_does_not_want_is_counted() {
    let collector = Collector::start("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n");
    let server = Server::start(&["--traces-endpoint", &collector.url()]);
    superadmin(&server);
    eventually("what was rejected", || (became(&server)["rejected"] > 0).then_some(()));
    assert!(server.log().contains("status 403"), "{}", server.log());
}

#[test]
fn traces_are_turned_on_moved_and_off_while_the_server_runs() {
    let (one, other) = (Collector::start(WELL), Collector::start(WELL));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("sys-server.yaml");
    fs::write(&file, "{}").unwrap();
    let server = Server::start(&["--config", file.to_str().unwrap(), "--log", "info"]);
    let token = superadmin(&server);
    let reloaded = |yaml: &str, expect: &str| {
        let so_far = server.log().len();
        fs::write(&file, yaml).unwrap();
        assert!(Command::new("kill").args(["-HUP", &server.pid().to_string()]).status().unwrap().success());
        eventually(expect, || server.log()[so_far..].contains(expect).then_some(()));
        assert!(!server.log().contains("needs a restart"), "{}", server.log());
    };
    let who_am_i = || assert_eq!(server.call(WHO_AM_I, Some(&token), "{}").0, 200);
    who_am_i();
    reloaded(&format!("traces: {{endpoint: '{}'}}", one.url()), "was read again");
    who_am_i();
    assert_eq!(one.calls(WHO_AM_I, 1).len(), 1, "the call before is not recorded");
    reloaded(&format!("traces: {{endpoint: '{}', service_name: moved}}", other.url()), "was read again");
    who_am_i();
    other.calls(WHO_AM_I, 1);
    assert!(String::from_utf8_lossy(&other.bytes()).contains("moved"));
    reloaded("traces: {endpoint: 'http://192.0.2.1:4318'}", "everything stays as it was");
    who_am_i();
    other.calls(WHO_AM_I, 2);
    reloaded("{}", "was read again");
    who_am_i();
    server.terminate();
    assert!(server.ended().0.success());
    assert_eq!((one.calls(WHO_AM_I, 1).len(), other.calls(WHO_AM_I, 2).len()), (1, 2));
}

#[test]
fn what_would_send_traces_in_plain_or_shows_a_secret_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |yaml: &str, expect: &str| {
        let file = dir.path().join("sys-server.yaml");
        fs::write(&file, format!("data_dir: data\ndanger_key_file: key\n{yaml}")).unwrap();
        let output = program().args(["config", "check"]).arg(&file).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && said.contains(expect), "{yaml}: {said}");
        assert!(!said.contains("canary"), "{said}");
    };
    refused("traces: {endpoint: 'http://collector.example:4318'}", "3:20: traces go to another machine over TLS alone");
    refused("traces: {endpoint: 'https://canary@collector.example'}", "headers_file");
    refused("traces: {endpoint: here}", "not the URL of a collector");
    refused("traces: {sample_ratio: 2}", "write a number from 0 to 1");
    refused("traces: {sample_ratio: much}", "write a number");
    refused("traces: {endpoint: 'https://collector.example', root_file: none.pem}", "none.pem cannot be read");
    let headers = dir.path().join("headers");
    fs::write(&headers, "canary").unwrap();
    let named = "traces: {endpoint: 'https://collector.example', headers_file: headers}";
    refused(named, "line 1 is no header");
    fs::write(&headers, "x: canary").unwrap();
    fs::set_permissions(&headers, fs::Permissions::from_mode(0o644)).unwrap();
    refused(named, "can be read by others");
}
