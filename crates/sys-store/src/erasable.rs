//! Logs whose entries can lose what they say and keep what proves it.
//!
//! An entry is `stub 32 | content`. The whole is sealed under the system tablespace like every entry of a
//! log; the content in it is sealed once more, under keys that the server has of the log's org alone. What an entry says goes
//! by being taken out of it (retention), or with the org's keys (shredding). The stub stays, and the entry keeps its number.

use crate::{
    engine::{KeyRange, NUMBER_BYTES, Order, after_prefix, key_after},
    header::{Place, Purpose},
    key::{SYSTEM_MODULE, join},
    open::Open,
    refused::{SealedError, StoreError},
    sealed,
    system::LogKind,
};
use sys_contract::id::{ORG_TAG_BYTES, OrgTag};
use sys_keys::SpaceId;
use zeroize::Zeroizing;

/// Bytes of what stays of an entry: a hash.
pub const STUB_BYTES: usize = 32;

/// An entry of a log, as far as it still says something.
#[derive(Debug, Clone)]
pub struct ErasableEntry {
    /// Its number in the log.
    pub number: u64,
    /// What stays.
    pub stub: [u8; STUB_BYTES],
    /// What it says; none once that was erased, or the keys of the org are gone.
    pub content: Option<Zeroizing<Vec<u8>>>,
}

impl Open {
    /// Adds an entry to a log of an org, or with [`OrgTag::GLOBAL`] of the server, as [`Open::append`] does.
    pub async fn append_erasable(
        &mut self,
        log: LogKind,
        org: OrgTag,
        stub: &[u8; STUB_BYTES],
        content: Vec<u8>,
    ) -> Result<(), StoreError> {
        let keys = self.keys_or_create(space_of(org)).await?;
        let content = sealed::seal(&keys, &place(log, org, &log.prefix(org)), content, self.store.entropy().as_ref());
        self.append(log, org, [stub.as_slice(), &content].concat()).await
    }

    /// The first `limit` entries of a log with numbers in this range, from its lower end or its upper. Entries of this
    /// transaction are not among them yet.
    pub async fn erasable_entries(
        &mut self,
        log: LogKind,
        org: OrgTag,
        numbers: std::ops::Range<u64>,
        order: Order,
        limit: usize,
    ) -> Result<Vec<ErasableEntry>, StoreError> {
        let prefix = log.prefix(org);
        let bound = |number: u64| join(prefix.clone(), &number.to_be_bytes());
        let keys = KeyRange { start: bound(numbers.start), end: bound(numbers.end) };
        let mut entries = Vec::new();
        for (key, stored) in self.rows_in(keys, order, limit).await? {
            let number = key.last_chunk::<NUMBER_BYTES>().map_or(0, |number| u64::from_be_bytes(*number));
            let entry = self.open_row(Purpose::LogEntry, log.name(), &prefix, &stored).await?;
            let Some((stub, content)) = entry.split_first_chunk() else {
                return Err(StoreError::Sealed { table: log.name().to_owned(), cause: SealedError::Forged });
            };
            let content = self.content(log, org, &prefix, content)?;
            entries.push(ErasableEntry { number, stub: *stub, content });
        }
        Ok(entries)
    }

    /// Takes out of these entries of a log what they say. To be given entries as they were read: it writes them anew. A
    /// transaction that does so adds nothing to that log.
    pub async fn erase_contents(
        &mut self,
        log: LogKind,
        org: OrgTag,
        entries: &[ErasableEntry],
    ) -> Result<(), StoreError> {
        let prefix = log.prefix(org);
        for entry in entries {
            let sealed = self.seal_row(Purpose::LogEntry, log.name(), &prefix, entry.stub.to_vec()).await?;
            self.put(join(prefix.clone(), &entry.number.to_be_bytes()), sealed, Some(crate::header::VERSION_OFFSET));
        }
        Ok(())
    }

    /// The number that the next entry of a log gets, if no other transaction adds one before.
    pub async fn next_number(&mut self, log: LogKind, org: OrgTag) -> Result<u64, StoreError> {
        let last = self.rows_in(KeyRange::prefix(&log.prefix(org)), Order::Desc, 1).await?;
        let number = |key: &bytes::Bytes| key.last_chunk::<NUMBER_BYTES>().map(|number| u64::from_be_bytes(*number));
        Ok(last.first().and_then(|(key, _)| number(key)).map_or(0, |last| last.saturating_add(1)))
    }

    /// The org behind this one, in the order of tags, that has such a log; from the first on if none is given. The server's
    /// own comes as [`OrgTag::GLOBAL`].
    pub async fn next_log(&mut self, log: LogKind, after: Option<OrgTag>) -> Result<Option<OrgTag>, StoreError> {
        let all = log.all();
        let start = after.map_or_else(|| key_after(&all), |after| after_prefix(&log.prefix(after)));
        let keys = KeyRange { start, end: after_prefix(&all) };
        let next = self.rows_in(keys, Order::Asc, 1).await?;
        let tag = |key: &bytes::Bytes| key.get(all.len()..)?.first_chunk::<ORG_TAG_BYTES>().copied();
        Ok(next.first().and_then(|(key, _)| tag(key)).map(OrgTag::from_bytes))
    }

    fn content(
        &mut self,
        log: LogKind,
        org: OrgTag,
        prefix: &[u8],
        sealed: &[u8],
    ) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        if sealed.is_empty() {
            return Ok(None);
        }
        let Some(keys) = self.keys(space_of(org))? else { return Ok(None) };
        match sealed::open(&keys, &place(log, org, prefix), sealed) {
            Ok(opened) => Ok(Some(opened.plaintext)),
            Err(StoreError::Sealed { cause: SealedError::Generation(_), .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// What the server itself keeps of an org is under keys of that org.
pub(crate) fn space_of(org: OrgTag) -> SpaceId {
    SpaceId { module: SYSTEM_MODULE, org }
}

fn place<'a>(log: LogKind, org: OrgTag, prefix: &'a [u8]) -> Place<'a> {
    Place { purpose: Purpose::LogContent, module: "sys", org, table: log.name(), message: "", key: prefix }
}
