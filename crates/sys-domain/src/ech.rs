//! What happens to ECH keys and when, as a function of what is kept, what is shown and the time.
//!
//! A key is made and kept, then accepted by the listener, then published, then superseded by the next one, then retired, and
//! dropped once no cache can hold its record any more. Every step is decided from what the vault holds and from what this
//! process has done with it, one step at a time: whoever is cut off between two of them goes on with the next after a start.
//!
//! What must never happen here: a key published that the listener does not accept, or one dropped that a client may still have.

use std::collections::{BTreeMap, BTreeSet};

/// How long a resolver or browser may keep the records that say the keys.
pub const RECORD_TTL_S: u32 = 300;
/// How long a key is accepted after the last moment at which its record was served: twice the record's life, since one cache
/// may have filled itself from another, and an hour for clocks and caches that keep more than they should.
pub const HOLD_S: i64 = 2 * RECORD_TTL_S as i64 + 3_600;
/// Keys of one public name at a time: one that is published, one before it that is still accepted, and one that comes. A
/// rotation that would make a fourth waits until one is dropped.
pub const MAX_LIVE: usize = 3;

/// Keys of all names at a time, also while names change: what a listener takes.
pub const MAX_ALL: usize = sys_edge::ech::MOST_CONFIGS;

/// A key as far as deciding goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Its name in the vault.
    pub id: String,
    /// The name that stands in the clear beside it.
    pub public_name: String,
    /// When it was made.
    pub made_unix_s: i64,
    /// Whether it was decided to publish it.
    pub published: bool,
    /// When its record was seen not to be served any more.
    pub retired_unix_s: Option<i64>,
}

/// What an operator decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// The names that stand in the clear, one key each.
    pub public_names: Vec<String>,
    /// How long a key is published.
    pub rotate_every_s: i64,
    /// Keys older than this are replaced now, since somebody asked for it.
    pub asked_unix_s: Option<i64>,
}

/// What this process has done so far. Nothing of it outlives the process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Done {
    /// The keys that the listener accepts.
    pub accepted: BTreeSet<String>,
    /// The keys in the records that are served.
    pub shown: BTreeSet<String>,
}

/// What is to be done next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Have the listener accept exactly the keys that are kept.
    Accept,
    /// Make a key for this name, and keep it.
    Make {
        /// The name that stands in the clear.
        public_name: String,
    },
    /// Note that this key is to be published from now on.
    Publish {
        /// The key.
        id: String,
    },
    /// Serve records with exactly these keys.
    Show(BTreeSet<String>),
    /// Note that the record of this key is not served any more, as of now.
    Retire {
        /// The key.
        id: String,
    },
    /// Let go of this key.
    Drop {
        /// The key.
        id: String,
    },
}

/// The next step, and nothing when all is done for now.
pub fn next(keys: &[Key], schedule: &Schedule, done: &Done, now: i64) -> Option<Step> {
    let kept: BTreeSet<&str> = keys.iter().map(|key| key.id.as_str()).collect();
    if done.accepted.len() != kept.len() || !done.accepted.iter().all(|id| kept.contains(id.as_str())) {
        return Some(Step::Accept);
    }
    make(keys, schedule, now)
        .or_else(|| publish(keys, schedule, now))
        .or_else(|| {
            let offered: BTreeSet<String> =
                offered(keys, schedule, now).into_values().map(|key| key.id.clone()).collect();
            (offered != done.shown).then_some(Step::Show(offered))
        })
        .or_else(|| retire(keys, done, now))
        .or_else(|| keys.iter().find(|key| is_over(key, now)).map(|key| Step::Drop { id: key.id.clone() }))
}

/// The key that records say for each public name: of those that were published the last.
pub fn offered<'a>(keys: &'a [Key], schedule: &'a Schedule, now: i64) -> BTreeMap<&'a str, &'a Key> {
    let offered = |name: &'a String| {
        let published = of(keys, name).filter(|key| key.published);
        Some((name.as_str(), published.max_by_key(|key| order(key, now))?))
    };
    schedule.public_names.iter().filter_map(offered).collect()
}

/// When the next step is due, as far as it follows from time alone.
pub fn due(keys: &[Key], schedule: &Schedule, now: i64) -> Option<i64> {
    let drops = keys.iter().filter_map(|key| key.retired_unix_s).map(|retired| retired.saturating_add(HOLD_S));
    let offered = offered(keys, schedule, now);
    let rotations = offered.values().map(|key| rotation(key, schedule));
    drops.chain(rotations).min()
}

/// When a key is replaced.
pub fn rotation(key: &Key, schedule: &Schedule) -> i64 {
    key.made_unix_s.saturating_add(schedule.rotate_every_s)
}

/// Whether what was asked for by hand is done: every name has a key that was made since.
pub fn is_answered(keys: &[Key], schedule: &Schedule, now: i64) -> bool {
    let Some(asked) = schedule.asked_unix_s.filter(|asked| *asked <= now) else { return true };
    schedule.public_names.iter().all(|name| of(keys, name).any(|key| key.made_unix_s >= asked))
}

/// Keys that may still be published or are: the retired ones only wait for their end.
fn of<'a>(keys: &'a [Key], public_name: &'a str) -> impl Iterator<Item = &'a Key> {
    keys.iter().filter(move |key| key.public_name == public_name && key.retired_unix_s.is_none())
}

/// Later keys come later, also where two were made in one second. One that was made when the clock was ahead comes before all.
fn order(key: &Key, now: i64) -> (bool, i64, &str) {
    (key.made_unix_s <= now, key.made_unix_s, &key.id)
}

fn make(keys: &[Key], schedule: &Schedule, now: i64) -> Option<Step> {
    let has_room =
        |name: &str| keys.iter().filter(|key| key.public_name == name).count() < MAX_LIVE && keys.len() < MAX_ALL;
    let missing = schedule.public_names.iter().filter(|name| has_room(name)).find(|name| {
        let Some(newest) = of(keys, name).max_by_key(|key| order(key, now)) else { return true };
        // Such a time is that of a clock which was wrong: nobody knows how old the key is.
        let is_old = now >= rotation(newest, schedule) || newest.made_unix_s > now;
        let is_asked_away = schedule.asked_unix_s.is_some_and(|asked| newest.made_unix_s < asked && asked <= now);
        is_old || is_asked_away
    })?;
    Some(Step::Make { public_name: missing.clone() })
}

fn publish(keys: &[Key], schedule: &Schedule, now: i64) -> Option<Step> {
    let newest = schedule.public_names.iter().filter_map(|name| of(keys, name).max_by_key(|key| order(key, now)));
    newest.into_iter().find(|key| !key.published).map(|key| Step::Publish { id: key.id.clone() })
}

fn retire(keys: &[Key], done: &Done, now: i64) -> Option<Step> {
    let is_due = |key: &&Key| match key.retired_unix_s {
        None => !done.shown.contains(&key.id),
        // The clock was wrong when it was noted: the hold begins again, which is the safe side.
        Some(retired) => retired > now,
    };
    keys.iter().find(is_due).map(|key| Step::Retire { id: key.id.clone() })
}

fn is_over(key: &Key, now: i64) -> bool {
    key.retired_unix_s.is_some_and(|retired| now >= retired.saturating_add(HOLD_S))
}

#[cfg(test)]
mod tests;
