//! A list in the order of an ORDERED index, and ids out of one of its ranges.
//!
//! The values of such an index stand in its keys, so that it is walked in their order. It decides what is walked only for
//! a caller who may read every record of the table: the walk then passes nothing that is hidden from him. The opened
//! record decides all the same, and what it is ordered by is what its caller sees: no field with a read rule has such an
//! index.

use crate::{
    candidates::{Probe, passes},
    confined::Confined,
    cursor::Candidate,
    engine::{EngineError, KeyRange, MAX_RANGE_ROWS, Order, RangeRead, key_after},
    key::{TableSpace, join, uuid_of},
    list::Query,
    open::Open,
    ordered::of_value,
    page::Position,
    refused::Refused,
    table::{Table, TableIndex},
    walked::Walked,
};
use bytes::Bytes;
use std::ops::Bound;
use sys_contract::model::Index;
use sys_policy::RangeTest;
use uuid::Uuid;

/// Rows of the first read of a page; each is twice the one before.
const FIRST_BATCH: usize = 16;
/// Most rows of one read.
const MAX_BATCH: usize = 512;

/// An ORDERED index that is walked, and how.
#[derive(Debug)]
pub(crate) struct IndexWalk {
    pub(crate) index: TableIndex,
    pub(crate) order: Order,
    /// What the filter says of its values.
    pub(crate) range: Option<RangeTest>,
    /// What else the filter says of indexes: an id counts only if each of these holds it.
    pub(crate) probes: Vec<Probe>,
}

impl Confined<'_> {
    /// Walks in the index's order until the page is full.
    pub(crate) async fn page_by_index(
        &mut self,
        query: &Query<'_>,
        walk: &IndexWalk,
        after: Option<Position>,
    ) -> Result<Walked, Refused> {
        let prefix = self.table.at(query.home()).ordered(walk.index.number);
        let mut rest = match &walk.range {
            Some(range) => clipped(&prefix, range),
            None => KeyRange::prefix(&prefix),
        };
        if let Some(after) = after {
            let value = after.values.first().map(Vec::as_slice).unwrap_or_default();
            let key = join(join(prefix.clone(), value), after.uuid.as_bytes());
            match walk.order {
                Order::Asc => rest.start = rest.start.max(key_after(&key)),
                Order::Desc => rest.end = rest.end.min(key),
            }
        }
        let mut page = Walked::of(query.page_size);
        let mut batch = FIRST_BATCH;
        while !rest.is_empty() {
            let RangeRead { rows, is_end } = self.open.page_in(rest.clone(), walk.order, batch).await?;
            for (key, _) in rows {
                match walk.order {
                    Order::Asc => rest.start = key_after(&key),
                    Order::Desc => rest.end = key.clone(),
                }
                let Some(uuid) = uuid_of(&key) else { continue };
                if !passes(self.open, &walk.probes, uuid).await? {
                    continue;
                }
                let Some(view) = self.judge(query, Candidate { uuid, stored: None }).await? else { continue };
                page.take(view, || {
                    let value = key.get(prefix.len()..key.len().saturating_sub(16)).unwrap_or_default();
                    Position { uuid, values: vec![value.to_vec()] }
                });
                if page.is_full() {
                    return Ok(page);
                }
            }
            if is_end {
                break;
            }
            batch = (batch * 2).min(MAX_BATCH);
            // Reads do not wait, so that a long walk would never let the deadline of its call act.
            tokio::task::yield_now().await;
        }
        Ok(page)
    }
}

/// The ids in a range of an ORDERED index, in id order; none if they are more than one read gives, for then the index
/// saves nothing.
pub(crate) async fn ids_within(
    open: &mut Open,
    table: &Table,
    at: TableSpace,
    range: &RangeTest,
) -> Result<Option<Vec<Uuid>>, EngineError> {
    let Some(index) = index_of(table, range.field) else { return Ok(None) };
    let keys = clipped(&at.ordered(index.number), range);
    if keys.is_empty() {
        return Ok(Some(Vec::new()));
    }
    let RangeRead { rows, is_end } = open.page_in(keys, Order::Asc, MAX_RANGE_ROWS).await?;
    if !is_end {
        return Ok(None);
    }
    let mut ids: Vec<Uuid> = rows.iter().filter_map(|(key, _)| uuid_of(key)).collect();
    ids.sort_unstable();
    Ok(Some(ids))
}

/// The ORDERED index on a field.
pub(crate) fn index_of(table: &Table, field: u32) -> Option<&TableIndex> {
    table.index_of(field).filter(|index| index.kind == Index::Ordered)
}

/// The rows of an index whose values lie in a range.
fn clipped(prefix: &Bytes, range: &RangeTest) -> KeyRange {
    let mut keys = KeyRange::prefix(prefix);
    // No value is the beginning of another, so that all keys of a value are one range.
    let rows = |value| KeyRange::prefix(&join(prefix.clone(), &of_value(value)));
    match &range.lower {
        Bound::Included(value) => keys.start = rows(value).start,
        Bound::Excluded(value) => keys.start = rows(value).end,
        Bound::Unbounded => {}
    }
    match &range.upper {
        Bound::Included(value) => keys.end = rows(value).end,
        Bound::Excluded(value) => keys.end = rows(value).start,
        Bound::Unbounded => {}
    }
    keys
}
