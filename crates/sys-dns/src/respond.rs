//! From the bytes of a message to those of its answer, or to silence: what UDP, TCP, TLS and HTTPS have in common.
//!
//! The message is read (`query.rs`), a zone is asked, and around what it says stands what the transport wants: cookies, the
//! limits of answers that nothing proves to be asked for, padding where the wire is encrypted. What must never happen here: an answer by UDP that is longer
//! than the sender takes or than [`MOST_FACTOR`] allows, or an answer to an answer.

use crate::{
    cookie::{COOKIE_BYTES, Cookies},
    limiter::{Kind, Limiter},
    query::{Code, Edns, HEADER_BYTES, Query, Refused, Short, parse},
};
use std::{fmt, net::IpAddr, sync::Arc, time::Duration};

/// Seconds since 1970, from whoever knows them.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// Bytes of an answer by UDP for each byte of its question, as long as the sender has not proven his address by a cookie. A longer answer is
/// cut, which sends him to TCP. Twelve lets through what signed answers about one name usually are.
pub const MOST_FACTOR: usize = 12;
/// Answers of a kind a second for a network that has not proven its addresses, where nothing else is configured.
pub const ANSWERS_PER_S: u16 = 200;
/// The longest message there is (RFC 1035 section 4.2.2).
const MOST_BYTES: usize = 65_535;
/// Answers on encrypted wires are as long as a multiple of this (RFC 8467 section 4.1).
const PADDED_TO_BYTES: usize = 468;
const OPTION_HEAD_BYTES: usize = 4;
const OPTION_COOKIE: u16 = 10;
const OPTION_KEEPALIVE: u16 = 11;
const OPTION_PADDING: u16 = 12;
const KEEPALIVE_UNIT_MS: u128 = 100;

/// Who answers a question: the zones that are served.
pub trait Authority: Send + Sync + 'static {
    /// Writes the answer into `out`, which is empty: header, the question as it was sent, records, and where the question has EDNS an OPT without options as
    /// the last record. What takes more than `most_bytes` is replaced by [`Query::write_empty`], truncated. Before it makes a signature over
    /// a name that the sender thought of, it asks `may_sign`, which counts what his network has had made.
    fn answer(&self, query: &Query<'_>, most_bytes: usize, may_sign: &dyn Fn() -> bool, out: &mut Vec<u8>) -> Answered;
}

/// What an authority says of its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Answered {
    /// How long all of it may be kept: the smallest TTL of its records, 0 where there are none.
    pub smallest_ttl_s: u32,
}

/// The way that a message came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// A datagram, whose source is proven by nothing but a cookie.
    Udp,
    /// A stream that anybody on the way can read.
    Tcp,
    /// A stream under TLS (RFC 7858).
    Tls,
    /// A request (RFC 8484).
    Https,
}

/// By which way and from whom a message came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Via {
    /// The way.
    pub transport: Transport,
    /// The address that it came from.
    pub source: IpAddr,
}

/// What there is to be set. Every value is legal.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Answers of a kind a second by UDP to a network that has not proven its addresses, and signatures a second that a network may have made
    /// over names of its own invention by each way; `None` for as many as there are questions.
    pub answers_per_s: Option<u16>,
    /// How long a stream may stay idle, as who asks is told (RFC 7828).
    pub idle_timeout: Duration,
}

impl Default for Rules {
    fn default() -> Self {
        Self { answers_per_s: Some(ANSWERS_PER_S), idle_timeout: Duration::from_secs(10) }
    }
}

/// Answers messages. Clones share it all.
#[derive(Clone)]
pub struct Responder(Arc<Shared>);

struct Shared {
    authority: Box<dyn Authority>,
    cookies: Cookies,
    limiter: Option<Limiter>,
    clock: Clock,
    keepalive: [u8; 2],
}

impl Responder {
    /// Answers with what `authority` says. `secrets` are drawn anew at each start: of cookies, and of the table of networks.
    pub fn new(authority: impl Authority, rules: Rules, clock: Clock, secrets: [[u8; 16]; 2]) -> Self {
        let [cookie_key, limiter_key] = secrets;
        let units = rules.idle_timeout.as_millis() / KEEPALIVE_UNIT_MS;
        Self(Arc::new(Shared {
            authority: Box::new(authority),
            cookies: Cookies::new(cookie_key),
            limiter: rules.answers_per_s.map(|per_s| Limiter::new(limiter_key, per_s)),
            clock,
            keepalive: u16::try_from(units).unwrap_or(u16::MAX).to_be_bytes(),
        }))
    }

    /// Writes the answer to `message` into `out`, whose capacity is used again; `None` and nothing where it is not to be answered.
    pub fn answer(&self, message: &[u8], via: Via, out: &mut Vec<u8>) -> Option<Answered> {
        out.clear();
        let now_unix_s = (self.0.clock)();
        match parse(message) {
            Ok(query) => Some(self.0.answer_query(&query, message.len(), via, now_unix_s, out)),
            Err(Refused::Short(short)) => self.0.answer_short(short, via, now_unix_s, out),
            Err(Refused::Silence) => None,
        }
    }
}

impl fmt::Debug for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Responder").finish_non_exhaustive()
    }
}

impl Shared {
    fn answer_query(
        &self,
        query: &Query<'_>,
        asked_bytes: usize,
        via: Via,
        now_unix_s: i64,
        out: &mut Vec<u8>,
    ) -> Answered {
        let is_proven = self.is_proven(query.edns.as_ref(), via, now_unix_s);
        let most_bytes = match (via.transport, is_proven) {
            (Transport::Udp, true) => usize::from(query.most_udp_bytes()),
            (Transport::Udp, false) => usize::from(query.most_udp_bytes()).min(asked_bytes * MOST_FACTOR),
            _ => MOST_BYTES,
        };
        let room = options_bytes(query.edns.as_ref(), via.transport);
        let signed = if via.transport == Transport::Udp { Kind::SignedDatagram } else { Kind::SignedStream };
        let may_sign = || self.allows(via.source, signed, now_unix_s);
        let mut answered = self.authority.answer(query, most_bytes.saturating_sub(room), &may_sign, out);
        if !is_proven && !self.allows(via.source, kind_of(out), now_unix_s) {
            out.clear();
            query.write_empty(Code::NoError, false, true, out);
            answered = Answered::default();
        }
        self.put_options(query.edns.as_ref(), via, now_unix_s, out);
        answered
    }

    fn answer_short(&self, short: Short<'_>, via: Via, now_unix_s: i64, out: &mut Vec<u8>) -> Option<Answered> {
        let is_proven = self.is_proven(short.edns.as_ref(), via, now_unix_s);
        if !is_proven && !self.allows(via.source, Kind::Error, now_unix_s) {
            return None;
        }
        short.write(out);
        self.put_options(short.edns.as_ref(), via, now_unix_s, out);
        Some(Answered::default())
    }

    /// Whether the sender is known to be where he says: by an answer of ours that he has seen, or by the stream that he holds.
    fn is_proven(&self, edns: Option<&Edns<'_>>, via: Via, now_unix_s: i64) -> bool {
        via.transport != Transport::Udp
            || edns
                .and_then(|edns| edns.cookie)
                .is_some_and(|cookie| self.cookies.is_ours(&cookie, via.source, now_unix_s))
    }

    fn allows(&self, source: IpAddr, kind: Kind, now_unix_s: i64) -> bool {
        self.limiter.as_ref().is_none_or(|limiter| limiter.allows(source, kind, now_unix_s))
    }

    /// Puts options behind the OPT at the end of `out`.
    fn put_options(&self, edns: Option<&Edns<'_>>, via: Via, now_unix_s: i64, out: &mut Vec<u8>) {
        let Some(edns) = edns else { return };
        let start = out.len();
        if let Some(cookie) = edns.cookie {
            put_option(OPTION_COOKIE, &self.cookies.give(cookie.client, via.source, now_unix_s), out);
        }
        if edns.asks_keepalive && matches!(via.transport, Transport::Tcp | Transport::Tls) {
            put_option(OPTION_KEEPALIVE, &self.keepalive, out);
        }
        if matches!(via.transport, Transport::Tls | Transport::Https) {
            put_padding(out);
        }
        // The length of the OPT's options stands right before them.
        let length = u16::try_from(out.len() - start).unwrap_or(u16::MAX).to_be_bytes();
        if let Some(place) = start.checked_sub(length.len()).and_then(|at| out.get_mut(at..start)) {
            place.copy_from_slice(&length);
        }
    }
}

/// What the options will take at most that stand behind an answer by this way, without padding, which keeps to the end of the room.
fn options_bytes(edns: Option<&Edns<'_>>, transport: Transport) -> usize {
    let Some(edns) = edns else { return 0 };
    let cookie = if edns.cookie.is_some() { OPTION_HEAD_BYTES + COOKIE_BYTES } else { 0 };
    let keepalive = if transport == Transport::Udp { 0 } else { OPTION_HEAD_BYTES + 2 };
    cookie + keepalive
}

fn put_option(option: u16, value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&option.to_be_bytes());
    out.extend_from_slice(&u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend_from_slice(value);
}

/// Pads to the next multiple of [`PADDED_TO_BYTES`], or to the longest message where that comes before.
fn put_padding(out: &mut Vec<u8>) {
    let bare = out.len() + OPTION_HEAD_BYTES;
    let padded = bare.next_multiple_of(PADDED_TO_BYTES).min(MOST_BYTES);
    let Some(padding) = padded.checked_sub(bare).and_then(|padding| u16::try_from(padding).ok()) else { return };
    out.extend_from_slice(&OPTION_PADDING.to_be_bytes());
    out.extend_from_slice(&padding.to_be_bytes());
    out.resize(padded, 0);
}

/// What kind of answer was written.
fn kind_of(answer: &[u8]) -> Kind {
    match answer.first_chunk::<HEADER_BYTES>() {
        Some([_, _, _, flags, _, _, answers @ .., _, _, _, _]) if flags & 0x0f == 0 => {
            if *answers == [0, 0] {
                Kind::Nothing
            } else {
                Kind::Records
            }
        }
        Some([_, _, _, flags, ..]) if flags & 0x0f == Code::NxDomain as u8 => Kind::Nothing,
        _ => Kind::Error,
    }
}

#[cfg(test)]
pub(crate) mod tests;
