//! What becomes of traces when collectors take them, are down, hang, or do not want them.

use super::*;
use crate::settings::{Headers, Roots};
use std::sync::atomic::{AtomicUsize, Ordering};
use sys_core::{SystemEntropy, clock::Clock, trace::Sampling};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

const WELL: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

fn settings(addr: std::net::SocketAddr) -> Settings {
    Settings {
        endpoint: format!("http://{addr}").parse().expect("a collector"),
        roots: Roots::of(None).expect("roots"),
        headers: Headers::default(),
        service: "x".to_owned(),
        sampling: Sampling { per_million: 0, follows_callers: false },
    }
}

fn tracer() -> Tracer {
    Tracer::new(Clock::System, Arc::new(SystemEntropy::new()))
}

/// Reads a message to its end.
async fn hear(stream: &mut TcpStream) {
    let mut heard = Vec::new();
    loop {
        stream.read_buf(&mut heard).await.expect("bytes");
        let Some(end) = heard.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&heard[..end]).to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        if heard.len() >= end + 4 + length.unwrap_or(0) {
            return;
        }
    }
}

/// A collector that gives one of these answers after the other, and the last for ever; how many messages came.
async fn collector(answers: &'static [&'static str]) -> (std::net::SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("an address");
    let came = Arc::<AtomicUsize>::default();
    let counted = came.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            hear(&mut stream).await;
            let number = counted.fetch_add(1, Ordering::SeqCst);
            let answer = answers.get(number).or(answers.last()).expect("an answer");
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (addr, came)
}

/// Waits until so many spans became that.
async fn became(tracer: &Tracer, expect: &[(&str, u64)]) {
    let begun = std::time::Instant::now();
    loop {
        let counts: Vec<_> = tracer.counts().filter(|(_, count)| *count > 0).collect();
        if counts == expect {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{counts:?} is not {expect:?}");
        // The clock of the runtime stands still but for this.
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn what_is_recorded_is_sent_together() {
    let (addr, came) = collector(&[WELL]).await;
    let tracer = tracer();
    let exporter = Exporter::start(&tracer, Some(settings(addr)), [0; 16]).expect("an exporter");
    assert!(Exporter::start(&tracer, None, [0; 16]).is_none(), "there is one");
    (0..20).for_each(|_| drop(tracer.work("round")));
    became(&tracer, &[("sent", 20)]).await;
    assert!(came.load(Ordering::SeqCst) <= 2);
    exporter.stop().await;
}

#[tokio::test]
async fn what_is_there_at_the_end_is_sent_before_it() {
    let (addr, _) = collector(&[WELL]).await;
    let tracer = tracer();
    let exporter = Exporter::start(&tracer, Some(settings(addr)), [0; 16]).expect("an exporter");
    (0..600).for_each(|_| drop(tracer.work("round")));
    exporter.stop().await;
    assert_eq!(tracer.counts().next(), Some(("sent", 600)));
    drop(tracer.work("too late"));
    assert_eq!(tracer.counts().map(|(_, count)| count).sum::<u64>(), 600);
}

#[tokio::test]
async fn a_collector_that_is_busy_for_a_while_is_asked_again() {
    let (addr, came) = collector(&["HTTP/1.1 503 x\r\ncontent-length: 0\r\n\r\n", "", WELL]).await;
    let tracer = tracer();
    let exporter = Exporter::start(&tracer, Some(settings(addr)), [0; 16]).expect("an exporter");
    drop(tracer.work("round"));
    became(&tracer, &[("sent", 1)]).await;
    assert_eq!(came.load(Ordering::SeqCst), 3);
    exporter.stop().await;
}

#[tokio::test]
async fn what_a_collector_does_not_want_is_not_sent_again() {
    let (addr, came) = collector(&["HTTP/1.1 400 x\r\ncontent-length: 0\r\n\r\n", WELL]).await;
    let tracer = tracer();
    let exporter = Exporter::start(&tracer, Some(settings(addr)), [0; 16]).expect("an exporter");
    drop(tracer.work("round"));
    became(&tracer, &[("rejected", 1)]).await;
    drop(tracer.work("round"));
    became(&tracer, &[("sent", 1), ("rejected", 1)]).await;
    assert_eq!(came.load(Ordering::SeqCst), 2);
    exporter.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_collector_that_is_down_costs_what_there_is_no_room_for_and_nothing_else() {
    let addr = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address");
    let tracer = tracer();
    let exporter = Exporter::start(&tracer, Some(settings(addr)), [0; 16]).expect("an exporter");
    drop(tracer.work("round"));
    became(&tracer, &[("undelivered", 1)]).await;
    // While it is tried again, as much waits as there is room for, and nobody else does.
    drop(tracer.work("round"));
    sleep(Duration::from_secs(3)).await;
    (0..3_000).for_each(|_| drop(tracer.work("round")));
    assert_eq!(tracer.counts().nth(1), Some(("dropped", 3_000 - 2_048)));
    let begun = Instant::now();
    exporter.stop().await;
    assert!(begun.elapsed() <= LAST_WORDS + Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_collector_that_hangs_does_not_keep_a_server_from_stopping() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let tracer = tracer();
    let settings = settings(listener.local_addr().expect("an address"));
    let exporter = Exporter::start(&tracer, Some(settings), [0; 16]).expect("an exporter");
    drop(tracer.work("round"));
    // It has the message, and says nothing.
    let _hangs = listener.accept().await.expect("a connection");
    let begun = Instant::now();
    exporter.stop().await;
    assert!(begun.elapsed() <= LAST_WORDS + Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn where_traces_go_can_be_said_anew_and_what_waits_goes_there() {
    // It breaks off in the middle of each exchange.
    let (down, came) = collector(&[""]).await;
    let (up, _) = collector(&[WELL]).await;
    let tracer = tracer();
    let exporter = Exporter::start(&tracer, None, [0; 16]).expect("an exporter");
    drop(tracer.work("nothing is recorded yet"));
    exporter.switch().set(Some(settings(down)));
    drop(tracer.work("round"));
    while came.load(Ordering::SeqCst) == 0 {
        sleep(Duration::from_millis(10)).await;
    }
    exporter.switch().set(Some(settings(up)));
    became(&tracer, &[("sent", 1)]).await;
    exporter.switch().set(None);
    drop(tracer.work("no more"));
    assert_eq!(tracer.counts().map(|(_, count)| count).sum::<u64>(), 1);
    exporter.stop().await;
}
