//! Sockets that systemd has bound for us (sd_listen_fds(3)).
//!
//! So a server needs no right to take port 443, and a restart loses no connection: those who come meanwhile wait in the socket,
//! which stays. Sockets are told apart by their names, `FileDescriptorName=` of their unit, not by their ports: the unit says where
//! we listen, and nothing has to say it again. What must never happen here: a socket that is there and that nobody listens on,
//! unsaid; see [`Inherited::unclaimed`].

use listenfd::ListenFd;
use rustix::net::sockopt::socket_acceptconn;
use std::{
    env, io,
    net::{TcpListener, UdpSocket},
};

/// Sockets that are taken over at most. A server has one or two for each thing that it speaks.
const MAX_SOCKETS: usize = 64;

/// Sockets that nobody has claimed yet, by name.
#[derive(Debug, Default)]
pub struct Inherited {
    tcp: Vec<(String, TcpListener)>,
    udp: Vec<(String, UdpSocket)>,
}

/// Why sockets that are there cannot be taken over.
#[derive(Debug, thiserror::Error)]
pub enum InheritedError {
    /// No number, or a very large one.
    #[error("LISTEN_FDS={0:?} is no number of sockets that can be taken over ({MAX_SOCKETS} at most)")]
    Count(String),
    /// Something else than a socket that connections or datagrams come to.
    #[error(
        "the socket {name:?} is neither a TCP socket that listens nor a UDP socket; \
         a unit has ListenStream= or ListenDatagram= with a port, and Accept=no"
    )]
    Kind {
        /// The name that its unit gives it.
        name: String,
        /// What the system says.
        source: io::Error,
    },
}

impl Inherited {
    /// Takes over all sockets that were given to this process, and forgets that there were any, so that no program that we start
    /// looks for them. It changes the environment: to be called once, first of all, while there is one thread.
    pub fn take() -> Result<Self, InheritedError> {
        let count = env::var("LISTEN_FDS").unwrap_or_default();
        if !count.is_empty() && !count.parse().is_ok_and(|count: usize| count <= MAX_SOCKETS) {
            return Err(InheritedError::Count(count));
        }
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut sockets = ListenFd::from_env();
        let mut names = names.split(':');
        let mut inherited = Self::default();
        for place in 0..sockets.len() {
            inherited.take_one(&mut sockets, place, names.next().unwrap_or_default().to_owned())?;
        }
        Ok(inherited)
    }

    fn take_one(&mut self, sockets: &mut ListenFd, place: usize, name: String) -> Result<(), InheritedError> {
        // What is no socket of the one kind stays in its place, to be looked at as the other.
        if let Ok(socket) = sockets.take_udp_socket(place) {
            self.udp.extend(socket.map(|socket| (name, socket)));
            return Ok(());
        }
        let socket = sockets.take_tcp_listener(place).and_then(|socket| match socket {
            Some(socket) if !socket_acceptconn(&socket)? => Err(io::Error::other("it does not listen")),
            socket => Ok(socket),
        });
        match socket {
            Ok(socket) => {
                self.tcp.extend(socket.map(|socket| (name, socket)));
                Ok(())
            }
            Err(source) => Err(InheritedError::Kind { name, source }),
        }
    }

    /// The listening sockets with this name, in the order of their unit.
    pub fn tcp(&mut self, name: &str) -> Vec<TcpListener> {
        self.tcp.extract_if(.., |(given, _)| given == name).map(|(_, socket)| socket).collect()
    }

    /// The sockets for datagrams with this name, in the order of their unit.
    pub fn udp(&mut self, name: &str) -> Vec<UdpSocket> {
        self.udp.extract_if(.., |(given, _)| given == name).map(|(_, socket)| socket).collect()
    }

    /// The names of those that nobody has claimed: connections to them would wait for ever.
    pub fn unclaimed(&self) -> Vec<&str> {
        let tcp = self.tcp.iter().map(|(name, _)| name.as_str());
        tcp.chain(self.udp.iter().map(|(name, _)| name.as_str())).collect()
    }
}
