//! Records that the operator brings in by the million: from lines of text to commits.
//!
//! No request leads here: whoever can import can write the data files, too. Nobody is asked whether he may, but all that a
//! record must be it is: of its contract's form, valid by its rules, in a scope that exists, alone with its UNIQUE values, under
//! an id that no other record has. Lines come in rounds; a round is one commit, with an audit leaf in the server's log and a
//! note of how far the import is. So what was cut off left whole records, says so at the next start, and goes on when it is run
//! again: what is there already is passed over.
//!
//! While the commit thread writes one round, the next is read and sealed on all processors. These threads are waited for
//! in place, so that this is for a process that serves nobody.

use crate::{
    audit,
    host::LoadedModule,
    identity::Scope,
    monitor::Monitor,
    records::Record,
    refusal::Refusal,
    validation::{Judged, Validation, has_known_values},
};
use prost_reflect::{DeserializeOptions, DynamicMessage};
use std::{fmt, num::NonZeroUsize, panic::resume_unwind, sync::Arc, thread};
use sys_contract::id::{OrgId, OrgTag, RecordId};
use sys_policy::Caller;
use sys_store::{
    Import, Incoming, Put, Refused, Sealed, StoreError, SystemKind, Table,
    engine::{CommitError, CommitVersion},
};
use tokio::task::JoinHandle;

/// Most lines of a round. Of them become some hundred thousand rows, which stand in memory twice at most.
pub const ROUND_LINES: usize = 16_384;
/// A round is full, too, once its lines have so many bytes.
pub const ROUND_BYTES: usize = 16 << 20;
/// Under this name it is noted how far an import is that has not ended yet.
const UNFINISHED_ROW: &[u8] = b"import";
/// What stands for a method in the audit leaves, with what is imported behind it.
const METHOD: &str = "sys-server/import";

/// A line, with its number in its file.
#[derive(Debug)]
pub struct Line {
    /// From 1.
    pub number: u64,
    /// What stands in it.
    pub text: String,
}

/// What a line brings: records that are checked on their own, and the scopes that must exist for them.
#[derive(Debug, Default)]
pub struct Brought {
    records: Vec<Incoming>,
    scopes: Vec<Scope>,
}

/// What was stored so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stored {
    /// Lines that were read.
    pub lines: u64,
    /// Records that are new.
    pub records: u64,
    /// Records that were there already, just so.
    pub already_there: u64,
    /// Rows of the store: records, index rows, changes and the import's own.
    pub rows: u64,
}

/// Why an import stopped.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A line cannot be stored. Of its round nothing was.
    #[error("line {number}: {what}")]
    Line {
        /// Its number.
        number: u64,
        /// What is wrong with it. Never a value.
        what: String,
    },
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
    /// A round was not committed.
    #[error("a part of the import was not stored")]
    Commit(#[from] CommitError),
}

impl Brought {
    /// Adds a record, in the form of a call's message.
    pub fn add<M: Record>(&mut self, module: &LoadedModule, id: RecordId, record: &M) -> Result<(), Refusal> {
        let name = M::full_name();
        let table = module.tables.by_name(&name).ok_or_else(|| Refusal::internal(format!("no table of {name}")))?;
        let mut message = table.empty_record();
        message.transcode_from(record).map_err(Refusal::internal)?;
        check_record(&module.validation, &message)?;
        self.records.push(Incoming::new(table, id, message)?);
        Ok(())
    }

    /// Requires that an org, or a project of it, exists.
    pub fn require(&mut self, scope: Scope) {
        self.scopes.push(scope);
    }

    pub(crate) fn push(&mut self, incoming: Incoming) {
        self.records.push(incoming);
    }
}

impl LoadedModule {
    /// A record of the module in JSON, with its id.
    pub fn read_record(&self, table: &Arc<Table>, json: &str) -> Result<Brought, Refusal> {
        let (id, message) = read_line(&self.validation, table, json)?;
        Ok(Brought { records: vec![Incoming::new(table, id, message)?], scopes: Vec::new() })
    }

    /// The same, and what it says: for those who bring more that follows from it.
    pub fn read_typed<M: Record>(&self, json: &str) -> Result<(Brought, RecordId, M), Refusal> {
        let name = M::full_name();
        let table = self.tables.by_name(&name).ok_or_else(|| Refusal::internal(format!("no table of {name}")))?;
        let (id, message) = read_line(&self.validation, table, json)?;
        let record = message.transcode_to().map_err(Refusal::internal)?;
        Ok((Brought { records: vec![Incoming::new(table, id, message)?], scopes: Vec::new() }, id, record))
    }
}

/// A record of this table in JSON, and its id.
pub(crate) fn read_line(
    validation: &Validation,
    table: &Table,
    json: &str,
) -> Result<(RecordId, DynamicMessage), Refusal> {
    let mut text = serde_json::Deserializer::from_str(json);
    let options = DeserializeOptions::new().deny_unknown_fields(true);
    let message = DynamicMessage::deserialize_with_options(table.record().message.clone(), &mut text, &options)
        .and_then(|message| text.end().map(|()| message));
    let message = message.map_err(|error| {
        let name = table.record().message.full_name();
        // What the library says may hold a value.
        Refusal::invalid("line", format!("it is no {name} in JSON, at column {}", error.column()))
    })?;
    check_record(validation, &message)?;
    let field = &table.record().id;
    let id = message.get_field(field);
    let id = table.parse_id(id.as_str().unwrap_or_default());
    let id = id.map_err(|error| Refusal::invalid(field.name(), error.to_string()))?;
    check_version(field.name(), id)?;
    Ok((id, message))
}

fn check_record(validation: &Validation, message: &DynamicMessage) -> Result<(), Refusal> {
    has_known_values(message)?;
    validation.check(message, &Judged::Whole)
}

/// Ids are listed in the order of their making, which UUIDs of version 7 alone have.
pub fn check_version(field: &str, id: RecordId) -> Result<(), Refusal> {
    match id.uuid.get_version_num() {
        7 => Ok(()),
        _ => Err(Refusal::invalid(field, "its UUID is not of version 7: make ids as RFC 9562 section 5.7 says")),
    }
}

/// An import under way, of one kind of lines.
pub struct Importing<'m> {
    monitor: &'m Monitor,
    /// The records that are orgs: each takes its tag.
    orgs: Arc<Table>,
    /// What is imported, as the audit log names it.
    what: String,
    import: Import,
    committing: Option<JoinHandle<Result<CommitVersion, CommitError>>>,
    /// What the commit under way adds.
    pending: Stored,
    stored: Stored,
    threads: usize,
}

impl fmt::Debug for Importing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Importing").field("what", &self.what).field("stored", &self.stored).finish_non_exhaustive()
    }
}

impl Monitor {
    /// Begins an import. Nothing else may use the store until it has ended.
    pub fn danger_import(&self, orgs: Arc<Table>, what: &str) -> Importing<'_> {
        Importing {
            monitor: self,
            orgs,
            what: what.to_owned(),
            import: Import::default(),
            committing: None,
            pending: Stored::default(),
            stored: Stored::default(),
            threads: thread::available_parallelism().map_or(1, NonZeroUsize::get),
        }
    }

    /// How far an import came that was cut off, in words; none if none was.
    pub async fn unfinished_import(&self) -> Result<Option<String>, StoreError> {
        let mut open = self.store().begin(self.clock().now()).await?;
        let row = open.row(SystemKind::Progress, UNFINISHED_ROW).await?;
        Ok(row.map(|row| String::from_utf8_lossy(&row).into_owned()))
    }

    /// Notes that all that was to be imported is.
    pub async fn end_import(&self) -> Result<(), ImportError> {
        let mut open = self.store().begin(self.clock().now()).await?;
        if open.row(SystemKind::Progress, UNFINISHED_ROW).await?.is_some() {
            open.delete_row(SystemKind::Progress, UNFINISHED_ROW);
            open.commit_import().await?;
        }
        Ok(())
    }
}

impl Importing<'_> {
    /// What is on disk.
    pub fn stored(&self) -> Stored {
        self.stored
    }

    /// Reads lines without storing them; the first that is wrong on its own is told.
    pub fn check(
        &mut self,
        lines: Vec<Line>,
        read: &(impl Fn(&str) -> Result<Brought, Refusal> + Sync),
    ) -> Result<(), ImportError> {
        let count = lines.len() as u64;
        on_all(lines, self.threads, |line| {
            read(&line.text).map(drop).map_err(|refusal| of_line(line.number, refusal))
        })?;
        self.stored.lines += count;
        Ok(())
    }

    /// Stores a round of lines: all of them or none. Comes back when they are on their way to the disk; the round before is on
    /// it by then.
    pub async fn store(
        &mut self,
        lines: Vec<Line>,
        read: &(impl Fn(&str) -> Result<Brought, Refusal> + Sync),
    ) -> Result<(), ImportError> {
        let Some(last) = lines.last().map(|line| line.number) else { return Ok(()) };
        let mut adds = Stored { lines: lines.len() as u64, ..Stored::default() };
        let brought = on_all(lines, self.threads, |line| {
            let brought = read(&line.text).map_err(|refusal| of_line(line.number, refusal))?;
            Ok::<_, ImportError>((line.number, brought))
        })?;
        let store = self.monitor.store().clone();
        store.keys_for_incoming(brought.iter().flat_map(|(_, brought)| &brought.records)).await?;
        let sealed = on_all(brought, self.threads, |(number, brought)| {
            let sealed = brought.records.into_iter().map(|record| store.seal_incoming(record));
            let sealed = sealed.collect::<Result<Vec<_>, _>>().map_err(|refused| refused_at(number, refused))?;
            Ok::<_, ImportError>((number, sealed, brought.scopes))
        })?;
        // What the round before wrote is looked up from here on.
        self.settle().await?;
        let mut open = store.begin(self.monitor.clock().now()).await?;
        let mut ends: Option<[RecordId; 2]> = None;
        for (number, records, scopes) in sealed {
            for scope in scopes {
                let required = self.import.require_scope(&mut open, scope.org(), scope.project()).await;
                required.map_err(|refused| refused_at(number, refused))?;
            }
            for record in records {
                let id = record.id();
                match self.put(&mut open, record).await.map_err(|refused| refused_at(number, refused))? {
                    Put::New => {
                        adds.records += 1;
                        ends = Some(ends.map_or([id, id], |[first, _]| [first, id]));
                    }
                    Put::AlreadyThere => adds.already_there += 1,
                }
            }
        }
        self.pending = adds;
        if let Some(ends) = ends {
            let so_far = format!("{} up to line {last}", self.what);
            open.put_row(SystemKind::Progress, UNFINISHED_ROW, so_far.into_bytes()).await?;
            let method = format!("{METHOD}/{}", self.what);
            let leaf = audit::leaf_of(&method, &Caller::anonymous(), open.now()).records(ends).imported(adds.records);
            audit::append(&mut open, OrgTag::GLOBAL, leaf, store.entropy().as_ref()).await?;
            self.pending.rows = open.import_rows() as u64;
            self.committing = Some(tokio::spawn(open.commit_import()));
        }
        Ok(())
    }

    /// Waits until all that was given is on disk.
    pub async fn finish(mut self) -> Result<Stored, ImportError> {
        self.settle().await?;
        Ok(self.stored)
    }

    async fn put(&mut self, open: &mut sys_store::Open, record: Sealed) -> Result<Put, Refused> {
        let org = Arc::ptr_eq(record.table(), &self.orgs).then(|| OrgId::from_record(record.id()));
        let put = self.import.put(open, record).await?;
        if let Some(org) = org
            && !crate::identity::take_org_tag(open, org).await?
        {
            return Err(Refused::Taken { field: "org tag".to_owned() });
        }
        Ok(put)
    }

    async fn settle(&mut self) -> Result<(), ImportError> {
        if let Some(committing) = self.committing.take() {
            match committing.await {
                Ok(committed) => drop(committed?),
                Err(failed) => resume_unwind(failed.into_panic()),
            }
        }
        let adds = std::mem::take(&mut self.pending);
        self.stored.lines += adds.lines;
        self.stored.records += adds.records;
        self.stored.already_there += adds.already_there;
        self.stored.rows += adds.rows;
        Ok(())
    }
}

fn of_line(number: u64, refusal: Refusal) -> ImportError {
    ImportError::Line { number, what: refusal.message }
}

fn refused_at(number: u64, refused: Refused) -> ImportError {
    match refused {
        Refused::Store(error) => error.into(),
        refused => of_line(number, refused.into()),
    }
}

/// Does the work of each item on so many threads, and gives the results in the order of the items, or the first error.
fn on_all<T: Send, U: Send, E: Send>(
    mut items: Vec<T>,
    threads: usize,
    work: impl Fn(T) -> Result<U, E> + Sync,
) -> Result<Vec<U>, E> {
    let share = items.len().div_ceil(threads.max(1)).max(1);
    let mut shares = Vec::with_capacity(threads);
    while items.len() > share {
        let rest = items.split_off(share);
        shares.push(std::mem::replace(&mut items, rest));
    }
    shares.push(items);
    let work = &work;
    thread::scope(|scope| {
        let started: Vec<_> = shares
            .into_iter()
            .map(|share| scope.spawn(move || share.into_iter().map(work).collect::<Result<Vec<U>, E>>()))
            .collect();
        let mut done = Vec::new();
        for thread in started {
            done.extend(thread.join().unwrap_or_else(|panicked| resume_unwind(panicked))?);
        }
        Ok(done)
    })
}
