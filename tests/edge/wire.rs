//! A wire between clients and a server, on which all bytes of both directions are written down.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

/// A port that is there before the server behind it.
pub(crate) struct Wire {
    listener: TcpListener,
}

/// What came over a wire: one piece for each direction of each connection, so that no two are mixed.
#[derive(Clone, Default)]
pub(crate) struct Capture(Arc<Mutex<Vec<Vec<u8>>>>);

impl Wire {
    pub(crate) async fn new() -> Self {
        Self { listener: TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap() }
    }

    pub(crate) fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }

    /// Leads to this server from now on.
    pub(crate) fn lead_to(self, server: SocketAddr) -> Capture {
        let capture = Capture::default();
        let written_down = capture.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = self.listener.accept().await {
                let Ok(server) = TcpStream::connect(server).await else { continue };
                let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
                tokio::spawn(copy(from_client, to_server, written_down.clone()));
                tokio::spawn(copy(from_server, to_client, written_down.clone()));
            }
        });
        capture
    }
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, capture: Capture) {
    let place = capture.open();
    let mut buffer = vec![0; 16_384];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        // Before it goes on, so that nobody has what is not written down.
        capture.write(place, &buffer[..count]);
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}

impl Capture {
    fn open(&self) -> usize {
        let mut pieces = self.0.lock().unwrap();
        pieces.push(Vec::new());
        pieces.len() - 1
    }

    fn write(&self, place: usize, bytes: &[u8]) {
        self.0.lock().unwrap()[place].extend_from_slice(bytes);
    }

    /// Whether this text stands anywhere in it, whatever the case.
    pub(crate) fn shows(&self, text: &str) -> bool {
        let pieces = self.0.lock().unwrap();
        pieces.iter().any(|piece| piece.windows(text.len()).any(|window| window.eq_ignore_ascii_case(text.as_bytes())))
    }

    /// Forgets what came so far.
    pub(crate) fn forget(&self) {
        self.0.lock().unwrap().iter_mut().for_each(Vec::clear);
    }
}

/// The control of all tests here: a text that crosses in the clear is seen, also where it comes in two parts.
#[tokio::test]
async fn a_capture_shows_what_crosses_in_the_clear() {
    let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let wire = Wire::new().await;
    let port = wire.port();
    let capture = wire.lead_to(server.local_addr().unwrap());
    let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
    let (mut served, _) = server.accept().await.unwrap();
    for part in ["hello ORG.ex", "ample"] {
        say(&mut client, &mut served, part).await;
    }
    say(&mut served, &mut client, "answer").await;
    assert!(capture.shows("org.example") && capture.shows("answer"));
    assert!(!capture.shows("other.example"));
    capture.forget();
    assert!(!capture.shows("org.example"));
}

async fn say(from: &mut (impl AsyncWrite + Unpin), to: &mut (impl AsyncRead + Unpin), text: &str) {
    from.write_all(text.as_bytes()).await.unwrap();
    let mut heard = vec![0; text.len()];
    to.read_exact(&mut heard).await.unwrap();
    assert_eq!(heard, text.as_bytes());
}
