//! Sampling and bounds, without a gate.

use super::*;
use crate::{SystemEntropy, refusal::Refusal};
use futures_util::FutureExt;

fn tracer() -> (Tracer, Recordings) {
    let tracer = Tracer::new(Clock::System, Arc::new(SystemEntropy::new()));
    let recordings = tracer.recordings().unwrap();
    assert!(tracer.recordings().is_none(), "they are taken once");
    (tracer, recordings)
}

fn recorded(recordings: &mut Recordings) -> Vec<Trace> {
    let mut traces = Vec::new();
    let _ = recordings.take(&mut traces, 10_000).now_or_never();
    traces
}

fn call(tracer: &Tracer, headers: &HeaderMap) -> Recorder {
    tracer.call(Some("a.B/C"), Version::HTTP_2, headers, Instant::now())
}

#[test]
fn about_the_part_that_was_asked_for_is_recorded_whatever_callers_say() {
    let (tracer, mut recordings) = tracer();
    tracer.sample(Some(Sampling { per_million: 100_000, follows_callers: false }));
    // An id that a sampler which goes by ids would always choose.
    let low = "00-00000000000000000000000000000001-0000000000000001-01".parse().unwrap();
    let asks = HeaderMap::from_iter([(http::HeaderName::from_static(TRACEPARENT), low)]);
    for headers in [HeaderMap::new(), asks] {
        (0..10_000).for_each(|_| drop(call(&tracer, &headers)));
        let chosen = recorded(&mut recordings).len();
        assert!((800..1_200).contains(&chosen), "{chosen}");
    }
}

#[test]
fn a_trace_has_so_many_steps_and_says_how_many_there_was_no_room_for() {
    let (tracer, mut recordings) = tracer();
    tracer.sample(Some(Sampling { per_million: 1_000_000, follows_callers: false }));
    let recorder = call(&tracer, &HeaderMap::new());
    (0..100).for_each(|_| drop(recorder.step("again")));
    recorder.came_to("INTERNAL", Some(&Refusal::internal("x")));
    recorder.end();
    // What comes late changes nothing and is no second trace.
    drop(recorder.step("late"));
    recorder.came_to("OK", None);
    drop(recorder);
    let traces = recorded(&mut recordings);
    assert_eq!(traces.len(), 1);
    assert_eq!((traces[0].steps.len(), traces[0].left_out, traces[0].spans()), (64, 36, 65));
    assert!(matches!(&traces[0].subject, Subject::Call(CallFacts { code: "INTERNAL", .. })));
}

#[test]
fn steps_that_overlap_end_each_by_itself() {
    let (tracer, mut recordings) = tracer();
    tracer.sample(Some(Sampling { per_million: 1_000_000, follows_callers: false }));
    let recorder = call(&tracer, &HeaderMap::new());
    let first = recorder.step("first");
    let second = recorder.step("second");
    drop(first);
    let third = recorder.step("third");
    drop(second);
    drop(third);
    drop(recorder.step("fourth"));
    drop(recorder);
    let traces = recorded(&mut recordings);
    let within: Vec<_> = traces[0].steps.iter().map(|step| step.within).collect();
    assert_eq!(within, [None, Some(0), Some(1), None]);
}

#[test]
fn ids_are_never_the_same_and_work_of_the_server_is_always_recorded() {
    let (tracer, mut recordings) = tracer();
    drop(tracer.work("nothing is on"));
    tracer.sample(Some(Sampling { per_million: 0, follows_callers: false }));
    for _ in 0..100 {
        tracer.work("round").failed("why");
    }
    let traces = recorded(&mut recordings);
    assert_eq!(traces.len(), 100);
    assert!(traces.iter().all(|trace| trace.subject == Subject::Work { name: "round", problem: Some("why") }));
    let ids: std::collections::BTreeSet<_> = traces.iter().map(|trace| (trace.trace_id, trace.span_id)).collect();
    assert_eq!(ids.len(), 100);
}

#[test]
fn a_full_queue_takes_no_more_and_counts_what_it_did_not_take() {
    let (tracer, mut recordings) = tracer();
    tracer.sample(Some(Sampling { per_million: 1_000_000, follows_callers: false }));
    (0..QUEUE + 5).for_each(|_| drop(tracer.work("round")));
    assert_eq!(tracer.counts().collect::<Vec<_>>(), [("sent", 0), ("dropped", 5), ("undelivered", 0), ("rejected", 0)]);
    assert_eq!(tracer.waiting(), QUEUE);
    assert_eq!(recorded(&mut recordings).len(), QUEUE);
    assert_eq!(tracer.waiting(), 0);
    assert!((0..1_000).all(|_| tracer.draw(3) < 3) && tracer.draw(0) == 0);
}
