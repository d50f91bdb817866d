//! Ids in order out of key ranges: one range, and the union of several.
//!
//! All streams of ids speak one language: [`Cursor::seek`] takes a place in the order and gives the first id there or
//! behind it. Whoever walks on asks from one step further. A stream remembers where it stands, so that a seek to where it
//! is costs nothing, and reads ahead as long as it is walked through without long leaps.

use crate::{
    engine::{EngineError, KeyRange, Order, RangeRead},
    key::{from_uuid, up_to_uuid, uuid_of},
    open::Open,
};
use bytes::Bytes;
use std::collections::VecDeque;
use uuid::Uuid;

/// Index rows of the first read of a range: a page of usual length, where all of it is visible.
const FIRST_BATCH: usize = 64;
/// Records of the first read of a range, and rows of each first read after a leap.
const SMALL_BATCH: usize = 16;
/// Most index rows of one read. Each batch is twice the last, so that a long walk takes few reads and a short one reads
/// little that nobody wants.
const MAX_BATCH: usize = 512;
/// Most records of one read. Where they are long it ends before, at [`MAX_RANGE_BYTES`](crate::engine::MAX_RANGE_BYTES).
const MAX_RECORD_BATCH: usize = 64;

/// An id that a stream gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// Which record.
    pub(crate) uuid: Uuid,
    /// Its sealed bytes, where the range that gave it is that of the records themselves.
    pub(crate) stored: Option<Bytes>,
}

/// Whether `a` stands in front of `b`.
pub(crate) fn is_before(order: Order, a: Uuid, b: Uuid) -> bool {
    match order {
        Order::Asc => a < b,
        Order::Desc => a > b,
    }
}

/// The first place of all.
pub(crate) const fn beginning(order: Order) -> Uuid {
    match order {
        Order::Asc => Uuid::nil(),
        Order::Desc => Uuid::max(),
    }
}

/// The place right behind an id; none behind the last.
pub(crate) fn behind(order: Order, uuid: Uuid) -> Option<Uuid> {
    let next = match order {
        Order::Asc => uuid.as_u128().checked_add(1),
        Order::Desc => uuid.as_u128().checked_sub(1),
    };
    next.map(Uuid::from_u128)
}

/// The ids of one key range `prefix | uuid`.
#[derive(Debug)]
pub(crate) struct Cursor {
    prefix: Bytes,
    order: Order,
    /// Values are sealed records, not empty.
    holds_records: bool,
    /// Read ahead, in order.
    ahead: VecDeque<Candidate>,
    /// From where on nothing has been read yet; none if the range has been read to its end.
    unread: Option<Uuid>,
    batch: usize,
    /// Seeks that moved on in what was read last. One or two are leaps; more are a walk, and so is the intersection of
    /// two ranges that are about as dense.
    stops: usize,
}

impl Cursor {
    /// Over index rows, which have no value.
    pub(crate) fn over_rows(prefix: Bytes, order: Order) -> Self {
        let unread = Some(beginning(order));
        Self { prefix, order, holds_records: false, ahead: VecDeque::new(), unread, batch: FIRST_BATCH, stops: 0 }
    }

    /// Over the records of a table.
    pub(crate) fn over_records(prefix: Bytes, order: Order) -> Self {
        Self { holds_records: true, batch: SMALL_BATCH, ..Self::over_rows(prefix, order) }
    }

    /// The first id at `from` or behind it. Places must not go back from one seek to the next.
    pub(crate) async fn seek(&mut self, open: &mut Open, from: Uuid) -> Result<Option<&Candidate>, EngineError> {
        let stood = self.ahead.len();
        while self.ahead.front().is_some_and(|first| is_before(self.order, first.uuid, from)) {
            self.ahead.pop_front();
        }
        self.stops += usize::from(self.ahead.len() < stood);
        if self.ahead.is_empty()
            && let Some(unread) = self.unread
        {
            let leap = is_before(self.order, unread, from) && unread != beginning(self.order);
            self.batch = if leap && self.stops < 3 { SMALL_BATCH } else { self.batch };
            self.read(open, if is_before(self.order, unread, from) { from } else { unread }).await?;
            self.stops = 0;
        }
        Ok(self.ahead.front())
    }

    async fn read(&mut self, open: &mut Open, from: Uuid) -> Result<(), EngineError> {
        let keys: KeyRange = match self.order {
            Order::Asc => from_uuid(&self.prefix, from),
            Order::Desc => up_to_uuid(&self.prefix, from),
        };
        let RangeRead { rows, is_end } = open.page_in(keys, self.order, self.batch).await?;
        for (key, value) in rows {
            let Some(uuid) = uuid_of(&key) else { continue };
            self.ahead.push_back(Candidate { uuid, stored: self.holds_records.then_some(value) });
        }
        self.unread = match self.ahead.back() {
            Some(last) if !is_end => behind(self.order, last.uuid),
            _ => None,
        };
        self.batch = (self.batch * 2).min(if self.holds_records { MAX_RECORD_BATCH } else { MAX_BATCH });
        Ok(())
    }
}

/// The ids that any of several ranges holds: the values of an `in`, the key generations of a token.
#[derive(Debug)]
pub(crate) struct AnyOf {
    pub(crate) cursors: Vec<Cursor>,
    pub(crate) order: Order,
}

impl AnyOf {
    /// The first id at `from` or behind it in any of the ranges.
    pub(crate) async fn seek(&mut self, open: &mut Open, from: Uuid) -> Result<Option<Candidate>, EngineError> {
        let mut first: Option<Candidate> = None;
        for cursor in &mut self.cursors {
            let Some(candidate) = cursor.seek(open, from).await? else { continue };
            if first.as_ref().is_none_or(|first| is_before(self.order, candidate.uuid, first.uuid)) {
                first = Some(candidate.clone());
            }
        }
        Ok(first)
    }
}
