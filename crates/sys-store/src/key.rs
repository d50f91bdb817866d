//! Where things stand in the engine's one ordered key space. Pure: bytes in, bytes out.
//!
//! A key is `org tag 6 | module 2 | table 2 | kind 1 | rest`, numbers big endian, so that an org, a module's tablespace in
//! it, a table and an index are each one contiguous range. What stands in keys can be read by whoever reads the disk:
//! ids, numbers from the catalog and keyed tokens, never a value but those of ORDERED indexes. Values are the business of [`crate::sealed`].

use crate::engine::KeyRange;
use bytes::Bytes;
use sys_contract::id::{ORG_TAG_BYTES, OrgTag, RecordId};
use sys_keys::{Generation, SpaceId};
use uuid::Uuid;

/// The module number under which the store keeps rows that belong to no contract.
pub(crate) const SYSTEM_MODULE: u16 = 0;
/// Bytes of an index token: half an HMAC-SHA256, wide enough that two values never meet.
pub(crate) const TOKEN_BYTES: usize = 16;
/// Bytes of a UUID at the end of record and index keys.
const UUID_BYTES: usize = 16;
/// Bytes before `rest`.
const HEAD_BYTES: usize = ORG_TAG_BYTES + 2 + 2 + 1;

/// What a key leads to. The numbers are on disk and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    /// `uuid 16`: a sealed record or system row.
    Record = 1,
    /// `index 2 | generation 4 | token 16 | uuid 16`: a record with a value.
    Token = 2,
    /// `scope kind 1 | generation 4 | scope 16 | uuid 16`: a record of an org, project or owner.
    Scope = 3,
    /// `commit version 8 | number 4`: a record that a commit wrote.
    Change = 4,
    /// `number 8`: an entry of a log, numbered by the commit thread.
    Log = 5,
    /// `index 2 | value | uuid 16`: a record in the order of its values, which are readable.
    Ordered = 6,
    /// Nothing: up to which commit the changes are gone.
    Pruned = 7,
}

/// By what records are found through their scope fields. The numbers are on disk and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum ScopeKind {
    /// In global tables only: elsewhere the whole table is one org's.
    Org = 1,
    /// The records of one project.
    Project = 2,
    /// The records of one account.
    Owner = 3,
}

/// One table in one tablespace: the first 10 bytes of all its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct TableSpace {
    /// The module's tablespace in an org, or its global one.
    pub(crate) space: SpaceId,
    /// The table's number in the module.
    pub(crate) table: u16,
}

impl TableSpace {
    /// The key of a record.
    pub(crate) fn record(&self, uuid: Uuid) -> Bytes {
        let mut key = self.head(Kind::Record, UUID_BYTES);
        key.extend_from_slice(uuid.as_bytes());
        key.into()
    }

    /// What the keys of all records begin with.
    pub(crate) fn records(&self) -> Bytes {
        self.head(Kind::Record, 0).into()
    }

    /// What the keys of an index begin with.
    pub(crate) fn index(&self, index: u16) -> Bytes {
        let mut key = self.head(Kind::Token, 2);
        key.extend_from_slice(&index.to_be_bytes());
        key.into()
    }

    /// What the keys of all records with a token begin with; a record's UUID follows.
    pub(crate) fn token(&self, index: u16, generation: Generation, token: &[u8; TOKEN_BYTES]) -> Bytes {
        let mut key = self.head(Kind::Token, 2 + 4 + TOKEN_BYTES);
        key.extend_from_slice(&index.to_be_bytes());
        key.extend_from_slice(&generation.0.to_be_bytes());
        key.extend_from_slice(token);
        key.into()
    }

    /// What the keys of an ORDERED index begin with; a value and a record's UUID follow.
    pub(crate) fn ordered(&self, index: u16) -> Bytes {
        let mut key = self.head(Kind::Ordered, 2);
        key.extend_from_slice(&index.to_be_bytes());
        key.into()
    }

    /// What the keys of all records of a scope begin with; a record's UUID follows.
    pub(crate) fn scope(&self, kind: ScopeKind, generation: Generation, scope: &[u8; UUID_BYTES]) -> Bytes {
        let mut key = self.head(Kind::Scope, 1 + 4 + UUID_BYTES);
        key.push(kind as u8);
        key.extend_from_slice(&generation.0.to_be_bytes());
        key.extend_from_slice(scope);
        key.into()
    }

    /// What the keys of change rows begin with; the commit version and a number follow.
    pub(crate) fn changes(&self) -> Bytes {
        self.head(Kind::Change, 0).into()
    }

    /// What all keys of the table begin with.
    pub(crate) fn table(&self) -> Bytes {
        let mut key = self.head(Kind::Record, 0);
        key.pop();
        key.into()
    }

    /// The key of the row that says up to which commit the change rows are gone.
    pub(crate) fn pruned(&self) -> Bytes {
        self.head(Kind::Pruned, 0).into()
    }

    /// The key of a system row.
    pub(crate) fn row(&self, name: &[u8]) -> Bytes {
        let mut key = self.head(Kind::Record, name.len());
        key.extend_from_slice(name);
        key.into()
    }

    /// What the keys of a log's entries begin with; the number follows.
    pub(crate) fn log(&self, name: &[u8]) -> Bytes {
        let mut key = self.head(Kind::Log, name.len());
        key.extend_from_slice(name);
        key.into()
    }

    /// What the keys of all rows by scopes of a kind begin with.
    pub(crate) fn scopes(&self, kind: u8) -> Bytes {
        let mut key = self.head(Kind::Scope, 1);
        key.push(kind);
        key.into()
    }

    /// The head of a key, with room for just so much behind it: a buffer that is full becomes [`Bytes`] as it is.
    fn head(&self, kind: Kind, rest_bytes: usize) -> Vec<u8> {
        let mut key = Vec::with_capacity(HEAD_BYTES + rest_bytes);
        key.extend_from_slice(self.space.org.as_bytes());
        key.extend_from_slice(&self.space.module.to_be_bytes());
        key.extend_from_slice(&self.table.to_be_bytes());
        key.push(kind as u8);
        key
    }
}

/// What a stored key says of itself: for those who walk over everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Parsed<'a> {
    pub(crate) at: TableSpace,
    pub(crate) part: KeyPart<'a>,
}

/// What stands behind the head of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyPart<'a> {
    /// A record's UUID, or the name of a system row.
    Record(&'a [u8]),
    /// A row of the index with this number.
    Token { index: u16 },
    /// A row by a scope of this kind.
    Scope { kind: u8 },
    /// A row of the ORDERED index with this number.
    Ordered { index: u16 },
    /// A change of a commit.
    Change { version: u64 },
    /// Up to which commit the changes are gone.
    Pruned,
    /// An entry of the log with this name.
    Log { name: &'a [u8], number: u64 },
}

/// Reads a key; none if no part of this crate writes such a one.
pub(crate) fn parse(key: &[u8]) -> Option<Parsed<'_>> {
    let (org, rest) = key.split_first_chunk::<ORG_TAG_BYTES>()?;
    let (module, rest) = rest.split_first_chunk()?;
    let (table, rest) = rest.split_first_chunk()?;
    let (kind, rest) = rest.split_first()?;
    let space = SpaceId { module: u16::from_be_bytes(*module), org: OrgTag::from_bytes(*org) };
    let at = TableSpace { space, table: u16::from_be_bytes(*table) };
    let part = match *kind {
        kind if kind == Kind::Record as u8 => KeyPart::Record(rest),
        kind if kind == Kind::Token as u8 && rest.len() == 2 + 4 + TOKEN_BYTES + UUID_BYTES => {
            KeyPart::Token { index: u16::from_be_bytes(*rest.first_chunk()?) }
        }
        kind if kind == Kind::Scope as u8 && rest.len() == 1 + 4 + 2 * UUID_BYTES => {
            KeyPart::Scope { kind: *rest.first()? }
        }
        kind if kind == Kind::Ordered as u8 && rest.len() > 2 + UUID_BYTES => {
            KeyPart::Ordered { index: u16::from_be_bytes(*rest.first_chunk()?) }
        }
        kind if kind == Kind::Change as u8 && rest.len() == 8 + 4 => {
            KeyPart::Change { version: u64::from_be_bytes(*rest.first_chunk()?) }
        }
        kind if kind == Kind::Pruned as u8 && rest.is_empty() => KeyPart::Pruned,
        kind if kind == Kind::Log as u8 => {
            let (name, number) = rest.split_last_chunk()?;
            KeyPart::Log { name, number: u64::from_be_bytes(*number) }
        }
        _ => return None,
    };
    Some(Parsed { at, part })
}

/// The tablespace of rows that belong to no contract.
pub(crate) const fn system_space() -> SpaceId {
    SpaceId { module: SYSTEM_MODULE, org: OrgTag::GLOBAL }
}

/// An org as a scope: its tag, with zeros on the left.
pub(crate) fn org_scope(org: OrgTag) -> [u8; UUID_BYTES] {
    let mut scope = [0; UUID_BYTES];
    for (to, from) in scope.iter_mut().skip(UUID_BYTES - ORG_TAG_BYTES).zip(org.as_bytes()) {
        *to = *from;
    }
    scope
}

/// A key from its prefix and the rest.
pub(crate) fn join(prefix: Bytes, rest: &[u8]) -> Bytes {
    let mut key = Vec::with_capacity(prefix.len() + rest.len());
    key.extend_from_slice(&prefix);
    key.extend_from_slice(rest);
    key.into()
}

/// The UUID at the end of a record or index key.
pub(crate) fn uuid_of(key: &[u8]) -> Option<Uuid> {
    key.last_chunk::<UUID_BYTES>().map(|bytes| Uuid::from_bytes(*bytes))
}

/// What all keys of a tablespace begin with.
pub(crate) fn of_space(space: SpaceId) -> Bytes {
    let mut key = space.org.as_bytes().to_vec();
    key.extend_from_slice(&space.module.to_be_bytes());
    key.into()
}

/// The org that a key belongs to.
pub(crate) fn org_of(key: &[u8]) -> Option<OrgTag> {
    key.first_chunk::<ORG_TAG_BYTES>().map(|bytes| OrgTag::from_bytes(*bytes))
}

/// The keys `prefix | uuid` for all UUIDs from one up.
pub(crate) fn from_uuid(prefix: &Bytes, uuid: Uuid) -> KeyRange {
    KeyRange { start: join(prefix.clone(), uuid.as_bytes()), ..KeyRange::prefix(prefix) }
}

/// The keys `prefix | uuid` for all UUIDs up to one, included.
pub(crate) fn up_to_uuid(prefix: &Bytes, uuid: Uuid) -> KeyRange {
    KeyRange { end: crate::engine::key_after(&join(prefix.clone(), uuid.as_bytes())), ..KeyRange::prefix(prefix) }
}

/// The id of a record in a tablespace.
pub(crate) fn record_id(space: SpaceId, uuid: Uuid) -> RecordId {
    RecordId { org: space.org, uuid }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn notes() -> TableSpace {
        TableSpace { space: SpaceId { module: 0x0203, org: OrgTag::from_bytes([9; 6]) }, table: 0x0405 }
    }

    #[test]
    fn keys_look_as_the_format_says() {
        let uuid = Uuid::from_bytes([7; 16]);
        let head = [9, 9, 9, 9, 9, 9, 2, 3, 4, 5];
        let check = |key: Bytes, rest: &[&[u8]]| assert_eq!(*key, [&head[..], &rest.concat()].concat());
        check(notes().record(uuid), &[&[1], &[7; 16]]);
        check(notes().token(6, Generation(8), &[1; 16]), &[&[2, 0, 6, 0, 0, 0, 8], &[1; 16]]);
        check(notes().scope(ScopeKind::Owner, Generation(8), &[5; 16]), &[&[3, 3, 0, 0, 0, 8], &[5; 16]]);
        check(notes().changes(), &[&[4]]);
        check(notes().log(b"x"), &[&[5], b"x"]);
        check(notes().pruned(), &[&[7]]);
        let part = |key: Bytes| parse(&key).map(|parsed| format!("{:?}", parsed.part)).unwrap_or_default();
        assert_eq!(part(notes().token(6, Generation(8), &[1; 16])), "", "a row has a record's UUID behind its token");
        let row = join(notes().token(6, Generation(8), &[1; 16]), uuid.as_bytes());
        assert_eq!(part(row), "Token { index: 6 }");
        assert_eq!(part(join(notes().log(b"x"), &[0, 0, 0, 0, 0, 0, 0, 3])), "Log { name: [120], number: 3 }");
        assert_eq!(parse(&notes().record(uuid)).map(|parsed| parsed.at), Some(notes()));
        assert_eq!(org_scope(OrgTag::from_bytes([9; 6])), [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 9, 9, 9, 9, 9]);
    }

    proptest! {
        #[test]
        fn ranges_from_and_up_to_an_id_split_at_it(a: [u8; 16], b: [u8; 16]) {
            let (prefix, a, b) = (notes().records(), Uuid::from_bytes(a), Uuid::from_bytes(b));
            prop_assert_eq!(from_uuid(&prefix, a).contains(&notes().record(b)), b >= a);
            prop_assert_eq!(up_to_uuid(&prefix, a).contains(&notes().record(b)), b <= a);
            prop_assert_eq!(uuid_of(&notes().record(a)), Some(a));
        }
    }
}
