//! When which records are to be judged again because their conditions name `now`.

use std::collections::BTreeSet;
use sys_policy::Now;
use uuid::Uuid;

/// Most records of which the moment is kept; behind the last of these moments all records are judged again.
const MAX_KEPT: usize = 10_000;

/// The moments at which conditions turn. Records that nobody sees are among them: they may come to be seen.
#[derive(Debug, Default)]
pub(super) struct Turns {
    by_time: BTreeSet<(Now, Uuid)>,
    /// The first moment that is not kept.
    beyond: Option<Now>,
}

impl Turns {
    pub(super) fn add(&mut self, at: Now, uuid: Uuid) {
        self.by_time.insert((at, uuid));
        if self.by_time.len() > MAX_KEPT
            && let Some((at, _)) = self.by_time.pop_last()
        {
            self.beyond = Some(self.beyond.map_or(at, |beyond| beyond.min(at)));
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Takes out whose moment has come. None: all records are to be judged.
    pub(super) fn take(&mut self, now: Now) -> Option<BTreeSet<Uuid>> {
        if self.beyond.is_some_and(|beyond| beyond <= now) {
            return None;
        }
        let mut due = BTreeSet::new();
        while let Some((_, uuid)) = self.by_time.first().filter(|(at, _)| *at <= now) {
            due.insert(*uuid);
            self.by_time.pop_first();
        }
        Some(due)
    }

    /// How many are kept.
    pub(super) fn len(&self) -> usize {
        self.by_time.len()
    }

    /// The next moment.
    pub(super) fn next(&self) -> Option<Now> {
        self.by_time.first().map(|(at, _)| *at).into_iter().chain(self.beyond).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_kept_comes_back_as_everything() {
        let at = |unix_s| Now { unix_s, nanos: 0 };
        let mut turns = Turns::default();
        for number in (0..=MAX_KEPT).rev() {
            turns.add(at(i64::try_from(number).unwrap()), Uuid::from_u128(number as u128));
        }
        let last = i64::try_from(MAX_KEPT).unwrap();
        assert_eq!(turns.next(), Some(at(0)));
        assert_eq!(turns.take(at(1)).map(|due| due.len()), Some(2));
        assert_eq!(turns.take(at(last - 1)).map(|due| due.len()), Some(MAX_KEPT - 2));
        assert_eq!(turns.next(), Some(at(last)));
        assert_eq!(turns.take(at(last)), None);
        turns.clear();
        assert_eq!((turns.next(), turns.take(at(last))), (None, Some(BTreeSet::new())));
    }
}
