//! The streams that are open: how many there are and whose, and how each is told to look at its right once more.
//!
//! A stream holds a place here from the moment it is let in until it has ended. What must never happen here: a stream without
//! a place, which nobody could end.

use crate::{
    clock::Clock,
    refusal::{Reason, Refusal},
};
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};
use sys_contract::id::AccountId;
use sys_net::Network;
use tokio::sync::Notify;

/// Streams that are open at once. An idle one takes less than 50 KB.
const MOST: usize = 16_384;
/// Of one account: a few devices with a few windows each.
const MOST_OF_ACCOUNT: usize = 64;
/// From one source, which may be a whole office.
const MOST_OF_SOURCE: usize = 2_048;
/// How long a stream lasts, by the server's clock.
pub(super) const LONGEST_S: i64 = 3_600;
/// A stream looks at its right at least this often, also where nothing told it to: when a commit was made by another hand than
/// the gate's.
pub(super) const RECHECK_S: i64 = 10;
/// How often it is looked whose time has come.
const LOOK: Duration = Duration::from_millis(500);
/// When it makes sense to come back to a server that stops.
const COME_BACK: Duration = Duration::from_secs(1);

/// The open streams of a server.
#[derive(Debug, Default)]
pub(crate) struct OpenStreams {
    places: Mutex<Places>,
    stopping: AtomicBool,
    /// For a load of one's own: all sources and accounts share what there is.
    counts_all_alike: bool,
}

#[derive(Debug, Default)]
struct Places {
    next_number: u64,
    all: HashMap<u64, Arc<Told>>,
    by_account: HashMap<AccountId, HashMap<u64, Arc<Told>>>,
    by_source: HashMap<Network, usize>,
}

/// What a stream is told from outside.
#[derive(Debug)]
pub(super) struct Told {
    /// To look at its right.
    pub(super) judge: Notify,
    /// To end where it next waits.
    pub(super) wind_up: Notify,
    due_unix_s: AtomicI64,
    ends_unix_s: i64,
}

/// The place of a stream, which is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    streams: Arc<OpenStreams>,
    number: u64,
    account: Option<AccountId>,
    source: Option<Network>,
    pub(super) told: Arc<Told>,
}

impl OpenStreams {
    pub(crate) fn new(counts_all_alike: bool) -> Self {
        Self { counts_all_alike, ..Self::default() }
    }

    /// A place for a stream of this account from this source, which begins now.
    pub(crate) fn open(
        self: &Arc<Self>,
        account: Option<AccountId>,
        source: Option<IpAddr>,
        now_unix_s: i64,
    ) -> Result<Place, Refusal> {
        let source = source.map(Network::of);
        let mut places = self.locked();
        // Under the lock, so that whoever is let in before the end hears of it.
        if self.is_stopping() {
            return Err(stopping());
        }
        let of_account = account.and_then(|account| places.by_account.get(&account)).map_or(0, HashMap::len);
        let of_source = source.and_then(|source| places.by_source.get(&source)).copied().unwrap_or(0);
        let too_many = !self.counts_all_alike && (of_account >= MOST_OF_ACCOUNT || of_source >= MOST_OF_SOURCE);
        if too_many || places.all.len() >= MOST {
            return Err(Refusal::new(Reason::TooManyStreams, "too many streams are open")
                .help("end some that you have open, or wait until others end theirs"));
        }
        let told = Arc::new(Told {
            judge: Notify::new(),
            wind_up: Notify::new(),
            due_unix_s: AtomicI64::new(now_unix_s),
            ends_unix_s: now_unix_s.saturating_add(LONGEST_S),
        });
        let number = places.next_number;
        places.next_number += 1;
        places.all.insert(number, told.clone());
        if let Some(account) = account {
            places.by_account.entry(account).or_default().insert(number, told.clone());
        }
        if let Some(source) = source {
            *places.by_source.entry(source).or_default() += 1;
        }
        Ok(Place { streams: self.clone(), number, account, source, told })
    }

    /// Something about this account has changed: its streams look at their right.
    pub(crate) fn stir(&self, account: AccountId) {
        for told in self.locked().by_account.get(&account).into_iter().flat_map(HashMap::values) {
            told.judge.notify_one();
        }
    }

    /// Ends all streams where they next wait, and lets no others in.
    pub(crate) fn stop(&self) {
        let places = self.locked();
        self.stopping.store(true, Ordering::Release);
        places.all.values().for_each(|told| told.wind_up.notify_one());
    }

    /// How many are open.
    pub(crate) fn count(&self) -> usize {
        self.locked().all.len()
    }

    /// Tells streams whose time has come, as long as there is a server.
    pub(crate) fn tend(self: &Arc<Self>, clock: Clock) {
        let streams = Arc::downgrade(self);
        tokio::spawn(async move {
            while let Some(streams) = Weak::upgrade(&streams) {
                streams.look(clock.now().unix_s);
                drop(streams);
                tokio::time::sleep(LOOK).await;
            }
        });
    }

    fn look(&self, now_unix_s: i64) {
        for told in self.locked().all.values() {
            let due_unix_s = told.due_unix_s.load(Ordering::Relaxed);
            // A clock that was set back must not let anybody stay longer unseen.
            if now_unix_s >= due_unix_s || due_unix_s.saturating_sub(now_unix_s) > RECHECK_S {
                told.judge.notify_one();
            }
            if now_unix_s >= told.ends_unix_s {
                told.wind_up.notify_one();
            }
        }
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    fn locked(&self) -> MutexGuard<'_, Places> {
        // Each change is whole before anything can panic.
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Why the stream must end where it waits, if it must.
    pub(super) fn must_end(&self, now_unix_s: i64) -> Option<Refusal> {
        if self.streams.is_stopping() {
            return Some(stopping());
        }
        (now_unix_s >= self.told.ends_unix_s).then(|| {
            Refusal::new(Reason::StreamOver, "the stream has lasted as long as a stream may").help("open another one")
        })
    }

    /// The stream has looked at its right, which is good until this second at most.
    pub(super) fn judged(&self, now_unix_s: i64, good_until_unix_s: i64) {
        let due_unix_s = good_until_unix_s.min(now_unix_s.saturating_add(RECHECK_S));
        self.told.due_unix_s.store(due_unix_s, Ordering::Relaxed);
    }

    /// The stream wants to look at its right at this second at the latest.
    pub(super) fn due_by(&self, unix_s: i64) {
        self.told.due_unix_s.fetch_min(unix_s, Ordering::Relaxed);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = self.streams.locked();
        places.all.remove(&self.number);
        if let Some(account) = self.account
            && let Some(of_account) = places.by_account.get_mut(&account)
        {
            of_account.remove(&self.number);
            if of_account.is_empty() {
                places.by_account.remove(&account);
            }
        }
        if let Some(source) = self.source
            && let Some(of_source) = places.by_source.get_mut(&source)
        {
            *of_source -= 1;
            if *of_source == 0 {
                places.by_source.remove(&source);
            }
        }
    }
}

fn stopping() -> Refusal {
    Refusal::new(Reason::ServerStopping, "the server is about to stop")
        .help("open the stream again in a moment")
        .wait(COME_BACK)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use sys_contract::id::{OrgTag, RecordId};

    fn account(number: u64) -> AccountId {
        AccountId::from_record(RecordId::new(OrgTag::GLOBAL, number, [0; 10]))
    }

    fn is_told(notify: &Notify) -> bool {
        notify.notified().now_or_never().is_some()
    }

    #[test]
    fn streams_are_counted_by_account_by_source_and_together_until_they_end() {
        let streams = Arc::new(OpenStreams::new(false));
        let source = |number: u32| Some(IpAddr::from((0x0a00_0000 + number).to_be_bytes()));
        let reason = |opened: Result<Place, Refusal>| opened.map(drop).map_err(|refusal| refusal.reason);
        let mut open: Vec<_> =
            (0..MOST_OF_ACCOUNT).map(|_| streams.open(Some(account(1)), source(1), 0).unwrap()).collect();
        assert_eq!(reason(streams.open(Some(account(1)), source(2), 0)), Err(Reason::TooManyStreams));
        open.pop();
        open.push(streams.open(Some(account(1)), source(2), 0).unwrap());
        while let Ok(place) = streams.open(None, source(1), 0) {
            open.push(place);
        }
        assert_eq!(open.len(), MOST_OF_SOURCE + 1, "but for one, all are of one source");
        assert_eq!(reason(streams.open(Some(account(2)), source(2), 0)), Ok(()), "another's");
        let mut number = 3;
        while let Ok(place) = streams.open(None, source(number), 0) {
            open.push(place);
            number += 1;
        }
        assert_eq!((open.len(), streams.count()), (MOST, MOST));
        drop(open);
        let places = streams.locked();
        assert!(places.all.is_empty() && places.by_account.is_empty() && places.by_source.is_empty());
    }

    #[test]
    fn only_the_streams_of_the_account_are_stirred() {
        let streams = Arc::new(OpenStreams::new(false));
        let [mine, other, nobodys] =
            [Some(account(1)), Some(account(2)), None].map(|account| streams.open(account, None, 0).unwrap());
        streams.stir(account(1));
        assert!(is_told(&mine.told.judge) && !is_told(&mine.told.wind_up));
        assert!(!is_told(&other.told.judge) && !is_told(&nobodys.told.judge));
    }

    #[test]
    fn a_stream_is_told_when_its_right_is_due_and_when_its_hour_is_over() {
        let streams = Arc::new(OpenStreams::new(false));
        let place = streams.open(None, None, 1_000).unwrap();
        let told = |at| {
            streams.look(at);
            (is_told(&place.told.judge), is_told(&place.told.wind_up))
        };
        place.judged(1_000, 1_005);
        assert_eq!(told(1_004), (false, false));
        assert_eq!(told(1_005), (true, false));
        place.judged(1_005, i64::MAX);
        assert_eq!(told(1_005 + RECHECK_S - 1), (false, false));
        assert_eq!(told(1_005 + RECHECK_S), (true, false));
        assert_eq!(told(900), (true, false), "a clock that was set back");
        assert_eq!(place.must_end(1_000 + LONGEST_S - 1), None);
        assert_eq!(told(1_000 + LONGEST_S), (true, true));
        assert_eq!(place.must_end(1_000 + LONGEST_S).unwrap().reason, Reason::StreamOver);
    }

    #[test]
    fn a_server_that_stops_tells_all_and_lets_nobody_in() {
        let streams = Arc::new(OpenStreams::new(false));
        let place = streams.open(None, None, 0).unwrap();
        assert_eq!(place.must_end(0), None);
        streams.stop();
        assert!(is_told(&place.told.wind_up));
        let refusal = place.must_end(0).unwrap();
        assert_eq!((refusal.reason, refusal.retry_after()), (Reason::ServerStopping, Some(COME_BACK)));
        assert_eq!(streams.open(None, None, 0).unwrap_err().reason, Reason::ServerStopping);
    }
}
