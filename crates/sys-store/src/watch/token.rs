//! Resume tokens: a point of time in the store, sealed for one caller and one request.
//!
//! Sealed under the server's own keys and not under those of the org: whether an org has any would tell whether anything
//! was ever written there. They are all of one length.

use crate::{
    engine::CommitVersion,
    header::{Place, Purpose},
    list::Query,
    open::Open,
    page::{open_token, seal_token},
    refused::Refused,
    table::Table,
};
use sys_contract::id::OrgTag;
use sys_keys::TOKEN_BYTES;
use sys_policy::Now;

/// What judgements hang on beside records and time: the caller's rights and the contract, hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rights(pub(crate) [u8; TOKEN_BYTES]);

/// A point at which a watch was up to date: what a list showed then is known from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Point {
    /// The last commit that was shown.
    pub(crate) version: CommitVersion,
    /// The time for which conditions were judged.
    pub(crate) at: Now,
    /// And under which rights.
    pub(crate) rights: Rights,
}

impl Point {
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let mut bytes = self.version.0.to_be_bytes().to_vec();
        bytes.extend_from_slice(&self.at.unix_s.to_be_bytes());
        bytes.extend_from_slice(&self.at.nanos.to_be_bytes());
        bytes.extend_from_slice(&self.rights.0);
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (version, rest) = bytes.split_first_chunk()?;
        let (unix_s, rest) = rest.split_first_chunk()?;
        let (nanos, rights) = rest.split_first_chunk()?;
        Some(Self {
            version: CommitVersion(u64::from_be_bytes(*version)),
            at: Now { unix_s: i64::from_be_bytes(*unix_s), nanos: i32::from_be_bytes(*nanos) },
            rights: Rights(rights.try_into().ok()?),
        })
    }
}

/// The token of a point.
pub(super) fn seal(open: &Open, table: &Table, query: &Query<'_>, point: &Point) -> Result<String, Refused> {
    let (keys, entropy) = (open.store.system_keys()?, open.store.entropy());
    Ok(seal_token(&keys, place(table, query.home()), query.binding(), point.to_bytes(), entropy.as_ref()))
}

/// The point of a token, if it is one of this caller and request.
pub(super) fn open(open: &Open, table: &Table, query: &Query<'_>, token: &str) -> Result<Point, Refused> {
    let keys = open.store.system_keys()?;
    let opened = open_token(&keys, place(table, query.home()), query.binding(), token);
    opened.and_then(|bytes| Point::from_bytes(&bytes)).ok_or(Refused::ResumeToken)
}

fn place(table: &Table, org: OrgTag) -> Place<'_> {
    Place { purpose: Purpose::ResumeToken, ..table.page_place(org) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn points_read_back(version: u64, unix_s: i64, nanos: i32, rights: [u8; TOKEN_BYTES]) {
            let point = Point { version: CommitVersion(version), at: Now { unix_s, nanos }, rights: Rights(rights) };
            prop_assert_eq!(Point::from_bytes(&point.to_bytes()), Some(point));
        }

        #[test]
        fn no_bytes_are_too_odd_to_be_refused(bytes: Vec<u8>) {
            if let Some(point) = Point::from_bytes(&bytes) {
                prop_assert_eq!(point.to_bytes(), bytes);
            }
        }
    }
}
