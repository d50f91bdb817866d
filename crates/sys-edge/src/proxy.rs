//! Who is behind a proxy: the PROXY protocol, version 2.
//!
//! A proxy in front of us (a load balancer, HAProxy) says in a header before the first byte of TLS whose connection it passes on. Whoever
//! can send that header can be anybody, so it is read from networks that were named in the configuration and from no others:
//! from these it must be there, and from others it is never looked for, so that there it is garbage in place of a handshake. What
//! must never happen here: a guess whether there is a header, or a byte read beyond its end. The bytes are read in [`header`].

mod header;
mod network;

use header::{HEAD_BYTES, HeaderError, length};
pub(crate) use header::{Named, parse};
pub use network::{ProxySources, ProxySourcesError};

use std::{io, net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    time::timeout,
};

/// The two ends of a connection, as they count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ends {
    /// Who connected.
    pub(crate) peer: SocketAddr,
    /// What he connected to.
    pub(crate) local: SocketAddr,
}

/// Why a connection from a proxy closes before anything was served on it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProxyError {
    /// It began with something else, or with a header that is wrong.
    #[error("a connection from a proxy's network does not begin with a header of the PROXY protocol that can be read")]
    Header(#[from] HeaderError),
    /// It ended in the header.
    #[error("a connection from a proxy's network ended in its PROXY header")]
    Ended(#[from] io::Error),
    /// The header took too long.
    #[error("a connection from a proxy's network sent no whole PROXY header in time")]
    Late,
}

/// Reads the header of a proxy, no byte more, and gives back the ends that it names: those of the connection itself where
/// the proxy speaks for itself, as it does to see whether we are there.
pub(crate) async fn read<T: AsyncRead + Unpin>(
    stream: &mut T,
    connected: Ends,
    time: Duration,
) -> Result<Ends, ProxyError> {
    let header = timeout(time, whole(stream)).await.map_err(|_| ProxyError::Late)??;
    Ok(match parse(&header)? {
        Named::Ends { source, destination } => Ends { peer: source, local: destination },
        Named::Connection => connected,
    })
}

async fn whole<T: AsyncRead + Unpin>(stream: &mut T) -> Result<Vec<u8>, ProxyError> {
    let mut head = [0; HEAD_BYTES];
    stream.read_exact(&mut head).await?;
    let mut header = head.to_vec();
    let mut rest = vec![0; length(&head)?];
    stream.read_exact(&mut rest).await?;
    header.append(&mut rest);
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\x7f\0\0\x01\x30\x39\x01\xbb";

    fn ends(peer: &str, local: &str) -> Ends {
        Ends { peer: peer.parse().unwrap(), local: local.parse().unwrap() }
    }

    #[tokio::test]
    async fn the_header_is_read_and_no_byte_behind_it() {
        let connected = ends("10.0.0.1:1", "10.0.0.2:443");
        let bytes = [HEADER, b"hello"].concat();
        let mut stream = bytes.as_slice();
        let read = read(&mut stream, connected, Duration::from_secs(1)).await.unwrap();
        assert_eq!(read, ends("192.0.2.7:12345", "127.0.0.1:443"));
        assert_eq!(stream, b"hello");
    }

    #[tokio::test]
    async fn a_proxy_that_speaks_for_itself_is_who_it_is() {
        let connected = ends("10.0.0.1:1", "10.0.0.2:443");
        let mut local = HEADER.to_vec();
        local[12] = 0x20;
        let read = read(&mut local.as_slice(), connected, Duration::from_secs(1)).await.unwrap();
        assert_eq!(read, connected);
    }

    #[tokio::test(start_paused = true)]
    async fn who_sends_half_a_header_is_not_waited_for_and_who_ends_in_it_is_refused() {
        let connected = ends("10.0.0.1:1", "10.0.0.2:443");
        for cut in 0..HEADER.len() {
            let (mut stream, mut peer) = tokio::io::duplex(64);
            tokio::io::AsyncWriteExt::write_all(&mut peer, &HEADER[..cut]).await.unwrap();
            let late = read(&mut stream, connected, Duration::from_secs(1)).await;
            assert!(matches!(late, Err(ProxyError::Late)), "{cut}");
            let ended = read(&mut &HEADER[..cut], connected, Duration::from_secs(1)).await;
            assert!(matches!(ended, Err(ProxyError::Ended(_))), "{cut}");
        }
    }
}
