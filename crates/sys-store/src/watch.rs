//! What is new, for one caller: the way from a commit to somebody who watches.
//!
//! A [`Watch`] is what a list would show its caller, kept: the ids of these records, and of each a short hash of the view.
//! [`Confined::follow`] brings it up to date and says what became different. It judges present states alone, by the same
//! code as a list, and holds them against what it keeps: so a record that is hidden before and after is nothing, a change
//! of a field that the caller may not read is nothing, and what is no longer shown is named by its id, which he had. What
//! the caller gets follows from what the lists would have been, and from nothing else: applied to an empty map, the events up
//! to [`WatchEvent::Current`] give what a list shows at that moment.
//!
//! What is new is told up to a [`Moment`], which is chosen without regard to what was written. A look that happens only because
//! something was, is begun a little later or earlier by what is hidden, too: it must not show what others have not been shown
//! yet. So a look leaves what was written behind its moment to the next one.
//!
//! Work goes in rounds. A round is the records that were changed since the last one (their notes, `crate::note`), with
//! those whose conditions on `now` have turned, or all records: at the beginning, and when the caller's rights or the contract
//! have changed. A round goes through its records by id and may take several calls, so that neither a call's time nor its
//! memory hangs on how much there is. A resume token (`token`) names a commit and a time; what the caller was shown there is
//! found again by judging the states of that time (`past`).
//!
//! Must never happen here: an event that follows from a record which the caller may read neither before nor after; a commit
//! number outside a sealed token.

mod past;
mod round;
mod token;
mod turns;

use crate::{
    confined::Confined,
    engine::CommitVersion,
    list::{Lasting, ListRequest, Query},
    open::Open,
    refused::{Refused, StoreError},
    view::View,
};
use round::Round;
use std::{
    collections::BTreeMap,
    hash::{BuildHasher, RandomState},
    sync::Arc,
};
use sys_contract::id::RecordId;
use sys_keys::length_prefixed;
use sys_policy::Now;
pub(crate) use token::Point;
use token::Rights;
use turns::Turns;
use uuid::Uuid;

/// Most records that one watch shows. Each takes some 60 bytes as long as somebody watches.
pub const MAX_WATCHED: usize = 10_000;
/// What a record that is shown takes, with what the tree around it leaves unused; and one whose moment is kept.
const KNOWN_BYTES: usize = 48;
const TURN_BYTES: usize = 80;
/// Seconds after which a token is given again though nothing has changed, so that it does not grow too old to be used.
pub const WATCH_BEAT_S: i64 = 60;

/// A watch as it is asked for. What it shows is what a list with the same org, project and filter shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WatchRequest {
    /// The org; needed for records at home in one.
    pub org_id: String,
    /// Only the records of this project.
    pub project_id: String,
    /// A condition in the CEL subset.
    pub filter: String,
    /// Empty to begin anew, else what the last [`WatchEvent::Current`] gave.
    pub resume_token: String,
}

/// What a watcher is told.
#[derive(Debug, Clone, PartialEq)]
pub enum WatchEvent {
    /// Forget what you were shown: all of it comes again. The first event of each watch that does not go on from a token.
    Reset,
    /// A record that was not shown is shown now.
    Added(View),
    /// A record that is shown looks different now.
    Changed(View),
    /// A record that was shown is not any more: gone, hidden, or no longer matching; which of these is not said.
    Removed(RecordId),
    /// What was told up to here is what a list shows now. A watch that goes on from the token tells what comes after this.
    Current {
        /// Sealed for this caller and this request.
        resume_token: String,
    },
}

/// Up to where a watch is to be told what is new, and the time for which it is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    pub(crate) version: CommitVersion,
    pub(crate) now: Now,
}

impl Moment {
    /// That of a transaction: all that it sees.
    pub fn of(open: &Open) -> Self {
        Self { version: open.snapshot_version(), now: *open.now() }
    }

    /// Its time.
    pub fn now(&self) -> Now {
        self.now
    }
}

/// What one call of [`Confined::follow`] brings.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// To be sent in this order. Empty if there is nothing to tell.
    pub events: Vec<WatchEvent>,
    /// There is more to do: call again, in a new transaction, as soon as these are sent.
    pub more: bool,
    /// Call again at this time, if nothing is committed before: a condition turns, a binding expires, a token is due.
    pub wake_at: Option<Now>,
}

/// What one caller is shown of the records of a table, and how far it is up to date. It holds no record, no key and no
/// transaction.
#[derive(Debug)]
pub struct Watch {
    asked: Arc<Lasting>,
    /// Under which rights and contract `known` was judged.
    rights: Rights,
    /// What is shown: the hash of each view, keyed, so that nobody makes two views that share it.
    known: BTreeMap<Uuid, u64>,
    hasher: RandomState,
    /// Commits up to here have been taken into a round.
    seen: CommitVersion,
    /// The time of the last judgement.
    judged_at: Now,
    /// From when on a binding that counted at the last round of all records counts no more.
    expiry: Option<Now>,
    turns: Turns,
    round: Option<Round>,
    /// [`WatchEvent::Reset`] is to be told first.
    reset: bool,
    /// Something was told since the last [`WatchEvent::Current`], or none was told yet.
    told: bool,
    /// When the last was told.
    beat: Now,
}

impl Watch {
    fn new(asked: Arc<Lasting>, rights: Rights, now: Now) -> Self {
        Self {
            asked,
            rights,
            known: BTreeMap::new(),
            hasher: RandomState::new(),
            seen: CommitVersion::default(),
            judged_at: now,
            expiry: None,
            turns: Turns::default(),
            round: None,
            reset: false,
            told: true,
            beat: now,
        }
    }

    /// How many records are shown.
    pub fn shown(&self) -> usize {
        self.known.len()
    }

    /// About how many bytes of memory it takes as it is.
    pub fn size_bytes(&self) -> usize {
        let round = self.round.as_ref().map_or(0, Round::size_bytes);
        self.known.len() * KNOWN_BYTES + self.turns.len() * TURN_BYTES + round
    }

    /// When it must be followed again though nothing is committed.
    fn wake_at(&self) -> Now {
        [self.turns.next(), self.expiry].into_iter().flatten().fold(self.next_beat(), Now::min)
    }

    /// When the next token is due.
    fn next_beat(&self) -> Now {
        Now { unix_s: self.beat.unix_s.saturating_add(WATCH_BEAT_S), ..self.beat }
    }
}

impl Confined<'_> {
    /// Begins to watch, or goes on from a token. Nothing is shown yet: see [`Confined::follow`].
    ///
    /// A token that was changed, or is of another caller, request or server, is refused. One that is too old (an hour), or
    /// from before a change of the caller's rights or of the contract, begins anew with [`WatchEvent::Reset`].
    pub async fn watch(&mut self, request: &WatchRequest) -> Result<Watch, Refused> {
        let asked = ListRequest {
            org_id: request.org_id.clone(),
            project_id: request.project_id.clone(),
            filter: request.filter.clone(),
            ..ListRequest::default()
        };
        let asked = Arc::new(Lasting::parse(self.table, self.caller, asked)?);
        let query = asked.query();
        self.open.check_current(self.table).await?;
        let rights = self.rights()?;
        let mut watch = Watch::new(asked.clone(), rights, *self.open.now());
        if !request.resume_token.is_empty() {
            let point = token::open(self.open, self.table, &query, &request.resume_token)?;
            if self.is_kept(&query, &point, rights).await? {
                self.show_past(&mut watch, &query, &point).await?;
                return Ok(watch);
            }
        }
        watch.reset = true;
        Ok(watch)
    }

    /// Brings a watch up to a moment, or a part of the way, and says what is new. The caller must be the one who began it; his
    /// rights may have changed. The transaction sees that moment and may see more, of which nothing is told where notes tell
    /// the one from the other: all but a round of all records, and one that takes several calls.
    ///
    /// To be called on a transaction of its own: as soon as [`Batch::more`] says so, when something was committed
    /// ([`crate::Store::changes`]), and at [`Batch::wake_at`]. After an error the watch is not to be used any more. Fails
    /// with [`Refused::Invalid`] when more than [`MAX_WATCHED`] records match, and with [`StoreError::Superseded`] when the
    /// module was loaded anew and the table is of before.
    pub async fn follow(&mut self, watch: &mut Watch, up_to: &Moment) -> Result<Batch, Refused> {
        if watch.asked.account() != self.caller.account() {
            return Err(StoreError::ForeignPermit.into());
        }
        // Whoever goes on for long must not go on under rules that were narrowed meanwhile.
        if !self.open.store.is_last_loaded(self.table) {
            return Err(StoreError::Superseded { module: self.table.module.clone() }.into());
        }
        self.open.now = up_to.now;
        let asked = watch.asked.clone();
        let query = asked.query();
        let keys = self.keys_to_list(self.table.at(query.home())).await?;
        let rights = self.rights()?;
        let begun = self.take_up(watch, &query, rights, up_to.version).await?;
        let mut events = Vec::new();
        if std::mem::take(&mut watch.reset) {
            events.push(WatchEvent::Reset);
        }
        let done = self.work(watch, &query, keys.as_deref(), &mut events).await?;
        watch.judged_at = *self.open.now();
        watch.told |= !events.is_empty();
        let is_current = begun && done;
        if watch.known.len() > if is_current { MAX_WATCHED } else { 2 * MAX_WATCHED } {
            return Err(too_many());
        }
        if is_current {
            events.extend(self.current(watch, &query)?);
        }
        Ok(Batch { events, more: !is_current, wake_at: is_current.then(|| watch.wake_at()) })
    }

    /// What is told once everything else is: a token, if there is reason for one.
    fn current(&mut self, watch: &mut Watch, query: &Query<'_>) -> Result<Option<WatchEvent>, Refused> {
        let now = *self.open.now();
        let is_due = now >= watch.next_beat() || now < watch.beat;
        if !watch.told && !is_due {
            return Ok(None);
        }
        watch.told = false;
        watch.beat = now;
        let point = Point { version: watch.seen, at: now, rights: watch.rights };
        Ok(Some(WatchEvent::Current { resume_token: token::seal(self.open, self.table, query, &point)? }))
    }

    /// A hash of all that the judgement of a record at a given time hangs on, apart from the record.
    fn rights(&self) -> Result<Rights, StoreError> {
        let keys = self.open.store.system_keys()?;
        let rights = length_prefixed(&[&self.caller.rights(), &self.table.contract]);
        Ok(Rights(keys.newest().etag(&rights)))
    }

    /// A view's hash, before its etag is set: that follows from the rest, and from the key generation.
    fn hash(&self, watch: &Watch, view: &View) -> u64 {
        watch.hasher.hash_one(view.canonical(self.table))
    }
}

fn too_many() -> Refused {
    Refused::invalid(
        "filter",
        format!(
            "more than {MAX_WATCHED} records match, and a watch shows no more: narrow the filter, or name a project"
        ),
    )
}
