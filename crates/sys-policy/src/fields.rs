//! A set of a record's fields, by number.

use std::fmt;

/// Fields of one record type. Numbers up to 63, which nearly all are, cost no allocation.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct FieldSet {
    low: u64,
    /// INVARIANT: sorted, each above 63.
    high: Vec<u32>,
}

impl FieldSet {
    /// No field.
    pub const fn new() -> Self {
        Self { low: 0, high: Vec::new() }
    }

    /// Adds the field with this number.
    pub fn insert(&mut self, number: u32) {
        if number < u64::BITS {
            self.low |= 1 << number;
        } else if let Err(at) = self.high.binary_search(&number) {
            self.high.insert(at, number);
        }
    }

    /// Whether it holds the field with this number.
    pub fn contains(&self, number: u32) -> bool {
        if number < u64::BITS { self.low & (1 << number) != 0 } else { self.high.binary_search(&number).is_ok() }
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.low == 0 && self.high.is_empty()
    }

    /// The numbers, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        (0..u64::BITS).filter(|number| self.low & (1 << number) != 0).chain(self.high.iter().copied())
    }
}

impl FromIterator<u32> for FieldSet {
    fn from_iter<I: IntoIterator<Item = u32>>(numbers: I) -> Self {
        let mut set = Self::new();
        numbers.into_iter().for_each(|number| set.insert(number));
        set
    }
}

impl fmt::Debug for FieldSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn holds_what_was_inserted_and_nothing_else(numbers in proptest::collection::vec(0_u32..200, 0..40), other in 0_u32..200) {
            let set: FieldSet = numbers.iter().copied().collect();
            let model: BTreeSet<u32> = numbers.into_iter().collect();
            prop_assert_eq!(set.contains(other), model.contains(&other));
            prop_assert_eq!(set.is_empty(), model.is_empty());
            prop_assert!(set.iter().eq(model));
        }
    }
}
