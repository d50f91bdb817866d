//! Records that the operator brings in by the million.
//!
//! The same records as [`crate::records`] writes, by the same functions: drafts are checked and sealed on as many threads as
//! there are ([`Incoming`], [`Store::seal_incoming`]), then put into one transaction after the other ([`Import::put`]), each of
//! some hundred thousand rows that reach the engine in the order of their keys. Each transaction holds whole records, so
//! that the store is whole after each. Scopes and UNIQUE values are looked up as for a call. What must never happen here: a
//! record that overwrites another, and a rule that is asked: none is, for whoever imports could write the file as well.
//!
//! Nobody else may write meanwhile; if somebody does, the commit conflicts.

use crate::{
    canonical::same_field,
    engine::{CommitError, CommitVersion},
    open::Open,
    records::{Draft, Made},
    refused::{Refused, StoreError},
    store::Store,
    table::Table,
};
use prost_reflect::{DynamicMessage, FieldDescriptor};
use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};
use sys_contract::id::{OrgId, ProjectId, RecordId};
use sys_keys::SpaceId;

/// Scopes that were found to exist and are not looked up again: some megabytes.
const KNOWN_SCOPES: usize = 65_536;

/// A record on its way in: of its table's type, and placed where its id says.
#[derive(Debug)]
pub struct Incoming {
    table: Arc<Table>,
    draft: Draft,
}

impl Incoming {
    /// Checks a record on its own. Its etag is dropped.
    pub fn new(table: &Arc<Table>, id: RecordId, message: DynamicMessage) -> Result<Self, Refused> {
        let draft = Draft::of(table, id, message).map_err(|refused| match refused {
            // Elsewhere a fault of ours; here whoever brings a record brings its id, too.
            Refused::Store(StoreError::Scope { .. }) => Refused::Invalid {
                field: table.record.id.name().to_owned(),
                what: "it is an id of another org than the record's: the ids of an org's records begin alike"
                    .to_owned(),
            },
            refused => refused,
        })?;
        Ok(Self { table: table.clone(), draft })
    }

    /// Its id.
    pub fn id(&self) -> RecordId {
        self.draft.id
    }

    /// Its type.
    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }

    fn space(&self) -> SpaceId {
        self.table.at(self.draft.id.org).space
    }
}

/// A record that was sealed, with its rows.
#[derive(Debug)]
pub struct Sealed {
    table: Arc<Table>,
    made: Made,
}

impl Sealed {
    /// Its id.
    pub fn id(&self) -> RecordId {
        self.made.stored.id()
    }

    /// Its type.
    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }
}

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It is new.
    New,
    /// It is stored already, just so.
    AlreadyThere,
}

impl Store {
    /// Sees to it that the tablespaces of these records have keys, which are durable when this returns.
    pub async fn keys_for_incoming<'a>(
        &self,
        incoming: impl IntoIterator<Item = &'a Incoming>,
    ) -> Result<(), StoreError> {
        let mut new = BTreeSet::new();
        for space in incoming.into_iter().map(Incoming::space) {
            if !new.contains(&space) && self.keyring().space(space)?.is_none() {
                new.insert(space);
            }
        }
        if new.is_empty() {
            return Ok(());
        }
        let mut open = self.begin(sys_policy::Now { unix_s: 0, nanos: 0 }).await?;
        for space in &new {
            open.check_unwritten(*space).await?;
        }
        let keyring = self.keyring().clone();
        match tokio::task::spawn_blocking(move || keyring.create_spaces(new)).await {
            Ok(made) => Ok(made?),
            // The task cannot be cancelled; a panic in it goes on here.
            Err(failed) => std::panic::resume_unwind(failed.into_panic()),
        }
    }

    /// Seals a record and makes its rows. Work of the processor alone: to be done on many threads, once
    /// [`Store::keys_for_incoming`] has been asked.
    pub fn seal_incoming(&self, Incoming { table, draft }: Incoming) -> Result<Sealed, Refused> {
        let space = table.at(draft.id.org).space;
        let keys = self.keyring().space(space)?.ok_or(StoreError::KeysMissing { space })?;
        let made = draft.made(&table, &keys, self.entropy().as_ref())?;
        Ok(Sealed { table, made })
    }
}

/// An import under way.
#[derive(Debug, Default)]
pub struct Import {
    /// The texts of orgs and their projects. Nothing is deleted meanwhile, so that what existed once goes on to.
    known: HashSet<[String; 2]>,
}

impl Import {
    /// Puts a record into the transaction. One whose id has another record is refused, and so is one of a scope that does not
    /// exist, or with a UNIQUE value that is taken; then nothing of it is in the transaction.
    pub async fn put(&mut self, open: &mut Open, Sealed { table, made }: Sealed) -> Result<Put, Refused> {
        open.check_current(&table).await?;
        let id = made.stored.id();
        if let Some(stored) = open.record(&table, id).await? {
            let differs = |field| !same_field(stored.message(), made.stored.message(), field);
            return match table.fields.iter().any(differs) {
                true => Err(Refused::Taken { field: table.record.id.name().to_owned() }),
                false => Ok(Put::AlreadyThere),
            };
        }
        self.check_scope(open, &table, &made).await?;
        let space = table.at(id.org).space;
        let keys = open.keys(space)?.ok_or(StoreError::KeysMissing { space })?;
        open.put_made(&table, &keys, None, made).await?;
        Ok(Put::New)
    }

    /// Refuses an org that does not exist, or a project that is not the org's.
    pub async fn require_scope(
        &mut self,
        open: &mut Open,
        org: OrgId,
        project: Option<ProjectId>,
    ) -> Result<(), Refused> {
        let scope = [org.to_string(), project.map(|project| project.to_string()).unwrap_or_default()];
        if self.known.contains(&scope) {
            return Ok(());
        }
        if !open.has_org(org).await? {
            return Err(Refused::invalid("org_id", "there is no such org"));
        }
        if let Some(project) = project
            && !open.has_project(Some(org.tag()), project).await?
        {
            return Err(Refused::invalid("project_id", "the org has no such project"));
        }
        self.know(scope);
        Ok(())
    }

    async fn check_scope(&mut self, open: &mut Open, table: &Table, made: &Made) -> Result<(), Refused> {
        let message = made.stored.message();
        // A record that is its own scope makes it.
        let text = |field: &Option<FieldDescriptor>| match field.as_ref().filter(|field| **field != table.record.id) {
            Some(field) => message.get_field(field).as_str().unwrap_or_default().to_owned(),
            None => String::new(),
        };
        let scope = [text(&table.record.org), text(&table.record.project)];
        if self.known.contains(&scope) {
            return Ok(());
        }
        open.check_scope(table, message, made.stored.placement()).await?;
        self.know(scope);
        Ok(())
    }

    fn know(&mut self, scope: [String; 2]) {
        if self.known.len() >= KNOWN_SCOPES {
            self.known.clear();
        }
        self.known.insert(scope);
    }
}

impl Open {
    /// How many rows the transaction writes: records, index rows, changes, log entries.
    pub fn import_rows(&self) -> usize {
        self.write_count()
    }

    /// Commits a part of an import. Conflicts with whatever was committed since the transaction began.
    pub async fn commit_import(self) -> Result<CommitVersion, CommitError> {
        self.commit_alone().await
    }
}
