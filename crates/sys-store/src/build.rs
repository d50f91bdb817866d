//! Indexes built for records that were there before them, and removed when no contract names them.
//!
//! Each step is a small transaction of its own and can be repeated: a build that was cut off begins again with the next
//! load, and rows that are there already are written over with themselves.

use crate::{
    engine::{CommitError, KeyRange, Order, RangeRead, after_prefix, key_after},
    key::{TableSpace, from_uuid, org_of, record_id, uuid_of},
    load::MAX_ATTEMPTS,
    open::Open,
    refused::{LoadError, StoreError},
    store::Store,
    table::{Table, TableIndex},
};
use bytes::Bytes;
use sys_contract::id::OrgTag;
use sys_policy::Now;
use uuid::Uuid;

/// Records of one step of a build. With the most tokens that a field may have, the writes stay within a transaction's bound.
const BUILD_BATCH: usize = 32;
/// Rows of one step of a purge.
const PURGE_BATCH: usize = 1_000;

/// Writes the rows of an index for all records of its table.
pub(crate) async fn build(store: &Store, table: &Table, number: u32) -> Result<(), LoadError> {
    let Some(index) = table.indexes.iter().find(|index| u32::from(index.number) == number) else { return Ok(()) };
    for org in orgs_with(store, |org| table.at_org(org).records()).await? {
        let mut from = Some(Uuid::nil());
        while let Some(place) = from {
            from = build_step(store, table, index, org, place).await?;
        }
    }
    Ok(())
}

/// Indexes the records of an org from one on; gives where to go on.
async fn build_step(
    store: &Store,
    table: &Table,
    index: &TableIndex,
    org: OrgTag,
    from: Uuid,
) -> Result<Option<Uuid>, LoadError> {
    let at = table.at_org(org);
    for _ in 0..MAX_ATTEMPTS {
        let mut open = begin(store).await?;
        let read = open.page_in(from_uuid(&at.records(), from), Order::Asc, BUILD_BATCH).await;
        let RangeRead { rows, is_end } = read.map_err(StoreError::from)?;
        let mut next = None;
        for (key, sealed) in rows {
            let Some(uuid) = uuid_of(&key) else { continue };
            index_record(&mut open, table, index, at, uuid, sealed).await?;
            next = crate::cursor::behind(Order::Asc, uuid).filter(|_| !is_end);
        }
        if commit(open).await? {
            return Ok(next);
        }
    }
    Err(StoreError::from(CommitError::Conflict).into())
}

async fn index_record(
    open: &mut Open,
    table: &Table,
    index: &TableIndex,
    at: TableSpace,
    uuid: Uuid,
    sealed: Bytes,
) -> Result<(), LoadError> {
    let stored = open.open_record(table, record_id(at.space, uuid), sealed)?;
    let keys = open.keys_or_create(at.space).await?;
    let (name, field) = (|| table.record.table.clone(), || index.field.name().to_owned());
    if open.is_taken(table, index, &keys, stored.id(), stored.message(), stored.placement()).await? {
        return Err(LoadError::NotUnique { table: name(), field: field() });
    }
    open.put_index_rows(table, index, &keys, &stored).map_err(|error| LoadError::NotIndexable {
        table: name(),
        field: field(),
        what: format!("of a stored text, {}", error.what),
    })
}

/// Removes all rows of an index.
pub(crate) async fn purge(store: &Store, table: &Table, number: u32) -> Result<(), LoadError> {
    let Ok(number) = u16::try_from(number) else { return Ok(()) };
    for rows in [TableSpace::index, TableSpace::ordered] {
        for org in orgs_with(store, |org| rows(&table.at_org(org), number)).await? {
            let prefix = rows(&table.at_org(org), number);
            while !purge_step(store, &prefix).await? {}
        }
    }
    Ok(())
}

/// Removes some of them. Gives whether they were the last.
async fn purge_step(store: &Store, prefix: &Bytes) -> Result<bool, LoadError> {
    for _ in 0..MAX_ATTEMPTS {
        let mut open = begin(store).await?;
        let read = open.page_in(KeyRange::prefix(prefix), Order::Asc, PURGE_BATCH).await.map_err(StoreError::from)?;
        read.rows.into_iter().for_each(|(key, _)| open.remove(key));
        if commit(open).await? {
            return Ok(read.is_end);
        }
    }
    Err(StoreError::from(CommitError::Conflict).into())
}

/// The orgs in which something begins with what `prefix` gives for them. Leaps from org to org: the number of reads follows
/// the number of orgs, not of rows.
async fn orgs_with(store: &Store, prefix: impl Fn(OrgTag) -> Bytes) -> Result<Vec<OrgTag>, StoreError> {
    let mut open = begin(store).await?;
    let mut orgs = Vec::new();
    let mut rest = KeyRange::all();
    while let Some((key, _)) = open.rows_in(rest.clone(), Order::Asc, 1).await?.pop() {
        let Some(org) = org_of(&key) else {
            rest.start = key_after(&key);
            continue;
        };
        let wanted = prefix(org);
        if key.starts_with(&wanted) {
            orgs.push(org);
        }
        rest.start = if key < wanted { wanted } else { after_prefix(org.as_bytes()) };
    }
    Ok(orgs)
}

async fn begin(store: &Store) -> Result<Open, StoreError> {
    store.begin(Now { unix_s: 0, nanos: 0 }).await
}

/// Whether it was committed; if not, it may be tried again.
async fn commit(open: Open) -> Result<bool, StoreError> {
    match open.commit().await {
        Ok(_) => Ok(true),
        Err(CommitError::Conflict) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

impl Table {
    /// The table in the tablespace of any tag, GLOBAL too.
    fn at_org(&self, org: OrgTag) -> TableSpace {
        TableSpace { space: sys_keys::SpaceId { module: self.module_number, org }, table: self.number }
    }
}
