//! What is kept in memory for callers until they take it: answers that are not read yet, and what watches remember. All of it
//! shares one room, so that a thousand callers who do not read hold no more of it than there is.
//!
//! Who finds no room waits for some, and not for long. What must never happen here: an answer to something that was stored
//! that is refused for want of room, as if nothing had been done.

use crate::refusal::{Reason, Refusal};
use bytes::Bytes;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// The room. An account may have 64 streams open and read none of them.
const ROOM_BYTES: usize = 128 << 20;
/// It is given away in parts of so many.
const UNIT_BYTES: usize = 1_024;
/// What is no larger than this counts for nothing: most answers are.
const SMALL_BYTES: usize = 4 * 1_024;
/// The longest wait for room, and when it makes sense to come back.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
const COME_BACK: Duration = Duration::from_secs(1);

/// The room of a server.
#[derive(Debug)]
pub(super) struct Kept(Arc<Semaphore>);

/// A part of the room, until this is dropped.
#[derive(Debug)]
pub(super) struct Room {
    units: Arc<Semaphore>,
    part: Option<OwnedSemaphorePermit>,
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
        Self(Arc::new(Semaphore::new(ROOM_BYTES / UNIT_BYTES)))
    }
}

impl Kept {
    /// An empty part of the room.
    pub(super) fn room(&self) -> Room {
        Room { units: self.0.clone(), part: None }
    }

    /// Room for so many bytes.
    pub(super) async fn room_for(&self, bytes: usize) -> Result<Room, Refusal> {
        let mut room = self.room();
        room.resize(bytes).await?;
        Ok(room)
    }

    /// The same bytes, which have their part of the room until they are sent.
    pub(super) async fn keep(&self, bytes: Bytes) -> Result<Bytes, Refusal> {
        if is_small(&bytes) {
            return Ok(bytes);
        }
        let _room = self.room_for(bytes.len()).await?;
        Ok(Bytes::from_owner(InRoom { bytes, _room }))
    }
}

impl Room {
    /// From now on it is for so many bytes. Waits where there is no room for more.
    pub(super) async fn resize(&mut self, bytes: usize) -> Result<(), Refusal> {
        let units = bytes.saturating_sub(SMALL_BYTES).div_ceil(UNIT_BYTES).min(ROOM_BYTES / UNIT_BYTES);
        let has = self.part.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        if units <= has {
            drop(self.part.as_mut().and_then(|part| part.split(has - units)));
            return Ok(());
        }
        let more = u32::try_from(units - has).map_err(Refusal::internal)?;
        let more = match timeout(LONGEST_WAIT, self.units.clone().acquire_many_owned(more)).await {
            Ok(more) => more.map_err(Refusal::internal)?,
            Err(_) => return Err(no_room()),
        };
        match &mut self.part {
            Some(part) => part.merge(more),
            None => self.part = Some(more),
        }
        Ok(())
    }
}

/// Whether these bytes need no room.
pub(super) fn is_small(bytes: &Bytes) -> bool {
    bytes.len() <= SMALL_BYTES
}

fn no_room() -> Refusal {
    Refusal::new(Reason::Overloaded, "too much waits to be read by those who asked for it")
        .help("wait a second, then try again; ask for less at a time, and read streams as they come")
        .wait(COME_BACK)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[tokio::test(start_paused = true)]
    async fn all_share_the_room_and_who_finds_none_is_told_when_to_come_back() {
        let kept = Kept::default();
        let most = ROOM_BYTES + SMALL_BYTES;
        let mut all = kept.room_for(most).await.unwrap();
        let refused = kept.keep(Bytes::from(vec![7; SMALL_BYTES + 1])).await.unwrap_err();
        assert_eq!((refused.reason, refused.retry_after()), (Reason::Overloaded, Some(COME_BACK)));
        kept.keep(Bytes::from(vec![7; SMALL_BYTES])).await.unwrap();
        // Who lets go of some lets in who waits; who is refused more keeps what he had.
        let mut waiting = Box::pin(kept.keep(Bytes::from(vec![7; 100_000])));
        assert!((&mut waiting).now_or_never().is_none());
        all.resize(most - 200_000).await.unwrap();
        let answer = waiting.await.unwrap();
        assert_eq!(answer, vec![7; 100_000]);
        assert_eq!(all.resize(most).await.unwrap_err().reason, Reason::Overloaded);
        assert!(kept.room_for(150_000).await.is_err());
        let part = answer.slice(10..20);
        drop(answer);
        assert!(kept.room_for(150_000).await.is_err(), "a part of it is not sent yet");
        drop(part);
        drop(kept.room_for(150_000).await.unwrap());
        drop(all);
        // What is larger than the room has all of it, and not for ever to wait.
        drop(kept.room_for(usize::MAX).await.unwrap());
        assert_eq!(kept.0.available_permits(), ROOM_BYTES / UNIT_BYTES);
    }
}
