//! Accounts by the million: one in each line of a file, as JSON, with what it holds.
//!
//! Each becomes an account, what it logs in with, and its roles. There is no password in a line: whoever comes asks for a new one
//! by mail. What must never happen here: a value of a line in an error.

use crate::{email::CanonicalEmail, request, wire::Account};
use serde::Deserialize;
use sys_contract::{
    id::{AccountId, OrgId},
    model::Role,
};
use sys_core::{
    host::LoadedModule,
    identity::{Email, Identity, NewAccount, Scope},
    import::{Brought, check_version},
    refusal::Refusal,
};

/// An account as a line has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AccountLine {
    /// `account_…`; when the account was made is read from it.
    id: String,
    email: String,
    display_name: String,
    /// The org that manages it. Only such an account has roles, as one that its org's admins made.
    #[serde(default)]
    managed_by_org_id: String,
    /// Whether the address is proven. An org that manages an account vouches for it.
    #[serde(default)]
    verified: bool,
    #[serde(default)]
    disabled: bool,
    #[serde(default)]
    roles: Vec<RoleLine>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RoleLine {
    /// `GUEST`, `USER` or `ADMIN`.
    role: String,
    org_id: String,
    #[serde(default)]
    project_id: String,
}

/// What a line says, understood.
struct Line {
    account: AccountId,
    email: Email,
    managed_by: Option<OrgId>,
    roles: Vec<(Scope, Role)>,
    record: Account,
}

/// Reads a line. `module` is the account module.
pub fn read(module: &LoadedModule, identity: &Identity, line: &str) -> Result<Brought, Refusal> {
    let Line { account, email, managed_by, roles, record } = Line::parse(line)?;
    let mut brought = Brought::default();
    brought.add(module, account.record(), &record)?;
    let (verified, disabled) = (record.verified, record.disabled);
    let new = NewAccount { account, email: &email, managed_by, verified, disabled, roles: &roles };
    identity.danger_bring(&mut brought, &new)?;
    Ok(brought)
}

/// The account of a line, for the fuzz targets.
#[doc(hidden)]
pub fn account_of(line: &str) -> Result<Account, Refusal> {
    Line::parse(line).map(|line| line.record)
}

impl Line {
    fn parse(line: &str) -> Result<Self, Refusal> {
        let line: AccountLine = serde_json::from_str(line)
            .map_err(|error| Refusal::invalid("line", format!("it is no account, at column {}", error.column())))?;
        let account: AccountId = request::id(&line.id, "id")?;
        check_version("id", account.record())?;
        let email = CanonicalEmail::parse(&line.email).map_err(|error| Refusal::invalid("email", error.to_string()))?;
        let email = Email::from(&email);
        let managed_by = request::optional_id::<OrgId>(&line.managed_by_org_id, "managed_by_org_id")?;
        let roles = line.roles.iter().map(role).collect::<Result<Vec<_>, _>>()?;
        if managed_by.is_none() && !roles.is_empty() {
            let what = "an account that no org manages gets its roles by accepting them: name `managed_by_org_id`";
            return Err(Refusal::invalid("roles", what));
        }
        if roles.iter().any(|(scope, _)| Some(scope.org()) != managed_by) {
            let what = "an account has accepted roles in the org that manages it alone: what it is to have elsewhere that org's \
                        admins invite it to";
            return Err(Refusal::invalid("roles", what));
        }
        let record = Account {
            email: email.as_str().to_owned(),
            display_name: line.display_name,
            managed_by_org_id: line.managed_by_org_id,
            verified: line.verified || managed_by.is_some(),
            disabled: line.disabled,
            created_at: Some(request::timestamp(made_at(account))),
            ..Account::default()
        };
        Ok(Self { account, email, managed_by, roles, record })
    }
}

fn role(line: &RoleLine) -> Result<(Scope, Role), Refusal> {
    let org: OrgId = request::id(&line.org_id, "roles.org_id")?;
    let scope = match request::optional_id(&line.project_id, "roles.project_id")? {
        Some(project) => Scope::Project(org, project),
        None => Scope::Org(org),
    };
    let role = match line.role.as_str() {
        "GUEST" => Role::Guest,
        "USER" => Role::User,
        "ADMIN" => Role::Admin,
        _ => return Err(Refusal::invalid("roles.role", "write GUEST, USER or ADMIN")),
    };
    Ok((scope, role))
}

/// The time in an account's id, in Unix seconds.
fn made_at(account: AccountId) -> i64 {
    let [a, b, c, d, e, f, ..] = *account.uuid().as_bytes();
    i64::try_from(u64::from_be_bytes([0, 0, a, b, c, d, e, f]) / 1_000).unwrap_or_default()
}
