//! Cookies (RFC 7873) in the form that servers of several makers share (RFC 9018): who sends one back has seen an answer of ours, so
//! that his address is not forged.
//!
//! `cookie = version 1 | reserved (3) | timestamp (4) | SipHash-2-4(secret, client cookie | version | reserved | timestamp | address)`. A secret
//! serves the cookies of one day, told by their timestamps; `secret = SipHash-2-4(root, day | 0) | SipHash-2-4(root, day | 1)`, so that secrets change
//! without anything kept or locked. The root is drawn when a server starts: cookies of the time before are then as good as none, and their
//! holders are given new ones.

use crate::{query::Cookie, siphash::SipKey};
use std::net::IpAddr;

/// A server's part of a cookie.
pub(crate) const SERVER_COOKIE_BYTES: usize = 16;
/// Both parts, as they stand in an answer.
pub(crate) const COOKIE_BYTES: usize = 8 + SERVER_COOKIE_BYTES;

const VERSION: u8 = 1;
const HOUR_S: i64 = 3_600;
/// How far ahead of ours the clock may be that wrote a cookie (RFC 9018 section 4.3).
const MOST_AHEAD_S: i64 = 300;
const SECRET_DAYS_S: u32 = 86_400;

/// Makes cookies and knows them again. Clones know each other's.
#[derive(Debug, Clone)]
pub(crate) struct Cookies {
    root: SipKey,
}

impl Cookies {
    pub(crate) fn new(root: [u8; 16]) -> Self {
        Self { root: SipKey::new(root) }
    }

    /// Whether this cookie was given to this address by us, within the last hour.
    pub(crate) fn is_ours(&self, cookie: &Cookie<'_>, source: IpAddr, now_unix_s: i64) -> bool {
        let Some((&[version, _, _, _, a, b, c, d], hash)) = cookie.server.split_first_chunk() else { return false };
        let written_s = u32::from_be_bytes([a, b, c, d]);
        // By serial numbers (RFC 1982), which 2106 does not disturb.
        let age_s = i64::from(wrapped(now_unix_s).wrapping_sub(written_s).cast_signed());
        let is_of_now = (-MOST_AHEAD_S..=HOUR_S).contains(&age_s);
        let Some(reserved) = cookie.server.get(1..4) else { return false };
        version == VERSION
            && reserved == [0; 3]
            && is_of_now
            && aws_lc_rs::constant_time::verify_slices_are_equal(hash, &self.hash(cookie.client, source, written_s))
                .is_ok()
    }

    /// The whole cookie for the holder of `client` at this address. A new one each time, which is allowed and is less to decide.
    pub(crate) fn give(&self, client: [u8; 8], source: IpAddr, now_unix_s: i64) -> [u8; COOKIE_BYTES] {
        let now_s = wrapped(now_unix_s);
        let mut cookie = [0; COOKIE_BYTES];
        let parts = [&client[..], &[VERSION, 0, 0, 0], &now_s.to_be_bytes(), &self.hash(client, source, now_s)];
        cookie.iter_mut().zip(parts.into_iter().flatten()).for_each(|(place, byte)| *place = *byte);
        cookie
    }

    fn hash(&self, client: [u8; 8], source: IpAddr, written_s: u32) -> [u8; 8] {
        let mut bytes = [0; 32];
        let written = written_s.to_be_bytes();
        let (v4, v6);
        let (address, length): (&[u8], usize) = match source.to_canonical() {
            IpAddr::V4(address) => {
                v4 = address.octets();
                (&v4, 20)
            }
            IpAddr::V6(address) => {
                v6 = address.octets();
                (&v6, 32)
            }
        };
        let parts = [&client[..], &[VERSION, 0, 0, 0], &written, address];
        bytes.iter_mut().zip(parts.into_iter().flatten()).for_each(|(place, byte)| *place = *byte);
        // In the byte order of the words that SipHash is defined on, as RFC 9018 has it.
        self.secret(written_s).hash(bytes.get(..length).unwrap_or(&bytes)).to_le_bytes()
    }

    fn secret(&self, written_s: u32) -> SipKey {
        let [a, b, c, d] = (written_s / SECRET_DAYS_S).to_be_bytes();
        let half = |number| self.root.hash(&[a, b, c, d, number]).to_le_bytes();
        let mut secret = [0; 16];
        secret.iter_mut().zip(half(0).into_iter().chain(half(1))).for_each(|(place, byte)| *place = byte);
        SipKey::new(secret)
    }
}

/// Seconds as 32 bits hold them.
fn wrapped(unix_s: i64) -> u32 {
    let [.., a, b, c, d] = unix_s.to_be_bytes();
    u32::from_be_bytes([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_559_731_985;

    fn server(whole: &[u8; COOKIE_BYTES]) -> Cookie<'_> {
        let (client, server) = whole.split_first_chunk().expect("8 bytes");
        Cookie { client: *client, server }
    }

    #[test]
    fn a_cookie_is_known_again_at_its_address_for_an_hour_and_across_the_change_of_secrets() {
        let cookies = Cookies::new([7; 16]);
        let source: IpAddr = "192.0.2.1".parse().expect("an address");
        // An hour before and after midnight too.
        for now in [NOW, 86_400 * 18_000 - 1, 86_400 * 18_000, i64::from(u32::MAX) - 10] {
            let given = cookies.give([1; 8], source, now);
            for (later, good) in [(0, true), (3_600, true), (3_601, false), (-300, true), (-301, false)] {
                assert_eq!(cookies.is_ours(&server(&given), source, now + later), good, "{now} {later}");
            }
            assert!(cookies.is_ours(&server(&given), "::ffff:192.0.2.1".parse().expect("an address"), now));
            assert!(!cookies.is_ours(&server(&given), "192.0.2.2".parse().expect("an address"), now));
            assert!(!Cookies::new([8; 16]).is_ours(&server(&given), source, now));
        }
    }

    #[test]
    fn any_changed_byte_makes_a_cookie_a_strangers() {
        let cookies = Cookies::new([7; 16]);
        let source: IpAddr = "2001:db8::1".parse().expect("an address");
        let given = cookies.give([1; 8], source, NOW);
        for at in 0..given.len() {
            let mut changed = given;
            changed[at] ^= 0x80;
            assert!(!cookies.is_ours(&server(&changed), source, NOW), "byte {at}");
        }
        for length in [0, 8, 15] {
            assert!(!cookies.is_ours(&Cookie { client: [1; 8], server: &given[8..8 + length] }, source, NOW));
        }
    }

    /// RFC 9018 appendix A.1 and A.3, whose secret serves whatever the day is.
    #[test]
    fn the_hash_is_that_of_rfc_9018() {
        let check = |secret: [u8; 16], input: &[u8], expected: [u8; 8]| {
            assert_eq!(SipKey::new(secret).hash(input).to_le_bytes(), expected);
        };
        let secret = 0xe5e9_73e5_a6b2_a43f_48e7_dc84_9e37_bfcf_u128.to_be_bytes();
        let input = [
            &0x2464_c4ab_cf10_c957_u64.to_be_bytes()[..],
            &[1, 0, 0, 0],
            &0x5cf7_9f11_u32.to_be_bytes(),
            &[198, 51, 100, 100],
        ];
        check(secret, &input.concat(), 0x1f81_30c3_eee2_9480_u64.to_be_bytes());
    }
}
