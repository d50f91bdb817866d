//! The serials of zones: each is larger than the one before, also over restarts and clocks that are set back.

/// The serial after `last`: the time, as people like to read it, but never one that secondaries and caches would take for older
/// (RFC 1982).
pub(crate) fn next(last: Option<u32>, now_unix_s: i64) -> u32 {
    // Beyond 2106 it goes on from zero, as serials do.
    let time = u32::try_from(now_unix_s.rem_euclid(1 << 32)).unwrap_or_default();
    let Some(last) = last else { return time };
    if is_newer(time, last) { time } else { last.wrapping_add(1) }
}

/// Whether one serial is newer than another.
fn is_newer(one: u32, other: u32) -> bool {
    one != other && one.wrapping_sub(other) < 1 << 31
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn each_is_newer_than_the_one_before(last: u32, now in 0..1_i64 << 40) {
            prop_assert!(is_newer(next(Some(last), now), last));
        }
    }

    #[test]
    fn a_first_one_is_the_time() {
        assert_eq!(next(None, 1_800_000_000), 1_800_000_000);
        assert_eq!(next(Some(1_800_000_000), 1_800_000_000), 1_800_000_001);
    }
}
