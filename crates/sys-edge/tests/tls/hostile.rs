//! Clients that do not do their part, beside those that do.

use crate::{
    clients::{Client, get_on},
    server::{INNER, NEVER, Server},
};
use std::{io::ErrorKind, net::SocketAddr, sync::atomic::Ordering, time::Duration};
use sys_edge::Limits;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::{sleep, timeout},
};

/// Short enough to wait for, where a limit is to be reached.
const SHORT: Duration = Duration::from_millis(300);

fn impatient() -> Limits {
    Limits { handshake_timeout: SHORT, ..Limits::default() }
}

/// The first flight of a client.
async fn client_hello(client: &Client) -> Vec<u8> {
    let (here, mut there) = tokio::io::duplex(1 << 16);
    let client = client.clone();
    let connecting = tokio::spawn(async move { client.connect_on(here, INNER).await.map(drop) });
    let mut head = [0; 5];
    there.read_exact(&mut head).await.expect("a record");
    let mut record = vec![0; usize::from(u16::from_be_bytes([head[3], head[4]]))];
    there.read_exact(&mut record).await.expect("a client hello");
    connecting.abort();
    [&head[..], &record].concat()
}

async fn connect(addr: SocketAddr) -> TcpStream {
    TcpStream::connect(addr).await.expect("connect")
}

/// Everything until the server closes. A reset is an end, too.
async fn rest(mut stream: TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = timeout(NEVER, stream.read_to_end(&mut bytes)).await.expect("the server closes the connection");
    bytes
}

#[tokio::test]
async fn handshakes_that_are_left_half_open_are_closed_and_keep_nobody_away_meanwhile() {
    let server = Server::start(Limits { handshake_timeout: Duration::from_secs(3), ..Limits::default() }).await;
    let hello = client_hello(&server.client()).await;
    let mut half_open = Vec::new();
    for sent in [0, 1, 5, hello.len() / 2, hello.len() - 1, hello.len()] {
        for _ in 0..40 {
            let mut stream = connect(server.addr).await;
            stream.write_all(&hello[..sent]).await.unwrap();
            half_open.push(stream);
        }
    }
    server.serves().await;
    for stream in half_open {
        rest(stream).await;
    }
    server.serves().await;
}

#[tokio::test]
async fn who_sends_his_handshake_byte_by_byte_gets_no_more_time_for_it() {
    let server = Server::start(impatient()).await;
    let hello = client_hello(&server.client()).await;
    let (mut reader, mut writer) = connect(server.addr).await.into_split();
    let dripping = tokio::spawn(async move {
        for byte in hello {
            if writer.write_all(&[byte]).await.is_err() {
                return;
            }
            sleep(Duration::from_millis(5)).await;
        }
        panic!("all of it was taken");
    });
    let mut bytes = Vec::new();
    let _ = timeout(NEVER, reader.read_to_end(&mut bytes)).await.expect("the server closes the connection");
    assert!(bytes.is_empty(), "no server hello");
    dripping.await.unwrap();
    server.serves().await;
}

/// What a client hello is answered with: the type of the record, and what it begins with.
async fn first_answer(server: &Server, hello: &[u8]) -> (u8, [u8; 2]) {
    let mut stream = connect(server.addr).await;
    stream.write_all(hello).await.expect("it is taken");
    let mut record = [0; 7];
    timeout(NEVER, stream.read_exact(&mut record)).await.expect("an answer in time").expect("an answer");
    (record[0], [record[5], record[6]])
}

#[tokio::test]
async fn what_is_no_name_is_refused_and_not_taken_for_none() {
    let server = Server::start(Limits::default()).await;
    // Good for any label, and shown to who names nothing.
    server.tls.show(vec![server.authority.identity(&["*.example.org"])]);
    let (parent, hello) = ("example.org", client_hello(&server.client()).await);
    let place = hello.windows(INNER.len()).position(|window| window == INNER.as_bytes()).expect("the name");
    let label = INNER.len() - parent.len() - 1;
    let (alert, handshake, fatal) = (0x15, 0x16, 2);
    let (unrecognized_name, decode_error) = (112, 50);
    let bent = |changes: &[(usize, u8)]| {
        let mut bent = hello.clone();
        changes.iter().for_each(|(at, byte)| bent[*at] = *byte);
        bent
    };
    let of_label: Vec<_> = (0..label).map(|at| (place + at, 0xff)).collect();
    let [behind, before] = [place + INNER.len() - 1, place - 5];
    for (changes, expect) in [
        // No UTF-8, in all of the label and at the end of the name; UTF-8 that is not ASCII.
        (&of_label[..], unrecognized_name),
        (&[(behind, 0xff)], unrecognized_name),
        (&[(place, 0xc3), (place + 1, 0xbc)], unrecognized_name),
        (&[(place, 0)], unrecognized_name),
        // Another type of name, a list that is longer than it says, a name that is.
        (&[(place - 3, 1)], unrecognized_name),
        (&[(before + 1, hello[before + 1] - 1)], decode_error),
        (&[(place - 1, hello[place - 1] + 1)], decode_error),
    ] {
        assert_eq!(first_answer(&server, &bent(changes)).await, (alert, [fatal, expect]), "{changes:?}");
    }
    let (record, [server_hello, _]) = first_answer(&server, &hello).await;
    assert_eq!((record, server_hello), (handshake, 2), "a name of the wildcard");
    assert_eq!(server.requests(), 0);
}

#[tokio::test]
async fn garbage_ends_its_own_connection() {
    let server = Server::start(Limits { handshake_timeout: NEVER, header_timeout: NEVER, ..Limits::default() }).await;
    let hello = client_hello(&server.client()).await;
    let mut inputs: Vec<Vec<u8>> = vec![
        vec![0; 100],
        vec![0xff; 70_000],
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        b"SSH-2.0-x\r\n".to_vec(),
        // An SSLv2 hello, an alert, application data, a record that is too long.
        vec![0x80, 0x2e, 1, 3, 1, 0, 0x15, 0, 0, 0, 0x10],
        vec![0x15, 3, 1, 0, 2, 2, 40],
        vec![0x17, 3, 3, 0, 1, 0],
        vec![0x16, 3, 1, 0xff, 0xff, 1],
    ];
    for place in (9..hello.len()).step_by(97) {
        let mut bent = hello.clone();
        bent[place] ^= 0xff;
        // Behind it nothing that a handshake could end with.
        bent.extend([0x17, 3, 3, 0, 5, 1, 2, 3, 4, 5]);
        inputs.push(bent);
    }
    for input in inputs {
        let mut stream = connect(server.addr).await;
        let _ = stream.write_all(&input).await;
        // Where its first bytes promise more than there is, the end of it is the end.
        let _ = stream.shutdown().await;
        rest(stream).await;
    }
    assert_eq!(server.requests(), 0);
    server.serves().await;
}

#[tokio::test]
async fn a_client_hello_without_an_end_is_read_up_to_a_bound() {
    let server = Server::start(Limits { handshake_timeout: NEVER, header_timeout: NEVER, ..Limits::default() }).await;
    // A message of 16 MiB - 1, one of 16 KiB in records of one byte, and empty records without end.
    let large = [&[0x16, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff][..], &[0; 16_380]].concat();
    let small = [&[0x16, 3, 1, 0, 4, 1, 0, 0x40, 0][..], &[0x16, 3, 1, 0, 1, 0].repeat(16_000)].concat();
    let empty = [0x16, 3, 1, 0, 0].repeat(10_000);
    for piece in [large, small, empty] {
        let (mut reader, mut writer) = connect(server.addr).await.into_split();
        let sending = tokio::spawn(async move { while writer.write_all(&piece).await.is_ok() {} });
        let mut bytes = Vec::new();
        let _ = timeout(NEVER, reader.read_to_end(&mut bytes)).await.expect("the server closes the connection");
        timeout(NEVER, sending).await.expect("it is not read").expect("no panic");
    }
    server.serves().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_handshakes_at_once_end_and_who_is_connected_is_answered_meanwhile() {
    let limits = Limits {
        connections: 2_000,
        connections_per_source: 2_000,
        handshake_timeout: NEVER,
        header_timeout: NEVER,
        ..Limits::default()
    };
    let server = Server::start(limits).await;
    let client = server.client();
    let mut flood = JoinSet::new();
    for _ in 0..1_000 {
        let (client, addr) = (client.clone(), server.addr);
        flood.spawn(async move { client.connect(addr, INNER).await.map(drop) });
    }
    let connected = client.connect(server.addr, INNER);
    let answer = get_on(connected.await.expect("a handshake among them"), INNER, "/").await.expect("an answer");
    assert!(answer.contains("tls=TLSv1.3"), "{answer}");
    let mut failed = 0;
    while let Some(ended) = timeout(NEVER, flood.join_next()).await.expect("all of them end") {
        failed += usize::from(ended.expect("no panic").is_err());
    }
    assert_eq!(failed, 0, "there was time for all of them");
    server.serves().await;
}

#[tokio::test]
async fn who_leaves_his_answer_unread_is_cut_through_tls_as_without() {
    let server = Server::start(Limits { stall_timeout: SHORT, ..Limits::default() }).await;
    let mut stalled = server.client().speaking(&["http/1.1"]).connect(server.addr, INNER).await.unwrap();
    let request = format!("GET /long HTTP/1.1\r\nHost: {INNER}\r\n\r\n");
    for _ in 0..8 {
        stalled.write_all(request.as_bytes()).await.unwrap();
    }
    stalled.flush().await.unwrap();
    // Nothing is read here, so that nobody but the server can end it.
    let socket = stalled.get_ref().0;
    let cut = async {
        while !socket.try_write(b"x").is_err_and(|error| error.kind() != ErrorKind::WouldBlock) {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(NEVER, cut).await.expect("the server cuts it");
    assert!(server.requests() >= 1);
    server.serves().await;
}

#[tokio::test]
async fn a_drain_answers_what_is_under_way_says_goodbye_and_waits_for_no_handshake() {
    let server = Server::start(Limits { handshake_timeout: NEVER, header_timeout: NEVER, ..Limits::default() }).await;
    let hello = client_hello(&server.client()).await;
    let mut half_open = connect(server.addr).await;
    half_open.write_all(&hello[..hello.len() / 2]).await.unwrap();
    let mut stream = server.client().speaking(&["http/1.1"]).connect(server.addr, INNER).await.unwrap();
    let request = format!("GET /block HTTP/1.1\r\nHost: {INNER}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    timeout(NEVER, server.seen.blocked.notified()).await.unwrap();
    let (addr, release, seen) = (server.addr, server.release.clone(), server.seen.clone());
    let stopping = server.stop();
    assert!(rest(half_open).await.is_empty(), "nothing is under way there");
    release.add_permits(1);
    let mut answer = Vec::new();
    // An end without `close_notify` would be an error here.
    timeout(NEVER, stream.read_to_end(&mut answer)).await.unwrap().expect("it closes in order");
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    let drained = stopping.await;
    assert_eq!((drained.cut, seen.requests.load(Ordering::SeqCst)), (0, 1));
    assert!(TcpStream::connect(addr).await.is_err());
}
