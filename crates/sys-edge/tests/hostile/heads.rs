//! Heads of HTTP/2 that would be another request, or two, if somebody wrote them out for HTTP/1.1.

use super::*;

/// A field as a literal that no table keeps.
fn field(name: &[u8], value: &[u8]) -> Vec<u8> {
    let length = |text: &[u8]| u8::try_from(text.len()).expect("a short text");
    [&[0, length(name)], name, &[length(value)], value].concat()
}

fn head(fields: &[(&[u8], &[u8])]) -> Vec<u8> {
    fields.iter().flat_map(|(name, value)| field(name, value)).collect()
}

const METHOD: (&[u8], &[u8]) = (b":method", b"POST");
const SCHEME: (&[u8], &[u8]) = (b":scheme", b"http");
const PATH: (&[u8], &[u8]) = (b":path", b"/first");
const AUTHORITY: (&[u8], &[u8]) = (b":authority", b"localhost");

/// What is sent as one request, and how it ended: a status, or the reason of a reset.
async fn ended(addr: SocketAddr, fields: &[(&[u8], &[u8])], body: &[u8]) -> (Option<u32>, bool) {
    let mut stream = h2(addr).await;
    let frames = [frame(HEADERS, END_HEADERS, 1, &head(fields)), frame(DATA, END_STREAM, 1, body)].concat();
    let _ = stream.write_all(&frames).await;
    loop {
        let Some(heard) = timeout(NEVER, heard(&mut stream)).await.expect("in time") else { return (None, false) };
        match heard.kind {
            // 0x88 is `:status: 200` in the static table.
            HEADERS => return (None, heard.payload.first() == Some(&0x88)),
            RST_STREAM | GOAWAY => return (heard.reason(), false),
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_head_that_says_more_than_a_request_is_served_to_nobody() {
    let (addr, seen) = start(Limits::default()).await;
    let (is_good, good) = ((None, true), [METHOD, SCHEME, PATH, AUTHORITY]);
    assert_eq!(ended(addr, &good, b"").await, is_good);
    assert_eq!(std::mem::take(&mut *seen.lock().expect("no panic")), ["/first"]);
    let with = |field: (&'static [u8], &'static [u8])| [&good[..], &[field]].concat();
    for (what, fields) in [
        ("chunks", with((b"transfer-encoding", b"chunked"))),
        ("a word about the connection", with((b"connection", b"close"))),
        ("keeping it alive", with((b"keep-alive", b"timeout=5"))),
        ("a word to a proxy", with((b"proxy-connection", b"keep-alive"))),
        ("another protocol", with((b"upgrade", b"websocket"))),
        ("codings for the way", with((b"te", b"gzip"))),
        ("a name in large letters", with((b"Host", b"localhost"))),
        ("a name with a colon", with((b"x:y", b"z"))),
        ("a name with a line in it", with((b"x\r\nhost", b"evil.example"))),
        ("a name with a blank", with((b"x ", b"y"))),
        ("no name", with((b"", b"y"))),
        ("a value with a line in it", with((b"x", b"y\r\nhost: evil.example"))),
        ("a value with a line feed", with((b"x", b"y\nz"))),
        ("a value with a zero byte", with((b"x", b"y\0z"))),
        ("two methods", with(METHOD)),
        ("a second path, behind", with((b":path", b"/second"))),
        ("a field that only answers have", with((b":status", b"200"))),
        ("a field that nobody has", with((b":unknown", b"x"))),
        ("another host beside", with((b"host", b"evil.example"))),
        (
            "two lengths",
            [with((b"content-length", b"0")), vec![(b"content-length".as_slice(), b"5".as_slice())]].concat(),
        ),
        ("a length that is none", with((b"content-length", b"+0"))),
        ("a path with a request in it", vec![METHOD, SCHEME, (b":path", b"/first HTTP/1.1\r\nx: y"), AUTHORITY]),
        ("a path with a blank", vec![METHOD, SCHEME, (b":path", b"/first x"), AUTHORITY]),
        ("no path", vec![METHOD, SCHEME, (b":path", b""), AUTHORITY]),
        ("no path at all", vec![METHOD, SCHEME, AUTHORITY]),
        ("no scheme", vec![METHOD, PATH, AUTHORITY]),
        ("no method", vec![SCHEME, PATH, AUTHORITY]),
        ("a method with a line in it", vec![(b":method", b"GET / HTTP/1.1\r\nx:"), SCHEME, PATH, AUTHORITY]),
        ("no host", vec![METHOD, SCHEME, PATH]),
        ("a foreign host", vec![METHOD, SCHEME, PATH, (b":authority", b"evil.example")]),
        ("a host with a user", vec![METHOD, SCHEME, PATH, (b":authority", b"localhost@evil.example")]),
        ("a host with a line in it", vec![METHOD, SCHEME, PATH, (b":authority", b"localhost\r\nx: y")]),
        ("what stands first, last", vec![(b"x", b"y"), METHOD, SCHEME, PATH, AUTHORITY]),
    ] {
        let (reason, is_ok) = ended(addr, &fields, b"").await;
        let served = std::mem::take(&mut *seen.lock().expect("no panic"));
        assert!(served.is_empty() && !is_ok, "{what}: {served:?} {reason:?}");
    }
    is_answered(addr).await;
}

#[tokio::test]
async fn a_body_of_another_length_than_was_said_is_no_body() {
    let (addr, seen) = start(Limits::default()).await;
    let good = [METHOD, SCHEME, PATH, AUTHORITY];
    for (length, body) in [(b"0".as_slice(), b"abc".as_slice()), (b"2", b"abc"), (b"4", b"abc"), (b"99", b"")] {
        let fields = [&good[..], &[(b"content-length", length)]].concat();
        let (reason, _) = ended(addr, &fields, body).await;
        assert_eq!(reason, Some(1), "{length:?} {body:?}");
    }
    drop(seen);
    is_answered(addr).await;
}
