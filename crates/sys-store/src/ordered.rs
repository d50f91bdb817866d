//! Bytes that compare as values do: what lists are ordered by in memory, in page tokens and in ORDERED indexes. Pure.
//!
//! No two values of one field of which one is the beginning of the other: so an id can stand behind one. The bytes are on
//! disk as they are; a change here means a new [`crate::catalog::INDEX_FORMAT`].

use prost_reflect::{DynamicMessage, FieldDescriptor};
use sys_policy::OrderedValue;

/// As many bytes of a text count for the order; texts that agree so far are ordered by id. They stand in page tokens.
const MAX_SORT_BYTES: usize = 256;
/// Longest text in an ORDERED index. Each of its bytes may become two of a key, which has at most 256.
pub(crate) const MAX_INDEXED_BYTES: usize = 96;

/// Unset, where that is something else than the default: before all values.
const UNSET: u8 = 0;
/// Before each value.
const SET: u8 = 1;
/// The end of a text: below all that may follow in a longer one.
const END: [u8; 2] = [0, 1];
/// A zero in a text.
const ZERO: [u8; 2] = [0, 0xff];

/// The bytes of a record's field.
pub(crate) fn of_field(field: &FieldDescriptor, record: &DynamicMessage) -> Vec<u8> {
    if field.supports_presence() && !record.has_field(field) {
        return vec![UNSET];
    }
    match OrderedValue::of(&record.get_field(field)) {
        Some(value) => of_value(&value),
        // Nothing is ordered by such a field.
        None => vec![UNSET],
    }
}

/// The bytes of a value.
pub(crate) fn of_value(value: &OrderedValue) -> Vec<u8> {
    let mut bytes = vec![SET];
    match value {
        OrderedValue::Bool(value) => bytes.push(u8::from(*value)),
        OrderedValue::Int(value) => push_i64(&mut bytes, *value),
        OrderedValue::Uint(value) => bytes.extend_from_slice(&value.to_be_bytes()),
        OrderedValue::Enum(value) => push_i64(&mut bytes, i64::from(*value)),
        OrderedValue::Double(value) => bytes.extend_from_slice(&ordered_bits(*value).to_be_bytes()),
        OrderedValue::Text(value) | OrderedValue::Bytes(value) => push_text(&mut bytes, value),
        OrderedValue::Timestamp(time) => {
            push_i64(&mut bytes, time.unix_s);
            push_i64(&mut bytes, i64::from(time.nanos));
        }
        OrderedValue::Duration(nanos) => bytes.extend_from_slice(&nanos.wrapping_sub(i128::MIN).to_be_bytes()),
    }
    bytes
}

/// Moved so that the lowest number is all zeros.
fn push_i64(bytes: &mut Vec<u8>, value: i64) {
    bytes.extend_from_slice(&value.wrapping_sub(i64::MIN).to_be_bytes());
}

/// The total order of IEEE 754, with one zero: negative numbers with all bits turned, others with the sign turned.
fn ordered_bits(value: f64) -> u64 {
    let bits = if value == 0.0 { 0 } else { value.to_bits() };
    if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }
}

fn push_text(bytes: &mut Vec<u8>, text: &[u8]) {
    for byte in text.iter().take(MAX_SORT_BYTES) {
        match byte {
            0 => bytes.extend_from_slice(&ZERO),
            byte => bytes.push(*byte),
        }
    }
    bytes.extend_from_slice(&END);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::cmp::Ordering;
    use sys_policy::Now;

    /// The bytes compare as the values do, and an id behind them changes nothing.
    fn check(a: &OrderedValue, b: &OrderedValue, expect: Ordering) {
        let (mut a, mut b) = (of_value(a), of_value(b));
        assert_eq!(a.cmp(&b), expect);
        a.extend_from_slice(&[0xff; 16]);
        b.extend_from_slice(&[0; 16]);
        assert!(expect == Ordering::Equal || a.cmp(&b) == expect);
        assert!(a > vec![UNSET]);
    }

    proptest! {
        #[test]
        fn numbers_compare_as_they_do(a: i64, b: i64, c: u64, d: u64, e: i128, f: i128) {
            check(&OrderedValue::Int(a), &OrderedValue::Int(b), a.cmp(&b));
            check(&OrderedValue::Uint(c), &OrderedValue::Uint(d), c.cmp(&d));
            check(&OrderedValue::Duration(e), &OrderedValue::Duration(f), e.cmp(&f));
        }

        #[test]
        fn fractions_compare_as_they_do(a: f64, b: f64) {
            if let Some(order) = a.partial_cmp(&b) {
                check(&OrderedValue::Double(a), &OrderedValue::Double(b), order);
            }
        }

        #[test]
        fn times_compare_as_they_do(a: (i64, i32), b: (i64, i32)) {
            let time = |(unix_s, nanos)| OrderedValue::Timestamp(Now { unix_s, nanos });
            check(&time(a), &time(b), a.cmp(&b));
        }

        #[test]
        fn texts_compare_by_their_bytes(a in "[\0\u{1}\u{ff}ab]{0,6}", b in "[\0\u{1}\u{ff}ab]{0,6}") {
            let text = |text: &str| OrderedValue::Text(text.as_bytes().to_vec());
            check(&text(&a), &text(&b), a.as_bytes().cmp(b.as_bytes()));
        }
    }

    #[test]
    fn there_is_one_zero_and_the_ends_are_at_the_ends() {
        let double = OrderedValue::Double;
        check(&double(0.0), &double(-0.0), Ordering::Equal);
        check(&double(f64::NEG_INFINITY), &double(f64::MIN), Ordering::Less);
        check(&double(-f64::MIN_POSITIVE), &double(-0.0), Ordering::Less);
        check(&double(f64::MAX), &double(f64::INFINITY), Ordering::Less);
    }
}
