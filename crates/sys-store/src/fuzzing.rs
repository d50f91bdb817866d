//! Doors for the fuzz targets (`crates/sys-fuzz`) to what is private here: bytes in, bytes out.

use crate::{
    Change, ListRequest, Refused, Table,
    catalog::{ModuleRow, kind_of},
    engine::{
        Order,
        redb::wal::frame::{self, Draft},
    },
    header::{Header, Place, Purpose},
    key::{self, KeyPart},
    list,
    note::{NOTE_WITHOUT_TIME_BYTES, Note},
    page::{self, Binding, Position},
    sealed, shape,
    sort::Sort,
    watch::Point,
};
use bytes::Bytes;
use prost::Message;
use prost_reflect::DynamicMessage;
use std::sync::Arc;
use sys_contract::{
    id::{AccountId, OrgTag, ProjectId},
    model::{Contract, Record},
};
use sys_keys::{Entropy, SpaceKeys};
use sys_policy::{Caller, FieldSet, RecordRules};

/// A stored value's header and ciphertext, taken apart and put together again.
pub fn header(bytes: &[u8]) -> Option<Vec<u8>> {
    Header::split(bytes).ok().map(|(header, ciphertext)| header.before(ciphertext))
}

/// A record, sealed for its place.
pub fn seal(keys: &SpaceKeys, key: &[u8], plaintext: Vec<u8>, entropy: &dyn Entropy) -> Vec<u8> {
    sealed::seal(keys, &place(Purpose::Record, key), plaintext, entropy).to_vec()
}

/// A record, opened, if it was sealed for this place.
pub fn open(keys: &SpaceKeys, key: &[u8], stored: &[u8]) -> Option<Vec<u8>> {
    sealed::open(keys, &place(Purpose::Record, key), stored).ok().map(|opened| opened.plaintext.to_vec())
}

/// What a key begins with that says of itself what this one does.
pub fn key_begins(bytes: &[u8]) -> Option<Vec<u8>> {
    let parsed = key::parse(bytes)?;
    let at = parsed.at;
    Some(match parsed.part {
        KeyPart::Record(name) => at.row(name).to_vec(),
        KeyPart::Token { index } => at.index(index).to_vec(),
        KeyPart::Ordered { index } => at.ordered(index).to_vec(),
        KeyPart::Scope { kind } => at.scopes(kind).to_vec(),
        KeyPart::Change { version } => key::join(at.changes(), &version.to_be_bytes()).to_vec(),
        KeyPart::Pruned => at.pruned().to_vec(),
        KeyPart::Log { name, number } => key::join(at.log(name), &number.to_be_bytes()).to_vec(),
    })
}

/// A module's row of the catalog, read and written anew.
pub fn catalog_row(bytes: &[u8]) -> Option<Vec<u8>> {
    ModuleRow::decode(bytes).ok().map(|row| row.encode_to_vec())
}

/// The numbers of all tables and of their indexes, as a row of the catalog has them.
pub fn catalog_numbers(row: &[u8]) -> Option<Vec<(u32, Vec<u32>)>> {
    let row = ModuleRow::decode(row).ok()?;
    let numbers = |table: &crate::catalog::TableRow| table.indexes.iter().map(|index| index.number).collect();
    Some(row.tables.iter().map(|table| (table.number, numbers(table))).collect())
}

/// The row once a contract is loaded and what it no longer names is gone.
pub fn catalog_loaded(row: &[u8], contract: &Contract) -> Option<Vec<u8>> {
    let row = ModuleRow::decode(row).ok()?.begun(contract).ok()?;
    Some(row.settled(contract).purged().encode_to_vec())
}

/// Whether this server knows indexes of this kind.
pub fn knows_index_kind(number: u32) -> bool {
    kind_of(number).is_some()
}

/// The contract that a row keeps the shape of.
pub fn kept_contract(row: &[u8]) -> Option<Contract> {
    shape::read(row, "mod-kept").ok()
}

/// A row of a batch in the log: `None` deletes it.
pub type LoggedRow = (Vec<u8>, Option<Vec<u8>>);

/// The generation of [`log`].
const GENERATION: u64 = 1;
/// Longest frame of [`log`].
const MAX_FRAME_BYTES: usize = 1 << 20;

/// A log of these batches, each one version further.
pub fn log(batches: &[Vec<LoggedRow>]) -> Vec<u8> {
    let mut draft = Draft::new(MAX_FRAME_BYTES);
    draft.begin(GENERATION, 0);
    let mut log = draft.finish(0).to_vec();
    for (batch, base) in batches.iter().zip(0..) {
        draft.begin(GENERATION, base);
        batch.iter().for_each(|(key, value)| draft.push(key, value.as_deref()));
        log.extend(draft.finish(base + 1));
    }
    log
}

/// The batches of a log, as far as they can be read, and whether more stands behind them. `None` in the place of a row that
/// cannot be read; no log, where none begins.
pub fn read_log(bytes: &[u8]) -> Option<(Vec<Vec<Option<LoggedRow>>>, bool)> {
    let chain = frame::read(bytes, GENERATION);
    let own = |(key, value): (&[u8], Option<&[u8]>)| (key.to_vec(), value.map(<[u8]>::to_vec));
    let (_, frames) = chain.frames.split_first()?;
    let rows = frames.iter().map(|frame| frame.rows().map(|row| row.map(own)).collect());
    Some((rows.collect(), chain.damaged_at.is_some()))
}

/// What a page token belongs to.
#[derive(Debug, Clone, Copy)]
pub struct Query<'a> {
    /// Who asked.
    pub account: Option<AccountId>,
    /// The org that the list names.
    pub org: Option<OrgTag>,
    /// The project that it names.
    pub project: Option<ProjectId>,
    /// Its filter.
    pub filter: &'a str,
    /// Its order.
    pub order_by: &'a str,
}

/// A position in a list, read and written anew.
pub fn position(bytes: &[u8]) -> Option<Vec<u8>> {
    Position::from_bytes(bytes).map(|position| position.to_bytes())
}

/// The token of a position.
pub fn page_token(keys: &SpaceKeys, query: &Query<'_>, position: &[u8], entropy: &dyn Entropy) -> Option<String> {
    let position = Position::from_bytes(position)?;
    Some(page::seal(keys, place(Purpose::PageToken, &[]), &query.binding(), &position, entropy))
}

/// The position of a token, if it is one of this query.
pub fn open_page_token(keys: &SpaceKeys, query: &Query<'_>, token: &str) -> Option<Vec<u8>> {
    page::open(keys, place(Purpose::PageToken, &[]), &query.binding(), token).ok().map(|position| position.to_bytes())
}

/// A point of a resume token, read and written anew.
pub fn point(bytes: &[u8]) -> Option<Vec<u8>> {
    Point::from_bytes(bytes).map(Point::to_bytes)
}

/// The token of a point.
pub fn resume_token(keys: &SpaceKeys, query: &Query<'_>, point: &[u8], entropy: &dyn Entropy) -> Option<String> {
    let point = Point::from_bytes(point)?;
    let place = place(Purpose::ResumeToken, &[]);
    Some(page::seal_token(keys, place, &query.binding(), point.to_bytes(), entropy))
}

/// The point of a token, if it is one of this query.
pub fn open_resume_token(keys: &SpaceKeys, query: &Query<'_>, token: &str) -> Option<Vec<u8>> {
    let opened = page::open_token(keys, place(Purpose::ResumeToken, &[]), &query.binding(), token)?;
    Point::from_bytes(&opened).map(Point::to_bytes)
}

/// A note of a change, read and written anew; none of one that has no time, as older stores have.
pub fn note(bytes: &[u8]) -> Option<Vec<u8>> {
    let bytes = Bytes::copy_from_slice(bytes);
    Note::from_bytes(&bytes).filter(|_| bytes.len() > NOTE_WITHOUT_TIME_BYTES).map(|note| note.to_bytes().to_vec())
}

/// A table without indexes, as a contract gives it.
pub fn table(record: Record, rules: Arc<RecordRules>) -> Table {
    Table::new(("mod-fuzz", 1), 1, record, rules, Vec::new(), (Bytes::new(), Default::default()))
}

/// A list request as it is understood.
#[derive(Debug, PartialEq, Eq)]
pub struct Asked {
    /// The org, the global tablespace where none is named.
    pub home: OrgTag,
    /// Most records of a page.
    pub page_size: usize,
    /// The fields of the order, and whether the greatest come first.
    pub order: Vec<(String, bool)>,
}

/// Reads a list request, as it comes from a caller.
pub fn asked(table: &Table, request: &ListRequest) -> Result<Asked, Refused> {
    let caller = Caller::anonymous();
    let query = list::Query::parse(table, &caller, request)?;
    let order = match query.sort() {
        Sort::ById(order) => vec![("id".to_owned(), *order == Order::Desc)],
        Sort::ByFields(fields) => {
            fields.iter().map(|(field, order)| (field.name().to_owned(), *order == Order::Desc)).collect()
        }
    };
    Ok(Asked { home: query.home(), page_size: query.page_size, order })
}

/// A stored record with an update made to it, if its caller may.
pub fn updated(
    table: &Table,
    stored: &DynamicMessage,
    (mask, new): (&[String], DynamicMessage),
    (hidden, unwritable): (&FieldSet, &FieldSet),
) -> Result<DynamicMessage, Refused> {
    Change::parse(table, mask, new)?.merge(table, stored, hidden, unwritable)
}

impl<'a> Query<'a> {
    fn binding(&self) -> Binding<'a> {
        let Self { account, org, project, filter, order_by } = *self;
        Binding { account, org, project, filter, search: "", order_by }
    }
}

fn place(purpose: Purpose, key: &[u8]) -> Place<'_> {
    Place { purpose, module: "mod-notes", org: OrgTag::GLOBAL, table: "notes", message: "notes.v1.Note", key }
}
