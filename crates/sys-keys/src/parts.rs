//! One byte string from many, without ambiguity, as it goes into associated data and under a MAC; and back to parts.

/// Each part behind its length in bytes (u64, big endian), so that no two lists of parts give the same string.
pub fn length_prefixed(parts: &[&[u8]]) -> Vec<u8> {
    let mut whole = Vec::with_capacity(parts.iter().map(|part| size_of::<u64>() + part.len()).sum());
    for part in parts {
        whole.extend_from_slice(&length(part));
        whole.extend_from_slice(part);
    }
    whole
}

/// What stands before a part.
pub(crate) fn length(part: &[u8]) -> [u8; 8] {
    (part.len() as u64).to_be_bytes()
}

/// Takes the first `N` bytes off the input; `None` if there are fewer.
pub(crate) fn take<const N: usize>(input: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = input.split_first_chunk()?;
    *input = rest;
    Some(*first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn different_parts_give_different_strings(
            a in proptest::collection::vec(proptest::collection::vec(0_u8..2, 0..4), 0..4),
            b in proptest::collection::vec(proptest::collection::vec(0_u8..2, 0..4), 0..4),
        ) {
            let join = |parts: &[Vec<u8>]| length_prefixed(&parts.iter().map(Vec::as_slice).collect::<Vec<_>>());
            prop_assert_eq!(a == b, join(&a) == join(&b));
        }
    }
}
