//! What is recorded of calls, whose word counts for that, and what never stands in it.

use super::bed::{Bed, METHODS, path_of};
use crate::{
    gate::{Transport, TurnedAway},
    refusal::Reason,
    token::CertificateHash,
    trace::{CallFacts, Recordings, Sampling, Subject, Trace},
    vault::{Change, Item},
};
use bytes::Bytes;
use futures_util::FutureExt;
use http::{Request, Version};
use http_body_util::Full;
use sys_contract::trace_context::{TRACEPARENT, TRACESTATE, TraceContext};

/// What a caller says who has his trace kept, and who has not.
const SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const UNSAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

const ALL: Sampling = Sampling { per_million: 1_000_000, follows_callers: false };

async fn recording(sampling: Sampling) -> (Bed, Recordings) {
    let bed = Bed::new().await;
    let recordings = bed.monitor().tracer().recordings().unwrap();
    bed.monitor().tracer().sample(Some(sampling));
    (bed, recordings)
}

/// All that has been recorded.
fn recorded(recordings: &mut Recordings) -> Vec<Trace> {
    let mut traces = Vec::new();
    let _ = recordings.take(&mut traces, 10_000).now_or_never();
    traces
}

/// The one call that has been recorded.
fn call(recordings: &mut Recordings) -> (Trace, CallFacts) {
    let traces = recorded(recordings);
    let [trace] = traces.as_slice() else { panic!("{traces:?}") };
    let Subject::Call(call) = trace.subject.clone() else { panic!("{trace:?}") };
    (trace.clone(), call)
}

fn within(mut request: Request<Full<Bytes>>, traceparent: &str) -> Request<Full<Bytes>> {
    request.headers_mut().insert(TRACEPARENT, traceparent.parse().unwrap());
    request.headers_mut().insert(TRACESTATE, "a=b".parse().unwrap());
    request
}

/// Each step with the one that it is within.
fn steps(trace: &Trace) -> Vec<(&'static str, Option<&'static str>)> {
    trace.steps.iter().map(|step| (step.name, step.within.map(|within| trace.steps[within].name))).collect()
}

#[tokio::test]
async fn nothing_is_recorded_until_somebody_asks_for_it() {
    let bed = Bed::new().await;
    let mut recordings = bed.monitor().tracer().recordings().unwrap();
    assert_eq!(bed.send(within(bed.request("Pass", None), SAMPLED)).await.status, 200);
    assert_eq!(recorded(&mut recordings), []);
    bed.monitor().tracer().sample(Some(ALL));
    bed.post("Pass").await;
    assert_eq!(recorded(&mut recordings).len(), 1);
    bed.monitor().tracer().sample(None);
    bed.post("Pass").await;
    assert_eq!(recorded(&mut recordings), []);
}

#[tokio::test]
async fn a_call_is_recorded_with_its_steps_and_its_connection() {
    let (bed, mut recordings) = recording(ALL).await;
    let token = bed.token().await;
    let client_certificate = Some(CertificateHash([7; 32]));
    let transport = Transport { version: 0x0304, group: 0x11ec, ech_accepted: true, client_certificate };
    let mut request = bed.request("Mail", Some(&token));
    *request.version_mut() = Version::HTTP_2;
    request.extensions_mut().insert(transport);
    let before = u64::try_from(crate::clock::Clock::System.now().unix_s).unwrap() * 1_000_000_000;
    assert_eq!(bed.send(request).await.status, 200);
    let (trace, call) = call(&mut recordings);
    assert_eq!(call.method.as_deref(), Some(path_of("Mail")));
    assert_eq!((call.code, call.reason, call.is_grpc, call.version), ("OK", None, false, Version::HTTP_2));
    assert_eq!(call.transport, Some(transport));
    let expect = [
        ("throttle", None),
        ("identify", None),
        ("admit", None),
        ("read", None),
        ("wait", None),
        ("validate", None),
        ("transaction", None),
        ("handle", Some("transaction")),
        ("authorize", Some("handle")),
        ("audit", Some("transaction")),
        ("commit", Some("transaction")),
    ];
    assert_eq!(steps(&trace), expect);
    assert!(trace.steps.iter().all(|step| step.from_ns <= step.to_ns && step.to_ns <= trace.took_ns), "{trace:?}");
    assert!(trace.began_unix_ns >= before && trace.parent.is_none() && trace.link.is_none());
}

#[tokio::test]
async fn a_refused_call_says_why_and_where_it_ended() {
    let (bed, mut recordings) = recording(ALL).await;
    for (method, token, code, reason, last) in [
        ("Enter", None, "UNAUTHENTICATED", Reason::Unauthenticated, "admit"),
        ("Enter", Some("forged"), "UNAUTHENTICATED", Reason::TokenRefused, "identify"),
        ("Keep", None, "UNAUTHENTICATED", Reason::TokenRefused, "commit"),
        ("Panic", None, "INTERNAL", Reason::Internal, "authorize"),
    ] {
        bed.send(bed.request(method, token)).await;
        let (trace, call) = call(&mut recordings);
        assert_eq!((call.method.as_deref(), call.code, call.reason), (Some(path_of(method)), code, Some(reason)));
        assert_eq!(trace.steps.last().map(|step| step.name), Some(last), "{method}");
    }
    let malformed = bed.request("Pass", None).map(|_| Full::from("{"));
    bed.send(malformed).await;
    assert_eq!(call(&mut recordings).1.code, "INVALID_ARGUMENT");
}

#[tokio::test]
async fn who_leaves_before_his_answer_ends_the_trace() {
    let (bed, mut recordings) = recording(ALL).await;
    let mut hanging = Box::pin(bed.send(bed.request("Hang", None)));
    assert!(hanging.as_mut().now_or_never().is_none());
    assert_eq!(recorded(&mut recordings), []);
    drop(hanging);
    let (trace, call) = call(&mut recordings);
    assert_eq!((call.code, trace.steps.last().map(|step| step.name)), ("CANCELLED", Some("authorize")));
    // The handler has kept its call: that keeps no trace open.
    assert!(bed.leaked.lock().unwrap().is_some());
}

#[tokio::test]
async fn no_text_of_a_stranger_is_recorded() {
    let (bed, mut recordings) = recording(ALL).await;
    let mut request = within(bed.request("Pass", None), SAMPLED);
    *request.uri_mut() = format!("/{METHODS}/Canary").parse().unwrap();
    request.headers_mut().insert("user-agent", "canary".parse().unwrap());
    request.headers_mut().insert(TRACESTATE, "canary=canary".parse().unwrap());
    request.headers_mut().insert("authorization", "Bearer canary".parse().unwrap());
    assert_eq!(bed.send(request).await.status, 404);
    let (trace, call) = call(&mut recordings);
    assert_eq!((call.method, call.code), (None, "UNIMPLEMENTED"));
    assert!(trace.link.is_some());
    assert!(!format!("{trace:?}").to_lowercase().contains("canary"), "{trace:?}");
}

#[tokio::test]
async fn the_trace_is_the_callers_where_it_is_known_who_calls_and_else_it_is_linked_to() {
    let (bed, mut recordings) = recording(ALL).await;
    let token = bed.token().await;
    let theirs = TraceContext::parse(SAMPLED).unwrap().with_state(["a=b"].into_iter());
    bed.send(within(bed.request("Enter", Some(&token)), SAMPLED)).await;
    let (known, _) = call(&mut recordings);
    assert_eq!((known.trace_id, known.parent, known.link), (theirs.trace_id, Some(theirs.clone()), None));
    assert_ne!(known.span_id, theirs.span_id);
    for (method, token) in [("Pass", None), ("Enter", None), ("Pass", Some("forged"))] {
        bed.send(within(bed.request(method, token), SAMPLED)).await;
        let (stranger, _) = call(&mut recordings);
        assert_ne!(stranger.trace_id, theirs.trace_id, "{method}");
        let without_notes = TraceContext { state: String::new(), ..theirs.clone() };
        assert_eq!((stranger.parent, stranger.link), (None, Some(without_notes)), "{method}");
    }
    for garbage in ["", "00-canary", "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"] {
        bed.send(within(bed.request("Enter", Some(&token)), garbage)).await;
        let (trace, _) = call(&mut recordings);
        assert_eq!((trace.parent, trace.link), (None, None), "{garbage}");
    }
    let mut twice = within(bed.request("Enter", Some(&token)), SAMPLED);
    twice.headers_mut().append(TRACEPARENT, SAMPLED.parse().unwrap());
    bed.send(twice).await;
    assert_eq!(call(&mut recordings).0.parent, None, "of two lines neither counts");
}

#[tokio::test]
async fn whether_a_call_is_recorded_is_the_callers_word_only_where_the_operator_says_so() {
    let none = Sampling { per_million: 0, follows_callers: false };
    let follows = |per_million| Sampling { per_million, follows_callers: true };
    for (sampling, is_known, traceparent, expect) in [
        (none, true, SAMPLED, 0),
        (none, false, SAMPLED, 0),
        (ALL, true, UNSAMPLED, 1),
        (follows(0), true, SAMPLED, 1),
        (follows(0), true, UNSAMPLED, 0),
        (follows(0), false, SAMPLED, 0),
        (follows(1_000_000), true, UNSAMPLED, 0),
        (follows(1_000_000), true, "garbage", 1),
        (follows(1_000_000), false, UNSAMPLED, 1),
    ] {
        let (bed, mut recordings) = recording(sampling).await;
        let token = bed.token().await;
        let token = is_known.then_some(token.as_str());
        assert_eq!(bed.send(within(bed.request("Pass", token), traceparent)).await.status, 200);
        assert_eq!(recorded(&mut recordings).len(), expect, "{sampling:?} {is_known} {traceparent}");
    }
}

#[tokio::test]
async fn strangers_leave_room_in_the_queue_for_everybody_else() {
    let (bed, mut recordings) = recording(ALL).await;
    let token = bed.token().await;
    for octet in 0..3 {
        for _ in 0..1_000 {
            bed.send(bed.request_from("Enter", None, [192, 0, 2, octet].into())).await;
        }
    }
    bed.send(bed.request("Enter", Some(&token))).await;
    let tracer = bed.monitor().tracer();
    let dropped = || tracer.counts().find(|(name, _)| *name == "dropped").map_or(0, |(_, count)| count);
    assert_eq!(tracer.waiting(), 1_024 + 1);
    // A root and three steps each.
    assert_eq!(dropped(), (3_000 - 1_024) * 4);
    let traces = recorded(&mut recordings);
    let last = traces.last().map(|trace| trace.subject.clone());
    assert!(matches!(last, Some(Subject::Call(CallFacts { code: "OK", .. }))), "{last:?}");
}

#[tokio::test]
async fn who_is_turned_away_for_the_load_is_not_recorded() {
    let (bed, mut recordings) = recording(ALL).await;
    for form in ["application/json", "application/x-form"] {
        let mut request = bed.request("Pass", None);
        request.headers_mut().insert("content-type", form.parse().unwrap());
        request.extensions_mut().insert(TurnedAway);
        assert_eq!(bed.send(request).await.code, "unavailable");
    }
    assert_eq!(recorded(&mut recordings), []);
}

#[tokio::test]
async fn what_the_server_changes_of_its_own_is_a_trace_named_as_in_the_audit_log() {
    let (bed, mut recordings) = recording(ALL).await;
    let put =
        |name: &str| Change::Put(Item { kind: "canary".into(), name: name.into(), value: b"canary".to_vec().into() });
    bed.monitor().vault().change("make-key", vec![put("a")]).await.unwrap();
    bed.monitor().vault().change("make-key", vec![put(&"a".repeat(1_000))]).await.unwrap_err();
    let traces = recorded(&mut recordings);
    let subjects: Vec<_> = traces.iter().map(|trace| &trace.subject).collect();
    let work = |problem| Subject::Work { name: "make-key", problem };
    assert_eq!(subjects.len(), 2);
    assert_eq!(subjects[0], &work(None));
    assert!(matches!(subjects[1], Subject::Work { name: "make-key", problem: Some(_) }), "{subjects:?}");
    assert!(!format!("{traces:?}").contains("canary"), "{traces:?}");
}
