//! Which tablespaces are unwrapped. Bounded: a server of 100,000 orgs needs the keys of those that are in use.

use crate::space::{SpaceId, SpaceKeys};
use std::{collections::HashMap, sync::Arc};

/// How many tablespaces each half holds. About 4 KiB each, so that both halves together stay below 64 MiB.
const HALF: usize = 8192;

/// Keys that were asked for lately, in two halves: when the young one is full, it becomes the old one, and what was old is
/// dropped. Who holds dropped keys keeps them; the next who asks unwraps them again, which costs some microseconds.
#[derive(Default)]
pub(super) struct OpenSpaces {
    young: HashMap<SpaceId, Arc<SpaceKeys>>,
    old: HashMap<SpaceId, Arc<SpaceKeys>>,
}

impl OpenSpaces {
    pub(super) fn get(&self, space: SpaceId) -> Option<Arc<SpaceKeys>> {
        self.young.get(&space).or_else(|| self.old.get(&space)).cloned()
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.young.is_empty() && self.old.is_empty()
    }

    /// Puts the keys in the place of those that were there.
    pub(super) fn insert(&mut self, space: SpaceId, keys: Arc<SpaceKeys>) {
        if self.young.len() >= HALF && !self.young.contains_key(&space) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(space, keys);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        derivation::Root,
        secret::Secret,
        space::{Generation, GenerationKeys},
    };
    use sys_contract::id::OrgTag;

    fn keys(generation: u32) -> Arc<SpaceKeys> {
        let root = Root::new(&Secret::filled(|key| key.fill(1)));
        let keys = GenerationKeys::new(Generation(generation), root, Arc::default());
        Arc::new(SpaceKeys::new(vec![keys]).unwrap())
    }

    fn space(number: usize) -> SpaceId {
        let [.., a, b, c, d] = number.to_be_bytes();
        SpaceId { module: 1, org: OrgTag::from_bytes([0, 0, a, b, c, d]) }
    }

    #[test]
    fn it_keeps_the_latest_and_stays_bounded() {
        let mut open = OpenSpaces::default();
        let some = keys(1);
        for number in 0..5 * HALF {
            open.insert(space(number), Arc::clone(&some));
            assert!(open.young.len() + open.old.len() <= 2 * HALF);
            assert!(open.get(space(number)).is_some() && open.get(space(number.saturating_sub(HALF - 1))).is_some());
        }
        assert!(open.get(space(0)).is_none());
    }

    #[test]
    fn new_keys_hide_those_that_they_replace() {
        let mut open = OpenSpaces::default();
        open.insert(space(0), keys(1));
        for number in 1..=HALF {
            open.insert(space(number), keys(1));
        }
        assert!(open.old.contains_key(&space(0)), "the first is in the old half");
        open.insert(space(0), keys(2));
        assert_eq!(open.get(space(0)).unwrap().newest().generation(), Generation(2));
    }
}
