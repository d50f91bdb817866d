//! What one listener and one connection may hold and how long they may take.

use crate::tasks::Tasks;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::TokioTimer;
use std::time::Duration;

/// Bounds of a listener. Every value is legal; the defaults suit one small server.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections open at once. Who comes then takes the place of one whose source has many more than his; where none has, he waits in
    /// the kernel's backlog until one closes, and those that are idle close early.
    pub connections: usize,
    /// Connections from one source (see [`sys_net::Network`]). Further ones close at once.
    pub connections_per_source: usize,
    /// From accepting a connection to its first whole request head, and for each further HTTP/1.1 head. Also bounds how
    /// long a client may take to say which protocol it speaks, and how long an idle one may take to say goodbye.
    pub header_timeout: Duration,
    /// From accepting a connection to the end of its TLS handshake, the header of a proxy included. A handshake that would have to
    /// wait for half of it until it is begun with is turned away when it arrives.
    pub handshake_timeout: Duration,
    /// A connection without a request under way closes after this time, and before twice this time; with HTTP/1.1, after a request
    /// that came with a body, already after [`Limits::header_timeout`].
    pub idle_timeout: Duration,
    /// The same while others wait for a place.
    pub crowded_idle_timeout: Duration,
    /// A connection that is older is asked to begin anew, so that nothing that it holds is held for ever.
    pub connection_age: Duration,
    /// How long a peer may leave unread what he asked for, by not reading or by HTTP/2's flow control, before he is cut. He is
    /// judged by [`Limits::least_bytes_per_s`] over this time.
    pub stall_timeout: Duration,
    /// What a peer who is waited for takes at least.
    pub least_bytes_per_s: u64,
    /// How long a request may have to wait until it is begun with. One that would wait longer is turned away when it arrives. Short
    /// beside the time that callers wait for an answer, and long enough for bursts.
    pub longest_wait: Duration,
    /// From the shutdown signal to the hard close of connections with requests under way.
    pub drain_timeout: Duration,
    /// Streams that one HTTP/2 connection may have open.
    pub concurrent_streams: u32,
    /// Bytes of a request's body that one HTTP/2 stream may send ahead of who reads it; a connection twice as many.
    pub stream_window_bytes: u32,
    /// Bytes of a request's header list after HPACK (RFC 9113 section 6.5.2).
    pub header_list_bytes: u32,
    /// Bytes that an HTTP/1.1 connection buffers, which bounds its request heads. At least 8,192.
    pub http1_buffer_bytes: usize,
    /// Header lines of an HTTP/1.1 request.
    pub http1_headers: usize,
    /// How often a silent HTTP/2 peer is asked for a sign of life, and how long it may take to give one.
    pub ping_interval: Duration,
    /// See [`Limits::ping_interval`].
    pub ping_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1_024,
            connections_per_source: 512,
            header_timeout: Duration::from_secs(10),
            handshake_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(120),
            crowded_idle_timeout: Duration::from_secs(1),
            connection_age: Duration::from_secs(3_600),
            stall_timeout: Duration::from_secs(20),
            least_bytes_per_s: 512,
            longest_wait: Duration::from_millis(100),
            drain_timeout: Duration::from_secs(10),
            concurrent_streams: 128,
            stream_window_bytes: 128 * 1_024,
            header_list_bytes: 16 * 1_024,
            http1_buffer_bytes: 64 * 1_024,
            http1_headers: 64,
            ping_interval: Duration::from_secs(30),
            ping_timeout: Duration::from_secs(10),
        }
    }
}

/// The least that hyper accepts as an HTTP/1.1 buffer; less would panic.
const HTTP1_BUFFER_FLOOR_BYTES: usize = 8_192;

/// How many times its streams a peer may have opened and reset before they were accepted: the cure for "rapid reset"
/// (CVE-2023-44487). An honest client whose callers give up while it is not read resets all of its streams at once, and some
/// that it opened in their place.
const PENDING_RESETS_PER_STREAM: u32 = 2;

impl Limits {
    /// What speaks HTTP/1.1 on one connection within these limits.
    pub(crate) fn http1(&self) -> http1::Builder {
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(self.header_timeout)
            .max_buf_size(self.http1_buffer_bytes.max(HTTP1_BUFFER_FLOOR_BYTES))
            .max_headers(self.http1_headers);
        builder
    }

    /// What speaks HTTP/2 on one connection within these limits.
    pub(crate) fn http2(&self, tasks: Tasks) -> http2::Builder<Tasks> {
        let resets = self.concurrent_streams.saturating_mul(PENDING_RESETS_PER_STREAM);
        let mut builder = http2::Builder::new(tasks);
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(self.concurrent_streams)
            .max_pending_accept_reset_streams(usize::try_from(resets).unwrap_or(usize::MAX))
            .max_header_list_size(self.header_list_bytes)
            .initial_stream_window_size(self.stream_window_bytes)
            .initial_connection_window_size(self.stream_window_bytes.saturating_mul(2))
            .keep_alive_interval(self.ping_interval)
            .keep_alive_timeout(self.ping_timeout);
        builder
    }
}
