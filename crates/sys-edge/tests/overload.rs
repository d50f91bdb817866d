//! More requests than can be begun with, over real sockets: some are served, the others are turned away at once, whoever must be
//! heard is, and who asks for little gets it.

#![allow(clippy::expect_used, reason = "test code: the setting for tests does not reach functions beside them")]

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::{body::Incoming, client::conn::http2::SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};
use sys_edge::{Ahead, Arrival, Bind, Listener, TurnedAway};
use tokio::{net::TcpSocket, task::JoinSet, time::timeout};
use tower::service_fn;

/// Longer than anything here takes that does not hang.
const NEVER: Duration = Duration::from_secs(30);
/// What one request computes. At this pace a few dozen wait at most.
const WORK: Duration = Duration::from_millis(4);
const AHEAD: &str = "/ahead";
/// Two sources: every address of 127.0.0.0/8 is this machine's.
const GREEDY: [u8; 4] = [127, 9, 0, 1];
const POLITE: [u8; 4] = [127, 9, 0, 2];

type Sender = SendRequest<Full<Bytes>>;

/// Serves each request with work, save who is turned away and who is ahead; counts the work.
async fn start() -> (SocketAddr, Arc<AtomicUsize>) {
    let addr = SocketAddr::from(([127, 0, 0, 1], 0));
    let listener = Listener::bind(Bind::at(addr)).await.expect("bind").ahead(AHEAD);
    let (addr, worked) = (listener.local_addr(), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&worked);
    let service = service_fn(move |request: Request<Incoming>| {
        let counted = Arc::clone(&counted);
        async move {
            let mut response = Response::new(Full::new(Bytes::from_static(b"done")));
            if request.extensions().get::<TurnedAway>().is_some() {
                *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            } else if request.extensions().get::<Ahead>().is_none() {
                assert!(request.extensions().get::<Arrival>().is_some());
                // As what computes does: it keeps its thread.
                std::thread::sleep(WORK);
                counted.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<_, Infallible>(response)
        }
    });
    tokio::spawn(listener.serve(service, std::future::pending()));
    (addr, worked)
}

async fn connect(addr: SocketAddr) -> Sender {
    connect_from(GREEDY, addr).await
}

async fn connect_from(source: [u8; 4], addr: SocketAddr) -> Sender {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind((IpAddr::from(source), 0).into()).expect("an address of this machine");
    let stream = socket.connect(addr).await.expect("the server listens");
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
    tokio::spawn(connection);
    sender
}

async fn get(mut sender: Sender, addr: SocketAddr, path: &str) -> StatusCode {
    let request = Request::get(format!("http://{addr}{path}")).body(Full::default()).expect("a request");
    timeout(NEVER, sender.send_request(request)).await.expect("in time").expect("an answer").status()
}

/// Asks so often on each of these connections, all at once. How many were served, and how many turned away.
async fn burst(senders: &[Sender], addr: SocketAddr, each: usize) -> (usize, usize) {
    let mut asked = JoinSet::new();
    for sender in senders {
        for _ in 0..each {
            let sender = sender.clone();
            asked.spawn(async move { get(sender, addr, "/work").await });
        }
    }
    let statuses = asked.join_all().await;
    let count = |status| statuses.iter().filter(|one| **one == status).count();
    let (served, turned_away) = (count(StatusCode::OK), count(StatusCode::SERVICE_UNAVAILABLE));
    assert_eq!(served + turned_away, statuses.len(), "{statuses:?}");
    (served, turned_away)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_would_have_to_wait_too_long_is_turned_away_unworked_for_and_who_is_ahead_is_not() {
    let (addr, worked) = start().await;
    let mut senders = Vec::new();
    for _ in 0..4 {
        senders.push(connect(addr).await);
    }
    // At first nothing is known of the pace: all are taken in, and it is learnt from them.
    let (first, turned_away) = burst(&senders, addr, 25).await;
    assert_eq!((first, turned_away), (100, 0));
    let before = connect(addr).await;
    let pressed = burst(&senders, addr, 100);
    let ahead = async {
        let mut heard = 0;
        while worked.load(Ordering::Relaxed) < first + 5 {
            assert_eq!(get(before.clone(), addr, AHEAD).await, StatusCode::OK);
            heard += 1;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        heard
    };
    let ((served, turned_away), heard) = tokio::join!(pressed, ahead);
    assert!(served > 0 && turned_away > 0, "{served} served, {turned_away} turned away");
    assert!(heard > 0);
    assert_eq!(worked.load(Ordering::Relaxed), first + served, "nobody is worked for who is turned away");
    // It passes.
    assert_eq!(burst(&senders, addr, 2).await, (8, 0));
}

/// Asks for this path on so many connections with so many streams each, again and again, while `polite` is about it. What polite
/// came to, and how many of the others were turned away.
async fn while_one_is_greedy<T>(addr: SocketAddr, path: &'static str, polite: impl Future<Output = T>) -> (T, usize) {
    let (over, turned_away) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut greedy = JoinSet::new();
    for _ in 0..12 {
        let sender = connect(addr).await;
        for _ in 0..60 {
            let (sender, over, turned_away) = (sender.clone(), Arc::clone(&over), Arc::clone(&turned_away));
            greedy.spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    if get(sender.clone(), addr, path).await == StatusCode::SERVICE_UNAVAILABLE {
                        turned_away.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    }
    while turned_away.load(Ordering::Relaxed) == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let came_to = polite.await;
    over.store(true, Ordering::Relaxed);
    greedy.join_all().await;
    (came_to, turned_away.load(Ordering::Relaxed))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_greedy_source_with_many_connections_and_streams_leaves_a_polite_one_its_answers() {
    let (addr, _) = start().await;
    let sender = connect_from(POLITE, addr).await;
    let polite = async {
        for number in 0..30 {
            assert_eq!(get(sender.clone(), addr, "/work").await, StatusCode::OK, "the {number}. call");
        }
    };
    let ((), turned_away) = while_one_is_greedy(addr, "/work", polite).await;
    assert!(turned_away > 30, "{turned_away}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_too_often_is_ahead_no_more_and_takes_it_from_nobody_else() {
    let (addr, worked) = start().await;
    let sender = connect_from(POLITE, addr).await;
    let polite = async {
        for _ in 0..10 {
            let before = worked.load(Ordering::Relaxed);
            assert_eq!(get(sender.clone(), addr, AHEAD).await, StatusCode::OK);
            // The flood takes turns as everybody does, and is worked for.
            while worked.load(Ordering::Relaxed) == before {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    };
    let ((), turned_away) = while_one_is_greedy(addr, AHEAD, polite).await;
    assert!(turned_away > 0);
}
