//! What is kept in memory for callers until they take it: answers that are not read yet, and what watches remember. Each of the
//! two has a room, which accounts share ([`super::shares`]): a thousand callers who do not read hold no more of it than there is, and
//! one of them no more than he leaves to others.
//!
//! Nobody waits for room: he would hold his turn and his snapshot meanwhile, and stand in the way of those who need less. What
//! must never happen here: an answer to something that was stored that is refused for want of room, as if nothing had been done.

use super::shares::Shares;
use crate::{
    refusal::{Reason, Refusal},
    throttle::CallerKey,
};
use bytes::Bytes;
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// The room for answers. An account may have 64 streams open and read none of them.
const ANSWERS_BYTES: usize = 128 << 20;
/// The room for what watches remember: 200 of them that show all that they may have it filled.
const WATCHES_BYTES: usize = 128 << 20;
/// What is no larger than this counts for nothing: most answers are.
const SMALL_BYTES: usize = 4 * 1_024;
/// Answers to what was stored are given to somebody past his share. Once he leaves so much of that unread, nothing more is begun
/// with for him.
const MOST_PAST_BYTES: usize = 8 << 20;
/// When it makes sense to come back.
const COME_BACK: Duration = Duration::from_secs(1);

/// The rooms of a server.
#[derive(Debug)]
pub(super) struct Kept {
    answers: Shared,
    watches: Shared,
}

#[derive(Debug, Clone)]
struct Shared(Arc<Mutex<Shares<CallerKey>>>);

/// Somebody's part of a room, until this is dropped.
#[derive(Debug)]
pub(super) struct Room {
    shared: Shared,
    whose: CallerKey,
    bytes: usize,
}

/// Bytes that have their part of the room until nobody holds them any more.
struct InRoom {
    bytes: Bytes,
    _room: Room,
}

impl AsRef<[u8]> for InRoom {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Default for Kept {
    fn default() -> Self {
        Self { answers: Shared::new(ANSWERS_BYTES), watches: Shared::new(WATCHES_BYTES) }
    }
}

impl Kept {
    /// Whether anything may be begun with for him, who may have too much to read already.
    pub(super) fn may_begin(&self, whose: &CallerKey) -> Result<(), Refusal> {
        if self.answers.locked().past(whose) > MOST_PAST_BYTES { Err(no_room()) } else { Ok(()) }
    }

    /// Room for so many bytes of answers.
    pub(super) fn room_for(&self, whose: CallerKey, bytes: usize) -> Result<Room, Refusal> {
        let mut room = self.answers.room(whose, 0);
        room.resize(bytes)?;
        Ok(room)
    }

    /// The same bytes, which have their part of the room until they are sent.
    pub(super) fn keep(&self, whose: CallerKey, bytes: Bytes) -> Result<Bytes, Refusal> {
        if is_small(&bytes) {
            return Ok(bytes);
        }
        let _room = self.room_for(whose, bytes.len())?;
        Ok(Bytes::from_owner(InRoom { bytes, _room }))
    }

    /// The same, past his share if need be: the answer to what is stored.
    pub(super) fn keep_anyway(&self, whose: CallerKey, bytes: Bytes) -> Bytes {
        if is_small(&bytes) {
            return bytes;
        }
        let _room = self.room_anyway(whose, bytes.len());
        Bytes::from_owner(InRoom { bytes, _room })
    }

    /// Room for so many bytes of answers, past his share if need be.
    pub(super) fn room_anyway(&self, whose: CallerKey, bytes: usize) -> Room {
        let bytes = counted(bytes);
        self.answers.locked().take_anyway(whose.clone(), bytes);
        self.answers.room(whose, bytes)
    }

    /// Room for what a watch remembers, which is nothing yet.
    pub(super) fn room_of_watch(&self, whose: CallerKey) -> Room {
        self.watches.room(whose, 0)
    }

    /// What is kept in both rooms.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.answers.locked().taken() + self.watches.locked().taken()
    }
}

impl Shared {
    fn new(bytes: usize) -> Self {
        Self(Arc::new(Mutex::new(Shares::new(bytes))))
    }

    fn room(&self, whose: CallerKey, bytes: usize) -> Room {
        Room { shared: self.clone(), whose, bytes }
    }

    fn locked(&self) -> MutexGuard<'_, Shares<CallerKey>> {
        // Nothing panics while it is held: the counts are whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Room {
    /// From now on it is for so many bytes. Who is refused more keeps what he had.
    pub(super) fn resize(&mut self, bytes: usize) -> Result<(), Refusal> {
        let bytes = counted(bytes);
        let mut shares = self.shared.locked();
        if bytes <= self.bytes {
            shares.give_back(&self.whose, self.bytes - bytes);
        } else if !shares.take(self.whose.clone(), bytes - self.bytes) {
            return Err(no_room());
        }
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.shared.locked().give_back(&self.whose, self.bytes);
        }
    }
}

/// Whether these bytes need no room.
pub(super) fn is_small(bytes: &Bytes) -> bool {
    bytes.len() <= SMALL_BYTES
}

/// What so many bytes count for.
fn counted(bytes: usize) -> usize {
    if bytes <= SMALL_BYTES { 0 } else { bytes }
}

fn no_room() -> Refusal {
    Refusal::new(Reason::Overloaded, "too much waits to be read by those who asked for it")
        .help("wait a second, then try again; ask for less at a time, and read streams as they come")
        .wait(COME_BACK)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    const PAGE_BYTES: usize = 4 << 20;

    fn whose(number: u8) -> CallerKey {
        CallerKey::of(None, Some(IpAddr::from([192, 0, 2, number])))
    }

    fn page() -> Bytes {
        Bytes::from(vec![7; PAGE_BYTES])
    }

    /// All the pages that one can have.
    fn fill(kept: &Kept, number: u8) -> Vec<Bytes> {
        std::iter::from_fn(|| kept.keep(whose(number), page()).ok()).collect()
    }

    #[test]
    fn who_does_not_read_fills_his_own_share_and_others_have_their_answers() {
        let kept = Kept::default();
        let unread = fill(&kept, 1);
        assert_eq!(unread.len() * PAGE_BYTES, ANSWERS_BYTES / 2);
        let refused = kept.keep(whose(1), Bytes::from(vec![7; SMALL_BYTES + 1])).unwrap_err();
        assert_eq!((refused.reason, refused.retry_after()), (Reason::Overloaded, Some(COME_BACK)));
        kept.keep(whose(1), Bytes::from(vec![7; SMALL_BYTES])).unwrap();
        let others: Vec<_> = (2..5).map(|other| kept.keep(whose(other), page()).unwrap()).collect();
        assert_eq!(others.concat(), vec![7; 3 * PAGE_BYTES]);
        // A part of an answer that is not sent yet counts for all of it.
        let part = unread.last().unwrap().slice(10..20);
        drop((unread, others));
        assert_eq!(kept.bytes(), PAGE_BYTES);
        drop(part);
        assert_eq!(kept.bytes(), 0);
    }

    #[test]
    fn what_watches_remember_takes_nothing_from_answers() {
        let kept = Kept::default();
        let mut watch = kept.room_of_watch(whose(1));
        watch.resize(WATCHES_BYTES / 2).unwrap();
        assert_eq!(watch.resize(WATCHES_BYTES).unwrap_err().reason, Reason::Overloaded);
        assert_eq!(kept.room_of_watch(whose(1)).resize(SMALL_BYTES + 1).unwrap_err().reason, Reason::Overloaded);
        kept.room_of_watch(whose(2)).resize(WATCHES_BYTES / 4).unwrap();
        assert_eq!(fill(&kept, 1).len() * PAGE_BYTES, ANSWERS_BYTES / 2);
        watch.resize(1_000_000).unwrap();
        assert_eq!(kept.bytes(), 1_000_000, "who was refused more keeps what he had, until he needs less");
        watch.resize(SMALL_BYTES).unwrap();
        assert_eq!(kept.bytes(), 0);
    }

    #[test]
    fn the_answer_to_what_was_stored_is_given_and_counted() {
        let kept = Kept::default();
        let mut unread = fill(&kept, 1);
        for _ in 0..=MOST_PAST_BYTES / PAGE_BYTES {
            kept.may_begin(&whose(1)).unwrap();
            unread.push(kept.keep_anyway(whose(1), page()));
        }
        assert_eq!(kept.may_begin(&whose(1)).unwrap_err().reason, Reason::Overloaded);
        kept.may_begin(&whose(2)).unwrap();
        assert_eq!(fill(&kept, 2).len() * PAGE_BYTES, ANSWERS_BYTES / 4, "others have theirs as before");
        unread.pop();
        kept.may_begin(&whose(1)).unwrap();
        assert!(kept.keep(whose(1), page()).is_err());
        drop(unread);
        assert_eq!(kept.bytes(), 0);
        drop(kept.keep_anyway(whose(1), page()));
        assert_eq!(kept.bytes(), 0);
    }
}
