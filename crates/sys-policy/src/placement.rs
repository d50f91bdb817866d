//! Where a record stands: its tablespace, org, project and owner.
//!
//! Read from the record's own scope fields and from nothing else; they are text ids, and a text that is none is an error,
//! never "no scope".

use crate::content::Content;
use prost_reflect::FieldDescriptor;
use std::str::FromStr;
use sys_contract::{
    id::{AccountId, IdError, OrgId, OrgTag, ProjectId},
    model::{Home, Record},
};

/// The scope of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placement {
    /// The org whose tablespace holds it; [`OrgTag::GLOBAL`] where the record type has `home: GLOBAL`.
    pub home: OrgTag,
    /// The org it belongs to.
    pub org: Option<OrgTag>,
    /// The project it belongs to.
    pub project: Option<ProjectId>,
    /// The account that owns it.
    pub owner: Option<AccountId>,
}

/// Why a record has no place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlacementError {
    /// A record at home in an org names none.
    #[error("`{field}` is empty: a record at home in an org names it")]
    Missing {
        /// The scope field.
        field: String,
    },
    /// The org's id has the tag that stands for no org: such an org is never created.
    #[error("`{field}` names no org")]
    NoOrg {
        /// The scope field.
        field: String,
    },
    /// A scope field holds something that is no id of its kind.
    #[error("`{field}` holds no id of its kind")]
    Malformed {
        /// The scope field.
        field: String,
        /// What is wrong with the text.
        source: IdError,
    },
}

/// The scope fields of a record type.
#[derive(Debug, Clone)]
pub(crate) struct ScopeFields {
    pub(crate) home: Home,
    pub(crate) org: Option<FieldDescriptor>,
    pub(crate) project: Option<FieldDescriptor>,
    pub(crate) owner: Option<FieldDescriptor>,
}

impl ScopeFields {
    pub(crate) fn of(record: &Record) -> Self {
        Self {
            home: record.home,
            org: record.org.clone(),
            project: record.project.clone(),
            owner: record.owner.clone(),
        }
    }

    pub(crate) fn placement(&self, record: Content<'_>) -> Result<Placement, PlacementError> {
        let fields = [&self.org, &self.project, &self.owner].map(Option::as_ref);
        let [org, project, owner] = record.texts(fields);
        let org = read::<OrgId>(self.org.as_ref(), org)?.map(|org| org.tag());
        let field = || self.org.as_ref().map(|field| field.name().to_owned()).unwrap_or_default();
        let home = match (self.home, org) {
            (_, Some(OrgTag::GLOBAL)) => return Err(PlacementError::NoOrg { field: field() }),
            (Home::Global, _) => OrgTag::GLOBAL,
            (Home::Org, Some(org)) => org,
            (Home::Org, None) => return Err(PlacementError::Missing { field: field() }),
        };
        let project = read(self.project.as_ref(), project)?;
        let owner = read(self.owner.as_ref(), owner)?;
        Ok(Placement { home, org, project, owner })
    }
}

/// The id in a scope field; none where the type has no such field or the record leaves it empty.
fn read<Id: FromStr<Err = IdError>>(field: Option<&FieldDescriptor>, text: &str) -> Result<Option<Id>, PlacementError> {
    let Some(field) = field.filter(|_| !text.is_empty()) else { return Ok(None) };
    text.parse().map(Some).map_err(|source| PlacementError::Malformed { field: field.name().to_owned(), source })
}
