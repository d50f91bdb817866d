//! Sockets that were bound by whoever started us: this test starts itself as systemd would.

#![allow(clippy::expect_used, reason = "clippy.toml exempts test functions, not what they share")]

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use std::{
    convert::Infallible,
    env,
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket},
    os::fd::OwnedFd,
    process::{Child, Command, Output, Stdio},
    time::Duration,
};
use sys_edge::{
    Bind, Listener,
    inherited::{Inherited, InheritedError},
};
use tower::service_fn;

/// Longer than anything here takes.
const NEVER: Duration = Duration::from_secs(20);

/// Starts the test `the_server` of this program with its first two sockets behind the standard ones, as they are given to
/// services.
fn start(first: OwnedFd, second: OwnedFd, count: &str, names: &str) -> Child {
    let program = env::current_exe().expect("this program");
    // Standard error comes back as it was before it was used to carry a socket.
    let script = "exec 3<&0 4<&2 0</dev/null 2>&1; LISTEN_PID=$$ exec \"$0\" --exact the_server --ignored --nocapture";
    Command::new("sh")
        .args(["-c", script])
        .arg(program)
        .env("LISTEN_FDS", count)
        .env("LISTEN_FDNAMES", names)
        .stdin(Stdio::from(first))
        .stdout(Stdio::piped())
        .stderr(Stdio::from(second))
        .spawn()
        .expect("a shell")
}

/// What it said, and how it ended.
fn ended(child: Child) -> (String, Output) {
    let output = child.wait_with_output().expect("it ends");
    (String::from_utf8_lossy(&output.stdout).into_owned(), output)
}

#[test]
#[ignore = "is started by the tests below, with sockets"]
fn the_server() {
    let mut inherited = match Inherited::take() {
        Ok(inherited) => inherited,
        Err(InheritedError::Kind { name, .. }) => return println!("refused: {name}"),
        Err(error) => return println!("refused: {error}"),
    };
    assert!(env::var_os("LISTEN_FDS").is_none() && env::var_os("LISTEN_PID").is_none());
    let mut https = inherited.tcp("https");
    println!("https {} dns {} left {:?}", https.len(), inherited.udp("dns").len(), inherited.unclaimed());
    let Some(socket) = https.pop() else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let bind = Bind::at((Ipv4Addr::LOCALHOST, 1).into());
        let listener = Listener::over(socket, bind).expect("a socket of loopback");
        let (served, has_served) = tokio::sync::watch::channel(false);
        let service = service_fn(move |_: Request<Incoming>| {
            let _ = served.send(true);
            async { Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"served")))) }
        });
        let mut has_served = has_served;
        let stop = async move { drop(has_served.wait_for(|served| *served).await) };
        listener.serve(service, stop).await.expect("it serves");
    });
}

fn listening() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port")
}

fn datagrams() -> OwnedFd {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port").into()
}

#[test]
fn who_connects_before_we_are_there_is_served_on_the_socket_that_was_bound_for_us() {
    let socket = listening();
    let mut early = TcpStream::connect(socket.local_addr().expect("an address")).expect("the socket listens");
    early.set_read_timeout(Some(NEVER)).expect("a time");
    early.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").expect("a request");
    let child = start(socket.into(), datagrams(), "2", "https:dns");
    let mut answer = String::new();
    early.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("served"), "{answer}");
    let (said, output) = ended(child);
    assert!(output.status.success() && said.contains("https 1 dns 1 left []"), "{said}");
}

#[test]
fn a_socket_that_nobody_claims_is_told() {
    let (said, _) = ended(start(listening().into(), datagrams(), "2", "http:quic"));
    assert!(said.contains("https 0 dns 0 left [\"http\", \"quic\"]"), "{said}");
    let (said, _) = ended(start(listening().into(), datagrams(), "1", "http:quic"));
    assert!(said.contains("left [\"http\"]"), "{said}");
}

#[test]
fn what_is_no_socket_to_listen_on_is_refused() {
    let socket = listening();
    let connected = TcpStream::connect(socket.local_addr().expect("an address")).expect("it listens");
    let (said, _) = ended(start(connected.into(), datagrams(), "2", "https:dns"));
    assert!(said.contains("refused: https"), "{said}");
    let file = std::fs::File::open("/dev/null").expect("a file");
    let (said, _) = ended(start(file.into(), datagrams(), "2", "https:dns"));
    assert!(said.contains("refused: https"), "{said}");
    for count in ["65", "-1", "many"] {
        let (said, _) = ended(start(listening().into(), datagrams(), count, "https:dns"));
        assert!(said.contains(&format!("refused: LISTEN_FDS=\"{count}\"")), "{said}");
    }
}
