//! Invitations: roles that wait for their owner to accept them.
//!
//! An invitation is the word of whoever sent it: it is worth nothing once he could no longer give it. What must never happen
//! here: a look at whether an invited address has an account.

use super::{
    Email, Identity,
    limits::{INVITATION_S, MAX_INVITATIONS_PER_EMAIL, MAX_INVITATIONS_PER_ORG},
    members::suspended,
    rows::{Kept, number_of, role_of, scope_of},
    scope::{Held, Scope, administers, is_superadmin, may_handle, role_at},
    turn::Turn,
    wire::{Binding, Invitation, Principal},
};
use crate::{
    call::Call,
    refusal::{Code, Reason, Refusal},
    token::{TOKEN_SECRET_BYTES, TokenSecret},
};
use std::{fmt, ops::DerefMut, str::FromStr};
use sys_contract::{
    id::{AccountId, IdError, OrgId, RecordId, SessionId},
    model::Role,
};
use sys_policy::{Caller, Standing};

/// The id of an invitation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InvitationId(RecordId);

impl InvitationId {
    const PREFIX: &'static str = "invitation";

    /// The id without its type.
    pub fn record(&self) -> RecordId {
        self.0
    }
}

impl fmt::Display for InvitationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text(Self::PREFIX))
    }
}

impl FromStr for InvitationId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        RecordId::parse(text, Self::PREFIX).map(Self)
    }
}

/// By what somebody names an invitation that is for him.
#[derive(Clone)]
pub enum InvitationKey {
    /// Its id: good for the owner of the address that it went to.
    Id(InvitationId),
    /// The token from the mail: good for whoever was given it.
    Token(String),
}

impl fmt::Debug for InvitationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => f.debug_tuple("Id").field(id).finish(),
            Self::Token(_) => f.write_str("Token(..)"),
        }
    }
}

/// An invitation that waits.
#[derive(Debug, Clone)]
pub struct Open {
    /// Which.
    pub id: InvitationId,
    /// Who is invited.
    pub email: Email,
    /// Where.
    pub scope: Scope,
    /// As what.
    pub role: Role,
    /// Since when.
    pub created_unix_s: i64,
    /// Until when.
    pub expires_unix_s: i64,
}

/// An invitation that was just made.
#[derive(Debug)]
pub struct Invited {
    /// The invitation.
    pub open: Open,
    /// For the mail.
    pub token: TokenSecret,
}

impl Identity {
    /// Invites the owner of an address. One invitation stands for each address and scope; a new one takes its place.
    pub async fn invite(&self, call: &Call, email: &Email, scope: Scope, role: Role) -> Result<Invited, Refusal> {
        let mut turn = self.turn(call).await?;
        let done = turn.invite(email, scope, role).await;
        turn.end(call, done).await
    }

    /// Accepts an invitation for the caller.
    pub async fn accept(&self, call: &Call, key: &InvitationKey) -> Result<Held, Refusal> {
        let mut turn = self.turn(call).await?;
        let done = turn.accept(key).await;
        turn.end(call, done).await
    }

    /// Declines an invitation for the caller.
    pub async fn decline(&self, call: &Call, key: &InvitationKey) -> Result<(), Refusal> {
        let mut turn = self.turn(call).await?;
        let done = turn.decline(key).await;
        turn.end(call, done).await
    }

    /// Takes back an invitation into this org.
    pub async fn withdraw(&self, call: &Call, org: OrgId, id: InvitationId) -> Result<(), Refusal> {
        let mut turn = self.turn(call).await?;
        let done = turn.withdraw(org, id).await;
        turn.end(call, done).await
    }

    /// The invitations that wait for the caller.
    pub async fn my_invitations(&self, call: &Call) -> Result<Vec<Open>, Refusal> {
        let mut turn = self.turn(call).await?;
        let done = turn.my_invitations().await;
        turn.end(call, done).await
    }

    /// The invitations into an org or project, for its admins; at most `limit`, behind a position.
    pub async fn invitations(
        &self,
        call: &Call,
        scope: Scope,
        after: Option<RecordId>,
        limit: usize,
    ) -> Result<Vec<Open>, Refusal> {
        administers(call.caller(), &scope, call.now().unix_s)?;
        let mut turn = self.turn(call).await?;
        let done = turn.invitations(scope, after, limit).await;
        turn.end(call, done).await
    }
}

impl<O: DerefMut<Target = sys_store::Open> + Send> Turn<'_, O> {
    pub(super) async fn invite(&mut self, email: &Email, scope: Scope, role: Role) -> Result<Invited, Refusal> {
        let own = self.may_invite(&self.caller.clone(), scope, role).await?;
        let mut waiting = 0;
        for kept in self.find(Invitation::ORG, &scope.org().to_string(), MAX_INVITATIONS_PER_ORG + 1).await? {
            let same = kept.row.email == email.as_str() && self.scope_in(&kept)? == scope;
            if same {
                may_handle(own, role_of(kept.row.role)?)?;
            }
            if same || kept.row.expires_unix_s <= self.now_unix_s {
                self.remove::<Invitation>(kept.id).await?;
            } else {
                waiting += 1;
            }
        }
        if waiting >= MAX_INVITATIONS_PER_ORG {
            return Err(Refusal::new(Reason::TooManyInvitations, "too many invitations wait")
                .help("withdraw those that are no longer meant"));
        }
        let invited_by = self.account()?.to_string();
        self.store_invitation(email, scope, role, invited_by).await
    }

    /// Whether somebody may invite to this role now, and with which role of his own. A superadmin, who holds none in the org,
    /// may invite its first admin.
    async fn may_invite(&mut self, inviter: &Caller, scope: Scope, role: Role) -> Result<Role, Refusal> {
        if let Some(own) = role_at(inviter, &scope, self.now_unix_s).filter(|own| *own >= Role::Admin) {
            return may_handle(own, role).map(|()| own);
        }
        if !is_superadmin(inviter, self.now_unix_s) {
            return administers(inviter, &scope, self.now_unix_s);
        }
        if role != Role::Admin || scope.project().is_some() {
            return Err(
                Refusal::permission_denied().help("a superadmin invites the first admin of an org and nobody else")
            );
        }
        if self.find_one(Binding::HEADS, &scope.org().to_string()).await?.is_some() {
            return Err(Refusal::permission_denied().help("the org has an admin, who invites whom he likes"));
        }
        Ok(Role::Admin)
    }

    /// Stores an invitation under a new token.
    pub(super) async fn store_invitation(
        &mut self,
        email: &Email,
        scope: Scope,
        role: Role,
        invited_by: String,
    ) -> Result<Invited, Refusal> {
        let token = TokenSecret::new(self.random::<TOKEN_SECRET_BYTES>());
        let row = Invitation {
            id: String::new(),
            email: email.as_str().to_owned(),
            org_id: scope.org().to_string(),
            project_id: scope.project().map(|project| project.to_string()).unwrap_or_default(),
            role: number_of(role).into(),
            invited_by,
            token_hash: token.hash().to_vec(),
            created_unix_s: self.now_unix_s,
            expires_unix_s: self.now_unix_s.saturating_add(INVITATION_S),
        };
        let id = self.new_id();
        self.insert(id, &row).await?;
        Ok(Invited { open: self.open_invitation(&Kept { id, row })?, token })
    }

    pub(super) async fn accept(&mut self, key: &InvitationKey) -> Result<Held, Refusal> {
        let account = self.account()?;
        let kept = self.invitation_for_me(key).await?;
        let invitation = self.open_invitation(&kept)?;
        self.require_inviter(&kept, &invitation).await?;
        let in_org = self.bindings_in(account, invitation.scope.org()).await?;
        if in_org.iter().any(|(_, held)| held.suspended) {
            return Err(suspended());
        }
        self.remove::<Invitation>(kept.id).await?;
        let now = self.now_unix_s;
        let there = in_org.into_iter().find(|(_, held)| held.scope == Some(invitation.scope) && held.counts(now));
        match there {
            // An older invitation takes nothing away.
            Some((_, held)) if held.role > invitation.role || (held.role == invitation.role && held.stays()) => {
                Ok(held)
            }
            _ => self.bind(account, invitation.scope, invitation.role, None).await,
        }
    }

    async fn decline(&mut self, key: &InvitationKey) -> Result<(), Refusal> {
        let kept = self.invitation_for_me(key).await?;
        self.remove::<Invitation>(kept.id).await
    }

    pub(super) async fn withdraw(&mut self, org: OrgId, id: InvitationId) -> Result<(), Refusal> {
        let row = self.get::<Invitation>(id.0).await?.filter(|row| row.org_id == org.to_string());
        let kept = Kept { id: id.0, row: row.ok_or_else(Refusal::not_found)? };
        let scope = self.scope_in(&kept)?;
        let own = role_at(&self.caller, &scope, self.now_unix_s).filter(|own| *own >= Role::Admin);
        match own {
            Some(own) => may_handle(own, role_of(kept.row.role)?)?,
            None if kept.row.invited_by == self.account()?.to_string() => {}
            None => return Err(Refusal::not_found()),
        }
        self.remove::<Invitation>(kept.id).await
    }

    pub(super) async fn my_invitations(&mut self) -> Result<Vec<Open>, Refusal> {
        let principal = self.known_principal(self.account()?).await?;
        let mut found = self.find(Invitation::EMAIL, &principal.row.email, MAX_INVITATIONS_PER_EMAIL).await?;
        found.retain(|kept| is_addressee(&principal.row, &kept.row));
        self.still_open(&found)
    }

    async fn invitations(&mut self, scope: Scope, after: Option<RecordId>, limit: usize) -> Result<Vec<Open>, Refusal> {
        let found = match scope {
            Scope::Org(org) => self.find_after(Invitation::ORG, &org.to_string(), after, limit).await?,
            Scope::Project(_, project) => {
                self.find_after(Invitation::PROJECT, &project.to_string(), after, limit).await?
            }
        };
        // Those that have expired stay in, so that a page is not short before the end; they say when they ended.
        found.iter().map(|kept| self.open_invitation(kept)).collect()
    }

    /// An invitation that is for the caller and has not expired. Any other is not found.
    async fn invitation_for_me(&mut self, key: &InvitationKey) -> Result<Kept<Invitation>, Refusal> {
        let found = match key {
            InvitationKey::Token(text) => {
                let secret = TokenSecret::parse(text).map_err(|_| Refusal::not_found())?;
                self.find_one(Invitation::TOKEN_HASH, secret.hash()).await?
            }
            InvitationKey::Id(id) => {
                let principal = self.known_principal(self.account()?).await?;
                let row = self.get::<Invitation>(id.0).await?;
                row.filter(|row| is_addressee(&principal.row, row)).map(|row| Kept { id: id.0, row })
            }
        };
        let now = self.now_unix_s;
        found.filter(|kept| kept.row.expires_unix_s > now).ok_or_else(Refusal::not_found)
    }

    /// Whether whoever invited could still do it. An import, which is nobody, always could.
    async fn require_inviter(&mut self, kept: &Kept<Invitation>, invitation: &Open) -> Result<(), Refusal> {
        if kept.row.invited_by.is_empty() {
            return Ok(());
        }
        let account: AccountId = super::rows::account_id(&kept.row.invited_by)?;
        let principal = self.principal(account).await?.ok_or_else(Refusal::not_found)?;
        let good = principal.row.verified && !principal.row.disabled;
        let standing = if good { Standing::Verified } else { Standing::Disabled };
        let held = self.bindings_of(account).await?;
        let bindings = held.iter().filter(|(_, held)| !held.suspended).map(|(_, held)| held.for_rules()).collect();
        // Rules are asked as if he called; he has no session in this.
        let inviter = Caller::new(account, SessionId::from_record(account.record()), standing, bindings);
        match self.may_invite(&inviter, invitation.scope, invitation.role).await {
            Ok(_) => Ok(()),
            Err(refusal) if refusal.code == Code::PermissionDenied => Err(Refusal::not_found()),
            Err(refusal) => Err(refusal),
        }
    }

    fn still_open(&self, found: &[Kept<Invitation>]) -> Result<Vec<Open>, Refusal> {
        let open = found.iter().filter(|kept| kept.row.expires_unix_s > self.now_unix_s);
        open.map(|kept| self.open_invitation(kept)).collect()
    }

    fn open_invitation(&self, kept: &Kept<Invitation>) -> Result<Open, Refusal> {
        Ok(Open {
            id: InvitationId(kept.id),
            email: Email::assume_canonical(kept.row.email.clone()),
            scope: self.scope_in(kept)?,
            role: role_of(kept.row.role)?,
            created_unix_s: kept.row.created_unix_s,
            expires_unix_s: kept.row.expires_unix_s,
        })
    }

    fn scope_in(&self, kept: &Kept<Invitation>) -> Result<Scope, Refusal> {
        let scope = scope_of(&kept.row.org_id, &kept.row.project_id)?;
        scope.ok_or_else(|| Refusal::internal("an invitation into no org"))
    }
}

/// Whether an invitation went to this account. An account that an org manages has its address on that org's word, so that
/// only the org's own invitations are for it; what others sent to the address takes the token from the mail.
fn is_addressee(principal: &Principal, invitation: &Invitation) -> bool {
    let managed_by = &principal.managed_by_org_id;
    principal.email == invitation.email && (managed_by.is_empty() || *managed_by == invitation.org_id)
}
