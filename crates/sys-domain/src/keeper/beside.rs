//! What the keeper and those who work beside its rounds share.

use crate::{facts::Trouble, registrar::Seen};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    sync::{Arc, Mutex, PoisonError},
};
use sys_dns::zone::Name;

/// How long it is told that something was not done.
const TOLD_S: i64 = 3_600;

/// What is shared.
#[derive(Debug, Default)]
pub(super) struct Beside {
    /// What the world sees, by domain.
    seen: Mutex<BTreeMap<Name, Seen>>,
    /// What was to be done and was not: what it was, why not, and when.
    refused: Mutex<BTreeMap<String, (Trouble, i64)>>,
    /// What is being done.
    under_way: Mutex<BTreeSet<String>>,
}

/// Something that is being done. Nobody else does it until this is dropped, however that comes.
#[derive(Debug)]
pub(super) struct UnderWay {
    beside: Arc<Beside>,
    place: String,
    since_unix_s: i64,
}

impl Beside {
    pub(super) fn seen(&self) -> BTreeMap<Name, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn saw(&self, apex: Name, seen: Seen) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(apex, seen);
    }

    /// Begins something, unless it is under way already.
    pub(super) fn begin(self: &Arc<Self>, place: String, now: i64) -> Option<UnderWay> {
        let is_new = self.under_way.lock().unwrap_or_else(PoisonError::into_inner).insert(place.clone());
        is_new.then(|| UnderWay { beside: self.clone(), place, since_unix_s: now })
    }

    /// What was asked for is not done.
    pub(super) fn refuse(&self, place: &str, problem: impl Display, now: i64) {
        let trouble = Trouble {
            about: place.to_owned(),
            problem: format!("what was asked for was not done: {problem}"),
            remedy: "ask again once that is past".to_owned(),
            is_broken: false,
        };
        self.tell(trouble, now);
    }

    fn tell(&self, trouble: Trouble, now: i64) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.insert(trouble.about.clone(), (trouble, now));
    }

    /// What was not done lately.
    pub(super) fn refused(&self, now: i64) -> Vec<Trouble> {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        // What was told in the future was told by a clock that was wrong.
        refused.retain(|_, (_, at)| (0..TOLD_S).contains(&now.saturating_sub(*at)));
        refused.values().map(|(trouble, _)| trouble.clone()).collect()
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(what = self.place, "the server failed in the middle of this; it is tried again");
            let trouble = Trouble {
                about: self.place.clone(),
                problem: "the server failed in the middle of it, by a fault of its own".to_owned(),
                remedy:
                    "nothing: it is tried again within a minute; if it stays, report what the log of the server says"
                        .to_owned(),
                is_broken: false,
            };
            self.beside.tell(trouble, self.since_unix_s);
        }
        self.beside.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.place);
    }
}
