//! Real sockets on loopback.

use super::*;
use crate::respond::tests::{option, question, responder};
use hickory_proto::op::Message;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UdpSocket,
    sync::oneshot,
    task::JoinHandle,
    time::{Instant, timeout},
};

mod peers;

/// What no test waits longer for.
const PATIENCE: Duration = Duration::from_secs(20);

/// A listener that serves the zone of the tests, until it is told to stop.
pub(super) struct Served {
    pub(super) addr: SocketAddr,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<Result<Drained, ServeError>>,
}

impl Served {
    pub(super) async fn new(ip: impl Into<IpAddr>, limits: Limits) -> Self {
        let addr = SocketAddr::new(ip.into(), 0);
        let listener = DnsListener::bind(DnsBind { addr, limits }).await.expect("a free port");
        let (addr, (responder, _)) = (listener.local_addr(), responder(None));
        let (stop, stopped) = oneshot::channel();
        let ended = tokio::spawn(listener.serve(responder, async move { drop(stopped.await) }));
        Self { addr, stop, ended }
    }

    async fn stop(self) -> Drained {
        self.stop.send(()).expect("it serves");
        within(self.ended).await.expect("no panic").expect("no error")
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("in time")
}

async fn by_udp(from: IpAddr, to: SocketAddr, message: &[u8]) -> Vec<u8> {
    let socket = UdpSocket::bind((from, 0)).await.expect("a port");
    // Connected, so that only what comes from the address that was asked is received.
    socket.connect(to).await.expect("a route");
    let mut answer = vec![0; 65_535];
    // Datagrams may be lost, even here.
    for _ in 0..10 {
        socket.send(message).await.expect("sent");
        if let Ok(length) = timeout(PATIENCE / 10, socket.recv(&mut answer)).await {
            answer.truncate(length.expect("an answer"));
            return answer;
        }
    }
    panic!("no answer from {to}");
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&u16::try_from(message.len()).expect("short").to_be_bytes()[..], message].concat()
}

async fn read_frame(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let length = within(stream.read_u16()).await?;
    let mut answer = vec![0; length.into()];
    within(stream.read_exact(&mut answer)).await?;
    Ok(answer)
}

/// Whether the other end has closed the stream.
async fn is_closed(stream: &mut TcpStream) -> bool {
    matches!(within(stream.read(&mut [0; 16])).await, Ok(0) | Err(_))
}

fn records(answer: &[u8]) -> usize {
    Message::from_vec(answer).expect("a message").answers.len()
}

#[tokio::test]
async fn datagrams_are_answered_from_the_address_that_was_asked() {
    let message = question("example.org", 1, None);
    let (v4, v6) = (Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST);
    let concrete: [IpAddr; 2] = [v4.into(), v6.into()];
    for ip in concrete {
        let served = Served::new(ip, Limits::default()).await;
        assert_eq!(records(&by_udp(ip, served.addr, &message).await), 1);
        served.stop().await;
    }
    let served = Served::new(Ipv4Addr::UNSPECIFIED, Limits::default()).await;
    for last in [1, 2, 77] {
        let ours = Ipv4Addr::new(127, 0, 3, last);
        let answer = by_udp(v4.into(), SocketAddr::new(ours.into(), served.addr.port()), &message).await;
        assert_eq!(records(&answer), 1, "{ours}");
    }
    served.stop().await;
    let served = Served::new(Ipv6Addr::UNSPECIFIED, Limits::default()).await;
    assert_eq!(records(&by_udp(v6.into(), (v6, served.addr.port()).into(), &message).await), 1);
    served.stop().await;
}

#[tokio::test]
async fn who_listens_for_ipv6_leaves_the_port_to_who_listens_for_ipv4() {
    // Another test may have the port by chance, but not each time.
    for _ in 0..10 {
        let served = Served::new(Ipv6Addr::UNSPECIFIED, Limits::default()).await;
        let addr = (Ipv4Addr::UNSPECIFIED, served.addr.port()).into();
        let is_bound = DnsListener::bind(DnsBind { addr, limits: Limits::default() }).await.is_ok();
        served.stop().await;
        if is_bound {
            return;
        }
    }
    panic!("the port is never free for IPv4");
}

#[tokio::test]
async fn many_datagrams_at_once_are_each_answered_to_whoever_sent_them() {
    let served = Served::new(Ipv4Addr::LOCALHOST, Limits::default()).await;
    let asking = (0..64_u16).map(|number| {
        let addr = served.addr;
        tokio::spawn(async move {
            let mut message = question("mail.example.org", 1, Some((1_232, true, &[])));
            message[..2].copy_from_slice(&number.to_be_bytes());
            let answer = by_udp(Ipv4Addr::LOCALHOST.into(), addr, &message).await;
            assert_eq!((&answer[..2], records(&answer)), (&number.to_be_bytes()[..], 2));
        })
    });
    for asked in asking.collect::<Vec<_>>() {
        within(asked).await.expect("an answer");
    }
    served.stop().await;
}

#[tokio::test]
async fn malformed_datagrams_are_met_as_the_rfcs_say_and_nothing_is_the_worse_for_it() {
    let served = Served::new(Ipv4Addr::LOCALHOST, Limits::default()).await;
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    socket.connect(served.addr).await.expect("a route");
    let good = question("example.org", 1, None);
    let mut answered = good.clone();
    answered[2] |= 0x80;
    // Silence, silence, silence; then one that is told.
    for silent in [&[][..], &good[..11], &answered] {
        socket.send(silent).await.expect("sent");
    }
    let mut malformed = good.clone();
    malformed[0..2].copy_from_slice(b"mm");
    malformed[12] = 0xc0;
    assert_eq!(by_udp(Ipv4Addr::LOCALHOST.into(), served.addr, &malformed).await, b"mm\x81\x01\0\0\0\0\0\0\0\0");
    let mut long = good.clone();
    long.resize(9_000, 0);
    assert_eq!(by_udp(Ipv4Addr::LOCALHOST.into(), served.addr, &long).await[3] & 0x0f, 1);
    assert_eq!(records(&by_udp(Ipv4Addr::LOCALHOST.into(), served.addr, &good).await), 1);
    // The silent ones stayed so: on their socket nothing but an answer to this comes.
    let mut last = good;
    last[0..2].copy_from_slice(b"zz");
    socket.send(&last).await.expect("sent");
    let mut answer = [0; 512];
    within(socket.recv(&mut answer)).await.expect("an answer");
    assert_eq!(&answer[..2], b"zz");
    served.stop().await;
}

#[tokio::test]
async fn a_truncated_answer_comes_whole_by_tcp() {
    let served = Served::new(Ipv4Addr::LOCALHOST, Limits::default()).await;
    let message = question("long.example.org", 16, None);
    let cut = by_udp(Ipv4Addr::LOCALHOST.into(), served.addr, &message).await;
    assert!(Message::from_vec(&cut).expect("a message").metadata.truncation);
    let mut stream = TcpStream::connect(served.addr).await.expect("a stream");
    stream.write_all(&framed(&message)).await.expect("sent");
    assert_eq!(records(&read_frame(&mut stream).await.expect("an answer")), 1);
    served.stop().await;
}

#[tokio::test]
async fn questions_in_one_stream_are_answered_in_order_however_they_are_cut() {
    let served = Served::new(Ipv4Addr::LOCALHOST, Limits::default()).await;
    let mut stream = TcpStream::connect(served.addr).await.expect("a stream");
    let ask = |number: u16| {
        let mut message = question("example.org", 1, Some((1_232, true, &option(12, &[0; 80]))));
        message[..2].copy_from_slice(&number.to_be_bytes());
        framed(&message)
    };
    // Far more than the inbox holds, and the outbox.
    let all: Vec<u8> = (0..500).flat_map(ask).collect();
    let (mut reading, mut writing) = stream.split();
    let write = async {
        for piece in all.chunks(3_001) {
            writing.write_all(piece).await.expect("sent");
        }
    };
    let read = async {
        for number in 0..500_u16 {
            let mut answer = vec![0; reading.read_u16().await.expect("an answer").into()];
            reading.read_exact(&mut answer).await.expect("an answer");
            assert_eq!((&answer[..2], records(&answer)), (&number.to_be_bytes()[..], 2));
        }
    };
    within(async { tokio::join!(write, read) }).await;
    // Byte by byte, too.
    for byte in ask(7) {
        stream.write_all(&[byte]).await.expect("sent");
    }
    assert_eq!(read_frame(&mut stream).await.expect("an answer")[..2], [0, 7]);
    drop(stream);
    served.stop().await;
}

#[tokio::test]
async fn who_sends_no_question_in_a_stream_is_left() {
    let served = Served::new(Ipv4Addr::LOCALHOST, Limits::default()).await;
    let mut answer = question("example.org", 1, None);
    answer[2] |= 0x80;
    for sent in [b"GET / HTTP/1.1\r\n\r\n".to_vec(), framed(&answer), framed(&[]), vec![0xff; 2]] {
        let mut stream = TcpStream::connect(served.addr).await.expect("a stream");
        stream.write_all(&sent).await.expect("sent");
        assert!(is_closed(&mut stream).await, "{sent:02x?}");
    }
    served.stop().await;
}

#[tokio::test]
async fn idle_and_trickling_peers_have_to_go_and_who_asks_may_stay() {
    let limits = Limits { idle_timeout: Duration::from_millis(600), ..Limits::default() };
    let served = Served::new(Ipv4Addr::LOCALHOST, limits).await;
    let (mut idle, mut trickling, mut asking) = (
        TcpStream::connect(served.addr).await.expect("a stream"),
        TcpStream::connect(served.addr).await.expect("a stream"),
        TcpStream::connect(served.addr).await.expect("a stream"),
    );
    let message = framed(&question("example.org", 1, None));
    let began = Instant::now();
    let mut bytes = message.iter().copied().cycle();
    let (mut idle_closed, mut trickling_closed) = (false, false);
    while !(idle_closed && trickling_closed) {
        assert!(began.elapsed() < PATIENCE, "{idle_closed} {trickling_closed}");
        let mut byte = [0];
        idle_closed |= timeout(Duration::from_millis(20), idle.read(&mut byte)).await.is_ok();
        // Never a whole question: the length says that more is to come.
        trickling_closed |= trickling.write_all(&[bytes.next().map_or(0, |_| 1)]).await.is_err();
        asking.write_all(&message).await.expect("may stay");
        assert_eq!(records(&read_frame(&mut asking).await.expect("may stay")), 1);
    }
    served.stop().await;
}

#[tokio::test]
async fn who_does_not_read_his_answers_is_cut_and_takes_no_more_memory_meanwhile() {
    let limits = Limits { stall_timeout: Duration::from_millis(300), ..Limits::default() };
    let served = Served::new(Ipv4Addr::LOCALHOST, limits).await;
    let mut stream = TcpStream::connect(served.addr).await.expect("a stream");
    let questions = framed(&question("long.example.org", 16, None)).repeat(1_000);
    // The server reads no more once nobody takes its answers, so that this ends with an error and not with all memory.
    let mut sent = 0_u64;
    within(async {
        while stream.write_all(&questions).await.is_ok() {
            sent += 1;
        }
    })
    .await;
    assert!(sent < 10_000, "{sent} thousand questions were taken");
    served.stop().await;
}

#[tokio::test]
async fn ten_thousand_idle_streams_leave_room_for_one_who_asks() {
    let limits = Limits {
        connections: 50,
        connections_per_source: 10,
        // Nobody goes by himself in time.
        idle_timeout: PATIENCE * 2,
        crowded_idle_timeout: Duration::from_millis(100),
        ..Limits::default()
    };
    let served = Served::new(Ipv4Addr::LOCALHOST, limits).await;
    let mut held = std::collections::VecDeque::new();
    for number in 0..10_000_u32 {
        // From a few hundred sources, who each hold what they can.
        let source = Ipv4Addr::from_bits(Ipv4Addr::new(127, 1, 0, 1).to_bits() + number / 32);
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.bind((source, 0).into()).expect("an address");
        let connected = timeout(Duration::from_millis(200), socket.connect(served.addr)).await;
        held.extend(connected.ok().and_then(Result::ok));
        if held.len() > 400 {
            held.pop_front();
        }
    }
    let message = framed(&question("example.org", 1, None));
    let asked = async {
        loop {
            let Ok(mut stream) = TcpStream::connect(served.addr).await else { continue };
            if stream.write_all(&message).await.is_ok() && read_frame(&mut stream).await.is_ok() {
                return;
            }
        }
    };
    within(asked).await;
    drop(held);
    served.stop().await;
}

#[tokio::test]
async fn who_holds_all_places_and_asks_all_the_time_makes_room_for_another_source() {
    let served = Served::new(Ipv4Addr::LOCALHOST, Limits { connections: 6, ..Limits::default() }).await;
    let message = framed(&question("example.org", 1, None));
    let mut held = Vec::new();
    for _ in 0..6 {
        let mut stream = TcpStream::connect(served.addr).await.expect("a stream");
        stream.write_all(&message).await.expect("sent");
        read_frame(&mut stream).await.expect("an answer");
        held.push(stream);
    }
    let mut more = TcpStream::connect(served.addr).await.expect("a stream");
    assert!(is_closed(&mut more).await, "there is no place for more of his");
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind((Ipv4Addr::new(127, 0, 0, 9), 0).into()).expect("an address");
    let mut other = socket.connect(served.addr).await.expect("a stream");
    other.write_all(&message).await.expect("sent");
    read_frame(&mut other).await.expect("an answer");
    assert!(is_closed(&mut held.pop().expect("the youngest")).await);
}

#[tokio::test]
async fn a_source_holds_so_many_streams_and_others_their_own() {
    let served = Served::new(Ipv4Addr::LOCALHOST, Limits { connections_per_source: 2, ..Limits::default() }).await;
    let message = framed(&question("example.org", 1, None));
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(served.addr).await.expect("a stream");
        stream.write_all(&message).await.expect("sent");
        read_frame(&mut stream).await.expect("an answer");
        held.push(stream);
    }
    let mut third = TcpStream::connect(served.addr).await.expect("a stream");
    assert!(is_closed(&mut third).await);
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind((Ipv4Addr::new(127, 0, 0, 9), 0).into()).expect("an address");
    let mut other = socket.connect(served.addr).await.expect("a stream");
    other.write_all(&message).await.expect("sent");
    read_frame(&mut other).await.expect("an answer");
    served.stop().await;
}

#[tokio::test]
async fn a_shutdown_ends_idle_streams_at_once_and_cuts_who_reads_nothing() {
    let limits = Limits { drain_timeout: Duration::from_millis(300), stall_timeout: PATIENCE * 2, ..Limits::default() };
    let served = Served::new(Ipv4Addr::LOCALHOST, limits).await;
    let message = framed(&question("long.example.org", 16, None));
    let mut idle = TcpStream::connect(served.addr).await.expect("a stream");
    idle.write_all(&message).await.expect("sent");
    read_frame(&mut idle).await.expect("an answer");
    let mut stalled = TcpStream::connect(served.addr).await.expect("a stream");
    let questions = message.repeat(1_000);
    // Until the server takes no more.
    while timeout(Duration::from_millis(300), stalled.write_all(&questions)).await.is_ok() {}
    let addr = served.addr;
    assert_eq!(served.stop().await, Drained { finished: 1, cut: 1 });
    assert!(is_closed(&mut idle).await);
    assert!(TcpStream::connect(addr).await.is_err());
}

#[tokio::test]
async fn a_taken_port_is_said_to_be_so() {
    let taken = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let addr = taken.local_addr().expect("an address");
    let error = DnsListener::bind(DnsBind { addr, limits: Limits::default() }).await.expect_err("taken");
    assert!(error.to_string().contains(&addr.to_string()));
}
