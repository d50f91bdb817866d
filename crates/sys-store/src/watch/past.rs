//! What a caller was shown at an earlier commit: judged anew on the states of that time.
//!
//! A record that has not been written since stands there as it was. Of one that has, the first note behind that commit
//! holds the state before: of several notes it is the one whose state is not younger than the commit, so that nothing
//! need be remembered on the way.

use super::{MAX_WATCHED, Point, Rights, Watch, too_many};
use crate::{
    confined::Confined,
    cursor::{beginning, behind},
    engine::Order,
    key::record_id,
    list::Query,
    prune::KEPT_S,
    records::Stored,
    refused::Refused,
};
use sys_keys::SpaceKeys;

impl Confined<'_> {
    /// Whether all that was shown at a point can be told from what is stored. Follows from the age of the point, and not from
    /// whether anything has been written since.
    pub(super) async fn is_kept(&mut self, query: &Query<'_>, point: &Point, rights: Rights) -> Result<bool, Refused> {
        let is_young = self.open.now().unix_s < point.at.unix_s.saturating_add(KEPT_S);
        // A store that was restored has not come so far; notes may have gone early if the clock was set.
        let is_here = point.version <= self.open.snapshot_version()
            && self.open.noted_from(self.table, query.home()).await? <= point.version;
        Ok(is_young && is_here && point.rights == rights)
    }

    /// Makes a watch one that has shown what was to be shown at a point.
    pub(super) async fn show_past(
        &mut self,
        watch: &mut Watch,
        query: &Query<'_>,
        point: &Point,
    ) -> Result<(), Refused> {
        watch.seen = point.version;
        watch.judged_at = point.at;
        watch.expiry = self.caller.next_expiry(&point.at);
        let Some(keys) = self.keys_to_list(self.table.at(query.home())).await? else { return Ok(()) };
        let present = std::mem::replace(&mut self.open.now, point.at);
        let shown = self.show_states(watch, query, point, &keys).await;
        self.open.now = present;
        shown
    }

    async fn show_states(
        &mut self,
        watch: &mut Watch,
        query: &Query<'_>,
        point: &Point,
        keys: &SpaceKeys,
    ) -> Result<(), Refused> {
        let mut candidates = self.candidates(query, keys, Order::Asc).await?;
        let mut from = Some(beginning(Order::Asc));
        while let Some(place) = from {
            let Some(candidate) = candidates.seek(self.open, place).await? else { break };
            from = behind(Order::Asc, candidate.uuid);
            let stored = self.open_candidate(query, candidate).await?;
            self.show_state(watch, query, point, stored)?;
        }
        let space = self.table.at(query.home()).space;
        let mut notes = self.notes_after(query, point.version);
        while !notes.is_empty() {
            for (_, note) in self.read_notes(&mut notes).await? {
                let Some(before) = note.before else { continue };
                let stored = self.open.open_record(self.table, record_id(space, note.uuid), before)?;
                self.show_state(watch, query, point, stored)?;
            }
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// A state of a record: if it is the one at the point, it is what was shown.
    fn show_state(&self, watch: &mut Watch, query: &Query<'_>, point: &Point, stored: Stored) -> Result<(), Refused> {
        if stored.version() > point.version {
            return Ok(());
        }
        let uuid = stored.id().uuid;
        if let Some(view) = self.shown(watch, query, stored) {
            let hash = self.hash(watch, &view);
            watch.known.insert(uuid, hash);
        }
        if watch.known.len() > MAX_WATCHED { Err(too_many()) } else { Ok(()) }
    }
}
