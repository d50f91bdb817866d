//! Rows and logs of the server itself.

use super::{Fault, scan::Ground};
use crate::{
    header::Purpose,
    refused::StoreError,
    system::{LogKind, SystemKind},
};
use bytes::Bytes;
use data_encoding::HEXLOWER;
use sys_contract::id::{ORG_TAG_BYTES, OrgTag};

/// Judges a system row. Its name is an id or the name of a module.
pub(super) async fn system_row(
    ground: &mut Ground,
    kind: SystemKind,
    key: &Bytes,
    value: &Bytes,
) -> Result<(), StoreError> {
    ground.report.seen.system_rows += 1;
    match ground.open.open_row(Purpose::SystemRow, kind.name(), key, value).await {
        Ok(_) => {}
        Err(StoreError::Sealed { cause, .. }) => {
            let name = || HEXLOWER.encode(key.get(kind.key(&[]).len()..).unwrap_or_default());
            ground.add(Fault::SystemRowForged, || format!("{} {}: {cause}", kind.name(), name()));
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

/// The walk through all logs of a kind, one org's after the other.
#[derive(Debug)]
pub(super) struct LogWalk {
    log: LogKind,
    last: Option<(OrgTag, u64)>,
}

impl LogWalk {
    pub(super) fn new(log: LogKind) -> Self {
        Self { log, last: None }
    }

    /// Judges an entry: that it opens, and that none is missing before it.
    pub(super) async fn entry(
        &mut self,
        ground: &mut Ground,
        key: &Bytes,
        name: &[u8],
        number: u64,
        value: &Bytes,
    ) -> Result<(), StoreError> {
        let Ok(org) = <[u8; ORG_TAG_BYTES]>::try_from(name).map(OrgTag::from_bytes) else {
            ground.unknown(key);
            return Ok(());
        };
        ground.report.seen.log_entries += 1;
        let log = self.log.name();
        match self.last.filter(|(last, _)| *last == org) {
            Some((_, last)) if last.checked_add(1) != Some(number) => {
                ground.add(Fault::LogGap, || format!("{log} of org {org:?}: {number} stands behind {last}"));
            }
            None if number != 0 => {
                ground.add(Fault::LogBegins, || format!("{log} of org {org:?}: with number {number}"));
            }
            Some(_) | None => {}
        }
        self.last = Some((org, number));
        match ground.open.open_row(Purpose::LogEntry, log, &self.log.prefix(org), value).await {
            Ok(_) => {}
            Err(StoreError::Sealed { cause, .. }) => {
                ground.add(Fault::LogEntryForged, || format!("{log} of org {org:?}: number {number}: {cause}"));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}
