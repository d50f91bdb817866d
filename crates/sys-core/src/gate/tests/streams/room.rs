//! The room that bodies share, as streams take it.

use super::*;
use load::{BODY_BYTES, SMALL_BODY_BYTES};
use sys_net::Network;

/// `{"words":["one"]}`, packed and in its envelope.
const PACKED: &str = "0100000028 1f8b0800000000000003 011100eeff 7b22776f726473223a5b226f6e65225d7d e9a08f30 11000000";

/// Whoever calls in these tests, and all but a little of what he may have.
fn here() -> (Option<Network>, usize) {
    (Some(Network::of(IpAddr::from([127, 0, 0, 1]))), BODY_BYTES / 2 - 1_000)
}

#[tokio::test]
async fn messages_that_are_never_finished_share_the_room_of_all_bodies() {
    let bed = Bed::new().await;
    let (here, free) = here();
    bed.gate().load.hold_bytes(here, free).unwrap();
    let unfinished = || {
        let mut bytes = BytesMut::from(&b"\x00\x00\x00\xff\xff"[..]);
        bytes.put_bytes(b' ', 8_192);
        bytes.freeze()
    };
    let mut echo = Spoken::open(&bed, "Echo", None, &[]);
    echo.echoed("one").await;
    echo.say_raw(unfinished()).await;
    assert_eq!(echo.came().await, refused("unavailable", "OVERLOADED"));
    bed.gate().load.let_go_of(here, free);
    drop(echo);
    let mut again = Spoken::open(&bed, "Echo", None, &[]);
    again.say_raw(unfinished()).await;
    again.say_raw(Bytes::from(vec![b' '; 0xffff - 8_192 - 13])).await;
    again.say_raw(Bytes::from_static(br#"{"words":["2"]}"#).slice(2..)).await;
    assert_eq!(again.came().await, refused("invalid_argument", "MALFORMED"), "whole, and read");
}

#[tokio::test]
async fn what_is_said_ahead_counts_until_it_was_dealt_with() {
    let bed = Bed::new().await;
    let mut echo = Spoken::open(&bed, "Echo", None, &[]);
    echo.echoed("one").await;
    assert_eq!(bed.gate().load.held_bytes(), 0);
    let long = "w".repeat(8_192);
    let ahead: Vec<_> = ["hang", &long, &long, &long].map(|said| framed(&words(&[said]))).into();
    let ahead = Bytes::from(ahead.concat());
    let bytes = ahead.len();
    echo.say_raw(ahead).await;
    bed.eventually(async || bed.gate().load.held_bytes() == bytes - SMALL_BODY_BYTES).await;
    drop(echo);
    bed.eventually(async || bed.gate().load.held_bytes() == 0).await;
    // Dealt with one by one, it is let go of.
    let mut echo = Spoken::open(&bed, "Echo", None, &[]);
    echo.say_raw(Bytes::from([framed(&words(&[&long])), framed(&words(&[&long]))].concat())).await;
    assert_eq!((echo.came().await, echo.came().await), (word(&long), word(&long)));
    bed.eventually(async || bed.gate().load.held_bytes() == 0).await;
}

#[tokio::test]
async fn a_packed_message_counts_for_what_it_may_unpack_to_before_it_is_unpacked() {
    let bed = Bed::new().await;
    let packed = data_encoding::HEXLOWER.decode(PACKED.replace(' ', "").as_bytes()).unwrap();
    let (here, free) = here();
    bed.gate().load.hold_bytes(here, free).unwrap();
    let gzip = [("connect-content-encoding", "gzip")];
    let mut echo = Spoken::open(&bed, "Echo", None, &gzip);
    echo.echoed("small").await;
    echo.say_raw(packed.clone().into()).await;
    assert_eq!(echo.came().await, refused("unavailable", "OVERLOADED"));
    bed.gate().load.let_go_of(here, free);
    drop(echo);
    let mut again = Spoken::open(&bed, "Echo", None, &gzip);
    again.say_raw(packed.into()).await;
    assert_eq!(again.came().await, word("one"));
    again.echoed("two").await;
    bed.eventually(async || bed.gate().load.held_bytes() == 0).await;
}
