//! Attacks on the gate from both sides: requests through its front, and handlers that misbehave. Over a store in memory.

mod bed;
mod bound;
mod overload;
mod streams;
mod traces;
mod unread;

use super::{Identified, Way, callers::TokenHash};
use crate::{
    host::ModuleError,
    module::{Handlers, Module},
    refusal::{Code, Reason, Refusal},
    throttle::Rates,
    token::TokenSecret,
};
use bed::{Answer, Bed, METHODS};
use bytes::Bytes;
use futures_util::FutureExt;
use http::{Request, Version, header};
use std::{
    net::IpAddr,
    num::NonZeroU32,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use sys_contract::{
    id::{AccountId, OrgTag, RecordId, SessionId},
    load::{Origin, SourceFile, load},
    model::{Contract, Role},
};
use sys_policy::{Binding, BindingScope, Caller, Standing};
use sys_store::SystemKind;

/// Longer than anything here takes that does not hang.
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_handler_that_panics_is_our_fault_and_disturbs_nobody() {
    let bed = Bed::new().await;
    let answer = bed.post("Panic").await;
    assert_eq!((answer.status, answer.code.as_str()), (500, "internal"));
    assert!(!answer.text.contains("a secret"), "{}", answer.text);
    assert_eq!(bed.post("Pass").await.status, 200);
}

#[tokio::test]
async fn a_mail_goes_out_though_its_call_read_nothing() {
    let bed = Bed::new().await;
    assert_eq!(bed.post("Mail").await.status, 200);
    let mut open = bed.open().await;
    assert_eq!(open.rows(SystemKind::Outbox, &[], None, 10).await.unwrap().len(), 1);
    assert_eq!(bed.outcomes("Mail").await, ["OK"]);
}

#[tokio::test]
async fn reads_that_are_audited_and_sign_ins_leave_a_leaf_though_they_wrote_nothing() {
    let bed = Bed::new().await;
    for (method, outcomes) in
        [("Look", vec!["OK"]), ("Knock", vec!["OK"]), ("Keep", vec!["TOKEN_REFUSED"]), ("Pass", vec![])]
    {
        bed.post(method).await;
        assert_eq!(bed.outcomes(method).await, outcomes, "{method}");
    }
}

#[tokio::test]
async fn a_write_and_its_leaf_are_one_commit() {
    let bed = Bed::new().await;
    let (before, leaves) = (bed.open().await.snapshot_version(), bed.leaves(OrgTag::GLOBAL).await.len());
    assert_eq!(bed.post("Mail").await.status, 200);
    let after = bed.open().await.snapshot_version();
    assert_eq!((after.0 - before.0, bed.leaves(OrgTag::GLOBAL).await.len() - leaves), (1, 1));
}

#[tokio::test]
async fn a_clone_of_a_call_is_dead_when_the_call_is_over() {
    let bed = Bed::new().await;
    for (method, status) in [("Leak", 200), ("Hang", 504)] {
        assert_eq!(bed.post(method).await.status, status);
        let call = bed.leaked.lock().unwrap().take().unwrap();
        assert_eq!(call.open().await.map(drop).unwrap_err().reason, Reason::CallOver, "{method}");
        assert_eq!(call.after_commit(bed::mail()).await.unwrap_err().reason, Reason::CallOver, "{method}");
    }
}

#[tokio::test]
async fn an_identity_that_changes_is_forgotten_though_its_caller_went_away_during_the_commit() {
    let bed = Bed::new().await;
    let token = bed.token().await;
    assert_eq!(bed.send(bed.request("Enter", Some(&token))).await.status, 200);
    let known = bed.gate().callers.get(&TokenHash::of(&token)).unwrap();
    let mut open = bed.open().await;
    crate::epoch::advance(&mut open, known.claims.account).await.unwrap();
    // Asked once, then dropped, as at a deadline.
    let dropped = bed.gate().commit_and_tell(open, vec![known.claims.account]).now_or_never();
    assert!(dropped.is_none(), "it was dropped before it was done");
    bed.eventually(async || bed.gate().callers.get(&TokenHash::of(&token)).is_none()).await;
}

#[tokio::test]
async fn who_is_loaded_while_somebody_is_forgotten_is_not_kept() {
    let bed = Bed::new().await;
    let token = bed.token().await;
    let known = bed.gate().holder(&token).await.unwrap();
    let (callers, hash) = (&bed.gate().callers, TokenHash::of(&token));
    let as_of = callers.as_of();
    callers.forget(known.claims.account);
    callers.put(hash, known.clone(), as_of);
    assert!(callers.get(&hash).is_none());
    callers.put(hash, known, callers.as_of());
    assert!(callers.get(&hash).is_some());
}

#[tokio::test]
async fn a_stream_shows_nothing_more_once_its_session_has_ended() {
    let bed = Bed::new().await;
    let token = bed.token().await;
    let known = bed.gate().holder(&token).await.unwrap();
    let identified = Identified::known(known.clone(), Way::default()).unwrap();
    let nobody = bed.gate().nobody(Way::default());
    let shown = bed.gate().shown_to(&identified).await.unwrap();
    assert!(!Arc::ptr_eq(&shown, &bed.gate().shown_to(&nobody).await.unwrap()), "nobody may not enter");
    assert!(
        Arc::ptr_eq(&shown, &bed.gate().shown_to(&identified).await.unwrap()),
        "made once for all who see the same"
    );
    bed.end_session(&known.claims).await;
    let refusal = bed.gate().shown_to(&identified).await.map(drop).unwrap_err();
    assert_eq!(refusal.code, Code::Unauthenticated);
    bed.gate().shown_to(&nobody).await.unwrap();
}

#[tokio::test]
async fn a_cached_caller_is_nobody_once_his_session_has_ended_elsewhere() {
    let bed = Bed::new().await;
    let token = bed.token().await;
    assert_eq!(bed.send(bed.request("Enter", Some(&token))).await.status, 200);
    let known = bed.gate().callers.get(&TokenHash::of(&token)).unwrap();
    // Behind the gate's back, so that the cache does not hear of it.
    bed.end_session(&known.claims).await;
    assert!(bed.gate().callers.get(&TokenHash::of(&token)).is_some());
    let answer = bed.send(bed.request("Enter", Some(&token))).await;
    assert_eq!((answer.status, answer.code.as_str()), (401, "unauthenticated"));
    assert_eq!(bed.outcomes("Enter").await, ["TOKEN_REFUSED"]);
}

#[tokio::test]
async fn a_cached_caller_is_good_no_longer_than_his_session() {
    let bed = Bed::new().await;
    let token = bed.token_of_session(5).await;
    let now = crate::clock::Clock::System.now().unix_s;
    bed.gate().holder(&token).await.unwrap();
    let kept = bed.gate().callers.get(&TokenHash::of(&token)).unwrap();
    // The token itself would be good for ten minutes.
    assert!(bed.gate().access.verify(&token, now + 60).is_ok());
    assert!(kept.claims.are_good_at(now) && !kept.claims.are_good_at(now + 5 + 1));
}

#[tokio::test]
async fn of_two_authorization_lines_neither_counts() {
    let bed = Bed::new().await;
    let token = bed.token().await;
    for second in [token.as_str(), "x"] {
        let mut request = bed.request("Enter", Some(&token));
        request.headers_mut().append(header::AUTHORIZATION, format!("Bearer {second}").parse().unwrap());
        assert_eq!(bed.send(request).await.code, "unauthenticated");
    }
}

#[tokio::test]
async fn no_body_is_read_for_who_is_refused_and_no_text_of_a_stranger_is_kept() {
    let bed = Bed::new().await;
    let long = "x".repeat(10_000);
    for (path, token, status) in [
        (format!("/{METHODS}/Enter"), None, 401),
        (format!("/{METHODS}/Pass"), Some("forged"), 401),
        (format!("/{METHODS}/{long}"), None, 404),
        (format!("/{METHODS}/{long}"), Some("forged"), 404),
        (format!("//{METHODS}/Pass"), None, 404),
        (format!("/{METHODS}/P%61ss"), None, 404),
        (format!("/x/../{METHODS}/Pass"), None, 404),
    ] {
        let read = Arc::new(AtomicBool::new(false));
        let mut request =
            Request::post(&path).version(Version::HTTP_2).header(header::CONTENT_TYPE, "application/json");
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let answer = bed.send(request.body(Watched(read.clone())).unwrap()).await;
        assert_eq!((answer.status, read.load(Ordering::SeqCst)), (status, false), "{path:.60}");
        assert!(answer.text.len() < 1_000, "{}", answer.text);
    }
    let leaves = bed.stopped_leaves().await;
    assert_eq!(leaves.len(), 2);
    assert!(leaves.iter().all(|leaf| leaf.method.len() < 100), "{leaves:?}");
}

#[tokio::test]
async fn calls_that_are_throttled_are_counted_or_named_in_the_log() {
    let few = crate::throttle::Rate { per_second: NonZeroU32::MIN, burst: 2.try_into().unwrap() };
    let bed = Bed::with_rates(Rates { source: few, ..Rates::default() }).await;
    let from = |octet| IpAddr::from([192, 0, 2, octet]);
    let statuses = async |octet| {
        let mut statuses = Vec::new();
        for _ in 0..5 {
            statuses.push(bed.send(bed.request_from("Pass", None, from(octet))).await.status);
        }
        statuses
    };
    assert_eq!(statuses(1).await, [200, 200, 429, 429, 429]);
    assert_eq!(statuses(2).await, [200, 200, 429, 429, 429], "another source has a bucket of its own");
    let leaves = bed.stopped_leaves().await;
    assert_eq!(leaves.iter().map(|leaf| leaf.lost).sum::<u64>(), 6);

    let bed = Bed::with_rates(Rates { account: few, ..Rates::default() }).await;
    let token = bed.token().await;
    for status in [200, 200, 429] {
        assert_eq!(bed.send(bed.request("Enter", Some(&token))).await.status, status);
    }
    assert_eq!(bed.outcomes("Enter").await, ["ACCOUNT_THROTTLED"]);
}

#[tokio::test]
async fn who_is_refused_again_and_again_fills_no_log() {
    let bed = Bed::new().await;
    for _ in 0..600 {
        assert_eq!(bed.post("Enter").await.status, 401);
    }
    let leaves = bed.stopped_leaves().await;
    let told = leaves.iter().filter(|leaf| leaf.outcome == "UNAUTHENTICATED").count();
    let counted: u64 = leaves.iter().map(|leaf| leaf.lost).sum();
    assert!((300..500).contains(&told), "{told}");
    assert_eq!(told as u64 + counted, 600, "none is left out");
}

#[tokio::test]
async fn what_a_member_probes_stands_in_the_log_of_his_org_however_often_he_is_refused() {
    let bed = Bed::new().await;
    let (org, random) = (OrgTag::from_bytes([7; 6]), [1; 10]);
    let account = AccountId::from_record(RecordId::new(OrgTag::GLOBAL, 1, random));
    let session = SessionId::from_record(RecordId::new(OrgTag::GLOBAL, 2, random));
    let binding = Binding { role: Role::User, scope: BindingScope::Org(org), expires_unix_s: None };
    let caller = Caller::new(account, session, Standing::Verified, vec![binding]);
    let refused = |org: Option<OrgTag>, refusal: &Refusal, times: usize| {
        for _ in 0..times {
            let leaf = crate::audit::leaf_of("probes.v1/Probe", &caller, &bed.gate().clock.now());
            bed.gate().note_refusal(org, &caller, None, leaf, refusal);
        }
    };
    // First he piles up what has no org.
    refused(None, &Refusal::new(Reason::AccountThrottled, "too many calls"), 1_000);
    refused(None, &Refusal::method_refused(), 1_000);
    refused(Some(org), &Refusal::not_found(), 700);
    let leaves = bed.stopped_leaves_of(org).await;
    let told = leaves.iter().filter(|leaf| leaf.outcome == "NOT_FOUND").count();
    let counted: Vec<_> = leaves.iter().filter(|leaf| leaf.lost > 0).collect();
    assert!((300..500).contains(&told), "{told}");
    assert!(counted.iter().all(|leaf| leaf.account_id == account.to_string()), "{counted:?}");
    let lost: u64 = counted.iter().map(|leaf| leaf.lost).sum();
    assert_eq!(told as u64 + lost, 700, "in his org's log none is left out");
}

#[tokio::test]
async fn stopping_waits_for_no_call_that_hangs() {
    let bed = Bed::new().await;
    let front = bed.monitor().front();
    let hanging = tokio::spawn(async move {
        // Holds the gate as a connection does that was cut off.
        std::future::pending::<()>().await;
        drop(front);
    });
    bed.post("Enter").await;
    let leaves = tokio::time::timeout(PATIENCE, bed.stopped_leaves()).await.expect("it stops");
    assert_eq!(leaves.iter().map(|leaf| leaf.outcome.as_str()).collect::<Vec<_>>(), ["UNAUTHENTICATED"]);
    hanging.abort();
}

#[tokio::test]
async fn a_request_with_thousands_of_faults_gets_a_short_answer() {
    let bed = Bed::new().await;
    let body = format!("{{\"words\": [{}\"\"]}}", "\"\",".repeat(5_000));
    let answer = bed.send(bed.request("Say", None).map(|_| http_body_util::Full::from(body))).await;
    assert_eq!((answer.status, answer.code.as_str()), (400, "invalid_argument"));
    assert!(answer.text.len() < 6_000, "{} bytes", answer.text.len());
}

#[tokio::test]
async fn what_the_server_does_itself_leaves_a_leaf() {
    let bed = Bed::new().await;
    let identity = bed.monitor().identity().clone();
    let entropy = bed.monitor().store().entropy().clone();
    let made: Option<TokenSecret> = bed
        .monitor()
        .danger_as_server(async |open| identity.danger_new_setup_token(open, entropy.as_ref()).await)
        .await
        .unwrap();
    assert!(made.is_some());
    let leaves = bed.leaves(OrgTag::GLOBAL).await;
    let own: Vec<_> = leaves.iter().filter(|leaf| leaf.method == "sys-server").collect();
    assert_eq!(own.last().map(|leaf| leaf.records.len()), Some(1));
}

/// A body that remembers whether anybody asked for it.
struct Watched(Arc<AtomicBool>);

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        self.0.store(true, Ordering::SeqCst);
        Poll::Ready(None)
    }
}

impl Answer {
    fn of(status: u16, text: String) -> Self {
        let json: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let code = json["code"].as_str().unwrap_or_default().to_owned();
        Self { status, code, text }
    }
}

#[tokio::test]
async fn an_answer_that_hides_its_type_does_not_load() {
    struct Opaque(Arc<Contract>);
    impl Module for Opaque {
        fn contract(&self) -> Arc<Contract> {
            self.0.clone()
        }

        fn register(self: Arc<Self>, handlers: &mut Handlers) {
            handlers.unary("opaque.v1.OpaqueService/Show", async |_, ()| Ok(()));
        }
    }
    let contract = |hidden: &str| {
        let text = format!(
            r#"syntax = "proto3"; package opaque.v1;
            import "google/protobuf/any.proto"; import "sys/policy/v1/policy.proto";
            service OpaqueService {{ rpc Show(ShowRequest) returns (ShowResponse) {{ option (sys.policy.v1.method_allow) = {{public: true}}; }} }}
            message ShowRequest {{ google.protobuf.Any asked = 1; }}
            message ShowResponse {{ message Inner {{ repeated {hidden} items = 1; }} Inner inner = 1; }}"#
        );
        let source = SourceFile { path: "opaque/v1/opaque.proto".to_owned(), text };
        Arc::new(load("opaque", Origin::Uploaded, &[source]).unwrap())
    };
    let bed = Bed::new().await;
    let refused = bed.monitor().host().load(Arc::new(Opaque(contract("google.protobuf.Any")))).await.unwrap_err();
    assert!(
        matches!(&refused, ModuleError::Opaque { path, .. } if path == "opaque.v1.OpaqueService/Show"),
        "{refused}"
    );
    bed.monitor().host().load(Arc::new(Opaque(contract("string")))).await.unwrap();
}
