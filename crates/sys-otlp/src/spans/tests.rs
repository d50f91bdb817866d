//! Names, parents and statuses of spans.

use super::*;
use http::Version;
use sys_contract::trace_context::TraceContext;
use sys_core::{refusal::Reason, token::CertificateHash};

fn trace(call: CallFacts) -> Trace {
    let step = |name, within, from_ns| Step { name, within, from_ns, to_ns: from_ns + 1 };
    Trace {
        trace_id: [1; 16],
        span_id: [2; 8],
        parent: None,
        link: None,
        began_unix_ns: 1_000,
        took_ns: 10,
        subject: Subject::Call(call),
        steps: vec![step("transaction", None, 1), step("handle", Some(0), 2)],
        left_out: 0,
    }
}

fn facts() -> CallFacts {
    CallFacts {
        method: Some("a.v1.B/C".to_owned()),
        is_grpc: true,
        version: Version::HTTP_2,
        transport: None,
        code: "OK",
        reason: None,
    }
}

/// The attributes as `name=value`.
fn attributes(span: &Span) -> Vec<String> {
    let shown = |value: &Option<AnyValue>| match value.as_ref().and_then(|any| any.value.clone()) {
        Some(Value::Text(text)) => text,
        Some(Value::Flag(flag)) => flag.to_string(),
        Some(Value::Number(number)) => number.to_string(),
        None => "nothing".to_owned(),
    };
    span.attributes.iter().map(|attribute| format!("{}={}", attribute.key, shown(&attribute.value))).collect()
}

#[test]
fn a_call_is_a_span_of_the_server_with_its_steps_below() {
    let spans: Vec<Span> = spans(&trace(facts())).collect();
    let [whole, transaction, handle] = spans.as_slice() else { panic!("{spans:?}") };
    assert_eq!((whole.name.as_str(), whole.kind()), ("a.v1.B/C", SpanKind::Server));
    assert_eq!((transaction.name.as_str(), transaction.kind()), ("transaction", SpanKind::Internal));
    assert_eq!((&whole.parent_span_id, &transaction.parent_span_id), (&Vec::new(), &whole.span_id));
    assert_eq!(handle.parent_span_id, transaction.span_id);
    assert!(spans.iter().all(|span| span.trace_id == [1; 16] && span.span_id.len() == 8 && span.flags == 0x101));
    assert_eq!((whole.start_time_unix_nano, whole.end_time_unix_nano), (1_000, 1_010));
    assert_eq!((handle.start_time_unix_nano, handle.end_time_unix_nano), (1_002, 1_003));
    let expect = [
        "rpc.system.name=grpc",
        "rpc.method=a.v1.B/C",
        "network.protocol.name=http",
        "network.transport=tcp",
        "network.protocol.version=2",
        "rpc.response.status_code=OK",
    ];
    assert_eq!(attributes(whole), expect);
    assert_eq!(whole.status, None);
}

#[test]
fn a_call_that_the_server_is_at_fault_for_is_an_error_and_one_that_the_caller_is_is_none() {
    let check = |is_grpc, code, reason: Reason, expect: &[&str], fails| {
        let refused = CallFacts { is_grpc, code, reason: Some(reason), ..facts() };
        let whole = whole(&trace(refused));
        assert_eq!(
            attributes(&whole).get(5..),
            Some(&expect.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>()[..])
        );
        assert_eq!(whole.status.map(|status| status.code()), fails, "{code}");
    };
    check(
        true,
        "PERMISSION_DENIED",
        Reason::MethodRefused,
        &["rpc.response.status_code=PERMISSION_DENIED", "sys.refusal.reason=METHOD_REFUSED"],
        None,
    );
    check(
        false,
        "INTERNAL",
        Reason::Internal,
        &["rpc.response.status_code=internal", "error.type=internal", "sys.refusal.reason=INTERNAL"],
        Some(StatusCode::Error),
    );
    let left = CallFacts { is_grpc: false, code: "CANCELLED", ..facts() };
    assert!(attributes(&whole(&trace(left))).contains(&"rpc.response.status_code=canceled".to_owned()));
    let well = CallFacts { is_grpc: false, ..facts() };
    assert!(
        !attributes(&whole(&trace(well))).iter().any(|it| it.starts_with("rpc.response")),
        "Connect has no code for it"
    );
}

#[test]
fn a_method_that_there_is_none_of_has_the_name_that_the_conventions_want() {
    let unknown = whole(&trace(CallFacts { method: None, is_grpc: false, ..facts() }));
    assert_eq!(unknown.name, "connectrpc");
    assert!(attributes(&unknown).contains(&"rpc.method=_OTHER".to_owned()));
}

#[test]
fn the_connection_is_told_and_not_whose_it_is() {
    let client_certificate = Some(CertificateHash([0xab; 32]));
    let transport = Transport { version: 0x0304, group: 0x11ec, ech_accepted: true, client_certificate };
    let whole = whole(&trace(CallFacts { transport: Some(transport), ..facts() }));
    let expect = [
        "tls.protocol.name=tls",
        "tls.protocol.version=1.3",
        "tls.curve=X25519MLKEM768",
        "sys.tls.ech_accepted=true",
        "sys.tls.has_client_certificate=true",
    ];
    let said = attributes(&whole);
    assert_eq!(said[said.len() - 5..], expect);
}

#[test]
fn the_caller_is_the_parent_where_he_is_believed_and_else_a_link() {
    let theirs = TraceContext { trace_id: [7; 16], span_id: [8; 8], is_sampled: true, state: "a=b".to_owned() };
    let mut known = trace(facts());
    (known.trace_id, known.parent) = (theirs.trace_id, Some(theirs.clone()));
    let spans: Vec<Span> = spans(&known).collect();
    assert_eq!((spans[0].parent_span_id.as_slice(), spans[0].flags), (&[8; 8][..], 0x301));
    assert!(spans.iter().all(|span| span.trace_id == [7; 16] && span.links.is_empty()));
    assert_eq!(spans.iter().map(|span| span.trace_state.as_str()).collect::<Vec<_>>(), ["a=b", "", ""]);
    assert_eq!(spans[1].flags, 0x101, "its own parent is here");
    let linked = whole(&Trace { link: Some(theirs), ..trace(facts()) });
    assert_eq!((linked.parent_span_id.len(), linked.trace_state.as_str()), (0, ""));
    let link = Link { trace_id: vec![7; 16], span_id: vec![8; 8], flags: 0x301 };
    assert_eq!(linked.links, [link]);
}

#[test]
fn work_of_the_server_is_a_span_of_its_own_and_ids_are_never_zero() {
    let mut work = trace(facts());
    work.subject = Subject::Work { name: "domain", problem: Some("vault") };
    work.left_out = 3;
    let whole = whole(&work);
    assert_eq!((whole.name.as_str(), whole.kind()), ("domain", SpanKind::Internal));
    assert_eq!(attributes(&whole), ["error.type=vault", "sys.steps.left_out=3"]);
    assert_eq!(whole.status.map(|status| status.code()), Some(StatusCode::Error));
    work.span_id = (u64::MAX - 1).to_be_bytes();
    let ids: Vec<_> = (0..4).map(|number| id_of(&work, number)).collect();
    assert_eq!(ids, [u64::MAX - 1, u64::MAX, 1, 2].map(|id| id.to_be_bytes().to_vec()));
}

#[test]
fn the_sender_says_what_it_is_called() {
    let sender = Sender { instance: Uuid::from_bytes([4; 16]) };
    let request = sender.request("edge", &[trace(facts()), trace(facts())]);
    let [resource] = request.resource_spans.as_slice() else { panic!("{request:?}") };
    let said = Span { attributes: resource.resource.clone().unwrap_or_default().attributes, ..Span::default() };
    let version = concat!("service.version=", env!("CARGO_PKG_VERSION"));
    let expect = ["service.name=edge", version, "service.instance.id=04040404-0404-0404-0404-040404040404"];
    assert_eq!(attributes(&said), expect);
    assert_eq!(resource.scope_spans[0].spans.len(), 6);
}
