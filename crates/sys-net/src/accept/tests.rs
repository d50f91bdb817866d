//! Who gets in, over real sockets of loopback.

use super::*;
use std::net::{IpAddr, Ipv4Addr};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpSocket,
    sync::oneshot,
    task::JoinHandle,
};

const PLACES: usize = 24;

/// A port where each connection is greeted and held until it has to leave, or is closed by its peer.
struct Port {
    addr: SocketAddr,
    sources: Arc<Sources>,
    crowded: watch::Receiver<bool>,
    stop: oneshot::Sender<()>,
    served: JoinHandle<(usize, Result<(), AcceptError>)>,
}

impl Port {
    async fn open(per_source: usize) -> Self {
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let addr = socket.local_addr().unwrap();
        let sources = Arc::new(Sources::new(per_source));
        let acceptor = Acceptor::new(socket, PLACES, Arc::clone(&sources));
        let (crowded, (stop, stopped)) = (acceptor.crowded(), oneshot::channel::<()>());
        let counts = Arc::clone(&sources);
        let served = tokio::spawn(async move {
            let stopped = async { drop(stopped.await) };
            let begin = |mut stream: TcpStream, peer: SocketAddr| {
                let counted = counts.count(peer.ip())?;
                Some(async move {
                    stream.write_all(b"!").await.unwrap();
                    tokio::select! {
                        () = counted.is_to_leave() => {}
                        _ = stream.read_u8() => {}
                    }
                })
            };
            let (tasks, ended) = acceptor.each(stopped, begin).await;
            (tasks.len(), ended)
        });
        Self { addr, sources, crowded, stop, served }
    }

    async fn connect(&self, last: u8) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, last], 0))).unwrap();
        socket.connect(self.addr).await.unwrap()
    }

    /// A connection that was begun with.
    async fn greeted(&self, last: u8) -> TcpStream {
        let mut stream = self.connect(last).await;
        assert_eq!(stream.read_u8().await.unwrap(), b'!');
        stream
    }

    async fn fill(&mut self, last: u8) -> Vec<TcpStream> {
        let mut held = Vec::new();
        for _ in 0..PLACES {
            held.push(self.greeted(last).await);
        }
        self.crowded.wait_for(|crowded| *crowded).await.unwrap();
        held
    }
}

async fn is_closed(stream: &mut TcpStream) -> bool {
    // A connection that closes with something unread ends with a reset.
    stream.read_u8().await.is_err()
}

#[tokio::test]
async fn who_floods_makes_room_for_each_who_comes_with_few() {
    let mut port = Port::open(usize::MAX).await;
    let mut flood = port.fill(1).await;
    let mut let_in = Vec::new();
    for last in 2..=5 {
        let_in.push(port.greeted(last).await);
        // The flood goes on, and gets no place.
        assert!(is_closed(&mut port.connect(1).await).await);
    }
    for _ in 0..let_in.len() {
        assert!(is_closed(&mut flood.pop().unwrap()).await, "its youngest go");
    }
    for stream in flood.iter_mut().chain(&mut let_in) {
        stream.write_all(b"?").await.unwrap();
        assert!(is_closed(stream).await, "the others were still open until they were told to go");
    }
}

#[tokio::test]
async fn a_source_that_has_as_many_as_it_may_is_closed_and_keeps_nobody_out() {
    let port = Port::open(3).await;
    let held = [port.greeted(1).await, port.greeted(1).await, port.greeted(1).await];
    for _ in 0..2 * PLACES {
        assert!(is_closed(&mut port.connect(1).await).await);
    }
    drop(port.greeted(2).await);
    drop(held);
}

#[tokio::test]
async fn what_is_open_at_the_end_comes_back_and_the_port_is_free() {
    let port = Port::open(usize::MAX).await;
    let _held = [port.greeted(1).await, port.greeted(2).await];
    port.stop.send(()).unwrap();
    let (open, ended) = port.served.await.unwrap();
    assert!(ended.is_ok());
    assert_eq!(open, 2);
    assert!(TcpStream::connect(port.addr).await.is_err());
}

#[tokio::test]
async fn who_comes_where_all_have_few_waits_until_one_goes() {
    let mut port = Port::open(usize::MAX).await;
    let mut held = Vec::new();
    for last in 1..=u8::try_from(PLACES).unwrap() {
        held.push(port.greeted(last).await);
    }
    port.crowded.wait_for(|crowded| *crowded).await.unwrap();
    assert_eq!(port.sources.make_room(IpAddr::from([203, 0, 113, 1])), Room::None);
    let mut late = port.connect(100).await;
    drop(held.pop());
    assert_eq!(late.read_u8().await.unwrap(), b'!');
}
