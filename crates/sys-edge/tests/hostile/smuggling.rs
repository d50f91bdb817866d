//! Requests that two readers would read in two ways, over HTTP/1.1.

use super::*;

#[tokio::test]
async fn what_two_readers_would_read_in_two_ways_is_read_by_nobody() {
    let (addr, seen) = start(Limits::default()).await;
    let smuggled = "GET /smuggled HTTP/1.1\r\nhost: localhost\r\n\r\n";
    for (what, head) in [
        ("two lengths", "content-length: 0\r\ncontent-length: 44\r\n"),
        ("a list of lengths", "content-length: 0, 44\r\n"),
        ("a signed length", "content-length: +0\r\n"),
        ("a length of no number", "content-length: 0x0\r\n"),
        ("a coding that is none", "transfer-encoding: xchunked\r\n"),
        ("chunks, and then another coding", "transfer-encoding: chunked, identity\r\n"),
        ("a name with a space behind it", "transfer-encoding : chunked\r\n"),
        ("a name with a space before it", " content-length: 0\r\n"),
        ("a folded line", "x: 1\r\n content-length: 0\r\n"),
        ("a carriage return in a value", "x: 1\rcontent-length: 0\r\n"),
        ("a zero byte", "x: 1\0\r\n"),
    ] {
        let answer = said(addr, &format!("POST /first HTTP/1.1\r\nhost: localhost\r\n{head}\r\n{smuggled}")).await;
        let served: Vec<_> = std::mem::take(&mut *seen.lock().expect("no panic"));
        assert!(!served.contains(&"/smuggled".to_owned()), "{what}: {served:?} {answer}");
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{what}: {answer}");
    }
    for (what, line) in [
        ("a space too many", "GET  /first HTTP/1.1"),
        ("another protocol", "GET /first HTTP/1.1 HTTP/1.1"),
        ("a version that is none", "GET /first HTTP/9.9"),
        ("no version", "GET /first"),
    ] {
        let answer = said(addr, &format!("{line}\r\nhost: localhost\r\n\r\n{smuggled}")).await;
        let served: Vec<_> = std::mem::take(&mut *seen.lock().expect("no panic"));
        assert!(!served.contains(&"/smuggled".to_owned()), "{what}: {served:?} {answer}");
    }
    is_answered(addr).await;
}

#[tokio::test]
async fn a_length_beside_chunks_smuggles_nothing() {
    let (addr, seen) = start(Limits::default()).await;
    // By its length the body is the whole rest, by its chunks it ends at once.
    let smuggled = "GET /smuggled HTTP/1.1\r\nhost: localhost\r\n\r\n";
    for (head, body) in [
        ("content-length: 49\r\ntransfer-encoding: chunked\r\n", "0\r\n\r\n"),
        ("transfer-encoding: chunked\r\ncontent-length: 49\r\n", "0\r\n\r\n"),
        ("transfer-encoding: chunked\r\n", "0;\n\r\n"),
        ("transfer-encoding: chunked\r\n", "fffffffffffffffff\r\n"),
        ("transfer-encoding: chunked\r\n", "-1\r\n\r\n"),
        ("transfer-encoding: chunked\r\n", "1\r\nab\r\n0\r\n\r\n"),
    ] {
        let text = format!("POST /first HTTP/1.1\r\nhost: localhost\r\n{head}\r\n{body}{smuggled}");
        let answer = said(addr, &text).await;
        let served: Vec<_> = std::mem::take(&mut *seen.lock().expect("no panic"));
        assert!(!served.contains(&"/smuggled".to_owned()), "{head} {body}: {served:?} {answer}");
    }
    is_answered(addr).await;
}

#[tokio::test]
async fn requests_in_a_row_are_answered_in_a_row_and_older_clients_too() {
    let (addr, seen) = start(Limits::default()).await;
    let one = |path: &str| format!("POST /{path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 3\r\n\r\nabc");
    let row: String = (0..50).map(|number| one(&number.to_string())).collect();
    let answers = said(addr, &row).await;
    assert_eq!(answers.matches("HTTP/1.1 200").count(), 50);
    let served: Vec<_> = std::mem::take(&mut *seen.lock().expect("no panic"));
    assert_eq!(served, (0..50).map(|number| format!("/{number}")).collect::<Vec<_>>());
    let old = said(addr, "GET /old HTTP/1.0\r\nhost: localhost\r\n\r\n").await;
    assert!(old.starts_with("HTTP/1.0 200") || old.starts_with("HTTP/1.1 200"), "{old}");
    let nameless = said(addr, "GET /nameless HTTP/1.0\r\n\r\n").await;
    assert!(nameless.contains(" 400 "), "{nameless}");
    assert_eq!(*seen.lock().expect("no panic"), ["/old"]);
}

#[tokio::test]
async fn nobody_is_made_to_speak_another_protocol() {
    let (addr, _) = start(Limits::default()).await;
    for head in [
        "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAARAAAAAAAIAAAAA\r\n",
        "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    ] {
        let answer = said(addr, &format!("GET /same HTTP/1.1\r\nhost: localhost\r\n{head}\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 200") && !answer.contains(" 101 "), "{answer}");
    }
    let tunnel = said(addr, "CONNECT localhost:443 HTTP/1.1\r\nhost: localhost:443\r\n\r\nanything").await;
    assert!(!tunnel.contains("anything"), "{tunnel}");
    is_answered(addr).await;
}

#[tokio::test]
async fn a_coding_that_is_named_in_two_ways_smuggles_nothing() {
    let (addr, seen) = start(Limits::default()).await;
    // A reader that takes the coding for none finds a request behind the first.
    let smuggled = "GET /smuggled HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let length = smuggled.len();
    for head in [
        "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n",
        "transfer-encoding: identity\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: identity, chunked\r\n",
        "transfer-encoding: chunked, chunked\r\n",
        "transfer-encoding: gzip\r\n",
        "transfer-encoding:\x0bchunked\r\n",
        "transfer-encoding: \"chunked\"\r\n",
        "transfer-encoding: chunked;q=1\r\n",
        "transfer-encoding: \r\n",
        "transfer_encoding: chunked\r\ncontent-length: 0\r\n",
        "TRANSFER-ENCODING: CHUNKED\r\n",
    ] {
        // As chunks: one with the request in it, and the last.
        let chunks = format!("{length:x}\r\n{smuggled}\r\n0\r\n\r\n");
        let answer = said(addr, &format!("POST /first HTTP/1.1\r\nhost: localhost\r\n{head}\r\n{chunks}")).await;
        let served: Vec<_> = std::mem::take(&mut *seen.lock().expect("no panic"));
        assert!(!served.contains(&"/smuggled".to_owned()), "{head}: {served:?} {answer}");
        assert!(answer.matches("HTTP/1.").count() <= 2, "{head}: {answer}");
    }
    // HTTP/1.0 has no chunks.
    let text =
        format!("POST /first HTTP/1.0\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}");
    let answer = said(addr, &text).await;
    let served: Vec<_> = std::mem::take(&mut *seen.lock().expect("no panic"));
    assert!(!served.contains(&"/smuggled".to_owned()), "{served:?} {answer}");
    is_answered(addr).await;
}

#[tokio::test]
async fn what_stands_beside_a_chunk_is_bounded_and_ends_no_chunk() {
    let (addr, seen) = start(Limits::default()).await;
    let smuggled = "GET /smuggled HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let long = "x".repeat(64 << 10);
    let many = "1;x=y\r\na\r\n".repeat(8 << 10);
    let trailers = "x: y\r\n".repeat(4_096);
    for (what, chunks) in [
        ("a long word", format!("1;{long}\r\na\r\n0\r\n\r\n{smuggled}")),
        ("many words", format!("{many}0\r\n\r\n{smuggled}")),
        ("many lines behind", format!("1\r\na\r\n0\r\n{trailers}\r\n{smuggled}")),
        ("a long line behind", format!("1\r\na\r\n0\r\nx: {long}\r\n\r\n{smuggled}")),
        ("a line feed in a word", format!("1;x\ny\r\na\r\n0\r\n\r\n{smuggled}")),
        ("a length that overflows", format!("10000000000000001\r\na\r\n0\r\n\r\n{smuggled}")),
        ("a chunk that does not end", format!("1\r\nab\r\n0\r\n\r\n{smuggled}")),
    ] {
        let head = "POST /first HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n";
        let answer = said(addr, &format!("{head}{chunks}")).await;
        let served: Vec<_> = std::mem::take(&mut *seen.lock().expect("no panic"));
        assert!(!served.contains(&"/smuggled".to_owned()), "{what}: {served:?} {answer}");
    }
    is_answered(addr).await;
}

#[tokio::test]
async fn a_line_that_ends_in_a_line_feed_alone_is_a_line() {
    let (addr, seen) = start(Limits::default()).await;
    // RFC 9112 section 2.2 lets us. What matters is that it is always so: the length counts wherever it stands.
    let smuggled = "GET /smuggled HTTP/1.1\r\nhost: localhost\r\n\r\n";
    for head in [
        format!("POST /first HTTP/1.1\nhost: localhost\ncontent-length: {}\n\n", smuggled.len()),
        format!("POST /first HTTP/1.1\r\nhost: localhost\r\nx: y\ncontent-length: {}\r\n\r\n", smuggled.len()),
    ] {
        let answer = said(addr, &format!("{head}{smuggled}")).await;
        let served: Vec<_> = std::mem::take(&mut *seen.lock().expect("no panic"));
        assert_eq!(served, ["/first"], "{head}: {answer}");
    }
    is_answered(addr).await;
}

#[tokio::test]
async fn the_host_of_the_target_and_of_the_line_must_both_be_ours() {
    let (addr, seen) = start(Limits::default()).await;
    for head in [
        "GET http://evil.example/first HTTP/1.1\r\nhost: localhost\r\n",
        "GET http://localhost/first HTTP/1.1\r\nhost: evil.example\r\n",
        "GET http://localhost@evil.example/first HTTP/1.1\r\nhost: localhost\r\n",
        "GET http://evil.example#@localhost/first HTTP/1.1\r\nhost: localhost\r\n",
        "GET /first HTTP/1.1\r\nhost: localhost\r\nhost: localhost\r\n",
        "GET /first HTTP/1.1\r\nhost: localhost, evil.example\r\n",
        "GET /first HTTP/1.1\r\nhost: localhost/evil.example\r\n",
        "GET /first HTTP/1.1\r\nhost: \r\n",
        "GET /first HTTP/1.1\r\n",
    ] {
        let answer = said(addr, &format!("{head}\r\n")).await;
        let served: Vec<_> = std::mem::take(&mut *seen.lock().expect("no panic"));
        assert!(served.is_empty() && !answer.contains(" 200 "), "{head}: {served:?} {answer}");
    }
    let answer = said(addr, "GET http://localhost/first HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}
