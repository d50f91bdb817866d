//! More than the gate can do, and callers who do not wait.

use super::{
    super::{Ahead, Arrival, TurnedAway, load},
    bed::Bed,
};
use crate::throttle::{Rate, Rates};
use bytes::Bytes;
use futures_util::FutureExt;
use http::{Request, Version, header};
use http_body_util::{BodyExt, Full};
use std::{
    net::IpAddr,
    num::NonZeroU32,
    time::{Duration, Instant},
};
use sys_net::Network;
use tower::ServiceExt;

const HEALTH: &str = "/grpc.health.v1.Health/Check";

fn health(bed: &Bed) -> Request<Full<Bytes>> {
    let mut request = bed.request("Pass", None);
    *request.uri_mut() = HEALTH.parse().unwrap();
    request.extensions_mut().insert(Ahead);
    request
}

/// Asked more often than the listener lets it be ahead of others.
fn health_among_others(bed: &Bed) -> Request<Full<Bytes>> {
    let mut request = health(bed);
    request.extensions_mut().remove::<Ahead>();
    request
}

fn with_timeout(bed: &Bed, method: &str, milliseconds: &str) -> Request<Full<Bytes>> {
    let mut request = bed.request(method, None);
    request.headers_mut().insert("connect-timeout-ms", milliseconds.parse().unwrap());
    request
}

#[tokio::test]
async fn what_is_too_much_is_told_to_come_back_and_health_answers() {
    let bed = Bed::new().await;
    let mut calls: Vec<_> =
        (0..load::RUNNING + load::WAITING / 2).map(|_| Box::pin(bed.send(bed.request("Wait", None)))).collect();
    assert!(calls.iter_mut().all(|call| call.now_or_never().is_none()), "each of them waits");
    let response = bed.monitor().front().oneshot(bed.request("Pass", None)).await.unwrap();
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()[header::RETRY_AFTER], "1");
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let answer: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(answer["code"], "unavailable");
    let details: Vec<_> = answer["details"].as_array().unwrap().iter().map(|detail| &detail["type"]).collect();
    assert_eq!(details, ["google.rpc.ErrorInfo", "google.rpc.RetryInfo"]);
    assert_eq!(bed.send(health(&bed)).await.status, 200);
    // Their callers go away, and with them what they held.
    drop(calls);
    assert_eq!(bed.post("Pass").await.status, 200);
}

#[tokio::test]
async fn what_waited_too_long_to_be_begun_with_is_not_begun_and_health_answers() {
    let bed = Bed::new().await;
    let long_ago = Arrival(Instant::now().checked_sub(Duration::from_secs(5)).unwrap());
    let late = |mut request: Request<Full<Bytes>>| {
        request.extensions_mut().insert(long_ago);
        bed.send(request)
    };
    let answer = late(bed.request("Leak", None)).await;
    assert_eq!((answer.status, answer.code.as_str()), (503, "unavailable"));
    assert!(bed.leaked.lock().unwrap().is_none(), "the handler did not run");
    assert_eq!(late(health(&bed)).await.status, 200);
    // Its caller gave it less time than it waited.
    let mut request = with_timeout(&bed, "Leak", "100");
    request.extensions_mut().insert(Arrival(Instant::now().checked_sub(Duration::from_millis(200)).unwrap()));
    let answer = bed.send(request).await;
    assert_eq!((answer.status, answer.code.as_str()), (504, "deadline_exceeded"));
    assert!(bed.leaked.lock().unwrap().is_none(), "the handler did not run");
}

#[tokio::test]
async fn whom_the_listener_turns_away_nobody_works_for() {
    let bed = Bed::new().await;
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let turned_away = |mut request: Request<Full<Bytes>>| {
            *request.version_mut() = version;
            request.extensions_mut().insert(TurnedAway);
            bed.send(request)
        };
        let answer = turned_away(bed.request("Leak", None)).await;
        assert_eq!((answer.status, answer.code.as_str()), (503, "unavailable"), "{version:?}");
        assert!(answer.text.contains("google.rpc.RetryInfo"), "{}", answer.text);
        assert!(bed.leaked.lock().unwrap().is_none(), "the handler did not run");
        assert_eq!(turned_away(health_among_others(&bed)).await.status, 503);
    }
}

#[tokio::test]
async fn a_caller_is_worked_for_as_long_as_he_waits_and_no_longer() {
    let bed = Bed::new().await;
    for (milliseconds, waits) in [("0", false), ("30", true)] {
        let answer = bed.send(with_timeout(&bed, "Wait", milliseconds)).await;
        assert_eq!((answer.status, answer.code.as_str()), (504, "deadline_exceeded"));
        assert!(answer.text.contains("google.rpc.ErrorInfo"), "{}", answer.text);
        let call = bed.leaked.lock().unwrap().take();
        assert_eq!(call.is_some(), waits, "{milliseconds} ms");
        if let Some(call) = call {
            assert!(call.open().await.is_err(), "the call is over");
        }
    }
    let mut request = bed.request("Wait", None);
    request.headers_mut().insert("grpc-timeout", "30m".parse().unwrap());
    request.headers_mut().insert(header::CONTENT_TYPE, "application/grpc-web+proto".parse().unwrap());
    *request.body_mut() = Full::from(vec![0; 5]);
    let response = bed.monitor().front().oneshot(request).await.unwrap();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8_lossy(&body);
    assert!(text.contains("grpc-status: 4") && text.contains("grpc-status-details-bin"), "{text}");
}

#[tokio::test]
async fn health_answers_whoever_has_used_up_his_calls() {
    let few = Rate { per_second: NonZeroU32::MIN, burst: NonZeroU32::MIN };
    let bed = Bed::with_rates(Rates { source: few, ..Rates::default() }).await;
    assert_eq!(bed.post("Pass").await.status, 200);
    assert_eq!(bed.post("Pass").await.status, 429);
    for _ in 0..10 {
        assert_eq!(bed.send(health(&bed)).await.status, 200);
    }
    assert_eq!(bed.send(health_among_others(&bed)).await.status, 429, "whoever asks too often");
}

/// `{}`, packed.
const PACKED: &str = "1f8b0800000000000003 010200fdff 7b7d 43bfa6a3 02000000";

#[tokio::test]
async fn a_packed_body_counts_for_what_it_may_unpack_to_before_it_is_unpacked() {
    let bed = Bed::new().await;
    let packed = data_encoding::HEXLOWER.decode(PACKED.replace(' ', "").as_bytes()).unwrap();
    let pass = |is_packed: bool| {
        let mut request = bed.request("Pass", None);
        if is_packed {
            request.headers_mut().insert(header::CONTENT_ENCODING, "gzip".parse().unwrap());
            *request.body_mut() = Full::from(packed.clone());
        }
        bed.send(request)
    };
    assert_eq!(pass(true).await.status, 200);
    let here = Some(Network::of(IpAddr::from([127, 0, 0, 1])));
    let free = load::BODY_BYTES / 2 - 1_000;
    bed.gate().load.hold_bytes(here, free).unwrap();
    assert_eq!(pass(false).await.status, 200, "small ones need no room");
    assert_eq!(pass(true).await.status, 503);
    assert_eq!(bed.gate().load.held_bytes(), free, "what was refused counts for nothing");
    bed.gate().load.let_go_of(here, free);
    assert_eq!(pass(true).await.status, 200);
    assert_eq!(bed.gate().load.held_bytes(), 0);
}
