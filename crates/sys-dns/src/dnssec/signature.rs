//! One RRSIG (RFC 4034 section 3), and from when to when it is good.
//!
//! A signature is made once in a period and kept for the rest of it. Where the period begins is moved by the name and kind that are
//! signed, so that not all signatures of a zone are due in one second.

use super::{
    SigningKey,
    key::{ALGORITHM, KeyError},
};
use crate::name::Labels;
use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    ops::Range,
};

/// How long a signature is given out.
const PERIOD_S: i64 = 86_400;
/// How long before its period it is good, for clocks that are slow or an hour off.
const BEFORE_S: i64 = 86_400;
/// How long behind its period it is good: longer than any record is kept ([`MAX_TTL_S`](crate::zone::MAX_TTL_S)), by a day for clocks
/// that are fast. No longer than that, since a record that was taken out can be replayed until its signature ends.
const BEHIND_S: i64 = 3 * 86_400;

/// When a signature is given out, and so what it says of its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Window {
    /// Seconds of UNIX time in which it is given out.
    pub(crate) given_out: Range<i64>,
}

impl Window {
    /// The one around `now_unix_s` for this name and kind.
    pub(crate) fn around(now_unix_s: i64, owner: &[u8], kind: u16) -> Self {
        let mut hasher = DefaultHasher::new();
        (owner, kind).hash(&mut hasher);
        let period = PERIOD_S.unsigned_abs();
        let moved = i64::try_from(hasher.finish() % period).unwrap_or(0);
        let into = now_unix_s.saturating_sub(moved).rem_euclid(PERIOD_S);
        let start = now_unix_s.saturating_sub(into);
        Self { given_out: start..start.saturating_add(PERIOD_S) }
    }

    /// Inception and expiration, in the arithmetic of RFC 4034 section 3.1.5, which runs over in 2106.
    fn fields(&self) -> [[u8; 4]; 2] {
        let end = |time: i64| {
            let [_, _, _, _, rest @ ..] = time.to_be_bytes();
            rest
        };
        let (from, until) =
            (self.given_out.start.saturating_sub(BEFORE_S), self.given_out.end.saturating_add(BEHIND_S));
        [end(from), end(until)]
    }
}

/// What is signed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Signed<'a> {
    /// The name of the zone, in wire form.
    pub(crate) apex: &'a [u8],
    /// Whose records they are, in wire form and lower case.
    pub(crate) owner: &'a [u8],
    /// Their kind.
    pub(crate) kind: u16,
    /// How long they may be kept.
    pub(crate) ttl_s: u32,
    /// Their canonical data, in canonical order.
    pub(crate) data: &'a [Vec<u8>],
}

/// The data of an RRSIG over a set: `ECDSA(key, RRSIG data without signature | each record in canonical form)`.
pub(crate) fn sign(key: &SigningKey, set: Signed<'_>, window: &Window) -> Result<Vec<u8>, KeyError> {
    let [inception, expiration] = window.fields();
    let mut rdata = Vec::with_capacity(192);
    rdata.extend_from_slice(&set.kind.to_be_bytes());
    rdata.extend_from_slice(&[ALGORITHM, label_count(set.owner)]);
    rdata.extend_from_slice(&set.ttl_s.to_be_bytes());
    rdata.extend_from_slice(&expiration);
    rdata.extend_from_slice(&inception);
    rdata.extend_from_slice(&key.key_tag().to_be_bytes());
    rdata.extend_from_slice(set.apex);
    let mut message = rdata.clone();
    for data in set.data {
        message.extend_from_slice(set.owner);
        message.extend_from_slice(&set.kind.to_be_bytes());
        message.extend_from_slice(&1_u16.to_be_bytes());
        message.extend_from_slice(&set.ttl_s.to_be_bytes());
        // A zone has no data that is longer than its length can say.
        message.extend_from_slice(&u16::try_from(data.len()).map_err(|_| KeyError::Sign)?.to_be_bytes());
        message.extend_from_slice(data);
    }
    rdata.extend_from_slice(&key.sign(&message)?);
    Ok(rdata)
}

/// The number of labels, without the root's and an asterisk in front (RFC 4034 section 3.1.3).
fn label_count(owner: &[u8]) -> u8 {
    // A name has 127 at most.
    let labels = u8::try_from(Labels::of(owner).count()).unwrap_or(u8::MAX);
    labels.saturating_sub(u8::from(owner.starts_with(b"\x01*")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{name::Name, zone::MAX_TTL_S};
    use proptest::prelude::*;

    #[test]
    fn labels_are_counted_without_root_and_asterisk() {
        let count = |name: &str| label_count(Name::parse(name).unwrap().wire());
        assert_eq!([".", "org", "www.example.org", "*.example.org", "a.*.org"].map(count), [0, 1, 3, 2, 3]);
    }

    proptest! {
        #[test]
        fn a_signature_outlives_what_was_kept_with_it(now in 0_i64..5_000_000_000, kind: u16, owner: [u8; 3]) {
            let window = Window::around(now, &owner, kind);
            prop_assert!(window.given_out.contains(&now));
            prop_assert_eq!(Window::around(window.given_out.start, &owner, kind), window.clone());
            let [inception, expiration] = window.fields().map(u32::from_be_bytes);
            let now = u32::try_from(now & 0xffff_ffff).unwrap();
            // In serial arithmetic, as validators compare.
            let ahead = |later: u32, sooner: u32| later.wrapping_sub(sooner).cast_signed();
            prop_assert!(ahead(now, inception) >= 86_400);
            prop_assert!(ahead(expiration, now) > MAX_TTL_S.cast_signed() + 3_600);
        }
    }
}
