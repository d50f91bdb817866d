//! Who calls: nobody, or an account with its session and bindings.
//!
//! A [`Caller`] is a snapshot that the gate took; whether its bindings still count is asked with the time of the call.
//! Bindings stand sorted by org and project, with a directory of the orgs beside them, so that a role is found by two
//! binary searches over numbers however many bindings there are. Must never happen here: that an account which is disabled
//! or unverified counts as more than an anonymous caller.

use crate::cel::time::Now;
use sys_contract::{
    id::{AccountId, OrgTag, ProjectId, SessionId},
    model::Role,
};

/// How long a password counts as shown lately, in seconds. Long enough for one piece of work, and as long as an access token
/// lasts, so that who has just logged in is not asked again.
pub const FRESH_PROOF_S: i64 = 600;
/// How far the clock may be moved back before what was shown lies in the future, and counts no more, in seconds.
const CLOCK_SKEW_S: i64 = 30;

/// What an account has proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Standing {
    /// No account.
    Anonymous,
    /// Has not proven its e-mail address: nothing but what `public` gives.
    Unverified,
    /// Disabled: nothing but what `public` gives.
    Disabled,
    /// In good standing: its bindings count.
    Verified,
}

/// A role held somewhere, perhaps for a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binding {
    /// The role.
    pub role: Role,
    /// Where it is held.
    pub scope: BindingScope,
    /// The first second, in Unix time, in which it counts no more.
    pub expires_unix_s: Option<u64>,
}

/// Where a binding is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BindingScope {
    /// The server; contains no org.
    System,
    /// An org with all its projects.
    Org(OrgTag),
    /// One project of an org.
    Project(OrgTag, ProjectId),
}

/// The principal of a call.
#[derive(Debug, Clone)]
pub struct Caller {
    account: Option<AccountId>,
    /// The account's text id while it is in good standing, else empty: what conditions see.
    account_text: String,
    session: Option<SessionId>,
    /// When the session last showed the account's password, in Unix seconds.
    proven_unix_s: Option<i64>,
    standing: Standing,
    /// INVARIANT: well-formed, and sorted by [`order`].
    bindings: Vec<Binding>,
    /// INVARIANT: the UUID of each binding's project, 0 for other bindings; as long as `bindings`.
    projects: Vec<u128>,
    /// INVARIANT: one run for each org in `bindings`, sorted by tag.
    orgs: Vec<OrgRun>,
    /// The highest role held at any org, expired ones included: a cheap "no" for those who hold nothing of the sort.
    highest_at_org: Option<Role>,
    /// The highest role held at any org or project.
    highest_anywhere: Option<Role>,
}

impl Caller {
    /// A caller without an account.
    pub fn anonymous() -> Self {
        Self {
            account: None,
            account_text: String::new(),
            session: None,
            proven_unix_s: None,
            standing: Standing::Anonymous,
            bindings: Vec::new(),
            projects: Vec::new(),
            orgs: Vec::new(),
            highest_at_org: None,
            highest_anywhere: None,
        }
    }

    /// An account with its session. A binding of SUPERADMIN outside SYSTEM, of another role there, or at the tag of no org
    /// is none and is dropped; so are all bindings of an account that is not [`Standing::Verified`].
    pub fn new(account: AccountId, session: SessionId, standing: Standing, mut bindings: Vec<Binding>) -> Self {
        let counts = standing == Standing::Verified;
        bindings.retain(|b| counts && b.can_be());
        bindings.sort_by_key(|b| order(&b.scope));
        let highest =
            |within: fn(&BindingScope) -> bool| bindings.iter().filter(|b| within(&b.scope)).map(|b| b.role).max();
        Self {
            account: Some(account),
            account_text: if counts { account.to_string() } else { String::new() },
            session: Some(session),
            proven_unix_s: None,
            standing,
            highest_at_org: highest(|scope| matches!(scope, BindingScope::Org(_))),
            highest_anywhere: highest(|scope| *scope != BindingScope::System),
            projects: bindings.iter().map(|b| order(&b.scope).2).collect(),
            orgs: runs(&bindings),
            bindings,
        }
    }

    /// The same, who showed the account's password in this session at this time, in Unix seconds.
    #[must_use]
    pub fn proven_at(self, unix_s: i64) -> Self {
        Self { proven_unix_s: Some(unix_s), ..self }
    }

    /// Whether the password was shown lately: within [`FRESH_PROOF_S`].
    pub fn is_freshly_proven(&self, now: &Now) -> bool {
        self.proven_unix_s.is_some_and(|at| {
            at <= now.unix_s.saturating_add(CLOCK_SKEW_S) && now.unix_s < at.saturating_add(FRESH_PROOF_S)
        })
    }

    /// The account, whatever its standing.
    pub fn account(&self) -> Option<AccountId> {
        self.account
    }

    /// The session.
    pub fn session(&self) -> Option<SessionId> {
        self.session
    }

    /// What the account has proven.
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// The bindings that count in this standing, expired ones included, sorted by org and project.
    pub fn bindings(&self) -> &[Binding] {
        &self.bindings
    }

    /// The first second after `now` in which a binding counts no more; none if all that count stay.
    pub fn next_expiry(&self, now: &Now) -> Option<Now> {
        let expiries = self.live(now).filter_map(|b| b.expires_unix_s).min()?;
        Some(Now { unix_s: i64::try_from(expiries).unwrap_or(i64::MAX), nanos: 0 })
    }

    /// All that the rules of records know of the caller, as bytes: two callers with the same are judged alike at any time.
    pub fn rights(&self) -> Vec<u8> {
        let mut bytes = vec![match self.standing {
            Standing::Anonymous => 0,
            Standing::Unverified => 1,
            Standing::Disabled => 2,
            Standing::Verified => 3,
        }];
        bytes.extend_from_slice(&self.account.map_or(0, |account| account.uuid().as_u128()).to_be_bytes());
        for binding in &self.bindings {
            let (org, kind, project) = order(&binding.scope);
            bytes.extend_from_slice(&org.to_be_bytes());
            bytes.push(kind);
            bytes.extend_from_slice(&project.to_be_bytes());
            bytes.push(match binding.role {
                Role::Guest => 1,
                Role::User => 2,
                Role::Admin => 3,
                Role::Superadmin => 4,
            });
            let expires = binding.expires_unix_s.unwrap_or(u64::MAX);
            bytes.extend_from_slice(&expires.to_be_bytes());
        }
        bytes
    }

    /// Whether grants other than `public` may hold at all.
    pub(crate) fn is_verified(&self) -> bool {
        self.standing == Standing::Verified
    }

    /// The account, if it is in good standing.
    pub(crate) fn verified_account(&self) -> Option<AccountId> {
        if self.is_verified() { self.account } else { None }
    }

    /// `caller.account_id` in conditions.
    pub(crate) fn account_text(&self) -> &str {
        &self.account_text
    }

    /// Whether the account holds SUPERADMIN now.
    pub(crate) fn is_superadmin(&self, now: &Now) -> bool {
        // They stand first.
        self.bindings.iter().take_while(|b| b.scope == BindingScope::System).any(|b| b.is_live(now))
    }

    /// Whether `role` or one above it is held at the org itself.
    pub(crate) fn holds_at_org(&self, role: Role, org: OrgTag, now: &Now) -> bool {
        self.run(org).is_some_and(|run| self.own(run).iter().any(|b| b.role >= role && b.is_live(now)))
    }

    /// Whether `role` or one above it is held at the project or at its org.
    pub(crate) fn holds_at_project(&self, role: Role, org: OrgTag, project: ProjectId, now: &Now) -> bool {
        let Some(run) = self.run(org) else { return false };
        let uuid = project.uuid().as_u128();
        let projects = self.projects.get(run.projects..run.end).unwrap_or_default();
        let first = run.projects + projects.partition_point(|other| *other < uuid);
        let there = self.bindings.get(first..run.end).unwrap_or_default().iter();
        let scope = BindingScope::Project(org, project);
        there.take_while(|b| b.scope == scope).chain(self.own(run)).any(|b| b.role >= role && b.is_live(now))
    }

    /// Whether anything is held in the org or one of its projects.
    pub(crate) fn is_member(&self, org: OrgTag, now: &Now) -> bool {
        self.in_org(org).iter().any(|b| b.is_live(now))
    }

    /// Whether `role` or one above it is held at some org (or, with `projects`, at some project).
    pub(crate) fn holds_somewhere(&self, role: Role, projects: bool, now: &Now) -> bool {
        let highest = if projects { self.highest_anywhere } else { self.highest_at_org };
        highest >= Some(role) && self.live(now).any(|b| b.role >= role && within_orgs(&b.scope, projects))
    }

    /// What is held in the org and its projects, expired or not: the org's own bindings first.
    pub(crate) fn in_org(&self, org: OrgTag) -> &[Binding] {
        self.run(org).and_then(|run| self.bindings.get(run.begin..run.end)).unwrap_or_default()
    }

    /// The bindings that have not expired.
    pub(crate) fn live(&self, now: &Now) -> impl Iterator<Item = &Binding> {
        self.bindings.iter().filter(|b| b.is_live(now))
    }

    fn run(&self, org: OrgTag) -> Option<&OrgRun> {
        let tag = number(org);
        let at = self.orgs.partition_point(|run| run.tag < tag);
        self.orgs.get(at).filter(|run| run.tag == tag)
    }

    /// The bindings at the org itself.
    fn own(&self, run: &OrgRun) -> &[Binding] {
        self.bindings.get(run.begin..run.projects).unwrap_or_default()
    }
}

impl Binding {
    /// Whether the role can be held there.
    fn can_be(&self) -> bool {
        match self.scope {
            BindingScope::System => self.role == Role::Superadmin,
            BindingScope::Org(org) | BindingScope::Project(org, _) => self.role != Role::Superadmin && !org.is_global(),
        }
    }

    /// Whether it has not expired.
    pub(crate) fn is_live(&self, now: &Now) -> bool {
        self.expires_unix_s.is_none_or(|expires| i128::from(expires) > i128::from(now.unix_s))
    }
}

/// Where the bindings of one org stand: its own from `begin`, those of its projects from `projects`, to `end`.
#[derive(Debug, Clone)]
struct OrgRun {
    tag: u64,
    begin: usize,
    projects: usize,
    end: usize,
}

/// The directory of sorted bindings.
fn runs(bindings: &[Binding]) -> Vec<OrgRun> {
    let mut runs: Vec<OrgRun> = Vec::new();
    for (index, binding) in bindings.iter().enumerate() {
        let (org, projects) = match binding.scope {
            BindingScope::System => continue,
            BindingScope::Org(org) => (org, index + 1),
            BindingScope::Project(org, _) => (org, index),
        };
        match runs.last_mut().filter(|run| run.tag == number(org)) {
            Some(run) => {
                run.end = index + 1;
                if matches!(binding.scope, BindingScope::Org(_)) {
                    run.projects = run.end;
                }
            }
            None => runs.push(OrgRun { tag: number(org), begin: index, projects, end: index + 1 }),
        }
    }
    runs
}

/// SYSTEM, then by org, the org itself before its projects. (Kind, org, project's UUID.)
fn order(scope: &BindingScope) -> (u64, u8, u128) {
    match scope {
        // No binding is held at the tag 0.
        BindingScope::System => (0, 0, 0),
        BindingScope::Org(org) => (number(*org), 1, 0),
        BindingScope::Project(org, project) => (number(*org), 2, project.uuid().as_u128()),
    }
}

fn number(org: OrgTag) -> u64 {
    let [a, b, c, d, e, f] = *org.as_bytes();
    u64::from_be_bytes([0, 0, a, b, c, d, e, f])
}

fn within_orgs(scope: &BindingScope, projects: bool) -> bool {
    match scope {
        BindingScope::System => false,
        BindingScope::Org(_) => true,
        BindingScope::Project(..) => projects,
    }
}
