//! What requests hold, parsed; and what answers are made of.
//!
//! A text that is no id of its kind is refused with its field. Nothing here looks anything up, save [`scope_of`], which asks
//! for a project with the caller's own rights.

use crate::{
    email::CanonicalEmail,
    wire::{self, Project},
};
use prost_types::Timestamp;
use std::{fmt::Display, str::FromStr};
use sys_contract::{
    id::{OrgId, ProjectId, RecordId},
    model::Role,
};
use sys_core::{
    call::Call,
    identity::{Email, Held, Scope, role_named, role_number},
    refusal::{Reason, Refusal},
};

/// How many rows a page has where the request does not say.
const DEFAULT_PAGE: usize = 50;
/// What page tokens of this module's own lists begin with.
const PAGE_PREFIX: &str = "page";

/// The address in a field, in its canonical form.
pub(crate) fn email(text: &str, field: &str) -> Result<Email, Refusal> {
    let canonical = CanonicalEmail::parse(text).map_err(|error| Refusal::invalid(field, error.to_string()))?;
    Ok(Email::from(&canonical))
}

impl From<&CanonicalEmail> for Email {
    fn from(email: &CanonicalEmail) -> Self {
        Self::assume_canonical(email.as_str())
    }
}

/// The id in a field.
pub(crate) fn id<Id: FromStr<Err: Display>>(text: &str, field: &str) -> Result<Id, Refusal> {
    text.parse().map_err(|error: Id::Err| Refusal::invalid(field, error.to_string()))
}

/// The id in a field that may be empty.
pub(crate) fn optional_id<Id: FromStr<Err: Display>>(text: &str, field: &str) -> Result<Option<Id>, Refusal> {
    if text.is_empty() { Ok(None) } else { id(text, field).map(Some) }
}

/// The role in a field.
pub(crate) fn role(number: i32, field: &str) -> Result<Role, Refusal> {
    role_named(number).ok_or_else(|| Refusal::invalid(field, "write GUEST, USER or ADMIN"))
}

/// The scope that a request names: an org, or one of its projects that the caller may see.
pub(crate) async fn scope_of(call: &Call, org_id: &str, project_id: &str) -> Result<Scope, Refusal> {
    let org: OrgId = id(org_id, "org_id")?;
    let Some(project) = optional_id::<ProjectId>(project_id, "project_id")? else { return Ok(Scope::Org(org)) };
    let stored = call.records().get::<Project>(project.record()).await?;
    // Hidden, absent and of another org read alike.
    match stored {
        Some(stored) if stored.org_id == org_id => Ok(Scope::Project(org, project)),
        _ => Err(Refusal::not_found()),
    }
}

/// How many rows are asked for. The contract bounds it.
pub(crate) fn page_size(asked: i32) -> usize {
    usize::try_from(asked).ok().filter(|size| *size > 0).unwrap_or(DEFAULT_PAGE)
}

/// Where a page goes on: behind the last row of the page before. It says nothing that its caller has not seen.
pub(crate) fn position(page_token: &str) -> Result<Option<RecordId>, Refusal> {
    if page_token.is_empty() {
        return Ok(None);
    }
    let wrong = |_| Refusal::invalid("page_token", "no page has this token: begin with the first page");
    RecordId::parse(page_token, PAGE_PREFIX).map(Some).map_err(wrong)
}

/// The token of the page behind a full one.
pub(crate) fn next_page_token(rows: usize, size: usize, last: Option<RecordId>) -> String {
    last.filter(|_| rows >= size).map(|last| last.text(PAGE_PREFIX)).unwrap_or_default()
}

/// A second in time, for an answer.
pub(crate) fn timestamp(unix_s: i64) -> Timestamp {
    Timestamp { seconds: unix_s, nanos: 0 }
}

/// What is held, for an answer.
pub(crate) fn binding(held: &Held) -> wire::Binding {
    let (org_id, project_id) = scope_ids(held.scope.as_ref());
    wire::Binding { role: role_number(held.role).as_str_name().to_owned(), org_id, project_id }
}

/// The ids of a scope, for an answer.
pub(crate) fn scope_ids(scope: Option<&Scope>) -> (String, String) {
    let org = scope.map(|scope| scope.org().to_string()).unwrap_or_default();
    let project = scope.and_then(Scope::project).map(|project| project.to_string()).unwrap_or_default();
    (org, project)
}

/// Refuses a change to what is no longer as the caller last saw it.
pub(crate) fn same_etag(seen: &str, now: &str) -> Result<(), Refusal> {
    if seen.is_empty() || seen == now {
        return Ok(());
    }
    Err(Refusal::new(Reason::EtagMismatch, "the record was changed meanwhile")
        .help("read it again, then repeat the change with its new etag"))
}
