//! One grant, compiled: who it is for, and under which condition.
//!
//! Everything set in a grant must hold. Whether somebody can be meant by it, the contract's loader has checked; what is
//! checked here is its condition. Must never happen here: a grant that holds for an account that is not in good standing,
//! `public` excepted; a role found by comparing texts.

use crate::{
    caller::Caller,
    cel::{
        self, Profile, Scope,
        eval::{Env, Test, compile},
        ir::{Ir, Root},
        time::Now,
    },
    placement::Placement,
};
use prost_reflect::MessageDescriptor;
use std::fmt;
use sys_contract::{
    model::{Contract, Grant, Home, Level, Record, Role, Verb},
    problem::{Place, Problem},
};

/// Which grant of a list held, counted from 0 in the order of the contract: for the audit log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GrantNo(pub u32);

/// A grant, ready to decide.
#[derive(Debug)]
pub(crate) struct CompiledGrant {
    pub(crate) no: GrantNo,
    pub(crate) verbs: Vec<Verb>,
    pub(crate) who: Who,
    pub(crate) when: Option<Condition>,
}

/// Those for whom a grant is; all that is set must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Who {
    pub(crate) role: Option<(Role, Level)>,
    pub(crate) member: bool,
    pub(crate) owner: bool,
    pub(crate) signed_in: bool,
    pub(crate) public: bool,
    /// No custom role exists yet, so that nobody has a permission.
    pub(crate) permission: Option<String>,
}

/// A compiled `when`.
pub(crate) struct Condition {
    pub(crate) ir: Ir,
    pub(crate) names_next: bool,
    test: Test,
}

/// What a grant stands on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) contract: &'a Contract,
    /// In which enum names resolve.
    pub(crate) package: &'a str,
    /// The record that is judged, if any.
    pub(crate) record: Option<&'a Record>,
    /// The request, on methods.
    pub(crate) request: Option<&'a MessageDescriptor>,
}

/// Compiles a list of grants; what is wrong goes to `problems`.
pub(crate) fn compile_all(grants: &[Grant], subject: Subject<'_>, problems: &mut Vec<Problem>) -> Vec<CompiledGrant> {
    let mut compiled = Vec::with_capacity(grants.len());
    for (number, grant) in (0..).zip(grants) {
        match condition(grant, subject) {
            Ok(when) => compiled.push(CompiledGrant {
                no: GrantNo(number),
                verbs: grant.verbs.clone(),
                who: Who::of(grant),
                when,
            }),
            Err(problem) => problems.push(problem),
        }
    }
    compiled
}

impl CompiledGrant {
    /// Whether it is for this verb; LIST, COUNT and WATCH are GET.
    pub(crate) fn opens(&self, verb: Verb) -> bool {
        self.verbs.contains(&verb.granted_as())
    }

    /// Whether it holds on every record of the ranges that the caller holds by it: one thing is set, and no condition.
    pub(crate) fn covers_its_span(&self) -> bool {
        let parts = [self.who.role.is_some(), self.who.member, self.who.owner];
        self.when.is_none() && parts.into_iter().filter(|set| *set).count() <= 1
    }

    /// Whether it holds.
    pub(crate) fn holds(&self, caller: &Caller, placement: Option<&Placement>, env: &Env<'_>) -> bool {
        self.who.holds(caller, placement, &env.now) && self.when.as_ref().is_none_or(|when| when.holds(env))
    }
}

impl Who {
    fn of(grant: &Grant) -> Self {
        Self {
            role: grant.role,
            member: grant.member,
            owner: grant.owner,
            signed_in: grant.signed_in,
            public: grant.public,
            permission: grant.permission.clone(),
        }
    }

    /// Whether a caller of this standing can be meant at all: accounts in good standing, and with `public` alone anybody.
    /// Who names nobody means nobody.
    pub(crate) fn may_mean(&self, caller: &Caller) -> bool {
        let account = self.role.is_some() || self.member || self.owner || self.signed_in;
        self.permission.is_none() && if account { caller.is_verified() } else { self.public }
    }

    /// Whether the caller is meant, on a resource placed there.
    pub(crate) fn holds(&self, caller: &Caller, placement: Option<&Placement>, now: &Now) -> bool {
        if !self.may_mean(caller) {
            return false;
        }
        let org = placement.and_then(|placement| placement.org);
        self.role.is_none_or(|(role, level)| holds_role(role, level, caller, placement, now))
            && (!self.member || org.is_some_and(|org| caller.is_member(org, now)))
            && (!self.owner || placement.is_some_and(|placement| owns(caller, placement, now)))
    }

    /// Whether the caller might be meant on some resource at home there.
    pub(crate) fn could(&self, caller: &Caller, home: Option<Home>, now: &Now) -> bool {
        if !self.may_mean(caller) {
            return false;
        }
        let bound = || caller.holds_somewhere(Role::Guest, true, now);
        self.role.is_none_or(|(role, level)| match level {
            Level::System => caller.is_superadmin(now),
            Level::Org => caller.holds_somewhere(role, false, now),
            Level::Project => caller.holds_somewhere(role, true, now),
        }) && (!self.member || bound())
            && (!self.owner || home == Some(Home::Global) || bound())
    }
}

/// ORG contains its PROJECTs, so that a role at the org is one in each project, and the only one on a record without project.
fn holds_role(role: Role, level: Level, caller: &Caller, placement: Option<&Placement>, now: &Now) -> bool {
    match (level, placement.and_then(|placement| placement.org), placement.and_then(|placement| placement.project)) {
        (Level::System, ..) => caller.is_superadmin(now),
        (Level::Project, Some(org), Some(project)) => caller.holds_at_project(role, org, project, now),
        (Level::Project | Level::Org, Some(org), _) => caller.holds_at_org(role, org, now),
        (Level::Project | Level::Org, None, _) => false,
    }
}

/// The owner of a record at home in an org owns it while he has a binding there.
fn owns(caller: &Caller, placement: &Placement, now: &Now) -> bool {
    placement.owner.is_some_and(|owner| caller.verified_account() == Some(owner))
        && (placement.home.is_global() || caller.is_member(placement.home, now))
}

impl Condition {
    pub(crate) fn holds(&self, env: &Env<'_>) -> bool {
        (self.test)(env)
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.ir)
    }
}

/// Compiles the `unless` of a method's `step_up`: what its request alone says.
pub(crate) fn on_request(text: &str, place: &Place, subject: Subject<'_>) -> Result<Condition, Problem> {
    let refuse = |what: String, instead: &str| Problem { place: place.clone(), what, instead: instead.to_owned() };
    let profile = Profile::Rule { this: None, next: false, request: subject.request };
    let scope = Scope { pool: &subject.contract.pool, package: subject.package, profile };
    let ir =
        cel::check(text, scope).map_err(|error| refuse(format!("in `unless: {text:?}`: {error}"), &error.instead()))?;
    if let Ir::Const(value) = ir {
        let instead = if value { "leave `step_up` out" } else { "leave `unless` out" };
        return Err(refuse(format!("`unless: {text:?}` is always {value}"), instead));
    }
    Ok(Condition { names_next: false, test: compile(&ir), ir })
}

/// Compiles a grant's `when`.
fn condition(grant: &Grant, subject: Subject<'_>) -> Result<Option<Condition>, Problem> {
    let Some(text) = &grant.when else { return Ok(None) };
    let profile = Profile::Rule {
        this: subject.record.map(|record| &record.message),
        next: subject.request.is_none() && grant.verbs == [Verb::Update],
        request: subject.request,
    };
    let scope = Scope { pool: &subject.contract.pool, package: subject.package, profile };
    let ir = cel::check(text, scope)
        .map_err(|error| problem(grant, format!("in `when: {text:?}`: {error}"), error.instead()))?;
    if let Ir::Const(value) = ir {
        let instead = if value { "leave `when` out" } else { "leave the grant out" };
        return Err(problem(grant, format!("`when: {text:?}` is always {value}"), instead));
    }
    Ok(Some(Condition { names_next: ir.names(Root::Next), test: compile(&ir), ir }))
}

fn problem(grant: &Grant, what: impl Into<String>, instead: impl Into<String>) -> Problem {
    Problem { place: grant.place.clone(), what: what.into(), instead: instead.into() }
}
