//! Traces as spans, under the names of OpenTelemetry's semantic conventions. The only place that knows them.
//!
//! What must never happen here: a text that is neither ours nor a contract's; but `tracestate`, by callers who are signed in.

use crate::messages::{
    AnyValue, ExportTraceServiceRequest, InstrumentationScope, KeyValue, Link, Resource, ResourceSpans, ScopeSpans,
    Span, SpanKind, Status, StatusCode, Value,
};
use sys_core::{
    gate::Transport,
    trace::{CallFacts, Step, Subject, Trace},
};
use uuid::Uuid;

/// The edition of the conventions that the names are from, in which those for RPC are stable.
const SCHEMA: &str = "https://opentelemetry.io/schemas/1.45.0";
/// What stands for a method that there is none of.
const OTHER: &str = "_OTHER";
/// The codes that are the server's fault; of the others the caller's, which is no error of the span.
const ERRORS: [&str; 6] = ["UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"];

/// Of a span that is kept.
const SAMPLED: u32 = 0x01;
/// Whether the parent is elsewhere is known, and it is.
const HAS_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;

/// Who sends.
#[derive(Debug, Clone)]
pub(crate) struct Sender {
    /// By another number after each start.
    pub(crate) instance: Uuid,
}

impl Sender {
    /// One message for all of these.
    pub(crate) fn request(&self, service: &str, traces: &[Trace]) -> ExportTraceServiceRequest {
        let version = env!("CARGO_PKG_VERSION");
        let attributes = vec![
            text("service.name", service),
            text("service.version", version),
            text("service.instance.id", &self.instance.to_string()),
        ];
        let scope = InstrumentationScope { name: "sys-server".to_owned(), version: version.to_owned() };
        let spans = traces.iter().flat_map(spans).collect();
        let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, schema_url: SCHEMA.to_owned() }];
        let resource = Some(Resource { attributes });
        ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans { resource, scope_spans, schema_url: SCHEMA.to_owned() }],
        }
    }
}

/// The span of the whole, and those of its steps. What the caller says that others noted stands in the first alone: it may be long.
fn spans(trace: &Trace) -> impl Iterator<Item = Span> {
    std::iter::once(whole(trace)).chain(trace.steps.iter().zip(1..).map(|(step, number)| part(trace, step, number)))
}

fn whole(trace: &Trace) -> Span {
    let (name, kind, mut attributes, status) = match &trace.subject {
        Subject::Call(call) => (name(call).to_owned(), SpanKind::Server, of_call(call), status(call)),
        Subject::Work { name, problem } => {
            let attributes = problem.iter().map(|problem| text("error.type", problem)).collect();
            (name.to_string(), SpanKind::Internal, attributes, problem.map(|_| failed()))
        }
    };
    if trace.left_out > 0 {
        attributes.push(number("sys.steps.left_out", trace.left_out.into()));
    }
    let remote = if trace.parent.is_some() { IS_REMOTE } else { 0 };
    let links = trace.link.iter().map(|link| Link {
        trace_id: link.trace_id.to_vec(),
        span_id: link.span_id.to_vec(),
        flags: u32::from(link.is_sampled) | HAS_REMOTE | IS_REMOTE,
    });
    Span {
        trace_id: trace.trace_id.to_vec(),
        span_id: trace.span_id.to_vec(),
        trace_state: trace.parent.as_ref().map(|parent| parent.state.clone()).unwrap_or_default(),
        parent_span_id: trace.parent.as_ref().map(|parent| parent.span_id.to_vec()).unwrap_or_default(),
        name,
        kind: kind.into(),
        start_time_unix_nano: trace.began_unix_ns,
        end_time_unix_nano: trace.began_unix_ns.saturating_add(trace.took_ns),
        attributes,
        links: links.collect(),
        status,
        flags: SAMPLED | HAS_REMOTE | remote,
    }
}

fn part(trace: &Trace, step: &Step, number: u64) -> Span {
    let parent = step.within.and_then(|within| u64::try_from(within).ok()).map_or(0, |within| within.saturating_add(1));
    Span {
        trace_id: trace.trace_id.to_vec(),
        span_id: id_of(trace, number),
        parent_span_id: id_of(trace, parent),
        name: step.name.to_owned(),
        kind: SpanKind::Internal.into(),
        start_time_unix_nano: trace.began_unix_ns.saturating_add(step.from_ns),
        end_time_unix_nano: trace.began_unix_ns.saturating_add(step.to_ns),
        flags: SAMPLED | HAS_REMOTE,
        ..Span::default()
    }
}

/// The whole is number 0. Its id is random, and those of its steps count on from there: no two of them are alike, and those of others are so by
/// chance alone.
fn id_of(trace: &Trace, number: u64) -> Vec<u8> {
    let first = u64::from_be_bytes(trace.span_id);
    let id = first.wrapping_add(number);
    // Zero is no id.
    let id = if id < first { id.wrapping_add(1) } else { id };
    id.to_be_bytes().to_vec()
}

fn name(call: &CallFacts) -> &str {
    call.method.as_deref().unwrap_or(system(call))
}

fn system(call: &CallFacts) -> &'static str {
    if call.is_grpc { "grpc" } else { "connectrpc" }
}

fn of_call(call: &CallFacts) -> Vec<KeyValue> {
    let mut attributes = vec![
        text("rpc.system.name", system(call)),
        text("rpc.method", call.method.as_deref().unwrap_or(OTHER)),
        text("network.protocol.name", "http"),
        text("network.transport", "tcp"),
    ];
    let version = match call.version {
        http::Version::HTTP_2 => Some("2"),
        http::Version::HTTP_11 => Some("1.1"),
        http::Version::HTTP_10 => Some("1.0"),
        _ => None,
    };
    attributes.extend(version.map(|version| text("network.protocol.version", version)));
    // Connect has no code for a success.
    let code = if call.is_grpc { Some(call.code.to_owned()) } else { connect_code(call.code) };
    attributes.extend(code.iter().map(|code| text("rpc.response.status_code", code)));
    attributes.extend(code.filter(|_| ERRORS.contains(&call.code)).map(|code| text("error.type", &code)));
    attributes.extend(call.reason.map(|reason| text("sys.refusal.reason", reason.name())));
    attributes.extend(call.transport.iter().flat_map(of_connection));
    attributes
}

/// Connect's name of a code; it has one more letter in gRPC's for who left.
fn connect_code(code: &str) -> Option<String> {
    match code {
        "OK" => None,
        "CANCELLED" => Some("canceled".to_owned()),
        other => Some(other.to_ascii_lowercase()),
    }
}

fn of_connection(transport: &Transport) -> [KeyValue; 5] {
    let Transport { version, group, ech_accepted, client_certificate } = transport;
    let connection = sys_audit::Connection {
        version: (*version).into(),
        group: (*group).into(),
        ..sys_audit::Connection::default()
    };
    let version = connection.version_name();
    [
        text("tls.protocol.name", "tls"),
        text("tls.protocol.version", version.strip_prefix("TLS ").unwrap_or(&version)),
        text("tls.curve", &connection.group_name()),
        flag("sys.tls.ech_accepted", *ech_accepted),
        // Whether, not which: that would name the device.
        flag("sys.tls.has_client_certificate", client_certificate.is_some()),
    ]
}

/// A call that the server is at fault for has failed; of the others a span says nothing.
fn status(call: &CallFacts) -> Option<Status> {
    ERRORS.contains(&call.code).then(failed)
}

fn failed() -> Status {
    Status { message: String::new(), code: StatusCode::Error.into() }
}

fn text(key: &str, value: &str) -> KeyValue {
    of(key, Value::Text(value.to_owned()))
}

fn flag(key: &str, value: bool) -> KeyValue {
    of(key, Value::Flag(value))
}

fn number(key: &str, value: i64) -> KeyValue {
    of(key, Value::Number(value))
}

fn of(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }) }
}

#[cfg(test)]
mod tests;
