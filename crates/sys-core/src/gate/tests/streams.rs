//! Streams at the gate: what each message goes through, what bounds them, and what ends them.

mod room;
mod watches;
pub(super) mod words;

use super::{
    PATIENCE,
    bed::{Bed, METHODS, path_of},
};
use crate::{
    gate::{FrontBody, Source, load},
    throttle::{Rate, Rates},
    token::Claims,
};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use data_encoding::BASE64_NOPAD;
use futures_util::stream;
use http::{Request, Response, header};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use prost::Message;
use serde_json::{Value, json};
use std::{convert::Infallible, net::IpAddr, num::NonZeroU32, sync::atomic::Ordering, time::Duration};
use sys_contract::{
    id::OrgTag,
    rpc::{Detail, ErrorInfo},
};
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};
use tower::ServiceExt;

/// Connect's flag of the last frame.
const END: u8 = 0b10;
const HOUR_S: i64 = 3_600;

/// A stream as its caller has it.
struct Spoken {
    requests: Option<mpsc::Sender<Bytes>>,
    response: Option<JoinHandle<Response<FrontBody>>>,
    body: Option<FrontBody>,
    unread: BytesMut,
}

/// What comes on it.
#[derive(Debug, PartialEq)]
enum Came {
    Message(Value),
    /// The end, with the code and reason of the refusal if there is one.
    End(Option<(String, String)>),
}

fn framed(message: &Value) -> Bytes {
    let json = message.to_string();
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(json.len().try_into().unwrap());
    frame.put_slice(json.as_bytes());
    frame.freeze()
}

fn words(words: &[&str]) -> Value {
    json!({"words": words})
}

fn refused(code: &str, reason: &str) -> Came {
    Came::End(Some((code.to_owned(), reason.to_owned())))
}

fn word(text: &str) -> Came {
    Came::Message(json!({"word": text}))
}

impl Spoken {
    fn open(bed: &Bed, method: &str, token: Option<&str>, headers: &[(&'static str, &str)]) -> Self {
        let (requests, received) = mpsc::channel::<Bytes>(1);
        let frames = stream::unfold(received, |mut received| async {
            received.recv().await.map(|bytes| (Ok::<_, Infallible>(Frame::data(bytes)), received))
        });
        let mut request =
            Request::post(format!("/{METHODS}/{method}")).header(header::CONTENT_TYPE, "application/connect+json");
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.extension(Source(IpAddr::from([127, 0, 0, 1]))).body(StreamBody::new(frames)).unwrap();
        let front = bed.monitor().front();
        let response = tokio::spawn(async move { front.oneshot(request).await.unwrap() });
        Self { requests: Some(requests), response: Some(response), body: None, unread: BytesMut::new() }
    }

    /// A stream of one request.
    async fn listen(bed: &Bed, method: &str, token: Option<&str>, request: &Value) -> Self {
        let mut spoken = Self::open(bed, method, token, &[]);
        spoken.say(request).await;
        spoken.hush();
        spoken
    }

    async fn say(&self, message: &Value) {
        self.say_raw(framed(message)).await;
    }

    async fn say_raw(&self, bytes: Bytes) {
        // Nobody listens any more to a stream that has ended.
        let _ = self.requests.as_ref().unwrap().send(bytes).await;
    }

    fn hush(&mut self) {
        self.requests = None;
    }

    async fn came(&mut self) -> Came {
        timeout(PATIENCE, self.next()).await.expect("something comes")
    }

    async fn next(&mut self) -> Came {
        if let Some(response) = self.response.take() {
            let response = response.await.unwrap();
            assert_eq!(response.status(), 200, "a stream tells its errors at its end");
            self.body = Some(response.into_body());
        }
        loop {
            if self.unread.len() >= 5 {
                let length = usize::try_from((&self.unread[1..5]).get_u32()).unwrap();
                if self.unread.len() >= 5 + length {
                    let flags = self.unread[0];
                    let json = self.unread.split_to(5 + length).split_off(5);
                    return came(flags, serde_json::from_slice(&json).unwrap());
                }
            }
            let frame = self.body.as_mut().unwrap().frame().await.expect("it has an end").unwrap();
            self.unread.extend_from_slice(&frame.into_data().unwrap());
        }
    }

    /// Says the words, and waits until they are answered.
    async fn echoed(&mut self, said: &str) {
        self.say(&words(&[said])).await;
        assert_eq!(self.came().await, word(said));
    }
}

fn came(flags: u8, message: Value) -> Came {
    if flags & END == 0 {
        return Came::Message(message);
    }
    let Some(error) = message.get("error") else { return Came::End(None) };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let details = error["details"].as_array().unwrap();
    let info = details.iter().find(|detail| detail["type"] == ErrorInfo::NAME).expect("each refusal has a reason");
    let bytes = BASE64_NOPAD.decode(info["value"].as_str().unwrap().as_bytes()).unwrap();
    Came::End(Some((text(&error["code"]), ErrorInfo::decode(bytes.as_slice()).unwrap().reason)))
}

/// Somebody who is logged in for so long, and what his token says.
async fn somebody(bed: &Bed, session_s: i64) -> (String, Claims) {
    let token = bed.token_of_session(session_s).await;
    let claims = bed.gate().holder(&token).await.unwrap().claims;
    (token, claims)
}

/// Ends a session as a call does that revokes it.
async fn revoke(bed: &Bed, claims: &Claims) {
    bed.end_session(claims).await;
    let mut open = bed.open().await;
    crate::epoch::advance(&mut open, claims.account).await.unwrap();
    bed.gate().commit_and_tell(open, vec![claims.account]).await.unwrap();
}

#[tokio::test]
async fn streams_flow_each_way_and_end_when_all_is_said() {
    let bed = Bed::new().await;
    let (token, _) = somebody(&bed, HOUR_S).await;
    let mut recited = Spoken::listen(&bed, "Recite", Some(&token), &words(&["one", "two"])).await;
    assert_eq!((recited.came().await, recited.came().await), (word("one"), word("two")));
    let mut collected = Spoken::open(&bed, "Collect", None, &[]);
    for said in ["one", "two"] {
        collected.say(&words(&[said])).await;
    }
    collected.hush();
    assert_eq!(collected.came().await, Came::Message(words(&["one", "two"])));
    assert_eq!(collected.came().await, Came::End(None));
    let mut echo = Spoken::open(&bed, "Echo", None, &[]);
    echo.echoed("one").await;
    echo.say(&words(&["two", "three"])).await;
    assert_eq!((echo.came().await, echo.came().await), (word("two"), word("three")));
    echo.hush();
    assert_eq!(echo.came().await, Came::End(None));
    let mut silent = Spoken::open(&bed, "Collect", None, &[]);
    silent.hush();
    assert_eq!(silent.came().await, Came::Message(json!({})), "nothing said is something to answer, too");
}

#[tokio::test]
async fn whom_the_method_refuses_opens_no_stream() {
    let bed = Bed::new().await;
    let mut recited = Spoken::listen(&bed, "Recite", None, &words(&["one"])).await;
    assert_eq!(recited.came().await, refused("unauthenticated", "UNAUTHENTICATED"));
    let mut forged = Spoken::listen(&bed, "Recite", Some("forged"), &words(&["one"])).await;
    assert_eq!(forged.came().await, refused("unauthenticated", "TOKEN_REFUSED"));
    assert_eq!(bed.gate().open_streams(), 0);
    // In the form of a call, a stream is not called.
    let answer = bed.send(bed.request("Flood", None)).await;
    assert_eq!(answer.status, 415, "{answer:?}");
}

#[tokio::test]
async fn what_is_wrong_with_one_message_ends_the_stream_and_what_came_before_stays() {
    let bed = Bed::new().await;
    let long = "w".repeat(200);
    let malformed = Bytes::from_static(b"\x00\x00\x00\x00\x01{");
    let cases = [
        (framed(&words(&[""])), "invalid_argument", "INVALID_ARGUMENT"),
        (framed(&json!({"nonsense": 1})), "invalid_argument", "MALFORMED"),
        (malformed, "invalid_argument", "MALFORMED"),
        (framed(&words(&["refuse"])), "permission_denied", "RECORD_REFUSED"),
        (framed(&words(&["panic"])), "internal", "INTERNAL"),
    ];
    let cases_count = cases.len();
    for (wrong, code, reason) in cases {
        let mut echo = Spoken::open(&bed, "Echo", Some(&bed.token().await), &[]);
        echo.echoed("mail").await;
        echo.say_raw(wrong).await;
        assert_eq!(echo.came().await, refused(code, reason));
    }
    let mut open = bed.open().await;
    let mails = open.rows(sys_store::SystemKind::Outbox, &[], None, 100).await.unwrap().len();
    assert_eq!(mails, cases_count, "each mail that was answered is on its way");
    let mut collected = Spoken::open(&bed, "Collect", None, &[]);
    collected.say(&words(&["short"])).await;
    collected.say(&words(&[&long])).await;
    assert_eq!(collected.came().await, refused("resource_exhausted", "REQUEST_TOO_LARGE"));
    bed.eventually(async || bed.gate().open_streams() == 0).await;
}

#[tokio::test]
async fn an_ended_session_ends_its_streams_and_nobody_elses() {
    let bed = Bed::new().await;
    let ((token, claims), (other, _)) = (somebody(&bed, HOUR_S).await, somebody(&bed, HOUR_S).await);
    let mut idle = Spoken::listen(&bed, "Recite", Some(&token), &words(&["one"])).await;
    let mut others = Spoken::open(&bed, "Echo", Some(&other), &[]);
    let mut talk = Spoken::open(&bed, "Echo", Some(&token), &[]);
    let mut busy = Spoken::open(&bed, "Echo", Some(&token), &[]);
    assert_eq!(idle.came().await, word("one"));
    talk.echoed("one").await;
    others.echoed("one").await;
    busy.say(&words(&["hang"])).await;
    revoke(&bed, &claims).await;
    for stream in [&mut idle, &mut talk, &mut busy] {
        assert_eq!(stream.came().await, refused("unauthenticated", "TOKEN_REFUSED"));
    }
    others.echoed("two").await;
}

#[tokio::test]
async fn a_change_that_does_not_take_the_right_ends_no_stream() {
    let bed = Bed::new().await;
    let (token, claims) = somebody(&bed, HOUR_S).await;
    let mut echo = Spoken::open(&bed, "Echo", Some(&token), &[]);
    echo.echoed("one").await;
    for said in ["two", "three"] {
        let mut open = bed.open().await;
        crate::epoch::advance(&mut open, claims.account).await.unwrap();
        bed.gate().commit_and_tell(open, vec![claims.account]).await.unwrap();
        echo.echoed(said).await;
    }
}

#[tokio::test]
async fn what_changed_without_a_word_is_found_when_streams_look_by_themselves() {
    let bed = Bed::new().await;
    let (token, claims) = somebody(&bed, HOUR_S).await;
    let mut echo = Spoken::open(&bed, "Echo", Some(&token), &[]);
    echo.echoed("one").await;
    bed.end_session(&claims).await;
    bed.advance_s(11);
    assert_eq!(echo.came().await, refused("unauthenticated", "TOKEN_REFUSED"));
}

#[tokio::test]
async fn a_stream_outlives_its_token_but_neither_its_session_nor_its_hour() {
    let bed = Bed::new().await;
    let (token, _) = somebody(&bed, 2 * HOUR_S).await;
    let (short, _) = somebody(&bed, 1_000).await;
    let mut long = Spoken::open(&bed, "Echo", Some(&token), &[]);
    let mut anonymous = Spoken::open(&bed, "Echo", None, &[]);
    let mut brief = Spoken::open(&bed, "Echo", Some(&short), &[]);
    for stream in [&mut long, &mut brief, &mut anonymous] {
        stream.echoed("one").await;
    }
    bed.advance_s(900);
    assert_eq!(bed.send(bed.request("Enter", Some(&token))).await.status, 401, "tokens last ten minutes");
    long.echoed("two").await;
    brief.echoed("two").await;
    bed.advance_s(100);
    assert_eq!(brief.came().await, refused("unauthenticated", "TOKEN_REFUSED"));
    bed.advance_s(HOUR_S - 1_000);
    for stream in [&mut long, &mut anonymous] {
        assert_eq!(stream.came().await, refused("unavailable", "STREAM_OVER"));
    }
}

#[tokio::test]
async fn a_server_that_stops_ends_streams_after_the_message_that_they_are_at() {
    let bed = Bed::new().await;
    let (token, _) = somebody(&bed, HOUR_S).await;
    let mut recited = Spoken::listen(&bed, "Recite", Some(&token), &words(&["one"])).await;
    let mut echo = Spoken::open(&bed, "Echo", None, &[]);
    assert_eq!(recited.came().await, word("one"));
    echo.echoed("one").await;
    bed.monitor().end_streams()();
    let stopping = || refused("unavailable", "SERVER_STOPPING");
    assert_eq!((recited.came().await, echo.came().await), (stopping(), stopping()));
    assert_eq!(Spoken::open(&bed, "Echo", None, &[]).came().await, stopping());
    assert_eq!(bed.post("Pass").await.status, 200, "calls of one answer go on");
    assert_eq!(bed.gate().open_streams(), 0);
}

#[tokio::test]
async fn each_message_counts_for_the_rate_of_its_method() {
    let bed = Bed::with_rates(Rates::default()).await;
    let mut echo = Spoken::open(&bed, "Echo", None, &[]);
    // Ten at once: the first was paid for with the opening.
    for said in ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10"] {
        echo.echoed(said).await;
    }
    echo.say(&words(&["eleven"])).await;
    assert_eq!(echo.came().await, refused("resource_exhausted", "METHOD_THROTTLED"));
    assert_eq!(Spoken::open(&bed, "Echo", None, &[]).came().await, refused("resource_exhausted", "METHOD_THROTTLED"));
}

#[tokio::test]
async fn a_stream_leaves_leaves_at_its_beginning_its_writes_and_its_end() {
    let bed = Bed::new().await;
    let mut echo = Spoken::open(&bed, "Echo", None, &[]);
    for said in ["one", "two", "mail", "three"] {
        echo.echoed(said).await;
    }
    echo.hush();
    assert_eq!(echo.came().await, Came::End(None));
    assert_eq!(bed.outcomes("Echo").await, ["OK", "OK", "ENDED"], "the first, the mail, the end");
    let mut echo = Spoken::open(&bed, "Echo", None, &[]);
    echo.say(&words(&["refuse"])).await;
    assert_eq!(echo.came().await, refused("permission_denied", "RECORD_REFUSED"));
    let refusals = ["RECORD_REFUSED", "RECORD_REFUSED"];
    assert_eq!(bed.outcomes("Echo").await[3..], refusals, "the refusal, and the end that it was");
    let (token, claims) = somebody(&bed, HOUR_S).await;
    let mut recited = Spoken::listen(&bed, "Recite", Some(&token), &words(&["one"])).await;
    assert_eq!(recited.came().await, word("one"));
    revoke(&bed, &claims).await;
    assert_eq!(recited.came().await, refused("unauthenticated", "TOKEN_REFUSED"));
    assert_eq!(bed.outcomes("Recite").await, ["TOKEN_REFUSED"], "reads that the contract does not want are not there");
    let leaves = bed.leaves(OrgTag::GLOBAL).await;
    let leaf = leaves.iter().find(|leaf| leaf.method == path_of("Recite")).unwrap();
    assert_eq!(leaf.account_id, claims.account.to_string());
}

#[tokio::test]
async fn who_does_not_read_holds_up_nobody_but_his_own_stream() {
    let bed = Bed::new().await;
    let mut flood = Spoken::listen(&bed, "Flood", None, &json!({})).await;
    assert!(matches!(flood.came().await, Came::Message(_)));
    // What there is room for on the way is filled, and then nothing happens any more.
    let mut before = 0;
    let mut same = 0;
    while same < 20 {
        tokio::time::sleep(Duration::from_millis(5)).await;
        let now = words::FLOODED.load(Ordering::SeqCst);
        same = if now == before { same + 1 } else { 0 };
        before = now;
    }
    assert!(before <= 4, "{before} turns for a reader who does not read");
    let (words_in_turn, _) = words::FLOOD;
    for _ in 0..10 * words_in_turn {
        assert!(matches!(flood.came().await, Came::Message(_)));
    }
    assert!(words::FLOODED.load(Ordering::SeqCst) >= 10, "it goes on when he does");
    drop(flood);
    bed.eventually(async || bed.gate().open_streams() == 0).await;
}

#[tokio::test]
async fn a_stream_lasts_no_longer_than_its_caller_waits() {
    let bed = Bed::new().await;
    let mut echo = Spoken::open(&bed, "Echo", None, &[("connect-timeout-ms", "100")]);
    assert_eq!(echo.came().await, refused("deadline_exceeded", "DEADLINE"));
}

#[tokio::test]
async fn idle_streams_take_no_turn_from_calls_and_are_bounded() {
    let bed = Bed::with_rates(Rates::default()).await;
    let (token, _) = somebody(&bed, HOUR_S).await;
    let mut streams = Vec::new();
    for _ in 0..64 {
        let mut stream = Spoken::listen(&bed, "Recite", Some(&token), &words(&["one"])).await;
        assert_eq!(stream.came().await, word("one"));
        streams.push(stream);
    }
    let mut more = Spoken::listen(&bed, "Recite", Some(&token), &words(&["one"])).await;
    assert_eq!(more.came().await, refused("resource_exhausted", "TOO_MANY_STREAMS"));
    assert_eq!(bed.send(bed.request("Enter", Some(&token))).await.status, 200);
    streams.pop();
    bed.eventually(async || bed.gate().open_streams() == 63).await;
    let mut again = Spoken::listen(&bed, "Recite", Some(&token), &words(&["one"])).await;
    assert_eq!(again.came().await, word("one"));
    // Beyond all that run and wait.
    for _ in 0..load::RUNNING + load::WAITING + 1 {
        streams.push(Spoken::open(&bed, "Collect", None, &[]));
    }
    bed.eventually(async || bed.gate().open_streams() > load::RUNNING + load::WAITING).await;
    assert_eq!(bed.post("Pass").await.status, 200);
}

/// What stands in decision 14. The callers' side here is part of what is measured.
#[tokio::test]
async fn ten_thousand_idle_streams_fit_into_memory() {
    const STREAMS: usize = 10_000;
    let many = Rate { per_second: NonZeroU32::MAX, burst: NonZeroU32::MAX };
    let rates = Rates { source: many, danger_nothing_else: true, ..Rates::default() };
    let bed = Bed::with_rates(rates).await;
    bed.post("Pass").await;
    let before = resident_bytes();
    let mut streams = Vec::new();
    while streams.len() < STREAMS {
        streams.push(Spoken::open(&bed, "Collect", None, &[]));
        if streams.len() % 500 == 0 {
            let open = streams.len();
            bed.eventually(async || bed.gate().open_streams() >= open).await;
        }
    }
    let each = resident_bytes().saturating_sub(before) / u64::try_from(STREAMS).unwrap();
    assert!(each < 64 << 10, "{each} bytes for an idle stream");
}

/// Of this process, from Linux's accounting.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0");
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1_024
}
