//! Rounds: which records are judged, in which order, and what comes of it.
//!
//! Always by id, from the lowest up, whatever brought a record into the round: the order of events must not tell in which
//! order, or among how many others, records were written.

use super::{Rights, Watch, WatchEvent};
use crate::{
    confined::Confined,
    cursor::{beginning, behind},
    engine::{CommitVersion, KeyRange, Order, RangeRead, key_after},
    key::{KeyPart, join, parse, record_id},
    list::Query,
    note::Note,
    records::Stored,
    refused::{Refused, StoreError},
    view::View,
};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};
use sys_keys::SpaceKeys;
use sys_policy::{Filter, Now};
use uuid::Uuid;

/// Most events of one call, and most bytes of sealed records behind them: what stands in memory for one watcher.
const MAX_EVENTS: usize = 256;
const MAX_EVENT_BYTES: usize = 1 << 20;
/// Most records that one call of a round of all records opens: some 40 ms of a processor.
const MAX_OPENED: usize = 4_096;
/// Most changed records of a round. If there are more, all records are judged: the events are the same.
const MAX_CHANGED: usize = 65_536;
/// What a record of a round takes beside its state.
const STATE_BYTES: usize = 64;
/// Most bytes of states that a round keeps of records which were written again between its moment and its transaction, some
/// milliseconds. Of those beyond, the present state is judged.
const MAX_KEPT_BYTES: usize = 1 << 20;
/// Notes of one read. Each may hold a record; if those are long it ends before.
const NOTES: usize = 64;
/// Records that are judged in one go before others get their turn on the thread.
const AT_ONCE: usize = 64;

/// The records that are still to be judged.
#[derive(Debug)]
pub(crate) enum Round {
    /// All records with ids from this one on, and what was shown from there.
    All(Uuid),
    /// These.
    These(BTreeMap<Uuid, State>),
}

/// The state of a record that a round judges.
#[derive(Debug, Clone)]
pub(crate) enum State {
    /// The one that stands there.
    Present,
    /// The one of the round's moment, sealed; none if there was no record. It was written again since.
    Of(Option<Bytes>),
}

/// What was written behind a commit, and up to another.
struct Changed {
    records: BTreeMap<Uuid, State>,
    /// What was written since, and the state before.
    since: BTreeMap<Uuid, State>,
}

impl Round {
    /// About how many bytes of memory it takes.
    pub(super) fn size_bytes(&self) -> usize {
        let size = |state: &State| match state {
            State::Of(Some(sealed)) => STATE_BYTES + sealed.len(),
            State::Present | State::Of(None) => STATE_BYTES,
        };
        match self {
            Self::All(_) => 0,
            Self::These(ids) => ids.values().map(size).sum(),
        }
    }
}

impl Changed {
    /// Another record that was written since the moment.
    fn add_since(&mut self, note: Note, kept_bytes: &mut usize) {
        // Only the first note behind the moment holds the state of it.
        let Entry::Vacant(entry) = self.since.entry(note.uuid) else { return };
        *kept_bytes = kept_bytes.saturating_add(note.before.as_ref().map_or(0, Bytes::len));
        entry.insert(if *kept_bytes > MAX_KEPT_BYTES { State::Present } else { State::Of(note.before) });
    }

    /// The records of the round, with those whose conditions have turned.
    fn round(mut self, turned: BTreeSet<Uuid>) -> Round {
        for uuid in turned {
            self.records.entry(uuid).or_insert(State::Present);
        }
        for (uuid, state) in &mut self.records {
            if let Some(of_moment) = self.since.remove(uuid) {
                *state = of_moment;
            }
        }
        Round::These(self.records)
    }
}

/// What a call has brought so far.
struct Told<'a> {
    events: &'a mut Vec<WatchEvent>,
    bytes: usize,
    opened: usize,
}

impl Told<'_> {
    fn is_full(&self) -> bool {
        self.events.len() >= MAX_EVENTS || self.bytes >= MAX_EVENT_BYTES
    }

    async fn opened(&mut self) {
        self.opened += 1;
        if self.opened.is_multiple_of(AT_ONCE) {
            tokio::task::yield_now().await;
        }
    }
}

impl Confined<'_> {
    /// Sees to it that there is a round. Gives whether it begins in this transaction, so that all of it shows one state.
    pub(super) async fn take_up(
        &mut self,
        watch: &mut Watch,
        query: &Query<'_>,
        rights: Rights,
        up_to: CommitVersion,
    ) -> Result<bool, Refused> {
        let (version, now) = (self.open.snapshot_version(), *self.open.now());
        let is_other = watch.rights != rights || now < watch.judged_at;
        if watch.round.is_some() && !is_other {
            return Ok(false);
        }
        watch.rights = rights;
        let expired = watch.expiry.is_some_and(|expiry| expiry <= now);
        let changed = if is_other || expired || watch.reset {
            None
        } else {
            self.changed_between(query, watch.seen, up_to).await?.zip(watch.turns.take(now))
        };
        (watch.round, watch.seen) = match changed {
            // What all records showed last may be behind the moment already.
            Some((changed, turned)) => (Some(changed.round(turned)), watch.seen.max(up_to)),
            None => {
                watch.turns.clear();
                watch.expiry = self.caller.next_expiry(&now);
                (Some(Round::All(beginning(Order::Asc))), version)
            }
        };
        Ok(true)
    }

    /// Judges what is still to be judged of the round, or as much as one call may. Gives whether that was all.
    pub(super) async fn work(
        &mut self,
        watch: &mut Watch,
        query: &Query<'_>,
        keys: Option<&SpaceKeys>,
        events: &mut Vec<WatchEvent>,
    ) -> Result<bool, Refused> {
        let mut told = Told { events, bytes: 0, opened: 0 };
        let rest = match (watch.round.take(), keys) {
            // Nothing was ever written here, and so nothing shown.
            (None, _) | (_, None) => None,
            (Some(Round::All(from)), Some(keys)) => self.work_all(watch, query, keys, from, &mut told).await?,
            (Some(Round::These(ids)), Some(keys)) => self.work_these(watch, query, keys, ids, &mut told).await?,
        };
        watch.round = rest;
        Ok(watch.round.is_none())
    }

    /// Walks through the candidates and what was shown side by side, by id.
    async fn work_all(
        &mut self,
        watch: &mut Watch,
        query: &Query<'_>,
        keys: &SpaceKeys,
        from: Uuid,
        told: &mut Told<'_>,
    ) -> Result<Option<Round>, Refused> {
        let mut candidates = self.candidates(query, keys, Order::Asc).await?;
        let mut from = Some(from);
        while let Some(place) = from {
            if told.is_full() || told.opened >= MAX_OPENED {
                return Ok(Some(Round::All(place)));
            }
            let candidate = candidates.seek(self.open, place).await?;
            let shown = watch.known.range(place..).next().map(|(uuid, _)| *uuid);
            let (uuid, stored) = match (candidate, shown) {
                (Some(candidate), shown) if shown.is_none_or(|shown| candidate.uuid <= shown) => {
                    (candidate.uuid, Some(self.open_candidate(query, candidate).await?))
                }
                // No range that the caller holds leads to it any more.
                (_, Some(shown)) => (shown, None),
                (_, None) => break,
            };
            self.tell(watch, query, keys, uuid, stored, told);
            told.opened().await;
            from = behind(Order::Asc, uuid);
        }
        Ok(None)
    }

    async fn work_these(
        &mut self,
        watch: &mut Watch,
        query: &Query<'_>,
        keys: &SpaceKeys,
        mut ids: BTreeMap<Uuid, State>,
        told: &mut Told<'_>,
    ) -> Result<Option<Round>, Refused> {
        let space = self.table.at(query.home()).space;
        while !told.is_full() && told.opened < MAX_OPENED {
            let Some((uuid, state)) = ids.pop_first() else { break };
            let id = record_id(space, uuid);
            let stored = match state {
                State::Present => self.open.record(self.table, id).await?,
                State::Of(None) => None,
                State::Of(Some(sealed)) => Some(self.open.open_record(self.table, id, sealed)?),
            };
            self.tell(watch, query, keys, uuid, stored, told);
            told.opened().await;
        }
        Ok(Some(Round::These(ids)).filter(|round| !matches!(round, Round::These(ids) if ids.is_empty())))
    }

    /// Holds a record as it is now against what was shown.
    fn tell(
        &self,
        watch: &mut Watch,
        query: &Query<'_>,
        keys: &SpaceKeys,
        uuid: Uuid,
        stored: Option<Stored>,
        told: &mut Told<'_>,
    ) {
        let bytes = stored.as_ref().map_or(0, |stored| stored.sealed().len());
        let view = stored.and_then(|stored| self.shown(watch, query, stored));
        let hash = view.as_ref().map(|view| self.hash(watch, view));
        let before = match hash {
            Some(hash) => watch.known.insert(uuid, hash),
            None => watch.known.remove(&uuid),
        };
        if before == hash {
            return;
        }
        let view = view.map(|view| view.with_etag(self.table, keys));
        told.bytes += view.as_ref().map_or(0, |_| bytes);
        told.events.push(match (before, view) {
            (None, Some(view)) => WatchEvent::Added(view),
            (Some(_), Some(view)) => WatchEvent::Changed(view),
            (_, None) => WatchEvent::Removed(record_id(self.table.at(query.home()).space, uuid)),
        });
    }

    /// What the caller is shown of a record; and when that may be otherwise is noted.
    pub(super) fn shown(&self, watch: &mut Watch, query: &Query<'_>, stored: Stored) -> Option<View> {
        if let Some(turn) = self.next_turn(query, &stored) {
            watch.turns.add(turn, stored.id().uuid);
        }
        self.seen(query, stored)
    }

    /// When the record may be judged otherwise without having changed.
    fn next_turn(&self, query: &Query<'_>, stored: &Stored) -> Option<Now> {
        let (rules, now) = (&self.table.rules, self.open.now());
        let of_rules = rules.names_now().then(|| rules.next_turn(self.caller, stored.message(), now)).flatten();
        let of_filter = query.filter().filter(|filter| filter.names_now()).and_then(|filter: &Filter| {
            let hidden = self.hidden(stored);
            filter.next_turn(View::redacted(self.table, stored.clone(), &hidden).message(), &hidden, now)
        });
        of_rules.into_iter().chain(of_filter).min()
    }

    /// The records of the table that were written after a commit and up to another. None if they are too many, or are not
    /// noted any more.
    async fn changed_between(
        &mut self,
        query: &Query<'_>,
        version: CommitVersion,
        up_to: CommitVersion,
    ) -> Result<Option<Changed>, StoreError> {
        if self.open.noted_from(self.table, query.home()).await? > version {
            return Ok(None);
        }
        let mut notes = self.notes_after(query, version);
        let mut changed = Changed { records: BTreeMap::new(), since: BTreeMap::new() };
        let mut kept_bytes = 0;
        while !notes.is_empty() {
            for (written, note) in self.read_notes(&mut notes).await? {
                if written <= up_to {
                    changed.records.insert(note.uuid, State::Present);
                } else {
                    changed.add_since(note, &mut kept_bytes);
                }
            }
            if changed.records.len() + changed.since.len() > MAX_CHANGED {
                return Ok(None);
            }
            tokio::task::yield_now().await;
        }
        Ok(Some(changed))
    }

    /// Where the notes of commits after this one stand.
    pub(super) fn notes_after(&self, query: &Query<'_>, version: CommitVersion) -> KeyRange {
        let prefix = self.table.at(query.home()).changes();
        let start = join(prefix.clone(), &version.0.saturating_add(1).to_be_bytes());
        KeyRange { start, ..KeyRange::prefix(&prefix) }
    }

    /// Reads on in a range of notes. Gives them with the commits that left them.
    pub(super) async fn read_notes(&mut self, rest: &mut KeyRange) -> Result<Vec<(CommitVersion, Note)>, StoreError> {
        let RangeRead { rows, is_end } = self.open.page_in(rest.clone(), Order::Asc, NOTES).await?;
        match rows.last().filter(|_| !is_end) {
            Some((last, _)) => rest.start = key_after(last),
            None => rest.start = rest.end.clone(),
        }
        let malformed = || StoreError::Note { table: self.table.record.table.clone() };
        let read = |(key, note): &(Bytes, Bytes)| match parse(key)?.part {
            KeyPart::Change { version } => Some((CommitVersion(version), Note::from_bytes(note)?)),
            _ => None,
        };
        rows.iter().map(|row| read(row).ok_or_else(malformed)).collect()
    }
}
