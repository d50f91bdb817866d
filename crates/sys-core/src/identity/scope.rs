//! Where roles are held, and who may give which: the assignment rules as plain functions.
//!
//! A scope is an org or one of its projects. The server itself is none: SUPERADMIN is held there, made by the setup token
//! alone, and neither given nor taken by anybody.

use crate::refusal::{Reason, Refusal};
use sys_contract::{
    id::{AccountId, OrgId, ProjectId},
    model::Role,
};
use sys_policy::{Binding, BindingScope, Caller};

/// An org, or one of its projects. That the project is the org's is for whoever makes this value: it comes from the
/// project's stored record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// The org with all its projects.
    Org(OrgId),
    /// One project of an org.
    Project(OrgId, ProjectId),
}

impl Scope {
    /// The org.
    pub fn org(&self) -> OrgId {
        match self {
            Self::Org(org) | Self::Project(org, _) => *org,
        }
    }

    /// The project, where the scope is not the whole org.
    pub fn project(&self) -> Option<ProjectId> {
        match self {
            Self::Org(_) => None,
            Self::Project(_, project) => Some(*project),
        }
    }

    /// Whether what is held in `held` is held here, too.
    fn is_within(&self, held: &BindingScope) -> bool {
        match *held {
            BindingScope::System => false,
            BindingScope::Org(org) => org == self.org().tag(),
            BindingScope::Project(org, project) => org == self.org().tag() && self.project() == Some(project),
        }
    }
}

/// A role that an account holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Who.
    pub account: AccountId,
    /// As what.
    pub role: Role,
    /// Where; `None` is the server.
    pub scope: Option<Scope>,
    /// The first second in which it counts no more.
    pub expires_unix_s: Option<i64>,
    /// Counts for nothing at the moment.
    pub suspended: bool,
    /// Since when.
    pub created_unix_s: i64,
}

impl Held {
    /// Whether it counts now.
    pub(super) fn counts(&self, now_unix_s: i64) -> bool {
        !self.suspended && self.expires_unix_s.is_none_or(|expires| expires > now_unix_s)
    }

    /// Whether it is one that an org cannot lose all of: without an end, and not suspended.
    pub(super) fn stays(&self) -> bool {
        !self.suspended && self.expires_unix_s.is_none()
    }

    /// As rules see it.
    pub(super) fn for_rules(&self) -> Binding {
        let scope = match self.scope {
            None => BindingScope::System,
            Some(Scope::Org(org)) => BindingScope::Org(org.tag()),
            Some(Scope::Project(org, project)) => BindingScope::Project(org.tag(), project),
        };
        // A time before 1970 has passed.
        let expires_unix_s = self.expires_unix_s.map(|expires| u64::try_from(expires).unwrap_or(0));
        Binding { role: self.role, scope, expires_unix_s }
    }
}

/// The highest role that counts at a scope now. SUPERADMIN is held in no org.
pub(super) fn role_at(caller: &Caller, scope: &Scope, now_unix_s: i64) -> Option<Role> {
    live(caller, now_unix_s).filter(|binding| scope.is_within(&binding.scope)).map(|binding| binding.role).max()
}

/// Whether the caller runs the server.
pub(super) fn is_superadmin(caller: &Caller, now_unix_s: i64) -> bool {
    live(caller, now_unix_s).any(|binding| binding.role == Role::Superadmin && binding.scope == BindingScope::System)
}

/// Whether the caller holds anything in an org or one of its projects.
pub(super) fn is_member(caller: &Caller, org: OrgId, now_unix_s: i64) -> bool {
    live(caller, now_unix_s).any(|binding| match binding.scope {
        BindingScope::System => false,
        BindingScope::Org(tag) | BindingScope::Project(tag, _) => tag == org.tag(),
    })
}

/// The caller's own role at a scope that he administers.
pub(super) fn administers(caller: &Caller, scope: &Scope, now_unix_s: i64) -> Result<Role, Refusal> {
    role_at(caller, scope, now_unix_s).filter(|own| *own >= Role::Admin).ok_or_else(not_an_admin)
}

/// Whether whoever holds `own` at a scope may give, change or take `role` there.
pub(super) fn may_handle(own: Role, role: Role) -> Result<(), Refusal> {
    if role == Role::Superadmin || role > own {
        return Err(Refusal::new(Reason::RoleAboveOwn, "the role is above your own")
            .help("a superadmin is made by the server's setup alone"));
    }
    Ok(())
}

fn live(caller: &Caller, now_unix_s: i64) -> impl Iterator<Item = &Binding> {
    let now = u64::try_from(now_unix_s).unwrap_or(0);
    caller.bindings().iter().filter(move |binding| binding.expires_unix_s.is_none_or(|expires| expires > now))
}

fn not_an_admin() -> Refusal {
    Refusal::new(Reason::NotAnAdmin, "only an admin of the org or project may do this")
        .help("`sys whoami` shows your roles")
}
