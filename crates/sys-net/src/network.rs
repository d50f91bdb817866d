//! What counts as one source.

use std::net::IpAddr;

/// What counts as one source: an IPv4 address, or the /56 of an IPv6 address.
///
/// A limit by source is worth what the next source costs. A home is given a /56 or more, a company a /48 (RIPE-690 sections 4.2.1 and
/// 4.2.2, RFC 6177 section 2): by the /64, a single customer would be 256 sources at least. In mobile networks each telephone has a /64 of its own
/// (RFC 6459 section 5.2, RIPE-690 section 4.2.4), so that up to 256 strangers are one source there: no more than share an IPv4 address behind the
/// translation of such a network, for which every limit has to leave room anyway. Who has a /48 still is 256 sources, which
/// [`Network::neighbourhood`] puts together where that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Network {
    /// The address.
    V4([u8; 4]),
    /// The first 56 bits.
    V6([u8; 7]),
}

/// The networks around one, which may be in one hand and need not be: the /24 of an IPv4 address, which is the longest prefix that is routed on
/// its own, or the /48 of an IPv6 address, which is that and the most that one customer is usually given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Neighbourhood {
    /// The first 24 bits.
    V4([u8; 3]),
    /// The first 48 bits.
    V6([u8; 6]),
}

impl Network {
    /// The network of an address. An IPv4 address in the form of an IPv6 one is what it stands for.
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.octets()),
            IpAddr::V6(address) => {
                let [a, b, c, d, e, f, g, ..] = address.octets();
                Self::V6([a, b, c, d, e, f, g])
            }
        }
    }

    /// What is around it.
    pub fn neighbourhood(self) -> Neighbourhood {
        match self {
            Self::V4([a, b, c, _]) => Neighbourhood::V4([a, b, c]),
            Self::V6([a, b, c, d, e, f, _]) => Neighbourhood::V6([a, b, c, d, e, f]),
        }
    }

    /// Its bits, four bytes or seven.
    pub fn octets(&self) -> &[u8] {
        match self {
            Self::V4(octets) => octets,
            Self::V6(octets) => octets,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Network {
        Network::of(text.parse().expect("an address"))
    }

    #[test]
    fn what_one_customer_has_is_one_source_however_it_is_written() {
        for (one, other, is_one, is_near) in [
            ("192.0.2.1", "::ffff:192.0.2.1", true, true),
            ("192.0.2.1", "::ffff:c000:201", true, true),
            ("192.0.2.1", "192.0.2.2", false, true),
            ("192.0.2.1", "::192.0.2.1", false, false),
            ("192.0.2.1", "192.0.3.1", false, false),
            ("2001:db8::1", "2001:db8:0:ff:ffff:ffff:ffff:ffff", true, true),
            ("2001:db8::1", "2001:db8:0:100::1", false, true),
            ("2001:db8::1", "2001:db8:0:ff00::1", false, true),
            ("2001:db8::1", "2001:db8:1::1", false, false),
        ] {
            assert_eq!(of(one) == of(other), is_one, "{one} {other}");
            assert_eq!(of(one).neighbourhood() == of(other).neighbourhood(), is_near, "{one} {other}");
        }
    }

    #[test]
    fn its_octets_tell_it_from_any_other() {
        assert_eq!(of("192.0.2.1").octets(), [192, 0, 2, 1]);
        assert_eq!(of("2001:db8:1:2345::").octets(), [0x20, 1, 0x0d, 0xb8, 0, 1, 0x23]);
    }
}
