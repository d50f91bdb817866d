//! The rows that [`Identity`](super::Identity) keeps, typed: by what they are found, and what they say.
//!
//! The messages are those of `proto/sys/core/v1/identity.proto`. What must never happen here: a decision.

use super::{
    scope::{Held, Scope},
    wire::{AccountDomain, Binding, Imported, Invitation, OneTimeToken, Principal, Purpose, Session, policy},
};
use crate::{refusal::Refusal, token::CertificateHash};
use bytes::Bytes;
use prost_reflect::Value;
use std::marker::PhantomData;
use sys_contract::{
    id::{AccountId, RecordId},
    model::Role,
};

/// What stands in [`Binding::heads`] of a SUPERADMIN. No id looks like it.
pub(super) const SYSTEM: &str = "system";

/// A message that is a row of Identity.
pub(super) trait Row: prost::Message + prost::Name + Default + Clone + 'static {}

impl Row for Principal {}
impl Row for Session {}
impl Row for Binding {}
impl Row for Invitation {}
impl Row for OneTimeToken {}
impl Row for Imported {}
impl Row for AccountDomain {}

/// A row and the id under which it stands.
#[derive(Debug, Clone)]
pub(super) struct Kept<M> {
    pub(super) id: RecordId,
    pub(super) row: M,
}

/// An indexed field of a row: what it is found by.
pub(super) struct By<M>(pub(super) u32, PhantomData<fn() -> M>);

impl<M> By<M> {
    const fn field(number: u32) -> Self {
        Self(number, PhantomData)
    }
}

impl Principal {
    pub(super) const EMAIL: By<Self> = By::field(2);
    pub(super) const UNPROVEN: By<Self> = By::field(9);
}

impl AccountDomain {
    pub(super) const DOMAIN: By<Self> = By::field(2);
    pub(super) const ORG: By<Self> = By::field(3);
}

impl Session {
    pub(super) const ACCOUNT: By<Self> = By::field(2);

    /// The certificate over whose connections alone its tokens are good.
    pub(super) fn bound_to(&self) -> Result<Option<CertificateHash>, Refusal> {
        if self.certificate_hash.is_empty() {
            return Ok(None);
        }
        let hash = self.certificate_hash.as_slice().try_into().map_err(Refusal::internal)?;
        Ok(Some(CertificateHash(hash)))
    }
}

impl Binding {
    pub(super) const ACCOUNT: By<Self> = By::field(2);
    pub(super) const ORG: By<Self> = By::field(4);
    pub(super) const PROJECT: By<Self> = By::field(5);
    pub(super) const HEADS: By<Self> = By::field(9);

    /// A row for this, with all that follows from it.
    pub(super) fn of(held: &Held) -> Self {
        let (org_id, project_id) = match held.scope {
            None => (String::new(), String::new()),
            Some(Scope::Org(org)) => (org.to_string(), String::new()),
            Some(Scope::Project(org, project)) => (org.to_string(), project.to_string()),
        };
        let heads = match (held.role, held.scope) {
            (Role::Superadmin, None) => SYSTEM.to_owned(),
            (Role::Admin, Some(Scope::Org(_))) => org_id.clone(),
            _ => String::new(),
        };
        Self {
            id: String::new(),
            account_id: held.account.to_string(),
            role: number_of(held.role).into(),
            org_id,
            project_id,
            expires_unix_s: held.expires_unix_s.unwrap_or(0),
            suspended: held.suspended,
            created_unix_s: held.created_unix_s,
            heads,
        }
    }

    /// What the row says.
    pub(super) fn held(&self) -> Result<Held, Refusal> {
        Ok(Held {
            account: account_id(&self.account_id)?,
            role: role_of(self.role)?,
            scope: scope_of(&self.org_id, &self.project_id)?,
            expires_unix_s: Some(self.expires_unix_s).filter(|at| *at != 0),
            suspended: self.suspended,
            created_unix_s: self.created_unix_s,
        })
    }
}

impl Invitation {
    pub(super) const EMAIL: By<Self> = By::field(2);
    pub(super) const ORG: By<Self> = By::field(3);
    pub(super) const PROJECT: By<Self> = By::field(4);
    pub(super) const INVITED_BY: By<Self> = By::field(6);
    pub(super) const TOKEN_HASH: By<Self> = By::field(7);
}

impl OneTimeToken {
    pub(super) const TOKEN_HASH: By<Self> = By::field(2);
    pub(super) const PURPOSE: By<Self> = By::field(3);
    pub(super) const ACCOUNT: By<Self> = By::field(4);
}

impl Imported {
    pub(super) const KEY: By<Self> = By::field(2);
}

/// A value to find rows by.
pub(super) trait Wanted {
    fn value(self) -> Value;
}

impl Wanted for &str {
    fn value(self) -> Value {
        Value::String(self.to_owned())
    }
}

impl Wanted for &String {
    fn value(self) -> Value {
        Value::String(self.clone())
    }
}

impl Wanted for [u8; 32] {
    fn value(self) -> Value {
        Value::Bytes(Bytes::copy_from_slice(&self))
    }
}

impl Wanted for bool {
    fn value(self) -> Value {
        Value::Bool(self)
    }
}

impl Wanted for Purpose {
    fn value(self) -> Value {
        Value::EnumNumber(self.into())
    }
}

/// An account's id as it stands in a row.
pub(super) fn account_id(text: &str) -> Result<AccountId, Refusal> {
    text.parse().map_err(Refusal::internal)
}

/// Where a row's role is held; `None` is the server.
pub(super) fn scope_of(org: &str, project: &str) -> Result<Option<Scope>, Refusal> {
    if org.is_empty() {
        return Ok(None);
    }
    let org = org.parse().map_err(Refusal::internal)?;
    if project.is_empty() {
        return Ok(Some(Scope::Org(org)));
    }
    Ok(Some(Scope::Project(org, project.parse().map_err(Refusal::internal)?)))
}

/// A role as rows and messages number it.
pub fn number_of(role: Role) -> policy::Role {
    match role {
        Role::Guest => policy::Role::Guest,
        Role::User => policy::Role::User,
        Role::Admin => policy::Role::Admin,
        Role::Superadmin => policy::Role::Superadmin,
    }
}

/// The role with a row's number.
pub(super) fn role_of(number: i32) -> Result<Role, Refusal> {
    named(number).ok_or_else(|| Refusal::internal("a stored role that is none"))
}

/// The role with this number, if there is one.
pub fn named(number: i32) -> Option<Role> {
    match policy::Role::try_from(number).ok()? {
        policy::Role::Guest => Some(Role::Guest),
        policy::Role::User => Some(Role::User),
        policy::Role::Admin => Some(Role::Admin),
        policy::Role::Superadmin => Some(Role::Superadmin),
        policy::Role::Unspecified => None,
    }
}
