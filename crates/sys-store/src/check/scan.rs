//! The walk: every key once, in order, a batch to a snapshot.

use super::{
    CheckOptions, Fault, Mode, Report, Seen,
    known::Known,
    system::{LogWalk, system_row},
    table::TableWalk,
};
use crate::{
    engine::{KeyRange, Order, RangeRead, key_after},
    erasable::space_of,
    key::{KeyPart, TableSpace, parse, system_space},
    open::Open,
    refused::StoreError,
    store::Store,
    system::{LogKind, SystemKind},
};
use bytes::Bytes;
use data_encoding::HEXLOWER;
use std::collections::BTreeSet;
use sys_contract::id::{ORG_TAG_BYTES, OrgTag};
use sys_keys::SpaceId;
use sys_policy::Now;

/// Rows of one snapshot. With 25 index rows to each record, and a disk that seeks for each, it is read well before the
/// engine calls the snapshot too old.
const BATCH: usize = 512;
/// Rows of one transaction of a repair.
const FIXES: usize = 1_000;

/// What all parts of the walk share.
#[derive(Debug)]
pub(super) struct Ground {
    pub(super) open: Open,
    pub(super) options: CheckOptions,
    pub(super) report: Report,
    fixes: Vec<Fix>,
}

#[derive(Debug)]
enum Fix {
    Write(Bytes),
    Remove(Bytes),
}

/// Where the walk is.
#[derive(Debug)]
enum Here {
    Table(Box<TableWalk>),
    System(SystemKind),
    Log(LogWalk),
    Unknown,
}

struct Scan<'a> {
    store: &'a Store,
    known: Known,
    ground: Ground,
    spaces: BTreeSet<SpaceId>,
    here: Option<(TableSpace, Here)>,
}

pub(super) async fn run(
    store: &Store,
    options: CheckOptions,
    progress: &mut (dyn FnMut(&Seen) + Send),
) -> Result<Report, StoreError> {
    let open = begin(store).await?;
    let mut ground = Ground { open, options, report: Report::default(), fixes: Vec::new() };
    if ground.is_empty(store).await? {
        return Ok(ground.report);
    }
    let known = Known::read(&mut ground.open, options, &mut ground.report).await?;
    let mut scan = Scan { store, known, ground, spaces: BTreeSet::new(), here: None };
    let mut rest = KeyRange::all();
    loop {
        let RangeRead { rows, is_end } = scan.ground.open.page_in(rest.clone(), Order::Asc, BATCH).await?;
        let last = rows.last().map(|(key, _)| key_after(key)).filter(|_| !is_end);
        for (key, value) in rows {
            scan.row(&key, value).await?;
        }
        scan.ground.settle().await?;
        progress(&scan.ground.report.seen);
        match last {
            Some(next) => rest.start = next,
            None => break,
        }
    }
    scan.leave().await?;
    scan.end().await
}

impl Scan<'_> {
    async fn row(&mut self, key: &Bytes, value: Bytes) -> Result<(), StoreError> {
        let Some(parsed) = parse(key) else {
            self.ground.unknown(key);
            return Ok(());
        };
        if self.here.as_ref().is_none_or(|(at, _)| *at != parsed.at) {
            self.leave().await?;
            self.enter(parsed.at).await?;
        }
        let ground = &mut self.ground;
        match (self.here.as_mut().map(|(_, here)| here), parsed.part) {
            (Some(Here::Table(walk)), part) => walk.row(ground, key, part, value).await,
            (Some(Here::System(kind)), KeyPart::Record(_)) => system_row(ground, *kind, key, &value).await,
            (Some(Here::Log(walk)), KeyPart::Log { name, number }) => {
                // What it says is under keys that the server has of the org and of nothing else.
                self.spaces.extend(<[u8; ORG_TAG_BYTES]>::try_from(name).map(|tag| space_of(OrgTag::from_bytes(tag))));
                walk.entry(ground, key, name, number, &value).await
            }
            (Some(Here::System(_) | Here::Log(_) | Here::Unknown) | None, _) => {
                ground.unknown(key);
                Ok(())
            }
        }
    }

    async fn enter(&mut self, at: TableSpace) -> Result<(), StoreError> {
        let has_keys = self.store.keyring().space(at.space)?.is_some();
        if self.spaces.insert(at.space) {
            self.ground.report.seen.tablespaces += 1;
            if !has_keys {
                let name = self.space_name(at.space);
                self.ground.add(Fault::KeysMissing, || name);
            }
        }
        let here = if at.space == system_space() {
            let kind = SystemKind::ALL.into_iter().find(|kind| *kind as u16 == at.table).map(Here::System);
            let log = || LogKind::ALL.into_iter().find(|log| *log as u16 == at.table).map(LogWalk::new).map(Here::Log);
            kind.or_else(log).unwrap_or(Here::Unknown)
        } else {
            match self.known.tables.get(&(at.space.module, at.table)) {
                Some(table) => {
                    let walk = TableWalk::begin(&mut self.ground, table.clone(), at, has_keys).await?;
                    Here::Table(Box::new(walk))
                }
                None => Here::Unknown,
            }
        };
        self.here = Some((at, here));
        Ok(())
    }

    /// Closes the account of where the walk was.
    async fn leave(&mut self) -> Result<(), StoreError> {
        match self.here.take() {
            Some((_, Here::Table(walk))) => {
                // Rows of the repair so far must be seen by what follows.
                self.ground.settle().await?;
                walk.end(&mut self.ground).await
            }
            _ => Ok(()),
        }
    }

    async fn end(mut self) -> Result<Report, StoreError> {
        self.ground.settle().await?;
        for space in self.store.keyring().spaces() {
            if !self.spaces.contains(&space) {
                let name = self.space_name(space);
                self.ground.add(Fault::KeysUnused, || name);
            }
        }
        Ok(self.ground.report)
    }

    fn space_name(&self, space: SpaceId) -> String {
        let module = match self.known.modules.get(&space.module) {
            Some(module) => module.clone(),
            None if space == system_space() => "the server itself".to_owned(),
            None => format!("module {}", space.module),
        };
        format!("{module} in org {:?}", space.org)
    }
}

impl Ground {
    /// Whether nothing at all is in the store. Fails if what is there is not under this key ring.
    async fn is_empty(&mut self, store: &Store) -> Result<bool, StoreError> {
        if self.open.rows_in(KeyRange::all(), Order::Asc, 1).await?.is_empty() {
            return Ok(true);
        }
        if store.keyring().space(system_space())?.is_none() {
            return Err(StoreError::KeysMissing { space: system_space() });
        }
        store.is_known(&mut self.open).await.map(|known| !known)
    }

    /// Counts a fault, and names its place if it is one of the first.
    pub(super) fn add(&mut self, fault: Fault, place: impl FnOnce() -> String) {
        self.report.add(fault, self.options.named, place);
    }

    /// Counts a key that nobody writes.
    pub(super) fn unknown(&mut self, key: &[u8]) {
        self.add(Fault::UnknownKey, || HEXLOWER.encode(key));
    }

    /// An index row that is missing: to be written by a repair.
    pub(super) fn missing(&mut self, row: Bytes, place: impl FnOnce() -> String) {
        self.add(Fault::IndexMissing, place);
        self.fixes.push(Fix::Write(row));
    }

    /// An index row that should not be there: to be removed by a repair.
    pub(super) fn stray(&mut self, row: Bytes, place: impl FnOnce() -> String) {
        self.add(Fault::IndexStray, place);
        self.fixes.push(Fix::Remove(row));
    }

    /// Writes what a repair has found so far, and goes on with a new snapshot.
    pub(super) async fn settle(&mut self) -> Result<(), StoreError> {
        let store = self.open.store.clone();
        let mut fixes = std::mem::take(&mut self.fixes);
        while self.options.mode == Mode::RepairIndexes && !fixes.is_empty() {
            let mut open = begin(&store).await?;
            for fix in fixes.drain(..fixes.len().min(FIXES)) {
                match fix {
                    Fix::Write(row) => {
                        self.report.rows_written += 1;
                        open.put(row, Bytes::new(), None);
                    }
                    Fix::Remove(row) => {
                        self.report.rows_removed += 1;
                        open.remove(row);
                    }
                }
            }
            open.commit().await?;
        }
        self.open = begin(&store).await?;
        Ok(())
    }
}

async fn begin(store: &Store) -> Result<Open, StoreError> {
    store.begin(Now { unix_s: 0, nanos: 0 }).await
}
