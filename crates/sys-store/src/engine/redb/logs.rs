//! What the commit thread adds to writes that only it can complete: log numbers and commit versions.

use super::error::engine_error;
use crate::engine::{EngineError, NUMBER_BYTES, Write, after_prefix, log_of};
use bytes::{Bytes, BytesMut};
use redb::ReadableTable;
use std::collections::HashMap;

/// Logs whose next number is kept in memory. Each org has a few; finding one again costs a read.
const KEPT_LOGS: usize = 4_096;

/// A row as it will be: `None` is no row.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) key: Bytes,
    pub(super) value: Option<Bytes>,
}

/// The next number of each log that was lately appended to.
#[derive(Debug, Default)]
pub(super) struct Logs {
    next: HashMap<Bytes, u64>,
}

impl Logs {
    /// The rows that a transaction's writes make, in their order, if it commits as `version` on top of `rows`.
    pub(super) fn complete(
        &mut self,
        writes: Vec<Write>,
        version: u64,
        rows: &impl ReadableTable<&'static [u8], &'static [u8]>,
    ) -> Result<Vec<Row>, EngineError> {
        let completed: Result<Vec<Row>, EngineError> =
            writes.into_iter().map(|write| self.complete_one(write, version, rows)).collect();
        if completed.is_err() {
            // The transaction is refused, and the numbers that it was given are free.
            self.next.clear();
        }
        completed
    }

    fn complete_one(
        &mut self,
        write: Write,
        version: u64,
        rows: &impl ReadableTable<&'static [u8], &'static [u8]>,
    ) -> Result<Row, EngineError> {
        let row = match write {
            Write::Append { log, value } => {
                let number = self.number(&log, rows)?;
                return Ok(Row { key: numbered(&log, number, &[]), value: Some(value) });
            }
            Write::Put { key, value, stamp } => Row { key, value: Some(stamped(value, stamp, version)) },
            Write::Delete { key } => Row { key, value: None },
            Write::Change { prefix, suffix, value } => {
                Row { key: numbered(&prefix, version, &suffix), value: Some(value) }
            }
        };
        if let Some(log) = log_of(&row.key) {
            // If this is a row of a log, its last row may be another one now.
            self.next.remove(log);
        }
        Ok(row)
    }

    fn number(
        &mut self,
        log: &Bytes,
        rows: &impl ReadableTable<&'static [u8], &'static [u8]>,
    ) -> Result<u64, EngineError> {
        let number = match self.next.get(log) {
            Some(number) => *number,
            None => match last_number(log, rows)? {
                Some(last) => last.checked_add(1).ok_or(EngineError::NumbersExhausted)?,
                None => 0,
            },
        };
        if self.next.len() >= KEPT_LOGS {
            self.next.clear();
        }
        // The highest number of all is not kept, so that the one after it is looked for and refused.
        match number.checked_add(1) {
            Some(next) => self.next.insert(log.clone(), next),
            None => self.next.remove(log),
        };
        Ok(number)
    }
}

fn last_number(
    log: &[u8],
    rows: &impl ReadableTable<&'static [u8], &'static [u8]>,
) -> Result<Option<u64>, EngineError> {
    let end = after_prefix(log);
    let mut inside = rows.range::<&[u8]>(log..end.as_ref()).map_err(engine_error)?;
    let Some(last) = inside.next_back() else { return Ok(None) };
    let (key, _) = last.map_err(engine_error)?;
    match key.value().split_last_chunk::<NUMBER_BYTES>() {
        Some((found, number)) if found == log => Ok(Some(u64::from_be_bytes(*number))),
        Some(_) | None => Err(EngineError::NotALog),
    }
}

fn numbered(prefix: &[u8], number: u64, suffix: &[u8]) -> Bytes {
    let mut key = BytesMut::with_capacity(prefix.len() + NUMBER_BYTES + suffix.len());
    key.extend_from_slice(prefix);
    key.extend_from_slice(&number.to_be_bytes());
    key.extend_from_slice(suffix);
    key.freeze()
}

/// The value with the commit version in its place. That it fits was checked when the writes were handed over.
fn stamped(value: Bytes, stamp: Option<usize>, version: u64) -> Bytes {
    let Some(offset) = stamp else { return value };
    let mut value = BytesMut::from(value);
    if let Some(place) = value.get_mut(offset..).and_then(|rest| rest.first_chunk_mut()) {
        *place = version.to_be_bytes();
    }
    value.freeze()
}
