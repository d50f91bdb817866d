//! Floods: as many frames as go onto a connection, of each kind that asks for nothing or can be taken back.

use super::*;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::BufReader;

/// How long a writer is held back before he takes it for an answer.
const HELD_BACK: Duration = Duration::from_millis(300);
/// The most that one flood sends.
const FLOOD_BYTES: usize = 16 << 20;

/// What became of a flood.
#[derive(Debug, PartialEq, Eq)]
enum Flooded {
    /// The server closed the connection.
    Closed,
    /// The server reads no more.
    HeldBack,
    /// It took all of it.
    Taken,
}

/// How many of its own frames the server has said were taken in.
type Acknowledged = Arc<AtomicUsize>;

/// Sends this again and again. Who does not read leaves all that he is answered where it is.
async fn flood(stream: TcpStream, reads: bool, next: impl FnMut() -> Vec<u8>) -> Flooded {
    counted_flood(stream, reads, next, &Acknowledged::default()).await
}

async fn counted_flood(
    stream: TcpStream,
    reads: bool,
    mut next: impl FnMut() -> Vec<u8>,
    acknowledged: &Acknowledged,
) -> Flooded {
    let (reader, mut writer) = stream.into_split();
    let counted = Arc::clone(acknowledged);
    let reading = tokio::spawn(async move {
        let mut reader = BufReader::new(reader);
        while reads && let Some(heard) = heard(&mut reader).await {
            let is_acknowledgement = matches!(heard.kind, PING | SETTINGS) && heard.flags & ACK == ACK;
            counted.fetch_add(usize::from(is_acknowledgement), Ordering::SeqCst);
        }
        reader
    });
    let mut sent = 0;
    let flooded = loop {
        let piece = next();
        match timeout(HELD_BACK, writer.write_all(&piece)).await {
            Ok(Ok(())) => sent += piece.len(),
            Ok(Err(_)) => break Flooded::Closed,
            Err(_) if !reads => break Flooded::HeldBack,
            Err(_) => {}
        }
        if reads && reading.is_finished() {
            break Flooded::Closed;
        }
        if sent >= FLOOD_BYTES {
            break Flooded::Taken;
        }
    };
    reading.abort();
    flooded
}

/// Of this process, from Linux's accounting.
fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0");
    line.split_whitespace().next().and_then(|kib| kib.parse::<usize>().ok()).unwrap_or(0) * 1_024
}

#[tokio::test]
async fn streams_that_are_opened_and_reset_at_once_cost_the_connection() {
    let (addr, seen) = start(Limits::default()).await;
    let mut stream_id = 1;
    let flooded = flood(h2(addr).await, true, || {
        let mut frames = Vec::new();
        for _ in 0..500 {
            frames.extend(frame(HEADERS, END_STREAM | END_HEADERS, stream_id, GET));
            frames.extend(frame(RST_STREAM, 0, stream_id, &8_u32.to_be_bytes()));
            stream_id += 2;
        }
        frames
    });
    assert_eq!(flooded.await, Flooded::Closed);
    let begun = seen.lock().expect("no panic").len();
    assert!(begun < 2_000, "{begun} requests were begun with");
    is_answered(addr).await;
}

#[tokio::test]
async fn frames_that_make_the_server_reset_streams_cost_the_connection() {
    let (addr, _) = start(Limits::default()).await;
    let mut stream_id = 1;
    let flooded = flood(h2(addr).await, true, || {
        let mut frames = Vec::new();
        for _ in 0..500 {
            // Open, and then an increment of nothing, which is an error of the stream (RFC 9113 section 6.9).
            frames.extend(frame(HEADERS, END_HEADERS, stream_id, GET));
            frames.extend(frame(WINDOW_UPDATE, 0, stream_id, &[0; 4]));
            stream_id += 2;
        }
        frames
    });
    assert_eq!(flooded.await, Flooded::Closed);
    is_answered(addr).await;
}

#[tokio::test]
async fn a_head_without_an_end_costs_the_connection_and_no_memory() {
    let (addr, seen) = start(Limits::default()).await;
    // A literal that is not indexed, `a: ` and 4,096 bytes; 0xff is a prefix that goes on in the next bytes.
    let mut field = b"\x00\x01a\x7f\x81\x1f".to_vec();
    field.extend([b'v'; 4_096]);
    for field in [Vec::new(), b"\x00\x01a\x01b".to_vec(), field] {
        let mut stream = h2(addr).await;
        stream.write_all(&frame(HEADERS, END_STREAM, 1, GET)).await.expect("the first part");
        let before = resident_bytes();
        let continued = frame(CONTINUATION, 0, 1, &field).repeat(1 + 4_096 / (9 + field.len()));
        assert_eq!(flood(stream, true, || continued.clone()).await, Flooded::Closed, "{} bytes", field.len());
        let grown = resident_bytes().saturating_sub(before);
        assert!(grown < 32 << 20, "{grown} bytes");
    }
    assert!(!seen.lock().expect("no panic").contains(&"/".to_owned()), "it never had a head");
    is_answered(addr).await;
}

#[tokio::test]
async fn who_asks_for_answers_and_reads_none_is_read_no_more() {
    let (addr, _) = start(Limits::default()).await;
    let pings = frame(PING, 0, 0, &[7; 8]);
    let settings = frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0xff, 0xff]);
    for (what, frames) in [("pings", pings), ("settings", settings)] {
        let before = resident_bytes();
        let many = frames.repeat(2_000);
        let flooded = flood(h2(addr).await, false, || many.clone()).await;
        assert!(flooded != Flooded::Taken, "{what}");
        let grown = resident_bytes().saturating_sub(before);
        assert!(grown < 32 << 20, "{what}: {grown} bytes");
        is_answered(addr).await;
    }
}

/// Frames that ask for nothing: so many are taken of a connection that asks for nothing else.
const NOISE: usize = 10_000;
/// What the server may have read at once when it comes to the last one.
const READ_AT_ONCE: usize = 16 << 10;

#[tokio::test]
async fn frames_that_ask_for_nothing_cost_the_connection_once_there_are_many_and_nobody_else_waits() {
    let (addr, _) = start(Limits::default()).await;
    let priorities = frame(PRIORITY, 0, 3, &[0, 0, 0, 1, 7]);
    let windows = frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes());
    let unknown = frame(0xfa, 0xff, 0, b"nothing");
    let tables = frame(SETTINGS, 0, 0, &[0, 1, 0, 0, 0x10, 0]);
    for frames in [priorities, windows, unknown, tables, frame(SETTINGS, 0, 0, &[]), frame(PING, 0, 0, &[7; 8])] {
        let (before, acknowledged) = (resident_bytes(), Acknowledged::default());
        let many = frames.repeat(2_000);
        let flooding = counted_flood(h2(addr).await, true, || many.clone(), &acknowledged);
        let (flooded, ()) = tokio::join!(flooding, is_answered(addr));
        assert_eq!(flooded, Flooded::Closed, "{frames:?}");
        let acknowledged = acknowledged.load(Ordering::SeqCst);
        // The acknowledgements themselves, 17 bytes at most, are written bytes: one more frame comes for 256 of them.
        let most = (NOISE + READ_AT_ONCE / frames.len()) * 256 / (256 - 17) + 1;
        assert!(acknowledged <= most, "{acknowledged} of {frames:?}");
        let grown = resident_bytes().saturating_sub(before);
        assert!(grown < 32 << 20, "{grown} bytes");
    }
    // Empty pieces of a body.
    let mut stream = h2(addr).await;
    stream.write_all(&frame(HEADERS, END_HEADERS, 1, GET)).await.expect("a head");
    let empty = frame(DATA, 0, 1, &[]).repeat(2_000);
    let (flooded, ()) = tokio::join!(flood(stream, true, || empty.clone()), is_answered(addr));
    assert_eq!(flooded, Flooded::Closed);
}

#[tokio::test]
async fn who_asks_for_much_may_say_much_beside_it() {
    let (addr, seen) = start(Limits::default()).await;
    let mut stream = h2(addr).await;
    // Eight pings for each request, far beyond what is free, and one request after the other.
    let pings = frame(PING, 0, 0, &[7; 8]).repeat(8);
    for number in 0..2 * NOISE / 8 {
        let stream_id = u32::try_from(2 * number + 1).expect("a small number");
        let request = frame(HEADERS, END_STREAM | END_HEADERS, stream_id, GET);
        stream.write_all(&[pings.as_slice(), &request].concat()).await.expect("it is taken");
        loop {
            let heard = timeout(NEVER, heard(&mut stream)).await.expect("in time").expect("the connection lives");
            if heard.kind == DATA && heard.flags & END_STREAM == END_STREAM {
                break;
            }
        }
    }
    assert_eq!(seen.lock().expect("no panic").len(), 2 * NOISE / 8);
}

#[tokio::test]
async fn a_small_head_that_unpacks_to_a_large_one_is_refused() {
    let (addr, seen) = start(Limits::default()).await;
    let mut stream = h2(addr).await;
    // A field of 3,000 bytes for the dynamic table, and then a hundred times the reference to it.
    let mut head = GET.to_vec();
    head.extend(b"\x40\x01a\x7f\xb9\x16");
    head.extend([b'v'; 3_000]);
    head.extend([0xbe; 100]);
    stream.write_all(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &head)).await.expect("a head");
    // Of the answer as much as tells that it is one: a reset, a refusal, or the end.
    let mut answer = vec![0; 4_096];
    let read = timeout(NEVER, stream.read(&mut answer)).await.expect("it answers").unwrap_or(0);
    drop(stream);
    is_answered(addr).await;
    assert!(!seen.lock().expect("no panic").contains(&"/".to_owned()), "{read} bytes came, and the request was served");
}

#[tokio::test]
async fn who_never_says_what_he_wants_is_let_go() {
    let limits = Limits { header_timeout: Duration::from_millis(150), ..Limits::default() };
    let (addr, seen) = start(limits).await;
    let mut silent = Vec::new();
    let half_head = b"POST /half HTTP/1.1\r\nhost: localhost\r\nx: ";
    for said in [&b""[..], b"P", b"PRI * HTTP/2.0\r\n\r\nSM", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", half_head] {
        for _ in 0..20 {
            let mut stream = TcpStream::connect(addr).await.expect("the server listens");
            stream.write_all(said).await.expect("a few bytes");
            silent.push(stream);
        }
    }
    is_answered(addr).await;
    for mut stream in silent {
        let mut rest = Vec::new();
        // An orderly end or a reset, but an end.
        let _ = timeout(NEVER, stream.read_to_end(&mut rest)).await.expect("it is closed");
    }
    assert_eq!(*seen.lock().expect("no panic"), ["/other"]);
}
