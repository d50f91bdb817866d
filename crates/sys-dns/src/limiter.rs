//! How many answers of a kind a network is sent by UDP while nothing proves that it asked for them, and how many signatures it may have
//! made over names that it thought of.
//!
//! Whoever forges an address to have answers sent there gets so many, and from then on answers without records, which say that the question is to come by TCP; a
//! real client asks so, or shows his cookie. A fixed table: networks that meet in a place take it from each other, which lets more
//! through, never less. No locks.

use crate::siphash::SipKey;
use std::{
    net::IpAddr,
    sync::atomic::{AtomicU64, Ordering},
};
use sys_net::Network;

/// Places of the table: half a mebibyte. A flood from more networks than this is not one that a limit per network stops.
const PLACES: usize = 1 << 16;

/// What an answer is, so that a flood of one kind does not take the others along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// Records.
    Records,
    /// That there are none, or no such name.
    Nothing,
    /// That it was no question of ours.
    Error,
    /// None: a signature that was made for a datagram, whoever really sent it.
    SignedDatagram,
    /// None: a signature that was made for a stream, apart from the other so that nobody uses it up by a forged address.
    SignedStream,
}

/// The answers of the last second by network and kind.
#[derive(Debug)]
pub(crate) struct Limiter {
    places: Box<[AtomicU64]>,
    key: SipKey,
    per_s: u16,
}

impl Limiter {
    /// A table for `per_s` answers a second, for each network and kind.
    pub(crate) fn new(key: [u8; 16], per_s: u16) -> Self {
        Self { places: (0..PLACES).map(|_| AtomicU64::new(0)).collect(), key: SipKey::new(key), per_s }
    }

    /// Counts an answer. False where there were too many already.
    pub(crate) fn allows(&self, source: IpAddr, kind: Kind, now_unix_s: i64) -> bool {
        let hash = self.key.hash(&network(source, kind));
        let Some(place) = usize::try_from(hash).ok().and_then(|hash| self.places.get(hash % PLACES)) else {
            return true;
        };
        // The upper half of the hash tells whose place it is; PLACES took of the lower.
        let owner = hash >> 40;
        let counted = place.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |kept| {
            Place::from_bits(kept).counting(owner, now_unix_s, self.per_s).map(Place::bits)
        });
        counted.is_ok()
    }
}

/// Whose answers are counted (24 bits), up to which second (24 bits, which come again after half a year), how many (16 bits).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    owner: u64,
    second: u64,
    sent: u16,
}

const LOW_24: u64 = 0xff_ffff;

impl Place {
    fn from_bits(bits: u64) -> Self {
        let [_, _, _, _, _, _, a, b] = bits.to_be_bytes();
        Self { owner: bits >> 40, second: (bits >> 16) & LOW_24, sent: u16::from_be_bytes([a, b]) }
    }

    fn bits(self) -> u64 {
        (self.owner << 40) | (self.second << 16) | u64::from(self.sent)
    }

    /// With one answer more, if that is not too many for this second.
    fn counting(self, owner: u64, now_unix_s: i64, per_s: u16) -> Option<Self> {
        let second = now_unix_s.cast_unsigned() & LOW_24;
        let is_same = self.owner == owner && self.second == second;
        let sent = if is_same { self.sent } else { 0 };
        (sent < per_s).then(|| Self { owner, second, sent: sent + 1 })
    }
}

/// What a forger aims at (the source that an address belongs to, of IPv4 all the /24 around it) and the kind.
fn network(source: IpAddr, kind: Kind) -> [u8; 9] {
    match Network::of(source) {
        Network::V4([a, b, c, _]) => [4, a, b, c, 0, 0, 0, 0, kind as u8],
        Network::V6([a, b, c, d, e, f, g]) => [6, a, b, c, d, e, f, g, kind as u8],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_network_is_sent_so_many_answers_of_a_kind_each_second() {
        let limiter = Limiter::new([3; 16], 2);
        let sent = |source: &str, kind, now| limiter.allows(ip(source), kind, now);
        for now in [1_000, 1_001, 0] {
            assert!(sent("192.0.2.1", Kind::Records, now) && sent("192.0.2.77", Kind::Records, now));
            assert!(!sent("192.0.2.3", Kind::Records, now) && !sent("::ffff:192.0.2.3", Kind::Records, now));
            assert!(sent("192.0.2.3", Kind::Nothing, now), "another kind");
            assert!(sent("192.0.3.3", Kind::Records, now), "another network");
        }
        assert!(sent("2001:db8::1", Kind::Records, 7) && sent("2001:db8:0:ff::1", Kind::Records, 7));
        assert!(!sent("2001:db8:0:7::1", Kind::Records, 7) && sent("2001:db8:0:100::1", Kind::Records, 7));
    }

    #[test]
    fn a_place_is_written_as_it_is_read() {
        for place in [Place { owner: LOW_24, second: 0, sent: 1 }, Place { owner: 1, second: LOW_24, sent: u16::MAX }] {
            assert_eq!(Place::from_bits(place.bits()), place);
        }
    }
}
