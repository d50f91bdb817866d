//! Frames that break the protocol: they end the connection, and it says why.

use super::*;

/// Reasons (RFC 9113 section 7). Where the library says `PROTOCOL` though there is a nearer one, that is as good: the connection
/// ends, and nobody acts upon the frame.
const PROTOCOL: u32 = 1;
const FLOW_CONTROL: u32 = 3;
const FRAME_SIZE: u32 = 6;
const CALM: u32 = 11;

/// The reasons that the server gives for what it is sent: at most one for the connection, which is the last.
async fn told(addr: SocketAddr, frames: &[Vec<u8>]) -> (Vec<u32>, Option<u32>) {
    let mut stream = h2(addr).await;
    // It may close while this is written.
    let _ = stream.write_all(&frames.concat()).await;
    // An answered ping tells that the connection goes on, and a second one that all is told that came before the first.
    let ping = frame(PING, 0, 0, b"the last");
    let _ = stream.write_all(&ping).await;
    let (mut resets, mut goaway, mut pings) = (Vec::new(), None, 0);
    while let Some(heard) = timeout(NEVER, heard(&mut stream)).await.expect("in time") {
        match heard.kind {
            GOAWAY => goaway = heard.reason(),
            RST_STREAM => resets.extend(heard.reason()),
            PING if heard.payload == b"the last" && pings == 0 => {
                pings = 1;
                let _ = stream.write_all(&ping).await;
            }
            PING if heard.payload == b"the last" => break,
            _ => {}
        }
    }
    (resets, goaway)
}

fn get(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, GET)
}

fn open(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, GET)
}

fn window(stream: u32, more: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &more.to_be_bytes())
}

#[tokio::test]
async fn what_breaks_the_protocol_ends_the_connection_and_says_why() {
    let (addr, _) = start(Limits::default()).await;
    let settings = |number: u8, value: u32| frame(SETTINGS, 0, 0, &[&[0, number][..], &value.to_be_bytes()].concat());
    let head = |payload: &[u8]| frame(HEADERS, END_STREAM | END_HEADERS, 1, payload);
    for (what, frames, reason) in [
        ("a stream of the server's", vec![get(2)], PROTOCOL),
        ("a stream of nobody", vec![get(0)], PROTOCOL),
        ("a piece of no stream", vec![frame(DATA, 0, 0, b"x")], PROTOCOL),
        ("a piece of a stream that was never opened", vec![frame(DATA, 0, 5, b"x")], PROTOCOL),
        ("a reset of a stream that was never opened", vec![frame(RST_STREAM, 0, 5, &[0; 4])], PROTOCOL),
        ("a window of a stream that was never opened", vec![window(5, 1)], PROTOCOL),
        ("a promise, which clients make none", vec![open(1), frame(5, END_HEADERS, 1, &[0, 0, 0, 2])], PROTOCOL),
        ("a window that grows by nothing", vec![window(0, 0)], PROTOCOL),
        ("a window that grows beyond all bounds", vec![window(0, 0x7fff_ffff), window(0, 0x7fff_ffff)], FLOW_CONTROL),
        ("a window by settings beyond all bounds", vec![settings(4, 0x8000_0000)], PROTOCOL),
        ("frames smaller than may be", vec![settings(5, 16_383)], PROTOCOL),
        ("a switch that is neither on nor off", vec![settings(2, 2)], PROTOCOL),
        ("half a setting", vec![frame(SETTINGS, 0, 0, &[0, 4, 0])], PROTOCOL),
        ("settings of a stream", vec![frame(SETTINGS, 0, 1, &[])], PROTOCOL),
        ("an acknowledgement that says more", vec![frame(SETTINGS, ACK, 0, &[0; 6])], PROTOCOL),
        ("a short ping", vec![frame(PING, 0, 0, &[7; 7])], PROTOCOL),
        ("a ping of a stream", vec![frame(PING, 0, 1, &[7; 8])], PROTOCOL),
        ("a frame longer than was agreed on", vec![open(1), frame(DATA, 0, 1, &[0; 16_385])], FRAME_SIZE),
        ("padding longer than its frame", vec![open(1), frame(DATA, 8, 1, &[9, 0])], PROTOCOL),
        (
            "another frame in the middle of a head",
            vec![frame(HEADERS, 0, 1, GET), frame(PING, 0, 0, &[7; 8])],
            PROTOCOL,
        ),
        (
            "another stream in the middle of a head",
            vec![frame(HEADERS, 0, 1, GET), frame(CONTINUATION, 4, 3, &[])],
            PROTOCOL,
        ),
        ("the end of a head that never began", vec![frame(CONTINUATION, END_HEADERS, 1, GET)], PROTOCOL),
        ("an older stream after a newer one", vec![get(5), get(3)], PROTOCOL),
        ("an entry that no table has", vec![head(&[0xff, 0x80, 0x01])], PROTOCOL),
        ("the entry zero", vec![head(&[0x80])], PROTOCOL),
        (
            "a number without an end",
            vec![head(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff])],
            PROTOCOL,
        ),
        ("a text longer than its head", vec![head(&[0x82, 0x00, 0x7f, 0xff, 0x7f])], PROTOCOL),
        ("a table larger than was agreed on", vec![head(&[0x3f, 0xff, 0xff, 0x7f])], PROTOCOL),
        ("letters that are padded wrongly", vec![head(&[0x00, 0x81, 0x00, 0x00])], PROTOCOL),
        (
            "a head in too many pieces",
            [vec![frame(HEADERS, 0, 1, GET)], vec![frame(CONTINUATION, 0, 1, &[]); 100]].concat(),
            CALM,
        ),
    ] {
        let (_, goaway) = told(addr, &frames).await;
        assert_eq!(goaway, Some(reason), "{what}");
    }
    is_answered(addr).await;
}

#[tokio::test]
async fn what_breaks_one_stream_ends_it_alone() {
    let (addr, seen) = start(Limits::default()).await;
    for (what, frames, reason) in [
        ("a window that grows by nothing", vec![open(1), window(1, 0)], PROTOCOL),
        (
            "a window that grows beyond all bounds",
            vec![open(1), window(1, 0x7fff_ffff), window(1, 0x7fff_ffff)],
            FLOW_CONTROL,
        ),
    ] {
        let (resets, goaway) = told(addr, &frames).await;
        let is_told = resets.first() == Some(&reason) || goaway == Some(reason);
        assert!(is_told, "{what}: {resets:?} {goaway:?}");
    }
    is_answered(addr).await;
    drop(seen);
}

#[tokio::test]
async fn who_sends_more_than_his_window_is_cut_off() {
    let limits = Limits { stream_window_bytes: 65_535, ..Limits::default() };
    let (addr, _) = start(limits).await;
    // Two windows of a connection, and then some, in one go: nobody has opened them meanwhile by reading.
    let mut frames = vec![open(1)];
    frames.extend(std::iter::repeat_n(frame(DATA, 0, 1, &[0; 16_384]), 64));
    let (resets, goaway) = told(addr, &frames).await;
    assert!(resets.contains(&FLOW_CONTROL) || goaway == Some(FLOW_CONTROL), "{resets:?} {goaway:?}");
    is_answered(addr).await;
}

#[tokio::test]
async fn no_more_streams_are_open_than_was_said() {
    let (addr, _) = start(Limits { concurrent_streams: 8, ..Limits::default() }).await;
    // Requests whose bodies do not end.
    let frames: Vec<_> = (0..32).map(|number| open(2 * number + 1)).collect();
    let (resets, goaway) = told(addr, &frames).await;
    // 7: the stream was refused, and may be tried again.
    assert_eq!((resets, goaway), (vec![7; 24], None));
    is_answered(addr).await;
}
