//! What the server keeps of itself: certificates with their keys, ECH keys, the zone and the keys that sign it.
//!
//! [`Vault`] is the one handle on it, given at assembly to one module; it cannot be reached from a [`Call`]. An item is some
//! bytes under a kind and a name, sealed like any record, under keys of the global tablespace. Within a call, items are read
//! and written in its transaction, so that a method that decides on what it read decides on what is there at the commit. The
//! server itself changes items by [`Vault::change`], with an audit leaf that says what it did.
//!
//! What must never happen here: a value in a log line, an error or an audit leaf. A value that is handed out is wiped when
//! it is dropped; the record layer's own copies are not, like those of any record, and what was replaced or deleted stays in the
//! store, sealed, for the hour that notes of changes are kept.

use crate::{
    audit,
    call::Call,
    clock::Clock,
    identity::wire::VaultItem,
    refusal::{Reason, Refusal},
    trace::Tracer,
};
use prost::Name;
use prost_reflect::Value;
use std::{collections::BTreeMap, fmt, sync::Arc};
use sys_contract::id::OrgTag;
use sys_policy::Caller;
use sys_store::{
    Find, Open, Store, Stored, Table, Tables,
    engine::{self, CommitError},
};
use zeroize::{Zeroize, Zeroizing};

/// The longest value, in bytes: a chain of certificates with its key has about ten thousand.
pub const MAX_VALUE_BYTES: usize = 64 << 10;
/// The longest name, in bytes: that of a record set in a zone has 255, and the type behind it.
pub const MAX_NAME_BYTES: usize = 300;
/// Items of one kind. All of them are read at once.
pub const MAX_ITEMS: usize = 1_000;
/// What one [`Vault::change`] does at most, so that it fits into a transaction.
pub const MAX_CHANGES: usize = 128;
/// The longest name of a kind, in bytes.
const MAX_KIND_BYTES: usize = 32;
/// How often a change runs before it is given up: see the bound of the gate.
const MAX_ATTEMPTS: u32 = 10;

const KIND: u32 = 2;
const KEY: u32 = 3;

/// The handle on what the server keeps of itself. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Vault(Arc<Parts>);

struct Parts {
    store: Store,
    table: Arc<Table>,
    clock: Clock,
    tracer: Tracer,
}

/// Some bytes under a name. Its Debug does not show them.
pub struct Item {
    /// What it is of, in small letters, digits and hyphens, such as "ech-key".
    pub kind: String,
    /// Which of its kind: not empty, without control characters, of at most [`MAX_NAME_BYTES`].
    pub name: String,
    /// At most [`MAX_VALUE_BYTES`].
    pub value: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Item").field("kind", &self.kind).field("name", &self.name).finish_non_exhaustive()
    }
}

/// One step of [`Vault::change`].
#[derive(Debug)]
pub enum Change {
    /// Keeps this, in place of what has its kind and name.
    Put(Item),
    /// Lets go of what has this kind and name, if it is there.
    Remove {
        /// Of this kind.
        kind: String,
        /// With this name.
        name: String,
    },
}

/// Hears of changes to items.
#[derive(Debug)]
pub struct Changes(engine::Changes);

impl Changes {
    /// Waits until a commit has touched an item since the last call, or since the subscription began. Many commits may be
    /// one call. To subscribe before one looks first: then nothing is missed in between.
    pub async fn next(&mut self) {
        self.0.next().await;
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault").finish_non_exhaustive()
    }
}

impl Vault {
    /// Over the tables of sys-core's own contract; nothing if they lack that of items.
    pub(crate) fn new(store: Store, tables: &Tables, clock: Clock, tracer: Tracer) -> Option<Self> {
        let table = tables.by_name(&VaultItem::full_name())?.clone();
        Some(Self(Arc::new(Parts { store, table, clock, tracer })))
    }

    /// All items of a kind, by name, as this call finds them.
    pub async fn items(&self, call: &Call, kind: &str) -> Result<Vec<Item>, Refusal> {
        self.rows(&mut *call.open().await?).items(kind).await
    }

    /// The item of this kind and name, as this call finds it.
    pub async fn get(&self, call: &Call, kind: &str, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, Refusal> {
        self.rows(&mut *call.open().await?).get(kind, name).await
    }

    /// Keeps an item with this call, in place of the one of the same kind and name.
    pub async fn put(&self, call: &Call, kind: &str, name: &str, value: &[u8]) -> Result<(), Refusal> {
        self.rows(&mut *call.open().await?).put(kind, name, value).await
    }

    /// Lets go of an item with this call; whether it was there.
    pub async fn remove(&self, call: &Call, kind: &str, name: &str) -> Result<bool, Refusal> {
        self.rows(&mut *call.open().await?).remove(kind, name).await
    }

    /// All items of a kind, by name, as they are now. For the server itself: no call asks, and nobody is judged.
    pub async fn load(&self, kind: &str) -> Result<Vec<Item>, Refusal> {
        let mut open = self.0.store.begin(self.0.clock.now()).await?;
        self.rows(&mut open).items(kind).await
    }

    /// Does all of this in one transaction of the server itself, in this order, or none of it. Its audit leaf names `what` was
    /// done, such as "renew-certificate". Whoever changes the same items at the same moment comes before or after.
    pub async fn change(&self, what: &'static str, changes: Vec<Change>) -> Result<(), Refusal> {
        let trace = self.0.tracer.work(what);
        let changed = self.change_in_the_end(what, &changes).await;
        changed.inspect_err(|refusal| trace.failed(refusal.reason.name()))
    }

    async fn change_in_the_end(&self, what: &'static str, changes: &[Change]) -> Result<(), Refusal> {
        if changes.len() > MAX_CHANGES {
            return Err(Refusal::internal(format!("{what} changes more than {MAX_CHANGES} items at once")));
        }
        for _ in 0..MAX_ATTEMPTS {
            match self.change_once(what, changes).await? {
                Ok(()) => return Ok(()),
                Err(CommitError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(CommitError::Conflict.into())
    }

    async fn change_once(&self, what: &'static str, changes: &[Change]) -> Result<Result<(), CommitError>, Refusal> {
        let store = &self.0.store;
        let mut open = store.begin(self.0.clock.now()).await?;
        let mut rows = self.rows(&mut open);
        for change in changes {
            match change {
                Change::Put(item) => rows.put(&item.kind, &item.name, &item.value).await?,
                Change::Remove { kind, name } => drop(rows.remove(kind, name).await?),
            }
        }
        if !open.has_writes() {
            return Ok(Ok(()));
        }
        let leaf = audit::leaf_of(&format!("sys-server/{what}"), &Caller::anonymous(), open.now());
        let leaf = leaf.records(open.changed_records());
        audit::append(&mut open, OrgTag::GLOBAL, leaf, store.entropy().as_ref()).await?;
        Ok(open.commit().await.map(drop))
    }

    /// Hears of each commit from now on that touches an item.
    pub fn changes(&self) -> Changes {
        Changes(self.0.store.changes(&self.0.table, OrgTag::GLOBAL))
    }

    fn rows<'a>(&'a self, open: &'a mut Open) -> Rows<'a> {
        Rows { open, table: &self.0.table, counted: BTreeMap::new() }
    }
}

/// The items, as a transaction finds them.
struct Rows<'a> {
    open: &'a mut Open,
    table: &'a Arc<Table>,
    /// How many there are of the kinds to which something new was added: found out once, since it is a walk over all of them.
    counted: BTreeMap<String, usize>,
}

impl Rows<'_> {
    async fn items(&mut self, kind: &str) -> Result<Vec<Item>, Refusal> {
        let found = self.of_kind(kind).await?;
        let mut items = found.iter().map(|stored| item(stored, kind)).collect::<Result<Vec<_>, _>>()?;
        items.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(items)
    }

    async fn get(&mut self, kind: &str, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, Refusal> {
        let found = self.with_key(&key(kind, name)?).await?;
        found.map(|stored| item(&stored, kind).map(|item| item.value)).transpose()
    }

    async fn put(&mut self, kind: &str, name: &str, value: &[u8]) -> Result<(), Refusal> {
        if value.len() > MAX_VALUE_BYTES {
            return Err(Refusal::new(Reason::TooLarge, format!("{kind} {name:?} has {} bytes", value.len()))
                .help(format!("the server keeps at most {MAX_VALUE_BYTES} bytes under one name")));
        }
        let key = key(kind, name)?;
        let found = self.with_key(&key).await?.map(|stored| stored.id());
        if found.is_none() {
            self.add_one(kind).await?;
        }
        let mut row = VaultItem { id: String::new(), kind: kind.to_owned(), key, value: value.to_vec() };
        let mut new = self.table.empty_record();
        new.transcode_from(&row).map_err(Refusal::internal)?;
        row.value.zeroize();
        let mut unruled = self.open.danger_unruled(self.table);
        match found {
            Some(id) => unruled.update(id, new).await?,
            None => unruled.create(new).await?,
        };
        Ok(())
    }

    async fn remove(&mut self, kind: &str, name: &str) -> Result<bool, Refusal> {
        let Some(found) = self.with_key(&key(kind, name)?).await? else { return Ok(false) };
        self.counted.entry(kind.to_owned()).and_modify(|count| *count = count.saturating_sub(1));
        Ok(self.open.danger_unruled(self.table).delete(found.id()).await?)
    }

    /// Refuses one more of a kind that is full.
    async fn add_one(&mut self, kind: &str) -> Result<(), Refusal> {
        let count = match self.counted.get(kind) {
            Some(count) => *count,
            None => self.of_kind(kind).await?.len(),
        };
        if count >= MAX_ITEMS {
            return Err(Refusal::new(Reason::TooLarge, format!("the server keeps {MAX_ITEMS} of {kind} at most"))
                .help("remove some that are no longer needed"));
        }
        self.counted.insert(kind.to_owned(), count + 1);
        Ok(())
    }

    async fn of_kind(&mut self, kind: &str) -> Result<Vec<Stored>, Refusal> {
        let find = Find::all(OrgTag::GLOBAL).with(KIND, Value::String(checked_kind(kind)?.to_owned()));
        Ok(self.open.danger_unruled(self.table).find(&find.first(MAX_ITEMS)).await?)
    }

    async fn with_key(&mut self, key: &str) -> Result<Option<Stored>, Refusal> {
        let find = Find::all(OrgTag::GLOBAL).with(KEY, Value::String(key.to_owned())).first(1);
        Ok(self.open.danger_unruled(self.table).find(&find).await?.pop())
    }
}

/// A stored item of this kind.
fn item(stored: &Stored, kind: &str) -> Result<Item, Refusal> {
    let mut row: VaultItem = stored.message().transcode_to().map_err(Refusal::internal)?;
    let value = Zeroizing::new(std::mem::take(&mut row.value));
    let name = row.key.strip_prefix(kind).and_then(|rest| rest.strip_prefix('/'));
    let name = name.ok_or_else(|| Refusal::internal("an item of the vault is not under its own kind"))?;
    Ok(Item { kind: kind.to_owned(), name: name.to_owned(), value })
}

/// By what an item is found. Of names, some come from requests.
fn key(kind: &str, name: &str) -> Result<String, Refusal> {
    let kind = checked_kind(kind)?;
    if name.is_empty() || name.len() > MAX_NAME_BYTES || name.chars().any(char::is_control) {
        return Err(Refusal::invalid("name", format!("give 1 to {MAX_NAME_BYTES} bytes, without control characters")));
    }
    Ok(format!("{kind}/{name}"))
}

/// Kinds are the code's own: a wrong one is our fault.
fn checked_kind(kind: &str) -> Result<&str, Refusal> {
    let is_sayable = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if kind.is_empty() || kind.len() > MAX_KIND_BYTES || !kind.bytes().all(is_sayable) {
        return Err(Refusal::internal(format!("{kind:?} is no kind of items of the vault")));
    }
    Ok(kind)
}

#[cfg(test)]
mod tests;
