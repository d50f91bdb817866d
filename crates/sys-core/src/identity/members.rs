//! Who is in an org, and as what: bindings given, changed, suspended and taken.
//!
//! What must never happen here: a binding for another's account that is new to the org (that takes his acceptance of an
//! invitation), or an end of the last admin's.

use super::{
    Email, Identity,
    limits::{MAX_BINDINGS_PER_ACCOUNT, MAX_INVITATIONS_PER_ORG},
    rows::{Kept, scope_of},
    scope::{Held, Scope, administers, is_member, is_superadmin, may_handle, role_at},
    turn::Turn,
    wire::{AccountDomain, Binding, Invitation},
};
use crate::{
    call::Call,
    refusal::{Reason, Refusal},
};
use std::ops::DerefMut;
use sys_contract::{
    id::{AccountId, OrgId, ProjectId, RecordId},
    model::Role,
};
use sys_store::{Open, StoreError, SystemKind};

/// How often a new org's tag is drawn. The second time is luck of one in 2^48 for each org; the third is a fault.
const MAX_DRAWS: usize = 3;
/// What the rows that remember used org tags begin with.
const USED_ORG_TAG: &[u8] = b"org/";

/// What somebody holds in an org, as its admins see it.
#[derive(Debug, Clone)]
pub struct Membership {
    /// Where to go on listing.
    pub position: RecordId,
    /// What is held.
    pub held: Held,
    /// The address of the account.
    pub email: Email,
}

impl Identity {
    /// Gives a member of the org a role, in place of the one that he has at this scope.
    pub async fn assign_role(
        &self,
        call: &Call,
        account: AccountId,
        scope: Scope,
        role: Role,
        expires_unix_s: Option<i64>,
    ) -> Result<Held, Refusal> {
        let mut turn = self.turn(call).await?;
        let done = turn.assign_role(account, scope, role, expires_unix_s).await;
        turn.end(call, done).await
    }

    /// Ends the role that a member has at this scope. Anybody may give back his own.
    pub async fn revoke_role(&self, call: &Call, account: AccountId, scope: Scope) -> Result<(), Refusal> {
        let mut turn = self.turn(call).await?;
        let done = turn.revoke_role(account, scope).await;
        turn.end(call, done).await
    }

    /// Suspends all that a member holds in an org.
    pub async fn suspend_member(&self, call: &Call, account: AccountId, org: OrgId) -> Result<(), Refusal> {
        let mut turn = self.turn(call).await?;
        let done = turn.set_suspended(account, org, true).await;
        turn.end(call, done).await
    }

    /// Gives a suspended member back what he held.
    pub async fn resume_member(&self, call: &Call, account: AccountId, org: OrgId) -> Result<(), Refusal> {
        let mut turn = self.turn(call).await?;
        let done = turn.set_suspended(account, org, false).await;
        turn.end(call, done).await
    }

    /// Ends all that a member holds in an org, and the invitations that wait for him there. Anybody may leave.
    pub async fn remove_member(&self, call: &Call, account: AccountId, org: OrgId) -> Result<(), Refusal> {
        let mut turn = self.turn(call).await?;
        let done = turn.remove_member(account, org).await;
        turn.end(call, done).await
    }

    /// Draws the id of a new org. The tag in it names the org's tablespaces, so that it is one which no org has, or ever had.
    pub async fn new_org_id(&self, call: &Call) -> Result<OrgId, Refusal> {
        let mut turn = self.turn(call).await?;
        let done = turn.new_org_id().await;
        turn.end(call, done).await
    }

    /// Whether the caller runs the server.
    pub fn is_superadmin(&self, call: &Call) -> bool {
        is_superadmin(call.caller(), call.now().unix_s)
    }

    /// Whether the caller holds anything in an org now.
    pub fn is_member(&self, call: &Call, org: OrgId) -> bool {
        is_member(call.caller(), org, call.now().unix_s)
    }

    /// Makes the caller the first admin of an org that nobody is in.
    pub async fn found_org(&self, call: &Call, org: OrgId) -> Result<Held, Refusal> {
        let mut turn = self.turn(call).await?;
        let done = turn.found_org(org).await;
        turn.end(call, done).await
    }

    /// Makes the caller a USER of a project. That it is open to him is for whoever calls this.
    pub async fn join_open_project(&self, call: &Call, org: OrgId, project: ProjectId) -> Result<Held, Refusal> {
        let mut turn = self.turn(call).await?;
        let done = turn.join_open_project(Scope::Project(org, project)).await;
        turn.end(call, done).await
    }

    /// Ends all roles and invitations of an org that is closed, and frees its domains.
    pub async fn drop_org(&self, call: &Call, org: OrgId) -> Result<(), Refusal> {
        if !is_superadmin(call.caller(), call.now().unix_s) {
            administers(call.caller(), &Scope::Org(org), call.now().unix_s)?;
        }
        let mut turn = self.turn(call).await?;
        let done = turn.drop_org(org).await;
        turn.end(call, done).await
    }

    /// Ends all roles and invitations of a project that is deleted.
    pub async fn drop_project(&self, call: &Call, org: OrgId, project: ProjectId) -> Result<(), Refusal> {
        if !is_superadmin(call.caller(), call.now().unix_s) {
            administers(call.caller(), &Scope::Org(org), call.now().unix_s)?;
        }
        let mut turn = self.turn(call).await?;
        let done = turn.drop_project(project).await;
        turn.end(call, done).await
    }

    /// What people hold in an org or in one of its projects, for its admins; at most `limit`, behind a position.
    pub async fn members(
        &self,
        call: &Call,
        scope: Scope,
        after: Option<RecordId>,
        limit: usize,
    ) -> Result<Vec<Membership>, Refusal> {
        administers(call.caller(), &scope, call.now().unix_s)?;
        let mut turn = self.turn(call).await?;
        let done = turn.members(scope, after, limit).await;
        turn.end(call, done).await
    }

    /// What one account holds in an org: the caller's own, or for its admins anybody's.
    pub async fn roles_of(&self, call: &Call, account: AccountId, org: OrgId) -> Result<Vec<Membership>, Refusal> {
        if call.caller().account() != Some(account) {
            administers(call.caller(), &Scope::Org(org), call.now().unix_s)?;
        }
        let mut turn = self.turn(call).await?;
        let done = turn.roles_of(account, org).await;
        turn.end(call, done).await
    }
}

/// Takes the tag of an org, unless another org has it or had it once; whether it is this org's.
pub(crate) async fn take_org_tag(open: &mut Open, org: OrgId) -> Result<bool, StoreError> {
    let (name, owner) = ([USED_ORG_TAG, org.tag().as_bytes()].concat(), org.to_string().into_bytes());
    if org.tag().is_global() {
        return Ok(false);
    }
    match open.row(SystemKind::Used, &name).await? {
        Some(taken) => Ok(*taken == owner),
        None => {
            open.put_row(SystemKind::Used, &name, owner).await?;
            Ok(true)
        }
    }
}

impl<O: DerefMut<Target = Open> + Send> Turn<'_, O> {
    pub(super) async fn assign_role(
        &mut self,
        account: AccountId,
        scope: Scope,
        role: Role,
        expires_unix_s: Option<i64>,
    ) -> Result<Held, Refusal> {
        let own = administers(&self.caller, &scope, self.now_unix_s)?;
        may_handle(own, role)?;
        if self.account()? == account {
            return Err(Refusal::new(Reason::SelfAssign, "nobody gives a role to himself").help("ask another admin"));
        }
        if expires_unix_s.is_some_and(|expires| expires <= self.now_unix_s) {
            return Err(Refusal::invalid("expires_at", "it has passed"));
        }
        let in_org = self.bindings_in(account, scope.org()).await?;
        if in_org.is_empty() {
            return Err(Refusal::not_found());
        }
        if in_org.iter().any(|(_, held)| held.suspended) {
            return Err(suspended());
        }
        if let Some((kept, now)) = in_org.iter().find(|(_, held)| held.scope == Some(scope)) {
            may_handle(own, now.role)?;
            let remains = role == Role::Admin && expires_unix_s.is_none();
            if now.stays() && !kept.row.heads.is_empty() && !remains {
                self.require_other_head(&kept.row.heads, account).await?;
            }
        }
        // What was sent to him before is outdated: it may say more, or for longer, than this.
        let email = self.address_of(account).await?;
        self.withdraw_invitations(scope.org(), &email, |invited| invited == scope).await?;
        self.bind(account, scope, role, expires_unix_s).await
    }

    pub(super) async fn revoke_role(&mut self, account: AccountId, scope: Scope) -> Result<(), Refusal> {
        let own = match self.account()? == account {
            true => role_at(&self.caller, &scope, self.now_unix_s),
            false => Some(administers(&self.caller, &scope, self.now_unix_s)?),
        };
        let in_org = self.bindings_in(account, scope.org()).await?;
        let found = in_org.into_iter().find(|(_, held)| held.scope == Some(scope)).ok_or_else(Refusal::not_found)?;
        if let Some(own) = own {
            may_handle(own, found.1.role)?;
        }
        self.unbind(&found.0, &found.1).await?;
        // An older invitation to the same place, or to one within it, does not give it back. One to the whole org is not for
        // the admin of a project to take.
        let email = self.address_of(account).await?;
        let is_within = |invited: Scope| invited == scope || scope.project().is_none();
        self.withdraw_invitations(scope.org(), &email, is_within).await
    }

    pub(super) async fn set_suspended(&mut self, account: AccountId, org: OrgId, suspend: bool) -> Result<(), Refusal> {
        let own = administers(&self.caller, &Scope::Org(org), self.now_unix_s)?;
        if self.account()? == account {
            return Err(Refusal::new(Reason::OwnMembership, "nobody suspends himself"));
        }
        let in_org = self.bindings_in(account, org).await?;
        if in_org.is_empty() {
            return Err(Refusal::not_found());
        }
        for (mut kept, held) in in_org {
            may_handle(own, held.role)?;
            if suspend && held.stays() && !kept.row.heads.is_empty() {
                self.require_other_head(&kept.row.heads, account).await?;
            }
            kept.row.suspended = suspend;
            self.replace(&kept).await?;
        }
        self.changes(account);
        Ok(())
    }

    pub(super) async fn remove_member(&mut self, account: AccountId, org: OrgId) -> Result<(), Refusal> {
        let leaves = self.account()? == account;
        let own = if leaves { Role::Admin } else { administers(&self.caller, &Scope::Org(org), self.now_unix_s)? };
        let in_org = self.bindings_in(account, org).await?;
        if in_org.is_empty() {
            return Err(Refusal::not_found());
        }
        for (kept, held) in in_org {
            may_handle(own, held.role)?;
            self.unbind(&kept, &held).await?;
        }
        // Who is sent away, or has left, does not come back by an older invitation.
        let email = self.address_of(account).await?;
        self.withdraw_invitations(org, &email, |_| true).await
    }

    /// Takes back what an org sent to an address into scopes that pass. Found by both: those to an address are as many as
    /// strangers like.
    pub(super) async fn withdraw_invitations(
        &mut self,
        org: OrgId,
        email: &Email,
        passes: impl Fn(Scope) -> bool + Send,
    ) -> Result<(), Refusal> {
        let of_org = (Invitation::ORG, &org.to_string());
        let to_email = (Invitation::EMAIL, email.as_str());
        for kept in self.find_both(of_org, to_email, MAX_INVITATIONS_PER_ORG + 1).await? {
            if scope_of(&kept.row.org_id, &kept.row.project_id)?.is_some_and(&passes) {
                self.remove::<Invitation>(kept.id).await?;
            }
        }
        Ok(())
    }

    async fn address_of(&mut self, account: AccountId) -> Result<Email, Refusal> {
        Ok(Email::assume_canonical(self.known_principal(account).await?.row.email))
    }

    pub(super) async fn new_org_id(&mut self) -> Result<OrgId, Refusal> {
        for _ in 0..MAX_DRAWS {
            let id = OrgId::from_record(self.new_id());
            if take_org_tag(self.open(), id).await? {
                return Ok(id);
            }
        }
        Err(Refusal::internal("the source of randomness repeats itself"))
    }

    pub(super) async fn found_org(&mut self, org: OrgId) -> Result<Held, Refusal> {
        let account = self.account()?;
        if self.find_one(Binding::ORG, &org.to_string()).await?.is_some() {
            return Err(Refusal::new(Reason::OrgHasMembers, "somebody is in the org already"));
        }
        self.bind(account, Scope::Org(org), Role::Admin, None).await
    }

    pub(super) async fn join_open_project(&mut self, scope: Scope) -> Result<Held, Refusal> {
        let account = self.account()?;
        let in_org = self.bindings_in(account, scope.org()).await?;
        if in_org.iter().any(|(_, held)| held.suspended) {
            return Err(suspended());
        }
        let now = self.now_unix_s;
        if in_org.iter().any(|(_, held)| held.scope == Some(scope) && held.counts(now)) {
            return Err(Refusal::new(Reason::MemberAlready, "you are in this project already"));
        }
        self.bind(account, scope, Role::User, None).await
    }

    async fn drop_org(&mut self, org: OrgId) -> Result<(), Refusal> {
        let org = org.to_string();
        let bindings = self.remove_all(Binding::ORG, &org).await?;
        self.remove_all(Invitation::ORG, &org).await?;
        self.remove_all(AccountDomain::ORG, &org).await?;
        self.all_change(&bindings)
    }

    async fn drop_project(&mut self, project: ProjectId) -> Result<(), Refusal> {
        let project = project.to_string();
        let bindings = self.remove_all(Binding::PROJECT, &project).await?;
        self.remove_all(Invitation::PROJECT, &project).await?;
        self.all_change(&bindings)
    }

    fn all_change(&mut self, bindings: &[Kept<Binding>]) -> Result<(), Refusal> {
        for kept in bindings {
            let account = kept.row.held()?.account;
            self.changes(account);
        }
        Ok(())
    }

    async fn members(
        &mut self,
        scope: Scope,
        after: Option<RecordId>,
        limit: usize,
    ) -> Result<Vec<Membership>, Refusal> {
        let found = match scope {
            Scope::Org(org) => self.find_after(Binding::ORG, &org.to_string(), after, limit).await?,
            Scope::Project(_, project) => self.find_after(Binding::PROJECT, &project.to_string(), after, limit).await?,
        };
        let mut members = Vec::with_capacity(found.len());
        for kept in found {
            members.push(self.membership(&kept).await?);
        }
        Ok(members)
    }

    async fn roles_of(&mut self, account: AccountId, org: OrgId) -> Result<Vec<Membership>, Refusal> {
        let mut roles = Vec::new();
        for (kept, _) in self.bindings_in(account, org).await? {
            roles.push(self.membership(&kept).await?);
        }
        Ok(roles)
    }

    async fn membership(&mut self, kept: &Kept<Binding>) -> Result<Membership, Refusal> {
        let held = kept.row.held()?;
        let principal = self.principal(held.account).await?;
        let principal = principal.ok_or_else(|| Refusal::internal("a binding of no principal"))?;
        Ok(Membership { position: kept.id, held, email: Email::assume_canonical(principal.row.email) })
    }

    /// What an account holds in an org and its projects.
    pub(super) async fn bindings_in(
        &mut self,
        account: AccountId,
        org: OrgId,
    ) -> Result<Vec<(Kept<Binding>, Held)>, Refusal> {
        let all = self.bindings_of(account).await?;
        Ok(all.into_iter().filter(|(_, held)| held.scope.is_some_and(|scope| scope.org() == org)).collect())
    }

    /// Writes a binding, in place of the one that the account has at this scope. Whether it may stands with whoever calls.
    pub(super) async fn bind(
        &mut self,
        account: AccountId,
        scope: Scope,
        role: Role,
        expires_unix_s: Option<i64>,
    ) -> Result<Held, Refusal> {
        let all = self.bindings_of(account).await?;
        if all.iter().any(|(_, held)| held.scope.is_none()) {
            return Err(Refusal::new(Reason::SuperadminInOrg, "a superadmin holds no role in an org")
                .help("take another account for what you do in the org"));
        }
        let there = all.iter().find(|(_, held)| held.scope == Some(scope));
        let held = Held {
            account,
            role,
            scope: Some(scope),
            expires_unix_s,
            suspended: false,
            created_unix_s: there.map_or(self.now_unix_s, |(_, held)| held.created_unix_s),
        };
        let row = Binding::of(&held);
        match there {
            Some((kept, _)) => self.replace(&Kept { id: kept.id, row }).await?,
            None if all.len() >= MAX_BINDINGS_PER_ACCOUNT => {
                return Err(Refusal::new(Reason::TooManyRoles, "the account holds too many roles")
                    .help("give back those that are no longer needed"));
            }
            None => self.insert(self.new_id(), &row).await?,
        }
        self.changes(account);
        Ok(held)
    }

    /// Removes a binding, unless an org needs it.
    async fn unbind(&mut self, kept: &Kept<Binding>, held: &Held) -> Result<(), Refusal> {
        if held.stays() && !kept.row.heads.is_empty() {
            self.require_other_head(&kept.row.heads, held.account).await?;
        }
        self.remove::<Binding>(kept.id).await?;
        self.changes(held.account);
        Ok(())
    }
}

pub(super) fn suspended() -> Refusal {
    Refusal::new(Reason::MemberSuspended, "the membership is suspended")
        .help("an admin of the org lets members back in")
}
